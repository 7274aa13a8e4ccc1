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
import { type Call, EncodedReply, type Stream } from './call.ts'
import type { Batch } from './keyspace.ts'

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
  /** Runs a read command against the applied state. */
  run(call: Call): Reply
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
  /** An entry closes at so many commands or bytes; one larger command stands alone. */
  readonly entryCommands: number
  readonly entryBytes: number
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

/** An entry as its proposer remembers it: its commands and the reads that ride between them, in order. */
interface EntryOfCalls extends Batch {
  readonly items: Call[]
  writes: number
  bytes: number
  /** Made when it is first proposed, and kept while there is no room: it may be many megabytes. */
  data: Uint8Array | undefined
  term: Term
  index: Index
  /** Monotonic ms at which the outcome is given up; undefined while this node leads the entry's term. */
  deadline: number | undefined
}

/** Reads that one round was asked for. */
interface ReadRound {
  readonly calls: readonly Call[]
  /** Monotonic ms at which those that could not run until then are given up. */
  readonly deadline: number
}

/** How long a round may take at least, and what it confirmed to be applied here, however short parking is. */
const READ_ROUND_MS_MIN = 5_000

const CLUSTER_DOWN = new ErrorReply(
  'CLUSTERDOWN no leader is known to this node; the command was not executed',
)
const PARK_FULL = new ErrorReply(
  'CLUSTERDOWN no leader is known and too many commands wait for one; the command was not executed',
)
const OVERWRITTEN = new ErrorReply(
  'CLUSTERDOWN the leader changed before the command was replicated; it was not executed',
)
const UNCONFIRMED = new ErrorReply(
  'CLUSTERDOWN no leader confirmed the read in time; it was not executed',
)
const UNKNOWN = new ErrorReply(
  'TIMEOUT outcome unknown: the leader was lost after it took the command',
)

export class Router {
  readonly #ports: RouterPorts
  readonly #options: RouterOptions
  readonly #limits: RouterLimits
  #route: Route = { kind: 'none' }

  /** Calls that wait to be placed, oldest first. */
  #backlog: Call[] = []
  /** Calls that their streams hold until what went before them is settled. */
  #held = 0
  /** Of the backlog and of the held. */
  #backlogBytes = 0
  /** Closed entries that were not proposed yet, and the one under construction behind them. */
  #closed: EntryOfCalls[] = []
  #open: EntryOfCalls | undefined
  /** Proposed entries of this node whose outcome is open. */
  #appended = new Set<EntryOfCalls>()
  /** Reads of the next round. */
  #reading: Call[] = []
  /** Rounds with reads that could not run yet. */
  #rounds = new Set<ReadRound>()
  /** Streams whose confirmed reads wait for entries to be applied. */
  #lagging = new Set<Stream>()
  /** Calls handed to the leader of a term, oldest first, and when those of a past term are given up. */
  #forwarded = new Map<Term, { leader: NodeId; calls: Set<Call>; deadline: number | undefined }>()
  #forwardedBytes = 0
  #outgoing: Call[] = []
  /** The leader's link is down or it refused: not tried again before the next tick or change of leadership. */
  #forwardBlocked = false

  constructor(options: { ports: RouterPorts; options: RouterOptions; limits: RouterLimits }) {
    this.#ports = options.ports
    this.#options = options.options
    this.#limits = options.limits
  }

  /** Calls that wait for a leader, or for room at it. */
  get parked(): number {
    return this.#backlog.length + this.#held
  }

  /** Entries proposed here whose outcome is open. */
  get pendingEntries(): number {
    return this.#appended.size
  }

  /** So much waits that the frontend should stop reading from its clients. */
  get congested(): boolean {
    return this.#backlogBytes > this.#limits.backlogBytes
  }

  /** A command of a client or, at the leader, of another node. Its owner hears of it exactly once. */
  submit(call: Call): void {
    const { stream } = call
    stream.unanswered++
    if (stream.unanswered === 1 && this.#mayBeStale(call)) {
      // As soon as what its connection has seen is applied here.
      call.place = 'reading'
      stream.reads.push(call)
      this.#confirm(this.#round([call]))
      return
    }
    if (
      this.#route.kind === 'none' &&
      this.#backlogBytes > 0 &&
      this.#backlogBytes + call.bytes > this.#options.parkBytes
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
    this.#sendForwards()
    this.#beginReads()
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
    if (this.#mustHold(call.stream)) {
      this.#hold(call)
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

  /** What was handed to another leader, or could not be, may still come back, and then it goes first. */
  #mustHold({ held, forwarded, forwardedTerm }: Stream): boolean {
    if (held.length > 0) return true
    return forwarded > 0 && forwardedTerm !== this.#servedTerm
  }

  /** The term of the leader that calls are handed to now. */
  get #servedTerm(): Term | undefined {
    return this.#route.kind === 'leader' ? this.#route.term : undefined
  }

  #hold(call: Call): void {
    const { held } = call.stream
    let at = held.length
    while (at > 0 && (held[at - 1] as Call).sequence > call.sequence) at--
    held.splice(at, 0, call)
    this.#held++
    this.#backlogBytes += call.bytes
  }

  /** What the streams of these calls held goes first, in its order, once nothing of them is handed over. */
  #release(calls: readonly Call[]): void {
    const released: Call[] = []
    for (const { stream } of calls) {
      if (stream.forwarded > 0 || stream.held.length === 0) continue
      for (const call of stream.held) released.push(call)
      stream.held = []
    }
    if (released.length === 0) return
    this.#held -= released.length
    this.#backlog = [...released, ...this.#backlog]
    this.#ports.wake()
  }

  #placeRead(call: Call): void {
    const entry = call.stream.building
    if (entry === undefined) {
      call.place = 'reading'
      call.stream.reads.push(call)
      this.#reading.push(call)
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
        entry.bytes + call.bytes > this.#limits.entryBytes)
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
    for (const read of this.#takeReads(call.stream)) {
      read.place = 'building'
      entry.items.push(read)
    }
    call.place = 'building'
    call.stream.building = entry
    entry.items.push(call)
    entry.writes++
    entry.bytes += call.bytes
  }

  /** The reads of a stream that wait for their round; whoever takes them answers for them. */
  #takeReads(stream: Stream): readonly Call[] {
    const reads = stream.reads
    stream.reads = []
    this.#lagging.delete(stream)
    return reads
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
    const full =
      this.#forwardedBytes > 0 && this.#forwardedBytes + call.bytes > this.#limits.forwardBytes
    if (full || this.#forwardBlocked) return false
    for (const read of this.#takeReads(stream)) this.#forward(read, term)
    this.#forward(call, term)
    return true
  }

  #forward(call: Call, term: Term): void {
    call.place = 'forwarded'
    call.stream.forwarded++
    call.stream.forwardedTerm = term
    call.forwardTerm = term
    this.#forwardedBytes += call.bytes
    this.#outgoing.push(call)
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

  // ---- Reads --------------------------------------------------------------------------------------------------------

  /** Another node's read is served as strictly as that node may want it: it knows its own option only. */
  #mayBeStale(call: Call): boolean {
    return call.isRead && !call.remote && this.#options.readConsistency === 'stale'
  }

  #beginReads(): void {
    if (this.#reading.length === 0) return
    const calls = this.#reading.filter((call) => call.place === 'reading')
    const stale = calls.filter((call) => this.#mayBeStale(call))
    if (stale.length > 0) this.#confirm(this.#round(stale))
    this.#reading = stale.length > 0 ? calls.filter((call) => !this.#mayBeStale(call)) : calls
    if (this.#reading.length === 0 || this.#route.kind === 'none') return
    const round = this.#round(this.#reading)
    this.#reading = []
    this.#ports.read((confirmed) => {
      if (confirmed) this.#confirm(round)
      else this.#unconfirmed(round)
    })
  }

  #round(calls: readonly Call[]): ReadRound {
    const ms = Math.max(this.#options.parkTimeoutMs, READ_ROUND_MS_MIN)
    const round = { calls, deadline: this.#ports.now() + ms }
    this.#rounds.add(round)
    return round
  }

  #confirm(round: ReadRound): void {
    let open = 0
    for (const call of round.calls) {
      if (call.place !== 'reading') continue
      call.confirmed = true
      this.#serve(call.stream)
      if (call.place === 'reading') open++
    }
    if (open === 0) this.#rounds.delete(round)
  }

  /** Runs the reads at the head of a stream that nothing before them holds up. */
  #serve(stream: Stream): void {
    const applied = this.#ports.appliedIndex()
    for (;;) {
      const call = stream.reads[0]
      if (call === undefined || !call.confirmed) break
      if (stream.appended > 0 || applied < stream.lastSeen) {
        this.#lagging.add(stream)
        return
      }
      stream.reads.shift()
      call.answer(this.#ports.run(call), applied)
    }
    this.#lagging.delete(stream)
  }

  /** No leader confirmed the round: the reads of this node try again, those of others are their nodes' to place. */
  #unconfirmed(round: ReadRound): void {
    this.#rounds.delete(round)
    const now = this.#ports.now()
    for (const call of round.calls) {
      if (call.place !== 'reading') continue
      if (call.remote && this.#route.kind !== 'self') {
        remove(call.stream.reads, call)
        call.refuse()
      } else if (call.deadline <= now) {
        this.#giveUpRead(call)
      } else {
        this.#reading.push(call)
      }
    }
    this.#ports.wake()
  }

  #giveUpRead(call: Call): void {
    remove(call.stream.reads, call)
    call.answer(UNCONFIRMED, this.#ports.appliedIndex())
  }

  /** Entries were applied: their calls have their answers, and reads that waited for them may run. */
  afterApply(): void {
    const applied = this.#ports.appliedIndex()
    for (const entry of this.#appended) {
      if (entry.index > applied) continue
      if (entry.items[0]?.place === 'answered') this.#appended.delete(entry)
      // A later entry of this node took its index: its own might still have been applied from another node.
      else this.#abandon(entry, UNKNOWN)
    }
    for (const stream of this.#lagging) this.#serve(stream)
  }

  // ---- At a follower --------------------------------------------------------------------------------------------------

  #sendForwards(): void {
    const calls = this.#outgoing
    if (calls.length === 0) return
    this.#outgoing = []
    const route = this.#route
    let from = 0
    while (from < calls.length) {
      let to = from
      let bytes = 0
      while (to < calls.length && to - from < this.#limits.entryCommands) {
        const next = (calls[to] as Call).bytes
        if (to > from && bytes + next > this.#limits.entryBytes) break
        bytes += next
        to++
      }
      const frame = calls.slice(from, to)
      if (route.kind !== 'leader' || !this.#ports.forward(route.leader, route.term, frame)) {
        // Nothing of it was sent: a later turn tries again, in the same order.
        this.#forwardBlocked = true
        const unsent = calls.slice(from)
        this.#takeBack(unsent)
        this.#release(unsent)
        return
      }
      let sent = this.#forwarded.get(route.term)
      if (sent === undefined) {
        sent = { leader: route.leader, calls: new Set(), deadline: undefined }
        this.#forwarded.set(route.term, sent)
      }
      for (const call of frame) sent.calls.add(call)
      from = to
    }
  }

  /** Certainly not appended: held, so that what was handed over before them is settled first. */
  #takeBack(calls: readonly Call[]): void {
    for (const call of calls) {
      this.#leaveForwarded(call)
      call.place = 'waiting'
      call.confirmed = false
      this.#hold(call)
    }
  }

  #leaveForwarded(call: Call): void {
    call.stream.forwarded--
    this.#forwardedBytes -= call.bytes
  }

  /** The leader answered; `index` is what it had applied by then. Nobody may be waiting for it any more. */
  forwardAnswered(call: Call, bytes: Uint8Array, index: Index): void {
    if (!this.#forgetForwarded(call)) return
    this.#leaveForwarded(call)
    call.answer(new EncodedReply(bytes), index)
    this.#release([call])
    this.#ports.wake()
  }

  /** The other node did not take these calls, in their order: they go first when they are placed again. */
  forwardRefused(calls: readonly Call[]): void {
    this.#forwardBlocked = true
    this.#takeBack(calls.filter((call) => this.#forgetForwarded(call)))
    this.#release(calls)
  }

  #forgetForwarded(call: Call): boolean {
    const sent = this.#forwarded.get(call.forwardTerm)
    if (call.place !== 'forwarded' || sent?.calls.delete(call) !== true) return false
    if (sent.calls.size === 0) this.#forwarded.delete(call.forwardTerm)
    return true
  }

  /** The link to `leader` died: nothing handed to it will be answered any more. */
  forwardLost(leader: NodeId): void {
    for (const [term, sent] of this.#forwarded) if (sent.leader === leader) this.#giveUp(term)
  }

  /** Writes handed over may have happened; a read may be asked again unless a later write was handed over too. */
  #giveUp(term: Term): void {
    const calls = [...(this.#forwarded.get(term)?.calls ?? [])]
    this.#forwarded.delete(term)
    const written = new Set<Stream>()
    const again = new Set<Call>()
    for (const call of calls.toReversed()) {
      if (!call.isRead) written.add(call.stream)
      if (!written.has(call.stream)) again.add(call)
    }
    const applied = this.#ports.appliedIndex()
    for (const call of calls) {
      if (again.has(call)) continue
      this.#leaveForwarded(call)
      call.answer(UNKNOWN, applied)
    }
    this.#takeBack(calls.filter((call) => again.has(call)))
    this.#release(calls)
  }

  // ---- Changes of leadership, deadlines --------------------------------------------------------------------------------

  /** Who leads, as of now. Called after every change, before the next flush. */
  setRoute(route: Route): void {
    const before = this.#route
    if (sameRoute(before, route)) return
    this.#route = route
    this.#forwardBlocked = false
    const deadline = this.#ports.now() + this.#options.parkTimeoutMs
    const ledTerm = route.kind === 'self' ? route.term : undefined
    for (const entry of this.#appended) {
      if (entry.term !== ledTerm) entry.deadline ??= deadline
    }
    for (const [term, sent] of this.#forwarded) {
      sent.deadline = term === this.#servedTerm ? undefined : (sent.deadline ?? deadline)
    }
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
      call.place = 'waiting'
      call.confirmed = false
      this.#backlogBytes += call.bytes
    }
    const all = [...unproposed, ...this.#backlog]
    this.#backlog = all.filter((call) => !call.remote)
    for (const call of all) {
      if (!call.remote) continue
      this.#backlogBytes -= call.bytes
      call.refuse()
    }
    for (const call of this.#reading.filter(({ remote, place }) => remote && place === 'reading')) {
      remove(call.stream.reads, call)
      call.refuse()
    }
    this.#reading = this.#reading.filter((call) => call.place === 'reading')
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
    for (const call of this.#reading) {
      if (call.place !== 'reading' || call.deadline > now) continue
      this.#giveUpRead(call)
    }
    this.#reading = this.#reading.filter((call) => call.place === 'reading')
    for (const round of this.#rounds) {
      if (round.deadline > now) continue
      this.#rounds.delete(round)
      for (const call of round.calls) if (call.place === 'reading') this.#giveUpRead(call)
    }
    for (const entry of this.#appended) {
      if (entry.deadline === undefined || entry.deadline > now) continue
      this.#ports.forget(entry.index, entry)
      this.#abandon(entry, UNKNOWN)
    }
    for (const [term, sent] of this.#forwarded) {
      if (sent.deadline !== undefined && sent.deadline <= now) this.#giveUp(term)
    }
    this.#forwardBlocked = false
    this.afterApply()
    this.#assertCounts()
  }

  /** Counts that drift would stop everything one day, or nothing when it must. */
  #assertCounts(): void {
    const waiting = this.#backlog.length + this.#held
    assert(
      waiting === 0 ? this.#backlogBytes === 0 : this.#backlogBytes > 0,
      () => `${this.#backlogBytes} bytes of ${waiting} waiting calls`,
    )
    assert(
      this.#forwarded.size === 0 ? this.#forwardedBytes === 0 : this.#forwardedBytes > 0,
      () => `${this.#forwardedBytes} bytes handed to leaders of ${this.#forwarded.size} terms`,
    )
  }
}

function sameRoute(a: Route, b: Route): boolean {
  if (a.kind === 'none' || b.kind === 'none') return a.kind === b.kind
  if (a.kind === 'leader' || b.kind === 'leader') return a.kind === b.kind && a.term === b.term
  return a.term === b.term && a.established === b.established
}

function remove(reads: Call[], call: Call): void {
  const at = reads.indexOf(call)
  assert(at >= 0, () => 'a read that waits stands in its stream')
  reads.splice(at, 1)
}
