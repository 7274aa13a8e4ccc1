/* The index of a memtable's keys beside a Map that is told the same. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { KeyIndex } from '../../storage/key-index.ts'

/** References are places in `keys`, so that IsOf is exact. */
class Twin {
  readonly keys: string[] = []
  readonly map = new Map<string, number>()
  readonly index = new KeyIndex((ref, key) => this.keys[ref] === key)

  set(key: string): void {
    this.keys.push(key)
    this.map.set(key, this.keys.length - 1)
    this.index.set(key, this.keys.length - 1)
  }

  check(key: string): void {
    assert.equal(this.index.get(key), this.map.get(key), key)
    assert.equal(this.index.has(key), this.map.has(key), key)
  }
}

describe('the key index', () => {
  it('knows what a Map knows, whatever is asked and set in between', () => {
    const key = fc.oneof(
      fc.string({ maxLength: 3, unit: fc.constantFrom('a', 'b', '\0', '\xff') }),
      fc.integer({ min: 0, max: 60 }).map((number) => `key:${number}`),
    )
    const step = fc.record({ set: fc.boolean(), key })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const twin = new Twin()
        for (const { set, key } of steps) {
          if (set) twin.set(key)
          twin.check(key)
        }
        for (const known of twin.map.keys()) twin.check(known)
      }),
    )
  })

  it('tells keys with one hash apart: among so many there are some', () => {
    const twin = new Twin()
    const count = 300_000
    for (let i = 0; i < count; i++) twin.set(`key:${i}`)
    for (let i = 0; i < count; i += 3) twin.set(`key:${i}`)
    for (let i = 0; i < count; i++) twin.check(`key:${i}`)
    for (let i = count; i < 2 * count; i++) assert.equal(twin.index.get(`key:${i}`), undefined)
  })
})
