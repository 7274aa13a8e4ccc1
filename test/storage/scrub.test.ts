/*
 * Reading a state through: every record is looked at, in pieces of whatever size, and any bit that flips in any of them
 * is found.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { limits } from '../../src/config.ts'
import { openStorage } from '../../storage/open.ts'
import { CorruptStateError } from '../../storage/record.ts'
import { type ScrubPosition, scrubStep } from '../../storage/scrub.ts'
import { databaseName, expiryName, META_DATABASE } from '../../storage/state-meta.ts'
import { MemoryEngine } from './memory-engine.ts'
import { applyTo, entryAt } from './workload.ts'

type Tables = Map<string, [key: Buffer, record: Buffer][]>

/** The databases of a state, as plain arrays. */
async function tables(): Promise<Tables> {
  const engine = new MemoryEngine()
  const { state, log } = await openStorage(engine, {
    ...{ memtableBytes: 1 << 30, cacheBytes: 0, views: limits.stateViews, now: () => 0 },
  })
  for (let index = 1; index <= 40; index++) applyTo(state, entryAt(index))
  state.put(1, 'expires', { type: 'string', expireAt: 9000, version: 41, value: Buffer.from('x') })
  state.commitEntry({ index: 41, term: entryAt(40).term, clock: 410 })
  await state.checkpoint()
  await state.close()
  await log.close()
  const environment = await engine.openState('state-1', [])
  const found: Tables = new Map()
  for (const name of [META_DATABASE, databaseName(0), databaseName(1), expiryName(1)]) {
    const table: [Buffer, Buffer][] = []
    environment.range(name, new Uint8Array(1), (key, record) => {
      table.push([Buffer.from(key), Buffer.from(record)])
      return true
    })
    assert.ok(table.length > 0, name)
    found.set(name, table)
  }
  return found
}

function readsOf(found: Tables): Parameters<typeof scrubStep>[0] {
  return {
    range: (database, from, visit) => {
      for (const [key, record] of found.get(database) ?? []) {
        if (Buffer.compare(key, from) >= 0 && !visit(key, record)) return
      }
    },
  }
}

/** A whole pass: how many pieces, and their bytes. */
function pass(found: Tables, bytesMax: number): { pieces: number; bytes: number } {
  let [pieces, sum] = [0, 0]
  let at: ScrubPosition | undefined
  do {
    const { next, bytes } = scrubStep(readsOf(found), at, bytesMax)
    at = next
    sum += bytes
    assert.ok(++pieces < 10_000)
  } while (at !== undefined)
  return { pieces, bytes: sum }
}

describe('a scrub', () => {
  it('reads every record once, whatever the size of the pieces', async () => {
    const found = await tables()
    const all = [...found.values()].flat()
    const bytes = all.reduce((sum, [key, record]) => sum + key.length + record.length, 0)
    assert.deepEqual(pass(found, 1 << 30), { pieces: 1, bytes })
    assert.equal(pass(found, 100).bytes, bytes)
    // One record for each piece, and one more to see that there is nothing behind the last.
    assert.deepEqual(pass(found, 1), { pieces: all.length + 1, bytes })
  })

  it('finds every flipped bit', async () => {
    const found = await tables()
    for (const [name, table] of found) {
      for (const [key, record] of table) {
        for (const at of [0, record.length >> 1, record.length - 1]) {
          record[at] = (record[at] ?? 0) ^ 8
          assert.throws(() => pass(found, 500), CorruptStateError, `${name} ${key.toString('hex')}`)
          record[at] = (record[at] ?? 0) ^ 8
        }
      }
    }
    pass(found, 500)
  })

  it('finds a record under the key of another one, and keys out of order', async () => {
    const found = await tables()
    const table = found.get(databaseName(0)) ?? []
    const [first, second] = table
    assert.ok(first !== undefined && second !== undefined)
    table[0] = [first[0], second[1]]
    assert.throws(() => pass(found, 500), CorruptStateError)
    table[0] = second
    table[1] = first
    assert.throws(() => pass(found, 1 << 20), /out of their order/)
  })

  it('goes on where it was when the record there is gone', async () => {
    const found = await tables()
    const [state] = found.get(META_DATABASE) ?? []
    const { next } = scrubStep(readsOf(found), undefined, 300 + (state?.[1].length ?? 0))
    assert.ok(next?.key !== undefined)
    const table = found.get(databaseName(0)) ?? []
    const gone = table.findIndex(([key]) => Buffer.compare(key, next.key ?? key) === 0)
    assert.ok(gone >= 0)
    const [, ...rest] = table.splice(gone)
    table.push(...rest)
    const { bytes } = scrubStep(readsOf(found), next, 1 << 30)
    const expected = [
      ...rest,
      ...[databaseName(1), expiryName(1)].flatMap((name) => found.get(name) ?? []),
    ]
    assert.equal(
      bytes,
      expected.reduce((sum, [key, record]) => sum + key.length + record.length, 0),
    )
  })
})
