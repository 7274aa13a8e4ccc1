/*
 * How well a cluster served while nothing was wrong with it. A fault is over when it is healed and SETTLE_MS more have
 * passed; what was asked between then and the next fault must have succeeded, through every node. Pure.
 */

import type { Outcome } from './recorder.ts'

/** Elections, reconnecting and catching up have this long. */
export const SETTLE_MS = 5000
/** A command that the next fault finds unanswered is excused by it only if it had not waited for so long already. */
export const UNANSWERED_MS = 1000

/** What a client met with, times in ms since the start of the run. `away`: nobody accepted its connection. */
export interface Sample {
  readonly node: number
  readonly startMs: number
  readonly endMs: number
  readonly outcome: Outcome | 'away'
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

interface Quiet {
  readonly fromMs: number
  readonly toMs: number
}

/** The times in which nothing excuses a failure, within a run of `durationMs`. */
export function quietTimes(faults: readonly Interval[], durationMs: number): readonly Quiet[] {
  const quiet: Quiet[] = []
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
  for (const sample of samples) {
    const service = services[sample.node]
    if (service === undefined) throw new Error(`no node ${sample.node}`)
    const time = quiet.find(({ fromMs, toMs }) => fromMs <= sample.startMs && sample.startMs < toMs)
    const inTime = time !== undefined && sample.endMs <= time.toMs
    if (time === undefined || (!inTime && time.toMs - sample.startMs < UNANSWERED_MS)) continue
    service.asked++
    if (inTime && sample.outcome === 'ok') service.served++
  }
  return services
}
