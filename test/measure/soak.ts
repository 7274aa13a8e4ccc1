/*
 * `npm run measure -- soak --minutes 30`: a loaded cluster that nobody touches. No election may happen, no command may
 * fail, and what the nodes take of memory and disk must settle: the last quarter is compared with the second.
 */

import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Cluster, type NodeProcess } from '../e2e/cluster.ts'
import { ReplyError, RespClient } from '../e2e/resp-client.ts'
import { lapse } from '../processes.ts'
import { memoryOf, OK_BYTES, pipeline } from './measured-node.ts'
import { type Measurement, median, type Report } from './measurement.ts'

/** Written again and again, so that the state does not grow for want of keys. */
const KEYS = 100_000
const VALUE = 'v'.repeat(100)
const WRITERS_PER_NODE = 4
/** One in so many commands is a GET, one an INCR of the writer's own counter. */
const ROUND = 4
const SAMPLES = 120
/** Small logs, so that checkpoint and compaction come round often in a short run as well. */
const FLAGS = ['--log-retain-max', '64mb', '--memtable-size', '16mb']
const GROWTH_MAX = 1.1
const MB = 1_048_576

interface Sample {
  readonly memory: number
  readonly files: number
}

export const soak: Measurement = {
  name: 'soak',
  what: 'a loaded cluster that nobody touches (--minutes)',
  async run(report, { minutes }) {
    const cluster = await Cluster.start({ nodes: 3, flags: FLAGS })
    const writers: Writer[] = []
    try {
      for (const node of cluster.nodes) {
        for (let at = 0; at < WRITERS_PER_NODE; at++) {
          writers.push(new Writer(await RespClient.connect(node.port), `${node.name}:${at}`))
        }
      }
      await measure(report, cluster, writers, minutes)
    } finally {
      const stopped = writers.map((writer) => writer.stop())
      await Promise.all(stopped)
      await cluster.end()
    }
  },
}

async function measure(
  report: Report,
  cluster: Cluster,
  writers: readonly Writer[],
  minutes: number,
): Promise<void> {
  const leader = await cluster.leader()
  await pipeline(leader.port, KEYS, (at) => ['SET', `key:${at}`, VALUE], OK_BYTES)
  const term = await cluster.term()
  for (const writer of writers) writer.start()
  const samples = cluster.nodes.map((): Sample[] => [])
  const terms = new Set<number>()
  for (let count = 0; count < SAMPLES; count++) {
    await lapse((minutes * 60_000) / SAMPLES)
    for (const [at, node] of cluster.nodes.entries()) {
      samples[at]?.push({
        memory: memoryOf(node.pid ?? Number.NaN).anonymous,
        files: filesOf(node),
      })
      terms.add((await node.status())?.term ?? Number.NaN)
    }
  }
  const done = writers.reduce((sum, { done }) => sum + done, 0)
  const errors = writers.flatMap(({ errors }) => errors)
  await Promise.all(writers.map((writer) => writer.stop()))
  const wrong = writers.flatMap(({ wrong }) => wrong)
  report.figure({ what: 'minutes', value: minutes, unit: '' })
  report.figure({ what: 'commands', value: done / (minutes * 60), unit: 'per second' })
  const elections = Math.max(...terms) - term
  report.figure({ what: 'elections', value: elections, unit: 'terms', most: 0 })
  report.figure({ what: 'commands that failed', value: errors.length, unit: '', most: 0 })
  report.figure({ what: 'wrong replies', value: wrong.length, unit: '', most: 0 })
  for (const text of [...errors, ...wrong].slice(0, 10)) report.note(text)
  for (const [at, { name }] of cluster.nodes.entries()) {
    settled(report, `${name}: RssAnon`, samples[at]?.map(({ memory }) => memory) ?? [])
    settled(report, `${name}: files`, samples[at]?.map(({ files }) => files) ?? [])
  }
}

/** The last quarter of the samples may be little above the second one. */
function settled(report: Report, what: string, values: readonly number[]): void {
  const quarter = Math.floor(values.length / 4)
  const second = median(values.slice(quarter, 2 * quarter))
  const last = median(values.slice(-quarter))
  report.figure({ what: `${what} in the last quarter`, value: last / MB, unit: 'MiB' })
  report.figure({
    what: '  of that in the second',
    value: last / second,
    unit: 'times',
    most: GROWTH_MAX,
  })
}

/** Bytes of all that a node has on disk. */
function filesOf({ dir }: NodeProcess): number {
  let bytes = 0
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    // A compaction or a switch may take one away at this moment.
    if (entry.isFile()) {
      bytes += statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0
    }
  }
  return bytes
}

/** One command at a time, on one connection, until it is stopped or that ends. */
class Writer {
  done = 0
  readonly errors: string[] = []
  /** Replies that nobody else's commands can explain. */
  readonly wrong: string[] = []
  readonly #client: RespClient
  readonly #name: string
  #isStopping = false
  #running: Promise<void> = Promise.resolve()

  constructor(client: RespClient, name: string) {
    this.#client = client
    this.#name = name
  }

  start(): void {
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
    this.#client.close()
  }

  async #run(): Promise<void> {
    const counter = `counter:${this.#name}`
    let counted = 0
    for (; !this.#isStopping; this.done++) {
      const key = `key:${Math.floor(Math.random() * KEYS)}`
      const turn = this.done % ROUND
      const command =
        turn === 0 ? ['INCR', counter] : turn === 1 ? ['GET', key] : ['SET', key, VALUE]
      const reply = await this.#client.call(...command).catch((error: unknown) => {
        return error instanceof Error ? error : new Error(String(error))
      })
      if (reply instanceof ReplyError || reply instanceof Error) {
        this.errors.push(reply.message)
        if (this.#client.closed) return
      } else if (turn === 0 && reply !== ++counted) {
        this.wrong.push(`${counter}: ${reply} instead of ${counted}`)
      } else if (turn === 1 && reply !== null && `${reply}` !== VALUE) {
        this.wrong.push(`${key}: ${reply}`)
      }
    }
  }
}
