/*
 * The state store's parts one by one: memtable, checkpoint, bounds, and damage that must be found. The whole of it
 * against a plain model: state-model.test.ts.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { AssertionError } from '../../raft/assert.ts'
import type { Membership } from '../../raft/types.ts'
import { DiskKeyWriter } from '../../storage/layout.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { keysChanging } from '../../storage/page-bytes.ts'
import { CorruptStateError } from '../../storage/record.ts'
import { FormatVersionError, sealFrame } from '../../storage/sealed-frame.ts'
import {
  decodeMeta,
  META_KEY,
  REMOVED_MAX,
  STATE_FORMAT_VERSION,
} from '../../storage/state-meta.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { MemoryEngine } from './memory-engine.ts'
import { scratchDirectory } from './scratch.ts'
import { commit, HASH_KEY, openStore, put, startedStore, stored, text } from './store-fixture.ts'

describe('the memtable', () => {
  it('owns its values: a caller may reuse its memory', async () => {
    const { store } = await startedStore(new MemoryEngine())
    const chunk = Buffer.alloc(64 * 1024, 1)
    store.put(0, 'k', { type: 'string', expireAt: 0, version: 2, value: chunk.subarray(5, 6) })
    commit(store)
    chunk.fill(9)
    const { value } = store.get(0, 'k') ?? assert.fail()
    assert.deepEqual([...value], [1])
    assert.notEqual(value.buffer, chunk.buffer)
  })

  it('takes writes while its predecessor is written, and says when both are full', async () => {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine)
    const fill = (): void => {
      while (!store.isFull()) put(store, `k${store.appliedIndex()}`, 'v'.repeat(100))
    }
    fill()
    assert.equal(store.canWrite(), true, 'full, but nothing is in its way')
    engine.holdCommits()
    const first = store.checkpoint()
    assert.equal(store.canWrite(), true)
    assert.equal(store.isFull(), false)
    assert.equal(store.metrics().checkpointing, true)
    fill()
    assert.equal(store.canWrite(), false)
    assert.equal(store.checkpoint(), first, 'one at a time')
    await engine.releaseCommits()
    await first
    assert.equal(store.canWrite(), true)
    await store.checkpoint()
    assert.equal(store.metrics().memtableBytes, 0)
    assert.equal(store.metrics().frozenBytes, 0)
    assert.equal(store.durableAt().index, store.appliedIndex())
  })

  it('is full with the keys that lie on as many pages of a large state as a checkpoint may change', async () => {
    const [memtableBytes, checkpointPagesMax] = [1 << 30, 4]
    const { store, environment } = await startedStore(new MemoryEngine(), {
      ...{ memtableBytes, checkpointPagesMax },
    })
    const fill = (keys: number): void => {
      for (let key = 0; key < keys; key++) put(store, `k${key}`, 'v'.repeat(1000))
    }
    // A state of fewer pages has no such bound.
    fill(100)
    assert.equal(store.isFull(), false)
    await store.checkpoint()
    // The memtable that begins with a checkpoint has the bound of what is on disk then.
    fill(100)
    assert.equal(store.isFull(), false)
    await store.checkpoint()
    const most = keysChanging(checkpointPagesMax, environment)
    assert.ok(most >= 4 && most < 10, `${most} keys`)
    fill(most - 1)
    fill(most - 1)
    assert.equal(store.isFull(), false, 'a key counts once')
    fill(most)
    assert.equal(store.isFull(), true)
    const first = store.checkpoint()
    fill(most)
    assert.equal(store.canWrite(), false)
    await first
    assert.equal(store.canWrite(), true)
  })
})

describe('the length of a value', () => {
  const LARGE = 70_000
  const large = (more: number): string => 'v'.repeat(LARGE + more)

  it('is known wherever the value is, whatever was written since', async () => {
    const { store } = await startedStore(new MemoryEngine())
    const lengths = (): number[] => ['large', 'small', 'gone'].map((key) => store.lengthOf(0, key))
    put(store, 'large', large(0))
    put(store, 'small', 'v')
    put(store, 'gone', large(1))
    assert.deepEqual(lengths(), [LARGE, 1, LARGE + 1])
    await store.checkpoint()
    for (let time = 0; time < 2; time++) assert.deepEqual(lengths(), [LARGE, 1, LARGE + 1])
    assert.equal(store.lengthOf(1, 'large'), 0)
    put(store, 'large', large(2))
    store.delete(0, 'gone')
    commit(store)
    assert.deepEqual(lengths(), [LARGE + 2, 1, 0])
    await store.checkpoint()
    assert.deepEqual(lengths(), [LARGE + 2, 1, 0])
    store.clear(0)
    commit(store)
    assert.deepEqual(lengths(), [0, 0, 0])
  })

  it('of one that is on disk only is read once between two checkpoints', async () => {
    const { store, environment } = await startedStore(new MemoryEngine())
    put(store, 'large', large(0))
    await store.checkpoint()
    let reads = 0
    const get = environment.get.bind(environment)
    environment.get = (...asked) => {
      reads++
      return get(...asked)
    }
    for (let time = 0; time < 3; time++) assert.equal(store.lengthOf(0, 'large'), LARGE)
    assert.equal(reads, 1)
    put(store, 'other', 'v')
    await store.checkpoint()
    reads = 0
    assert.equal(store.lengthOf(0, 'large'), LARGE)
    assert.equal(reads, 1)
  })
})

describe('a checkpoint', () => {
  it('keeps which keys came and went, so that a transaction that watched one of them is still lost', async () => {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine)
    put(store, 'there', 'v')
    const since = store.newestKey
    assert.equal(since, 2)
    put(store, 'gone', 'v', { database: 1, expireAt: 5 })
    store.delete(1, 'gone')
    commit(store)
    put(store, 'there', 'newer')
    const asked = (one: StateStore) => [
      one.createdSince(1, 'gone', since),
      one.createdSince(1, 'gone', since + 1),
      one.createdSince(0, 'gone', since),
      one.createdSince(0, 'there', since),
    ]
    assert.deepEqual(asked(store), [true, false, false, false])
    await store.checkpoint()
    await store.close()
    const again = await openStore(engine)
    assert.deepEqual(asked(again.store), [true, false, false, false])
    assert.equal(again.store.newestKey, since + 1)
    put(again.store, 'expires', 'v', { expireAt: 9 })
    put(again.store, 'expires', 'v', { expireAt: 9 })
    // It may have been due: then it was missing for whoever watched it.
    assert.equal(again.store.createdSince(0, 'expires', again.store.appliedIndex() - 1), true)
    await again.store.close()
  })

  it('carries index, term, clock, membership and hash key, without any key too', async () => {
    const engine = new MemoryEngine()
    const { store } = await openStore(engine)
    const addresses = { peerAddress: 'p:1', clientAddress: 'c:1' }
    const membership: Membership = { members: [{ id: 'n', role: 'voter', ...addresses }] }
    store.commitEntry({ index: 1, term: 3, clock: 0, membership })
    await store.checkpoint()
    store.setHashKey(HASH_KEY)
    store.commitEntry({ index: 2, term: 4, clock: 1_700_000_000_123 })
    await store.checkpoint()
    await store.close()
    const { store: again } = await openStore(engine)
    assert.deepEqual(again.durableAt(), { index: 2, term: 4 })
    assert.equal(again.appliedTerm(), 4)
    assert.equal(again.clock(), 1_700_000_000_123)
    assert.deepEqual(again.membership(), membership)
    assert.deepEqual(Buffer.from(again.hashKey() ?? []), HASH_KEY)
  })

  it('remembers who was removed, the last of them for ever long', async () => {
    const engine = new MemoryEngine()
    const { store } = await openStore(engine)
    const of = (...ids: string[]): Membership => ({
      members: ids.map((id) => ({ id, role: 'voter', peerAddress: 'p:1', clientAddress: 'c:1' })),
    })
    let index = 0
    const commit = (membership?: Membership): void =>
      store.commitEntry({ index: ++index, term: 1, clock: 0, ...(membership && { membership }) })
    commit(of('a', 'b', 'c'))
    commit(of('a', 'b'))
    commit()
    commit(of('b', 'd'))
    await store.checkpoint()
    await store.close()
    const { store: again } = await openStore(engine)
    assert.deepEqual(
      ['a', 'b', 'c', 'd', 'x'].map((id) => again.wasRemoved(id)),
      [true, false, true, false, false],
    )
    index = 4
    for (let n = 0; n <= REMOVED_MAX; n++) {
      again.commitEntry({ index: ++index, term: 1, clock: 0, membership: of('b', `n${n}`) })
    }
    assert.deepEqual(
      ['a', 'c', 'd', 'n0', `n${REMOVED_MAX - 1}`].map((id) => again.wasRemoved(id)),
      [false, false, false, true, true],
    )
  })

  it('of nothing new resolves at once', async () => {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine)
    await store.checkpoint()
    engine.holdCommits()
    assert.deepEqual(await store.checkpoint(), { index: 1, term: 1 })
  })

  it('leaves the same digest, however the same state came about', async () => {
    const digests = async (write: (store: StateStore) => Promise<void>): Promise<unknown> => {
      const { store, environment } = await startedStore(new MemoryEngine())
      await write(store)
      while (store.appliedIndex() < 20) commit(store)
      store.put(0, 'last', stored(21, 'z'))
      commit(store)
      await store.checkpoint()
      return decodeMeta(environment.get('meta', META_KEY)).digests
    }
    const set = (store: StateStore, key: string, version: number): void => {
      store.put(0, key, stored(version, `${key}${version}`))
    }
    const coalesced = await digests(async (store) => {
      set(store, 'a', 3)
      set(store, 'b', 4)
      commit(store)
    })
    const stepwise = await digests(async (store) => {
      for (const key of ['a', 'gone', 'b']) {
        set(store, key, 2)
        commit(store)
        await store.checkpoint()
      }
      store.delete(0, 'gone')
      set(store, 'a', 3)
      commit(store)
      await store.checkpoint()
      set(store, 'b', 4)
      commit(store)
      await store.checkpoint()
    })
    const cleared = await digests(async (store) => {
      set(store, 'other', 2)
      commit(store)
      await store.checkpoint()
      store.clear(0)
      set(store, 'a', 3)
      set(store, 'b', 4)
      commit(store)
    })
    const different = await digests(async (store) => {
      set(store, 'a', 3)
      set(store, 'b', 5)
      commit(store)
    })
    assert.deepEqual(stepwise, coalesced)
    assert.deepEqual(cleared, coalesced)
    assert.notDeepEqual(different, coalesced)
  })

  it('that fails is fatal, stays failed, and changes nothing', async () => {
    const reasons: string[] = []
    const engine = new MemoryEngine((reason) => reasons.push(reason))
    const { store } = await startedStore(engine)
    engine.failCommits('EIO')
    await assert.rejects(store.checkpoint(), /EIO/)
    await assert.rejects(store.checkpoint(), /EIO/)
    assert.deepEqual(reasons, ['EIO'])
    assert.equal(store.durableAt().index, 0)
  })

  it('lets the loop go on', async () => {
    const scratch = scratchDirectory()
    try {
      const { store } = await startedStore(new LmdbEngine(scratch.path, assert.fail))
      for (let i = 0; i < 50_000; i++) store.put(0, `key:${i}`, stored(2, 'v'.repeat(100)))
      commit(store)
      let turns = 0
      let done = false
      const turn = (): void => {
        turns++
        if (!done) setImmediate(turn)
      }
      turn()
      await store.checkpoint()
      done = true
      // A chunk holds 1,000 writes at most, and after each of them the loop has its turn.
      assert.ok(turns > 50, `${turns} turns of the loop`)
      assert.equal(store.size(0), 50_000)
      assert.equal(text(store, 'key:49999'), 'v'.repeat(100))
      await store.close()
    } finally {
      scratch.remove()
    }
  })

  it('writes values around the size of a chunk, between small ones', async () => {
    const { store } = await startedStore(new MemoryEngine())
    // What an item costs beside its value is less than 64 bytes.
    const sizes = Array.from({ length: 130 }, (_, i) => 256 * 1024 - 65 + i).concat(
      600_000,
      524_288,
      16_384,
      16_385,
    )
    for (const size of sizes) {
      put(store, `before ${size}`, 'small')
      store.put(0, `at ${size}`, stored(store.appliedIndex() + 1, Buffer.alloc(size, `${size} `)))
      commit(store)
    }
    const key = 'k'.repeat(300_000)
    put(store, key, 'the value of a large key')
    await store.checkpoint()
    assert.equal(text(store, key), 'the value of a large key')
    assert.equal(store.delete(0, key), true)
    commit(store)
    await store.checkpoint()
    assert.equal(text(store, key), undefined)
    assert.equal(store.size(0), 2 * sizes.length)
    for (const size of sizes) {
      const { value } = store.get(0, `at ${size}`) ?? {}
      assert.equal(Buffer.compare(value ?? Buffer.alloc(0), Buffer.alloc(size, `${size} `)), 0)
      assert.equal(text(store, `before ${size}`), 'small')
    }
    await store.close()
  })

  it('takes values of 64 MiB', async () => {
    const scratch = scratchDirectory()
    try {
      const engine = new LmdbEngine(scratch.path, assert.fail)
      const { store } = await startedStore(engine)
      const big = Buffer.alloc(64 * 1024 * 1024, 'big')
      store.put(3, 'big', stored(2, big))
      store.put(3, 'y'.repeat(5000), stored(2, big.subarray(0, 20_000_000)))
      commit(store)
      await store.checkpoint()
      assert.equal(Buffer.compare(store.get(3, 'big')?.value ?? big.subarray(1), big), 0)
      put(store, 'big', 'small', { database: 3 })
      await store.checkpoint()
      await store.close()
      const { store: again } = await openStore(engine)
      assert.equal(text(again, 'big', 3), 'small')
      assert.equal(again.get(3, 'y'.repeat(5000))?.value.length, 20_000_000)
      assert.equal(again.size(3), 2)
      assert.equal(again.delete(3, 'big'), true)
      commit(again)
      await again.checkpoint()
      assert.equal(again.get(3, 'big'), undefined)
      await again.close()
    } finally {
      scratch.remove()
    }
  })
})

describe('what only a bug can do is an assertion', () => {
  it('writes without a hash key, out of order, or across a checkpoint', async () => {
    const { store } = await openStore(new MemoryEngine())
    assert.throws(() => store.put(0, 'k', stored(1, 'v')), AssertionError)
    store.setHashKey(HASH_KEY)
    assert.throws(() => store.setHashKey(HASH_KEY), AssertionError)
    assert.throws(() => store.checkpoint(), AssertionError, 'within an entry')
    store.commitEntry({ index: 1, term: 5, clock: 10 })
    for (const at of [
      { index: 1, term: 5, clock: 10 },
      { index: 3, term: 5, clock: 10 },
      { index: 2, term: 4, clock: 10 },
      { index: 2, term: 5, clock: 9 },
    ]) {
      assert.throws(() => store.commitEntry(at), AssertionError, JSON.stringify(at))
    }
    for (const number of [-1, 16, 0.5]) {
      assert.throws(() => store.put(number, 'k', stored(2, 'v')), AssertionError)
      assert.throws(() => store.get(number, 'k'), AssertionError)
      assert.throws(() => store.size(number), AssertionError)
    }
  })
})

describe('when a key expires', () => {
  it('is told of every layer, and needs no value where no key on disk expires', async () => {
    const { store, environment } = await startedStore(new MemoryEngine(), { cacheBytes: 0 })
    put(store, 'old', 'value')
    put(store, 'gone', 'value')
    await store.checkpoint()
    const read: string[] = []
    const get = environment.get.bind(environment)
    environment.get = (database, key) => {
      read.push(database)
      return get(database, key)
    }
    store.delete(0, 'gone')
    commit(store)
    put(store, 'new', 'value', { expireAt: 5000 })
    const told = (of: Pick<StateStore, 'expiryOf'>): (number | undefined)[] =>
      ['old', 'gone', 'new', 'never'].map((key) => of.expiryOf(0, key))
    const view = store.view() ?? assert.fail()
    assert.deepEqual(told(store), [0, undefined, 5000, undefined])
    assert.deepEqual(read, [], 'values were read')
    await store.checkpoint()
    for (const one of [store, view]) assert.deepEqual(told(one), [0, undefined, 5000, undefined])
    view.release()
  })
})

describe('a damaged state is found', () => {
  async function engineWithState(): Promise<MemoryEngine> {
    const engine = new MemoryEngine()
    const { store } = await startedStore(engine)
    put(store, 'k', 'value')
    put(store, 'other', 'value')
    put(store, 'l'.repeat(3000), 'value')
    await store.checkpoint()
    await store.close()
    return engine
  }

  const diskKey = (key: string): Uint8Array =>
    Buffer.from(new DiskKeyWriter(HASH_KEY).fromText(key))

  it('at any flipped byte of a record', async () => {
    const engine = await engineWithState()
    const { store, environment } = await openStore(engine, { cacheBytes: 0 })
    for (const name of ['k', 'l'.repeat(3000)]) {
      const record = environment.get('db0', diskKey(name)) ?? assert.fail()
      for (let at = 0; at < record.length; at += record.length > 100 ? 97 : 1) {
        const flipped = Uint8Array.from(record)
        flipped[at] = (flipped[at] ?? 0) ^ 0x40
        engine.tamper('state-1', 'db0', diskKey(name), flipped)
        assert.throws(() => store.get(0, name), CorruptStateError, `byte ${at}`)
      }
      engine.tamper('state-1', 'db0', diskKey(name), record.subarray(0, 10))
      assert.throws(() => store.get(0, name), CorruptStateError)
      engine.tamper('state-1', 'db0', diskKey(name), record)
      assert.equal(text(store, name), 'value')
    }
    const other = environment.get('db0', diskKey('other')) ?? assert.fail()
    engine.tamper('state-1', 'db0', diskKey('k'), other)
    assert.throws(() => store.get(0, 'k'), /damaged on disk.*--rejoin host:peerport/)
  })

  it('by the checkpoint that replaces it', async () => {
    const engine = await engineWithState()
    const { store } = await openStore(engine)
    engine.tamper('state-1', 'db0', diskKey('k'), Buffer.alloc(30))
    store.put(0, 'k', stored(store.appliedIndex() + 1, 'new'))
    commit(store)
    await assert.rejects(store.checkpoint(), CorruptStateError)
  })

  it('by the checkpoint that counts other keys than the store', async () => {
    const engine = await engineWithState()
    const { store } = await openStore(engine)
    put(store, 'k', 'new')
    engine.tamper('state-1', 'db0', diskKey('k'), undefined)
    await assert.rejects(store.checkpoint(), /place 0 has 4 keys on disk, not 3/)
  })

  it('in its own record', async () => {
    const engine = await engineWithState()
    engine.tamper('state-1', 'meta', META_KEY, sealFrame(STATE_FORMAT_VERSION, [1, 2]))
    await assert.rejects(openStore(engine), CorruptStateError)
    engine.crash()
    engine.tamper('state-1', 'meta', META_KEY, Buffer.alloc(40))
    await assert.rejects(openStore(engine), CorruptStateError)
  })

  it('or of another build', async () => {
    const engine = await engineWithState()
    engine.tamper('state-1', 'meta', META_KEY, sealFrame(9, ['whatever']))
    await assert.rejects(openStore(engine), FormatVersionError)
  })
})
