/*
 * Every command that touches data, against the replies that redis-server gives (tried by hand on
 * 7.0.15 for each line here): values, null, integers and error texts.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { STRING_BYTES_MAX } from '../../src/commands/strings.ts'
import { Applied } from './command-fixture.ts'

const notInteger = '-ERR value is not an integer or out of range\r\n'
const overflow = '-ERR increment or decrement would overflow\r\n'
const syntax = '-ERR syntax error\r\n'
const nil = '$-1\r\n'
const OK = '+OK\r\n'

function arity(name: string): string {
  return `-ERR wrong number of arguments for '${name}' command\r\n`
}

/** Runs the lines in order on a new keyspace; each is a command and the reply expected. */
function expectReplies(lines: readonly (readonly [readonly string[], string])[]): Applied {
  const db = new Applied()
  for (const [words, reply] of lines) assert.equal(db.run(...words), reply, words.join(' '))
  return db
}

test('SET and GET keep any bytes', () => {
  const binary = '\0\r\n\xff$3\r\n'
  expectReplies([
    [['GET', 'k'], nil],
    [['SET', 'k', 'v'], OK],
    [['get', 'k'], '$1\r\nv\r\n'],
    [['SeT', binary, binary], OK],
    [['GET', binary], `$8\r\n${binary}\r\n`],
    [['SET', '', ''], OK],
    [['GET', ''], '$0\r\n\r\n'],
    [['SET', 'k'], arity('set')],
    [['GET'], arity('get')],
    [['GET', 'a', 'b'], arity('get')],
  ])
})

test('keys that name properties of JavaScript objects are keys like any other', () => {
  const db = new Applied()
  for (const key of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    assert.equal(db.run('GET', key), nil)
    assert.equal(db.run('EXISTS', key), ':0\r\n')
    assert.equal(db.run('SET', key, 'x'), OK)
    assert.equal(db.run('GET', key), '$1\r\nx\r\n')
  }
  assert.equal(db.run('DBSIZE'), ':4\r\n')
  assert.equal(db.run('DEL', '__proto__'), ':1\r\n')
  assert.equal(db.run('GET', '__proto__'), nil)
})

test('SET takes NX, XX and GET in any case and order', () => {
  expectReplies([
    [['SET', 'k', '1', 'XX'], nil],
    [['SET', 'k', '1', 'XX', 'GET'], nil],
    [['GET', 'k'], nil],
    [['SET', 'k', '1', 'nx'], OK],
    [['SET', 'k', '2', 'NX'], nil],
    [['SET', 'k', '2', 'NX', 'NX', 'get'], '$1\r\n1\r\n'],
    [['GET', 'k'], '$1\r\n1\r\n'],
    [['SET', 'k', '3', 'GET', 'xx'], '$1\r\n1\r\n'],
    [['SET', 'k', '4', 'GET'], '$1\r\n3\r\n'],
    [['SET', 'new', '4', 'GET', 'NX'], nil],
    [['GET', 'new'], '$1\r\n4\r\n'],
  ])
})

test('SET refuses what it does not know, options of expiry among it, and changes nothing', () => {
  const db = new Applied()
  db.run('SET', 'k', 'old')
  const refused = [
    ['NX', 'XX'],
    ['XX', 'NX', 'GET'],
    ['EX', '10'],
    ['PX', '10'],
    ['EXAT', '10'],
    ['PXAT', '10'],
    ['KEEPTTL'],
    ['foo'],
    [''],
  ]
  for (const options of refused) {
    assert.equal(db.run('SET', 'k', 'new', ...options), syntax, options.join(' '))
  }
  assert.equal(db.run('GET', 'k'), '$3\r\nold\r\n')
})

test('DEL and EXISTS count the keys they are given', () => {
  expectReplies([
    [['MSET', 'a', '1', 'b', '2'], OK],
    [['EXISTS', 'a', 'a', 'b', 'c'], ':3\r\n'],
    [['DEL', 'a', 'a', 'c'], ':1\r\n'],
    [['EXISTS', 'a'], ':0\r\n'],
    [['DBSIZE'], ':1\r\n'],
    [['DEL'], arity('del')],
    [['EXISTS'], arity('exists')],
    [['DBSIZE', 'x'], arity('dbsize')],
  ])
})

test('SETNX and GETSET', () => {
  expectReplies([
    [['SETNX', 'k', '1'], ':1\r\n'],
    [['SETNX', 'k', '2'], ':0\r\n'],
    [['GETSET', 'k', '3'], '$1\r\n1\r\n'],
    [['GETSET', 'new', '3'], nil],
    [['GET', 'k'], '$1\r\n3\r\n'],
    [['SETNX', 'k'], arity('setnx')],
    [['GETSET', 'k'], arity('getset')],
  ])
})

test('MGET and MSET', () => {
  expectReplies([
    [['MSET', 'a', '1', 'b', '2', 'a', '3'], OK],
    [['MGET', 'a', 'x', 'b', 'a'], '*4\r\n$1\r\n3\r\n$-1\r\n$1\r\n2\r\n$1\r\n3\r\n'],
    [['MSET', 'a', '1', 'b'], arity('mset')],
    [['MSET', 'a'], arity('mset')],
    [['MGET'], arity('mget')],
    [['GET', 'a'], '$1\r\n3\r\n'],
  ])
})

test('APPEND and STRLEN', () => {
  expectReplies([
    [['STRLEN', 'k'], ':0\r\n'],
    [['APPEND', 'k', ''], ':0\r\n'],
    [['EXISTS', 'k'], ':1\r\n'],
    [['APPEND', 'k', 'ab\0'], ':3\r\n'],
    [['APPEND', 'k', 'cd'], ':5\r\n'],
    [['GET', 'k'], '$5\r\nab\0cd\r\n'],
    [['STRLEN', 'k'], ':5\r\n'],
    [['STRLEN'], arity('strlen')],
    [['APPEND', 'k'], arity('append')],
  ])
})

test('APPEND stops at 512 MB and leaves the value as it was', () => {
  const db = new Applied()
  const value = new Uint8Array(STRING_BYTES_MAX)
  const stored = { type: 'string', expireAt: 0, version: 1, value } as const
  db.store.databases.set(0, new Map([['k', stored]]))
  assert.equal(
    db.run('APPEND', 'k', 'x'),
    '-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n',
  )
  assert.equal(db.run('STRLEN', 'k'), `:${STRING_BYTES_MAX}\r\n`)
})

test('INCR, DECR, INCRBY and DECRBY count exactly over the whole of int64', () => {
  expectReplies([
    [['INCR', 'n'], ':1\r\n'],
    [['DECR', 'n'], ':0\r\n'],
    [['DECR', 'n'], ':-1\r\n'],
    [['GET', 'n'], '$2\r\n-1\r\n'],
    [['INCRBY', 'n', '-9'], ':-10\r\n'],
    [['DECRBY', 'n', '-10'], ':0\r\n'],
    [['GET', 'n'], '$1\r\n0\r\n'],
    [['INCRBY', 'n', '9007199254740991'], ':9007199254740991\r\n'],
    [['INCR', 'n'], ':9007199254740992\r\n'],
    [['INCR', 'n'], ':9007199254740993\r\n'],
    [['DECRBY', 'n', '2'], ':9007199254740991\r\n'],
    [['SET', 'n', '9223372036854775806'], OK],
    [['INCR', 'n'], ':9223372036854775807\r\n'],
    [['INCR', 'n'], overflow],
    [['INCRBY', 'n', '9223372036854775807'], overflow],
    [['GET', 'n'], '$19\r\n9223372036854775807\r\n'],
    [['INCRBY', 'n', '-9223372036854775808'], ':-1\r\n'],
    [['DECRBY', 'n', '9223372036854775807'], ':-9223372036854775808\r\n'],
    [['DECR', 'n'], overflow],
    [['DECRBY', 'n', '1'], overflow],
    [['INCRBY', 'n', '-1'], overflow],
    [['INCRBY', 'n', '1'], ':-9223372036854775807\r\n'],
    [['DECRBY', 'n', '-9223372036854775808'], '-ERR decrement would overflow\r\n'],
    [['INCR'], arity('incr')],
    [['DECR', 'a', 'b'], arity('decr')],
    [['INCRBY', 'n'], arity('incrby')],
    [['DECRBY', 'n'], arity('decrby')],
  ])
})

test('integers are read as strictly as Redis reads them', () => {
  const db = new Applied()
  const malformed = [
    '',
    '-',
    '01',
    '-0',
    '+1',
    ' 1',
    '1 ',
    '1.0',
    '1e3',
    '0x1',
    'abc',
    '9223372036854775808',
    '-9223372036854775809',
    '99999999999999999999',
    '1\0',
    '\xff',
  ]
  for (const text of malformed) {
    assert.equal(db.run('INCRBY', 'n', text), notInteger, JSON.stringify(text))
    db.run('SET', 'v', text)
    assert.equal(db.run('INCR', 'v'), notInteger, JSON.stringify(text))
    assert.equal(db.run('STRLEN', 'v'), `:${text.length}\r\n`)
  }
  assert.equal(db.run('EXISTS', 'n'), ':0\r\n')
})

test('FLUSHALL empties the database, with ASYNC and SYNC too', () => {
  expectReplies([
    [['SET', 'k', '1'], OK],
    [['FLUSHALL', 'foo'], syntax],
    [['FLUSHALL', 'SYNC', 'ASYNC'], syntax],
    [['DBSIZE'], ':1\r\n'],
    [['FLUSHALL'], OK],
    [['DBSIZE'], ':0\r\n'],
    [['SET', 'k', '1'], OK],
    [['FLUSHALL', 'async'], OK],
    [['GET', 'k'], nil],
    [['FLUSHALL', 'SYNC'], OK],
  ])
})
