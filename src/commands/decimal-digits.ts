/*
 * The decimal digits of mantissa * 2 ** exponent, for numbers of thousands of digits: what BigInt's own toString takes
 * more than 100 us for. Powers of two, and of five for what is a fraction, are kept in limbs of eight decimal digits,
 * and the mantissa is taken apart in digits of such a step: a limb of the number is then a sum of few products, and its
 * digits stand in a table. The powers are made when they are first needed: those of two are 900 KB at most, those of
 * five, which only the middle of two small floats needs, 5 MB. Knows nothing of rounding or of what the number means.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../../raft/assert.ts'

const LIMB = 100_000_000
/** A limb is two of these. */
const HALF_LIMB = 10_000
const HALF_DIGITS = 4
const ASCII_ZERO = 48
const ASCII_MINUS = 45
interface Powers {
  readonly base: bigint
  /** From one power that is kept to the next: a factor below 2 ** 24, so that sums of products are exact. */
  readonly step: number
  /** powers[i] is base ** (i * step), the lowest limb first, and FACTORS zeros for what a product needs more. */
  readonly powers: Int32Array[]
}

const TWO: Powers = { base: 2n, step: 24, powers: [Int32Array.of(1, 0, 0, 0, 0)] }
const FIVE: Powers = { base: 5n, step: 10, powers: [Int32Array.of(1, 0, 0, 0, 0)] }
/** The largest long double has 16,384 bits. */
const EXPONENT_MAX = 16_384
/** Behind the point of the smallest one, and of the middle between it and nothing. */
const FRACTION_BITS_MAX = 16_446
/** One more than a long double has: what lies halfway between two of them is printed too. */
const MANTISSA_BITS_MAX = 65
/** Of a mantissa times less than a step. */
const FACTORS = 4
/** Of the largest power of five that is multiplied, 11,491 digits, times a factor below 2 ** 96. */
const LIMBS_MAX = 1437 + FACTORS

/** The ASCII digits of 0 to 9,999, four in a word as they stand in memory. */
const halves = new Uint32Array(HALF_LIMB)
for (let half = 0; half < HALF_LIMB; half++) {
  const digits = String(half).padStart(HALF_DIGITS, '0')
  Buffer.from(halves.buffer, half * HALF_DIGITS).write(digits, 0, HALF_DIGITS, 'latin1')
}
/** A number is written from the end, behind a word for its sign: an array for each would cost more than the digits. */
const words = new Uint32Array(1 + 2 * LIMBS_MAX)
const text = Buffer.from(words.buffer)
/** Six long numbers. */
const SLAB_BYTES = 32_768
let slab = Buffer.alloc(0)
let slabUsed = SLAB_BYTES

/** The digits of mantissa * 2 ** exponent in ASCII: no zeros before them, and a sign where it is negative. */
export function decimalDigits(negative: boolean, mantissa: bigint, exponent: number): Buffer {
  assert(exponent >= 0 && exponent <= EXPONENT_MAX, () => `2 ** ${exponent} is no power for digits`)
  const bounded = mantissa > 0n && mantissa >> BigInt(MANTISSA_BITS_MAX) === 0n
  assert(bounded, () => `${mantissa} is no mantissa`)
  let at = writeDigits(TWO, mantissa, exponent)
  if (negative) text[--at] = ASCII_MINUS
  return kept(at)
}

/** The digits of mantissa / 2 ** bits times 10 ** bits: all that it has behind the point and before. */
export function fractionDigits(mantissa: bigint, bits: number): Buffer {
  assert(bits >= 0 && bits <= FRACTION_BITS_MAX, () => `${bits} bits are no fraction for digits`)
  const bounded = mantissa > 0n && mantissa >> BigInt(MANTISSA_BITS_MAX) === 0n
  assert(bounded, () => `${mantissa} is no mantissa`)
  return kept(writeDigits(FIVE, mantissa, bits))
}

/** What stands in `text` from there on, in memory that it shares with a few others: memory of its own costs more. */
function kept(at: number): Buffer {
  const length = text.length - at
  if (slabUsed + length > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
    slabUsed = 0
  }
  const digits = slab.subarray(slabUsed, slabUsed + length)
  text.copy(digits, 0, at)
  slabUsed += length
  return digits
}

/** mantissa times that power into `text`; returns where its first digit is. */
function writeDigits(powers: Powers, mantissa: bigint, exponent: number): number {
  const { base, step } = powers
  const steps = Math.floor(exponent / step)
  const [a = 0, b = 0, c = 0, d = 0] = factorsOf(powers, mantissa * base ** BigInt(exponent % step))
  const [first, second] = [powerOf(powers, steps), powerOf(powers, steps + 1)]
  const [third, fourth] = [powerOf(powers, steps + 2), powerOf(powers, steps + 3)]
  let [quotient, carry] = [0, 0]
  let at = words.length
  for (let limb = 0; limb < first.length; limb++) {
    const sum =
      a * (first[limb] as number) +
      b * (second[limb] as number) +
      c * (third[limb] as number) +
      d * (fourth[limb] as number)
    // The long division waits for no carry. What it gives is less than LIMB, and right: truncating is exact.
    const before = quotient + carry
    quotient = (sum / LIMB) | 0
    const whole = (sum - quotient * LIMB + before) | 0
    // 1 where it reaches LIMB: one in three do, and a branch that cannot be foreseen would cost more.
    carry = (LIMB - 1 - whole) >>> 31
    const digits = (whole - carry * LIMB) | 0
    const upper = (digits / HALF_LIMB) | 0
    words[--at] = halves[digits - upper * HALF_LIMB] as number
    words[--at] = halves[upper] as number
  }
  assert(quotient + carry === 0, () => `${mantissa} * ${base} ** ${exponent} has more limbs`)
  at *= HALF_DIGITS
  while (text[at] === ASCII_ZERO) at++
  return at
}

function factorsOf({ base, step }: Powers, value: bigint): number[] {
  const unit = base ** BigInt(step)
  const factors: number[] = []
  let rest = value
  while (factors.length < FACTORS) {
    factors.push(Number(rest % unit))
    rest /= unit
  }
  assert(rest === 0n, () => `${value} has more than ${FACTORS} factors`)
  return factors
}

function powerOf({ base, step, powers }: Powers, steps: number): Int32Array {
  for (let last = powers.at(-1); last !== undefined && powers.length <= steps; ) {
    last = times(last, Number(base) ** step)
    powers.push(last)
  }
  const power = powers[steps]
  assert(power !== undefined, () => `${base} ** (${steps} * ${step}) was just made`)
  return power
}

function times(power: Int32Array, factor: number): Int32Array {
  const limbs = power.length - FACTORS
  const next = new Int32Array(power.length + 1)
  let carry = 0
  for (let limb = 0; limb <= limbs; limb++) {
    const product = (power[limb] as number) * factor + carry
    carry = Math.floor(product / LIMB)
    next[limb] = product - carry * LIMB
  }
  assert(carry === 0, () => `${factor} adds a limb at most`)
  return next[limbs] === 0 ? next.subarray(0, -1) : next
}
