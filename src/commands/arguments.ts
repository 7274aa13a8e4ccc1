/*
 * Reading arguments: bytes to keys, words and 64-bit integers, by Redis' own rules (string2ll is
 * strict: no sign but a minus, no leading zero, no space). Integers stay JavaScript numbers while
 * they are exact, because nearly every counter is small and a BigInt costs an allocation. Knows no
 * command and no database.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../../raft/assert.ts'

/** An exact 64-bit signed integer: a number when that is safe, a bigint only beyond. */
export type Int64 = number | bigint

export const INT64_MIN: bigint = -(2n ** 63n)
export const INT64_MAX: bigint = 2n ** 63n - 1n

/** A minus and 19 digits. */
const INT64_LENGTH_MAX = 20
/** So many decimal digits always fit a safe integer. */
const SAFE_DIGITS = 15
/** An error text repeats so much of an argument; what Redis does for names, we do for all. */
export const QUOTED_BYTES_MAX = 128
const MINUS = 45
const ZERO = 48

/** The argument at `index`, which the arity check has vouched for. */
export function argument(args: readonly Uint8Array[], index: number): Uint8Array {
  const bytes = args[index]
  assert(bytes !== undefined, () => `argument ${index} of ${args.length}`)
  return bytes
}

/** The key as the state knows it: one latin1 character per byte, so that any bytes are a key. */
export function keyOf(bytes: Uint8Array): string {
  return view(bytes).toString('latin1')
}

/** The text a person meant: UTF-8, as error texts and CONFIG want it. */
export function textOf(bytes: Uint8Array): string {
  return view(bytes).toString()
}

/**
 * An argument as error texts quote it, one character per byte: up to the first NUL, at most
 * `lengthMax` bytes (Redis' own `%.128s`).
 */
export function quoted(bytes: Uint8Array, lengthMax: number = QUOTED_BYTES_MAX): string {
  const head = bytes.subarray(0, lengthMax)
  const nul = head.indexOf(0)
  return keyOf(nul < 0 ? head : head.subarray(0, nul))
}

/** Whether the argument is `word` (given in lower case, ASCII), in any case; allocates nothing. */
export function isWord(bytes: Uint8Array, word: string): boolean {
  if (bytes.length !== word.length) return false
  for (let i = 0; i < word.length; i++) {
    if (lowerCase(bytes[i] as number) !== word.charCodeAt(i)) return false
  }
  return true
}

/** ASCII only, as Redis compares names and options. */
export function lowerCase(byte: number): number {
  return byte >= 65 && byte <= 90 ? byte + 32 : byte
}

/** The integer that the bytes spell, undefined when they spell none or one beyond int64. */
export function parseInt64(bytes: Uint8Array): Int64 | undefined {
  const length = bytes.length
  if (length === 0 || length > INT64_LENGTH_MAX) return undefined
  const negative = bytes[0] === MINUS
  const first = negative ? 1 : 0
  if (bytes[first] === ZERO) return length === 1 ? 0 : undefined
  if (length === first) return undefined
  let value = 0
  for (let i = first; i < length; i++) {
    const digit = (bytes[i] as number) - ZERO
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  if (length - first <= SAFE_DIGITS) return negative ? -value : value
  return narrow(BigInt(keyOf(bytes)))
}

/** The nearest number that counts one by one: for offsets and lengths, where all beyond 2^53 are too large alike. */
export function clampToSafe(value: Int64): number {
  if (typeof value === 'number') return value
  return value < 0n ? Number.MIN_SAFE_INTEGER : Number.MAX_SAFE_INTEGER
}

/** The sum, undefined beyond int64. */
export function addInt64(a: Int64, b: Int64): Int64 | undefined {
  if (typeof a === 'number' && typeof b === 'number') {
    const sum = a + b
    // Two safe integers add up exactly or to something that is not safe.
    if (Number.isSafeInteger(sum)) return sum
  }
  return narrow(BigInt(a) + BigInt(b))
}

/** The bytes that parseInt64 reads back as `value`. */
export function formatInt64(value: Int64): Uint8Array {
  return Buffer.from(String(value), 'latin1')
}

function narrow(value: bigint): Int64 | undefined {
  if (value < INT64_MIN || value > INT64_MAX) return undefined
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

/** The decoder and the codec hand out Buffers; anything else is looked at through one. */
function view(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
