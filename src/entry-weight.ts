/*
 * What the values that the writes of an entry handle will come to, as far as its leader can tell before it is logged:
 * an entry is applied in one go, so it closes before copying values takes long. SETBIT, say, makes a whole new value of
 * one byte; a thousand of them on a large one belong into many entries. A guess is enough, because every node refuses
 * what goes too far (database-view.ts); it counts what calls on their way will make of a key, or a pipeline of APPENDs
 * would be taken for small until the first of them is applied. It must not know entries, nor change what a call does.
 */

import { assert } from '../raft/assert.ts'
import type { Call } from './call.ts'
import { keyOf } from './commands/arguments.ts'
import { keysOf } from './commands/command.ts'

interface Expected {
  length: number
  /** Calls on their way that rewrite it. */
  calls: number
}

/** What a call on its way rewrites. */
export interface Rewrite {
  /** Its database and key. */
  readonly name: string
  /** That it will be given and make. */
  readonly bytes: number
}

export class EntryWeight {
  readonly #valueLength: (database: number, key: string) => number
  /** Of the keys that calls on their way rewrite. */
  readonly #expected = new Map<string, Expected>()

  /** `valueLength`: of a key's value in what is applied, 0 without one. */
  constructor(valueLength: (database: number, key: string) => number) {
    this.#valueLength = valueLength
  }

  /** Keys that calls on their way rewrite. */
  get keys(): number {
    return this.#expected.size
  }

  /** The call is on its way, until done(). undefined: it handles no whole value, and there is nothing to end. */
  begin({ command, args, database }: Call): Rewrite | undefined {
    if (command.kind !== 'write' || command.lengthAfter === undefined) return undefined
    const [bytes] = keysOf(command, args)
    if (bytes === undefined) return undefined
    const key = keyOf(bytes)
    const name = `${database} ${key}`
    let expected = this.#expected.get(name)
    if (expected === undefined) {
      expected = { length: this.#valueLength(database, key), calls: 0 }
      this.#expected.set(name, expected)
    }
    const before = expected.length
    expected.length = command.lengthAfter(args, before)
    expected.calls++
    return { name, bytes: before + expected.length }
  }

  /** What begin() told of was applied, or never will be. */
  done({ name }: Rewrite): void {
    const expected = this.#expected.get(name)
    assert(expected !== undefined, () => `nothing is on its way that rewrites ${name}`)
    if (--expected.calls === 0) this.#expected.delete(name)
  }
}
