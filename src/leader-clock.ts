/*
 * The logical clock of a leader: what every entry of commands carries as `at`, in ms. It takes its start from the
 * wall and from everything in the log, then follows the monotonic clock, so that it never falls and never stands
 * still, whatever the wall clocks of the nodes do. Both clocks are arguments: it knows no time of its own.
 */

import type { Clock } from './network.ts'

/** While the logical clock is ahead of the wall it runs at this fraction of full speed, until the wall caught up. */
const SPEED_AHEAD_OF_WALL = 0.9

export class LeaderClock {
  readonly #clock: Clock
  #logical = 0
  #monotonic = 0
  /** The logical clock was ahead of the wall when it was last asked. */
  #ahead = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A term begins: `applied` is the clock of everything in the log, all of which is applied by now. */
  takeOffice(applied: number): void {
    const wall = this.#clock.wall()
    this.#logical = Math.max(wall, applied)
    this.#monotonic = this.#clock.monotonic()
    this.#ahead = this.#logical > wall
  }

  /** The logical now in whole ms; never below what it said before. */
  now(): number {
    const monotonic = this.#clock.monotonic()
    const wall = this.#clock.wall()
    const elapsed = monotonic - this.#monotonic
    this.#monotonic = monotonic
    // As it was then, not as it is now: after hours without a question the wall may have long caught up.
    const speed = this.#ahead ? SPEED_AHEAD_OF_WALL : 1
    this.#logical = Math.max(this.#logical + elapsed * speed, wall)
    this.#ahead = this.#logical > wall
    return Math.floor(this.#logical)
  }
}
