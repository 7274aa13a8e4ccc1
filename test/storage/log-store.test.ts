/*
 * The durable log and the cache over it: the conformance suite on memory and on LMDB, with and without cache, and
 * what only the durable log promises: identity, binding, refusal of damage.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { AssertionError } from '../../raft/assert.ts'
import { encodeEntry } from '../../storage/codec.ts'
import type { Engine } from '../../storage/engine.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { LogCache } from '../../storage/log-cache.ts'
import { DiskLogStore, type SwitchingLog } from '../../storage/log-store.ts'
import { FormatVersionError, sealFrame } from '../../storage/sealed-frame.ts'
import { CorruptLogError, LOG_FORMAT_VERSION } from '../../storage/stable-record.ts'
import {
  entriesOf,
  entryOf,
  type LogStoreUnderTest,
  runLogStoreConformance,
} from './log-store-conformance.ts'
import { MemoryEngine } from './memory-engine.ts'
import { scratchDirectory } from './scratch.ts'

type Wrap = (store: DiskLogStore) => SwitchingLog

async function under(engine: Engine, wrap: Wrap, remove: () => void): Promise<LogStoreUnderTest> {
  const disk = await DiskLogStore.open(engine)
  return {
    store: wrap(disk),
    hardState: () => disk.hardState(),
    stateNumber: () => disk.stateNumber(),
    reopen: async () => {
      await disk.close()
      return under(engine, wrap, remove)
    },
    destroy: async () => {
      await disk.close()
      remove()
    },
  }
}

const bare: Wrap = (store) => store
/** Small enough that the ring wraps, and that bytes are the tighter bound now and then. */
const cached: Wrap = (store) => new LogCache(store, { entries: 7, bytes: 500 })

for (const [name, wrap] of [
  ['', bare],
  ['cache over ', cached],
] as const) {
  runLogStoreConformance(`${name}memory`, () => under(new MemoryEngine(), wrap, () => {}))
  runLogStoreConformance(`${name}LMDB`, () => {
    const scratch = scratchDirectory()
    return under(new LmdbEngine(scratch.path, assert.fail), wrap, scratch.remove)
  })
}

function key(index: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(index))
  return bytes
}

/** A memory engine that holds a closed log with entries 1 to 9, for tests that damage it. */
async function engineWithLog(): Promise<MemoryEngine> {
  const engine = new MemoryEngine()
  const store = await DiskLogStore.open(engine)
  await store.bind({
    clusterId: 'c1',
    hardState: { term: 2, vote: 'v' },
    entries: entriesOf(1, 10, 2),
  })
  await store.close()
  return engine
}

describe('identity', () => {
  it('is made once: 40 random hex digits', async () => {
    const engine = new MemoryEngine()
    const store = await DiskLogStore.open(engine)
    const { nodeId, clusterId } = store.identity()
    assert.match(nodeId, /^[0-9a-f]{40}$/)
    assert.equal(clusterId, undefined)
    await store.close()
    const again = await DiskLogStore.open(engine)
    assert.deepEqual(again.identity(), { nodeId, clusterId: undefined })
    const other = await DiskLogStore.open(new MemoryEngine())
    assert.notEqual(other.identity().nodeId, nodeId)
  })

  it('is bound to a cluster once, with hard state and first entries in one transaction', async () => {
    const engine = await engineWithLog()
    const store = await DiskLogStore.open(engine)
    assert.equal(store.identity().clusterId, 'c1')
    assert.deepEqual(store.hardState(), { term: 2, vote: 'v' })
    assert.equal(store.lastIndex(), 9)
    const again = { clusterId: 'c2', hardState: { term: 3, vote: undefined }, entries: [] }
    await assert.rejects(store.bind(again), AssertionError)
  })

  it('is not bound by a bind that the disk never finished', async () => {
    const engine = new MemoryEngine()
    const store = await DiskLogStore.open(engine)
    engine.holdCommits()
    void store.bind({
      clusterId: 'c1',
      hardState: { term: 1, vote: undefined },
      entries: [entryOf(1, 1)],
    })
    assert.equal(store.identity().clusterId, undefined)
    engine.crash()
    const again = await DiskLogStore.open(engine)
    assert.equal(again.identity().clusterId, undefined)
    assert.equal(again.lastIndex(), 0)
    assert.deepEqual(again.hardState(), { term: 0, vote: undefined })
  })
})

describe('a durable log', () => {
  it('acknowledges nothing before the commit is durable', async () => {
    const engine = new MemoryEngine()
    const store = await DiskLogStore.open(engine)
    engine.holdCommits()
    let resolved = false
    const persisted = store
      .persist({ hardState: { term: 1, vote: 'v' }, entries: entriesOf(1, 4, 1) })
      .then(() => {
        resolved = true
      })
    await new Promise((turn) => setImmediate(turn))
    assert.equal(engine.heldCommits, 1)
    assert.equal(resolved, false)
    assert.equal(store.lastIndex(), 0)
    assert.equal(store.hardState().term, 0)
    await engine.releaseCommits()
    await persisted
    assert.equal(store.lastIndex(), 3)
    assert.equal(store.hardState().term, 1)
  })

  it('rejects, reports fatal once, and takes nothing more when a commit fails', async () => {
    const reasons: string[] = []
    const engine = new MemoryEngine((reason) => reasons.push(reason))
    const store = await DiskLogStore.open(engine)
    engine.failCommits('EIO')
    const batch = { hardState: undefined, entries: [entryOf(1, 1)] }
    await assert.rejects(store.persist(batch), /EIO/)
    assert.deepEqual(reasons, ['EIO'])
    assert.equal(store.lastIndex(), 0)
    await assert.rejects(store.persist(batch), AssertionError, 'never retried')
  })

  it('does not read what a commit under way may already have replaced', async () => {
    const engine = await engineWithLog()
    const store = await DiskLogStore.open(engine)
    engine.holdCommits()
    const cut = store.persist({ hardState: undefined, entries: [entryOf(5, 3)] })
    assert.equal(store.entries(1, 5, 1e9).length, 4)
    assert.throws(() => store.entries(4, 7, 1e9), AssertionError)
    await engine.releaseCommits()
    await cut
  })

  it('loses no entry and no base to a crash between the batches of a compaction', async () => {
    const engine = new MemoryEngine()
    const store = await DiskLogStore.open(engine)
    await store.persist({ hardState: undefined, entries: entriesOf(1, 1001, 1) })
    engine.holdCommits()
    void store.compact(900)
    await new Promise((turn) => setImmediate(turn))
    engine.crash()
    const again = await DiskLogStore.open(engine)
    assert.equal(again.lastIndex(), 1000)
    assert.equal(again.entries(again.base().index + 1, 1001, 1e9).length, 1000 - again.base().index)
  })
})

describe('what is wrong with the state in force', () => {
  const damage = { what: 'its digest differs', sources: ['a:1', 'b:2'] }

  async function marked(): Promise<{ engine: MemoryEngine; store: DiskLogStore }> {
    const engine = await engineWithLog()
    const store = await DiskLogStore.open(engine)
    assert.equal(store.damage(), undefined)
    // While something is on its way to the disk, as it will be.
    const persisted = store.persist({ hardState: undefined, entries: [entryOf(10, 2)] })
    await Promise.all([store.markDamaged(damage), persisted])
    await store.close()
    return { engine, store: await DiskLogStore.open(engine) }
  }

  it('is known after a restart, and after whatever is not another state', async () => {
    const { engine, store } = await marked()
    assert.deepEqual(store.damage(), damage)
    await store.persist({ hardState: { term: 3, vote: 'v' }, entries: [entryOf(11, 3)] })
    await store.compact(5)
    await store.close()
    assert.deepEqual((await DiskLogStore.open(engine)).damage(), damage)
  })

  it('is over with another state, in the same transaction, whether the log goes on or begins anew', async () => {
    for (const last of [
      { index: 9, term: 2 },
      { index: 50, term: 2 },
    ]) {
      const { engine, store } = await marked()
      engine.holdCommits()
      void store.switchState({ stateNumber: 2, last, hardState: undefined })
      engine.crash()
      const before = await DiskLogStore.open(engine)
      assert.deepEqual([before.stateNumber(), before.damage()], [1, damage])
      await before.switchState({ stateNumber: 2, last, hardState: undefined })
      await before.close()
      const after = await DiskLogStore.open(engine)
      assert.deepEqual([after.stateNumber(), after.damage()], [2, undefined])
    }
  })

  it('is over with the old cluster, and with the old node', async () => {
    const forced = await marked()
    const hardState = { term: 3, vote: undefined }
    await forced.store.force({ clusterId: 'c2', hardState, entries: [entryOf(11, 3)] })
    assert.equal(forced.store.damage(), undefined)
    const over = await marked()
    await over.store.close()
    await DiskLogStore.startOver(over.engine)
    assert.equal((await DiskLogStore.open(over.engine)).damage(), undefined)
  })

  it('is refused where the disk has changed it', async () => {
    const { engine, store } = await marked()
    await store.close()
    const environment = await engine.openLog('log', ['log', 'stable'])
    const value = Buffer.from('nonsense')
    await environment.commit([
      { type: 'put', database: 'stable', key: Buffer.from('damage'), value },
    ])
    await environment.close()
    const again = await DiskLogStore.open(engine)
    assert.throws(() => again.damage(), CorruptLogError)
  })
})

describe('a damaged log is refused', () => {
  // Who the node was may be damaged itself: then nobody can take its place.
  const operatorText =
    /must not vote again\. Do not copy files.*(--rejoin host:peerport.*empties memory|RAFT REMOVE its id.*empty memory.*--join host:peerport)/

  async function assertRefused(
    damage: (engine: MemoryEngine) => void,
    text: RegExp,
  ): Promise<void> {
    const engine = await engineWithLog()
    damage(engine)
    await assert.rejects(DiskLogStore.open(engine), (error: Error) => {
      assert.ok(error instanceof CorruptLogError, `${error}`)
      assert.equal(error.code, 'CORRUPT_LOG')
      assert.match(error.message, text)
      assert.match(error.message, operatorText)
      return true
    })
    // Refusing closes what was opened: the operator may look at it.
    await engine.drop('log')
  }

  it('a hole', () =>
    assertRefused((engine) => engine.tamper('log', 'log', key(5), undefined), /entry 5 .* missing/))

  it('a missing beginning', () =>
    assertRefused((engine) => engine.tamper('log', 'log', key(1), undefined), /entry 1 .* missing/))

  it('any flipped byte of an entry', async () => {
    const { length } = encodeEntry(entryOf(5, 2))
    for (let at = 0; at < length; at++) {
      const bytes = Uint8Array.from(encodeEntry(entryOf(5, 2)))
      bytes[at] = (bytes[at] ?? 0) ^ 0x10
      await assertRefused(
        (engine) => engine.tamper('log', 'log', key(5), bytes),
        /entry 5 .* damaged/,
      )
    }
  })

  it('an entry in the place of another', () =>
    assertRefused(
      (engine) => engine.tamper('log', 'log', key(10), encodeEntry(entryOf(4, 2))),
      /entry 4 .* another one's place|deleted|missing/,
    ))

  it('an entry that compaction had deleted', async () => {
    const engine = await engineWithLog()
    const store = await DiskLogStore.open(engine)
    await store.compact(6)
    await store.close()
    engine.tamper('log', 'log', key(3), encodeEntry(entryOf(3, 2)))
    await assert.rejects(DiskLogStore.open(engine), /entry 3 is in the log although/)
  })

  it('a falling term', () =>
    assertRefused(
      (engine) => engine.tamper('log', 'log', key(9), encodeEntry(entryOf(9, 1))),
      /entry 9 .* term 1, after term 2/,
    ))

  it('a flipped bit of term and vote', () =>
    assertRefused((engine) => {
      const sealed = sealFrame(LOG_FORMAT_VERSION, ['a', 'c1', 2, 'v', 0, 0, 1])
      sealed[sealed.length - 4] = (sealed[sealed.length - 4] ?? 0) ^ 1
      engine.tamper('log', 'stable', Buffer.from('stable'), sealed)
    }, /record of this node has a bad checksum/))

  it('no record of the node', () =>
    assertRefused(
      (engine) => engine.tamper('log', 'stable', Buffer.from('stable'), undefined),
      /no record of its node/,
    ))

  it('while it runs, too', async () => {
    const engine = await engineWithLog()
    const store = await DiskLogStore.open(engine)
    engine.tamper('log', 'log', key(7), undefined)
    assert.equal(store.entries(1, 7, 1e9).length, 6)
    assert.throws(() => store.entries(1, 9, 1e9), CorruptLogError)
    assert.throws(() => store.entries(7, 8, 1e9), CorruptLogError)
    engine.tamper('log', 'log', key(9), undefined)
    assert.throws(() => store.entries(9, 10, 1e9), CorruptLogError)
  })
})

describe('a log of another build', () => {
  it('is refused, whatever else its record holds', async () => {
    for (const fields of [['a', 'c1', 2, 'v', 0, 0, 1], [], [[1, 2], 'new']]) {
      const engine = await engineWithLog()
      engine.tamper(
        'log',
        'stable',
        Buffer.from('stable'),
        sealFrame(LOG_FORMAT_VERSION + 1, fields),
      )
      await assert.rejects(DiskLogStore.open(engine), (error: Error) => {
        assert.ok(error instanceof FormatVersionError)
        const [found, known] = [LOG_FORMAT_VERSION + 1, LOG_FORMAT_VERSION]
        assert.match(error.message, RegExp(`format version ${found}, this build knows ${known}`))
        return true
      })
    }
  })
})
