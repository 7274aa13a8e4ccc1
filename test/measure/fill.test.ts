/*
 * The order of a fill: every key once, in that of the hash slots.
 */

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { keySlot } from '../../storage/layout.ts'
import { inSlotOrder } from './fill.ts'

it('orders every number once, by the slot of its key', () => {
  const name = (at: number): string => `key:${at}`
  const order = inSlotOrder(1000, 3000, name)
  const all = Array.from({ length: 2000 }, (_, at) => 1000 + at)
  assert.deepEqual(
    [...order].sort((a, b) => a - b),
    all,
  )
  const slots = [...order].map((at) => keySlot(Buffer.from(name(at))))
  assert.deepEqual(
    slots,
    slots.toSorted((a, b) => a - b),
  )
  assert.ok(new Set(slots).size > 1000, 'all in a few slots')
})
