/* When the entry under construction goes: how long it waits for the clients of the last one, and when it does not. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { EntryPace } from '../../src/entry-pace.ts'

/** 49 of 50 clients were answered at 100 ms, by an entry that took 4 ms; one waits already. */
const answered = { tookMs: 4, writes: 49, waiting: 1 }

/** What of an entry went, after a wait in which so many came. */
function waited(pace: EntryPace, writes: number): void {
  assert.ok(pace.waitMs(0, 1) > 0)
  pace.closed(writes)
}

describe('the wait for clients that were just answered', () => {
  test('lasts half of what the last entry took, or until as many are there as before', () => {
    const pace = new EntryPace(5)
    assert.equal(pace.waitMs(0, 1), 0, 'nobody is expected')
    pace.answered(100, answered)
    assert.equal(pace.waitMs(100, 1), 2)
    assert.equal(pace.waitMs(101.5, 49), 0.5)
    assert.equal(pace.waitMs(101.5, 50), 0)
    assert.equal(pace.waitMs(102, 49), 0)
  })

  test('is no longer than the limit', () => {
    const pace = new EntryPace(5)
    pace.answered(100, { ...answered, tookMs: 40 })
    assert.equal(pace.waitMs(100, 1), 5)
  })

  test('is for nobody where the only client was answered', () => {
    const pace = new EntryPace(5)
    pace.answered(100, { tookMs: 4, writes: 1, waiting: 0 })
    assert.equal(pace.waitMs(100, 1), 0)
  })

  test('ends at an entry that carries its round well', () => {
    const pace = new EntryPace(5)
    pace.answered(100, { tookMs: 4, writes: 784, waiting: 16 })
    assert.ok(pace.waitMs(100, 127) > 0)
    assert.equal(pace.waitMs(100, 128), 0)
  })

  test('is left out for longer and longer where too few come, and not where enough do', () => {
    const pace = new EntryPace(5)
    const withoutWait = (): number => {
      for (let entries = 0; ; entries++) {
        pace.answered(0, answered)
        if (pace.waitMs(0, 1) > 0) return entries
        pace.closed(1)
      }
    }
    assert.equal(withoutWait(), 0)
    const skipped = [1, 2, 3, 4, 5, 6, 7].map(() => {
      waited(pace, 33)
      return withoutWait()
    })
    assert.deepEqual(skipped, [1, 3, 7, 15, 31, 63, 63])
    waited(pace, 34)
    assert.equal(withoutWait(), 0)
    waited(pace, 2)
    assert.equal(withoutWait(), 1)
  })
})
