/*
 * The databases as handlers see them: what is due by the command's clock does not exist, and what a write handler
 * writes is held back until its whole command has succeeded. One set of views serves every command, so that a
 * command allocates nothing for them. They know the state store and no command.
 */

import { assert } from '../raft/assert.ts'
import type { StateStore, StateView, StoredValue } from '../storage/state-store.ts'
import {
  CommandError,
  type Database,
  type ReadDatabase,
  type ReadonlyDatabase,
  type ScanVisitor,
  type Version,
  type Watched,
} from './commands/command.ts'
import { limits } from './config.ts'
import type { KeyspaceCounts } from './keyspace-counts.ts'
import { ClockBehind, type Moment } from './moment.ts'
import { DATABASES } from './session.ts'

/** What handlers read: the state store, or a view of one moment of it. */
export type ReadableStore = Pick<
  StateStore,
  'get' | 'expiryOf' | 'range' | 'size' | 'nextExpiry' | 'newestKey' | 'createdSince'
>
/** The part of the state store that handlers reach. */
export type ViewedStore = ReadableStore & Pick<StateStore, 'put' | 'delete' | 'clear' | 'swap'>

/** The latest time to expire, in the year 287396: later ones, which Redis would take, are kept as this one. */
const EXPIRE_AT_MAX = Number.MAX_SAFE_INTEGER

const tooHeavy = new CommandError(
  'ERR too many bytes of values were rewritten in one go; this command was not executed',
)

/** What the views of all databases share while one command runs. */
interface Running {
  moment: Moment
  version: Version
  /** Bytes of the values that commands were given and have written: in all, for writes of one entry. */
  valueBytes: number
  /** Above so many of them a write may handle no large value any more. */
  valueBytesMax: number
  /** The error in flight came from the store: a fault of this node, never a reply. */
  storeFailed: boolean
  /** Databases with writes of this command, in the order of the first ones. */
  readonly touched: Overlay[]
  /** Databases whose contents it exchanges. */
  swapped: readonly [number, number] | undefined
}

function newRunning(): Running {
  const moment = { now: 0, applied: undefined }
  return {
    moment,
    version: 0,
    valueBytes: 0,
    valueBytesMax: limits.entryValueBytesMax,
    storeFailed: false,
    touched: [],
    swapped: undefined,
  }
}

/** A view of one moment of the store as handlers read it. */
export function storeOf(
  view: StateView,
  store: Pick<ReadableStore, 'newestKey' | 'createdSince'>,
  nextExpiry: number | undefined,
): ReadableStore {
  return {
    get: (database, key) => view.get(database, key),
    expiryOf: (database, key) => view.expiryOf(database, key),
    range: (database, from, visit) => view.range(database, from, visit),
    size: (database) => view.size(database),
    nextExpiry: () => nextExpiry,
    newestKey: store.newestKey,
    // Of now, not of the view: a key that came since then counts as well, which never tells too little.
    createdSince: (database, key, since) => store.createdSince(database, key, since),
  }
}

/** The databases for read handlers. */
export class Views {
  readonly #running = newRunning()
  readonly #views: readonly ReadView[]
  readonly #counts: KeyspaceCounts
  readonly #random: () => number
  /** Before the read that runs. */
  #hitsBefore = 0
  #missesBefore = 0

  constructor(store: ReadableStore, random: () => number, counts: KeyspaceCounts) {
    this.#random = random
    this.#counts = counts
    this.#views = everyDatabase(
      (index, views) => new ReadView(store, this.#running, index, { views, random, counts }),
    )
  }

  get storeFailed(): boolean {
    return this.#running.storeFailed
  }

  /** Bytes of the values that reads were given so far. */
  get bytesRead(): number {
    return this.#running.valueBytes
  }

  /** The database in which a read begins. */
  begin(database: number, moment: Moment): ReadDatabase {
    this.#running.moment = moment
    this.#hitsBefore = this.#counts.hits
    this.#missesBefore = this.#counts.misses
    return numbered(this.#views, database)
  }

  /** The same over another store, such as one moment of this one; lookups are counted together. */
  over(store: ReadableStore): Views {
    return new Views(store, this.#random, this.#counts)
  }

  /** The read that began last will begin anew: what it looked up counts only then. */
  again(): void {
    this.#counts.hits = this.#hitsBefore
    this.#counts.misses = this.#missesBefore
  }
}

/** The databases for write handlers. */
export class Overlays {
  readonly #store: ViewedStore
  readonly #running = newRunning()
  readonly #overlays: readonly Overlay[]

  constructor(store: ViewedStore) {
    this.#store = store
    this.#overlays = everyDatabase(
      (index, overlays) => new Overlay(store, this.#running, index, overlays),
    )
  }

  get storeFailed(): boolean {
    return this.#running.storeFailed
  }

  /** Bytes of the values that the writes of this entry were given and have made so far. */
  get valueBytes(): number {
    return this.#running.valueBytes
  }

  beginEntry(): void {
    this.#running.valueBytes = 0
  }

  /** What runs in it may handle no more than so many bytes of values, nor more than are left to the entry. */
  within<Result>(bytes: number, run: () => Result): Result {
    const running = this.#running
    const before = running.valueBytesMax
    running.valueBytesMax = Math.min(before, running.valueBytes + bytes)
    try {
      return run()
    } finally {
      running.valueBytesMax = before
    }
  }

  /** The database in which a write begins; what a command before it did not commit is dropped. */
  begin(database: number, now: number, version: Version): Database {
    this.drop()
    this.#running.moment = { now, applied: undefined }
    this.#running.version = version
    return numbered(this.#overlays, database)
  }

  /** Hands the command's writes to the store. Whatever it throws is a fault of this node. */
  commit(): void {
    const { touched, swapped } = this.#running
    for (const overlay of touched) overlay.commit()
    touched.length = 0
    if (swapped === undefined) return
    this.#store.swap(...swapped, this.#running.version)
    this.#running.swapped = undefined
  }

  /** Forgets the command's writes. */
  drop(): void {
    const { touched } = this.#running
    for (const overlay of touched) overlay.drop()
    touched.length = 0
    this.#running.swapped = undefined
  }
}

function everyDatabase<One>(make: (index: number, all: readonly One[]) => One): readonly One[] {
  const all: One[] = []
  for (let index = 0; index < DATABASES; index++) all.push(make(index, all))
  return all
}

function numbered<One>(all: readonly One[], database: number): One {
  const one = all[database]
  assert(one !== undefined, () => `there is no database ${database}`)
  return one
}

abstract class View<Store extends ReadableStore> implements ReadonlyDatabase {
  readonly index: number
  protected readonly store: Store
  protected readonly running: Running

  constructor(store: Store, running: Running, index: number) {
    this.store = store
    this.running = running
    this.index = index
  }

  abstract database(index: number): ReadonlyDatabase

  get now(): number {
    return this.running.moment.now
  }

  get(key: string): StoredValue | undefined {
    return this.present(key)
  }

  /** The same, and counts as no lookup. */
  protected present(key: string): StoredValue | undefined {
    const value = this.stored(key)
    return value === undefined || this.isDue(value) ? undefined : value
  }

  expiryOf(key: string): number | undefined {
    const expireAt = this.storedExpiry(key)
    return expireAt === undefined || this.isDue({ expireAt }) ? undefined : expireAt
  }

  protected isDue({ expireAt }: Pick<StoredValue, 'expireAt'>): boolean {
    const { now, applied } = this.running.moment
    if (expireAt === 0 || expireAt > now) return false
    if (applied !== undefined && expireAt > applied) throw new ClockBehind(now)
    return true
  }

  watched(key: string): Watched {
    const value = this.present(key)
    if (value !== undefined) return { version: value.version, isMissing: false }
    return { version: this.store.newestKey, isMissing: true }
  }

  isAsWatched(key: string, { version, isMissing }: Watched): boolean {
    const value = this.present(key)
    if (!isMissing) return value?.version === version
    return value === undefined && !this.store.createdSince(this.index, key, version)
  }

  size(): number {
    return this.store.size(this.index)
  }

  /** Whatever the store throws is a fault of this node. */
  protected reading<Read>(read: () => Read): Read {
    try {
      return read()
    } catch (error) {
      this.running.storeFailed = true
      throw error
    }
  }

  /** What the store has of a key, due or not. */
  protected stored(key: string): StoredValue | undefined {
    try {
      const stored = this.store.get(this.index, key)
      if (stored !== undefined) this.running.valueBytes += stored.value.length
      return stored
    } catch (error) {
      this.running.storeFailed = true
      throw error
    }
  }

  /** When what the store has of a key expires. No value counts as read: that depends on what a node has in memory. */
  protected storedExpiry(key: string): number | undefined {
    return this.reading(() => this.store.expiryOf(this.index, key))
  }
}

class ReadView extends View<ReadableStore> implements ReadDatabase {
  readonly random: () => number
  readonly #all: readonly ReadView[]
  readonly #counts: KeyspaceCounts

  constructor(
    store: ReadableStore,
    running: Running,
    index: number,
    {
      views,
      random,
      counts,
    }: { views: readonly ReadView[]; random: () => number; counts: KeyspaceCounts },
  ) {
    super(store, running, index)
    this.#all = views
    this.#counts = counts
    this.random = random
  }

  get bytesRead(): number {
    return this.running.valueBytes
  }

  override get(key: string): StoredValue | undefined {
    const value = this.present(key)
    if (value === undefined) this.#counts.misses++
    else this.#counts.hits++
    return value
  }

  override expiryOf(key: string): number | undefined {
    const expireAt = super.expiryOf(key)
    if (expireAt === undefined) this.#counts.misses++
    else this.#counts.hits++
    return expireAt
  }

  database(index: number): ReadDatabase {
    return numbered(this.#all, index)
  }

  scan(fromPosition: number, visit: ScanVisitor): void {
    const next = this.store.nextExpiry(this.index)
    // Where no key of the database is due, none has to be read from the disk to know it.
    const mayBeDue = next !== undefined && next <= this.now
    let thrown: { readonly error: unknown } | undefined
    this.reading(() =>
      this.store.range(this.index, fromPosition, (position, key, load) => {
        const value = (): StoredValue => this.reading(load)
        try {
          return visit(position, mayBeDue && this.isDue(value()) ? undefined : key, value)
        } catch (error) {
          // Past the store, which must not take what a visit throws for a fault of its own.
          thrown = { error }
          return false
        }
      }),
    )
    if (thrown !== undefined) throw thrown.error
  }
}

class Overlay extends View<ViewedStore> implements Database {
  /** The first key that the command writes, which mostly is the only one, and its value; undefined: deleted. */
  #key: string | undefined
  #value: StoredValue | undefined
  /** The other ones. */
  readonly #others = new Map<string, StoredValue | undefined>()
  #cleared = false
  #touched = false
  readonly #all: readonly Overlay[]

  constructor(store: ViewedStore, running: Running, index: number, all: readonly Overlay[]) {
    super(store, running, index)
    this.#all = all
  }

  database(index: number): Database {
    return numbered(this.#all, index)
  }

  override size(): number {
    let size = this.#cleared ? 0 : super.size()
    for (const [key, value] of this.#writes()) {
      const before = this.#cleared ? undefined : super.stored(key)
      size += (value === undefined ? 0 : 1) - (before === undefined ? 0 : 1)
    }
    return size
  }

  override get(key: string): StoredValue | undefined {
    const before = this.running.valueBytes
    const value = super.get(key)
    // The first one may be as large as a value can be: its command has texts of its own for what is too large.
    if (value !== undefined) this.#checkRoom(value.value.length, before)
    return value
  }

  room(bytes: number): void {
    this.#checkRoom(bytes, this.running.valueBytes)
  }

  #checkRoom(bytes: number, spent: number): void {
    if (bytes > limits.lightValueBytesMax && spent > this.running.valueBytesMax) throw tooHeavy
  }

  put(key: string, value: Uint8Array, expireAt = 0): void {
    const { version } = this.running
    this.running.valueBytes += value.length
    const type = 'string'
    this.#write(key, { type, expireAt: Math.min(expireAt, EXPIRE_AT_MAX), version, value })
  }

  delete(key: string): boolean {
    if (this.expiryOf(key) === undefined) return false
    this.#write(key, undefined)
    return true
  }

  clear(): void {
    this.#touch()
    this.#forget()
    this.#cleared = true
  }

  clearAll(): void {
    for (const overlay of this.#all) if (overlay.size() > 0) overlay.clear()
  }

  swap(a: number, b: number): void {
    assert(this.running.touched.length === 0, () => 'databases with writes of the same command')
    this.running.swapped = [a, b]
  }

  commit(): void {
    const { store, index } = this
    if (this.#cleared) store.clear(index)
    if (this.#key !== undefined) this.#apply(this.#key, this.#value)
    if (this.#others.size > 0) for (const [key, value] of this.#others) this.#apply(key, value)
    this.drop()
  }

  drop(): void {
    this.#forget()
    this.#cleared = false
    this.#touched = false
  }

  protected override stored(key: string): StoredValue | undefined {
    const written = this.#written(key)
    return written === undefined ? super.stored(key) : (written ?? undefined)
  }

  protected override storedExpiry(key: string): number | undefined {
    const written = this.#written(key)
    return written === undefined ? super.storedExpiry(key) : written?.expireAt
  }

  /** What the command made of a key: null when it is gone; undefined: nothing, so the store has it. */
  #written(key: string): StoredValue | null | undefined {
    if (key === this.#key) return this.#value ?? null
    if (this.#others.size > 0) {
      const written = this.#others.get(key)
      if (written !== undefined || this.#others.has(key)) return written ?? null
    }
    return this.#cleared ? null : undefined
  }

  #write(key: string, value: StoredValue | undefined): void {
    this.#touch()
    this.#key ??= key
    if (key === this.#key) this.#value = value
    else this.#others.set(key, value)
  }

  #apply(key: string, value: StoredValue | undefined): void {
    if (value === undefined) this.store.delete(this.index, key)
    else this.store.put(this.index, key, value)
  }

  *#writes(): Iterable<readonly [string, StoredValue | undefined]> {
    if (this.#key !== undefined) yield [this.#key, this.#value]
    yield* this.#others
  }

  #forget(): void {
    this.#key = undefined
    this.#value = undefined
    // Emptying a map makes it anew.
    if (this.#others.size > 0) this.#others.clear()
  }

  #touch(): void {
    if (this.#touched) return
    this.#touched = true
    this.running.touched.push(this)
  }
}
