/*
 * The encoder: golden bytes of every kind in both protocols, Redis' way of writing doubles, and
 * what a ReplyBuffer promises about memory. Random replies are read back: RESP2 by redis-parser,
 * RESP3 by a small reader below, so that no header can disagree with what follows it.
 */

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import RedisParser from 'redis-parser'
import type { Protocol, Reply } from '../../resp/encoder.ts'
import {
  DoubleReply,
  ErrorReply,
  formatDouble,
  MapReply,
  nullArray,
  OK,
  PONG,
  PushReply,
  QUEUED,
  ReplyBuffer,
  SetReply,
  SimpleReply,
  VerbatimReply,
} from '../../resp/encoder.ts'

function encode(reply: Reply, protocol: Protocol): string {
  const buffer = new ReplyBuffer()
  buffer.append(reply, protocol)
  return Buffer.from(buffer.take()).toString('latin1')
}

test('golden bytes of every kind', () => {
  const map = new MapReply([
    ['a', 1],
    [Buffer.from('b'), null],
  ])
  const nested = [1, ['x', nullArray], new SetReply([true])]
  const cases: readonly (readonly [Reply, string, string?])[] = [
    [Buffer.from([0, 255, 13, 10]), '$4\r\n\0\xff\r\n\r\n'],
    [new Uint8Array(0), '$0\r\n\r\n'],
    ['', '$0\r\n\r\n'],
    ['hello', '$5\r\nhello\r\n'],
    ['\u00e4\u20ac', '$5\r\n\xc3\xa4\xe2\x82\xac\r\n'],
    [0, ':0\r\n'],
    [-0, ':0\r\n'],
    [7, ':7\r\n'],
    [10, ':10\r\n'],
    [-1, ':-1\r\n'],
    [2147483647, ':2147483647\r\n'],
    [2147483648, ':2147483648\r\n'],
    [-2147483647, ':-2147483647\r\n'],
    [-2147483648, ':-2147483648\r\n'],
    [Number.MIN_SAFE_INTEGER, ':-9007199254740991\r\n'],
    [9223372036854775807n, ':9223372036854775807\r\n'],
    [-9223372036854775808n, ':-9223372036854775808\r\n'],
    [null, '$-1\r\n', '_\r\n'],
    [nullArray, '*-1\r\n', '_\r\n'],
    [true, ':1\r\n', '#t\r\n'],
    [false, ':0\r\n', '#f\r\n'],
    [OK, '+OK\r\n'],
    [PONG, '+PONG\r\n'],
    [QUEUED, '+QUEUED\r\n'],
    [new SimpleReply('a\r\nb'), '+a  b\r\n'],
    [new ErrorReply('ERR no'), '-ERR no\r\n'],
    [new ErrorReply('ERR Unsupported option x\n\r\n'), '-ERR Unsupported option x\r\n'],
    [new ErrorReply("ERR got '\r'\n+OK"), "-ERR got ' ' +OK\r\n"],
    [[], '*0\r\n'],
    [[null, 'a', 1], '*3\r\n$-1\r\n$1\r\na\r\n:1\r\n', '*3\r\n_\r\n$1\r\na\r\n:1\r\n'],
    [map, '*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n$-1\r\n', '%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n_\r\n'],
    [new SetReply(['a']), '*1\r\n$1\r\na\r\n', '~1\r\n$1\r\na\r\n'],
    [new PushReply(['a', 1]), '*2\r\n$1\r\na\r\n:1\r\n', '>2\r\n$1\r\na\r\n:1\r\n'],
    [new DoubleReply(1.5), '$3\r\n1.5\r\n', ',1.5\r\n'],
    [new DoubleReply(Number.POSITIVE_INFINITY), '$3\r\ninf\r\n', ',inf\r\n'],
    [new VerbatimReply('a\nb'), '$3\r\na\nb\r\n', '=7\r\ntxt:a\nb\r\n'],
    [new VerbatimReply('\u00e4', 'mkd'), '$2\r\n\xc3\xa4\r\n', '=6\r\nmkd:\xc3\xa4\r\n'],
    [
      nested,
      '*3\r\n:1\r\n*2\r\n$1\r\nx\r\n*-1\r\n*1\r\n:1\r\n',
      '*3\r\n:1\r\n*2\r\n$1\r\nx\r\n_\r\n~1\r\n#t\r\n',
    ],
  ]
  for (const [reply, resp2, resp3 = resp2] of cases) {
    assert.equal(encode(reply, 2), resp2)
    assert.equal(encode(reply, 3), resp3)
  }
})

test('texts of every length, ASCII and not, carry their length in bytes', () => {
  for (let length = 0; length < 140; length++) {
    const ascii = 'x'.repeat(length)
    assert.equal(encode(ascii, 2), `$${length}\r\n${ascii}\r\n`)
    assert.equal(encode(`${ascii}\u00e4`, 3), `$${length + 2}\r\n${ascii}\xc3\xa4\r\n`)
    assert.equal(encode(Buffer.from(ascii), 2), `$${length}\r\n${ascii}\r\n`)
  }
})

test('a number that is no integer is a bug', () => {
  for (const value of [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53]) {
    assert.throws(() => encode(value, 2), RangeError)
  }
})

test('doubles as Redis writes them', () => {
  const cases: readonly (readonly [number, string])[] = [
    [0, '0'],
    [-0, '-0'],
    [3, '3'],
    [-12, '-12'],
    [2 ** 52, '4503599627370496'],
    [2 ** 60, '1152921504606847000'],
    [12345678910000000, '12345678910000000'],
    [12345678900000000, '1.23456789e+16'],
    [1e17, '1e+17'],
    [1.5e300, '1.5e+300'],
    [-1.25e-300, '-1.25e-300'],
    [0.1, '0.1'],
    [0.1 + 0.2, '0.30000000000000004'],
    [-3.25, '-3.25'],
    [0.000001, '0.000001'],
    [0.0000015, '1.5e-6'],
    [1e-7, '1e-7'],
    [123.456, '123.456'],
    [12345.123456789, '1.2345123456789e+4'],
    [Number.NaN, 'nan'],
    [Number.NEGATIVE_INFINITY, '-inf'],
  ]
  for (const [value, digits] of cases) assert.equal(formatDouble(value), digits)
})

test('property: a double reads back as itself', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      assert.ok(Object.is(Number(formatDouble(value)), value))
    }),
    { numRuns: 2_000, seed: 1 },
  )
})

test('length and take: bytes leave once, and belong to the taker', () => {
  const buffer = new ReplyBuffer()
  assert.equal(buffer.take().length, 0)
  buffer.append(OK, 2)
  buffer.appendRaw(Buffer.from(':5\r\n'))
  assert.equal(buffer.length, 9)
  const first = buffer.take()
  assert.equal(buffer.length, 0)
  buffer.append(Buffer.alloc(100_000, 'v'), 2)
  const second = buffer.take()
  buffer.append('later', 2)
  buffer.append(Buffer.alloc(100_000, 'w'), 2)
  assert.equal(Buffer.from(first).toString(), '+OK\r\n:5\r\n')
  assert.equal(Buffer.from(second).toString(), `$100000\r\n${'v'.repeat(100_000)}\r\n`)
  assert.equal(buffer.take().length, 11 + 100_011)
})

test('what was taken is never written again, however small and wherever it lies', () => {
  const buffer = new ReplyBuffer()
  const taken: { readonly bytes: Uint8Array; readonly text: string }[] = []
  for (let size = 0; size < 600; size++) {
    const text = String.fromCharCode(97 + (size % 26)).repeat(size)
    buffer.append(Buffer.from(text), 2)
    taken.push({ bytes: buffer.take(), text: `$${size}\r\n${text}\r\n` })
    assert.equal(buffer.length, 0)
  }
  for (const { bytes, text } of taken) assert.equal(Buffer.from(bytes).toString(), text)
})

test('a value may change once it is appended', () => {
  for (const size of [1, 100, 100_000]) {
    const buffer = new ReplyBuffer()
    const value = Buffer.alloc(size, 'a')
    buffer.append(value, 2)
    value.fill('b')
    assert.equal(Buffer.from(buffer.take()).toString(), `$${size}\r\n${'a'.repeat(size)}\r\n`)
  }
})

test('a large reply leaves without a copy and is not kept', () => {
  const buffer = new ReplyBuffer()
  const value = Buffer.alloc(1024 * 1024)
  buffer.append(value, 2)
  for (let i = 0; i < 1_000; i++) buffer.append(OK, 2)
  const large = buffer.take()
  /* The block it lies in is its own, and not doubled for the small replies behind the value. */
  assert.equal(large.byteOffset, 0)
  assert.ok(large.buffer.byteLength < 1.25 * value.length)
  buffer.append(OK, 2)
  assert.notEqual(buffer.take().buffer, large.buffer)
})

test('many replies in one buffer, over every growth of it', () => {
  const buffer = new ReplyBuffer()
  const expected: string[] = []
  for (let i = 0; i < 20_000; i++) {
    buffer.append(i, 2)
    buffer.append(`v${i}`, 2)
    expected.push(`:${i}\r\n$${String(i).length + 1}\r\nv${i}\r\n`)
  }
  assert.equal(Buffer.from(buffer.take()).toString(), expected.join(''))
})

const binary = fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ maxLength: 3_000 }))
const scalar: fc.Arbitrary<Reply> = fc.oneof(
  binary,
  fc.string({ unit: 'binary', maxLength: 100 }),
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.boolean(),
  fc.constant(null),
  fc.constant(nullArray),
  fc.constant(OK),
  fc.string().map((text) => new SimpleReply(text)),
  fc.string().map((text) => new ErrorReply(`ERR ${text}`)),
  fc.double().map((value) => new DoubleReply(value)),
  fc.string({ unit: 'grapheme' }).map((text) => new VerbatimReply(text)),
)
const replies: fc.Arbitrary<Reply> = fc.letrec<{ reply: Reply }>((tie) => ({
  reply: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalar,
    fc.array(tie('reply'), { maxLength: 12 }),
    fc.array(tie('reply'), { maxLength: 6 }).map((members) => new SetReply(members)),
    fc.array(tie('reply'), { maxLength: 6 }).map((elements) => new PushReply(elements)),
    fc
      .array(fc.tuple(tie('reply'), tie('reply')), { maxLength: 6 })
      .map((entries) => new MapReply(entries)),
  ),
})).reply

/** What a client of RESP2 gets to see: bytes as latin1, integers as text, errors as `-`. */
function seenInResp2(reply: Reply): unknown {
  if (reply === null || typeof reply === 'boolean') return reply === null ? null : `${+reply}`
  if (typeof reply === 'string') return Buffer.from(reply).toString('latin1')
  if (typeof reply !== 'object') return Object.is(reply, -0) ? '0' : String(reply)
  if (reply instanceof Uint8Array) return Buffer.from(reply).toString('latin1')
  if (!('kind' in reply)) return reply.map(seenInResp2)
  switch (reply.kind) {
    case 'simple':
      return Buffer.from(reply.text).toString('latin1')
    case 'error':
      return `-${reply.text}`
    case 'double':
      return formatDouble(reply.value)
    case 'encoded':
      throw new Error('whoever encoded it knows what it says')
    case 'verbatim':
      return Buffer.from(reply.text).toString('latin1')
    case 'map':
      return reply.entries.flat().map(seenInResp2)
    case 'set':
      return reply.members.map(seenInResp2)
    case 'push':
      return reply.elements.map(seenInResp2)
    case 'nullArray':
      return null
  }
}

/** What redis-parser made of it, in the same form. */
function normalized(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(normalized)
  if (value instanceof Error) return `-${value.message}`
  if (Buffer.isBuffer(value)) return value.toString('latin1')
  return value
}

test('property: redis-parser reads every RESP2 reply back', () => {
  fc.assert(
    fc.property(fc.array(replies, { maxLength: 5 }), (list) => {
      const buffer = new ReplyBuffer()
      for (const reply of list) buffer.append(reply, 2)
      const seen: unknown[] = []
      const parser = new RedisParser({
        returnBuffers: true,
        stringNumbers: true,
        returnReply: (value: unknown) => seen.push(normalized(value)),
        returnError: (error) => seen.push(normalized(error)),
      })
      parser.execute(Buffer.from(buffer.take()))
      assert.deepEqual(seen, list.map(seenInResp2))
    }),
    { numRuns: 300, seed: 1 },
  )
})

/** Steps over one RESP3 value and gives the offset behind it. */
function skipResp3(bytes: Buffer, start: number): number {
  const lineEnd = bytes.indexOf('\r\n', start)
  assert.ok(lineEnd > start)
  const type = String.fromCharCode(bytes[start] ?? 0)
  const line = bytes.toString('latin1', start + 1, lineEnd)
  let at = lineEnd + 2
  if ('$='.includes(type)) {
    at += Number(line)
    assert.equal(bytes.toString('latin1', at, at + 2), '\r\n')
    return at + 2
  }
  if ('*~>%'.includes(type)) {
    const count = type === '%' ? 2 * Number(line) : Number(line)
    for (let i = 0; i < count; i++) at = skipResp3(bytes, at)
    return at
  }
  assert.ok(':+-_#,'.includes(type), `type ${type}`)
  return at
}

test('property: RESP3 headers agree with what follows them', () => {
  fc.assert(
    fc.property(fc.array(replies, { maxLength: 5 }), (list) => {
      const buffer = new ReplyBuffer()
      for (const reply of list) buffer.append(reply, 3)
      const bytes = Buffer.from(buffer.take())
      let at = 0
      for (const _ of list) at = skipResp3(bytes, at)
      assert.equal(at, bytes.length)
    }),
    { numRuns: 300, seed: 1 },
  )
})
