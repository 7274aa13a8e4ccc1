/*
 * What MULTI queues: every command comes back as it was queued, whatever its size, although all share a few pieces of
 * memory, and a transaction that was broken keeps nothing.
 */

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Command } from '../../src/commands/command.ts'
import { resolve } from '../../src/commands/table.ts'
import { MultiQueue } from '../../src/multi.ts'

const ANY_BYTES = Number.POSITIVE_INFINITY
const words = (...texts: string[]) => texts.map((text) => Buffer.from(text))
const set = resolve(words('SET', 'k', 'v')) as Command
assert.equal(set.name, 'set')

/** Around the sizes from which on a command has memory of its own. */
const size = fc.oneof(
  fc.nat(40),
  fc.nat(5000),
  fc.integer({ min: 16_300, max: 16_400 }),
  fc.constant(70_000),
)

test('commands come back as they were queued, in their order', () => {
  fc.assert(
    fc.property(fc.array(size, { maxLength: 60 }), (sizes) => {
      const queue = new MultiQueue()
      const sent = sizes.map((length, at) => {
        return words('SET', `key:${at}`, 'x'.repeat(length))
      })
      for (const args of sent) {
        assert.equal(queue.queue(set, args, ANY_BYTES), undefined)
        // The buffer that the arguments came in is used again.
        for (const arg of args.slice(2)) arg.fill(0)
      }
      const kept = queue.commands.map(({ args }) => args.map((arg) => Buffer.from(arg).toString()))
      assert.deepEqual(
        kept,
        sizes.map((length, at) => ['SET', `key:${at}`, 'x'.repeat(length)]),
      )
      assert.equal(queue.work, sizes.length)
    }),
    { numRuns: 50 },
  )
})

test('small commands share memory, and no more than twice what they need', () => {
  const queue = new MultiQueue()
  for (let at = 0; at < 5000; at++) {
    assert.equal(queue.queue(set, words('SET', `key:${at}`, 'v'), ANY_BYTES), undefined)
  }
  const pieces = new Set(queue.commands.map(({ form }) => form.bytes))
  const needed = queue.commands.reduce((sum, { form }) => sum + form.end - form.start, 0)
  const held = [...pieces].reduce((sum, piece) => sum + piece.length, 0)
  assert.ok(held <= 2 * needed, `${held} bytes for ${needed}`)
})

test('broken, it keeps nothing', () => {
  const queue = new MultiQueue()
  const args = words('SET', 'k', 'v')
  assert.equal(queue.queue(set, args, ANY_BYTES), undefined)
  assert.match(queue.queue(set, args, queue.bytes)?.text ?? '', /transaction-max-bytes/)
  assert.deepEqual([queue.broken, queue.commands, queue.bytes], [true, [], 0])
})
