/*
 * The engine port on a simulated disk: ordered atomic commits that take time, and what LMDB was seen to do when
 * things go wrong (safety.md 4). What readers see may run ahead of what is flushed: always after a commit that was
 * rejected and yet is visible, and with `early` for every commit, as a badly opened environment does. A kill keeps
 * what is visible and moves no floor; a power cut keeps any prefix between the flushed and the visible. It knows no
 * Raft: environments, databases and batches only.
 */

import { assert } from '../../raft/assert.ts'
import type { Random } from '../../raft/ports.ts'
import { type CheckpointSummary, runCheckpoint } from '../../storage/checkpoint.ts'
import {
  type Chunk,
  type ChunkSource,
  type Engine,
  type EnvironmentView,
  KEY_BYTES_MAX,
  type LogEnvironment,
  type Operation,
  type Reads,
  type StateBuilder,
  type StateEnvironment,
  type StateStream,
  type Visitor,
  type WriteTransaction,
} from '../../storage/engine.ts'
import { readUint64, writeUint64 } from '../../storage/integers.ts'
import { CorruptStateError } from '../../storage/record.ts'
import { type ScrubPosition, type ScrubStep, scrubStep } from '../../storage/scrub.ts'
import { StateBuild } from '../../storage/state-build.ts'
import { StateStreamEncoder } from '../../storage/state-stream.ts'
import { type Databases, keyText, Table, type Undo, undo } from './disk-table.ts'

/** What the next commit to an environment does instead of its work. */
export type DiskFault =
  /** Rejected, and nothing of it is stored. */
  | 'rejected'
  /** Rejected for want of space, and nothing of it is stored. */
  | 'full'
  /** Rejected, but readers and the next process see it; only the next flush makes it durable. */
  | 'rejected-visible'
  /** Never settles; may be stored or not. */
  | 'hanging'

/** Where a kill met a checkpoint. */
export type CheckpointPhase = 'filling' | 'writing' | 'landed'

export interface DiskOptions {
  /** The directory: another disk that is put in its place has the same. */
  readonly location: string
  readonly random: Random
  /** How long a commit takes, drawn evenly, in ms. */
  readonly commitMs: { readonly min: number; readonly max: number }
  /** The same of a checkpoint. */
  readonly checkpointMs: { readonly min: number; readonly max: number }
  /** Commits become visible before they are flushed. Production opens its environments without this. */
  readonly early: boolean
  /** A commit that has not settled after so long ends the process: the watchdog's part, in ms. */
  readonly commitTimeoutMs: number
  /** The disk's own time; runs on whatever happens to the process. */
  readonly after: (ms: number, action: () => void) => void
  readonly events: DiskEvents
  /** A disk whose machine will never run again: this one holds what that one held, which then holds nothing. */
  readonly before?: SimDisk | undefined
}

export interface DiskEvents {
  /** The process must end. */
  fatal(reason: string): void
  /** A batch is visible from now on; called before it changes anything. */
  landing(environment: string, operations: readonly Operation[]): void
}

/** Runs an action in the process that uses the disk now, if it still lives by then. */
export type RunInProcess = (ms: number, action: () => void) => void

export const BOOT = 'boot'
const BOOT_KEY = Buffer.from('count')
/** How often a slow disk looks whether it still is. */
const PACE_MS = 50

export class SimDisk implements Engine {
  readonly location: string
  readonly options: DiskOptions
  /** Multiplies every latency: a disk that is slow for a while. */
  slowness = 1
  readonly #stored = new Map<string, Stored>()
  readonly #open = new Map<string, SimEnvironment>()
  /** undefined: it was killed, and whatever it still asks for is never answered. */
  #process: RunInProcess | undefined
  #fault: { environment: string; fault: DiskFault } | undefined

  constructor(options: DiskOptions) {
    this.location = options.location
    this.options = options
    const { before } = options
    if (before === undefined) return
    assert(before.#open.size === 0, () => 'a disk is taken from a process that runs')
    for (const [name, stored] of before.#stored) this.#stored.set(name, stored)
    before.#stored.clear()
  }

  /** A new process opens the disk; the last one was killed. */
  attach(process: RunInProcess): void {
    assert(this.#open.size === 0, () => 'two processes on one disk')
    this.#process = process
  }

  list(): readonly string[] {
    return [...this.#stored.keys()]
  }

  async drop(name: string): Promise<void> {
    if (this.#process === undefined) return never()
    assert(!this.#open.has(name), () => `${name} is open`)
    this.#stored.delete(name)
  }

  openLog(name: string, databases: readonly string[]): Promise<LogEnvironment> {
    return this.#openEnvironment(name, databases)
  }

  openState(name: string, databases: readonly string[]): Promise<StateEnvironment> {
    return this.#openEnvironment(name, databases)
  }

  /** The environment that is being built from a stream; undefined: none is. */
  building: string | undefined

  /** Each chunk is a commit of its own, so a crash leaves any part of it. */
  async buildState(name: string, databases: readonly string[]): Promise<StateBuilder> {
    await this.drop(name)
    if (this.#process === undefined) return never()
    this.building = name
    const environment = this.#create(name, databases)
    let operations: Operation[] = []
    const build = new StateBuild(databases, (database, key, value) => {
      operations.push({ type: 'put', database, key: key.slice(), value: value.slice() })
    })
    const commit = (): Promise<void> => {
      const taken = operations
      operations = []
      return environment.commit(taken)
    }
    return {
      add: async (chunk) => {
        build.add(chunk)
        await commit()
      },
      finish: async () => {
        build.finish()
        await commit()
        this.building = undefined
        await environment.close()
      },
      abort: async () => {
        this.building = undefined
        await environment.close()
        await this.drop(name)
      },
    }
  }

  /** The next commit to an environment whose name begins so meets this fault. */
  inject(environment: string, fault: DiskFault): void {
    this.#fault = { environment, fault }
  }

  clearFault(): void {
    this.#fault = undefined
  }

  /** kill -9: what is visible stays; of a batch under way either all or nothing has landed. */
  kill(): void {
    this.#fault = undefined
    this.building = undefined
    for (const environment of this.#open.values()) environment.kill()
    this.#open.clear()
    this.#process = undefined
  }

  /** The power fails, after a kill: of what was not flushed any number of last batches is gone. */
  cutPower(): number {
    assert(this.#open.size === 0, () => 'the process must die first')
    let lost = 0
    for (const stored of this.#stored.values()) {
      const kept = Math.floor(this.options.random() * (stored.unflushed.length + 1))
      lost += stored.unflushed.length - kept
      for (const batch of stored.unflushed.splice(kept).reverse()) undo(batch)
      stored.unflushed = []
    }
    return lost
  }

  /** Where a checkpoint stands; undefined when none is under way. */
  get checkpointPhase(): CheckpointPhase | undefined {
    for (const environment of this.#open.values()) {
      if (environment.phase !== undefined) return environment.phase
    }
    return undefined
  }

  /** Batches that readers see and that a power cut may take away. */
  get unflushed(): number {
    return [...this.#stored.values()].reduce((sum, { unflushed }) => sum + unflushed.length, 0)
  }

  /** The value as a power cut would leave it at worst. */
  durable(environment: string, database: string, key: Uint8Array): Uint8Array | undefined {
    const stored = this.#stored.get(environment)
    const table = stored?.databases.get(database)
    if (stored === undefined || table === undefined) return undefined
    return table.durableValue(keyText(key), stored.unflushed)
  }

  /** The same as it was written: a bit that was flipped afterwards takes nothing back that was said of it. */
  written(environment: string, database: string, key: Uint8Array): Uint8Array | undefined {
    const stored = this.#stored.get(environment)
    return stored?.databases.get(database)?.writtenValue(keyText(key), stored.unflushed)
  }

  /** The value as readers see it. */
  stored(environment: string, database: string, key: Uint8Array): Uint8Array | undefined {
    return this.#stored.get(environment)?.databases.get(database)?.get(keyText(key))
  }

  /** Turns one bit of one record somewhere, or of an entry of the log; undefined: there is nothing. */
  flip(where: 'anywhere' | 'log' = 'anywhere'): string | undefined {
    const { random } = this.options
    const places = [...this.#stored].flatMap(([name, { databases }]) =>
      [...databases].flatMap(([database, table]) =>
        database === BOOT || table.count === 0 ? [] : [{ name, database, table }],
      ),
    )
    // An entry of the log is one record of many, and yet the one that every other node may be sent.
    const entries = places.find(({ name, database }) => name === 'log' && database === 'log')
    const anywhere = places[Math.floor(random() * places.length)]
    const isOfEntry = random() < 0.3 || where === 'log'
    const place = isOfEntry ? (entries ?? anywhere) : anywhere
    if (place === undefined) return undefined
    const key = place.table.flip(random)
    return `${place.name}/${place.database}/${Buffer.from(key, 'latin1').toString('hex')}`
  }

  #openEnvironment(name: string, databases: readonly string[]): Promise<SimEnvironment> {
    return this.#process === undefined ? never() : this.#create(name, databases).boot()
  }

  #create(name: string, databases: readonly string[]): SimEnvironment {
    assert(!this.#open.has(name), () => `${name} is open already`)
    const process = this.#process
    assert(process !== undefined, () => `a process that was killed opens ${name}`)
    const stored = this.#stored.get(name) ?? { databases: new Map(), unflushed: [] }
    this.#stored.set(name, stored)
    for (const database of [BOOT, ...databases]) {
      if (!stored.databases.has(database)) stored.databases.set(database, new Table())
    }
    const environment = new SimEnvironment(name, stored, {
      options: this.options,
      latency: (range) => this.#latency(range),
      slowness: () => this.slowness,
      takeFault: () => this.#takeFault(name),
      process,
      closed: () => this.#open.delete(name),
    })
    this.#open.set(name, environment)
    return environment
  }

  #latency({ min, max }: { readonly min: number; readonly max: number }): number {
    return min + this.options.random() * (max - min)
  }

  #takeFault(name: string): DiskFault | undefined {
    const pending = this.#fault
    if (pending === undefined || !name.startsWith(pending.environment)) return undefined
    this.#fault = undefined
    return pending.fault
  }
}

function never(): Promise<never> {
  return new Promise(() => {})
}

/** One environment on the platters: what readers see, and how to undo what is not flushed, oldest first. */
interface Stored {
  readonly databases: Databases
  unflushed: Undo[]
}

interface Hooks {
  readonly options: DiskOptions
  readonly latency: (range: { readonly min: number; readonly max: number }) => number
  readonly slowness: () => number
  readonly takeFault: () => DiskFault | undefined
  readonly process: RunInProcess
  readonly closed: () => void
}

/** A write under way: a batch of operations, or a checkpoint. */
interface Write {
  readonly range: { readonly min: number; readonly max: number }
  readonly checkpoint: boolean
  /** Makes it visible; the way back is kept. Throws what must end the process. */
  land(): Undo
  done(): void
  failed(error: unknown): void
}

/** Reads of databases, for as long as their owner lives. */
class SimReads implements Reads {
  protected readonly table: (name: string) => Table

  constructor(table: (name: string) => Table) {
    this.table = table
  }

  get(database: string, key: Uint8Array): Uint8Array | undefined {
    return this.table(database).get(checkedKey(key))?.slice()
  }

  has(database: string, key: Uint8Array): boolean {
    return this.table(database).get(checkedKey(key)) !== undefined
  }

  range(database: string, from: Uint8Array, visit: Visitor): void {
    for (const [key, value] of this.table(database).from(checkedKey(from))) {
      if (!visit(Buffer.from(key, 'latin1'), value.slice())) return
    }
  }

  keys(database: string, from: Uint8Array, visit: (key: Uint8Array) => boolean): void {
    this.range(database, from, visit)
  }
}

class SimView extends SimReads implements EnvironmentView {
  release(): void {}
}

class SimEnvironment extends SimReads implements LogEnvironment, StateEnvironment {
  readonly #name: string
  readonly #stored: Stored
  readonly #hooks: Hooks
  #alive = true
  #queue: Write[] = []
  /** The head of the queue is visible already. */
  #landed = false
  #checkpointing = false
  phase: CheckpointPhase | undefined
  boots = 0

  constructor(name: string, stored: Stored, hooks: Hooks) {
    super((database) => {
      assert(this.#alive, () => `${name} is not open any more`)
      return tableOf(stored.databases, database)
    })
    this.#name = name
    this.#stored = stored
    this.#hooks = hooks
  }

  /** The boot record: a flushed commit, which flushes whatever the last process left visible. */
  async boot(): Promise<this> {
    const last = this.table(BOOT).get(keyText(BOOT_KEY))
    this.boots = last === undefined ? 1 : readUint64(last, 0) + 1
    const value = new Uint8Array(8)
    writeUint64(value, 0, this.boots)
    await this.commit([{ type: 'put', database: BOOT, key: BOOT_KEY, value }])
    return this
  }

  view(): EnvironmentView {
    const copies = new Map([...this.#stored.databases].map(([name, table]) => [name, table.copy()]))
    return new SimView((name) => {
      assert(this.#alive, () => `${this.#name} is not open any more`)
      return tableOf(copies, name)
    })
  }

  async stream(chunkBytes: number): Promise<StateStream> {
    const databases = [...this.#stored.databases.keys()].filter((name) => name !== BOOT)
    const encoder = new StateStreamEncoder(this.view(), databases, chunkBytes)
    const next = (): Promise<Chunk | undefined> =>
      new Promise((resolve) => this.#inProcess(0.1, () => resolve(encoder.next())))
    return { next, close: async () => {} }
  }

  scrub(from: ScrubPosition | undefined, bytesMax: number): Promise<ScrubStep> {
    return new Promise((resolve, reject) => {
      this.#inProcess(0.1, () => {
        try {
          resolve(scrubStep(this, from, bytesMax))
        } catch (error) {
          reject(error)
        }
      })
    })
  }

  usedBytes(): number {
    return this.bytes()
  }

  bytes(): number {
    let bytes = 0
    for (const table of this.#stored.databases.values()) bytes += table.bytes
    return bytes
  }

  commit(operations: readonly Operation[]): Promise<void> {
    for (const operation of operations) this.table(operation.database)
    return new Promise((resolve, reject) => {
      this.#enqueue({
        range: this.#hooks.options.commitMs,
        checkpoint: false,
        land: () => this.#apply(operations),
        done: resolve,
        failed: reject,
      })
    })
  }

  async checkpoint(header: Uint8Array, chunks: ChunkSource): Promise<CheckpointSummary> {
    assert(!this.#checkpointing, () => 'two checkpoints at once')
    this.#checkpointing = true
    this.phase = 'filling'
    const taken: Chunk[] = []
    for (const chunk of chunks((bytes) => new Uint8Array(bytes))) {
      taken.push(chunk)
      await new Promise<void>((next) => this.#hooks.process(1, next))
    }
    this.phase = 'writing'
    const summary = await new Promise<CheckpointSummary>((resolve, reject) => {
      let result: CheckpointSummary | undefined
      this.#enqueue({
        range: this.#hooks.options.checkpointMs,
        checkpoint: true,
        land: () => {
          const transaction = new SimTransaction(this.#stored.databases)
          try {
            result = runCheckpoint(transaction, header, taken)
          } catch (error) {
            undo(transaction.undo)
            throw error
          }
          return transaction.undo
        },
        done: () => {
          if (result !== undefined) resolve(result)
        },
        failed: reject,
      })
    })
    this.#checkpointing = false
    this.phase = undefined
    return summary
  }

  async close(): Promise<void> {
    if (this.#alive) this.#hooks.closed()
    this.#alive = false
  }

  kill(): void {
    this.#alive = false
    const [head] = this.#queue
    this.#queue = []
    if (head === undefined || this.#landed || this.#hooks.options.random() < 0.6) return
    // It had reached the platters when the process died, but nobody was told.
    this.#keep(head, this.#hooks.options.early ? 'visible' : 'flushed')
  }

  #enqueue(write: Write): void {
    this.#queue.push(write)
    if (this.#queue.length === 1) this.#begin()
  }

  #begin(): void {
    const [write] = this.#queue
    if (write === undefined) return
    this.#landed = false
    const { options, latency, takeFault } = this.#hooks
    const fault = takeFault()
    const ms = latency(write.range)
    if (fault === undefined) {
      const settle = (): void => this.#flushed(write)
      if (options.early) {
        this.#work(ms / 3, () => this.#keep(write, 'visible') && this.#work(ms, settle))
      } else this.#work(ms, () => this.#keep(write, 'flushed') && settle())
      return
    }
    const kept = fault === 'rejected-visible' || (fault === 'hanging' && options.random() < 0.5)
    this.#work(ms, () => {
      if (kept && !this.#keep(write, 'visible')) return
      if (fault !== 'hanging') this.#fail(write, new Error(`a commit to ${this.#name}: ${fault}`))
    })
    if (fault !== 'hanging') return
    this.#later(options.commitTimeoutMs, () => {
      options.events.fatal(`a commit to ${this.#name} did not settle in time`)
    })
  }

  /** Visible to the readers from now on. False: the write itself failed, and has said so. */
  #keep(write: Write, how: 'visible' | 'flushed'): boolean {
    let batch: Undo
    try {
      batch = write.land()
    } catch (error) {
      // A checkpoint that finds a damaged record ends the process; anything else is a bug.
      if (!(error instanceof CorruptStateError)) throw error
      this.#fail(write, error)
      return false
    }
    this.#landed = true
    if (write.checkpoint && this.phase !== undefined) this.phase = 'landed'
    // Flushing is of the whole file: what came before is flushed with it.
    if (how === 'flushed') this.#stored.unflushed = []
    else this.#stored.unflushed.push(batch)
    return true
  }

  #flushed(write: Write): void {
    this.#stored.unflushed = []
    this.#inProcess(this.#hooks.latency(write.range) / 4, () => {
      this.#queue.shift()
      write.done()
      this.#begin()
    })
  }

  #fail(write: Write, error: unknown): void {
    this.#inProcess(0, () => {
      this.#hooks.options.events.fatal(String(error))
      write.failed(error)
      // Whoever goes on all the same finds a disk that takes commits again, as LMDB does.
      this.#queue.shift()
      this.#begin()
    })
  }

  #apply(operations: readonly Operation[]): Undo {
    this.#hooks.options.events.landing(this.#name, operations)
    const transaction = new SimTransaction(this.#stored.databases)
    for (const operation of operations) {
      const { database } = operation
      if (operation.type === 'clear') transaction.clear(database)
      else if (operation.type === 'remove') transaction.remove(database, operation.key)
      else transaction.put(database, operation.key, operation.value)
    }
    return transaction.undo
  }

  /** What takes `ms` when the disk is not slow; it goes on at the pace that the disk has by then. */
  #work(ms: number, action: () => void): void {
    const slowness = this.#hooks.slowness()
    const step = Math.min(ms * slowness, PACE_MS)
    const left = ms - step / slowness
    this.#later(step, () => {
      if (left > 0.001) this.#work(left, action)
      else action()
    })
  }

  #later(ms: number, action: () => void): void {
    this.#hooks.options.after(ms, () => {
      if (this.#alive) action()
    })
  }

  #inProcess(ms: number, action: () => void): void {
    this.#hooks.process(ms, () => {
      if (this.#alive) action()
    })
  }
}

/** Writes through to the tables, and knows the way back. */
class SimTransaction implements WriteTransaction {
  readonly undo: Undo = []
  readonly #databases: Databases

  constructor(databases: Databases) {
    this.#databases = databases
  }

  get(database: string, key: Uint8Array): Uint8Array | undefined {
    return tableOf(this.#databases, database).get(checkedKey(key))
  }

  put(database: string, key: Uint8Array, value: Uint8Array): void {
    this.#set(tableOf(this.#databases, database), checkedKey(key), Uint8Array.from(value))
  }

  remove(database: string, key: Uint8Array): void {
    this.#set(tableOf(this.#databases, database), checkedKey(key), undefined)
  }

  clear(database: string): void {
    const table = tableOf(this.#databases, database)
    for (const [key] of [...table.from('')]) this.#set(table, key, undefined)
  }

  #set(table: Table, key: string, value: Uint8Array | undefined): void {
    this.undo.push({ table, key, value: table.get(key) })
    table.set(key, value)
  }
}

function tableOf(databases: Databases, name: string): Table {
  const table = databases.get(name)
  assert(table !== undefined, () => `there is no database ${name}`)
  return table
}

function checkedKey(key: Uint8Array): string {
  assert(key.length > 0 && key.length <= KEY_BYTES_MAX, () => `a key of ${key.length} bytes`)
  return keyText(key)
}
