/*
 * Numbers and byte strings as the layouts of commands and transactions have them: LEB128 below 2^32, so that what is
 * short costs one byte, and bytes behind their number. Reading treats everything as hostile: nothing is allocated
 * from a length that the bytes at hand do not back.
 */

import { Buffer } from 'node:buffer'
import { CodecError, readUint64, TWO_POW_32 } from './integers.ts'

/** Above this TypedArray.set is quicker than a loop over the bytes. */
const LOOP_COPY_BYTES_MAX = 24

/** Reads LEB128 numbers below 2^32 and what they count; every step is checked against the bytes at hand. */
export class VarintReader {
  /** A Buffer: its parts are Buffers too, so a command that makes text of one needs no further view of it. */
  readonly #data: Buffer
  #offset: number

  constructor(data: Uint8Array, offset: number) {
    this.#data = Buffer.from(data.buffer, data.byteOffset, data.length)
    this.#offset = offset
  }

  byte(): number {
    const byte = this.#data[this.#offset++]
    if (byte === undefined) throw new CodecError('commands are cut short')
    return byte
  }

  next(): number {
    let value = 0
    let scale = 1
    for (;;) {
      const byte = this.byte()
      value += (byte & 0x7f) * scale
      if (value >= TWO_POW_32) throw new CodecError('a number in commands is too large')
      if (byte < 0x80) return value
      scale *= 128
      if (scale > TWO_POW_32) throw new CodecError('a number in commands is too long')
    }
  }

  bytes(length: number): Uint8Array {
    const end = this.#offset + length
    if (end > this.#data.length) throw new CodecError('commands are cut short')
    const view = this.#data.subarray(this.#offset, end)
    this.#offset = end
    return view
  }

  /** A length and as many bytes: a view of the data. */
  string(): Uint8Array {
    return this.bytes(this.next())
  }

  /** The same without the view. */
  skipString(): void {
    const length = this.next()
    this.#offset += length
    if (this.#offset > this.#data.length) throw new CodecError('commands are cut short')
  }

  /** Where the next byte is read. */
  get offset(): number {
    return this.#offset
  }

  uint64(): number {
    return readUint64(this.bytes(8), 0)
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#data.length
  }

  expectEnd(): void {
    if (!this.isAtEnd) throw new CodecError('bytes follow the last command')
  }
}

export function varintLength(value: number): number {
  let length = 1
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) length++
  return length
}

export function writeVarint(bytes: Uint8Array, offset: number, value: number): number {
  let at = offset
  let rest = value
  while (rest >= 0x80) {
    bytes[at++] = (rest % 128) | 0x80
    rest = Math.floor(rest / 128)
  }
  bytes[at++] = rest
  return at
}

/** Bytes so many, and as many bytes of memory for them. */
export function stringLength(value: Uint8Array): number {
  return varintLength(value.length) + value.length
}

/** A length and the bytes; gives where they end. */
export function writeString(bytes: Uint8Array, offset: number, value: Uint8Array): number {
  const at = writeVarint(bytes, offset, value.length)
  return copyBetween(bytes, at, value, 0, value.length)
}

/** Makes no view for a short copy: there is one for every command that is logged. */
function copyBetween(
  target: Uint8Array,
  offset: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  const length = end - start
  if (length > LOOP_COPY_BYTES_MAX) target.set(bytes.subarray(start, end), offset)
  else for (let i = 0; i < length; i++) target[offset + i] = bytes[start + i] ?? 0
  return offset + length
}

/** Some of the bytes of a longer piece. */
export interface ByteRange {
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

/** Gives where the copy ends. */
export function copyRange(
  target: Uint8Array,
  offset: number,
  { bytes, start, end }: ByteRange,
): number {
  return copyBetween(target, offset, bytes, start, end)
}

/** Memory of its own, not zeroed: every byte of it is written before anyone sees it. */
export function allocateBytes(length: number): Uint8Array {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
}
