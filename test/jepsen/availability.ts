/*
 * How well a cluster served while nothing was wrong with it. A fault is over when it is healed and SETTLE_MS more have
 * passed; what was asked and answered between then and the next fault must have succeeded, through every node. Pure.
 */

import type { Outcome } from './recorder.ts'

/** Elections, reconnecting and catching up have this long. */
export const SETTLE_MS = 5000

/** A command as its client saw it; times in ms since the start of the run. */
export interface Sample {
  readonly node: number
  readonly startMs: number
  readonly endMs: number
  readonly outcome: Outcome
}

/** A fault from its beginning to its heal. */
export interface Interval {
  readonly what: string
  readonly fromMs: number
  readonly toMs: number
}

export interface Service {
  readonly asked: number
  readonly served: number
}

/** The times in which nothing excuses a failure, within a run of `durationMs`. */
export function quietTimes(
  faults: readonly Interval[],
  durationMs: number,
): readonly { readonly fromMs: number; readonly toMs: number }[] {
  const quiet: { fromMs: number; toMs: number }[] = []
  let fromMs = 0
  for (const fault of faults.toSorted((a, b) => a.fromMs - b.fromMs)) {
    if (fault.fromMs > fromMs) quiet.push({ fromMs, toMs: fault.fromMs })
    fromMs = Math.max(fromMs, fault.toMs + SETTLE_MS)
  }
  if (durationMs > fromMs) quiet.push({ fromMs, toMs: durationMs })
  return quiet
}

/** Per node, what was asked and served in quiet times. */
export function serviceOf(
  samples: readonly Sample[],
  options: {
    readonly faults: readonly Interval[]
    readonly durationMs: number
    readonly nodes: number
  },
): readonly Service[] {
  const quiet = quietTimes(options.faults, options.durationMs)
  const services = Array.from({ length: options.nodes }, () => ({ asked: 0, served: 0 }))
  for (const { node, startMs, endMs, outcome } of samples) {
    const service = services[node]
    if (service === undefined) throw new Error(`no node ${node}`)
    if (!quiet.some(({ fromMs, toMs }) => startMs >= fromMs && endMs <= toMs)) continue
    service.asked++
    if (outcome === 'ok') service.served++
  }
  return services
}
