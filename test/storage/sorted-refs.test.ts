/*
 * The ordered collection against a sorted array: whatever the order of insertion, ties and outliers, and however
 * often buckets were split.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { SortedRefs } from '../../storage/sorted-refs.ts'

interface Item {
  readonly order: number
  /** Its reference, too: equal ones are the same. */
  readonly tie: number
}

const create = (): SortedRefs => new SortedRefs((a, b) => a - b)

function sorted(items: readonly Item[]): Item[] {
  return items.toSorted((a, b) => a.order - b.order || a.tie - b.tie)
}

function read(refs: SortedRefs, from = Number.NEGATIVE_INFINITY): Item[] {
  const items: Item[] = []
  refs.from(from, (order, tie) => items.push({ order, tie }) > 0)
  assert.deepEqual(
    [...refs.iterate(from)],
    items.map(({ tie }) => tie),
  )
  return items
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

describe('sorted references', () => {
  for (const [name, shape] of Object.entries(shapes)) {
    it(`are in order: ${name}`, () => {
      const refs = create()
      const items: Item[] = []
      for (let i = 0; i < 6000; i++) {
        const item = shape(i)
        items.push(item)
        refs.insert(item.order, item.tie)
        // Reading in between leaves sorted buckets, which must notice what is inserted next.
        if (i % 1500 === 700) assert.deepEqual(read(refs), sorted(items))
      }
      const all = sorted(items)
      assert.deepEqual(read(refs), all)
      for (const from of [all[0], all[999], all[3000], all.at(-1)].map((one) => one?.order ?? 0)) {
        for (const order of [from, from + 0.5]) {
          assert.deepEqual(
            read(refs, order),
            all.filter((one) => one.order >= order),
          )
        }
      }
      let visits = 0
      refs.from(0, () => ++visits < 2000)
      assert.equal(visits, 2000)
      let dropped = 0
      refs.dropWhile(() => dropped++ < 4500)
      assert.deepEqual(read(refs), all.slice(4500))
      refs.dropWhile(() => true)
      assert.deepEqual(read(refs), [])
      refs.insert(1, 1)
      assert.deepEqual(read(refs), [{ order: 1, tie: 1 }])
    })
  }

  it('do what a sorted array does', () => {
    const item = fc
      .tuple(fc.integer({ max: 20, min: 0 }), fc.nat({ max: 3 }))
      .map(([order, tie]) => ({ order, tie }))
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ insert: fc.array(item, { maxLength: 400 }) }) },
      { weight: 1, arbitrary: fc.record({ dropBelow: fc.nat({ max: 20 }) }) },
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const refs = create()
        let items: Item[] = []
        for (const at of steps) {
          if ('insert' in at) {
            items = sorted([...items, ...at.insert])
            for (const { order, tie } of at.insert) refs.insert(order, tie)
          } else {
            items = items.filter(({ order }) => order >= at.dropBelow)
            refs.dropWhile((order) => order < at.dropBelow)
          }
          assert.deepEqual(read(refs), items)
          assert.deepEqual(
            read(refs, 10),
            items.filter(({ order }) => order >= 10),
          )
        }
      }),
      { numRuns: 50 },
    )
  })
})
