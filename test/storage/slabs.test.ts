/*
 * Slabs: no two pieces share a byte, only small amounts and large pieces have memory of their own, and memory that is
 * spare is used before there is more.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { buffersOf, SLAB_BYTES, Slabs } from '../../storage/slabs.ts'

const MB = 1_048_576

describe('slabs', () => {
  it('give a mebibyte in pieces of their own, and then pieces of one slab until it is full', () => {
    const slabs = new Slabs()
    const single = [slabs.take(MB - 1), slabs.take(1)]
    for (const piece of single) assert.equal(piece.buffer.byteLength, piece.length)
    const pieces = Array.from({ length: SLAB_BYTES / (MB / 4) }, () => slabs.take(MB / 4))
    for (const [i, { length, byteOffset }] of pieces.entries()) {
      assert.equal(length, MB / 4)
      assert.equal(byteOffset, (i * MB) / 4, 'one behind the other')
    }
    assert.deepEqual(
      buffersOf(pieces).map(({ byteLength }) => byteLength),
      [SLAB_BYTES],
    )
    const next = slabs.take(1)
    assert.equal(next.byteOffset, 0)
    assert.equal(buffersOf([...single, ...pieces, next]).length, 4)
  })

  it('leave no slab half empty for a large piece', () => {
    const slabs = new Slabs()
    slabs.take(MB)
    const before = slabs.take(1)
    assert.equal(slabs.take(MB + 1).buffer.byteLength, MB + 1)
    const largest = slabs.take(MB)
    assert.equal(largest.buffer, before.buffer)
    assert.equal(largest.byteOffset, 1)
  })

  it('use what is spare first', () => {
    const old = new Slabs()
    old.take(MB)
    const spare = buffersOf([old.take(MB)])
    const slabs = new Slabs(spare)
    slabs.take(MB)
    const pieces = Array.from({ length: SLAB_BYTES / MB + 1 }, () => slabs.take(MB))
    assert.equal(pieces[0]?.buffer, spare[0])
    assert.notEqual(pieces.at(-1)?.buffer, spare[0])
  })
})
