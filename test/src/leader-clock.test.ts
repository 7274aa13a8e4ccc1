/* The logical clock of a leader against clocks that do as they like. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LeaderClock } from '../../src/leader-clock.ts'

const START = 1_700_000_000_000
const HOUR = 3_600_000

/** Clocks in the test's hand. */
class Clocks {
  time = 0
  wallError = 0

  monotonic(): number {
    return this.time
  }

  wall(): number {
    return Math.floor(START + this.time + this.wallError)
  }
}

function inOffice(applied = 0): { clocks: Clocks; clock: LeaderClock } {
  const clocks = new Clocks()
  const clock = new LeaderClock(clocks)
  clock.takeOffice(applied)
  return { clocks, clock }
}

test('it begins at the wall, or at what the log says where that is later', () => {
  assert.equal(inOffice(START - HOUR).clock.now(), START)
  assert.equal(inOffice(START + HOUR).clock.now(), START + HOUR)
})

test('it follows the wall while that behaves', () => {
  const { clocks, clock } = inOffice()
  for (const passed of [1, 10, 500, HOUR]) {
    clocks.time += passed
    assert.equal(clock.now(), clocks.wall())
  }
})

test('it jumps up with the wall', () => {
  const { clocks, clock } = inOffice()
  clocks.wallError = 5 * HOUR
  assert.equal(clock.now(), START + 5 * HOUR)
})

test('when the wall falls it goes on at nine tenths, until the wall has caught up', () => {
  const { clocks, clock } = inOffice()
  clocks.wallError = -HOUR
  assert.equal(clock.now(), START)
  clocks.time += 1000
  assert.equal(clock.now(), START + 900)
  clocks.time += 10 * HOUR - 1000
  assert.equal(clock.now(), START + 9 * HOUR)
  clocks.time += 1000
  assert.equal(clock.now(), START + 9 * HOUR + 1000)
})

test('small steps add up to the same as a large one', () => {
  const { clocks, clock } = inOffice(START + HOUR)
  for (let i = 0; i < 10_000; i++) {
    clocks.time += 0.5
    clock.now()
  }
  assert.ok(Math.abs(clock.now() - (START + HOUR + 4500)) <= 1)
})

test('a new office begins behind nothing that the log holds', () => {
  const { clocks, clock } = inOffice()
  clocks.time += 100
  clock.takeOffice(START + 2 * HOUR)
  assert.equal(clock.now(), START + 2 * HOUR)
  clocks.time += 100
  assert.equal(clock.now(), START + 2 * HOUR + 90)
})

test('whatever the wall does: it never falls, never stands still, and is never behind the wall', () => {
  const step = fc.record({
    passed: fc.double({ min: 0, max: 100_000, noNaN: true }),
    jump: fc.integer({ min: -5 * HOUR, max: 5 * HOUR }),
  })
  fc.assert(
    fc.property(fc.integer({ min: -HOUR, max: HOUR }), fc.array(step), (ahead, steps) => {
      const { clocks, clock } = inOffice(START + ahead)
      let before = clock.now()
      for (const { passed, jump } of steps) {
        clocks.time += passed
        clocks.wallError += jump
        const now = clock.now()
        assert.ok(Number.isSafeInteger(now))
        // A millisecond may be between two whole ones.
        assert.ok(now >= before + Math.floor(passed * 0.9) - 1 && now >= before)
        assert.ok(now >= clocks.wall())
        before = now
      }
    }),
  )
})
