/*
 * Turns the passing of time into ticks of raft. Its one rule comes from how an event loop works: after a stall,
 * timers run before the sockets are read, so a follower that slept would campaign against a leader whose heartbeats
 * are already waiting in its queue. Therefore a tick is never given from the timer itself but one poll phase later,
 * and a long sleep counts as a few ticks only: a node that slept has no right to be impatient.
 */

import type { Cancel, Clock, Timers } from './network.ts'

export interface TickerOptions {
  readonly clock: Clock
  readonly timers: Timers
  readonly tickMs: number
  /** The most ticks that one wake-up may give, however long the sleep was. */
  readonly ticksMax: number
  /** Runs the action after the sockets that are readable now were read. */
  afterPoll(action: () => void): void
  tick(): void
}

export class Ticker {
  readonly #options: TickerOptions
  #last: number
  #cancel: Cancel | undefined
  #stopped = false

  constructor(options: TickerOptions) {
    this.#options = options
    this.#last = options.clock.monotonic()
    this.#arm()
  }

  stop(): void {
    this.#stopped = true
    this.#cancel?.()
  }

  #arm(): void {
    const { timers, tickMs, afterPoll } = this.#options
    this.#cancel = timers.after(tickMs, () => {
      this.#arm()
      afterPoll(() => this.#tick())
    })
  }

  #tick(): void {
    if (this.#stopped) return
    const { clock, tickMs, ticksMax, tick } = this.#options
    const now = clock.monotonic()
    const ticks = Math.floor((now - this.#last) / tickMs)
    if (ticks > ticksMax) this.#last = now
    else this.#last += ticks * tickMs
    for (let i = Math.min(ticks, ticksMax); i > 0; i--) tick()
  }
}
