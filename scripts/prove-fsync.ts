/*
 * Proves with strace on all three nodes that no write is answered before it is durable on a majority: for each SET
 * the reply left only after, on two nodes, fdatasync AND the O_DSYNC write of the meta page of the commit that holds
 * it had returned. Then the control: the same on a build that answers early must fail, or the proof proves nothing.
 *
 *   npm run prove:fsync [-- --sets 1000]
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CommandLine, numberFrom, runScript } from '../test/command-line.ts'
import { Cluster, type NodeProcess, successful } from '../test/e2e/cluster.ts'
import { RespClient } from '../test/e2e/resp-client.ts'
import { readTrace, type Trace, traceCommand } from '../test/e2e/syscall-trace.ts'
import { requireTool } from '../test/tools.ts'

/** The control needs only enough SETs to be caught, and a run where none is caught is no run of bad luck. */
const CONTROL_SETS = 100
/** Connections: one to the leader, one to a follower. */
const SETS_DEFAULT = 1000

interface Proof {
  readonly sets: number
  /** SETs whose reply was not preceded by two durable copies. */
  readonly early: number
  /** Least time between the second durable copy and the reply, in microseconds. */
  readonly marginUs: number
}

async function prove(main: string, sets: number): Promise<Proof> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-prove-'))
  const cluster = await Cluster.prepare({ nodes: 3, main })
  try {
    const files = cluster.nodes.map((node) => join(folder, node.name))
    cluster.nodes.forEach((node, at) => {
      node.start({ under: traceCommand(files[at] ?? '') })
    })
    await cluster.ready(60_000)
    const leader = await cluster.leader(60_000)
    const follower = await cluster.follower()
    const half = Math.floor(sets / 2)
    const runs = [await run(leader, 0, half), await run(follower, half, sets)]
    await Promise.all(cluster.nodes.map((node) => node.stop()))
    const traces = await Promise.all(files.map((file) => readTrace(file)))
    return judge(traces, runs, cluster.nodes)
  } catch (error) {
    process.stderr.write(`${cluster.logs()}\n`)
    throw error
  } finally {
    await cluster.end()
    rmSync(folder, { recursive: true, force: true })
  }
}

interface Run {
  readonly node: NodeProcess
  readonly clientPort: number
  readonly from: number
  readonly to: number
}

/** One SET after the other, each with a value that names it. */
async function run(node: NodeProcess, from: number, to: number): Promise<Run> {
  const client = await RespClient.connect(node.port)
  for (let set = from; set < to; set++) {
    successful(await client.call('SET', `prove-${set}`, marker(set)))
  }
  const clientPort = client.localPort
  client.close()
  return { node, clientPort, from, to }
}

function marker(set: number): string {
  return `<prove:${String(set).padStart(6, '0')}>`
}

function judge(
  traces: readonly Trace[],
  runs: readonly Run[],
  nodes: readonly NodeProcess[],
): Proof {
  let early = 0
  let marginUs = Number.POSITIVE_INFINITY
  let sets = 0
  for (const { node, clientPort, from, to } of runs) {
    const replies = traces[nodes.indexOf(node)]?.repliesTo(clientPort, '+OK') ?? []
    if (replies.length !== to - from) {
      throw new Error(`${node.name}: ${replies.length} replies seen, ${to - from} expected`)
    }
    for (let set = from; set < to; set++) {
      sets++
      const durable = traces
        .map((trace) => trace.durableAt(marker(set)))
        .filter((at) => at !== undefined)
        .sort((a, b) => a - b)
      const second = durable[1]
      const reply = replies[set - from] as number
      if (second === undefined || second > reply) early++
      else marginUs = Math.min(marginUs, reply - second)
    }
  }
  return { sets, early, marginUs }
}

const OPTIONS = { sets: { type: 'string', default: String(SETS_DEFAULT) } } as const

async function main({ values }: CommandLine<typeof OPTIONS>): Promise<number> {
  const sets = numberFrom('sets', values.sets, { least: 2, whole: true })
  if (requireTool('strace') === undefined) {
    process.stdout.write('NOT RUN: strace is missing\n')
    return 1
  }
  const proof = await prove('src/main.js', sets)
  const durable = proof.sets - proof.early
  process.stdout.write(
    `proof: ${durable} of ${proof.sets} replies left after fdatasync and the meta write on two of three nodes ` +
      `(closest: ${proof.marginUs.toFixed(0)} us after)\n`,
  )
  const control = await prove('test/e2e/early-answer-main.js', CONTROL_SETS)
  process.stdout.write(
    `control: a build that answers early was caught at ${control.early} of ${control.sets} replies\n`,
  )
  const passed = proof.early === 0 && control.early > 0
  process.stdout.write(passed ? 'proved\n' : 'NOT proved\n')
  return passed ? 0 : 1
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
