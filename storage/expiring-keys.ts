/*
 * Which keys on disk expire, where they are not too many: so nothing has to be read of any other key to know that it
 * does not, whatever the size of its value. It is learned from the expiry index of the disk, a slice with each question
 * until all of it is known, and good for one moment of the disk: a checkpoint makes another one. It keeps no keys, only
 * positions and times, and asks the index whether a key is the one that expires. Memtables are none of its business.
 */

import type { Reads } from './engine.ts'
import { expiryKey, positionOf, splitExpiryKey } from './layout.ts'
import { checkExpiryRecord } from './record.ts'
import { expiryName } from './state-meta.ts'

/** Entries of the index that one question reads: half a ms, which is what the record of a value of 1 MiB takes. */
const SLICE = 256

/** Stands for the times of several keys at one position. */
const SEVERAL = 0

interface Place {
  readonly times: Map<number, number>
  /** All entries of the index up to this key are among the times. */
  passed: Uint8Array
  isWhole: boolean
}

export class ExpiringKeys {
  readonly #counts: readonly number[]
  readonly #keysMax: number
  readonly #places = new Map<number, Place>()

  /** `counts`: how many keys of each place expire on disk. Of places where more than `keysMax` do nothing is learned. */
  constructor(counts: readonly number[], keysMax: number) {
    this.#counts = counts
    this.#keysMax = keysMax
  }

  /** The same of a moment that is another one for all that it knows; `counts`: of one that certainly is. */
  anew(counts: readonly number[] = this.#counts): ExpiringKeys {
    return new ExpiringKeys(counts, this.#keysMax)
  }

  /**
   * When a key of the disk expires, in ms; 0: never, or there is no such key; undefined: only its record tells. Throws
   * CorruptStateError when the index is damaged.
   */
  timeOf(place: number, diskKey: Uint8Array, disk: Reads): number | undefined {
    const count = this.#counts[place] ?? 0
    if (count === 0) return 0
    if (count > this.#keysMax) return undefined
    const { times, isWhole } = this.#known(place, disk)
    if (!isWhole) return undefined
    const time = times.get(positionOf(diskKey))
    if (time === undefined) return 0
    if (time === SEVERAL) return undefined
    return disk.has(expiryName(place), expiryKey(time, diskKey)) ? time : 0
  }

  #known(place: number, disk: Reads): Place {
    let known = this.#places.get(place)
    if (known === undefined) {
      known = { times: new Map(), passed: new Uint8Array(1), isWhole: false }
      this.#places.set(place, known)
    }
    if (!known.isWhole) this.#learn(place, known, disk)
    return known
  }

  #learn(place: number, known: Place, disk: Reads): void {
    const { times, passed } = known
    let left = SLICE
    let isWhole = true
    disk.range(expiryName(place), passed, (key, record) => {
      if (Buffer.compare(key, passed) === 0) return true
      // A checkpoint that the disk shows a moment before the store knows of it may bring more than were counted.
      if (left === 0 || times.size === this.#keysMax) {
        isWhole = false
        return false
      }
      checkExpiryRecord(key, record)
      const { expireAt, diskKey } = splitExpiryKey(key)
      const position = positionOf(diskKey)
      times.set(position, times.has(position) ? SEVERAL : expireAt)
      known.passed = key
      left--
      return true
    })
    known.isWhole = isWhole
  }
}
