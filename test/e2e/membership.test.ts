/* Real processes that join, take over and leave while a client goes on, and a removed node that says so. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, successful } from './cluster.ts'
import { growAndShrink, voters } from './growth.ts'
import { ReplyError, textOf } from './resp-client.ts'

test('1 -> 3 -> 5 -> 3 members under load, the leader among those that go: nothing is lost, nothing fails', async () => {
  const growth = await growAndShrink(async (first) => {
    successful(await first.ask('SET', 'from the start', 'there'))
  })
  assert.deepEqual(growth.errors, [])
  assert.equal(growth.unknown, 0)
  assert.equal(growth.verdicts.length, 6)
  for (const verdict of growth.verdicts) {
    assert.deepEqual(verdict, { lost: [], happened: [], counter: [] })
  }
})

test('a removed node says so, and the leader that goes hands over first', async () => {
  const clusters = await Promise.all([1, 2].map(() => Cluster.prepare({ nodes: 1 })))
  const [first, second] = clusters.map((cluster) => cluster.node(0))
  assert.ok(first && second)
  try {
    first.start()
    await first.ready()
    second.start({ flags: ['--join', `${first.host}:${first.peerPort}`] })
    await second.ready()
    await until('two voters', async () => (await voters(first)) === 2)
    const { nodeId, role } = (await first.status()) ?? assert.fail('no status')
    assert.equal(role, 'leader')
    successful(await second.ask('RAFT', 'REMOVE', nodeId))
    await until('one voter', async () => (await voters(second)) === 1)
    await first.prints('this node was removed from its cluster')
    const refused = await first.ask('GET', 'a').catch((error: unknown) => error)
    assert.match(refused instanceof ReplyError ? refused.message : '', /CLUSTERDOWN.*removed/)
    successful(await second.ask('SET', 'a', 'b'))
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

test('a node that comes back at other addresses is the member that it was, announced anew', async () => {
  const clusters = await Promise.all([1, 2, 3].map(() => Cluster.prepare({ nodes: 1 })))
  const [first, second, mover] = clusters.map((cluster) => cluster.node(0))
  assert.ok(first && second && mover)
  try {
    first.start()
    await first.ready()
    for (const node of [second, mover]) {
      node.start({ flags: ['--join', `${first.host}:${first.peerPort}`] })
      await node.ready()
    }
    await until('three voters', async () => (await voters(first)) === 3)
    const { nodeId } = (await mover.status()) ?? assert.fail('no status')
    await mover.stop()
    successful(await first.ask('SET', 'meanwhile', 'written'))

    // Of the ports that are kept free for its fixture, one that it does not use.
    const peerPort = mover.peerPort + 1
    const announce = 'cache-3.example.test:7003'
    mover.start({ flags: ['--peer-port', `${peerPort}`, '--announce', announce] })
    await mover.ready()
    for (const node of [first, second, mover]) {
      await until(`${node.port} knows the new addresses`, async () => {
        const members = await node.members()
        const moved = members.find((member) => member.get('id') === nodeId)
        return (
          members.length === 3 &&
          moved?.get('peer_address') === `${mover.host}:${peerPort}` &&
          moved.get('client_address') === announce
        )
      })
      assert.equal(await voters(node), 3)
    }
    assert.equal((await mover.status())?.nodeId, nodeId)
    assert.equal(textOf(await mover.ask('GET', 'meanwhile')), 'written')

    // Who starts now finds it where it is, and needs it for a majority.
    await first.kill()
    await second.stop()
    second.start()
    await second.ready()
    successful(await second.ask('SET', 'afterwards', 'written'))
    assert.equal(textOf(await mover.ask('GET', 'afterwards')), 'written')
  } catch (error) {
    for (const cluster of clusters) process.stderr.write(`${cluster.logs()}\n`)
    throw error
  } finally {
    await Promise.all(clusters.map((cluster) => cluster.end()))
  }
})
