/*
 * A quorum that is lost for good: the survivor goes on as a new cluster with everything that was acknowledged, whoever
 * returns from the old one is refused, and the new one grows again. A flag that is left in place does nothing twice.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, successful } from './cluster.ts'
import { voters } from './growth.ts'
import { ReplyError, textOf } from './resp-client.ts'
import { Workload } from './workload.ts'

const FORCE = '--force-new-cluster'

test('two of three nodes are lost for good: the third goes on, alone and then with new ones', async () => {
  const old = await Cluster.start({ nodes: 3 })
  const clusters = [old]
  try {
    const survivor = await old.leader()
    const before = (await survivor.status()) ?? assert.fail('no status')
    const lost = old.nodes.filter((node) => node !== survivor)
    const workload = new Workload({ nodes: [survivor], writersPerNode: 4, name: 'lost' })
    workload.start()
    await until('some writes', () => workload.acknowledged >= 500)
    await Promise.all(lost.map((node) => node.kill()))
    await until('a refusal', () => workload.refused > 0)
    const stopped = workload.stop()
    await survivor.kill()

    survivor.start({ flags: [FORCE] })
    await survivor.prints('FORCED A NEW CLUSTER of this node alone')
    await survivor.ready()
    await stopped
    const sound = { lost: [], happened: [], counter: [] }
    assert.deepEqual(await workload.verify(survivor), sound)
    const after = (await survivor.status()) ?? assert.fail('no status')
    assert.equal(after.nodeId, before.nodeId)
    assert.notEqual(after.clusterId, before.clusterId)
    assert.ok(after.term > before.term)
    assert.equal(await voters(survivor), 1)

    const [returning] = lost
    assert.ok(returning)
    returning.start()
    const refusal = `of cluster ${before.clusterId}, this node of cluster ${after.clusterId}`
    await survivor.prints(refusal)
    await returning.prints(
      `of cluster ${after.clusterId}, this node of cluster ${before.clusterId}`,
    )
    const reply = await returning.ask('SET', 'a', 'b').catch((error: unknown) => error)
    assert.ok(reply instanceof ReplyError && reply.code === 'CLUSTERDOWN', `${reply}`)
    await returning.kill()

    for (let count = 2; count <= 3; count++) {
      const cluster = await Cluster.prepare({ nodes: 1 })
      clusters.push(cluster)
      cluster.node(0).start({ flags: ['--join', `${survivor.host}:${survivor.peerPort}`] })
      await cluster.node(0).ready()
      await until(`${count} voters`, async () => (await voters(survivor)) === count)
      assert.deepEqual(await workload.verify(cluster.node(0)), sound)
    }

    // A service manager starts it with the flag once more: the others must not be cut off.
    await survivor.kill()
    survivor.start({ flags: [FORCE] })
    await survivor.prints('is not followed again')
    await survivor.ready()
    assert.equal((await survivor.status())?.clusterId, after.clusterId)
    assert.equal(await voters(survivor), 3)
    successful(await survivor.ask('SET', 'again', 'yes'))
    assert.equal(textOf((await clusters[2]?.node(0).ask('GET', 'again')) ?? null), 'yes')
  } catch (error) {
    for (const cluster of clusters) process.stderr.write(`${cluster.logs()}\n`)
    throw error
  } finally {
    await Promise.all(clusters.map((cluster) => cluster.end()))
  }
})

test('there is nothing to keep at a node that belongs to no cluster', async (context) => {
  const cluster = await Cluster.prepare({ nodes: 3 })
  context.after(() => cluster.end())
  const node = cluster.node(0)
  node.start({ flags: [FORCE] })
  assert.deepEqual(await node.end(), { code: 1, signal: null })
  assert.match(node.output, /--force-new-cluster: this node belongs to no cluster/)
})
