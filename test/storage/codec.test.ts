/*
 * The codec against hostile bytes: round trips, every single-bit flip of an entry, every truncation, garbage. The
 * worst that any bytes may do is a CodecError.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Entry, Member, MemberRole, Membership, Message, Payload } from '../../raft/types.ts'
import {
  CodecError,
  decodeCommands,
  decodeEntry,
  decodeFrame,
  decodeMessage,
  encodeCommands,
  encodeEntry,
  encodeFrame,
  encodeMessage,
  type ForwardedRun,
  type FrameField,
  type LoggedCommand,
} from '../../storage/codec.ts'

const integer = fc.oneof(fc.nat(200), fc.maxSafeNat())
const bytes = fc.uint8Array({ maxLength: 300 })
const nodeId = fc.stringMatching(/^[0-9a-f]{40}$/)
const position = fc.record({ index: integer, term: integer })
function members(...roles: MemberRole[]): fc.Arbitrary<Member[]> {
  return fc.uniqueArray(
    fc.record({
      id: nodeId,
      role: fc.constantFrom(...roles),
      peerAddress: fc.constant('h:1'),
      clientAddress: fc.constant('é:2'),
    }),
    { selector: ({ id }) => id, minLength: 1, maxLength: 9 },
  )
}
const membership: fc.Arbitrary<Membership> = fc.oneof(
  members('voter', 'learner', 'joining').map((all) => ({ members: all })),
  members('voter', 'learner', 'leaving').map((all) => ({
    members: all,
    outgoing: all.map(({ id }) => id),
  })),
)
const payload: fc.Arbitrary<Payload> = fc.oneof(
  fc.constant({ type: 'noop' } as const),
  membership.map((value) => ({ type: 'membership', membership: value }) as const),
  bytes.map((data) => ({ type: 'commands', data }) as const),
)
const entry: fc.Arbitrary<Entry> = fc.record({
  index: integer.map((value) => Math.max(value, 1)),
  term: integer,
  payload,
  encoded: fc.constant(undefined),
})
const envelope = { from: fc.constant('a'), to: fc.constant('b'), term: integer }

/** A prev and entries that follow it, as an append must have them. */
const tail = fc
  .tuple(fc.nat(1000), fc.nat(50), fc.array(payload, { maxLength: 5 }))
  .map(([index, term, payloads]) => ({
    prev: { index, term },
    entries: payloads.map((value, i) => ({
      index: index + 1 + i,
      term: term + i,
      payload: value,
      encoded: undefined,
    })),
  }))

const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ type: fc.constant('pre-vote'), ...envelope, last: position }),
  fc.record({
    type: fc.constant('vote'),
    ...envelope,
    last: position,
    transfer: fc.boolean(),
  }),
  fc.record({ type: fc.constant('timeout-now'), ...envelope }),
  fc.record({
    type: fc.constantFrom('pre-vote-reply', 'vote-reply'),
    ...envelope,
    granted: fc.boolean(),
  }),
  fc
    .record({ type: fc.constant('append' as const), ...envelope, commit: integer, tail })
    .map(({ tail: { prev, entries }, ...rest }) => ({ ...rest, prev, entries })),
  fc.record({ type: fc.constant('append-reply'), ...envelope, match: integer }),
  fc.record({
    type: fc.constant('append-reject'),
    ...envelope,
    prev: integer,
    hint: position,
    last: integer,
  }),
  fc.record({
    type: fc.constant('heartbeat'),
    ...envelope,
    commit: integer,
    round: integer,
    slowest: fc.record({ id: nodeId, match: integer }),
  }),
  fc.record({ type: fc.constant('heartbeat-reply'), ...envelope, round: integer }),
  fc.record({ type: fc.constant('read'), ...envelope, id: integer }),
  fc.record({ type: fc.constant('read-reply'), ...envelope, id: integer, index: integer }),
)

const command: fc.Arbitrary<LoggedCommand> = fc.record({
  database: fc.nat(255),
  argv: fc.array(bytes, { minLength: 1, maxLength: 5 }),
})
const { frame } = fc.letrec<{ field: FrameField; frame: FrameField[] }>((tie) => ({
  field: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.constantFrom(null, true, false),
    fc.double({ noNaN: true }).filter((value) => !Object.is(value, -0)),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.string({ unit: 'grapheme' }),
    bytes,
    tie('frame'),
  ),
  frame: fc.array(tie('field'), { maxLength: 5 }),
}))

function mustRefuse(decode: () => unknown, what: string): void {
  assert.throws(decode, CodecError, what)
}

/** Garbage may happen to be valid; it must not do anything but decode or throw CodecError. */
function mayRefuse(decode: () => unknown): void {
  try {
    decode()
  } catch (error) {
    assert.ok(error instanceof CodecError, `not a CodecError: ${error}`)
  }
}

/** Views differ in class (Buffer, Uint8Array) and in what they view; compared are the bytes. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString('hex')}`
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'encoded')
      .map(([key, inner]) => [key, plain(inner)]),
  )
}

function sampleEntry(): Entry {
  const data = encodeCommands(7, [{ database: 0, argv: [Buffer.from('SET'), Buffer.from('k')] }])
  return { index: 5, term: 2, payload: { type: 'commands', data }, encoded: undefined }
}

describe('entries', () => {
  it('survive a round trip and keep their bytes', () => {
    fc.assert(
      fc.property(entry, (value) => {
        const encoded = encodeEntry(value)
        assert.equal(encodeEntry(value), encoded, 'encoded once')
        const decoded = decodeEntry(encoded)
        assert.deepEqual(plain(decoded), plain(value))
        assert.equal(encodeEntry(decoded), encoded, 'the follower keeps the very same bytes')
      }),
    )
  })

  it('are refused after any single flipped bit', () => {
    const encoded = encodeEntry(sampleEntry())
    for (let bit = 0; bit < encoded.length * 8; bit++) {
      const flipped = Uint8Array.from(encoded)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      mustRefuse(() => decodeEntry(flipped), `bit ${bit}`)
    }
  })

  it('are refused when cut short anywhere, or too long', () => {
    const encoded = encodeEntry(sampleEntry())
    for (let length = 0; length < encoded.length; length++) {
      mustRefuse(() => decodeEntry(encoded.subarray(0, length)), `length ${length}`)
    }
    mustRefuse(() => decodeEntry(Buffer.concat([encoded, Buffer.from([0])])), 'a byte too many')
  })

  it('have no index or term above 2^53 - 1, and no index 0', () => {
    for (const index of [2 ** 53, -1, 0.5, Number.NaN]) {
      assert.throws(() => encodeEntry({ ...sampleEntry(), index }), /safe integer/)
      assert.throws(() => encodeEntry({ ...sampleEntry(), term: index }), /safe integer/)
    }
    mustRefuse(() => decodeEntry(encodeEntry({ ...sampleEntry(), index: 0 })), 'index 0')
  })
})

describe('commands', () => {
  it('survive a round trip', () => {
    fc.assert(
      fc.property(integer, fc.array(command, { maxLength: 20 }), (at, commands) => {
        const decoded = decodeCommands(encodeCommands(at, commands))
        assert.equal(decoded.at, at)
        assert.deepEqual(plain(decoded.commands), plain(commands))
      }),
    )
  })

  it('survive at every length at which a number grows by a byte', () => {
    for (const length of [0, 1, 24, 25, 127, 128, 16_383, 16_384, 2_097_152]) {
      const argument = Buffer.alloc(length, 7)
      const decoded = decodeCommands(encodeCommands(0, [{ database: 15, argv: [argument] }]))
      assert.deepEqual(decoded.commands[0]?.argv[0], argument)
    }
  })

  it('are refused when cut short anywhere, or too long', () => {
    const encoded = encodeCommands(9, [
      { database: 1, argv: [Buffer.from('SET'), Buffer.from('k'), Buffer.alloc(200)] },
      { database: 1, argv: [Buffer.from('DEL')] },
    ])
    for (let length = 0; length < encoded.length; length++) {
      mustRefuse(() => decodeCommands(encoded.subarray(0, length)), `length ${length}`)
    }
    mustRefuse(() => decodeCommands(Buffer.concat([encoded, Buffer.from([0])])), 'too long')
  })

  it('keep whose they are, where they were forwarded', () => {
    const node = fc.stringMatching(/^[0-9a-f]{0,64}$/)
    const origin = fc.record({ node, incarnation: integer }, { noNullPrototype: true })
    const tag = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 1000 })
    const gap = fc.integer({ min: 0, max: 3 })
    const run = fc.record({ of: fc.nat(2), gap, count: fc.integer({ min: 1, max: 5 }), tag })
    const origins = fc.array(origin, { minLength: 3, maxLength: 3 })
    fc.assert(
      fc.property(
        integer,
        origins,
        fc.array(run, { maxLength: 9 }),
        gap,
        (at, nodes, runs, rest) => {
          let end = 0
          const forwarded: ForwardedRun[] = []
          for (const { of, gap: local, count, tag: first } of runs) {
            const place = end + local
            forwarded.push({
              origin: nodes[of] ?? { node: '', incarnation: 0 },
              place,
              count,
              tag: first,
            })
            end = place + count
          }
          const one = { database: 1, argv: [Buffer.from('DEL')] }
          const commands = Array.from({ length: end + rest }, () => one)
          const decoded = decodeCommands(encodeCommands(at, commands, forwarded))
          assert.deepEqual(decoded.forwarded, forwarded)
          assert.equal(decoded.commands.length, commands.length)
        },
      ),
    )
  })

  it('are refused where what was forwarded is not among them', () => {
    const one = { database: 1, argv: [Buffer.from('DEL')] }
    const plain = encodeCommands(9, [one, one, one])
    const origins = [1, 1, 97, ...Array.from({ length: 8 }, () => 1)]
    const tag = [0, 0, 0, 0, 0, 0, 0, 5]
    const huge = [0xff, 0xff, 0xff, 0xff, 0x0f]
    const decode = (...bytes: number[]): unknown =>
      decodeCommands(Buffer.concat([plain, Buffer.from(bytes)]))
    decode(...origins.slice(0, 3), ...tag, 1, 0, 0, 3, ...tag)
    for (const [what, bytes] of Object.entries({
      'an incarnation too large': [1, 1, 97, 255, ...tag.slice(1), 1, 0, 0, 3, ...tag],
      'no runs': [1, 1, 97, ...tag],
      'no such origin': [1, 1, 97, ...tag, 1, 1, 0, 3, ...tag],
      'an empty run': [1, 1, 97, ...tag, 1, 0, 0, 0, ...tag],
      'past the last command': [1, 1, 97, ...tag, 1, 0, 1, 3, ...tag],
      'a tag cut short': [1, 1, 97, ...tag, 1, 0, 0, 3, ...tag.slice(1)],
      'tags too large': [1, 1, 97, ...tag, 1, 0, 0, 3, 0, 31, ...Array(5).fill(255), 254],
      'a node id too long': [1, 65, ...Array(65).fill(97), ...tag, 1, 0, 0, 3, ...tag],
      'more origins than bytes': [...huge, 1, 97, ...tag],
      'more runs than bytes': [1, 1, 97, ...tag, ...huge, 0, 0, 1, ...tag],
      'too long': [1, 1, 97, ...tag, 1, 0, 0, 3, ...tag, 0],
    })) {
      mustRefuse(() => decode(...bytes), what)
    }
  })

  it('never allocate for a count or a length that no bytes back', () => {
    const at = Array.from({ length: 8 }, () => 0)
    const huge = [0xff, 0xff, 0xff, 0xff, 0x0f]
    mustRefuse(() => decodeCommands(Uint8Array.from([...at, ...huge])), 'count')
    mustRefuse(() => decodeCommands(Uint8Array.from([...at, 1, 0, ...huge])), 'argc')
    mustRefuse(() => decodeCommands(Uint8Array.from([...at, 1, 0, 1, ...huge])), 'argument')
    mustRefuse(() => decodeCommands(Uint8Array.from([...at, 1, 0, 0])), 'no name')
    const endless = Array.from({ length: 20 }, () => 0x80)
    mustRefuse(() => decodeCommands(Uint8Array.from([...at, ...endless])), 'endless number')
    mustRefuse(() => decodeCommands(Uint8Array.from([0xff, ...at.slice(1), 0])), 'clock too large')
  })

  it('do not trip over garbage', () => {
    fc.assert(fc.property(bytes, (garbage) => mayRefuse(() => decodeCommands(garbage))))
  })
})

describe('messages', () => {
  it('survive a round trip, entries with the same bytes', () => {
    fc.assert(
      fc.property(message, (value) => {
        const decoded = decodeMessage(messageBytes(value), 'a', 'b')
        assert.deepEqual(plain(decoded), plain(value))
      }),
    )
  })

  it('are refused after any single flipped bit and any truncation', () => {
    const append: Message = {
      type: 'append',
      from: 'a',
      to: 'b',
      term: 3,
      prev: { index: 4, term: 2 },
      entries: [sampleEntry()],
      commit: 4,
    }
    const encoded = messageBytes(append)
    for (let bit = 0; bit < encoded.length * 8; bit++) {
      const flipped = Uint8Array.from(encoded)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      mustRefuse(() => decodeMessage(flipped, 'a', 'b'), `bit ${bit}`)
    }
    const entryAt = encoded.length - encodeEntry(sampleEntry()).length - 4
    for (let length = 0; length < encoded.length; length++) {
      // Without its last entries an append is a shorter append, which is a message of its own.
      if (length !== entryAt) {
        mustRefuse(() => decodeMessage(encoded.subarray(0, length), 'a', 'b'), `length ${length}`)
      }
    }
  })

  it('refuse fields that no peer sends', () => {
    const base = { from: 'a', to: 'b' }
    const forged: unknown[] = [
      { ...base, type: 'vote', term: 2 ** 53, last: { index: 1, term: 1 }, transfer: false },
      { ...base, type: 'vote', term: 1.5, last: { index: 1, term: 1 }, transfer: false },
      { ...base, type: 'vote', term: -1, last: { index: 1, term: 1 }, transfer: false },
      { ...base, type: 'vote', term: '1', last: { index: 1, term: 1 }, transfer: false },
      { ...base, type: 'vote', term: 1, last: { index: 1, term: 1 }, transfer: 1 },
      { ...base, type: 'vote-reply', term: 1, granted: 1 },
      { ...base, type: 'heartbeat', term: 1, commit: 1, round: 1, slowest: { id: '', match: 1 } },
      { ...base, type: 'read', term: 1, id: null },
    ]
    for (const value of forged) {
      mustRefuse(() => decodeMessage(messageBytes(value as Message), 'a', 'b'), `${value}`)
    }
  })

  it('refuse entries that do not follow one another', () => {
    const first = sampleEntry()
    const bad: [Entry[], { index: number; term: number }][] = [
      [[first], { index: 3, term: 2 }],
      [[first], { index: 4, term: 3 }],
      [[first, { ...sampleEntry(), index: 7 }], { index: 4, term: 2 }],
      [[first, { ...sampleEntry(), index: 6, term: 1 }], { index: 4, term: 2 }],
    ]
    for (const [entries, prev] of bad) {
      const append: Message = {
        type: 'append',
        from: 'a',
        to: 'b',
        term: 3,
        prev,
        entries,
        commit: 0,
      }
      mustRefuse(() => decodeMessage(messageBytes(append), 'a', 'b'), 'a gap')
    }
  })

  it('do not trip over garbage', () => {
    fc.assert(fc.property(bytes, (garbage) => mayRefuse(() => decodeMessage(garbage, 'a', 'b'))))
  })
})

describe('frames', () => {
  it('survive a round trip', () => {
    fc.assert(
      fc.property(frame, (fields) => {
        assert.deepEqual(plain(decodeFrame(encodeFrame(fields))), plain(fields))
      }),
    )
  })

  it('own their memory', () => {
    const first = encodeFrame(['a', 1])
    const copy = Uint8Array.from(first)
    encodeFrame(['something else', 2, 3])
    assert.deepEqual(first, copy)
    assert.equal(first.buffer.byteLength, first.length)
  })

  it('admit nothing but arrays of plain fields', () => {
    const hostile: [string, number[]][] = [
      ['nothing', []],
      ['a map', [0x81, 0xa1, 0x61, 0x01]],
      ['a map inside', [0x91, 0x80]],
      ['a number', [0x01]],
      ['a record definition', [0x91, 0xd4, 0x72, 0x40]],
      ['a RegExp', [0x91, 0xc7, 0x03, 0x78, 0xa1, 0x61, 0xa0]],
      ['a timestamp', [0x91, 0xd6, 0xff, 0, 0, 0, 0]],
      ['a 64-bit integer', [0x91, 0xcf, 0, 0, 0, 0, 0, 0, 0, 1]],
      ['a C1', [0x91, 0xc1]],
      ['a huge array', [0xdd, 0xff, 0xff, 0xff, 0xff]],
      ['a huge binary', [0x91, 0xc6, 0xff, 0xff, 0xff, 0xff]],
      ['a huge string', [0x91, 0xdb, 0xff, 0xff, 0xff, 0xff, 0x61]],
      ['trailing bytes', [0x91, 0x01, 0x01]],
      ['endless nesting', Array.from({ length: 100_000 }, () => 0x91)],
    ]
    for (const [what, values] of hostile) {
      mustRefuse(() => decodeFrame(Uint8Array.from(values)), what)
    }
  })

  it('do not trip over garbage', () => {
    const anything = fc.uint8Array({ maxLength: 60 }).map((rest) => Buffer.from([0x93, ...rest]))
    fc.assert(fc.property(anything, (garbage) => mayRefuse(() => decodeFrame(garbage))))
  })
})

function messageBytes(message: Message): Uint8Array {
  return Uint8Array.from(Buffer.concat(encodeMessage(message)))
}
