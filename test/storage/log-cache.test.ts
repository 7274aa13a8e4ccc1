/*
 * What the cache adds to a log store: which reads it serves, what it keeps within its bounds, and that a slot never
 * answers for another index. That its answers are right is the conformance suite's business.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LogCache, type LogCacheLimits } from '../../storage/log-cache.ts'
import { DiskLogStore } from '../../storage/log-store.ts'
import { entriesOf, entryOf } from './log-store-conformance.ts'
import { MemoryEngine } from './memory-engine.ts'

async function cacheOver(
  limits: LogCacheLimits,
  engine: MemoryEngine = new MemoryEngine(),
): Promise<LogCache> {
  return new LogCache(await DiskLogStore.open(engine), limits)
}

function append(cache: LogCache, from: number, to: number, term = 1): Promise<void> {
  return cache.persist({ hardState: undefined, entries: entriesOf(from, to, term) })
}

/** [hits, misses] of one read. */
function counts(cache: LogCache, from: number, to: number): [number, number] {
  const before = cache.metrics()
  assert.deepEqual(
    cache.entries(from, to, 1e9).map(({ index }) => index),
    Array.from({ length: to - from }, (_, i) => from + i),
  )
  const after = cache.metrics()
  return [after.hits - before.hits, after.misses - before.misses]
}

const wide = { entries: 100, bytes: 1e9 }

describe('the log cache', () => {
  it('serves what was just written, as the very same objects', async () => {
    const cache = await cacheOver(wide)
    const entries = entriesOf(1, 11, 1)
    await cache.persist({ hardState: undefined, entries })
    assert.deepEqual(counts(cache, 1, 11), [10, 0])
    assert.equal(cache.entries(4, 5, 0)[0], entries[3])
  })

  it('is filled only after the store has succeeded', async () => {
    const engine = new MemoryEngine()
    const cache = await cacheOver(wide, engine)
    engine.holdCommits()
    const pending = append(cache, 1, 5)
    assert.equal(cache.metrics().entries, 0)
    assert.equal(cache.lastIndex(), 0)
    await engine.releaseCommits()
    await pending
    assert.equal(cache.metrics().entries, 4)
    engine.failCommits('ENOSPC')
    await assert.rejects(append(cache, 5, 9), /ENOSPC/)
    assert.equal(cache.metrics().entries, 4)
  })

  it('wraps: the newest entries from memory, the older from the store, in one read', async () => {
    const cache = await cacheOver({ entries: 8, bytes: 1e9 })
    for (let from = 1; from < 40; from += 3) await append(cache, from, from + 3)
    assert.deepEqual(counts(cache, 32, 40), [8, 0])
    assert.deepEqual(counts(cache, 20, 40), [8, 12])
    assert.deepEqual(counts(cache, 20, 25), [0, 5])
    assert.equal(cache.metrics().entries, 8)
  })

  it('clears a truncated suffix', async () => {
    const cache = await cacheOver({ entries: 8, bytes: 1e9 })
    await append(cache, 1, 20)
    await append(cache, 15, 16, 2)
    assert.equal(cache.lastIndex(), 15)
    assert.equal(cache.metrics().entries, 4)
    assert.equal(cache.entries(15, 16, 0)[0]?.term, 2)
    await append(cache, 3, 5, 3)
    assert.deepEqual(counts(cache, 1, 5), [2, 2])
    assert.equal(cache.entries(4, 5, 0)[0]?.term, 3)
  })

  it('clears exactly what compaction removes, and stays warm', async () => {
    const cache = await cacheOver({ entries: 8, bytes: 1e9 })
    await append(cache, 1, 20)
    await cache.compact(5)
    assert.equal(cache.metrics().entries, 8)
    await cache.compact(15)
    assert.equal(cache.metrics().entries, 4)
    assert.deepEqual(counts(cache, 16, 20), [4, 0])
    await cache.compact(19)
    assert.equal(cache.metrics().entries, 0)
    assert.equal(cache.metrics().bytes, 0)
    await append(cache, 20, 23)
    assert.deepEqual(counts(cache, 20, 23), [3, 0])
  })

  it('is bounded by bytes, with the encoded form counted, except for the newest entry', async () => {
    const cache = await cacheOver({ entries: 100, bytes: 1000 })
    for (let index = 1; index < 50; index++) {
      await append(cache, index, index + 1)
      assert.ok(cache.metrics().bytes <= 1000)
    }
    // 32 + 10 for the entry, 31 for its encoded form.
    assert.equal(cache.metrics().entries, Math.floor(1000 / 73))
    await cache.persist({ hardState: undefined, entries: [entryOf(50, 1, 5000)] })
    // The newest one stays alone, although it is over the bound by itself; the next one drops it.
    assert.deepEqual(cache.metrics().entries, 1)
    assert.deepEqual(counts(cache, 49, 51), [1, 1])
    await append(cache, 51, 52)
    assert.deepEqual(counts(cache, 50, 52), [1, 1])
  })

  it('keeps the byte limit of a read across store and memory', async () => {
    const cache = await cacheOver({ entries: 4, bytes: 1e9 })
    await append(cache, 1, 11)
    for (let limit = 0; limit < 600; limit += 7) {
      const read = cache.entries(1, 11, limit).length
      assert.equal(read, Math.min(10, Math.floor(limit / 42) + 1), `${limit} bytes`)
    }
  })
})
