/*
 * The entries that this node makes of calls while it leads: closed at a limit, proposed when there is room, and then
 * watched until it is known what became of them. It knows what an entry may hold and what its fate is, but not which
 * call comes next nor where one goes that comes back: router.ts does.
 *
 * Invariants: entries are proposed in the order in which they were closed, in the term for which their calls were
 * taken; an entry that was proposed is answered where it is applied, or comes back when an entry of a later term is
 * applied (terms never fall in the log, so it never will be), or is given up.
 */

import { assert } from '../raft/assert.ts'
import type { Index, Term } from '../raft/types.ts'
import { encodeCommands, type ForwardedRun, type LoggedCommand } from '../storage/codec.ts'
import type { Call, Stream } from './call.ts'
import { EntryPace } from './entry-pace.ts'
import { EntryWeight, type Rewrite } from './entry-weight.ts'
import { UNKNOWN_OUTCOME } from './handed-calls.ts'
import type { Batch } from './keyspace.ts'
import type { RouterLimits, RouterPorts } from './router-ports.ts'

/** An entry as its proposer remembers it: its commands and the reads that ride between them, in order. */
interface EntryOfCalls extends Batch {
  readonly items: Call[]
  writes: number
  bytes: number
  keys: number
  /** Of its writes that handle whole values, and how many bytes of them in all. */
  readonly rewrites: Rewrite[]
  weight: number
  /** Made when it is first proposed, and kept while there is no room: it may be many megabytes. */
  data: Uint8Array | undefined
  term: Term
  index: Index
  /** Monotonic ms. */
  readonly openedAt: number
  proposedAt: number
  /** Monotonic ms at which the outcome is given up; undefined while this node leads the entry's term. */
  deadline: number | undefined
}

export class OwnEntries {
  readonly #ports: RouterPorts
  readonly #limits: RouterLimits
  readonly #ledTerm: () => Term | undefined
  /** Closed entries that were not proposed yet, and the one under construction behind them. */
  #closed: EntryOfCalls[] = []
  #open: EntryOfCalls | undefined
  /** Proposed, in the order of their indices; their outcome is open. */
  readonly #appended = new Set<EntryOfCalls>()
  /** Arguments of their commands, which are kept until they are answered. */
  #appendedBytes = 0
  readonly #pace: EntryPace
  readonly #weight: EntryWeight
  /** A turn was asked for, at which the entry under construction has waited long enough. */
  #turnAsked = false

  constructor(options: {
    ports: RouterPorts
    limits: RouterLimits
    ledTerm: () => Term | undefined
  }) {
    this.#ports = options.ports
    this.#limits = options.limits
    this.#ledTerm = options.ledTerm
    this.#pace = new EntryPace(options.limits.entryWaitMs)
    this.#weight = new EntryWeight((database, key) => options.ports.valueLength(database, key))
  }

  /** Entries wait for room in the log: what comes now must wait behind them. */
  get isFull(): boolean {
    return this.#closed.length > 0
  }

  /** Proposed entries whose outcome is open. */
  get appended(): number {
    return this.#appended.size
  }

  // ---- Making them ------------------------------------------------------------------------------

  /** Nothing is on its way, so what is applied is what the next write will find. */
  get isIdle(): boolean {
    return this.#open === undefined && this.#closed.length === 0 && this.#appended.size === 0
  }

  /** What the next write does to values, for add(); undefined: nothing. */
  weigh(call: Call): Rewrite | undefined {
    return this.#weight.begin(call)
  }

  /** The write that was weighed is not added. */
  unweigh(rewrite: Rewrite): void {
    this.#weight.done(rewrite)
  }

  /** The next write, behind the reads of its stream that must not see it. */
  add(call: Call, readsBefore: readonly Call[], rewrite: Rewrite | undefined): void {
    const entry = this.#entryFor(call, rewrite?.bytes ?? 0)
    for (const read of readsBefore) {
      read.place = 'building'
      entry.items.push(read)
    }
    call.place = 'building'
    call.stream.building = entry
    entry.items.push(call)
    entry.writes++
    entry.bytes += call.bytes
    entry.keys += call.work
    if (rewrite === undefined) return
    entry.rewrites.push(rewrite)
    entry.weight += rewrite.bytes
  }

  #entryFor(call: Call, weight: number): EntryOfCalls {
    const { entryCommands, entryBytes, entryKeys, entryWeight } = this.#limits
    const open = this.#open
    const hasRoom =
      open !== undefined &&
      open.writes < entryCommands &&
      open.bytes + call.bytes <= entryBytes &&
      open.keys + call.work <= entryKeys &&
      open.weight + weight <= entryWeight
    if (hasRoom) return open
    this.close()
    this.propose()
    const entry = newEntry(this.#ports.now())
    this.#open = entry
    return entry
  }

  /** Nothing more goes into the entry under construction. */
  close(): void {
    if (this.#open === undefined) return
    this.#pace.closed(this.#open.writes)
    this.#closed.push(this.#open)
    this.#open = undefined
  }

  /**
   * At the end of a turn: what is there goes, or collects what comes until the entry on its way is through and the
   * clients that it answered had a moment to come back (entry-pace.ts), but not for longer than is allowed. A round of
   * the cluster costs alike whatever it carries, so it is to carry more.
   */
  closeIfDue(): void {
    const open = this.#open
    if (open === undefined) return
    const now = this.#ports.now()
    const mayWait = now - open.openedAt < this.#limits.entryWaitMs
    if (mayWait && this.#appended.size > 0) return
    const waitMs = mayWait ? this.#pace.waitMs(now, open.writes) : 0
    if (waitMs === 0) this.close()
    else this.#askTurn(waitMs)
  }

  #askTurn(inMs: number): void {
    if (this.#turnAsked) return
    this.#turnAsked = true
    this.#ports.wakeAfter(inMs, () => {
      this.#turnAsked = false
    })
  }

  /**
   * Proposes what is closed, as far as there is room: in the log, and before the state, which does not take entries as
   * fast as the log while the disk falls behind with its checkpoints.
   */
  propose(): void {
    let proposed = 0
    for (const entry of this.#closed) {
      const bytes = this.#appendedBytes + entry.bytes
      if (this.#appended.size > 0 && bytes > this.#limits.unappliedBytes) break
      entry.data ??= this.#encode(entry)
      const result = this.#ports.propose([entry.data])
      if (!result.accepted) break
      assert(
        result.term === this.#ledTerm(),
        () => `calls taken for term ${this.#ledTerm()} are proposed in term ${result.term}`,
      )
      proposed++
      entry.data = undefined
      entry.term = result.term
      entry.index = result.first
      entry.proposedAt = this.#ports.now()
      for (const call of entry.items) call.appendedTo(entry, entry.term)
      this.#appended.add(entry)
      this.#appendedBytes += entry.bytes
      this.#ports.expect(entry.index, entry)
    }
    if (proposed > 0) this.#closed.splice(0, proposed)
  }

  /** See Router.proposeOwn. */
  proposeOwn(commands: readonly LoggedCommand[] = []): Index | undefined {
    if (this.#closed.length > 0 || this.#open !== undefined) return undefined
    const result = this.#ports.propose([encodeCommands(this.#ports.logicalNow(), commands)])
    return result.accepted ? result.first : undefined
  }

  #encode({ items }: EntryOfCalls): Uint8Array {
    const commands = items.filter((call) => !call.isRead)
    const logged = commands.map(({ database, args }) => ({ database, argv: args }))
    return encodeCommands(this.#ports.logicalNow(), logged, forwardedRuns(commands))
  }

  /** At the end of an office: the calls of which nothing was proposed, in order. */
  takeUnproposed(): readonly Call[] {
    this.close()
    const calls = this.#closed.flatMap(({ items }) => items)
    for (const { rewrites } of this.#closed) this.#ended(rewrites)
    this.#closed = []
    for (const { stream } of calls) stream.building = undefined
    return calls
  }

  // ---- What becomes of them -----------------------------------------------------------------------

  /** Entries were applied; the calls that certainly were not executed and never will be, in order. */
  afterApply(): readonly Call[] {
    const applied = this.#ports.appliedTerm()
    const never: Call[] = []
    let answered = 0
    let tookMs = 0
    for (const entry of this.#appended) {
      // Not by its first item: a long read goes on after its entry.
      const write = entry.items.find((call) => !call.isRead)
      if (write?.place === 'answered') {
        this.#remove(entry)
        answered += entry.writes
        tookMs = this.#ports.now() - entry.proposedAt
      } else if (entry.term < applied) {
        this.#forget(entry)
        for (const call of entry.items) never.push(call)
      }
    }
    if (answered > 0) {
      const waiting = this.#open?.writes ?? 0
      this.#pace.answered(this.#ports.now(), { tookMs, writes: answered, waiting })
    }
    // What has waited for them may go: for the round, or for room.
    const waits = this.#open !== undefined || this.#closed.length > 0
    if (answered + never.length > 0 && waits) this.#ports.wake()
    return never
  }

  /** Entries up to `index` became part of the state without being applied here. Returns what expire() does. */
  skippedTo(index: Index): ReadonlySet<Stream> {
    return this.#giveUp((entry) => entry.index <= index)
  }

  /** What was proposed in other terms than the one that this node leads now has until `deadline`. */
  setDeadline(deadline: number): void {
    for (const entry of this.#appended) {
      if (entry.term !== this.#ledTerm()) entry.deadline ??= deadline
    }
  }

  /** Returns the streams of other nodes of which calls were given up, whose outcome those will see by themselves. */
  expire(now: number): ReadonlySet<Stream> {
    return this.#giveUp(({ deadline }) => deadline !== undefined && deadline <= now)
  }

  /** The fate of these is unknown. */
  #giveUp(isGivenUp: (entry: EntryOfCalls) => boolean): ReadonlySet<Stream> {
    const applied = this.#ports.appliedIndex()
    const dropped = new Set<Stream>()
    for (const entry of this.#appended) {
      if (!isGivenUp(entry)) continue
      this.#forget(entry)
      for (const call of entry.items) {
        if (call.isRemote) {
          call.drop()
          dropped.add(call.stream)
        } else call.answer(UNKNOWN_OUTCOME, applied)
      }
    }
    return dropped
  }

  #forget(entry: EntryOfCalls): void {
    this.#remove(entry)
    this.#ports.forget(entry.index, entry)
  }

  #ended(rewrites: readonly Rewrite[]): void {
    for (const rewrite of rewrites) this.#weight.done(rewrite)
  }

  #remove(entry: EntryOfCalls): void {
    this.#appended.delete(entry)
    this.#appendedBytes -= entry.bytes
    this.#ended(entry.rewrites)
    // A count that drifts would stop everything one day, or nothing when it must.
    assert(
      this.#appended.size === 0 ? this.#appendedBytes === 0 : this.#appendedBytes > 0,
      () => `${this.#appendedBytes} bytes of ${this.#appended.size} open entries`,
    )
  }
}

function newEntry(openedAt: number): EntryOfCalls {
  return {
    openedAt,
    proposedAt: 0,
    items: [],
    writes: 0,
    bytes: 0,
    keys: 0,
    rewrites: [],
    weight: 0,
    data: undefined,
    term: 0,
    index: 0,
    deadline: undefined,
  }
}

/** Which of an entry's commands other nodes took from their clients. */
function forwardedRuns(commands: readonly Call[]): ForwardedRun[] {
  const runs: { -readonly [Name in keyof ForwardedRun]: ForwardedRun[Name] }[] = []
  let last = runs[0]
  for (const [place, { origin, tag }] of commands.entries()) {
    if (origin === undefined) last = undefined
    else if (last?.origin === origin && last.tag + last.count === tag) last.count++
    else {
      last = { origin, place, count: 1, tag }
      runs.push(last)
    }
  }
  return runs
}
