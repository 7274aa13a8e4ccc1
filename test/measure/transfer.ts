/*
 * `npm run measure -- transfer`: leadership is handed from member to member under load, and no command may fail for it.
 */

import { Cluster, successful } from '../e2e/cluster.ts'
import { Workload } from '../e2e/workload.ts'
import { until } from '../processes.ts'
import { type Measurement, median, type Report } from './measurement.ts'

const TRANSFERS = 100
const WRITERS_PER_NODE = 4
/** Acknowledged writes between two transfers. */
const WRITES_BETWEEN = 50
const TRANSFER_MS_MAX = 150
const PATIENCE_MS = 60_000

export const transfer: Measurement = {
  name: 'transfer',
  what: 'leadership handed over under load, again and again',
  async run(report, { factor }) {
    const cluster = await Cluster.start({ nodes: 3 })
    const workload = new Workload({
      nodes: cluster.nodes,
      writersPerNode: WRITERS_PER_NODE,
      name: 'transfer',
      paceMs: 0,
    })
    try {
      workload.start()
      await measure(report, cluster, workload, Math.max(3, Math.round(TRANSFERS * factor)))
    } finally {
      const stopped = workload.stop()
      await cluster.end()
      await stopped
    }
  },
}

async function measure(
  report: Report,
  cluster: Cluster,
  workload: Workload,
  transfers: number,
): Promise<void> {
  const took: number[] = []
  const waited: number[] = []
  let longest = 0
  const unwatch = workload.watch(({ sentAt, at }) => {
    longest = Math.max(longest, at - sentAt)
  })
  const ids = await Promise.all(cluster.nodes.map(async (node) => (await node.status())?.nodeId))
  for (let count = 0; count < transfers; count++) {
    const mark = workload.acknowledged + WRITES_BETWEEN
    await until('some writes', () => workload.acknowledged >= mark, PATIENCE_MS)
    const leader = await cluster.leader()
    const at = cluster.nodes.indexOf(leader)
    longest = 0
    const askedAt = performance.now()
    successful(await leader.ask('RAFT', 'TRANSFER', ids[(at + 1) % ids.length] ?? ''))
    took.push(performance.now() - askedAt)
    const next = workload.acknowledged + WRITES_BETWEEN
    await until('some writes', () => workload.acknowledged >= next, PATIENCE_MS)
    waited.push(longest)
  }
  unwatch()
  await workload.stop()
  const verdict = await workload.verify(await cluster.follower())
  const faults = [...verdict.lost, ...verdict.happened, ...verdict.counter, ...workload.errors]
  report.figure({ what: 'transfers', value: took.length, unit: '' })
  report.figure({ what: 'RAFT TRANSFER to its answer, p50', value: median(took), unit: 'ms' })
  report.figure({
    what: 'RAFT TRANSFER to its answer, longest',
    value: Math.max(...took),
    unit: 'ms',
    most: TRANSFER_MS_MAX,
  })
  report.figure({ what: 'longest write around one, p50', value: median(waited), unit: 'ms' })
  report.figure({
    what: 'longest write around one, of all',
    value: Math.max(...waited),
    unit: 'ms',
  })
  report.figure({
    what: 'commands that failed',
    value: workload.refused + workload.unknown,
    unit: `of ${workload.acknowledged}`,
    most: 0,
  })
  report.figure({ what: 'lost, wrong or done twice', value: faults.length, unit: '', most: 0 })
  for (const text of faults.slice(0, 10)) report.note(text)
}
