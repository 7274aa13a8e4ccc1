/*
 * The memtable: what was applied since the last checkpoint began, in memory. Maps by user key (latin1 text, one
 * character per byte), with values copied into memory of its own, because a one-byte argument of a command would pin
 * the network chunk it came in. It remembers deletions and emptied databases, which hide what lies below. It knows
 * no disk.
 */

import { assert } from '../raft/assert.ts'
import { ChunkWriter, isLargeWrite, largeWrite } from './checkpoint.ts'
import type { Chunk } from './engine.ts'
import type { StoredValue } from './record.ts'
import { DATABASES } from './state-meta.ts'

/** What an entry costs beside its key and value: the map's slot, the object, the view, the string's header. */
const ENTRY_OVERHEAD_BYTES = 160
const ARENA_BYTES = 64 * 1024
/** A larger value gets memory of its own, so that it wastes no more than this of an arena. */
const ARENA_VALUE_BYTES_MAX = ARENA_BYTES / 16
/** A value so large is kept where it lies when it is most of that memory: entries are never written to again. */
const SHARED_VALUE_BYTES_MIN = 256 * 1024
const NO_BYTES = new Uint8Array(0)

interface Table {
  /** null: deleted here. */
  readonly entries: Map<string, StoredValue | null>
  /** True when the database was emptied: nothing below counts any more. */
  readonly cleared: boolean
}

export class Memtable {
  readonly #tables: Table[] = Array.from({ length: DATABASES }, () => emptyTable(false))
  #arena: Uint8Array = NO_BYTES
  #arenaUsed = 0
  #bytes = 0

  /** Memory it has taken, overwritten values included: those go when the whole memtable goes. */
  get bytes(): number {
    return this.#bytes
  }

  /** The value, null when it is known to be deleted, undefined when only the level below knows. */
  find(database: number, key: string): StoredValue | null | undefined {
    const table = this.#table(database)
    const found = table.entries.get(key)
    return found === undefined && table.cleared ? null : found
  }

  put(database: number, key: string, value: StoredValue): void {
    const { type, expireAt, version } = value
    this.#set(database, key, { type, expireAt, version, value: this.#copy(value.value) })
  }

  delete(database: number, key: string): void {
    this.#set(database, key, null)
  }

  /** Empties a database at once; the entries' memory is free when the garbage collector sees it. */
  clear(database: number): void {
    this.#tables[database] = emptyTable(true)
  }

  /** The databases that clear() was called for. */
  cleared(): number[] {
    return this.#tables.flatMap(({ cleared }, database) => (cleared ? [database] : []))
  }

  /** Its contents for a checkpoint, one chunk at a time; nothing may be written meanwhile. */
  *chunks(): Generator<Chunk, void> {
    const writer = new ChunkWriter()
    for (const [database, { entries }] of this.#tables.entries()) {
      for (const [key, value] of entries) {
        const large = isLargeWrite(key, value)
        if (!large && writer.add(database, key, value)) continue
        const chunk = writer.take()
        if (chunk !== undefined) yield chunk
        if (large) yield* largeWrite(database, key, value)
        else assert(writer.add(database, key, value), () => 'an empty chunk takes any write')
      }
    }
    const last = writer.take()
    if (last !== undefined) yield last
  }

  #table(database: number): Table {
    const table = this.#tables[database]
    assert(table !== undefined, () => `there is no database ${database}`)
    return table
  }

  #set(database: number, key: string, value: StoredValue | null): void {
    const { entries } = this.#table(database)
    const before = entries.size
    entries.set(key, value)
    if (entries.size > before) this.#bytes += ENTRY_OVERHEAD_BYTES + key.length
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

function emptyTable(cleared: boolean): Table {
  return { entries: new Map(), cleared }
}
