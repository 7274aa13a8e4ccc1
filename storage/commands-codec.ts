/*
 * The bytes of commands in an entry of the log, and whose they are. A layout of its own instead of msgpack, because
 * one object per command costs too much. What is decoded here is treated as hostile, as in codec.ts, through which
 * all others use this file.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../raft/assert.ts'
import type { NodeId } from '../raft/types.ts'
import { CodecError, readUint64, writeUint64 } from './integers.ts'
import { commandLength, type LoggedCommand, readCommand, writeCommand } from './logged-command.ts'
import { allocateBytes, VarintReader, varintLength, writeVarint } from './varints.ts'

export type { LoggedCommand }

/** A process of a node, by the count of its starts: whose commands these are. */
export interface Origin {
  readonly node: NodeId
  readonly incarnation: number
}

/**
 * Commands of an entry that another node than its proposer took from a client, one behind the other from `place`
 * (0: the first command of the entry) on, and their numbers at that node: `tag`, `tag` + 1 and so on.
 */
export interface ForwardedRun {
  readonly origin: Origin
  readonly place: number
  readonly count: number
  readonly tag: number
}

/** The bytes of an entry before its payload: see codec.ts. */
export const ENTRY_HEADER_BYTES = 21
/** Of an origin, as of every member. */
const NODE_ID_LENGTH_MAX = 64
const NO_RUNS: readonly ForwardedRun[] = []
const NO_ORIGINS: readonly Origin[] = []

/** Payloads by encodeCommands that no entry has used yet: memory of their own, with room for an entry's header. */
const roomBefore = new WeakSet<Uint8Array>()

/**
 * The payload of a 'commands' entry. `at` is the leader's logical clock in ms, a safe integer. Layout: at u64,
 * number of commands, then the form of each (logged-command.ts). Only where commands were forwarded, behind them: number of origins, each of them (length, node id, incarnation u64),
 * number of runs, each of them (which origin, commands since the run before, count, first tag u64). Numbers without
 * a size are LEB128, so that a short command costs one byte per field.
 */
export function encodeCommands(
  at: number,
  commands: readonly LoggedCommand[],
  forwarded: readonly ForwardedRun[] = NO_RUNS,
): Uint8Array {
  const origins = originsOf(forwarded)
  let length = 8 + varintLength(commands.length) + runsLength(origins, forwarded)
  for (const command of commands) length += commandLength(command)
  const memory = allocateBytes(ENTRY_HEADER_BYTES + length)
  const bytes = memory.subarray(ENTRY_HEADER_BYTES)
  roomBefore.add(bytes)
  writeUint64(bytes, 0, at)
  let offset = writeVarint(bytes, 8, commands.length)
  for (const command of commands) offset = writeCommand(bytes, offset, command)
  if (forwarded.length > 0) offset = writeRuns(bytes, offset, origins, forwarded)
  assert(offset === bytes.length, () => `commands of ${bytes.length} bytes ended at ${offset}`)
  return bytes
}

/** The reverse of encodeCommands; every argument is a view of `data`. Throws CodecError. */
export function decodeCommands(data: Uint8Array): {
  readonly at: number
  readonly commands: readonly LoggedCommand[]
  /** In the order of their places, none of which is in two of them. */
  readonly forwarded: readonly ForwardedRun[]
} {
  if (data.length < 8) throw new CodecError('commands are cut short')
  const reader = new VarintReader(data, 8)
  const at = readUint64(data, 0)
  const count = reader.next()
  const commands: LoggedCommand[] = []
  for (let i = 0; i < count; i++) commands.push(readCommand(reader))
  const forwarded = reader.isAtEnd ? NO_RUNS : readRuns(reader, count)
  reader.expectEnd()
  return { at, commands, forwarded }
}

/** Each origin once. There are few: one per node that forwards. */
function originsOf(forwarded: readonly ForwardedRun[]): readonly Origin[] {
  if (forwarded.length === 0) return NO_ORIGINS
  const origins: Origin[] = []
  for (const { origin } of forwarded) {
    if (!origins.some((known) => isSameOrigin(known, origin))) origins.push(origin)
  }
  return origins
}

export function isSameOrigin(a: Origin, b: Origin): boolean {
  return a.incarnation === b.incarnation && a.node === b.node
}

function originNumber(origins: readonly Origin[], origin: Origin): number {
  return origins.findIndex((known) => isSameOrigin(known, origin))
}

function runsLength(origins: readonly Origin[], runs: readonly ForwardedRun[]): number {
  if (runs.length === 0) return 0
  let length = varintLength(origins.length) + varintLength(runs.length)
  for (const { node } of origins) length += varintLength(node.length) + node.length + 8
  let end = 0
  for (const { origin, place, count } of runs) {
    length += varintLength(originNumber(origins, origin)) + varintLength(place - end)
    length += varintLength(count) + 8
    end = place + count
  }
  return length
}

function writeRuns(
  bytes: Uint8Array,
  from: number,
  origins: readonly Origin[],
  runs: readonly ForwardedRun[],
): number {
  let offset = writeVarint(bytes, from, origins.length)
  for (const { node, incarnation } of origins) {
    assert(node.length <= NODE_ID_LENGTH_MAX, () => `a node id of ${node.length} characters`)
    offset = writeVarint(bytes, offset, node.length)
    for (let i = 0; i < node.length; i++) bytes[offset++] = node.charCodeAt(i)
    writeUint64(bytes, offset, incarnation)
    offset += 8
  }
  offset = writeVarint(bytes, offset, runs.length)
  let end = 0
  for (const { origin, place, count, tag } of runs) {
    assert(place >= end && count > 0, () => `a run of ${count} commands at ${place}, after ${end}`)
    offset = writeVarint(bytes, offset, originNumber(origins, origin))
    offset = writeVarint(bytes, offset, place - end)
    offset = writeVarint(bytes, offset, count)
    writeUint64(bytes, offset, tag)
    offset += 8
    end = place + count
  }
  return offset
}

/** Throws CodecError on runs that are none, overlap or reach past the entry's commands. */
function readRuns(reader: VarintReader, commands: number): ForwardedRun[] {
  const origins: Origin[] = []
  for (let left = reader.next(); left > 0; left--) {
    const node = latin1(reader.bytes(reader.next()))
    if (node.length > NODE_ID_LENGTH_MAX) throw new CodecError('the id of an origin is too long')
    origins.push({ node, incarnation: reader.uint64() })
  }
  const runs: ForwardedRun[] = []
  let end = 0
  for (let left = reader.next(); left > 0; left--) {
    const origin = origins[reader.next()]
    const place = end + reader.next()
    const count = reader.next()
    const tag = reader.uint64()
    end = place + count
    if (origin === undefined || count === 0 || end > commands) {
      throw new CodecError('forwarded commands of an entry are not among its commands')
    }
    if (!Number.isSafeInteger(tag + count)) throw new CodecError('a tag is too large')
    runs.push({ origin, place, count, tag })
  }
  return runs
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

/**
 * The memory of a payload by encodeCommands together with the room for an entry's header before it, so that an
 * entry of many megabytes is not copied once more; at the second call, or for other bytes, undefined.
 */
export function takeRoomBefore(payload: Uint8Array): Uint8Array | undefined {
  return roomBefore.delete(payload) ? new Uint8Array(payload.buffer) : undefined
}
