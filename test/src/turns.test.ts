/* Which turns there are, and for whom. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Turns } from '../../src/turns.ts'

test('however often it is asked for, there is one turn, and it is known whether somebody waits for it', () => {
  const polls: (() => void)[] = []
  const seen: boolean[] = []
  const turns = new Turns(
    (action) => polls.push(action),
    () => {
      // What asks before begin() is done by this very turn.
      if (seen.length === 1) turns.wake()
      seen.push(turns.begin())
      if (seen.length === 2) turns.goOn()
    },
  )
  turns.goOn()
  turns.goOn()
  assert.equal(polls.length, 1)
  polls.shift()?.()
  assert.deepEqual(seen, [false])
  turns.goOn()
  polls.shift()?.()
  assert.deepEqual(seen, [false, true])
  assert.equal(polls.length, 1)
  turns.wake()
  turns.wake()
  assert.equal(polls.length, 1)
  polls.shift()?.()
  assert.deepEqual(seen, [false, true, true])
  assert.equal(polls.length, 0)
})
