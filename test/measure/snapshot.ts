/*
 * `npm run measure -- snapshot`: a gigabyte of state to a member that has nothing of it, while clients write: how
 * quick it is, how long their writes take meanwhile, and what memory it costs on either side.
 */

import { Cluster, type NodeProcess } from '../e2e/cluster.ts'
import { RespClient } from '../e2e/resp-client.ts'
import { until } from '../processes.ts'
import { memoryOf, OK_BYTES, pipeline, processorMsOf } from './measured-node.ts'
import { type Measurement, p99, type Report } from './measurement.ts'

/** As little log as the options allow, so that the member that was away needs a state. */
const FLAGS = ['--log-retain-max', '1mb']
const LOADS = [
  { valueBytes: 1024, stateBytes: 1e9, mbPerSecond: 50 },
  { valueBytes: 100, stateBytes: 2e8, mbPerSecond: 15 },
] as const
const WRITES_BEFORE = 2000
const SLOWER_MOST = 2
const RISE_MB_MAX = 256
const MB = 1_048_576
const SAMPLE_MS = 50
const PATIENCE_MS = 600_000

export const snapshot: Measurement = {
  name: 'snapshot',
  what: 'a state of 1 GB to an empty member while clients write',
  async run(report, { factor }) {
    for (const load of LOADS) {
      const cluster = await Cluster.start({ nodes: 3, flags: FLAGS })
      try {
        const bytes = load.stateBytes * factor
        report.note(`${Math.round(bytes / 1e6)} MB in values of ${load.valueBytes} bytes`)
        await measure(report, cluster, { ...load, stateBytes: bytes })
      } finally {
        await cluster.end()
      }
    }
  },
}

interface Load {
  readonly valueBytes: number
  readonly stateBytes: number
  readonly mbPerSecond: number
}

async function measure(report: Report, cluster: Cluster, load: Load): Promise<void> {
  const { valueBytes, stateBytes, mbPerSecond } = load
  const behind = await cluster.follower()
  await behind.kill()
  const leader = await cluster.leader()
  const value = Buffer.alloc(valueBytes, 'v')
  const keys = Math.floor(stateBytes / valueBytes)
  await pipeline(leader.port, keys, (at) => ['SET', `key:${at}`, value], OK_BYTES)
  await leader.ask('SAVE')
  const writer = await RespClient.connect(leader.port)
  try {
    const before: number[] = []
    while (before.length < WRITES_BEFORE) before.push(await write(writer))
    const peaks = new Peaks([leader, behind])
    const meanwhile: number[] = []
    const installed = /snapshot installed/g
    const past = behind.output.length
    behind.start()
    await until('the member to start', () => behind.pid !== undefined)
    const startedAt = performance.now()
    const used = [processorMsOf(leader.pid ?? Number.NaN), 0]
    peaks.begin()
    const patience = startedAt + PATIENCE_MS
    while (!installed.test(behind.output.slice(past))) {
      if (performance.now() > patience) throw new Error('the state did not arrive')
      meanwhile.push(await write(writer))
    }
    const seconds = (performance.now() - startedAt) / 1000
    peaks.end()
    const megabytes = (keys * valueBytes) / 1e6
    const rate = megabytes / seconds
    report.figure({
      what: '  rate, start of the member included',
      value: rate,
      unit: 'MB/s',
      least: mbPerSecond,
    })
    const slower = p99(meanwhile) / p99(before)
    report.figure({ what: '  p99 of a SET before', value: p99(before), unit: 'ms' })
    report.figure({ what: '  p99 meanwhile', value: p99(meanwhile), unit: 'ms' })
    report.figure({ what: '  that is', value: slower, unit: 'times', most: SLOWER_MOST })
    for (const [at, node] of [leader, behind].entries()) {
      const who = at === 0 ? 'leader' : 'receiver'
      const ms = processorMsOf(node.pid ?? Number.NaN) - (used[at] ?? 0)
      report.figure({
        what: `  processor time of the ${who}`,
        value: ms / megabytes,
        unit: 'ms/MB',
      })
      const rise = peaks.rises[at] ?? Number.NaN
      report.figure({
        what: `  RssAnon of the ${who} rose by`,
        value: rise / MB,
        unit: 'MiB',
        most: RISE_MB_MAX,
      })
    }
    const size = Number(await leader.ask('DBSIZE'))
    await cluster.caughtUp(behind, PATIENCE_MS)
    const found = Number(await behind.ask('DBSIZE'))
    report.figure({ what: '  keys missing', value: size - found, unit: 'keys', most: 0 })
  } finally {
    writer.close()
  }
}

async function write(client: RespClient): Promise<number> {
  const startedAt = performance.now()
  await client.call('SET', 'probe', 'v')
  return performance.now() - startedAt
}

/** The most that each of some nodes rises above what it has at the beginning. */
class Peaks {
  readonly #nodes: readonly NodeProcess[]
  readonly #first: number[]
  readonly rises: number[]
  #timer: NodeJS.Timeout | undefined

  constructor(nodes: readonly NodeProcess[]) {
    this.#nodes = nodes
    this.#first = nodes.map(() => Number.NaN)
    this.rises = nodes.map(() => Number.NaN)
  }

  begin(): void {
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS)
  }

  end(): void {
    clearInterval(this.#timer)
  }

  #sample(): void {
    for (const [at, { pid }] of this.#nodes.entries()) {
      if (pid === undefined) continue
      const { anonymous } = memoryOf(pid)
      const first = this.#first[at] ?? Number.NaN
      if (Number.isNaN(first)) this.#first[at] = anonymous
      this.rises[at] = Math.max(this.rises[at] || 0, anonymous - (this.#first[at] ?? 0))
    }
  }
}
