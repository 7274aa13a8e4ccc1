/*
 * The ordered collection against a sorted array: whatever the order of insertion, ties and outliers, and however
 * often buckets were split.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { SortedBuckets } from '../../storage/sorted-buckets.ts'

interface Item {
  readonly order: number
  readonly tie: number
}

const create = (): SortedBuckets<Item> =>
  new SortedBuckets<Item>(
    ({ order }) => order,
    (a, b) => a.tie - b.tie,
  )

function sorted(items: readonly Item[]): Item[] {
  return items.toSorted((a, b) => a.order - b.order || a.tie - b.tie)
}

/** Few and many different numbers, and numbers that are far from all others. */
const shapes: Record<string, (i: number) => Item> = {
  rising: (i) => ({ order: i, tie: 0 }),
  falling: (i) => ({ order: 6000 - i, tie: i }),
  scattered: (i) => ({ order: Math.imul(i, 0x9e3779b1) >>> 0, tie: 0 }),
  'all equal': (i) => ({ order: 7, tie: (i * 4099) % 5000 }),
  'equal in every way': () => ({ order: 7, tie: 7 }),
  'with outliers': (i) => ({ order: i % 1000 === 0 ? 2 ** 52 + i : i % 13, tie: i }),
}

describe('sorted buckets', () => {
  for (const [name, shape] of Object.entries(shapes)) {
    it(`are in order: ${name}`, () => {
      const buckets = create()
      const items: Item[] = []
      for (let i = 0; i < 6000; i++) {
        items.push(shape(i))
        buckets.insert(shape(i))
        // Reading in between leaves sorted buckets, which must notice what is inserted next.
        if (i % 1500 === 700) assert.deepEqual([...buckets.from(0)], sorted(items))
      }
      const all = sorted(items)
      assert.deepEqual([...buckets.from(Number.NEGATIVE_INFINITY)], all)
      for (const from of [all[0], all[999], all[3000], all.at(-1)].map(
        (item) => item?.order ?? 0,
      )) {
        for (const order of [from, from + 0.5]) {
          assert.deepEqual(
            [...buckets.from(order)],
            all.filter((item) => item.order >= order),
          )
        }
      }
      let dropped = 0
      buckets.dropWhile(() => dropped++ < 4500)
      assert.deepEqual([...buckets.from(0)], all.slice(4500))
      buckets.dropWhile(() => true)
      assert.deepEqual([...buckets.from(0)], [])
      buckets.insert({ order: 1, tie: 1 })
      assert.deepEqual([...buckets.from(0)], [{ order: 1, tie: 1 }])
    })
  }

  it('do what a sorted array does', () => {
    const item = fc.record({ order: fc.integer({ max: 20, min: 0 }), tie: fc.nat({ max: 3 }) })
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ insert: fc.array(item, { maxLength: 400 }) }) },
      { weight: 1, arbitrary: fc.record({ dropBelow: fc.nat({ max: 20 }) }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const buckets = create()
        let items: Item[] = []
        for (const at of steps) {
          if ('insert' in at) {
            items = sorted([...items, ...at.insert])
            for (const one of at.insert) buckets.insert(one)
          } else {
            items = items.filter(({ order }) => order >= at.dropBelow)
            buckets.dropWhile(({ order }) => order < at.dropBelow)
          }
          assert.deepEqual([...buckets.from(0)], items)
          assert.deepEqual(
            [...buckets.from(10)],
            items.filter(({ order }) => order >= 10),
          )
        }
      }),
      { numRuns: 50 },
    )
  })
})
