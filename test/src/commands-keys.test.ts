/*
 * Keys that get another name or database, whole databases, and OBJECT: against what redis-server 7.0.15 answers.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Applied } from './command-fixture.ts'

const OK = '+OK\r\n'
const nil = '$-1\r\n'
const syntax = '-ERR syntax error\r\n'
const outOfRange = '-ERR DB index is out of range\r\n'
const notInteger = '-ERR value is not an integer or out of range\r\n'
const notInt32 = '-ERR value is out of range, value must between -2147483648 and 2147483647\r\n'
const same = '-ERR source and destination objects are the same\r\n'

function run(db: Applied, lines: readonly (readonly [string, string])[]): void {
  for (const [line, reply] of lines) assert.equal(db.run(...line.split(' ')), reply, line)
}

test('RENAME and RENAMENX take value and time to expire along', () => {
  const db = new Applied()
  run(db, [
    ['RENAME no other', '-ERR no such key\r\n'],
    ['RENAMENX no no', '-ERR no such key\r\n'],
    ['SET a 1 PXAT 5000', OK],
    ['SET b 2', OK],
    ['RENAMENX a b', ':0\r\n'],
    ['RENAME a b', OK],
    ['MGET a b', '*2\r\n$-1\r\n$1\r\n1\r\n'],
    ['PEXPIRETIME b', ':5000\r\n'],
    ['RENAME b b', OK],
    ['RENAMENX b b', ':0\r\n'],
    ['RENAMENX b c', ':1\r\n'],
    ['GET c', '$1\r\n1\r\n'],
    ['DBSIZE', ':1\r\n'],
  ])
})

test('COPY and MOVE, within a database and to others', () => {
  const db = new Applied()
  run(db, [
    ['SET a 1 PXAT 5000', OK],
    ['COPY a a', same],
    ['COPY a b DB 0 x', syntax],
    ['COPY a b DB', syntax],
    ['COPY a b DB 16', outOfRange],
    ['COPY a b DB x', notInteger],
    ['COPY a b DB 3000000000', notInt32],
    ['COPY none b', ':0\r\n'],
    ['COPY a b', ':1\r\n'],
    ['COPY a b', ':0\r\n'],
    ['PEXPIRETIME b', ':5000\r\n'],
    ['SET a 2', OK],
    ['COPY a b REPLACE', ':1\r\n'],
    ['GET b', '$1\r\n2\r\n'],
    ['PTTL b', ':-1\r\n'],
    ['COPY a a db 3', ':1\r\n'],
    ['MOVE a 3', ':0\r\n'],
    ['MOVE a 0', same],
    ['MOVE a 16', outOfRange],
    ['MOVE a x', notInteger],
    ['MOVE none 3', ':0\r\n'],
    ['MOVE b 3', ':1\r\n'],
    ['EXISTS a b', ':1\r\n'],
  ])
  db.database = 3
  run(db, [
    ['MGET a b', '*2\r\n$1\r\n2\r\n$1\r\n2\r\n'],
    ['DBSIZE', ':2\r\n'],
  ])
})

test('FLUSHDB empties its database only, and SWAPDB exchanges two', () => {
  const db = new Applied()
  const wrong = (which: string) => `-ERR invalid ${which} DB index\r\n`
  run(db, [
    ['SET a 0', OK],
    ['COPY a b DB 1', ':1\r\n'],
    ['SWAPDB x 1', wrong('first')],
    ['SWAPDB 0 99999999999', wrong('second')],
    ['SWAPDB 0 16', outOfRange],
    ['SWAPDB -1 0', outOfRange],
    ['SWAPDB 0 1', OK],
    ['MGET a b', '*2\r\n$-1\r\n$1\r\n0\r\n'],
    ['SWAPDB 0 0', OK],
    ['FLUSHDB now', syntax],
    ['FLUSHDB ASYNC', OK],
    ['DBSIZE', ':0\r\n'],
  ])
  db.database = 1
  run(db, [
    ['GET a', '$1\r\n0\r\n'],
    ['FLUSHDB', OK],
    ['DBSIZE', ':0\r\n'],
  ])
})

test('a watched key is seen to change by all that changes it, and by nothing else', () => {
  const changing = ['SET k 1', 'PEXPIRE k 9000', 'RENAME other k', 'DEL k', 'SWAPDB 0 1', 'FLUSHDB']
  const idle = [
    'TOUCH k',
    'SETNX k 2',
    'PERSIST k',
    'COPY k c',
    'MOVE k 2',
    'GETEX k',
    'FLUSHALL x',
  ]
  for (const [lines, changes] of [
    [changing, true],
    [idle, false],
  ] as const) {
    for (const line of lines) {
      const db = new Applied()
      run(db, [
        ['MSET k 1 other 2', OK],
        ['COPY k k DB 2', ':1\r\n'],
      ])
      const before = db.store.get(0, 'k')?.version ?? 0
      db.run(...line.split(' '))
      assert.equal((db.store.get(0, 'k')?.version ?? 0) !== before, changes, line)
    }
  }
})

test('TYPE, TOUCH, UNLINK', () => {
  run(new Applied(), [
    ['TYPE a', '+none\r\n'],
    ['MSET a 1 b 2', OK],
    ['TYPE a', '+string\r\n'],
    ['TOUCH a a x', ':2\r\n'],
    ['UNLINK a a x b', ':2\r\n'],
    ['DBSIZE', ':0\r\n'],
  ])
})

test('OBJECT tells of a value what Redis would after a SET of it', () => {
  const lfu =
    '-ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.\r\n'
  const db = new Applied()
  run(db, [
    ['OBJECT ENCODING none', nil],
    ['OBJECT FREQ none', nil],
    ['OBJECT REFCOUNT none', nil],
    ['SET k 9999', OK],
    ['OBJECT ENCODING k', '$3\r\nint\r\n'],
    ['OBJECT REFCOUNT k', ':2147483647\r\n'],
    ['SET k 10000', OK],
    ['OBJECT REFCOUNT k', ':1\r\n'],
    ['OBJECT IDLETIME k', ':0\r\n'],
    ['OBJECT FREQ k', lfu],
    [`SET k ${'x'.repeat(44)}`, OK],
    ['OBJECT ENCODING k', '$6\r\nembstr\r\n'],
    [`SET k ${'x'.repeat(45)}`, OK],
    ['OBJECT ENCODING k', '$3\r\nraw\r\n'],
    ['OBJECT nope', "-ERR unknown subcommand 'nope'. Try OBJECT HELP.\r\n"],
    ['OBJECT FREQ', "-ERR wrong number of arguments for 'object|freq' command\r\n"],
    ['OBJECT', "-ERR wrong number of arguments for 'object' command\r\n"],
  ])
})
