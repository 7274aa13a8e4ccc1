/*
 * THE byte form of entries, peer messages, commands and small frames: on disk and on the wire alike, so a follower
 * stores exactly the bytes that its leader made. Everything decoded here is treated as hostile: every field is
 * checked, nothing is allocated from a length that the bytes at hand do not back. It knows no socket, no store and
 * no clock. Entries and commands have a layout of their own (one msgpack object per command costs too much);
 * messages and frames are msgpack arrays, behind a guard because msgpackr also decodes maps, records and RegExps.
 */

import { crc32 } from 'node:zlib'
import { Packr } from 'msgpackr'
import { unreachable } from '../raft/assert.ts'
import type {
  Entry,
  Member,
  MemberRole,
  Membership,
  Message,
  NodeId,
  Payload,
  Position,
  Term,
} from '../raft/types.ts'
import { ENTRY_HEADER_BYTES, takeRoomBefore } from './commands-codec.ts'
import { FieldReader, type FrameField } from './field-reader.ts'
import { guardFrame } from './frame-guard.ts'
import { CodecError, readUint32, readUint64, writeUint32, writeUint64 } from './integers.ts'
import { allocateBytes } from './varints.ts'

export {
  decodeCommands,
  encodeCommands,
  type ForwardedRun,
  isSameOrigin,
  type LoggedCommand,
  type Origin,
} from './commands-codec.ts'
export { CodecError, type FrameField }

/** Entry layout, big-endian: crc32 u32 over all that follows | kind u8 | index u64 | term u64 | payload. */
const KIND_NOOP = 1
const KIND_MEMBERSHIP = 2
const KIND_COMMANDS = 3

const MEMBERS_MAX = 256
/** By their number in the byte form. */
const ROLES: readonly MemberRole[] = ['voter', 'learner', 'leaving', 'joining']
const NODE_ID_LENGTH_MAX = 64
/** A host name has at most 253 characters, then a colon and a port. */
const ADDRESS_LENGTH_MAX = 260

/** An entry from this size on is a part of its own in a message. */
const LONE_PART_BYTES_MIN = 64 * 1024

const packr = new Packr({ useRecords: false })

/**
 * The entry's one byte form: made at the first call, then kept in `entry.encoded`. Nobody may change the bytes
 * afterwards: the store hands them to the disk without a copy.
 */
export function encodeEntry(entry: Entry): Uint8Array {
  if (entry.encoded !== undefined) return entry.encoded
  const { payload } = entry
  const bytes = withRoomForHeader(payload)
  bytes[4] = payloadKind(payload)
  writeUint64(bytes, 5, entry.index)
  writeUint64(bytes, 13, entry.term)
  writeUint32(bytes, 0, crc32(bytes.subarray(4)))
  entry.encoded = bytes
  return bytes
}

/** The payload's bytes behind ENTRY_HEADER_BYTES still to be written. */
function withRoomForHeader(payload: Payload): Uint8Array {
  const body = payloadBytes(payload)
  const roomy = takeRoomBefore(body)
  if (roomy !== undefined) return roomy
  const bytes = allocateBytes(ENTRY_HEADER_BYTES + body.length)
  bytes.set(body, ENTRY_HEADER_BYTES)
  return bytes
}

/**
 * The entry in `bytes`, which it keeps (as `encoded`, and commands as a view of it): the caller passes memory that
 * it gives away. Throws CodecError on a bad checksum, kind, index (1 to 2^53-1), term or payload.
 */
export function decodeEntry(bytes: Uint8Array): Entry {
  if (bytes.length < ENTRY_HEADER_BYTES) {
    throw new CodecError(`an entry of ${bytes.length} bytes is too short`)
  }
  if (readUint32(bytes, 0) !== crc32(bytes.subarray(4))) {
    throw new CodecError('an entry has a bad checksum')
  }
  const index = readUint64(bytes, 5)
  if (index === 0) throw new CodecError('an entry has index 0')
  const term = readUint64(bytes, 13)
  const payload = decodePayload(bytes[4] ?? 0, bytes.subarray(ENTRY_HEADER_BYTES))
  return { index, term, payload, encoded: bytes }
}

/** A handshake or forward frame: a msgpack array. The result is the caller's own memory. */
export function encodeFrame(fields: readonly FrameField[]): Uint8Array {
  const packed = packr.pack(fields)
  // A copy, because the packer's buffer is shared by whatever is packed next and stays as large as its largest.
  const bytes = allocateBytes(packed.length)
  bytes.set(packed)
  return bytes
}

/** The fields of a frame; byte fields are views of `bytes`. The caller checks what they mean. Throws CodecError. */
export function decodeFrame(bytes: Uint8Array): readonly FrameField[] {
  guardFrame(bytes)
  return packr.unpack(bytes)
}

/**
 * A peer message without its sender and receiver, which the link's handshake has fixed. Layout: crc32 of the header
 * u32, its length u32, the header (a frame), then per entry: length u32, the entry's encoded bytes (which carry a
 * checksum of their own). It comes in parts to be sent one after the other, so that a large entry is not copied for
 * every peer.
 */
export function encodeMessage(message: Message): readonly Uint8Array[] {
  const entries = message.type === 'append' ? message.entries.map(encodeEntry) : []
  const header = packr.pack(messageFields(message))
  // Entries up to a size are joined, because many small parts cost more than a copy.
  const parts: Uint8Array[] = []
  let joined: Uint8Array[] = [header]
  for (const entry of entries) {
    if (entry.length < LONE_PART_BYTES_MIN) {
      joined.push(entry)
      continue
    }
    parts.push(joinParts(joined, parts.length === 0, entry.length), entry)
    joined = []
  }
  if (joined.length > 0) parts.push(joinParts(joined, parts.length === 0, undefined))
  return parts
}

/** The header (when it is the `first` part), entries behind their lengths, and the length of the `next` part. */
function joinParts(
  pieces: readonly Uint8Array[],
  first: boolean,
  next: number | undefined,
): Uint8Array {
  const length = pieces.reduce((sum, piece) => sum + 4 + piece.length, 0)
  const bytes = allocateBytes((first ? 4 : 0) + length + (next === undefined ? 0 : 4))
  let offset = 0
  for (const [at, piece] of pieces.entries()) {
    if (first && at === 0) {
      writeUint32(bytes, 0, crc32(piece))
      offset = 4
    }
    writeUint32(bytes, offset, piece.length)
    bytes.set(piece, offset + 4)
    offset += 4 + piece.length
  }
  if (next !== undefined) writeUint32(bytes, offset, next)
  return bytes
}

/**
 * The message in `bytes`, whose memory its entries keep. Throws CodecError on anything a correct peer cannot send,
 * so that the core never sees a term, an index or an entry it has to doubt.
 */
export function decodeMessage(bytes: Uint8Array, from: NodeId, to: NodeId): Message {
  if (bytes.length < 8) throw new CodecError('a message is cut short')
  const headerEnd = 8 + readUint32(bytes, 4)
  if (headerEnd > bytes.length) throw new CodecError('a message is cut short')
  const header = bytes.subarray(8, headerEnd)
  if (readUint32(bytes, 0) !== crc32(header)) throw new CodecError('a message has a bad checksum')
  const fields = new FieldReader(decodeFrame(header))
  const type = fields.string(32)
  const term = fields.integer()
  const message = decodeBody(type, { from, to, term }, fields, bytes.subarray(headerEnd))
  fields.expectEnd()
  return message
}

function messageFields(message: Message): FrameField[] {
  const { type, term } = message
  switch (type) {
    case 'pre-vote':
      return [type, term, message.last.index, message.last.term]
    case 'vote':
      return [type, term, message.last.index, message.last.term, message.transfer]
    case 'pre-vote-reply':
    case 'vote-reply':
      return [type, term, message.granted]
    case 'append':
      return [type, term, message.prev.index, message.prev.term, message.commit]
    case 'append-reply':
      return [type, term, message.match]
    case 'append-reject':
      return [type, term, message.prev, message.hint.index, message.hint.term, message.last]
    case 'heartbeat':
      return [type, term, message.commit, message.round, message.slowest.id, message.slowest.match]
    case 'heartbeat-reply':
      return [type, term, message.round]
    case 'read':
      return [type, term, message.id]
    case 'read-reply':
      return [type, term, message.id, message.index]
    case 'timeout-now':
      return [type, term]
    default:
      return unreachable(message)
  }
}

function decodeBody(
  type: string,
  envelope: { readonly from: NodeId; readonly to: NodeId; readonly term: Term },
  fields: FieldReader,
  tail: Uint8Array,
): Message {
  if (type === 'append') {
    const prev = fields.position()
    return { type, ...envelope, prev, commit: fields.integer(), entries: readEntries(tail, prev) }
  }
  if (tail.length > 0) throw new CodecError(`a message of type ${type} carries entries`)
  switch (type) {
    case 'pre-vote':
      return { type, ...envelope, last: fields.position() }
    case 'vote':
      return { type, ...envelope, last: fields.position(), transfer: fields.boolean() }
    case 'pre-vote-reply':
    case 'vote-reply':
      return { type, ...envelope, granted: fields.boolean() }
    case 'append-reply':
      return { type, ...envelope, match: fields.integer() }
    case 'append-reject': {
      const prev = fields.integer()
      return { type, ...envelope, prev, hint: fields.position(), last: fields.integer() }
    }
    case 'heartbeat': {
      const commit = fields.integer()
      const round = fields.integer()
      const slowest = { id: fields.string(NODE_ID_LENGTH_MAX), match: fields.integer() }
      return { type, ...envelope, commit, round, slowest }
    }
    case 'heartbeat-reply':
      return { type, ...envelope, round: fields.integer() }
    case 'read':
      return { type, ...envelope, id: fields.integer() }
    case 'read-reply': {
      const id = fields.integer()
      return { type, ...envelope, id, index: fields.integer() }
    }
    case 'timeout-now':
      return { type, ...envelope }
    default:
      throw new CodecError('a message of an unknown type')
  }
}

/** The entries of an append: they must follow `prev` without a gap and without a falling term (paper 5.3). */
function readEntries(tail: Uint8Array, prev: Position): Entry[] {
  const entries: Entry[] = []
  let { index, term } = prev
  let offset = 0
  while (offset < tail.length) {
    if (offset + 4 > tail.length) throw new CodecError('an append is cut short')
    const end = offset + 4 + readUint32(tail, offset)
    if (end > tail.length) throw new CodecError('an append is cut short')
    const entry = decodeEntry(tail.subarray(offset + 4, end))
    if (entry.index !== index + 1 || entry.term < term) {
      throw new CodecError(`entry ${entry.index} cannot follow entry ${index} of term ${term}`)
    }
    entries.push(entry)
    ;({ index, term } = entry)
    offset = end
  }
  return entries
}

function payloadKind(payload: Payload): number {
  switch (payload.type) {
    case 'noop':
      return KIND_NOOP
    case 'membership':
      return KIND_MEMBERSHIP
    case 'commands':
      return KIND_COMMANDS
    default:
      return unreachable(payload)
  }
}

function payloadBytes(payload: Payload): Uint8Array {
  if (payload.type === 'commands') return payload.data
  if (payload.type === 'membership') return encodeFrame(membershipFields(payload.membership))
  return new Uint8Array(0)
}

function decodePayload(kind: number, body: Uint8Array): Payload {
  switch (kind) {
    case KIND_NOOP:
      if (body.length > 0) throw new CodecError('a no-op carries bytes')
      return { type: 'noop' }
    case KIND_MEMBERSHIP:
      return { type: 'membership', membership: membershipOf(decodeFrame(body)) }
    case KIND_COMMANDS:
      return { type: 'commands', data: body }
    default:
      throw new CodecError(`an entry of unknown kind ${kind}`)
  }
}

/** A membership as frame fields: the outgoing voters (null: not joint), then one array per member. */
export function membershipFields({ members, outgoing }: Membership): FrameField[] {
  return [
    outgoing === undefined ? null : [...outgoing],
    ...members.map(({ id, role, peerAddress, clientAddress }) => {
      return [id, ROLES.indexOf(role), peerAddress, clientAddress]
    }),
  ]
}

/** The reverse of membershipFields. Throws CodecError on anything but distinct, well-formed members. */
export function membershipOf(fields: readonly FrameField[]): Membership {
  if (fields.length > 1 + MEMBERS_MAX) throw new CodecError(`a membership of ${fields.length - 1}`)
  const reader = new FieldReader(fields)
  const outgoing = reader.skipNull() ? undefined : readIds(reader.array(), MEMBERS_MAX)
  const members: Member[] = []
  while (reader.left > 0) members.push(readMember(reader.array()))
  const ids = new Set(members.map(({ id }) => id))
  if (ids.size !== members.length) throw new CodecError('a membership names a member twice')
  if (outgoing?.length === 0) throw new CodecError('no outgoing voters')
  if (outgoing === undefined) {
    if (members.some(({ role }) => role === 'leaving')) throw new CodecError('nobody can leave')
    return { members }
  }
  if (!outgoing.every((id) => ids.has(id))) throw new CodecError('an outgoing voter is no member')
  return { members, outgoing }
}

/** Distinct ids. Throws CodecError on anything else, and above `max`. */
export function readIds(fields: readonly FrameField[], max: number): NodeId[] {
  if (fields.length > max) throw new CodecError(`${fields.length} ids`)
  const reader = new FieldReader(fields)
  const ids = new Set<NodeId>()
  while (reader.left > 0) ids.add(reader.string(NODE_ID_LENGTH_MAX))
  if (ids.size !== fields.length) throw new CodecError('an id is named twice')
  return [...ids]
}

function readMember(fields: readonly FrameField[]): Member {
  const reader = new FieldReader(fields)
  const id = reader.string(NODE_ID_LENGTH_MAX)
  const role = ROLES[reader.integer()]
  if (role === undefined) throw new CodecError('a member of an unknown role')
  const peerAddress = reader.string(ADDRESS_LENGTH_MAX)
  const clientAddress = reader.string(ADDRESS_LENGTH_MAX)
  reader.expectEnd()
  return { id, role, peerAddress, clientAddress }
}
