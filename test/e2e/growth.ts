/*
 * A cluster that grows from one node to three and five and shrinks to three again, its leader being among those that
 * go, while writers on two of the nodes that stay go on: for a test, and for `npm run measure -- grow`.
 */

import { until } from '../processes.ts'
import { Cluster, type NodeProcess, successful } from './cluster.ts'
import { type Verdict, Workload } from './workload.ts'

const WRITERS_PER_NODE = 4
/** Acknowledged writes between two changes. */
const WRITES_BETWEEN = 100
const PATIENCE_MS = 120_000

export interface Growth {
  readonly acknowledged: number
  /** Between two acknowledged writes through one node, in ms, and what happened meanwhile. */
  readonly longestGap: { readonly ms: number; readonly when: string }
  /** Error replies: there should be none. */
  readonly errors: readonly string[]
  /** Commands without a definite answer. */
  readonly unknown: number
  /** Of each of the nodes that stayed, read through itself. */
  readonly verdicts: readonly Verdict[]
}

/** `prepare` is called when the first node is ready and nobody writes yet. */
export async function growAndShrink(
  prepare: (first: NodeProcess) => Promise<void>,
): Promise<Growth> {
  const clusters: Cluster[] = []
  const workloads: Workload[] = []
  const gaps = new Gaps()
  const write = (node: NodeProcess): void => {
    const name = `growth${workloads.length}`
    const workload = new Workload({
      nodes: [node],
      writersPerNode: WRITERS_PER_NODE,
      name,
      paceMs: 0,
    })
    workloads.push(workload)
    gaps.watch(workload)
    workload.start()
  }
  const written = async (what: string): Promise<void> => {
    gaps.when = what
    const marks = workloads.map((workload) => workload.acknowledged + WRITES_BETWEEN)
    const isOver = (): boolean =>
      workloads.every(({ acknowledged }, at) => acknowledged >= (marks[at] ?? 0))
    await until(`writes: ${what}`, isOver, PATIENCE_MS)
  }
  const join = async (by: NodeProcess, size: number): Promise<NodeProcess> => {
    const cluster = await Cluster.prepare({ nodes: 1 })
    clusters.push(cluster)
    const node = cluster.node(0)
    gaps.when = `to ${size} members`
    node.start({ flags: ['--join', `${by.host}:${by.peerPort}`] })
    await node.ready(PATIENCE_MS)
    await until(`${size} voters`, async () => (await voters(by)) === size, PATIENCE_MS)
    await written(`with ${size} members`)
    return node
  }
  try {
    const one = await Cluster.start({ nodes: 1 })
    clusters.push(one)
    const first = one.node(0)
    await prepare(first)
    write(first)
    await written('with 1 member')
    const second = await join(first, 2)
    write(second)
    const third = await join(first, 3)
    const leaving = [await join(second, 4), await join(third, 5)]
    gaps.when = 'leadership is handed over'
    successful(await first.ask('RAFT', 'TRANSFER', await idOf(leaving[0])))
    for (const [at, node] of leaving.entries()) {
      gaps.when = `to ${4 - at} members`
      successful(await second.ask('RAFT', 'REMOVE', await idOf(node)))
      await written(`with ${4 - at} members`)
    }
    await Promise.all(workloads.map((workload) => workload.stop()))
    gaps.end()
    const verdicts: Verdict[] = []
    for (const node of [first, second, third]) {
      for (const workload of workloads) verdicts.push(await workload.verify(node))
    }
    return {
      acknowledged: workloads.reduce((sum, { acknowledged }) => sum + acknowledged, 0),
      longestGap: gaps.longest,
      errors: workloads.flatMap(({ errors }) => errors),
      unknown: workloads.reduce((sum, { unknown }) => sum + unknown, 0),
      verdicts,
    }
  } catch (error) {
    for (const cluster of clusters) process.stderr.write(`${cluster.logs()}\n`)
    throw error
  } finally {
    const stopped = workloads.map((workload) => workload.stop())
    await Promise.all(clusters.map((cluster) => cluster.end()))
    await Promise.all(stopped)
  }
}

/** How long nobody was acknowledged through a node. */
export class Gaps {
  when = ''
  longest: { readonly ms: number; readonly when: string } = { ms: 0, when: '' }
  #isOver = false

  watch(workload: Workload): void {
    let last = performance.now()
    workload.watch(({ at }) => {
      const ms = at - last
      last = at
      if (!this.#isOver && ms > this.longest.ms) this.longest = { ms, when: this.when }
    })
  }

  end(): void {
    this.#isOver = true
  }
}

/** How many of the members that `node` knows are voters. */
export async function voters(node: NodeProcess): Promise<number> {
  const members = await node.members()
  return members.filter((member) => member.get('membership') === 'voter').length
}

async function idOf(node: NodeProcess | undefined): Promise<string> {
  const status = await node?.status()
  if (status === undefined) throw new Error('a node without a status')
  return status.nodeId
}
