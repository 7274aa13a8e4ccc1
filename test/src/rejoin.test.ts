/*
 * What becomes of a data directory under --rejoin: a damaged one is given up for a new node that knows whom it was, in
 * one step; a sound one, an empty one, and one that nobody can name are left as they are.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { limits } from '../../src/config.ts'
import { openOrStartOver } from '../../src/rejoin.ts'
import { openStorage, type Storage } from '../../storage/open.ts'
import { CorruptStateError } from '../../storage/record.ts'
import { CorruptLogError } from '../../storage/stable-record.ts'
import { META_DATABASE, META_KEY } from '../../storage/state-meta.ts'
import { entriesOf } from '../storage/log-store-conformance.ts'
import { MemoryEngine } from '../storage/memory-engine.ts'

const OPTIONS = { memtableBytes: 1 << 20, cacheBytes: 0, views: limits.stateViews, now: () => 0 }
const CLUSTER = 'c'.repeat(40)
const STABLE = Buffer.from('stable')

const open = (engine: MemoryEngine): Promise<Storage> => openStorage(engine, OPTIONS)

async function close(storage: Storage): Promise<void> {
  await storage.state.close()
  await storage.log.close()
}

/** A closed directory of a member with entries 1 to 9. Returns its id. */
async function member(engine: MemoryEngine): Promise<string> {
  const storage = await open(engine)
  const { nodeId } = storage.log.identity()
  const hardState = { term: 3, vote: 'v' }
  await storage.log.bind({ clusterId: CLUSTER, hardState, entries: entriesOf(1, 10, 2) })
  await close(storage)
  return nodeId
}

function damageEntry(engine: MemoryEngine): void {
  const key = Buffer.alloc(8)
  key[7] = 5
  engine.tamper('log', 'log', key, Buffer.from('not what was written'))
}

async function rejoined(
  engine: MemoryEngine,
): Promise<{ readonly storage: Storage; readonly said: readonly string[] }> {
  const said: string[] = []
  const storage = await openOrStartOver({
    engine,
    open: () => open(engine),
    log: { warn: (_, text) => void said.push(text) },
  })
  return { storage, said }
}

describe('a damaged directory', () => {
  it('becomes that of a new, unbound node that remembers whom it replaces', async () => {
    const engine = new MemoryEngine()
    const old = await member(engine)
    damageEntry(engine)
    const { storage, said } = await rejoined(engine)
    const { log, state } = storage
    assert.match(said.join(), /^GAVE UP A DAMAGED STORE/)
    const { nodeId, clusterId } = log.identity()
    assert.notEqual(nodeId, old)
    assert.match(nodeId, /^[0-9a-f]{40}$/)
    assert.equal(clusterId, undefined)
    assert.deepEqual(log.hardState(), { term: 0, vote: undefined })
    assert.equal(log.lastIndex(), 0)
    assert.equal(state.appliedIndex(), 0)
    assert.equal(log.replaces(), old)
    // A start that came before it was welcome changes nothing; once it is, there is nobody left to replace.
    await close(storage)
    const again = await rejoined(engine)
    assert.deepEqual(again.said, [])
    assert.equal(again.storage.log.identity().nodeId, nodeId)
    assert.equal(again.storage.log.replaces(), old)
    const hardState = { term: 0, vote: undefined }
    await again.storage.log.bind({ clusterId: CLUSTER, hardState, entries: [] })
    assert.equal(again.storage.log.replaces(), undefined)
  })

  it('gives up a state that does not say what it is, and nothing of it stays open', async () => {
    const engine = new MemoryEngine()
    const old = await member(engine)
    engine.tamper('state-1', META_DATABASE, META_KEY, Buffer.from('not what was written'))
    await assert.rejects(open(engine), CorruptStateError)
    const { storage } = await rejoined(engine)
    assert.equal(storage.log.replaces(), old)
    assert.deepEqual([...engine.list()].sort(), ['log', 'state-2'])
  })

  it('is as damaged as before when the disk did not finish', async () => {
    const engine = new MemoryEngine()
    const old = await member(engine)
    damageEntry(engine)
    engine.holdCommits()
    void rejoined(engine)
    await new Promise((turn) => setImmediate(turn))
    engine.crash()
    await assert.rejects(open(engine), CorruptLogError)
    const { storage } = await rejoined(engine)
    assert.equal(storage.log.replaces(), old)
  })

  it('is refused when nobody can tell which node it was', async () => {
    const engine = new MemoryEngine()
    await member(engine)
    engine.tamper('log', 'stable', STABLE, Buffer.from('not what was written'))
    await assert.rejects(rejoined(engine), /which member this was cannot be read/)
  })

  it('still knows the member when it is damaged a second time before it was let in', async () => {
    const engine = new MemoryEngine()
    const old = await member(engine)
    damageEntry(engine)
    await close((await rejoined(engine)).storage)
    damageEntry(engine)
    const { storage } = await rejoined(engine)
    assert.equal(storage.log.replaces(), old)
  })
})

describe('what is not damaged is left alone', () => {
  it('a member', async () => {
    const engine = new MemoryEngine()
    const old = await member(engine)
    const { storage, said } = await rejoined(engine)
    assert.match(said.join(), /rejoin is not followed/)
    assert.equal(storage.log.identity().nodeId, old)
    assert.equal(storage.log.lastIndex(), 9)
  })

  it('an empty directory: it joins as any other', async () => {
    const { storage, said } = await rejoined(new MemoryEngine())
    assert.deepEqual(said, [])
    assert.equal(storage.log.replaces(), undefined)
    assert.equal(storage.log.identity().clusterId, undefined)
  })

  it('a directory that another fault keeps closed', async () => {
    const engine = new MemoryEngine()
    const old = await member(engine)
    const broken = (): Promise<Storage> => Promise.reject(new Error('no memory'))
    const log = { warn: () => assert.fail() }
    await assert.rejects(openOrStartOver({ engine, open: broken, log }), /no memory/)
    assert.equal((await open(engine)).log.identity().nodeId, old)
  })
})
