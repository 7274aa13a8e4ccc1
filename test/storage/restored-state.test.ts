/*
 * A data directory made from a stream: it starts as a node that stands where the state does, in a cluster of its own;
 * a stream that is not whole leaves nothing, and so does a crash before the last step.
 */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import type { Entry } from '../../raft/types.ts'
import { limits } from '../../src/config.ts'
import type { Chunk, Engine } from '../../storage/engine.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { DiskLogStore } from '../../storage/log-store.ts'
import { NamelessStateError, openStorage } from '../../storage/open.ts'
import { type Birth, reinstallState, restoreState } from '../../storage/restored-state.ts'
import { DamagedStreamError } from '../../storage/state-build.ts'
import { DATABASES, STATE_DATABASES } from '../../storage/state-meta.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { MemoryEngine } from './memory-engine.ts'
import { scratchDirectory } from './scratch.ts'
import { applyTo, entryAt } from './workload.ts'

const OPTIONS = { memtableBytes: 1 << 30, cacheBytes: 0, views: limits.stateViews, now: () => 0 }
const LAST = 40

/** The state at entry LAST, which only changed the membership. */
async function stateAt(hasMembership = true): Promise<StateStore> {
  const { state } = await openStorage(new MemoryEngine(), OPTIONS)
  for (let index = 1; index < LAST; index++) applyTo(state, entryAt(index))
  const { term } = entryAt(LAST)
  const membership = membershipOf('a'.repeat(40))
  state.commitEntry({ index: LAST, term, clock: LAST * 10, ...(hasMembership && { membership }) })
  return state
}

async function chunksOf(hasMembership = true): Promise<readonly Chunk[]> {
  const state = await stateAt(hasMembership)
  await state.checkpoint()
  const stream = await state.stream(4096)
  const chunks: Chunk[] = []
  for (let chunk = await stream.next(); chunk !== undefined; chunk = await stream.next()) {
    chunks.push(chunk)
  }
  await stream.close()
  await state.close()
  return chunks
}

/** Every key and every value. */
function contents(state: StateStore): readonly string[] {
  const found: string[] = []
  for (let database = 0; database < DATABASES; database++) {
    state.range(database, 0, (_position, key, load) => {
      found.push(`${database} ${key} ${Buffer.from(load().value).toString('hex')}`)
      return true
    })
  }
  return found.sort()
}

function assertSame(state: StateStore, expected: StateStore): void {
  assert.deepEqual(contents(state), contents(expected))
  assert.ok(contents(state).length > 5)
  assert.equal(state.clock(), expected.clock())
}

function membershipOf(id: string) {
  return { members: [{ id, peerAddress: 'h:1', clientAddress: 'h:2', role: 'voter' }] } as const
}

async function* iterated(chunks: readonly Chunk[], failure?: Error): AsyncGenerator<Chunk, void> {
  for (const chunk of chunks) yield await Promise.resolve(chunk.slice())
  if (failure !== undefined) throw failure
}

function birth(nodeId: string): Birth {
  const term = entryAt(LAST).term + 1
  const payload = { type: 'membership', membership: membershipOf(nodeId) } as const
  const entry: Entry = { index: LAST + 1, term, payload, encoded: undefined }
  return { clusterId: 'new', hardState: { term, vote: undefined }, entries: [entry] }
}

async function assertRestored(engine: Engine): Promise<void> {
  const { log, state } = await openStorage(engine, OPTIONS)
  assert.equal(log.identity().clusterId, 'new')
  assert.deepEqual(log.base(), { index: LAST, term: entryAt(LAST).term })
  assert.equal(log.lastIndex(), LAST + 1)
  assert.deepEqual(log.hardState(), { term: entryAt(LAST).term + 1, vote: undefined })
  const [entry] = log.entries(LAST + 1, LAST + 2, 1 << 20)
  assert.deepEqual(entry?.payload, birth(log.identity().nodeId).entries[0]?.payload)
  assert.equal(state.appliedIndex(), LAST)
  assertSame(state, await stateAt())
  await state.close()
  await log.close()
  assert.deepEqual([...engine.list()].sort(), ['log', 'state-2'])
}

const scratch = scratchDirectory()
let directories = 0
after(() => scratch.remove())

const engines: readonly (readonly [string, () => Engine])[] = [
  ['memory', () => new MemoryEngine()],
  ['LMDB', () => new LmdbEngine(join(scratch.path, `${++directories}`), assert.fail)],
]

for (const [name, create] of engines) {
  describe(`a state restored on ${name}`, () => {
    it('is a node that starts, and goes on behind the state', async () => {
      const engine = create()
      const { last } = await restoreState(engine, iterated(await chunksOf()), birth)
      assert.deepEqual(last, { index: LAST, term: entryAt(LAST).term })
      await assertRestored(engine)
    })

    it('leaves nothing when the stream is not whole, and can be tried again', async () => {
      const engine = create()
      const chunks = await chunksOf()
      const flipped = chunks.map((chunk) => chunk.slice())
      const some = flipped[1]
      assert.ok(some !== undefined && chunks.length > 2)
      some[100] = (some[100] ?? 0) ^ 1
      const attempts: readonly (readonly [AsyncIterable<Chunk>, new (text: string) => Error])[] = [
        [iterated(flipped), DamagedStreamError],
        [iterated(chunks.slice(0, -1)), DamagedStreamError],
        [iterated([]), DamagedStreamError],
        [iterated(await chunksOf(false)), DamagedStreamError],
        [iterated(chunks, new RangeError('unreadable')), RangeError],
      ]
      for (const [stream, error] of attempts) {
        await assert.rejects(restoreState(engine, stream, birth), error)
        assert.deepEqual(engine.list(), [])
      }
      await restoreState(engine, iterated(chunks), birth)
      await assertRestored(engine)
    })
  })
}

it('stands for nothing before its last step: a start after a crash refuses what is left', async () => {
  const engine = new MemoryEngine()
  let built: readonly string[] = []
  const attempt = restoreState(engine, iterated(await chunksOf()), () => {
    // Here everything is built and verified; whoever starts now must not take it for a state.
    built = [...engine.list()].sort()
    throw new Error('as if it had ended here')
  })
  await assert.rejects(attempt, /as if/)
  assert.deepEqual(built, ['log', 'state-2'])
  assert.deepEqual(engine.list(), [])
  // At each step: the state is begun; it is whole; the log is there and binds nobody.
  const builder = await engine.buildState('state-2', STATE_DATABASES)
  const begun = (await chunksOf())[0] ?? assert.fail('no chunk')
  await builder.add(begun)
  engine.crash()
  await assert.rejects(openStorage(engine, OPTIONS), NamelessStateError)
  // The log that this start has made changes nothing: nor does the next one begin without data.
  assert.deepEqual([...engine.list()].sort(), ['log', 'state-2'])
  await assert.rejects(openStorage(engine, OPTIONS), {
    name: 'NamelessStateError',
    message: /memory holds a state, but no log.*a restore into it was cut off.*Empty the directory/,
  })
})

it('a node that begins anew does not begin with what was left half-built beside its damaged log', async () => {
  const engine = new MemoryEngine()
  const { log, state } = await openStorage(engine, OPTIONS)
  await log.bind({ clusterId: 'c', hardState: { term: 1, vote: 'v' }, entries: [] })
  const { nodeId } = log.identity()
  await state.close()
  await log.close()
  // Another member's state was on its way when the process was killed.
  const builder = await engine.buildState('state-2', STATE_DATABASES)
  for (const chunk of await chunksOf()) await builder.add(chunk)
  engine.crash()
  assert.equal(await DiskLogStore.startOver(engine), nodeId)
  const anew = await openStorage(engine, OPTIONS)
  assert.deepEqual(contents(anew.state), [])
  assert.deepEqual([...engine.list()].sort(), ['log', 'state-3'])
})

describe('a state that replaces a damaged one', () => {
  /** A node whose log has the entries from `base` + 1 to `last`, and whose state is at `base`. */
  async function nodeWith(base: number, last: number, behind = 0): Promise<MemoryEngine> {
    const engine = new MemoryEngine()
    const { log, state } = await openStorage(engine, OPTIONS)
    const term = entryAt(LAST).term - behind
    await log.bind({ clusterId: 'c', hardState: { term, vote: 'v' }, entries: [] })
    const entries = Array.from({ length: last }, (_, i) => entryAt(i + 1))
    await log.persist({ hardState: undefined, entries })
    for (const entry of entries.slice(0, base)) applyTo(state, entry)
    await state.checkpoint()
    await log.compact(base)
    await state.close()
    await log.close()
    return engine
  }

  for (const [base, last, kept] of [
    [10, LAST + 5, true],
    [LAST, LAST + 5, true],
    [10, LAST, true],
    [10, LAST - 5, false],
  ] as const) {
    it(`over a log from ${base} to ${last}, which ${kept ? 'stays' : 'goes'}`, async () => {
      const engine = await nodeWith(base, last)
      await reinstallState(engine, iterated(await chunksOf()))
      const { log, state } = await openStorage(engine, OPTIONS)
      assert.equal(state.appliedIndex(), LAST)
      assertSame(state, await stateAt())
      assert.deepEqual(log.hardState(), { term: entryAt(LAST).term, vote: 'v' })
      assert.equal(log.identity().clusterId, 'c')
      assert.deepEqual([log.base().index, log.lastIndex()], kept ? [base, last] : [LAST, LAST])
      await state.close()
      await log.close()
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-2'])
    })
  }

  it('brings its term to a node that has not heard of it, and then without a vote', async () => {
    const engine = await nodeWith(10, LAST - 5, 1)
    await reinstallState(engine, iterated(await chunksOf()))
    const { log, state } = await openStorage(engine, OPTIONS)
    assert.deepEqual(log.hardState(), { term: entryAt(LAST).term, vote: undefined })
    assert.deepEqual(log.base(), { index: LAST, term: entryAt(LAST).term })
    await state.close()
    await log.close()
  })

  it('is refused when it is damaged, or older than what the log begins with; nothing has changed', async () => {
    const engine = await nodeWith(LAST + 1, LAST + 5)
    const attempts: readonly (readonly [AsyncIterable<Chunk>, RegExp])[] = [
      [
        iterated(await chunksOf()),
        /the state stands at entry 40, and the log begins after entry 41/,
      ],
      [iterated((await chunksOf()).slice(0, -1)), /the stream ends after/],
      [iterated([], new Error('no node')), /no node/],
    ]
    for (const [chunks, why] of attempts) {
      await assert.rejects(reinstallState(engine, chunks), why)
      const { log, state } = await openStorage(engine, OPTIONS)
      assert.equal(state.appliedIndex(), LAST + 1)
      await state.close()
      await log.close()
      assert.deepEqual([...engine.list()].sort(), ['log', 'state-1'])
    }
  })
})
