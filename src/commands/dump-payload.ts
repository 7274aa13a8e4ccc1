/*
 * The byte form of a value that DUMP returns and RESTORE takes: an RDB string, a version and a CRC64, as the RDB
 * file format has them. Written is version 10, which Redis 7.0 and everything newer reads; strings that look like
 * small integers and strings that LZF makes shorter are packed as Redis packs them. Knows no database.
 */

import { Buffer } from 'node:buffer'
import { formatInt64, parseInt64 } from './arguments.ts'

const WRITTEN_VERSION = 10
/** Redis 7.2 writes 11; what is in a string has not changed since. */
const READ_VERSION_MAX = 11
const TYPE_STRING = 0
/** Version u16 and checksum u64, both little-endian. */
const FOOTER_BYTES = 10
const INTEGER_TEXT_MAX = 11
const COMPRESS_BYTES_MIN = 21
/** What is packed, copied or summed in one go: some milliseconds. */
const SLICE_BYTES = 1_048_576

/** The upper two bits of the first byte of a length. */
const LENGTH_14 = 0x40
const LENGTH_32 = 0x80
const LENGTH_64 = 0x81
const ENCODED = 0xc0
const ENCODED_INT8 = 0xc0
const ENCODED_INT16 = 0xc1
const ENCODED_INT32 = 0xc2
const ENCODED_LZF = 0xc3

/** Of work of some milliseconds each, which has no elements of a reply to show (Slices in command.ts). */
type Pieces<T> = Generator<readonly never[], T>

/** The payload of a value, made in pieces. */
export function* dumpSlices(value: Uint8Array): Pieces<Uint8Array> {
  const parts = [Buffer.of(TYPE_STRING), ...(yield* encodeString(value))]
  const length = parts.reduce((sum, part) => sum + part.length, FOOTER_BYTES)
  const bytes = length > SLICE_BYTES ? Buffer.allocUnsafeSlow(length) : Buffer.alloc(length)
  let at = 0
  for (const part of parts) {
    for (let from = 0; from < part.length; from += SLICE_BYTES) {
      const piece = part.subarray(from, from + SLICE_BYTES)
      bytes.set(piece, at)
      at += piece.length
      if (from + SLICE_BYTES < part.length) yield []
    }
  }
  bytes.writeUInt16LE(WRITTEN_VERSION, at)
  const crc = new Crc64()
  for (let from = 0; from < at + 2; from += SLICE_BYTES) {
    if (from > 0) yield []
    crc.add(bytes.subarray(from, Math.min(from + SLICE_BYTES, at + 2)))
  }
  bytes.writeUInt32LE(crc.low, at + 2)
  bytes.writeUInt32LE(crc.high, at + 6)
  return bytes
}

/** Whether version and checksum say that the payload may be read. */
export function isIntactDump(payload: Uint8Array): boolean {
  if (payload.length < FOOTER_BYTES) return false
  const bytes = asBuffer(payload)
  const footer = bytes.length - FOOTER_BYTES
  if (bytes.readUInt16LE(footer) > READ_VERSION_MAX) return false
  const crc = new Crc64()
  crc.add(bytes.subarray(0, footer + 2))
  return bytes.readUInt32LE(footer + 2) === crc.low && bytes.readUInt32LE(footer + 6) === crc.high
}

/** How long that string says that it is, before anything of it is read; 0 without one. */
export function dumpLength(payload: Uint8Array): number {
  if (payload[0] !== TYPE_STRING) return 0
  return new StringReader(asBuffer(payload).subarray(1)).length() ?? 0
}

/**
 * The string in an intact payload; undefined when it holds another type, is malformed, or would be longer than
 * `lengthMax`.
 */
export function decodeDump(payload: Uint8Array, lengthMax: number): Uint8Array | undefined {
  if (payload[0] !== TYPE_STRING) return undefined
  const bytes = asBuffer(payload).subarray(1, payload.length - FOOTER_BYTES)
  const value = new StringReader(bytes).read(lengthMax)
  return value !== undefined && value.length <= lengthMax ? value : undefined
}

function* encodeString(value: Uint8Array): Pieces<Uint8Array[]> {
  const integer = value.length <= INTEGER_TEXT_MAX ? encodeInteger(value) : undefined
  if (integer !== undefined) return [integer]
  if (value.length >= COMPRESS_BYTES_MIN) {
    const packed = yield* compressLzf(value)
    if (packed !== undefined) {
      const head = [Buffer.of(ENCODED_LZF), encodeLength(packed.length), encodeLength(value.length)]
      return [...head, packed]
    }
  }
  return [encodeLength(value.length), value]
}

function encodeInteger(value: Uint8Array): Uint8Array | undefined {
  const integer = parseInt64(value)
  if (typeof integer !== 'number' || (integer | 0) !== integer) return undefined
  const bytes = Buffer.alloc(5)
  bytes.writeInt32LE(integer, 1)
  if (integer >= -128 && integer <= 127) {
    bytes[0] = ENCODED_INT8
    return bytes.subarray(0, 2)
  }
  const short = integer >= -32_768 && integer <= 32_767
  bytes[0] = short ? ENCODED_INT16 : ENCODED_INT32
  return short ? bytes.subarray(0, 3) : bytes
}

function encodeLength(length: number): Uint8Array {
  if (length < 64) return Buffer.of(length)
  if (length < 16_384) return Buffer.of(LENGTH_14 | (length >> 8), length & 0xff)
  const bytes = Buffer.alloc(5)
  bytes[0] = LENGTH_32
  bytes.writeUInt32BE(length, 1)
  return bytes
}

class StringReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  read(lengthMax: number): Uint8Array | undefined {
    const first = this.#bytes[this.#at]
    if (first === undefined) return undefined
    if (first >= ENCODED) return this.#encoded(first, lengthMax)
    const length = this.#length()
    return length === undefined || length > lengthMax ? undefined : this.#take(length)
  }

  /** Of the string, when it is not a short integer. */
  length(): number | undefined {
    if (this.#bytes[this.#at] !== ENCODED_LZF) return this.#length()
    this.#at++
    return this.#length() === undefined ? undefined : this.#length()
  }

  #encoded(encoding: number, lengthMax: number): Uint8Array | undefined {
    this.#at++
    if (encoding === ENCODED_LZF) {
      const packedLength = this.#length()
      const length = this.#length()
      if (packedLength === undefined || length === undefined || length > lengthMax) return undefined
      const packed = this.#take(packedLength)
      return packed === undefined ? undefined : decompressLzf(packed, length)
    }
    const size = [1, 2, 4][encoding - ENCODED_INT8]
    const bytes = size === undefined ? undefined : this.#take(size)
    return bytes && formatInt64(bytes.readIntLE(0, bytes.length))
  }

  #length(): number | undefined {
    const first = this.#take(1)?.[0]
    if (first === undefined || first >= ENCODED) return undefined
    if (first < LENGTH_14) return first
    if (first < LENGTH_32) {
      const second = this.#take(1)?.[0]
      return second === undefined ? undefined : ((first & 0x3f) << 8) | second
    }
    if (first === LENGTH_32) return this.#take(4)?.readUInt32BE(0)
    if (first !== LENGTH_64) return undefined
    const wide = this.#take(8)
    return wide && wide.readUInt32BE(0) * 2 ** 32 + wide.readUInt32BE(4)
  }

  #take(length: number): Buffer | undefined {
    const end = this.#at + length
    if (end > this.#bytes.length) return undefined
    const taken = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return taken
  }
}

// ---- LZF: literal runs of up to 32 bytes, and references of up to 264 bytes to at most 8 KiB before --------------

const LITERALS_MAX = 32
const OFFSET_MAX = 8192
const MATCH_MAX = 264
const HASH_BITS = 14
/** Between two places at which a match is looked for, and how many literals make it longer by one. */
const STEP_MAX = 16
/** From so many bytes on, and so few copies for them, copying blocks is quicker than byte by byte. */
const BLOCK_BYTES_MIN = 64
const PERIOD_MIN = 16
const LITERALS_PER_STEP_BITS = 8

/** undefined when the result would not be at least four bytes shorter, Redis' own threshold. */
function* compressLzf(input: Uint8Array): Pieces<Uint8Array | undefined> {
  const packer = new LzfPacker(input)
  while (packer.at < input.length) {
    if (packer.at > 0) yield []
    if (!packer.pack(packer.at + SLICE_BYTES)) return undefined
  }
  return packer.finish()
}

class LzfPacker {
  /** Everything before it is packed, or waits as literals. */
  at = 0
  readonly #input: Uint8Array
  readonly #output: Uint8Array
  /** Where three bytes of this hash stood last, plus one. */
  readonly #seen = new Int32Array(1 << HASH_BITS)
  #out = 0
  /** Where the literals begin that wait for their length. */
  #literals = 0

  constructor(input: Uint8Array) {
    this.#input = input
    this.#output = Buffer.allocUnsafeSlow(input.length - 4)
  }

  /** Up to some place from `to` on, or to the end; false: there is no room. */
  pack(to: number): boolean {
    const input = this.#input
    const output = this.#output
    const seen = this.#seen
    const last = Math.min(to, input.length - 2)
    let at = this.at
    while (at < last) {
      const three =
        (input[at] as number) | ((input[at + 1] as number) << 8) | ((input[at + 2] as number) << 16)
      const slot = Math.imul(three, 0x9e3779b1) >>> (32 - HASH_BITS)
      const candidate = (seen[slot] as number) - 1
      seen[slot] = at + 1
      const offset = at - candidate - 1
      const count = candidate < 0 || offset >= OFFSET_MAX ? 0 : this.#equal(candidate, at)
      if (count < 3) {
        // Where nothing has come again for long, less is looked for: noise would take most of the time.
        at += Math.min(STEP_MAX, 1 + ((at - this.#literals) >> LITERALS_PER_STEP_BITS))
        continue
      }
      if (!this.#flush(at) || this.#out + 3 > output.length) return false
      output[this.#out++] = (Math.min(count - 2, 7) << 5) | (offset >> 8)
      if (count >= 9) output[this.#out++] = count - 9
      output[this.#out++] = offset & 0xff
      at += count
      this.#literals = at
    }
    // The last two bytes are no beginning of three.
    this.at = at < input.length - 2 ? at : input.length
    return true
  }

  finish(): Uint8Array | undefined {
    return this.#flush(this.#input.length) ? this.#output.subarray(0, this.#out) : undefined
  }

  #equal(candidate: number, at: number): number {
    const input = this.#input
    const most = Math.min(MATCH_MAX, input.length - at)
    let count = 0
    while (count < most && input[candidate + count] === input[at + count]) count++
    return count
  }

  /** The literals before `at` in runs, each behind its length. */
  #flush(at: number): boolean {
    const input = this.#input
    const output = this.#output
    let out = this.#out
    for (let from = this.#literals; from < at; ) {
      const count = Math.min(LITERALS_MAX, at - from)
      if (out + 1 + count > output.length) return false
      output[out++] = count - 1
      for (const end = from + count; from < end; ) output[out++] = input[from++] as number
    }
    this.#out = out
    return true
  }
}

function decompressLzf(packed: Uint8Array, length: number): Uint8Array | undefined {
  const output = new Uint8Array(length)
  let out = 0
  let at = 0
  while (at < packed.length) {
    const control = packed[at++] as number
    if (control < LITERALS_MAX) {
      const end = at + control + 1
      if (end > packed.length || out + control >= length) return undefined
      while (at < end) output[out++] = packed[at++] as number
      continue
    }
    let count = (control >> 5) + 2
    if (count === 9) count += packed[at++] ?? 0
    const offset = (((control & 0x1f) << 8) | (packed[at] ?? 0)) + 1
    if (at++ >= packed.length || offset > out || out + count > length) return undefined
    repeat(output, out, { offset, count })
    out += count
  }
  return out === length ? output : undefined
}

/** Writes `count` bytes at `to`: those from `offset` before it on, which may reach into what is being written. */
function repeat(
  output: Uint8Array,
  to: number,
  { offset, count }: { readonly offset: number; readonly count: number },
): void {
  const from = to - offset
  const end = to + count
  if (count < BLOCK_BYTES_MIN || (offset < PERIOD_MIN && offset > 1)) {
    for (let at = to; at < end; at++) output[at] = output[at - offset] as number
  } else if (offset === 1) {
    output.fill(output[from] as number, to, end)
  } else {
    // What is written goes on as what it repeats: each copy may be twice as long as the one before.
    for (let at = to, width = offset; at < end; at += width, width *= 2) {
      output.copyWithin(at, from, from + Math.min(width, end - at))
    }
  }
}

// ---- CRC64 as RDB has it: Jones' polynomial, reflected, starting from zero ------------------------------------------

const POLYNOMIAL = 0x95ac9329ac4bc9b5n
const SLICES = 8
/** Low and high words: table[slice * 256 + byte] is the effect of the byte `slice` bytes before the end of eight. */
const CRC_LOW = new Int32Array(SLICES * 256)
const CRC_HIGH = new Int32Array(SLICES * 256)
fillCrcTables()

function fillCrcTables(): void {
  for (let byte = 0; byte < 256; byte++) {
    let crc = BigInt(byte)
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ POLYNOMIAL : crc >> 1n
    CRC_LOW[byte] = Number(BigInt.asIntN(32, crc))
    CRC_HIGH[byte] = Number(BigInt.asIntN(32, crc >> 32n))
  }
  for (let at = 256; at < SLICES * 256; at++) {
    const low = CRC_LOW[at - 256] ?? 0
    const high = CRC_HIGH[at - 256] ?? 0
    CRC_LOW[at] = ((low >>> 8) | (high << 24)) ^ (CRC_LOW[low & 0xff] ?? 0)
    CRC_HIGH[at] = (high >>> 8) ^ (CRC_HIGH[low & 0xff] ?? 0)
  }
}

/** Eight bytes a step, because a value may be many megabytes. */
class Crc64 {
  #low = 0
  #high = 0

  get low(): number {
    return this.#low >>> 0
  }

  get high(): number {
    return this.#high >>> 0
  }

  add(bytes: Uint8Array): void {
    let low = this.#low
    let high = this.#high
    let at = 0
    const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    for (const end = bytes.length - 7; at < end; at += SLICES) {
      const first = low ^ words.getInt32(at, true)
      const second = high ^ words.getInt32(at + 4, true)
      const a = 1792 + (first & 0xff)
      const b = 1536 + ((first >>> 8) & 0xff)
      const c = 1280 + ((first >>> 16) & 0xff)
      const d = 1024 + (first >>> 24)
      const e = 768 + (second & 0xff)
      const f = 512 + ((second >>> 8) & 0xff)
      const g = 256 + ((second >>> 16) & 0xff)
      const h = second >>> 24
      low = fold(CRC_LOW, a, b, c, d) ^ fold(CRC_LOW, e, f, g, h)
      high = fold(CRC_HIGH, a, b, c, d) ^ fold(CRC_HIGH, e, f, g, h)
    }
    for (; at < bytes.length; at++) {
      const byte = (low ^ (bytes[at] as number)) & 0xff
      low = ((low >>> 8) | (high << 24)) ^ (CRC_LOW[byte] as number)
      high = (high >>> 8) ^ (CRC_HIGH[byte] as number)
    }
    this.#low = low
    this.#high = high
  }
}

function fold(table: Int32Array, a: number, b: number, c: number, d: number): number {
  return (table[a] as number) ^ (table[b] as number) ^ (table[c] as number) ^ (table[d] as number)
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
