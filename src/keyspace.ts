/*
 * The state machine behind the log: applies each entry by running its commands over the state
 * store, and runs reads against what is applied. Applying is the same on every node to the bit: it
 * reads nothing but the entry and the state, its clock is the logged one, and a command that fails
 * leaves nothing behind. Who waits for a reply is registered per entry, so that a node where nobody
 * waits keeps none. It knows no log, peer or socket.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../raft/assert.ts'
import type { Random, StateMachine } from '../raft/ports.ts'
import type { Entry, Index, Membership, Term } from '../raft/types.ts'
import { ErrorReply, nullArray, OK, type Protocol, type Reply } from '../resp/encoder.ts'
import {
  decodeCommands,
  type ForwardedRun,
  isSameOrigin,
  type LoggedCommand,
  type Origin,
} from '../storage/codec.ts'
import type { Transaction } from '../storage/logged-command.ts'
import type { StateStore } from '../storage/state-store.ts'
import { ViewClosedError } from '../storage/state-views.ts'
import { argument, isWord } from './commands/arguments.ts'
import {
  type Args,
  badDatabase,
  type CalledCommand,
  type CalledRead,
  CommandError,
  OneGo,
} from './commands/command.ts'
import { unknownCommand } from './commands/command-table.ts'
import type { DatabaseFacts } from './commands/local-server.ts'
import { resolve } from './commands/table.ts'
import { limits } from './config.ts'
import { factsOf } from './database-facts.ts'
import { Overlays, storeOf, Views } from './database-view.ts'
import { DueRemoval } from './due-removal.ts'
import { knownLevel, LEVEL_NAME } from './feature-level.ts'
import { KeyspaceCounts } from './keyspace-counts.ts'
import { LateRiders } from './late-riders.ts'
import { LongRead, type LongReads } from './long-reads.ts'
import { ClockBehind, type Moment, versionOf } from './moment.ts'
import { isOfThisNode } from './node-faults.ts'
import { DATABASES } from './session.ts'
import { internalCommand, isOutdated, TransactionReplies, transactionOf } from './transaction.ts'

/** The part of the state store that applying and reading need. */
export type KeyspaceStore = Pick<
  StateStore,
  | 'get'
  | 'expiryOf'
  | 'put'
  | 'delete'
  | 'clear'
  | 'swap'
  | 'size'
  | 'range'
  | 'newestKey'
  | 'createdSince'
  | 'view'
  | 'dueKeys'
  | 'nextExpiry'
  | 'expires'
  | 'commitEntry'
  | 'appliedIndex'
  | 'clock'
  | 'canWrite'
  | 'hashKey'
  | 'setHashKey'
  | 'raiseFeatureLevel'
>

/** One command of an entry that this node proposed, and who waits for its reply. */
export interface BatchItem {
  /**
   * A write is the entry's next command. A read rides: it is not in the entry, and runs on this
   * node only, after the items before it and before those behind it.
   */
  readonly command: CalledCommand
  readonly database: number
  readonly args: Args
  readonly protocol: Protocol
  /**
   * Called once, inside apply (of a long read: in a later turn): encode and return, start nothing. The
   * memory behind `reply` is only valid during this call. `index` is that of the entry.
   */
  answer(reply: Reply, index: Index): void
}

/** What this node waits for at one index of the log. */
export interface Batch {
  /** The term in which it was proposed. */
  readonly term: Term
  /** The entry's commands in order, riders among them. Nothing of it is answered when another entry came there. */
  readonly items: readonly BatchItem[]
}

/** The commands of this node's clients that stand in the entries of other nodes. */
export interface ForwardedItems {
  /** Which of an entry's commands are this node's. */
  readonly origin: Origin
  /**
   * Whoever waits where its command with this tag stands: reads that ride, then the command itself; none: nobody
   * does, or not for the command.
   */
  take(tag: number): readonly BatchItem[]
  /** Entries up to `index` became part of the state without being applied here, by a snapshot. */
  skippedTo(index: Index): void
}

export interface ApplyObserver {
  /**
   * The entry is part of the state now: reads that waited for its index may run, from inside this
   * call too.
   */
  applied(index: Index, term: Term): void
  /**
   * A handler has a bug; every node answered the same error and changed nothing. For the log of the
   * node.
   */
  internalError(index: Index, command: string, error: unknown): void
}

/** Names that no client's command can have, because they are in no table. */
const HASH_KEY_NAME = 'holdfast.hash-key'
const FENCE_NAME = 'holdfast.fence'

/** Does nothing, in a place of the log: see HandedCalls. */
export const fence: { readonly command: CalledCommand; readonly args: Args } = {
  command: { kind: 'write', name: FENCE_NAME },
  args: [Buffer.from(FENCE_NAME)],
}

/**
 * The command that a new cluster logs first: the random key by which positions of keys are hashed.
 */
export function hashKeyCommand(key: Uint8Array): LoggedCommand {
  return { database: 0, argv: [Buffer.from(HASH_KEY_NAME), key] }
}

/** What a read comes to: a reply, a long read that goes on by itself, or why it must be tried again later. */
export type ReadOutcome = Reply | LongRead | ClockBehind | typeof NO_ROOM
/** As many long reads run as there may be. */
export const NO_ROOM: unique symbol = Symbol('no room for another long read')

const internalError = new ErrorReply('ERR internal error')
const tooManyLongReads = new ErrorReply('ERR too many long reads are running; try again later')
const viewClosed = new ErrorReply('ERR the read took too long for one view of the data; use SCAN')

export class Keyspace implements StateMachine {
  readonly #store: KeyspaceStore
  readonly #observer: ApplyObserver
  readonly #batches = new Map<Index, Batch>()
  readonly #forwarded: ForwardedItems | undefined
  /** What was applied last by this process; the term is 0 before the first entry. */
  #last: { readonly index: Index; readonly term: Term }
  readonly #longReads: LongReads
  readonly #random: Random
  readonly counts: KeyspaceCounts = new KeyspaceCounts()
  readonly #views: Views
  readonly #overlays: Overlays
  readonly #due: DueRemoval
  /** What was read by riders before this entry. */
  #readBefore = 0
  /** Where the entry is now, riders join these. */
  #late: LateRiders | undefined

  /** `random` is for replies only: nothing that is kept follows from it. */
  constructor(
    store: KeyspaceStore,
    {
      observer,
      forwarded,
      longReads,
      random,
    }: {
      observer: ApplyObserver
      /** Left out: this node forwards nothing. */
      forwarded?: ForwardedItems
      longReads: LongReads
      random: Random
    },
  ) {
    this.#store = store
    this.#observer = observer
    this.#forwarded = forwarded
    this.#last = { index: store.appliedIndex(), term: 0 }
    this.#longReads = longReads
    this.#random = random
    this.#views = new Views(store, random, this.counts)
    this.#overlays = new Overlays(store)
    this.#due = new DueRemoval(store, this.counts)
  }

  appliedIndex(): Index {
    return this.#store.appliedIndex()
  }

  /** The term of the last entry that this process applied; 0 before the first. */
  appliedTerm(): Term {
    return this.#last.term
  }

  canApply(): boolean {
    return this.#store.canWrite()
  }

  /** The logical clock of everything applied, in ms: a leader's clock starts from it. */
  clock(): number {
    return this.#store.clock()
  }

  /** Number of keys of one database. */
  size(database: number): number {
    return this.#store.size(database)
  }

  /** What INFO tells of a database. */
  facts(database: number): DatabaseFacts {
    return factsOf(this.#store, database, this.#random)
  }

  /**
   * Registers who waits for the entry just proposed at `index`. A batch that was registered there
   * before belongs to an entry that has left this node's log for good.
   */
  expect(index: Index, batch: Batch): void {
    assert(index > this.appliedIndex(), () => `entry ${index} is applied already`)
    this.#batches.set(index, batch)
  }

  /** Nobody waits any longer at `index` for this batch. */
  forget(index: Index, batch: Batch): void {
    if (this.#batches.get(index) === batch) this.#batches.delete(index)
  }

  /** The state is a later one that was received: nothing that waited at the indices it passes over can be known. */
  replaced(): void {
    const index = this.appliedIndex()
    this.#forwarded?.skippedTo(index)
    this.#last = { index, term: this.#last.term }
  }

  apply(entry: Entry): number {
    const { index, term, payload } = entry
    this.#overlays.beginEntry()
    this.#readBefore = this.#views.bytesRead
    assert(index === this.appliedIndex() + 1, () => `apply ${index} after ${this.appliedIndex()}`)
    if (index !== this.#last.index + 1) this.#forwarded?.skippedTo(index - 1)
    const batch = this.#take(index, term)
    if (payload.type === 'commands') {
      const { at, commands, forwarded } = decodeCommands(payload.data)
      const now = Math.max(this.clock(), at)
      this.#due.remove(now)
      const running = { index, now, commands }
      if (batch !== undefined) this.#runBatch(running, batch)
      else this.#run(running, forwarded)
      this.#commit(entry, now)
    } else {
      assert(batch === undefined, () => `a batch waits at ${index}, where a ${payload.type} is`)
      const membership = payload.type === 'membership' ? payload.membership : undefined
      this.#commit(entry, this.clock(), membership)
    }
    this.#late = undefined
    const bytes = this.#overlays.valueBytes + this.#rideBytes
    this.#last = { index, term }
    this.#observer.applied(index, term)
    return bytes
  }

  /** Runs a read in one go, by the clock of what is applied. The reply is valid until the next call here. */
  read(
    command: CalledRead,
    database: number,
    args: Args,
    now: number = this.clock(),
    reads: OneGo = new OneGo(),
  ): Reply {
    if (database >= DATABASES) return badDatabase.reply
    try {
      return reads.run(command, this.#views.begin(database, { now, applied: undefined }), args)
    } catch (error) {
      return this.#failure(error, this.#views, this.appliedIndex(), command.name)
    }
  }

  /**
   * The same at any moment. One that turns out to be longer than a slice begins anew over a view of the
   * state, and goes on in later turns.
   */
  readAt(moment: Moment, command: CalledRead, database: number, args: Args): ReadOutcome {
    if (database >= DATABASES) return badDatabase.reply
    try {
      const db = this.#views.begin(database, moment)
      if (command.slices === undefined) return command.run(db, args)
      const first = command.slices(db, args).next()
      if (first.done !== true) return this.#beginLong(moment, command, database, args)
      return 'reply' in first.value ? first.value.reply : first.value.elements
    } catch (error) {
      if (!(error instanceof ClockBehind)) {
        return this.#failure(error, this.#views, this.appliedIndex(), command.name)
      }
      this.#views.again()
      return error
    }
  }

  #beginLong(
    { now, applied }: Moment,
    command: CalledRead,
    database: number,
    args: Args,
  ): ReadOutcome {
    this.#views.again()
    const nextExpiry = this.#store.nextExpiry(database)
    if (applied !== undefined && now > applied && nextExpiry !== undefined && nextExpiry <= now) {
      return new ClockBehind(now)
    }
    const view = this.#store.view()
    if (view === undefined) return NO_ROOM
    const views = this.#views.over(storeOf(view, this.#store, nextExpiry))
    const slices = command.slices?.(views.begin(database, { now, applied: undefined }), args)
    assert(slices !== undefined, () => `${command.name} is no long read`)
    const index = this.appliedIndex()
    const failure = (error: unknown): Reply => this.#failure(error, views, index, command.name)
    return new LongRead({ slices, view, failure }, this.#longReads)
  }

  /** Bytes of the values that the riders of this entry were given. */
  get #rideBytes(): number {
    return this.#views.bytesRead - this.#readBefore
  }

  #take(index: Index, term: Term): Batch | undefined {
    const batch = this.#batches.get(index)
    if (batch === undefined) return undefined
    this.#batches.delete(index)
    return batch.term === term ? batch : undefined
  }

  /** An entry that this node proposed: everybody who waits is in its batch. */
  #runBatch(entry: RunningEntry, { items }: Batch): void {
    const { index, commands } = entry
    const ran = this.#runItems(entry, items, 0)
    assert(ran === commands.length, () => `${ran} of entry ${index}'s commands were awaited`)
  }

  /** An entry of another node: it may hold commands of clients of this one. */
  #run(entry: RunningEntry, forwarded: readonly ForwardedRun[]): void {
    const own = this.#forwarded
    let place = 0
    let strangers = entry.commands.length
    for (const run of forwarded) {
      if (own === undefined || !isSameOrigin(run.origin, own.origin)) continue
      strangers -= run.count
      while (place < run.place) this.#write(entry, place++, false)
      for (const end = run.place + run.count; place < end; place++) {
        const items = own.take(run.tag + place - run.place)
        if (this.#runItems(entry, items, place) === place) this.#write(entry, place, false)
      }
    }
    while (place < entry.commands.length) this.#write(entry, place++, false)
    const weight = this.#overlays.valueBytes + place * limits.heavyWrites.bytesPerKey
    if (weight < limits.heavyWrites.bytesMin) this.counts.strangers += strangers
  }

  /** Returns the place of the command behind those that it ran. */
  #runItems(entry: RunningEntry, items: readonly BatchItem[], place: number): number {
    let next = place
    for (const item of items) {
      if (item.command.kind === 'read') this.#ride(item, item.command, entry)
      else item.answer(this.#write(entry, next++, true), entry.index)
    }
    return next
  }

  /** A read between the commands of an entry: it sees those before it and not those behind it. */
  #ride(item: BatchItem, command: CalledRead, entry: RunningEntry): void {
    const isWhole = command.slices === undefined || command.ofOneValue
    const mayBeLate = isWhole && this.#rideBytes >= limits.rideBytesMax
    if (mayBeLate && this.#rideLater(item, command, entry)) return
    const { index, now } = entry
    const outcome = this.readAt({ now, applied: undefined }, command, item.database, item.args)
    assert(!(outcome instanceof ClockBehind), () => 'a read that rides has the clock of its entry')
    if (outcome instanceof LongRead) {
      outcome.start(item.protocol, (reply) => item.answer(reply, index))
    } else item.answer(outcome === NO_ROOM ? tooManyLongReads : outcome, index)
  }

  /** False: as many views are open as there may be. */
  #rideLater(item: BatchItem, command: CalledRead, { index, now }: RunningEntry): boolean {
    const view = this.#late === undefined ? this.#store.view() : undefined
    if (view !== undefined) {
      const views = this.#views.over(storeOf(view, this.#store, this.#store.nextExpiry()))
      const failure = (error: unknown, name: string): Reply =>
        this.#failure(error, views, index, name)
      this.#late = new LateRiders({ views, view, index, now, failure }, this.#longReads)
    }
    this.#late?.add(item, command)
    return this.#late !== undefined
  }

  /** One logged command. `wanted`: somebody here waits for its reply. */
  #write(entry: RunningEntry, place: number, wanted: boolean): Reply {
    this.#late = undefined
    const logged = entry.commands[place]
    assert(logged !== undefined, () => `entry ${entry.index} has ${entry.commands.length} commands`)
    const { argv } = logged
    if (internalCommand(argv) === undefined) return this.#runOne(entry, place, logged)
    try {
      const transaction = { ...transactionOf(argv), wanted }
      return this.#overlays.within(limits.transactionValueBytesMax, () => {
        return this.#transaction(entry, place, transaction)
      })
    } catch (error) {
      return this.#failure(error, this.#views, entry.index, 'exec')
    }
  }

  /**
   * The commands of a transaction, each as if it stood alone: what fails undoes only itself. Nobody sees a part of
   * it, because nothing is read while an entry is applied.
   */
  #transaction(
    entry: RunningEntry,
    place: number,
    { watched, commands, wanted }: Transaction & { readonly wanted: boolean },
  ): Reply {
    const moment = { now: entry.now, applied: undefined }
    if (isOutdated(this.#views.begin(0, moment), watched)) return nullArray
    const replies = new TransactionReplies(wanted)
    const reads = new OneGo()
    for (const command of commands) {
      const called = resolve(command.argv)
      const isRead = !(called instanceof ErrorReply) && called.kind === 'read'
      // A read changes nothing: it runs where somebody waits for it.
      if (isRead && !wanted) continue
      const { database, argv } = command
      if (isRead) replies.add(this.read(called, database, argv, entry.now, reads), command)
      else replies.add(this.#runOne(entry, place, command), command)
    }
    return replies.finish()
  }

  /** One command: all of it or, with an error, nothing of it. */
  #runOne({ index, now }: RunningEntry, place: number, { database, argv }: LoggedCommand): Reply {
    const command = resolve(argv)
    if (command instanceof ErrorReply) return this.#internalCommand(argv) ?? command
    // The router logs no others, but what stands in the log must be answered, not survived by a crash loop.
    if (command.kind !== 'write') return unknownCommand(argv)
    if (database >= DATABASES) return badDatabase.reply
    const overlays = this.#overlays
    let reply: Reply
    try {
      reply = command.run(overlays.begin(database, now, versionOf(index, place)), argv)
    } catch (error) {
      return this.#failure(error, this.#views, index, command.name)
    }
    if (!(reply instanceof ErrorReply)) overlays.commit()
    return reply
  }

  /** The commands that no client can send, under names that are in no table. */
  #internalCommand(argv: Args): Reply | undefined {
    if (isWord(argument(argv, 0), FENCE_NAME)) return OK
    if (isWord(argument(argv, 0), LEVEL_NAME)) {
      this.#store.raiseFeatureLevel(knownLevel(argument(argv, 1)))
      return OK
    }
    if (!isWord(argument(argv, 0), HASH_KEY_NAME)) return undefined
    // Two bootstraps may race for the first entry; the log decides which key it is.
    if (this.#store.hashKey() === undefined) this.#store.setHashKey(argument(argv, 1))
    return OK
  }

  #commit({ index, term }: Entry, clock: number, membership?: Membership): void {
    this.#store.commitEntry(
      membership === undefined ? { index, term, clock } : { index, term, clock, membership },
    )
  }

  /** The reply for whatever a handler threw; throws on what must end the process. */
  #failure(error: unknown, views: Views, index: Index, command: string): Reply {
    if (error instanceof CommandError) return error.reply
    if (error instanceof ViewClosedError) return viewClosed
    if (views.storeFailed || this.#overlays.storeFailed || isOfThisNode(error)) throw error
    this.#observer.internalError(index, command, error)
    return internalError
  }
}

/** An entry of commands while it is applied. */
interface RunningEntry {
  readonly index: Index
  /** The logical clock that it brings. */
  readonly now: number
  readonly commands: readonly LoggedCommand[]
}
