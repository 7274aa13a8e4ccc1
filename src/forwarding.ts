/*
 * Commands that one node hands to another: the frames, the node that sends them (ForwardSender) and the leader's
 * side (ForwardReceiver). A request names the term of the leader it is meant for and is taken by the leader of
 * exactly that term, so what is refused is always the end of what was sent; it is never handed on again. Replies
 * come back encoded for the client, on the same link, in any order.
 *
 * A body is the length of its header (u32), the header, and the bytes that are too many to be copied into a header.
 * Headers are arrays (codec.ts), in which such bytes are represented by their number:
 *   [REQUEST, term, ms to wait for a leader, ...calls], a call being [tag, stream, database, protocol, ...arguments]
 *   [REPLIES, applied index, ...[tag, RESP bytes]]
 *   [REFUSED, ...tags]
 */

import { Buffer } from 'node:buffer'
import type { Index, NodeId, Term } from '../raft/types.ts'
import { ErrorReply, type Reply, ReplyBuffer } from '../resp/encoder.ts'
import { CodecError, decodeFrame, encodeFrame, type FrameField } from '../storage/codec.ts'
import { Call, type CallOwner, EncodedReply, replyBytes, Stream } from './call.ts'
import { resolve } from './commands/table.ts'
import { limits } from './config.ts'
import type { Body } from './peer-frame.ts'
import type { ForwardChannel } from './peer-link.ts'
import type { Router } from './router.ts'
import { DATABASES } from './session.ts'

const REQUEST = 1
const REPLIES = 2
const REFUSED = 3

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

/** Tags first..last, `open` of which are not settled. */
interface SentFrame {
  readonly first: number
  readonly last: number
  open: number
}

/** What this node has handed to leaders and is waiting for. */
export class ForwardSender {
  readonly #ports: ForwardSenderPorts
  readonly #router: Router
  #lastTag = 0
  readonly #sent = new Map<number, { readonly call: Call; readonly frame: SentFrame }>()
  /** The frames handed to each link, oldest first, for when it breaks: see PeerEvents.forwardDown. */
  readonly #frames = new Map<NodeId, SentFrame[]>()
  readonly #streams = new WeakMap<Stream, number>()
  #lastStream = 0

  constructor(ports: ForwardSenderPorts, router: Router) {
    this.#ports = ports
    this.#router = router
  }

  /** One frame; false: certainly nothing of it was sent. */
  send(leader: NodeId, term: Term, calls: readonly Call[]): boolean {
    const first = this.#lastTag + 1
    const fields: FrameField[] = [REQUEST, term, this.#ports.parkTimeoutMs()]
    const body = new BodyWriter()
    for (const call of calls) {
      const stream = this.#streamId(call.stream)
      const args = call.args.map((arg) => body.bytes(arg))
      fields.push([++this.#lastTag, stream, call.database, call.protocol, ...args])
    }
    if (!this.#ports.send(leader, body.finish(fields))) return false
    const frame: SentFrame = { first, last: this.#lastTag, open: calls.length }
    calls.forEach((call, i) => {
      this.#sent.set(first + i, { call, frame })
    })
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
    if (kind === REPLIES) this.#replies(fields, reader)
    else if (kind === REFUSED) this.#router.forwardRefused(this.#takeAll(fields.map(integerField)))
    else throw new CodecError(`a forward reply of kind ${String(kind)}`)
    const frames = this.#frames.get(from) ?? []
    const open = frames.findIndex((frame) => frame.open > 0)
    frames.splice(0, open < 0 ? frames.length : open)
  }

  #replies([index, ...replies]: readonly FrameField[], reader: BodyReader): void {
    const applied = integerField(index)
    for (const reply of replies) {
      const [tag, field] = arrayField(reply)
      const bytes = reader.bytes(field)
      const call = this.#take(integerField(tag))
      if (call !== undefined) this.#router.forwardAnswered(call, bytes, applied)
    }
  }

  /** The call of a tag, when it is still waited for. */
  #take(tag: number): Call | undefined {
    const sent = this.#sent.get(tag)
    if (sent === undefined) return undefined
    this.#sent.delete(tag)
    sent.frame.open--
    return sent.call
  }

  #takeAll(tags: readonly number[]): readonly Call[] {
    const calls = tags.map((tag) => this.#take(tag))
    return calls.filter((call) => call !== undefined)
  }

  /** The link broke; of its last `unsent` frames not one byte had left, so they certainly were not taken. */
  linkDown(leader: NodeId, unsent: number): void {
    const frames = this.#frames.get(leader) ?? []
    this.#frames.delete(leader)
    const sent = frames.splice(0, Math.max(0, frames.length - unsent))
    this.#router.forwardRefused(this.#takeAll(frames.flatMap(tagsOf)))
    this.#takeAll(sent.flatMap(tagsOf))
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
    const [kind, termField, budget, ...fields] = reader.fields
    if (kind !== REQUEST) throw new CodecError(`a forward request of kind ${String(kind)}`)
    const term = integerField(termField)
    const deadline = this.#ports.now() + integerField(budget)
    let link = this.#links.get(channel)
    if (link === undefined) {
      link = new ForwardedCalls(channel, (calls) => this.#dirty.add(calls))
      this.#links.set(channel, link)
    }
    const accepted = this.#ports.ledTerm() === term
    for (const field of fields) {
      const [tag, stream, database, protocol, ...args] = arrayField(field)
      if (!accepted) link.refuse(integerField(tag))
      else {
        const words = args.map((arg) => reader.bytes(arg))
        link.receive([tag, stream, database, protocol], words, deadline, this.#router)
      }
    }
    this.#ports.wake()
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
    [tagField, streamField, databaseField, protocol]: readonly (FrameField | undefined)[],
    args: readonly Uint8Array[],
    deadline: number,
    router: Router,
  ): void {
    const tag = integerField(tagField)
    const database = integerField(databaseField)
    if ((protocol !== 2 && protocol !== 3) || args.length === 0) {
      throw new CodecError('a forwarded call is malformed')
    }
    const command = resolve(args)
    if (command instanceof ErrorReply || command.kind === 'local' || database >= DATABASES) {
      // A node of another version; ours would have answered this itself.
      throw new CodecError('a forwarded call is none that this node could run')
    }
    const stream = this.#stream(integerField(streamField))
    router.submit(
      new Call({
        owner: this,
        stream,
        command,
        args,
        database,
        protocol,
        deadline,
        tag,
        remote: true,
      }),
    )
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

  answered(call: Call, reply: Reply | EncodedReply, index: Index): void {
    if (reply instanceof EncodedReply) this.#encoder.appendRaw(reply.bytes)
    else if (replyBytes(reply) > REPLY_BYTES_MAX) this.#encoder.append(TOO_LARGE, call.protocol)
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
