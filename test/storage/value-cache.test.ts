/*
 * The cache of hot values: bounded, keeps what is read again, and never shows what was changed.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ValueCache } from '../../storage/value-cache.ts'
import { MemoryEngine } from './memory-engine.ts'
import { commit, put, startedStore, stored, text } from './store-fixture.ts'

function read(cache: ValueCache, key: string, place = 0): string | undefined {
  const found = cache.get(place, key)
  return found && Buffer.from(found.value).toString()
}

describe('the cache of values', () => {
  it('keeps what is read again, and lets go of the rest, within its bound', () => {
    const cache = new ValueCache(64_000)
    cache.add(0, 'hot', stored(1, 'hot value'))
    for (let i = 0; i < 5000; i++) {
      cache.add(0, `cold${i}`, stored(1, 'c'.repeat(100)))
      assert.ok(cache.bytes <= 64_000, `${cache.bytes} bytes`)
      if (i % 20 === 0) assert.equal(read(cache, 'hot'), 'hot value')
    }
    assert.equal(read(cache, 'cold0'), undefined)
    assert.equal(read(cache, 'cold4999'), 'c'.repeat(100))
    assert.ok(cache.bytes > 20_000, 'it uses what it may')
    assert.equal(cache.misses, 1)
    assert.equal(cache.hits, 251)
  })

  it('keeps no value that would drive out many others, and nothing at all without room', () => {
    const cache = new ValueCache(16_000)
    // A sixteenth, of which 127 are what it costs to keep any value under a key of one character.
    cache.add(0, 'k', stored(1, 'v'.repeat(873)))
    cache.add(0, 'l', stored(1, 'v'.repeat(874)))
    assert.equal(read(cache, 'k'), 'v'.repeat(873))
    assert.equal(read(cache, 'l'), undefined)
    const none = new ValueCache(0)
    none.add(0, '', stored(1, ''))
    none.add(0, 'k', stored(1, 'v'))
    assert.equal(read(none, ''), undefined)
    assert.equal(read(none, 'k'), undefined)
    assert.equal(none.bytes, 0)
  })

  it('shows what was added last, of each place and key, until it was taken', () => {
    const keys = fc.constantFrom('', 'a', 'b', 'c')
    const step = fc.oneof(
      fc.record({
        type: fc.constantFrom('add', 'get', 'take'),
        place: fc.nat({ max: 1 }),
        key: keys,
      }),
      fc.record({ type: fc.constant('clear'), place: fc.nat({ max: 1 }), key: keys }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        // Two or three values are half of it: generations change all the time.
        const cache = new ValueCache(1000)
        const model = new Map<string, number>()
        for (const [version, { type, place, key }] of steps.entries()) {
          const name = `${place}/${key}`
          if (type === 'add') {
            cache.add(place, key, stored(version, 'v'.repeat(40)))
            model.set(name, version)
          } else if (type === 'clear') {
            cache.clear(place)
            for (const one of model.keys()) if (one.startsWith(`${place}/`)) model.delete(one)
          } else {
            const found = type === 'get' ? cache.get(place, key) : cache.take(place, key)
            if (found !== undefined) assert.equal(found.version, model.get(name))
            if (type === 'take') model.delete(name)
          }
        }
      }),
    )
  })
})

describe('a store with a cache', () => {
  it('reads a value from disk once, and again once it was changed', async () => {
    const { store, environment } = await startedStore(new MemoryEngine(), { cacheBytes: 1 << 20 })
    let reads = 0
    const { get } = environment
    environment.get = (database, key) => {
      if (database === 'db0') reads++
      return get.call(environment, database, key)
    }
    const expect = (value: string | undefined, more: number): void => {
      reads = 0
      for (let i = 0; i < 3; i++) assert.equal(text(store, 'k'), value)
      assert.equal(reads, more)
    }
    put(store, 'k', 'one')
    expect('one', 0)
    await store.checkpoint()
    expect('one', 1)
    expect('one', 0)
    put(store, 'k', 'two')
    await store.checkpoint()
    expect('two', 1)
    store.delete(0, 'k')
    commit(store)
    await store.checkpoint()
    expect(undefined, 3)
    put(store, 'k', 'three')
    await store.checkpoint()
    expect('three', 1)
    store.clear(0)
    commit(store)
    await store.checkpoint()
    expect(undefined, 3)
    const { cacheHits, cacheMisses, cacheBytes } = store.metrics()
    assert.deepEqual([cacheHits, cacheMisses], [9, 9])
    assert.ok(cacheBytes > 0 && cacheBytes < 1000)
  })
})
