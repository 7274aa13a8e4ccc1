/*
 * The state store: applied writes go to a memtable in memory; a checkpoint moves it to the state environment in the
 * background, together with the index it stands at. So the state on disk is always a complete snapshot, a restart
 * replays only the log behind it, and the log before it can go. It knows keys, values and indices, but no command,
 * no log and no clock of its own.
 */

import { assert } from '../raft/assert.ts'
import type { Index, Membership, NodeId, Position, Term } from '../raft/types.ts'
import { assertCounts, encodeCheckpointHeader, type LastCheckpoint } from './checkpoint.ts'
import { CreatedKeys } from './created-keys.ts'
import { DueKeys } from './due-keys.ts'
import type { StateEnvironment, StateStream } from './engine.ts'
import { ExpiringKeys } from './expiring-keys.ts'
import { type KeyVisitor, Layers } from './layers.ts'
import { DiskKeyWriter, HASH_KEY_BYTES, positionOf } from './layout.ts'
import { type DueAt, type Known, Memtable } from './memtable.ts'
import { keysChanging } from './page-bytes.ts'
import type { StoredValue } from './record.ts'
import type { ScrubPosition, ScrubStep } from './scrub.ts'
import {
  decodeMeta,
  type EntryEnd,
  META_DATABASE,
  META_KEY,
  metaDigest,
  pointAfter,
  type StateMeta,
  type StatePoint,
} from './state-meta.ts'
import { type StateView, StateViews, type ViewLimits } from './state-views.ts'
import { ValueCache } from './value-cache.ts'

export type { EntryEnd, KeyVisitor, StateView, StoredValue }

export interface StateStoreOptions {
  /** Size at which the memtable is full: a checkpoint is due, and without one writing stops. */
  readonly memtableBytes: number
  /** Or when its keys lie on so many pages of the disk, which a checkpoint has in memory. Left out: no bound. */
  readonly checkpointPagesMax?: number
  /** Of up to so many keys per database that expire on disk is it known which ones they are. Left out: of none. */
  readonly expiringKeysMax?: number
  /** Memory for values that were read from disk; 0: none are kept. */
  readonly cacheBytes: number
  readonly views: ViewLimits
  /** Milliseconds of a clock that never falls, for metrics and the age of views. */
  readonly now: () => number
}

/** A key whose time has come. */
export interface DueKey {
  readonly database: number
  readonly key: string
  /** In ms of the logical clock. */
  readonly expireAt: number
}

export interface StateMetrics {
  /** Memory of the memtable that takes writes, and of the one being written to disk (0 when none is). */
  readonly memtableBytes: number
  readonly frozenBytes: number
  /** Writes, deletions and the like that no durable checkpoint holds. */
  readonly changes: number
  readonly checkpointing: boolean
  /** undefined before the first of this process. */
  readonly lastCheckpoint: LastCheckpoint | undefined
  readonly environmentBytes: number
  /** Memory of the values read from disk, and how often one was asked for and was there or not. */
  readonly cacheBytes: number
  readonly cacheHits: number
  readonly cacheMisses: number
  /** Open views, and the memory that only they still need. */
  readonly views: number
  readonly viewBytes: number
}

export class StateStore {
  #environment: StateEnvironment
  readonly #options: StateStoreOptions
  #memtable: Memtable
  #frozen: Memtable | undefined
  /** How the two and the disk are read; renewed whenever one of them, or the order of the databases, changes. */
  #layers: Layers
  #dueKeys: DueKeys
  readonly #views: StateViews
  readonly #cache: ValueCache
  #running: Promise<Position> | undefined
  /** Where the applied entries have brought the state; durable up to #durable. #durable.index <= #point.index */
  #point: StatePoint
  #durable: Position
  /** Keys per place, and how many of them expire, exact at every moment. */
  #counts: number[]
  #expires: number[]
  /** Which keys on disk expire. */
  #expiring: ExpiringKeys
  /** Writes and the like since the last checkpoint began, and those in the one that runs. */
  #changes = 0
  #frozenChanges = 0
  /** True from the first write of an entry until commitEntry: a checkpoint must not cut it in two. */
  #inEntry = false
  #diskKeys: DiskKeyWriter | undefined
  #created: CreatedKeys
  #last: StateMetrics['lastCheckpoint']

  private constructor(
    environment: StateEnvironment,
    options: StateStoreOptions,
    { counts, expires, digests: _, created, ...point }: StateMeta,
  ) {
    this.#environment = environment
    this.#options = options
    this.#memtable = new Memtable(keysChanging(options.checkpointPagesMax, environment))
    this.#point = point
    this.#durable = { index: point.index, term: point.term }
    this.#counts = [...counts]
    this.#expires = [...expires]
    this.#expiring = new ExpiringKeys(expires, options.expiringKeysMax ?? 0)
    this.#created = CreatedKeys.decode(created)
    if (point.hashKey !== undefined) this.#diskKeys = new DiskKeyWriter(point.hashKey)
    this.#dueKeys = new DueKeys(environment, expires)
    this.#views = new StateViews(options.views, options.now)
    this.#cache = new ValueCache(options.cacheBytes)
    this.#layers = this.#living()
  }

  /**
   * The state at its last durable checkpoint. Throws CorruptStateError when its own record is damaged,
   * FormatVersionError when another build wrote it.
   */
  static open(environment: StateEnvironment, options: StateStoreOptions): StateStore {
    return new StateStore(environment, options, readMeta(environment))
  }

  /**
   * The value of a key (latin1 text of the user's bytes; database 0 to 15). Its bytes belong to the store: read
   * them, never change or keep them. Throws CorruptStateError when the disk returns a damaged record: fatal, no
   * caller may survive it.
   */
  get(database: number, key: string): StoredValue | undefined {
    return this.#layers.get(database, key)
  }

  /** See Layers. */
  lengthOf(database: number, key: string): number {
    return this.#layers.lengthOf(database, key)
  }

  /** See Layers. */
  expiryOf(database: number, key: string): number | undefined {
    return this.#layers.expiryOf(database, key)
  }

  /**
   * Visits the keys of a database from a position (layout.ts) on, in the order of positions; those of one position
   * in any order. Keys that are due and not removed yet are among them. Throws as get() does.
   */
  range(database: number, fromPosition: number, visit: KeyVisitor): void {
    this.#layers.range(database, fromPosition, visit)
  }

  /**
   * What is there now, to be read in slices while writes and checkpoints go on; undefined when as many are open as
   * the limits allow. Within an entry it shows what the entry has written so far.
   */
  view(): StateView | undefined {
    this.#views.enforce([this.#memtable, this.#frozen])
    if (!this.#views.canOpen()) return undefined
    return this.#views.open({
      clock: this.#point.clock,
      counts: [...this.#counts],
      memtable: this.#memtable,
      frozen: this.#frozen,
      disk: this.#environment.view(),
      layers: this.#layers,
    })
  }

  /**
   * The keys whose time is `upTo` (ms of the logical clock) or earlier, in the order of (time, database, position,
   * key), `count` at most: the same on every node, wherever its checkpoints stand.
   */
  dueKeys(upTo: number, count: number): readonly DueKey[] {
    const living = { memtable: this.#memtable, frozen: this.#frozen, layers: this.#layers }
    const due = this.#point.places.flatMap((place, database) => {
      if (this.#expires[place] === 0) return []
      const found = this.#dueKeys.due(place, { upTo, count }, living)
      return found.map(({ key, expireAt }: DueAt) => ({ database, key, expireAt }))
    })
    // The sort is stable: within a database the keys are in their order already.
    due.sort((a, b) => a.expireAt - b.expireAt || a.database - b.database)
    return due.slice(0, count)
  }

  /**
   * No key (of one database, or of any) expires before this time in ms; undefined when none ever does. Cheap, and
   * not exact: at that time there may be nothing due, and then the answer is a later one once dueKeys() has looked.
   */
  nextExpiry(database?: number): number | undefined {
    const places = database === undefined ? this.#point.places : [this.#layers.place(database)]
    const times = places
      .filter((place) => this.#expires[place] !== 0)
      .map((place) => this.#dueKeys.soonest(place))
    return times.length === 0 ? undefined : Math.min(...times)
  }

  /** Only from apply, within an entry that commitEntry ends. Copies the value. */
  put(database: number, key: string, value: StoredValue): void {
    assert(this.#diskKeys !== undefined, () => 'no key may be written before the hash key')
    const place = this.#layers.place(database)
    const before = this.#before(place, key)
    this.#changed()
    this.#memtable.put(place, before.position, key, value)
    if (value.expireAt !== 0) this.#dueKeys.added(place, value.expireAt)
    // One that expires may have been due, and then it is a new one.
    if (before.expireAt !== 0) this.#created.add(place, before.position, value.version)
    if (before.expireAt === undefined) this.#count(this.#counts, place, 1)
    this.#count(this.#expires, place, Number(value.expireAt !== 0) - Number(!!before.expireAt))
  }

  /** Only from apply. False when there was no such key. */
  delete(database: number, key: string): boolean {
    const place = this.#layers.place(database)
    const { expireAt, position } = this.#before(place, key)
    if (expireAt === undefined) return false
    this.#changed()
    this.#memtable.delete(place, position, key)
    this.#count(this.#counts, place, -1)
    if (expireAt !== 0) this.#count(this.#expires, place, -1)
    return true
  }

  /** Only from apply: empties a database. O(1), whatever it holds; the disk follows in the next checkpoint. */
  clear(database: number): void {
    const place = this.#layers.place(database)
    this.#changed()
    this.#memtable.clear(place)
    this.#cache.clear(place)
    this.#dueKeys.cleared(place)
    this.#counts[place] = 0
    this.#expires[place] = 0
  }

  /** Only from apply: each of two databases (or one and the same) holds what the other held. O(1). */
  swap(a: number, b: number, version: number): void {
    const places = [...this.#point.places]
    const place = this.#layers.place(a)
    places[a] = this.#layers.place(b)
    places[b] = place
    this.#changed()
    if (a !== b) this.#created.exchanged([place, this.#layers.place(b)], version)
    this.#point = { ...this.#point, places }
    this.#layers = this.#living()
  }

  /** The version of the newest key or exchange of databases: a key that is missing now is watched as of this. */
  get newestKey(): number {
    return this.#created.newest
  }

  /** Whether a key that was missing as of `since` may have come later, be it there now or not. */
  createdSince(database: number, key: string, since: number): boolean {
    if (this.#diskKeys === undefined) return false
    const position = positionOf(this.#diskKeys.fromText(key))
    return this.#created.hasSince(this.#layers.place(database), position, since)
  }

  /** The number of keys in a database. */
  size(database: number): number {
    return this.#counts[this.#layers.place(database)] ?? 0
  }

  /** How many of them have a time to expire, those included that are due and not removed yet. */
  expires(database: number): number {
    return this.#expires[this.#layers.place(database)] ?? 0
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
    this.#layers = this.#living()
  }

  /** What all members of the cluster understand of each other. */
  featureLevel(): number {
    return this.#point.featureLevel
  }

  /** Only from apply: it never falls. */
  raiseFeatureLevel(level: number): void {
    const featureLevel = Math.max(level, this.#point.featureLevel)
    this.#inEntry = true
    this.#point = { ...this.#point, featureLevel }
  }

  /** Ends an entry: what was written since the last call belongs to it. Every index once, in order. */
  commitEntry(at: EntryEnd): void {
    this.#point = pointAfter(this.#point, at)
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

  /** Whether that node was a member and is none any more. */
  wasRemoved(id: NodeId): boolean {
    return this.#point.removed.includes(id)
  }

  /** Where the last durable checkpoint stands: the log up to here is not needed for a restart. */
  durableAt(): Position {
    return this.#durable
  }

  /** True when the memtable has reached its limit: time for a checkpoint. */
  isFull(): boolean {
    const { bytes, keys, keysMax } = this.#memtable
    return bytes >= this.#options.memtableBytes || keys >= keysMax
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
    this.#memtable = new Memtable(keysChanging(this.#options.checkpointPagesMax, this.#environment))
    this.#frozenChanges = this.#changes
    this.#changes = 0
    this.#layers = this.#living()
    this.#running = this.#write(frozen, this.#point)
    return this.#running
  }

  metrics(): StateMetrics {
    return {
      memtableBytes: this.#memtable.bytes,
      frozenBytes: this.#frozen?.bytes ?? 0,
      changes: this.#changes + this.#frozenChanges,
      checkpointing: this.#running !== undefined,
      lastCheckpoint: this.#last,
      environmentBytes: this.#environment.bytes(),
      cacheBytes: this.#cache.bytes,
      cacheHits: this.#cache.hits,
      cacheMisses: this.#cache.misses,
      views: this.#views.count,
      viewBytes: this.#views.pinnedBytes([this.#memtable, this.#frozen]),
    }
  }

  /** What is durable, or became so meanwhile, as a stream for another node. To be closed before the store is. */
  stream(chunkBytes: number): Promise<StateStream> {
    return this.#environment.stream(chunkBytes)
  }

  /** See StateEnvironment.scrub. Where it goes on is of no use to another environment: see replace(). */
  scrub(from: ScrubPosition | undefined, bytesMax: number): Promise<ScrubStep> {
    return this.#environment.scrub(from, bytesMax)
  }

  /**
   * Everything is that of another environment from now on, which is a later state: what was applied here and is in no
   * checkpoint is dropped, and views are closed. Not while a checkpoint runs, nor within an entry. Returns the old
   * environment, which nothing reads any more.
   */
  replace(environment: StateEnvironment): StateEnvironment {
    assert(this.#running === undefined && !this.#inEntry, () => 'the state is being written')
    const { counts, expires, digests: _, created, ...point } = readMeta(environment)
    assert(point.index > this.#point.index, () => `${point.index} after ${this.#point.index}`)
    const old = this.#environment
    this.#views.releaseAll()
    this.#environment = environment
    this.#memtable = new Memtable(keysChanging(this.#options.checkpointPagesMax, this.#environment))
    this.#changes = 0
    this.#cache.clearAll()
    this.#point = point
    this.#durable = { index: point.index, term: point.term }
    this.#counts = [...counts]
    this.#expires = [...expires]
    this.#expiring = this.#expiring.anew(expires)
    this.#created = CreatedKeys.decode(created)
    this.#diskKeys = point.hashKey && new DiskKeyWriter(point.hashKey)
    this.#dueKeys = new DueKeys(environment, expires)
    this.#layers = this.#living()
    return old
  }

  /** Waits for a running checkpoint, and rejects when that failed; what was applied after it is in the log. */
  async close(): Promise<void> {
    this.#views.releaseAll()
    try {
      await this.#running
    } finally {
      await this.#environment.close()
    }
  }

  async #write(frozen: Memtable, point: StatePoint): Promise<Position> {
    const startedAt = this.#options.now()
    const expected = { counts: [...this.#counts], expires: [...this.#expires] }
    const created = this.#created.encode()
    const header = encodeCheckpointHeader({ ...point, created, cleared: frozen.cleared() })
    const summary = await this.#environment.checkpoint(header, (take) => frozen.chunks(take))
    assertCounts(summary, expected)
    // Only now: the environment shows what the frozen memtable held, so no read in between can miss a key.
    this.#frozen = undefined
    this.#frozenChanges = 0
    this.#expiring = this.#expiring.anew(summary.expires)
    this.#layers = this.#living()
    this.#dueKeys.landed(frozen)
    this.#views.enforce([this.#memtable])
    this.#running = undefined
    this.#durable = { index: point.index, term: point.term }
    const finishedAt = this.#options.now()
    const digest = metaDigest({ ...point, ...summary, created })
    this.#last = { durationMs: finishedAt - startedAt, finishedAt, writes: summary.writes, digest }
    return this.#durable
  }

  #living(): Layers {
    return new Layers({
      memtable: this.#memtable.reader,
      frozen: this.#frozen?.reader,
      disk: this.#environment,
      cache: this.#cache,
      diskKeys: this.#diskKeys,
      places: this.#point.places,
      expiring: this.#expiring,
    })
  }

  /** What a write to a key replaces, and where the key lies. */
  #before(place: number, key: string): Known {
    const memtable = this.#memtable
    const own = memtable.known(place, key)
    if (own !== undefined) return own
    const hidden = memtable.wasCleared(place)
    const frozen = this.#frozen?.known(place, key)
    if (frozen !== undefined) return hidden ? { ...frozen, expireAt: undefined } : frozen
    // Before there is a hash key the disk holds no key at all.
    const diskKey = this.#diskKeys?.fromText(key)
    if (diskKey === undefined) return { position: 0, expireAt: undefined }
    const position = positionOf(diskKey)
    if (hidden || this.#frozen?.wasCleared(place)) return { position, expireAt: undefined }
    // Whatever is written to a key that lies on disk comes by here, so no outdated value is ever kept.
    const kept = this.#cache.take(place, key)
    return { position, expireAt: kept?.expireAt ?? this.#layers.expiryOnDisk(place, diskKey) }
  }

  /** Within an entry: what follows belongs to it. */
  #changed(): void {
    this.#inEntry = true
    this.#changes++
  }

  #count(counts: number[], place: number, by: number): void {
    const count = (counts[place] ?? 0) + by
    assert(count >= 0, () => `place ${place} holds less than no keys`)
    counts[place] = count
  }
}

/** What an environment says of the state in it. Throws CorruptStateError, FormatVersionError. */
export function readMeta(environment: StateEnvironment): StateMeta {
  return decodeMeta(environment.get(META_DATABASE, META_KEY))
}
