/*
 * The decimal digits of mantissa * 2 ** exponent, for integers of thousands of digits: what BigInt's own toString
 * takes more than 100 us for. The powers of two are kept in limbs of eight decimal digits, one for each STEP bits, and
 * the mantissa is taken apart in as many bits: a limb of the number is then a sum of few products, and its digits stand
 * in a table. The powers are made when they are first needed and are 900 KB at most. Knows nothing of rounding or of
 * what the number means.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../../raft/assert.ts'

const LIMB = 100_000_000
/** A limb is two of these. */
const HALF_LIMB = 10_000
const HALF_DIGITS = 4
const ASCII_ZERO = 48
const ASCII_MINUS = 45
/** Bits from one power that is kept to the next. */
const STEP = 24
/** The largest long double has 16,384 bits. */
const EXPONENT_MAX = 16_384
/** One more than a long double has: what lies halfway between two of them is printed too. */
const MANTISSA_BITS_MAX = 65
/** Of a mantissa that is shifted by less than STEP, STEP bits each. The sum of so many products is an exact number. */
const FACTORS = 4
/** Of the largest power that is multiplied, 4,928 digits, times a factor of FACTORS * STEP bits. */
const LIMBS_MAX = 616 + FACTORS

/** powers[i] is 2 ** (i * STEP), the lowest limb first, and FACTORS zeros: what their sum of products may need. */
const powers: Int32Array[] = [Int32Array.of(1, 0, 0, 0, 0)]
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
  let at = writeDigits(mantissa << BigInt(exponent % STEP), Math.floor(exponent / STEP))
  while (text[at] === ASCII_ZERO) at++
  if (negative) text[--at] = ASCII_MINUS
  return kept(at)
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

/** factor * 2 ** (steps * STEP) into `text`, with zeros before it; returns where it begins. */
function writeDigits(factor: bigint, steps: number): number {
  const [a, b, c, d] = [part(factor, 0), part(factor, 1), part(factor, 2), part(factor, 3)]
  const [first, second] = [powerOfTwo(steps), powerOfTwo(steps + 1)]
  const [third, fourth] = [powerOfTwo(steps + 2), powerOfTwo(steps + 3)]
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
  assert(quotient + carry === 0, () => `${factor} * 2 ** ${steps * STEP} has more limbs`)
  return at * HALF_DIGITS
}

function part(factor: bigint, at: number): number {
  return Number(BigInt.asUintN(STEP, factor >> BigInt(at * STEP)))
}

function powerOfTwo(steps: number): Int32Array {
  for (let last = powers.at(-1); last !== undefined && powers.length <= steps; ) {
    last = nextPower(last)
    powers.push(last)
  }
  const power = powers[steps]
  assert(power !== undefined, () => `2 ** (${steps} * ${STEP}) was just made`)
  return power
}

function nextPower(power: Int32Array): Int32Array {
  const limbs = power.length - FACTORS
  const next = new Int32Array(power.length + 1)
  let carry = 0
  for (let limb = 0; limb <= limbs; limb++) {
    const product = (power[limb] as number) * 2 ** STEP + carry
    carry = Math.floor(product / LIMB)
    next[limb] = product - carry * LIMB
  }
  assert(carry === 0, () => `${STEP} bits are a limb at most`)
  return next[limbs] === 0 ? next.subarray(0, -1) : next
}
