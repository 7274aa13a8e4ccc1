/*
 * When a checkpoint begins, and when whoever asked for one is told that it is durable, over a real store in memory
 * whose commits are held back.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Checkpoints } from '../../src/checkpoints.ts'
import { loadConfig } from '../../src/config-load.ts'
import type { Logger } from '../../src/logger.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { MemoryEngine } from '../storage/memory-engine.ts'
import { put, startedStore } from '../storage/store-fixture.ts'

function silent(): Logger {
  const ignore = (): void => {}
  const logger: Logger = {
    trace: ignore,
    debug: ignore,
    info: ignore,
    warn: ignore,
    error: ignore,
    fatal: ignore,
    child: () => logger,
  }
  return logger
}

interface Bench {
  readonly engine: MemoryEngine
  readonly store: StateStore
  readonly checkpoints: Checkpoints
  readonly compacted: number[]
  wall: number
  wakes: number
}

async function bench(): Promise<Bench> {
  const engine = new MemoryEngine()
  const { store } = await startedStore(engine, { memtableBytes: 1 << 30 })
  const compacted: number[] = []
  const all = { engine, store, compacted, wall: 5000, wakes: 0 }
  const checkpoints = new Checkpoints({
    config: loadConfig({ argv: [], environment: {}, readFile: () => '' }),
    clock: { monotonic: () => 0, wall: () => all.wall },
    log: silent(),
    state: store,
    compactTo: (index) => compacted.push(index),
    wake: () => void all.wakes++,
    fatal: assert.fail,
  })
  return Object.assign(all, { checkpoints })
}

/** Whether it has resolved by now, after whatever is due at once. */
async function isDone(promise: Promise<void>): Promise<boolean> {
  let done = false
  void promise.then(() => {
    done = true
  })
  await new Promise((resolve) => setImmediate(resolve))
  return done
}

describe('a checkpoint that was asked for', () => {
  it('begins with the next turn though none is due, and is told of when it is durable', async () => {
    const { engine, store, checkpoints, compacted, ...rest } = await bench()
    checkpoints.beginIfDue()
    assert.equal(checkpoints.running, undefined)
    assert.equal(rest.wakes, 0)
    put(store, 'k', 'v')
    engine.holdCommits()
    const saved = checkpoints.save()
    assert.equal(checkpoints.running, undefined)
    checkpoints.beginIfDue()
    assert.notEqual(checkpoints.running, undefined)
    assert.equal(await isDone(saved), false)
    assert.equal(store.durableAt().index, 0)
    await engine.releaseCommits()
    await saved
    assert.equal(store.durableAt().index, store.appliedIndex())
    assert.deepEqual(compacted, [store.appliedIndex()])
    checkpoints.beginIfDue()
    assert.equal(checkpoints.running, undefined)
  })

  it('wakes the node once for all who ask, and tells the time at which it was durable', async () => {
    const one = await bench()
    assert.equal(one.checkpoints.savedAt, 5000)
    const saved = [one.checkpoints.save(), one.checkpoints.save()]
    assert.equal(one.wakes, 1)
    one.wall = 9000
    assert.equal(one.checkpoints.savedAt, 5000)
    one.checkpoints.beginIfDue()
    await Promise.all(saved)
    assert.equal(one.checkpoints.savedAt, 9000)
  })

  it('is another one than that which runs: that lacks what was written meanwhile', async () => {
    const { engine, store, checkpoints } = await bench()
    engine.holdCommits()
    const first = checkpoints.save()
    checkpoints.beginIfDue()
    put(store, 'late', 'v')
    const second = checkpoints.save()
    checkpoints.beginIfDue()
    await engine.releaseCommits()
    await first
    assert.equal(store.durableAt().index, store.appliedIndex() - 1)
    await checkpoints.running
    assert.equal(await isDone(second), false)
    checkpoints.beginIfDue()
    await second
    assert.equal(store.durableAt().index, store.appliedIndex())
  })

  it('waits while the state is held, and is done at once where nothing is left to write', async () => {
    const { store, checkpoints } = await bench()
    await checkpoints.hold()
    const saved = checkpoints.save()
    checkpoints.beginIfDue()
    assert.equal(checkpoints.running, undefined)
    checkpoints.release()
    checkpoints.beginIfDue()
    await saved
    const again = checkpoints.save()
    checkpoints.beginIfDue()
    await again
    assert.equal(store.durableAt().index, store.appliedIndex())
  })
})
