/*
 * The switch to a state of another node: nothing changes before it, everything after it, and a crash in between, at
 * any step, leaves a node that starts on the old state or on the new one.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Membership, SnapshotMeta } from '../../raft/types.ts'
import { limits } from '../../src/config.ts'
import type { Chunk, Engine } from '../../storage/engine.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { LogCache } from '../../storage/log-cache.ts'
import { openStorage, type Storage } from '../../storage/open.ts'
import type { StoredValue } from '../../storage/record.ts'
import { DamagedStreamError } from '../../storage/state-build.ts'
import { MemoryEngine } from './memory-engine.ts'
import { scratchDirectory } from './scratch.ts'
import { applyTo, assertState, entryAt } from './workload.ts'

const OPTIONS = {
  memtableBytes: 1 << 30,
  cacheBytes: 1 << 20,
  views: limits.stateViews,
  now: () => 0,
}
const membership: Membership = {
  members: [{ id: 'a'.repeat(40), peerAddress: 'h:1', clientAddress: 'h:2', role: 'voter' }],
}
const hardState = { term: 9, vote: 'v' }
/** Before it: of a term that its entries do not exceed. */
const BOUND = { term: 8, vote: undefined }

/** The state after the first `last` entries, as a stream; with a membership unless told otherwise. */
async function streamAt(last: number, members: Membership | 'none' = membership): Promise<Chunk[]> {
  const { state, log } = await openStorage(new MemoryEngine(), OPTIONS)
  for (let index = 1; index < last; index++) applyTo(state, entryAt(index))
  const { term } = entryAt(last)
  const end = { index: last, term, clock: last * 10 }
  // Its last entry is one that changes the membership, and no key.
  state.commitEntry(members === 'none' ? end : { ...end, membership: members })
  await state.checkpoint()
  const stream = await state.stream(4096)
  const chunks: Chunk[] = []
  for (let chunk = await stream.next(); chunk !== undefined; chunk = await stream.next()) {
    chunks.push(chunk)
  }
  await stream.close()
  await state.close()
  await log.close()
  return chunks
}

/** A bound node with `last` entries in its log, of which half are applied and a quarter are durable in its state. */
async function nodeAt(engine: Engine, last: number): Promise<Storage> {
  const storage = await openStorage(engine, OPTIONS)
  const { log, state } = storage
  await log.bind({ clusterId: 'c', hardState: BOUND, entries: [] })
  const entries = Array.from({ length: last }, (_, i) => entryAt(i + 1))
  await log.persist({ hardState: undefined, entries })
  for (const entry of entries.slice(0, last / 2)) {
    applyTo(state, entry)
    if (entry.index === last / 4) await state.checkpoint()
  }
  return storage
}

async function receive({ received }: Storage, chunks: readonly Chunk[]): Promise<SnapshotMeta> {
  await received.begin()
  for (const chunk of chunks) await received.add(chunk.slice())
  return received.complete()
}

async function close({ log, state, received }: Storage): Promise<void> {
  await received.close()
  await state.close()
  await log.close()
}

function text(found: StoredValue | undefined): string {
  return JSON.stringify({ ...found, value: Buffer.from(found?.value ?? []).toString('hex') })
}

/** Stands at entry `last` of the workload, the last one of which only changed the membership. */
function assertReceived({ state }: Storage, last: number): void {
  assert.equal(state.appliedIndex(), last)
  assert.deepEqual(state.durableAt(), { index: last, term: entryAt(last).term })
  assert.deepEqual(state.membership(), membership)
  assert.equal(state.clock(), last * 10)
}

function runOn(name: string, make: () => { engine: Engine; remove(): void }): void {
  describe(`a received state on ${name}`, () => {
    it('takes the place of the old one, with everything in it, also after a restart', async () => {
      const { engine, remove } = make()
      let node = await nodeAt(engine, 40)
      const log = new LogCache(node.log, { entries: 8, bytes: 1000 })
      const view = node.state.view() ?? assert.fail()
      const snapshot = await receive(node, await streamAt(200))
      assert.deepEqual(snapshot, { last: { index: 200, term: entryAt(200).term }, membership })
      assert.equal(node.state.appliedIndex(), 20, 'nothing has changed')
      assertState(node.state)
      await node.received.install(snapshot, hardState, log)
      assertReceived(node, 200)
      assert.throws(() => view.get(0, 'k1'), /closed/)
      assert.deepEqual(log.base(), snapshot.last)
      assert.deepEqual(node.log.hardState(), hardState)
      const entries = Array.from({ length: 10 }, (_, i) => entryAt(201 + i))
      await node.log.persist({ hardState: undefined, entries })
      for (const entry of entries) applyTo(node.state, entry)
      await node.state.checkpoint()
      await close(node)
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-2'])
      node = await openStorage(engine, OPTIONS)
      assert.equal(node.state.appliedIndex(), 210)
      const next = await receive(node, await streamAt(300))
      await node.received.install(next, undefined, node.log)
      assertReceived(node, 300)
      await close(node)
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-3'], 'and once more')
      remove()
    })

    it('shows the same keys as a node that applied the entries', async () => {
      const { engine, remove } = make()
      const node = await nodeAt(engine, 40)
      const { state, log } = await openStorage(new MemoryEngine(), OPTIONS)
      for (let index = 1; index < 120; index++) applyTo(state, entryAt(index))
      await node.received.install(await receive(node, await streamAt(120)), undefined, node.log)
      for (let database = 0; database < 3; database++) {
        assert.equal(node.state.size(database), state.size(database))
        state.range(database, 0, (_, key) => {
          assert.equal(text(node.state.get(database, key)), text(state.get(database, key)))
          return true
        })
      }
      await state.close()
      await log.close()
      await close(node)
      remove()
    })

    it('is gone when it is discarded, complete or not, and another one can come', async () => {
      const { engine, remove } = make()
      const node = await nodeAt(engine, 40)
      const [chunk = assert.fail()] = await streamAt(50)
      await node.received.discard()
      await node.received.begin()
      await node.received.add(chunk.slice())
      await node.received.discard()
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
      await receive(node, await streamAt(60))
      await node.received.discard()
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
      await receive(node, await streamAt(70))
      await close(node)
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
      remove()
    })

    it('is refused when it is damaged, or of no cluster', async () => {
      const { engine, remove } = make()
      const node = await nodeAt(engine, 40)
      const damaged = await streamAt(50)
      const last = damaged.at(-1) ?? assert.fail()
      last[last.length - 20] = (last[last.length - 20] ?? 0) ^ 4
      await assert.rejects(receive(node, damaged), DamagedStreamError)
      await node.received.discard()
      await assert.rejects(receive(node, await streamAt(50, 'none')), /without a membership/)
      await node.received.discard()
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
      assert.equal(node.state.appliedIndex(), 20)
      await close(node)
      remove()
    })
  })
}

runOn('memory', () => ({ engine: new MemoryEngine(), remove: () => {} }))
runOn('LMDB', () => {
  const { path, remove } = scratchDirectory()
  return { engine: new LmdbEngine(path, assert.fail), remove }
})

describe('a crash around the switch', () => {
  it('leaves the old state while it is received, and removes what was built', async () => {
    const engine = new MemoryEngine()
    const chunks = await streamAt(200)
    for (let received = 0; received <= chunks.length; received++) {
      const node = received === 0 ? await nodeAt(engine, 40) : await openStorage(engine, OPTIONS)
      await node.received.begin()
      for (const chunk of chunks.slice(0, received)) await node.received.add(chunk.slice())
      if (received === chunks.length) await node.received.complete()
      engine.crash()
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-1', 'state-2'])
      const { state, log } = await openStorage(engine, OPTIONS)
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
      assert.deepEqual([state.appliedIndex(), log.base().index, log.lastIndex()], [10, 0, 40])
      assertState(state)
      await state.close()
      await log.close()
    }
  })

  it('leaves the old state or the new one, never a part of each', async () => {
    for (const landed of [false, true]) {
      const engine = new MemoryEngine()
      const node = await nodeAt(engine, 40)
      const snapshot = await receive(node, await streamAt(200))
      engine.holdCommits()
      const installing = node.received.install(snapshot, hardState, node.log)
      if (landed) {
        await engine.releaseCommits()
        await installing
      }
      engine.crash()
      const after = await openStorage(engine, OPTIONS)
      if (landed) assertReceived(after, 200)
      else assert.equal(after.state.appliedIndex(), 10)
      const number = landed ? 2 : 1
      assert.deepEqual([...engine.list()].sort(), ['log', `state-${number}`])
      assert.deepEqual(after.log.hardState(), landed ? hardState : BOUND)
      assert.equal(after.log.lastIndex(), landed ? 200 : 40)
    }
  })

  it('keeps the log behind a state that it agrees with', async () => {
    const engine = new MemoryEngine()
    const node = await nodeAt(engine, 40)
    const snapshot = await receive(node, await streamAt(30))
    await node.received.install(snapshot, undefined, node.log)
    engine.crash()
    const { state, log } = await openStorage(engine, OPTIONS)
    assert.deepEqual([state.appliedIndex(), log.lastIndex()], [30, 40])
    for (const entry of log.entries(31, 41, 1e9)) applyTo(state, entry)
    assert.equal(state.appliedIndex(), 40)
  })
})
