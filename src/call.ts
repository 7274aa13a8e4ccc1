/*
 * One command on its way from a connection to its reply, and the stream it belongs to: the commands of one
 * connection, whose effects must be as if they ran one after another. Plain bookkeeping for the router; what a
 * reply turns into (bytes to a client, a frame to the node that forwarded it) is its owner's business.
 */

import { assert } from '../raft/assert.ts'
import type { Index, Term } from '../raft/types.ts'
import type { Protocol, Reply } from '../resp/encoder.ts'
import { type Args, keyCount, type ReadCommand, type WriteCommand } from './commands/command.ts'

/** A reply that another node has encoded already. */
export class EncodedReply {
  readonly bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
}

/** Whoever waits for the replies of a stream. */
export interface CallOwner {
  /**
   * Called once per call, in any order. The memory behind `reply` is only valid during this call. `index` is the
   * applied index the reply reflects: the connection's later reads must not see less.
   */
  answered(call: Call, reply: Reply | EncodedReply, index: Index): void
  /** The call was certainly not appended and cannot be here: a forwarding node will place it anew. */
  refused(call: Call): void
}

/**
 * Where a call is:
 *   waiting    in the router's backlog or held by its stream: certainly not appended
 *   reading    in a read round
 *   building   in an entry that was not proposed yet: certainly not appended
 *   appended   in a proposed entry, as a command or (a read) as a rider
 *   running    a long read that goes on by itself
 *   forwarded  handed to the leader's link: its outcome is known only by the answer
 */
export type Place =
  | 'waiting'
  | 'reading'
  | 'building'
  | 'appended'
  | 'running'
  | 'forwarded'
  | 'answered'

export class Call {
  readonly owner: CallOwner
  readonly stream: Stream
  readonly command: ReadCommand | WriteCommand
  readonly args: Args
  readonly database: number
  /** The protocol its connection spoke when it arrived. */
  readonly protocol: Protocol
  /** Monotonic ms at which a call that waits is given up. */
  readonly deadline: number
  /** The arguments' bytes, as limits count them. */
  readonly bytes: number
  /** Of a write: the keys that it names, for a command without any 1. */
  readonly work: number
  /** The owner's name for it: a forwarded call's number on its link. */
  readonly tag: number
  /** It came from another node, which wants it back rather than sent on when this node does not lead. */
  readonly remote: boolean
  /** Its place among the calls of its stream. */
  readonly sequence: number
  place: Place = 'waiting'
  /** The term of the leader it was handed to, while forwarded. */
  forwardTerm: Term = 0
  /** Of a read: its round was confirmed, so it may run as soon as everything before it has. */
  confirmed = false
  /** Of a read that met a key due by the leader's time: what is applied has passed that time. */
  clockCame = false

  constructor(options: {
    owner: CallOwner
    stream: Stream
    command: ReadCommand | WriteCommand
    args: Args
    database: number
    protocol: Protocol
    deadline: number
    tag: number
    remote: boolean
  }) {
    this.owner = options.owner
    this.stream = options.stream
    this.command = options.command
    this.args = options.args
    this.database = options.database
    this.protocol = options.protocol
    this.deadline = options.deadline
    this.tag = options.tag
    this.remote = options.remote
    this.sequence = ++options.stream.calls
    let bytes = CALL_OVERHEAD_BYTES
    for (const arg of options.args) bytes += arg.length
    this.bytes = bytes
    this.work = this.isRead ? 0 : Math.max(1, keyCount(options.command, options.args))
  }

  get isRead(): boolean {
    return this.command.kind === 'read'
  }

  /** The entry that holds it was proposed. */
  appendedTo(entry: Stream['building']): void {
    const { stream } = this
    this.place = 'appended'
    if (stream.building === entry) stream.building = undefined
    if (!this.isRead) stream.appended++
  }

  /** It was certainly not appended, and will be placed again. */
  waitAgain(): void {
    this.place = 'waiting'
    this.confirmed = false
    this.clockCame = false
  }

  /** The last word on this call: see CallOwner.answered. */
  answer(reply: Reply | EncodedReply, index: Index): void {
    const { stream } = this
    if (this.place === 'appended' && !this.isRead) stream.appended--
    stream.lastSeen = Math.max(stream.lastSeen, index)
    this.#settle()
    this.owner.answered(this, reply, index)
  }

  /** It goes back to the node it came from, certainly not appended. */
  refuse(): void {
    this.#settle()
    this.owner.refused(this)
  }

  #settle(): void {
    const { stream } = this
    assert(this.place !== 'answered', () => `${this.command.name} is answered twice`)
    this.place = 'answered'
    if (--stream.unanswered === 0) stream.assertIdle()
  }
}

/** The bytes of the values in a reply: of what else it takes, every command is modest. */
export function replyBytes(reply: Reply): number {
  if (reply instanceof Uint8Array) return reply.length
  if (!Array.isArray(reply)) return 0
  let bytes = 0
  for (const element of reply) if (element instanceof Uint8Array) bytes += element.length
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
  /** Writes in proposed entries without an answer: reads behind them wait for them. */
  appended = 0
  /** The applied index of the latest reply: later reads must not see less. */
  lastSeen: Index = 0
  /** Calls handed to a leader and not answered. */
  forwarded = 0
  /** The term of the leader they were handed to. */
  forwardedTerm: Term = 0
  /** Calls that wait until those handed over are settled, in the order of their sequence. */
  held: Call[] = []

  /** Without unanswered calls there is nothing of it anywhere: a count that drifted would hold up later calls. */
  assertIdle(): void {
    const waiting = this.reads.length + this.held.length
    assert(
      waiting + this.appended + this.forwarded === 0 && this.building === undefined,
      () => `a stream without calls: ${waiting} wait, ${this.appended}, ${this.forwarded} are out`,
    )
  }
}
