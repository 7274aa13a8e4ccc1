/*
 * SCAN, KEYS and RANDOMKEY over a store whose keys share positions, as they hardly ever do on disk.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Applied } from './command-fixture.ts'

function withKeys(count: number, prefix = 'k'): { db: Applied; keys: readonly string[] } {
  const db = new Applied()
  const keys = Array.from({ length: count }, (_, i) => `${prefix}${i}`)
  for (const key of keys) db.run('SET', key, 'v')
  return { db, keys }
}

/** The bulk strings of a reply. */
function bulks(reply: string): readonly string[] {
  return reply.split('\r\n').filter((_, i, lines) => lines[i - 1]?.startsWith('$') === true)
}

/** One page: the next cursor and the keys. */
function page(db: Applied, cursor: string, ...options: readonly string[]) {
  const [next = '', ...keys] = bulks(db.run('SCAN', cursor, ...options))
  return { next, keys }
}

function scanAll(db: Applied, ...options: readonly string[]): readonly string[] {
  const found: string[] = []
  let cursor = '0'
  do {
    const { next, keys } = page(db, cursor, ...options)
    found.push(...keys)
    cursor = next
  } while (cursor !== '0')
  return found
}

test('a whole scan finds every key once, whatever COUNT says', () => {
  const { db, keys } = withKeys(1200)
  for (const count of ['1', '7', '10', '500', '100000']) {
    assert.deepEqual(scanAll(db, 'COUNT', count).toSorted(), keys.toSorted(), count)
  }
  assert.deepEqual(scanAll(new Applied()), [])
  assert.ok(page(db, '0').keys.length >= 10)
})

test('a page looks at ten thousand keys at most', () => {
  const db = new Applied()
  const keys = Array.from({ length: 10_500 }, (_, i) => [`k${i}`, 'v']).flat()
  for (let at = 0; at < keys.length; at += 2000) db.run('MSET', ...keys.slice(at, at + 2000))
  const { next, keys: some } = page(db, '0', 'COUNT', '1000000')
  assert.notEqual(next, '0')
  // As many more as share the last position.
  assert.ok(some.length >= 10_000 && some.length < 10_050, `${some.length} keys`)
  assert.equal(page(db, next, 'COUNT', '1000000').keys.length, 10_500 - some.length)
})

test('a page never ends between keys of one position', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.string({ maxLength: 3 }), { maxLength: 40 }),
      fc.integer({ min: 1, max: 5 }),
      (names, count) => {
        const db = new Applied()
        const keys = names.map((name) => Buffer.from(name).toString('hex'))
        for (const key of keys) db.run('SET', key, 'v')
        assert.deepEqual(scanAll(db, 'COUNT', String(count)).toSorted(), keys.toSorted())
      },
    ),
  )
})

test('keys that are there from the first page to the last are found, whatever else comes and goes', () => {
  const { db, keys } = withKeys(300)
  for (let i = 0; i < 300; i++) db.run('SET', `gone${i}`, 'v')
  const found: string[] = []
  let cursor = '0'
  let round = 0
  do {
    const { next, keys: some } = page(db, cursor)
    found.push(...some)
    cursor = next
    db.run('DEL', `gone${round}`)
    db.run('SET', `new${round}`, 'v')
    db.run('SET', `k${round % 300}`, 'changed')
    round++
  } while (cursor !== '0')
  const missing = keys.filter((key) => !found.includes(key))
  assert.deepEqual(missing, [])
})

test('MATCH and TYPE choose among the keys of a page', () => {
  const { db } = withKeys(100)
  db.run('SET', 'other', 'v')
  assert.deepEqual(scanAll(db, 'MATCH', 'k1?', 'COUNT', '5').length, 10)
  assert.deepEqual(scanAll(db, 'match', '*', 'type', 'STRING').length, 101)
  assert.deepEqual(scanAll(db, 'TYPE', 'hash'), [])
  assert.deepEqual(scanAll(db, 'TYPE', 'no such type'), [])
  assert.deepEqual(scanAll(db, 'MATCH', 'o*', 'MATCH', 'k99'), ['k99'])
})

test('cursors are read as Redis reads them, and options in its order', () => {
  const { db } = withKeys(3)
  const invalid = '-ERR invalid cursor\r\n'
  for (const cursor of [' 5', '5 ', 'x', '18446744073709551616', '1.0', '-', '0x1', '\r']) {
    assert.equal(db.run('SCAN', cursor, 'COUNT', 'x'), invalid, cursor)
  }
  for (const cursor of ['-1', '18446744073709551615', '4503599627370496']) {
    assert.deepEqual(page(db, cursor), { next: '0', keys: [] }, cursor)
  }
  for (const cursor of ['', '0', '-0', '+0', '000', '0\0x']) {
    assert.equal(page(db, cursor).keys.length, 3, cursor)
  }
  for (const [options, reply] of [
    [['COUNT', '0'], '-ERR syntax error\r\n'],
    [['COUNT'], '-ERR syntax error\r\n'],
    [['NOPE', '1'], '-ERR syntax error\r\n'],
    [['COUNT', '-9223372036854775808'], '-ERR syntax error\r\n'],
    [['COUNT', 'x'], '-ERR value is not an integer or out of range\r\n'],
  ] as const) {
    assert.equal(db.run('SCAN', '0', ...options), reply, options.join(' '))
  }
  assert.equal(page(db, '0', 'COUNT', '9223372036854775807').keys.length, 3)
})

test('KEYS gives every key that matches, also when it takes long to tell', () => {
  const { db, keys } = withKeys(50)
  const long = 'a'.repeat(5000)
  db.run('SET', long, 'v')
  assert.deepEqual(bulks(db.run('KEYS', 'k*')).toSorted(), keys.toSorted())
  assert.deepEqual(bulks(db.run('KEYS', 'k[0-9]')).length, 10)
  assert.deepEqual(bulks(db.run('KEYS', '*')).length, 51)
  assert.deepEqual(bulks(db.run('KEYS', `${'a*'.repeat(300)}b`)), [])
  assert.deepEqual(bulks(db.run('KEYS', `${'a*'.repeat(300)}a`)), [long])
  assert.equal(db.run('KEYS', 'x'.repeat(1025)), '-ERR pattern is too long\r\n')
})

test('what runs in one go, as in a transaction, has a bound', () => {
  const { db } = withKeys(2000)
  assert.equal(bulks(db.run('KEYS', '*')).length, 2000)
  db.run('SET', 'a'.repeat(30_000), 'v')
  assert.match(db.run('KEYS', `${'a*'.repeat(500)}b`), /^-ERR the command reads too much/)
})

test('keys that are due are in no SCAN and no KEYS, and RANDOMKEY names none of them', () => {
  const { db } = withKeys(300, 'due')
  for (let i = 0; i < 300; i++) db.run('PEXPIREAT', `due${i}`, '5000')
  db.run('SET', 'kept', 'v')
  db.time = 5000
  db.keyspace.apply(db.entries.commands([], db.time))
  assert.equal(db.run('DBSIZE'), ':45\r\n', 'some are due and not removed')
  assert.deepEqual(scanAll(db, 'COUNT', '3'), ['kept'])
  assert.deepEqual(bulks(db.run('KEYS', '*')), ['kept'])
  for (let i = 0; i < 20; i++) {
    const reply = db.run('RANDOMKEY')
    assert.ok(reply === '$4\r\nkept\r\n' || reply === '$-1\r\n', reply)
  }
})

test('RANDOMKEY names every key of a database sooner or later, and none of an empty one', () => {
  assert.equal(new Applied().run('RANDOMKEY'), '$-1\r\n')
  for (const count of [1, 5, 200]) {
    const { db, keys } = withKeys(count)
    const named = new Set<string>()
    for (let i = 0; i < 40 * count; i++) named.add(bulks(db.run('RANDOMKEY'))[0] ?? '')
    const strangers = [...named].filter((key) => !keys.includes(key))
    assert.deepEqual(strangers, [])
    assert.ok(named.size > count * 0.9, `${named.size} of ${count}`)
  }
})
