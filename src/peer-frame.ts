/*
 * The bytes between peers: messages of one kind each, cut into frames so that no single write or check takes
 * long, each frame under its own CRC. Pure: bytes in, messages out. It must not know what a message says, who
 * sent it, or what a socket is. A frame that is not exactly as it should be is a PeerProtocolError: after it,
 * nothing in the stream can be trusted and the connection is of no more use.
 *
 *   0      4         8       12     13
 *   | crc32 | length  | left  | kind | length bytes ...       numbers are big-endian
 *
 * `left` counts the bytes of the message from this frame on, this frame's included: the first frame thereby
 * announces the whole, and the last one is that with length = left. The CRC covers everything behind it.
 */

import { crc32 } from 'node:zlib'
import { assert } from '../raft/assert.ts'

/** The most a frame takes on the wire, its header included. */
export const FRAME_BYTES_MAX = 1_048_576
export const FRAME_HEADER_BYTES = 13
const FRAME_BODY_BYTES_MAX = FRAME_BYTES_MAX - FRAME_HEADER_BYTES

/** What a frame carries. The handshake comes first; ping and pong stand alone, also inside a larger message. */
export const frameKinds = {
  hello: 1,
  challenge: 2,
  proof: 3,
  answer: 4,
  refused: 5,
  ping: 6,
  pong: 7,
  message: 8,
  forward: 9,
  forwardReply: 10,
  note: 11,
  snapshot: 12,
  snapshotReply: 13,
} as const
export type FrameKind = (typeof frameKinds)[keyof typeof frameKinds]

const knownKinds: ReadonlySet<number> = new Set(Object.values(frameKinds))

/** The other side sent what no correct peer sends. */
export class PeerProtocolError extends Error {
  override readonly name = 'PeerProtocolError'
  readonly code: 'BADFRAME' | 'TOOLARGE' | 'BADHANDSHAKE' | 'BADMESSAGE'

  constructor(code: PeerProtocolError['code'], message: string) {
    super(message)
    this.code = code
  }
}

/** A message, in one piece or in parts that follow each other: a large value is not copied to join its header. */
export type Body = Uint8Array | readonly Uint8Array[]

/** A message on its way out: `offset` bytes of it are in frames already made. */
export interface Outgoing {
  readonly kind: FrameKind
  readonly length: number
  offset: number
  /** The parts with bytes that are in no frame yet; the first of them from `partOffset` on. */
  parts: readonly Uint8Array[]
  partOffset: number
}

export function outgoing(kind: FrameKind, body: Body): Outgoing {
  const parts = body instanceof Uint8Array ? [body] : body
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return { kind, length, offset: 0, parts, partOffset: 0 }
}

/**
 * Makes ONE chunk of the next frames of `queue`, as many as begin below FRAME_BYTES_MAX, and moves the offsets.
 * Returns it with the number of messages that are now entirely framed: a prefix of the queue.
 */
export function frameBatch(
  queue: readonly Outgoing[],
  from: number,
): { readonly chunk: Uint8Array; readonly done: number } {
  let size = 0
  let done = 0
  const lengths: number[] = []
  for (let at = from; at < queue.length && size < FRAME_BYTES_MAX; at++) {
    const next = queue[at]
    assert(next !== undefined, () => 'a hole in the queue of a link')
    const left = next.length - next.offset
    const length = Math.min(left, FRAME_BODY_BYTES_MAX)
    lengths.push(length)
    size += FRAME_HEADER_BYTES + length
    if (length < left) break
    done++
  }
  const chunk = Buffer.allocUnsafeSlow(size)
  let position = 0
  for (const [count, length] of lengths.entries()) {
    const next = queue[from + count]
    assert(next !== undefined, () => 'a hole in the queue of a link')
    writeFrame(chunk, position, next, length)
    position += FRAME_HEADER_BYTES + length
  }
  return { chunk, done }
}

/** One message that fits one frame. */
export function frame(kind: FrameKind, bytes: Uint8Array): Uint8Array {
  assert(
    bytes.length <= FRAME_BODY_BYTES_MAX,
    () => `${bytes.length} bytes are more than one frame`,
  )
  return frameBatch([outgoing(kind, bytes)], 0).chunk
}

function writeFrame(chunk: Buffer, position: number, next: Outgoing, length: number): void {
  chunk.writeUInt32BE(length, position + 4)
  chunk.writeUInt32BE(next.length - next.offset, position + 8)
  chunk.writeUInt8(next.kind, position + 12)
  const end = position + FRAME_HEADER_BYTES + length
  takeParts(next, chunk.subarray(position + FRAME_HEADER_BYTES, end))
  chunk.writeUInt32BE(crc32(chunk.subarray(position + 4, end)), position)
}

/** Fills `target` with the next bytes of the message. */
function takeParts(next: Outgoing, target: Uint8Array): void {
  let filled = 0
  let whole = 0
  for (const part of next.parts) {
    const taken = Math.min(part.length - next.partOffset, target.length - filled)
    target.set(part.subarray(next.partOffset, next.partOffset + taken), filled)
    filled += taken
    next.partOffset += taken
    if (next.partOffset < part.length) break
    next.partOffset = 0
    whole++
  }
  next.parts = next.parts.slice(whole)
  next.offset += filled
}

/** Takes a message; false stops the reader, which then drops everything else it is given. */
export type Deliver = (kind: FrameKind, bytes: Uint8Array) => boolean

/** Turns chunks, however they are cut, back into messages. Holds at most one message of at most `messageBytesMax`. */
export class FrameReader {
  /** The largest message that is accepted; raised once the other side has proved who it is. */
  messageBytesMax: number
  #stopped = false

  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES)
  #headerBytes = 0

  // The frame whose header is complete.
  #kind: FrameKind = frameKinds.ping
  #crc = 0
  #crcSoFar = 0
  #frameLeft = 0

  // The message that this frame and those before it fill. Its memory is its own, so that whoever keeps a part
  // of it does not keep a chunk of the socket.
  #message: Uint8Array | undefined
  #messageKind: FrameKind = frameKinds.ping
  #filled = 0

  constructor(messageBytesMax: number) {
    this.messageBytesMax = messageBytesMax
  }

  /** Throws PeerProtocolError on anything but well-formed frames; the reader is of no use after that. */
  push(chunk: Uint8Array, deliver: Deliver): void {
    let position = 0
    while (position < chunk.length && !this.#stopped) {
      if (this.#headerBytes < FRAME_HEADER_BYTES) {
        position += this.#takeHeader(chunk, position)
        if (this.#headerBytes < FRAME_HEADER_BYTES) return
        this.#beginFrame()
      }
      position += this.#takeBody(chunk, position)
      if (this.#frameLeft === 0) this.#endFrame(deliver)
    }
  }

  #takeHeader(chunk: Uint8Array, position: number): number {
    const taken = Math.min(FRAME_HEADER_BYTES - this.#headerBytes, chunk.length - position)
    this.#header.set(chunk.subarray(position, position + taken), this.#headerBytes)
    this.#headerBytes += taken
    return taken
  }

  #beginFrame(): void {
    const kind = this.#header.readUInt8(12)
    const length = this.#header.readUInt32BE(4)
    const left = this.#header.readUInt32BE(8)
    if (!isFrameKind(kind)) throw new PeerProtocolError('BADFRAME', `a frame of kind ${kind}`)
    this.#crc = this.#header.readUInt32BE(0)
    this.#crcSoFar = crc32(this.#header.subarray(4))
    this.#kind = kind
    this.#frameLeft = length
    if (standsAlone(kind)) {
      if (left !== 0 || length !== 0) throw new PeerProtocolError('BADFRAME', 'a ping with a body')
      return
    }
    if (length > FRAME_BODY_BYTES_MAX || length > left || (length === 0 && left > 0)) {
      throw new PeerProtocolError('BADFRAME', `a frame of ${length} bytes with ${left} left`)
    }
    if (this.#message === undefined) {
      if (left > this.messageBytesMax) {
        throw new PeerProtocolError('TOOLARGE', `a message of ${left} bytes is over the limit`)
      }
      // Uninitialised, so that an announced size costs no memory before its bytes arrive.
      this.#message = Buffer.allocUnsafeSlow(left)
      this.#messageKind = kind
      this.#filled = 0
    } else if (kind !== this.#messageKind || left !== this.#message.length - this.#filled) {
      throw new PeerProtocolError('BADFRAME', 'a frame does not continue the message before it')
    }
  }

  #takeBody(chunk: Uint8Array, position: number): number {
    const taken = Math.min(this.#frameLeft, chunk.length - position)
    if (taken === 0 || this.#message === undefined) return 0
    const bytes = chunk.subarray(position, position + taken)
    this.#crcSoFar = crc32(bytes, this.#crcSoFar)
    this.#message.set(bytes, this.#filled)
    this.#filled += taken
    this.#frameLeft -= taken
    return taken
  }

  #endFrame(deliver: Deliver): void {
    if (this.#crcSoFar !== this.#crc)
      throw new PeerProtocolError('BADFRAME', 'a bad frame checksum')
    this.#headerBytes = 0
    if (standsAlone(this.#kind)) {
      this.#stopped = !deliver(this.#kind, new Uint8Array(0))
      return
    }
    const message = this.#message
    if (message === undefined || this.#filled < message.length) return
    this.#message = undefined
    this.#stopped = !deliver(this.#kind, message)
  }
}

function isFrameKind(kind: number): kind is FrameKind {
  return knownKinds.has(kind)
}

function standsAlone(kind: FrameKind): boolean {
  return kind === frameKinds.ping || kind === frameKinds.pong
}
