/* The form of a transaction: round trips, its bytes as they are, and what hostile ones may do: a CodecError. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CodecError } from '../../storage/codec.ts'
import {
  decodeTransaction,
  encodeTransaction,
  formCommand,
  type Transaction,
} from '../../storage/logged-command.ts'

const bytes = fc.uint8Array({ maxLength: 300 })
const database = fc.nat(127)
const transaction: fc.Arbitrary<Transaction> = fc.record({
  watched: fc.array(
    fc.record({
      database,
      key: bytes,
      version: fc.oneof(fc.nat(3), fc.maxSafeNat()),
      isMissing: fc.boolean(),
    }),
    { maxLength: 5 },
  ),
  commands: fc.array(
    fc.record({
      database,
      protocol: fc.constantFrom(2 as const, 3 as const),
      argv: fc.array(bytes, { minLength: 1, maxLength: 5 }),
    }),
    { maxLength: 5 },
  ),
})

/** What a decoder may give for bytes that nobody encoded: any transaction, or this error. */
function decodedOrRefused(data: Uint8Array): Transaction | undefined {
  try {
    return decodeTransaction(data)
  } catch (error) {
    assert.ok(error instanceof CodecError, String(error))
    return undefined
  }
}

/** As EXEC makes it: the commands were formed when they were queued. */
function encoded({ watched, commands }: Transaction): Uint8Array {
  return encodeTransaction({
    watched,
    commands: [...commands].map(({ database, protocol, argv }) => {
      return { form: formCommand({ database: 0, argv }), database, protocol }
    }),
  })
}

function plain({ watched, commands }: Transaction): unknown {
  const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
  return {
    watched: watched.map((one) => ({ ...one, key: hex(one.key) })),
    commands: [...commands].map((one) => ({ ...one, argv: one.argv.map(hex) })),
  }
}

test('a transaction reads back as it was', () => {
  fc.assert(
    fc.property(transaction, (original) => {
      assert.deepEqual(plain(decodeTransaction(encoded(original))), plain(original))
    }),
  )
})

test('its bytes: short numbers take one byte, the protocol one bit', () => {
  const word = (text: string) => Buffer.from(text)
  const data = encoded({
    watched: [
      { database: 3, key: word('k'), version: 258, isMissing: false },
      { database: 3, key: word('k'), version: 1, isMissing: true },
    ],
    commands: [
      { database: 0, protocol: 2, argv: [word('GET'), word('k')] },
      { database: 15, protocol: 3, argv: [word('X')] },
    ],
  })
  assert.equal(
    Buffer.from(data).toString('hex'),
    `02${'03'}${'01'}6b${'0000000000000102'}${'83'}${'01'}6b${'0000000000000001'}02${'00'}0203474554016b${'8f'}010158`,
  )
})

test('cut short anywhere it is refused, and so are bytes behind it', () => {
  fc.assert(
    fc.property(transaction, (original) => {
      const data = encoded(original)
      for (let length = 0; length < data.length; length++) {
        assert.equal(decodedOrRefused(data.subarray(0, length)), undefined)
      }
      assert.equal(decodedOrRefused(Buffer.concat([data, Buffer.from([0])])), undefined)
    }),
    { numRuns: 30 },
  )
})

test('a changed byte or garbage gives a transaction or a CodecError, nothing else', () => {
  fc.assert(
    fc.property(transaction, fc.nat(), fc.nat(255), (original, at, byte) => {
      const data = encoded(original)
      data[at % data.length] = byte
      decodedOrRefused(data)
    }),
  )
  fc.assert(fc.property(bytes, (garbage) => void decodedOrRefused(garbage)))
  for (const hex of [
    '01ff',
    '0180016b0000000000000000',
    '00010000',
    '01000020000000000000',
    'ff'.repeat(9),
  ]) {
    assert.equal(decodedOrRefused(Buffer.from(hex, 'hex')), undefined, hex)
  }
})
