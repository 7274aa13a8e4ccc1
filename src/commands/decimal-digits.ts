/*
 * The decimal digits of mantissa * 2 ** exponent, for integers of thousands of digits: what BigInt's own toString
 * takes more than 100 us for. The powers of two are kept in limbs of seven decimal digits, one for each STEP bits, so
 * that one short multiplication is all that is left. They are made when they are first needed and are half a megabyte
 * at most. Knows nothing of rounding or of what the number means.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../../raft/assert.ts'

const LIMB = 10_000_000
const LIMB_DIGITS = 7
const ASCII_ZERO = 48
/** Bits from one power that is kept to the next. */
const STEP = 48
/** The largest long double has 16,384 bits. */
const EXPONENT_MAX = 16_384
const MANTISSA_BITS_MAX = 64
/** Of a mantissa that is shifted by less than STEP: 34 digits. Sums of so many products are exact numbers. */
const FACTOR_LIMBS = 5
/** Of 2 ** 16,384, 4,933 digits, times a factor. */
const LIMBS_MAX = 712

/** powers[i] is 2 ** (i * STEP), the lowest limb first. */
const powers: Int32Array[] = [Int32Array.of(1)]
const oneStep = factorOf(1n << BigInt(STEP))
/** A product and its digits: what is made anew for each number would cost more than to compute it. */
const scratch = new Int32Array(LIMBS_MAX)
const text = Buffer.alloc(LIMBS_MAX * LIMB_DIGITS)

/** The digits of mantissa * 2 ** exponent: no sign, no zeros before them. */
export function decimalDigits(mantissa: bigint, exponent: number): string {
  assert(exponent >= 0 && exponent <= EXPONENT_MAX, () => `2 ** ${exponent} is no power for digits`)
  assert(mantissa >> BigInt(MANTISSA_BITS_MAX) === 0n, () => `${mantissa} is no mantissa`)
  const power = powerOfTwo(Math.floor(exponent / STEP))
  return textOf(product(power, factorOf(mantissa << BigInt(exponent % STEP))))
}

function powerOfTwo(steps: number): Int32Array {
  for (let last = powers.at(-1); last !== undefined && powers.length <= steps; ) {
    const limbs = product(last, oneStep)
    last = scratch.slice(0, withoutZeros(limbs))
    powers.push(last)
  }
  const power = powers[steps]
  assert(power !== undefined, () => `2 ** (${steps} * ${STEP}) was just made`)
  return power
}

/** Always FACTOR_LIMBS of them. */
function factorOf(value: bigint): readonly number[] {
  const limbs: number[] = []
  let rest = value
  while (limbs.length < FACTOR_LIMBS) {
    limbs.push(Number(rest % BigInt(LIMB)))
    rest /= BigInt(LIMB)
  }
  assert(rest === 0n, () => `${value} has more than ${FACTOR_LIMBS} limbs`)
  return limbs
}

/** Into `scratch`; returns how many limbs it has, of which the highest may be zeros. */
function product(power: Int32Array, factor: readonly number[]): number {
  const [a = 0, b = 0, c = 0, d = 0, e = 0] = factor
  const limbs = power.length + FACTOR_LIMBS
  let [second, third, fourth, fifth] = [0, 0, 0, 0]
  let [quotient, carry] = [0, 0]
  for (let at = 0; at < limbs; at++) {
    const first = at < power.length ? (power[at] as number) : 0
    const sum = a * first + b * second + c * third + d * fourth + e * fifth
    // The long division waits for no carry. What it gives is less than 50,000,000, and right: truncating is exact.
    const limb = (quotient + carry) | 0
    quotient = (sum / LIMB) | 0
    const whole = (limb + (sum - quotient * LIMB)) | 0
    carry = (whole / LIMB) | 0
    scratch[at] = whole - carry * LIMB
    fifth = fourth
    fourth = third
    third = second
    second = first
  }
  return limbs
}

/** Three of them. */
function writeDigits(value: number, at: number): void {
  const tens = (value / 10) | 0
  const hundreds = (value / 100) | 0
  text[at] = ASCII_ZERO + hundreds
  text[at + 1] = ASCII_ZERO + tens - hundreds * 10
  text[at + 2] = ASCII_ZERO + value - tens * 10
}

function withoutZeros(limbs: number): number {
  let length = limbs
  while (length > 0 && scratch[length - 1] === 0) length--
  return length
}

function textOf(limbs: number): string {
  let at = limbs * LIMB_DIGITS
  const end = at
  for (let i = 0; i < limbs; i++) {
    const limb = scratch[i] as number
    const upper = (limb / 10_000) | 0
    const lower = limb - upper * 10_000
    at -= LIMB_DIGITS
    writeDigits(upper, at)
    text[at + 3] = ASCII_ZERO + ((lower / 1000) | 0)
    writeDigits(lower % 1000, at + 4)
  }
  while (text[at] === ASCII_ZERO && at < end - 1) at++
  return text.toString('latin1', at, end)
}
