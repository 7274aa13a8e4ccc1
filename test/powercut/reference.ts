/*
 * What a log means, worked out a second time: the canonical log as it was seen on the undamaged disk, and the
 * contents of every database after each of its entries, by an interpreter of the few commands that the load sends.
 * It shares no code with the keyspace or the state store: only so can it say that they are wrong.
 */

import type { Entry, HardState, Position } from '../../raft/types.ts'
import { decodeCommands, encodeEntry } from '../../storage/codec.ts'
import { clientOf } from './load.ts'

export interface LoggedAt {
  readonly index: number
  readonly argv: readonly string[]
}

/** The log of the undamaged disk at one moment. */
export interface SeenLog {
  readonly nodeId: string
  readonly hardState: HardState
  readonly base: Position
  readonly entries: readonly Entry[]
}

/** From an entry on a key has this value; undefined: none. */
interface Change {
  readonly index: number
  readonly value: string | undefined
}

export class Reference {
  readonly nodeId: string
  readonly lastIndex: number
  readonly #entries: readonly Entry[]
  /** By client. */
  readonly #commands = new Map<number, LoggedAt[]>()
  /** By database and key. */
  readonly #changes = new Map<number, Map<string, Change[]>>()

  /** `seen`: in the order of time; together they reach from the first entry to the last. */
  constructor(seen: readonly SeenLog[]) {
    const byIndex = new Map<number, Entry>()
    for (const { entries } of seen) for (const entry of entries) byIndex.set(entry.index, entry)
    this.nodeId = seen[0]?.nodeId ?? ''
    const last = seen.at(-1)
    this.lastIndex = last?.entries.at(-1)?.index ?? last?.base.index ?? 0
    this.#entries = Array.from({ length: this.lastIndex }, (_, at) => {
      const entry = byIndex.get(at + 1)
      if (entry === undefined) throw new Error(`entry ${at + 1} was never seen on the disk`)
      return entry
    })
    for (const entry of this.#entries) this.#apply(entry)
  }

  /** With its bytes in latin1; undefined beyond the end. */
  entryAt(index: number): { readonly term: number; readonly bytes: string } | undefined {
    const entry = this.#entries[index - 1]
    if (entry === undefined) return undefined
    return { term: entry.term, bytes: Buffer.from(encodeEntry(entry)).toString('latin1') }
  }

  /** The commands of a client, in order. */
  commands(client: number): readonly LoggedAt[] {
    return this.#commands.get(client) ?? []
  }

  /** Values by key, after that entry. */
  contentAt(database: number, index: number): ReadonlyMap<string, string> {
    const content = new Map<string, string>()
    for (const [key, changes] of this.#changes.get(database) ?? []) {
      const value = changes.findLast((change) => change.index <= index)?.value
      if (value !== undefined) content.set(key, value)
    }
    return content
  }

  #apply({ index, payload }: Entry): void {
    if (payload.type !== 'commands') return
    for (const { database, argv } of decodeCommands(payload.data).commands) {
      const words = argv.map((argument) => Buffer.from(argument).toString('latin1'))
      if (words[0]?.startsWith('holdfast.') === true) continue
      const [, key] = words
      if (key !== undefined) {
        const commands = this.#commands.get(clientOf(key)) ?? []
        commands.push({ index, argv: words })
        this.#commands.set(clientOf(key), commands)
      }
      this.#run(index, database, words)
    }
  }

  #run(index: number, database: number, [name, key = '', value]: readonly string[]): void {
    const keys = this.#changes.get(database) ?? new Map<string, Change[]>()
    this.#changes.set(database, keys)
    switch (name) {
      case 'SET':
        if (!keys.has(key)) keys.set(key, [])
        keys.get(key)?.push({ index, value })
        return
      case 'DEL':
        keys.get(key)?.push({ index, value: undefined })
        return
      case 'FLUSHDB':
        for (const changes of keys.values()) changes.push({ index, value: undefined })
        return
      default:
        throw new Error(`entry ${index} has a ${name}, which the load never sends`)
    }
  }
}
