/*
 * The memory of a memtable: every write can be read for ever by its reference, and a checkpoint gets of each key the
 * last write only, whole, in the order of positions.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type BlockWrite,
  COPIED_VALUE_BYTES_MAX,
  orderOf,
  SortedWrites,
  WriteBlocks,
} from '../../storage/write-blocks.ts'
import { stored } from './store-fixture.ts'

/** Around all limits: values inside and apart, in one chunk and in several. */
const SIZES = [0, 1, 4096, 4097, 262_143, 262_144, 262_149, 700_000]

function value(size: number): Buffer {
  return Buffer.alloc(size, `${size} `)
}

function sorted(writes: WriteBlocks, place = 3): BlockWrite[] {
  const chunks = [...writes.chunks(place, (bytes) => new Uint8Array(bytes))]
  for (const chunk of chunks) assert.ok(chunk.length <= 262_149, 'no chunk takes long')
  const places = SortedWrites.byPlace(chunks)
  assert.deepEqual([...places.keys()], writes.end === 0 ? [] : [place])
  const found = [...(places.get(place) ?? [])]
  assert.equal(places.get(place)?.count ?? 0, found.length)
  return found
}

describe('write blocks', () => {
  it('keep every write, and which one came before it', () => {
    const writes = new WriteBlocks()
    const refs: number[] = []
    for (let round = 0; round < 3; round++) {
      for (const [i, size] of SIZES.entries()) {
        const end = writes.bind()
        const ref = writes.append(`k${i}`, 1000 - i, {
          before: refs.at(-SIZES.length),
          stored: round === 1 ? null : stored(round, value(size), round),
        })
        assert.ok(ref >= end && ref < writes.end, 'between the ends before and after')
        refs.push(ref)
      }
    }
    for (const [n, ref] of refs.entries()) {
      const round = Math.floor(n / SIZES.length)
      const i = n % SIZES.length
      assert.equal(writes.key(ref), `k${i}`)
      assert.equal(writes.position(ref), 1000 - i)
      assert.equal(writes.before(ref), round === 0 ? undefined : refs[n - SIZES.length])
      assert.equal(writes.expiry(ref), round === 1 ? undefined : round)
      const found = writes.stored(ref)
      if (round === 1) assert.equal(found, null)
      else {
        const { value: bytes, ...header } = found ?? assert.fail()
        assert.deepEqual(header, { type: 'string', expireAt: round, version: round })
        assert.equal(Buffer.compare(bytes, value(SIZES[i] ?? 0)), 0)
      }
    }
  })

  it('let a large value go that is overwritten and that nobody is bound to, and no other', () => {
    const apart = value(4097)
    const writes = new WriteBlocks()
    const put = (before: number | undefined, bytes: Buffer): number =>
      writes.append('k', 1, { before, stored: stored(1, bytes) })
    const first = put(undefined, apart)
    let ref = first
    const one = writes.bytes
    const held = writes.stored(ref)?.value ?? assert.fail()
    for (let i = 0; i < 1000; i++) ref = put(ref, apart)
    assert.ok(writes.bytes < one + 1000 * 100, `${writes.bytes} bytes`)
    assert.equal(Buffer.compare(held, apart), 0, 'whoever reads one goes on')
    assert.throws(() => writes.stored(first), /lost its value/)
    writes.bind()
    const bound = ref
    ref = put(ref, apart)
    const both = writes.bytes
    ref = put(ref, value(1))
    assert.ok(writes.bytes < both - 3900, `${writes.bytes} bytes, ${both} before`)
    assert.equal(Buffer.compare(writes.stored(bound)?.value ?? assert.fail(), apart), 0)
    const [last, ...others] = sorted(writes)
    assert.deepEqual(others, [])
    assert.equal(Buffer.compare(last?.record.subarray(21) ?? assert.fail(), value(1)), 0)
  })

  it('overwrite a small value in its place where nobody is bound to it, and nothing else', () => {
    const max = COPIED_VALUE_BYTES_MAX
    for (const size of [0, 1, 64, 65, max]) {
      const writes = new WriteBlocks()
      const neighbour = writes.append('n', 7, { before: undefined, stored: stored(1, 'beside') })
      const ref = writes.append('k', 1, { before: undefined, stored: stored(1, value(size), 9) })
      const other = writes.append('o', 8, { before: undefined, stored: stored(1, 'behind') })
      const taken = writes.bytes
      const held = writes.stored(ref)?.value ?? assert.fail()
      const second = Buffer.alloc(size, 'second ')
      assert.ok(writes.overwrite(ref, stored(2, second, 5)))
      assert.equal(Buffer.compare(held, value(size)), 0, 'whoever was given the first still has it')
      assert.equal(writes.bytes, taken)
      assert.equal(writes.expiry(ref), 5)
      assert.deepEqual(writes.stored(ref)?.version, 2)
      assert.equal(Buffer.compare(writes.stored(ref)?.value ?? assert.fail(), second), 0)
      assert.equal(writes.overwrite(ref, stored(3, Buffer.alloc(size + 1))), false, 'a longer one')
      for (const [beside, text] of [
        [neighbour, 'beside'],
        [other, 'behind'],
      ] as const) {
        assert.equal(Buffer.from(writes.stored(beside)?.value ?? []).toString(), text)
      }
      const [first, ...others] = sorted(writes)
      assert.equal(others.length, 2)
      assert.equal(Buffer.compare(first?.record.subarray(21) ?? assert.fail(), second), 0)
      writes.bind()
      assert.equal(writes.overwrite(ref, stored(3, second)), false, 'somebody may read it')
      const next = writes.append('k', 1, { before: ref, stored: stored(3, second) })
      assert.ok(writes.overwrite(next, stored(4, value(size))), 'nobody is bound to the next one')
      assert.equal(writes.overwrite(ref, stored(5, second)), false, 'it is not the last')
      assert.equal(writes.stored(ref)?.version, 2)
    }
    const writes = new WriteBlocks()
    const large = stored(1, value(max + 1))
    const ref = writes.append('k', 1, { before: undefined, stored: large })
    assert.equal(writes.overwrite(ref, large), false, 'a large one is read as a view')
    const gone = writes.append('k', 1, { before: ref, stored: null })
    assert.equal(writes.overwrite(gone, stored(2, '')), false, 'a deletion')
  })

  it('give a checkpoint the last write of each key, in the order of positions', () => {
    const writes = new WriteBlocks()
    for (const [i, size] of SIZES.entries()) {
      const before = writes.append(`k${i}`, 1000 - i, {
        before: undefined,
        stored: stored(1, value(99_999)),
      })
      const last = size === 1 ? null : stored(2, value(size))
      writes.append(`k${i}`, 1000 - i, { before, stored: last })
    }
    writes.append('y'.repeat(600_000), 5, { before: undefined, stored: stored(3, 'of a long key') })
    writes.append('z', 2 ** 52 - 1, { before: undefined, stored: stored(4, 'behind a long key') })
    const [long, ...others] = sorted(writes)
    assert.equal(long?.key.length, 600_000)
    assert.equal(Buffer.from(long?.record.subarray(21) ?? []).toString(), 'of a long key')
    assert.deepEqual(
      others.map(({ position }) => position),
      [...SIZES.keys()]
        .map((i) => 1000 - i)
        .reverse()
        .concat(2 ** 52 - 1),
    )
    for (const [i, size] of SIZES.toReversed().entries()) {
      const { key, record } = others[i] ?? assert.fail()
      assert.equal(Buffer.from(key).toString(), `k${SIZES.length - 1 - i}`)
      if (size === 1) assert.equal(record.length, 0)
      else assert.equal(Buffer.compare(record.subarray(21), value(size)), 0)
    }
  })

  it('cost a checkpoint nothing when they were never written to', () => {
    assert.deepEqual(sorted(new WriteBlocks()), [])
  })

  it('find what was cut off on its way', () => {
    const writes = new WriteBlocks()
    writes.append('k', 1, { before: undefined, stored: stored(1, value(700_000)) })
    const chunks = [...writes.chunks(0, (bytes) => new Uint8Array(bytes))]
    assert.throws(() => SortedWrites.byPlace(chunks.slice(0, -1)), /ends after/)
    assert.throws(() => SortedWrites.byPlace(chunks.slice(0, 1)), /0 of 1 values/)
  })
})

describe('the order of positions', () => {
  const HIGHEST = 2 ** 52 - 1

  it('is that of numbers, and keeps what is equal in its order', () => {
    const edges = [0, 1, 2 ** 13 - 1, 2 ** 13, 2 ** 26 - 1, 2 ** 26, 2 ** 39 - 1, 2 ** 39, HIGHEST]
    const random = Array.from({ length: 3000 }, () => Math.floor(Math.random() * 2 ** 52))
    const few = Array.from({ length: 3000 }, (_, i) => edges[(i * 7) % edges.length] ?? 0)
    const all = [...random, ...few, HIGHEST, ...edges.toReversed()]
    const expected = all.map((_, i) => i).sort((a, b) => (all[a] ?? 0) - (all[b] ?? 0))
    assert.deepEqual([...orderOf(Float64Array.from(all))], expected)
  })

  it('of nothing is nothing', () => {
    assert.equal(orderOf(new Float64Array(0)).length, 0)
  })
})
