/*
 * The replies of one connection, in the order of its commands: what is answered early waits for what stands before
 * it. Commands are let in as far as their replies, if they stay as large as they were, will find room. It knows
 * neither the socket nor the limits of what may wait to be read.
 */

import { assert } from '../raft/assert.ts'
import { EncodedReply, type Protocol, type Reply, ReplyBuffer } from '../resp/encoder.ts'
import type { Call } from './call.ts'
import { limits } from './config.ts'

/**
 * A piece of an encoded reply that is sent as it is; smaller ones are copied, to be written with what is beside them. So
 * is one that is less than half of the memory that it would keep: a reply out of a peer's frame, for a client that does
 * not read, must not hold the whole frame, which is counted nowhere.
 */
const OWN_PIECE_BYTES = 65_536

/** The place of a command of the connection itself, which is answered later. */
export interface ReplySlot {
  encoded: Encoded | undefined
}

type Encoded = Uint8Array | EncodedReply

export class ReplyQueue {
  readonly #out = new ReplyBuffer()
  /** Large pieces that stand before it, the oldest first. */
  #pieces: Uint8Array[] = []
  #pieceBytes = 0
  /** For what is answered before it is its turn. */
  readonly #encoder = new ReplyBuffer()
  /** Commands without a written reply, oldest first, from `#head` on. */
  #slots: (Call | ReplySlot)[] = []
  #head = 0
  /** Replies of calls that were answered before it was their turn. */
  readonly #early = new Map<Call, Encoded>()
  /** Of these, and of slots that are answered. */
  #earlyBytes = 0
  #openMax: number = limits.openCommandsFirst
  #answered = 0

  get isEmpty(): boolean {
    return this.#head === this.#slots.length
  }

  /** As many commands are open as there may be. */
  get isFull(): boolean {
    return this.#slots.length - this.#head >= this.#openMax
  }

  /** Bytes of replies that were not taken yet. */
  get bytes(): number {
    return this.#earlyBytes + this.#pieceBytes + this.#out.length
  }

  /** The next command will be answered by this call. */
  expect(call: Call): void {
    this.#slots.push(call)
  }

  /** The next command will be answered later, through settle(). */
  expectLater(): ReplySlot {
    const slot: ReplySlot = { encoded: undefined }
    this.#slots.push(slot)
    return slot
  }

  /** The next command is answered. */
  answer(reply: Reply, protocol: Protocol): void {
    if (this.isEmpty) {
      this.#append(reply, protocol)
      this.#answered++
    } else this.#fill(this.expectLater(), reply, protocol)
  }

  settle(slot: ReplySlot, reply: Reply, protocol: Protocol): void {
    this.#fill(slot, reply, protocol)
    this.#drain()
  }

  #fill(slot: ReplySlot, reply: Reply, protocol: Protocol): void {
    assert(slot.encoded === undefined, () => 'a command is answered twice')
    slot.encoded = this.#encoded(reply, protocol)
    this.#earlyBytes += slot.encoded.length
  }

  /** A call has its reply, whose memory may be used again after this. */
  answered(call: Call, reply: Reply): void {
    if (this.#slots[this.#head] !== call) {
      const encoded = this.#encoded(reply, call.protocol)
      this.#early.set(call, encoded)
      this.#earlyBytes += encoded.length
      return
    }
    this.#append(reply, call.protocol)
    this.#head++
    this.#answered++
    this.#drain()
  }

  #encoded(reply: Reply, protocol: Protocol): Encoded {
    if (reply instanceof EncodedReply) return reply
    this.#encoder.append(reply, protocol)
    return this.#encoder.take()
  }

  /** What was answered early and is now next. */
  #drain(): void {
    while (this.#head < this.#slots.length) {
      const slot = this.#slots[this.#head] as Call | ReplySlot
      const encoded = 'encoded' in slot ? slot.encoded : this.#early.get(slot)
      if (encoded === undefined) break
      if (!('encoded' in slot)) this.#early.delete(slot)
      this.#earlyBytes -= encoded.length
      if (encoded instanceof EncodedReply) this.#appendPieces(encoded)
      else this.#out.appendRaw(encoded)
      this.#head++
      this.#answered++
    }
    if (this.isEmpty) {
      // Popping keeps the array's memory for the next commands; cutting it off would make a new one for each turn.
      while (this.#slots.length > 0) this.#slots.pop()
      this.#head = 0
    } else if (this.#head >= limits.openCommandsMax) {
      this.#slots.splice(0, this.#head)
      this.#head = 0
    }
  }

  #append(reply: Reply, protocol: Protocol): void {
    if (reply instanceof EncodedReply) this.#appendPieces(reply)
    else this.#out.append(reply, protocol)
  }

  #appendPieces({ pieces }: EncodedReply): void {
    for (const piece of pieces) {
      if (piece.length < OWN_PIECE_BYTES || 2 * piece.length < piece.buffer.byteLength) {
        this.#out.appendRaw(piece)
        continue
      }
      if (this.#out.length > 0) this.#putAside(this.#out.take())
      this.#putAside(piece)
    }
  }

  #putAside(piece: Uint8Array): void {
    this.#pieces.push(piece)
    this.#pieceBytes += piece.length
  }

  /** Everything that is to be written now, in order, piece by piece; the last one is empty. */
  take(): Uint8Array {
    if (this.#answered > 0) this.#adaptWindow(this.#pieceBytes + this.#out.length)
    const piece = this.#pieces.shift()
    if (piece === undefined) return this.#out.take()
    this.#pieceBytes -= piece.length
    return piece
  }

  /** As many commands open as their replies, if they stay this large, will find room for. */
  #adaptWindow(bytes: number): void {
    const average = Math.max(1, bytes / this.#answered)
    this.#answered = 0
    const fitting = Math.max(1, Math.floor(limits.openReplyBytesMax / average))
    this.#openMax = Math.min(limits.openCommandsMax, this.#openMax * 2, fitting)
  }
}
