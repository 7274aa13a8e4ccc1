/*
 * A simulated machine that can also stand still (SIGSTOP, a long collection of garbage): nothing of it runs while it
 * is paused, what became due meanwhile runs when it goes on, in its order. Its wall clock can be set wrong; its
 * monotonic clock cannot. It adds to test/sim/network.ts what whole nodes need and byte links do not.
 */

import type { Cancel, Clock } from '../../src/network.ts'
import { SimHost, type SimNetwork } from './network.ts'

export class PausableHost extends SimHost {
  #paused = false
  #due: (() => void)[] = []
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

  resume(): void {
    this.#paused = false
    const due = this.#due
    this.#due = []
    for (const action of due) this.after(0, action)
  }

  override after(ms: number, action: () => void): Cancel {
    let cancelled = false
    const run = (): void => {
      if (!cancelled) action()
    }
    const cancel = super.after(ms, () => {
      if (this.#paused) this.#due.push(run)
      else run()
    })
    return () => {
      cancelled = true
      cancel()
    }
  }
}
