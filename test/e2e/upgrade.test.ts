/*
 * A cluster of older nodes is upgraded, one node after the other, while clients go on: what is new is made use of only
 * when every member knows it, and then no older node comes back.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
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
