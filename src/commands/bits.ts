/*
 * Strings as arrays of bits: the arithmetic behind SETBIT, BITCOUNT, BITPOS, BITOP and BITFIELD, without commands
 * and databases. Bit 0 is the highest of the first byte. What lies beyond the end of a string reads as zeros.
 */

const POPULATION = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0
  for (let rest = byte; rest > 0; rest >>= 1) count += rest & 1
  return count
})

/** Pieces of a string in memory that can be read as words of 32 bits: several times as quick as bytes. */
const words = new Uint32Array(4096)
const wordBytes = new Uint8Array(words.buffer)

/** Copies the next piece into `words`, with zeros behind it. */
function loadWords(bytes: Uint8Array, from: number, to: number): void {
  const piece = bytes.subarray(from, Math.min(to, from + wordBytes.length))
  wordBytes.set(piece)
  wordBytes.fill(0, piece.length)
}

/** Sums of two bits, of four, of eight, and then of all (Hacker's Delight, 5-1), for four words a turn. */
function countInWords(): number {
  let count = 0
  for (let i = 0; i < words.length; i += 4) {
    const first = countsOfFour(words[i] as number) + countsOfFour(words[i + 1] as number)
    const second = countsOfFour(words[i + 2] as number) + countsOfFour(words[i + 3] as number)
    count += Math.imul(countsOfEight(first) + countsOfEight(second), 0x01010101) >>> 24
  }
  return count
}

/** Of each four bits of the word how many are set, in their place. */
function countsOfFour(word: number): number {
  const ofTwo = word - ((word >>> 1) & 0x55555555)
  return ((ofTwo & 0x33333333) + ((ofTwo >>> 2) & 0x33333333)) | 0
}

/** Of sums of at most 15 in four bits each those in eight. */
function countsOfEight(sums: number): number {
  return ((sums & 0x0f0f0f0f) + ((sums >>> 4) & 0x0f0f0f0f)) | 0
}

/** Set bits from bit `first` to bit `last`, both included and inside the string. */
export function countBits(bytes: Uint8Array, first: number, last: number): number {
  const from = Math.floor(first / 8)
  const to = Math.floor(last / 8)
  let count = 0
  for (let at = from; at <= to; at += wordBytes.length) {
    loadWords(bytes, at, to + 1)
    count += countInWords()
  }
  const before = (bytes[from] as number) & ~(0xff >> (first % 8))
  const behind = (bytes[to] as number) & (0x7f >> (last % 8))
  return count - (POPULATION[before & 0xff] as number) - (POPULATION[behind] as number)
}

/** The first bit from `first` to `last` (both inside) that is `bit`; -1 when there is none. */
export function findBit(
  bytes: Uint8Array,
  bit: 0 | 1,
  { first, last }: { readonly first: number; readonly last: number },
): number {
  let at = first
  while (at % 8 !== 0 && at <= last) {
    if (bitAt(bytes, at) === bit) return at
    at++
  }
  for (at = skipWords(bytes, bit, { from: at / 8, to: (last + 1) / 8 }) * 8; at <= last; at++) {
    if (bitAt(bytes, at) === bit) return at
  }
  return -1
}

/** The byte from which on it is worth looking for the bit: none of those before it, from byte `from` on, has it. */
function skipWords(
  bytes: Uint8Array,
  bit: 0 | 1,
  { from, to }: { readonly from: number; readonly to: number },
): number {
  const skipped = bit === 1 ? 0 : 0xffffffff
  let at = from
  for (; at + wordBytes.length <= to; at += wordBytes.length) {
    loadWords(bytes, at, at + wordBytes.length)
    for (let i = 0; i < words.length; i++) if (words[i] !== skipped) return at + i * 4
  }
  // The rest is shorter than a piece.
  while (at + 1 <= to && bytes[at] === (skipped & 0xff)) at++
  return at
}

export function bitAt(bytes: Uint8Array, offset: number): 0 | 1 {
  const byte = bytes[Math.floor(offset / 8)] ?? 0
  return ((byte >> (7 - (offset % 8))) & 1) as 0 | 1
}

/** Changes one bit in place; it must lie inside. */
export function setBitAt(bytes: Uint8Array, offset: number, bit: 0 | 1): void {
  const mask = 0x80 >> (offset % 8)
  const at = Math.floor(offset / 8)
  const byte = bytes[at] as number
  bytes[at] = bit === 1 ? byte | mask : byte & ~mask
}

export type BitOperation = 'and' | 'or' | 'xor' | 'not'

/** What was combined so far of the piece at hand. */
const combined = new Uint32Array(words.length)
const combinedBytes = new Uint8Array(combined.buffer)

/**
 * The sources combined, as long as the longest of them; NOT takes one. Piece by piece, because memory that is touched
 * for the first time costs more than all of the arithmetic: the result is touched once.
 */
export function combineBits(operation: BitOperation, sources: readonly Uint8Array[]): Uint8Array {
  const length = Math.max(...sources.map((source) => source.length))
  const result = new Uint8Array(length)
  const [first = result, ...others] = sources
  for (let at = 0; at < length; at += wordBytes.length) {
    loadWords(first, at, first.length)
    combined.set(words)
    if (operation === 'not') {
      words.fill(0xffffffff)
      combineWords('xor', combined)
    }
    for (const source of others) {
      loadWords(source, at, source.length)
      combineWords(operation, combined)
    }
    result.set(combinedBytes.subarray(0, length - at), at)
  }
  return result
}

/**
 * Combines `words` into the result, which is as long. The loops take four words a turn, because most of a turn's time
 * is not the operation itself: 5 instead of 8.5 ms for 16 MiB.
 */
function combineWords(operation: BitOperation, result: Uint32Array): void {
  const { length } = result
  if (operation === 'and') {
    for (let i = 0; i < length; i += 4) {
      result[i] = (result[i] as number) & (words[i] as number)
      result[i + 1] = (result[i + 1] as number) & (words[i + 1] as number)
      result[i + 2] = (result[i + 2] as number) & (words[i + 2] as number)
      result[i + 3] = (result[i + 3] as number) & (words[i + 3] as number)
    }
  } else if (operation === 'or') {
    for (let i = 0; i < length; i += 4) {
      result[i] = (result[i] as number) | (words[i] as number)
      result[i + 1] = (result[i + 1] as number) | (words[i + 1] as number)
      result[i + 2] = (result[i + 2] as number) | (words[i + 2] as number)
      result[i + 3] = (result[i + 3] as number) | (words[i + 3] as number)
    }
  } else {
    for (let i = 0; i < length; i += 4) {
      result[i] = (result[i] as number) ^ (words[i] as number)
      result[i + 1] = (result[i + 1] as number) ^ (words[i + 1] as number)
      result[i + 2] = (result[i + 2] as number) ^ (words[i + 2] as number)
      result[i + 3] = (result[i + 3] as number) ^ (words[i + 3] as number)
    }
  }
}

/** An integer of `bits` bits: 1 to 64 when signed, 1 to 63 when not. */
export interface FieldType {
  readonly signed: boolean
  readonly bits: number
}

export type Overflow = 'wrap' | 'sat' | 'fail'

export function readField(bytes: Uint8Array, offset: number, { signed, bits }: FieldType): bigint {
  // Nine bytes hold any field, wherever in its first byte it begins.
  const first = Math.floor(offset / 8)
  let value = 0n
  for (let at = first; at < first + 9; at++) value = (value << 8n) | BigInt(bytes[at] ?? 0)
  const shifted = value >> BigInt(72 - bits - (offset % 8))
  return signed ? BigInt.asIntN(bits, shifted) : BigInt.asUintN(bits, shifted)
}

/** Writes the lowest bits of `value` in place; the field must lie inside. */
export function writeField(
  bytes: Uint8Array,
  offset: number,
  { bits, value }: { readonly bits: number; readonly value: bigint },
): void {
  for (let i = 0; i < bits; i++) {
    setBitAt(bytes, offset + i, Number((value >> BigInt(bits - 1 - i)) & 1n) as 0 | 1)
  }
}

/**
 * value + by as the type holds it; undefined when it does not fit and `overflow` is 'fail'. Redis computes the room
 * above and below in 64 bits that wrap, which shows with a `value` far outside the type: so does this.
 */
export function addToField(
  { signed, bits }: FieldType,
  { value, by, overflow }: { value: bigint; by: bigint; overflow: Overflow },
): bigint | undefined {
  const max = signed ? 2n ** BigInt(bits - 1) - 1n : 2n ** BigInt(bits) - 1n
  const min = signed ? -max - 1n : 0n
  const above = BigInt.asIntN(64, max - value)
  const below = BigInt.asIntN(64, min - value)
  const wide = signed && bits === 64
  const over = value > max || (by > above && (signed ? !wide || value >= 0n : by > 0n))
  const under = !over && (value < min || (by < below && (signed ? !wide || value < 0n : by < 0n)))
  if (!over && !under) return value + by
  if (overflow === 'fail') return undefined
  if (overflow === 'sat') return over ? max : min
  return signed ? BigInt.asIntN(bits, value + by) : BigInt.asUintN(bits, value + by)
}
