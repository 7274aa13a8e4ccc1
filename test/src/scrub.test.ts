/*
 * The pace of a scrub, and what comes of what it finds.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { limits } from '../../src/config.ts'
import { loadConfig } from '../../src/config-load.ts'
import { Scrub } from '../../src/scrub.ts'
import { CorruptStateError } from '../../storage/record.ts'
import type { ScrubPosition, ScrubStep } from '../../storage/scrub.ts'

const RATE = 64_000
const STEP = { database: 1, key: Buffer.from('k') }

function scene(rate = RATE) {
  const argv = ['--scrub-bytes-per-second', String(rate)]
  const config = loadConfig({ argv, environment: {}, readFile: () => '' })
  const asked: { from: ScrubPosition | undefined; answer: (step: ScrubStep | Error) => void }[] = []
  const damage: string[] = []
  const sizes: number[] = []
  const world = { now: 0 }
  const scrub = new Scrub({
    config,
    clock: { monotonic: () => world.now, wall: () => 0 },
    state: {
      scrub: (from, bytesMax) => {
        sizes.push(bytesMax)
        return new Promise((resolve, reject) => {
          const answer = (step: ScrubStep | Error): void =>
            step instanceof Error ? reject(step) : resolve(step)
          asked.push({ from, answer })
        })
      },
    },
    damaged: (what) => damage.push(what),
  })
  /** Answers the last piece, and lets what follows from it happen. */
  async function answer(step: ScrubStep | Error): Promise<void> {
    asked.at(-1)?.answer(step)
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { scrub, asked, damage, world, config, answer, sizes }
}

test('one piece at a time, and no more bytes in a second than the option says', async () => {
  const { scrub, asked, world, answer } = scene()
  scrub.work()
  scrub.work()
  assert.equal(asked.length, 1)
  await answer({ next: STEP, bytes: RATE / 2 })
  world.now = 499
  scrub.work()
  assert.equal(asked.length, 1, 'too early')
  world.now = 500
  scrub.work()
  assert.deepEqual(asked[1]?.from, STEP)
})

test('the pieces grow with the pace, between their bounds', () => {
  const { min, max } = limits.scrubStepBytes
  for (const [rate, size] of [
    [20 * min, min],
    [20 * min - 1, min],
    [20 * min + 20, min + 1],
    [20 * max, max],
    [20 * max + 20, max],
  ] as const) {
    const { scrub, sizes } = scene(rate)
    scrub.work()
    assert.deepEqual(sizes, [size], `${rate}`)
  }
})

test('a pass is followed by another one, after a pause', async () => {
  const { scrub, asked, world, answer } = scene()
  scrub.work()
  await answer({ next: undefined, bytes: 10 })
  assert.equal(scrub.passes, 1)
  world.now = limits.scrubPauseMs - 1
  scrub.work()
  assert.equal(asked.length, 1)
  world.now = limits.scrubPauseMs
  scrub.work()
  assert.deepEqual([asked.length, asked[1]?.from], [2, undefined])
})

test('0 is never, until CONFIG SET says otherwise', () => {
  const { scrub, asked, config } = scene(0)
  scrub.work()
  assert.equal(asked.length, 0)
  config.set([['scrub-bytes-per-second', '1mb']])
  scrub.work()
  assert.equal(asked.length, 1)
})

test('damage is told once, and ends it', async () => {
  const { scrub, asked, damage, world, answer } = scene()
  scrub.work()
  await answer(new CorruptStateError('a record is damaged'))
  world.now = 100_000
  scrub.work()
  assert.deepEqual([damage, asked.length], [['a record is damaged'], 1])
})

test('what was found of a state that is replaced meanwhile does not count', async () => {
  const { scrub, asked, damage, world, answer } = scene()
  scrub.work()
  scrub.replaced()
  await answer(new CorruptStateError('of the old state'))
  scrub.work()
  assert.deepEqual([damage, asked.length], [[], 2])
  scrub.replaced()
  await answer({ next: STEP, bytes: 10 })
  assert.equal(scrub.passes, 0)
  world.now = 10_000
  scrub.work()
  assert.deepEqual([asked.length, asked[2]?.from], [3, undefined])
})
