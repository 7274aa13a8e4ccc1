/*
 * Says each refusal once: a misconfigured peer reconnects for ever, and a log that repeats one line a second
 * hides all others. It knows neither links nor why anything is refused.
 */

import type { Clock } from './network.ts'

/** After this long the same refusal is news again. */
const REPEAT_AFTER_MS = 600_000
/** Sides remembered; beyond them nothing is said, so that a flood from many addresses stays silent. */
const SIDES_MAX = 256

/** What the peers need of a logger; pino's has it. */
export interface PeerLog {
  warn(fields: Readonly<Record<string, unknown>>, text: string): void
}

export class RefusalLog {
  readonly #log: PeerLog
  readonly #clock: Clock
  /** When it was said, by side and reason. */
  readonly #saidAt = new Map<string, Map<string, number>>()

  constructor(log: PeerLog, clock: Clock) {
    this.#log = log
    this.#clock = clock
  }

  /** Logs `text`, unless `reason` was said of `side` lately. */
  say(side: string, reason: string, text: string): void {
    const now = this.#clock.monotonic()
    const last = this.#saidAt.get(side)?.get(reason)
    if (last !== undefined && now - last < REPEAT_AFTER_MS) return
    if (!this.#saidAt.has(side)) {
      if (this.#saidAt.size >= SIDES_MAX) this.#expire(now)
      if (this.#saidAt.size >= SIDES_MAX) return
      this.#saidAt.set(side, new Map())
    }
    this.#saidAt.get(side)?.set(reason, now)
    this.#log.warn({ peer: side, reason }, text)
  }

  /** A link with `side` came about: whatever goes wrong next is news. */
  forget(side: string): void {
    this.#saidAt.delete(side)
  }

  #expire(now: number): void {
    for (const [side, said] of this.#saidAt) {
      if (now - Math.max(...said.values()) >= REPEAT_AFTER_MS) this.#saidAt.delete(side)
    }
  }
}
