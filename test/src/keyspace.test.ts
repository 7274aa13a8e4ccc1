/*
 * The state machine: what an entry does to the state, what is left behind by a command that fails,
 * and who hears of replies. Any commands in any order are keyspace-model.test.ts.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AssertionError } from '../../raft/assert.ts'
import type { Index } from '../../raft/types.ts'
import { ErrorReply, type Reply } from '../../resp/encoder.ts'
import {
  type Database,
  notAnInteger,
  type ReadCommand,
  type WriteCommand,
} from '../../src/commands/command.ts'
import { dumpSlices } from '../../src/commands/dump-payload.ts'
import { limits } from '../../src/config.ts'
import { FEATURE_LEVEL, firstLevel } from '../../src/feature-level.ts'
import { fence, hashKeyCommand, NO_ROOM } from '../../src/keyspace.ts'
import { LongRead } from '../../src/long-reads.ts'
import { ClockBehind } from '../../src/moment.ts'
import { encodeCommands } from '../../storage/codec.ts'
import {
  Applied,
  argv,
  batchOf,
  bytes,
  dataCommand,
  drained,
  silent,
  wire,
} from './command-fixture.ts'

/** The databases of one write command, with what it does. */
function inCommand(db: Applied, run: (database: Database) => void): string {
  let reply = ''
  const handler = (database: Database) => {
    run(database)
    return 1
  }
  withHandler('incr', handler, () => {
    reply = db.run('INCR', 'k')
  })
  return reply
}

/** A write command of the table that runs `run` instead, while `body` lasts. */
function withHandler(name: string, run: (db: Database) => Reply, body: () => void): void {
  const command = dataCommand([name, 'k']) as { run: WriteCommand['run'] }
  const original = command.run
  command.run = run
  try {
    body()
  } finally {
    command.run = original
  }
}

test('an entry moves the applied index, and a value carries the version of what wrote it', () => {
  const db = new Applied()
  assert.equal(db.keyspace.appliedIndex(), 0)
  db.keyspace.apply(db.entries.make({ type: 'noop' }))
  db.keyspace.apply(
    db.entries.commands([
      ['SET', 'a', '1'],
      ['SET', 'b', '2'],
    ]),
  )
  db.keyspace.apply(db.entries.commands([['INCR', 'a']]))
  assert.equal(db.keyspace.appliedIndex(), 3)
  const version = (key: string) => db.store.get(0, key)?.version ?? 0
  assert.ok(version('a') > version('b'), 'a later entry has larger versions')
  assert.ok(version('b') > 0)
  assert.equal(db.store.get(0, 'b')?.expireAt, 0)
  assert.equal(db.keyspace.size(0), 2)
})

test('a membership entry goes to the store', () => {
  const db = new Applied()
  const id = 'a'.repeat(40)
  const member = { id, role: 'voter', peerAddress: 'h:1', clientAddress: 'h:2' } as const
  const membership = { members: [member] }
  db.keyspace.apply(db.entries.make({ type: 'membership', membership }))
  assert.deepEqual(db.store.membership, membership)
  db.keyspace.apply(db.entries.make({ type: 'noop' }))
  assert.deepEqual(db.store.membership, membership)
})

test('the clock of the state follows the entries and never falls', () => {
  const db = new Applied()
  db.keyspace.apply(db.entries.commands([['SET', 'a', '1']], 5000))
  assert.equal(db.keyspace.clock(), 5000)
  db.keyspace.apply(db.entries.commands([['SET', 'a', '1']], 4000))
  assert.equal(db.keyspace.clock(), 5000)
  db.keyspace.apply(db.entries.make({ type: 'noop' }))
  assert.equal(db.keyspace.clock(), 5000)
  db.keyspace.apply(db.entries.commands([['SET', 'a', '1']], 5001))
  assert.equal(db.keyspace.clock(), 5001)
})

test('an entry out of order is a bug, not something to apply', () => {
  const db = new Applied()
  const first = db.entries.make({ type: 'noop' })
  const second = db.entries.make({ type: 'noop' })
  assert.throws(() => db.keyspace.apply(second), AssertionError)
  db.keyspace.apply(first)
  assert.throws(() => db.keyspace.apply(first), AssertionError)
})

test('whoever waits gets one reply per item in order, and reads that ride see what is before them only', () => {
  const db = new Applied()
  db.run('SET', 'n', '5')
  const entry = db.entries.commands([
    ['INCR', 'n'],
    ['SET', 'n', 'x'],
    ['INCR', 'n'],
  ])
  const batch = batchOf(1, [
    ['GET', 'n'],
    ['DBSIZE'],
    ['INCR', 'n'],
    ['GET', 'n'],
    ['SET', 'n', 'x'],
    ['INCR', 'n'],
    ['GET', 'n'],
  ])
  db.keyspace.expect(entry.index, batch)
  db.keyspace.apply(entry)
  assert.deepEqual(batch.answers, [
    ['$1\r\n5\r\n', 2],
    [':1\r\n', 2],
    [':6\r\n', 2],
    ['$1\r\n6\r\n', 2],
    ['+OK\r\n', 2],
    ['-ERR value is not an integer or out of range\r\n', 2],
    ['$1\r\nx\r\n', 2],
  ])
})

const TOO_HEAVY =
  '-ERR too many bytes of values were rewritten in one go; this command was not executed\r\n'

/** The replies to the commands of one entry. */
function inOneEntry(
  db: Applied,
  ...lines: readonly (readonly (string | Uint8Array)[])[]
): string[] {
  const entry = db.entries.commands(lines.filter((line) => dataCommand(line).kind === 'write'))
  const batch = batchOf(1, lines)
  db.keyspace.expect(entry.index, batch)
  db.keyspace.apply(entry)
  return batch.answers.map(([reply]) => reply)
}

test('an entry that has rewritten as many bytes as it may refuses large values, before memory is taken', () => {
  const { entryValueBytesMax: most, lightValueBytesMax: light } = limits
  const db = new Applied()
  const replies = inOneEntry(
    db,
    // Exactly as many as there may be, so one more large value has room, and then none.
    ['SETRANGE', 'large', `${most - 1}`, 'x'],
    ['SETRANGE', 'last', `${light}`, 'x'],
    ['SETRANGE', 'light', `${light - 1}`, 'x'],
    ['SETRANGE', 'a', `${light}`, 'x'],
    ['SETBIT', 'a', `${light * 8}`, '1'],
    ['BITFIELD', 'a', 'SET', 'u8', `${light * 8}`, '1'],
    ['APPEND', 'large', 'x'],
    ['COPY', 'large', 'a'],
    ['BITOP', 'NOT', 'a', 'last'],
    ['RESTORE', 'a', '0', drained(dumpSlices(new Uint8Array(light + 1)))],
    ['RESTORE', 'short', '0', drained(dumpSlices(new Uint8Array(light))), 'REPLACE'],
    ['SETBIT', 'light', `${light * 8 - 1}`, '1'],
    ['SET', 'small', 'v'],
    ['APPEND', 'small', 'w'],
    ['GET', 'small'],
    ['EXISTS', 'a'],
    ['DEL', 'large'],
  )
  const refused = Array(7).fill(TOO_HEAVY)
  const others = ['+OK\r\n', ':0\r\n', '+OK\r\n', ':2\r\n', '$2\r\nvw\r\n', ':0\r\n', ':1\r\n']
  const made = [most, light + 1, light].map((length) => `:${length}\r\n`)
  assert.deepEqual(replies, [...made, ...refused, ...others])
  assert.deepEqual(inOneEntry(db, ['SETRANGE', 'a', `${light}`, 'x']), [`:${light + 1}\r\n`])
})

test('a batch whose index went to another term gets no answer', () => {
  for (const other of ['commands', 'noop'] as const) {
    const db = new Applied()
    const batch = batchOf(1, [['SET', 'a', 'mine']])
    db.keyspace.expect(1, batch)
    db.entries.term = 2
    const theirs = other === 'noop' ? db.entries.make({ type: 'noop' }) : undefined
    db.keyspace.apply(theirs ?? db.entries.commands([['SET', 'a', 'theirs']]))
    db.keyspace.apply(db.entries.commands([['SET', 'b', 'x']]))
    assert.deepEqual(batch.answers, [])
    assert.equal(db.run('GET', 'a'), other === 'noop' ? '$-1\r\n' : '$6\r\ntheirs\r\n')
  }
})

/** Own items by tag, as a router would give them; what was asked for is noted. */
function ownItems(lines: Readonly<Record<number, readonly (readonly string[])[]>>) {
  const batches = new Map(Object.entries(lines).map(([tag, words]) => [+tag, batchOf(1, words)]))
  const asked: number[] = []
  const skipped: Index[] = []
  return {
    asked,
    skipped,
    answers: (tag: number) => batches.get(tag)?.answers,
    forwarded: {
      origin: { node: 'me', incarnation: 2 },
      take: (tag: number) => {
        asked.push(tag)
        return batches.get(tag)?.items ?? []
      },
      skippedTo: (index: Index) => void skipped.push(index),
    },
  }
}

test('commands of this node in the entry of another one are answered where they stand, with their riders', () => {
  const own = ownItems({
    7: [['GET', 'n'], ['DBSIZE'], ['INCR', 'n']],
    9: [['GET', 'n']],
  })
  const db = new Applied(silent, own.forwarded)
  const [me, before, other] = [
    { node: 'me', incarnation: 2 },
    { node: 'me', incarnation: 1 },
    { node: 'other', incarnation: 2 },
  ]
  const entry = db.entries.commands(
    Array.from({ length: 7 }, () => ['INCR', 'n']),
    1,
    0,
    [
      { origin: other, place: 0, count: 1, tag: 7 },
      { origin: me, place: 2, count: 3, tag: 7 },
      { origin: before, place: 5, count: 1, tag: 7 },
    ],
  )
  db.keyspace.apply(entry)
  assert.deepEqual(own.asked, [7, 8, 9])
  assert.deepEqual(own.answers(7), [
    ['$1\r\n2\r\n', 1],
    [':1\r\n', 1],
    [':3\r\n', 1],
  ])
  // Only reads wait at tag 9: the command itself was answered before, and runs all the same.
  assert.deepEqual(own.answers(9), [['$1\r\n4\r\n', 1]])
  assert.equal(db.run('GET', 'n'), '$1\r\n7\r\n')
  assert.deepEqual(own.skipped, [])
})

test('entries that came with a snapshot are told before the next one is applied', () => {
  const own = ownItems({})
  const db = new Applied(silent, own.forwarded)
  assert.equal(db.keyspace.appliedTerm(), 0)
  db.run('SET', 'a', '1')
  assert.equal(db.keyspace.appliedTerm(), 1)
  for (let index = 2; index < 5; index++) {
    db.entries.make({ type: 'noop' })
    db.store.commitEntry({ index, clock: 1 })
  }
  // What a process did not apply itself tells it nothing.
  assert.equal(db.keyspace.appliedTerm(), 1)
  assert.deepEqual(own.skipped, [])
  db.entries.term = 3
  db.keyspace.apply(db.entries.make({ type: 'noop' }))
  assert.deepEqual([own.skipped, db.keyspace.appliedTerm()], [[4], 3])
})

test('a fence does nothing, and a client cannot send one', () => {
  const db = new Applied()
  db.keyspace.apply(db.entries.commands([fence.args]))
  assert.equal(db.run('DBSIZE'), ':0\r\n')
  assert.match(db.run(...fence.args), /^-ERR unknown command/)
})

test('a batch that was given up hears nothing, and giving up an old one leaves the new one', () => {
  const db = new Applied()
  const old = batchOf(1, [['SET', 'a', '1']])
  const given = batchOf(1, [['SET', 'a', '1']])
  db.keyspace.expect(1, old)
  db.keyspace.expect(1, given)
  db.keyspace.forget(1, old)
  const entry = db.entries.commands([['SET', 'a', '1']])
  db.keyspace.apply(entry)
  assert.deepEqual(given.answers, [['+OK\r\n', 1]])
  const late = batchOf(1, [['SET', 'a', '2']])
  db.keyspace.expect(2, late)
  db.keyspace.forget(2, late)
  db.keyspace.apply(db.entries.commands([['SET', 'a', '2']]))
  assert.deepEqual([old.answers, late.answers], [[], []])
  assert.throws(() => db.keyspace.expect(2, late), AssertionError)
})

test('a batch that does not hold the commands of its entry is a bug', () => {
  for (const [logged, awaited] of [
    [
      [['SET', 'a', '1']],
      [
        ['SET', 'a', '1'],
        ['SET', 'b', '1'],
      ],
    ],
    [
      [
        ['SET', 'a', '1'],
        ['SET', 'b', '1'],
      ],
      [['SET', 'a', '1']],
    ],
  ] as const) {
    const db = new Applied()
    db.keyspace.expect(1, batchOf(1, awaited))
    const entry = db.entries.commands(logged)
    assert.throws(() => db.keyspace.apply(entry), AssertionError)
  }
})

test('every applied index is reported when its state can be read', () => {
  const get = dataCommand(['GET', 'k'])
  assert.ok(get.kind === 'read')
  const seen: (readonly [Index, number, string])[] = []
  const db: Applied = new Applied({
    ...silent,
    applied: (index, term) => {
      assert.equal(db.keyspace.appliedIndex(), index)
      seen.push([index, term, wire(db.keyspace.read(get, 0, argv(['GET', 'k'])))])
    },
  })
  db.keyspace.apply(db.entries.make({ type: 'noop' }))
  db.entries.term = 3
  db.keyspace.apply(db.entries.commands([['SET', 'k', 'v']]))
  assert.deepEqual(seen, [
    [1, 1, '$-1\r\n'],
    [2, 3, '$1\r\nv\r\n'],
  ])
})

test('a handler with a bug leaves nothing behind, and the commands around it are not touched', () => {
  const reported: (readonly [Index, string, string])[] = []
  const db = new Applied({
    applied: () => {},
    internalError: (index, command, error) => reported.push([index, command, String(error)]),
  })
  db.run('MSET', 'k', 'old', 'gone', 'here')
  const entry = db.entries.commands([
    ['SET', 'a', '1'],
    ['GETSET', 'k', 'new'],
    ['SET', 'b', '2'],
  ])
  const batch = batchOf(1, [
    ['SET', 'a', '1'],
    ['GETSET', 'k', 'new'],
    ['SET', 'b', '2'],
  ])
  db.keyspace.expect(entry.index, batch)
  const command = dataCommand(['GETSET', 'k', 'v']) as { run: WriteCommand['run'] }
  const original = command.run
  command.run = (database) => {
    database.put('k', bytes('new'))
    database.delete('gone')
    database.clear()
    database.put('other', bytes('x'))
    throw new TypeError('undefined is not a function')
  }
  try {
    db.keyspace.apply(entry)
  } finally {
    command.run = original
  }
  assert.deepEqual(
    batch.answers.map(([reply]) => reply),
    ['+OK\r\n', '-ERR internal error\r\n', '+OK\r\n'],
  )
  assert.deepEqual(reported, [[2, 'getset', 'TypeError: undefined is not a function']])
  assert.equal(
    db.run('MGET', 'k', 'gone', 'other', 'a', 'b'),
    '*5\r\n$3\r\nold\r\n$4\r\nhere\r\n$-1\r\n$1\r\n1\r\n$1\r\n2\r\n',
  )
})

test('a Redis error after writes leaves nothing behind either, thrown or returned', () => {
  const db = new Applied()
  db.run('SET', 'k', '5')
  const fail = new ErrorReply('ERR no')
  withHandler(
    'incr',
    (database) => {
      database.put('k', bytes('9'))
      return fail
    },
    () => assert.equal(db.run('INCR', 'k'), '-ERR no\r\n'),
  )
  withHandler(
    'incr',
    (database) => {
      database.delete('k')
      throw notAnInteger
    },
    () => assert.match(db.run('INCR', 'k'), /^-ERR value is not an integer/),
  )
  assert.equal(db.run('GET', 'k'), '$1\r\n5\r\n')
})

test('what only this node suffers from ends the process instead of becoming a reply', () => {
  const faults = [
    new AssertionError('broken'),
    new RangeError('Maximum call stack size exceeded'),
    new RangeError('Array buffer allocation failed'),
  ]
  for (const fault of faults) {
    const db = new Applied()
    db.run('SET', 'k', '5')
    const broken = () => {
      throw fault
    }
    withHandler('incr', broken, () => assert.throws(() => db.run('INCR', 'k'), fault))
  }
  const db = new Applied()
  db.run('SET', 'k', '5')
  db.store.failing = true
  assert.throws(() => db.run('INCR', 'k'), /the disk is gone/)
  assert.throws(() => db.run('GET', 'k'), /the disk is gone/)
})

test('a read with a bug is an error of that read only', () => {
  const reported: string[] = []
  const db = new Applied({
    applied: () => {},
    internalError: (index, command) => reported.push(`${index} ${command}`),
  })
  db.run('SET', 'k', '5')
  const get = dataCommand(['GET', 'k']) as { run: ReadCommand['run'] }
  const original = get.run
  get.run = () => {
    throw new TypeError('bug')
  }
  try {
    assert.equal(db.run('GET', 'k'), '-ERR internal error\r\n')
  } finally {
    get.run = original
  }
  assert.deepEqual(reported, ['1 get'])
  assert.equal(db.run('GET', 'k'), '$1\r\n5\r\n')
})

test('a handler sees its own writes', () => {
  const db = new Applied()
  db.run('MSET', 'a', '1', 'b', '2', 'c', '3')
  const seen: unknown[] = []
  const note = (database: Database, key: string) => {
    const value = database.get(key)?.value
    seen.push(value === undefined ? undefined : Buffer.from(value).toString())
  }
  withHandler(
    'incr',
    (database) => {
      database.put('a', bytes('new'))
      note(database, 'a')
      seen.push(database.delete('b'), database.delete('b'), database.delete('none'))
      note(database, 'b')
      database.put('d', bytes('4'))
      seen.push(database.size())
      database.clear()
      note(database, 'c')
      seen.push(database.size(), database.delete('a'))
      database.put('e', bytes('5'))
      database.put('c', bytes('6'))
      database.delete('c')
      seen.push(database.size())
      return 1
    },
    () => db.run('INCR', 'k'),
  )
  assert.deepEqual(seen, ['new', true, false, false, undefined, 3, undefined, 0, false, 1])
  assert.equal(db.run('MGET', 'a', 'e', 'c'), '*3\r\n$-1\r\n$1\r\n5\r\n$-1\r\n')
  assert.equal(db.run('DBSIZE'), ':1\r\n')
})

test('a key that is due does not exist for reads and writes', () => {
  const db = new Applied()
  db.time = 1000
  inCommand(db, (database) => {
    assert.equal(database.now, 1000)
    database.put('k', bytes('v'), 2000)
    database.put('ever', bytes('v'))
    assert.equal(database.get('k')?.expireAt, 2000)
  })
  db.time = 1999
  assert.equal(db.run('SETNX', 'k', 'w'), ':0\r\n')
  assert.equal(db.run('GET', 'k'), '$1\r\nv\r\n')
  db.time = 2000
  inCommand(db, (database) => {
    assert.equal(database.get('k'), undefined)
    assert.equal(database.watched('k').isMissing, true)
    assert.equal(database.delete('k'), false)
  })
  assert.equal(db.run('GET', 'k'), '$-1\r\n')
  assert.equal(db.run('EXISTS', 'k', 'ever'), ':1\r\n')
  assert.equal(db.run('SETNX', 'k', 'w'), ':1\r\n')
  assert.equal(db.store.get(0, 'k')?.expireAt, 0)
  assert.equal(db.run('DBSIZE'), ':2\r\n')
})

test('every entry removes some keys that are due, the earliest first, and no others', () => {
  const db = new Applied()
  db.time = 1000
  inCommand(db, (database) => {
    for (let i = 0; i < 600; i++) database.put(`k${i}`, bytes('v'), 2000 + i)
    database.database(5).put('elsewhere', bytes('v'), 2000)
    database.put('later', bytes('v'), 9000)
    database.put('never', bytes('v'))
  })
  const sizes = () => [db.keyspace.size(0), db.keyspace.size(5)]
  db.time = 1999
  db.run('SETNX', 'never', 'v')
  assert.deepEqual(sizes(), [602, 1])
  db.time = 5000
  db.keyspace.apply(db.entries.commands([], db.time))
  assert.deepEqual(sizes(), [602 - 255, 0])
  assert.deepEqual([db.store.get(0, 'k254'), db.store.get(0, 'k255')?.expireAt], [undefined, 2255])
  assert.equal(db.run('EXISTS', 'k255', 'k599', 'later', 'never'), ':2\r\n')
  db.keyspace.apply(db.entries.make({ type: 'noop' }))
  assert.deepEqual(sizes(), [602 - 255, 0], 'an entry without a clock removes nothing')
  db.run('SETNX', 'never', 'v')
  db.run('SETNX', 'never', 'v')
  assert.deepEqual(sizes(), [2, 0])
})

test('what INFO tells of a database moves with its keys', () => {
  const db = new Applied()
  db.time = 1000
  db.run('SET', 'never', 'v')
  assert.deepEqual(db.keyspace.facts(0), { keys: 1, expires: 0, averageTtlMs: 0 })
  db.run('SET', 'never', 'v', 'PX', '2000')
  assert.deepEqual(db.keyspace.facts(0), { keys: 1, expires: 1, averageTtlMs: 2000 })
  db.database = 3
  for (let i = 0; i < 500; i++) db.run('SET', `k${i}`, 'v', 'PX', String(1000 + i))
  const { keys, expires, averageTtlMs } = db.keyspace.facts(3)
  assert.deepEqual([keys, expires], [500, 500])
  assert.ok(averageTtlMs > 1000 && averageTtlMs < 1500)
  db.time = 2000
  db.keyspace.apply(db.entries.commands([], db.time))
  assert.equal(db.keyspace.facts(3).expires, 499)
})

test('a key due in the past is not there for the command that puts it either', () => {
  const db = new Applied()
  db.time = 1000
  inCommand(db, (database) => {
    database.put('k', bytes('v'), 1000)
    assert.equal(database.get('k'), undefined)
    database.put('k', bytes('v'), 1001)
    assert.notEqual(database.get('k'), undefined)
  })
})

test('a read at a later moment waits where an entry has not said yet that a key is due', () => {
  const db = new Applied()
  const get = dataCommand(['GET', 'k'])
  assert.ok(get.kind === 'read')
  db.time = 1000
  inCommand(db, (database) => database.put('k', bytes('v'), 2000))
  const at = (now: number, applied: number | undefined) => {
    const outcome = db.keyspace.readAt({ now, applied }, get, 0, argv(['GET', 'k']))
    assert.ok(outcome !== NO_ROOM && !(outcome instanceof LongRead))
    return outcome instanceof ClockBehind ? outcome.needed : wire(outcome)
  }
  assert.equal(at(1999, 1000), '$1\r\nv\r\n')
  assert.equal(at(2000, 1000), 2000)
  assert.equal(at(5000, 1999), 5000)
  assert.equal(at(5000, 2000), '$-1\r\n')
  assert.equal(at(2000, undefined), '$-1\r\n')
})

test('BITCOUNT, BITPOS and DUMP of a large value give way in between, and say what they say in one go', () => {
  const db = new Applied()
  const size = 1_048_576
  db.run('SETRANGE', 'k', String(size - 1), '\x01')
  const inSlices = (...words: string[]) => {
    const command = dataCommand(words)
    assert.ok(command.kind === 'read')
    const outcome = db.keyspace.readAt({ now: db.time, applied: db.time }, command, 0, argv(words))
    assert.ok(outcome !== NO_ROOM && !(outcome instanceof ClockBehind))
    if (!(outcome instanceof LongRead)) return { turns: 0, reply: wire(outcome) }
    let reply = ''
    outcome.start(2, (given) => {
      reply = wire(given)
    })
    let turns = 0
    for (; reply === ''; turns++) db.longReads.work(false)
    return { turns, reply }
  }
  assert.deepEqual(inSlices('BITCOUNT', 'k'), { turns: 0, reply: ':1\r\n' })
  db.run('APPEND', 'k', '\x03')
  assert.deepEqual(inSlices('BITCOUNT', 'k'), { turns: 2, reply: ':3\r\n' })
  assert.deepEqual(inSlices('BITCOUNT', 'k', '5', '-2'), { turns: 0, reply: ':1\r\n' })
  assert.deepEqual(inSlices('BITPOS', 'k', '1', '-1'), { turns: 0, reply: `:${size * 8 + 6}\r\n` })
  db.run('SETBIT', 'k', String(size * 8 - 1), '0')
  assert.deepEqual(inSlices('BITPOS', 'k', '1'), { turns: 2, reply: `:${size * 8 + 6}\r\n` })
  db.run('SETBIT', 'k', String(6_000_000 * 8), '1')
  const { turns, reply } = inSlices('DUMP', 'k')
  assert.ok(turns >= 4, `${turns} turns`)
  assert.equal(reply, db.run('DUMP', 'k'))
  const payload = Buffer.from(reply.slice(reply.indexOf('\n') + 1, -2), 'latin1')
  assert.equal(db.run('RESTORE', 'copy', '0', payload), '+OK\r\n')
  assert.equal(db.run('BITCOUNT', 'copy'), ':3\r\n')
  assert.equal(db.run('BITPOS', 'copy', '1'), `:${size * 8 + 6}\r\n`)
})

test('a lookup of a read counts once, also where the read begins anew, and one of WATCH or of a write does not', () => {
  const db = new Applied()
  const { counts } = db.keyspace
  db.run('SET', 'k', 'v', 'PX', '1000')
  db.run('INCR', 'n')
  db.run('MGET', 'k', 'n', 'missing')
  assert.deepEqual([counts.hits, counts.misses], [2, 1])
  const read = (now: number, applied: number, ...words: string[]) => {
    const command = dataCommand(words)
    assert.ok(command.kind === 'read')
    return db.keyspace.readAt({ now, applied }, command, 0, argv(words))
  }
  const keys = Array.from({ length: 3000 }, (_, at) => `none${at}`)
  const long = read(db.time, db.time, 'EXISTS', 'n', ...keys)
  assert.ok(long instanceof LongRead)
  long.start(2, () => {})
  for (let turn = 0; turn < 10; turn++) db.longReads.work(false)
  assert.deepEqual([counts.hits, counts.misses], [3, 3001])
  db.time += 1000
  assert.ok(read(db.time, db.time - 1, 'EXISTS', 'n', 'k') instanceof ClockBehind)
  assert.deepEqual([counts.hits, counts.misses, counts.expired], [3, 3001, 0])
  db.keyspace.apply(db.entries.commands([], db.time))
  assert.equal(counts.expired, 1)
  counts.reset()
  assert.deepEqual([counts.hits, counts.misses, counts.expired], [0, 0, 0])
})

test('every command gives a key it changes a version of its own', () => {
  const db = new Applied()
  const versions = new Set<number>()
  const see = (database: Database) => {
    const { version, isMissing } = database.watched('k')
    assert.equal(isMissing, false)
    versions.add(version)
  }
  const handler = (database: Database) => {
    database.put('k', bytes('v'))
    see(database)
    return 1
  }
  withHandler('incr', handler, () => {
    db.keyspace.apply(
      db.entries.commands([
        ['INCR', 'k'],
        ['INCR', 'k'],
      ]),
    )
    db.keyspace.apply(db.entries.commands([['INCR', 'k']]))
  })
  assert.deepEqual(
    [...versions],
    [...versions].toSorted((a, b) => a - b),
  )
  assert.equal(versions.size, 3)
})

test('a command may write to several databases, and leaves nothing in any when it fails', () => {
  const db = new Applied()
  db.run('SET', 'a', '0')
  const write = (database: Database) => {
    assert.equal(database.index, 0)
    const other = database.database(15)
    other.put('b', bytes('1'))
    database.put('a', bytes('1'))
    assert.equal(other.database(0).get('a')?.value.length, 1)
    database.database(3).delete('a')
  }
  inCommand(db, (database) => {
    write(database)
    throw notAnInteger
  })
  assert.equal(db.run('GET', 'a'), '$1\r\n0\r\n')
  assert.deepEqual([db.keyspace.size(0), db.keyspace.size(15)], [1, 0])
  inCommand(db, write)
  assert.equal(db.run('GET', 'a'), '$1\r\n1\r\n')
  assert.deepEqual([db.keyspace.size(0), db.keyspace.size(15)], [1, 1])
  assert.equal(db.run('FLUSHALL'), '+OK\r\n')
  assert.deepEqual([db.keyspace.size(0), db.keyspace.size(15)], [0, 0])
})

test('whatever stands in the log is answered alike and crashes nobody', () => {
  const lines: readonly (readonly [number, readonly string[], string])[] = [
    [0, ['NOPE', 'a'], "-ERR unknown command 'NOPE', with args beginning with: 'a' \r\n"],
    [0, ['GET', 'k'], "-ERR unknown command 'GET', with args beginning with: 'k' \r\n"],
    [0, ['SHUTDOWN'], "-ERR unknown command 'SHUTDOWN', with args beginning with: \r\n"],
    [0, ['SET', 'k'], "-ERR wrong number of arguments for 'set' command\r\n"],
    [16, ['SET', 'k', 'v'], '-ERR DB index is out of range\r\n'],
    [0, ['client', 'nope'], "-ERR unknown subcommand 'nope'. Try CLIENT HELP.\r\n"],
  ]
  const db = new Applied()
  for (const [database, words, reply] of lines) {
    const data = encodeCommands(1, [{ database, argv: argv(words) }])
    const entry = db.entries.make({ type: 'commands', data })
    const batch = batchOf(1, [['SET', 'stands', 'for it']])
    db.keyspace.expect(entry.index, batch)
    db.keyspace.apply(entry)
    assert.deepEqual(batch.answers, [[reply, entry.index]])
  }
  assert.equal(db.run('DBSIZE'), ':0\r\n')
})

test('the first hash key that the log carries is the one', () => {
  const db = new Applied()
  const log = (key: string) =>
    db.keyspace.apply(
      db.entries.make({ type: 'commands', data: encodeCommands(1, [hashKeyCommand(bytes(key))]) }),
    )
  log('12345678')
  log('87654321')
  assert.deepEqual(Buffer.from(db.store.hashKey() ?? []), Buffer.from('12345678'))
})

test('the log raises the feature level, and a build that does not know it goes no further', () => {
  const db = new Applied()
  const log = (nodes: Parameters<typeof firstLevel>[0]) =>
    db.keyspace.apply(
      db.entries.make({ type: 'commands', data: encodeCommands(1, firstLevel(nodes)) }),
    )
  assert.equal(db.store.level, 1)
  log([{ level: FEATURE_LEVEL }])
  assert.equal(db.store.level, FEATURE_LEVEL)
  assert.throws(() => log([{ level: FEATURE_LEVEL + 1 }]), /start the newer build again/)
})

test('a database that does not exist is not read', () => {
  const db = new Applied()
  const get = dataCommand(['GET', 'k'])
  assert.ok(get.kind === 'read')
  const reply = db.keyspace.read(get, 16, argv(['GET', 'k']))
  assert.equal(wire(reply), '-ERR DB index is out of range\r\n')
})
