/* The replies of one connection: their order, and which bytes are copied. */

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import { EncodedReply, OK } from '../../resp/encoder.ts'
import { ReplyQueue } from '../../src/reply-queue.ts'

const SMALL = Buffer.from('$1\r\nx\r\n')

function takeAll(queue: ReplyQueue): readonly Uint8Array[] {
  const taken: Uint8Array[] = []
  for (let piece = queue.take(); piece.length > 0; piece = queue.take()) taken.push(piece)
  return taken
}

test('large pieces of an encoded reply are handed on as they are, in order, small ones are copied together', () => {
  const queue = new ReplyQueue()
  const [first, second] = [Buffer.alloc(65_536, 'a'), Buffer.alloc(100_000, 'b')]
  queue.answer(OK, 2)
  queue.answer(new EncodedReply(SMALL, first, second, Buffer.alloc(65_535, 'c')), 2)
  queue.answer(OK, 2)
  assert.equal(queue.bytes, 5 + 7 + 65_536 + 100_000 + 65_535 + 5)
  const [head, one, two, tail, ...others] = takeAll(queue)
  assert.equal(String(head), `+OK\r\n${SMALL}`)
  assert.equal(one, first)
  assert.equal(two, second)
  assert.equal(String(tail), `${'c'.repeat(65_535)}+OK\r\n`)
  assert.deepEqual(others, [])
  assert.equal(queue.bytes, 0)
})

test('so they are where the reply was there before it was its turn', () => {
  const queue = new ReplyQueue()
  const slot = queue.expectLater()
  const large = Buffer.alloc(70_000)
  queue.answer(new EncodedReply(SMALL, large), 2)
  queue.answer(OK, 2)
  assert.equal(queue.bytes, 7 + 70_000 + 5)
  assert.deepEqual(takeAll(queue), [])
  queue.settle(slot, OK, 2)
  const [head, one, tail, ...others] = takeAll(queue)
  assert.equal(String(head), `+OK\r\n${SMALL}`)
  assert.equal(one, large)
  assert.equal(String(tail), '+OK\r\n')
  assert.deepEqual(others, [])
  assert.ok(queue.isEmpty)
})

test('a piece that is less than half of its memory is copied, and keeps none of the rest', () => {
  const queue = new ReplyQueue()
  const frame = Buffer.alloc(200_000, 'f')
  const [small, half] = [frame.subarray(0, 99_999), frame.subarray(0, 100_000)]
  queue.answer(new EncodedReply(small), 2)
  queue.answer(new EncodedReply(half), 2)
  const [copied, kept, ...others] = takeAll(queue)
  assert.equal(copied?.length, 99_999)
  assert.notEqual(copied?.buffer, frame.buffer)
  assert.equal(kept, half)
  assert.deepEqual(others, [])
})
