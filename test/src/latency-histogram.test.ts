/* Percentiles and doublings of the histogram against sorted lists of what was recorded. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LatencyHistogram } from '../../src/latency-histogram.ts'

function histogramOf(values: readonly number[]): LatencyHistogram {
  const histogram = new LatencyHistogram()
  for (const value of values) histogram.record(value)
  return histogram
}

const around31 = fc.integer({ min: 2 ** 31 - 40, max: 2 ** 31 + 40 })
const micros = fc.oneof(fc.nat(40), fc.nat(1_000_000), fc.nat(), around31)

test('a percentile is right within a sixteenth, and never too small', () => {
  fc.assert(
    fc.property(
      fc.array(micros, { minLength: 1, maxLength: 300 }),
      fc.constantFrom(1, 50, 90, 99, 99.9, 100),
      (values, percent) => {
        const sorted = values.toSorted((a, b) => a - b)
        const exact = sorted[Math.ceil((percent / 100) * sorted.length) - 1] ?? 0
        const told = histogramOf(values).percentile(percent)
        assert.ok(told >= exact && told <= exact + Math.floor(exact / 16), `${told} for ${exact}`)
      },
    ),
  )
})

test('small values are exact; none, fractions, negative and endless ones are counted too', () => {
  const histogram = histogramOf([0, 1, 2, 15])
  assert.deepEqual(
    [25, 50, 75, 100].map((percent) => histogram.percentile(percent)),
    [0, 1, 2, 15],
  )
  assert.equal(new LatencyHistogram().percentile(50), 0)
  assert.equal(histogramOf([0.2]).percentile(50), 1)
  assert.equal(histogramOf([-5]).percentile(50), 0)
  const long = histogramOf([2 ** 41, 2 ** 50])
  assert.equal(long.count, 2)
  assert.ok(long.percentile(50) >= 2 ** 40)
})

test('doublings count what took no longer, and end with everything', () => {
  assert.deepEqual(
    [...histogramOf([1, 1, 3, 4, 100]).doublings()],
    [
      [1, 2],
      [4, 4],
      [128, 5],
    ],
  )
  assert.deepEqual([...histogramOf([]).doublings()], [])
  fc.assert(
    fc.property(fc.array(fc.nat(100_000), { minLength: 1, maxLength: 100 }), (values) => {
      const doublings = [...histogramOf(values).doublings()]
      assert.equal(doublings.at(-1)?.[1], values.length)
      for (const [limit, count] of doublings) {
        // The limit itself shares a bucket with what is above it.
        assert.ok(count >= values.filter((value) => value < limit).length)
        assert.ok(count <= values.filter((value) => value <= limit).length)
        assert.ok(Number.isInteger(Math.log2(limit)))
      }
    }),
  )
})
