/*
 * Hot values that lie on disk only, kept in bounded memory: a read of the disk costs several times what one of memory
 * does. Two generations, each at most half of the bound: what is read enters the young one, also out of the old one;
 * when the young one is full it becomes the old one, and what was not read since the last time goes. Whoever changes
 * a key says so, so it never shows anything but what is on disk. It knows no disk.
 */

import { assert } from '../raft/assert.ts'
import { RECORD_HEADER_BYTES, type StoredValue } from './record.ts'
import { DATABASES } from './state-meta.ts'
import { WRITE_HEADER_BYTES, WriteBlocks } from './write-blocks.ts'

/** What a key costs beside its text and its value: a slot of the map, the string's header, those of the value. */
const KEY_BYTES = 80 + WRITE_HEADER_BYTES + RECORD_HEADER_BYTES
/** A value larger than this part of the bound is not worth what it would drive out. */
const VALUE_PART_MAX = 16

export class ValueCache {
  readonly #bytesMax: number
  #young = new Generation()
  #old = new Generation()
  hits = 0
  misses = 0

  /** `bytesMax` 0: it keeps nothing. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#young.bytes + this.#old.bytes
  }

  /** What is kept of a key: its value on disk. Valid for ever. */
  get(place: number, key: string): StoredValue | undefined {
    const young = this.#young.get(place, key)
    if (young !== undefined) {
      this.hits++
      return young
    }
    const old = this.#old.get(place, key)
    if (old === undefined) {
      this.misses++
      return undefined
    }
    this.hits++
    this.#old.delete(place, key)
    this.add(place, key, old)
    return old
  }

  has(place: number, key: string): boolean {
    return this.#young.has(place, key) || this.#old.has(place, key)
  }

  /** A value was read from disk. Copies it. */
  add(place: number, key: string, value: StoredValue): void {
    const bytes = KEY_BYTES + key.length + value.value.length
    if (bytes > this.#bytesMax / VALUE_PART_MAX) return
    if (this.#young.bytes + bytes > this.#bytesMax / 2) {
      this.#old = this.#young
      this.#young = new Generation()
    }
    this.#young.set(place, key, value)
    this.#young.bytes += bytes
  }

  /** The key has another value from now on, or none. Returns what was kept of it. */
  take(place: number, key: string): StoredValue | undefined {
    const kept = this.#young.get(place, key) ?? this.#old.get(place, key)
    if (kept === undefined) return undefined
    this.#young.delete(place, key)
    this.#old.delete(place, key)
    return kept
  }

  clear(place: number): void {
    this.#young.clear(place)
    this.#old.clear(place)
  }

  clearAll(): void {
    this.#young = new Generation()
    this.#old = new Generation()
  }
}

/** Its memory is only given back as a whole, so what was deleted counts until then. */
class Generation {
  readonly #places: Map<string, number>[] = Array.from({ length: DATABASES }, () => new Map())
  readonly #values = new WriteBlocks()
  bytes = 0

  get(place: number, key: string): StoredValue | undefined {
    const ref = this.#place(place).get(key)
    return ref === undefined ? undefined : (this.#values.stored(ref) ?? undefined)
  }

  has(place: number, key: string): boolean {
    return this.#place(place).has(key)
  }

  set(place: number, key: string, stored: StoredValue): void {
    this.#place(place).set(key, this.#values.append(key, 0, { before: undefined, stored }))
  }

  delete(place: number, key: string): void {
    this.#place(place).delete(key)
  }

  clear(place: number): void {
    this.#place(place).clear()
  }

  #place(place: number): Map<string, number> {
    const keys = this.#places[place]
    assert(keys !== undefined, () => `there is no place ${place}`)
    return keys
  }
}
