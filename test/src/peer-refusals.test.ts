/*
 * A refusal is said once per side and reason, until it is news again.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RefusalLog } from '../../src/peer-refusals.ts'

function refusalLog(): { refusals: RefusalLog; said: string[]; clock: { now: number } } {
  const said: string[] = []
  const clock = { now: 0 }
  const refusals = new RefusalLog(
    { warn: (fields, text) => said.push(`${fields.peer} ${fields.reason}: ${text}`) },
    { monotonic: () => clock.now, wall: () => 0 },
  )
  return { refusals, said, clock }
}

test('once per side and reason', () => {
  const { refusals, said } = refusalLog()
  for (let i = 0; i < 1_000; i++) {
    refusals.say('a:1', 'secret', 'no')
    refusals.say('a:1', 'cluster', 'no')
    refusals.say('b:1', 'secret', 'no')
  }
  assert.deepEqual(said, ['a:1 secret: no', 'a:1 cluster: no', 'b:1 secret: no'])
})

test('again after a link came about, and after ten minutes', () => {
  const { refusals, said, clock } = refusalLog()
  refusals.say('a:1', 'secret', 'no')
  refusals.forget('a:1')
  refusals.say('a:1', 'secret', 'no')
  assert.equal(said.length, 2)
  clock.now = 599_999
  refusals.say('a:1', 'secret', 'no')
  assert.equal(said.length, 2)
  clock.now = 600_000
  refusals.say('a:1', 'secret', 'no')
  assert.equal(said.length, 3)
})

test('a flood from many sides falls silent, and one that is over does not keep others silent', () => {
  const { refusals, said, clock } = refusalLog()
  for (let i = 0; i < 10_000; i++) refusals.say(`host-${i}`, 'secret', 'no')
  assert.equal(said.length, 256)
  clock.now = 600_000
  refusals.say('somebody', 'secret', 'no')
  assert.equal(said.length, 257)
})
