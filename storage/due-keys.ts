/*
 * Which keys are due: the expiry indexes of memtable, frozen memtable and disk, read as one. The answer depends on
 * the state alone, never on what lies in which layer, because every node must name the same keys in the same order.
 * What an index still holds of keys that have since been removed or given another time is passed over once and not
 * looked at again: a million due keys would otherwise be searched anew for every few that are removed.
 */

import { assert } from '../raft/assert.ts'
import type { Environment } from './engine.ts'
import type { Layers } from './layers.ts'
import { compareAtPosition, expiryKey, positionOf, splitExpiryKey } from './layout.ts'
import type { DueAt, DueLimits, Memtable } from './memtable.ts'
import { checkExpiryRecord } from './record.ts'
import { DATABASES, expiryName } from './state-meta.ts'

/** The store's layers as they are at the moment. */
export interface LivingLayers {
  readonly memtable: Memtable
  readonly frozen: Memtable | undefined
  readonly layers: Layers
}

/** Before every key of an index. */
const BEGINNING = new Uint8Array(1)

interface Place {
  /** The disk's index has nothing up to this key, itself included, that the memtables do not hide. */
  passed: Uint8Array
  /** No key expires before this time, in whatever layer it is. */
  soonest: number
}

export class DueKeys {
  readonly #environment: Environment
  readonly #places: readonly Place[]

  /** `expires`: how many keys of each place expire. */
  constructor(environment: Environment, expires: readonly number[]) {
    this.#environment = environment
    this.#places = expires.map((count) => {
      return { passed: BEGINNING, soonest: count === 0 ? Number.POSITIVE_INFINITY : 0 }
    })
  }

  /** No key of the place expires before this time; Infinity: none ever does. It is a lower bound, cheap to ask for. */
  soonest(place: number): number {
    return this.#place(place).soonest
  }

  /** A key was given a time to expire. */
  added(place: number, expireAt: number): void {
    const known = this.#place(place)
    known.soonest = Math.min(known.soonest, expireAt)
  }

  cleared(place: number): void {
    this.#place(place).soonest = Number.POSITIVE_INFINITY
  }

  /** The first keys of a place that are due, in the order of (time, position, key). */
  due(place: number, limits: DueLimits, living: LivingLayers): readonly DueAt[] {
    const known = this.#place(place)
    if (limits.upTo < known.soonest) return []
    const { memtable, frozen } = living
    const found = memtable.due(place, limits, () => false)
    if (!memtable.wasCleared(place)) {
      const hidden = (key: string): boolean => memtable.has(place, key)
      if (frozen !== undefined) found.push(...frozen.due(place, limits, hidden))
      if (frozen?.wasCleared(place) !== true) found.push(...this.#onDisk(place, limits, living))
    }
    found.sort((a, b) => {
      return a.expireAt - b.expireAt || a.position - b.position || compareAtPosition(a.key, b.key)
    })
    known.soonest = found[0]?.expireAt ?? this.#next(place, living)
    return found.slice(0, limits.count)
  }

  /** The disk holds what the frozen memtable held, which may lie before what was passed over. */
  landed(frozen: Memtable): void {
    for (let place = 0; place < DATABASES; place++) {
      const known = this.#place(place)
      const first = frozen.firstExpiry(place)
      if (frozen.wasCleared(place)) known.passed = BEGINNING
      else if (Number.isFinite(first)) {
        const at = expiryKey(first, BEGINNING)
        if (Buffer.compare(at, known.passed) < 0) known.passed = at
      }
    }
  }

  /** At or before the first expiry of a place that was not passed over. */
  #next(place: number, { memtable, frozen }: LivingLayers): number {
    let soonest = memtable.firstExpiry(place)
    if (memtable.wasCleared(place)) return soonest
    if (frozen !== undefined) soonest = Math.min(soonest, frozen.firstExpiry(place))
    if (frozen?.wasCleared(place) === true) return soonest
    const { passed } = this.#place(place)
    this.#environment.keys(expiryName(place), passed, (indexKey) => {
      if (Buffer.compare(indexKey, passed) === 0) return true
      soonest = Math.min(soonest, splitExpiryKey(indexKey).expireAt)
      return false
    })
    return soonest
  }

  #onDisk(place: number, { upTo, count }: DueLimits, living: LivingLayers): DueAt[] {
    const { memtable, frozen, layers } = living
    const known = this.#place(place)
    const found: DueAt[] = []
    this.#environment.range(expiryName(place), known.passed, (indexKey, record) => {
      checkExpiryRecord(indexKey, record)
      const { expireAt, diskKey } = splitExpiryKey(indexKey)
      if (expireAt > upTo) return false
      const key = layers.userKey(place, diskKey)
      const hidden = memtable.has(place, key) || frozen?.has(place, key) === true
      if (!hidden) found.push({ key, position: positionOf(diskKey), expireAt })
      else if (found.length === 0) known.passed = indexKey
      return found.length < count
    })
    return found
  }

  #place(place: number): Place {
    const known = this.#places[place]
    assert(known !== undefined, () => `there is no place ${place}`)
    return known
  }
}
