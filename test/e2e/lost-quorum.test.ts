/*
 * A quorum that is lost for good: the survivor goes on as a new cluster with everything that was acknowledged, whoever
 * returns from the old one is refused, and the new one grows again. A flag that is left in place does nothing twice.
 */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { DiskLogStore } from '../../storage/log-store.ts'
import { until } from '../processes.ts'
import { needs } from '../tools.ts'
import { Cluster, type NodeProcess, successful } from './cluster.ts'
import { voters } from './growth.ts'
import { ReplyError, textOf } from './resp-client.ts'
import { Workload } from './workload.ts'

const FORCE = '--force-new-cluster'
/** Of the boot record and of the new cluster there are some six. */
const CALLS_MAX = 20

test('two of three nodes are lost for good: the third goes on, alone and then with new ones', async () => {
  const old = await Cluster.start({ nodes: 3 })
  const clusters = [old]
  try {
    const survivor = await old.leader()
    const before = (await survivor.status()) ?? assert.fail('no status')
    const lost = old.nodes.filter((node) => node !== survivor)
    // The others serve without it: it must not become a second cluster beside them.
    await survivor.kill()
    survivor.start({ flags: [FORCE] })
    assert.deepEqual(await survivor.end(), { code: 1, signal: null })
    assert.match(survivor.output, /serves cluster [0-9a-f]{40}, so its quorum is not lost/)
    survivor.start()
    await survivor.ready()
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

describe('a survivor that is killed while it is forced', needs('strace'), () => {
  test('is the old member or the only one of a new cluster, at every call that reaches its disk', async (context) => {
    const cluster = await Cluster.start({ nodes: 3 })
    context.after(() => cluster.end())
    const node = await cluster.leader()
    for (let at = 0; at < 20; at++) successful(await node.ask('SET', `key:${at}`, 'v'))
    const { clusterId: old } = (await node.status()) ?? assert.fail('no status')
    await Promise.all(cluster.nodes.map((one) => one.kill()))
    const before = await logOf(node)
    assert.equal(before.clusterId, old)
    const seen: string[] = []
    for (let call = 1; seen.at(-1) !== 'new'; call++) {
      assert.ok(call <= CALLS_MAX, `still the old one after ${CALLS_MAX} calls`)
      // Of the log's file alone: the boot record, then what --force-new-cluster writes, then the first term.
      const path = join(node.dir, 'log', 'data.mdb')
      const inject = ['-e', 'trace=pwrite64,writev,fdatasync', '-e']
      const calls = `inject=pwrite64,writev,fdatasync:signal=KILL:when=${call}`
      const under = ['strace', '-f', '-o', '/dev/null', '-P', path, ...inject, calls]
      // strace counts the calls of each thread.
      node.start({ under, flags: [FORCE], environment: { UV_THREADPOOL_SIZE: '1' } })
      await node.end()
      const { clusterId, last, entries } = await logOf(node)
      assert.deepEqual(entries.slice(0, before.entries.length), before.entries)
      if (clusterId === old) assert.equal(last, before.last)
      else assert.equal(last, before.last + 1)
      seen.push(clusterId === old ? 'old' : 'new')
    }
    assert.ok(seen.includes('old'), seen.join())
    node.start()
    await node.ready()
    assert.equal(textOf(await node.ask('GET', 'key:19')), 'v')
  })
})

/** What is durable in a node's log, which does not run. */
async function logOf({ dir }: NodeProcess): Promise<{
  readonly clusterId: string | undefined
  readonly last: number
  readonly entries: readonly string[]
}> {
  const log = await DiskLogStore.open(new LmdbEngine(dir, assert.fail))
  const last = log.lastIndex()
  const entries = log.entries(log.base().index + 1, last + 1, Number.MAX_SAFE_INTEGER)
  const { clusterId } = log.identity()
  await log.close()
  return { clusterId, last, entries: entries.map(({ index, term }) => `${index} ${term}`) }
}
