/*
 * When the entry under construction goes, while none is on its way. A round of the cluster costs alike whatever it
 * carries, and most clients send again as soon as they are answered: so those that were just answered are given a
 * moment to come back, instead of letting the first of them have a round alone and the others wait for it. The moment
 * is short beside a round, ends once as many writes are there as were lately under way at once, and is left out for a
 * while where it did not pay. It knows neither calls nor the log; time is told to it in monotonic ms.
 */

/** Of the time that the last entry took, so much may be waited for the clients that it answered. */
const WAIT_SHARE = 0.5
/** Of those that were missing, so many have to come in that time for the wait to pay. */
const PAYS_SHARE = 2 / 3
/** An entry with so many carries the cost of its round well. */
const ENOUGH_WRITES = 128
/** After waits that did not pay so many entries at most go without one. */
const SKIPPED_MAX = 63

export class EntryPace {
  readonly #waitMsMax: number
  /** Writes under way or waiting when the last entry was answered, as far as they are worth waiting for. */
  #expected = 0
  /** Those of them that waited in the next entry already. */
  #waiting = 0
  #waitsUntil = 0
  /** The entry under construction was kept back for them. */
  #waits = false
  /** Entries that go without a wait after the next one that does not pay, and how many of them are left. */
  #skips = 1
  #skipsLeft = 0

  constructor(waitMsMax: number) {
    this.#waitMsMax = waitMsMax
  }

  /** Entries with so many writes were answered, the last of them after `tookMs`; the next one has `waiting`. */
  answered(now: number, entries: { tookMs: number; writes: number; waiting: number }): void {
    this.#expected = Math.min(ENOUGH_WRITES, entries.writes + entries.waiting)
    this.#waiting = entries.waiting
    this.#waits = false
    if (this.#skipsLeft > 0) {
      this.#skipsLeft--
      this.#waitsUntil = now
    } else this.#waitsUntil = now + Math.min(this.#waitMsMax, entries.tookMs * WAIT_SHARE)
  }

  /** Ms that an entry with so many writes still waits for more; 0: it goes now. */
  waitMs(now: number, writes: number): number {
    if (writes >= this.#expected || now >= this.#waitsUntil) return 0
    this.#waits = true
    return this.#waitsUntil - now
  }

  /** The entry goes, with so many writes. */
  closed(writes: number): void {
    if (!this.#waits) return
    this.#waits = false
    const missing = this.#expected - this.#waiting
    if (writes - this.#waiting >= missing * PAYS_SHARE) this.#skips = 1
    else {
      this.#skipsLeft = this.#skips
      this.#skips = Math.min(SKIPPED_MAX, this.#skips * 2 + 1)
    }
  }
}
