/*
 * The benchmark itself: cells (a load each), driven against every target in turn, round after round. The machine may
 * be shared and drifts, so a ratio is taken within one cell of one round, where the two sides ran one after the
 * other, and the median over the rounds is what counts. It knows loads and targets, but not what a target is made of.
 */

import { drive, type LoadResult } from './load.ts'
import { type Benchmark, redisBenchmark } from './redis-benchmark.ts'
import { type Target, usageOf } from './systems.ts'

export interface Cell {
  /** Ours runs what redis-benchmark cannot; 'GET' and 'SET' are its own. */
  readonly load: 'SET' | 'GET' | '90/10'
  readonly connections: number
  readonly pipeline: number
  readonly valueBytes: number
  /** Through a follower, too. */
  readonly followers: boolean
}

/** What one process used while it was under a load. */
export interface PartUsage {
  readonly part: string
  /** Of one core, 1 is all of it. */
  readonly cpu: number
  /** CPU time per command: hardly depends on what else the machine does. */
  readonly cpuMicrosPerCommand: number
  readonly anonymousBytes: number
  readonly fileBytes: number
}

export interface Sample {
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
  /** Only our own generator knows it. */
  readonly p999: number | undefined
  readonly parts: readonly PartUsage[]
  readonly entriesPerSecond: number | undefined
  readonly commandsPerEntry: number | undefined
}

/** By cell and target: a sample per round. */
export type Results = ReadonlyMap<Cell, ReadonlyMap<Target, readonly Sample[]>>

const KEYS_MAX = 100_000
/** So much data at most is in a database: a node holds it in memory, whether it is on its disk by now or not. */
const DATA_BYTES = 16 * 1024 * 1024
const CALIBRATION_SECONDS = 0.5
/** At each target before the first round: what a server compiles as it runs, and a disk that was idle, are no part of it. */
const WARM_SECONDS = 2
/** What brings a checkpoint every few seconds is measured for longer, so that each sample has its share of them. */
export const HEAVY_TIMES = 5
const HEAVY_BYTES = 1024

export function nameOf({ load, connections, pipeline, valueBytes }: Cell): string {
  return `${load} c=${connections} P=${pipeline} ${sizeOf(valueBytes)}`
}

function sizeOf(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KiB`
}

/** What a run measures unless it is asked for every cell. */
export function usualCells(): readonly Cell[] {
  const at = (connections: number, pipeline: number, followers: boolean) =>
    (['SET', 'GET'] as const).map((load): Cell => {
      return { load, connections, pipeline, valueBytes: 64, followers }
    })
  const sized = (valueBytes: number) =>
    (['SET', 'GET'] as const).map((load): Cell => {
      return { load, connections: 50, pipeline: 1, valueBytes, followers: false }
    })
  return [
    ...at(50, 1, true),
    ...at(50, 16, true),
    ...at(1, 1, false),
    ...at(200, 1, false),
    ...sized(1024),
    ...sized(64 * 1024),
    { load: '90/10', connections: 50, pipeline: 1, valueBytes: 64, followers: true },
  ]
}

export function everyCell(): readonly Cell[] {
  const cells: Cell[] = []
  for (const [connections, pipeline] of [
    [1, 1],
    [50, 1],
    [50, 16],
    [200, 1],
  ] as const) {
    for (const valueBytes of [64, 1024, 64 * 1024]) {
      for (const load of ['SET', 'GET', '90/10'] as const) {
        cells.push({ load, connections, pipeline, valueBytes, followers: true })
      }
    }
  }
  return cells
}

export function keysFor(valueBytes: number): number {
  return Math.min(KEYS_MAX, Math.floor(DATA_BYTES / valueBytes))
}

export interface RunOptions {
  readonly cells: readonly Cell[]
  readonly targets: readonly Target[]
  readonly rounds: number
  /** A round begins only where one as long as the longest so far ends within so many minutes; the first one always. */
  readonly minutesMax: number
  /** Of one load at one target; pipelined writes and those of large values take longer. */
  readonly seconds: number
  /** A line for whoever waits. */
  progress(line: string): void
}

export async function runRounds(options: RunOptions): Promise<Results> {
  const { cells, targets, rounds, progress } = options
  const results = new Map<Cell, Map<Target, Sample[]>>()
  for (const cell of cells) results.set(cell, new Map())
  const startedAt = performance.now()
  for (const target of targets) await warm(target)
  let longestMs = 0
  for (let round = 1; round <= rounds; round++) {
    const roundAt = performance.now()
    if (round > 1 && roundAt - startedAt + longestMs > options.minutesMax * 60_000) {
      progress(`${round - 1} rounds are made: another one would take too long`)
      break
    }
    // Cells with values of one size follow each other: a database is filled when the size changes.
    let filled = 0
    for (const [cell, byTarget] of results) {
      if (cell.valueBytes !== filled) {
        filled = cell.valueBytes
        for (const target of targets) await fill(target, cell.valueBytes)
      }
      const chosen = targets.filter(({ name }) => cell.followers || !name.endsWith(', follower'))
      // Each side comes first as often as last: a machine that becomes slower, or just was idle, favours none.
      if (round % 2 === 0) chosen.reverse()
      const figures: string[] = []
      for (const target of chosen) {
        const sample = await measureCell(cell, target, secondsOf(cell, options.seconds))
        byTarget.set(target, [...(byTarget.get(target) ?? []), sample])
        figures.push(`${target.name} ${Math.round(sample.perSecond)}`)
      }
      progress(`round ${round} of ${rounds}, ${nameOf(cell)}: ${figures.join('; ')}`)
    }
    longestMs = Math.max(longestMs, performance.now() - roundAt)
  }
  return results
}

async function warm(target: Target): Promise<void> {
  const load = { connections: 50, pipeline: 1, setShare: 0.5, valueBytes: 64, keys: KEYS_MAX }
  await drive({ ...load, ...(await target.address()), seconds: WARM_SECONDS })
}

/** Every key that a cell of this size may ask for. */
async function fill(target: Target, valueBytes: number): Promise<void> {
  const keys = keysFor(valueBytes)
  const pipeline = valueBytes > 4096 ? 4 : 100
  const { errors } = await drive({
    ...(await target.address()),
    connections: 4,
    pipeline,
    setShare: 1,
    valueBytes,
    keys,
    seconds: Number.POSITIVE_INFINITY,
    commands: keys,
    inOrder: true,
  })
  if (errors > 0) throw new Error(`${target.name} refused ${errors} of ${keys} writes`)
}

function secondsOf({ load, pipeline, valueBytes }: Cell, seconds: number): number {
  const isHeavy = load === 'SET' && (pipeline > 1 || valueBytes >= HEAVY_BYTES)
  return isHeavy ? seconds * HEAVY_TIMES : seconds
}

async function measureCell(cell: Cell, target: Target, seconds: number): Promise<Sample> {
  const address = await target.address()
  const keys = keysFor(cell.valueBytes)
  const setShare = { SET: 1, GET: 0, '90/10': 0.1 }[cell.load]
  const own = { ...cell, ...address, keys, setShare }
  const calibrated = await drive({ ...own, seconds: CALIBRATION_SECONDS })
  const requests = Math.max(100, Math.round(calibrated.perSecond * seconds))
  const processes = await target.processes()
  const entriesBefore = await target.entries()
  const before = processes.map(({ pid }) => usageOf(pid))
  const startedAt = performance.now()
  const outcome: Outcome =
    cell.load === '90/10'
      ? await drive({ ...own, seconds })
      : await benchmarked({ ...cell, ...address, command: cell.load, keys, requests })
  const elapsedMs = performance.now() - startedAt
  const { commands } = outcome
  const errors = outcome.errors + calibrated.errors
  if (errors > 0) throw new Error(`${target.name} answered ${errors} errors`)
  const parts = processes.map(({ part, pid }, at): PartUsage => {
    const { cpuMs, anonymousBytes, fileBytes } = usageOf(pid)
    const used = cpuMs - (before[at]?.cpuMs ?? 0)
    const cpuMicrosPerCommand = (used * 1000) / commands
    return { part, cpu: used / elapsedMs, cpuMicrosPerCommand, anonymousBytes, fileBytes }
  })
  const entriesAfter = await target.entries()
  const entries = (entriesAfter ?? 0) - (entriesBefore ?? 0)
  const writes = Math.round(commands * setShare)
  return {
    perSecond: outcome.perSecond,
    p50: outcome.p50,
    p99: outcome.p99,
    p999: outcome.p999,
    parts,
    entriesPerSecond: entriesAfter === undefined ? undefined : entries / (elapsedMs / 1000),
    commandsPerEntry: entries > 0 ? writes / entries : undefined,
  }
}

type Outcome = Omit<LoadResult, 'p999'> & { readonly p999: number | undefined }

/** It ends with an error of its own when it is answered one. */
async function benchmarked(options: Benchmark): Promise<Outcome> {
  const result = await redisBenchmark(options)
  return { ...result, commands: options.requests, errors: 0, p999: undefined }
}

export interface GeneratorCheck {
  readonly own: number
  readonly redisBenchmark: number
}

/**
 * Our own generator beside redis-benchmark, SET with 50 connections, in turn: twice per round, once with either of them
 * first, so that a machine that becomes slower favours none.
 */
export async function checkGenerator(
  target: Target,
  { rounds, seconds }: { readonly rounds: number; readonly seconds: number },
): Promise<readonly GeneratorCheck[]> {
  const address = await target.address()
  const load = { connections: 50, pipeline: 1, valueBytes: 64, keys: KEYS_MAX, ...address }
  const warm = await drive({ ...load, setShare: 1, seconds })
  const requests = Math.max(100, Math.round(warm.perSecond * seconds))
  const own = async (): Promise<number> => {
    const { perSecond, errors } = await drive({
      ...load,
      setShare: 1,
      seconds: Number.POSITIVE_INFINITY,
      commands: requests,
    })
    if (errors > 0) throw new Error(`${target.name} answered ${errors} errors`)
    return perSecond
  }
  const other = async (): Promise<number> =>
    (await redisBenchmark({ ...load, command: 'SET', requests })).perSecond
  const checks: GeneratorCheck[] = []
  for (let round = 0; round < rounds; round++) {
    checks.push({ own: await own(), redisBenchmark: await other() })
    const redisFirst = await other()
    checks.push({ redisBenchmark: redisFirst, own: await own() })
  }
  return checks
}
