/*
 * The byte form of one value in the state environment: a header (checksum, type, expiry, version), then the value.
 * The checksum covers the key as well, so a record under the wrong key is found too; it is checked at every read
 * from disk, because LMDB has no checksum of its own. It knows no engine and no memtable.
 */

import { crc32 } from 'node:zlib'
import { assert } from '../raft/assert.ts'
import type { Index } from '../raft/types.ts'
import { readUint32, readUint64, writeUint32, writeUint64 } from './integers.ts'
import { isHashed } from './layout.ts'

export interface StoredValue {
  readonly type: 'string'
  /** In ms of the logical clock; 0 when the key never expires. */
  readonly expireAt: number
  /** Index of the entry that last changed the key. */
  readonly version: Index
  readonly value: Uint8Array
}

/** What the disk returned is not what was written. Fatal: nothing may be served from this node any longer. */
export class CorruptStateError extends Error {
  override readonly name = 'CorruptStateError'
  readonly code = 'CORRUPT_STATE'
  /** The message without what to do. */
  readonly what: string

  constructor(what: string) {
    super(
      `${what}. This disk has lost or changed a part of the state. Do not copy files from another node: ` +
        'start it with --rejoin host:peerport of another member. That empties the data directory and lets a new node take its place.',
    )
    this.what = what
  }
}

/** Layout: crc32 u32 | type u8 | expireAt u64 | version u64 | [key length u32 | key, when hashed] | value. */
export const RECORD_HEADER_BYTES = 21
const TYPE_STRING = 1

/** Writes the header of `value` at `offset`, but for the checksum, which sealRecord adds. */
export function writeRecordHeader(bytes: Uint8Array, offset: number, value: StoredValue): void {
  bytes[offset + 4] = TYPE_STRING
  writeUint64(bytes, offset + 5, value.expireAt)
  writeUint64(bytes, offset + 13, value.version)
}

/**
 * The record as it goes to disk: with its checksum (written in place), and with the user key inside when the disk
 * key has only its hash. `record` is header and value as writeRecordHeader began it.
 */
export function sealRecord(diskKey: Uint8Array, key: Uint8Array, record: Uint8Array): Uint8Array {
  const sealed = isHashed(diskKey) ? withKey(key, record) : record
  writeUint32(sealed, 0, checksum(diskKey, sealed))
  return sealed
}

/** Throws CorruptStateError unless the record is exactly what sealRecord made for this disk key. */
export function checkRecord(diskKey: Uint8Array, record: Uint8Array): void {
  const intact =
    record.length >= RECORD_HEADER_BYTES &&
    record[4] === TYPE_STRING &&
    readUint32(record, 0) === checksum(diskKey, record)
  if (!intact) {
    throw new CorruptStateError(
      `the record of key ${Buffer.from(diskKey).toString('hex')} is damaged on disk`,
    )
  }
}

/**
 * The value in a record that the caller owns (`value` is a view of it). Throws CorruptStateError when the record is
 * damaged, or carries another key than `key` (a latin1 string).
 */
export function decodeRecord(diskKey: Uint8Array, key: string, record: Uint8Array): StoredValue {
  checkRecord(diskKey, record)
  let start = RECORD_HEADER_BYTES
  if (isHashed(diskKey)) {
    start += 4 + readUint32(record, RECORD_HEADER_BYTES)
    const stored = Buffer.from(record.buffer, record.byteOffset, record.length)
    if (stored.toString('latin1', RECORD_HEADER_BYTES + 4, start) !== key) {
      throw new CorruptStateError('two keys have one SHA-256')
    }
  }
  return decodeRecordHeader(record, 0, record.subarray(start))
}

/** When the key of the record at `offset` expires; 0: never. It checks nothing. */
export function recordExpiry(bytes: Uint8Array, offset = 0): number {
  return readUint64(bytes, offset + 5)
}

/** The value with what the header at `offset` says of it. It checks nothing. */
export function decodeRecordHeader(
  bytes: Uint8Array,
  offset: number,
  value: Uint8Array,
): StoredValue {
  return {
    type: 'string',
    expireAt: recordExpiry(bytes, offset),
    version: readUint64(bytes, offset + 13),
    value,
  }
}

/** What stands under a key of the expiry index: its checksum. */
export function expiryRecord(key: Uint8Array): Uint8Array {
  const record = new Uint8Array(4)
  writeUint32(record, 0, crc32(key))
  return record
}

/** Throws CorruptStateError unless the record is what expiryRecord made for this key. */
export function checkExpiryRecord(key: Uint8Array, record: Uint8Array): void {
  if (record.length === 4 && readUint32(record, 0) === crc32(key)) return
  throw new CorruptStateError(
    `the expiry record ${Buffer.from(key).toString('hex')} is damaged on disk`,
  )
}

/** The user key (latin1 text) in the record of a hashed disk key. Throws CorruptStateError when it is damaged. */
export function keyInRecord(diskKey: Uint8Array, record: Uint8Array): string {
  checkRecord(diskKey, record)
  const start = RECORD_HEADER_BYTES + 4
  const end = start + readUint32(record, RECORD_HEADER_BYTES)
  return Buffer.from(record.buffer, record.byteOffset, record.length).toString('latin1', start, end)
}

function withKey(key: Uint8Array, record: Uint8Array): Uint8Array {
  assert(record.length >= RECORD_HEADER_BYTES, () => `a record of ${record.length} bytes`)
  const bytes = new Uint8Array(record.length + 4 + key.length)
  bytes.set(record.subarray(0, RECORD_HEADER_BYTES))
  writeUint32(bytes, RECORD_HEADER_BYTES, key.length)
  bytes.set(key, RECORD_HEADER_BYTES + 4)
  bytes.set(record.subarray(RECORD_HEADER_BYTES), RECORD_HEADER_BYTES + 4 + key.length)
  return bytes
}

function checksum(diskKey: Uint8Array, record: Uint8Array): number {
  return crc32(record.subarray(4), crc32(diskKey))
}
