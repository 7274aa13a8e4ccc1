/*
 * The engine port in memory, with the failures a test wants: it is a disk, so environments closed and opened again
 * hold what was durable. Commits can be held back (nothing is visible, nothing resolves), fail, or be lost in a
 * crash; bytes can be changed behind the stores' backs. It is strict where LMDB is forgiving or undefined: a value
 * changed while it was borrowed, a key out of bounds, a use after close are assertions.
 */

import { assert } from '../../raft/assert.ts'
import { type CheckpointSummary, runCheckpoint } from '../../storage/checkpoint.ts'
import {
  type Chunk,
  type ChunkSource,
  type Engine,
  type EnvironmentView,
  KEY_BYTES_MAX,
  type LogEnvironment,
  type OnFatal,
  type Operation,
  type StateBuilder,
  type StateEnvironment,
  type StateStream,
  type Visitor,
  type WriteTransaction,
} from '../../storage/engine.ts'
import { type ScrubPosition, type ScrubStep, scrubStep } from '../../storage/scrub.ts'
import { StateBuild } from '../../storage/state-build.ts'
import { StateStreamEncoder } from '../../storage/state-stream.ts'

export class MemoryEngine implements Engine {
  readonly location = 'memory'
  readonly #disks = new Map<string, Databases>()
  readonly #open = new Map<string, MemoryEnvironment>()
  readonly #boots = new Map<string, number>()
  readonly #onFatal: OnFatal
  #held: (() => void)[] | undefined
  #failure: string | undefined

  constructor(onFatal: OnFatal = () => {}) {
    this.#onFatal = onFatal
  }

  list(): readonly string[] {
    return [...this.#disks.keys()]
  }

  async openLog(name: string, databases: readonly string[]): Promise<LogEnvironment> {
    return this.#openEnvironment(name, databases)
  }

  async openState(name: string, databases: readonly string[]): Promise<StateEnvironment> {
    return this.#openEnvironment(name, databases)
  }

  async buildState(name: string, databases: readonly string[]): Promise<StateBuilder> {
    await this.drop(name)
    const environment = this.#openEnvironment(name, databases)
    return new MemoryBuilder(environment, databases, () => this.drop(name))
  }

  async drop(name: string): Promise<void> {
    assert(!this.#open.has(name), () => `${name} is open`)
    this.#disks.delete(name)
  }

  /** From now on commits and checkpoints wait for releaseCommits(). */
  holdCommits(): void {
    this.#held ??= []
  }

  /** Lets the held ones become durable, in their order; resolves when all their promises have. */
  async releaseCommits(): Promise<void> {
    const held = this.#held ?? []
    this.#held = undefined
    for (const proceed of held) proceed()
    await settled()
  }

  /** How many commits and checkpoints wait. */
  get heldCommits(): number {
    return this.#held?.length ?? 0
  }

  /** From now on every commit and checkpoint is rejected with this reason, and changes nothing. */
  failCommits(reason: string): void {
    this.#failure = reason
  }

  /** The process dies: open environments are dead, held commits lost. What was durable can be opened again. */
  crash(): void {
    this.#held = undefined
    for (const environment of this.#open.values()) environment.kill()
    this.#open.clear()
  }

  /** Changes one stored value behind everyone's back; `value` undefined removes it. */
  tamper(name: string, database: string, key: Uint8Array, value: Uint8Array | undefined): void {
    const table = this.#disks.get(name)?.get(database)
    assert(table !== undefined, () => `no ${database} in ${name}`)
    if (value === undefined) table.remove(keyText(key))
    else table.put(keyText(key), Uint8Array.from(value))
  }

  #openEnvironment(name: string, databases: readonly string[]): MemoryEnvironment {
    assert(!this.#open.has(name), () => `${name} is open already`)
    const disk = this.#disks.get(name) ?? new Map<string, Table>()
    this.#disks.set(name, disk)
    for (const database of databases) {
      if (!disk.has(database)) disk.set(database, new Table())
    }
    const boots = (this.#boots.get(name) ?? 0) + 1
    this.#boots.set(name, boots)
    const environment = new MemoryEnvironment(boots, disk, {
      gate: () => this.#gate(),
      fatal: (reason) => this.#onFatal(reason),
      closed: () => this.#open.delete(name),
    })
    this.#open.set(name, environment)
    return environment
  }

  /** Passed by every commit at the moment at which it becomes durable. */
  async #gate(): Promise<void> {
    const held = this.#held
    if (held !== undefined) await new Promise<void>((proceed) => held.push(proceed))
    if (this.#failure === undefined) return
    this.#onFatal(this.#failure)
    throw new Error(this.#failure)
  }
}

type Databases = Map<string, Table>

interface Hooks {
  gate(): Promise<void>
  fatal(reason: string): void
  closed(): void
}

/** One database: values by key, and the keys in order. */
class Table {
  readonly #values = new Map<string, Uint8Array>()
  #sorted: string[] = []

  get(key: string): Uint8Array | undefined {
    return this.#values.get(key)
  }

  put(key: string, value: Uint8Array): void {
    if (!this.#values.has(key)) this.#sorted.splice(this.rank(key), 0, key)
    this.#values.set(key, value)
  }

  remove(key: string): void {
    if (this.#values.delete(key)) this.#sorted.splice(this.rank(key), 1)
  }

  clear(): void {
    this.#values.clear()
    this.#sorted = []
  }

  /** The number of keys before `key`. */
  rank(key: string): number {
    let low = 0
    let high = this.#sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#sorted[middle] ?? '') < key) low = middle + 1
      else high = middle
    }
    return low
  }

  *from(key: string): Generator<[string, Uint8Array], void> {
    for (let i = this.rank(key); i < this.#sorted.length; i++) {
      const found = this.#sorted[i] ?? ''
      yield [found, this.#values.get(found) ?? new Uint8Array(0)]
    }
  }

  bytes(): number {
    let bytes = 0
    for (const [key, value] of this.#values) bytes += key.length + value.length
    return bytes
  }

  copy(): Table {
    const copy = new Table()
    for (const [key, value] of this.#values) copy.#values.set(key, value)
    copy.#sorted = [...this.#sorted]
    return copy
  }

  assign(other: Table): void {
    this.#values.clear()
    for (const [key, value] of other.#values) this.#values.set(key, value)
    this.#sorted = other.#sorted
  }
}

class MemoryEnvironment implements LogEnvironment, StateEnvironment, EnvironmentView {
  readonly boots: number
  readonly #databases: Databases
  readonly #hooks: Hooks
  readonly #views = new Set<MemoryEnvironment>()
  #state: 'open' | 'closed' | 'dead' = 'open'
  #visiting = false
  #last: Promise<unknown> = Promise.resolve()
  #checkpointing = false

  constructor(boots: number, databases: Databases, hooks: Hooks) {
    this.boots = boots
    this.#databases = databases
    this.#hooks = hooks
  }

  get(database: string, key: Uint8Array): Uint8Array | undefined {
    const value = this.#table(database).get(checkedKey(key))
    return value && Uint8Array.from(value)
  }

  has(database: string, key: Uint8Array): boolean {
    return this.#table(database).get(checkedKey(key)) !== undefined
  }

  range(database: string, from: Uint8Array, visit: Visitor): void {
    const pairs = this.#table(database).from(checkedKey(from))
    this.#visiting = true
    try {
      for (const [key, value] of pairs) {
        if (!visit(Buffer.from(key, 'latin1'), Uint8Array.from(value))) return
      }
    } finally {
      this.#visiting = false
    }
  }

  keys(database: string, from: Uint8Array, visit: (key: Uint8Array) => boolean): void {
    this.range(database, from, visit)
  }

  view(): EnvironmentView {
    const copies = new Map([...this.#databases].map(([name, table]) => [name, table.copy()]))
    const view = new MemoryEnvironment(this.boots, copies, {
      ...this.#hooks,
      closed: () => this.#views.delete(view),
    })
    this.#views.add(view)
    return view
  }

  async scrub(from: ScrubPosition | undefined, bytesMax: number): Promise<ScrubStep> {
    return scrubStep(this, from, bytesMax)
  }

  async stream(chunkBytes: number): Promise<StateStream> {
    const view = this.view()
    const databases = [...this.#databases.keys()]
    const encoder = new StateStreamEncoder(view, databases, chunkBytes)
    return { next: async () => encoder.next(), close: async () => view.release() }
  }

  release(): void {
    assert(this.#state !== 'closed', () => 'released twice')
    this.#state = 'closed'
    this.#hooks.closed()
  }

  bytes(): number {
    return [...this.#databases.values()].reduce((sum, table) => sum + table.bytes(), 0)
  }

  usedBytes(): number {
    return this.bytes()
  }

  commit(operations: readonly Operation[]): Promise<void> {
    assert(!this.#visiting, () => 'a commit within a range')
    const writes = operations.map((operation) => new BorrowedWrite(operation))
    for (const { operation } of writes) this.#table(operation.database)
    return this.#inOrder(() => {
      for (const write of writes) write.apply(this.#table(write.operation.database))
    })
  }

  checkpoint(header: Uint8Array, chunks: ChunkSource): Promise<CheckpointSummary> {
    assert(!this.#checkpointing, () => 'two checkpoints at once')
    this.#checkpointing = true
    // Given away for good, as to another thread: whoever still reads a chunk finds it empty.
    const taken: Chunk[] = []
    for (const chunk of chunks((bytes) => new Uint8Array(bytes))) {
      taken.push(structuredClone(chunk, { transfer: [chunk.buffer] }))
    }
    return this.#inOrder(() => {
      const copies = new Map([...this.#databases].map(([name, table]) => [name, table.copy()]))
      const summary = this.#run(copies, header, taken)
      for (const [name, table] of copies) this.#table(name).assign(table)
      this.#checkpointing = false
      return summary
    })
  }

  #run(copies: Databases, header: Uint8Array, chunks: readonly Chunk[]): CheckpointSummary {
    try {
      return runCheckpoint(new MemoryTransaction(copies), header, chunks)
    } catch (error) {
      this.#hooks.fatal(`a checkpoint failed: ${error}`)
      throw error
    }
  }

  async close(): Promise<void> {
    assert(this.#views.size === 0, () => 'closed with an open view')
    await this.#last.catch(() => {})
    if (this.#state === 'open') this.#hooks.closed()
    this.#state = 'closed'
  }

  /** Its commits never settle, its reads throw: nothing of it reaches the disk any more. */
  kill(): void {
    this.#state = 'dead'
  }

  /** One after the other, each behind the engine's gate, and never synchronously. */
  #inOrder<Result>(write: () => Result): Promise<Result> {
    const turn = this.#last.then(() => this.#hooks.gate())
    const result = turn.then(() => {
      if (this.#state === 'dead') return new Promise<never>(() => {})
      return write()
    })
    this.#last = result
    return result
  }

  #table(database: string): Table {
    assert(this.#state === 'open', () => `the environment is ${this.#state}`)
    const table = this.#databases.get(database)
    assert(table !== undefined, () => `there is no database ${database}`)
    return table
  }
}

/** Commits each chunk as it comes, so that what was begun is there after a crash. */
class MemoryBuilder implements StateBuilder {
  readonly #environment: MemoryEnvironment
  readonly #drop: () => Promise<void>
  readonly #build: StateBuild
  #operations: Operation[] = []

  constructor(
    environment: MemoryEnvironment,
    databases: readonly string[],
    drop: () => Promise<void>,
  ) {
    this.#environment = environment
    this.#drop = drop
    this.#build = new StateBuild(databases, (database, key, value) => {
      const copies = { key: Uint8Array.from(key), value: Uint8Array.from(value) }
      this.#operations.push({ type: 'put', database, ...copies })
    })
  }

  async add(chunk: Chunk): Promise<void> {
    this.#build.add(structuredClone(chunk, { transfer: [chunk.buffer] }))
    await this.#commit()
  }

  async finish(): Promise<void> {
    this.#build.finish()
    await this.#commit()
    await this.#environment.close()
  }

  async abort(): Promise<void> {
    await this.#environment.close()
    await this.#drop()
  }

  #commit(): Promise<void> {
    const operations = this.#operations
    this.#operations = []
    return this.#environment.commit(operations)
  }
}

/** An operation whose value is only borrowed: it must be the same when it is written as when it was passed. */
class BorrowedWrite {
  readonly operation: Operation
  readonly #key: string
  readonly #copy: Uint8Array

  constructor(operation: Operation) {
    this.operation = operation
    this.#key = operation.type === 'clear' ? '' : checkedKey(operation.key)
    this.#copy = operation.type === 'put' ? Uint8Array.from(operation.value) : new Uint8Array(0)
  }

  apply(table: Table): void {
    const { operation } = this
    if (operation.type === 'clear') {
      table.clear()
    } else if (operation.type === 'remove') {
      table.remove(this.#key)
    } else {
      const unchanged = Buffer.compare(operation.value, this.#copy) === 0
      assert(unchanged, () => 'a value was changed while the engine had borrowed it')
      table.put(this.#key, this.#copy)
    }
  }
}

class MemoryTransaction implements WriteTransaction {
  readonly #databases: Databases

  constructor(databases: Databases) {
    this.#databases = databases
  }

  get(database: string, key: Uint8Array): Uint8Array | undefined {
    return this.#table(database).get(checkedKey(key))
  }

  put(database: string, key: Uint8Array, value: Uint8Array): void {
    this.#table(database).put(checkedKey(key), Uint8Array.from(value))
  }

  remove(database: string, key: Uint8Array): void {
    this.#table(database).remove(checkedKey(key))
  }

  clear(database: string): void {
    this.#table(database).clear()
  }

  #table(database: string): Table {
    const table = this.#databases.get(database)
    assert(table !== undefined, () => `there is no database ${database}`)
    return table
  }
}

function checkedKey(key: Uint8Array): string {
  assert(key.length > 0 && key.length <= KEY_BYTES_MAX, () => `a key of ${key.length} bytes`)
  return keyText(key)
}

function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')
}

/** Promises made so far, and what hangs on them, have run. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
