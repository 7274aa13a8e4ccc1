/*
 * What the state environment says of itself, in one record that every checkpoint renews in the transaction of its
 * writes: which entry it stands at, and what it holds. So the state on disk is a complete snapshot at a known index.
 */

import { createHash } from 'node:crypto'
import { assert } from '../raft/assert.ts'
import type { Index, Membership, NodeId, Term } from '../raft/types.ts'
import { membershipFields, membershipOf, readIds } from './codec.ts'
import { FieldReader, type FrameField } from './field-reader.ts'
import { CodecError } from './integers.ts'
import { HASH_KEY_BYTES } from './layout.ts'
import { CorruptStateError } from './record.ts'
import { openSealedFrame, sealFrame } from './sealed-frame.ts'

/** The Redis databases, each with a database of its own in the environment. */
export const DATABASES = 16
export const META_DATABASE = 'meta'
export const META_KEY: Uint8Array = Buffer.from('state')
export const STATE_FORMAT_VERSION = 5

/** What a cluster begins with, and every build understands. */
export const FEATURE_LEVEL_FIRST = 1

/** Ids that a state remembers as removed. A node that was removed before these is refused all the same: it is bound. */
export const REMOVED_MAX = 4_096

/** Creations of keys that a state remembers, and the bytes of that: see created-keys.ts. */
export const CREATED_KEYS_MAX = 16_384
/** Version of what was forgotten, and of each place's last exchange; place, position and version. */
export const CREATED_HEAD_BYTES: number = 8 * (1 + DATABASES)
export const CREATED_KEY_BYTES = 17
const CREATED_BYTES_MAX = CREATED_HEAD_BYTES + CREATED_KEYS_MAX * CREATED_KEY_BYTES

/** A sum mod 2^64, as two words of 32 bits. */
export interface Digest {
  readonly high: number
  readonly low: number
}

/** The part of the record that the applied entries decide. */
export interface StatePoint {
  readonly index: Index
  readonly term: Term
  /** The logical clock in ms. */
  readonly clock: number
  readonly membership: Membership | undefined
  /** Who was a member and is none any more, the latest last: an id is never used again. At most REMOVED_MAX. */
  readonly removed: readonly NodeId[]
  /** Key of the keyed hash; undefined until the first entry of commands is applied. */
  readonly hashKey: Uint8Array | undefined
  /** Where each Redis database lies in the environment: SWAPDB changes this and nothing else. A permutation. */
  readonly places: readonly number[]
  /** What all members understand; never falls. */
  readonly featureLevel: number
}

/** Where an entry leaves the state. */
export interface EntryEnd {
  readonly index: Index
  readonly term: Term
  /** The logical clock in ms; never falls. */
  readonly clock: number
  /** Only when the entry changes it. */
  readonly membership?: Membership
}

export interface StateMeta extends StatePoint {
  /** CreatedKeys.encode(); empty in the empty state. */
  readonly created: Uint8Array
  /** Keys per place. */
  readonly counts: readonly number[]
  /** Of those, how many expire. */
  readonly expires: readonly number[]
  /**
   * Per place: the sum of a keyed hash over disk key and record header of every key. Equal states have equal
   * digests, in whatever order and however coalesced they were written.
   */
  readonly digests: readonly Digest[]
}

/** The state before the first entry. */
export const EMPTY_META: StateMeta = {
  index: 0,
  term: 0,
  clock: 0,
  membership: undefined,
  removed: [],
  hashKey: undefined,
  places: Array.from({ length: DATABASES }, (_, place) => place),
  featureLevel: FEATURE_LEVEL_FIRST,
  created: new Uint8Array(0),
  counts: Array.from({ length: DATABASES }, () => 0),
  expires: Array.from({ length: DATABASES }, () => 0),
  digests: Array.from({ length: DATABASES }, () => ({ high: 0, low: 0 })),
}

/** The database that holds the records of a place. */
export function databaseName(place: number): string {
  return nameOf(DATABASE_NAMES, place)
}

/** The database that holds a place's keys that expire, in the order of their times. */
export function expiryName(place: number): string {
  return nameOf(EXPIRY_NAMES, place)
}

function nameOf(names: readonly string[], place: number): string {
  const name = names[place]
  assert(name !== undefined, () => `there is no place ${place}`)
  return name
}

const DATABASE_NAMES: readonly string[] = EMPTY_META.places.map((place) => `db${place}`)
const EXPIRY_NAMES: readonly string[] = EMPTY_META.places.map((place) => `expiry${place}`)

/** All databases of a state environment. */
export const STATE_DATABASES: readonly string[] = [
  META_DATABASE,
  ...DATABASE_NAMES,
  ...EXPIRY_NAMES,
]

/** SHA-256 of all that a state is: equal states at one entry have equal ones, and it is the same on every node. */
export function metaDigest(meta: StateMeta): string {
  return createHash('sha256').update(encodeMeta(meta)).digest('hex')
}

/** Who is removed once `next` follows `point`. Beyond REMOVED_MAX the earliest are forgotten. */
function removedAfter(point: StatePoint, next: Membership): readonly NodeId[] {
  const ids = new Set(next.members.map(({ id }) => id))
  for (const id of point.removed) ids.add(id)
  const gone = point.membership?.members.map(({ id }) => id).filter((id) => !ids.has(id)) ?? []
  return gone.length === 0 ? point.removed : [...point.removed, ...gone].slice(-REMOVED_MAX)
}

/** Where a state stands that stood at `point`, after the next entry. */
export function pointAfter(point: StatePoint, at: EntryEnd): StatePoint {
  assert(at.index === point.index + 1, () => `entry ${at.index} after ${point.index}`)
  assert(at.term >= point.term, () => `term ${at.term} after ${point.term}`)
  assert(at.clock >= point.clock, () => `the clock falls from ${point.clock} to ${at.clock}`)
  return {
    ...point,
    index: at.index,
    term: at.term,
    clock: at.clock,
    membership: at.membership ?? point.membership,
    removed: at.membership === undefined ? point.removed : removedAfter(point, at.membership),
  }
}

export function pointFields(point: StatePoint): FrameField[] {
  const { index, term, clock, membership, removed, hashKey, places, featureLevel } = point
  return [
    index,
    term,
    clock,
    membership === undefined ? null : membershipFields(membership),
    removed,
    hashKey ?? null,
    places,
    featureLevel,
  ]
}

export function readPoint(reader: FieldReader): StatePoint {
  const index = reader.integer()
  const term = reader.integer()
  const clock = reader.integer()
  const membership = reader.skipNull() ? undefined : membershipOf(reader.array())
  const removed = readIds(reader.array(), REMOVED_MAX)
  const hashKey = reader.skipNull() ? undefined : Uint8Array.from(reader.bytes(HASH_KEY_BYTES))
  const places = readPlaces(reader.array())
  const featureLevel = reader.integer()
  return { index, term, clock, membership, removed, hashKey, places, featureLevel }
}

export function encodeMeta(meta: StateMeta): Uint8Array {
  const digests = meta.digests.flatMap(({ high, low }) => [high, low])
  const { counts, expires, created } = meta
  return sealFrame(STATE_FORMAT_VERSION, [...pointFields(meta), counts, expires, digests, created])
}

/**
 * The record, or that of the empty state when there is none. Throws CorruptStateError when it is damaged,
 * FormatVersionError when another build wrote it.
 */
export function decodeMeta(bytes: Uint8Array | undefined): StateMeta {
  if (bytes === undefined) return EMPTY_META
  try {
    const reader = openSealedFrame(bytes, STATE_FORMAT_VERSION, 'the record of the state')
    const point = readPoint(reader)
    const counts = readIntegers(reader.array(), DATABASES)
    const expires = readIntegers(reader.array(), DATABASES)
    const digests = readDigests(reader.array())
    const created = readCreated(reader)
    reader.expectEnd()
    return { ...point, counts, expires, digests, created }
  } catch (error) {
    if (error instanceof CodecError) throw new CorruptStateError(error.message)
    throw error
  }
}

export function readCreated(reader: FieldReader): Uint8Array {
  return Uint8Array.from(reader.bytesUpTo(CREATED_BYTES_MAX))
}

function readPlaces(fields: readonly FrameField[]): number[] {
  const places = readIntegers(fields, DATABASES)
  if (EMPTY_META.places.some((place) => !places.includes(place))) {
    throw new CodecError('the places of the databases are no permutation')
  }
  return places
}

function readIntegers(fields: readonly FrameField[], length: number): number[] {
  const reader = new FieldReader(fields)
  const integers = Array.from({ length }, () => reader.integer())
  reader.expectEnd()
  return integers
}

function readDigests(fields: readonly FrameField[]): Digest[] {
  const words = readIntegers(fields, DATABASES * 2)
  return Array.from({ length: DATABASES }, (_, database) => ({
    high: words[database * 2] ?? 0,
    low: words[database * 2 + 1] ?? 0,
  }))
}
