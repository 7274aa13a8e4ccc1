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
import type { Index, NodeId } from '../raft/types.ts'
import { ErrorReply } from '../resp/encoder.ts'
import type { LoggedCommand } from '../storage/codec.ts'
import type { Call, Stream } from './call.ts'
import type { Args, Command } from './commands/command.ts'
import { HandedCalls } from './handed-calls.ts'
import { HeavyWrites } from './heavy-writes.ts'
import { fence } from './keyspace.ts'
import { OwnEntries } from './own-entries.ts'
import { PendingReads } from './pending-reads.ts'
import { type Route, sameRoute } from './route.ts'
import type { RouterLimits, RouterOptions, RouterPorts } from './router-ports.ts'

const CLUSTER_DOWN = new ErrorReply(
  'CLUSTERDOWN no leader is known to this node; the command was not executed',
)
const PARK_FULL = new ErrorReply(
  'CLUSTERDOWN no leader is known and too many commands wait for one; the command was not executed',
)
const ABANDONED = new ErrorReply('ERR the client was closed; the command was not executed')
const REMOVED = new ErrorReply(
  'CLUSTERDOWN this node was removed from its cluster; the command was not executed',
)

export class Router {
  readonly #ports: RouterPorts
  readonly #options: RouterOptions
  readonly #limits: RouterLimits
  #route: Route = { kind: 'none' }

  /** Calls that wait to be placed, oldest first. */
  #backlog: Call[] = []
  #backlogBytes = 0
  /** Monotonic ms before which nothing of the backlog is given up. */
  #patience = 0
  readonly #entries: OwnEntries
  readonly #reads: PendingReads
  readonly #handed: HandedCalls
  readonly #heavy: HeavyWrites
  /** A write waits until nothing is on its way: see #addWrite. */
  #awaitsIdle: Call | undefined

  constructor(options: { ports: RouterPorts; options: RouterOptions; limits: RouterLimits }) {
    this.#ports = options.ports
    this.#options = options.options
    this.#limits = options.limits
    this.#entries = new OwnEntries({
      ...options,
      ledTerm: () => (this.#route.kind === 'self' ? this.#route.term : undefined),
    })
    this.#reads = new PendingReads({ ...options, leads: () => this.#route.kind === 'self' })
    this.#heavy = new HeavyWrites({
      ports: options.ports,
      limits: options.limits.heavyWrites,
      isAnsweredAtOnce: ({ command, args, isReadonly }) => {
        const isRefused = this.#route.kind === 'self' && options.options.refusal !== undefined
        return isRefused || this.redirection(command, args, isReadonly) !== undefined
      },
      place: (call) => {
        // It may have rested for longer than it would wait for a leader.
        call.deadline = options.ports.now() + options.options.parkTimeoutMs
        this.#queue(call)
      },
    })
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

  /** Writes of large values, and what came behind them, while others are served. */
  get resting(): number {
    return this.#heavy.calls
  }

  /** Entries proposed here whose outcome is open. */
  get pendingEntries(): number {
    return this.#entries.appended
  }

  /** So much waits that the frontend should stop reading from its clients. */
  get congested(): boolean {
    const { backlogBytes, heavyWrites } = this.#limits
    return this.#waitingBytes > backlogBytes || this.#heavy.bytes > heavyWrites.restingBytesMax
  }

  /** There is a leader that takes commands: what has no place yet only waits for those before it. */
  get #waitsForRoom(): boolean {
    const route = this.#route
    if (route.kind === 'self') return route.established
    return route.kind === 'leader' && this.#handed.awaitsAnswers
  }

  get #waitingBytes(): number {
    return this.#backlogBytes + this.#handed.heldBytes
  }

  /** A command of a client or, at the leader, of another node. Its owner hears of it exactly once. */
  submit(call: Call): void {
    const { stream } = call
    stream.unanswered++
    // Another node's own build has let its call pass, and may have another limit.
    if (call.work > this.#limits.writeKeys && !call.isRemote) {
      const text = `ERR ${call.work} keys or operations are too many for one command`
      const refusal = new ErrorReply(`${text}: the limit is ${this.#limits.writeKeys}`)
      call.answer(refusal, this.#ports.appliedIndex())
      return
    }
    if (this.#route.kind === 'none') {
      const waits = this.#waitingBytes
      const isFull = waits > 0 && waits + call.bytes > this.#options.parkBytes
      if (isFull && !(stream.unanswered === 1 && this.#reads.mayBeStale(call))) {
        call.answer(PARK_FULL, this.#ports.appliedIndex())
        return
      }
    } else if (call.isRemote) this.#heavy.handedOn(call)
    else if (this.#heavy.holds(call)) return
    this.#queue(call)
  }

  /** Its client is gone: what was placed is executed all the same, what rests is not. */
  abandon(stream: Stream): void {
    for (const call of this.#heavy.abandon(stream)) {
      call.answer(ABANDONED, this.#ports.appliedIndex())
    }
  }

  /** CLIENT PAUSE: until then, in monotonic ms, nothing that rests is placed. */
  pauseUntil(at: number): void {
    this.#heavy.pauseUntil(at)
  }

  #queue(call: Call): void {
    const { stream } = call
    // Where nothing of its connection is on its way, a read waits for no command of others that has no place yet.
    const removed = this.#route.kind === 'none' && this.#route.removed === true
    const alone = stream.unanswered === 1 && !removed
    if (alone && (this.#reads.mayBeStale(call) || this.#readsHere(call))) {
      this.#reads.add(call)
      this.#ports.wake()
      return
    }
    this.#backlog.push(call)
    this.#backlogBytes += call.bytes
    this.#ports.wake()
  }

  /** Whether a read may run on this node now, by a read round. */
  #readsHere(call: Call): boolean {
    const route = this.#route
    if (!call.isRead || route.kind === 'none') return false
    return route.kind === 'self' ? route.established : this.#options.redirect === 'forward'
  }

  /** Places everything that can be placed. */
  flush(): void {
    this.#heavy.work()
    this.#handed.release()
    this.#entries.propose()
    this.#placeBacklog()
    this.#entries.closeIfDue()
    this.#entries.propose()
    this.#handed.send()
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
    if (route.kind === 'none') {
      if (route.removed === true) call.answer(REMOVED, this.#ports.appliedIndex())
      return route.removed === true
    }
    if (!call.isRemote && this.#handed.mustHold(call.stream)) {
      this.#handed.hold(call)
      return true
    }
    if (route.kind === 'self') {
      if (!route.established || this.#entries.isFull) return false
      if (!call.isRead) return this.#refuses(call) || this.#addWrite(call)
      this.#placeRead(call)
      return true
    }
    return this.#placeAtFollower(call)
  }

  /** A fence is refused to nobody: it is what another node waits for to know what became of its commands. */
  #refuses(call: Call): boolean {
    const { refusal } = this.#options
    if (refusal === undefined || call.command === fence.command) return false
    call.answer(refusal, this.#ports.appliedIndex())
    return true
  }

  /**
   * False: not yet. What a write comes to is told by what is applied and by what is on its way; it is too much only
   * where nothing is on its way, so that it does not depend on when it came.
   */
  #addWrite(call: Call): boolean {
    if (this.#awaitsIdle === call && !this.#entries.isIdle) return false
    const rewrite = this.#entries.weigh(call)
    if (rewrite !== undefined && rewrite.computed > this.#options.writeWorkMax) {
      this.#entries.unweigh(rewrite)
      this.#awaitsIdle = this.#entries.isIdle ? undefined : call
      if (this.#awaitsIdle !== undefined) return false
      call.answer(tooMuchWork(rewrite.computed, this.#options), this.#ports.appliedIndex())
      return true
    }
    // Reads before it that are not answered run just before it, so that they never see it.
    this.#entries.add(call, this.#reads.take(call.stream), rewrite)
    return true
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

  /**
   * With `redirect moved`, at a follower: the error that sends the client of a keyed command to the leader.
   * `isReadonly`: its reads are served where it is.
   */
  redirection(
    command: Pick<Command, 'keys' | 'kind'>,
    args: Args,
    isReadonly: boolean,
  ): ErrorReply | undefined {
    const route = this.#route
    if (isReadonly && command.kind === 'read') return undefined
    if (this.#options.redirect !== 'moved' || route.kind !== 'leader') return undefined
    const slot = this.#ports.keySlot(command, args)
    const address = this.#ports.clientAddress(route.leader)
    if (slot === undefined || address === undefined) return undefined
    return new ErrorReply(`MOVED ${slot} ${address}`)
  }

  #placeAtFollower(call: Call): boolean {
    const { stream } = call
    assert(!call.isRemote, () => `${call.command.name} would be handed on a second time`)
    const elsewhere = this.redirection(call.command, call.args, call.isReadonly)
    if (elsewhere !== undefined) {
      call.answer(elsewhere, this.#ports.appliedIndex())
      return true
    }
    if (call.isRead && stream.handed.length === 0) {
      this.#placeRead(call)
      return true
    }
    if (!this.#handed.hasRoomFor(call)) return false
    for (const read of this.#reads.take(stream)) this.#handed.add(read)
    this.#handed.add(call)
    return true
  }

  /**
   * Appends an entry of the node itself, a clock with these commands or none, and gives its index; undefined: not
   * here, or not now, where entries wait that will bring a clock. Clocks stand in the log in the order in which they
   * were read.
   */
  proposeOwn(commands?: readonly LoggedCommand[]): Index | undefined {
    return this.#entries.proposeOwn(commands)
  }

  // ---- What became of the calls that were placed --------------------------------------------------

  /** Entries were applied: their calls have their answers, and what waited for them may go on. */
  afterApply(): void {
    const never = this.#entries.afterApply()
    for (const call of never) this.#placeAgain(call)
    this.#placeReadsAgain(new Set(never.map((call) => call.stream)))
    this.#handed.afterApply()
    this.#reads.afterApply()
    this.#heavy.settle()
    if (this.#awaitsIdle === undefined || !this.#entries.isIdle) return
    this.#awaitsIdle = undefined
    this.#ports.wake()
  }

  /** Reads behind calls that were not executed here, or of which nobody here will know, must not run before them. */
  #placeReadsAgain(streams: ReadonlySet<Stream>): void {
    for (const stream of streams) {
      for (const read of this.#reads.take(stream)) this.#placeAgain(read)
    }
  }

  /** It was certainly not executed; the node that forwarded it is told so. */
  #placeAgain(call: Call): void {
    if (call.isRemote) {
      call.refuse()
      return
    }
    call.waitAgain()
    this.#handed.hold(call)
  }

  /** Entries up to `index` became part of the state without being applied here: nobody can tell what was in them. */
  skippedTo(index: Index): void {
    this.#placeReadsAgain(this.#entries.skippedTo(index))
    this.#handed.skipped()
  }

  /** The leader answered the call with this tag; `index` is what it had applied by then. */
  forwardAnswered(tag: number, bytes: Uint8Array, index: Index): void {
    this.#handed.answered(tag, bytes, index)
  }

  /** The other node certainly did not take the calls with these tags: they go first when they are placed again. */
  forwardRefused(tags: readonly number[]): void {
    this.#handed.refused(tags)
  }

  /** The link to `leader` died: it will not answer what was handed over it. */
  forwardLost(leader: NodeId): void {
    this.#handed.lost(leader)
  }

  /** Inside apply, where the command with this tag stands: what has to run there, and be answered. */
  takeForwarded(tag: number): readonly Call[] {
    return this.#handed.take(tag)
  }

  // ---- Changes of leadership, deadlines --------------------------------------------------------------------------------

  /** Who leads, as of now. Called after every change, before the next flush. */
  setRoute(route: Route): void {
    const before = this.#route
    if (sameRoute(before, route)) return
    const waited = this.#waitsForRoom
    this.#route = route
    if (route.kind === 'none') this.#heavy.release()
    const deadline = this.#ports.now() + this.#options.parkTimeoutMs
    if (waited) this.#patience = deadline
    this.#entries.setDeadline(deadline)
    this.#handed.setRoute(route)
    const leads = route.kind === 'self' && before.kind === 'self' && route.term === before.term
    if (before.kind === 'self' && !leads) this.#unplace()
    this.#ports.wake()
  }

  /** What this node took as a leader and did not append goes back to where it came from. */
  #unplace(): void {
    const unproposed = this.#entries.takeUnproposed()
    for (const call of unproposed) {
      call.waitAgain()
      this.#backlogBytes += call.bytes
    }
    const all = [...unproposed, ...this.#backlog]
    this.#backlog = all.filter((call) => !call.isRemote)
    for (const call of all) {
      if (!call.isRemote) continue
      this.#backlogBytes -= call.bytes
      call.refuse()
    }
    this.#reads.refuseRemote()
  }

  /** Gives up what has waited too long. Called every tick. */
  expire(): void {
    const now = this.#ports.now()
    const applied = this.#ports.appliedIndex()
    this.#expireBacklog(now, applied)
    this.#reads.expire()
    this.#placeReadsAgain(this.#entries.expire(now))
    this.#handed.expire(now)
    this.afterApply()
    // A count that drifts would stop everything one day, or nothing when it must.
    assert(
      this.#backlog.length === 0 ? this.#backlogBytes === 0 : this.#backlogBytes > 0,
      () => `${this.#backlogBytes} bytes of ${this.#backlog.length} waiting calls`,
    )
  }

  /**
   * What waits for a leader has its deadline; what waits for room at one waits for as long as the disk needs there.
   * When that leader is lost, all of it has the time that a command has which comes now.
   */
  #expireBacklog(now: number, applied: Index): void {
    if (this.#waitsForRoom || now < this.#patience) return
    let late = 0
    while (late < this.#backlog.length && (this.#backlog[late] as Call).deadline <= now) late++
    for (const call of this.#backlog.splice(0, late)) {
      this.#backlogBytes -= call.bytes
      call.answer(CLUSTER_DOWN, applied)
    }
  }
}

function tooMuchWork(bytes: number, { writeWorkMax }: RouterOptions): ErrorReply {
  const text = `ERR the command would work on ${bytes} bytes of values in one go`
  return new ErrorReply(`${text}: write-work-max is ${writeWorkMax}`)
}
