/*
 * The state store: applied writes go to a memtable in memory; a checkpoint moves it to the state environment in the
 * background, together with the index it stands at. So the state on disk is always a complete snapshot, a restart
 * replays only the log behind it, and the log before it can go. It knows keys, values and indices, but no command,
 * no log and no clock of its own.
 */

import { assert } from '../raft/assert.ts'
import type { Index, Membership, Position, Term } from '../raft/types.ts'
import { type CheckpointSummary, encodeCheckpointHeader } from './checkpoint.ts'
import type { StateEnvironment } from './engine.ts'
import { DiskKeyWriter, HASH_KEY_BYTES } from './layout.ts'
import { Memtable } from './memtable.ts'
import { decodeRecord, type StoredValue } from './record.ts'
import {
  DATABASES,
  databaseName,
  decodeMeta,
  META_DATABASE,
  META_KEY,
  type StateMeta,
  type StatePoint,
} from './state-meta.ts'

export type { StoredValue }

export interface StateStoreOptions {
  /** Size at which the memtable is full: a checkpoint is due, and without one writing stops. */
  readonly memtableBytes: number
  /** Milliseconds of a clock that never falls, for metrics only. */
  readonly now: () => number
}

/** Where an entry leaves the state. */
export interface EntryEnd {
  readonly index: Index
  readonly term: Term
  /** The logical clock in ms; never falls. */
  readonly clock: number
  /** Only when the entry changes it. */
  readonly membership?: Membership
}

export interface StateMetrics {
  /** Memory of the memtable that takes writes, and of the one being written to disk (0 when none is). */
  readonly memtableBytes: number
  readonly frozenBytes: number
  readonly checkpointing: boolean
  /** undefined before the first checkpoint of this process; `finishedAt` is on the clock of the options. */
  readonly lastCheckpoint:
    | { readonly durationMs: number; readonly finishedAt: number; readonly writes: number }
    | undefined
  readonly environmentBytes: number
}

export class StateStore {
  readonly #environment: StateEnvironment
  readonly #options: StateStoreOptions
  #memtable = new Memtable()
  #frozen: Memtable | undefined
  #running: Promise<Position> | undefined
  /** Where the applied entries have brought the state; durable up to #durable. #durable.index <= #point.index */
  #point: StatePoint
  #durable: Position
  /** Keys per database, exact at every moment. */
  #sizes: number[]
  /** True from the first write of an entry until commitEntry: a checkpoint must not cut it in two. */
  #inEntry = false
  #diskKeys: DiskKeyWriter | undefined
  #last: StateMetrics['lastCheckpoint']

  private constructor(
    environment: StateEnvironment,
    options: StateStoreOptions,
    { counts, digests: _, ...point }: StateMeta,
  ) {
    this.#environment = environment
    this.#options = options
    this.#point = point
    this.#durable = { index: point.index, term: point.term }
    this.#sizes = [...counts]
    if (point.hashKey !== undefined) this.#diskKeys = new DiskKeyWriter(point.hashKey)
  }

  /**
   * The state at its last durable checkpoint. Throws CorruptStateError when its own record is damaged,
   * FormatVersionError when another build wrote it.
   */
  static open(environment: StateEnvironment, options: StateStoreOptions): StateStore {
    const meta = decodeMeta(environment.get(META_DATABASE, META_KEY))
    return new StateStore(environment, options, meta)
  }

  /**
   * The value of a key (latin1 text of the user's bytes; database 0 to 15). Its bytes belong to the store: read
   * them, never change or keep them. Throws CorruptStateError when the disk returns a damaged record: fatal, no
   * caller may survive it.
   */
  get(database: number, key: string): StoredValue | undefined {
    const inMemory = this.#find(database, key)
    if (inMemory !== undefined) return inMemory ?? undefined
    const diskKey = this.#diskKey(key)
    if (diskKey === undefined) return undefined
    const record = this.#environment.get(databaseName(database), diskKey)
    return record === undefined ? undefined : decodeRecord(diskKey, key, record)
  }

  /** Only from apply, within an entry that commitEntry ends. Copies the value. */
  put(database: number, key: string, value: StoredValue): void {
    assert(this.#diskKeys !== undefined, () => 'no key may be written before the hash key')
    if (!this.#exists(database, key)) this.#resize(database, 1)
    this.#inEntry = true
    this.#memtable.put(database, key, value)
  }

  /** Only from apply. False when there was no such key. */
  delete(database: number, key: string): boolean {
    if (!this.#exists(database, key)) return false
    this.#inEntry = true
    this.#resize(database, -1)
    this.#memtable.delete(database, key)
    return true
  }

  /** Only from apply: empties a database. O(1), whatever it holds; the disk follows in the next checkpoint. */
  clear(database: number): void {
    this.#inEntry = true
    this.#memtable.clear(database)
    this.#sizes[database] = 0
  }

  /** The number of keys in a database. */
  size(database: number): number {
    const size = this.#sizes[database]
    assert(size !== undefined, () => `there is no database ${database}`)
    return size
  }

  /** The key of the keyed hash that places keys on disk; undefined until it was set. */
  hashKey(): Uint8Array | undefined {
    return this.#point.hashKey
  }

  /** Only from apply, once in the life of a cluster: HASH_KEY_BYTES that its log carries, so every node has the same. */
  setHashKey(key: Uint8Array): void {
    assert(this.#point.hashKey === undefined, () => 'the hash key is set already')
    assert(key.length === HASH_KEY_BYTES, () => `a hash key of ${key.length} bytes`)
    const hashKey = Uint8Array.from(key)
    this.#inEntry = true
    this.#point = { ...this.#point, hashKey }
    this.#diskKeys = new DiskKeyWriter(hashKey)
  }

  /** Ends an entry: what was written since the last call belongs to it. Every index once, in order. */
  commitEntry(at: EntryEnd): void {
    const point = this.#point
    assert(at.index === point.index + 1, () => `entry ${at.index} after ${point.index}`)
    assert(at.term >= point.term, () => `term ${at.term} after ${point.term}`)
    assert(at.clock >= point.clock, () => `the clock falls from ${point.clock} to ${at.clock}`)
    this.#point = {
      index: at.index,
      term: at.term,
      clock: at.clock,
      membership: at.membership ?? point.membership,
      hashKey: point.hashKey,
    }
    this.#inEntry = false
  }

  appliedIndex(): Index {
    return this.#point.index
  }

  appliedTerm(): Term {
    return this.#point.term
  }

  /** The logical clock in ms: that of the last entry. */
  clock(): number {
    return this.#point.clock
  }

  /** The last membership that was applied. */
  membership(): Membership | undefined {
    return this.#point.membership
  }

  /** Where the last durable checkpoint stands: the log up to here is not needed for a restart. */
  durableAt(): Position {
    return this.#durable
  }

  /** True when the memtable has reached its limit: time for a checkpoint. */
  isFull(): boolean {
    return this.#memtable.bytes >= this.#options.memtableBytes
  }

  /** False while the memtable is full and the one before it is still on its way to the disk. */
  canWrite(): boolean {
    return this.#frozen === undefined || !this.isFull()
  }

  /**
   * Makes everything applied so far durable, in the background, while a new memtable takes the writes. Resolves with
   * where it stands. While a checkpoint runs this is that one's promise, so its position may lie before what was
   * applied since: call again until durableAt() suffices. A rejection is fatal, and stays.
   */
  checkpoint(): Promise<Position> {
    assert(!this.#inEntry, () => 'a checkpoint within an entry')
    if (this.#running !== undefined) return this.#running
    if (this.#durable.index === this.#point.index) return Promise.resolve(this.#durable)
    const frozen = this.#memtable
    this.#frozen = frozen
    this.#memtable = new Memtable()
    this.#running = this.#write(frozen, this.#point, [...this.#sizes])
    return this.#running
  }

  metrics(): StateMetrics {
    return {
      memtableBytes: this.#memtable.bytes,
      frozenBytes: this.#frozen?.bytes ?? 0,
      checkpointing: this.#running !== undefined,
      lastCheckpoint: this.#last,
      environmentBytes: this.#environment.bytes(),
    }
  }

  /** Waits for a running checkpoint, and rejects when that failed; what was applied after it is in the log. */
  async close(): Promise<void> {
    try {
      await this.#running
    } finally {
      await this.#environment.close()
    }
  }

  async #write(frozen: Memtable, point: StatePoint, sizes: readonly number[]): Promise<Position> {
    const startedAt = this.#options.now()
    const header = encodeCheckpointHeader({ ...point, cleared: frozen.cleared() })
    const summary = await this.#environment.checkpoint(header, frozen.chunks())
    assertCounts(summary, sizes)
    // Only now: the environment shows what the frozen memtable held, so no read in between can miss a key.
    this.#frozen = undefined
    this.#running = undefined
    this.#durable = { index: point.index, term: point.term }
    const finishedAt = this.#options.now()
    this.#last = { durationMs: finishedAt - startedAt, finishedAt, writes: summary.writes }
    return this.#durable
  }

  /** What the memtables know: the value, null for a deleted key, undefined when the disk must be asked. */
  #find(database: number, key: string): StoredValue | null | undefined {
    const found = this.#memtable.find(database, key)
    return found === undefined ? this.#frozen?.find(database, key) : found
  }

  #exists(database: number, key: string): boolean {
    const inMemory = this.#find(database, key)
    if (inMemory !== undefined) return inMemory !== null
    const diskKey = this.#diskKey(key)
    return diskKey !== undefined && this.#environment.has(databaseName(database), diskKey)
  }

  /** undefined before there is a hash key: then the disk holds no key at all. */
  #diskKey(key: string): Uint8Array | undefined {
    return this.#diskKeys?.fromText(key)
  }

  #resize(database: number, by: 1 | -1): void {
    this.#sizes[database] = this.size(database) + by
  }
}

/** The job counted what is really on disk, the store what it was told: a difference is a bug in one of them. */
function assertCounts({ counts }: CheckpointSummary, sizes: readonly number[]): void {
  for (let database = 0; database < DATABASES; database++) {
    assert(
      counts[database] === sizes[database],
      () => `database ${database} has ${counts[database]} keys on disk, not ${sizes[database]}`,
    )
  }
}
