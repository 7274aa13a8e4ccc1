/*
 * InstallSnapshot with real processes: a member that was away until its log was compacted away everywhere comes back
 * while the cluster serves, and kill -9 in the middle of it, of either side, costs nothing but time.
 */

import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs, successful } from './cluster.ts'
import { RespClient, textOf } from './resp-client.ts'
import { type Verdict, Workload } from './workload.ts'

const SOUND: Verdict = { lost: [], happened: [], counter: [] }
/** As little log as the options allow, so that one member is soon too far behind. */
const FLAGS = ['--log-retain-max', '1mb', '--memtable-size', '2mb']
const VALUES = 150
const VALUE_BYTES = 200_000
const PATIENCE_MS = 60_000

let cluster: Cluster

const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

/** A state of 30 MB, of which every round changes each value. */
async function fill(round: number): Promise<void> {
  const leader = await cluster.leader()
  const client = await RespClient.connect(leader.port)
  try {
    for (let i = 0; i < VALUES; i++) {
      successful(
        await client.call('SET', `large:${i}`, Buffer.alloc(VALUE_BYTES, `${round}.${i} `)),
      )
    }
  } finally {
    client.close()
  }
}

/** The first entry that the leader's log still has. */
async function logFirst(): Promise<number> {
  const info = textOf(await (await cluster.leader()).ask('INFO', 'raft'))
  return Number(/^raft_log_first_index:(\d+)/m.exec(info)?.[1] ?? 0)
}

/** Stops a follower and drops what it would need; gives it back stopped. */
async function leaveBehind(round: number): Promise<NodeProcess> {
  const behind = await cluster.follower()
  const info = textOf(await behind.ask('INFO', 'raft'))
  const last = Number(/^raft_log_last_index:(\d+)/m.exec(info)?.[1] ?? 0)
  await behind.kill()
  await fill(round)
  await until('the log to be compacted past it', async () => (await logFirst()) > last, PATIENCE_MS)
  return behind
}

/** N of the state directories of a node, in order. */
function states(node: NodeProcess): readonly number[] {
  const names = readdirSync(node.dir).filter((name) => /^state-\d+$/.test(name))
  return names.map((name) => Number(name.slice(6))).sort((a, b) => a - b)
}

/** Only that state is there: the one before it goes when nobody reads it any more. */
async function onlyState(node: NodeProcess, number: number): Promise<void> {
  await until('the old state to go', () => states(node).join() === String(number), PATIENCE_MS)
}

/** A state is being received beside the one in force. */
async function receiving(node: NodeProcess, number: number): Promise<void> {
  const directory = join(node.dir, `state-${number}`)
  await until('a state to be received', () => existsSync(directory), PATIENCE_MS)
}

async function assertFilled(node: NodeProcess, round: number): Promise<void> {
  for (const i of [0, 7, VALUES - 1]) {
    const value = await node.ask('GET', `large:${i}`)
    assert.ok(Buffer.isBuffer(value))
    assert.equal(Buffer.compare(value, Buffer.alloc(VALUE_BYTES, `${round}.${i} `)), 0)
  }
}

describe('a member that is too far behind for the log', () => {
  before(async () => {
    cluster = await Cluster.start({ nodes: 3, flags: FLAGS })
  })
  after(async () => {
    await cluster?.end()
  })

  test(
    'is sent the state while the cluster serves, and nothing is lost',
    logs(async () => {
      await fill(0)
      const behind = await leaveBehind(1)
      const others = cluster.nodes.filter((node) => node !== behind)
      const workload = new Workload({ nodes: others, writersPerNode: 2, name: 'meanwhile' })
      workload.start()
      behind.start()
      await behind.ready(PATIENCE_MS)
      await cluster.caughtUp(behind, PATIENCE_MS)
      await workload.stop()
      await onlyState(behind, 2)
      assert.match(behind.output, /snapshot installed/)
      for (const node of cluster.running) assert.deepEqual(await workload.verify(node), SOUND)
      await assertFilled(behind, 1)
      await behind.stop()
      behind.start()
      await behind.ready(PATIENCE_MS)
      await assertFilled(behind, 1)
    }),
  )

  test(
    'may be killed while it receives: it starts on its old state and is sent one anew',
    logs(async () => {
      const behind = await leaveBehind(2)
      const [number = 0] = states(behind)
      behind.start()
      await receiving(behind, number + 1)
      await behind.kill()
      behind.start()
      await behind.ready(PATIENCE_MS)
      await cluster.caughtUp(behind, PATIENCE_MS)
      await onlyState(behind, number + 1)
      await assertFilled(behind, 2)
    }),
  )

  test(
    'gets it from the next leader when the one that sends is killed',
    logs(async () => {
      const behind = await leaveBehind(3)
      const [number = 0] = states(behind)
      behind.start()
      await receiving(behind, number + 1)
      const sender = await cluster.leader()
      await sender.kill()
      await behind.ready(PATIENCE_MS)
      await cluster.caughtUp(behind, PATIENCE_MS)
      await onlyState(behind, number + 1)
      await assertFilled(behind, 3)
      sender.start()
      await sender.ready(PATIENCE_MS)
      await cluster.caughtUp(sender, PATIENCE_MS)
      await assertFilled(sender, 3)
    }),
  )
})
