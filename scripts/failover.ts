/*
 * Kills the leader under load, again and again, and tells how long writers waited and whether anything acknowledged
 * was lost. Writers sit on every node; the time counts from the kill to the first write through a survivor that was
 * sent after it and acknowledged. Exit code 1 when one took longer than the bound, or when anything was lost, done
 * although it was refused, or done twice.
 *
 *   npm run failover [-- --kills 20 --nodes 3 --port 7000]
 */

import { Cluster } from '../test/e2e/cluster.ts'
import { Workload } from '../test/e2e/workload.ts'

const FAILOVER_MS_MAX = 1500
const WRITERS_PER_NODE = 4
/** Acknowledged writes between two kills: the cluster is under load when the next one comes. */
const WRITES_BETWEEN_KILLS = 200

async function main(): Promise<void> {
  const kills = option('--kills', 20, 1)
  const nodes = option('--nodes', 3, 3)
  const port = option('--port', 0, 0)
  const cluster = await Cluster.start(port === 0 ? { nodes } : { nodes, port })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void cluster.end().then(() => process.exit(1)))
  }
  try {
    const workload = new Workload({
      nodes: cluster.nodes,
      writersPerNode: WRITERS_PER_NODE,
      name: 'failover',
    })
    workload.start()
    const times: number[] = []
    for (let kill = 1; kill <= kills; kill++) {
      await acknowledged(workload, WRITES_BETWEEN_KILLS)
      times.push(await killLeader(cluster, workload, `kill ${kill} of ${kills}`))
    }
    await workload.stop()
    process.exitCode = (await report(cluster, workload, times)) ? 0 : 1
  } finally {
    await cluster.end()
  }
}

/** Kills the leader, waits for the first acknowledged write, starts it again and waits until it has caught up. */
async function killLeader(cluster: Cluster, workload: Workload, what: string): Promise<number> {
  const leader = await cluster.leader()
  const survivors = cluster.running.filter((node) => node !== leader)
  const killedAt = performance.now()
  const first = Promise.race(survivors.map((node) => workload.firstAcknowledged([node], killedAt)))
  await leader.kill()
  const ms = ((await first)[0]?.at ?? Number.POSITIVE_INFINITY) - killedAt
  process.stdout.write(`${what}: ${leader.name} led; first write after ${ms.toFixed(0)} ms\n`)
  leader.start()
  await cluster.ready()
  await cluster.caughtUp(leader)
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
  const faults = verdict.lost.length + verdict.happened.length + verdict.counter.length
  const passed = faults === 0 && max <= FAILOVER_MS_MAX
  process.stdout.write(`${lines.join('\n')}\n${passed ? 'passed' : 'FAILED'}\n`)
  return passed
}

function option(name: string, fallback: number, least: number): number {
  const at = process.argv.indexOf(name)
  const value = at < 0 ? fallback : Number(process.argv[at + 1])
  if (Number.isInteger(value) && value >= least) return value
  throw new Error(`${name} takes a whole number, at least ${least}`)
}

await main()
