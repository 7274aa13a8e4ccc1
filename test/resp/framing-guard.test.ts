/*
 * The framing guard by itself: where it stops, and what it knows of the bytes still to come. What
 * it lets through and refuses is tested with the decoder, through which everything reaches it.
 */

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import { FramingGuard } from '../../resp/framing-guard.ts'

const LIMITS = {
  bulkBytesMax: 1_000_000,
  argumentsMax: 1_000,
  lineBytesMax: 64,
  unauthenticatedArgumentsMax: 10,
  unauthenticatedBulkBytesMax: 100,
}

test('it stops behind each command, line and ignored request', () => {
  const guard = new FramingGuard(LIMITS)
  const pieces: readonly (readonly [string, string])[] = [
    ['*1\r\n$4\r\nPING\r\n', 'command'],
    ['*0\r\n', 'ignored'],
    ['PING\r\n', 'inline'],
    ['\r\n\n\r\n', 'ignored'],
    [' \r\n', 'inline'],
    ['\r\r\n', 'inline'],
    ['*-7\r\n', 'ignored'],
    ['*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n', 'command'],
    ['*1\r\n$4\r\nPI', 'incomplete'],
  ]
  const stream = Buffer.from(pieces.map(([text]) => text).join(''))
  let at = 0
  for (const [text, verdict] of pieces) {
    assert.equal(guard.scan(stream, at, true), verdict)
    at += text.length
    assert.equal(guard.at, at)
  }
  assert.equal(guard.scan(Buffer.from('NG\r\nrest'), 0, true), 'command')
  assert.equal(guard.at, 4)
})

test('it knows the missing bytes once the last header is read', () => {
  const guard = new FramingGuard(LIMITS)
  const steps: readonly (readonly [string, number])[] = [
    ['*2\r\n', Number.POSITIVE_INFINITY],
    ['$100\r\nabc', Number.POSITIVE_INFINITY],
    [`${'a'.repeat(97)}\r\n`, Number.POSITIVE_INFINITY],
    ['$500\r\n', 502],
    ['a'.repeat(499), 3],
    ['a\r', 1],
  ]
  for (const [text, missing] of steps) {
    assert.equal(guard.scan(Buffer.from(text), 0, true), 'incomplete')
    assert.equal(guard.missingBytes, missing)
  }
  assert.equal(guard.scan(Buffer.from('\n'), 0, true), 'command')
  assert.equal(guard.missingBytes, 0)
})

test('a refusal says why', () => {
  const guard = new FramingGuard(LIMITS)
  assert.equal(guard.scan(Buffer.from('*1\r\n$101\r\n'), 0, false), 'refused')
  assert.equal(guard.refusal, 'unauthenticated bulk length')
})
