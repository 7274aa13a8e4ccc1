/*
 * The engine port on LMDB: one directory per environment. Everything that lmdb-js needs to be told so that "durable"
 * is true stands here (no overlapping sync, binary keys and values, the outermost commit promise, directories
 * synced, a boot record before anything is believed), and nothing of it leaves this file and its worker. State
 * environments are written by a worker thread: the same commit on this thread would block the loop for hundreds of
 * milliseconds.
 */

import {
  existsSync,
  mkdirSync,
  promises,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs'
import { dirname, extname, join, resolve } from 'node:path'
import { Worker } from 'node:worker_threads'
import { type Database, open, type RootDatabase, type Transaction } from 'lmdb'
import { assert } from '../raft/assert.ts'
import type { CheckpointSummary } from './checkpoint.ts'
import { syncDirectory } from './directory.ts'
import {
  type Chunk,
  type ChunkSource,
  type Engine,
  type Environment,
  type EnvironmentView,
  KEY_BYTES_MAX,
  type LogEnvironment,
  type OnFatal,
  type Operation,
  type StateBuilder,
  type StateEnvironment,
  type StateStream,
  type Visitor,
} from './engine.ts'
import { readUint64, writeUint64 } from './integers.ts'
import { LmdbReads, SmallRecords } from './lmdb-reads.ts'
import { LmdbStateBuilder, LmdbStateStream } from './lmdb-streams.ts'
import { CorruptStateError } from './record.ts'
import type { ScrubPosition, ScrubStep } from './scrub.ts'
import { buffersOf, SLAB_BYTES, Slabs } from './slabs.ts'

/** What main and worker open an environment with: the flags must be equal, or the second opener gets the first's. */
export const LMDB_OPTIONS = {
  noSubdir: false,
  maxDbs: 64,
  encoding: 'binary',
  keyEncoding: 'binary',
  // The default shows data before it is flushed, and after a kill takes it for durable without flushing it.
  overlappingSync: false,
  // The thread that writes begins when a batch is complete, however long it is. Where it may overtake this one in the
  // middle, it can miss that there is more (lmdb-js writes without a barrier on x64), and looks again after a time that
  // it doubles with each look: under libfaketime, whose waits return at once, it never came back.
  batchStartThreshold: 1_000_000_000_000,
} as const

/** Main to worker: the path and databases come as workerData. The memory of the chunks is given away, and comes back. */
export type CheckpointRequest =
  | { readonly type: 'run'; readonly header: Uint8Array; readonly chunks: readonly Chunk[] }
  | { readonly type: 'scrub'; readonly from: ScrubPosition | undefined; readonly bytesMax: number }
  | { readonly type: 'close' }
export type CheckpointReply =
  | { readonly type: 'ready' }
  | {
      readonly type: 'done'
      readonly summary: CheckpointSummary
      readonly memory: readonly ArrayBuffer[]
    }
  | { readonly type: 'failed'; readonly reason: string }
  | ScrubReply
export type ScrubReply =
  | { readonly type: 'scrubbed'; readonly step: ScrubStep }
  | { readonly type: 'damaged'; readonly reason: string }
export interface CheckpointWorkerData {
  readonly path: string
  readonly databases: readonly string[]
}

const BOOT_DATABASE = 'boot'
const BOOT_KEY = Buffer.from('count')
const ENVIRONMENT_NAME = /^(log|state-[1-9][0-9]*)$/
/** LMDB's own reason for a failed commit comes a moment after the rejection; nobody waits longer for it. */
const REASON_WAIT_MS = 200
/** Free space below which nothing more is written: a commit also copies inner pages and the list of free ones. */
const FREE_BYTES_MIN = 1_048_576
const FREE_BYTES_PER_BYTE = 2
/** Memory of a checkpoint that is kept for the next one, in slabs: what a memtable of the default size needs. */
const SPARE_SLABS_MAX = 2

export class LmdbEngine implements Engine {
  readonly location: string
  readonly #onFatal: OnFatal
  #failed = false

  /** `directory` is made when it does not exist. */
  constructor(directory: string, onFatal: OnFatal) {
    this.location = resolve(directory)
    this.#onFatal = onFatal
  }

  list(): readonly string[] {
    if (!existsSync(this.location)) return []
    return readdirSync(this.location).filter((name) => ENVIRONMENT_NAME.test(name))
  }

  async openLog(name: string, databases: readonly string[]): Promise<LogEnvironment> {
    await this.#create(name, databases)
    return new LmdbLogEnvironment(this.#path(name), databases, this.#report)
  }

  async openState(name: string, databases: readonly string[]): Promise<StateEnvironment> {
    await this.#create(name, databases)
    const environment = new LmdbStateEnvironment(this.#path(name), databases, this.#report)
    await environment.ready()
    return environment
  }

  async buildState(name: string, databases: readonly string[]): Promise<StateBuilder> {
    const path = this.#path(name)
    await this.drop(name)
    await this.#create(name, databases)
    return LmdbStateBuilder.open(path, databases, this.#report, () => this.drop(name))
  }

  async drop(name: string): Promise<void> {
    // The directory itself is made by the first environment in it.
    if (!existsSync(this.location)) return
    // Off this thread: the blocks of a large file are not given back in a moment.
    await promises.rm(this.#path(name), { recursive: true, force: true })
    syncDirectory(this.location)
  }

  /**
   * Makes an environment that does not exist under another name first, and renames it when it is durable: LMDB begins
   * a file with pages that it does not flush, and crashes on one whose length survived a power cut without them.
   */
  async #create(name: string, databases: readonly string[]): Promise<void> {
    const path = this.#path(name)
    if (existsSync(path)) return
    const draft = `${path}.new`
    rmSync(draft, { recursive: true, force: true })
    const created = createDirectory(draft)
    const root = open<Buffer, Uint8Array>({ ...LMDB_OPTIONS, path: draft })
    for (const database of databases) root.openDB({ ...LMDB_OPTIONS, name: database })
    const boots = root.openDB<Buffer, Uint8Array>({ ...LMDB_OPTIONS, name: BOOT_DATABASE })
    root.transactionSync(() => boots.putSync(BOOT_KEY, Buffer.alloc(8)))
    await root.close()
    for (const directory of [draft, ...created]) syncDirectory(directory)
    renameSync(draft, path)
    syncDirectory(this.location)
  }

  #path(name: string): string {
    assert(ENVIRONMENT_NAME.test(name), () => `an environment cannot be called ${name}`)
    return join(this.location, name)
  }

  readonly #report: OnFatal = (reason) => {
    if (this.#failed) return
    this.#failed = true
    this.#onFatal(reason)
  }
}

/** What both kinds have in common: opening durably, and reading. */
class LmdbEnvironment implements Environment {
  protected readonly path: string
  protected readonly root: RootDatabase<Buffer, Uint8Array>
  protected readonly report: OnFatal
  /** Reads as of now. */
  protected readonly read: LmdbReads
  protected readonly small: SmallRecords = new SmallRecords((name) => this.database(name))
  readonly boots: number
  readonly #databases = new Map<string, Database<Buffer, Uint8Array>>()

  constructor(path: string, databases: readonly string[], report: OnFatal) {
    this.path = path
    this.report = report
    const created = createDirectory(path)
    this.root = open<Buffer, Uint8Array>({ ...LMDB_OPTIONS, path })
    for (const name of [BOOT_DATABASE, ...databases]) {
      this.#databases.set(name, this.root.openDB<Buffer, Uint8Array>({ ...LMDB_OPTIONS, name }))
    }
    this.read = this.reads(undefined)
    this.boots = this.#writeBootRecord()
    // After the first commit, so that the files it made are part of what is synced. The data directory and its own
    // name always are: whoever made them may have ended before it could do so.
    const data = dirname(path)
    for (const directory of new Set([path, data, dirname(data), ...created])) {
      syncDirectory(directory)
    }
  }

  get(database: string, key: Uint8Array): Uint8Array | undefined {
    return this.read.get(database, key)
  }

  has(database: string, key: Uint8Array): boolean {
    return this.read.has(database, key)
  }

  range(database: string, from: Uint8Array, visit: Visitor): void {
    this.read.range(database, from, visit)
  }

  keys(database: string, from: Uint8Array, visit: (key: Uint8Array) => boolean): void {
    this.read.keys(database, from, visit)
  }

  bytes(): number {
    return statSync(join(this.path, 'data.mdb')).size
  }

  usedBytes(): number {
    let bytes = 0
    for (const database of this.#databases.values()) bytes += pageBytes(database.getStats())
    return bytes
  }

  async close(): Promise<void> {
    await this.root.close()
  }

  /**
   * LMDB may overrun the memory of its own error text when a write fails for want of space, and then the process ends
   * without a reason in its log. So the end comes here, before that.
   */
  protected requireSpace(bytes: number): void {
    const missing = spaceMissing(statfsSync(this.path), bytes)
    if (missing === undefined) return
    const reason = `no space left for ${this.path}: ${missing}`
    this.report(reason)
    throw new Error(reason)
  }

  /** Reads within a transaction; as of now without one. */
  protected reads(transaction: Transaction | undefined): LmdbReads {
    const failed = (error: unknown): void =>
      this.report(`reading ${this.path} failed: ${reasonOf(error)}`)
    return new LmdbReads((name) => this.database(name), failed, transaction, this.small)
  }

  protected database(name: string): Database<Buffer, Uint8Array> {
    const database = this.#databases.get(name)
    assert(database !== undefined, () => `there is no database ${name} in ${this.path}`)
    return database
  }

  /** The first durable act: it flushes whatever the last process may have left visible but not durable. */
  #writeBootRecord(): number {
    const boots = this.database(BOOT_DATABASE)
    return this.root.transactionSync(() => {
      const last = boots.getBinary(BOOT_KEY)
      const count = last === undefined ? 1 : readUint64(last, 0) + 1
      const record = new Uint8Array(8)
      writeUint64(record, 0, count)
      boots.putSync(BOOT_KEY, Buffer.from(record))
      return count
    })
  }
}

class LmdbLogEnvironment extends LmdbEnvironment implements LogEnvironment {
  async commit(operations: readonly Operation[]): Promise<void> {
    let bytes = 0
    for (const operation of operations)
      if (operation.type === 'put') bytes += operation.value.length
    this.requireSpace(bytes)
    // Before the batch: what throws inside it would leave half of it to be committed.
    for (const operation of operations) this.#check(operation)
    let outcome: boolean
    try {
      // Only the promise of the batch tells of durability; those of its puts resolve at once.
      outcome = await this.root.batch(() => {
        for (const operation of operations) this.#enqueue(operation)
      })
    } catch (error) {
      const reason = `a commit to ${this.path} failed: ${await commitReason(error)}`
      this.report(reason)
      throw new Error(reason, { cause: error })
    }
    if (outcome === true) return
    const reason = `a commit to ${this.path} was not carried out`
    this.report(reason)
    throw new Error(reason)
  }

  #check(operation: Operation): void {
    this.database(operation.database)
    if (operation.type === 'clear') return
    const { length } = operation.key
    assert(length > 0 && length <= KEY_BYTES_MAX, () => `a key of ${length} bytes`)
    // lmdb-js would store a value on shared memory as wild memory, without an error.
    const shared = operation.type === 'put' && !(operation.value.buffer instanceof ArrayBuffer)
    assert(!shared, () => 'a value on shared memory')
  }

  #enqueue(operation: Operation): void {
    const database = this.database(operation.database)
    switch (operation.type) {
      case 'put':
        void database.put(operation.key, asBuffer(operation.value))
        return
      case 'remove':
        void database.remove(operation.key)
        return
      case 'clear':
        void database.clearAsync()
    }
  }
}

class LmdbStateEnvironment extends LmdbEnvironment implements StateEnvironment {
  readonly #names: readonly string[]
  readonly #worker: Worker
  readonly #exited: Promise<void>
  #waiting: { resolve(reply: CheckpointReply): void; reject(error: Error): void } | undefined
  #scrubbed: (reply: ScrubReply) => void = () => {}
  #checkpointing = false
  /** Memory of the last checkpoint: garbage of that size would lie about until two threads each collect theirs. */
  #spare: readonly ArrayBuffer[] = []
  #closing = false

  constructor(path: string, databases: readonly string[], report: OnFatal) {
    super(path, databases, report)
    this.#names = databases
    const workerData: CheckpointWorkerData = { path, databases }
    // The worker lies beside this file, compiled or not.
    const file = new URL(`./checkpoint-worker${extname(import.meta.url)}`, import.meta.url)
    this.#worker = new Worker(file, { workerData })
    this.#worker.on('message', (reply: CheckpointReply) => {
      if (reply.type === 'scrubbed' || reply.type === 'damaged') this.#scrubbed(reply)
      else this.#waiting?.resolve(reply)
    })
    this.#worker.on('error', (error) => this.#lost(reasonOf(error)))
    this.#exited = new Promise((done) => {
      this.#worker.once('exit', (code) => {
        if (!this.#closing) this.#lost(`exit code ${code}`)
        done()
      })
    })
  }

  async ready(): Promise<void> {
    const reply = await this.#answer()
    assert(reply.type === 'ready', () => `the worker began with ${reply.type}`)
  }

  async checkpoint(header: Uint8Array, source: ChunkSource): Promise<CheckpointSummary> {
    assert(!this.#checkpointing, () => 'two checkpoints at once')
    this.#checkpointing = true
    const memory = new Slabs(this.#spare)
    this.#spare = []
    const chunks: Chunk[] = []
    let bytes = 0
    for (const chunk of source(memory.take)) {
      bytes += chunk.length
      chunks.push(chunk)
      // Whatever else the loop has to do goes first: a chunk takes about a millisecond to fill.
      await new Promise<void>((next) => setImmediate(next))
    }
    this.requireSpace(bytes)
    const answer = this.#answer()
    this.#send({ type: 'run', header, chunks }, buffersOf(chunks))
    const reply = await answer
    if (reply.type !== 'done') {
      const what = reply.type === 'failed' ? reply.reason : reply.type
      const reason = `a checkpoint to ${this.path} failed: ${what}`
      this.report(reason)
      throw new Error(reason)
    }
    this.#checkpointing = false
    const slabs = reply.memory.filter(({ byteLength }) => byteLength === SLAB_BYTES)
    this.#spare = slabs.slice(0, SPARE_SLABS_MAX)
    return reply.summary
  }

  view(): EnvironmentView {
    return this.reads(this.root.useReadTransaction())
  }

  stream(chunkBytes: number): Promise<StateStream> {
    const databases = this.#names
    return LmdbStateStream.open({ path: this.path, databases, chunkBytes }, this.report)
  }

  scrub(from: ScrubPosition | undefined, bytesMax: number): Promise<ScrubStep> {
    return new Promise((resolve, reject) => {
      this.#scrubbed = (reply) => {
        if (reply.type === 'scrubbed') resolve(reply.step)
        else reject(new CorruptStateError(reply.reason))
      }
      this.#send({ type: 'scrub', from, bytesMax }, [])
    })
  }

  override async close(): Promise<void> {
    this.#closing = true
    this.#send({ type: 'close' }, [])
    await this.#exited
    await super.close()
  }

  #send(request: CheckpointRequest, transfer: ArrayBuffer[]): void {
    this.#worker.postMessage(request, transfer)
  }

  #answer(): Promise<CheckpointReply> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.#waiting = undefined
      }
      this.#waiting = {
        resolve: (reply) => {
          settle()
          // Until now this thread reads the state as it was; whoever hears of the commit must see it.
          this.root.resetReadTxn()
          this.small.forget()
          resolve(reply)
        },
        reject: (error) => {
          settle()
          reject(error)
        },
      }
    })
  }

  #lost(what: string): void {
    const reason = `the thread that writes ${this.path} ended: ${what}`
    this.report(reason)
    this.#waiting?.reject(new Error(reason))
  }
}

/** Why so many bytes should not be written to a file system; undefined when they may be. */
export function spaceMissing(
  { bavail, bsize }: { readonly bavail: number; readonly bsize: number },
  bytes: number,
): string | undefined {
  const free = bavail * bsize
  if (free >= FREE_BYTES_MIN + FREE_BYTES_PER_BYTE * bytes) return undefined
  return `${free} bytes are free, ${bytes} are to be written`
}

/** Makes the directory and its missing parents; returns those in which something new now stands. */
function createDirectory(path: string): string[] {
  const first = mkdirSync(path, { recursive: true })
  if (first === undefined) return []
  const changed: string[] = []
  for (let child = path; ; child = dirname(child)) {
    changed.push(dirname(child))
    if (child === first) return changed
  }
}

/**
 * Why a commit failed. lmdb-js rejects with a general error and puts the reason into a second promise, `commitError`,
 * whose rejection nobody else handles: it would end the process as an unhandled one.
 */
async function commitReason(error: unknown): Promise<string> {
  if (!(error instanceof Error) || !('commitError' in error)) return reasonOf(error)
  const detail = Promise.resolve(error.commitError).then(() => reasonOf(error), reasonOf)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((give) => {
    timer = setTimeout(() => give(reasonOf(error)), REASON_WAIT_MS)
  })
  const reason = await Promise.race([detail, late])
  clearTimeout(timer)
  return reason
}

/** lmdb-js declares no type for its statistics. */
function pageBytes(stats: object): number {
  const pages = ['treeBranchPageCount', 'treeLeafPageCount', 'overflowPages']
  const count = (name: string): number => Number(Reflect.get(stats, name) ?? 0)
  return pages.reduce((sum, name) => sum + count(name), 0) * count('pageSize')
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
