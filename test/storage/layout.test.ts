/*
 * Where keys lie on disk: the slots that Redis Cluster gives them, the published vectors of the hash, and an order
 * on disk that is position, then key.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { AssertionError } from '../../raft/assert.ts'
import { KEY_BYTES_MAX } from '../../storage/engine.ts'
import {
  DISK_KEY_HEADER_BYTES,
  DiskKeyWriter,
  halfSipHash,
  isHashed,
  keySlot,
  PLAIN_KEY_BYTES_MAX,
  positionOf,
} from '../../storage/layout.ts'

const HASH_KEY = Uint8Array.from([0, 1, 2, 3, 4, 5, 6, 7])

function diskKey(key: string | Uint8Array, hashKey: Uint8Array = HASH_KEY): Buffer {
  const writer = new DiskKeyWriter(hashKey)
  return Buffer.from(typeof key === 'string' ? writer.fromText(key) : writer.fromBytes(key))
}

describe('the hash slot', () => {
  it('is the one of the Redis Cluster specification', () => {
    // 12739 is 0x31c3, the specification's own check value; the others are what CLUSTER KEYSLOT answers.
    for (const [key, slot] of [
      ['123456789', 12739],
      ['foo', 12182],
      ['', 0],
      ['{user1000}.following', keySlot(Buffer.from('user1000'))],
      ['foo{}{bar}', 8363],
      ['foo{{bar}}zap', keySlot(Buffer.from('{bar'))],
      ['foo{bar}{zap}', keySlot(Buffer.from('bar'))],
      ['{', keySlot(Buffer.from('{'))],
    ] as const) {
      assert.equal(keySlot(Buffer.from(key)), slot, key)
    }
  })
})

describe('HalfSipHash-2-4', () => {
  it('yields the published 64-bit vectors', () => {
    // The reference implementation's vectors: key 0 to 7, input 0, 1, 2, ... of rising length.
    const vectors = [
      '218d1f59b9b83cc8',
      'be552412f8387315',
      '064f39ef7c50eb57',
      'ce0f1a45f7060679',
      'd5e78a175be52ea1',
      'cb9d7c3f2f3db580',
      'ce3e91358aa2bc25',
      'ff202728b07bc684',
      'edfee820bce4858c',
    ]
    for (const [length, expected] of vectors.entries()) {
      const input = Uint8Array.from({ length }, (_, i) => i)
      const out = new Uint32Array(2)
      halfSipHash(HASH_KEY, input, out)
      assert.equal(Buffer.from(out.buffer).toString('hex'), expected, `length ${length}`)
      halfSipHash(HASH_KEY, Uint8Array.of(...input, 1, 2, 3), out, length)
      assert.equal(Buffer.from(out.buffer).toString('hex'), expected, `the first ${length}`)
    }
  })
})

describe('disk keys', () => {
  it('are the same from bytes and from text, and differ where keys differ', () => {
    const key = fc.uint8Array({ maxLength: 40 })
    fc.assert(
      fc.property(key, key, (a, b) => {
        const text = Buffer.from(a).toString('latin1')
        assert.deepEqual(diskKey(text), diskKey(a))
        assert.equal(diskKey(a).equals(diskKey(b)), Buffer.from(a).equals(b))
      }),
    )
  })

  it('begin with slot and hash: an integer below 2^52 that the hash key decides', () => {
    const seen = new Set<number>()
    for (let i = 0; i < 1000; i++) {
      const key = `key:${i}`
      const position = positionOf(diskKey(key))
      assert.ok(Number.isSafeInteger(position) && position < 2 ** 52)
      assert.equal(Math.floor(position / 2 ** 38), keySlot(Buffer.from(key)))
      seen.add(position)
      assert.notEqual(position, positionOf(diskKey(key, Uint8Array.from(HASH_KEY).reverse())))
    }
    assert.equal(seen.size, 1000)
    assert.equal(diskKey('abc').toString('latin1', DISK_KEY_HEADER_BYTES), 'abc')
  })

  it('never exceed what an engine takes', () => {
    for (const length of [PLAIN_KEY_BYTES_MAX, PLAIN_KEY_BYTES_MAX + 1, KEY_BYTES_MAX, 100_000]) {
      const found = diskKey('x'.repeat(length))
      assert.ok(found.length <= KEY_BYTES_MAX)
      assert.equal(isHashed(found), length > PLAIN_KEY_BYTES_MAX)
      assert.deepEqual(found, diskKey(Buffer.alloc(length, 'x')))
    }
    assert.notDeepEqual(diskKey('x'.repeat(5000)), diskKey(`${'x'.repeat(4999)}y`))
  })

  it('need a hash key of 8 bytes', () => {
    assert.throws(() => new DiskKeyWriter(new Uint8Array(16)), AssertionError)
  })
})
