/*
 * The arithmetic of INCRBYFLOAT: Redis computes with C's long double, which on x86 is a float with a mantissa of 64
 * bits. Here it is exact integers, rounded once per step to the nearest such float (ties to even), so that every
 * node gets the same digits and they are those that Redis prints. Infinities are told apart, NaN never arises.
 * A number near 1e4900 has 16,000 bits; so that a thousand of them hold up nobody, a long text is read by its first
 * digits and a bound for the others. When these leave open to which float it is nearest, the middle of the two is
 * printed and compared.
 */

import { Buffer } from 'node:buffer'
import { keyOf } from './arguments.ts'
import { decimalDigits, fractionDigits } from './decimal-digits.ts'

/** |value| = mantissa * 2 ** exponent; the mantissa has at most 64 bits. */
export interface LongDouble {
  readonly negative: boolean
  readonly mantissa: bigint
  readonly exponent: number
}

const MANTISSA_BITS = 64
/** The exponent of the smallest subnormal's only bit, and of the last bit of the largest number. */
const EXPONENT_MIN = -16_445
const EXPONENT_MAX = 16_320
/** Decimal exponents beyond these are infinite or nothing for certain; the powers stay small enough to compute. */
const DECIMAL_EXPONENT_MAX = 4_940
const DECIMAL_EXPONENT_MIN = -4_970
/** Redis reads a number from a buffer of 5 KiB. */
const TEXT_LENGTH_MAX = 5 * 1024 - 1
const FRACTION_DIGITS = 17
/** Up to so many digits, and so large a power of ten, exact arithmetic is cheap. */
const FEW_DIGITS = 40
const POWER_STEP = 128
/** Of the powers of ten that are kept as bounds. */
const POWER_BITS = 256
/** From such a distance on the smaller of two numbers is less than an eighth of the larger one's last bit. */
const FAR_APART = MANTISSA_BITS + 2
const ZERO: LongDouble = { negative: false, mantissa: 0n, exponent: 0 }

/** 10 ** i, exact, for i < POWER_STEP. */
const smallPowers = Array.from({ length: POWER_STEP }, (_, power) => 10n ** BigInt(power))
/** 10 ** (i * POWER_STEP), made when first needed: DECIMAL_EXPONENT_MIN to DECIMAL_EXPONENT_MAX are some 120. */
const largePowers = new Map<number, Bounds>()

/** A number that is at least floor * 2 ** exponent and less than (floor + 1) * 2 ** exponent. */
interface Bounds {
  readonly floor: bigint
  readonly exponent: number
}

const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i
const HEXADECIMAL = /^([+-]?)0x([\da-f]*)(?:\.([\da-f]*))?(?:p([+-]?\d+))?$/i
const INFINITE = /^[+-]?inf(?:inity)?$/i

/**
 * The number that the text spells by the rules of C's strtold; undefined when it spells none, or one that overflows or
 * vanishes.
 */
export function parseLongDouble(bytes: Uint8Array): LongDouble | 'infinity' | undefined {
  if (bytes.length > TEXT_LENGTH_MAX) return undefined
  const text = keyOf(bytes)
  if (INFINITE.test(text)) return 'infinity'
  const decimal = DECIMAL.exec(text)
  if (decimal !== null) return fromDigits(decimal, 10)
  const hexadecimal = HEXADECIMAL.exec(text)
  return hexadecimal === null ? undefined : fromDigits(hexadecimal, 16)
}

function fromDigits(match: RegExpExecArray, base: 10 | 16): LongDouble | undefined {
  const [, sign, whole = '', fraction = '', power = '0'] = match
  const written = whole + fraction
  if (written === '') return undefined
  const digits = written.replace(/^0+/, '')
  const negative = sign === '-'
  if (digits === '') return { ...ZERO, negative }
  const exponent = Number(power) - fraction.length * (base === 10 ? 1 : 4)
  if (base === 16) {
    // Far outside every range, and Number may have made Infinity of it.
    const magnitude = exponent + digits.length * 4
    if (magnitude > EXPONENT_MAX * 2 || magnitude < EXPONENT_MIN * 2) return undefined
    return rounded(negative, BigInt(`0x${digits}`), 1n, exponent)
  }
  const magnitude = exponent + digits.length
  if (magnitude > DECIMAL_EXPONENT_MAX || magnitude < DECIMAL_EXPONENT_MIN) return undefined
  const few = digits.length <= FEW_DIGITS && Math.abs(exponent) < POWER_STEP
  return few ? exact(negative, digits, exponent) : nearest(negative, digits, exponent)
}

function exact(negative: boolean, digits: string, exponent: number): LongDouble | undefined {
  const value = BigInt(digits)
  return exponent >= 0
    ? rounded(negative, value * 10n ** BigInt(exponent), 1n, 0)
    : rounded(negative, value, 10n ** BigInt(-exponent), 0)
}

/** digits * 10 ** exponent from its first digits, and from all of them where these leave open which one it is. */
function nearest(negative: boolean, digits: string, exponent: number): LongDouble | undefined {
  const left = Math.max(0, digits.length - FEW_DIGITS)
  const first = BigInt(digits.slice(0, FEW_DIGITS))
  const power = exponent + left
  const steps = Math.floor(power / POWER_STEP)
  const large = largePower(steps)
  const small = smallPowers[power - steps * POWER_STEP] as bigint
  const below = rounded(negative, first * small * large.floor, 1n, large.exponent)
  const end = (left === 0 ? first : first + 1n) * small * (large.floor + 1n)
  const above = rounded(negative, end, 1n, large.exponent)
  const same = below?.mantissa === above?.mantissa && below?.exponent === above?.exponent
  if (same) return below
  // Nothing lies below the smallest float.
  const floor = below ?? { negative, mantissa: 0n, exponent: EXPONENT_MIN }
  const side = besideMiddle(floor, digits, exponent)
  return side < 0 || (side === 0 && (floor.mantissa & 1n) === 0n) ? below : above
}

/** How digits * 10 ** exponent, which lies above that float, compares with the middle of it and the next one. */
function besideMiddle(
  { mantissa, exponent: bits }: LongDouble,
  digits: string,
  exponent: number,
): number {
  const twice = 2n * mantissa + 1n
  const behind = Math.max(0, 1 - bits)
  const middle = String(
    behind > 0 ? fractionDigits(twice, behind) : decimalDigits(false, twice, bits - 1),
  )
  const further = digits.length + exponent - (middle.length - behind)
  if (further !== 0) return further
  const length = Math.max(digits.length, middle.length)
  const [given, half] = [digits.padEnd(length, '0'), middle.padEnd(length, '0')]
  return given === half ? 0 : given < half ? -1 : 1
}

function largePower(steps: number): Bounds {
  let bounds = largePowers.get(steps)
  if (bounds === undefined) {
    const power = 10n ** BigInt(Math.abs(steps) * POWER_STEP)
    const exponent = (steps >= 0 ? bitLength(power) : -bitLength(power)) - POWER_BITS
    const floor = steps >= 0 ? shifted(power, -exponent) : (1n << BigInt(-exponent)) / power
    bounds = { floor, exponent }
    largePowers.set(steps, bounds)
  }
  return bounds
}

/** The sum, rounded; undefined when it is infinite. */
export function addLongDouble(a: LongDouble, b: LongDouble): LongDouble | undefined {
  if (a.mantissa !== 0n && b.mantissa !== 0n) {
    // The larger one has all 64 bits, because the other one has room below it: it is further from its neighbours.
    if (a.exponent - b.exponent > FAR_APART) return a
    if (b.exponent - a.exponent > FAR_APART) return b
  }
  const exponent = Math.min(a.exponent, b.exponent)
  const sum =
    signed(a) * 2n ** BigInt(a.exponent - exponent) +
    signed(b) * 2n ** BigInt(b.exponent - exponent)
  if (sum === 0n) return ZERO
  return rounded(sum < 0n, sum < 0n ? -sum : sum, 1n, exponent)
}

/** What C's "%.17Lf" prints, in ASCII, without the zeros at its end; never "-0". */
export function formatLongDouble({ negative, mantissa, exponent }: LongDouble): Buffer {
  if (mantissa !== 0n && exponent >= 0) return decimalDigits(negative, mantissa, exponent)
  const units = shiftToEven(mantissa * 10n ** BigInt(FRACTION_DIGITS), -exponent)
  const digits = String(units).padStart(FRACTION_DIGITS + 1, '0')
  const fraction = digits.slice(-FRACTION_DIGITS).replace(/0+$/, '')
  const number = digits.slice(0, -FRACTION_DIGITS) + (fraction === '' ? '' : `.${fraction}`)
  return Buffer.from(negative && number !== '0' ? `-${number}` : number, 'latin1')
}

function signed({ negative, mantissa }: LongDouble): bigint {
  return negative ? -mantissa : mantissa
}

/** numerator / denominator * 2 ** exponent as the nearest float; undefined when that is infinite or zero. */
function rounded(
  negative: boolean,
  numerator: bigint,
  denominator: bigint,
  exponent: number,
): LongDouble | undefined {
  const whole = denominator === 1n
  const magnitude = whole ? bitLength(numerator) : magnitudeOf(numerator, denominator)
  const scale = Math.max(magnitude - MANTISSA_BITS, EXPONENT_MIN - exponent)
  const quotient = whole
    ? shiftToEven(numerator, scale)
    : scale >= 0
      ? divideToEven(numerator, denominator << BigInt(scale))
      : divideToEven(numerator << BigInt(-scale), denominator)
  if (quotient === 0n) return undefined
  // Rounding up may have made a 65th bit, and then the last is zero.
  const carried = bitLength(quotient) > MANTISSA_BITS
  const mantissa = carried ? quotient >> 1n : quotient
  const end = exponent + scale + (carried ? 1 : 0)
  const infinite = end + bitLength(mantissa) > EXPONENT_MAX + MANTISSA_BITS
  return infinite ? undefined : { negative, mantissa, exponent: end }
}

/** How many bits the whole part of numerator / denominator has; none or less when it is below one half. */
function magnitudeOf(numerator: bigint, denominator: bigint): number {
  // The number lies in [2 ** power, 2 ** (power + 1)) or just below; the comparison decides.
  const power = bitLength(numerator) - bitLength(denominator)
  const reached =
    power >= 0
      ? numerator >= denominator << BigInt(power)
      : numerator << BigInt(-power) >= denominator
  return reached ? power + 1 : power
}

/** value / 2 ** bits as the nearest integer; of two equally near the even one. */
function shiftToEven(value: bigint, bits: number): bigint {
  if (bits <= 0) return value << BigInt(-bits)
  const quotient = value >> BigInt(bits)
  const rest = BigInt.asUintN(bits, value)
  const half = 1n << BigInt(bits - 1)
  const up = rest > half || (rest === half && (quotient & 1n) === 1n)
  return up ? quotient + 1n : quotient
}

/** The nearest integer; of two equally near the even one. */
function divideToEven(numerator: bigint, denominator: bigint): bigint {
  const quotient = numerator / denominator
  const twice = (numerator - quotient * denominator) * 2n
  const up = twice > denominator || (twice === denominator && (quotient & 1n) === 1n)
  return up ? quotient + 1n : quotient
}

function shifted(value: bigint, left: number): bigint {
  return left >= 0 ? value << BigInt(left) : value >> BigInt(-left)
}

function bitLength(value: bigint): number {
  const hex = value.toString(16)
  return value === 0n ? 0 : hex.length * 4 - Math.clz32(Number.parseInt(hex.charAt(0), 16)) + 28
}
