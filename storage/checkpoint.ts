/*
 * The checkpoint: how a frozen memtable becomes part of the state environment. This is the job that runs, inside one
 * write transaction, on whichever thread owns the environment. It knows no engine, only the transaction it is given,
 * so the same code runs on LMDB's worker thread, in memory and in a simulator.
 */

import { assert } from '../raft/assert.ts'
import { type Chunk, KEY_BYTES_MAX, type WriteTransaction } from './engine.ts'
import { FieldReader } from './field-reader.ts'
import { TWO_POW_32 } from './integers.ts'
import { DiskKeyWriter, expiryKey, halfSipHash } from './layout.ts'
import {
  checkRecord,
  expiryRecord,
  RECORD_HEADER_BYTES,
  recordExpiry,
  sealRecord,
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
  readCreated,
  readPoint,
  type StateMeta,
  type StatePoint,
} from './state-meta.ts'
import { SortedWrites } from './write-blocks.ts'

/** What the job found and did. */
export interface CheckpointSummary {
  /** Keys per place, counted from the records that were really there, and how many of them expire. */
  readonly counts: readonly number[]
  readonly expires: readonly number[]
  readonly digests: readonly Digest[]
  /** Records written and removed. */
  readonly writes: number
}

/** What is remembered of the last one. */
export interface LastCheckpoint {
  readonly durationMs: number
  /** On the clock of the store's options. */
  readonly finishedAt: number
  readonly writes: number
  /** Of all that the state was then: metaDigest. */
  readonly digest: string
}

/** What the job needs besides the writes. */
export interface CheckpointHeader extends StatePoint {
  /** CreatedKeys.encode(). */
  readonly created: Uint8Array
  /** Places to empty before the writes. */
  readonly cleared: readonly number[]
}

const HEADER_VERSION = 4

export function encodeCheckpointHeader(header: CheckpointHeader): Uint8Array {
  return sealFrame(HEADER_VERSION, [header.cleared, header.created, ...pointFields(header)])
}

function decodeCheckpointHeader(bytes: Uint8Array): CheckpointHeader {
  const reader = openSealedFrame(bytes, HEADER_VERSION, 'the header of a checkpoint')
  const places = new FieldReader(reader.array())
  const cleared: number[] = []
  while (places.left > 0) cleared.push(places.integer())
  const created = readCreated(reader)
  return { cleared, created, ...readPoint(reader) }
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
  const { cleared, created, ...point } = decodeCheckpointHeader(header)
  const before = decodeMeta(transaction.get(META_DATABASE, META_KEY))
  assert(point.index >= before.index, () => `checkpoint at ${point.index} after ${before.index}`)
  const tallies = Array.from({ length: DATABASES }, (_, place) => new Tally(before, place))
  for (const place of cleared) {
    transaction.clear(databaseName(place))
    transaction.clear(expiryName(place))
    tallies[place]?.clear()
  }
  const { hashKey } = point
  assert(hashKey !== undefined || chunks.length === 0, () => 'writes without a hash key')
  const writes =
    hashKey === undefined
      ? 0
      : applyWrites({ transaction, hashKey, tallies, expiryWrites: [] }, chunks)
  const counts = tallies.map(({ count }) => count)
  const expires = tallies.map((tally) => tally.expires)
  const digests = tallies.map((tally) => tally.digest())
  transaction.put(
    META_DATABASE,
    META_KEY,
    encodeMeta({ ...point, counts, expires, digests, created }),
  )
  return { counts, expires, digests, writes }
}

/** The job counted what is really on disk, the store what it was told: a difference is a bug in one of them. */
export function assertCounts(
  found: CheckpointSummary,
  expected: Pick<CheckpointSummary, 'counts' | 'expires'>,
): void {
  for (let place = 0; place < DATABASES; place++) {
    const count = expected.counts[place]
    assert(
      found.counts[place] === count,
      () => `place ${place} has ${found.counts[place]} keys on disk, not ${count}`,
    )
    const expires = expected.expires[place]
    assert(
      found.expires[place] === expires,
      () => `${found.expires[place]} keys of place ${place} expire on disk, not ${expires}`,
    )
  }
}

interface Write {
  readonly place: number
  readonly diskKey: Uint8Array
  readonly key: Uint8Array
  /** Empty: the key is deleted. */
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

/** In the order of the B-tree, so that neighbouring writes share their pages: random order costs several times more. */
function applyWrites(job: Job, chunks: readonly Chunk[]): number {
  const diskKeys = new DiskKeyWriter(job.hashKey)
  let count = 0
  for (const [place, writes] of SortedWrites.byPlace(chunks)) {
    count += writes.count
    for (const { position, key, record } of writes) {
      applyWrite(job, { place, diskKey: diskKeys.at(position, key), key, record })
    }
  }
  writeExpiries(job)
  return count
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
    const input = this.#input
    input.set(diskKey)
    // Byte by byte: a view of so few costs more than they do.
    for (let at = 0; at < RECORD_HEADER_BYTES; at++) input[diskKey.length + at] = record[at] ?? 0
    halfSipHash(hashKey, input, this.#hash, length)
    return { high: this.#hash[1] ?? 0, low: this.#hash[0] ?? 0 }
  }
}
