/*
 * Long work that takes its turns beside what others are waiting for has half of the time at most: it rests as long as it
 * has worked.
 */

import type { Timers } from './network.ts'

export class Rest {
  readonly #timers: Timers
  readonly #over: () => void
  #isOn = false

  /** `over` is called at the end of each. */
  constructor(timers: Timers, over: () => void) {
    this.#timers = timers
    this.#over = over
  }

  get isOn(): boolean {
    return this.#isOn
  }

  begin(ms: number): void {
    this.#isOn = true
    this.#timers.after(ms, () => {
      this.#isOn = false
      this.#over()
    })
  }
}
