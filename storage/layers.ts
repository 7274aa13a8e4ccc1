/*
 * The three layers of the state, read as one: the memtable that takes the writes, the frozen one on its way to the
 * disk, and the disk. Whatever a layer knows of a key, a deletion too, hides what lies below. Over the living layers
 * this is how the store reads; over bound ones it is a view of one moment. It writes nothing.
 */

import { assert } from '../raft/assert.ts'
import type { Reads } from './engine.ts'
import type { ExpiringKeys } from './expiring-keys.ts'
import { type DiskKeyWriter, isHashed, plainKey, positionKey, positionOf } from './layout.ts'
import type { MemtableReader, Slot } from './memtable.ts'
import {
  CorruptStateError,
  checkRecord,
  decodeRecord,
  keyInRecord,
  recordExpiry,
  type StoredValue,
} from './record.ts'
import { databaseName } from './state-meta.ts'
import type { ValueCache } from './value-cache.ts'

/**
 * Called per key of a range, in the order of positions; false ends the range. `load` returns the value, valid until
 * the visit returns, and costs a read of the disk where the key is not in memory. The visit must not write.
 */
export type KeyVisitor = (position: number, key: string, load: () => StoredValue) => boolean

export interface LayersOptions {
  readonly memtable: MemtableReader
  readonly frozen: MemtableReader | undefined
  readonly disk: Reads
  /** Values that were read from the disk; undefined where the disk is that of an earlier moment. */
  readonly cache: ValueCache | undefined
  /** undefined before there is a hash key: then the disk holds no key at all. */
  readonly diskKeys: DiskKeyWriter | undefined
  /** Where each database lies. */
  readonly places: readonly number[]
  /** Which keys expire on disk. */
  readonly expiring: ExpiringKeys
}

/** Lengths of so many values from so many bytes on are remembered: asking the disk would copy the value. */
const LARGE_VALUES_MAX = 256
const LARGE_VALUE_BYTES = 65_536

export class Layers {
  readonly #options: LayersOptions
  /** By place and key. What the disk has of a key changes with a checkpoint only, and that makes other layers. */
  readonly #largeOnDisk = new Map<string, number>()

  constructor(options: LayersOptions) {
    this.#options = options
  }

  /** The same over layers that are bound to a moment. */
  bound(layers: Pick<LayersOptions, 'memtable' | 'frozen' | 'disk'>): Layers {
    const expiring = this.#options.expiring.anew()
    return new Layers({ ...this.#options, ...layers, expiring, cache: undefined })
  }

  /** Where a database lies. */
  place(database: number): number {
    const place = this.#options.places[database]
    assert(place !== undefined, () => `there is no database ${database}`)
    return place
  }

  /** Throws CorruptStateError when the disk returns a damaged record. */
  get(database: number, key: string): StoredValue | undefined {
    const place = this.place(database)
    const inMemory = this.#find(place, key)
    if (inMemory !== undefined) return inMemory ?? undefined
    const { disk, diskKeys, cache } = this.#options
    const cached = cache?.get(place, key)
    if (cached !== undefined) return cached
    const diskKey = diskKeys?.fromText(key)
    if (diskKey === undefined) return undefined
    const record = disk.get(databaseName(place), diskKey)
    if (record === undefined) return undefined
    const value = decodeRecord(diskKey, key, record)
    cache?.add(place, key, value)
    return value
  }

  /** Bytes of a key's value, 0 without one. Reads a large value on disk once only. Throws as get() does. */
  lengthOf(database: number, key: string): number {
    const place = this.place(database)
    const inMemory = this.#find(place, key)
    if (inMemory !== undefined) return inMemory?.value.length ?? 0
    const name = `${place} ${key}`
    const known = this.#largeOnDisk.get(name)
    if (known !== undefined) return known
    const length = this.get(database, key)?.value.length ?? 0
    if (length >= LARGE_VALUE_BYTES && this.#largeOnDisk.size < LARGE_VALUES_MAX) {
      this.#largeOnDisk.set(name, length)
    }
    return length
  }

  /**
   * When a key expires, in ms; 0: never; undefined: there is no such key. Reads no value where few keys on disk expire
   * (ExpiringKeys). Throws as get() does.
   */
  expiryOf(database: number, key: string): number | undefined {
    const place = this.place(database)
    const { disk, diskKeys, cache, expiring } = this.#options
    const inMemory = this.#find(place, key)
    if (inMemory !== undefined) return inMemory?.expireAt
    const diskKey = diskKeys?.fromText(key)
    if (diskKey === undefined) return undefined
    const time = expiring.timeOf(place, diskKey, disk)
    // With the value a write that follows finds in the cache what it must know of the record.
    if (time === undefined) return this.get(database, key)?.expireAt
    return cache?.has(place, key) || disk.has(databaseName(place), diskKey) ? time : undefined
  }

  /** The same of what the disk has, whatever lies above it. */
  expiryOnDisk(place: number, diskKey: Uint8Array): number | undefined {
    const { disk, expiring } = this.#options
    const name = databaseName(place)
    const time = expiring.timeOf(place, diskKey, disk)
    if (time !== undefined) return disk.has(name, diskKey) ? time : undefined
    const record = disk.get(name, diskKey)
    if (record === undefined) return undefined
    checkRecord(diskKey, record)
    return recordExpiry(record)
  }

  /** Visits the keys of a database from a position on. Throws CorruptStateError. */
  range(database: number, from: number, visit: KeyVisitor): void {
    const place = this.place(database)
    const { memtable, frozen } = this.#options
    const memory = merged(memtable.from(place, from), this.#frozenSlots(place, from))
    let head = nextLive(memory)
    let open = true
    /** The keys in memory that come before the position. */
    const visitUpTo = (position: number): boolean => {
      while (open && head !== undefined && head.position < position) {
        const { stored } = head
        open = visit(head.position, head.key, () => stored)
        head = nextLive(memory)
      }
      return open
    }
    if (!memtable.wasCleared(place) && frozen?.wasCleared(place) !== true) {
      this.#onDisk(place, from, (position, key, load) => {
        if (!visitUpTo(position)) return false
        const hidden = memtable.knows(place, key) || frozen?.knows(place, key) === true
        if (!hidden) open = visit(position, key, load)
        return open
      })
    }
    visitUpTo(Number.POSITIVE_INFINITY)
  }

  /** The user key of a record on disk, wherever it is known. */
  userKey(place: number, diskKey: Uint8Array): string {
    if (!isHashed(diskKey)) return plainKey(diskKey)
    return keyInRecord(diskKey, this.#record(place, diskKey))
  }

  /** What the memtables know: the value, null for a deleted key, undefined when the disk must be asked. */
  #find(place: number, key: string): StoredValue | null | undefined {
    const { memtable, frozen } = this.#options
    const found = memtable.find(place, key)
    return found === undefined ? frozen?.find(place, key) : found
  }

  /** What the frozen memtable has and the one above it does not hide. */
  *#frozenSlots(place: number, from: number): Generator<Slot, void> {
    const { memtable, frozen } = this.#options
    if (frozen === undefined || memtable.wasCleared(place)) return
    for (const slot of frozen.from(place, from)) {
      if (!memtable.knows(place, slot.key)) yield slot
    }
  }

  #onDisk(place: number, from: number, visit: KeyVisitor): void {
    this.#options.disk.keys(databaseName(place), positionKey(from), (diskKey) => {
      const key = this.userKey(place, diskKey)
      return visit(positionOf(diskKey), key, () =>
        decodeRecord(diskKey, key, this.#record(place, diskKey)),
      )
    })
  }

  #record(place: number, diskKey: Uint8Array): Uint8Array {
    const record = this.#options.disk.get(databaseName(place), diskKey)
    if (record !== undefined) return record
    throw new CorruptStateError(
      `the record of key ${Buffer.from(diskKey).toString('hex')} is missing on disk`,
    )
  }
}

/** Both in the order of positions; no key is in both. */
function* merged(a: Iterator<Slot>, b: Iterator<Slot>): Generator<Slot, void> {
  let left = a.next()
  let right = b.next()
  while (left.done !== true || right.done !== true) {
    if (right.done === true || (left.done !== true && left.value.position < right.value.position)) {
      if (left.done !== true) yield left.value
      left = a.next()
    } else {
      yield right.value
      right = b.next()
    }
  }
}

function nextLive(slots: Iterator<Slot>): (Slot & { stored: StoredValue }) | undefined {
  for (;;) {
    const { done, value } = slots.next()
    if (done === true) return undefined
    const { key, position, stored } = value
    if (stored !== null) return { key, position, stored }
  }
}
