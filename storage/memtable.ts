/*
 * The memtable: what was applied since the last checkpoint began, in memory. Maps by user key (latin1 text, one
 * character per byte), with values copied into memory of its own, because a one-byte argument of a command would pin
 * the network chunk it came in. It remembers deletions and emptied databases, which hide what lies below, and keeps
 * its keys in the orders of position and of expiry. A reader may be bound to one moment: then what is overwritten
 * later is kept for it, and writing costs nothing while there is none. It knows no disk.
 */

import { assert } from '../raft/assert.ts'
import { ChunkWriter, isLargeWrite, largeWrite } from './checkpoint.ts'
import type { Chunk } from './engine.ts'
import { compareAtPosition } from './layout.ts'
import type { StoredValue } from './record.ts'
import { SortedBuckets } from './sorted-buckets.ts'
import { DATABASES } from './state-meta.ts'

/** What a key costs beside its text and value: the map's slot, three objects, the view, the string's header. */
const SLOT_BYTES = 280
/** What a place in the order of expiry costs, and an overwritten value that a reader still needs. */
const DUE_BYTES = 64
const OLDER_BYTES = 64
const ARENA_BYTES = 64 * 1024
/** A larger value gets memory of its own, so that it wastes no more than this of an arena. */
const ARENA_VALUE_BYTES_MAX = ARENA_BYTES / 16
/** A value so large is kept where it lies when it is most of that memory: entries are never written to again. */
const SHARED_VALUE_BYTES_MIN = 256 * 1024
const NO_BYTES = new Uint8Array(0)
/** The moment of a reader that sees whatever is there when it reads. */
const NOW = Number.POSITIVE_INFINITY

/** What the memtable knows of one key. */
export interface Slot {
  readonly key: string
  readonly position: number
  /** null: deleted here. */
  readonly stored: StoredValue | null
}

/** A key that was given a time to expire; out of date when its slot says otherwise. */
export interface Due {
  readonly expireAt: number
  readonly slot: Slot
}

interface OwnSlot extends Slot {
  stored: StoredValue | null
  /** Readers bound to an earlier moment do not see `stored`. */
  moment: number
  older: Older | undefined
}

interface Older {
  readonly stored: StoredValue | null
  readonly moment: number
  readonly older: Older | undefined
}

class Table {
  readonly slots: Map<string, OwnSlot> = new Map()
  readonly byPosition: SortedBuckets<OwnSlot> = new SortedBuckets<OwnSlot>(
    ({ position }) => position,
    (a, b) => compareAtPosition(a.key, b.key),
  )
  readonly byExpiry: SortedBuckets<Due> = new SortedBuckets<Due>(
    ({ expireAt }) => expireAt,
    ({ slot: a }, { slot: b }) => a.position - b.position || compareAtPosition(a.key, b.key),
  )
  /** True when the database was emptied: nothing below counts any more. */
  readonly cleared: boolean

  constructor(cleared: boolean) {
    this.cleared = cleared
  }
}

export class Memtable {
  readonly #tables: Table[] = Array.from({ length: DATABASES }, () => new Table(false))
  /** Sees whatever is there when it reads. */
  readonly reader: MemtableReader = new MemtableReader(this.#tables, NOW)
  #moment = 0
  /** The moments of readers that are bound to one, and the latest of them; -1 when there are none. */
  readonly #bound = new Set<number>()
  #latestBound = -1
  #arena: Uint8Array = NO_BYTES
  #arenaUsed = 0
  #bytes = 0

  /** Memory it has taken, overwritten values included: those go when the whole memtable goes. */
  get bytes(): number {
    return this.#bytes
  }

  /** What it knows of a key itself; undefined: nothing, and then wasCleared() tells whether the level below counts. */
  slot(place: number, key: string): Slot | undefined {
    return this.#table(place).slots.get(key)
  }

  wasCleared(place: number): boolean {
    return this.#table(place).cleared
  }

  /** `position` is that of the key. */
  put(place: number, position: number, key: string, value: StoredValue): void {
    const { type, expireAt, version } = value
    const stored = { type, expireAt, version, value: this.#copy(value.value) }
    const table = this.#table(place)
    const before = table.slots.get(key)?.stored?.expireAt ?? 0
    const slot = this.#set(table, position, key, stored)
    if (expireAt === 0 || expireAt === before) return
    table.byExpiry.insert({ expireAt, slot })
    this.#bytes += DUE_BYTES
  }

  delete(place: number, position: number, key: string): void {
    this.#set(this.#table(place), position, key, null)
  }

  /** Empties a database at once; the entries' memory is free when the garbage collector sees it. */
  clear(place: number): void {
    assert(this.#tables[place] !== undefined, () => `there is no place ${place}`)
    this.#tables[place] = new Table(true)
  }

  /** The places that clear() was called for. */
  cleared(): number[] {
    return this.#tables.flatMap(({ cleared }, place) => (cleared ? [place] : []))
  }

  /** A reader that sees what is there now, whatever is written later, until release(). */
  bind(): MemtableReader {
    const moment = this.#moment++
    this.#bound.add(moment)
    this.#latestBound = moment
    return new MemtableReader([...this.#tables], moment)
  }

  release({ moment }: MemtableReader): void {
    this.#bound.delete(moment)
    this.#latestBound = Math.max(-1, ...this.#bound)
  }

  /**
   * The keys that have a time to expire here, in the order of (time, position, key), from the earliest. Whatever is
   * at the beginning and `gone` is dropped for good: it must never be wanted again.
   */
  dues(place: number, gone: (due: Due) => boolean): Generator<Due, void> {
    const { byExpiry } = this.#table(place)
    byExpiry.dropWhile(gone)
    return byExpiry.from(0)
  }

  /** At or before the time at which the first key expires here; Infinity when none does. */
  firstExpiry(place: number): number {
    const { value: first } = this.#table(place).byExpiry.from(0).next()
    return first ? first.expireAt : Number.POSITIVE_INFINITY
  }

  /** Its contents for a checkpoint, one chunk at a time; nothing may be written meanwhile. */
  *chunks(): Generator<Chunk, void> {
    const writer = new ChunkWriter()
    for (const [place, { slots }] of this.#tables.entries()) {
      for (const [key, { stored }] of slots) {
        const large = isLargeWrite(key, stored)
        if (!large && writer.add(place, key, stored)) continue
        const chunk = writer.take()
        if (chunk !== undefined) yield chunk
        if (large) yield* largeWrite(place, key, stored)
        else assert(writer.add(place, key, stored), () => 'an empty chunk takes any write')
      }
    }
    const last = writer.take()
    if (last !== undefined) yield last
  }

  #table(place: number): Table {
    const table = this.#tables[place]
    assert(table !== undefined, () => `there is no place ${place}`)
    return table
  }

  #set(table: Table, position: number, key: string, stored: StoredValue | null): Slot {
    const known = table.slots.get(key)
    if (known === undefined) {
      const slot = { key, position, stored, moment: this.#moment, older: undefined }
      table.slots.set(key, slot)
      table.byPosition.insert(slot)
      this.#bytes += SLOT_BYTES + key.length
      return slot
    }
    if (known.moment <= this.#latestBound) {
      known.older = { stored: known.stored, moment: known.moment, older: known.older }
      this.#bytes += OLDER_BYTES
    }
    known.stored = stored
    known.moment = this.#moment
    return known
  }

  #copy(value: Uint8Array): Uint8Array {
    const { length } = value
    if (length === 0) return NO_BYTES
    this.#bytes += length
    if (length >= SHARED_VALUE_BYTES_MIN && length * 2 > value.buffer.byteLength) return value
    if (length > ARENA_VALUE_BYTES_MAX) return Uint8Array.from(value)
    if (this.#arenaUsed + length > this.#arena.length) {
      this.#arena = new Uint8Array(Buffer.allocUnsafeSlow(ARENA_BYTES).buffer)
      this.#arenaUsed = 0
    }
    const copy = this.#arena.subarray(this.#arenaUsed, this.#arenaUsed + length)
    copy.set(value)
    this.#arenaUsed += length
    return copy
  }
}

/** Reads a memtable as it is, or as it was at one moment. */
export class MemtableReader {
  readonly moment: number
  readonly #tables: readonly Table[]

  constructor(tables: readonly Table[], moment: number) {
    this.#tables = tables
    this.moment = moment
  }

  /** The value, null when it is known to be deleted, undefined when only the level below knows. */
  find(place: number, key: string): StoredValue | null | undefined {
    const table = this.#table(place)
    const slot = table.slots.get(key)
    const stored = slot && this.#seen(slot)
    return stored === undefined && table.cleared ? null : stored
  }

  wasCleared(place: number): boolean {
    return this.#table(place).cleared
  }

  /** The keys that it has, from a position on, in the order of the disk. Nothing may be written meanwhile. */
  *from(place: number, position: number): Generator<Slot, void> {
    for (const slot of this.#table(place).byPosition.from(position)) {
      const stored = this.#seen(slot)
      if (stored === slot.stored) yield slot
      else if (stored !== undefined) yield { key: slot.key, position: slot.position, stored }
    }
  }

  #seen(slot: OwnSlot): StoredValue | null | undefined {
    if (slot.moment <= this.moment) return slot.stored
    let { older } = slot
    while (older !== undefined && older.moment > this.moment) older = older.older
    return older?.stored
  }

  #table(place: number): Table {
    const table = this.#tables[place]
    assert(table !== undefined, () => `there is no place ${place}`)
    return table
  }
}
