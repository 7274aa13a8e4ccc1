/*
 * What one seed is made of: each draws another cluster, other limits, other faults and another pace, because a world
 * in which everything fails all the time reaches nothing in particular. It only draws; others act.
 */

import type { Random } from '../../raft/ports.ts'
import { limits } from '../../src/config.ts'

export interface Range {
  readonly min: number
  readonly max: number
}

/** The limits that a seed makes small, and differently on each node. */
export const smallLimits = [
  'entryCommandsMax',
  'entryBytesMax',
  'appendFrameBytesMax',
  'appendsInFlightMax',
  'uncommittedBytesMax',
  'applyQueueBytesMax',
  'applySliceBytesMax',
  'compactStepEntriesMax',
  'forwardBytesMax',
  'turnCommandsMax',
  'snapshotChunkBytes',
  'snapshotWindowBytes',
  'snapshotPatienceMs',
  'snapshotStallMs',
] as const

export type SmallLimits = Record<(typeof smallLimits)[number], number>

export interface NodeSwarm {
  readonly limits: SmallLimits
  readonly memtableBytes: number
  readonly cache: { readonly entries: number; readonly bytes: number }
  readonly parkBytes: number
  /** Bytes of log kept for members that are behind, and for a snapshot. */
  readonly logRetain: number
  readonly snapshotLog: number
  readonly commitMs: Range
  /** Speed of its monotonic clock: 1 is right. */
  readonly drift: number
}

export const faultNames = [
  'kill',
  'kill leader',
  'power cut',
  'power cut of all',
  'pause',
  'isolate',
  'isolate follower',
  'partition',
  'leader in a minority',
  'slow leader cut off',
  'one way',
  'clog',
  'reset links',
  'cut frames',
  'wall jump',
  'slow disk',
  'disk fault',
  'flip',
  'kill in checkpoint',
  'kill in snapshot',
  'leave behind',
  'kill after vote',
  'kill in truncation',
  'kill in promise',
  'wrong host',
  'stand still',
  'late answers',
  'figure 8',
] as const

/** Only in seeds whose members change. */
export const changeNames = [
  'member added',
  'member removed',
  'member demoted',
  'member promoted',
  'leadership handed over',
  'disk wiped',
  'struck in a change',
] as const

export type ChangeName = (typeof changeNames)[number]
/** Those that are drawn again and again. */
export type DrawnFault = (typeof faultNames)[number] | ChangeName | 'deposed in a snapshot'
/** The others come at moments of their own, so that whoever does not meet them remains the same run. */
export type FaultName = DrawnFault | 'state differs' | 'log damaged'

/** What these lead to is rare even when they come, so they come in every seed. */
const STAGED: ReadonlySet<FaultName> = new Set([
  'kill in checkpoint',
  'kill in snapshot',
  'leave behind',
  'figure 8',
])

/** These wait for a calm moment and keep everything else from failing for a while: in every seed, but seldom. */
const CALM: ReadonlySet<FaultName> = new Set(['isolate follower', 'stand still', 'late answers'])

/** Only these let a leader that was replaced be asked for what it does not know. */
const DEPOSING: ReadonlySet<FaultName> = new Set(['leader in a minority'])

export interface Swarm {
  readonly size: number
  readonly long: boolean
  /** Simulated ms of clients and faults before the healing. */
  readonly durationMs: number
  readonly heartbeatMs: number
  readonly electionMs: number
  readonly parkTimeoutMs: number
  readonly commitTimeoutMs: number
  readonly delayMs: Range
  readonly splitChance: number
  readonly pieceBytesMax: number
  /** How often a message of raft comes twice, or late; 0: links are what TCP makes of them. */
  readonly repeatChance: number
  readonly clients: number
  readonly pipelineMax: number
  readonly thinkMs: number
  readonly largeValueChance: number
  readonly faultEveryMs: number
  readonly weights: Readonly<Record<DrawnFault, number>>
  readonly redirectMoved: boolean
  /** Its disks show commits before they are flushed. */
  readonly early: boolean
  readonly nodes: readonly NodeSwarm[]
  /** Addresses of machines that are not there at first. */
  readonly spares: readonly string[]
  /** What each of them is like. */
  readonly spareNodes: readonly NodeSwarm[]
  /** Nobody asks for fewer voters. */
  readonly votersMin: number
}

/** When the state of a node begins to differ, in simulated ms; undefined: none does. */
export function drawDiffering(random: Random, { durationMs }: Swarm): number | undefined {
  return random() < DIFFERING_CHANCE ? durationMs * (0.2 + random() * 0.4) : undefined
}

const DIFFERING_CHANCE = 0.2

/** When the log of a node is damaged that is to come back, in simulated ms. */
export function drawDamage(random: Random, { durationMs }: Swarm): number {
  return durationMs * (0.1 + random() * 0.5)
}

export const DURATION_MS = 60_000
export const LONG_DURATION_MS = 600_000

/** `early` undefined: the seed decides. */
export function drawSwarm(
  random: Random,
  options: { long: boolean; early: boolean | undefined },
): Swarm {
  const { long } = options
  const between = (min: number, max: number): number => min + random() * (max - min)
  const whole = (min: number, max: number): number => Math.floor(between(min, max + 1))
  const sizes = long ? [3, 3, 3, 5] : [3, 3, 3, 3, 5, 5, 4, 7]
  const size = sizes[whole(0, sizes.length - 1)] ?? 3
  // A long run has the same number of heartbeats in it as a short one would have in a fifth of its time.
  const heartbeatMs = long ? whole(400, 1000) : whole(100, 300)
  const electionMs = Math.round(heartbeatMs * between(3, 8))
  const weights = Object.fromEntries(
    faultNames.map((name) => {
      if (STAGED.has(name)) return [name, between(1, name.endsWith('checkpoint') ? 2 : 4)]
      if (DEPOSING.has(name)) return [name, between(1, 3)]
      if (name === 'late answers') return [name, random() < 0.3 ? between(3, 6) : 0.3]
      if (CALM.has(name)) return [name, between(0.3, 0.8)]
      return [name, random() < 0.35 ? 0 : between(0.3, 1)]
    }),
  )
  const durationMs = long ? LONG_DURATION_MS : DURATION_MS
  const tiny = random() < 0.6
  // Then whoever was away needs a snapshot.
  const shortLogs = random() < 0.8
  const largeValueChance = random() < 0.3 ? 0.002 : 0
  // A state with large values must get through chunks to slow disks in the time that I18 allows.
  const chunkFactor = largeValueChance > 0 ? 16 : 1
  const pace = { tiny, shortLogs, electionMs, chunkFactor }
  const fixed = {
    size,
    long,
    durationMs,
    heartbeatMs,
    electionMs,
    parkTimeoutMs: whole(0, 3) === 0 ? whole(0, 200) : whole(200, 4000),
    commitTimeoutMs: whole(1000, 4000),
    delayMs: { min: 0.1, max: random() < 0.5 ? 2 : heartbeatMs / 10 },
    splitChance: random() < 0.5 ? 0 : between(0, 0.5),
    pieceBytesMax: random() < 0.2 ? whole(20, 400) : 65_536,
    repeatChance: random() < 0.5 ? 0 : between(0.01, 0.2),
    clients: whole(3, 8),
    pipelineMax: whole(1, 12),
    thinkMs: long ? between(1500, 4000) : between(150, 500),
    largeValueChance,
    faultEveryMs: long ? between(8000, 16_000) : between(1000, 2200),
    redirectMoved: random() < 0.1,
    nodes: Array.from({ length: size }, () => drawNode(random, pace, between, whole)),
    early: options.early ?? random() < 0.15,
  }
  const changes = random() < 0.4
  const spares = changes ? whole(1, 2) : 0
  const changeWeights = changeNames.map((name) => {
    const often = name === 'struck in a change' || name === 'member added'
    return [name, changes ? between(1, often ? 6 : 3) : 0]
  })
  return {
    ...fixed,
    weights: {
      ...weights,
      ...Object.fromEntries(changeWeights),
      'deposed in a snapshot': between(0.7, 2),
    },
    spares: Array.from({ length: spares }, (_, i) => `127.0.0.${size + i + 1}`),
    spareNodes: Array.from({ length: spares }, () => drawNode(random, pace, between, whole)),
    votersMin: whole(2, 3),
  }
}

interface Pace {
  readonly tiny: boolean
  readonly shortLogs: boolean
  readonly electionMs: number
  readonly chunkFactor: number
}

function drawNode(
  random: Random,
  { tiny, shortLogs, electionMs, chunkFactor }: Pace,
  between: (min: number, max: number) => number,
  whole: (min: number, max: number) => number,
): NodeSwarm {
  const some = (name: keyof SmallLimits, min: number, max: number): number =>
    tiny && random() < 0.7 ? whole(min, max) : limits[name]
  const slow = random() < 0.25
  const logRetain = shortLogs ? whole(1024, 6000) : 1_000_000
  return {
    limits: {
      entryCommandsMax: some('entryCommandsMax', 1, 6),
      entryBytesMax: some('entryBytesMax', 100, 1000),
      appendFrameBytesMax: some('appendFrameBytesMax', 40, 600),
      appendsInFlightMax: some('appendsInFlightMax', 1, 8),
      uncommittedBytesMax: some('uncommittedBytesMax', 300, 4000),
      applyQueueBytesMax: some('applyQueueBytesMax', 100, 2000),
      applySliceBytesMax: some('applySliceBytesMax', 40, 1000),
      compactStepEntriesMax: some('compactStepEntriesMax', 1, 20),
      forwardBytesMax: some('forwardBytesMax', 200, 4000),
      turnCommandsMax: some('turnCommandsMax', 1, 8),
      snapshotChunkBytes: whole(60, 400) * chunkFactor,
      snapshotWindowBytes: whole(1, 1500) * chunkFactor,
      snapshotPatienceMs: electionMs * whole(1, 3),
      snapshotStallMs: electionMs * whole(3, 6),
    },
    memtableBytes: random() < 0.2 ? 1_000_000 : whole(3000, shortLogs ? 9000 : 40_000),
    cache: { entries: whole(2, 64), bytes: random() < 0.5 ? 1_000_000 : whole(200, 4000) },
    logRetain,
    // In some seeds so little that a snapshot comes too late.
    snapshotLog: random() < 0.2 ? logRetain * 2 : 10_000_000,
    parkBytes: random() < 0.3 ? whole(200, 3000) : 64 * 1024 * 1024,
    commitMs: slow ? { min: 2, max: between(10, 60) } : { min: 0.2, max: between(0.5, 5) },
    drift: 1 + between(-0.001, 0.001),
  }
}
