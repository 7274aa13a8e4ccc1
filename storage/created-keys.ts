/*
 * Which keys came into being of late, and as of which version: a key that was watched while it did not exist, came
 * and is gone again is told from one that never came. It remembers creations, not removals, so that emptying a
 * database costs nothing. It is part of the state, because every node must decide alike: equal states have equal
 * ones. Bounded: of keys that were watched before the oldest creation it remembers, it says that they may have come.
 */

import { assert } from '../raft/assert.ts'
import { CodecError, readUint64, writeUint64 } from './integers.ts'
import { CREATED_HEAD_BYTES, CREATED_KEY_BYTES, CREATED_KEYS_MAX, DATABASES } from './state-meta.ts'

/** Chains of creations; a power of two. */
const CHAINS = 16_384

export class CreatedKeys {
  /** A ring: creation number n is at n modulo its length. */
  readonly #places = new Uint8Array(CREATED_KEYS_MAX)
  readonly #positions = new Float64Array(CREATED_KEYS_MAX)
  readonly #versions = new Float64Array(CREATED_KEYS_MAX)
  /** The number of the creation before it in its chain; -1: none. */
  readonly #previous = new Float64Array(CREATED_KEYS_MAX)
  readonly #chains = new Float64Array(CHAINS).fill(-1)
  #count = 0
  /** Of the newest creation that the ring has no room for any more; 0: it has all. */
  #forgotten = 0
  readonly #exchanged = Array.from({ length: DATABASES }, () => 0)
  #newest = 0

  /** The version of the newest creation or exchange: what is watched now is watched as of this. */
  get newest(): number {
    return this.#newest
  }

  /** A key came into being, at its position in its place; versions never fall. */
  add(place: number, position: number, version: number): void {
    this.#advance(version)
    const slot = this.#count % CREATED_KEYS_MAX
    if (this.#count >= CREATED_KEYS_MAX) this.#forgotten = this.#versions[slot] ?? 0
    const chain = chainOf(position)
    this.#places[slot] = place
    this.#positions[slot] = position
    this.#versions[slot] = version
    this.#previous[slot] = this.#chains[chain] ?? -1
    this.#chains[chain] = this.#count++
  }

  /** The keys of two databases, now in these places, changed sides: any of them may have come. */
  exchanged(places: readonly [number, number], version: number): void {
    this.#advance(version)
    for (const place of places) this.#exchanged[place] = version
  }

  /** Whether a key that did not exist as of `since` may have come after it. */
  hasSince(place: number, position: number, since: number): boolean {
    if (since < this.#forgotten || since < (this.#exchanged[place] ?? 0)) return true
    const oldest = this.#count - CREATED_KEYS_MAX
    for (let at = this.#chains[chainOf(position)] ?? -1; at >= 0 && at >= oldest; ) {
      const slot = at % CREATED_KEYS_MAX
      if ((this.#versions[slot] ?? 0) <= since) return false
      if (this.#places[slot] === place && this.#positions[slot] === position) return true
      at = this.#previous[slot] ?? -1
    }
    return false
  }

  encode(): Uint8Array {
    const kept = Math.min(this.#count, CREATED_KEYS_MAX)
    const bytes = new Uint8Array(CREATED_HEAD_BYTES + kept * CREATED_KEY_BYTES)
    writeUint64(bytes, 0, this.#forgotten)
    for (const [place, version] of this.#exchanged.entries()) {
      writeUint64(bytes, 8 * (1 + place), version)
    }
    let offset = CREATED_HEAD_BYTES
    for (let at = this.#count - kept; at < this.#count; at++, offset += CREATED_KEY_BYTES) {
      const slot = at % CREATED_KEYS_MAX
      bytes[offset] = this.#places[slot] ?? 0
      writeUint64(bytes, offset + 1, this.#positions[slot] ?? 0)
      writeUint64(bytes, offset + 9, this.#versions[slot] ?? 0)
    }
    return bytes
  }

  /** The reverse of encode(); none at all: nothing was ever created. Throws CodecError. */
  static decode(bytes: Uint8Array): CreatedKeys {
    const made = new CreatedKeys()
    if (bytes.length === 0) return made
    const isWhole =
      bytes.length >= CREATED_HEAD_BYTES &&
      (bytes.length - CREATED_HEAD_BYTES) % CREATED_KEY_BYTES === 0
    if (!isWhole) {
      throw new CodecError(`the created keys of a state have ${bytes.length} bytes`)
    }
    for (let offset = CREATED_HEAD_BYTES; offset < bytes.length; offset += CREATED_KEY_BYTES) {
      const version = readUint64(bytes, offset + 9)
      if (version < made.#newest)
        throw new CodecError('the created keys of a state are in no order')
      made.add(bytes[offset] ?? 0, readUint64(bytes, offset + 1), version)
    }
    made.#forgotten = readUint64(bytes, 0)
    for (let place = 0; place < DATABASES; place++) {
      const version = readUint64(bytes, 8 * (1 + place))
      made.#exchanged[place] = version
      made.#newest = Math.max(made.#newest, version)
    }
    return made
  }

  #advance(version: number): void {
    assert(version >= this.#newest, () => `version ${version} after ${this.#newest}`)
    this.#newest = version
  }
}

/** Positions begin with the hash slot: their low bits are the keyed hash. */
function chainOf(position: number): number {
  return position % CHAINS
}
