/*
 * When keys expire: the commands that set, tell and take away a time, against what redis-server 7.0.15 answers, with
 * the logged clock in the place of its wall.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Applied } from './command-fixture.ts'

const NOW = 1_000_000
const notInteger = '-ERR value is not an integer or out of range\r\n'

function withKey(): Applied {
  const db = new Applied()
  db.time = NOW
  db.run('SET', 'k', 'v')
  return db
}

function expireAt(db: Applied): number | undefined {
  return db.store.get(0, 'k')?.expireAt
}

test('EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT set one absolute time', () => {
  for (const [command, time, expected] of [
    ['EXPIRE', '10', NOW + 10_000],
    ['PEXPIRE', '10', NOW + 10],
    ['EXPIREAT', '2000', 2_000_000],
    ['PEXPIREAT', '2000000', 2_000_000],
    ['PEXPIRE', '9007199254740991', Number.MAX_SAFE_INTEGER],
    ['PEXPIREAT', '9223372036854775807', Number.MAX_SAFE_INTEGER],
  ] as const) {
    const db = withKey()
    assert.equal(db.run(command, 'k', time), ':1\r\n', command)
    assert.equal(expireAt(db), expected, command)
    assert.equal(db.run('GET', 'k'), '$1\r\nv\r\n')
    assert.equal(db.run(command, 'none', time), ':0\r\n')
  }
})

test('a time that is over deletes the key', () => {
  for (const [command, time] of [
    ['EXPIRE', '0'],
    ['EXPIRE', '-1'],
    ['PEXPIRE', '-9223372036854775808'],
    ['EXPIREAT', '1000'],
    ['PEXPIREAT', String(NOW)],
    ['PEXPIREAT', '0'],
  ] as const) {
    const db = withKey()
    assert.equal(db.run(command, 'k', time), ':1\r\n', command)
    assert.equal(db.run('DBSIZE'), ':0\r\n', command)
  }
})

test('the conditions NX, XX, GT and LT', () => {
  // [time before (0: none), condition, new time, what is answered]
  const cases = [
    [0, ['NX'], 2000, 1],
    [500, ['NX'], 2000, 0],
    [0, ['XX'], 2000, 0],
    [500, ['xx'], 2000, 1],
    [0, ['GT'], 2000, 0],
    [500, ['GT'], 2000, 1],
    [2000, ['GT'], 2000, 0],
    [0, ['LT'], 2000, 1],
    [3000, ['LT'], 2000, 1],
    [2000, ['LT'], 2000, 0],
    [500, ['LT'], 2000, 0],
    [500, ['XX', 'GT'], 2000, 1],
    [0, ['XX', 'LT'], 2000, 0],
    [500, ['GT', 'GT'], 2000, 1],
  ] as const
  for (const [before, conditions, ms, reply] of cases) {
    const db = withKey()
    if (before > 0) db.run('PEXPIRE', 'k', String(before))
    const what = `${before} ${conditions.join(' ')} ${ms}`
    assert.equal(db.run('PEXPIRE', 'k', String(ms), ...conditions), `:${reply}\r\n`, what)
    const kept = before === 0 ? 0 : NOW + before
    assert.equal(expireAt(db), reply === 1 ? NOW + ms : kept, what)
  }
})

test('what EXPIRE refuses, in the order in which Redis looks', () => {
  const db = withKey()
  const nx = '-ERR NX and XX, GT or LT options at the same time are not compatible\r\n'
  const invalid = "-ERR invalid expire time in 'expire' command\r\n"
  for (const [words, reply] of [
    [['x', 'NX', 'XX'], nx],
    [['1', 'NX', 'LT'], nx],
    [['1', 'GT', 'LT'], '-ERR GT and LT options at the same time are not compatible\r\n'],
    [['x', 'bad'], '-ERR Unsupported option bad\r\n'],
    [['x'], notInteger],
    [['9223372036854775807'], invalid],
    [['9223372036854775'], invalid],
    [['-9223372036854775808'], invalid],
  ] as const) {
    assert.equal(db.run('EXPIRE', 'k', ...words), reply, words.join(' '))
    assert.equal(db.run('EXPIRE', 'none', ...words), reply, words.join(' '))
  }
  assert.equal(
    db.run('PEXPIRE', 'k', '9223372036854775807'),
    "-ERR invalid expire time in 'pexpire' command\r\n",
  )
  assert.equal(expireAt(db), 0)
})

test('TTL and its kin tell the time left by the clock, or the time itself', () => {
  const db = withKey()
  const told = () =>
    ['TTL', 'PTTL', 'EXPIRETIME', 'PEXPIRETIME'].map((name) => db.run(name, 'k').slice(1, -2))
  assert.deepEqual(told(), ['-1', '-1', '-1', '-1'])
  db.run('PEXPIREAT', 'k', String(NOW + 1999))
  assert.deepEqual(told(), ['2', '1999', '1002', '1001999'])
  db.time = NOW + 500
  db.run('SET', 'other', 'v')
  assert.deepEqual(told(), ['1', '1499', '1002', '1001999'])
  db.time = NOW + 1998
  db.run('SET', 'other', 'v')
  assert.deepEqual(told(), ['0', '1', '1002', '1001999'])
  db.time = NOW + 1999
  db.run('SET', 'other', 'v')
  assert.deepEqual(told(), ['-2', '-2', '-2', '-2'])
})

test('PERSIST takes the time away, once', () => {
  const db = withKey()
  assert.equal(db.run('PERSIST', 'k'), ':0\r\n')
  assert.equal(db.run('PERSIST', 'none'), ':0\r\n')
  db.run('PEXPIRE', 'k', '10')
  assert.equal(db.run('PERSIST', 'k'), ':1\r\n')
  assert.equal(db.run('PERSIST', 'k'), ':0\r\n')
  db.time = NOW + 10
  db.run('SET', 'other', 'v')
  assert.equal(db.run('GET', 'k'), '$1\r\nv\r\n')
})
