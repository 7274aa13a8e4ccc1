/* Which keys came of late: against a plain list, at the number it remembers and one past it, and as bytes. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CreatedKeys } from '../../storage/created-keys.ts'
import { CodecError } from '../../storage/integers.ts'
import { CREATED_KEYS_MAX } from '../../storage/state-meta.ts'

/** Positions of one chain and of others. */
const position = fc.constantFrom(0, 5, 16_384, 2 ** 51, 2 ** 52 - 1)
const place = fc.constantFrom(0, 1, 15)
const created = fc.record({ place, position, step: fc.nat(2) })

test('tells what came after a version, and nothing else, also when it was bytes in between', () => {
  fc.assert(
    fc.property(fc.array(created, { maxLength: 30 }), fc.nat(30), (all, cut) => {
      let keys = new CreatedKeys()
      const known: { place: number; position: number; version: number }[] = []
      let version = 1
      for (const [at, one] of all.entries()) {
        if (at === cut) keys = CreatedKeys.decode(keys.encode())
        version += one.step
        keys.add(one.place, one.position, version)
        known.push({ ...one, version })
        assert.equal(keys.newest, version)
      }
      for (let since = 0; since <= version; since++) {
        for (const one of all) {
          const came = known.some(
            (key) =>
              key.place === one.place && key.position === one.position && key.version > since,
          )
          assert.equal(keys.hasSince(one.place, one.position, since), came)
        }
        assert.equal(keys.hasSince(2, 5, since), false)
      }
    }),
  )
})

test('remembers so many; of keys watched before the oldest of them any may have come', () => {
  const keys = new CreatedKeys()
  const first = 10
  for (let at = 0; at < CREATED_KEYS_MAX; at++) keys.add(0, at, first + at)
  assert.equal(keys.hasSince(0, 0, first - 1), true)
  assert.equal(keys.hasSince(0, CREATED_KEYS_MAX, 0), false, 'none was forgotten')
  keys.add(1, 7, first + CREATED_KEYS_MAX)
  for (const one of [keys, CreatedKeys.decode(keys.encode())]) {
    assert.equal(one.hasSince(0, CREATED_KEYS_MAX, first - 1), true, 'the first was forgotten')
    assert.equal(one.hasSince(0, CREATED_KEYS_MAX, first), false)
    assert.equal(one.hasSince(0, 1, first), true)
    assert.equal(one.hasSince(0, 0, first), false, 'its chain ends at what was overwritten')
    assert.equal(one.hasSince(1, 7, first), true)
    assert.equal(one.newest, first + CREATED_KEYS_MAX)
  }
})

test('an exchange of databases counts for every key of both', () => {
  const keys = new CreatedKeys()
  keys.add(3, 5, 4)
  keys.exchanged([0, 1], 9)
  for (const one of [keys, CreatedKeys.decode(keys.encode())]) {
    assert.equal(one.newest, 9)
    assert.deepEqual(
      [0, 1, 2].map((number) => one.hasSince(number, 5, 8)),
      [true, true, false],
    )
    assert.equal(one.hasSince(0, 5, 9), false)
  }
})

test('versions never fall, and bytes that are not its own are refused', () => {
  const keys = new CreatedKeys()
  keys.add(0, 1, 5)
  assert.throws(() => keys.add(0, 1, 4), { name: 'AssertionError' })
  keys.add(0, 2, 6)
  const bytes = keys.encode()
  assert.throws(() => CreatedKeys.decode(bytes.subarray(1)), CodecError)
  const turned = Uint8Array.from(bytes)
  const [a, b] = [bytes.length - 34, bytes.length - 17]
  turned.set(bytes.subarray(b), a)
  turned.set(bytes.subarray(a, b), b)
  assert.throws(() => CreatedKeys.decode(turned), CodecError)
  assert.equal(CreatedKeys.decode(new Uint8Array(0)).newest, 0)
})
