/*
 * The decoder against every way of cutting a stream, and against hostile input with the texts Redis
 * gives. The same bytes must give the same commands and the same error however they arrive, so most
 * tests run a stream through `decodeEveryWay`.
 */

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import { Decoder, ProtocolError } from '../../resp/decoder.ts'
import type { FramingLimits } from '../../resp/framing-guard.ts'

const MIB = 1024 * 1024
const LIMITS: FramingLimits = {
  bulkBytesMax: 64 * MIB,
  argumentsMax: 1_048_576,
  lineBytesMax: 65_536,
  unauthenticatedArgumentsMax: 10,
  unauthenticatedBulkBytesMax: 16_384,
}

interface Outcome {
  readonly commands: readonly (readonly string[])[]
  readonly error?: string
}

/** Latin1 text stands for bytes, so that expected values can be written down. */
function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

function frame(...command: readonly string[]): string {
  return `*${command.length}\r\n${command.map((a) => `$${a.length}\r\n${a}\r\n`).join('')}`
}

/** Pulls all there is; a ProtocolError becomes the outcome's error and must repeat itself. */
function drain(decoder: Decoder, commands: string[][]): string | undefined {
  try {
    for (;;) {
      const command = decoder.next()
      if (command !== undefined) commands.push(command.map((one) => one.toString('latin1')))
      else if (!decoder.gaveWay) return undefined
    }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    assert.throws(() => decoder.next(), error)
    assert.equal(decoder.bufferedBytes, 0)
    return error.message
  }
}

/** Decodes the chunks, pulling after each of them, or only when all have arrived. */
function decode(
  chunks: readonly Buffer[],
  { authenticated = true, limits = LIMITS, late = false } = {},
): Outcome {
  const decoder = new Decoder(limits, authenticated)
  const commands: string[][] = []
  let error: string | undefined
  for (const chunk of chunks) {
    decoder.push(chunk)
    if (!late) error = drain(decoder, commands)
  }
  if (late) error = drain(decoder, commands)
  return error === undefined ? { commands } : { commands, error }
}

function cut(stream: Buffer, points: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  let start = 0
  for (const point of points) {
    chunks.push(Buffer.from(stream.subarray(start, point)))
    start = point
  }
  chunks.push(Buffer.from(stream.subarray(start)))
  return chunks
}

function singleBytes(stream: Buffer): Buffer[] {
  return Array.from(stream, (byte) => Buffer.from([byte]))
}

/**
 * The outcome of a stream, which every split point, single bytes and late pulling must agree on.
 */
function decodeEveryWay(text: string, authenticated = true): Outcome {
  const stream = bytes(text)
  const whole = decode([stream], { authenticated })
  for (let point = 1; point < stream.length; point++) {
    const chunks = cut(stream, [point])
    assert.deepEqual(decode(chunks, { authenticated }), whole, `split at ${point}`)
    assert.deepEqual(decode(chunks, { authenticated, late: true }), whole, `late, at ${point}`)
  }
  const single = singleBytes(stream)
  assert.deepEqual(decode(single, { authenticated }), whole, 'single bytes')
  assert.deepEqual(decode(single, { authenticated, late: true }), whole, 'single bytes, late')
  return whole
}

test('commands come out in order, at every split point', () => {
  const commands = [
    ['PING'],
    ['SET', 'key:000000001234', 'x'.repeat(64)],
    ['SET', '', ''],
    ['GET', 'a\r\nb'],
    ['MSET', 'k1', '*1\r\n$4\r\nPING\r\n', 'k2', '$-1\r\n'],
  ]
  const stream = commands.map((c) => frame(...c)).join('')
  assert.deepEqual(decodeEveryWay(stream), { commands })
})

test('values are binary-safe', () => {
  const all = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).join('')
  const utf8 = Buffer.from('\u00e4\u20ac\u{1f600}').toString('latin1')
  const commands = [
    ['SET', all, `\0\xff\r\n\0`],
    ['GET', '__proto__', 'constructor', utf8],
  ]
  assert.deepEqual(decodeEveryWay(commands.map((c) => frame(...c)).join('')), { commands })
})

test('arguments are Buffers of a plain array', () => {
  const decoder = new Decoder(LIMITS, true)
  decoder.push(bytes(frame('GET', 'a')))
  const command = decoder.next()
  assert.ok(Array.isArray(command))
  assert.ok(command.every((argument) => Buffer.isBuffer(argument)))
  assert.equal(decoder.next(), undefined)
})

test('empty requests are ignored', () => {
  const ping = frame('PING')
  for (const nothing of [
    '\r\n',
    '\n',
    '\r\n\n\r\n',
    '\r\r\n',
    '  \t \r\n',
    '*0\r\n',
    '*-1\r\n',
    '*-10\r\n',
  ]) {
    const stream = `${nothing}${nothing}${ping}${nothing}${ping}${nothing}`
    assert.deepEqual(decodeEveryWay(stream), { commands: [['PING'], ['PING']] }, nothing)
    const decoder = new Decoder(LIMITS, true)
    decoder.push(bytes(nothing))
    assert.equal(decoder.next(), undefined)
    assert.equal(decoder.bufferedBytes, 0)
  }
})

test('inline commands follow sdssplitargs', () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['PING\r\n', ['PING']],
    ['PING\n', ['PING']],
    ['  set\tkey  value \r\n', ['set', 'key', 'value']],
    ['set k "a b\\n\\r\\t\\b\\a\\"\\\\\\q"\r\n', ['set', 'k', 'a b\n\r\t\b\x07"\\q']],
    ['set k "\\x41\\xff\\x0g\\x"\r\n', ['set', 'k', 'A\xffx0gx']],
    ["set k 'a \\'b\\' \\n \"'\r\n", ['set', 'k', "a 'b' \\n \""]],
    ['set "" \'\'\r\n', ['set', '', '']],
    ['set a"b c" d\'e f\'\r\n', ['set', 'ab c', 'de f']],
    ['a\rb\r\n', ['a', 'b']],
    ['a\vb\v c\r\n', ['a\vb\v', 'c']],
    ['"a"\vb\r\n', ['a', 'b']],
    ['GET a\\b\r\n', ['GET', 'a\\b']],
    ['POST / HTTP/1.1\r\n', ['POST', '/', 'HTTP/1.1']],
    ['Host: localhost\r\n', ['Host:', 'localhost']],
  ]
  for (const [line, command] of cases) {
    const outcome = decodeEveryWay(`${line}${frame('PING')}`)
    assert.deepEqual(outcome, { commands: [command, ['PING']] }, line)
  }
})

test('unbalanced quotes are refused', () => {
  const lines = ['"unbalanced', "'unbalanced", 'set "a"b', "set 'a'b", '"a\\"', "'a\\'", '"a\\']
  for (const line of lines) {
    const outcome = decodeEveryWay(`${frame('PING')}${line}\r\n${frame('PING')}`)
    const error = 'Protocol error: unbalanced quotes in request'
    assert.deepEqual(outcome, { commands: [['PING']], error }, line)
  }
})

test('hostile requests get the text of Redis, behind the commands before them', () => {
  const multibulk = 'invalid multibulk length'
  const bulk = 'invalid bulk length'
  const cases: readonly (readonly [string, string])[] = [
    ['*3000000000\r\n', multibulk],
    ['*20000000\r\n', multibulk],
    ['*1048577\r\n', multibulk],
    ['*33554432\r\n', multibulk],
    ['*4294967296\r\n', multibulk],
    ['*12345678901\r\n', multibulk],
    ['*-12345678901\r\n', multibulk],
    ['*\r\n', multibulk],
    ['*+1\r\n', multibulk],
    ['*01\r\n', multibulk],
    ['*00\r\n', multibulk],
    ['*-0\r\n', multibulk],
    ['*-01\r\n', multibulk],
    ['*--1\r\n', multibulk],
    ['*-\r\n', multibulk],
    ['* 1\r\n', multibulk],
    ['*1 \r\n', multibulk],
    ['*1-5\r\n', multibulk],
    ['*1\n$4\r\n', multibulk],
    ['*1\r$4\r\n', multibulk],
    ['*\0\r\n', multibulk],
    ['*\xff\r\n', multibulk],
    ['*1\r\nfoo\r\n', "expected '$', got 'f'"],
    ['*1\r\n\r\n', "expected '$', got '\r'"],
    ['*1\r\n*1\r\n*1\r\n', "expected '$', got '*'"],
    ['*1\r\n:1\r\n', "expected '$', got ':'"],
    ['*1\r\n+OK\r\n', "expected '$', got '+'"],
    ['*1\r\n\xff\r\n', "expected '$', got '\xff'"],
    ['*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n', "expected '$', got 'f'"],
    ['*1\r\n$-10\r\n', bulk],
    ['*1\r\n$-1\r\n', bulk],
    ['*1\r\n$2000000000\r\n', bulk],
    ['*1\r\n$536870913\r\n', bulk],
    ['*1\r\n$67108865\r\n', bulk],
    ['*1\r\n$4000000000\r\n', bulk],
    ['*1\r\n$99999999999999999999\r\n', bulk],
    ['*1\r\n$blabla\r\n', bulk],
    ['*1\r\n$+4\r\nPING\r\n', bulk],
    ['*1\r\n$ 4\r\nPING\r\n', bulk],
    ['*1\r\n$04\r\nPING\r\n', bulk],
    ['*1\r\n$1-5\r\nPING\r\n', bulk],
    ['*1\r\n$\r\nPING\r\n', bulk],
    ['*1\r\n$4\rPING\r\n', bulk],
    ['*1\r\n$\0\r\n', bulk],
    ['*1\r\n$3\r\nfooXY*1\r\n$4\r\nPING\r\n', 'bulk string not terminated by CRLF'],
    ['*1\r\n$3\r\nfoo\rX', 'bulk string not terminated by CRLF'],
    ['*1\r\n$0\r\n\n\r', 'bulk string not terminated by CRLF'],
    ['GET a\0b\r\n', 'NUL in inline request'],
  ]
  for (const [request, detail] of cases) {
    const outcome = decodeEveryWay(`${frame('GET', 'a')}${request}${frame('PING')}`)
    const expected = { commands: [['GET', 'a']], error: `Protocol error: ${detail}` }
    assert.deepEqual(outcome, expected, JSON.stringify(request))
  }
})

test('a request is refused as soon as its broken line ends', () => {
  for (const request of ['*x\r\n', '*1\r\n\r\n', '*1\r\nx\r\n', '*1\r\n$x\r\n', '%']) {
    assert.notEqual(decodeEveryWay(request).error, undefined, JSON.stringify(request))
    assert.equal(decodeEveryWay(request.slice(0, -1)).error, undefined)
  }
})

test('the other types of RESP are refused as requests', () => {
  for (const type of '$+-:_,#!=(%~>|') {
    const outcome = decodeEveryWay(`${type}1\r\n${frame('PING')}`)
    assert.deepEqual(outcome, {
      commands: [],
      error: `Protocol error: expected '*', got '${type}'`,
    })
  }
})

test('lines without an end are refused one byte past the limit', () => {
  const limits = { ...LIMITS, lineBytesMax: 64 }
  const cases: readonly (readonly [string, string])[] = [
    ['', 'too big inline request'],
    ['\0', 'too big inline request'],
    ['*', 'too big mbulk count string'],
    ['*\0', 'too big mbulk count string'],
    ['*1\r\n$', 'too big bulk count string'],
    ['*1\r\n$\0', 'too big bulk count string'],
    ['*1\r\nf', 'too big bulk count string'],
  ]
  for (const [start, detail] of cases) {
    const line = start.slice(start.lastIndexOf('\n') + 1)
    const full = bytes(start + '1'.repeat(64 - line.length))
    const over = Buffer.concat([full, bytes('1')])
    const error = `Protocol error: ${detail}`
    for (const late of [false, true]) {
      assert.deepEqual(decode(singleBytes(full), { limits, late }), { commands: [] })
      assert.deepEqual(decode(singleBytes(over), { limits, late }), { commands: [], error })
      assert.deepEqual(decode([over], { limits, late }), { commands: [], error })
    }
    /* The end came in the same chunk, but too late all the same. */
    assert.deepEqual(decode([Buffer.concat([over, bytes('\r\n')])], { limits }), {
      commands: [],
      error,
    })
  }
})

test('an inline command and a header line may fill the line limit', () => {
  const word = 'x'.repeat(65_535)
  assert.deepEqual(decode([bytes(`${word}\r\n`)]), { commands: [[word]] })
  assert.deepEqual(decode([bytes(`${word}x\r\n`)]), {
    commands: [],
    error: 'Protocol error: too big inline request',
  })
  const header = `*${'1'.repeat(65_535)}\r\n`
  assert.deepEqual(decode([bytes(header)]).error, 'Protocol error: invalid multibulk length')
})

test('limits hold at the bound and refuse one past it', () => {
  const limits = { ...LIMITS, bulkBytesMax: 100, argumentsMax: 20 }
  const bulk = 'v'.repeat(100)
  const many = Array.from({ length: 20 }, (_, i) => `a${i}`)
  assert.deepEqual(decode([bytes(frame('SET', bulk))], { limits }).commands, [['SET', bulk]])
  assert.deepEqual(decode([bytes(frame(...many))], { limits }).commands, [many])
  const tooLong = decode([bytes(frame('SET', `${bulk}v`))], { limits })
  assert.deepEqual(tooLong, { commands: [], error: 'Protocol error: invalid bulk length' })
  const tooMany = decode([bytes(frame(...many, 'b'))], { limits })
  assert.deepEqual(tooMany, { commands: [], error: 'Protocol error: invalid multibulk length' })
})

test('a command of as many arguments as Redis takes', () => {
  const count = LIMITS.argumentsMax
  const decoder = new Decoder(LIMITS, true)
  decoder.push(bytes(`*${count}\r\n${'$1\r\na\r\n'.repeat(count)}`))
  assert.equal(decoder.next()?.length, count)
  assert.equal(decoder.bufferedBytes, 0)
})

test('before AUTH ten arguments of 16,384 bytes pass, and nothing larger', () => {
  const ten = Array.from({ length: 10 }, (_, i) => `a${i}`)
  const long = 'v'.repeat(16_384)
  const authenticated = false
  assert.deepEqual(decode([bytes(frame(...ten))], { authenticated }).commands, [ten])
  assert.deepEqual(decode([bytes(frame('AUTH', long))], { authenticated }).commands, [
    ['AUTH', long],
  ])
  assert.deepEqual(decodeEveryWay(frame('PING') + frame(...ten, 'b'), false), {
    commands: [['PING']],
    error: 'Protocol error: unauthenticated multibulk length',
  })
  assert.deepEqual(decodeEveryWay(`${frame('PING')}*1\r\n$16385\r\n`, false), {
    commands: [['PING']],
    error: 'Protocol error: unauthenticated bulk length',
  })
  /* What no one may send is invalid first. */
  const outcome = decode([bytes('*3000000000\r\n')], { authenticated })
  assert.equal(outcome.error, 'Protocol error: invalid multibulk length')
})

test('AUTH in a pipeline lifts the limits for the command behind it, at every split point', () => {
  const big = ['MSET', ...Array.from({ length: 20 }, (_, i) => `a${i}`)]
  const stream = bytes(frame('PING') + frame('AUTH', 'secret') + frame(...big) + frame('PING'))
  for (let point = 0; point < stream.length; point++) {
    const decoder = new Decoder(LIMITS, false)
    const names: string[] = []
    for (const chunk of cut(stream, [point])) {
      decoder.push(chunk)
      for (let c = decoder.next(); c !== undefined; c = decoder.next()) {
        names.push(String(c[0]))
        if (names.at(-1) === 'AUTH') decoder.authenticated = true
      }
    }
    assert.deepEqual(names, ['PING', 'AUTH', 'MSET', 'PING'])
  }
})

test('a changed limit holds from the next header on', () => {
  const limits = { ...LIMITS, bulkBytesMax: 4 }
  const decoder = new Decoder(limits, true)
  decoder.push(bytes(frame('PING')))
  assert.notEqual(decoder.next(), undefined)
  limits.bulkBytesMax = 3
  decoder.push(bytes(frame('PING')))
  assert.throws(() => decoder.next(), new ProtocolError('invalid bulk length'))
})

test('after an error nothing more is taken', () => {
  const decoder = new Decoder(LIMITS, true)
  decoder.push(bytes(`${frame('PING')}*1\r\nx\r\n`))
  assert.equal(String(decoder.next()?.[0]), 'PING')
  assert.throws(() => decoder.next(), ProtocolError)
  decoder.push(bytes(frame('PING')))
  assert.equal(decoder.bufferedBytes, 0)
  assert.throws(() => decoder.next(), { code: 'PROTOCOL' })
})

test('bufferedBytes counts what was received and not delivered', () => {
  const decoder = new Decoder(LIMITS, true)
  const command = frame('SET', 'a', 'value')
  const half = command.length >> 1
  decoder.push(bytes(command + command.slice(0, half)))
  assert.equal(decoder.bufferedBytes, command.length + half)
  assert.notEqual(decoder.next(), undefined)
  assert.equal(decoder.bufferedBytes, half)
  assert.equal(decoder.next(), undefined)
  assert.equal(decoder.bufferedBytes, half)
  decoder.push(bytes(`${command.slice(half)}PING\r\n\r\n`))
  assert.equal(decoder.bufferedBytes, command.length + 8)
  assert.notEqual(decoder.next(), undefined)
  assert.equal(decoder.bufferedBytes, 8)
  assert.notEqual(decoder.next(), undefined)
  assert.equal(decoder.next(), undefined)
  assert.equal(decoder.bufferedBytes, 0)
})

test('a pipeline of 10,000 commands, in chunks of 64 KiB', () => {
  const commands = Array.from({ length: 10_000 }, (_, i) => ['SET', `key:${i}`, `value ${i}`])
  const stream = bytes(commands.map((c) => frame(...c)).join(''))
  const points: number[] = []
  for (let point = 65_536; point < stream.length; point += 65_536) points.push(point)
  assert.ok(points.length > 5)
  assert.deepEqual(decode(cut(stream, points)), { commands })
  assert.deepEqual(decode(cut(stream, points), { late: true }), { commands })
  assert.deepEqual(decode(cut(stream, points), { authenticated: false }), { commands })
})

/** Valid requests of every form, and their commands. */
const requests = fc.array(
  fc.oneof(
    fc
      .array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 5 })
      .map((command) => command.map((argument) => Buffer.from(argument).toString('latin1')))
      .map((command) => ({ text: frame(...command), command })),
    fc.constant({ text: 'ECHO "a \\x00b"\r\n', command: ['ECHO', 'a \0b'] }),
    fc.constant({ text: '*-1\r\n', command: undefined }),
    fc.constant({ text: '\r\n', command: undefined }),
  ),
  { maxLength: 60 },
)
const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 40 })

function cutAt(stream: Buffer, fractions: readonly number[]): Buffer[] {
  const points = fractions.map((fraction) => Math.floor(fraction * stream.length))
  return cut(
    stream,
    points.sort((a, b) => a - b),
  )
}

test('property: the commands do not depend on the chunks', () => {
  fc.assert(
    fc.property(requests, cuts, fc.boolean(), (list, fractions, late) => {
      const commands = list.flatMap(({ command }) => (command === undefined ? [] : [command]))
      const stream = bytes(list.map(({ text }) => text).join(''))
      assert.deepEqual(decode(cutAt(stream, fractions), { late }), { commands })
    }),
    { numRuns: 300, seed: 1 },
  )
})

/** Valid streams with some bytes replaced, and bytes that look like protocol. */
const PROTOCOL_BYTES = bytes('*$0123456789-+\r\n\n "\'\\xaP\0\xff%')
const protocolByte = fc.nat(PROTOCOL_BYTES.length - 1).map((i) => PROTOCOL_BYTES[i] ?? 0)
const damaged = fc.oneof(
  fc.array(protocolByte, { maxLength: 60 }).map((list) => Buffer.from(list)),
  fc
    .tuple(requests, fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), protocolByte)))
    .map(([list, changes]) => {
      const stream = bytes(list.map(({ text }) => text).join(''))
      for (const [fraction, byte] of changes) {
        if (stream.length > 0) stream[Math.floor(fraction * (stream.length - 1))] = byte
      }
      return stream
    }),
)

test('property: neither does the error of a damaged stream, and nothing else is thrown', () => {
  fc.assert(
    fc.property(damaged, cuts, fc.boolean(), (stream, fractions, authenticated) => {
      const whole = decode([stream], { authenticated })
      const chunks = cutAt(stream, fractions)
      assert.deepEqual(decode(chunks, { authenticated }), whole)
      assert.deepEqual(decode(chunks, { authenticated, late: true }), whole)
      assert.deepEqual(decode(singleBytes(stream), { authenticated }), whole)
    }),
    { numRuns: 500, seed: 1 },
  )
})

test('property: a command of thousands of arguments does not depend on the chunks', () => {
  const long = Array.from({ length: 9_000 }, (_, at) => 'x'.repeat(at % 7))
  long[5_000] = 'y'.repeat(70_000)
  const commands = [['GET', 'a'], ['MGET', ...long], ['GET', 'b'], ['MGET', ...long], ['PING']]
  const stream = bytes(commands.map((command) => frame(...command)).join(''))
  fc.assert(
    fc.property(cuts, fc.boolean(), (fractions, late) => {
      assert.deepEqual(decode(cutAt(stream, fractions), { late }), { commands })
    }),
    { numRuns: 50, seed: 1 },
  )
})

test('a command of thousands of arguments may be cut between two of them, with others behind it', () => {
  const long = Array.from({ length: 5_000 }, (_, at) => `key:${at}`)
  const commands = [['MGET', ...long], ['PING'], ['GET', 'a'], ['MGET', ...long], ['PING']]
  const stream = bytes(commands.map((command) => frame(...command)).join(''))
  const ends = [4_200, 4_500, 4_999].map(
    (at) => stream.indexOf(`key:${at}\r\n`) + 'key:0000\r\n'.length,
  )
  for (const points of [ends, ...ends.map((end) => [end])]) {
    assert.deepEqual(decode(cut(stream, points)), { commands })
    assert.deepEqual(decode(cut(stream, points), { late: true }), { commands })
  }
})

test('a command of thousands of arguments counts until it is delivered, or until it breaks', () => {
  const head = frame('MGET', ...Array.from({ length: 9_999 }, () => 'key')).slice(
    0,
    -'y\r\n'.length,
  )
  for (const [end, broken] of [
    ['y\r\n', false],
    ['yX\n', true],
  ] as const) {
    const decoder = new Decoder(LIMITS, true)
    decoder.push(bytes(head.slice(0, 40_000)))
    assert.equal(decoder.next(), undefined)
    decoder.push(bytes(head.slice(40_000)))
    assert.equal(decoder.next(), undefined)
    // Those that are decoded cost more than their bytes.
    assert.ok(decoder.bufferedBytes > head.length + 4_000 * 64)
    decoder.push(bytes(end))
    if (broken) assert.throws(() => decoder.next(), ProtocolError)
    else assert.equal(decoder.next()?.length, 10_000)
    assert.equal(decoder.bufferedBytes, 0)
  }
})
