/*
 * Kills the leader under load, again and again, and tells how long writers waited and whether anything acknowledged
 * was lost. Writers sit on every node; the time counts from the kill to the first write through a survivor that was
 * sent after it and acknowledged. Exit code 1 when one took longer than the bound, or when anything was lost, done
 * although it was refused, or done twice.
 *
 * With `--through follower` all writers sit on one node that is never killed (when it leads, it is stopped until
 * another one does): then there must be no error reply and no command of unknown outcome at all.
 *
 *   npm run failover [-- --kills 20 --nodes 3 --port 7000 --through follower]
 */

import {
  type CommandLine,
  calledWrongly,
  exitOnSignals,
  numberFrom,
  runScript,
} from '../test/command-line.ts'
import { Cluster, type NodeProcess } from '../test/e2e/cluster.ts'
import { Workload } from '../test/e2e/workload.ts'

const FAILOVER_MS_MAX = 1500
const WRITERS_PER_NODE = 4
const WRITERS_THROUGH = 16
/** Acknowledged writes between two kills: the cluster is under load when the next one comes. */
const WRITES_BETWEEN_KILLS = 200

const OPTIONS = {
  kills: { type: 'string', default: '20' },
  nodes: { type: 'string', default: '3' },
  /** Of the first node; 0: ports that are free. */
  port: { type: 'string', default: '0' },
  through: { type: 'string' },
} as const

async function main({ values }: CommandLine<typeof OPTIONS>): Promise<number> {
  const kills = numberFrom('kills', values.kills, { least: 1, whole: true })
  const nodes = numberFrom('nodes', values.nodes, { least: 3, whole: true })
  const port = numberFrom('port', values.port, { least: 0, most: 65_535, whole: true })
  const { through } = values
  if (through !== undefined && through !== 'follower') {
    throw calledWrongly(`--through takes the word follower, not '${through}'`)
  }
  const cluster = await Cluster.start(port === 0 ? { nodes } : { nodes, port })
  process.once('exit', () => cluster.abandon())
  exitOnSignals()
  try {
    const spared = through === undefined ? undefined : await cluster.follower()
    const workload = new Workload({
      nodes: spared === undefined ? cluster.nodes : [spared],
      writersPerNode: spared === undefined ? WRITERS_PER_NODE : WRITERS_THROUGH,
      name: 'failover',
      paceMs: 0,
    })
    workload.start()
    const times: number[] = []
    for (let kill = 1; kill <= kills; kill++) {
      await acknowledged(workload, WRITES_BETWEEN_KILLS)
      times.push(await depose(cluster, workload, `kill ${kill} of ${kills}`, spared))
    }
    await workload.stop()
    return (await report(cluster, workload, times, spared)) ? 0 : 1
  } finally {
    await cluster.end()
  }
}

/** Ends the office of the leader, waits for the first acknowledged write and until that node has caught up. */
async function depose(
  cluster: Cluster,
  workload: Workload,
  what: string,
  spared: NodeProcess | undefined,
): Promise<number> {
  const leader = await cluster.leader()
  const writing =
    spared === undefined ? cluster.running.filter((node) => node !== leader) : [spared]
  const killedAt = performance.now()
  const first = Promise.race(writing.map((node) => workload.firstAcknowledged([node], killedAt)))
  const old = await cluster.deposeLeader(spared)
  const ms = ((await first)[0]?.at ?? Number.POSITIVE_INFINITY) - killedAt
  const how = old.running ? 'was stopped for a while' : 'was killed'
  process.stdout.write(`${what}: ${old.name} ${how}; first write after ${ms.toFixed(0)} ms\n`)
  if (!old.running) old.start()
  await cluster.ready()
  await cluster.caughtUp(old)
  return ms
}

function acknowledged(workload: Workload, count: number): Promise<void> {
  return new Promise((resolve) => {
    let left = count
    const unwatch = workload.watch(() => {
      if (--left > 0) return
      unwatch()
      resolve()
    })
  })
}

async function report(
  cluster: Cluster,
  workload: Workload,
  times: readonly number[],
  spared: NodeProcess | undefined,
): Promise<boolean> {
  const verdict = await workload.verify(await cluster.follower())
  const sorted = times.toSorted((a, b) => a - b)
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0
  const max = sorted.at(-1) ?? 0
  const counts = [
    `${workload.acknowledged} acknowledged`,
    `${workload.refused} refused`,
    `${workload.unknown} unknown`,
  ]
  const lines = [
    `time to the first acknowledged write: p50 ${median.toFixed(0)} ms, max ${max.toFixed(0)} ms (bound ${FAILOVER_MS_MAX} ms)`,
    `writes: ${counts.join(', ')}`,
    `acknowledged writes lost: ${verdict.lost.length}`,
    `refused writes that happened: ${verdict.happened.length}`,
    `counter: ${verdict.counter.length === 0 ? 'exact' : verdict.counter.join('; ')}`,
  ]
  const { errors } = workload
  if (spared !== undefined) lines.push(`error replies: ${errors.join('; ') || 'none'}`)
  const seen = spared === undefined ? 0 : errors.length + workload.refused + workload.unknown
  const faults = verdict.lost.length + verdict.happened.length + verdict.counter.length + seen
  const passed = faults === 0 && max <= FAILOVER_MS_MAX
  process.stdout.write(`${lines.join('\n')}\n${passed ? 'passed' : 'FAILED'}\n`)
  return passed
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
