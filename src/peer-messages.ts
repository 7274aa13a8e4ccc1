/*
 * What the links between peers carry, apart from the frames: which link a message of raft's takes, the notes that go
 * beside them, and how bytes that are neither become a fault of the other side. It knows no connection.
 */

import type { Index, Message } from '../raft/types.ts'
import { CodecError, decodeFrame, encodeFrame, type FrameField } from '../storage/codec.ts'
import { FieldReader } from '../storage/field-reader.ts'
import type { MembershipRequest } from './membership-plan.ts'
import { formatAddress, parseAddress } from './network.ts'
import { PeerProtocolError } from './peer-frame.ts'
import type { LinkKind } from './peer-handshake.ts'

const NOTE_TYPE_CHARS_MAX = 32
const DIGEST_CHARS = 64
const ID_CHARS_MAX = 64
const TEXT_CHARS_MAX = 400
const outcomes = ['done', 'refused', 'elsewhere'] as const

/** What members tell each other beside raft and the commands of clients: it may be lost, and is then asked for anew. */
export type Note =
  /** The sender's logical clock in ms. As a leader it goes before the confirmation of a read. */
  | { readonly type: 'clock-told'; readonly clock: number }
  /** The sender waits for an entry that brings at least this clock. */
  | { readonly type: 'clock-asked'; readonly clock: number }
  /** How far the sender, who leads, is durable itself, and how far each of the other members. */
  | { readonly type: 'progress-told'; readonly durable: Index; readonly matches: readonly Index[] }
  | { readonly type: 'progress-asked' }
  /** The sender's state at the entry `index`, 64 hex digits: see DigestCheck. */
  | { readonly type: 'digest-told'; readonly index: Index; readonly digest: string }
  /** A wish about the members, for the leader; `number` names it at the sender. */
  | {
      readonly type: 'membership-asked'
      readonly number: number
      readonly request: MembershipRequest
    }
  /** What became of it; `elsewhere`: nothing, this node does not lead. */
  | {
      readonly type: 'membership-told'
      readonly number: number
      readonly outcome: 'done' | 'refused' | 'elsewhere'
      readonly text: string
    }

/** A large append must not delay a heartbeat, nor what asks for votes or for reads. */
export function linkOf(message: Message): LinkKind {
  switch (message.type) {
    case 'append':
    case 'append-reply':
    case 'append-reject':
      return 'append'
    default:
      return 'control'
  }
}

export function encodeNote(note: Note): Uint8Array {
  switch (note.type) {
    case 'clock-told':
    case 'clock-asked':
      return encodeFrame([note.type, note.clock])
    case 'progress-told':
      return encodeFrame([note.type, note.durable, note.matches])
    case 'progress-asked':
      return encodeFrame([note.type])
    case 'digest-told':
      return encodeFrame([note.type, note.index, note.digest])
    case 'membership-asked':
      return encodeFrame([note.type, note.number, requestFields(note.request)])
    case 'membership-told':
      return encodeFrame([note.type, note.number, note.outcome, note.text.slice(0, TEXT_CHARS_MAX)])
  }
}

function requestFields(request: MembershipRequest): FrameField[] {
  const { type } = request
  switch (type) {
    case 'add':
      return [type, request.address, request.learner]
    case 'admit': {
      const { id, peerAddress, clientAddress, replaces, level } = request.newcomer
      const fields = [type, id, peerAddress, clientAddress, request.learner]
      // Earlier builds know the wish without these.
      if (level !== undefined) return [...fields, replaces ?? null, level]
      return replaces === undefined ? fields : [...fields, replaces]
    }
    case 'transfer':
      return [type, request.from, request.to ?? null]
    default:
      return [type, request.id, request.force]
  }
}

/** Throws PeerProtocolError on bytes that are no note. */
export function decodeNote(bytes: Uint8Array): Note {
  return decoding(() => {
    const fields = new FieldReader(decodeFrame(bytes))
    const note = readNote(fields)
    fields.expectEnd()
    return note
  })
}

function readNote(fields: FieldReader): Note {
  const type = fields.string(NOTE_TYPE_CHARS_MAX)
  switch (type) {
    case 'clock-told':
    case 'clock-asked':
      return { type, clock: fields.integer() }
    case 'progress-told': {
      const durable = fields.integer()
      const matches = new FieldReader(fields.array())
      return {
        type,
        durable,
        matches: Array.from({ length: matches.left }, () => matches.integer()),
      }
    }
    case 'progress-asked':
      return { type }
    case 'digest-told':
      return { type, index: fields.integer(), digest: fields.string(DIGEST_CHARS) }
    case 'membership-asked':
      return { type, number: fields.integer(), request: readRequest(fields.array()) }
    case 'membership-told': {
      const number = fields.integer()
      const word = fields.string(NOTE_TYPE_CHARS_MAX)
      const outcome = outcomes.find((known) => known === word)
      if (outcome === undefined) throw new CodecError('an unknown outcome')
      return { type, number, outcome, text: fields.string(TEXT_CHARS_MAX) }
    }
    default:
      throw new CodecError('a note of an unknown type')
  }
}

function readRequest(values: readonly FrameField[]): MembershipRequest {
  const fields = new FieldReader(values)
  const request = readWish(fields.string(NOTE_TYPE_CHARS_MAX), fields)
  fields.expectEnd()
  return request
}

function readWish(type: string, fields: FieldReader): MembershipRequest {
  switch (type) {
    case 'add':
      return { type, address: readAddress(fields), learner: fields.boolean() }
    case 'admit': {
      const id = fields.string(ID_CHARS_MAX)
      const peerAddress = readAddress(fields)
      const clientAddress = readAddress(fields)
      const learner = fields.boolean()
      const isNew = fields.left === 0 || fields.skipNull()
      const replaces = isNew ? undefined : fields.string(ID_CHARS_MAX)
      const level = fields.left === 0 ? undefined : fields.integer()
      return { type, newcomer: { id, peerAddress, clientAddress, replaces, level }, learner }
    }
    case 'transfer': {
      const from = fields.string(ID_CHARS_MAX)
      return { type, from, to: fields.skipNull() ? undefined : fields.string(ID_CHARS_MAX) }
    }
    case 'remove':
    case 'promote':
    case 'demote':
      return { type, id: fields.string(ID_CHARS_MAX), force: fields.boolean() }
    default:
      throw new CodecError('an unknown wish about the members')
  }
}

function readAddress(fields: FieldReader): string {
  const text = fields.string(TEXT_CHARS_MAX)
  const address = parseAddress(text)
  if (address === undefined) throw new CodecError('no address')
  return formatAddress(address.host, address.port)
}

/** Bytes that are no message are the other side's fault; whatever else is thrown is ours. */
export function decoding<T>(decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    if (error instanceof CodecError) throw badMessage(error.message)
    throw error
  }
}

export function badMessage(what: string): PeerProtocolError {
  return new PeerProtocolError('BADMESSAGE', `bad message: ${what}`)
}
