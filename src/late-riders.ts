/*
 * Reads that ride in an entry (see BatchItem of keyspace.ts) beside others that have read much already: a pipeline of
 * BITCOUNTs of a large value with a SET behind them would hold up its node for seconds. They run one by one in later
 * turns instead, over a view of the state as it was at their place in the entry.
 */

import type { Index } from '../raft/types.ts'
import type { Reply } from '../resp/encoder.ts'
import type { StateView } from '../storage/state-store.ts'
import { type Args, badDatabase, type CalledRead, type Slices } from './commands/command.ts'
import type { Views } from './database-view.ts'
import { LongRead, type LongReads } from './long-reads.ts'
import { DATABASES } from './session.ts'

/** Their place. */
export interface Riding {
  /** Released behind the last one. */
  readonly view: StateView
  /** Over that view. */
  readonly views: Views
  /** The entry, and the clock that it brought. */
  readonly index: Index
  readonly now: number
  /** The reply for what a command of this name threw; throws on what must end the process. */
  readonly failure: (error: unknown, name: string) => Reply
}

interface Rider {
  readonly database: number
  readonly args: Args
  answer(reply: Reply, index: Index): void
}

export class LateRiders {
  readonly #riding: Riding
  readonly #riders: (readonly [Rider, CalledRead])[] = []

  constructor(riding: Riding, longReads: LongReads) {
    this.#riding = riding
    const failure = (error: unknown): never => {
      throw error
    }
    new LongRead({ slices: this.#slices(), view: riding.view, failure }, longReads).start(
      2,
      () => {},
    )
  }

  /** While the entry is at that place. */
  add(rider: Rider, command: CalledRead): void {
    this.#riders.push([rider, command])
  }

  /** Each answers for itself, so there are no elements. */
  *#slices(): Slices {
    for (const [rider, command] of this.#riders) {
      rider.answer(yield* this.#run(rider, command), this.#riding.index)
      yield []
    }
    return { elements: [] }
  }

  /** The slices of a value yield no elements (ofOneValue), and no others come late (keyspace.ts). */
  *#run({ database, args }: Rider, command: CalledRead): Generator<readonly Reply[], Reply> {
    const { views, now, failure } = this.#riding
    if (database >= DATABASES) return badDatabase.reply
    try {
      const db = views.begin(database, { now, applied: undefined })
      if (command.slices === undefined) return command.run(db, args)
      const last = yield* command.slices(db, args)
      return 'reply' in last ? last.reply : last.elements
    } catch (error) {
      return failure(error, command.name)
    }
  }
}
