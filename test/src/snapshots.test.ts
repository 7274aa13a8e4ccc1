/*
 * Snapshots between whole replicas: a member that needs what is gone gets a state and goes on behind it, whatever
 * breaks on the way.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Replicas, type SimNode } from '../sim/replicas.ts'
import type { SimReply } from '../sim/resp-connection.ts'

/** Short logs and frequent checkpoints: as small as the options allow. */
const CONFIG = ['--log-retain-max', '1mb', '--memtable-size', '1mb', '--snapshot-log-max', '64mb']
const VALUE = 'v'.repeat(10_000)

async function ask(
  cluster: Replicas,
  node: SimNode,
  ...words: string[]
): Promise<SimReply | undefined> {
  const connection = cluster.connect(node)
  const [exchange] = connection.send(words)
  await cluster.time.until(() => exchange?.reply !== undefined, 10_000, words[0] ?? '')
  connection.destroy()
  return exchange?.reply
}

/** Writes so many values of 10 kB, from `from` on, through the leader. */
async function write(cluster: Replicas, from: number, count: number): Promise<void> {
  const connection = cluster.connect(cluster.leader)
  for (let i = from; i < from + count; i++) {
    const [exchange] = connection.send(['SET', `k${i}`, `${i}${VALUE}`])
    if (i % 20 === 0) await cluster.time.until(() => exchange?.reply !== undefined, 10_000)
  }
  await cluster.time.until(() => connection.unanswered === 0, 10_000, 'the writes')
  connection.destroy()
}

async function started(seed: number): Promise<{ cluster: Replicas; behind: SimNode }> {
  const cluster = new Replicas({ seed, config: CONFIG })
  await cluster.start()
  const [behind] = cluster.followers
  assert.ok(behind !== undefined)
  await write(cluster, 0, 50)
  return { cluster, behind }
}

function base(node: SimNode): number {
  return (node.replica.status()?.first ?? 0) - 1
}

/** One member is away until its log is compacted away everywhere else. */
async function leaveBehind(cluster: Replicas, behind: SimNode): Promise<void> {
  cluster.isolate(behind)
  // What was on its way to it is lost, and its links cannot be made anew.
  cluster.resetLinks(1)
  const { last = 0 } = behind.replica.status() ?? {}
  for (let round = 1; base(cluster.leader) <= last; round++) {
    assert.ok(round < 20, 'the log is never compacted')
    await write(cluster, round * 100, 100)
    await cluster.time.runFor(200)
  }
}

async function caughtUp(cluster: Replicas, node: SimNode): Promise<void> {
  const ready = (): boolean => {
    const { applied = 0 } = node.replica.status() ?? {}
    return applied > 0 && applied === cluster.leader.replica.status()?.commit
  }
  await cluster.time.until(ready, 60_000, 'catching up')
  for (const key of ['k0', 'k49', 'k100', 'k199']) {
    assert.equal(await ask(cluster, node, 'GET', key), `${key.slice(1)}${VALUE}`)
  }
  assert.equal(await ask(cluster, node, 'DBSIZE'), await ask(cluster, cluster.leader, 'DBSIZE'))
}

/** Environments of a node's disk. */
function environments(node: SimNode): string {
  return [...node.engine.list()].sort().join()
}

test('a member that was away is sent the state while the others go on, and then replicates again', async () => {
  const { cluster, behind } = await started(1)
  await leaveBehind(cluster, behind)
  cluster.heal()
  await write(cluster, 5000, 200)
  await caughtUp(cluster, behind)
  assert.equal(environments(behind), 'log,state-2')
  await write(cluster, 6000, 20)
  await caughtUp(cluster, behind)
  const { peers = [] } = cluster.leader.replica.status() ?? {}
  assert.ok(peers.every(({ state }) => state === 'replicate'))
})

test('a member that was stopped comes back after a snapshot, and once more after a second one', async () => {
  const { cluster, behind } = await started(2)
  for (const expected of ['log,state-2', 'log,state-3']) {
    behind.crash()
    // Its process is gone, so nothing can be asked of it.
    const { leader } = cluster
    const before = leader.replica.status()?.last ?? 0
    for (let round = 1; base(leader) <= before; round++) await write(cluster, round * 100, 100)
    await cluster.started([behind])
    await caughtUp(cluster, behind)
    assert.equal(environments(behind), expected)
    behind.crash()
    await cluster.started([behind])
    await caughtUp(cluster, behind)
  }
})

test('a link that breaks again and again only costs the way: the same state is sent on', async () => {
  const { cluster, behind } = await started(3)
  await leaveBehind(cluster, behind)
  cluster.network.cutRule = () => ({ toAcceptor: 2_500_000, toDialler: 2_500_000 })
  cluster.heal()
  await caughtUp(cluster, behind)
  assert.equal(environments(behind), 'log,state-2')
  assert.deepEqual(
    cluster.nodes.flatMap(({ warnings }) => warnings.filter((text) => /snapshot/.test(text))),
    [],
  )
})

test('a receiver that crashes in the middle begins anew, and leaves nothing behind', async () => {
  const { cluster, behind } = await started(4)
  await leaveBehind(cluster, behind)
  cluster.heal()
  await cluster.time.until(
    () => environments(behind) === 'log,state-1,state-2',
    20_000,
    'receiving',
  )
  behind.crash()
  await cluster.started([behind])
  await caughtUp(cluster, behind)
  assert.equal(environments(behind), 'log,state-2')
})

test('a sender that crashes in the middle is replaced by the next leader, which sends its own state', async () => {
  const { cluster, behind } = await started(5)
  await leaveBehind(cluster, behind)
  cluster.heal()
  await cluster.time.until(
    () => environments(behind) === 'log,state-1,state-2',
    20_000,
    'receiving',
  )
  const { leader } = cluster
  leader.crash()
  await cluster.settled(20_000)
  assert.notEqual(cluster.leader, leader)
  await caughtUp(cluster, behind)
  await cluster.started([leader])
  await caughtUp(cluster, leader)
})
