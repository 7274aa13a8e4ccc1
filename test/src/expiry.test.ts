/*
 * Expiry on whole replicas in virtual time: one moment for all nodes, whatever their wall clocks say, and no more
 * entries than it takes.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Replicas, type ReplicasOptions, type SimNode } from '../sim/replicas.ts'
import type { SimReply } from '../sim/resp-connection.ts'

const HOUR = 3_600_000

async function started(options: Partial<ReplicasOptions> = {}): Promise<Replicas> {
  const cluster = new Replicas({ seed: 1, ...options })
  await cluster.start()
  return cluster
}

async function ask(
  cluster: Replicas,
  node: SimNode,
  ...commands: readonly (readonly string[])[]
): Promise<readonly SimReply[]> {
  const connection = cluster.connect(node)
  connection.send(...commands)
  await cluster.time.until(() => connection.unanswered === 0, 20_000, `answers of ${node.name}`)
  connection.destroy()
  return connection.exchanges.map(({ reply }) => (reply === undefined ? 'none' : reply))
}

function applied(cluster: Replicas): number {
  return cluster.leader.replica.keyspace.appliedIndex()
}

test('every node tells the time left by the clock of the leader, and hides the key at one moment', async () => {
  const cluster = await started()
  const [first, second] = cluster.followers
  assert.ok(first && second)
  first.host.wallError = HOUR
  second.host.wallError = -HOUR
  await ask(cluster, cluster.leader, ['SET', 'k', 'v', 'PX', '1000'])
  const setAt = cluster.time.now
  for (const node of cluster.nodes) {
    const [left] = await ask(cluster, node, ['PTTL', 'k'])
    const passed = cluster.time.now - setAt
    assert.ok(typeof left === 'number' && left <= 1000 && left >= 990 - passed, `${left} ms left`)
  }
  await cluster.time.runFor(setAt + 900 - cluster.time.now)
  for (const node of cluster.nodes) assert.deepEqual(await ask(cluster, node, ['GET', 'k']), ['v'])
  await cluster.time.runFor(setAt + 1002 - cluster.time.now)
  for (const node of cluster.nodes) {
    const askedAt = cluster.time.now
    assert.deepEqual(await ask(cluster, node, ['GET', 'k'], ['PTTL', 'k']), [null, -2])
    assert.ok(cluster.time.now - askedAt < 100, 'it waits for no more than an entry')
  }
})

test('a key that nobody touches is removed everywhere, and then nothing is proposed any more', async () => {
  const cluster = await started()
  await ask(
    cluster,
    cluster.leader,
    ...Array.from({ length: 600 }, (_, i) => ['SET', `k${i}`, 'v', 'PX', '500']),
  )
  const before = applied(cluster)
  await cluster.time.runFor(450)
  assert.equal(applied(cluster), before)
  await cluster.time.runFor(600)
  // 256 at a time, 100 ms apart.
  const entries = applied(cluster) - before
  assert.ok(entries >= 3 && entries <= 5, `${entries} entries for 600 keys`)
  for (const { replica } of cluster.nodes) assert.equal(replica.keyspace.size(0), 0)
  const after = applied(cluster)
  await cluster.time.runFor(5000)
  assert.equal(applied(cluster), after)
})

test('keys that fall due all the time cost ten entries a second, and none beside writes', async () => {
  const cluster = await started()
  const commands = Array.from({ length: 300 }, (_, i) => [
    'SET',
    `k${i}`,
    'v',
    'PX',
    `${500 + i * 10}`,
  ])
  await ask(cluster, cluster.leader, ...commands)
  await cluster.time.runFor(500)
  let before = applied(cluster)
  await cluster.time.runFor(1000)
  const idle = applied(cluster) - before
  assert.ok(idle >= 7 && idle <= 11, `${idle} entries in a second`)
  before = applied(cluster)
  for (let i = 0; i < 20; i++) {
    await ask(cluster, cluster.leader, ['SET', 'other', 'v'])
    await cluster.time.runFor(40)
  }
  // The last one before the first of these writes may still have been under way.
  assert.ok(applied(cluster) - before <= 21)
})

test('a key that has expired stays so when the next leader has a wall clock that is hours behind', async () => {
  const cluster = await started()
  await ask(
    cluster,
    cluster.leader,
    ['SET', 'k', 'v', 'PX', '1000'],
    ['SET', 'later', 'v', 'PX', '60000'],
  )
  const old = cluster.leader
  for (const node of cluster.followers) node.host.wallError = -3 * HOUR
  await cluster.time.runFor(1100)
  assert.deepEqual(await ask(cluster, old, ['GET', 'k']), [null])
  old.crash()
  await cluster.settled()
  for (const node of cluster.running) {
    const [gone, left] = await ask(cluster, node, ['GET', 'k'], ['PTTL', 'later'])
    assert.equal(gone, null)
    assert.ok(typeof left === 'number' && left > 50_000 && left < 59_000, `${left} ms left`)
  }
  // Nine tenths of the time go by on a clock that is ahead of the wall.
  await cluster.time.runFor(70_000)
  assert.deepEqual(await ask(cluster, cluster.leader, ['GET', 'later']), [null])
})

test('stale reads wait for nobody: they go by the wall of their own node where that is later', async () => {
  const cluster = await started({ config: ['--read-consistency', 'stale'] })
  const [node, other] = cluster.followers
  assert.ok(node && other)
  await ask(cluster, cluster.leader, ['SET', 'k', 'v', 'PX', '10000'], ['SET', 'kept', 'v'])
  await cluster.time.runFor(200)
  const before = applied(cluster)
  node.host.wallError = 20_000
  other.host.wallError = -20_000
  assert.deepEqual(await ask(cluster, node, ['GET', 'k'], ['TTL', 'k'], ['GET', 'kept']), [
    null,
    -2,
    'v',
  ])
  assert.deepEqual(await ask(cluster, other, ['GET', 'k'], ['TTL', 'k']), ['v', 10])
  assert.equal(applied(cluster), before, 'nobody was asked for a clock')
  cluster.isolate(node)
  assert.deepEqual(await ask(cluster, node, ['GET', 'k']), [null])
})

test('a million ms of time to live survive a restart of the whole cluster', async () => {
  const cluster = await started()
  await ask(
    cluster,
    cluster.leader,
    ['SET', 'k', 'v', 'PX', '1000000'],
    ['SET', 's', 'v', 'PX', '700'],
  )
  const setAt = cluster.time.now
  for (const node of cluster.nodes) node.crash()
  await cluster.time.runFor(1000)
  await cluster.started(cluster.nodes)
  await cluster.settled()
  for (const node of cluster.nodes) {
    const [left, gone] = await ask(cluster, node, ['PTTL', 'k'], ['GET', 's'])
    const passed = cluster.time.now - setAt
    assert.ok(typeof left === 'number' && Math.abs(left - (1_000_000 - passed)) < 50, `${left}`)
    assert.equal(gone, null)
  }
})
