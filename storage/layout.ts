/*
 * Where a key of a user lies on disk: at its position (hash slot, then a keyed hash), then the key itself. The order
 * on disk is thus the same for every node and spreads over 2^52 positions that no client can choose, which is what a
 * SCAN cursor, a hash slot count and a snapshot in ranges stand on. Pure functions; the hash key comes from the log.
 */

import { createHash } from 'node:crypto'
import { assert } from '../raft/assert.ts'
import { KEY_BYTES_MAX } from './engine.ts'
import { readUint32, readUint64, TWO_POW_32, writeUint32, writeUint64 } from './integers.ts'

export const HASH_SLOTS = 16_384
/** Positions are below this. Those of a hash slot begin at slot * SLOT_POSITIONS. */
export const POSITIONS: number = 2 ** 52
export const SLOT_POSITIONS: number = POSITIONS / HASH_SLOTS
/** The key of the keyed hash: random, made once per cluster, equal on all nodes. */
export const HASH_KEY_BYTES = 8

/** Disk key layout: position (7 bytes, the upper 4 bits zero) | kind u8 | user key, or SHA-256 of it. */
const POSITION_BYTES = 7
export const DISK_KEY_HEADER_BYTES: number = POSITION_BYTES + 1
const KIND_PLAIN = 0
/** The user key is too long for the engine: its SHA-256 stands here, the key itself in the record. */
const KIND_HASHED = 1
/** A key of the expiry index is the time (u64) and then the disk key. */
export const EXPIRY_BYTES = 8
/** Longer user keys are stored under their SHA-256. */
export const PLAIN_KEY_BYTES_MAX: number = KEY_BYTES_MAX - DISK_KEY_HEADER_BYTES - EXPIRY_BYTES
export const SHA256_BYTES = 32

const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const CRC16_TABLE = crc16Table()

/**
 * Writes disk keys into one buffer that it owns: the result is valid until the next call. Not one per key, because
 * a lookup needs it only until the engine has copied it.
 */
export class DiskKeyWriter {
  readonly #hashKey: Uint8Array
  readonly #bytes = Buffer.alloc(KEY_BYTES_MAX)
  readonly #hash = new Uint32Array(2)

  constructor(hashKey: Uint8Array) {
    assert(hashKey.length === HASH_KEY_BYTES, () => `a hash key of ${hashKey.length} bytes`)
    this.#hashKey = hashKey
  }

  /** The disk key of `key`, a user's bytes. */
  fromBytes(key: Uint8Array): Uint8Array {
    const bytes = this.#bytes
    if (key.length <= PLAIN_KEY_BYTES_MAX) {
      bytes.set(key, DISK_KEY_HEADER_BYTES)
      return this.#finish(KIND_PLAIN, key.length, keySlot(key))
    }
    bytes.set(createHash('sha256').update(key).digest(), DISK_KEY_HEADER_BYTES)
    return this.#finish(KIND_HASHED, SHA256_BYTES, keySlot(key))
  }

  /** The same for a key in the form of a latin1 string. */
  fromText(key: string): Uint8Array {
    if (key.length > PLAIN_KEY_BYTES_MAX) return this.fromBytes(Buffer.from(key, 'latin1'))
    const bytes = this.#bytes
    bytes.write(key, DISK_KEY_HEADER_BYTES, 'latin1')
    const end = DISK_KEY_HEADER_BYTES + key.length
    return this.#finish(KIND_PLAIN, key.length, keySlot(bytes.subarray(DISK_KEY_HEADER_BYTES, end)))
  }

  /** The same for a key whose position is known. */
  at(position: number, key: Uint8Array): Uint8Array {
    const bytes = this.#bytes
    writePosition(bytes, position)
    if (key.length <= PLAIN_KEY_BYTES_MAX) {
      bytes[POSITION_BYTES] = KIND_PLAIN
      bytes.set(key, DISK_KEY_HEADER_BYTES)
      return bytes.subarray(0, DISK_KEY_HEADER_BYTES + key.length)
    }
    bytes[POSITION_BYTES] = KIND_HASHED
    bytes.set(createHash('sha256').update(key).digest(), DISK_KEY_HEADER_BYTES)
    return bytes.subarray(0, DISK_KEY_HEADER_BYTES + SHA256_BYTES)
  }

  #finish(kind: number, length: number, slot: number): Uint8Array {
    const bytes = this.#bytes
    const end = DISK_KEY_HEADER_BYTES + length
    halfSipHash(this.#hashKey, bytes.subarray(DISK_KEY_HEADER_BYTES, end), this.#hash)
    const low = this.#hash[0] ?? 0
    // 14 bits of slot, then 38 of hash: 6 in the upper word, 32 in the lower.
    const high = slot * 64 + ((this.#hash[1] ?? 0) & 0x3f)
    bytes[0] = high >>> 16
    bytes[1] = (high >>> 8) & 0xff
    bytes[2] = high & 0xff
    writeUint32(bytes, 3, low)
    bytes[POSITION_BYTES] = kind
    return bytes.subarray(0, end)
  }
}

/** The position in a disk key: an integer below 2^52. */
export function positionOf(diskKey: Uint8Array): number {
  const high = ((diskKey[0] ?? 0) << 16) | ((diskKey[1] ?? 0) << 8) | (diskKey[2] ?? 0)
  return high * TWO_POW_32 + readUint32(diskKey, 3)
}

/** Where the disk keys of a position begin. */
export function positionKey(position: number): Uint8Array {
  const bytes = new Uint8Array(POSITION_BYTES)
  writePosition(bytes, position)
  return bytes
}

function writePosition(bytes: Uint8Array, position: number): void {
  const high = Math.floor(position / TWO_POW_32)
  bytes[0] = high >>> 16
  bytes[1] = (high >>> 8) & 0xff
  bytes[2] = high & 0xff
  writeUint32(bytes, 3, position % TWO_POW_32)
}

/** The user key (latin1 text) in a disk key that is not hashed. */
export function plainKey(diskKey: Uint8Array): string {
  const { buffer, byteOffset, length } = diskKey
  return Buffer.from(buffer, byteOffset, length).toString('latin1', DISK_KEY_HEADER_BYTES)
}

/** The order on disk of two keys (latin1 text) at one position. */
export function compareAtPosition(a: string, b: string): number {
  const hashed = Number(a.length > PLAIN_KEY_BYTES_MAX)
  const other = Number(b.length > PLAIN_KEY_BYTES_MAX)
  if (hashed !== other) return hashed - other
  if (hashed === 1) return Buffer.compare(digestOf(a), digestOf(b))
  if (a === b) return 0
  return a < b ? -1 : 1
}

function digestOf(key: string): Buffer {
  return createHash('sha256').update(key, 'latin1').digest()
}

/** The key of a disk key in the expiry index: ordered by time (ms), then as on disk. */
export function expiryKey(expireAt: number, diskKey: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(EXPIRY_BYTES + diskKey.length)
  writeUint64(bytes, 0, expireAt)
  bytes.set(diskKey, EXPIRY_BYTES)
  return bytes
}

/** The two halves of a key of the expiry index. */
export function splitExpiryKey(key: Uint8Array): { expireAt: number; diskKey: Uint8Array } {
  return { expireAt: readUint64(key, 0), diskKey: key.subarray(EXPIRY_BYTES) }
}

/** True when the record under this disk key carries the user key itself. */
export function isHashed(diskKey: Uint8Array): boolean {
  return diskKey[POSITION_BYTES] === KIND_HASHED
}

/**
 * The hash slot of a key, 0 to 16383, as the Redis Cluster specification has it: CRC16 (XMODEM) of the key, or of
 * what stands between its first { and the next }, if that is not empty.
 */
export function keySlot(key: Uint8Array): number {
  let from = 0
  let to = key.length
  const open = key.indexOf(OPEN_BRACE)
  if (open !== -1) {
    const close = key.indexOf(CLOSE_BRACE, open + 1)
    if (close > open + 1) {
      from = open + 1
      to = close
    }
  }
  let crc = 0
  for (let i = from; i < to; i++) {
    crc = ((crc << 8) & 0xffff) ^ (CRC16_TABLE[(crc >>> 8) ^ (key[i] ?? 0)] ?? 0)
  }
  return crc % HASH_SLOTS
}

function crc16Table(): Uint16Array {
  return Uint16Array.from({ length: 256 }, (_, byte) => {
    let crc = byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021
    return crc & 0xffff
  })
}

/**
 * HalfSipHash-2-4 with 64 bits of output (Aumasson and Bernstein, "SipHash: a fast short-input PRF", in its variant
 * on 32-bit words, which is what JavaScript's integers are quick at). Low word to out[0], high word to out[1]. Of
 * `bytes` the first `length` count.
 */
export function halfSipHash(
  key: Uint8Array,
  bytes: Uint8Array,
  out: Uint32Array,
  length: number = bytes.length,
): void {
  const k0 = word(key, 0)
  const k1 = word(key, 4)
  let v0 = k0
  let v1 = k1 ^ 0xee
  let v2 = 0x6c796765 ^ k0
  let v3 = 0x74656462 ^ k1
  const words = length >>> 2
  let last = length << 24
  for (let i = words * 4; i < length; i++) last |= (bytes[i] ?? 0) << ((i % 4) * 8)
  // One loop, so that the round stands here once and its words stay in registers: every whole word, the last one
  // with the length, then the two finalisations, of which each yields one word.
  for (let step = 0; step <= words + 2; step++) {
    let block = 0
    let rounds = 4
    if (step <= words) {
      block = step < words ? word(bytes, step * 4) : last
      rounds = 2
      v3 ^= block
    } else if (step === words + 1) {
      v2 ^= 0xee
    } else {
      out[0] = v1 ^ v3
      v1 ^= 0xdd
    }
    for (let i = 0; i < rounds; i++) {
      v0 = (v0 + v1) | 0
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0
      v0 = (v0 << 16) | (v0 >>> 16)
      v2 = (v2 + v3) | 0
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2
      v0 = (v0 + v3) | 0
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0
      v2 = (v2 + v1) | 0
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2
      v2 = (v2 << 16) | (v2 >>> 16)
    }
    v0 ^= block
  }
  out[1] = v1 ^ v3
}

/** Little-endian, as the algorithm has it. */
function word(bytes: Uint8Array, offset: number): number {
  return (
    (bytes[offset] ?? 0) |
    ((bytes[offset + 1] ?? 0) << 8) |
    ((bytes[offset + 2] ?? 0) << 16) |
    ((bytes[offset + 3] ?? 0) << 24)
  )
}
