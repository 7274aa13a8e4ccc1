/*
 * The durable log over a log environment: LogStore and StableStore of raft/ports.ts. Database `log` holds one entry
 * per 8-byte big-endian index, database `stable` one record of what this node must know of itself. Both change in
 * the same transactions, so no crash can part them. It knows no algorithm: what to append, cut or keep is decided
 * above.
 */

import { assert } from '../raft/assert.ts'
import type { LogStore, StableStore } from '../raft/ports.ts'
import {
  type Entry,
  entryBytes,
  type HardState,
  type Index,
  type NodeId,
  type Position,
  type Term,
} from '../raft/types.ts'
import { CodecError, decodeEntry, encodeEntry } from './codec.ts'
import type { Engine, LogEnvironment, Operation } from './engine.ts'
import { writeUint64 } from './integers.ts'
import {
  CorruptLogError,
  DAMAGE_KEY,
  FORCED_KEY,
  type Identity,
  LOG,
  loadDamage,
  loadStable,
  newborn,
  putDamage,
  putStable,
  REPLACES_KEY,
  replacedBy,
  STABLE,
  type Stable,
  type StateDamage,
} from './stable-record.ts'
import { TermRuns } from './term-runs.ts'

export const LOG_ENVIRONMENT = 'log'
const STATE_ENVIRONMENT = 'state-'

/** What the environment is called that holds the state of that number. */
export function stateName(number: number): string {
  return `${STATE_ENVIRONMENT}${number}`
}

/** Of all states on the disk, finished or not. */
export function stateNumbers(engine: Pick<Engine, 'list'>): readonly number[] {
  return engine
    .list()
    .filter((name) => name.startsWith(STATE_ENVIRONMENT))
    .map((name) => Number(name.slice(STATE_ENVIRONMENT.length)))
}

/** The switch to a state that was received: see LogStore of raft/ports.ts, SnapshotSink. */
export interface StateSwitch {
  /** N of the directory `state-N` that holds it, durable. */
  readonly stateNumber: number
  /** The entry at which it stands. */
  readonly last: Position
  readonly hardState: HardState | undefined
}

/** A log that knows which state is in force. */
export interface SwitchingLog extends LogStore {
  /**
   * ONE transaction: the state in force, the hard state, and unless the log holds the entry `last`, an empty log that
   * begins after it. Rejections are fatal, as for persist; it never overlaps one.
   */
  switchState(to: StateSwitch): Promise<void>
}

/** Entries deleted by one transaction of a compaction, which must not hold up the commits for long. */
const COMPACT_BATCH_ENTRIES = 256

export class DiskLogStore implements SwitchingLog, StableStore {
  readonly #environment: LogEnvironment
  readonly #location: string
  #stable: Stable
  /** Base, last index and terms of what is durable. */
  #terms: TermRuns
  /** Set while a commit is under way: where it cuts the log, Infinity when it does not. */
  #cutting: Index | undefined

  private constructor(environment: LogEnvironment, location: string, stable: Stable) {
    this.#environment = environment
    this.#location = location
    this.#stable = stable
    this.#terms = new TermRuns(stable.base)
  }

  /**
   * Opens the log of this node, or creates it together with the node's id. Reads all of it: throws CorruptLogError
   * on a bad checksum or a hole, FormatVersionError when another build wrote it.
   */
  static async open(engine: Engine): Promise<DiskLogStore> {
    const environment = await engine.openLog(LOG_ENVIRONMENT, [LOG, STABLE])
    try {
      const stable = await loadStable(environment, engine.location)
      const store = new DiskLogStore(environment, engine.location, stable)
      store.#scan()
      return store
    } catch (error) {
      await environment.close()
      throw error
    }
  }

  /**
   * Gives up a damaged log and the state beside it, which nothing may have open: one transaction makes the directory that
   * of a new, unbound node. Resolves with the id whose place that one is to take; undefined: the old one had no cluster.
   * Throws CorruptLogError when the disk does not tell who the old one was.
   */
  static async startOver(engine: Engine): Promise<NodeId | undefined> {
    const environment = await engine.openLog(LOG_ENVIRONMENT, [LOG, STABLE])
    try {
      const { nodeId, clusterId, stateNumber } = await loadStable(environment, engine.location)
      const before = clusterId === undefined ? replacedBy(environment) : nodeId
      // What a state that was being received or built has left behind must not pass for that of the new node.
      const number = Math.max(stateNumber, ...stateNumbers(engine)) + 1
      const operations: Operation[] = [
        { type: 'clear', database: LOG },
        putStable(newborn(number)),
        { type: 'remove', database: STABLE, key: FORCED_KEY },
        { type: 'remove', database: STABLE, key: DAMAGE_KEY },
      ]
      if (before !== undefined) {
        const value = Buffer.from(before)
        operations.push({ type: 'put', database: STABLE, key: REPLACES_KEY, value })
      }
      await environment.commit(operations)
      return before
    } finally {
      await environment.close()
    }
  }

  /** Of an unbound node that startOver() made: whose place it is to take. */
  replaces(): NodeId | undefined {
    return replacedBy(this.#environment)
  }

  identity(): Identity {
    const { nodeId, clusterId } = this.#stable
    return { nodeId, clusterId }
  }

  /** N of the directory `state-N` that holds this node's state. */
  stateNumber(): number {
    return this.#stable.stateNumber
  }

  hardState(): HardState {
    return this.#stable.hardState
  }

  base(): Position {
    return this.#terms.base
  }

  lastIndex(): Index {
    return this.#terms.last
  }

  term(index: Index): Term | undefined {
    return this.#terms.at(index)
  }

  entries(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    const { base, last } = this.#terms
    assert(from > base.index && to <= last + 1, () => {
      return `entries ${from} to ${to} of a log from ${base.index} to ${last}`
    })
    // What a commit under way replaces may already be gone from the disk; the core masks it and must not ask.
    assert(to <= (this.#cutting ?? to), () => `entries to ${to} while cutting at ${this.#cutting}`)
    const entries: Entry[] = []
    if (from >= to) return entries
    let bytes = 0
    this.#visit(from, (entry) => {
      entries.push(entry)
      bytes += entryBytes(entry)
      return entry.index + 1 < to && bytes <= maxBytes
    })
    const end = from + entries.length
    if (end < to && bytes <= maxBytes) this.#fail(`entry ${end} of the log is missing`)
    return entries
  }

  async persist(batch: {
    hardState: HardState | undefined
    entries: readonly Entry[]
  }): Promise<void> {
    const { hardState, entries } = batch
    const stable = hardState === undefined ? this.#stable : { ...this.#stable, hardState }
    await this.#commit(stable, entries)
  }

  /**
   * Makes an unbound node a member of a cluster, in one transaction: cluster id, hard state, the entries the log begins
   * with (none where they come from a leader), and for a node that is born with a state, that one. Rejections are fatal,
   * as for persist.
   */
  async bind(start: {
    readonly clusterId: string
    readonly hardState: HardState
    readonly entries: readonly Entry[]
    /** It is durable, and the entries follow it. */
    readonly state?: Omit<StateSwitch, 'hardState'>
  }): Promise<void> {
    const { clusterId, hardState, entries, state } = start
    assert(this.#stable.clusterId === undefined, () => `bound to ${this.#stable.clusterId} already`)
    assert(this.lastIndex() === 0, () => `an unbound node with a log to ${this.lastIndex()}`)
    const { base, stateNumber } = this.#stable
    const born = { base: state?.last ?? base, stateNumber: state?.stateNumber ?? stateNumber }
    this.#terms = new TermRuns(born.base)
    const taken: Operation = { type: 'remove', database: STABLE, key: REPLACES_KEY }
    await this.#commit({ ...this.#stable, clusterId, hardState, ...born }, entries, [taken])
  }

  /**
   * Makes this node, with its whole log, part of another cluster, in one transaction: cluster id, hard state, and the
   * entries behind the log. Remembered until forgetForced(). Rejections are fatal, as for persist.
   */
  async force(start: {
    readonly clusterId: string
    readonly hardState: HardState
    readonly entries: readonly Entry[]
  }): Promise<void> {
    const { clusterId, hardState, entries } = start
    assert(this.#stable.clusterId !== undefined, () => 'an unbound node has nothing to keep')
    assert(hardState.term > this.#stable.hardState.term, () => `term ${hardState.term} is not new`)
    assert(
      entries[0]?.index === this.lastIndex() + 1,
      () => 'a new cluster must keep the whole log',
    )
    const forced: Operation = {
      type: 'put',
      database: STABLE,
      key: FORCED_KEY,
      value: Buffer.from(clusterId),
    }
    await this.#commit({ ...this.#stable, clusterId, hardState }, entries, [
      forced,
      ...this.#undamaged(),
    ])
  }

  /** Whether force() was the last that happened to this node's cluster, and is not forgotten. */
  wasForced(): boolean {
    return this.#environment.get(STABLE, FORCED_KEY) !== undefined
  }

  async forgetForced(): Promise<void> {
    if (!this.wasForced()) return
    const operation: Operation = { type: 'remove', database: STABLE, key: FORCED_KEY }
    await this.#transact([operation], Number.POSITIVE_INFINITY)
  }

  /**
   * Remembers, until another state is in force, that this one must not serve; also after a crash. It may be called while
   * something is being persisted. Rejections are fatal, as for persist.
   */
  async markDamaged(damage: StateDamage): Promise<void> {
    await this.#environment.commit([putDamage(damage)])
  }

  /** What markDamaged() was told of the state in force. Throws CorruptLogError when the disk has changed that. */
  damage(): StateDamage | undefined {
    return loadDamage(this.#environment, this.#location)
  }

  /** For a transaction that puts another state in the place of the one in force. */
  #undamaged(): readonly Operation[] {
    const isMarked = this.#environment.get(STABLE, DAMAGE_KEY) !== undefined
    return isMarked ? [{ type: 'remove', database: STABLE, key: DAMAGE_KEY }] : []
  }

  async compact(upTo: Index): Promise<void> {
    assert(upTo <= this.lastIndex(), () => `compact to ${upTo} of ${this.lastIndex()}`)
    while (this.base().index < upTo) {
      const first = this.base().index + 1
      const last = Math.min(upTo, first + COMPACT_BATCH_ENTRIES - 1)
      const term = this.term(last)
      assert(term !== undefined, () => `entry ${last} has no term`)
      const stable = { ...this.#stable, base: { index: last, term } }
      const operations: Operation[] = [putStable(stable)]
      for (let index = first; index <= last; index++) operations.push(removeEntry(index))
      // What is about to go is no longer offered; should the commit fail, nothing is offered by this process again.
      this.#terms.compact(last)
      this.#stable = stable
      await this.#transact(operations, Number.POSITIVE_INFINITY)
    }
  }

  async switchState({ stateNumber, last, hardState }: StateSwitch): Promise<void> {
    const stable = { ...this.#stable, stateNumber, hardState: hardState ?? this.#stable.hardState }
    assert(stateNumber > this.#stable.stateNumber, () => `state ${stateNumber} is not a new one`)
    assert(last.index >= this.base().index, () => `a state at ${last.index} before the log's base`)
    // Equal entries have equal predecessors, so what is behind it may stay; what it makes superfluous is compacted.
    if (this.term(last.index) === last.term) {
      await this.#transact([putStable(stable), ...this.#undamaged()], this.lastIndex() + 1)
      this.#stable = stable
    } else {
      const { term } = stable.hardState
      assert(term >= last.term, () => `a log of term ${last.term}, the hard state is of ${term}`)
      const anew = { ...stable, base: last }
      const operations = [putStable(anew), ...this.#undamaged()]
      await this.#transact([{ type: 'clear', database: LOG }, ...operations], 0)
      this.#stable = anew
      this.#terms = new TermRuns(last)
    }
  }

  /** How often this node has been started, this time included. */
  boots(): number {
    return this.#environment.boots
  }

  /** What its entries occupy. */
  bytes(): number {
    return this.#environment.usedBytes()
  }

  close(): Promise<void> {
    return this.#environment.close()
  }

  /** ONE transaction: the stable record if it changes, the cut at the first entry, the entries, and what goes with them. */
  async #commit(
    stable: Stable,
    entries: readonly Entry[],
    also: readonly Operation[] = [],
  ): Promise<void> {
    const operations: Operation[] = [...also]
    const first = entries[0]?.index ?? this.lastIndex() + 1
    const end = first + entries.length
    assert(first > this.base().index && first <= this.lastIndex() + 1, () => {
      return `entries from ${first} do not join a log from ${this.base().index} to ${this.lastIndex()}`
    })
    if (stable !== this.#stable) operations.push(putStable(stable))
    if (entries.length > 0) {
      for (let index = end; index <= this.lastIndex(); index++) operations.push(removeEntry(index))
    }
    for (const [offset, entry] of entries.entries()) {
      assert(entry.index === first + offset, () => `entry ${entry.index} at ${first + offset}`)
      const key = logKey(entry.index)
      operations.push({ type: 'put', database: LOG, key, value: encodeEntry(entry) })
    }
    if (operations.length === 0) return
    await this.#transact(operations, entries.length > 0 ? first : end)
    this.#stable = stable
    if (entries.length > 0) this.#terms.cut(first)
    for (const entry of entries) this.#terms.append(entry)
  }

  async #transact(operations: readonly Operation[], readableTo: Index): Promise<void> {
    assert(this.#cutting === undefined, () => 'two writes to the log at once')
    this.#cutting = readableTo
    // After a rejection #cutting stays set: whatever is stored now is unknown, nothing more may be written.
    await this.#environment.commit(operations)
    this.#cutting = undefined
  }

  /** Reads the whole log once, at start: every entry intact, none missing, terms rising. */
  #scan(): void {
    this.#visit(0, (entry) => {
      const expected = this.lastIndex() + 1
      if (entry.index !== expected) this.#fail(missing(expected, entry.index))
      const term = this.#terms.at(this.lastIndex()) ?? 0
      if (entry.term < term) {
        this.#fail(`entry ${entry.index} of the log has term ${entry.term}, after term ${term}`)
      }
      this.#terms.append(entry)
      return true
    })
  }

  /** Visits the stored entries from `from` on, each checked against its key. */
  #visit(from: Index, visit: (entry: Entry) => boolean): void {
    let expected = from
    this.#environment.range(LOG, logKey(from), (key, value) => {
      const entry = this.#decode(key, value)
      if (from > 0 && entry.index !== expected) this.#fail(missing(expected, entry.index))
      if (Buffer.compare(key, logKey(entry.index)) !== 0) {
        this.#fail(`entry ${entry.index} of the log is stored in another one's place`)
      }
      expected++
      return visit(entry)
    })
  }

  #decode(key: Uint8Array, value: Uint8Array): Entry {
    try {
      return decodeEntry(value)
    } catch (error) {
      if (!(error instanceof CodecError)) throw error
      return this.#fail(`entry ${keyText(key)} of the log is damaged (${error.message})`)
    }
  }

  #fail(what: string): never {
    throw new CorruptLogError(what, this.#location)
  }
}

/** Of a key that may itself be damaged. */
function keyText(key: Uint8Array): string {
  return key.length === 8
    ? String(Buffer.from(key).readBigUInt64BE())
    : `0x${Buffer.from(key).toString('hex')}`
}

function missing(expected: Index, found: Index): string {
  return found < expected
    ? `entry ${found} is in the log although it was deleted`
    : `entry ${expected} of the log is missing`
}

function logKey(index: Index): Uint8Array {
  const key = new Uint8Array(8)
  writeUint64(key, 0, index)
  return key
}

function removeEntry(index: Index): Operation {
  return { type: 'remove', database: LOG, key: logKey(index) }
}
