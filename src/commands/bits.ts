/*
 * Strings as arrays of bits: the arithmetic behind SETBIT, BITCOUNT, BITPOS, BITOP and BITFIELD, without commands
 * and databases. Bit 0 is the highest of the first byte. What lies beyond the end of a string reads as zeros.
 */

const POPULATION = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0
  for (let rest = byte; rest > 0; rest >>= 1) count += rest & 1
  return count
})

/** Set bits from bit `first` to bit `last`, both included and inside the string. */
export function countBits(bytes: Uint8Array, first: number, last: number): number {
  const from = Math.floor(first / 8)
  const to = Math.floor(last / 8)
  let count = 0
  for (let at = from; at <= to; at++) count += POPULATION[bytes[at] as number] as number
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
  const skipped = bit === 1 ? 0 : 0xff
  let at = first
  while (at <= last) {
    if (at % 8 === 0 && bytes[at / 8] === skipped) at += 8
    else if (bitAt(bytes, at) === bit) return at
    else at++
  }
  return -1
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

/** The sources combined, as long as the longest of them; NOT takes one. */
export function combineBits(operation: BitOperation, sources: readonly Uint8Array[]): Uint8Array {
  const length = Math.max(...sources.map((source) => source.length))
  // Words of 32 bits in memory of their own: eight times as quick as bytes.
  const words = new Uint32Array(Math.ceil(length / 4))
  for (const [at, source] of sources.entries()) {
    const more = new Uint32Array(words.length)
    new Uint8Array(more.buffer).set(source)
    for (let i = 0; i < words.length; i++) {
      const left = words[i] as number
      const right = more[i] as number
      if (operation === 'not') words[i] = ~right
      else if (at === 0) words[i] = right
      else if (operation === 'and') words[i] = left & right
      else if (operation === 'or') words[i] = left | right
      else words[i] = left ^ right
    }
  }
  return new Uint8Array(words.buffer, 0, length)
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
