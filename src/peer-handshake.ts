/*
 * Who speaks, to whom, and may they: the first four frames of every link between peers. Pure: frames in, frames
 * and a verdict out; it must not know sockets, timers or what the link will carry. Nothing that comes before the
 * verdict 'established' is ever a message of raft.
 *
 *   dialler                                            acceptor
 *   hello      versions, link kind, identity, receiver, nonce ->
 *              <- challenge   the version chosen, nonce          (or refused: no common version)
 *   proof      HMAC(secret, hello + challenge) ->
 *              <- answer      identity, verdict, HMAC over all    (or refused: a wrong proof)
 *
 * The dialler proves itself first, so whoever merely connects gets nothing to guess the secret from. The secret
 * itself never travels. Without a secret on either side both proofs are empty.
 */

import { createHmac, timingSafeEqual } from 'node:crypto'
import { assert } from '../raft/assert.ts'
import type { Index, NodeId } from '../raft/types.ts'
import { CodecError, decodeFrame, encodeFrame, type FrameField } from '../storage/codec.ts'
import { formatAddress, parseAddress, sameAddress } from './network.ts'
import { type Refusal, refusalCodes } from './peer-admission.ts'
import { type FrameKind, frame, frameKinds, PeerProtocolError } from './peer-frame.ts'

/** The versions this build speaks. A connection speaks the highest that both sides know. */
export const PROTOCOL_VERSION_MIN = 4
export const PROTOCOL_VERSION_MAX = 4
/** The largest frame before the other side has proved itself: a hello with the ids of MEMBERS_MAX members fits. */
export const HANDSHAKE_BYTES_MAX = 16_384
export const NONCE_BYTES = 32

const MAGIC = 'holdfast-peer'
const MEMBERS_MAX = 256
const ADDRESS_CHARS_MAX = 300
const REASON_CHARS_MAX = 300

/** Links are apart so that a large entry never delays a heartbeat, nor a snapshot or a forwarded command an append. */
export const linkKinds = ['control', 'append', 'forward', 'snapshot'] as const
export type LinkKind = (typeof linkKinds)[number]

/**
 * What a hello may ask for: a link; to be made a member (`join`); or only who is there (`probe`). The last two never
 * become a link: their answer is a refusal, which tells both sides who the other is.
 */
export type HelloKind = LinkKind | 'join' | 'probe'
const helloKinds: readonly HelloKind[] = [...linkKinds, 'join', 'probe']

/** What a node says of itself. */
export interface Identity {
  readonly id: NodeId
  /** undefined: this node belongs to no cluster yet. */
  readonly clusterId: string | undefined
  /** Rises with every start of the process. */
  readonly incarnation: number
  readonly peerAddress: string
  readonly clientAddress: string
  /** Of the `cluster` list (bootstrap.ts), so that unbound nodes can tell whether theirs is the same. */
  readonly listHash: string
  /** The ids of the membership in force; undefined while this node has none in its log. */
  readonly members: readonly NodeId[] | undefined
  /** Where that membership stands in the log: of two that differ the later one counts. 0 without one. */
  readonly membershipIndex: Index
  /** Whose place this node is to take: it was that one until its disk lost or changed something. */
  readonly replaces?: NodeId | undefined
  /** The highest feature level that its build knows (feature-level.ts); left out by builds that know the first alone. */
  readonly level?: number | undefined
}

export interface HandshakeOptions {
  readonly self: Identity
  readonly secret: string | undefined
  /** NONCE_BYTES unpredictable bytes, never used twice. */
  readonly nonce: Uint8Array
  /** The last word on an identity that is proved; undefined admits it. */
  readonly admit: (other: Identity, kind: HelloKind) => Refusal | undefined
}

export interface DialOptions extends HandshakeOptions {
  readonly kind: HelloKind
  /** Who is meant: the id once known; the address it was dialled at. */
  readonly receiver: { readonly id: NodeId | undefined; readonly address: string }
}

export type Outcome =
  | { readonly type: 'established'; readonly other: Identity; readonly kind: LinkKind }
  | {
      readonly type: 'refused'
      readonly refusal: Refusal
      /** Known when the other side proved who it is. */
      readonly other: Identity | undefined
      readonly byOther: boolean
    }

/** What follows from a frame: a frame to send, and once the verdict. */
export interface Step {
  readonly send: Uint8Array | undefined
  readonly outcome: Outcome | undefined
}

export interface Handshake {
  /** The frame that opens it; the acceptor has none. */
  begin(): Uint8Array | undefined
  /** Throws PeerProtocolError on a frame that does not belong here. */
  step(kind: FrameKind, body: Uint8Array): Step
}

interface Hello {
  readonly kind: HelloKind
  readonly sender: Identity
  readonly receiverId: NodeId | undefined
  readonly receiverAddress: string
}

/** What an acceptor keeps between the hello and the proof: both frames as they were sent, to be proved. */
interface Greeting {
  readonly hello: Hello
  readonly bytes: Uint8Array
  readonly challenge: Uint8Array
}

export class DialHandshake implements Handshake {
  readonly #options: DialOptions
  readonly #hello: Uint8Array
  #challenge: Uint8Array | undefined

  constructor(options: DialOptions) {
    this.#options = options
    const { kind, self, receiver, nonce } = options
    this.#hello = encodeFrame([
      MAGIC,
      PROTOCOL_VERSION_MIN,
      PROTOCOL_VERSION_MAX,
      kind,
      identityFields(self),
      receiver.id ?? null,
      receiver.address,
      nonce,
    ])
  }

  begin(): Uint8Array {
    return frame(frameKinds.hello, this.#hello)
  }

  step(kind: FrameKind, body: Uint8Array): Step {
    if (kind === frameKinds.refused) return this.#refusedEarly(body)
    if (kind === frameKinds.challenge && this.#challenge === undefined) return this.#prove(body)
    if (kind === frameKinds.answer && this.#challenge !== undefined) {
      return { send: undefined, outcome: this.#conclude(body, this.#challenge) }
    }
    throw badHandshake('a frame out of turn')
  }

  #refusedEarly(body: Uint8Array): Step {
    const refusal = readRefusal(decode(body))
    return {
      send: undefined,
      outcome: { type: 'refused', refusal, other: undefined, byOther: true },
    }
  }

  #prove(challenge: Uint8Array): Step {
    const [version, nonce] = decode(challenge)
    const known = typeof version === 'number' && version >= PROTOCOL_VERSION_MIN
    if (!known || version > PROTOCOL_VERSION_MAX) throw badHandshake('an unknown version chosen')
    readNonce(nonce)
    this.#challenge = challenge
    const proof = prove(this.#options.secret, 'dialler', [this.#hello, challenge])
    return { send: frame(frameKinds.proof, proof), outcome: undefined }
  }

  #conclude(body: Uint8Array, challenge: Uint8Array): Outcome {
    const [statement, proof] = decode(body)
    if (!(statement instanceof Uint8Array)) throw badHandshake('an answer without a statement')
    const { secret, kind, receiver, admit } = this.#options
    const expected = prove(secret, 'acceptor', [this.#hello, challenge, statement])
    if (!equal(proof, expected)) {
      return { type: 'refused', refusal: secretRefusal, other: undefined, byOther: false }
    }
    const [fields, verdict] = decode(statement)
    const other = readIdentity(fields)
    const refusal = admit(other, kind) ?? misdirected(kind, receiver.id, receiver.address, other)
    if (refusal !== undefined) return { type: 'refused', refusal, other, byOther: false }
    if (verdict === null && isLink(kind)) return { type: 'established', other, kind }
    if (!isArray(verdict)) throw badHandshake('an answer without a verdict')
    return { type: 'refused', refusal: readRefusal(verdict), other, byOther: true }
  }
}

export class AcceptHandshake implements Handshake {
  readonly #options: HandshakeOptions
  #greeting: Greeting | undefined

  constructor(options: HandshakeOptions) {
    this.#options = options
  }

  begin(): undefined {
    return undefined
  }

  step(kind: FrameKind, body: Uint8Array): Step {
    if (kind === frameKinds.hello && this.#greeting === undefined) return this.#challenge(body)
    if (kind === frameKinds.proof && this.#greeting !== undefined) {
      return this.#answer(body, this.#greeting)
    }
    throw badHandshake('a frame out of turn')
  }

  #challenge(bytes: Uint8Array): Step {
    // The first three fields and their order are the same in every version for ever; fields behind those that
    // this version knows belong to later ones.
    const [magic, min, max, ...rest] = decode(bytes)
    if (magic !== MAGIC || typeof min !== 'number' || typeof max !== 'number') {
      throw badHandshake('not a hello')
    }
    const version = Math.min(max, PROTOCOL_VERSION_MAX)
    if (!(version >= min && version >= PROTOCOL_VERSION_MIN)) {
      const text =
        `the dialler speaks the peer protocol versions ${min} to ${max}, ` +
        `the acceptor ${PROTOCOL_VERSION_MIN} to ${PROTOCOL_VERSION_MAX}`
      return refuseEarly({ code: 'version', text })
    }
    const challenge = encodeFrame([version, this.#options.nonce])
    this.#greeting = { hello: readHello(rest), bytes, challenge }
    return { send: frame(frameKinds.challenge, challenge), outcome: undefined }
  }

  #answer(proof: Uint8Array, greeting: Greeting): Step {
    const { hello, bytes, challenge } = greeting
    const { self, secret, admit } = this.#options
    if (!equal(proof, prove(secret, 'dialler', [bytes, challenge]))) {
      return refuseEarly(secretRefusal)
    }
    const other = hello.sender
    const { kind } = hello
    const refusal =
      admit(other, kind) ?? misdirected(kind, hello.receiverId, hello.receiverAddress, self)
    const verdict = refusal === undefined ? null : [refusal.code, refusal.text]
    const statement = encodeFrame([identityFields(self), verdict])
    const own = prove(secret, 'acceptor', [bytes, challenge, statement])
    const send = frame(frameKinds.answer, encodeFrame([statement, own]))
    if (refusal === undefined) {
      assert(isLink(kind), () => `a ${kind} was taken for a link`)
      return { send, outcome: { type: 'established', other, kind } }
    }
    return { send, outcome: { type: 'refused', refusal, other, byOther: false } }
  }
}

const secretRefusal: Refusal = {
  code: 'secret',
  text: 'the peer-secret differs, or only one side has one',
}

function refuseEarly(refusal: Refusal): Step {
  return {
    send: refusedFrame(refusal),
    outcome: { type: 'refused', refusal, other: undefined, byOther: false },
  }
}

/** The frame that tells a dialler why it is not even asked who it is. */
export function refusedFrame(refusal: Refusal): Uint8Array {
  return frame(frameKinds.refused, encodeFrame([refusal.code, refusal.text]))
}

function isLink(kind: HelloKind): kind is LinkKind {
  return linkKinds.some((known) => known === kind)
}

/**
 * `target` is not who the dialler meant: by id if it knew one, else by the address it dialled. Whoever asks to join, or
 * who is there, means anybody.
 */
function misdirected(
  kind: HelloKind,
  id: NodeId | undefined,
  address: string,
  target: Identity,
): Refusal | undefined {
  if (!isLink(kind)) return undefined
  if (id === undefined ? sameAddress(address, target.peerAddress) : id === target.id)
    return undefined
  const meant = id === undefined ? `the node at ${address}` : `node ${id} at ${address}`
  const text = `meant for ${meant}, but this is node ${target.id} at ${target.peerAddress}`
  return { code: 'receiver', text }
}

/** The role is part of what is proved, or a proof could be played back to its maker. */
function prove(
  secret: string | undefined,
  role: 'dialler' | 'acceptor',
  transcript: readonly Uint8Array[],
): Uint8Array {
  if (secret === undefined) return new Uint8Array(0)
  const hmac = createHmac('sha256', secret).update(`${MAGIC} ${role}`)
  const length = Buffer.alloc(4)
  for (const bytes of transcript) {
    length.writeUInt32BE(bytes.length)
    hmac.update(length).update(bytes)
  }
  return hmac.digest()
}

function equal(proof: FrameField | undefined, expected: Uint8Array): boolean {
  if (!(proof instanceof Uint8Array) || proof.length !== expected.length) return false
  return timingSafeEqual(proof, expected)
}

function identityFields(identity: Identity): FrameField[] {
  return [
    identity.id,
    identity.clusterId ?? null,
    identity.incarnation,
    identity.peerAddress,
    identity.clientAddress,
    identity.listHash,
    identity.members === undefined ? null : [...identity.members],
    identity.membershipIndex,
    identity.replaces ?? null,
    identity.level ?? null,
  ]
}

function decode(bytes: Uint8Array): readonly FrameField[] {
  try {
    return decodeFrame(bytes)
  } catch (error) {
    if (error instanceof CodecError) throw badHandshake('undecodable fields')
    throw error
  }
}

function readHello(fields: readonly FrameField[]): Hello {
  const [kind, sender, receiverId, receiverAddress, nonce] = fields
  const helloKind = helloKinds.find((known) => known === kind)
  if (helloKind === undefined) throw badHandshake('an unknown kind of link')
  readNonce(nonce)
  return {
    kind: helloKind,
    sender: readIdentity(sender),
    receiverId: receiverId === null ? undefined : readId(receiverId),
    receiverAddress: readAddress(receiverAddress),
  }
}

function readIdentity(field: FrameField | undefined): Identity {
  if (!isArray(field)) throw badHandshake('no identity')
  const [id, clusterId, incarnation, peerAddress, clientAddress, listHash, members, at, ...rest] =
    field
  if (typeof listHash !== 'string' || !/^[0-9a-f]{64}$/.test(listHash)) {
    throw badHandshake('a bad hash of the cluster list')
  }
  if (members !== null && !(isArray(members) && members.length <= MEMBERS_MAX)) {
    throw badHandshake('a bad list of members')
  }
  return {
    id: readId(id),
    clusterId: clusterId === null ? undefined : readId(clusterId),
    incarnation: readCount(incarnation),
    peerAddress: readAddress(peerAddress),
    clientAddress: readAddress(clientAddress),
    listHash,
    members: members === null ? undefined : members.map(readId),
    membershipIndex: readCount(at),
    ...readLater(rest),
  }
}

/** What earlier builds do not say of themselves. */
function readLater(fields: readonly FrameField[]): Pick<Identity, 'replaces' | 'level'> {
  const [replaces = null, level = null] = fields
  return {
    ...(replaces !== null && { replaces: readId(replaces) }),
    ...(level !== null && { level: readCount(level) }),
  }
}

function readCount(field: FrameField | undefined): number {
  if (typeof field === 'number' && Number.isSafeInteger(field) && field >= 0) return field
  throw badHandshake('a bad incarnation or index')
}

/** Ids of nodes and clusters alike: 40 hex digits. */
function readId(field: FrameField | undefined): string {
  if (typeof field !== 'string' || !/^[0-9a-f]{40}$/.test(field)) throw badHandshake('a bad id')
  return field
}

function readAddress(field: FrameField | undefined): string {
  const valid = typeof field === 'string' && field.length <= ADDRESS_CHARS_MAX
  const address = valid ? parseAddress(field) : undefined
  if (address === undefined) throw badHandshake('a bad address')
  return formatAddress(address.host, address.port)
}

function readNonce(field: FrameField | undefined): void {
  if (!(field instanceof Uint8Array) || field.length !== NONCE_BYTES) {
    throw badHandshake('a bad nonce')
  }
}

/** The text comes from outside and ends in a log: it is cut and must be printable. */
function readRefusal(fields: readonly FrameField[]): Refusal {
  const code = refusalCodes.find((known) => known === fields[0])
  const text = fields[1]
  if (code === undefined || typeof text !== 'string') throw badHandshake('a bad refusal')
  return { code, text: text.slice(0, REASON_CHARS_MAX).replace(/[^\x20-\x7e]/g, '?') }
}

function isArray(field: FrameField | undefined): field is readonly FrameField[] {
  return Array.isArray(field)
}

function badHandshake(what: string): PeerProtocolError {
  return new PeerProtocolError('BADHANDSHAKE', `bad handshake: ${what}`)
}
