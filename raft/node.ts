/*
 * RaftNode: the driver. It moves what the core asks for to the injected ports and brings their answers back. It owns
 * no timer, socket or thread: whoever owns it calls tick() and step(), and calls pump() some time after each wake(),
 * so that the simulator and the server run the same driver.
 *
 * One persist at a time reaches the disk; applying is a queue of its own, cut into slices so that a long backlog
 * never holds up heartbeats. A rejected persist is reported once, as fatal: nothing is retried.
 */

import { assert } from './assert.ts'
import {
  type ChangeResult,
  type CoreOptions,
  type CoreStatus,
  type ProposeResult,
  RaftCore,
  type TransferResult,
} from './core.ts'
import type {
  LogRetention,
  LogStore,
  SnapshotSink,
  SnapshotSource,
  StateMachine,
  Transport,
} from './ports.ts'
import {
  type Entry,
  entryBytes,
  type Index,
  type Member,
  type Membership,
  type Message,
  type NodeId,
  type Persist,
  type ReadId,
  type Ready,
  type Slowest,
  type SnapshotMeta,
  type Term,
} from './types.ts'

/** Leaves far more ids above it than a process can use, and all of them are safe integers. */
const READ_ID_START_MAX = 2 ** 52

export interface NodeEvents {
  /** There is something for pump() to do. May be called many times before pump() runs. */
  wake(): void
  /** A persist or a compaction failed: what is stored is unknown, the process must end. */
  fatal(error: unknown): void
}

export interface NodeOptions extends Omit<CoreOptions, 'log' | 'applied'> {
  readonly log: LogStore
  readonly machine: StateMachine
  readonly transport: Transport
  readonly source: SnapshotSource
  readonly sink: SnapshotSink
  readonly retention: LogRetention
  readonly events: NodeEvents
  /** Bytes of entries applied in one pump, before other work gets its turn. */
  readonly applySliceBytes: number
  /** Entries removed by one step of a compaction. */
  readonly compactStepEntries: number
}

/** Called once with the outcome of a read: true when the state machine may be read now, false: ask again. */
export type ReadCallback = (confirmed: boolean) => void

export class RaftNode {
  readonly #core: RaftCore
  readonly #id: NodeId
  readonly #log: LogStore
  readonly #machine: StateMachine
  readonly #transport: Transport
  readonly #source: SnapshotSource
  readonly #sink: SnapshotSink
  readonly #retention: LogRetention
  readonly #events: NodeEvents
  readonly #applySliceBytes: number
  readonly #compactStepEntries: number

  #toApply: Entry[] = []
  /** Reads whose index was confirmed, waiting until it is applied; indices never fall. */
  #confirmed: { index: Index; done: ReadCallback }[] = []
  #lost: ReadCallback[] = []
  #asked = new Map<ReadId, ReadCallback>()
  #lastReadId: ReadId
  /** The disk does one thing at a time: a compaction step never overlaps a persist. */
  #disk: Promise<void> = Promise.resolve()
  #compactTo: Index = 0
  #compacting = false
  /** As of this tick; undefined: nobody has asked yet. */
  #logBytes: number | undefined
  /** Members whose sending has neither ended nor been cancelled. */
  readonly #sending = new Set<NodeId>()
  #switching = false
  #stopped = false

  constructor(options: NodeOptions) {
    this.#core = new RaftCore({ ...options, applied: options.machine.appliedIndex() })
    this.#id = options.id
    // A leader may answer a read that this node's previous process asked: its id must mean nothing any more, or a
    // new read would be served at an index from before it was asked.
    this.#lastReadId = Math.floor(options.random() * READ_ID_START_MAX)
    this.#log = options.log
    this.#machine = options.machine
    this.#transport = options.transport
    this.#source = options.source
    this.#sink = options.sink
    this.#retention = options.retention
    this.#events = options.events
    this.#applySliceBytes = options.applySliceBytes
    this.#compactStepEntries = options.compactStepEntries
  }

  get isLeader(): boolean {
    return this.#core.isLeader
  }

  get established(): boolean {
    return this.#core.established
  }

  get leader(): NodeId | undefined {
    return this.#core.leader
  }

  get term(): number {
    return this.#core.term
  }

  get membership(): Membership | undefined {
    return this.#core.membership
  }

  get membershipIndex(): Index {
    return this.#core.membershipIndex
  }

  get slowest(): Slowest | undefined {
    return this.#core.slowest
  }

  status(): CoreStatus {
    return this.#core.status()
  }

  tick(): void {
    if (this.#stopped) return
    this.#logBytes = undefined
    this.#core.tick()
    this.#events.wake()
  }

  step(message: Message): void {
    if (this.#stopped) return
    this.#core.step(message)
    this.#events.wake()
  }

  unreachable(peer: NodeId): void {
    if (this.#stopped) return
    this.#core.reportUnreachable(peer)
    this.#events.wake()
  }

  restarted(peer: NodeId): void {
    if (this.#stopped) return
    this.#core.peerRestarted(peer)
    this.#events.wake()
  }

  /** See RaftCore.propose. What becomes of an accepted entry is seen where (index, term) is applied. */
  propose(data: readonly Uint8Array[]): ProposeResult {
    assert(!this.#stopped, () => 'a stopped node proposes nothing')
    const result = this.#core.propose(data)
    if (result.accepted) this.#events.wake()
    return result
  }

  /** See RaftCore.changeMembership. */
  changeMembership(members: readonly Member[]): ChangeResult {
    assert(!this.#stopped, () => 'a stopped node changes no membership')
    const result = this.#core.changeMembership(members)
    if (result.accepted) this.#events.wake()
    return result
  }

  /** See RaftCore.transferLeadership. */
  transferLeadership(to?: NodeId): TransferResult {
    if (this.#stopped) return 'not-leader'
    const result = this.#core.transferLeadership(to)
    this.#events.wake()
    return result
  }

  /** One ReadIndex for everything that waits for `done` (thesis 6.4). */
  read(done: ReadCallback): void {
    assert(!this.#stopped, () => 'a stopped node reads nothing')
    const id = ++this.#lastReadId
    this.#asked.set(id, done)
    this.#core.requestRead(id)
    this.#events.wake()
  }

  /** See RaftCore.offerSnapshot: false means that it is to be dropped. */
  offerSnapshot(from: NodeId, term: Term, snapshot: SnapshotMeta): boolean {
    if (this.#stopped) return false
    const accepted = this.#core.offerSnapshot(from, term, snapshot)
    this.#events.wake()
    return accepted
  }

  /** The sending that the source was asked for has ended: `delivered` when the other side has taken all of it. */
  snapshotEnded(to: NodeId, delivered: boolean): void {
    if (this.#stopped || !this.#sending.delete(to)) return
    this.#core.snapshotEnded(to, delivered)
    this.#events.wake()
  }

  /** Entries up to `index` are no longer needed by this node; the slowest member is still respected. */
  compactTo(index: Index): void {
    this.#compactTo = Math.max(this.#compactTo, index)
    this.#events.wake()
  }

  /** No further output, except that the disk finishes what it has begun. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#disk
  }

  /** Does everything that can be done now; what is left over for another turn calls wake(). */
  pump(): void {
    if (this.#stopped) return
    this.#drain()
    this.#applySlice()
    // Applying makes room for more committed entries; they wait for the next slice.
    this.#drain()
    this.#answerReads()
    if (this.#toApply.length > 0 && this.#machine.canApply()) this.#events.wake()
    this.#cancelSnapshots()
    this.#compactStep()
  }

  #drain(): void {
    for (let ready = this.#core.ready(); ready !== undefined; ready = this.#core.ready()) {
      this.#handle(ready)
    }
  }

  #handle(ready: Ready): void {
    this.#sendAll(ready.messages)
    if (ready.persist !== undefined) this.#persist(ready.persist, ready.afterPersist)
    for (const entry of ready.committed) this.#toApply.push(entry)
    for (const { id, index } of ready.reads) {
      this.#confirmed.push({ index, done: this.#takeRead(id) })
    }
    for (const id of ready.lostReads) this.#lost.push(this.#takeRead(id))
    for (const to of ready.snapshots) this.#sendSnapshot(to)
  }

  #takeRead(id: ReadId): ReadCallback {
    const done = this.#asked.get(id)
    assert(done !== undefined, () => `read ${id} was never asked for`)
    this.#asked.delete(id)
    return done
  }

  #sendAll(messages: readonly Message[]): void {
    const own = messages.filter((message) => message.to === this.#id)
    const others = own.length === 0 ? messages : messages.filter(({ to }) => to !== this.#id)
    if (others.length > 0) this.#transport.send(others)
    for (const message of own) this.#core.step(message)
  }

  #persist(persist: Persist, afterPersist: readonly Message[]): void {
    const { token, hardState, entries, snapshot } = persist
    if (snapshot !== undefined) {
      this.#install(snapshot, hardState, () => {
        this.#core.persisted(token)
        this.#sendAll(afterPersist)
      })
      return
    }
    this.#useDisk(
      () => this.#log.persist({ hardState, entries }),
      () => {
        this.#core.persisted(token)
        this.#sendAll(afterPersist)
      },
    )
  }

  /** From here on nothing is applied any more: what is still queued lies below the snapshot. */
  #install(snapshot: SnapshotMeta, hardState: Persist['hardState'], done: () => void): void {
    const { index } = snapshot.last
    this.#switching = true
    this.#toApply = []
    this.#useDisk(
      async () => {
        await this.#sink.install(snapshot, hardState)
        const applied = this.#machine.appliedIndex()
        assert(applied === index, () => `installed a snapshot at ${index}, now at ${applied}`)
      },
      () => {
        this.#switching = false
        this.#compactTo = Math.max(this.#compactTo, index)
        done()
      },
    )
  }

  #sendSnapshot(to: NodeId): void {
    const index = this.#source.send(to, this.#core.term)
    if (index === undefined) this.#sending.delete(to)
    else this.#sending.add(to)
    this.#core.snapshotBegun(to, index)
  }

  #cancelSnapshots(): void {
    for (const to of this.#sending) {
      if (this.#core.sendsSnapshot(to)) continue
      this.#sending.delete(to)
      this.#source.cancel(to)
    }
  }

  /** Queues work for the disk. After a failure or a stop nothing more is begun, and nothing is told any more. */
  #useDisk(begin: () => Promise<void>, done: () => void): void {
    this.#disk = this.#disk
      .then(() => (this.#stopped ? undefined : begin()))
      .then(
        () => {
          if (this.#stopped) return
          done()
          this.#events.wake()
        },
        (error) => this.#fail(error),
      )
  }

  #fail(error: unknown): void {
    this.#stopped = true
    this.#events.fatal(error)
  }

  /** Applies what one turn may; the rest stays queued, behind whatever else the turn's owner has to do. */
  #applySlice(): void {
    if (this.#switching) return
    let bytes = 0
    let done = 0
    for (const entry of this.#toApply) {
      if (bytes >= this.#applySliceBytes || !this.#machine.canApply()) break
      bytes += entryBytes(entry) + this.#machine.apply(entry)
      this.#core.applied(entry.index)
      done++
    }
    if (done === this.#toApply.length) this.#toApply = []
    else if (done > 0) this.#toApply.splice(0, done)
  }

  /** Last in a turn, so that whoever asks again at once asks in the next one. */
  #answerReads(): void {
    const lost = this.#lost
    this.#lost = []
    for (const done of lost) done(false)
    const applied = this.#machine.appliedIndex()
    let served = 0
    for (const read of this.#confirmed) {
      if (read.index > applied) break
      served++
    }
    if (served === 0) return
    for (const read of this.#confirmed.splice(0, served)) read.done(true)
  }

  #compactStep(): void {
    if (this.#compacting || this.#switching || this.#stopped) return
    const slowest = this.#core.slowest
    if (slowest === undefined) return
    const base = this.#log.base().index
    let target = Math.min(this.#compactTo, slowest.match)
    if (target <= base && this.#compactTo > base) {
      target = Math.min(this.#compactTo, this.#keptFrom(slowest))
    }
    if (target <= base) return
    this.#compacting = true
    const upTo = Math.min(target, base + this.#compactStepEntries)
    this.#useDisk(
      () => this.#log.compact(upTo),
      () => {
        this.#compacting = false
        this.#logBytes = undefined
      },
    )
  }

  /** The log is kept from here on for others. Whoever is further behind is sent a snapshot. */
  #keptFrom(slowest: Slowest): Index {
    this.#logBytes ??= this.#retention.bytes()
    const bytes = this.#logBytes
    if (bytes <= this.#retention.bytesMax) return slowest.match
    return bytes <= this.#retention.pinnedBytesMax ? this.#core.pinned : Number.POSITIVE_INFINITY
  }
}
