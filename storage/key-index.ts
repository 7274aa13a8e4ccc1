/*
 * Which reference a key has: a hash table in numbers, because a Map of a hundred thousand strings costs four misses of
 * the processor's caches per look-up and as many objects for the garbage collector to follow. It keeps no key: whoever
 * owns the references says whether one of them is of a key. It is cut into segments that grow one by one, so that
 * nothing ever moves more than a small part of it, and hashes with a random key of its own, because clients choose the
 * keys. It forgets nothing but as a whole.
 */

import { randomBytes } from 'node:crypto'

/** By the highest 8 bits of the hash. */
const SEGMENTS = 256
const SEGMENT_BITS = 8
const SLOTS_FIRST = 8
/** A segment with more of its slots in use is doubled. */
const LOAD_MAX = 0.65
/** Two numbers of a segment per slot: hash + 1, 0 where it is free, and the reference. */
const SLOT_NUMBERS = 2
const NO_SLOTS = new Float64Array(0)

/** Whether the reference is one of this key. */
export type IsOf = (ref: number, key: string) => boolean

export class KeyIndex {
  readonly #isOf: IsOf
  readonly #k0: number
  readonly #k1: number
  readonly #segments: Float64Array[] = Array(SEGMENTS).fill(NO_SLOTS)
  readonly #used: number[] = Array(SEGMENTS).fill(0)
  /** The key that was located last, which mostly is the next one again; its hash, and where it has its slot. */
  #key: string | undefined
  #hash = 0
  #segment = 0
  /** Its slot; where it has none, the free one in which it belongs, if there are any slots. */
  #at = 0
  #isThere = false

  constructor(isOf: IsOf) {
    this.#isOf = isOf
    const random = randomBytes(8)
    this.#k0 = random.readInt32LE(0)
    this.#k1 = random.readInt32LE(4)
  }

  /** The reference of a key (latin1 text); undefined when it has none. */
  get(key: string): number | undefined {
    this.#locate(key)
    return this.#isThere ? this.#slots(this.#segment)[this.#at + 1] : undefined
  }

  has(key: string): boolean {
    this.#locate(key)
    return this.#isThere
  }

  /** `ref` stands for this key from now on, also as IsOf sees it. */
  set(key: string, ref: number): void {
    this.#locate(key)
    if (!this.#isThere) this.#occupy()
    this.#slots(this.#segment)[this.#at + 1] = ref
  }

  /** Takes the slot in which the located key belongs. */
  #occupy(): void {
    const segment = this.#segment
    const used = (this.#used[segment] ?? 0) + 1
    const slots = this.#slots(segment)
    if (used * SLOT_NUMBERS > slots.length * LOAD_MAX) {
      const more = grown(slots)
      this.#segments[segment] = more
      this.#at = freeSlot(more, this.#hash)
    }
    this.#used[segment] = used
    this.#slots(segment)[this.#at] = this.#hash + 1
    this.#isThere = true
  }

  #slots(segment: number): Float64Array {
    return this.#segments[segment] ?? NO_SLOTS
  }

  /** Only occupying a slot moves others, and that is done for the located key itself; so it is looked for once. */
  #locate(key: string): void {
    if (key === this.#key) return
    const hash = textHash(key, this.#k0, this.#k1)
    const segment = hash >>> (32 - SEGMENT_BITS)
    const slots = this.#slots(segment)
    this.#key = key
    this.#hash = hash
    this.#segment = segment
    this.#isThere = false
    if (slots.length === 0) return
    const mask = slots.length - 1
    let at = firstSlot(hash, mask)
    for (let found = slots[at]; found !== 0; found = slots[at]) {
      if (found === hash + 1 && this.#isOf(slots[at + 1] as number, key)) {
        this.#isThere = true
        break
      }
      at = (at + SLOT_NUMBERS) & mask
    }
    this.#at = at
  }
}

function firstSlot(hash: number, mask: number): number {
  return (hash << 1) & mask
}

function freeSlot(slots: Float64Array, hash: number): number {
  const mask = slots.length - 1
  let at = firstSlot(hash, mask)
  while (slots[at] !== 0) at = (at + SLOT_NUMBERS) & mask
  return at
}

function grown(slots: Float64Array): Float64Array {
  const more = new Float64Array(Math.max(SLOTS_FIRST * SLOT_NUMBERS, slots.length * 2))
  for (let at = 0; at < slots.length; at += SLOT_NUMBERS) {
    const hash = (slots[at] as number) - 1
    if (hash < 0) continue
    const to = freeSlot(more, hash)
    more[to] = hash + 1
    more[to + 1] = slots[at + 1] as number
  }
  return more
}

/** HalfSipHash-1-3 with 32 bits of output over one byte per character: see halfSipHash() of layout.ts. */
function textHash(key: string, k0: number, k1: number): number {
  const { length } = key
  const whole = length & ~3
  let v0 = k0
  let v1 = k1
  let v2 = 0x6c796765 ^ k0
  let v3 = 0x74656462 ^ k1
  for (let at = 0; at <= whole + 12; at += 4) {
    let block = 0
    if (at < whole) {
      block =
        key.charCodeAt(at) |
        (key.charCodeAt(at + 1) << 8) |
        (key.charCodeAt(at + 2) << 16) |
        (key.charCodeAt(at + 3) << 24)
    } else if (at === whole) {
      block = length << 24
      for (let i = whole; i < length; i++) block |= key.charCodeAt(i) << ((i - whole) * 8)
    } else if (at === whole + 4) v2 ^= 0xff
    v3 ^= block
    v0 = (v0 + v1) | 0
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0
    v0 = (v0 << 16) | (v0 >>> 16)
    v2 = (v2 + v3) | 0
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2
    v0 = (v0 + v3) | 0
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0
    v2 = (v2 + v1) | 0
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2
    v2 = (v2 << 16) | (v2 >>> 16)
    v0 ^= block
  }
  return (v1 ^ v3) >>> 0
}
