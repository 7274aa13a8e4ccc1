/*
 * The simulator itself: a seed runs clean, it is the same run each time, and a store that lies about durability is
 * caught by the invariant that says so, at the same event each time. Many seeds are `npm run simulate`.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DiskLogStore } from '../../storage/log-store.ts'
import { checkHistory } from '../linearizability/check.ts'
import { QUOTA, simulate } from './simulation.ts'

test('a seed runs clean, does enough, and is the same run twice', async () => {
  const first = await simulate({ seed: 21, long: false })
  assert.equal(first.failure, undefined)
  assert.ok(first.operations >= QUOTA.operations, `${first.operations} operations`)
  assert.ok(first.faults >= QUOTA.faults, `${first.faults} faults`)
  assert.ok(first.simulatedMs >= QUOTA.simulatedMs, `${first.simulatedMs} ms`)
  const second = await simulate({ seed: 21, long: false })
  assert.equal(second.hash, first.hash)
  assert.equal(second.events, first.events)
})

test('two seeds at once in one process are refused: each would see the other one', async () => {
  const first = simulate({ seed: 28, long: false })
  await assert.rejects(simulate({ seed: 7, long: false }), /one seed at a time/)
  assert.equal((await first).failure, undefined)
})

test('seeds differ', async () => {
  const { hash } = await simulate({ seed: 28, long: false })
  const other = await simulate({ seed: 7, long: false })
  assert.notEqual(hash, other.hash)
})

test('its history is one that the checker of histories accepts', async () => {
  const { failure, history, hash } = await simulate({ seed: 21, long: false, history: true })
  assert.equal(failure, undefined)
  assert.ok(history.length > 200, `${history.length} operations`)
  assert.equal(checkHistory(history).outcome, 'valid')
  // Who judges the replies changes nothing of the run.
  assert.equal(hash, (await simulate({ seed: 21, long: false })).hash)
})

test('commits that are visible before they are flushed lose nothing that was acknowledged', async () => {
  const { failure } = await simulate({ seed: 28, long: false, early: true })
  assert.equal(failure, undefined)
})

test('a store that answers before its disk has is caught, at the same event each time', async () => {
  const { persist } = DiskLogStore.prototype
  DiskLogStore.prototype.persist = function (this: DiskLogStore, batch): Promise<void> {
    void persist.call(this, batch)
    return Promise.resolve()
  }
  try {
    const { failure } = await simulate({ seed: 21, long: false })
    assert.match(failure?.message ?? '', /seed 21, event \d+: InvariantError: I[0-9]+ /)
    const again = await simulate({ seed: 21, long: false })
    assert.equal(firstLine(again.failure?.message), firstLine(failure?.message))
    assert.equal(again.failure?.transcript, failure?.transcript)
  } finally {
    DiskLogStore.prototype.persist = persist
  }
})

function firstLine(text: string | undefined): string | undefined {
  return text?.split('\n')[0]
}
