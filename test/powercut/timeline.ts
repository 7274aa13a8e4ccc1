/*
 * A recording as one line of time over all lives of the node: the steps on its disk and what it told others. On the
 * way it proves the recording itself: the model's files must equal the real ones whenever a life has ended, and every
 * client's commands must stand in the log once and in order.
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { DiskLogStore } from '../../storage/log-store.ts'
import { Disk, type ImageEntry, type Survival } from './disk.ts'
import { commandOf, type Sent } from './load.ts'
import { type Told, toldIn } from './promises.ts'
import { filesAfter, type Recording } from './recording.ts'
import { Reference, type SeenLog } from './reference.ts'
import { type Files, LOCK_FILE, type Step, stepsOf } from './steps.ts'
import { readTrace, type Syscall, TraceError } from './trace.ts'

export interface Span {
  /** Moments: from the life's first to that of its successor. */
  readonly from: number
  readonly to: number
  readonly files: Files
}

export interface Timeline {
  readonly recording: Recording
  readonly steps: readonly Step[]
  readonly told: readonly Told[]
  readonly lives: readonly Span[]
  readonly reference: Reference
}

const SENDING = /^(?:write|writev|sendto|sendmsg)$/
const ENTRIES_BYTES_MAX = 1 << 30

/** Throws TraceError when the recording does not hold. */
export async function readTimeline(folder: string, recording: Recording): Promise<Timeline> {
  const { root, ports, clients, seed } = recording
  const steps: Step[] = []
  const told: Told[] = []
  const lives: Span[] = []
  let from = 0
  for (const life of recording.lives) {
    const { calls, moments } = await readTrace(join(folder, life.trace), (name, beginning) => {
      return beginning.includes(root) || (SENDING.test(name) && /^1<|^\d+<TCP:/.test(beginning))
    })
    const files = filesAfter(folder, life)
    const later = calls.map((call) => moved(call, from))
    for (const step of stepsOf(later, root, files)) steps.push(step)
    for (const one of toldIn(later, ports)) told.push(one)
    lives.push({ from, to: from + moments, files })
    from += moments
  }
  const reference = new Reference(await watch(folder, recording.node, steps, told, lives))
  checkClients(reference, clients, seed)
  checkReplies(told, clients)
  return { recording, steps, told, lives, reference }
}

function moved(call: Syscall, by: number): Syscall {
  const { began, returned } = call
  return {
    ...call,
    began: began + by,
    returned: returned === undefined ? undefined : returned + by,
  }
}

/** Runs through all steps, and reads the log before each compaction can begin and at the end of each life. */
async function watch(
  folder: string,
  node: string,
  steps: readonly Step[],
  told: readonly Told[],
  lives: readonly Span[],
): Promise<readonly SeenLog[]> {
  const disk = new Disk()
  const seen: SeenLog[] = []
  let next = 0
  const runTo = (moment: number): void => {
    for (; (steps[next]?.at ?? Number.POSITIVE_INFINITY) < moment; next++) steps[next]?.run(disk)
  }
  for (const { from, to, files } of lives) {
    const checkpoints = told.filter(
      ({ type, at }) => type === 'checkpoint' && at >= from && at < to,
    )
    for (const { at } of checkpoints) {
      runTo(at)
      seen.push(await readLog(folder, node, disk))
    }
    runTo(to)
    compare(disk, files)
    seen.push(await readLog(folder, node, disk))
  }
  return seen
}

function compare(disk: Disk, files: Files): void {
  for (const [path, bytes] of files) {
    if (LOCK_FILE.test(path)) continue
    const known = disk.read(path)
    if (known === undefined || Buffer.compare(known, bytes) !== 0) {
      throw new TraceError(`the trace does not explain what is in ${path}`)
    }
  }
}

const ALL: Survival = {
  begin: () => {},
  sector: (_path, _sector, writes) => writes.length - 1,
  size: (_path, sizes) => sizes.length - 1,
  name: () => true,
}

/** The log as the running node sees it. */
async function readLog(folder: string, node: string, disk: Disk): Promise<SeenLog> {
  const directory = mkdtempSync(join(folder, 'seen-'))
  try {
    const { entries } = disk.cut(ALL)
    writeEntries(directory, entries)
    const log = await DiskLogStore.open(
      new LmdbEngine(join(directory, node), (reason) => {
        throw new TraceError(reason)
      }),
    )
    const base = log.base()
    const seen = {
      nodeId: log.identity().nodeId,
      hardState: log.hardState(),
      base,
      entries: log.entries(base.index + 1, log.lastIndex() + 1, ENTRIES_BYTES_MAX),
    }
    await log.close()
    return seen
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Writes an image below `directory`. */
export function writeEntries(directory: string, entries: readonly ImageEntry[]): void {
  for (const { path, bytes } of entries) {
    const place = join(directory, path)
    mkdirSync(bytes === undefined ? place : dirname(place), { recursive: true })
    if (bytes !== undefined) writeFileSync(place, bytes)
  }
}

/** Every client's commands are in the log in its order, without a gap, and all that were answered. */
function checkClients(reference: Reference, clients: readonly Sent[], seed: number): void {
  for (const { client, sent, answered, from } of clients) {
    const logged = reference.commands(client)
    if (logged.length > sent || logged.length < answered) {
      throw new TraceError(
        `client ${client}: ${logged.length} commands logged, ${sent} sent, ${answered} answered`,
      )
    }
    for (const [at, { argv, index }] of logged.entries()) {
      const command = commandOf(seed, client, from + at)
      if (argv.join(' ') !== command.join(' ')) {
        throw new TraceError(`entry ${index} has command ${from + at} of client ${client} wrong`)
      }
    }
  }
}

/** Every reply that a client has received was seen leaving: an unseen one would be a promise unheard. */
function checkReplies(told: readonly Told[], clients: readonly Sent[]): void {
  for (const { client, port, answered } of clients) {
    let seen = 0
    for (const one of told) if (one.type === 'replies' && one.port === port) seen += one.count
    if (seen < answered) {
      throw new TraceError(`client ${client} has ${answered} replies, the trace shows ${seen}`)
    }
  }
}
