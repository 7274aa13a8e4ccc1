/*
 * When a key on disk expires is known without its record, as long as not too many do: of every layer, of views of earlier
 * moments, at the limit and past it, and where two keys lie at one position.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { StateEnvironment } from '../../storage/engine.ts'
import { ExpiringKeys } from '../../storage/expiring-keys.ts'
import { DiskKeyWriter, expiryKey, positionOf } from '../../storage/layout.ts'
import { CorruptStateError, expiryRecord } from '../../storage/record.ts'
import { expiryName, STATE_DATABASES } from '../../storage/state-meta.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { MemoryEngine } from './memory-engine.ts'
import { commit, HASH_KEY, put, startedStore } from './store-fixture.ts'

/** The databases of which records are read from now on. */
function recordsRead(environment: StateEnvironment): string[] {
  const read: string[] = []
  const get = environment.get.bind(environment)
  environment.get = (database, key) => {
    read.push(database)
    return get(database, key)
  }
  return read
}

const diskKey = (key: string): Uint8Array => Buffer.from(new DiskKeyWriter(HASH_KEY).fromText(key))

type Told = Pick<StateStore, 'expiryOf'>
const told = (of: Told): (number | undefined)[] =>
  ['first', 'second', 'large', 'gone', 'never'].map((key) => of.expiryOf(0, key))

describe('which keys on disk expire', () => {
  it('is known without their records up to a limit, for reads and for writes', async () => {
    const options = { cacheBytes: 0, expiringKeysMax: 2 }
    const { store, environment } = await startedStore(new MemoryEngine(), options)
    put(store, 'first', 'value', { expireAt: 5000 })
    put(store, 'second', 'value', { expireAt: 6000 })
    for (const key of ['large', 'gone']) put(store, key, 'value')
    await store.checkpoint()
    const read = recordsRead(environment)
    assert.deepEqual(told(store), [5000, 6000, 0, 0, undefined])
    store.delete(0, 'gone')
    store.delete(0, 'second')
    commit(store)
    put(store, 'large', 'other value')
    assert.deepEqual(told(store), [5000, undefined, 0, undefined, undefined])
    assert.equal(store.expires(0), 1)
    assert.deepEqual(read, [], 'records were read')
    // It compares what was counted here with what it finds in the records.
    await store.checkpoint()

    for (const key of ['second', 'third']) put(store, key, 'value', { expireAt: 6000 })
    await store.checkpoint()
    read.length = 0
    assert.equal(store.expiryOf(0, 'large'), 0)
    assert.deepEqual(read, ['db0'], 'of one more than the limit something was kept')
  })

  it('is that of its moment for a view, whatever is checkpointed later', async () => {
    const options = { cacheBytes: 0, expiringKeysMax: 4 }
    const { store, environment } = await startedStore(new MemoryEngine(), options)
    put(store, 'first', 'value', { expireAt: 5000 })
    put(store, 'large', 'value')
    await store.checkpoint()
    const view = store.view() ?? assert.fail()
    put(store, 'first', 'value')
    put(store, 'second', 'value', { expireAt: 6000 })
    put(store, 'large', 'value', { expireAt: 7000 })
    await store.checkpoint()
    const read = recordsRead(environment)
    assert.deepEqual(told(store), [0, 6000, 7000, undefined, undefined])
    assert.deepEqual(told(view), [5000, undefined, 0, undefined, undefined])
    assert.deepEqual(read, [])
    view.release()
  })

  it('is learned by a view for itself: the disk of the store may show a checkpoint before the store knows of it', async () => {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine, { cacheBytes: 0, expiringKeysMax: 400 })
    for (let i = 0; i < 300; i++) put(store, `key:${i}`, '', { expireAt: 4000 })
    put(store, 'first', 'value', { expireAt: 5000 })
    put(store, 'large', 'value')
    await store.checkpoint()
    const view = store.view() ?? assert.fail()
    // The write learns a slice, in which the key's own entry is not.
    put(store, 'first', 'value')
    engine.tamper('state-1', expiryName(0), expiryKey(5000, diskKey('first')), undefined)
    assert.deepEqual(told(store), [0, undefined, 0, undefined, undefined])
    assert.deepEqual(told(view), [5000, undefined, 0, undefined, undefined])
    assert.deepEqual(told(view), [5000, undefined, 0, undefined, undefined])
    view.release()
  })
})

describe('the index of what expires is learned', () => {
  async function indexOf(entries: readonly (readonly [number, string])[]) {
    const engine = new MemoryEngine()
    const disk = await engine.openState('state-1', STATE_DATABASES)
    for (const [time, key] of entries) {
      const indexKey = expiryKey(time, diskKey(key))
      engine.tamper('state-1', expiryName(0), indexKey, expiryRecord(indexKey))
    }
    return { engine, disk }
  }

  it('a slice with each question', async () => {
    const { disk } = await indexOf(
      Array.from({ length: 600 }, (_, i) => [1000 + (i % 7), `key:${i}`] as const),
    )
    const keys = new ExpiringKeys([600], 600)
    const ask = (): number | undefined => keys.timeOf(0, diskKey('key:8'), disk)
    assert.deepEqual([ask(), ask(), ask()], [undefined, undefined, 1001])
    assert.equal(keys.timeOf(0, diskKey('other'), disk), 0)
    assert.equal(new ExpiringKeys([600], 599).timeOf(0, diskKey('key:8'), disk), undefined)
  })

  it('and tells no key from another at its position without looking', async () => {
    const [one, other] = ['{t}49k6', '{t}4lou']
    assert.equal(positionOf(diskKey(one)), positionOf(diskKey(other)))
    const { disk } = await indexOf([[1000, one]])
    const keys = new ExpiringKeys([1], 2)
    assert.equal(keys.timeOf(0, diskKey(one), disk), 1000)
    assert.equal(keys.timeOf(0, diskKey(other), disk), 0)
    const both = await indexOf([
      [1000, one],
      [2000, other],
      [3000, 'key'],
    ])
    const several = new ExpiringKeys([3], 3)
    for (const key of [one, other]) {
      assert.equal(several.timeOf(0, diskKey(key), both.disk), undefined)
    }
    assert.equal(several.timeOf(0, diskKey('key'), both.disk), 3000)
  })

  it('never beyond the limit, nor from a damaged entry', async () => {
    const { disk, engine } = await indexOf([
      [1000, 'a'],
      [2000, 'b'],
      [3000, 'c'],
    ])
    // The disk shows a checkpoint of which the store does not know yet.
    const keys = new ExpiringKeys([2], 2)
    for (let i = 0; i < 3; i++) assert.equal(keys.timeOf(0, diskKey('a'), disk), undefined)
    engine.tamper('state-1', expiryName(0), expiryKey(2000, diskKey('b')), Buffer.alloc(4))
    assert.throws(() => new ExpiringKeys([3], 3).timeOf(0, diskKey('a'), disk), CorruptStateError)
  })
})
