/* What MEMORY USAGE tells of a key, against the pages that LMDB really takes for many of them. */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { LogEnvironment, Operation } from '../../storage/engine.ts'
import { DISK_KEY_HEADER_BYTES } from '../../storage/layout.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { keysChanging, pageBytesOf } from '../../storage/page-bytes.ts'
import { RECORD_HEADER_BYTES, type StoredValue } from '../../storage/record.ts'
import { scratchDirectory } from './scratch.ts'

const KEYS = 500

function stored(length: number, expireAt = 0): StoredValue {
  return { type: 'string', expireAt, version: 1, value: Buffer.alloc(length) }
}

/** The keys rise, so the pages of the tree are full but for the last. */
async function pagesOf(log: LogEnvironment, keyLength: number, length: number): Promise<number> {
  const before = log.usedBytes()
  const puts = Array.from({ length: KEYS }, (_, at): Operation => {
    const key = Buffer.alloc(DISK_KEY_HEADER_BYTES + keyLength)
    key.writeUInt32BE(at + 1)
    return { type: 'put', database: 'a', key, value: Buffer.alloc(RECORD_HEADER_BYTES + length) }
  })
  await log.commit(puts)
  const bytes = log.usedBytes() - before
  await log.commit([{ type: 'clear', database: 'a' }])
  return bytes / KEYS
}

test('what is told of a key is what it takes, but for what pages leave free', async () => {
  const scratch = scratchDirectory()
  try {
    const log = await new LmdbEngine(scratch.path, assert.fail).openLog('log', ['a'])
    for (const keyLength of [1, 20, 900]) {
      for (const length of [0, 100, 1900, 2100, 4000, 4080, 20_000]) {
        const told = pageBytesOf(keyLength, stored(length))
        const real = await pagesOf(log, keyLength, length)
        const what = `${told} for ${real} of a key of ${keyLength} and a value of ${length}`
        assert.ok(told <= real + 1 && told > 0.45 * real, what)
        // Values that have pages of their own are exact, but for the tree above.
        if (told > 4096 && keyLength < 100) assert.ok(real - told < 100, what)
      }
    }
    await log.close()
  } finally {
    scratch.remove()
  }
})

test('a key that expires has an entry in that index; a long key is stored beside its hash', () => {
  const plain = pageBytesOf(10, stored(50))
  assert.ok(pageBytesOf(10, stored(50, 1)) - plain >= 8 + DISK_KEY_HEADER_BYTES + 10)
  assert.equal(pageBytesOf(11, stored(50)) - plain, 1)
  assert.equal(pageBytesOf(10, stored(51)) - plain, 1)
  assert.ok(pageBytesOf(10_000, stored(0)) > 10_000)
  assert.ok(pageBytesOf(10_000, stored(0)) < 14_000)
})

test('keys at random change about as many pages as they are told to', () => {
  const pages = 10_000
  const used = (of: number) => ({ usedBytes: () => of * 4096 })
  for (const most of [1, 100, 1000, 5000, 9000]) {
    const changed = new Set<number>()
    for (let key = 0; key < keysChanging(most, used(pages)); key++) {
      changed.add(createHash('sha256').update(`${key}`).digest().readUInt32BE() % pages)
    }
    assert.ok(Math.abs(changed.size - most) <= 1 + most / 20, `${changed.size}, not ${most}`)
  }
  assert.equal(keysChanging(pages, used(pages)), Number.POSITIVE_INFINITY)
  assert.ok(keysChanging(pages, used(pages + 1)) < 11 * pages)
  assert.equal(keysChanging(undefined, used(pages)), Number.POSITIVE_INFINITY)
})
