/* What the writes on their way will handle: by what is applied, and by what calls before them will make of it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { Call, Stream } from '../../src/call.ts'
import { STRING_BYTES_MAX } from '../../src/commands/string-edits.ts'
import { resolve } from '../../src/commands/table.ts'
import { limits } from '../../src/config.ts'
import { EntryWeight, type Rewrite } from '../../src/entry-weight.ts'

const stream = new Stream()
const owner = { answered: () => {}, refused: () => {}, dropped: () => {} }

function called(words: string, database = 0): Call {
  const args = words.split(' ').map((word) => Buffer.from(word))
  const command = resolve(args)
  assert.ok(!(command instanceof ErrorReply) && command.kind !== 'local')
  return new Call({ owner, stream, command, args, database, protocol: 2, deadline: 0 })
}

/** Of a state in which every value has so many bytes; what was asked for. */
function weighing(length: number): { weight: EntryWeight; asked: string[] } {
  const asked: string[] = []
  const weight = new EntryWeight((database, key) => {
    asked.push(`${database} ${key}`)
    return length
  })
  return { weight, asked }
}

function begun(weight: EntryWeight, call: Call): Rewrite {
  return weight.begin(call) ?? assert.fail('it rewrites nothing')
}

test('what a write is given and makes, by its arguments', () => {
  const { weight } = weighing(100)
  const most = STRING_BYTES_MAX
  const weights = {
    'APPEND a 1234': 204,
    'SETRANGE b 0 x': 200,
    'SETRANGE c 149 x': 250,
    [`SETRANGE d ${most} x`]: 200,
    'SETRANGE e none x': 200,
    'SETBIT f 0 1': 200,
    'SETBIT g 1600 1': 301,
    [`SETBIT h ${8 * most} 1`]: 200,
    'BITFIELD i SET u8 0 1': 200,
    'COPY j k': 200,
    'RENAME l m': 200,
    'GETEX n EX 5': 200,
    'EXPIRE o 5': 200,
    'PERSIST p': 200,
    'BITOP NOT u v': 200,
    'BITOP AND u v w x': 400,
    // What is on its way counts, as of g above: 100 and 201 are given, 201 made.
    'BITOP OR y b g': 502,
    'RESTORE z 0 \0\x05hello': 5,
    'SET q 1': 0,
    'INCR r': 0,
    'DEL s': 0,
    'GET t': 0,
    FLUSHALL: 0,
  }
  for (const [words, bytes] of Object.entries(weights)) {
    assert.equal(weight.begin(called(words))?.bytes ?? 0, bytes, words)
  }
})

test('what is on its way counts until it is done, and nothing is remembered after it', () => {
  const { weight, asked } = weighing(0)
  const words = 'APPEND log 1234567890'
  const rewrites = Array.from({ length: 1000 }, () => begun(weight, called(words)))
  // 0 + 10, 10 + 20, and so on.
  assert.equal(
    rewrites.reduce((sum, { bytes }) => sum + bytes, 0),
    10 * 1000 ** 2,
  )
  const elsewhere = begun(weight, called('APPEND log x', 1))
  assert.equal(elsewhere.bytes, 1, 'another database, another key')
  assert.deepEqual(asked, ['0 log', '1 log'])
  const [first, ...others] = rewrites
  for (const rewrite of others) weight.done(rewrite)
  assert.equal(weight.keys, 2)
  assert.ok(first)
  weight.done(first)
  assert.equal(weight.keys, 1)
  assert.equal(begun(weight, called('APPEND log x')).bytes, 1, 'it is asked for anew')
  weight.done(elsewhere)
  assert.throws(() => weight.done(elsewhere), /nothing is on its way/)
})

test('a large value on its way to its key is counted where the calls behind it are given it', () => {
  const { weight } = weighing(0)
  const size = limits.lightValueBytesMax
  assert.equal(weight.begin(called(`SET light ${'x'.repeat(size)}`)), undefined)
  const value = 'x'.repeat(size + 1)
  const set = begun(weight, called(`SET large ${value}`))
  assert.equal(set.bytes, 0, 'its bytes are those of the entry')
  const steps = ['BITOP NOT a large', 'COPY a b', 'APPEND b x', 'BITCOUNT b'].map((words) =>
    weight.begin(called(words)),
  )
  const given = size + 1
  const expected = [2 * given, 2 * given, 2 * given + 1, undefined]
  assert.deepEqual(
    steps.map((step) => step?.bytes),
    expected,
  )
  const many = begun(weight, called(`MSET c ${value} d 1`))
  assert.equal(weight.keys, 5)
  for (const rewrite of [set, many, ...steps]) if (rewrite !== undefined) weight.done(rewrite)
  assert.equal(weight.keys, 0)
})
