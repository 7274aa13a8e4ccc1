/*
 * The memtable: what was applied since the last checkpoint began, in memory. An index from user key (latin1 text, one
 * character per byte) to the last write of each key, in memory of its own, because a one-byte argument of a command
 * would pin the network chunk it came in. It remembers deletions and emptied databases, which hide what lies below,
 * and keeps its keys in the orders of position and of expiry. A reader may be bound to one moment, for as long as it
 * likes. It knows no disk.
 */

import { assert } from '../raft/assert.ts'
import type { Chunk, TakeMemory } from './engine.ts'
import { KeyIndex } from './key-index.ts'
import { compareAtPosition } from './layout.ts'
import type { StoredValue } from './record.ts'
import { SortedRefs } from './sorted-refs.ts'
import { DATABASES } from './state-meta.ts'
import { WriteBlocks } from './write-blocks.ts'

/** What a key costs beside its writes: slots of the index and of an order, which may be half empty. */
const KEY_BYTES = 80
/** What a place in the order of expiry costs. */
const DUE_BYTES = 24
/** The moment of a reader that sees whatever is there when it reads. */
const NOW = Number.POSITIVE_INFINITY

/** What the memtable knows of one key. */
export interface Known {
  readonly position: number
  /** When it expires, in ms of the logical clock, 0: never; undefined: it was deleted here. */
  readonly expireAt: number | undefined
}

/** A key that a memtable has, deleted ones included. */
export interface Slot {
  readonly key: string
  readonly position: number
  /** null: deleted here. */
  readonly stored: StoredValue | null
}

/** A key that is due. */
export interface DueAt {
  readonly key: string
  readonly position: number
  /** In ms of the logical clock. */
  readonly expireAt: number
}

export interface DueLimits {
  /** In ms of the logical clock; included. */
  readonly upTo: number
  readonly count: number
}

class Table {
  readonly writes: WriteBlocks = new WriteBlocks()
  /** The last write of each key. */
  readonly last: KeyIndex = new KeyIndex((ref, key) => this.writes.isOf(ref, key))
  /** The first write of each key, by position. */
  readonly byPosition: SortedRefs
  /** Every write that gave its key another time to expire, by that time; out of date when a later write says so. */
  readonly byExpiry: SortedRefs
  /** True when the database was emptied: nothing below counts any more. */
  readonly cleared: boolean
  bytes = 0
  /** Keys, deleted ones included. */
  keys = 0

  constructor(cleared: boolean) {
    this.cleared = cleared
    const { writes } = this
    const byKey = (a: number, b: number): number => compareAtPosition(writes.key(a), writes.key(b))
    this.byPosition = new SortedRefs(byKey)
    this.byExpiry = new SortedRefs((a, b) => {
      return writes.position(a) - writes.position(b) || byKey(a, b)
    })
  }

  set(position: number, key: string, stored: StoredValue | null): void {
    const { writes, last } = this
    const before = last.get(key)
    const expiredAt = before === undefined ? 0 : writes.expiry(before)
    const inPlace = before !== undefined && stored !== null && writes.overwrite(before, stored)
    const ref = inPlace ? before : this.#append(position, key, { before, stored })
    if (stored === null || stored.expireAt === 0 || stored.expireAt === expiredAt) return
    this.byExpiry.insert(stored.expireAt, ref)
    this.bytes += DUE_BYTES
  }

  #append(
    position: number,
    key: string,
    write: { readonly before: number | undefined; readonly stored: StoredValue | null },
  ): number {
    const taken = this.writes.bytes
    const ref = this.writes.append(key, position, write)
    this.last.set(key, ref)
    this.bytes += this.writes.bytes - taken
    if (write.before === undefined) {
      this.byPosition.insert(position, ref)
      this.bytes += KEY_BYTES
      this.keys++
    }
    return ref
  }

  /** What a reader of a moment sees: the last write that was there. */
  seen(key: string, end: number): number | undefined {
    let ref = this.last.get(key)
    while (ref !== undefined && ref >= end) ref = this.writes.before(ref)
    return ref
  }
}

export class Memtable {
  /** With so many keys it is full: for whoever asks, it takes more all the same. */
  readonly keysMax: number
  readonly #tables: Table[] = Array.from({ length: DATABASES }, () => new Table(false))
  /** Sees whatever is there when it reads. */
  readonly reader: MemtableReader = new MemtableReader(this.#tables, () => NOW)

  constructor(keysMax: number = Number.POSITIVE_INFINITY) {
    this.keysMax = keysMax
  }

  /** Memory it has taken, with what was overwritten and not in its place: that goes when the whole memtable goes. */
  get bytes(): number {
    let bytes = 0
    for (const table of this.#tables) bytes += table.bytes
    return bytes
  }

  /** The keys that it has, deleted ones included. */
  get keys(): number {
    let keys = 0
    for (const table of this.#tables) keys += table.keys
    return keys
  }

  /** What it knows of a key itself; undefined: nothing, and then wasCleared() tells whether the level below counts. */
  known(place: number, key: string): Known | undefined {
    const { last, writes } = this.#table(place)
    const ref = last.get(key)
    return ref === undefined
      ? undefined
      : { position: writes.position(ref), expireAt: writes.expiry(ref) }
  }

  has(place: number, key: string): boolean {
    return this.#table(place).last.has(key)
  }

  wasCleared(place: number): boolean {
    return this.#table(place).cleared
  }

  /** `position` is that of the key. */
  put(place: number, position: number, key: string, value: StoredValue): void {
    this.#table(place).set(position, key, value)
  }

  delete(place: number, position: number, key: string): void {
    this.#table(place).set(position, key, null)
  }

  /** Empties a database at once; its memory is free when the garbage collector sees it. */
  clear(place: number): void {
    this.#table(place)
    this.#tables[place] = new Table(true)
  }

  /** The places that clear() was called for. */
  cleared(): number[] {
    return this.#tables.flatMap(({ cleared }, place) => (cleared ? [place] : []))
  }

  /** A reader that sees what is there now, whatever is written later. */
  bind(): MemtableReader {
    const ends = new Map(this.#tables.map((table) => [table, table.writes.bind()]))
    return new MemtableReader([...this.#tables], (table) => ends.get(table) ?? 0)
  }

  /**
   * The first keys that have a time to expire here and are due, in the order of (time, position, key), but for those
   * that are hidden by the level above: what is hidden once must be hidden for ever.
   */
  due(place: number, { upTo, count }: DueLimits, hidden: (key: string) => boolean): DueAt[] {
    const { byExpiry, writes, last } = this.#table(place)
    const gone = (expireAt: number, key: string): boolean => {
      const ref = last.get(key)
      return ref === undefined || writes.expiry(ref) !== expireAt || hidden(key)
    }
    // Passed over for good: a million removed keys would otherwise be searched anew for every few that are due.
    byExpiry.dropWhile((expireAt, ref) => expireAt <= upTo && gone(expireAt, writes.key(ref)))
    const found: DueAt[] = []
    byExpiry.from(0, (expireAt, ref) => {
      if (expireAt > upTo) return false
      const key = writes.key(ref)
      const latest = found.at(-1)
      // A key that was given a time, another one, and the first again stands there twice.
      const again = latest?.key === key && latest.expireAt === expireAt
      if (!again && !gone(expireAt, key)) {
        found.push({ key, position: writes.position(ref), expireAt })
      }
      return found.length < count
    })
    return found
  }

  /** At or before the time at which the first key expires here; Infinity when none does. */
  firstExpiry(place: number): number {
    let first = Number.POSITIVE_INFINITY
    this.#table(place).byExpiry.from(0, (expireAt) => {
      first = expireAt
      return false
    })
    return first
  }

  /** Its contents for a checkpoint, one chunk at a time; nothing may be written meanwhile. */
  *chunks(take: TakeMemory): Generator<Chunk, void> {
    for (const [place, { writes }] of this.#tables.entries()) yield* writes.chunks(place, take)
  }

  #table(place: number): Table {
    const table = this.#tables[place]
    assert(table !== undefined, () => `there is no place ${place}`)
    return table
  }
}

/** Reads a memtable as it is, or as it was at one moment. */
export class MemtableReader {
  readonly #tables: readonly Table[]
  /** Where the writes of a table end that this reader sees. */
  readonly #end: (table: Table) => number

  constructor(tables: readonly Table[], end: (table: Table) => number) {
    this.#tables = tables
    this.#end = end
  }

  /** The value, null when it is known to be deleted, undefined when only the level below knows. */
  find(place: number, key: string): StoredValue | null | undefined {
    const table = this.#table(place)
    const ref = table.seen(key, this.#end(table))
    if (ref === undefined) return table.cleared ? null : undefined
    return table.writes.stored(ref)
  }

  /** Whether find() knows the key. */
  knows(place: number, key: string): boolean {
    const table = this.#table(place)
    return table.cleared || table.seen(key, this.#end(table)) !== undefined
  }

  wasCleared(place: number): boolean {
    return this.#table(place).cleared
  }

  /** The keys that it has, from a position on, in the order of the disk. Nothing may be written meanwhile. */
  *from(place: number, position: number): Generator<Slot, void> {
    const table = this.#table(place)
    const { writes } = table
    const end = this.#end(table)
    for (const first of table.byPosition.iterate(position)) {
      const key = writes.key(first)
      const ref = table.seen(key, end)
      if (ref === undefined) continue
      yield { key, position: writes.position(ref), stored: writes.stored(ref) }
    }
  }

  #table(place: number): Table {
    const table = this.#tables[place]
    assert(table !== undefined, () => `there is no place ${place}`)
    return table
  }
}
