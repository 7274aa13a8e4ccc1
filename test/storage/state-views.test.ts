/*
 * Views of the state: each shows one moment, and none lives longer, holds more or is one more than the limits allow.
 * What they show through all that can happen meanwhile is in state-model.test.ts.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { type StateView, ViewClosedError } from '../../storage/state-views.ts'
import { MemoryEngine } from './memory-engine.ts'
import { scratchDirectory } from './scratch.ts'
import { commit, put, startedStore, stored, text } from './store-fixture.ts'

const LIMITS = { countMax: 2, ageMsMax: 100, bytesMax: 50_000 }

function viewOf(store: StateStore): StateView {
  return store.view() ?? assert.fail('no view')
}

function fill(store: StateStore, bytes: number): void {
  const value = 'v'.repeat(1000)
  for (let i = 0; i * 1000 < bytes; i++) put(store, `fill:${store.appliedIndex()}`, value)
}

describe('a view', () => {
  it('shows its own moment, whichever others are open or were released', async () => {
    const { store } = await startedStore(new MemoryEngine())
    const views: StateView[] = []
    put(store, 'l', 'before all')
    for (const value of ['a', 'b', 'c']) {
      put(store, 'k', value)
      put(store, 'k', value)
      views.push(viewOf(store))
    }
    put(store, 'k', 'd')
    const shown = (): (string | undefined)[] => views.map((view) => text(view, 'k'))
    assert.deepEqual(shown(), ['a', 'b', 'c'])
    // The latest is gone: what an earlier one needs is still kept.
    views.pop()?.release()
    put(store, 'k', 'e')
    store.delete(0, 'k')
    commit(store)
    put(store, 'l', 'after')
    for (const view of views) assert.equal(text(view, 'l'), 'before all')
    assert.deepEqual(shown(), ['a', 'b'])
    views.shift()?.release()
    put(store, 'k', 'f')
    assert.deepEqual(shown(), ['b'])
    assert.equal(text(store, 'k'), 'f')
  })

  it('within an entry shows what the entry has written so far, and nothing that follows', async () => {
    const { store } = await startedStore(new MemoryEngine())
    store.put(0, 'k', stored(2, 'first'))
    const view = viewOf(store)
    store.put(0, 'k', stored(2, 'second'))
    store.put(0, 'l', stored(2, 'new'))
    commit(store)
    assert.equal(text(view, 'k'), 'first')
    assert.equal(text(view, 'l'), undefined)
    assert.equal(view.size(0), 1)
    assert.equal(view.clock, 1)
  })

  it('may be released again and again, and then shows nothing', async () => {
    const { store } = await startedStore(new MemoryEngine(), { views: { ...LIMITS, countMax: 1 } })
    const view = viewOf(store)
    view.release()
    view.release()
    assert.throws(() => view.get(0, 'k'), ViewClosedError)
    assert.throws(() => view.range(0, 0, () => true), ViewClosedError)
    assert.throws(() => view.size(0), ViewClosedError)
    viewOf(store)
    assert.equal(store.view(), undefined, 'one that is released twice makes room for one')
  })

  it('is refused beyond the number allowed', async () => {
    const { store } = await startedStore(new MemoryEngine(), { views: LIMITS })
    const views = [viewOf(store), viewOf(store)]
    assert.equal(store.view(), undefined)
    views[0]?.release()
    viewOf(store)
    assert.equal(store.view(), undefined)
  })

  it('is closed when it is too old', async () => {
    let now = 0
    const { store } = await startedStore(new MemoryEngine(), { views: LIMITS, now: () => now })
    const old = viewOf(store)
    now = 99
    const young = viewOf(store)
    assert.equal(old.size(0), 0)
    now = 100
    viewOf(store)
    assert.throws(() => old.size(0), ViewClosedError)
    assert.equal(young.size(0), 0)
    now = 199
    put(store, 'k', 'v')
    await store.checkpoint()
    assert.throws(() => young.size(0), ViewClosedError, 'a checkpoint looks too')
  })

  it('is closed, the oldest first, when only views hold too much memory', async () => {
    const { store } = await startedStore(new MemoryEngine(), { views: LIMITS })
    fill(store, 30_000)
    const first = viewOf(store)
    await store.checkpoint()
    assert.equal(first.size(0), 30)
    fill(store, 10_000)
    const second = viewOf(store)
    fill(store, 20_000)
    assert.equal(first.size(0), 30)
    await store.checkpoint()
    assert.throws(() => first.size(0), ViewClosedError)
    assert.equal(second.size(0), 40)
  })

  it('on LMDB keeps what it shows, and lets go of it', async () => {
    const scratch = scratchDirectory()
    try {
      const { store } = await startedStore(new LmdbEngine(scratch.path, assert.fail), {
        memtableBytes: 1 << 30,
      })
      const write = async (value: string): Promise<void> => {
        for (let i = 0; i < 2000; i++) store.put(0, `k${i}`, stored(2, value.repeat(500)))
        commit(store)
        await store.checkpoint()
      }
      await write('a')
      const view = viewOf(store)
      for (const value of ['b', 'c', 'd']) await write(value)
      let visits = 0
      view.range(0, 0, (_position, _key, load) => {
        visits++
        return Buffer.compare(load().value, Buffer.alloc(500, 'a')) === 0
      })
      assert.equal(visits, 2000)
      view.release()
      await write('e')
      const { environmentBytes } = store.metrics()
      for (let i = 0; i < 6; i++) await write('f')
      assert.equal(store.metrics().environmentBytes, environmentBytes, 'pages are used again')
      await store.close()
    } finally {
      scratch.remove()
    }
  })
})
