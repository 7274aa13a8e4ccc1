/*
 * One command on its way from a connection to its reply, and the stream it belongs to: the commands of one
 * connection, whose effects must be as if they ran one after another. Plain bookkeeping for the router; what a
 * reply turns into (bytes to a client, a frame to the node that forwarded it) is its owner's business.
 */

import { assert } from '../raft/assert.ts'
import type { Index, NodeId, Term } from '../raft/types.ts'
import { EncodedReply, type Protocol, type Reply } from '../resp/encoder.ts'
import type { Origin } from '../storage/codec.ts'
import { keySlot } from '../storage/layout.ts'
import { type Args, type CalledCommand, keyCount, keysOf, type Spec } from './commands/command.ts'
import { limits } from './config.ts'

/** Whoever waits for the replies of a stream. */
export interface CallOwner {
  /**
   * Called once per call, in any order. The memory behind `reply` is only valid during this call. `index` is the
   * applied index the reply reflects: the connection's later reads must not see less.
   */
  answered(call: Call, reply: Reply, index: Index): void
  /**
   * Only of calls of another node: the call was certainly not appended and never will be by this node, so that
   * the other one may place it anew.
   */
  refused(call: Call): void
  /**
   * Only of calls of another node: this one gives up without knowing whether the call was executed. The other will
   * see it in the log, or see that it never came there.
   */
  dropped(call: Call): void
}

/**
 * Where a call is:
 *   waiting    in the router's backlog or held by its stream: certainly not appended
 *   reading    in a read round
 *   building   in an entry that was not proposed yet: certainly not appended
 *   appended   in a proposed entry, as a command or (a read) as a rider
 *   running    a long read that goes on by itself
 *   forwarded  handed to the leader's link: its outcome is known by the answer, or from the log
 */
export type Place =
  | 'waiting'
  | 'reading'
  | 'building'
  | 'appended'
  | 'running'
  | 'forwarded'
  | 'answered'

/** The calls that this node handed over one link to the leader of one term, and that have no outcome yet. */
export interface Handing {
  readonly leader: NodeId
  readonly term: Term
  /** Oldest first. */
  readonly calls: Set<Call>
  /** The tag of the latest call that was ever in it. */
  lastTag: number
  /** The link broke: what became of these calls, only the log can tell. */
  adrift: boolean
  /** Entries were skipped that may have held these calls: the log cannot tell what became of them, only the leader. */
  blind: boolean
  /** Monotonic ms at which they are given up; undefined while their link stands and their leader is in office. */
  deadline: number | undefined
}

/** By which clock a read runs: the leader's time, the clock of what is applied, or this node's own time. */
export type ReadTime = 'leader' | 'applied' | 'stale'

export class Call {
  readonly owner: CallOwner
  readonly stream: Stream
  readonly command: CalledCommand
  readonly args: Args
  readonly database: number
  /** The protocol its connection spoke when it arrived. */
  readonly protocol: Protocol
  /** Monotonic ms at which a call that waits is given up: later for one that rested (HeavyWrites). */
  deadline: number
  /** The arguments' bytes, as limits count them. */
  readonly bytes: number
  /** Of a write: the keys that it names or its operations, at least 1; of a transaction those of its commands. */
  readonly work: number
  /** Of a read: with `redirect moved` too it runs at a follower. */
  readonly isReadonly: boolean
  /**
   * The other node that took it from its client, and wants it back rather than sent on when this node does not lead;
   * undefined: the client is connected here.
   */
  readonly origin: Origin | undefined
  /**
   * What the node that took it from its client calls it where it is forwarded: a number that no other call of that
   * process had, new each time that it is handed to a leader. 0 before.
   */
  tag: number
  /** Its place among the calls of its stream. */
  readonly sequence: number
  place: Place = 'waiting'
  /** What it is part of while forwarded. */
  handing: Handing | undefined
  /** Of a read that was handed over: a write behind it is executed. */
  overtaken = false
  /** Of a read: its round was confirmed, so it may run as soon as everything before it has. */
  confirmed = false
  /** Of a confirmed read: by which clock it runs. */
  time: ReadTime = 'leader'

  constructor(options: {
    owner: CallOwner
    stream: Stream
    command: CalledCommand
    args: Args
    database: number
    protocol: Protocol
    deadline: number
    /** Of a call of another node, with its tag there. */
    origin?: Origin
    tag?: number
    work?: number | undefined
    isReadonly?: boolean
  }) {
    this.owner = options.owner
    this.stream = options.stream
    this.command = options.command
    this.args = options.args
    this.database = options.database
    this.protocol = options.protocol
    this.deadline = options.deadline
    this.origin = options.origin
    this.tag = options.tag ?? 0
    this.sequence = ++options.stream.calls
    let bytes = CALL_OVERHEAD_BYTES
    for (const arg of options.args) bytes += arg.length
    this.bytes = bytes
    this.isReadonly = options.isReadonly ?? false
    this.work = this.isRead ? 0 : (options.work ?? workOf(options.command, options.args))
  }

  get isRead(): boolean {
    return this.command.kind === 'read'
  }

  get isRemote(): boolean {
    return this.origin !== undefined
  }

  /** The entry that holds it was proposed, in the term that this node leads. */
  appendedTo(entry: Stream['building'], term: Term): void {
    const { stream } = this
    this.place = 'appended'
    if (stream.building === entry) stream.building = undefined
    if (this.isRead) return
    stream.appended++
    stream.appendedTerm = term
  }

  /** It was certainly not executed and never will be from where it was: it will be placed again, or sent back. */
  waitAgain(): void {
    this.#leave()
    this.place = 'waiting'
    this.confirmed = false
  }

  /** The last word on this call: see CallOwner.answered. */
  answer(reply: Reply, index: Index): void {
    const { stream } = this
    stream.lastSeen = Math.max(stream.lastSeen, index)
    this.#settle()
    this.owner.answered(this, reply, index)
  }

  /** It goes back to the node it came from: see CallOwner.refused. */
  refuse(): void {
    this.#settle()
    this.owner.refused(this)
  }

  /** It is given up to the node it came from: see CallOwner.dropped. */
  drop(): void {
    this.#settle()
    this.owner.dropped(this)
  }

  #leave(): void {
    if (this.place === 'appended' && !this.isRead) this.stream.appended--
  }

  #settle(): void {
    const { stream } = this
    assert(this.place !== 'answered', () => `${this.command.name} is answered twice`)
    this.#leave()
    this.place = 'answered'
    if (--stream.unanswered === 0) stream.assertIdle()
  }
}

/** The hash slot of the first key that a command names; undefined when it names none. */
export function firstKeySlot(command: Pick<Spec, 'keys'>, args: Args): number | undefined {
  const [key] = keysOf(command, args)
  return key === undefined ? undefined : keySlot(key)
}

/** An operation of BITFIELD, the largest thing beside a key that a command may have any number of, has so many. */
const ARGUMENTS_PER_OPERATION = 4

/** Of a write: arguments that are no keys are work as well. */
export function workOf(command: Pick<Spec, 'keys'>, args: Args): number {
  const operations = Math.floor(args.length / ARGUMENTS_PER_OPERATION)
  return Math.max(1, keyCount(command, args), operations)
}

/** Whether a write of a transaction handles whole values, so that what it comes to is to be foreseen. */
export function handlesValues(command: Pick<Spec, 'foresee'>, args: Args): boolean {
  return (
    command.foresee !== undefined || args.some(({ length }) => length > limits.lightValueBytesMax)
  )
}

/** The bytes of the values in a reply: of what else it takes, every command is modest. */
export function replyBytes(reply: Reply): number {
  if (reply instanceof Uint8Array) return reply.length
  if (reply instanceof EncodedReply) return reply.length
  if (!Array.isArray(reply)) return 0
  let bytes = 0
  for (const element of reply) {
    if (element instanceof Uint8Array) bytes += element.length
    else if (element instanceof EncodedReply) bytes += element.length
  }
  return bytes
}

/** What a call costs in memory beside its arguments, roughly: limits count it so that empty commands are not free. */
const CALL_OVERHEAD_BYTES = 64

/** The order of one connection's commands, at the node where they are placed. */
export class Stream {
  /** Calls ever made: each has its number as its sequence. */
  calls = 0
  /** Calls without an answer, wherever they are. */
  unanswered = 0
  /** Reads in a read round, oldest first: a write behind them takes them along. */
  reads: Call[] = []
  /** The entry, not proposed yet, that holds this stream's latest write. */
  building: { readonly items: Call[] } | undefined
  /** Writes in proposed entries without an answer: reads behind them wait for them. All of them of one term. */
  appended = 0
  appendedTerm: Term = 0
  /** Monotonic ms at which its last heavy write came or was answered: see HeavyWrites. */
  heavyAt: number = Number.NEGATIVE_INFINITY
  /** The applied index of the latest reply: later reads must not see less. */
  lastSeen: Index = 0
  /** Calls handed to a leader and not answered, oldest first: all of them in one handing. */
  handed: Call[] = []
  /** Calls that wait until those handed over or appended are settled, in the order of their sequence. */
  held: Call[] = []

  /** Nothing of it is anywhere where it could still be executed, so that what comes next may be placed anew. */
  get isSettled(): boolean {
    return this.handed.length === 0 && this.appended === 0
  }

  /** Without unanswered calls there is nothing of it anywhere: a count that drifted would hold up later calls. */
  assertIdle(): void {
    const waiting = this.reads.length + this.held.length
    const out = this.appended + this.handed.length
    assert(
      waiting + out === 0 && this.building === undefined,
      () => `a stream without calls: ${waiting} wait, ${out} are out`,
    )
  }
}
