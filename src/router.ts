/*
 * Where a command runs: on this node, in an entry of the log, at the leader, or nowhere for now. It keeps one
 * promise per connection (see Stream): effects as if its commands ran one after another; and one per command: an
 * error that clients retry is given only to what certainly was not and will not be appended.
 *
 * It works in turns. submit() only queues; flush() places everything that can be placed: the writes of a turn share
 * one entry, its reads one ReadIndex round, what is for the leader one frame. It knows no socket, timer or clock of
 * its own, so the simulator runs it as it is.
 *
 * Invariants: a call is in exactly one place; calls of one stream leave the backlog in their order; a read runs only
 * when every earlier call of its stream was answered or runs before it, and before any later write is applied.
 */

import { assert } from '../raft/assert.ts'
import type { ProposeResult } from '../raft/core.ts'
import type { Index, NodeId, Term } from '../raft/types.ts'
import { ErrorReply, type Reply } from '../resp/encoder.ts'
import { encodeCommands } from '../storage/codec.ts'
import type { Call } from './call.ts'
import { HandedCalls, UNKNOWN_OUTCOME } from './handed-calls.ts'
import type { Batch, ReadOutcome } from './keyspace.ts'
import { PendingReads } from './pending-reads.ts'

/** By which clock a read runs. */
export type ReadTime = 'leader' | 'applied' | 'stale'

/** What the router asks of the node it stands in. */
export interface RouterPorts {
  /** Monotonic ms. */
  now(): number
  /** The leader's logical clock: `at` of an entry (architecture: time is a logged fact). */
  logicalNow(): number
  propose(data: readonly Uint8Array[]): ProposeResult
  /** Who waits for the entry just proposed: the state machine answers its items, or calls overwritten(). */
  expect(index: Index, batch: Batch): void
  /** Nobody waits for it any more. */
  forget(index: Index, batch: Batch): void
  /** Calls back once: true when a linearizable read may run here, false when no leader confirmed it. */
  read(done: (confirmed: boolean) => void): void
  /**
   * Runs a read command against the applied state, by the time of the leader, by what is applied of it, or (stale)
   * by that of this node.
   */
  run(call: Call, time: ReadTime): ReadOutcome
  /** The clock of what is applied. */
  appliedClock(): number
  /** A read waits until this clock is applied: an entry is to bring it. Said again while it waits. */
  awaitClock(clock: number): void
  appliedIndex(): Index
  /** The hash slot of a call's first key; undefined when it names none. */
  keySlot(call: Call): number | undefined
  /** Hands calls to the leader of `term`; false: certainly nothing of it was sent. */
  forward(leader: NodeId, term: Term, calls: readonly Call[]): boolean
  /** The host:port that clients are told of a member. */
  clientAddress(id: NodeId): string | undefined
  /** flush() is wanted in this turn or soon. */
  wake(): void
}

/** The options that CONFIG SET may change while commands run. */
export interface RouterOptions {
  readonly readConsistency: 'linearizable' | 'stale'
  readonly redirect: 'forward' | 'moved'
  readonly parkTimeoutMs: number
  readonly parkBytes: number
}

export interface RouterLimits {
  /** An entry closes at so many commands, bytes or keys; one larger command stands alone. */
  readonly entryCommands: number
  readonly entryBytes: number
  readonly entryKeys: number
  /** A write that names more keys is refused: every node stands still while it applies one. */
  readonly writeKeys: number
  /** Bytes of calls handed to a leader and not answered; one larger call is handed over alone. */
  readonly forwardBytes: number
  /** Above so many bytes of waiting calls the frontend takes no more for a while. */
  readonly backlogBytes: number
}

/** Who takes writes now, as this node knows it. */
export type Route =
  | { readonly kind: 'none' }
  /** This node leads; it takes commands once everything of earlier terms is applied (`established`). */
  | { readonly kind: 'self'; readonly term: Term; readonly established: boolean }
  | { readonly kind: 'leader'; readonly term: Term; readonly leader: NodeId }

/** Who takes writes now, by what raft says of itself. */
export function routeOf(raft: {
  readonly isLeader: boolean
  readonly leader: NodeId | undefined
  readonly term: Term
  readonly established: boolean
}): Route {
  const { isLeader, leader, term, established } = raft
  if (isLeader) return { kind: 'self', term, established }
  return leader === undefined ? { kind: 'none' } : { kind: 'leader', term, leader }
}

/** An entry as its proposer remembers it: its commands and the reads that ride between them, in order. */
interface EntryOfCalls extends Batch {
  readonly items: Call[]
  writes: number
  bytes: number
  keys: number
  /** Made when it is first proposed, and kept while there is no room: it may be many megabytes. */
  data: Uint8Array | undefined
  term: Term
  index: Index
  /** Monotonic ms at which the outcome is given up; undefined while this node leads the entry's term. */
  deadline: number | undefined
}

const CLUSTER_DOWN = new ErrorReply(
  'CLUSTERDOWN no leader is known to this node; the command was not executed',
)
const PARK_FULL = new ErrorReply(
  'CLUSTERDOWN no leader is known and too many commands wait for one; the command was not executed',
)
const OVERWRITTEN = new ErrorReply(
  'CLUSTERDOWN the leader changed before the command was replicated; it was not executed',
)

export class Router {
  readonly #ports: RouterPorts
  readonly #options: RouterOptions
  readonly #limits: RouterLimits
  #route: Route = { kind: 'none' }

  /** Calls that wait to be placed, oldest first. */
  #backlog: Call[] = []
  #backlogBytes = 0
  /** Closed entries that were not proposed yet, and the one under construction behind them. */
  #closed: EntryOfCalls[] = []
  #open: EntryOfCalls | undefined
  /** Proposed entries of this node whose outcome is open. */
  #appended = new Set<EntryOfCalls>()
  readonly #reads: PendingReads
  readonly #handed: HandedCalls

  constructor(options: { ports: RouterPorts; options: RouterOptions; limits: RouterLimits }) {
    this.#ports = options.ports
    this.#options = options.options
    this.#limits = options.limits
    this.#reads = new PendingReads({ ...options, leads: () => this.#route.kind === 'self' })
    this.#handed = new HandedCalls({
      ...options,
      placeAgain: (calls) => {
        for (const call of calls) this.#backlogBytes += call.bytes
        this.#backlog = [...calls, ...this.#backlog]
        options.ports.wake()
      },
    })
  }

  /** Calls that wait for a leader, or for room at it. */
  get parked(): number {
    return this.#backlog.length + this.#handed.heldCalls
  }

  /** Entries proposed here whose outcome is open. */
  get pendingEntries(): number {
    return this.#appended.size
  }

  /** So much waits that the frontend should stop reading from its clients. */
  get congested(): boolean {
    return this.#waitingBytes > this.#limits.backlogBytes
  }

  get #waitingBytes(): number {
    return this.#backlogBytes + this.#handed.heldBytes
  }

  /** A command of a client or, at the leader, of another node. Its owner hears of it exactly once. */
  submit(call: Call): void {
    const { stream } = call
    stream.unanswered++
    // Another node's own build has let its call pass, and may have another limit.
    if (call.work > this.#limits.writeKeys && !call.remote) {
      const text = `ERR ${call.work} keys are too many for one command: the limit is ${this.#limits.writeKeys}`
      call.answer(new ErrorReply(text), this.#ports.appliedIndex())
      return
    }
    if (stream.unanswered === 1 && this.#reads.mayBeStale(call)) {
      // Nothing of its connection is on its way: it needs no place, only what its connection has seen.
      this.#reads.add(call)
      this.#reads.begin(false)
      return
    }
    if (
      this.#route.kind === 'none' &&
      this.#waitingBytes > 0 &&
      this.#waitingBytes + call.bytes > this.#options.parkBytes
    ) {
      call.answer(PARK_FULL, this.#ports.appliedIndex())
      return
    }
    this.#backlog.push(call)
    this.#backlogBytes += call.bytes
    this.#ports.wake()
  }

  /** Places everything that can be placed. */
  flush(): void {
    this.#propose()
    this.#placeBacklog()
    this.#close()
    this.#propose()
    this.#handed.send(this.#route)
    this.#reads.begin(this.#route.kind !== 'none')
  }

  // ---- Placing --------------------------------------------------------------------------------------------------

  #placeBacklog(): void {
    let placed = 0
    while (placed < this.#backlog.length) {
      const call = this.#backlog[placed] as Call
      if (!this.#place(call)) break
      this.#backlogBytes -= call.bytes
      placed++
    }
    if (placed > 0) this.#backlog.splice(0, placed)
  }

  /** False: not now, and so nothing behind it either. */
  #place(call: Call): boolean {
    const route = this.#route
    if (route.kind === 'none') return false
    if (this.#handed.mustHold(call.stream)) {
      this.#handed.hold(call)
      return true
    }
    if (route.kind === 'self') {
      if (!route.established || this.#closed.length > 0) return false
      if (call.isRead) this.#placeRead(call)
      else this.#placeWrite(call)
      return true
    }
    return this.#placeAtFollower(call, route.leader, route.term)
  }

  #placeRead(call: Call): void {
    const entry = call.stream.building
    if (entry === undefined) {
      this.#reads.add(call)
      return
    }
    // Behind a write of its connection that is not proposed yet: it rides along and runs right after it.
    call.place = 'building'
    entry.items.push(call)
  }

  #placeWrite(call: Call): void {
    let entry = this.#open
    if (
      entry !== undefined &&
      (entry.writes >= this.#limits.entryCommands ||
        entry.bytes + call.bytes > this.#limits.entryBytes ||
        entry.keys + call.work > this.#limits.entryKeys)
    ) {
      this.#close()
      this.#propose()
      entry = undefined
    }
    if (entry === undefined) {
      entry = this.#newEntry()
      this.#open = entry
    }
    // Reads before it that are not answered ride along and run just before it, so that they never see it.
    for (const read of this.#reads.take(call.stream)) {
      read.place = 'building'
      entry.items.push(read)
    }
    call.place = 'building'
    call.stream.building = entry
    entry.items.push(call)
    entry.writes++
    entry.bytes += call.bytes
    entry.keys += call.work
  }

  #placeAtFollower(call: Call, leader: NodeId, term: Term): boolean {
    const { stream } = call
    assert(!call.remote, () => `${call.command.name} would be handed on a second time`)
    if (this.#options.redirect === 'moved') {
      const slot = this.#ports.keySlot(call)
      const address = this.#ports.clientAddress(leader)
      if (slot !== undefined && address !== undefined) {
        call.answer(new ErrorReply(`MOVED ${slot} ${address}`), this.#ports.appliedIndex())
        return true
      }
    }
    if (call.isRead && stream.forwarded === 0) {
      this.#placeRead(call)
      return true
    }
    if (!this.#handed.hasRoomFor(call)) return false
    for (const read of this.#reads.take(stream)) this.#handed.add(read, term)
    this.#handed.add(call, term)
    return true
  }

  // ---- At the leader ----------------------------------------------------------------------------------------------

  #close(): void {
    if (this.#open !== undefined) this.#closed.push(this.#open)
    this.#open = undefined
  }

  #propose(): void {
    let proposed = 0
    for (const entry of this.#closed) {
      entry.data ??= this.#encode(entry)
      const result = this.#ports.propose([entry.data])
      if (!result.accepted) break
      proposed++
      entry.data = undefined
      entry.term = result.term
      entry.index = result.first
      for (const call of entry.items) call.appendedTo(entry)
      this.#appended.add(entry)
      this.#ports.expect(entry.index, entry)
    }
    if (proposed > 0) this.#closed.splice(0, proposed)
  }

  /**
   * Appends an entry that is nothing but a clock and gives its index; undefined: not here, or not now, where entries
   * wait that will bring one. Clocks stand in the log in the order in which they were read.
   */
  proposeClock(): Index | undefined {
    if (this.#closed.length > 0 || this.#open !== undefined) return undefined
    const result = this.#ports.propose([encodeCommands(this.#ports.logicalNow(), [])])
    return result.accepted ? result.first : undefined
  }

  #encode({ items }: EntryOfCalls): Uint8Array {
    const commands = items.filter((call) => !call.isRead)
    const logged = commands.map(({ database, args }) => ({ database, argv: args }))
    return encodeCommands(this.#ports.logicalNow(), logged)
  }

  #newEntry(): EntryOfCalls {
    const entry: EntryOfCalls = {
      items: [],
      writes: 0,
      bytes: 0,
      keys: 0,
      data: undefined,
      term: 0,
      index: 0,
      deadline: undefined,
      // Another entry stands at its index for ever: what was proposed there never happened and never will.
      overwritten: () => this.#abandon(entry, OVERWRITTEN),
    }
    return entry
  }

  #abandon(entry: EntryOfCalls, reply: Reply): void {
    this.#appended.delete(entry)
    const applied = this.#ports.appliedIndex()
    for (const call of entry.items) call.answer(reply, applied)
  }

  /** Entries were applied: their calls have their answers, and reads that waited for them may run. */
  afterApply(): void {
    const applied = this.#ports.appliedIndex()
    for (const entry of this.#appended) {
      if (entry.index > applied) continue
      // Not by its first item: a long read goes on after its entry.
      if (entry.items.find((call) => !call.isRead)?.place === 'answered')
        this.#appended.delete(entry)
      // A later entry of this node took its index: its own might still have been applied from another node.
      else this.#abandon(entry, UNKNOWN_OUTCOME)
    }
    this.#reads.afterApply()
  }

  // ---- At a follower: what becomes of the calls handed over ------------------------------------------------------

  /** The leader answered; `index` is what it had applied by then. */
  forwardAnswered(call: Call, bytes: Uint8Array, index: Index): void {
    this.#handed.answered(call, bytes, index)
  }

  /** The other node did not take these calls: they go first when they are placed again. */
  forwardRefused(calls: readonly Call[]): void {
    this.#handed.refused(calls)
  }

  /** The link to `leader` died: nothing handed to it will be answered any more. */
  forwardLost(leader: NodeId): void {
    this.#handed.lost(leader)
  }

  // ---- Changes of leadership, deadlines --------------------------------------------------------------------------------

  /** Who leads, as of now. Called after every change, before the next flush. */
  setRoute(route: Route): void {
    const before = this.#route
    if (sameRoute(before, route)) return
    this.#route = route
    const deadline = this.#ports.now() + this.#options.parkTimeoutMs
    const ledTerm = route.kind === 'self' ? route.term : undefined
    for (const entry of this.#appended) {
      if (entry.term !== ledTerm) entry.deadline ??= deadline
    }
    this.#handed.setRoute(route, deadline)
    if (before.kind === 'self' && before.term !== ledTerm) this.#unplace()
    this.#ports.wake()
  }

  /** What this node took as a leader and did not append goes back to where it came from. */
  #unplace(): void {
    this.#close()
    const unproposed = this.#closed.flatMap((entry) => entry.items)
    this.#closed = []
    for (const call of unproposed) {
      call.stream.building = undefined
      call.waitAgain()
      this.#backlogBytes += call.bytes
    }
    const all = [...unproposed, ...this.#backlog]
    this.#backlog = all.filter((call) => !call.remote)
    for (const call of all) {
      if (!call.remote) continue
      this.#backlogBytes -= call.bytes
      call.refuse()
    }
    this.#reads.refuseRemote()
  }

  /** Gives up what has waited too long. Called every tick. */
  expire(): void {
    const now = this.#ports.now()
    const applied = this.#ports.appliedIndex()
    let late = 0
    while (late < this.#backlog.length && (this.#backlog[late] as Call).deadline <= now) late++
    for (const call of this.#backlog.splice(0, late)) {
      this.#backlogBytes -= call.bytes
      call.answer(CLUSTER_DOWN, applied)
    }
    this.#reads.expire()
    for (const entry of this.#appended) {
      if (entry.deadline === undefined || entry.deadline > now) continue
      this.#ports.forget(entry.index, entry)
      this.#abandon(entry, UNKNOWN_OUTCOME)
    }
    this.#handed.expire(now)
    this.afterApply()
    // A count that drifts would stop everything one day, or nothing when it must.
    assert(
      this.#backlog.length === 0 ? this.#backlogBytes === 0 : this.#backlogBytes > 0,
      () => `${this.#backlogBytes} bytes of ${this.#backlog.length} waiting calls`,
    )
  }
}

function sameRoute(a: Route, b: Route): boolean {
  if (a.kind === 'none' || b.kind === 'none') return a.kind === b.kind
  if (a.kind === 'leader' || b.kind === 'leader') return a.kind === b.kind && a.term === b.term
  return a.term === b.term && a.established === b.established
}
