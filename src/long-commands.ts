/*
 * Commands that are too long to be taken in in one turn, such as a value of 16 MiB or an MGET of a million keys. Their
 * connections come behind all others, some of them in each turn, and then rest together for as long as it took to read
 * what came and to work on it: so such commands have half of the time at most, however many clients send them.
 */

import type { ClientConnection } from './client-connection.ts'
import type { Clock, Timers } from './network.ts'
import { Rest } from './rest.ts'

/** What takes no longer is like a turn of anybody else. */
const REST_ABOVE_MS = 1

/** What it needs of a connection. */
type Long = Pick<ClientConnection, 'receivedBytes' | 'work'>

export class LongCommands<Connection extends Long> {
  readonly #limits: {
    readonly turnLongCommandsMsMax: number
    readonly longCommandBytesPerMs: number
  }
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #rest: Rest
  /** In the order in which they came. */
  readonly #waiting = new Set<Connection>()

  constructor(options: {
    limits: { readonly turnLongCommandsMsMax: number; readonly longCommandBytesPerMs: number }
    clock: Pick<Clock, 'monotonic'>
    timers: Timers
    /** Asks for a turn. */
    wake: () => void
  }) {
    this.#limits = options.limits
    this.#clock = options.clock
    this.#rest = new Rest(options.timers, options.wake)
  }

  /** It has input that goes on with such a command. */
  add(connection: Connection): void {
    this.#waiting.add(connection)
  }

  delete(connection: Connection): void {
    this.#waiting.delete(connection)
  }

  /**
   * Once a turn, behind what others are waiting for: one connection at least. `more` is told which of them have more
   * to do right away. Returns whether some wait for the next turn.
   */
  work(more: (connection: Connection) => void): boolean {
    if (this.#rest.isOn || this.#waiting.size === 0) return false
    const { turnLongCommandsMsMax, longCommandBytesPerMs } = this.#limits
    const begin = this.#clock.monotonic()
    let took = 0
    let readMs = 0
    for (const connection of this.#waiting) {
      this.#waiting.delete(connection)
      // The socket was read before this turn, in time that nobody has measured.
      readMs += connection.receivedBytes / longCommandBytesPerMs
      if (connection.work(1, begin + turnLongCommandsMsMax)) more(connection)
      took = this.#clock.monotonic() - begin + readMs
      if (took >= turnLongCommandsMsMax) break
    }
    if (took > REST_ABOVE_MS) this.#rest.begin(took)
    return this.#waiting.size > 0 && !this.#rest.isOn
  }
}
