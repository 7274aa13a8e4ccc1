/* The set workload: what became of the elements, one history per way that one can go wrong. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkHistory } from './check.ts'
import { history } from './history-fixture.ts'
import { checkSet } from './set-workload.ts'

test('counts what was added and found', () => {
  const operations = history(
    [
      'a 0-1 e1 set 1 NX → OK | a 2-3 e2 setnx 2 → 1 | b 0-1 e3 set 3 NX ✗ | b 2-? e4 set 4 NX',
      'c 0-? e5 set 5 NX | d 9-10 e1 get → 1 | d 11-12 e2 get → 2 | d 13-14 e3 get → nil',
      'd 15-16 e4 get → 4 | d 17-18 e5 get → nil',
    ].join('|'),
  )
  assert.deepEqual(checkSet(operations), {
    outcome: 'valid',
    attempted: 5,
    acknowledged: 2,
    lost: [],
    unexpected: [],
    unread: [],
    recovered: 1,
  })
  assert.equal(checkHistory(operations).outcome, 'valid')
})

test('finds what is lost, unexpected or was not read back', () => {
  const added = 'a 0-1 e1 set 1 NX → OK'
  const lost = history(`${added} | d 9-10 e1 get → nil`)
  assert.deepEqual(checkSet(lost).lost, ['e1'])
  assert.equal(checkSet(lost).outcome, 'invalid')
  assert.equal(checkHistory(lost).outcome, 'invalid')
  assert.deepEqual(checkSet(history(`${added} | d 9-10 e1 get → 2`)).lost, ['e1'])
  const returned = history('a 0-1 e1 set 1 NX ✗ | d 9-10 e1 get → 1')
  assert.deepEqual(checkSet(returned).unexpected, ['e1'])
  assert.equal(checkSet(returned).outcome, 'invalid')
  const other = history('a 0-? e1 set 1 NX | d 9-10 e1 get → 2')
  assert.deepEqual(checkSet(other).unexpected, ['e1'])
  const found = history(`${added} | d 9-10 e1 get → nil | d 11-12 e1 get → 1`)
  assert.deepEqual(checkSet(found).lost, [], 'the last read counts')
  for (const reads of ['d 9-10 e1 get ✗', 'd 9-? e1 get', 'd 0-2 e1 get → 1']) {
    const unread = checkSet(history(`${added} | ${reads}`))
    assert.deepEqual(unread.unread, ['e1'], reads)
    assert.equal(unread.outcome, 'unknown')
  }
})

test('refuses another workload', () => {
  assert.throws(() => checkSet(history('a 0-1 k incr → 1')), { code: 'HISTORY' })
  assert.throws(() => checkSet(history('a 0-1 k set 1 → OK')), { code: 'HISTORY' })
  const twice = 'a 0-1 k set 1 NX → OK | a 2-3 k set 2 NX → nil'
  assert.throws(() => checkSet(history(twice)), { code: 'HISTORY' })
})
