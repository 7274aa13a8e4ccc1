/*
 * What the values that the writes of an entry handle will come to, as far as its leader can tell before it is logged:
 * an entry is applied in one go, so it closes before copying values takes long. SETBIT, say, makes a whole new value of
 * one byte; a thousand of them on a large one belong into many entries. A guess is enough, because every node refuses
 * what goes too far (database-view.ts); it counts what calls on their way will make of a key, or a pipeline of APPENDs
 * would be taken for small until the first of them is applied. It must not know entries, nor change what a call does.
 */

import type { Call } from './call.ts'
import { keysOf } from './commands/command.ts'

interface Expected {
  length: number
  /** Calls on their way that rewrite it. */
  calls: number
}

export class EntryWeight {
  readonly #valueLength: (database: number, key: Uint8Array) => number
  /** Of the keys that calls on their way rewrite. */
  readonly #expected = new Map<string, Expected>()

  /** `valueLength`: of a key's value in what is applied, 0 without one. */
  constructor(valueLength: (database: number, key: Uint8Array) => number) {
    this.#valueLength = valueLength
  }

  /** Keys that calls on their way rewrite. */
  get keys(): number {
    return this.#expected.size
  }

  /** Bytes that the call will be given and make; it is on its way until done(). 0: it copies nothing. */
  begin(call: Call): number {
    const rewritten = this.#rewritten(call)
    if (rewritten === undefined) return 0
    const { name, key, lengthAfter } = rewritten
    let expected = this.#expected.get(name)
    if (expected === undefined) {
      expected = { length: this.#valueLength(call.database, key), calls: 0 }
      this.#expected.set(name, expected)
    }
    const before = expected.length
    expected.length = lengthAfter(call.args, before)
    expected.calls++
    return before + expected.length
  }

  /** It was applied, or never will be. */
  done(call: Call): void {
    const rewritten = this.#rewritten(call)
    const expected = rewritten === undefined ? undefined : this.#expected.get(rewritten.name)
    if (rewritten !== undefined && expected !== undefined && --expected.calls === 0) {
      this.#expected.delete(rewritten.name)
    }
  }

  #rewritten({ command, args, database }: Call) {
    if (command.kind !== 'write' || command.lengthAfter === undefined) return undefined
    const [key] = keysOf(command, args)
    if (key === undefined) return undefined
    const name = `${database} ${Buffer.from(key).toString('latin1')}`
    return { name, key, lengthAfter: command.lengthAfter }
  }
}
