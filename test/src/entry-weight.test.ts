/* What the writes on their way will handle: by what is applied, and by what calls before them will make of it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { Call, Stream } from '../../src/call.ts'
import type { Command } from '../../src/commands/command.ts'
import { STRING_BYTES_MAX } from '../../src/commands/string-edits.ts'
import { resolve } from '../../src/commands/table.ts'
import { EXEC_WRITES } from '../../src/commands/transactions.ts'
import { limits } from '../../src/config.ts'
import { EntryWeight, type Rewrite } from '../../src/entry-weight.ts'
import { MultiQueue } from '../../src/multi.ts'
import { internalCall, internalCommand } from '../../src/transaction.ts'
import { encodeTransaction, formCommand } from '../../storage/logged-command.ts'

const stream = new Stream()
const owner = { answered: () => {}, refused: () => {}, dropped: () => {} }

function called(words: string, database = 0): Call {
  const args = words.split(' ').map((word) => Buffer.from(word))
  const command = resolve(args)
  assert.ok(!(command instanceof ErrorReply) && command.kind !== 'local')
  return new Call({ owner, stream, command, args, database, protocol: 2, deadline: 0 })
}

function queued(words: string): [Command, readonly Uint8Array[]] {
  const { command, args } = called(words)
  const found = resolve(args)
  assert.ok(!(found instanceof ErrorReply) && found.name === command.name)
  return [found, args]
}

/** EXEC of these, as another node hands it on. */
function transaction(commands: readonly string[], database: number): Call {
  const formed = commands.map((words) => {
    const argv = words.split(' ').map((word) => Buffer.from(word))
    return { form: formCommand({ database, argv }), database, protocol: 2 } as const
  })
  const args = [Buffer.from(EXEC_WRITES), encodeTransaction({ watched: [], commands: formed })]
  const internal = internalCommand(args) ?? assert.fail('it is none of ours')
  const { command, work } = internalCall(internal, args)
  return new Call({ owner, stream, command, args, database, protocol: 2, deadline: 0, work })
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
  /** Nothing is copied: the value is handed on, nothing is written, or the command will be refused. */
  const copiesNothing =
    /^(COPY|RENAME|GETEX|EXPIRE|PERSIST|BITOP NOR|\w+ (d|e|e2|e3|h|h2|h3|i3|i4|i5) )/
  const weights = {
    'APPEND a 1234': 204,
    'SETRANGE b 0 x': 200,
    'SETRANGE c 149 x': 250,
    [`SETRANGE d ${most} x`]: 200,
    'SETRANGE e none x': 200,
    'SETRANGE e2 1000 ': 200,
    'SETBIT f 0 1': 200,
    'SETBIT g 1600 1': 301,
    [`SETBIT h ${8 * most} 1`]: 200,
    'SETBIT h2 1600 2': 200,
    'SETBIT h3 -1 1': 200,
    'SETRANGE e3 -1 x': 200,
    'BITFIELD i SET u8 0 1': 200,
    'BITFIELD i2 GET u8 9000 INCRBY u8 1600 1': 301,
    'BITFIELD i3 SET u8 1600 1 SET': 200,
    'BITFIELD i4 GET u8 9000': 200,
    'BITFIELD i5 SET u65 1600 1': 200,
    'COPY j k': 200,
    'RENAME l m': 200,
    'GETEX n EX 5': 200,
    'EXPIRE o 5': 200,
    'PERSIST p': 200,
    'BITOP NOT u v': 200,
    'BITOP NOR u v': 0,
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
    const rewrite = weight.begin(called(words))
    assert.equal(rewrite?.bytes ?? 0, bytes, words)
    assert.equal(rewrite?.computed ?? 0, copiesNothing.test(words) ? 0 : bytes, words)
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

test('a transaction is weighed as a whole, each of its writes by what those before it leave', () => {
  const { weight } = weighing(100)
  const exec = transaction(['SETBIT a 1600 1', 'GET a', 'APPEND a 1234', 'EXPIRE a 5'], 3)
  const rewrite = begun(weight, exec)
  // 100 and 201; 201 and 205; twice 205, which are only handed on.
  assert.equal(rewrite.bytes, 301 + 406 + 410)
  assert.equal(rewrite.computed, 301 + 406)
  assert.equal(weight.keys, 1)
  weight.done(rewrite)
  assert.equal(weight.keys, 0)
  const replaced = begun(
    weight,
    transaction(['DEL b', 'APPEND b 1', 'SET c 12345', 'APPEND c 1'], 0),
  )
  assert.equal(replaced.computed, 'DEL'.length + 4 + '12345'.length + 6)
})

test('only a transaction with a write that handles values is looked into', () => {
  const queue = new MultiQueue()
  queue.queue(...queued('SET a 1'), 1e6)
  queue.queue(...queued('GETRANGE a 0 1'), 1e6)
  assert.equal(queue.handlesValues, false)
  queue.queue(...queued(`SET a ${'x'.repeat(limits.lightValueBytesMax + 1)}`), 1e6)
  assert.equal(queue.handlesValues, true)
  const plain = transaction(['SET a 1', 'GET a'], 0)
  assert.equal(weighing(100).weight.begin(plain), undefined)
})
