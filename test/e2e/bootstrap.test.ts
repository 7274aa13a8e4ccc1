/*
 * How real nodes become one cluster, and who never becomes part of it: any order, a late one, a kill at any step, a
 * disk that was lost and a disk of somebody else.
 */

import assert from 'node:assert/strict'
import { renameSync, rmSync } from 'node:fs'
import { after, before, describe, type TestContext, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type ClusterOptions, type NodeProcess, showingLogs } from './cluster.ts'
import { textOf } from './resp-client.ts'

/** A test with a cluster of its own, whose nodes were not started yet. */
function withCluster(
  options: ClusterOptions,
  body: (cluster: Cluster) => Promise<void>,
): (context: TestContext) => Promise<void> {
  return async (context) => {
    const cluster = await Cluster.prepare(options)
    context.after(() => cluster.end())
    await showingLogs(
      () => cluster,
      () => body(cluster),
    )(context)
  }
}

/** All nodes are ready, name one cluster and each other, and take writes. */
async function assertOneCluster(cluster: Cluster): Promise<void> {
  await cluster.ready()
  const states = await Promise.all(cluster.nodes.map((node) => node.status()))
  const ids = new Set(states.map((status) => status?.clusterId))
  assert.equal(ids.size, 1, `clusters ${[...ids].join()}`)
  assert.match([...ids][0] ?? '', /^[0-9a-f]{40}$/)
  for (const [at, node] of cluster.nodes.entries()) {
    const members = await node.ask('RAFT', 'MEMBERS')
    assert.ok(Array.isArray(members) && members.length === cluster.nodes.length)
    assert.equal(await node.ask('SET', `bootstrap:${at}`, String(at)), 'OK')
  }
  for (const [at] of cluster.nodes.entries()) {
    for (const node of cluster.nodes) {
      assert.equal(textOf(await node.ask('GET', `bootstrap:${at}`)), String(at))
    }
  }
}

describe('bootstrap', () => {
  test(
    'started in any order, one of them late: nothing is served before, one cluster after',
    withCluster({ nodes: 3, flags: ['--park-timeout-ms', '200'] }, async (cluster) => {
      const [founder, second, third] = [cluster.node(0), cluster.node(1), cluster.node(2)]
      third.start()
      await third.prints('waiting for the node at')
      founder.start()
      await founder.prints('to found the cluster')
      const [down, ready] = [await third.ask('SET', 'a', '1'), await founder.ask('RAFT', 'READY')]
      assert.match(textOf(down), /^-CLUSTERDOWN /)
      assert.match(textOf(ready), /^-NOTREADY this node does not belong to a cluster yet/)
      for (const node of [founder, third]) assert.equal((await node.status())?.clusterId, '')
      second.start()
      await assertOneCluster(cluster)
    }),
  )

  const kills: readonly (readonly [name: string, at: number, after: string])[] = [
    ['the founder as soon as it has founded', 0, 'founded a new cluster'],
    ['another node as soon as it is named', 1, 'joining the cluster'],
    ['the last node as soon as it listens', 2, 'listening'],
  ]
  for (const [name, at, line] of kills) {
    test(
      `killed during it: ${name}`,
      withCluster({ nodes: 3 }, async (cluster) => {
        for (const node of cluster.nodes) node.start()
        const killed = cluster.node(at)
        await killed.prints(line)
        await killed.kill()
        killed.start()
        await assertOneCluster(cluster)
      }),
    )
  }

  test(
    'five nodes, all killed during it and started again; two may be missing afterwards',
    withCluster({ nodes: 5 }, async (cluster) => {
      for (const node of cluster.nodes) node.start()
      await cluster.node(0).prints('founded a new cluster')
      cluster.kill()
      await Promise.all(cluster.nodes.map((node) => node.end()))
      for (const node of cluster.nodes) node.start()
      await assertOneCluster(cluster)
      await (await cluster.leader()).kill()
      await (await cluster.leader()).kill()
      const leader = await cluster.leader()
      assert.equal(await leader.ask('INCR', 'three-left'), 1)
      const others = cluster.running.filter((node) => node !== leader)
      assert.equal(others.length, 2)
      for (const node of others) assert.equal(textOf(await node.ask('GET', 'three-left')), '1')
    }),
  )

  test(
    'one node alone, killed and started again',
    withCluster({ nodes: 1 }, async (cluster) => {
      const node = cluster.node(0)
      for (let round = 1; round <= 3; round++) {
        node.start()
        await node.ready()
        assert.equal(await node.ask('INCR', 'rounds'), round)
        await node.kill()
      }
    }),
  )
})

/**
 * `intruder` runs in the place of a member, but is none: with only one true member left beside it, nothing is
 * decided, whatever it is asked; with two of them the cluster goes on without it.
 */
async function assertNoVote(cluster: Cluster, intruder: NodeProcess): Promise<void> {
  const members = cluster.nodes.filter((node) => node !== intruder)
  for (const node of members) assert.equal(await node.ask('SET', 'before', 'x'), 'OK')
  const killed = await cluster.leader()
  assert.ok(members.includes(killed))
  await killed.kill()
  const [left] = members.filter((node) => node !== killed)
  const term = (await left?.status())?.term
  await until('the last member knows no leader', async () => {
    return (await left?.status())?.leaderId === undefined
  })
  // Parked for longer than an election takes, and still nobody to decide it.
  assert.match(textOf((await left?.ask('SET', 'alone', 'x')) ?? null), /^-CLUSTERDOWN /)
  assert.equal((await left?.status())?.term, term)
  assert.match(textOf(await intruder.ask('SET', 'alone', 'x')), /^-CLUSTERDOWN /)
  killed.start()
  await until('two members decide', async () => {
    return (await left?.ask('SET', 'after', 'x').catch(() => undefined)) === 'OK'
  })
  assert.equal(await left?.ask('GET', 'alone'), null)
}

describe('strangers', () => {
  let cluster: Cluster
  /** The place in which the strangers are started; its true disk is gone for good. */
  let place: NodeProcess

  before(async () => {
    cluster = await Cluster.start({ nodes: 3, flags: ['--park-timeout-ms', '600'] })
    place = await cluster.follower()
    await place.kill()
    rmSync(place.dir, { recursive: true })
  })
  after(async () => {
    await cluster?.end()
  })

  const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

  test(
    'a node that lost its disk is refused, says why, and never votes',
    logs(async () => {
      place.start()
      await place.prints('a node that lost its disk must not vote again')
      await assertNoVote(cluster, place)
      const status = await place.status()
      assert.deepEqual([status?.clusterId, status?.role], ['', 'follower'])
    }),
  )

  test(
    'a data directory of another cluster is refused, and each side says so',
    logs(async () => {
      const other = await Cluster.start({ nodes: 3 })
      try {
        const foreign = other.node(1)
        await foreign.stop()
        await place.kill()
        rmSync(place.dir, { recursive: true })
        renameSync(foreign.dir, place.dir)
      } finally {
        await other.end()
      }
      place.start()
      await place.prints('this node of cluster')
      for (const node of cluster.running) await node.prints('is of cluster')
      await assertNoVote(cluster, place)
    }),
  )
})
