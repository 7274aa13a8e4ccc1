/*
 * What a node must know of itself, as the log's environment keeps it: who it is, what it has promised, where its log
 * begins, which state is in force, and beside that one record what is so only for a while. It knows no entry.
 */

import { randomBytes } from 'node:crypto'
import type { HardState, NodeId, Position } from '../raft/types.ts'
import { CodecError } from './codec.ts'
import type { LogEnvironment, Operation } from './engine.ts'
import type { FieldReader } from './field-reader.ts'
import { openSealedFrame, sealFrame } from './sealed-frame.ts'

/** What a node knows of itself for ever. */
export interface Identity {
  readonly nodeId: NodeId
  /** undefined until the node is bound to a cluster. */
  readonly clusterId: string | undefined
}

/** What is wrong with the state in force, and where another one may be had. */
export interface StateDamage {
  readonly what: string
  /** Client addresses of members, or what stood for them. */
  readonly sources: readonly string[]
}

/** This node's log is not what it promised to keep. The message tells the operator what to do. */
export class CorruptLogError extends Error {
  override readonly name = 'CorruptLogError'
  readonly code = 'CORRUPT_LOG'
  /** The message without what to do. */
  readonly what: string

  /** `isNameless`: nor does the disk tell which node it was. */
  constructor(what: string, location: string, isNameless = false) {
    const remedy = isNameless
      ? `which member this was cannot be read. RAFT REMOVE its id on another node, empty ${location}, and start with --join host:peerport`
      : `start it with --rejoin host:peerport of another member. That empties ${location} and lets a new node take this one's place`
    super(
      `${what}. This disk has lost or changed what the node acknowledged, so the node must not vote again. ` +
        `Do not copy files from another node: ${remedy}.`,
    )
    this.what = what
  }
}

/** The one record of database `stable`. */
export interface Stable extends Identity {
  readonly hardState: HardState
  /** The position just before the first entry. */
  readonly base: Position
  /** The state directory in force is `state-N`. */
  readonly stateNumber: number
}

export const LOG_FORMAT_VERSION = 3
export const LOG = 'log'
export const STABLE = 'stable'
const STABLE_KEY = Buffer.from('stable')
/** There while the flag is that made this node a cluster of its own. */
export const FORCED_KEY: Uint8Array = Buffer.from('forced')
/** There in an unbound node: the id of the node whose place it is to take. */
export const REPLACES_KEY: Uint8Array = Buffer.from('replaces')
/** There while the state in force is known to be damaged. */
export const DAMAGE_KEY: Uint8Array = Buffer.from('damage')
const DAMAGE_FORMAT_VERSION = 1
const DAMAGE_CHARS_MAX = 1024
const ID_LENGTH_MAX = 64
/** Of the state that a new node begins with; the ones that take its place are counted on. */
export const FIRST_STATE_NUMBER = 1

export async function loadStable(environment: LogEnvironment, location: string): Promise<Stable> {
  const bytes = environment.get(STABLE, STABLE_KEY)
  if (bytes === undefined) {
    environment.range(LOG, new Uint8Array(8), () => {
      throw new CorruptLogError('the log has entries, but no record of its node', location, true)
    })
    const stable = newborn(FIRST_STATE_NUMBER)
    await environment.commit([putStable(stable)])
    return stable
  }
  try {
    return readStable(openSealedFrame(bytes, LOG_FORMAT_VERSION, 'the record of this node'))
  } catch (error) {
    if (error instanceof CodecError) throw new CorruptLogError(error.message, location, true)
    throw error
  }
}

export function newborn(stateNumber: number): Stable {
  return {
    nodeId: randomBytes(20).toString('hex'),
    clusterId: undefined,
    hardState: { term: 0, vote: undefined },
    base: { index: 0, term: 0 },
    stateNumber,
  }
}

export function replacedBy(environment: LogEnvironment): NodeId | undefined {
  const bytes = environment.get(STABLE, REPLACES_KEY)
  return bytes && Buffer.from(bytes).toString()
}

export function putStable(stable: Stable): Operation {
  const { nodeId, clusterId, hardState, base, stateNumber } = stable
  const value = sealFrame(LOG_FORMAT_VERSION, [
    nodeId,
    clusterId ?? null,
    hardState.term,
    hardState.vote ?? null,
    base.index,
    base.term,
    stateNumber,
  ])
  return { type: 'put', database: STABLE, key: STABLE_KEY, value }
}

function readStable(reader: FieldReader): Stable {
  const nodeId = reader.string(ID_LENGTH_MAX)
  const clusterId = reader.skipNull() ? undefined : reader.string(ID_LENGTH_MAX)
  const term = reader.integer()
  const vote = reader.skipNull() ? undefined : reader.string(ID_LENGTH_MAX)
  const base = reader.position()
  const stateNumber = reader.integer()
  reader.expectEnd()
  return { nodeId, clusterId, hardState: { term, vote }, base, stateNumber }
}

export function putDamage({ what, sources }: StateDamage): Operation {
  const short = (text: string): string => text.slice(0, DAMAGE_CHARS_MAX)
  const value = sealFrame(DAMAGE_FORMAT_VERSION, [short(what), ...sources.map(short)])
  return { type: 'put', database: STABLE, key: DAMAGE_KEY, value }
}

/** Throws CorruptLogError when the disk has changed it. */
export function loadDamage(environment: LogEnvironment, location: string): StateDamage | undefined {
  const bytes = environment.get(STABLE, DAMAGE_KEY)
  if (bytes === undefined) return undefined
  try {
    const fields = openSealedFrame(bytes, DAMAGE_FORMAT_VERSION, 'what is wrong with the state')
    const what = fields.string(DAMAGE_CHARS_MAX)
    const { left } = fields
    return { what, sources: Array.from({ length: left }, () => fields.string(DAMAGE_CHARS_MAX)) }
  } catch (error) {
    if (error instanceof CodecError) throw new CorruptLogError(error.message, location)
    throw error
  }
}
