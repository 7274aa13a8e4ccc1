/*
 * Frames between peers: whole under every cut, refused under every flipped bit, bounded under every announcement.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Body,
  FRAME_BYTES_MAX,
  FRAME_HEADER_BYTES,
  type FrameKind,
  FrameReader,
  frame,
  frameBatch,
  frameKinds,
  outgoing,
  PeerProtocolError,
} from '../../src/peer-frame.ts'

const LIMIT = 8 * 1_048_576

function framesOf(messages: readonly Body[]): Uint8Array[] {
  const queue = messages.map((body) => outgoing(frameKinds.message, body))
  const chunks: Uint8Array[] = []
  for (let at = 0; at < queue.length; ) {
    const { chunk, done } = frameBatch(queue, at)
    chunks.push(chunk)
    at += done
  }
  return chunks
}

function read(
  chunks: readonly Uint8Array[],
  limit = LIMIT,
): { kind: FrameKind; bytes: Uint8Array }[] {
  const reader = new FrameReader(limit)
  const read: { kind: FrameKind; bytes: Uint8Array }[] = []
  for (const chunk of chunks) {
    reader.push(chunk, (kind, bytes) => {
      read.push({ kind, bytes })
      return true
    })
  }
  return read
}

test('messages come out as they went in, however the stream is cut', () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 50 })
  const messages = fc.array(fc.uint8Array({ maxLength: 60 }), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(messages, cuts, (sent, sizes) => {
      const stream = Buffer.concat(framesOf(sent))
      const chunks: Uint8Array[] = []
      for (let at = 0, cut = 0; at < stream.length; cut++) {
        const size = sizes[cut % sizes.length] ?? 1
        chunks.push(stream.subarray(at, at + size))
        at += size
      }
      assert.deepEqual(
        read(chunks).map(({ bytes }) => Buffer.from(bytes).toString('hex')),
        sent.map((bytes) => Buffer.from(bytes).toString('hex')),
      )
    }),
  )
})

test('a large message spans frames of at most FRAME_BYTES_MAX, and a ping may stand between them', () => {
  const large = Buffer.alloc(3_500_000, 'abcdefg')
  const chunks = framesOf([large])
  assert.equal(chunks.length, 4)
  for (const chunk of chunks) assert.ok(chunk.length <= FRAME_BYTES_MAX)
  const ping = frame(frameKinds.ping, new Uint8Array(0))
  const received = read(chunks.flatMap((chunk) => [ping, chunk]))
  assert.deepEqual(
    received.map(({ kind }) => kind),
    [6, 6, 6, 6, frameKinds.message],
  )
  assert.ok(large.equals(received[4]?.bytes ?? new Uint8Array(0)))
})

test('a message in parts is the same on the wire as in one piece, wherever the parts end', () => {
  const large = Buffer.alloc(2_500_000, 'abcdefg')
  const body = FRAME_BYTES_MAX - FRAME_HEADER_BYTES
  for (const ends of [[], [0, 0, 1], [4, body - 1], [body], [body + 1, 2 * body], [2_499_999]]) {
    const bounds = [0, ...ends, large.length]
    const parts = bounds.slice(1).map((end, at) => large.subarray(bounds[at], end))
    assert.ok(Buffer.concat(framesOf([parts])).equals(Buffer.concat(framesOf([large]))), `${ends}`)
  }
})

test('small messages share one chunk: one write for all of them', () => {
  const chunks = framesOf([1, 2, 3].map((byte) => new Uint8Array([byte])))
  assert.equal(chunks.length, 1)
  assert.equal(chunks[0]?.length, 3 * (FRAME_HEADER_BYTES + 1))
})

test('a message does not share memory with the chunk it came in', () => {
  const chunk = Buffer.from(frame(frameKinds.message, new Uint8Array([1, 2, 3])))
  const [received] = read([chunk])
  chunk.fill(0)
  assert.deepEqual([...(received?.bytes ?? [])], [1, 2, 3])
})

test('every flipped bit of a frame is refused or leaves the reader waiting; never another message', () => {
  const stream = Buffer.concat(framesOf([Buffer.from('hello'), Buffer.from('world!')]))
  for (let bit = 0; bit < stream.length * 8; bit++) {
    const bad = Buffer.from(stream)
    bad[bit >>> 3] = (bad[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
    const texts: string[] = []
    try {
      new FrameReader(LIMIT).push(bad, (_, bytes) => {
        texts.push(Buffer.from(bytes).toString())
        return true
      })
    } catch (error) {
      assert.ok(error instanceof PeerProtocolError, `bit ${bit}: ${error}`)
    }
    assert.ok(texts.length === 0 || texts[0] === 'hello', `bit ${bit} gave ${texts}`)
    assert.ok(texts.length < 2, `bit ${bit} went unnoticed`)
  }
})

test('announcements over the limits are refused before their bytes arrive', () => {
  const header = (length: number, left: number, kind: number): Buffer => {
    const bytes = Buffer.alloc(FRAME_HEADER_BYTES)
    bytes.writeUInt32BE(length, 4)
    bytes.writeUInt32BE(left, 8)
    bytes.writeUInt8(kind, 12)
    return bytes
  }
  const refused = (bytes: Buffer, code: string): void =>
    assert.throws(
      () => read([bytes], 1_000),
      (error) => error instanceof PeerProtocolError && error.code === code,
    )
  refused(header(10, 1_001, frameKinds.message), 'TOOLARGE')
  refused(header(10, 0xffffffff, frameKinds.message), 'TOOLARGE')
  refused(header(0xffffffff, 0xffffffff, frameKinds.message), 'BADFRAME')
  refused(header(20, 10, frameKinds.message), 'BADFRAME')
  refused(header(0, 10, frameKinds.message), 'BADFRAME')
  refused(header(1, 1, frameKinds.ping), 'BADFRAME')
  refused(header(1, 1, 0), 'BADFRAME')
  refused(header(1, 1, 99), 'BADFRAME')
})

test('a frame that does not continue the message before it is refused', () => {
  const [first] = framesOf([Buffer.alloc(1_500_000)])
  const other = frame(frameKinds.message, new Uint8Array([1]))
  assert.throws(() => read([first ?? other, other]), PeerProtocolError)
})

test('a reader that is told to stop delivers nothing more of the same chunk', () => {
  const stream = Buffer.concat(framesOf([Buffer.from('a'), Buffer.from('b')]))
  const reader = new FrameReader(LIMIT)
  let count = 0
  const once = (): boolean => {
    count++
    return false
  }
  reader.push(stream, once)
  reader.push(stream, once)
  assert.equal(count, 1)
})
