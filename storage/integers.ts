/*
 * Big-endian unsigned integers in bytes, as every layout of this folder uses them: byte order is key order. 64-bit
 * fields are explicit and limited to safe integers, in both directions: LMDB's own integer keys wrap silently, and
 * a number above 2^53 would no longer count one by one.
 */

import { assert } from '../raft/assert.ts'

export const TWO_POW_32 = 0x1_0000_0000

/** Bytes from a disk or a peer that are not what they should be. */
export class CodecError extends Error {
  override readonly name = 'CodecError'
  readonly code = 'CODEC'
}

/** `value` is 0 to 2^32-1. */
export function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24
  bytes[offset + 1] = (value >>> 16) & 0xff
  bytes[offset + 2] = (value >>> 8) & 0xff
  bytes[offset + 3] = value & 0xff
}

export function readUint32(bytes: Uint8Array, offset: number): number {
  return (
    (bytes[offset] ?? 0) * 0x100_0000 +
    (((bytes[offset + 1] ?? 0) << 16) | ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0))
  )
}

/** `value` is a safe integer, 0 or more. */
export function writeUint64(bytes: Uint8Array, offset: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, () => `${value} is no safe integer`)
  writeUint32(bytes, offset, Math.floor(value / TWO_POW_32))
  writeUint32(bytes, offset + 4, value % TWO_POW_32)
}

/** Terms, indices and clocks are safe integers: a forged larger one would freeze the term for ever. */
export function readUint64(bytes: Uint8Array, offset: number): number {
  const value = readUint32(bytes, offset) * TWO_POW_32 + readUint32(bytes, offset + 4)
  if (!Number.isSafeInteger(value)) throw new CodecError('a 64-bit number is no safe integer')
  return value
}
