/*
 * Commands that one node hands to another: the frames, the node that sends them (ForwardSender) and the leader's
 * side (ForwardReceiver). A request names the term of the leader it is meant for and is taken by the leader of
 * exactly that term, so what is refused is always the end of what was sent; it is never handed on again. Replies
 * come back encoded for the client, on the same link, in any order.
 *
 * A body is the length of its header (u32), the header, and the bytes that are too many to be copied into a header.
 * Headers are arrays (codec.ts), in which such bytes are represented by their number. The calls of a request have
 * the tags from its first one on:
 *   [REQUEST, term, ms to wait for a leader, first tag, ...calls], a call being [stream, database, protocol, ...arguments]
 *   [FENCE, term, ms to wait for a leader, tag]
 *   [REPLIES, applied index, ...[tag, RESP bytes]]
 *   [REFUSED, ...tags]
 */

import { Buffer } from 'node:buffer'
import type { Index, NodeId, Term } from '../raft/types.ts'
import { ErrorReply, type Reply, ReplyBuffer } from '../resp/encoder.ts'
import { CodecError, decodeFrame, encodeFrame, type FrameField } from '../storage/codec.ts'
import { Call, type CallOwner, replyBytes, Stream } from './call.ts'
import { resolve } from './commands/table.ts'
import { limits } from './config.ts'
import { fence } from './keyspace.ts'
import type { Body } from './peer-frame.ts'
import type { ForwardChannel } from './peer-link.ts'
import type { Router } from './router.ts'
import { DATABASES } from './session.ts'
import { internalCall, internalCommand } from './transaction.ts'

const REQUEST = 1
const REPLIES = 2
const REFUSED = 3
const FENCE = 4

/** A frame of replies is closed at so many bytes; one larger reply stands alone. */
const REPLY_FRAME_BYTES_MAX = 1_048_576
/** The header of a reply in its frame, at most. */
const REPLY_HEADER_BYTES = 32
/** Replies above this fit into no message: only MGET can ask for so much. */
const REPLY_BYTES_MAX = limits.peerMessageBytesMax - REPLY_FRAME_BYTES_MAX

const TOO_LARGE = new ErrorReply('ERR the reply is too large to come from the leader')

/** From this size on bytes stand behind the header. */
const APART_BYTES_MIN = 64 * 1024

export interface ForwardSenderPorts {
  /** Peers.forward: false means that certainly nothing of it was sent. */
  send(to: NodeId, body: Body): boolean
  parkTimeoutMs(): number
}

/** The tags first..last went to a leader in one frame. */
interface SentFrame {
  readonly first: number
  readonly last: number
}

/** Makes frames of what the router hands to leaders, and tells it what comes back. */
export class ForwardSender {
  readonly #ports: ForwardSenderPorts
  readonly #router: Router
  /** Per link those that may not have left yet, oldest first, for when it breaks: see PeerEvents.forwardDown. */
  readonly #frames = new Map<NodeId, SentFrame[]>()
  readonly #streams = new WeakMap<Stream, number>()
  #lastStream = 0

  constructor(ports: ForwardSenderPorts, router: Router) {
    this.#ports = ports
    this.#router = router
  }

  /** See RouterPorts.forward. */
  send(leader: NodeId, term: Term, calls: readonly Call[]): boolean {
    const first = calls[0]?.tag ?? 0
    const fields: FrameField[] = [REQUEST, term, this.#ports.parkTimeoutMs(), first]
    const body = new BodyWriter()
    for (const call of calls) {
      const stream = this.#streamId(call.stream)
      const args = call.args.map((arg) => body.bytes(arg))
      fields.push([stream, call.database, call.protocol, ...args])
    }
    return this.#send(leader, body.finish(fields), { first, last: first + calls.length - 1 })
  }

  /** See RouterPorts.fence. */
  fence(leader: NodeId, term: Term, tag: number): boolean {
    const body = new BodyWriter().finish([FENCE, term, this.#ports.parkTimeoutMs(), tag])
    return this.#send(leader, body, { first: tag, last: tag })
  }

  #send(leader: NodeId, body: Body, frame: SentFrame): boolean {
    if (!this.#ports.send(leader, body)) return false
    const frames = this.#frames.get(leader)
    if (frames === undefined) this.#frames.set(leader, [frame])
    else frames.push(frame)
    return true
  }

  #streamId(stream: Stream): number {
    let id = this.#streams.get(stream)
    if (id === undefined) {
      id = ++this.#lastStream
      this.#streams.set(stream, id)
    }
    return id
  }

  /** Throws CodecError on a frame that is none. */
  received(from: NodeId, body: Uint8Array): void {
    const reader = new BodyReader(body)
    const [kind, ...fields] = reader.fields
    if (kind === REPLIES) this.#replies(from, fields, reader)
    else if (kind === REFUSED) {
      const tags = fields.map(integerField)
      this.#left(from, Math.max(...tags))
      this.#router.forwardRefused(tags)
    } else throw new CodecError(`a forward reply of kind ${String(kind)}`)
  }

  #replies(from: NodeId, [index, ...replies]: readonly FrameField[], reader: BodyReader): void {
    const applied = integerField(index)
    for (const reply of replies) {
      const [tagField, field] = arrayField(reply)
      const tag = integerField(tagField)
      const bytes = reader.bytes(field)
      this.#left(from, tag)
      this.#router.forwardAnswered(tag, bytes, applied)
    }
  }

  /** The frame with this tag has left, as have those before it. */
  #left(leader: NodeId, tag: number): void {
    const frames = this.#frames.get(leader)
    if (frames === undefined) return
    const next = frames.findIndex(({ first }) => first > tag)
    frames.splice(0, next < 0 ? frames.length : next)
  }

  /** The link broke; of its last `unsent` frames not one byte had left, so they certainly were not taken. */
  linkDown(leader: NodeId, unsent: number): void {
    const frames = this.#frames.get(leader) ?? []
    this.#frames.delete(leader)
    const kept = frames.slice(Math.max(0, frames.length - unsent))
    this.#router.forwardRefused(kept.flatMap(tagsOf))
    this.#router.forwardLost(leader)
  }
}

function tagsOf({ first, last }: SentFrame): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

export interface ForwardReceiverPorts {
  now(): number
  /** The term this node leads now; undefined when it does not. */
  ledTerm(): Term | undefined
  wake(): void
}

/** What other nodes have handed to this one. */
export class ForwardReceiver {
  readonly #ports: ForwardReceiverPorts
  readonly #router: Router
  readonly #links = new WeakMap<ForwardChannel, ForwardedCalls>()
  readonly #dirty = new Set<ForwardedCalls>()

  constructor(ports: ForwardReceiverPorts, router: Router) {
    this.#ports = ports
    this.#router = router
  }

  /** Throws CodecError on a frame that is none. */
  received(body: Uint8Array, channel: ForwardChannel): void {
    const reader = new BodyReader(body)
    const [kind, termField, budget, tagField, ...calls] = reader.fields
    const isFence = kind === FENCE && calls.length === 0
    if (kind !== REQUEST && !isFence) {
      throw new CodecError(`a forward request of kind ${String(kind)}`)
    }
    const term = integerField(termField)
    const deadline = this.#ports.now() + integerField(budget)
    const first = integerField(tagField)
    if (!Number.isSafeInteger(first + calls.length)) throw new CodecError('a tag is too large')
    const link = this.#link(channel)
    const accepted = this.#ports.ledTerm() === term
    if (isFence) {
      if (accepted) link.fence(first, deadline, this.#router)
      else link.refuse(first)
    }
    for (const [i, field] of calls.entries()) {
      const [stream, database, protocol, ...args] = arrayField(field)
      if (!accepted) link.refuse(first + i)
      else {
        const words = args.map((arg) => reader.bytes(arg))
        link.receive(first + i, [stream, database, protocol], words, deadline, this.#router)
      }
    }
    this.#ports.wake()
  }

  #link(channel: ForwardChannel): ForwardedCalls {
    let link = this.#links.get(channel)
    if (link === undefined) {
      link = new ForwardedCalls(channel, (calls) => this.#dirty.add(calls))
      this.#links.set(channel, link)
    }
    return link
  }

  /** At the end of a turn: the replies of the turn leave, as far as their links have room for them. */
  flush(): void {
    for (const link of this.#dirty) if (link.flush()) this.#dirty.delete(link)
  }
}

/** Replies that leave together. */
interface ReplyFrame {
  readonly replies: FrameField[]
  readonly body: BodyWriter
  bytes: number
}

/** The calls of one link, and the streams of the connections behind it. */
class ForwardedCalls implements CallOwner {
  readonly #channel: ForwardChannel
  readonly #changed: (calls: ForwardedCalls) => void
  readonly #streams = new Map<number, Stream>()
  readonly #streamOf = new Map<Stream, number>()
  readonly #encoder = new ReplyBuffer()
  #frames: ReplyFrame[] = []
  #refused: number[] = []
  #applied: Index = 0

  constructor(channel: ForwardChannel, changed: (calls: ForwardedCalls) => void) {
    this.#channel = channel
    this.#changed = changed
  }

  refuse(tag: number): void {
    this.#refused.push(tag)
    this.#changed(this)
  }

  receive(
    tag: number,
    [streamField, databaseField, protocol]: readonly (FrameField | undefined)[],
    args: readonly Uint8Array[],
    deadline: number,
    router: Router,
  ): void {
    const database = integerField(databaseField)
    if ((protocol !== 2 && protocol !== 3) || args.length === 0) {
      throw new CodecError('a forwarded call is malformed')
    }
    const internal = internalCommand(args)
    const { command, work } =
      internal === undefined
        ? { command: resolve(args), work: undefined }
        : internalCall(internal, args)
    if (command instanceof ErrorReply || command.kind === 'local' || database >= DATABASES) {
      // A node of another version; ours would have answered this itself.
      throw new CodecError('a forwarded call is none that this node could run')
    }
    const stream = this.#stream(integerField(streamField))
    const { origin } = this.#channel
    router.submit(
      new Call({
        ...{ owner: this, stream, command, args, database, protocol, deadline, origin, tag },
        work,
      }),
    )
  }

  /** An entry behind all that was taken before, over this link and those that it replaced: see HandedCalls. */
  fence(tag: number, deadline: number, router: Router): void {
    const { origin } = this.#channel
    const stream = new Stream()
    const call = { ...fence, owner: this, stream, database: 0, protocol: 2, deadline } as const
    router.submit(new Call({ ...call, origin, tag }))
  }

  #stream(id: number): Stream {
    let stream = this.#streams.get(id)
    if (stream === undefined) {
      stream = new Stream()
      this.#streams.set(id, stream)
      this.#streamOf.set(stream, id)
    }
    return stream
  }

  answered(call: Call, reply: Reply, index: Index): void {
    if (replyBytes(reply) > REPLY_BYTES_MAX) this.#encoder.append(TOO_LARGE, call.protocol)
    else this.#encoder.append(reply, call.protocol)
    const bytes = this.#encoder.take()
    const frame = this.#frameFor(bytes.length)
    frame.replies.push([call.tag, frame.body.bytes(bytes)])
    this.#applied = Math.max(this.#applied, index)
    this.#settled(call)
  }

  /** The frame under construction, or a new one where it has no room for a reply of so many bytes. */
  #frameFor(bytes: number): ReplyFrame {
    let frame = this.#frames.at(-1)
    if (frame === undefined || frame.bytes + bytes > REPLY_FRAME_BYTES_MAX) {
      frame = { replies: [], body: new BodyWriter(), bytes: 0 }
      this.#frames.push(frame)
    }
    frame.bytes += bytes + REPLY_HEADER_BYTES
    return frame
  }

  refused(call: Call): void {
    this.refuse(call.tag)
    this.#settled(call)
  }

  dropped(call: Call): void {
    this.#settled(call)
  }

  #settled({ stream }: Call): void {
    if (stream.unanswered === 0) {
      const id = this.#streamOf.get(stream)
      this.#streamOf.delete(stream)
      if (id !== undefined) this.#streams.delete(id)
    }
    this.#changed(this)
  }

  /** False: some replies wait for room, for a later turn. */
  flush(): boolean {
    let sent = 0
    for (const { replies, body, bytes } of this.#frames) {
      if (!this.#channel.hasRoomFor(bytes)) break
      // A link that is gone takes no replies, and its other end knows that it must not wait for them.
      this.#channel.reply(body.finish([REPLIES, this.#applied, ...replies]))
      sent++
    }
    this.#frames.splice(0, sent)
    if (this.#refused.length > 0) {
      this.#channel.reply(new BodyWriter().finish([REFUSED, ...this.#refused]))
    }
    this.#refused = []
    return this.#frames.length === 0
  }
}

function integerField(field: FrameField | undefined): number {
  if (typeof field === 'number' && Number.isSafeInteger(field) && field >= 0) return field
  throw new CodecError('a forward frame lacks a number')
}

function arrayField(field: FrameField | undefined): readonly FrameField[] {
  if (isList(field)) return field
  throw new CodecError('a forward frame lacks a list')
}

/** Makes a body; see the head of this file. */
class BodyWriter {
  readonly #apart: Uint8Array[] = []

  /** The field that stands for `value` in the header. */
  bytes(value: Uint8Array): FrameField {
    if (value.length < APART_BYTES_MIN) return value
    this.#apart.push(value)
    return value.length
  }

  finish(fields: readonly FrameField[]): Body {
    const header = encodeFrame(fields)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(header.length)
    return [length, header, ...this.#apart]
  }
}

/** Throws CodecError on a body that is none. */
class BodyReader {
  readonly fields: readonly FrameField[]
  readonly #body: Uint8Array
  #at: number

  constructor(body: Uint8Array) {
    if (body.length < 4) throw new CodecError('a forward frame is cut short')
    this.#at = 4 + new DataView(body.buffer, body.byteOffset).getUint32(0)
    if (this.#at > body.length) throw new CodecError('a forward frame is cut short')
    this.fields = decodeFrame(body.subarray(4, this.#at))
    this.#body = body
  }

  /** The value that a field stands for. In the order in which they were written. */
  bytes(field: FrameField | undefined): Uint8Array {
    if (field instanceof Uint8Array) return field
    const end = this.#at + integerField(field)
    if (end > this.#body.length) throw new CodecError('a forward frame is cut short')
    const value = this.#body.subarray(this.#at, end)
    this.#at = end
    return value
  }
}

function isList(field: FrameField | undefined): field is readonly FrameField[] {
  return Array.isArray(field)
}
