/* Real processes that join, take over and leave while a client goes on, and a removed node that says so. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, successful } from './cluster.ts'
import { ReplyError, RespClient, textOf } from './resp-client.ts'

/** How many of the members that `node` knows are voters. */
async function voters(node: NodeProcess): Promise<number> {
  const members = await node.ask('RAFT', 'MEMBERS')
  assert.ok(Array.isArray(members))
  const isVoter = (member: unknown): boolean =>
    Array.isArray(member) &&
    member.some((field) => Buffer.isBuffer(field) && `${field}` === 'voter')
  return members.filter(isVoter).length
}

test('1 -> 3 -> 2 members under load: nothing fails, and a removed node says so', async () => {
  const clusters = await Promise.all([1, 2, 3].map(() => Cluster.prepare({ nodes: 1 })))
  const [first, second, third] = clusters.map((cluster) => cluster.node(0))
  assert.ok(first && second && third)
  try {
    first.start()
    await first.ready()
    const client = await RespClient.connect(first.port)
    let isOver = false
    let count = 0
    const load = (async () => {
      while (!isOver) assert.equal(await client.call('INCR', 'grown'), ++count)
    })()
    for (const node of [second, third]) {
      node.start({ flags: ['--join', `${first.host}:${first.peerPort}`] })
      await node.ready()
    }
    await until('three voters', async () => (await voters(first)) === 3)
    const { nodeId } = (await first.status()) ?? assert.fail('no status')
    successful(await second.ask('RAFT', 'TRANSFER'))
    assert.notEqual((await first.status())?.role, 'leader')
    const went = count
    await until('commands after the hand-over', () => count >= went + 100)
    isOver = true
    await load
    client.close()
    successful(await second.ask('RAFT', 'REMOVE', nodeId))
    await until('two voters', async () => (await voters(second)) === 2)
    await first.prints('this node was removed from its cluster')
    const refused = await first.ask('GET', 'grown').catch((error: unknown) => error)
    assert.match(refused instanceof ReplyError ? refused.message : '', /CLUSTERDOWN.*removed/)
    for (const node of [second, third]) {
      assert.equal(textOf(await node.ask('GET', 'grown')), `${count}`)
    }
  } catch (error) {
    for (const cluster of clusters) process.stderr.write(`${cluster.logs()}\n`)
    throw error
  } finally {
    await Promise.all(clusters.map((cluster) => cluster.end()))
  }
})

test('a node of another cluster is not added, and stays what it is', async () => {
  const clusters = await Promise.all([1, 2].map(() => Cluster.start({ nodes: 1 })))
  const [first, foreign] = clusters.map((cluster) => cluster.node(0))
  assert.ok(first && foreign)
  try {
    const id = (await foreign.status())?.clusterId
    const address = `${foreign.host}:${foreign.peerPort}`
    const refusal = await first.ask('RAFT', 'ADD', address).catch((error: unknown) => error)
    assert.ok(refusal instanceof ReplyError)
    assert.match(refusal.message, /belongs to cluster .*: only a new, empty node can be added/)
    assert.equal(await voters(first), 1)
    assert.equal(await foreign.ask('INCR', 'own'), 1)
    assert.equal((await foreign.status())?.clusterId, id)
  } finally {
    await Promise.all(clusters.map((cluster) => cluster.end()))
  }
})
