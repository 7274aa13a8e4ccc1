/*
 * When the next turn is: one, after the sockets that are readable now were read, however often it was asked for. It
 * tells turns that somebody waits for from those that only long work has asked for, which should then rest.
 */

export class Turns {
  readonly #afterPoll: (action: () => void) => void
  readonly #turn: () => void
  #isScheduled = false
  #isAwaited = false

  constructor(afterPoll: (action: () => void) => void, turn: () => void) {
    this.#afterPoll = afterPoll
    this.#turn = turn
  }

  /** Somebody waits for the next turn. */
  wake(): void {
    this.#isAwaited = true
    this.goOn()
  }

  /** Long work goes on in the next turn, for which nobody waits. */
  goOn(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    this.#afterPoll(this.#turn)
  }

  /** From here on, whoever asks gets another turn than this one. Returns whether somebody waited for this one. */
  begin(): boolean {
    const wasAwaited = this.#isAwaited
    this.#isScheduled = false
    this.#isAwaited = false
    return wasAwaited
  }
}
