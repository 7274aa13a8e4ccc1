/*
 * One RaftCore whose peers are the test: it steps messages by hand and looks at what comes out, and when. The smallest
 * possible driver, so that a test of one rule shows nothing but that rule.
 */

import { type CoreLimits, RaftCore } from '../../raft/core.ts'
import type { Entry, HardState, Membership, Message, NodeId, Ready } from '../../raft/types.ts'
import { type DurableState, MemoryLog } from './memory-log.ts'
import { diskOf } from './script.ts'

export interface LoneOptions {
  /** Members are '1' .. size; the core under test is '1'. 0: it has no membership yet. */
  readonly size?: number
  /** Instead of `size`. */
  readonly membership?: Membership
  /** Terms of the entries on its disk. */
  readonly terms?: readonly number[]
  readonly hardState?: HardState
  /** Instead of `terms` and `hardState`: a disk that another core has written. */
  readonly disk?: DurableState
  readonly applied?: number
  readonly limits?: Partial<CoreLimits>
  readonly random?: () => number
  /** The test itself reports what is applied. */
  readonly slowApply?: boolean
}

export const ELECTION_TICKS = 10
export const HEARTBEAT_TICKS = 2

export function membershipOf(ids: readonly NodeId[]): Membership {
  return {
    members: ids.map((id) => ({
      id,
      role: 'voter',
      peerAddress: `p${id}`,
      clientAddress: `c${id}`,
    })),
  }
}

/** An entry of commands, as a leader would send it. */
export function entry(index: number, term: number, text = 'x'): Entry {
  const data = Uint8Array.from(text, (c) => c.charCodeAt(0))
  return { index, term, payload: { type: 'commands', data }, encoded: undefined }
}

export class Lone {
  readonly core: RaftCore
  readonly log: MemoryLog
  readonly applied: Entry[] = []
  reads: { id: number; index: number }[] = []
  lostReads: number[] = []
  /** Members that are to be sent a snapshot. */
  snapshots: NodeId[] = []
  readonly #slowApply: boolean
  #sent: Message[] = []
  #pending: { token: number; afterPersist: readonly Message[] } | undefined

  constructor(options: LoneOptions = {}) {
    const disk = options.disk ?? diskOf(options.terms ?? [], 0)
    this.log = new MemoryLog({ ...disk, hardState: options.hardState ?? disk.hardState })
    this.#slowApply = options.slowApply ?? false
    const ids = Array.from({ length: options.size ?? 3 }, (_, at) => `${at + 1}`)
    this.core = new RaftCore({
      id: '1',
      hardState: this.log.hardState(),
      log: this.log,
      applied: options.applied ?? 0,
      membership: options.membership ?? (ids.length === 0 ? undefined : membershipOf(ids)),
      random: options.random ?? (() => 0),
      electionTicks: ELECTION_TICKS,
      heartbeatTicks: HEARTBEAT_TICKS,
      limits: {
        appendBytes: 1_000,
        window: { messages: 4, bytes: 10_000 },
        uncommittedBytes: 10_000,
        applyBytes: 10_000,
        ...options.limits,
      },
    })
    this.#run()
  }

  /** What left since the last call. */
  sent(): Message[] {
    const sent = this.#sent
    this.#sent = []
    return sent
  }

  /** What left of one type since the last call; the rest is dropped. */
  sentOf<T extends Message['type']>(type: T): Extract<Message, { type: T }>[] {
    return this.sent().filter((m): m is Extract<Message, { type: T }> => m.type === type)
  }

  step(message: Message): this {
    this.core.step(message)
    this.#run()
    return this
  }

  tick(times = 1): this {
    for (let at = 0; at < times; at++) {
      this.core.tick()
      this.#run()
    }
    return this
  }

  propose(...texts: readonly string[]): ReturnType<RaftCore['propose']> {
    const result = this.core.propose(
      texts.map((text) => Uint8Array.from(text, (c) => c.charCodeAt(0))),
    )
    this.#run()
    return result
  }

  read(id: number): this {
    this.core.requestRead(id)
    this.#run()
    return this
  }

  /** Runs what an input outside the methods above has caused. */
  run(): this {
    this.#run()
    return this
  }

  get writing(): boolean {
    return this.#pending !== undefined
  }

  /** The disk answers, once. */
  persist(): this {
    const pending = this.#pending
    if (pending === undefined) throw new Error('no persist is in flight')
    this.#pending = undefined
    this.log.complete()
    this.core.persisted(pending.token)
    this.#send(pending.afterPersist)
    this.#run()
    return this
  }

  /** The disk answers until nothing is left to write. */
  persistAll(): this {
    while (this.#pending !== undefined) this.persist()
    return this
  }

  /** Elected by '2' (and '3' if that is needed), in the term after its own; its no-op is not durable yet. */
  lead(): this {
    this.tick(ELECTION_TICKS)
    this.#grant('pre-vote-reply', this.core.term + 1)
    this.persistAll()
    this.#grant('vote-reply', this.core.term)
    if (!this.core.isLeader) throw new Error('it was not elected')
    return this
  }

  #grant(type: 'pre-vote-reply' | 'vote-reply', term: number): void {
    for (const from of ['2', '3']) this.step({ type, from, to: '1', term, granted: true })
  }

  /** A leader whose no-op is committed by '2' and itself. */
  leadEstablished(): this {
    this.lead().persistAll()
    return this.ack('2', this.core.status().last)
  }

  ack(from: NodeId, match: number): this {
    return this.step({ type: 'append-reply', from, to: '1', term: this.core.term, match })
  }

  /** An append of the leader `from` in `term`. */
  append(
    from: NodeId,
    term: number,
    prev: readonly [index: number, term: number],
    entries: readonly Entry[],
    commit = 0,
  ): this {
    const [index, prevTerm] = prev
    const at = { index, term: prevTerm }
    return this.step({ type: 'append', from, to: '1', term, prev: at, entries, commit })
  }

  heartbeat(from: NodeId, term: number, commit = 0, round = 0): this {
    const slowest = { id: from, match: 0 }
    return this.step({ type: 'heartbeat', from, to: '1', term, commit, round, slowest })
  }

  #send(messages: readonly Message[]): void {
    for (const message of messages) {
      if (message.to === '1') this.core.step(message)
      else this.#sent.push(message)
    }
  }

  #run(): void {
    for (let turns = 0; turns < 1_000; turns++) {
      const ready = this.core.ready()
      if (ready === undefined) return
      this.#handle(ready)
    }
    throw new Error('the core never comes to rest')
  }

  #handle(ready: Ready): void {
    this.#send(ready.messages)
    if (ready.persist !== undefined) {
      const { token, hardState, entries, snapshot } = ready.persist
      // Resolves in persist(), where the test decides; nothing waits for the promise.
      if (snapshot === undefined) void this.log.persist({ hardState, entries })
      else void this.log.install(snapshot.last, hardState)
      this.#pending = { token, afterPersist: ready.afterPersist }
    } else this.#send(ready.afterPersist)
    for (const committed of ready.committed) {
      this.applied.push(committed)
      if (!this.#slowApply) this.core.applied(committed.index)
    }
    this.reads.push(...ready.reads)
    this.lostReads.push(...ready.lostReads)
    this.snapshots.push(...ready.snapshots)
  }
}
