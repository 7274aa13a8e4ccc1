/*
 * Every command that touches data, against the replies that redis-server gives (tried by hand on
 * 7.0.15 for each line here): values, null, integers and error texts.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { STRING_BYTES_MAX } from '../../src/commands/string-edits.ts'
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

test('SET refuses what it does not know or what does not go together, and changes nothing', () => {
  const db = new Applied()
  db.time = 1_700_000_000_000
  db.run('SET', 'k', 'old')
  const refused = [
    ['NX', 'XX'],
    ['XX', 'NX', 'GET'],
    ['EX'],
    ['EX', '10', 'PX', '10'],
    ['PX', '10', 'KEEPTTL'],
    ['KEEPTTL', 'EXAT', '10'],
    ['PERSIST'],
    ['foo'],
    [''],
  ]
  for (const options of refused) {
    assert.equal(db.run('SET', 'k', 'new', ...options), syntax, options.join(' '))
  }
  const invalid = "-ERR invalid expire time in 'set' command\r\n"
  for (const time of ['0', '-1', '9223372036854775807', '9223372036854775']) {
    const reply = db.run('SET', 'k', 'new', 'EX', time)
    assert.equal(reply, invalid, time)
  }
  assert.equal(db.run('SET', 'k', 'new', 'PX', '9223372036854775807'), invalid)
  assert.equal(db.run('SET', 'k', 'new', 'EX', 'x'), notInteger)
  assert.equal(db.run('GET', 'k'), '$3\r\nold\r\n')
})

test('SET gives a time to expire, keeps it with KEEPTTL only, and the last of equal options counts', () => {
  const db = new Applied()
  db.time = 1_000_000
  const expireAt = () => db.store.get(0, 'k')?.expireAt
  db.run('SET', 'k', 'v', 'EX', '10')
  assert.equal(expireAt(), 1_010_000)
  db.run('SET', 'k', 'v', 'KEEPTTL')
  assert.equal(expireAt(), 1_010_000)
  db.run('SET', 'k', 'v')
  assert.equal(expireAt(), 0)
  db.run('SET', 'k', 'v', 'PX', '5', 'px', '7', 'GET', 'XX')
  assert.equal(expireAt(), 1_000_007)
  db.run('SET', 'k', 'v', 'EXAT', '2000')
  assert.equal(expireAt(), 2_000_000)
  db.run('SET', 'k', 'v', 'PXAT', '2000001')
  assert.equal(expireAt(), 2_000_001)
  db.run('SET', 'k', 'v', 'NX', 'EX', '100')
  assert.equal(expireAt(), 2_000_001)
  assert.equal(db.run('SET', 'k', 'v', 'PXAT', '1'), OK)
  assert.equal(db.run('GET', 'k'), nil)
  // Beyond the safe integers the time stays the last of them.
  db.run('SET', 'k', 'v', 'PXAT', '9223372036854775807')
  assert.equal(expireAt(), Number.MAX_SAFE_INTEGER)
})

test('what changes a part of a value keeps its time to expire, what sets it anew does not', () => {
  const kept: readonly (readonly string[])[] = [
    ['APPEND', 'k', '1'],
    ['SETRANGE', 'k', '0', '2'],
    ['INCR', 'k'],
    ['DECRBY', 'k', '3'],
  ]
  const lost: readonly (readonly string[])[] = [
    ['GETSET', 'k', '1'],
    ['MSET', 'k', '1'],
    ['SET', 'k', '1'],
  ]
  for (const [commands, expected] of [
    [kept, 5000],
    [lost, 0],
  ] as const) {
    for (const words of commands) {
      const db = new Applied()
      db.run('SET', 'k', '1', 'PXAT', '5000')
      db.run(...words)
      assert.equal(db.store.get(0, 'k')?.expireAt, expected, words.join(' '))
    }
  }
})

test('SETEX, PSETEX, GETEX and GETDEL', () => {
  const invalid = (name: string) => `-ERR invalid expire time in '${name}' command\r\n`
  const db = expectReplies([
    [['SETEX', 'k', '10', 'v'], OK],
    [['TTL', 'k'], ':10\r\n'],
    [['PSETEX', 'k', '10', 'v'], OK],
    [['PTTL', 'k'], ':10\r\n'],
    [['SETEX', 'k', '0', 'v'], invalid('setex')],
    [['PSETEX', 'k', '-1', 'v'], invalid('psetex')],
    [['SETEX', 'k', 'x', 'v'], notInteger],
    [['GETEX', 'k'], '$1\r\nv\r\n'],
    [['PTTL', 'k'], ':10\r\n'],
    [['GETEX', 'k', 'PERSIST'], '$1\r\nv\r\n'],
    [['PTTL', 'k'], ':-1\r\n'],
    [['GETEX', 'k', 'EX', '3'], '$1\r\nv\r\n'],
    [['TTL', 'k'], ':3\r\n'],
    [['GETEX', 'k', 'EX', '0'], invalid('getex')],
    [['GETEX', 'none', 'EX', '0'], nil],
    [['GETEX', 'none', 'EX', '0', 'PERSIST'], syntax],
    [['GETEX', 'k', 'PERSIST', 'EX', '1'], syntax],
    [['GETEX', 'k', 'KEEPTTL'], syntax],
    [['GETEX', 'k', 'PXAT', '1'], '$1\r\nv\r\n'],
    [['EXISTS', 'k'], ':0\r\n'],
    [['DBSIZE'], ':0\r\n'],
    [['SET', 'k', 'v'], OK],
    [['GETDEL', 'k'], '$1\r\nv\r\n'],
    [['GETDEL', 'k'], nil],
    [['SETEX', 'k', '1'], arity('setex')],
    [['GETDEL'], arity('getdel')],
  ])
  // A GETEX that changes nothing is no change for whoever watches.
  db.run('SET', 'k', 'v')
  const { version } = db.store.get(0, 'k') ?? {}
  db.run('GETEX', 'k')
  db.run('GETEX', 'k', 'PERSIST')
  assert.equal(db.store.get(0, 'k')?.version, version)
})

test('MSETNX sets all or nothing', () => {
  expectReplies([
    [['MSETNX', 'a', '1', 'b', '2', 'a', '3'], ':1\r\n'],
    [['MGET', 'a', 'b'], '*2\r\n$1\r\n3\r\n$1\r\n2\r\n'],
    [['MSETNX', 'c', '1', 'b', '9'], ':0\r\n'],
    [['MGET', 'b', 'c'], '*2\r\n$1\r\n2\r\n$-1\r\n'],
    [['MSETNX', 'c', '1', 'd'], arity('msetnx')],
  ])
})

test('GETRANGE and SUBSTR count from both ends and cut what lies outside', () => {
  const min = '-9223372036854775808'
  const max = '9223372036854775807'
  const cases: readonly (readonly [string, string, string])[] = [
    ['0', '-1', 'hello'],
    ['0', '0', 'h'],
    ['1', '3', 'ell'],
    ['-3', '-1', 'llo'],
    ['-100', '1', 'he'],
    ['3', '100', 'lo'],
    ['5', '10', ''],
    ['3', '1', ''],
    ['-1', '-3', ''],
    [min, max, 'hello'],
    [max, min, ''],
    [min, min, 'h'],
    ['-1', min, ''],
  ]
  for (const command of ['GETRANGE', 'SUBSTR']) {
    const db = expectReplies([
      [['SET', 'k', 'hello'], OK],
      [['SET', 'empty', ''], OK],
      [[command, 'none', '0', '-1'], '$0\r\n\r\n'],
      [[command, 'empty', '0', '-1'], '$0\r\n\r\n'],
      [[command, 'none', 'x', '0'], notInteger],
      [[command, 'k', '0', '1.0'], notInteger],
      [[command, 'k', '0'], arity(command.toLowerCase())],
    ])
    for (const [start, end, part] of cases) {
      const reply = db.run(command, 'k', start, end)
      assert.equal(reply, `$${part.length}\r\n${part}\r\n`, `${command} ${start} ${end}`)
    }
  }
})

test('SETRANGE overwrites, grows with zeros, and checks its offset before it takes memory', () => {
  const tooLong = '-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n'
  expectReplies([
    [['SETRANGE', 'k', '0', ''], ':0\r\n'],
    [['EXISTS', 'k'], ':0\r\n'],
    [['SETRANGE', 'k', '3', 'abc'], ':6\r\n'],
    [['GET', 'k'], '$6\r\n\0\0\0abc\r\n'],
    [['SETRANGE', 'k', '1', 'xy'], ':6\r\n'],
    [['GET', 'k'], '$6\r\n\0xyabc\r\n'],
    [['SETRANGE', 'k', '5', 'zz'], ':7\r\n'],
    [['SETRANGE', 'k', '536870911', ''], ':7\r\n'],
    [['SETRANGE', 'k', '536870912', 'x'], tooLong],
    [['SETRANGE', 'k', '9223372036854775807', 'x'], tooLong],
    [['SETRANGE', 'k', '-1', 'x'], '-ERR offset is out of range\r\n'],
    [['SETRANGE', 'k', '-1', ''], '-ERR offset is out of range\r\n'],
    [['SETRANGE', 'k', 'x', ''], notInteger],
    [['STRLEN', 'k'], ':7\r\n'],
    [['SETRANGE', 'k', '1'], arity('setrange')],
  ])
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
