/*
 * A cluster of older nodes is upgraded, one node after the other, while clients go on: what is new is made use of only
 * when every member knows it, and then no older node comes back.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FEATURE_LEVEL, firstLevel } from '../../src/feature-level.ts'
import { hashKeyCommand } from '../../src/keyspace.ts'
import { encodeCommands } from '../../storage/codec.ts'
import { HASH_KEY_BYTES } from '../../storage/layout.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { DiskLogStore } from '../../storage/log-store.ts'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { Workload } from './workload.ts'

const MAIN = 'test/e2e/feature-level-main.js'
const OLD = { environment: { FEATURE_LEVEL: '1' } }

async function levelOf(node: NodeProcess): Promise<number> {
  const reply = await node.ask('INFO', 'raft')
  return Number(/^raft_feature_level:(\d+)/m.exec(`${reply}`)?.[1])
}

test('the feature level rises when the last member is upgraded, and never falls', async (context) => {
  const cluster = await Cluster.prepare({ nodes: 3, main: MAIN })
  context.after(() => cluster.end())
  await showingLogs(
    () => cluster,
    async () => {
      for (const node of cluster.nodes) node.start(OLD)
      await cluster.ready()
      const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 2, name: 'upgrade' })
      workload.start()
      context.after(() => workload.stop())
      const [first, second, last] = cluster.nodes
      assert.ok(first && second && last)
      for (const node of cluster.nodes) {
        assert.equal(await levelOf(node), 1)
        await node.stop()
        node.start()
        await node.ready()
        const mark = workload.acknowledged
        await until('some writes', () => workload.acknowledged >= mark + 100)
      }
      for (const node of cluster.nodes) {
        await until(`${node.name} has reached level 2`, async () => (await levelOf(node)) === 2)
      }
      const raised = cluster.nodes.filter(({ output }) => output.includes('raising the feature'))
      assert.equal(raised.length, 1)
      await workload.stop()
      for (const node of cluster.nodes) {
        assert.deepEqual(await workload.verify(node), { lost: [], happened: [], counter: [] })
      }
      assert.deepEqual(workload.errors, [])

      // Its state has the level, so the older build is told before it reads any of it.
      await cluster.caughtUp(last)
      await last.stop()
      last.start(OLD)
      assert.deepEqual(await last.end(), { code: 1, signal: null })
      assert.match(last.output, /has reached feature level 2, and this build knows levels up to 1/)
      last.start()
      await last.ready()
    },
  )(context)
})

/** What kill -9 right behind the raise leaves: the log of a cluster of this node alone has it, and no checkpoint. */
async function raiseInLogOnly({ dir, host, port, peerPort }: NodeProcess): Promise<void> {
  const log = await DiskLogStore.open(new LmdbEngine(dir, assert.fail))
  const { nodeId: id } = log.identity()
  const addresses = { peerAddress: `${host}:${peerPort}`, clientAddress: `${host}:${port}` }
  const membership = { members: [{ id, role: 'voter' as const, ...addresses }] }
  const raise = firstLevel([{ level: FEATURE_LEVEL + 1 }])
  const data = encodeCommands(1, [hashKeyCommand(Buffer.alloc(HASH_KEY_BYTES)), ...raise])
  const of = { term: 1, encoded: undefined }
  await log.bind({
    clusterId: 'c'.repeat(40),
    hardState: { term: 1, vote: undefined },
    entries: [
      { index: 1, ...of, payload: { type: 'membership', membership } },
      { index: 2, ...of, payload: { type: 'commands', data } },
    ],
  })
  await log.close()
}

test('an older build ends in one line where only the log has the level it does not know', async (context) => {
  const cluster = await Cluster.prepare({ nodes: 1 })
  context.after(() => cluster.end())
  const node = cluster.node(0)
  await raiseInLogOnly(node)
  node.start()
  await node.end()
  const next = FEATURE_LEVEL + 1
  const line = `holdfast: the cluster has reached feature level ${next}, and this build knows levels up to ${FEATURE_LEVEL}: start the newer build again`
  assert.ok(node.output.split('\n').includes(line), node.output)
  assert.doesNotMatch(node.output, /AssertionError|\n {4}at /)
})

test('an older node is not let into a cluster that has gone on', async (context) => {
  const clusters = await Promise.all([1, 2].map(() => Cluster.prepare({ nodes: 1, main: MAIN })))
  context.after(() => Promise.all(clusters.map((cluster) => cluster.end())))
  const [member, older] = clusters.map((cluster) => cluster.node(0))
  assert.ok(member && older)
  member.start()
  await member.ready()
  assert.equal(await levelOf(member), 2)
  older.start({ ...OLD, flags: ['--join', `${member.host}:${member.peerPort}`] })
  await older.prints('its build knows feature levels up to 1, and the cluster has reached 2')
  assert.equal((await member.members()).length, 1)
})
