/*
 * The engine port's contract, over memory and over LMDB; then what only LMDB's side of it has: files that change
 * behind its back, and the directory it lives in.
 */

import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { AssertionError } from '../../raft/assert.ts'
import { encodeCheckpointHeader } from '../../storage/checkpoint.ts'
import type {
  Chunk,
  Engine,
  LogEnvironment,
  Operation,
  StateEnvironment,
  StateStream,
} from '../../storage/engine.ts'
import { DiskKeyWriter, positionOf } from '../../storage/layout.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { Memtable } from '../../storage/memtable.ts'
import { RECORD_HEADER_BYTES, type StoredValue } from '../../storage/record.ts'
import type { ScrubPosition } from '../../storage/scrub.ts'
import { DamagedStreamError } from '../../storage/state-build.ts'
import {
  databaseName,
  decodeMeta,
  EMPTY_META,
  META_KEY,
  STATE_DATABASES,
} from '../../storage/state-meta.ts'
import { MemoryEngine } from './memory-engine.ts'
import { type Scratch, scratchDirectory } from './scratch.ts'

function bytes(text: string): Buffer {
  return Buffer.from(text)
}

function putOf(key: string, value: string, database = 'a'): Operation {
  return { type: 'put', database, key: bytes(key), value: bytes(value) }
}

function pairs(environment: LogEnvironment, from = '\u0001', limit = 1000): string[] {
  const found: string[] = []
  environment.range('a', bytes(from), (key, value) => {
    found.push(`${Buffer.from(key)}=${Buffer.from(value)}`)
    return found.length < limit
  })
  return found
}

function runEngineConformance(name: string, make: () => { engine: Engine; remove(): void }): void {
  describe(`engine: ${name}`, () => {
    let made: { engine: Engine; remove(): void }
    beforeEach(() => {
      made = make()
    })
    afterEach(() => made.remove())

    const openLog = (): Promise<LogEnvironment> => made.engine.openLog('log', ['a', 'b'])

    it('reads what was committed, in key order, also after a reopen', async () => {
      let log = await openLog()
      await log.commit([putOf('k2', 'two'), putOf('k1', 'one'), putOf('k1', 'b', 'b')])
      await log.commit([putOf('k10', ''), putOf('\u0000', 'nul')])
      for (let round = 0; round < 2; round++) {
        assert.deepEqual(pairs(log), ['k1=one', 'k10=', 'k2=two'])
        assert.deepEqual(pairs(log, '\u0000', 2), ['\u0000=nul', 'k1=one'])
        assert.deepEqual(pairs(log, 'k10'), ['k10=', 'k2=two'])
        assert.deepEqual(pairs(log, 'k3'), [])
        assert.equal(Buffer.from(log.get('a', bytes('k1')) ?? []).toString(), 'one')
        assert.equal(log.get('a', bytes('k10'))?.length, 0)
        assert.equal(log.get('a', bytes('k3')), undefined)
        assert.equal(log.has('b', bytes('k1')), true)
        assert.equal(log.has('b', bytes('k2')), false)
        assert.ok(log.bytes() > 0)
        await log.close()
        log = await openLog()
      }
      await log.close()
    })

    it('applies a batch in order and as a whole', async () => {
      const log = await openLog()
      await log.commit([putOf('x', '1'), putOf('y', '1'), putOf('k', '1', 'b')])
      await log.commit([
        { type: 'clear', database: 'a' },
        putOf('y', '2'),
        putOf('z', '2'),
        { type: 'remove', database: 'a', key: bytes('z') },
        { type: 'remove', database: 'a', key: bytes('never was') },
      ])
      assert.deepEqual(pairs(log), ['y=2'])
      assert.equal(log.has('b', bytes('k')), true)
      await log.close()
    })

    it('shows no part of a batch, and keeps the order of batches', async () => {
      const log = await openLog()
      const settled: number[] = []
      const commits = [1, 2, 3].map((n) =>
        log.commit([putOf('k', `${n}`), putOf(`only${n}`, '')]).then(() => {
          settled.push(n)
        }),
      )
      assert.deepEqual(pairs(log), [])
      await Promise.all(commits)
      assert.deepEqual(settled, [1, 2, 3])
      assert.deepEqual(pairs(log), ['k=3', 'only1=', 'only2=', 'only3='])
      await log.close()
    })

    it('gives memory that the caller owns', async () => {
      const log = await openLog()
      const big = 'b'.repeat(100_000)
      await log.commit([putOf('k1', 'one'), putOf('k2', big)])
      const first = log.get('a', bytes('k1'))
      const second = log.get('a', bytes('k2'))
      const ranged: Uint8Array[] = []
      log.range('a', bytes('k1'), (key, value) => ranged.push(key, value) > 0)
      first?.fill(0)
      log.get('a', bytes('k2'))
      assert.equal(Buffer.from(second ?? []).toString(), big)
      assert.equal(Buffer.from(ranged[1] ?? []).toString(), 'one')
      assert.equal(Buffer.from(ranged[3] ?? []).toString(), big)
      assert.equal(Buffer.from(log.get('a', bytes('k1')) ?? []).toString(), 'one')
      await log.close()
    })

    it('refuses keys out of bounds before anything of the batch is written', async () => {
      const log = await openLog()
      for (const key of ['', 'x'.repeat(1979)]) {
        const commit = async (): Promise<void> => log.commit([putOf('good', '1'), putOf(key, '1')])
        await assert.rejects(commit, AssertionError)
      }
      await log.commit([putOf('x'.repeat(1978), '1')])
      assert.deepEqual(pairs(log), [`${'x'.repeat(1978)}=1`])
      await log.close()
    })

    it('knows its databases, and its environments by name', async () => {
      const log = await openLog()
      assert.throws(() => log.get('c', bytes('k')), AssertionError)
      const state = await made.engine.openState('state-3', STATE_DATABASES)
      assert.deepEqual([...made.engine.list()].sort(), ['log', 'state-3'])
      await state.close()
      await made.engine.drop('state-3')
      assert.deepEqual(made.engine.list(), ['log'])
      await log.close()
    })

    const value = (text: string): StoredValue => {
      return { type: 'string', expireAt: 0, version: 1, value: bytes(text) }
    }

    /** Writes these values into database 0, as a checkpoint at `index`. */
    async function write(
      state: StateEnvironment,
      index: number,
      texts: readonly string[],
    ): Promise<void> {
      const hashKey = bytes('12345678')
      const diskKeys = new DiskKeyWriter(hashKey)
      const memtable = new Memtable()
      for (const [i, text] of texts.entries()) {
        memtable.put(0, positionOf(diskKeys.fromText(`k${i}`)), `k${i}`, value(text))
      }
      const { counts: _, digests: __, ...point } = EMPTY_META
      const header = encodeCheckpointHeader({ ...point, index, hashKey, cleared: [] })
      await state.checkpoint(header, (take) => memtable.chunks(take))
    }

    async function dump(state: StateEnvironment): Promise<readonly Chunk[]> {
      const stream = await state.stream(4096)
      const chunks = await rest(stream)
      await stream.close()
      return chunks
    }

    async function rest(stream: StateStream): Promise<Chunk[]> {
      const chunks: Chunk[] = []
      for (let chunk = await stream.next(); chunk !== undefined; chunk = await stream.next()) {
        chunks.push(chunk)
      }
      return chunks
    }

    const thousand = (text: string): string[] =>
      Array.from({ length: 600 }, (_, i) => `${text}${i}`)

    it('streams what was there when the stream was opened, while checkpoints go on', async () => {
      const state = await made.engine.openState('state-1', STATE_DATABASES)
      await write(state, 1, thousand('old'))
      const before = await dump(state)
      const stream = await state.stream(4096)
      const first = (await stream.next()) ?? assert.fail()
      await write(state, 2, thousand('new'))
      assert.deepEqual([first, ...(await rest(stream))], before)
      assert.equal(await stream.next(), undefined)
      await stream.close()
      assert.notDeepEqual(await dump(state), before)
      await state.close()
    })

    it('writes checkpoint after checkpoint of small and large values, each over those before', async () => {
      const state = await made.engine.openState('state-1', STATE_DATABASES)
      const diskKeys = new DiskKeyWriter(bytes('12345678'))
      // Twice the same size of each: a checkpoint checks the records that it finds.
      for (const [i, length] of [9, 70, 2_000, 5_000, 100_000, 100_000, 9, 9].entries()) {
        const texts = Array.from(
          { length: 30 },
          (_, n) => `${n}${'ab'.charAt(i % 2).repeat(length)}`,
        )
        await write(state, i + 1, texts)
        for (const key of ['k0', 'k29', 'k30']) {
          assert.equal(state.has(databaseName(0), diskKeys.fromText(key)), key !== 'k30')
        }
        const found: string[] = []
        state.range(databaseName(0), new Uint8Array([0]), (_key, record) => {
          found.push(Buffer.from(record.subarray(RECORD_HEADER_BYTES)).toString())
          return true
        })
        assert.deepEqual(found.sort(), texts.sort())
      }
      await state.close()
    })

    it('scrubs all of a state in pieces, while checkpoints go on', async () => {
      const state = await made.engine.openState('state-1', STATE_DATABASES)
      await write(state, 1, thousand('old'))
      let [read, pieces] = [0, 0]
      let at: ScrubPosition | undefined
      do {
        const { next, bytes } = await state.scrub(at, 2000)
        read += bytes
        at = next
        if (++pieces === 5) await write(state, 2, thousand('new'))
      } while (at !== undefined)
      assert.ok(pieces > 10 && read > 600 * 35, `${pieces} pieces, ${read} bytes`)
      await state.close()
    })

    it('builds the same state from a stream, beside the one in use', async () => {
      const state = await made.engine.openState('state-1', STATE_DATABASES)
      await write(state, 1, ['x'.repeat(50_000), ...thousand('v')])
      const chunks = await dump(state)
      for (let round = 0; round < 2; round++) {
        // The second time it replaces what the first has left.
        const builder = await made.engine.buildState('state-2', STATE_DATABASES)
        await Promise.all(chunks.map((chunk) => builder.add(chunk.slice())))
        await builder.finish()
      }
      const copy = await made.engine.openState('state-2', STATE_DATABASES)
      assert.equal(decodeMeta(copy.get('meta', META_KEY)).index, 1)
      assert.deepEqual(await dump(copy), chunks)
      await copy.close()
      await state.close()
    })

    it('refuses a stream that is damaged or cut short, and an aborted build is gone', async () => {
      const state = await made.engine.openState('state-1', STATE_DATABASES)
      await write(state, 1, thousand('v'))
      const chunks = await dump(state)
      const damaged = chunks.map((chunk) => chunk.slice())
      const [, second = assert.fail()] = damaged
      second[1000] = (second[1000] ?? 0) ^ 1
      for (const sent of [damaged, chunks.slice(0, -1).map((chunk) => chunk.slice())]) {
        const builder = await made.engine.buildState('state-2', STATE_DATABASES)
        const building = async (): Promise<void> => {
          for (const chunk of sent) await builder.add(chunk)
          await builder.finish()
        }
        await assert.rejects(building, DamagedStreamError)
        await builder.abort()
        assert.deepEqual(made.engine.list(), ['state-1'])
      }
      await state.close()
    })

    it('refuses all that follows what is damaged, although it was on its way already', async () => {
      const state = await made.engine.openState('state-1', STATE_DATABASES)
      const texts = Array.from({ length: 12 }, (_, i) => `${i}`.repeat(1 << 20))
      await write(state, 1, texts)
      const stream = await state.stream(1 << 18)
      const chunks = await rest(stream)
      await stream.close()
      for (const at of [0, chunks.length - 2]) {
        const sent = chunks.map((chunk) => chunk.slice())
        const damaged = sent[at] ?? assert.fail()
        damaged[5] = (damaged[5] ?? 0) ^ 1
        const builder = await made.engine.buildState('state-2', STATE_DATABASES)
        const adding = Promise.allSettled(sent.map((chunk) => builder.add(chunk)))
        await assert.rejects(builder.finish(), DamagedStreamError)
        await adding
        await builder.abort()
        assert.deepEqual(made.engine.list(), ['state-1'])
      }
      await state.close()
    })

    it('tells what its records occupy, apart from what is free', async () => {
      const log = await openLog()
      await log.commit(Array.from({ length: 300 }, (_, i) => putOf(`k${i}`, 'v'.repeat(1000))))
      const full = log.usedBytes()
      assert.ok(full >= 300_000 && full < 600_000, `${full} bytes for 300 kB`)
      await log.commit([{ type: 'clear', database: 'a' }])
      await log.commit([putOf('k', 'v')])
      assert.ok(log.usedBytes() < 50_000, `${log.usedBytes()} bytes for nothing`)
      await log.close()
    })

    it('runs a checkpoint in one transaction, visible when it resolves', async () => {
      const state = await made.engine.openState('state-1', STATE_DATABASES)
      const memtable = new Memtable()
      for (let i = 0; i < 100; i++) memtable.put(i % 2, i * 1000, `k${i}`, value('v'))
      const { counts: _, digests: __, ...point } = EMPTY_META
      const header = encodeCheckpointHeader({
        ...point,
        index: 7,
        hashKey: bytes('12345678'),
        cleared: [],
      })
      const running = state.checkpoint(header, (take) => memtable.chunks(take))
      await assert.rejects(async () => state.checkpoint(header, () => []), AssertionError)
      const summary = await running
      assert.equal(summary.writes, 100)
      assert.deepEqual(summary.counts.slice(0, 3), [50, 50, 0])
      const meta = decodeMeta(state.get('meta', META_KEY))
      assert.equal(meta.index, 7)
      assert.deepEqual(meta.counts, summary.counts)
      assert.deepEqual(meta.digests, summary.digests)
      await state.close()
    })
  })
}

runEngineConformance('memory', () => ({ engine: new MemoryEngine(), remove: () => {} }))
runEngineConformance('LMDB', () => {
  const { path, remove } = scratchDirectory()
  return { engine: new LmdbEngine(path, assert.fail), remove }
})

describe('the memory engine is strict', () => {
  it('about values that change while they are borrowed', async () => {
    const log = await new MemoryEngine().openLog('log', ['a'])
    const value = bytes('before')
    const commit = log.commit([{ type: 'put', database: 'a', key: bytes('k'), value }])
    value.write('after!')
    await assert.rejects(commit, /changed while the engine had borrowed it/)
  })

  it('about what a crash leaves: only what was durable', async () => {
    const engine = new MemoryEngine()
    const log = await engine.openLog('log', ['a'])
    await log.commit([putOf('durable', '1')])
    engine.holdCommits()
    void log.commit([putOf('lost', '1')])
    engine.crash()
    assert.throws(() => log.get('a', bytes('durable')), /dead/)
    assert.deepEqual(pairs(await engine.openLog('log', ['a'])), ['durable=1'])
  })
})

describe('LMDB on real files', () => {
  let scratch: Scratch
  beforeEach(() => {
    scratch = scratchDirectory()
  })
  afterEach(() => scratch.remove())

  it('makes its directory, and lists nothing that is not its own', async () => {
    const engine = new LmdbEngine(join(scratch.path, 'deep', 'data'), assert.fail)
    assert.deepEqual(engine.list(), [])
    const log = await engine.openLog('log', ['a'])
    await log.close()
    assert.ok(existsSync(join(scratch.path, 'deep', 'data', 'log', 'data.mdb')))
    writeFileSync(join(engine.location, 'notes.txt'), 'mine')
    assert.deepEqual(engine.list(), ['log'])
    await assert.rejects(engine.openLog('../elsewhere', ['a']), AssertionError)
  })

  it('writes a boot record at every open, before it answers', async () => {
    const engine = new LmdbEngine(scratch.path, assert.fail)
    for (let boot = 1; boot < 4; boot++) {
      const log = await engine.openLog('log', ['boot', 'a'])
      const count = log.get('boot', bytes('count'))
      assert.equal(Buffer.from(count ?? []).readBigUInt64BE(), BigInt(boot))
      await log.close()
    }
  })

  it('shows a checkpoint to whoever hears of it, also amid reads', async () => {
    const state = await new LmdbEngine(scratch.path, assert.fail).openState(
      'state-1',
      STATE_DATABASES,
    )
    const { counts: _, digests: __, ...point } = EMPTY_META
    const seen = (): number => decodeMeta(state.get('meta', META_KEY)).index
    let next: NodeJS.Immediate | undefined
    const read = (): void => {
      // A read transaction outlives its turn: the one begun here must not answer after the commit.
      seen()
      next = setImmediate(read)
    }
    read()
    for (let index = 1; index <= 20; index++) {
      const header = encodeCheckpointHeader({ ...point, index, cleared: [] })
      await state.checkpoint(header, () => [])
      assert.equal(seen(), index)
    }
    clearImmediate(next)
    await state.close()
  })

  it('does not grow with ranges that end early', async () => {
    const log = await new LmdbEngine(scratch.path, assert.fail).openLog('log', ['a'])
    for (let round = 0; round < 150; round++) {
      await log.commit(
        Array.from({ length: 20 }, (_, i) => putOf(`k${i}`, `${round}`.repeat(1000))),
      )
      assert.equal(pairs(log, 'k', 1).length, 1)
    }
    assert.ok(log.bytes() < 3e6, `${log.bytes()} bytes for 20 values of 3 KB`)
    await log.close()
  })

  it('refuses values on shared memory', async () => {
    const log = await new LmdbEngine(scratch.path, assert.fail).openLog('log', ['a'])
    const value = new Uint8Array(new SharedArrayBuffer(4))
    const operation: Operation = { type: 'put', database: 'a', key: bytes('k'), value }
    await assert.rejects(log.commit([operation]), /shared memory/)
    await log.close()
  })

  it('reports pages that it cannot read, once', async () => {
    const path = join(scratch.path, 'log', 'data.mdb')
    const engine = new LmdbEngine(scratch.path, assert.fail)
    const log = await engine.openLog('log', ['a'])
    const many = Array.from({ length: 200 }, (_, i) => putOf(`key${1000 + i}`, 'v'.repeat(900)))
    await log.commit(many)
    await log.close()
    const file = readFileSync(path)
    // Every page that holds one of the values, but none of those that lead to them.
    for (let page = 2 * 4096; page < file.length; page += 4096) {
      if (file.subarray(page, page + 4096).includes('v'.repeat(900)))
        file.fill(0, page, page + 4096)
    }
    writeFileSync(path, file)
    const reasons: string[] = []
    const broken = new LmdbEngine(scratch.path, (reason) => reasons.push(reason))
    const again = await broken.openLog('log', ['a'])
    assert.throws(() => again.get('a', bytes('key1100')))
    assert.throws(() => again.get('a', bytes('key1100')))
    assert.equal(reasons.length, 1)
    assert.match(reasons[0] ?? '', /^reading .*log failed: /)
    await again.close()
  })
})
