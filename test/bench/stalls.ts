/*
 * How long the event loops of a cluster stand still under load. In a cluster of its own with a probe in each node
 * (test/measure/loop-probe.ts), because the probe costs CPU time that the other figures must not hold.
 */

import { PROBED, stopsOf } from '../measure/measured-node.ts'
import { drive } from './load.ts'
import type { Stall } from './report.ts'
import { keysFor } from './rounds.ts'
import { holdfast } from './systems.ts'

const LOADS = [
  { name: 'SET c=50 P=16 64 B', setShare: 1, pipeline: 16, valueBytes: 64 },
  { name: 'GET c=50 P=16 64 B', setShare: 0, pipeline: 16, valueBytes: 64 },
  { name: 'SET c=50 P=1 64 KiB', setShare: 1, pipeline: 1, valueBytes: 64 * 1024 },
] as const

export async function measureStalls(seconds: number): Promise<readonly Stall[]> {
  const { cluster, end } = await holdfast({ nodes: 3, name: 'probed', environment: PROBED })
  try {
    const stalls: Stall[] = []
    for (const { name, ...load } of LOADS) {
      const leader = await cluster.leader()
      const { host, port } = leader
      const where = { host, port, connections: 50, keys: keysFor(load.valueBytes) }
      // What was compiled and allocated before the load is not its doing.
      await drive({ ...load, ...where, seconds: seconds / 2 })
      for (const node of cluster.nodes) await stopsOf(node)
      await drive({ ...load, ...where, seconds })
      for (const node of cluster.nodes) {
        const part = node === leader ? 'leader' : 'follower'
        stalls.push({ load: name, part, ...(await stopsOf(node)) })
      }
    }
    return stalls
  } finally {
    await end()
  }
}
