/*
 * Latency spikes by the kind of event, as Redis' LATENCY shows them: whatever took at least as long as the threshold
 * is a sample, at most one a second for each event, and of those the latest 160. It knows no clock.
 */

const SAMPLES_MAX = 160

export interface LatencySample {
  /** In whole seconds since 1970. */
  readonly at: number
  readonly ms: number
}

export interface LatencyEvent {
  readonly samples: readonly LatencySample[]
  /** Since the last reset, in ms. */
  readonly worst: number
}

export class LatencyMonitor {
  readonly #events = new Map<string, { samples: LatencySample[]; worst: number }>()

  record(name: string, { at, ms }: LatencySample): void {
    let event = this.#events.get(name)
    if (event === undefined) {
      event = { samples: [], worst: 0 }
      this.#events.set(name, event)
    }
    event.worst = Math.max(event.worst, ms)
    const last = event.samples.at(-1)
    if (last?.at === at) event.samples[event.samples.length - 1] = { at, ms: Math.max(last.ms, ms) }
    else event.samples.push({ at, ms })
    if (event.samples.length > SAMPLES_MAX) event.samples.shift()
  }

  get events(): ReadonlyMap<string, LatencyEvent> {
    return this.#events
  }

  /** How many of the named events, or of all, there were. */
  reset(names: readonly string[]): number {
    const chosen = names.length === 0 ? [...this.#events.keys()] : names
    return chosen.filter((name) => this.#events.delete(name)).length
  }
}
