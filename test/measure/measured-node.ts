/*
 * One real node under measurement: fed through a pipeline of raw bytes, so that the client costs little, and asked
 * what only the system or a probe inside can know (memory, stops of the loop, files).
 */

import { readFileSync, statSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { Cluster, type NodeProcess } from '../e2e/cluster.ts'
import { request, textOf } from '../e2e/resp-client.ts'
import { until } from '../processes.ts'
import type { Report } from './measurement.ts'

const PROBE = new URL('./loop-probe.js', import.meta.url)
/** What a node needs in its environment, so that stopsOf() can ask it. */
export const PROBED: Readonly<Record<string, string>> = { NODE_OPTIONS: `--import=${PROBE.href}` }
/** A loop that stands still answers when it goes on. */
const ANSWER_MS = 60_000
/** Commands on their way at once. */
const DEPTH = 1000
/** A start that reads a large log, or a server that works on a long backlog. */
const PATIENCE_MS = 300_000

type Words = readonly (string | Buffer | number)[]
export const OK_BYTES: number = '+OK\r\n'.length

/** In bytes. */
export interface Memory {
  readonly anonymous: number
  readonly file: number
}

/** In ms. */
export interface Stops {
  /** Between two turns of the event loop, by the clock. */
  readonly stop: number
  /** The same by the processor time of the main thread: what it was when the machine was busy with others. */
  readonly processor: number
  /** One garbage collection. */
  readonly collection: number
}

export class MeasuredNode {
  readonly #cluster: Cluster
  readonly #node: NodeProcess

  private constructor(cluster: Cluster) {
    this.#cluster = cluster
    this.#node = cluster.node(0)
  }

  /** A cluster of one node, ready. */
  static async start(flags: readonly string[] = []): Promise<MeasuredNode> {
    const node = new MeasuredNode(await Cluster.prepare({ nodes: 1, flags }))
    try {
      await node.start()
    } catch (error) {
      process.stderr.write(`${node.#cluster.logs()}\n`)
      await node.end()
      throw error
    }
    return node
  }

  async start(): Promise<void> {
    this.#node.start({ environment: { NODE_OPTIONS: `--import=${PROBE.href}` } })
    await this.#node.ready(PATIENCE_MS)
  }

  /** SIGTERM: an orderly end. */
  async stop(): Promise<void> {
    this.#node.signal('SIGTERM')
    await this.#node.end(PATIENCE_MS)
  }

  async kill(): Promise<void> {
    await this.#node.kill()
  }

  async end(): Promise<void> {
    await this.#cluster.end()
  }

  get port(): number {
    return this.#node.port
  }

  ask(...args: readonly (string | number)[]): ReturnType<NodeProcess['ask']> {
    return this.#node.ask(...args)
  }

  /** A field of INFO; undefined when there is none. */
  async info(field: string): Promise<string | undefined> {
    const text = textOf(await this.#node.ask('INFO'))
    return new RegExp(`^${field}:(.*)\r$`, 'm').exec(text)?.[1]
  }

  /** See pipeline(). */
  pipeline(count: number, command: (at: number) => Words, replyBytes: number): Promise<number> {
    return pipeline(this.#node.port, count, command, replyBytes)
  }

  /** The longest stops of the event loop since the last call, in ms. */
  async stops(): Promise<Stops> {
    return stopsOf(this.#node)
  }

  /** Resident memory in bytes: the process's own, and pages of files, which the kernel may take back. */
  memory(): Memory {
    return memoryOf(this.#node.pid ?? Number.NaN)
  }

  /** Size of the state's file in bytes. */
  stateBytes(): number {
    return statSync(join(this.#node.dir, 'state-1', 'data.mdb')).size
  }
}

/** The longest stops of a node that runs with PROBED, since the last call. */
export async function stopsOf(node: NodeProcess): Promise<Stops> {
  const from = node.output.length
  node.signal('SIGUSR2')
  let found: string | undefined
  await until(
    'the loop probe',
    () => {
      found = /loop-probe (.*)\n/.exec(node.output.slice(from))?.[1]
      return found !== undefined
    },
    ANSWER_MS,
  )
  return JSON.parse(found ?? '')
}

/** architecture.md 8: no stall of the event loop over this. */
const STOP_MS_MAX = 20

export function reportStops(report: Report, { stop, processor, collection }: Stops): void {
  report.figure({
    what: 'longest stop of the event loop',
    value: stop,
    unit: 'ms',
    most: STOP_MS_MAX,
  })
  report.figure({ what: 'longest stop by processor time', value: processor, unit: 'ms' })
  report.figure({ what: 'longest garbage collection', value: collection, unit: 'ms' })
}

/**
 * `count` commands through one connection, at most a thousand on their way; each must be answered with exactly
 * `replyBytes` bytes. Resolves with commands per second.
 */
export function pipeline(
  port: number,
  count: number,
  command: (at: number) => Words,
  replyBytes: number,
): Promise<number> {
  const requests = (from: number, to: number): Buffer => {
    const all: Buffer[] = []
    for (let at = from; at < to; at++) all.push(request(command(at)))
    return Buffer.concat(all)
  }
  return pipelined({ port, count, requests, replyBytes })
}

/** The same for commands that are made many at a time: `requests` gives those from one number to before another. */
export async function pipelined(load: {
  readonly port: number
  readonly count: number
  requests(from: number, to: number): Buffer
  readonly replyBytes: number
}): Promise<number> {
  const { port, count, replyBytes } = load
  const startedAt = performance.now()
  const socket = await open(port)
  let received = 0
  let sent = 0
  await new Promise<void>((resolve, reject) => {
    const send = (): void => {
      while (sent < count && sent - received / replyBytes <= DEPTH / 2) {
        const to = Math.min(count, sent + DEPTH / 2)
        socket.write(load.requests(sent, to))
        sent = to
      }
    }
    socket.on('data', (chunk) => {
      received += chunk.length
      if (chunk.includes('-ERR')) reject(new Error(chunk.toString('latin1', 0, 200)))
      if (received >= count * replyBytes) resolve()
      else send()
    })
    socket.once('close', () => reject(new Error(`the connection ended after ${sent} commands`)))
    send()
  })
  socket.destroy()
  return (count / (performance.now() - startedAt)) * 1000
}

export function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
  return { anonymous: bytes('RssAnon'), file: bytes('RssFile') }
}

/** The processor time of a process so far, in ms: all its threads, to a hundredth of a second. */
export function processorMsOf(pid: number): number {
  // The name, which stands in parentheses, may hold anything.
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('error', reject)
    socket.once('connect', () => resolve(socket))
  })
}
