/* What is held of an unfinished command: what is copied and what is not, how far blocks grow, and the steps of join(). */

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import { HeldBytes } from '../../resp/held-bytes.ts'

const KIB = 1024
const MIB = 1024 * KIB
const UNKNOWN = Number.POSITIVE_INFINITY

function joined(held: HeldBytes): { bytes: Buffer; steps: number } {
  for (let steps = 1; ; steps++) {
    const bytes = held.join()
    if (bytes !== undefined) return { bytes, steps }
  }
}

function memoryOf(length: number): Buffer {
  return Buffer.alloc(length, 'v')
}

test('a chunk of 16 KiB is held as it came, if that is half of its memory', () => {
  for (const [length, start, isCopied] of [
    [16 * KIB, 0, false],
    [16 * KIB - 1, 0, true],
    [32 * KIB, 16 * KIB, false],
    [32 * KIB + 1, 16 * KIB + 1, true],
    [40 * KIB, 16 * KIB, false],
  ] as const) {
    const chunk = memoryOf(length)
    const held = new HeldBytes()
    held.add(chunk, start, length, UNKNOWN)
    chunk.fill('w')
    const { bytes } = joined(held)
    assert.equal(bytes.length, length - start)
    assert.equal(bytes.includes('w'), !isCopied, `${length} from ${start}`)
  }
})

test('small chunks fill blocks, which grow to 256 KiB and are not moved beyond', () => {
  const held = new HeldBytes()
  const blocks: number[] = []
  const allocate = Buffer.allocUnsafeSlow
  Buffer.allocUnsafeSlow = (length) => {
    blocks.push(length)
    return allocate(length)
  }
  try {
    for (let at = 0; at < 1024; at++) held.add(memoryOf(KIB), 0, KIB, UNKNOWN)
  } finally {
    Buffer.allocUnsafeSlow = allocate
  }
  const doubled = [2, 6, 14, 30, 62, 126, 254, 256].map((kib) => kib * KIB)
  assert.deepEqual(blocks.slice(0, 8), doubled)
  assert.deepEqual(new Set(blocks.slice(8)), new Set([256 * KIB]))
  assert.equal(joined(held).bytes.length, MIB)
})

test('a block for the end of a command is no longer than that', () => {
  const held = new HeldBytes()
  held.add(memoryOf(100), 0, 100, 300)
  held.add(memoryOf(300), 0, 300, 0)
  const { bytes, steps } = joined(held)
  assert.equal(bytes.buffer.byteLength, 400)
  assert.equal(steps, 1)
})

test('joining takes a step per MiB, and what one block holds takes none', () => {
  for (const [chunks, steps] of [
    [1, 1],
    [16, 1],
    [17, 2],
    [32, 2],
    [33, 3],
  ] as const) {
    const held = new HeldBytes()
    for (let at = 0; at < chunks; at++) held.add(memoryOf(64 * KIB), 0, 64 * KIB, UNKNOWN)
    assert.equal(held.length, chunks * 64 * KIB)
    assert.equal(joined(held).steps, steps, `${chunks} chunks of 64 KiB`)
  }
})

test('from three quarters on a command whose end is known is joined while it comes', () => {
  for (const [chunks, isKnown, steps] of [
    [64, true, 1],
    [64, false, 4],
    [15, true, 1],
  ] as const) {
    const held = new HeldBytes()
    for (let left = chunks; left > 0; left--) {
      held.add(memoryOf(64 * KIB), 0, 64 * KIB, isKnown ? (left - 1) * 64 * KIB : UNKNOWN)
    }
    const joint = joined(held)
    assert.equal(joint.steps, steps)
    assert.equal(joint.bytes.buffer.byteLength, chunks * 64 * KIB)
  }
})

test('whatever the chunks, what is joined is what was added', () => {
  const size = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 300_000 }))
  fc.assert(
    fc.property(
      fc.array(fc.tuple(size, fc.nat(50_000), fc.nat(50_000)), { maxLength: 40 }),
      (parts) => {
        const held = new HeldBytes()
        let left = parts.reduce((sum, [length]) => sum + length, 0)
        const expected = parts.map(([length, before, behind], at) => {
          const chunk = Buffer.alloc(before + length + behind, `${at},`)
          left -= length
          held.add(chunk, before, before + length, at % 2 === 0 ? left : UNKNOWN)
          return chunk.subarray(before, before + length)
        })
        assert.equal(joined(held).bytes.compare(Buffer.concat(expected)), 0)
      },
    ),
    { numRuns: 200 },
  )
})
