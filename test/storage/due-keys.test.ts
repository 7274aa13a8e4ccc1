/*
 * Which keys are due: the order where it is decided last, the work that is not done twice, and damage to the index.
 * That the answer is the model's, whatever lies in which layer, is in state-model.test.ts.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { DiskKeyWriter, expiryKey } from '../../storage/layout.ts'
import { CorruptStateError } from '../../storage/record.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { MemoryEngine } from './memory-engine.ts'
import { commit, HASH_KEY, openStore, put, startedStore, stored } from './store-fixture.ts'

/** Two keys at one position under HASH_KEY, in the order of the disk. */
const COLLIDING = ['{t}49k6', '{t}4lou'] as const

function due(store: StateStore, upTo: number, count = 100): string[] {
  return store.dueKeys(upTo, count).map(({ key }) => key)
}

function remove(store: StateStore, upTo: number, count: number): number {
  const keys = store.dueKeys(upTo, count)
  for (const { database, key } of keys) assert.equal(store.delete(database, key), true)
  commit(store)
  return keys.length
}

describe('due keys', () => {
  it('at one time and one position are in the order of the disk, in whatever layer they are', async () => {
    for (const [first, second] of [COLLIDING, [COLLIDING[1], COLLIDING[0]]] as const) {
      const engine = new MemoryEngine()
      const { store } = await startedStore(engine)
      put(store, first, 'v', { expireAt: 5 })
      await store.checkpoint()
      put(store, second, 'v', { expireAt: 5 })
      assert.deepEqual(due(store, 5), COLLIDING)
      assert.deepEqual(due(store, 5, 1), [COLLIDING[0]])
      engine.holdCommits()
      const checkpoint = store.checkpoint()
      assert.deepEqual(due(store, 5), COLLIDING)
      await engine.releaseCommits()
      await checkpoint
      assert.deepEqual(due(store, 5), COLLIDING)
    }
  })

  it('are named once, however often a time was given', async () => {
    const { store } = await startedStore(new MemoryEngine())
    for (const expireAt of [5, 6, 5, 0, 5, 5]) put(store, 'k', 'v', { expireAt })
    assert.deepEqual(due(store, 9), ['k'])
    assert.equal(store.expires(0), 1)
  })

  it('come first by time, then by database, whatever was swapped', async () => {
    const { store } = await startedStore(new MemoryEngine())
    put(store, 'a', 'v', { database: 1, expireAt: 5 })
    put(store, 'b', 'v', { database: 2, expireAt: 5 })
    put(store, 'c', 'v', { database: 2, expireAt: 4 })
    assert.deepEqual(due(store, 5), ['c', 'a', 'b'])
    store.swap(1, 2, store.appliedIndex() + 1)
    commit(store)
    assert.deepEqual(due(store, 5), ['c', 'b', 'a'])
    assert.deepEqual(
      store.dueKeys(5, 9).map(({ database }) => database),
      [1, 1, 2],
    )
  })

  it('tell when the next one is due, once they were looked for', async () => {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine)
    assert.equal(store.nextExpiry(), undefined)
    for (const expireAt of [10, 20, 30]) put(store, `k${expireAt}`, 'v', { expireAt })
    assert.equal(store.nextExpiry(), 10)
    await store.checkpoint()
    put(store, 'k10', 'v')
    assert.deepEqual(due(store, 15), [])
    assert.equal(store.nextExpiry(), 20, 'past the one that the disk still has')
    put(store, 'k20', 'v', { expireAt: 40 })
    assert.deepEqual(due(store, 20), [])
    assert.equal(store.nextExpiry(), 30)
    assert.equal(store.nextExpiry(1), undefined)
    await store.checkpoint()
    await store.close()
    const { store: again } = await openStore(engine)
    assert.deepEqual(due(again, 20), [])
    assert.equal(again.nextExpiry(), 30)
    again.clear(0)
    commit(again)
    assert.equal(again.nextExpiry(), undefined)
  })

  it('do not search anew what was removed', async () => {
    const engine = new MemoryEngine()
    const { store, environment } = await startedStore(engine, { memtableBytes: 1 << 30 })
    const keys = 3000
    for (let i = 0; i < keys; i++) store.put(0, `k${i}`, stored(2, 'v', 1 + (i % 7)))
    commit(store)
    await store.checkpoint()
    let seen = 0
    const { range } = environment
    environment.range = (database, from, visit) =>
      range.call(environment, database, from, (key, value) => {
        seen++
        return visit(key, value)
      })
    let removed = 0
    for (let n = -1; n !== 0; removed += n) n = remove(store, 9, 100)
    assert.equal(removed, keys)
    // Each is read when it is due and when it is passed over, and once more at the place where it was passed.
    assert.ok(seen < 3 * keys, `${seen} reads of the index`)
  })

  it('are found after a checkpoint has put earlier ones on disk', async () => {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine)
    for (const expireAt of [10, 20]) put(store, `k${expireAt}`, 'v', { expireAt })
    await store.checkpoint()
    assert.equal(remove(store, 15, 9), 1)
    assert.deepEqual(due(store, 15), [])
    put(store, 'late', 'v', { expireAt: 3 })
    engine.holdCommits()
    const checkpoint = store.checkpoint()
    assert.deepEqual(due(store, 15), ['late'])
    await engine.releaseCommits()
    await checkpoint
    assert.deepEqual(due(store, 15), ['late'])
    assert.deepEqual(due(store, 20), ['late', 'k20'])
  })

  it('are not taken from a damaged index', async () => {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine)
    put(store, 'k', 'v', { expireAt: 10 })
    await store.checkpoint()
    const key = expiryKey(10, new DiskKeyWriter(HASH_KEY).fromText('k'))
    engine.tamper('state-1', 'expiry0', key, Buffer.alloc(4))
    assert.throws(() => store.dueKeys(10, 1), CorruptStateError)
  })
})
