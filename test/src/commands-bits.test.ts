/*
 * Bits, fields of bits, common subsequences, long doubles and DUMP payloads, each against the plainest way to say
 * the same. What Redis itself answers is compared in test/redis.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  addToField,
  bitAt,
  combineBits,
  countBits,
  findBit,
  readField,
  setBitAt,
  writeField,
} from '../../src/commands/bits.ts'
import { decimalDigits } from '../../src/commands/decimal-digits.ts'
import { decodeDump, dumpSlices, isIntactDump } from '../../src/commands/dump-payload.ts'
import {
  addLongDouble,
  formatLongDouble,
  type LongDouble,
  parseLongDouble,
} from '../../src/commands/long-double.ts'
import { drained } from './command-fixture.ts'

/** The bits as text: '01011...'. */
function text(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')
}

const someBytes = fc.uint8Array({ minLength: 1, maxLength: 12 })
const runs = fc.array(fc.constantFrom(0, 0xff, 1, 0x80), { minLength: 1, maxLength: 12 })
const bytes = fc.oneof(
  someBytes,
  runs.map((list) => Uint8Array.from(list)),
)

test('counting and finding bits in any range', () => {
  fc.assert(
    fc.property(bytes, fc.nat(), fc.nat(), (value, a, b) => {
      const [first, last] = [a % (value.length * 8), b % (value.length * 8)].toSorted(
        (x, y) => x - y,
      )
      if (first === undefined || last === undefined) return
      const range = text(value).slice(first, last + 1)
      assert.equal(countBits(value, first, last), range.replaceAll('0', '').length)
      for (const bit of [0, 1] as const) {
        const found = range.indexOf(String(bit))
        assert.equal(findBit(value, bit, { first, last }), found < 0 ? -1 : first + found)
      }
    }),
  )
})

test('strings of unequal lengths combine as if they went on with zeros', () => {
  fc.assert(
    fc.property(fc.array(bytes, { minLength: 1, maxLength: 4 }), (sources) => {
      const length = Math.max(...sources.map((source) => source.length))
      const byteOf = (at: number) => sources.map((source) => source[at] ?? 0)
      const expected = {
        and: (all: number[]) => all.reduce((x, y) => x & y),
        or: (all: number[]) => all.reduce((x, y) => x | y),
        xor: (all: number[]) => all.reduce((x, y) => x ^ y),
      }
      for (const [name, combine] of Object.entries(expected)) {
        const plain = Array.from({ length }, (_, at) => combine(byteOf(at)))
        assert.deepEqual([...combineBits(name as 'and' | 'or' | 'xor', sources)], plain, name)
      }
      const [source] = sources as [Uint8Array]
      assert.deepEqual(
        [...combineBits('not', [source])],
        [...source].map((byte) => 255 - byte),
      )
    }),
  )
})

test('strings that are longer than a piece count, are searched and combine alike', () => {
  for (const length of [16_383, 16_384, 16_385, 50_001]) {
    const one = Uint8Array.from({ length }, (_, at) => (at * 7) % 251)
    const other = Uint8Array.from({ length: length - 9 }, (_, at) => (at * 13) % 256)
    const counted = [...one].reduce(
      (sum, byte) => sum + byte.toString(2).replaceAll('0', '').length,
      0,
    )
    assert.equal(countBits(one, 0, length * 8 - 1), counted)
    assert.equal(
      countBits(one, 8, length * 8 - 9),
      counted - countBits(one, 0, 7) - countBits(one, length * 8 - 8, length * 8 - 1),
    )
    for (const [name, combine] of [
      ['and', (a: number, b: number) => a & b],
      ['or', (a: number, b: number) => a | b],
      ['xor', (a: number, b: number) => a ^ b],
    ] as const) {
      const plain = one.map((byte, at) => combine(byte, other[at] ?? 0))
      assert.deepEqual(combineBits(name, [one, other]), plain, name)
      assert.deepEqual(combineBits(name, [other, one]), plain, name)
    }
    assert.deepEqual(
      combineBits('not', [one]),
      one.map((byte) => ~byte),
    )
    for (const bit of [0, 1] as const) {
      const same = new Uint8Array(length).fill(bit === 1 ? 0 : 255)
      const range = { first: 3, last: length * 8 - 1 }
      assert.equal(findBit(same, bit, range), -1)
      for (const at of [3, 64, 131_072, length * 8 - 1]) {
        if (at >= length * 8) continue
        const changed = same.slice()
        setBitAt(changed, at, bit)
        assert.equal(findBit(changed, bit, range), at)
        assert.equal(findBit(changed, bit, { first: at, last: at }), at)
        assert.equal(findBit(changed, bit, { first: 0, last: at - 1 }), -1)
      }
    }
  }
})

test('a field is what its bits say, and writing it changes no other bit', () => {
  fc.assert(
    fc.property(
      bytes,
      fc.nat(80),
      fc.integer({ min: 1, max: 64 }),
      fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
      (value, offset, width, number) => {
        const padded = text(value).padEnd(300, '0')
        const signed = width === 64 || number % 2n === 0n
        const raw = BigInt(`0b${padded.slice(offset, offset + width)}`)
        const plain = signed ? BigInt.asIntN(width, raw) : raw
        assert.equal(readField(value, offset, { signed, bits: width }), plain)
        const wide = new Uint8Array(40)
        wide.set(value)
        writeField(wide, offset, { bits: width, value: number })
        const written = BigInt.asUintN(width, number).toString(2).padStart(width, '0')
        const before = text(Uint8Array.from([...value, ...new Uint8Array(40)])).slice(0, 320)
        assert.equal(text(wide), before.slice(0, offset) + written + before.slice(offset + width))
        assert.equal(bitAt(wide, offset), Number(written[0]))
      },
    ),
  )
})

test('a sum that does not fit wraps, saturates or fails', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 64 }),
      fc.boolean(),
      fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
      fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
      (width, isSigned, start, by) => {
        const signed = isSigned || width === 64
        const bits = width
        const max = signed ? 2n ** BigInt(bits - 1) - 1n : 2n ** BigInt(bits) - 1n
        const min = signed ? -max - 1n : 0n
        const value = signed ? BigInt.asIntN(bits, start) : BigInt.asUintN(bits, start)
        const sum = value + by
        const fits = sum >= min && sum <= max
        const wrapped = signed ? BigInt.asIntN(bits, sum) : BigInt.asUintN(bits, sum)
        const saturated = sum > max ? max : min
        const add = (overflow: 'wrap' | 'sat' | 'fail') =>
          addToField({ signed, bits }, { value, by, overflow })
        assert.equal(add('wrap'), fits ? sum : wrapped)
        assert.equal(add('sat'), fits ? sum : saturated)
        assert.equal(add('fail'), fits ? sum : undefined)
      },
    ),
  )
})

function parsed(digits: string): ReturnType<typeof parseLongDouble> {
  return parseLongDouble(Buffer.from(digits, 'latin1'))
}

function float(digits: string): LongDouble {
  const value = parsed(digits)
  assert.ok(value !== undefined && value !== 'infinity', digits)
  return value
}

function spelt(value: LongDouble): string {
  return formatLongDouble(value).toString('latin1')
}

test('long doubles hold 64 bits of mantissa and round to even', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['18446744073709551615', '18446744073709551615'],
    // 2^64 + 1 lies between two floats and goes to the even one; 2^64 + 3 likewise, upwards.
    ['18446744073709551617', '18446744073709551616'],
    ['18446744073709551619', '18446744073709551620'],
    ['0.1', '0.1'],
    ['3.0e3', '3000'],
    ['0x1.8p1', '3'],
    ['-0', '0'],
    ['1e-30', '0'],
    ['-1e-30', '0'],
    ['0e999999999999', '0'],
  ]
  for (const [given, printed] of cases) assert.equal(spelt(float(given)), printed, given)
  for (const refused of [
    '',
    ' 1',
    '1 ',
    'abc',
    '1e',
    '.',
    '0x',
    'nan',
    '1e5000',
    '1e-5000',
    '--1',
  ]) {
    assert.equal(parsed(refused), undefined, refused)
  }
  assert.equal(parsed('-INF'), 'infinity')
  const sum = addLongDouble(float('0.1'), float('0.2'))
  assert.ok(sum !== undefined)
  assert.equal(spelt(sum), '0.3')
  assert.equal(addLongDouble(float('1.18973149535723176502e4932'), float('1e4932')), undefined)
})

/** Any float: few exponents are near the ends, where the last bits go, so these come more often. */
const floats = fc
  .tuple(
    fc.bigInt(2n ** 63n, 2n ** 64n - 1n),
    fc.oneof(fc.integer({ min: -16_445, max: 16_320 }), fc.integer({ min: -80, max: 80 })),
    fc.constantFrom(0, 1, 63),
  )
  .map(([mantissa, exponent, zeros]) => ({
    negative: false,
    mantissa: (mantissa >> BigInt(zeros)) << BigInt(zeros),
    exponent,
  }))

test('digits stay as they were given when more numbers are printed, up to the largest', () => {
  const mantissas = [1n, 10_000n, 2n ** 65n - 1n]
  const exponents = [0, 1, 23, 24, 4_096, 16_320, 16_383, 16_384]
  const numbers = mantissas.flatMap((mantissa) =>
    exponents.map((exponent) => ({ mantissa, exponent })),
  )
  const printed = numbers.map(({ mantissa, exponent }) => decimalDigits(false, mantissa, exponent))
  for (const [at, { mantissa, exponent }] of numbers.entries()) {
    assert.equal(String(printed[at]), String(mantissa << BigInt(exponent)))
  }
  // Several numbers share memory, so that not each is an object outside of the heap.
  const memories = new Set(printed.map(({ buffer }) => buffer))
  assert.ok(memories.size < printed.length / 3, `${memories.size} for ${printed.length}`)
  assert.throws(() => decimalDigits(false, 1n, 16_385), /no power/)
  assert.throws(() => decimalDigits(false, 2n ** 65n, 0), /no mantissa/)
})

test('a long double is printed exactly, and its neighbourhood is read as what is nearest', () => {
  const examples = { numRuns: 60 }
  const printed = fc.property(floats, ({ mantissa, exponent }) => {
    const whole = exponent >= 0 ? mantissa << BigInt(exponent) : undefined
    const text = spelt({ negative: true, mantissa, exponent })
    if (whole !== undefined) assert.equal(text, `-${whole}`)
  })
  fc.assert(printed, examples)
  // Halfway between two floats, and one digit beyond it: the first digits leave open which one it is.
  const read = fc.property(
    floats,
    fc.constantFrom(-1n, 0n, 1n),
    ({ mantissa, exponent }, beside) => {
      const halves = 2n * mantissa + 1n
      const ten = exponent > 0 ? 0 : Math.min(1 - exponent, 2400)
      const scaled =
        exponent > 0
          ? halves << BigInt(exponent - 1)
          : (halves * 10n ** BigInt(ten)) >> BigInt(1 - exponent)
      const digits = scaled + beside
      if (digits <= 0n) return
      const given = parsed(`${digits}e-${ten}`)
      if (given === undefined) return assert.ok(exponent > 16_300 || exponent < -16_300)
      assert.ok(given !== 'infinity')
      assertNearest(given, digits, 10n ** BigInt(ten))
    },
  )
  fc.assert(read, examples)
})

test('a number halfway between two floats is read without an integer of all its digits', (t) => {
  const largest = 2n ** 64n - 1n
  // What is halfway goes to the even one, and beside it a digit at the end decides: of the integer or of its fraction.
  for (const [mantissa, exponent] of [
    [largest - 1n, 16_320],
    [2n ** 63n, 16_320],
    [largest - 2n, 16_319],
    [largest, 9_000],
    [largest - 5n, 80],
  ] as const) {
    const middle = String((2n * mantissa + 1n) << BigInt(exponent - 1))
    const up = mantissa === largest ? [2n ** 63n, exponent + 1] : [mantissa + 1n, exponent]
    const isEven = mantissa % 2n === 0n
    const made = t.mock.method(globalThis, 'BigInt')
    const read = (text: string): readonly (bigint | number)[] => {
      const float = parsed(text)
      assert.ok(float !== undefined && float !== 'infinity')
      return [float.mantissa, float.exponent]
    }
    const above = read(`${middle}.${'0'.repeat(20)}1`)
    const halfway = read(`${middle}.${'0'.repeat(20)}`)
    const scaled = read(`${middle}${'0'.repeat(20)}e-20`)
    const below = read(`${BigInt(middle) - 1n}.9`)
    const longest = made.mock.calls.map((call) => String(call.arguments[0]).length)
    made.mock.restore()
    assert.deepEqual([above, below], [up, [mantissa, exponent]])
    assert.deepEqual([halfway, scaled], isEven ? [below, below] : [up, up])
    // The one of this test itself is the only long one.
    assert.equal(longest.filter((length) => length > 40).length, middle.length > 40 ? 1 : 0)
  }
  // A fraction of k bits ends k digits behind the point.
  for (const bits of [1, 9, 10, 64, 5_000, 7_000]) {
    for (const mantissa of [largest - 3n, 2n ** 63n]) {
      const middle = (2n * mantissa + 1n) * 5n ** BigInt(bits)
      const texts = [middle - 1n, middle, middle + 1n].map((digits) => `${digits}e-${bits}`)
      const made = t.mock.method(globalThis, 'BigInt')
      const read = texts.map((text) => float(text).mantissa)
      const longest = Math.max(...made.mock.calls.map((call) => String(call.arguments[0]).length))
      made.mock.restore()
      assert.deepEqual(read, [mantissa, mantissa, mantissa + 1n])
      assert.ok(longest <= 40, `${longest} digits`)
    }
  }
  // Half of the smallest float has more digits than a text may have: what is cut off is nothing, one more is the float.
  const half = 5n ** 16_446n / 10n ** 7_000n
  assert.equal(parsed(`${half}e-${16_446 - 7_000}`), undefined)
  const smallest = { negative: false, mantissa: 1n, exponent: -16_445 }
  assert.deepEqual(parsed(`${half + 1n}e-${16_446 - 7_000}`), smallest)
  const beyond = (2n * largest + 1n) << 16_319n
  assert.equal(parsed(`${beyond}`), undefined)
  assert.notEqual(parsed(`${beyond - 1n}`), undefined)
})

/** numerator / denominator lies within half of the last bit; exactly half only beside an even float. */
function assertNearest(float: LongDouble, numerator: bigint, denominator: bigint): void {
  const { mantissa, exponent } = float
  assert.ok(mantissa < 2n ** 64n && (mantissa >= 2n ** 63n || exponent === -16_445))
  const ulp = exponent >= 0 ? denominator << BigInt(exponent) : denominator
  const value = exponent >= 0 ? numerator : numerator << BigInt(-exponent)
  const off = 2n * (value > mantissa * ulp ? value - mantissa * ulp : mantissa * ulp - value)
  assert.ok(mantissa % 2n === 0n ? off <= ulp : off < ulp, `${numerator} / ${denominator}`)
}

test('of numbers far apart the sum is the larger one, as exact sums are', () => {
  const exactly = ({ mantissa, exponent }: LongDouble) => mantissa << BigInt(exponent + 16_445)
  fc.assert(
    fc.property(floats, fc.integer({ min: 60, max: 70 }), fc.boolean(), (large, gap, negative) => {
      const small = { ...large, exponent: Math.max(large.exponent - gap, -16_445), negative }
      const sum = addLongDouble(large, small)
      const exact = exactly(large) + (negative ? -1n : 1n) * exactly(small)
      if (sum !== undefined && exact > 0n) assertNearest(sum, exact, 2n ** 16_445n)
    }),
    { numRuns: 60 },
  )
})

test('a DUMP payload gives its value back, and a damaged one is found', () => {
  const repeated = fc
    .tuple(fc.uint8Array({ maxLength: 40 }), fc.nat(200))
    .map(([unit, times]) =>
      Uint8Array.from({ length: unit.length * times }, (_, at) => unit[at % unit.length] ?? 0),
    )
  const integers = fc.maxSafeInteger().map((value) => Uint8Array.from(Buffer.from(String(value))))
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ maxLength: 20_000 }), repeated, integers),
      fc.nat(),
      (value, at) => {
        const payload = Uint8Array.from(drained(dumpSlices(value)))
        assert.ok(isIntactDump(payload))
        assert.deepEqual(Buffer.from(decodeDump(payload, value.length) ?? []), Buffer.from(value))
        if (value.length > 0) assert.equal(decodeDump(payload, value.length - 1), undefined)
        const damaged = at % payload.length
        payload[damaged] = (payload[damaged] ?? 0) ^ 1
        assert.equal(isIntactDump(payload), false)
      },
    ),
  )
})

test('what LZF repeats comes again from every distance, in blocks where they are long', (t) => {
  const blocks = t.mock.method(Uint8Array.prototype, 'copyWithin')
  for (let offset = 1; offset <= 70; offset++) {
    const start = Uint8Array.from({ length: offset }, (_, at) => (at * 7 + offset) % 251)
    for (const count of [3, 8, 9, 63, 64, 65, 100, 128, 264]) {
      const literals: number[] = []
      for (let at = 0; at < offset; at += 32) {
        const run = start.subarray(at, at + 32)
        literals.push(run.length - 1, ...run)
      }
      const length = count >= 9 ? [0xe0, count - 9] : [(count - 2) << 5]
      const packed = [...literals, ...length, offset - 1]
      const value = decodeDump(packedString(packed, offset + count), 1000)
      const expected = Array.from({ length: offset + count }, (_, at) => start[at % offset])
      assert.deepEqual([...(value ?? [])], expected, `${count} bytes from ${offset} before`)
    }
  }
  // 4 counts of 64 and more from 55 distances: 264 bytes that come again from 16 before are five copies, not 264.
  assert.ok(blocks.mock.callCount() > 55 * 4 && blocks.mock.callCount() < 55 * 5 * 5)
})

test('a checksum is the same wherever the payload lies', () => {
  const payload = drained(dumpSlices(Buffer.from('some text, longer than eight bytes')))
  for (let at = 0; at < 8; at++) {
    const memory = new Uint8Array(payload.length + 8)
    memory.set(payload, at)
    assert.ok(isIntactDump(memory.subarray(at, at + payload.length)))
  }
})

/** As a payload has it, with a checksum that nobody looks at. */
function packedString(packed: readonly number[], length: number): Uint8Array {
  const lengths = [packed.length, length].flatMap((size) => [0x40 | (size >> 8), size & 0xff])
  return Uint8Array.from([0, 0xc3, ...lengths, ...packed, ...new Array(10).fill(0)])
}

test('a payload that unpacks to more than it says, or refers to before its beginning, is malformed', () => {
  const sealed = (...body: number[]): Uint8Array =>
    Uint8Array.from([0, ...body, ...new Array(10).fill(0)])
  assert.equal(decodeDump(sealed(0xc3, 2, 5, 0x00, 0x61), 100), undefined)
  assert.equal(decodeDump(sealed(0xc3, 2, 3, 0x20, 0x00), 100), undefined)
  assert.equal(decodeDump(sealed(5, 0x61), 100), undefined)
  assert.equal(decodeDump(sealed(0xc4), 100), undefined)
  assert.equal(decodeDump(sealed(0x80, 0xff, 0xff, 0xff, 0xff), 2 ** 40), undefined)
})
