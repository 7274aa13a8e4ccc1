/*
 * The databases as handlers see them: what is due by the command's clock does not exist, and what a write handler
 * writes is held back until its whole command has succeeded. One set of views serves every command, so that a
 * command allocates nothing for them. They know the state store and no command.
 */

import { assert } from '../raft/assert.ts'
import type { StateStore, StoredValue } from '../storage/state-store.ts'
import type { Database, ReadonlyDatabase, Version } from './commands/command.ts'
import { DATABASES } from './session.ts'

/** The part of the state store that handlers reach. */
export type ViewedStore = Pick<StateStore, 'get' | 'put' | 'delete' | 'clear' | 'size'>

/** When a command runs, in ms of the logical clock. */
export interface Moment {
  /** The clock that the command sees: whatever is due by it is gone. */
  readonly now: number
  /**
   * The clock of the entries applied. A key that is due by `now` only may be hidden by no linearizable read, because
   * no entry says so yet: another node, or the next leader, might still show it. undefined: hide it all the same.
   */
  readonly applied: number | undefined
}

/** A read met a key that is due by its clock but not yet by an entry's: it must run again when one has been applied. */
export class ClockBehind {
  /** The clock that must be applied first. */
  readonly needed: number

  constructor(needed: number) {
    this.needed = needed
  }
}

/** What the views of all databases share while one command runs. */
interface Running {
  moment: Moment
  version: Version
  /** The error in flight came from the store: a fault of this node, never a reply. */
  storeFailed: boolean
  /** Databases with writes of this command, in the order of the first ones. */
  readonly touched: Overlay[]
}

function newRunning(): Running {
  return { moment: { now: 0, applied: undefined }, version: 0, storeFailed: false, touched: [] }
}

/** The databases for read handlers. */
export class Views {
  readonly #running = newRunning()
  readonly #views: readonly View[]

  constructor(store: ViewedStore) {
    this.#views = everyDatabase((index, views) => new View(store, this.#running, index, views))
  }

  get storeFailed(): boolean {
    return this.#running.storeFailed
  }

  /** The database in which a read begins. */
  begin(database: number, moment: Moment): ReadonlyDatabase {
    this.#running.moment = moment
    return numbered(this.#views, database)
  }
}

/** The databases for write handlers. */
export class Overlays {
  readonly #running = newRunning()
  readonly #overlays: readonly Overlay[]

  constructor(store: ViewedStore) {
    this.#overlays = everyDatabase(
      (index, overlays) => new Overlay(store, this.#running, index, overlays),
    )
  }

  get storeFailed(): boolean {
    return this.#running.storeFailed
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
    const { touched } = this.#running
    for (const overlay of touched) overlay.commit()
    touched.length = 0
  }

  /** Forgets the command's writes. */
  drop(): void {
    const { touched } = this.#running
    for (const overlay of touched) overlay.drop()
    touched.length = 0
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

class View implements ReadonlyDatabase {
  readonly index: number
  protected readonly store: ViewedStore
  protected readonly running: Running
  readonly #all: readonly View[]

  constructor(store: ViewedStore, running: Running, index: number, all: readonly View[]) {
    this.store = store
    this.running = running
    this.index = index
    this.#all = all
  }

  get now(): number {
    return this.running.moment.now
  }

  database(index: number): ReadonlyDatabase {
    return numbered(this.#all, index)
  }

  get(key: string): StoredValue | undefined {
    const value = this.stored(key)
    if (value === undefined || value.expireAt === 0) return value
    const { now, applied } = this.running.moment
    if (value.expireAt > now) return value
    if (applied !== undefined && value.expireAt > applied) throw new ClockBehind(value.expireAt)
    return undefined
  }

  versionOf(key: string): Version {
    return this.get(key)?.version ?? 0
  }

  size(): number {
    return this.store.size(this.index)
  }

  /** What the store has of a key, due or not. */
  protected stored(key: string): StoredValue | undefined {
    try {
      return this.store.get(this.index, key)
    } catch (error) {
      this.running.storeFailed = true
      throw error
    }
  }
}

class Overlay extends View implements Database {
  /** undefined: deleted. */
  readonly #writes = new Map<string, StoredValue | undefined>()
  #cleared = false
  #touched = false
  readonly #all: readonly Overlay[]

  constructor(store: ViewedStore, running: Running, index: number, all: readonly Overlay[]) {
    super(store, running, index, all)
    this.#all = all
  }

  override database(index: number): Database {
    return numbered(this.#all, index)
  }

  override size(): number {
    let size = this.#cleared ? 0 : super.size()
    for (const [key, value] of this.#writes) {
      const before = this.#cleared ? undefined : super.stored(key)
      size += (value === undefined ? 0 : 1) - (before === undefined ? 0 : 1)
    }
    return size
  }

  put(key: string, value: Uint8Array, expireAt = 0): void {
    this.#touch()
    this.#writes.set(key, { type: 'string', expireAt, version: this.running.version, value })
  }

  delete(key: string): boolean {
    if (this.get(key) === undefined) return false
    this.#touch()
    this.#writes.set(key, undefined)
    return true
  }

  clear(): void {
    this.#touch()
    this.#writes.clear()
    this.#cleared = true
  }

  clearAll(): void {
    for (const overlay of this.#all) if (overlay.size() > 0) overlay.clear()
  }

  commit(): void {
    const { store, index } = this
    if (this.#cleared) store.clear(index)
    for (const [key, value] of this.#writes) {
      if (value === undefined) store.delete(index, key)
      else store.put(index, key, value)
    }
    this.drop()
  }

  drop(): void {
    this.#writes.clear()
    this.#cleared = false
    this.#touched = false
  }

  protected override stored(key: string): StoredValue | undefined {
    const written = this.#writes.get(key)
    if (written !== undefined || this.#cleared || this.#writes.has(key)) return written
    return super.stored(key)
  }

  #touch(): void {
    if (this.#touched) return
    this.#touched = true
    this.running.touched.push(this)
  }
}
