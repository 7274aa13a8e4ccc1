/*
 * The checkpoint: how a frozen memtable becomes part of the state environment. Here are both ends of it: the chunks
 * that carry the writes to whichever thread owns the environment, and the job that runs there inside one write
 * transaction. It knows no engine, only the transaction it is given, so the same code runs on LMDB's worker thread,
 * in memory and in a simulator.
 */

import { assert } from '../raft/assert.ts'
import { type Chunk, KEY_BYTES_MAX, type WriteTransaction } from './engine.ts'
import { FieldReader } from './field-reader.ts'
import { readUint32, TWO_POW_32, writeUint32 } from './integers.ts'
import { DiskKeyWriter, expiryKey, halfSipHash, positionOf } from './layout.ts'
import {
  checkRecord,
  expiryRecord,
  RECORD_HEADER_BYTES,
  recordExpiry,
  type StoredValue,
  sealRecord,
  writeRecordHeader,
} from './record.ts'
import { openSealedFrame, sealFrame } from './sealed-frame.ts'
import {
  DATABASES,
  type Digest,
  databaseName,
  decodeMeta,
  encodeMeta,
  expiryName,
  META_DATABASE,
  META_KEY,
  pointFields,
  readPoint,
  type StateMeta,
  type StatePoint,
} from './state-meta.ts'

/** What the job found and did. */
export interface CheckpointSummary {
  /** Keys per place, counted from the records that were really there, and how many of them expire. */
  readonly counts: readonly number[]
  readonly expires: readonly number[]
  readonly digests: readonly Digest[]
  /** Records written and removed. */
  readonly writes: number
}

/** What the job needs besides the writes. */
export interface CheckpointHeader extends StatePoint {
  /** Places to empty before the writes. */
  readonly cleared: readonly number[]
}

const HEADER_VERSION = 2
/** Item layout in a chunk: place u8 | key length u32 | record length u32 (0: delete) | key | record. */
const ITEM_HEADER_BYTES = 9
/** A chunk is closed at this size or count, so that filling one takes about a millisecond of the main thread. */
const CHUNK_BYTES = 256 * 1024
const CHUNK_ITEMS_MAX = 1000
const NO_BYTES = new Uint8Array(0)

/** Packs writes into chunks. A write larger than a chunk comes in pieces: see largeWrite(). */
export class ChunkWriter {
  #bytes: Buffer<ArrayBuffer> = Buffer.alloc(0)
  #length = 0
  #items = 0

  /** False when the write does not fit any more: take() the chunk first. `value` null deletes the key. */
  add(place: number, key: string, value: StoredValue | null): boolean {
    const recordLength = value === null ? 0 : RECORD_HEADER_BYTES + value.value.length
    const length = ITEM_HEADER_BYTES + key.length + recordLength
    if (this.#items === 0) {
      assert(length <= CHUNK_BYTES, () => `a write of ${length} bytes fits no chunk`)
      this.#bytes = Buffer.allocUnsafeSlow(CHUNK_BYTES)
    } else if (this.#items === CHUNK_ITEMS_MAX || this.#length + length > this.#bytes.length) {
      return false
    }
    const valueStart = writeItem(this.#bytes, this.#length, { place, key, value })
    if (value !== null) this.#bytes.set(value.value, valueStart)
    this.#length += length
    this.#items++
    return true
  }

  /** The chunk so far, given away; undefined when it is empty. */
  take(): Chunk | undefined {
    if (this.#items === 0) return undefined
    const chunk = new Uint8Array(this.#bytes.buffer, 0, this.#length)
    this.#bytes = Buffer.alloc(0)
    this.#length = 0
    this.#items = 0
    return chunk
  }
}

/** Whether a write, or the deletion of a large key (`value` null), fits no chunk. */
export function isLargeWrite(key: string, value: StoredValue | null): boolean {
  const length = ITEM_HEADER_BYTES + key.length + RECORD_HEADER_BYTES
  return length + (value?.value.length ?? 0) > CHUNK_BYTES
}

/**
 * A large write as chunks of its own: the first begins like any other, and those behind it are the rest of its
 * value, so that not even a value of many megabytes holds the main thread for long.
 */
export function* largeWrite(
  place: number,
  key: string,
  value: StoredValue | null,
): Generator<Chunk> {
  const recordHeader = value === null ? 0 : RECORD_HEADER_BYTES
  const first = Buffer.allocUnsafeSlow(ITEM_HEADER_BYTES + key.length + recordHeader)
  writeItem(first, 0, { place, key, value })
  yield new Uint8Array(first.buffer)
  const bytes = value?.value ?? NO_BYTES
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    const piece = bytes.subarray(at, at + CHUNK_BYTES)
    const chunk = Buffer.allocUnsafeSlow(piece.length)
    chunk.set(piece)
    yield new Uint8Array(chunk.buffer)
  }
}

/** Everything of an item but the bytes of its value; returns where those belong. */
function writeItem(
  bytes: Buffer,
  offset: number,
  { place, key, value }: { place: number; key: string; value: StoredValue | null },
): number {
  const keyStart = offset + ITEM_HEADER_BYTES
  const recordLength = value === null ? 0 : RECORD_HEADER_BYTES + value.value.length
  bytes[offset] = place
  writeUint32(bytes, offset + 1, key.length)
  writeUint32(bytes, offset + 5, recordLength)
  bytes.write(key, keyStart, 'latin1')
  if (value !== null) writeRecordHeader(bytes, keyStart + key.length, value)
  return keyStart + key.length + RECORD_HEADER_BYTES
}

/** The chunks with the pieces of large writes put together. */
function* wholeChunks(chunks: readonly Chunk[]): Generator<Chunk> {
  for (let at = 0; at < chunks.length; at++) {
    const chunk = chunks[at]
    if (chunk === undefined) continue
    const end = itemEnd(chunk, 0)
    if (end <= chunk.length) {
      yield chunk
      continue
    }
    const whole = new Uint8Array(end)
    let filled = 0
    for (let piece: Chunk | undefined = chunk; piece !== undefined; piece = chunks[++at]) {
      whole.set(piece, filled)
      filled += piece.length
      if (filled === end) break
    }
    assert(filled === end, () => `a write of ${end} bytes ends after ${filled}`)
    yield whole
  }
}

function itemEnd(chunk: Chunk, offset: number): number {
  const recordStart = offset + ITEM_HEADER_BYTES + readUint32(chunk, offset + 1)
  return recordStart + readUint32(chunk, offset + 5)
}

export function encodeCheckpointHeader(header: CheckpointHeader): Uint8Array {
  return sealFrame(HEADER_VERSION, [header.cleared, ...pointFields(header)])
}

function decodeCheckpointHeader(bytes: Uint8Array): CheckpointHeader {
  const reader = openSealedFrame(bytes, HEADER_VERSION, 'the header of a checkpoint')
  const places = new FieldReader(reader.array())
  const cleared: number[] = []
  while (places.left > 0) cleared.push(places.integer())
  return { cleared, ...readPoint(reader) }
}

/**
 * The job: empties the cleared places, applies the writes of all chunks in the order of their disk keys, keeps the
 * index of what expires, and renews the state's own record. Whoever calls it drops the transaction when it throws:
 * CorruptStateError when a record that is replaced is damaged.
 */
export function runCheckpoint(
  transaction: WriteTransaction,
  header: Uint8Array,
  chunks: readonly Chunk[],
): CheckpointSummary {
  const { cleared, ...point } = decodeCheckpointHeader(header)
  const before = decodeMeta(transaction.get(META_DATABASE, META_KEY))
  assert(point.index >= before.index, () => `checkpoint at ${point.index} after ${before.index}`)
  const tallies = Array.from({ length: DATABASES }, (_, place) => new Tally(before, place))
  for (const place of cleared) {
    transaction.clear(databaseName(place))
    transaction.clear(expiryName(place))
    tallies[place]?.clear()
  }
  const writes = sortedWrites(point.hashKey, chunks)
  if (point.hashKey !== undefined) {
    const job = { transaction, hashKey: point.hashKey, tallies, expiryWrites: [] }
    for (const write of writes) applyWrite(job, write)
    writeExpiries(job)
  }
  const counts = tallies.map(({ count }) => count)
  const expires = tallies.map((tally) => tally.expires)
  const digests = tallies.map((tally) => tally.digest())
  transaction.put(META_DATABASE, META_KEY, encodeMeta({ ...point, counts, expires, digests }))
  return { counts, expires, digests, writes: writes.length }
}

/** One write, as views of its chunk; an empty record deletes. */
interface Write {
  readonly place: number
  readonly position: number
  readonly diskKey: Uint8Array
  readonly key: Uint8Array
  readonly record: Uint8Array
}

/** A change of the expiry index: a key enters or leaves it. */
interface ExpiryWrite {
  readonly place: number
  readonly key: Uint8Array
  readonly enters: boolean
}

interface Job {
  readonly transaction: WriteTransaction
  readonly hashKey: Uint8Array
  readonly tallies: readonly Tally[]
  readonly expiryWrites: ExpiryWrite[]
}

function applyWrite(job: Job, { place, diskKey, key, record }: Write): void {
  const { transaction, hashKey } = job
  const name = databaseName(place)
  const tally = job.tallies[place]
  assert(tally !== undefined, () => `a write to place ${place}`)
  const old = transaction.get(name, diskKey)
  let expiredAt = 0
  if (old !== undefined) {
    checkRecord(diskKey, old)
    expiredAt = recordExpiry(old)
    tally.remove(hashKey, diskKey, old)
  }
  let expireAt = 0
  if (record.length > 0) {
    const sealed = sealRecord(diskKey, key, record)
    expireAt = recordExpiry(sealed)
    transaction.put(name, diskKey, sealed)
    tally.add(hashKey, diskKey, sealed)
  } else if (old !== undefined) {
    transaction.remove(name, diskKey)
  }
  tally.expires += Number(expireAt !== 0) - Number(expiredAt !== 0)
  if (expireAt === expiredAt) return
  const { expiryWrites } = job
  if (expiredAt !== 0) {
    expiryWrites.push({ place, key: expiryKey(expiredAt, diskKey), enters: false })
  }
  if (expireAt !== 0) {
    expiryWrites.push({ place, key: expiryKey(expireAt, diskKey), enters: true })
  }
}

function writeExpiries({ transaction, expiryWrites }: Job): void {
  expiryWrites.sort((a, b) => a.place - b.place || Buffer.compare(a.key, b.key))
  for (const { place, key, enters } of expiryWrites) {
    if (enters) transaction.put(expiryName(place), key, expiryRecord(key))
    else transaction.remove(expiryName(place), key)
  }
}

/** In the order of the B-tree, so that neighbouring writes share their pages: random order costs several times more. */
function sortedWrites(hashKey: Uint8Array | undefined, chunks: readonly Chunk[]): Write[] {
  const writes: Write[] = []
  if (hashKey === undefined) {
    assert(chunks.length === 0, () => 'writes without a hash key')
    return writes
  }
  const diskKeys = new DiskKeyWriter(hashKey)
  for (const chunk of wholeChunks(chunks)) readChunk(chunk, diskKeys, writes)
  return writes.sort(
    (a, b) => a.place - b.place || a.position - b.position || Buffer.compare(a.diskKey, b.diskKey),
  )
}

function readChunk(chunk: Chunk, diskKeys: DiskKeyWriter, writes: Write[]): void {
  let offset = 0
  while (offset < chunk.length) {
    const keyStart = offset + ITEM_HEADER_BYTES
    const recordStart = keyStart + readUint32(chunk, offset + 1)
    const end = itemEnd(chunk, offset)
    assert(end <= chunk.length, () => `a write ends at ${end} of ${chunk.length}`)
    const key = chunk.subarray(keyStart, recordStart)
    const diskKey = Buffer.from(diskKeys.fromBytes(key))
    writes.push({
      place: chunk[offset] ?? 0,
      position: positionOf(diskKey),
      diskKey,
      key,
      record: chunk.subarray(recordStart, end),
    })
    offset = end
  }
}

/** Counts and digest of one place while the job runs. */
export class Tally {
  count: number
  expires: number
  #high: number
  #low: number
  readonly #input = new Uint8Array(KEY_BYTES_MAX + RECORD_HEADER_BYTES)
  readonly #hash = new Uint32Array(2)

  constructor(before: StateMeta, place: number) {
    this.count = before.counts[place] ?? 0
    this.expires = before.expires[place] ?? 0
    this.#high = before.digests[place]?.high ?? 0
    this.#low = before.digests[place]?.low ?? 0
  }

  clear(): void {
    this.count = 0
    this.expires = 0
    this.#high = 0
    this.#low = 0
  }

  add(hashKey: Uint8Array, diskKey: Uint8Array, record: Uint8Array): void {
    const { high, low } = this.#hashOf(hashKey, diskKey, record)
    const sum = this.#low + low
    this.#low = sum % TWO_POW_32
    this.#high = (this.#high + high + (sum < TWO_POW_32 ? 0 : 1)) % TWO_POW_32
    this.count++
  }

  remove(hashKey: Uint8Array, diskKey: Uint8Array, record: Uint8Array): void {
    const { high, low } = this.#hashOf(hashKey, diskKey, record)
    const difference = this.#low - low
    this.#low = (difference + TWO_POW_32) % TWO_POW_32
    this.#high = (this.#high - high - (difference < 0 ? 1 : 0) + 2 * TWO_POW_32) % TWO_POW_32
    this.count--
    assert(this.count >= 0, () => 'a database holds less than no keys')
  }

  digest(): Digest {
    return { high: this.#high, low: this.#low }
  }

  /** Of disk key and header: the header's checksum covers the value, so the value itself need not be read again. */
  #hashOf(hashKey: Uint8Array, diskKey: Uint8Array, record: Uint8Array): Digest {
    const length = diskKey.length + RECORD_HEADER_BYTES
    this.#input.set(diskKey)
    this.#input.set(record.subarray(0, RECORD_HEADER_BYTES), diskKey.length)
    halfSipHash(hashKey, this.#input.subarray(0, length), this.#hash)
    return { high: this.#hash[1] ?? 0, low: this.#hash[0] ?? 0 }
  }
}
