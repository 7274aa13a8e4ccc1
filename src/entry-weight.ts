/*
 * What the values that the writes of an entry handle will come to, as far as its leader can tell before it is logged:
 * an entry is applied in one go, so it closes before copying values takes long. SETBIT, say, makes a whole new value of
 * one byte; a thousand of them on a large one belong into many entries. A guess is enough, because every node refuses
 * what goes too far (database-view.ts); it counts what calls on their way will make of a key, or a pipeline of APPENDs
 * would be taken for small until the first of them is applied. It must not know entries, nor change what a call does.
 */

import { assert } from '../raft/assert.ts'
import { type Call, handlesValues } from './call.ts'
import { keyOf } from './commands/arguments.ts'
import { type Args, type CalledPart, keysOf } from './commands/command.ts'
import { limits } from './config.ts'

interface Expected {
  length: number
  /** Calls on their way that make a value for it. */
  calls: number
}

/** What a call on its way makes values for. */
export interface Rewrite {
  /** Databases and keys; one may stand there several times. */
  readonly names: readonly string[]
  /** That it will be given and make. */
  readonly bytes: number
  /** Those of them that are worked on in one go: see Foreseen. */
  readonly computed: number
}

export class EntryWeight {
  readonly #valueLength: (database: number, key: string) => number
  /** Of the keys that calls on their way make values for. */
  readonly #expected = new Map<string, Expected>()

  /** `valueLength`: of a key's value in what is applied, 0 without one. */
  constructor(valueLength: (database: number, key: string) => number) {
    this.#valueLength = valueLength
  }

  /** Keys that calls on their way make values for. */
  get keys(): number {
    return this.#expected.size
  }

  /** The call is on its way, until done(). undefined: it handles no whole value, and there is nothing to end. */
  begin(call: Call): Rewrite | undefined {
    const { command, args, bytes } = call
    if (command.kind !== 'write') return undefined
    if (command.parts !== undefined) return this.#transaction(command.parts(args))
    if (command.foresee !== undefined) return this.#foreseen(call)
    // A large value on its way to its key: calls behind it will be given it.
    if (bytes <= limits.lightValueBytesMax || !handlesValues(command, args)) return undefined
    return this.#given(call)
  }

  #transaction(parts: Iterable<CalledPart>): Rewrite {
    const names: string[] = []
    let bytes = 0
    let computed = 0
    for (const part of parts) {
      if (part.command.kind !== 'write') continue
      // Of one that only replaces or removes, too: those behind it are given what it leaves.
      const rewrite = this.#foreseen(part) ?? this.#given(part)
      for (const name of rewrite.names) names.push(name)
      bytes += rewrite.bytes
      computed += rewrite.computed
    }
    return { names, bytes, computed }
  }

  #foreseen({ command, args, database }: CalledPart): Rewrite | undefined {
    const nameOf = (key: Uint8Array): string => `${database} ${keyOf(key)}`
    const foreseen = command.foresee?.(args, (key) => {
      return this.#expected.get(nameOf(key))?.length ?? this.#valueLength(database, keyOf(key))
    })
    if (foreseen === undefined) return undefined
    const { key, length, bytes, computed } = foreseen
    const name = nameOf(key)
    this.#expect(name, length)
    return { names: [name], bytes, computed }
  }

  /** Its keys will have no longer value than its longest argument. */
  #given({ command, args, database }: CalledPart): Rewrite {
    const length = longest(args)
    const names = keysOf(command, args).map((key) => `${database} ${keyOf(key)}`)
    for (const name of names) this.#expect(name, length)
    return { names, bytes: 0, computed: 0 }
  }

  #expect(name: string, length: number): void {
    const expected = this.#expected.get(name)
    if (expected === undefined) this.#expected.set(name, { length, calls: 1 })
    else {
      expected.length = length
      expected.calls++
    }
  }

  /** What begin() told of was applied, or never will be. */
  done({ names }: Rewrite): void {
    for (const name of names) {
      const expected = this.#expected.get(name)
      assert(expected !== undefined, () => `nothing is on its way that rewrites ${name}`)
      if (--expected.calls === 0) this.#expected.delete(name)
    }
  }
}

function longest(args: Args): number {
  return args.reduce((most, arg) => Math.max(most, arg.length), 0)
}
