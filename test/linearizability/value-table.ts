/*
 * The values of one key as small integers: equal bytes are the same integer. An appended value is kept as its
 * predecessor and its tail, so a thousand APPENDs cost the sum of their tails, not the sum of the values. It must
 * not know commands.
 */

import { Buffer } from 'node:buffer'
import type { State } from './model.ts'

/** There is no such key. */
export const ABSENT: State = 0
const EMPTY: State = 1

const INT64 = /^(?:0|-?[1-9]\d{0,18})$/
const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n
/** FNV-1a, over UTF-16 units. */
const HASH_BASIS = 0x811c9dc5
const HASH_PRIME = 0x01000193

interface Value {
  readonly parent: State
  readonly tail: string
  /** UTF-16 units, and bytes of UTF-8. */
  readonly units: number
  readonly bytes: number
  readonly hash: number
  /** By tail: what appending made of it. */
  longer: Map<string, State> | undefined
}

export class ValueTable {
  readonly #values: Value[] = [leaf(), leaf()]
  /** By hash: different pieces can make equal text, and equal text must be one state. */
  readonly #byHash = new Map<number, State[]>([[HASH_BASIS, [EMPTY]]])
  readonly #sums = new Map<string, State | undefined>()

  get size(): number {
    return this.#values.length
  }

  of(text: string): State {
    return this.append(EMPTY, text)
  }

  /** UTF-16 units of the value. */
  units(state: State): number {
    return this.#at(state).units
  }

  /** Bytes of the value in UTF-8; 0 when absent, as STRLEN has it. */
  bytes(state: State): number {
    return this.#at(state).bytes
  }

  /** An absent value counts as an empty one. */
  append(state: State, tail: string): State {
    const parent = state === ABSENT ? EMPTY : state
    if (tail === '') return parent
    const value = this.#at(parent)
    const known = value.longer?.get(tail)
    if (known !== undefined) return known
    const made = this.#intern(parent, tail)
    value.longer ??= new Map()
    value.longer.set(tail, made)
    return made
  }

  /** The decimal value plus `by`, an absent value counting as 0; undefined where Redis answers an error. */
  add(state: State, by: bigint): State | undefined {
    const key = `${state} ${by}`
    if (this.#sums.has(key)) return this.#sums.get(key)
    const text = state === ABSENT ? '0' : this.text(state)
    const old = INT64.test(text) ? BigInt(text) : undefined
    const sum = old === undefined || !isInt64(old) ? undefined : old + by
    const made = sum === undefined || !isInt64(sum) ? undefined : this.of(String(sum))
    this.#sums.set(key, made)
    return made
  }

  text(state: State): string {
    const tails: string[] = []
    for (let at = state; at > EMPTY; at = this.#at(at).parent) tails.push(this.#at(at).tail)
    return tails.reverse().join('')
  }

  #intern(parent: State, tail: string): State {
    const { units, bytes, hash: start } = this.#at(parent)
    let hash = start
    for (let i = 0; i < tail.length; i++) hash = Math.imul(hash ^ tail.charCodeAt(i), HASH_PRIME)
    const alike = this.#byHash.get(hash) ?? []
    const length = units + tail.length
    const twin = alike.find(
      (state) => this.#at(state).units === length && this.#is(state, parent, tail),
    )
    if (twin !== undefined) return twin
    const state = this.#values.length
    this.#values.push({
      parent,
      tail,
      units: length,
      bytes: bytes + Buffer.byteLength(tail),
      hash,
      longer: undefined,
    })
    this.#byHash.set(hash, [...alike, state])
    return state
  }

  #is(state: State, parent: State, tail: string): boolean {
    return this.text(state) === this.text(parent) + tail
  }

  #at(state: State): Value {
    const value = this.#values[state]
    if (value === undefined) throw new RangeError(`no value ${state}`)
    return value
  }
}

function leaf(): Value {
  const parent = ABSENT
  return { parent, tail: '', units: 0, bytes: 0, hash: HASH_BASIS, longer: undefined }
}

export function isInt64(value: bigint): boolean {
  return value >= INT64_MIN && value <= INT64_MAX
}
