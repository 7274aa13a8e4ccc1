/*
 * How the figures grow: with the number of keys, nodes and connections, and with the size of values. Each table is a
 * list of cases on clusters of their own; a case gives one row. The clusters run with a probe that tells how long
 * their event loops stood still, which costs all of them alike.
 */

import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { Cluster, NodeProcess } from '../e2e/cluster.ts'
import { fill } from '../measure/fill.ts'
import { PROBED, stopsOf } from '../measure/measured-node.ts'
import { until } from '../processes.ts'
import { drive, keyOf, type Load } from './load.ts'
import { table } from './report.ts'
import { HEAVY_TIMES } from './rounds.ts'
import { holdfast, usageOf } from './systems.ts'

export interface GrowthOptions {
  readonly seconds: number
  /** The largest cases as well, which take many minutes. */
  readonly full: boolean
  /** Titles of the tables that are wanted. */
  readonly only: RegExp
  print(line: string): void
  /** How far a case is: not for a document. */
  progress(line: string): void
}

const CONNECTIONS = 50
const VALUE_BYTES = 64
const KEYS = 100_000
/** A start that has much to read. */
const PATIENCE_MS = 300_000
const MEGABYTE = 1e6

/** Prints the tables, one after the other. */
export async function measureGrowth(options: GrowthOptions): Promise<void> {
  const { full, only, print } = options
  const tables = [
    {
      title: 'Keys (64 B values, three nodes)',
      head: [...SPEED, 'RssAnon MB', 'RssFile MB', 'disk B/key', 'restart ms', 'failover ms'],
      cases: [10_000, 100_000, 1_000_000, ...(full ? [10_000_000] : [])],
      row: keysRow,
    },
    {
      title: 'Nodes (100,000 keys)',
      head: [...SPEED, 'failover ms'],
      cases: [1, 3, 5],
      row: nodesRow,
    },
    {
      title: 'Connections (three nodes, 100,000 keys)',
      head: [...SPEED, 'RssAnon MB'],
      cases: [50, 500, 5000],
      row: connectionsRow,
    },
    {
      title: 'Bytes of a value (three nodes)',
      head: [...SPEED, 'SET MB/s'],
      cases: [64, 1024, 65_536, 1_048_576],
      row: valuesRow,
    },
  ] as const
  for (const { title, head, cases, row } of tables.filter((one) => only.test(one.title))) {
    print(`\n## ${title}\n`)
    const rows: string[][] = []
    for (const count of cases) {
      const startedAt = performance.now()
      rows.push([String(count), ...(await row(count, options))])
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(0)
      options.progress(`${count} took ${seconds} s: ${rows.at(-1)?.join(' | ')}`)
    }
    for (const line of table(['', ...head], rows)) print(line)
  }
}

const SPEED = [
  'SET/s',
  'p50 / p99 ms',
  'leader us',
  'follower us',
  'stop CPU ms',
  'GET/s',
  'p50 / p99 ms',
  'leader us',
  'stop CPU ms',
] as const

async function keysRow(keys: number, options: GrowthOptions): Promise<string[]> {
  return onCluster(3, async (cluster) => {
    await fillMany(cluster, keys, options)
    const speed = await speedOf(cluster, { keys }, options)
    const leader = await cluster.leader()
    // Before a checkpoint of theirs the keys are in memory and in the log.
    await leader.ask('SAVE')
    const { anonymousBytes, fileBytes } = usageOf(leader.pid ?? 0)
    const disk = statSync(join(leader.dir, 'state-1', 'data.mdb')).size / keys
    const restart = await restartMs(cluster, await cluster.follower())
    const failover = await failoverMs(cluster)
    const memory = [anonymousBytes, fileBytes].map((bytes) => (bytes / MEGABYTE).toFixed(0))
    return [...speed, ...memory, disk.toFixed(0), restart.toFixed(0), failover.toFixed(0)]
  })
}

async function nodesRow(nodes: number, options: GrowthOptions): Promise<string[]> {
  return onCluster(nodes, async (cluster) => {
    await fillBySize(cluster, KEYS, VALUE_BYTES)
    const speed = await speedOf(cluster, {}, options)
    return [...speed, nodes === 1 ? '' : (await failoverMs(cluster)).toFixed(0)]
  })
}

async function connectionsRow(connections: number, options: GrowthOptions): Promise<string[]> {
  return onCluster(3, async (cluster) => {
    await fillBySize(cluster, KEYS, VALUE_BYTES)
    const speed = await speedOf(cluster, { connections }, options)
    const { anonymousBytes } = usageOf((await cluster.leader()).pid ?? 0)
    return [...speed, (anonymousBytes / MEGABYTE).toFixed(0)]
  })
}

async function valuesRow(valueBytes: number, options: GrowthOptions): Promise<string[]> {
  return onCluster(3, async (cluster) => {
    const keys = Math.min(KEYS, Math.floor((32 * 1024 * 1024) / valueBytes))
    await fillBySize(cluster, keys, valueBytes)
    const speed = await speedOf(cluster, { keys, valueBytes }, options)
    return [...speed, ((Number(speed[0]) * valueBytes) / MEGABYTE).toFixed(1)]
  })
}

async function onCluster(
  nodes: number,
  measure: (cluster: Cluster) => Promise<string[]>,
): Promise<string[]> {
  const { cluster, end } = await holdfast({ nodes, name: 'growth', environment: PROBED })
  try {
    return await measure(cluster)
  } finally {
    await end()
  }
}

/** In the order of the disk, which is the quickest: so that ten million keys come within minutes. */
async function fillMany(cluster: Cluster, keys: number, options: GrowthOptions): Promise<void> {
  const { port } = await cluster.leader()
  await fill({
    port,
    from: 0,
    to: keys,
    name: keyOf,
    valueBytes: VALUE_BYTES,
    progress: options.progress,
  })
}

async function fillBySize(cluster: Cluster, keys: number, valueBytes: number): Promise<void> {
  const { host, port } = await cluster.leader()
  await drive({
    host,
    port,
    connections: 10,
    pipeline: valueBytes > 4096 ? 1 : 100,
    setShare: 1,
    valueBytes,
    keys,
    seconds: Number.POSITIVE_INFINITY,
    commands: keys,
    inOrder: true,
  })
}

/** The cells of SPEED: SET, over several checkpoints, then GET, P=1. */
async function speedOf(
  cluster: Cluster,
  changed: Partial<Load>,
  { seconds }: GrowthOptions,
): Promise<string[]> {
  const usual = { connections: CONNECTIONS, pipeline: 1, valueBytes: VALUE_BYTES, keys: KEYS }
  const cells: string[] = []
  for (const setShare of [1, 0]) {
    const leader = await cluster.leader()
    const { host, port } = leader
    const load = { ...usual, ...changed, host, port, setShare }
    await drive({ ...load, seconds: seconds / 2 })
    const others = cluster.nodes.filter((node) => node !== leader)
    for (const node of cluster.nodes) await stopsOf(node)
    const used = (): number[] => [leader, ...others].map(({ pid = 0 }) => usageOf(pid).cpuMs)
    const before = used()
    const { perSecond, p50, p99, commands, errors } = await drive({
      ...load,
      seconds: setShare === 1 ? seconds * HEAVY_TIMES : seconds,
    })
    if (errors > 0) throw new Error(`${errors} of ${commands} commands were answered by errors`)
    const micros = used().map((ms, at) => ((ms - (before[at] ?? 0)) * 1000) / commands)
    const [own = Number.NaN, ...theirs] = micros
    const follower = theirs.reduce((sum, one) => sum + one, 0) / theirs.length
    let stop = 0
    for (const node of cluster.nodes) stop = Math.max(stop, (await stopsOf(node)).processor)
    cells.push(perSecond.toFixed(0), `${p50.toFixed(2)} / ${p99.toFixed(1)}`, own.toFixed(1))
    if (setShare === 1) cells.push(theirs.length === 0 ? '' : follower.toFixed(1))
    cells.push(stop.toFixed(1))
  }
  return cells
}

/** kill -9 of a node, and from its start until it serves a linearizable read. */
async function restartMs(cluster: Cluster, node: NodeProcess): Promise<number> {
  await node.kill()
  const startedAt = performance.now()
  node.start({ environment: PROBED })
  await node.ready(PATIENCE_MS)
  const ms = performance.now() - startedAt
  await cluster.caughtUp(node, PATIENCE_MS)
  return ms
}

/** From the kill -9 of the leader to the first write that a survivor acknowledges. */
async function failoverMs(cluster: Cluster): Promise<number> {
  const leader = await cluster.leader()
  const killedAt = performance.now()
  await leader.kill()
  await Promise.race(
    cluster.running.map((node) =>
      until('a write through a survivor', async () => {
        return (await node.ask('SET', 'failover', 'done').catch(() => undefined)) === 'OK'
      }),
    ),
  )
  return performance.now() - killedAt
}
