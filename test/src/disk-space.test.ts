/*
 * A disk that fills, under whole replicas: writes are refused before they are anywhere, reads go on, leadership goes
 * to a node with more room, and all of it passes by itself. At the floors, and one byte below them.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Replicas, type SimNode } from '../sim/replicas.ts'
import type { SimReply } from '../sim/resp-connection.ts'

const CONFIG = ['--disk-free-min', '8mb', '--disk-free-leader-min', '4mb']
const MB = 1024 * 1024
/** At which a floor is left again: an eighth above it. */
const CLEAR = 9 * MB
/** Longer than the disk goes unlooked at. */
const LOOKED_MS = 300

async function ask(cluster: Replicas, node: SimNode, ...words: string[]): Promise<string> {
  const connection = cluster.connect(node)
  const [exchange] = connection.send(words)
  await cluster.time.until(() => exchange?.reply !== undefined, 10_000, words.join(' '))
  connection.destroy()
  return textOf(exchange?.reply ?? null)
}

function textOf(reply: SimReply): string {
  return String(reply)
}

async function started(seed: number): Promise<Replicas> {
  const cluster = new Replicas({ seed, config: CONFIG })
  await cluster.start()
  return cluster
}

async function leaves(cluster: Replicas, node: SimNode, freeBytes: number): Promise<void> {
  node.freeBytes = freeBytes
  await cluster.time.runFor(LOOKED_MS)
}

test('below the floor of a leader writes are refused, through every node; reads go on', async () => {
  const cluster = await started(1)
  const { leader, followers } = cluster
  const [follower] = followers
  assert.ok(follower !== undefined)
  assert.equal(await ask(cluster, leader, 'SET', 'k', '1'), 'OK')
  await leaves(cluster, leader, 8 * MB)
  assert.equal(await ask(cluster, leader, 'INCR', 'k'), '2', 'at the floor')
  await leaves(cluster, leader, 8 * MB - 1)
  const last = leader.replica.status()?.last
  for (const node of [leader, follower]) {
    assert.match(await ask(cluster, node, 'INCR', 'k'), /^-OOM command not allowed: /)
    assert.match(await ask(cluster, node, 'DEL', 'k'), /^-OOM /)
    assert.equal(await ask(cluster, node, 'GET', 'k'), '2')
    assert.equal(await ask(cluster, node, 'PING'), 'PONG')
  }
  assert.equal(leader.replica.status()?.last, last, 'nothing was appended')
  await leaves(cluster, leader, CLEAR - 1)
  assert.match(await ask(cluster, leader, 'INCR', 'k'), /^-OOM /, 'not for a byte more')
  await leaves(cluster, leader, CLEAR)
  assert.equal(await ask(cluster, follower, 'INCR', 'k'), '3')
  assert.equal(cluster.leader, leader, 'leadership was not touched')
})

test("a follower's full disk refuses nothing", async () => {
  const cluster = await started(2)
  const [follower] = cluster.followers
  assert.ok(follower !== undefined)
  await leaves(cluster, follower, 0)
  assert.equal(await ask(cluster, follower, 'SET', 'k', 'v'), 'OK')
})

test('below the lower floor the leader hands over, and the next one takes writes', async () => {
  const cluster = await started(3)
  const { leader } = cluster
  await leaves(cluster, leader, 4 * MB)
  assert.equal(cluster.leader, leader, 'at the floor')
  leader.freeBytes = 4 * MB - 1
  const leads = (): boolean => leader.replica.status()?.role === 'leader'
  await cluster.time.until(() => !leads(), 5000, 'its end as a leader')
  await cluster.settled()
  assert.notEqual(cluster.leader, leader)
  assert.equal(await ask(cluster, leader, 'SET', 'k', 'v'), 'OK')
  assert.ok(cluster.warnings.some((line) => line.includes('nearly full: handing over')))
})

test('where every disk is nearly full, leadership does not go round in a hurry', async () => {
  const cluster = await started(4)
  const { term } = cluster.leader.replica
  for (const node of cluster.nodes) node.freeBytes = 0
  await cluster.time.runFor(9000)
  assert.ok(
    cluster.leader.replica.term <= term + 3,
    `term ${term} to ${cluster.leader.replica.term}`,
  )
  assert.match(await ask(cluster, cluster.leader, 'SET', 'k', 'v'), /^-OOM /)
  assert.equal(await ask(cluster, cluster.leader, 'GET', 'k'), 'null')
  for (const node of cluster.nodes) node.freeBytes = CLEAR
  await cluster.time.runFor(LOOKED_MS)
  await cluster.settled()
  assert.equal(await ask(cluster, cluster.leader, 'SET', 'k', 'v'), 'OK')
})

test('a transaction is refused as a whole, and the keys that fall due go all the same', async () => {
  const cluster = await started(5)
  const { leader } = cluster
  await ask(cluster, leader, 'SET', 'short', 'v', 'PX', '2000')
  await leaves(cluster, leader, 5 * MB)
  const connection = cluster.connect(leader)
  const exchanges = ['MULTI', 'SET k v', 'GET k', 'EXEC', 'GET k'].flatMap((line) =>
    connection.send(line.split(' ')),
  )
  await cluster.time.until(() => connection.unanswered === 0, 10_000, 'the transaction')
  const replies = exchanges.map(({ reply }) => textOf(reply ?? null))
  assert.match(replies[3] ?? '', /^-OOM /)
  assert.equal(replies[4], 'null')
  connection.destroy()
  await cluster.time.runFor(3000)
  assert.equal(await ask(cluster, leader, 'DBSIZE'), '0')
})
