/*
 * What the two sides of a snapshot say to each other, as bytes. Of a session (the number that its sender gave it) the
 * stream comes in chunks, each with its offset and a checksum; the receiver answers with how far it has come, which
 * is flow control and, after a broken link, where to go on. It knows no link and no store.
 */

import { crc32 } from 'node:zlib'
import type { Term } from '../raft/types.ts'
import { CodecError, decodeFrame, encodeFrame } from '../storage/codec.ts'
import type { Chunk } from '../storage/engine.ts'
import { FieldReader } from '../storage/field-reader.ts'

const TYPE_CHARS_MAX = 32
const REASON_CHARS_MAX = 500
const LENGTH_BYTES = 2

export type ToReceiver =
  /** A leader of `term` has a state to send; said again on every new link. */
  | { readonly type: 'begin'; readonly session: number; readonly term: Term }
  /** The bytes of the stream from `offset` on. */
  | {
      readonly type: 'chunk'
      readonly session: number
      readonly offset: number
      readonly bytes: Uint8Array
    }
  /** The stream is over after so many bytes. */
  | { readonly type: 'end'; readonly session: number; readonly offset: number }
  | { readonly type: 'abort'; readonly session: number }

export type ToSender =
  /** Everything before `offset` is taken, and room for what follows. */
  | { readonly type: 'at'; readonly session: number; readonly offset: number }
  /** The receiver stands at that state, or is ahead of it. */
  | { readonly type: 'done'; readonly session: number }
  /** Nothing more is wanted of this session. */
  | { readonly type: 'failed'; readonly session: number; readonly reason: string }

/** In parts, so that a chunk is not copied once more. */
export function encodeToReceiver(message: ToReceiver): readonly Uint8Array[] {
  const { type, session } = message
  switch (type) {
    case 'begin':
      return [...withLength(encodeFrame([type, session, message.term]))]
    case 'chunk': {
      const { offset, bytes } = message
      return [...withLength(encodeFrame([type, session, offset, crc32(bytes)])), bytes]
    }
    case 'end':
      return [...withLength(encodeFrame([type, session, message.offset]))]
    case 'abort':
      return [...withLength(encodeFrame([type, session]))]
  }
}

function withLength(header: Uint8Array): readonly Uint8Array[] {
  return [Uint8Array.of(header.length >>> 8, header.length & 0xff), header]
}

/** Chunks are memory of their own. Throws CodecError on anything that no correct sender sends. */
export function decodeToReceiver(body: Uint8Array): ToReceiver {
  const end = LENGTH_BYTES + ((body[0] ?? 0) << 8) + (body[1] ?? 0)
  if (end > body.length) throw new CodecError('a part of a snapshot is cut short')
  const fields = new FieldReader(decodeFrame(body.subarray(LENGTH_BYTES, end)))
  const type = fields.string(TYPE_CHARS_MAX)
  const session = fields.integer()
  const message = readToReceiver(type, session, fields, body.subarray(end))
  fields.expectEnd()
  return message
}

function readToReceiver(
  type: string,
  session: number,
  fields: FieldReader,
  rest: Uint8Array,
): ToReceiver {
  if (type === 'chunk') {
    const offset = fields.integer()
    if (fields.integer() !== crc32(rest)) {
      throw new CodecError('a chunk of a snapshot has a bad checksum')
    }
    return { type, session, offset, bytes: rest }
  }
  if (rest.length > 0) throw new CodecError(`a part of a snapshot of type ${type} carries a chunk`)
  switch (type) {
    case 'begin':
      return { type, session, term: fields.integer() }
    case 'end':
      return { type, session, offset: fields.integer() }
    case 'abort':
      return { type, session }
    default:
      throw new CodecError('a part of a snapshot of an unknown type')
  }
}

/** A copy, because the memory goes on to another thread, and what it came in does not. */
export function chunkOf(bytes: Uint8Array): Chunk {
  const chunk = new Uint8Array(Buffer.allocUnsafeSlow(bytes.length).buffer)
  chunk.set(bytes)
  return chunk
}

export function encodeToSender(message: ToSender): Uint8Array {
  const { type, session } = message
  switch (type) {
    case 'at':
      return encodeFrame([type, session, message.offset])
    case 'done':
      return encodeFrame([type, session])
    case 'failed':
      return encodeFrame([type, session, message.reason.slice(0, REASON_CHARS_MAX)])
  }
}

/** Throws CodecError. */
export function decodeToSender(body: Uint8Array): ToSender {
  const fields = new FieldReader(decodeFrame(body))
  const type = fields.string(TYPE_CHARS_MAX)
  const session = fields.integer()
  const message = readToSender(type, session, fields)
  fields.expectEnd()
  return message
}

function readToSender(type: string, session: number, fields: FieldReader): ToSender {
  switch (type) {
    case 'at':
      return { type, session, offset: fields.integer() }
    case 'done':
      return { type, session }
    case 'failed':
      return { type, session, reason: fields.string(REASON_CHARS_MAX) }
    default:
      throw new CodecError('an answer to a snapshot of an unknown type')
  }
}
