/*
 * A node under strace, through several lives: load, kill -9 in the middle of it, a restart on what the kill left.
 * All that is needed to cut the power later goes into one folder: the traces, the files as each life left them, and
 * what the clients did. So a recording can be judged again, with the same result.
 */

import { cpSync, existsSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { Cluster, type NodeProcess } from '../e2e/cluster.ts'
import { isRunning, until } from '../processes.ts'
import { FAULT_VARIABLE, type Fault } from './faults.ts'
import { runClient, type Sent } from './load.ts'
import type { Ports } from './promises.ts'
import type { Files } from './steps.ts'
import { STRACE } from './trace.ts'

/** One process of the traced node. */
export interface Life {
  /** In the recording's folder. */
  readonly trace: string
  /** In the recording's folder: a copy of the node's files, taken when it had ended. */
  readonly after: string
}

export interface Recording {
  readonly seed: number
  readonly ports: Ports
  /** Where the node's directory was: nothing below it existed at the beginning. */
  readonly root: string
  /** The name of the node's directory. */
  readonly node: string
  readonly lives: readonly Life[]
  /** Clients of the traced node itself, each with keys of its own. */
  readonly clients: readonly Sent[]
}

export interface RecordOptions {
  readonly folder: string
  readonly seed: number
  /** Of load, in all lives together. */
  readonly seconds: number
  /** Told of the node before it is started, so that it can be ended together with the process. */
  readonly prepared?: (cluster: Cluster) => void
  /** One per life: what is broken in it, if anything. Every life but the last ends with kill -9. */
  readonly lives: readonly (Fault | undefined)[]
}

const FAULTY_SERVER = 'test/powercut/faulty-server.js'
const CLIENTS = 4
/** Answered commands between one flush of the whole database and the next. */
const FLUSH_EVERY = 500
/** A life goes on until it has answered so many commands, however slow the machine is... */
const ANSWERED_MIN = 100
/** ...and no longer, however quick it is: a trace is large. */
const ANSWERED_MAX = 4000
export const PATIENCE_MS = 30_000
/** The smallest there is, so that checkpoints and compactions are among what is recorded. */
export const FLAGS: readonly string[] = ['--memtable-size', '1mb']
const DESCRIPTION = 'recording.json'

/** One node alone, whose clients' acknowledgements are its promises. */
export async function recordNode(options: RecordOptions): Promise<Recording> {
  const { folder, seed } = options
  const clients: Sent[] = []
  const lives: Life[] = []
  const sound = options.lives.every((fault) => fault === undefined)
  const cluster = await Cluster.prepare(
    // Without checkpoints where commits lie: an entry could be compacted before the disk ever shows it.
    sound ? { nodes: 1, flags: FLAGS } : { nodes: 1, main: FAULTY_SERVER },
  )
  options.prepared?.(cluster)
  try {
    const node = cluster.node(0)
    const root = emptyRoot(node)
    for (const [number, fault] of options.lives.entries()) {
      const life = new TracedLife({ node, folder, number })
      await life.start(fault)
      const isLast = number === options.lives.length - 1
      clients.push(...(await load(node, { ...options, number }, isLast ? undefined : life)))
      lives.push(await life.end(isLast))
    }
    const ports = { client: node.port, peers: [] }
    const recording = { seed, ports, root, node: basename(node.dir), lives, clients }
    writeRecording(folder, recording)
    return recording
  } catch (error) {
    throw new Error(`the recording failed\n${cluster.logs()}`, { cause: error })
  } finally {
    await cluster.end()
  }
}

export function writeRecording(folder: string, recording: Recording): void {
  writeFileSync(join(folder, DESCRIPTION), JSON.stringify(recording))
}

export function readRecording(folder: string): Recording {
  return JSON.parse(readFileSync(join(folder, DESCRIPTION), 'utf8'))
}

/** The node's files as that life left them, by their path below the root. */
export function filesAfter(folder: string, { after }: Life): Files {
  const files = new Map<string, Uint8Array>()
  const top = join(folder, after)
  for (const entry of readdirSync(top, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile()) files.set(relative(top, path), readFileSync(path))
  }
  return files
}

/** The directory in which the node makes its own; the node must not have run yet. */
export function emptyRoot(node: NodeProcess): string {
  const root = realpathSync(dirname(node.dir))
  if (existsSync(node.dir)) throw new Error(`${node.dir} exists already`)
  return root
}

/** Clients for one life, until its time is over or, if it is to be killed, until they are cut off. */
async function load(
  node: NodeProcess,
  { seed, seconds, lives, number }: RecordOptions & { readonly number: number },
  killed: TracedLife | undefined,
): Promise<readonly Sent[]> {
  const start = performance.now()
  const lastsMs = (seconds * 1000) / lives.length
  let answered = 0
  let failure: unknown
  const flushes: Promise<unknown>[] = []
  const isOver = (): boolean =>
    failure !== undefined ||
    answered >= ANSWERED_MAX ||
    (answered >= ANSWERED_MIN && performance.now() - start >= lastsMs)
  const clients: Sent[] = []
  const all = Array.from({ length: CLIENTS }, (_, at) =>
    runClient({
      seed,
      client: number * CLIENTS + at,
      port: node.port,
      from: 0,
      tolerant: false,
      // One that is to be cut off goes on until then.
      goesOn: () => failure === undefined && (killed !== undefined || !isOver()),
      answered: () => {
        if (++answered % FLUSH_EVERY === 0) flushes.push(node.ask('FLUSHDB').catch(() => undefined))
      },
    }).then(
      (client) => {
        clients.push(client)
      },
      (error: unknown) => {
        failure ??= error
      },
    ),
  )
  await until('the load of a life', isOver, PATIENCE_MS + lastsMs)
  killed?.kill()
  await Promise.all(all)
  // Those that the kill has cut off may have happened or not.
  await Promise.allSettled(flushes)
  if (failure !== undefined) throw failure
  return clients
}

/** A process of `node` under strace. */
export class TracedLife {
  readonly #node: NodeProcess
  readonly #folder: string
  readonly #life: Life

  constructor({ node, folder, number }: { node: NodeProcess; folder: string; number: number }) {
    this.#node = node
    this.#folder = folder
    this.#life = { trace: `trace-${number + 1}`, after: `after-${number + 1}` }
  }

  /** Resolves when the node is ready. */
  async start(fault: Fault | undefined): Promise<void> {
    this.#node.start({
      under: [...STRACE, join(this.#folder, this.#life.trace)],
      // A write through io_uring would be no system call.
      environment: { UV_USE_IO_URING: '0', [FAULT_VARIABLE]: fault ?? '' },
    })
    await this.#node.ready(PATIENCE_MS)
  }

  /** The node, not strace: that must live to write down the end. */
  kill(): void {
    process.kill(this.#pid, 'SIGKILL')
  }

  /** Waits for the end, after asking for it if `orderly`, and keeps the files. */
  async end(orderly: boolean): Promise<Life> {
    const pid = this.#pid
    if (orderly) process.kill(pid, 'SIGTERM')
    await this.#node.end(PATIENCE_MS)
    if (isRunning(pid)) throw new Error(`${this.#node.name} outlived its trace`)
    const to = join(this.#folder, this.#life.after, basename(this.#node.dir))
    // Sockets cannot be copied, and the lock of the directory is not part of what is stored.
    const filter = (path: string): boolean => !basename(path).startsWith('lock-')
    cpSync(this.#node.dir, to, { recursive: true, filter })
    return this.#life
  }

  get #pid(): number {
    const { output } = this.#node
    const own = output.slice(output.lastIndexOf('--- started'))
    const pid = /"pid":(\d+)/.exec(own)?.[1]
    if (pid === undefined) throw new Error(`${this.#node.name} has not said its process id`)
    return Number(pid)
  }
}
