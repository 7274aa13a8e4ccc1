/*
 * Starting on what is there: log and state must belong together. Each rule of a start, and the text for the operator
 * where it is refused.
 */

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { limits } from '../../src/config.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { openStorage, type Storage } from '../../storage/open.ts'
import { CorruptStateError } from '../../storage/record.ts'
import { CorruptLogError } from '../../storage/stable-record.ts'
import { MemoryEngine } from './memory-engine.ts'
import { scratchDirectory } from './scratch.ts'
import { applyTo, assertState, entryAt } from './workload.ts'

const OPTIONS = {
  memtableBytes: 1 << 30,
  cacheBytes: 1 << 20,
  views: limits.stateViews,
  now: () => 0,
}

/** A bound node with the workload's first `last` entries, all applied, and a checkpoint at `durable`. */
async function startedStorage(
  engine: MemoryEngine | LmdbEngine,
  last: number,
  durable: number,
): Promise<Storage> {
  const storage = await openStorage(engine, OPTIONS)
  const { log, state } = storage
  await log.bind({ clusterId: 'c', hardState: { term: 1, vote: undefined }, entries: [] })
  const entries = Array.from({ length: last }, (_, i) => entryAt(i + 1))
  await log.persist({ hardState: { term: 9, vote: 'v' }, entries })
  for (const entry of entries) {
    applyTo(state, entry)
    if (entry.index === durable) await state.checkpoint()
  }
  return storage
}

async function close({ log, state }: Storage): Promise<void> {
  await state.close()
  await log.close()
}

describe('a start', () => {
  it('on nothing makes an unbound node with an empty state', async () => {
    const engine = new MemoryEngine()
    const { log, state } = await openStorage(engine, OPTIONS)
    assert.equal(log.identity().clusterId, undefined)
    assert.deepEqual(state.durableAt(), { index: 0, term: 0 })
    assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
  })

  it('replays what lies behind the checkpoint', async () => {
    const engine = new MemoryEngine()
    const storage = await startedStorage(engine, 90, 60)
    await storage.log.compact(50)
    await close(storage)
    const { log, state } = await openStorage(engine, OPTIONS)
    assert.equal(state.appliedIndex(), 60)
    assertState(state)
    for (const entry of log.entries(61, 91, 1e9)) applyTo(state, entry)
    assertState(state)
  })

  it('goes on with a log that ends or begins exactly at the checkpoint', async () => {
    const engine = new MemoryEngine()
    const storage = await startedStorage(engine, 60, 60)
    await storage.log.compact(60)
    await close(storage)
    const { log } = await openStorage(engine, OPTIONS)
    assert.deepEqual(log.base(), { index: 60, term: entryAt(60).term })
  })

  it('deletes every state directory but the one in force', async () => {
    const engine = new MemoryEngine()
    await close(await startedStorage(engine, 10, 10))
    for (const name of ['state-2', 'state-17']) {
      await (await engine.openState(name, ['db0'])).close()
    }
    const { state } = await openStorage(engine, OPTIONS)
    assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
    assert.equal(state.appliedIndex(), 10)
  })
})

describe('a start is refused', () => {
  it('when the log begins behind the state: there is a gap', async () => {
    const engine = new MemoryEngine()
    const storage = await startedStorage(engine, 50, 40)
    await storage.log.compact(40)
    await close(storage)
    await engine.drop('state-1')
    await assert.rejects(openStorage(engine, OPTIONS), (error: Error) => {
      assert.ok(error instanceof CorruptStateError)
      assert.match(error.message, /state ends at entry 0, but the log begins after entry 40/)
      assert.match(error.message, /Do not copy files.*--rejoin host:peerport/)
      return true
    })
    // Everything is closed again.
    await engine.drop('log')
    await engine.drop('state-1')
  })

  it('when the log ends before the state: who knows what else was in it', async () => {
    const engine = new MemoryEngine()
    await close(await startedStorage(engine, 50, 50))
    engine.tamper('log', 'log', key(50), undefined)
    const refused = {
      name: 'CorruptLogError',
      message: /the log ends at entry 49, but the state stands at entry 50 .*must not vote again/,
    }
    await assert.rejects(openStorage(engine, OPTIONS), refused)
    // It is not made whole by asking again.
    await assert.rejects(openStorage(engine, OPTIONS), refused)
  })

  it('when the log has another entry where the state stands', async () => {
    const engine = new MemoryEngine()
    const storage = await startedStorage(engine, 50, 50)
    const entries = [50, 51].map((index) => ({ ...entryAt(index), term: 8 }))
    await storage.log.persist({ hardState: undefined, entries })
    await close(storage)
    await assert.rejects(openStorage(engine, OPTIONS), {
      name: 'CorruptLogError',
      message: /entry 50 of the log has term 8, but the state stands at entry 50 of term/,
    })
  })

  it('when the state belongs to a cluster and the log is a new one', async () => {
    const engine = new MemoryEngine()
    await close(await startedStorage(engine, 50, 40))
    await engine.drop('log')
    await assert.rejects(openStorage(engine, OPTIONS), (error: Error) => {
      assert.ok(error instanceof CorruptLogError)
      assert.match(error.message, /must not vote again/)
      return true
    })
  })

  it('when a byte of an entry has changed in the file', async () => {
    const scratch = scratchDirectory()
    try {
      const engine = new LmdbEngine(scratch.path, assert.fail)
      const storage = await openStorage(engine, OPTIONS)
      const data = Buffer.from('a needle in the log')
      const entry = {
        index: 1,
        term: 1,
        payload: { type: 'commands', data },
        encoded: undefined,
      } as const
      await storage.log.persist({ hardState: undefined, entries: [entry] })
      await close(storage)
      flip(join(scratch.path, 'log', 'data.mdb'), data)
      await assert.rejects(openStorage(engine, OPTIONS), (error: Error) => {
        assert.ok(error instanceof CorruptLogError)
        assert.match(error.message, new RegExp(`entry 1 .*damaged.*empties ${scratch.path} `))
        return true
      })
    } finally {
      scratch.remove()
    }
  })

  it('no value is served after a byte of it has changed in the file', async () => {
    const scratch = scratchDirectory()
    try {
      const reasons: string[] = []
      const engine = new LmdbEngine(scratch.path, (reason) => reasons.push(reason))
      const storage = await startedStorage(engine, 1, 1)
      const value = Buffer.from('a needle in the state')
      storage.state.put(0, 'key', { type: 'string', expireAt: 0, version: 2, value })
      storage.state.commitEntry({ index: 2, term: 1, clock: 1000 })
      await storage.log.persist({ hardState: undefined, entries: [entryAt(2)] })
      await storage.state.checkpoint()
      await close(storage)
      flip(join(scratch.path, 'state-1', 'data.mdb'), value)
      const again = await openStorage(engine, OPTIONS)
      assert.throws(() => again.state.get(0, 'key'), CorruptStateError)
      again.state.put(0, 'key', { type: 'string', expireAt: 0, version: 3, value })
      again.state.commitEntry({ index: 3, term: 1, clock: 1000 })
      assert.deepEqual(reasons, [])
      await assert.rejects(again.state.checkpoint(), /a checkpoint to .* failed: .*damaged on disk/)
      assert.equal(reasons.length, 1)
      await assert.rejects(again.state.close(), /damaged on disk/)
      await again.log.close()
    } finally {
      scratch.remove()
    }
  })
})

function key(index: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(index))
  return bytes
}

/** Flips one bit of every place in the file where `needle` stands. */
function flip(path: string, needle: Buffer): void {
  const file = readFileSync(path)
  let found = 0
  for (let at = file.indexOf(needle); at !== -1; at = file.indexOf(needle, at + 1)) {
    file[at + 3] = (file[at + 3] ?? 0) ^ 1
    found++
  }
  assert.ok(found > 0, 'the needle is in the file')
  writeFileSync(path, file)
}
