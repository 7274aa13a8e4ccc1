/*
 * Every sentence of the judge, on findings made up for it: one sound recovery that it has nothing against, and for each
 * kind of problem the smallest change that must be one.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Entry } from '../../raft/types.ts'
import { encodeCommands } from '../../storage/codec.ts'
import { type Due, dueAt, judge, type Memory, type Problem } from './judge.ts'
import type { Told } from './promises.ts'
import type { DatabaseFound, Found, StateFound } from './recovery.ts'
import { Reference } from './reference.ts'

const NODE = 'a'.repeat(40)
/** One command of client 0 per entry. */
const COMMANDS = [
  ['SET', '0:key:1', 'one'],
  ['SET', '0:key:2', 'two'],
  ['DEL', '0:key:1'],
  ['SET', '0:key:3', 'three'],
]

function entry(index: number, argv: readonly string[], term = 2): Entry {
  const commands = [{ database: 0, argv: argv.map((word) => Buffer.from(word)) }]
  const payload = { type: 'commands', data: encodeCommands(index, commands) } as const
  return { index, term, payload, encoded: undefined }
}

const reference = new Reference([
  {
    nodeId: NODE,
    hardState: { term: 2, vote: NODE },
    base: { index: 0, term: 0 },
    entries: COMMANDS.map((argv, at) => entry(at + 1, argv)),
  },
])

function stateAt(index: number): StateFound {
  const values = [...reference.contentAt(0, index)]
  const count = { size: values.length, records: values.length }
  const databases: readonly DatabaseFound[] = [{ values, ...count }]
  return { at: { index, term: 2 }, databases, digest: `digest of ${index}` }
}

/** What a recovery finds that has lost nothing up to `last`, with a checkpoint at 2. */
function soundTo(last: number): Found {
  return {
    nodeId: NODE,
    bound: true,
    hardState: { term: 2, vote: NODE },
    base: { index: 1, term: 2 },
    last,
    lastTerm: 2,
    entries: Array.from({ length: last - 1 }, (_, at) => {
      return reference.entryAt(at + 2) ?? { term: 0, bytes: '' }
    }),
    state: stateAt(2),
    replayed: stateAt(last),
  }
}

const told: readonly Told[] = [
  { type: 'vote', at: 4, term: 2, own: true },
  { type: 'replies', at: 10, port: 9, count: 2 },
  { type: 'checkpoint', at: 20, index: 2 },
  { type: 'replies', at: 30, port: 9, count: 2 },
  { type: 'match', at: 40, term: 2, index: 4 },
]
const clients = [{ client: 0, port: 9, from: 0, sent: 4, answered: 4 }]

function problems(found: Found, due: Due, memory?: Memory): readonly Problem['what'][] {
  const known = memory ?? { digests: new Map(), votes: new Map() }
  return judge({ found }, due, reference, known).map(({ what }) => what)
}

test('what was told counts from the moment on at which it was begun', () => {
  assert.equal(dueAt(9, told, clients).answered.get(0), 0)
  assert.equal(dueAt(10, told, clients).answered.get(0), 2)
  assert.equal(dueAt(19, told, clients).checkpoint, 0)
  assert.equal(dueAt(30, told, clients).answered.get(0), 4)
  assert.equal(dueAt(39, told, clients).matches.length, 0)
  assert.equal(dueAt(40, told, clients).matches.length, 1)
})

test('a recovery that lost nothing has no problem, nor one that lost what nobody was told of', () => {
  assert.deepEqual(problems(soundTo(4), dueAt(99, told, clients)), [])
  assert.deepEqual(problems(soundTo(3), dueAt(20, told, clients)), [])
})

test('an image that is refused is a problem', () => {
  const memory = { digests: new Map(), votes: new Map() }
  const refused = { refused: 'the process ended with SIGSEGV' }
  assert.equal(judge(refused, dueAt(0, told, clients), reference, memory)[0]?.what, 'refused')
})

test('an acknowledged command that is missing is one', () => {
  assert.deepEqual(problems(soundTo(3), dueAt(30, told, clients)), ['acknowledged'])
})

test('an acknowledged entry that is missing is one, unless a later term has cut it', () => {
  const due = dueAt(99, told, [])
  assert.deepEqual(problems(soundTo(3), due), ['match'])
  const replaced = { ...soundTo(3), lastTerm: 3, hardState: { term: 3, vote: NODE } }
  assert.deepEqual(problems(replaced, due), [])
})

test('a checkpoint that is not there is one', () => {
  const found = { ...soundTo(4), state: stateAt(1) }
  assert.deepEqual(problems(found, dueAt(99, told, clients)), ['checkpoint'])
})

test('a term or a vote that went back is one', () => {
  const due = dueAt(99, told, clients)
  for (const hardState of [
    { term: 2, vote: undefined },
    { term: 2, vote: 'b'.repeat(40) },
    { term: 1, vote: NODE },
  ]) {
    assert.ok(problems({ ...soundTo(4), hardState }, due).includes('term and vote'))
  }
  const memory = { digests: new Map(), votes: new Map([[2, 'b'.repeat(40)]]) }
  assert.deepEqual(problems(soundTo(4), due, memory), ['term and vote'])
  assert.deepEqual(problems({ ...soundTo(4), hardState: { term: 3, vote: undefined } }, due), [])
})

test('a node that is another one, or of no cluster, is one', () => {
  const due = dueAt(10, told, clients)
  const another = { ...soundTo(4), nodeId: 'b'.repeat(40), hardState: { term: 3, vote: NODE } }
  assert.deepEqual(problems(another, due), ['identity'])
  assert.deepEqual(problems({ ...soundTo(4), bound: false }, due), ['identity'])
})

test('an entry that was never in the log is one', () => {
  const found = soundTo(4)
  const entries = found.entries.map((one, at) => (at === 1 ? { ...one, bytes: 'x' } : one))
  assert.ok(problems({ ...found, entries }, dueAt(99, told, clients)).includes('log'))
})

test('a state that is not what the log says is one: values, counts and digests', () => {
  const due = dueAt(99, told, clients)
  const found = soundTo(4)
  const [database] = found.replayed.databases
  assert.ok(database)
  const withDatabase = (one: DatabaseFound): Found => {
    return { ...found, replayed: { ...found.replayed, databases: [one] } }
  }
  const [[key] = ['', '']] = database.values
  const changed: DatabaseFound = {
    ...database,
    values: [[key, 'other'], ...database.values.slice(1)],
  }
  assert.deepEqual(problems(withDatabase(changed), due), ['content'])
  assert.deepEqual(problems(withDatabase({ ...database, size: 9 }), due), ['content'])
  assert.deepEqual(problems(withDatabase({ ...database, records: 9 }), due), ['content'])
  const memory = { digests: new Map([[4, 'another']]), votes: new Map() }
  assert.deepEqual(problems(found, due, memory), ['digest'])
})
