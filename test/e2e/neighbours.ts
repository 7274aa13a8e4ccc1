/*
 * A cluster beside whose bad clients (bad-clients.ts) one behaves, and how that one fares.
 */

import assert from 'node:assert/strict'
import { OK_BYTES, PROBED, pipeline, stopsOf } from '../measure/measured-node.ts'
import { Child, type Ending } from '../processes.ts'
import { Cluster, type NodeProcess } from './cluster.ts'

const PATIENCE_MS = 120_000
/** A process that gets no processor on a busy machine must not look like one that a client holds up. */
const ELECTION_MS = 3000

export interface Neighbourhood {
  readonly cluster: Cluster
  /** The follower to which all clients are connected. */
  readonly victim: NodeProcess
}

/** How the client fared that behaves. */
export interface Fate {
  /** How long each SET and each GET took, in ms. */
  readonly sets: readonly number[]
  readonly gets: readonly number[]
  /** The longest stop of any node's event loop, in ms of its thread's processor time. */
  readonly stopMs: number
}

/** Three nodes with `keys` keys; the caller ends the cluster. */
export async function neighbourhood(keys: number): Promise<Neighbourhood> {
  const flags = ['--election-timeout-ms', String(ELECTION_MS)]
  const cluster = await Cluster.prepare({ nodes: 3, flags })
  try {
    for (const node of cluster.nodes) node.start({ environment: PROBED })
    await cluster.ready(PATIENCE_MS)
    const leader = await cluster.leader()
    await pipeline(leader.port, keys, (at) => ['SET', `key:${at}`, 'value'], OK_BYTES)
    for (const node of cluster.nodes) await cluster.caughtUp(node, PATIENCE_MS)
    return { cluster, victim: await cluster.follower() }
  } catch (error) {
    await cluster.end()
    throw error
  }
}

/** While `torment` lasts, a client that behaves sets and gets; nobody is elected, and every node lives on. */
export async function beside(
  ending: Ending,
  { cluster, victim }: Neighbourhood,
  torment: () => Promise<unknown>,
): Promise<Fate> {
  const term = await cluster.term()
  for (const node of cluster.nodes) await stopsOf(node)
  const child = new Child(ending, 'test/e2e/neighbour-main.js', [String(victim.port)])
  await child.prints('ready', PATIENCE_MS)
  await torment()
  child.closeStdin()
  await child.end(PATIENCE_MS)
  assert.equal(child.ended?.code, 0, child.stderr)
  const stops = await Promise.all(cluster.nodes.map(stopsOf))
  assert.equal(await cluster.term(), term, 'somebody was elected')
  for (const node of cluster.nodes) assert.ok(node.running, `${node.name} runs`)
  const taken: readonly number[] = JSON.parse(child.stdout.slice('ready\n'.length))
  return {
    sets: taken.filter((_, at) => at % 2 === 0),
    gets: taken.filter((_, at) => at % 2 === 1),
    stopMs: Math.max(...stops.map(({ processor }) => processor)),
  }
}
