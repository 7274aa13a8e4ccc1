/*
 * Whole replicas with clients in virtual time: what a node does in each situation of the contract, from the outside.
 * Random mixtures of all of this are in router-pipelines.test.ts and router-faults.test.ts.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Replicas, type ReplicasOptions, type SimNode } from '../sim/replicas.ts'
import type { Exchange, SimReply } from '../sim/resp-connection.ts'

async function started(options: Partial<ReplicasOptions> = {}): Promise<Replicas> {
  const cluster = new Replicas({ seed: 1, ...options })
  await cluster.start()
  return cluster
}

/** The replies of one pipeline on a connection of its own, once all are there. */
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

/** One command, sent now; its reply is there when `done` says so. */
function send(cluster: Replicas, node: SimNode, ...words: readonly string[]): Exchange {
  const [exchange] = cluster.connect(node).send(words)
  assert.ok(exchange)
  return exchange
}

function delay({ sentAt, repliedAt }: Exchange): number {
  return repliedAt - sentAt
}

describe('a cluster', () => {
  for (const size of [1, 3, 5]) {
    test(`of ${size}: each node answers for all`, async () => {
      const cluster = await started({ size })
      for (const [i, node] of cluster.nodes.entries()) {
        const replies = await ask(cluster, node, ['INCR', 'n'], ['GET', 'n'], ['SET', 'k', 'v'])
        assert.deepEqual(replies, [i + 1, String(i + 1), 'OK'])
      }
      assert.deepEqual(cluster.warnings, [])
    })
  }

  test('killed as a whole, it goes on with all it acknowledged', async () => {
    const cluster = await started()
    const [node] = cluster.nodes
    assert.ok(node)
    await ask(cluster, node, ...Array.from({ length: 300 }, (_, i) => ['SET', `k${i}`, `${i}`]))
    for (const one of cluster.nodes) one.crash()
    await cluster.started(cluster.nodes)
    await cluster.settled()
    for (const one of cluster.nodes) {
      const replies = await ask(cluster, one, ['DBSIZE'], ['MGET', 'k0', 'k299', 'k300'])
      assert.deepEqual(replies, [300, ['0', '299', null]])
    }
  })

  test('a follower that missed much catches up, also across checkpoints of the others', async () => {
    const cluster = await started({ config: ['--memtable-size', '1mb'] })
    const [behind] = cluster.followers
    assert.ok(behind)
    behind.crash()
    const value = 'x'.repeat(20_000)
    for (let round = 0; round < 6; round++) {
      const writes = Array.from({ length: 30 }, (_, i) => ['SET', `k${round}:${i}`, value])
      await ask(cluster, cluster.leader, ...writes)
    }
    await cluster.started([behind])
    await cluster.settled()
    const replies = await ask(cluster, behind, ['DBSIZE'], ['STRLEN', 'k5:29'])
    assert.deepEqual(replies, [180, 20_000])
  })

  test('a disk that falls behind makes writers wait, for as long as it takes, and memory is bounded', async () => {
    const cluster = await started({
      size: 1,
      config: ['--memtable-size', '1mb'],
      checkpointMs: 3000,
    })
    const [node] = cluster.nodes
    assert.ok(node)
    const value = 'x'.repeat(50_000)
    const connection = cluster.connect(node)
    const writes = Array.from({ length: 120 }, (_, i) => ['SET', `k${i}`, value])
    for (let i = 0; i < writes.length; i += 10) connection.send(...writes.slice(i, i + 10))
    const startedAt = cluster.time.now
    let most = 0
    await cluster.time.until(
      () => {
        const { memtableBytes, frozenBytes } = node.state.metrics()
        most = Math.max(most, memtableBytes, frozenBytes)
        return connection.unanswered === 0
      },
      60_000,
      'all answers',
    )
    // The bound, the entry with which it was reached, and one more, in the turn in which the last checkpoint ends.
    assert.ok(most > 1_048_576 && most < 3 * 1_048_576 + 100_000, `${most} bytes`)
    assert.ok(cluster.time.now - startedAt > 6000, 'checkpoints were waited for')
    const replies = new Set(connection.exchanges.map(({ reply }) => reply))
    assert.deepEqual([...replies], ['OK'])
  })

  test('at rest, no node asks for turn after turn, nor where commands wait for a leader', async () => {
    const cluster = await started()
    const turns = async (): Promise<readonly number[]> => {
      const before = cluster.nodes.map((node) => node.turns)
      await cluster.time.runFor(1000)
      return cluster.nodes.map((node, i) => node.turns - (before[i] ?? 0))
    }
    // A tick each 10 ms is two of them; messages and answered disks are the rest.
    for (const count of await turns()) assert.ok(count < 500, `${count} turns in a second`)
    const { leader } = cluster
    cluster.isolate(leader)
    for (const node of cluster.nodes) {
      const connection = cluster.connect(node)
      connection.send(['GET', 'k'], ['SET', 'k', '1'], ['GET', 'k'])
    }
    for (const count of await turns()) assert.ok(count < 700, `${count} turns in a second`)
  })
})

describe('redirection', () => {
  test('a follower names slot and leader of keyed commands, and runs the others', async () => {
    const cluster = await started({ config: ['--redirect', 'moved'] })
    const [follower] = cluster.followers
    assert.ok(follower)
    const commands = [['SET', 'foo', '1'], ['GET', '{foo}x'], ['DBSIZE'], ['FLUSHALL'], ['PING']]
    const replies = await ask(cluster, follower, ...commands)
    // The slot that every cluster client computes for foo.
    const moved = `-MOVED 12182 ${cluster.leader.name}:6379`
    assert.deepEqual(replies, [moved, moved, 0, 'OK', 'PONG'])
    assert.deepEqual(await ask(cluster, cluster.leader, ['SET', 'foo', '1']), ['OK'])
  })
})

describe('a node that is cut off', () => {
  test('keeps commands for the park timeout, then says that they were not executed', async () => {
    const cluster = await started({ config: ['--park-timeout-ms', '1500'] })
    const [follower] = cluster.followers
    assert.ok(follower)
    cluster.isolate(follower)
    await cluster.time.until(() => follower.replica.status()?.leader === undefined)
    const commands = [send(cluster, follower, 'SET', 'k', '1'), send(cluster, follower, 'GET', 'k')]
    await cluster.time.until(() => commands.every(({ reply }) => reply !== undefined))
    for (const command of commands) {
      assert.match(String(command.reply), /^-CLUSTERDOWN no leader/)
      assert.ok(delay(command) >= 1500 && delay(command) < 1550, `${delay(command)} ms`)
    }
    cluster.heal()
    await cluster.settled()
    assert.deepEqual(await ask(cluster, follower, ['GET', 'k']), [null])
  })

  test('answers what waited when a leader is found in time', async () => {
    const cluster = await started()
    const [follower] = cluster.followers
    assert.ok(follower)
    cluster.isolate(follower)
    await cluster.time.until(() => follower.replica.status()?.leader === undefined)
    const write = send(cluster, follower, 'SET', 'k', '1')
    await cluster.time.runFor(500)
    cluster.heal()
    await cluster.time.until(() => write.reply !== undefined)
    assert.equal(write.reply, 'OK')
  })

  test('serves stale reads where that is wanted', async () => {
    const cluster = await started({ config: ['--read-consistency', 'stale'] })
    const [follower] = cluster.followers
    assert.ok(follower)
    // Behind a write of its own, a read waits until that is applied here.
    assert.deepEqual(await ask(cluster, follower, ['SET', 'k', '1'], ['GET', 'k']), ['OK', '1'])
    assert.deepEqual(await ask(cluster, cluster.leader, ['GET', 'k']), ['1'])
    await cluster.time.runFor(100)
    cluster.isolate(follower)
    await ask(cluster, cluster.leader, ['SET', 'k', '2'])
    await cluster.time.until(() => follower.replica.status()?.leader === undefined)
    const read = send(cluster, follower, 'GET', 'k')
    await cluster.time.until(() => read.reply !== undefined)
    assert.equal(read.reply, '1')
    assert.ok(delay(read) < 20)
  })

  test('one way only, so that it hears a leader that does not hear it, still answers in time', async () => {
    const cluster = await started()
    const { leader } = cluster
    const [follower] = cluster.followers
    assert.ok(follower)
    cluster.network.block(follower.name, leader.name)
    const read = send(cluster, follower, 'GET', 'k')
    const write = send(cluster, follower, 'SET', 'k', '1')
    await cluster.time.until(() => read.reply !== undefined && write.reply !== undefined, 12_000)
    assert.ok(read.reply === null || String(read.reply).startsWith('-CLUSTERDOWN'))
  })

  test('as a leader: what it appended is of unknown outcome, or proven not to have happened', async () => {
    const cluster = await started()
    const old = cluster.leader
    cluster.isolate(old)
    const lost = send(cluster, old, 'SET', 'k', 'old')
    const read = send(cluster, old, 'GET', 'k')
    await cluster.time.until(() => old.replica.status()?.role !== 'leader')
    const overwritten = send(cluster, old, 'SET', 'late', '1')
    await cluster.time.until(() => lost.reply !== undefined && overwritten.reply !== undefined)
    assert.match(String(lost.reply), /^-TIMEOUT outcome unknown/)
    assert.match(String(overwritten.reply), /^-CLUSTERDOWN/)
    assert.match(String(read.reply), /^-CLUSTERDOWN/)
    cluster.heal()
    await cluster.settled()
    assert.deepEqual(await ask(cluster, old, ['MGET', 'k', 'late']), [[null, null]])
  })

  test('as a leader that hears of its successor in time: what was overwritten happens after all', async () => {
    const cluster = await started({ config: ['--park-timeout-ms', '10000'] })
    const old = cluster.leader
    cluster.isolate(old)
    const pipeline = cluster.connect(old).send(['APPEND', 'k', 'a'], ['GET', 'k'], ['INCR', 'n'])
    await cluster.time.until(() => cluster.leader !== old)
    await ask(cluster, cluster.leader, ['SET', 'k', 'new'])
    cluster.heal()
    await cluster.time.until(() => pipeline.every(({ reply }) => reply !== undefined))
    const replies = pipeline.map(({ reply }) => reply)
    assert.deepEqual(replies, [4, 'newa', 1])
    assert.deepEqual(await ask(cluster, old, ['MGET', 'k', 'n']), [['newa', '1']])
  })
})

describe('clients of a follower', () => {
  /** Clients that raise a counter, each as soon as it was answered, until `over`; the replies of all of them. */
  function raise(cluster: Replicas, node: SimNode, over: () => boolean): readonly Exchange[] {
    const exchanges: Exchange[] = []
    for (let i = 0; i < 8; i++) {
      const connection = cluster.connect(node)
      const next = (): void => {
        if (over() || connection.unanswered > 0) return
        exchanges.push(...connection.send(['INCR', 'n'], ['GET', 'n'], ['INCR', 'n']))
      }
      const look = (): void => {
        next()
        if (!over()) cluster.time.after(1, look)
      }
      look()
    }
    return exchanges
  }

  async function exact(cluster: Replicas, exchanges: readonly Exchange[]): Promise<void> {
    const [count, between] = [
      exchanges.filter(({ words }) => words[0] === 'INCR'),
      exchanges.length,
    ]
    const replies = count.map(({ reply }) => Number(reply)).sort((a, b) => a - b)
    assert.deepEqual(
      replies,
      replies.map((_, i) => i + 1),
    )
    assert.ok(between > 300, `${between} commands`)
    // Each read stands between its two neighbours.
    for (let i = 0; i < exchanges.length; i += 3) {
      const [first, read, last] = exchanges.slice(i, i + 3).map(({ reply }) => Number(reply))
      assert.ok(first !== undefined && read !== undefined && last !== undefined)
      assert.ok(first <= read && read < last, `${first}, ${read}, ${last}`)
    }
    const [follower] = cluster.followers
    assert.ok(follower)
    assert.deepEqual(await ask(cluster, follower, ['GET', 'n']), [String(replies.length)])
  }

  test('notice no more of the death of a leader than that it takes a moment', async () => {
    const cluster = await started({ diskMs: { min: 0.5, max: 6 } })
    const [, follower] = cluster.followers
    assert.ok(follower)
    let over = false
    const exchanges = raise(cluster, follower, () => over)
    for (let kill = 0; kill < 4; kill++) {
      await cluster.time.runFor(300)
      const { leader } = cluster
      if (leader === follower) {
        // The one that clients are connected to must not die: it loses its office instead.
        cluster.isolate(leader)
        await cluster.time.until(() => leader.replica.status()?.role !== 'leader')
        cluster.heal()
      } else {
        leader.crash()
        await cluster.time.runFor(300)
        await leader.start()
      }
      await cluster.settled()
    }
    over = true
    await cluster.time.until(() => exchanges.every(({ reply }) => reply !== undefined))
    await exact(cluster, exchanges)
  })

  test('nor of links between the nodes that break, again and again', async () => {
    const cluster = await started({ diskMs: { min: 0.5, max: 6 } })
    const [follower] = cluster.followers
    assert.ok(follower)
    let over = false
    const exchanges = raise(cluster, follower, () => over)
    for (let i = 0; i < 30; i++) {
      await cluster.time.runFor(30 + cluster.random() * 40)
      cluster.resetLinks(0.3)
    }
    over = true
    await cluster.time.until(() => exchanges.every(({ reply }) => reply !== undefined))
    await exact(cluster, exchanges)
  })
})

describe('readiness', () => {
  test('is a linearizable read, or the reason why there is none', async () => {
    const cluster = await started()
    const [follower] = cluster.followers
    assert.ok(follower)
    assert.deepEqual(await ask(cluster, follower, ['RAFT', 'READY']), ['OK'])
    cluster.isolate(follower)
    await cluster.time.until(() => follower.replica.status()?.leader === undefined)
    const [reply] = await ask(cluster, follower, ['RAFT', 'READY'])
    assert.match(String(reply), /^-.*no leader is known/)
  })

  test('asked while the node stops, it is answered and disturbs nothing', async () => {
    const cluster = await started()
    const [follower] = cluster.followers
    assert.ok(follower)
    cluster.isolate(follower)
    await cluster.time.until(() => follower.replica.status()?.leader === undefined)
    let answer: string | undefined
    const ready = follower.replica.ready(1000).then((text) => {
      answer = text
    })
    // Between two attempts, so that the next one meets a node that has stopped.
    await cluster.time.runFor(110)
    const stopped = follower.replica.stop()
    await cluster.time.runFor(2000)
    await Promise.all([ready, stopped])
    assert.ok(answer !== undefined)
  })
})
