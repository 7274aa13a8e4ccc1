/*
 * The state store against a plain model, over memory and over LMDB: whatever is written, cleared, swapped,
 * checkpointed, viewed, lost and reopened, what it answers (values, counts, ranges, due keys) is the model's at that
 * index, and a view still answers what the model was when it was opened.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Engine } from '../../storage/engine.ts'
import { DiskKeyWriter, POSITIONS, positionOf } from '../../storage/layout.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { STATE_DATABASES } from '../../storage/state-meta.ts'
import {
  type DueKey,
  StateStore,
  type StateView,
  type StoredValue,
} from '../../storage/state-store.ts'
import { MemoryEngine } from './memory-engine.ts'
import { scratchDirectory } from './scratch.ts'

const HASH_KEY = Buffer.from('hash key')
const OPTIONS = {
  memtableBytes: 1 << 30,
  cacheBytes: 40_000,
  /** Fewer than there are keys, so both what is known of them and what is read is asked for. */
  expiringKeysMax: 4,
  views: { countMax: 3, ageMsMax: 1000, bytesMax: 1 << 30 },
  now: () => 0,
}

/**
 * Keys that have gone wrong somewhere: empty, prototype names, every byte, at and beyond the engine's limit, two at
 * one position, and enough of others for ranges to be cut in the middle.
 */
const KEYS = [
  '',
  'a',
  '__proto__',
  'constructor',
  '{t}49k6',
  '{t}4lou',
  '\u0000\r\n\u00ff',
  'x'.repeat(1961),
  'x'.repeat(1962),
  'x'.repeat(1963),
  'x'.repeat(1979),
  'y'.repeat(100_000),
  ...Array.from({ length: 12 }, (_, i) => `key:${i}`),
]
const diskKeys = new DiskKeyWriter(HASH_KEY)
const DISK_KEYS = new Map(KEYS.map((key) => [key, Buffer.from(diskKeys.fromText(key))]))
const USED = [0, 1, 15]

type Write =
  | { type: 'put'; database: number; key: string; value: Uint8Array; expireAt: number }
  | { type: 'delete'; database: number; key: string }
  | { type: 'clear'; database: number }
  | { type: 'swap'; database: number; other: number }
type Step =
  | { type: 'entry'; writes: readonly Write[] }
  | { type: 'checkpoint' | 'await' | 'reopen' | 'view' | 'release' }
  | { type: 'expire'; upTo: number; count: number }

const database = fc.constantFrom(...USED)
const key = fc.constantFrom(...KEYS)
const expireAt = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 6 }))
/** Small ones, and some that lie apart, in one chunk of a checkpoint or in several. */
const value = fc.oneof(
  { weight: 12, arbitrary: fc.uint8Array({ maxLength: 50 }) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.constantFrom(4096, 4097, 16_385, 262_144, 600_000),
        fc.integer({ min: 1, max: 250 }),
      )
      .map(([length, filling]) => new Uint8Array(length).fill(filling)),
  },
)
const write: fc.Arbitrary<Write> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant('put'),
      database,
      key,
      value,
      expireAt,
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('delete'), database, key }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('clear'), database }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('swap'), database, other: database }) },
)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant('entry'),
      writes: fc.array(write, { maxLength: 8, size: 'max' }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ type: fc.constantFrom('checkpoint', 'await', 'view', 'release') }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('expire'),
      upTo: fc.integer({ max: 7 }),
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('reopen') }) },
)

type Databases = Map<string, StoredValue>[]

/** Everything that was applied, by index, so that it can be replayed behind a checkpoint, and the model of it. */
class Model {
  entries: (readonly Write[])[] = []

  at(index: number): Databases {
    const databases: Databases = Array.from({ length: 16 }, () => new Map())
    for (const [offset, writes] of this.entries.slice(0, index).entries()) {
      for (const one of writes) applyToModel(databases, one, offset + 1)
    }
    return databases
  }
}

function applyToModel(databases: Databases, one: Write, index: number): void {
  const held = databases[one.database] ?? new Map()
  if (one.type === 'put') held.set(one.key, stored(one, index))
  else if (one.type === 'delete') held.delete(one.key)
  else if (one.type === 'clear') held.clear()
  else {
    databases[one.database] = databases[one.other] ?? new Map()
    databases[one.other] = held
  }
}

function stored(
  { value, expireAt }: { value: Uint8Array; expireAt: number },
  version: number,
): StoredValue {
  return { type: 'string', expireAt, version, value: Buffer.from(value) }
}

function applyEntry(store: StateStore, writes: readonly Write[]): void {
  const index = store.appliedIndex() + 1
  if (index === 1) store.setHashKey(HASH_KEY)
  for (const one of writes) {
    if (one.type === 'put') store.put(one.database, one.key, stored(one, index))
    else if (one.type === 'delete') {
      const existed = store.expiryOf(one.database, one.key) !== undefined
      assert.equal(store.delete(one.database, one.key), existed)
    } else if (one.type === 'clear') store.clear(one.database)
    else store.swap(one.database, one.other, index)
  }
  store.commitEntry({ index, term: 1, clock: store.clock() + 1 })
}

/** Keys of a model from a position on, as they lie on disk. */
function inOrder(held: Map<string, StoredValue>, from = 0): [number, string][] {
  return [...held.keys()]
    .map((one): [Buffer, string] => [DISK_KEYS.get(one) ?? assert.fail(), one])
    .sort(([a], [b]) => Buffer.compare(a, b))
    .map(([diskKey, one]): [number, string] => [positionOf(diskKey), one])
    .filter(([position]) => position >= from)
}

function assertEqual(found: StateStore | StateView, model: Databases): void {
  for (const number of USED) {
    const held = model[number] ?? new Map()
    assert.equal(found.size(number), held.size)
    // Before the values are: a value in the cache would tell as well.
    for (const one of KEYS) assert.equal(found.expiryOf(number, one), held.get(one)?.expireAt)
    for (const one of KEYS) assert.deepEqual(owned(found.get(number, one)), held.get(one))
    const positions = inOrder(held).map(([position]) => position)
    for (const from of [0, ...positions.slice(0, 2), (positions.at(-1) ?? 0) + 1, POSITIONS - 1]) {
      const visited: [number, string][] = []
      found.range(number, from, (position, name, load) => {
        visited.push([position, name])
        assert.deepEqual(owned(load()), held.get(name))
        return true
      })
      // In the order of positions; those of one position in any order.
      for (let i = 1; i < visited.length; i++) {
        assert.ok((visited[i - 1]?.[0] ?? 0) <= (visited[i]?.[0] ?? 0))
      }
      assert.deepEqual(visited.toSorted(), inOrder(held, from).toSorted())
    }
    let visits = 0
    found.range(number, 0, () => ++visits < 2)
    assert.equal(visits, Math.min(2, held.size))
  }
}

function owned(value: StoredValue | undefined): StoredValue | undefined {
  return value && { ...value, value: Buffer.from(value.value) }
}

function dueIn(model: Databases, upTo: number): DueKey[] {
  return model
    .flatMap((held, number) =>
      inOrder(held).map(([, name]) => {
        return { database: number, key: name, expireAt: held.get(name)?.expireAt ?? 0 }
      }),
    )
    .filter(({ expireAt }) => expireAt !== 0 && expireAt <= upTo)
    .sort((a, b) => a.expireAt - b.expireAt || a.database - b.database)
}

function assertDue(store: StateStore, model: Databases): void {
  const all = dueIn(model, Number.POSITIVE_INFINITY)
  for (const number of USED) {
    const expires = all.filter((due) => due.database === number)
    assert.equal(store.expires(number), expires.length)
    const next = store.nextExpiry(number)
    if (expires[0] === undefined) assert.equal(next, undefined)
    else assert.ok(next !== undefined && next <= expires[0].expireAt)
  }
  for (const [upTo, count] of [
    [3, 2],
    [4, 100],
    [0, 1],
  ] as const) {
    assert.deepEqual(store.dueKeys(upTo, count), dueIn(model, upTo).slice(0, count))
  }
  // Whoever was told of a time at which nothing was due is told a later one.
  const first = all[0]?.expireAt
  if (first !== undefined) store.dueKeys(first - 1, 1)
  const next = store.nextExpiry()
  if (first !== undefined) assert.ok(next !== undefined && next <= first)
}

class Run {
  readonly #engine: Engine
  readonly #model = new Model()
  #store: StateStore
  #running: Promise<unknown> = Promise.resolve()
  #views: { view: StateView; model: Databases }[] = []

  constructor(engine: Engine, store: StateStore) {
    this.#engine = engine
    this.#store = store
  }

  async step(at: Step): Promise<void> {
    const store = this.#store
    if (at.type === 'entry') this.#apply(at.writes)
    else if (at.type === 'checkpoint') this.#running = store.checkpoint()
    else if (at.type === 'await') await this.#running
    else if (at.type === 'reopen') await this.#reopen()
    else if (at.type === 'expire') this.#expire(at)
    else if (at.type === 'view') {
      const view = store.view()
      assert.equal(view === undefined, this.#views.length === OPTIONS.views.countMax)
      if (view) this.#views.push({ view, model: this.#model.at(store.appliedIndex()) })
    } else this.#views.shift()?.view.release()
    this.check()
  }

  check(): void {
    const model = this.#model.at(this.#store.appliedIndex())
    assertEqual(this.#store, model)
    assertDue(this.#store, model)
    for (const one of this.#views) assertEqual(one.view, one.model)
  }

  async close(): Promise<void> {
    await this.#store.close()
  }

  #apply(writes: readonly Write[]): void {
    this.#model.entries.push(writes)
    applyEntry(this.#store, writes)
  }

  /** As apply does it: removes what is due, a few at a time. */
  #expire({ upTo, count }: { upTo: number; count: number }): void {
    const due = this.#store.dueKeys(upTo, count)
    this.#apply(due.map(({ database, key }) => ({ type: 'delete', database, key })))
  }

  async #reopen(): Promise<void> {
    await this.#running
    await this.#store.close()
    for (const { view } of this.#views) assert.throws(() => view.get(0, 'a'), /view is closed/)
    this.#views = []
    this.#store = await openStore(this.#engine)
    // What no checkpoint made durable is gone, and comes back from the log.
    const durable = this.#store.durableAt().index
    assert.equal(this.#store.appliedIndex(), durable)
    this.check()
    for (const writes of this.#model.entries.slice(durable)) applyEntry(this.#store, writes)
  }
}

async function openStore(engine: Engine): Promise<StateStore> {
  return StateStore.open(await engine.openState('state-1', STATE_DATABASES), OPTIONS)
}

async function runModel(engine: Engine, steps: readonly Step[]): Promise<void> {
  const run = new Run(engine, await openStore(engine))
  for (const at of steps) await run.step(at)
  await run.close()
}

describe('the state store does whatever plain maps do', () => {
  const steps = fc.array(step, { maxLength: 60, size: 'max' })

  it('in memory', async () => {
    await fc.assert(
      fc.asyncProperty(steps, (list) => runModel(new MemoryEngine(), list)),
      { numRuns: 30 },
    )
  })

  it('in memory, with checkpoints that take long', async () => {
    await fc.assert(
      fc.asyncProperty(steps, steps, steps, async (before, during, after) => {
        const engine = new MemoryEngine()
        const run = new Run(engine, await openStore(engine))
        for (const at of before) await run.step(at)
        engine.holdCommits()
        await run.step({ type: 'checkpoint' })
        for (const at of during) {
          if (at.type !== 'await' && at.type !== 'reopen') await run.step(at)
        }
        await engine.releaseCommits()
        await run.step({ type: 'await' })
        for (const at of after) await run.step(at)
        await run.close()
      }),
      { numRuns: 10 },
    )
  })

  it('on LMDB', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const scratch = scratchDirectory()
        try {
          await runModel(new LmdbEngine(scratch.path, assert.fail), list)
        } finally {
          scratch.remove()
        }
      }),
      { numRuns: 8 },
    )
  })
})
