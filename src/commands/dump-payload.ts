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

/** The upper two bits of the first byte of a length. */
const LENGTH_14 = 0x40
const LENGTH_32 = 0x80
const LENGTH_64 = 0x81
const ENCODED = 0xc0
const ENCODED_INT8 = 0xc0
const ENCODED_INT16 = 0xc1
const ENCODED_INT32 = 0xc2
const ENCODED_LZF = 0xc3

export function encodeDump(value: Uint8Array): Uint8Array {
  const parts = [Buffer.of(TYPE_STRING), ...encodeString(value)]
  const bytes = Buffer.concat([...parts, Buffer.alloc(FOOTER_BYTES)])
  const footer = bytes.length - FOOTER_BYTES
  bytes.writeUInt16LE(WRITTEN_VERSION, footer)
  const { low, high } = crc64(bytes.subarray(0, footer + 2))
  bytes.writeUInt32LE(low, footer + 2)
  bytes.writeUInt32LE(high, footer + 6)
  return bytes
}

/** Whether version and checksum say that the payload may be read. */
export function isIntactDump(payload: Uint8Array): boolean {
  if (payload.length < FOOTER_BYTES) return false
  const bytes = asBuffer(payload)
  const footer = bytes.length - FOOTER_BYTES
  if (bytes.readUInt16LE(footer) > READ_VERSION_MAX) return false
  const { low, high } = crc64(bytes.subarray(0, footer + 2))
  return bytes.readUInt32LE(footer + 2) === low && bytes.readUInt32LE(footer + 6) === high
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

function encodeString(value: Uint8Array): Uint8Array[] {
  const integer = value.length <= INTEGER_TEXT_MAX ? encodeInteger(value) : undefined
  if (integer !== undefined) return [integer]
  if (value.length >= COMPRESS_BYTES_MIN) {
    const packed = compressLzf(value)
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

/** undefined when the result would not be at least four bytes shorter, Redis' own threshold. */
function compressLzf(input: Uint8Array): Uint8Array | undefined {
  const { length } = input
  const output = Buffer.allocUnsafe(length - 4)
  const seen = new Int32Array(1 << HASH_BITS).fill(-1)
  let out = 0
  let literals = 0
  /** Closes the run of literals before `at`. */
  function flush(at: number): boolean {
    for (let from = at - literals; from < at; from += LITERALS_MAX) {
      const count = Math.min(LITERALS_MAX, at - from)
      if (out + 1 + count > output.length) return false
      output[out++] = count - 1
      output.set(input.subarray(from, from + count), out)
      out += count
    }
    literals = 0
    return true
  }
  let at = 0
  while (at < length) {
    const match = at + 2 < length ? findMatch(input, at, seen) : 0
    if (match === 0) {
      at++
      literals++
      continue
    }
    const before = match >>> 16
    const count = match & 0xffff
    if (!flush(at) || out + 3 > output.length) return undefined
    const offset = before - 1
    if (count < 9) output[out++] = ((count - 2) << 5) | (offset >> 8)
    else {
      output[out++] = (7 << 5) | (offset >> 8)
      output[out++] = count - 9
    }
    output[out++] = offset & 0xff
    at += count
  }
  return flush(length) ? output.subarray(0, out) : undefined
}

/** How far back (upper bits) and how long (lower 16) an equal run at `at` is; 0 when there is none. */
function findMatch(input: Uint8Array, at: number, seen: Int32Array): number {
  const three = byteAt(input, at) | (byteAt(input, at + 1) << 8) | (byteAt(input, at + 2) << 16)
  const slot = Math.imul(three, 0x9e3779b1) >>> (32 - HASH_BITS)
  const candidate = seen[slot] ?? -1
  seen[slot] = at
  const before = at - candidate
  if (candidate < 0 || before > OFFSET_MAX) return 0
  const most = Math.min(MATCH_MAX, input.length - at)
  let count = 0
  while (count < most && input[candidate + count] === input[at + count]) count++
  return count < 3 ? 0 : before * 65_536 + count
}

function decompressLzf(packed: Uint8Array, length: number): Uint8Array | undefined {
  const output = Buffer.alloc(length)
  let out = 0
  let at = 0
  while (at < packed.length) {
    const control = byteAt(packed, at++)
    if (control < LITERALS_MAX) {
      const count = control + 1
      if (at + count > packed.length || out + count > length) return undefined
      output.set(packed.subarray(at, at + count), out)
      at += count
      out += count
      continue
    }
    let count = (control >> 5) + 2
    if (count === 9) count += byteAt(packed, at++)
    const from = out - (((control & 0x1f) << 8) | byteAt(packed, at)) - 1
    if (at++ >= packed.length || from < 0 || out + count > length) return undefined
    // Byte by byte: the reference may reach into what it is writing.
    for (let i = 0; i < count; i++) output[out++] = byteAt(output, from + i)
  }
  return out === length ? output : undefined
}

function byteAt(bytes: Uint8Array, index: number): number {
  return bytes[index] ?? 0
}

// ---- CRC64 as RDB has it: Jones' polynomial, reflected, starting from zero ------------------------------------------

const POLYNOMIAL = 0x95ac9329ac4bc9b5n
const SLICES = 4
/** Low and high words: table[slice * 256 + byte] is the effect of the byte `slice` bytes before the end of four. */
const CRC_LOW = new Uint32Array(SLICES * 256)
const CRC_HIGH = new Uint32Array(SLICES * 256)
fillCrcTables()

function fillCrcTables(): void {
  for (let byte = 0; byte < 256; byte++) {
    let crc = BigInt(byte)
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ POLYNOMIAL : crc >> 1n
    CRC_LOW[byte] = Number(crc & 0xffff_ffffn)
    CRC_HIGH[byte] = Number(crc >> 32n)
  }
  for (let at = 256; at < SLICES * 256; at++) {
    const low = CRC_LOW[at - 256] ?? 0
    const high = CRC_HIGH[at - 256] ?? 0
    CRC_LOW[at] = ((low >>> 8) | (high << 24)) ^ (CRC_LOW[low & 0xff] ?? 0)
    CRC_HIGH[at] = (high >>> 8) ^ (CRC_HIGH[low & 0xff] ?? 0)
  }
}

/** Four bytes a step, because a value may be many megabytes. */
function crc64(bytes: Uint8Array): { readonly low: number; readonly high: number } {
  let low = 0
  let high = 0
  let at = 0
  for (const end = bytes.length - 3; at < end; at += SLICES) {
    const a = (low ^ (bytes[at] as number)) & 0xff
    const b = ((low >>> 8) ^ (bytes[at + 1] as number)) & 0xff
    const c = ((low >>> 16) ^ (bytes[at + 2] as number)) & 0xff
    const d = ((low >>> 24) ^ (bytes[at + 3] as number)) & 0xff
    low =
      high ^
      (CRC_LOW[768 + a] as number) ^
      (CRC_LOW[512 + b] as number) ^
      (CRC_LOW[256 + c] as number) ^
      (CRC_LOW[d] as number)
    high =
      (CRC_HIGH[768 + a] as number) ^
      (CRC_HIGH[512 + b] as number) ^
      (CRC_HIGH[256 + c] as number) ^
      (CRC_HIGH[d] as number)
  }
  for (; at < bytes.length; at++) {
    const byte = (low ^ (bytes[at] as number)) & 0xff
    low = ((low >>> 8) | (high << 24)) ^ (CRC_LOW[byte] as number)
    high = (high >>> 8) ^ (CRC_HIGH[byte] as number)
  }
  return { low: low >>> 0, high: high >>> 0 }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
