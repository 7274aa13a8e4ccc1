/*
 * A simulated machine that can also stand still (SIGSTOP, a long collection of garbage): nothing of it runs while it
 * is paused, what became due meanwhile runs when it goes on. Its wall clock can be set wrong; its
 * monotonic clock cannot. It adds to test/sim/network.ts what whole nodes need and byte links do not.
 */

import type { Cancel, Clock, Timers } from '../../src/network.ts'
import { SimHost, type SimNetwork } from './network.ts'

export class PausableHost extends SimHost {
  override readonly timers: Timers = { after: (ms, action) => this.timer(ms, action) }
  #paused = false
  #due: { readonly action: () => void; readonly isTimer: boolean }[] = []
  /** Added to the true time, in ms. */
  wallError = 0

  /** The host's own clocks: the wall says what `wallError` makes of the true time. */
  nodeClock(sim: SimNetwork): Clock {
    const wall = (): number => Math.floor(1_700_000_000_000 + sim.time.now + this.wallError)
    return { monotonic: () => sim.time.now, wall }
  }

  pause(): void {
    this.#paused = true
  }

  /** As an event loop does after a stall: timers first, then what came over the network meanwhile. */
  resume(): void {
    this.#paused = false
    const due = this.#due
    this.#due = []
    for (const { action, isTimer } of due) if (isTimer) this.after(0, action)
    for (const { action, isTimer } of due) if (!isTimer) this.after(0, action)
  }

  /** after() for a timer of the process, not for what reaches it from outside. */
  timer(ms: number, action: () => void): Cancel {
    return this.#schedule(ms, action, true)
  }

  override after(ms: number, action: () => void): Cancel {
    return this.#schedule(ms, action, false)
  }

  #schedule(ms: number, action: () => void, isTimer: boolean): Cancel {
    let cancelled = false
    const run = (): void => {
      if (!cancelled) action()
    }
    const cancel = super.after(ms, () => {
      if (this.#paused) this.#due.push({ action: run, isTimer })
      else run()
    })
    return () => {
      cancelled = true
      cancel()
    }
  }
}
