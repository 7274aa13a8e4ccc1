/*
 * A whole state as a stream: what goes in comes out, in chunks of whatever size; what is not exactly a stream is
 * refused; and a build believes nothing: each flipped byte, each lost, repeated or moved chunk is found.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { limits } from '../../src/config.ts'
import { type Chunk, KEY_BYTES_MAX, type Reads } from '../../storage/engine.ts'
import { CodecError } from '../../storage/integers.ts'
import { DamagedStreamError, StateBuild } from '../../storage/state-build.ts'
import { decodeMeta, META_KEY, STATE_DATABASES } from '../../storage/state-meta.ts'
import { StateStore } from '../../storage/state-store.ts'
import { StateStreamDecoder, StateStreamEncoder } from '../../storage/state-stream.ts'
import { MemoryEngine } from './memory-engine.ts'
import { applyTo, entryAt } from './workload.ts'

type Model = ReadonlyMap<string, ReadonlyMap<string, Uint8Array>>

/** Keys in latin1, so that their order as texts is that of their bytes. */
function readsOf(model: Model): Reads {
  const table = (database: string): [string, Uint8Array][] => {
    return [...(model.get(database) ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))
  }
  return {
    get: (database, key) => model.get(database)?.get(Buffer.from(key).toString('latin1')),
    has: () => assert.fail(),
    keys: () => assert.fail(),
    range: (database, from, visit) => {
      const start = Buffer.from(from).toString('latin1')
      for (const [key, value] of table(database)) {
        if (key >= start && !visit(Buffer.from(key, 'latin1'), value.slice())) return
      }
    },
  }
}

function chunksOf(reads: Reads, databases: readonly string[], chunkBytes: number): Chunk[] {
  const encoder = new StateStreamEncoder(reads, databases, chunkBytes)
  const chunks: Chunk[] = []
  for (let chunk = encoder.next(); chunk !== undefined; chunk = encoder.next()) chunks.push(chunk)
  return chunks
}

function decoded(chunks: readonly Uint8Array[]): { model: Model; complete: boolean } {
  const model = new Map<string, Map<string, Uint8Array>>()
  let table = new Map<string, Uint8Array>()
  const decoder = new StateStreamDecoder({
    database: (name) => {
      table = new Map()
      model.set(name, table)
    },
    record: (key, value) => table.set(Buffer.from(key).toString('latin1'), Uint8Array.from(value)),
  })
  for (const chunk of chunks) decoder.push(chunk)
  return { model, complete: decoder.isComplete }
}

const bytesMax = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength })
const keys = fc
  .uint8Array({ minLength: 1, maxLength: 30 })
  .map((key) => Buffer.from(key).toString('latin1'))
const models = fc
  .array(fc.tuple(keys, bytesMax(300)), { maxLength: 20 })
  .map((pairs) => new Map(pairs))

describe('a stream of a state', () => {
  it('brings what went in, in chunks of the size that was asked for', () => {
    fc.assert(
      fc.property(
        fc.array(models, { maxLength: 4 }),
        fc.integer({ min: 40, max: 600 }),
        (tables, chunkBytes) => {
          const model = new Map(tables.map((table, at) => [`db${at}`, table]))
          const chunks = chunksOf(readsOf(model), [...model.keys()], chunkBytes)
          for (const chunk of chunks) assert.ok(chunk.length > 0 && chunk.length <= chunkBytes)
          const found = decoded(chunks)
          assert.ok(found.complete)
          assert.deepEqual([...found.model.keys()], [...model.keys()])
          for (const [name, table] of model) {
            assert.deepEqual(
              [...(found.model.get(name) ?? [])],
              [...table]
                .map(([key, value]) => [key, Uint8Array.from(value)])
                .sort(([a = ''], [b = '']) => (a < b ? -1 : 1)),
            )
          }
        },
      ),
    )
  })

  it('carries the longest key, and a value of many chunks', () => {
    const value = Uint8Array.from({ length: 100_000 }, (_, i) => i)
    const model = new Map([['db0', new Map([['k'.repeat(KEY_BYTES_MAX), value]])]])
    const chunks = chunksOf(readsOf(model), ['db0'], 2048)
    assert.ok(chunks.length > 45)
    assert.deepEqual(decoded(chunks).model, model)
    assert.throws(() => chunksOf(readsOf(model), ['db0'], 1024), /too small/)
  })

  it('is complete only at its end, and refuses what comes behind it', () => {
    const model = new Map([['db0', new Map([['k', Uint8Array.of(1)]])]])
    const [stream = new Uint8Array(0)] = chunksOf(readsOf(model), ['db0'], 1000)
    assert.equal(decoded([stream.subarray(0, stream.length - 9)]).complete, false)
    assert.throws(() => decoded([stream.subarray(0, stream.length - 1)]), CodecError)
    assert.throws(() => decoded([stream, Uint8Array.of(1)]), CodecError)
    assert.throws(() => decoded([stream.subarray(8)]), CodecError)
  })

  it('never decodes garbage, whatever it is', () => {
    const begin = Buffer.from('HFSTATE\u0001', 'latin1')
    fc.assert(
      fc.property(bytesMax(200), (garbage) => {
        try {
          decoded([Buffer.concat([begin, garbage])])
        } catch (error) {
          assert.ok(error instanceof CodecError, String(error))
        }
      }),
    )
    const huge = Buffer.concat([begin, Buffer.from('02000140000001', 'hex')])
    assert.throws(() => decoded([huge]), CodecError)
  })
})

/** The state after `last` entries of the workload, with an expiring key, as a stream. */
async function workloadStream(last: number, chunkBytes: number): Promise<Chunk[]> {
  const environment = await new MemoryEngine().openState('state-1', STATE_DATABASES)
  const views = limits.stateViews
  const state = StateStore.open(environment, {
    memtableBytes: 1 << 30,
    cacheBytes: 1 << 20,
    views,
    now: () => 0,
  })
  for (let index = 1; index <= last; index++) applyTo(state, entryAt(index))
  const value = Buffer.from('v')
  state.put(0, 'due', { type: 'string', expireAt: 5000, version: last + 1, value })
  state.commitEntry({ index: last + 1, term: 9, clock: last * 10 })
  await state.checkpoint()
  const stream = await state.stream(chunkBytes)
  const chunks: Chunk[] = []
  for (let chunk = await stream.next(); chunk !== undefined; chunk = await stream.next()) {
    chunks.push(chunk)
  }
  await stream.close()
  await state.close()
  return chunks
}

/** What a build of these chunks would store. */
function built(chunks: readonly Uint8Array[]): Map<string, Buffer> {
  const stored = new Map<string, Buffer>()
  const build = new StateBuild(STATE_DATABASES, (database, key, value) => {
    stored.set(`${database} ${Buffer.from(key).toString('hex')}`, Buffer.from(value))
  })
  for (const chunk of chunks) build.add(chunk)
  build.finish()
  return stored
}

describe('a build', () => {
  it('stores the same state, and its own record last', async () => {
    const chunks = await workloadStream(80, 3000)
    assert.ok(chunks.length > 2)
    const stored = built(chunks)
    const [last = ''] = [...stored.keys()].slice(-1)
    assert.equal(last, `meta ${Buffer.from(META_KEY).toString('hex')}`)
    const { index, counts, expires } = decodeMeta(stored.get(last))
    assert.deepEqual([index, expires[0]], [81, 1])
    const records = counts.reduce((sum, count) => sum + count, 0)
    assert.equal(stored.size, records + 2, 'the expiry index and the record of the state')
  })

  it('finds every flipped byte', async () => {
    const [stream = new Uint8Array(0), ...rest] = await workloadStream(6, 1 << 20)
    assert.equal(rest.length, 0)
    for (let at = 0; at < stream.length; at++) {
      const damaged = Uint8Array.from(stream)
      damaged[at] = (damaged[at] ?? 0) ^ (1 << (at % 8))
      assert.throws(() => built([damaged]), DamagedStreamError, `byte ${at} of ${stream.length}`)
    }
  })

  it('finds chunks that are missing, doubled or out of order', async () => {
    const chunks = await workloadStream(60, 3000)
    const middle = chunks.length >> 1
    const [chunk = new Uint8Array(0)] = chunks.slice(middle)
    const wrong: (readonly Uint8Array[])[] = [
      [],
      chunks.slice(0, -1),
      chunks.toSpliced(middle, 1),
      chunks.toSpliced(middle, 0, chunk),
      chunks.toSpliced(middle, 1).toSpliced(middle + 1, 0, chunk),
      [...chunks, chunk],
      [...chunks, ...chunks],
    ]
    for (const sent of wrong) assert.throws(() => built(sent), DamagedStreamError)
  })

  it('refuses databases that it does not know, twice the same, or in another order', async () => {
    const meta = new Map([['meta', new Map<string, Uint8Array>()]])
    const refuses = (databases: readonly string[], text: RegExp): void => {
      const chunks = chunksOf(readsOf(meta), databases, 500)
      assert.throws(() => built(chunks), text)
    }
    refuses(['meta', 'db16'], /knows no database db16/)
    refuses(['meta', 'db0', 'db0'], /db0 comes twice/)
    refuses(['db0', 'meta'], /begins with database db0/)
    refuses(STATE_DATABASES, /ends after 0 records/)
  })
})
