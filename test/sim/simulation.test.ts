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
  // Who judges the replies changes nothing of the run: the second one writes them down instead.
  const second = await simulate({ seed: 21, long: false, history: true })
  assert.equal(second.failure, undefined)
  assert.equal(second.hash, first.hash)
  assert.equal(second.events, first.events)
  assert.ok(second.history.length > 200, `${second.history.length} operations`)
  assert.equal(checkHistory(second.history).outcome, 'valid')
})

test('two seeds at once in one process are refused: each would see the other one', async () => {
  const first = simulate({ seed: 28, long: false })
  await assert.rejects(simulate({ seed: 7, long: false }), /one seed at a time/)
  const { failure, hash } = await first
  assert.equal(failure, undefined)
  assert.notEqual(hash, (await simulate({ seed: 7, long: false })).hash, 'seeds differ')
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
