/*
 * Members that come and go, on whole replicas with clients in virtual time: what an operator asks, from whichever node,
 * and what becomes of nodes that are added, removed, moved or strangers.
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

async function ask(
  cluster: Replicas,
  node: SimNode,
  ...words: readonly string[]
): Promise<SimReply> {
  const exchange = begin(cluster, node, ...words)
  await cluster.time.until(() => exchange.reply !== undefined, 20_000, `${words} of ${node.name}`)
  return exchange.reply ?? 'none'
}

function begin(cluster: Replicas, node: SimNode, ...words: readonly string[]): Exchange {
  const [exchange] = cluster.connect(node).send(words)
  assert.ok(exchange)
  return exchange
}

/** `voter learner ...` by the order of the nodes, as `node` sees it; `-` for one that is no member. */
function roles(cluster: Replicas, node: SimNode): string {
  const { members } = node.replica
  return cluster.nodes
    .map(({ peerAddress }) => members.all.find((one) => one.peerAddress === peerAddress)?.role)
    .map((role) => role ?? '-')
    .join(' ')
}

async function untilRoles(cluster: Replicas, wanted: string): Promise<void> {
  const all = (): boolean => {
    const inside = cluster.running.filter(({ replica }) => !replica.members.isRemoved)
    return inside.every((node) => roles(cluster, node) === wanted)
  }
  await cluster.time.until(all, 10_000, wanted)
}

/** INCR through every node, one after the other, each connection without a pause; counts what was answered and how. */
class Counters {
  readonly failures: string[] = []
  acknowledged = 0
  longestMs = 0
  #stopped = false
  #open = 0

  constructor(cluster: Replicas, nodes: readonly SimNode[]) {
    for (const node of nodes) this.#next(cluster, node)
  }

  #next(cluster: Replicas, node: SimNode): void {
    if (this.#stopped) return
    const sentAt = cluster.time.now
    const exchange = begin(cluster, node, 'INCR', 'n')
    this.#open++
    const look = (): void => {
      if (exchange.reply === undefined) {
        cluster.time.after(1, look)
        return
      }
      this.#open--
      this.longestMs = Math.max(this.longestMs, cluster.time.now - sentAt)
      if (typeof exchange.reply === 'number') this.acknowledged++
      else this.failures.push(String(exchange.reply))
      this.#next(cluster, node)
    }
    cluster.time.after(1, look)
  }

  async stop(cluster: Replicas): Promise<void> {
    this.#stopped = true
    await cluster.time.until(() => this.#open === 0, 20_000, 'the last answers')
  }
}

describe('a node that joins', () => {
  test('through any member becomes a learner, catches up, and is promoted by itself', async () => {
    const cluster = await started()
    const [follower] = cluster.followers
    assert.ok(follower)
    for (let i = 0; i < 200; i++) await ask(cluster, follower, 'SET', `k${i}`, 'v')
    const node = await cluster.join(follower)
    await untilRoles(cluster, 'voter voter voter voter')
    assert.equal(await ask(cluster, node, 'DBSIZE'), 200)
    // It counts: with two of the old ones gone there is no majority, with one there is.
    cluster.leader.crash()
    await cluster.settled()
    assert.equal(await ask(cluster, node, 'INCR', 'n'), 1)
    assert.deepEqual(node.warnings, [])
  })

  test('is bound by an entry that nobody keeps, and asks until it is added all the same (redisraft#187)', async () => {
    const cluster = await started()
    const { leader } = cluster
    const [one, two] = cluster.followers
    assert.ok(one && two)
    // The leader reaches the newcomer and no other member: what it appends is never committed.
    cluster.isolate(leader)
    const node = cluster.machine(['--join', `${leader.peerAddress},${one.peerAddress}`])
    await cluster.started([node])
    await cluster.time.until(() => node.replica.clusterId !== undefined, 2_000, 'bound')
    leader.crash()
    cluster.heal()
    await cluster.time.until(
      () => cluster.running.some((n) => n !== leader && n.replica.status()?.role === 'leader'),
      5_000,
    )
    await cluster.started([leader])
    await untilRoles(cluster, 'voter voter voter voter')
    assert.equal(await ask(cluster, node, 'RAFT', 'READY'), 'OK')
  })

  test('again, after a restart on its way, goes on where it was', async () => {
    const cluster = await started({ size: 1 })
    const [first] = cluster.nodes
    assert.ok(first)
    const node = await cluster.join(first)
    await cluster.time.until(() => roles(cluster, first) === 'voter joining', 2_000)
    node.crash()
    await cluster.time.runFor(300)
    assert.equal(await ask(cluster, first, 'SET', 'k', '1'), 'OK', 'a learner holds nobody up')
    await cluster.started([node])
    await untilRoles(cluster, 'voter voter')
    assert.equal(await ask(cluster, node, 'GET', 'k'), '1')
  })

  test('by command: the node at an address, as a learner if that is wanted', async () => {
    const cluster = await started()
    const [follower] = cluster.followers
    assert.ok(follower)
    // It asks a node that does not exist, and so waits until somebody adds it.
    const node = cluster.machine(['--join', '127.0.0.99:1'])
    await cluster.started([node])
    const added = String(await ask(cluster, follower, 'RAFT', 'ADD', node.peerAddress, 'LEARNER'))
    assert.match(added, /^[0-9a-f]{40}$/)
    await untilRoles(cluster, 'voter voter voter learner')
    await cluster.time.runFor(2_000)
    await untilRoles(cluster, 'voter voter voter learner')
    assert.equal(node.id, added)
    assert.equal(await ask(cluster, node, 'RAFT', 'PROMOTE', added), 'OK')
    await untilRoles(cluster, 'voter voter voter voter')
    assert.equal(await ask(cluster, node, 'RAFT', 'DEMOTE', added), 'OK')
    await untilRoles(cluster, 'voter voter voter learner')
    assert.equal(
      await ask(cluster, node, 'RAFT', 'ADD', node.peerAddress),
      added,
      'it is one already',
    )
  })
})

describe('a node that is refused', () => {
  test('is of another cluster, or not there at all', async () => {
    const cluster = await started()
    const { leader } = cluster
    const alone = cluster.machine([])
    await cluster.started([alone])
    await cluster.time.until(() => alone.replica.status()?.established === true, 5_000)
    assert.match(
      String(await ask(cluster, leader, 'RAFT', 'ADD', alone.peerAddress)),
      /^-ERR node [0-9a-f]{40} at 127.0.0.4:16379 belongs to cluster [0-9a-f]{40}: only a new, empty/,
    )
    assert.match(
      String(await ask(cluster, leader, 'RAFT', 'ADD', '127.0.0.77:1')),
      /^-ERR 127.0.0.77:1 does not answer/,
    )
    assert.match(String(await ask(cluster, leader, 'RAFT', 'ADD', 'x')), /not host:peerport/)
    // Nor does it get in by asking itself.
    alone.crash()
    const intruder = cluster.machine(['--join', leader.peerAddress], alone)
    await cluster.started([intruder])
    await cluster.time.runFor(3_000)
    assert.match(intruder.warnings.join(), /join .* is not followed: .* a cluster already/)
    assert.equal(roles(cluster, leader), 'voter voter voter - -')
  })
})

describe('a removed node', () => {
  test('knows it, says so, and disturbs nobody', async () => {
    const cluster = await started({ size: 4 })
    const { leader } = cluster
    const [removed, other] = cluster.followers
    assert.ok(removed && other)
    const { term } = leader.replica
    assert.equal(await ask(cluster, other, 'RAFT', 'REMOVE', removed.id), 'OK')
    await cluster.time.until(() => removed.replica.members.isRemoved, 3_000, 'it is told')
    assert.match((await removed.replica.ready(0)) ?? '', /was removed from its cluster/)
    assert.match(
      String(await ask(cluster, removed, 'SET', 'k', '1')),
      /^-CLUSTERDOWN this node was removed/,
    )
    assert.ok(removed.warnings.some((line) => /was removed from its cluster/.test(line)))
    const said = removed.warnings.length
    await cluster.time.runFor(20_000)
    assert.equal(leader.replica.term, term)
    assert.equal(leader.replica.status()?.role, 'leader')
    assert.equal(removed.warnings.length, said)
    // A new process of it is told anew.
    removed.crash()
    await cluster.started([removed])
    await cluster.time.until(() => removed.replica.members.isRemoved, 3_000, 'it is told again')
    await cluster.time.runFor(5_000)
    assert.deepEqual([leader.replica.term, cluster.leader], [term, leader])
    assert.equal(await ask(cluster, other, 'RAFT', 'REMOVE', removed.id || 'f'.repeat(40)), 'OK')
  })

  test('that was away when it happened is told when it returns, and does not come back by asking', async () => {
    const cluster = await started({ size: 3 })
    const { leader } = cluster
    const [away, other] = cluster.followers
    assert.ok(away && other)
    const { id } = away
    away.crash()
    assert.equal(await ask(cluster, leader, 'RAFT', 'REMOVE', id), 'OK')
    const { term } = leader.replica
    const again = cluster.machine(['--join', leader.peerAddress], away)
    await cluster.started([again])
    await cluster.time.until(() => again.replica.members.isRemoved, 3_000, 'it is told')
    await cluster.time.runFor(10_000)
    assert.deepEqual([leader.replica.term, cluster.leader], [term, leader])
    assert.equal(leader.replica.members.all.length, 2)
    assert.match(
      String(await ask(cluster, leader, 'RAFT', 'ADD', again.peerAddress)),
      /^-ERR node .* was removed once, and its id is never used again/,
    )
  })

  test('that leads hands over first, asked on itself or elsewhere', async () => {
    for (const elsewhere of [false, true]) {
      const cluster = await started()
      const old = cluster.leader
      const [follower] = cluster.followers
      assert.ok(follower)
      const counters = new Counters(cluster, cluster.followers)
      await cluster.time.runFor(200)
      const { id } = old
      assert.equal(await ask(cluster, elsewhere ? follower : old, 'RAFT', 'REMOVE', id), 'OK')
      await cluster.time.runFor(500)
      await counters.stop(cluster)
      assert.notEqual(cluster.leader, old)
      assert.equal(old.replica.members.isRemoved, true)
      assert.deepEqual(counters.failures, [])
      assert.equal(await ask(cluster, follower, 'GET', 'n'), String(counters.acknowledged))
    }
  })
})

describe('a change that would lose the majority', () => {
  test('is refused with the reason, and done where an operator insists', async () => {
    const cluster = await started()
    const [down, up] = cluster.followers
    assert.ok(down && up)
    const [downId, upId] = [down.id, up.id]
    down.crash()
    await cluster.time.runFor(100)
    const reply = String(await ask(cluster, cluster.leader, 'RAFT', 'REMOVE', upId))
    assert.match(reply, /^-ERR of the 2 voters to be only 1 .* 2 are needed to go on; FORCE/)
    assert.equal(await ask(cluster, cluster.leader, 'RAFT', 'REMOVE', downId), 'OK')
    assert.equal(await ask(cluster, cluster.leader, 'RAFT', 'REMOVE', upId), 'OK')
    assert.match(
      String(await ask(cluster, cluster.leader, 'RAFT', 'REMOVE', cluster.leader.id, 'FORCE')),
      /^-ERR node .* is the only voter/,
    )
  })

  test('by force, of a learner that is away: it counts, and the cluster goes on with the others', async () => {
    const cluster = await started()
    const node = await cluster.join(cluster.leader)
    await untilRoles(cluster, 'voter voter voter voter')
    const { id } = node
    assert.equal(await ask(cluster, cluster.leader, 'RAFT', 'DEMOTE', id), 'OK')
    node.crash()
    await cluster.time.runFor(100)
    assert.match(String(await ask(cluster, cluster.leader, 'RAFT', 'PROMOTE', id)), /not connected/)
    assert.equal(await ask(cluster, cluster.leader, 'RAFT', 'PROMOTE', id, 'FORCE'), 'OK')
    assert.equal(await ask(cluster, cluster.leader, 'SET', 'k', '1'), 'OK')
  })
})

describe('leadership', () => {
  test('goes to the member that is named, without a failed command and without a long pause', async () => {
    const cluster = await started()
    const counters = new Counters(cluster, cluster.nodes)
    for (let round = 0; round < 6; round++) {
      await cluster.time.runFor(300)
      const [next, asked] = cluster.followers
      assert.ok(next && asked)
      assert.equal(await ask(cluster, asked, 'RAFT', 'TRANSFER', next.id), 'OK')
      await cluster.settled()
      assert.equal(cluster.leader, next)
    }
    await counters.stop(cluster)
    assert.deepEqual(counters.failures, [])
    assert.ok(counters.longestMs < 150, `a command took ${counters.longestMs} ms`)
    assert.equal(await ask(cluster, cluster.leader, 'GET', 'n'), String(counters.acknowledged))
  })

  test('goes to anybody else, when nobody is named; a learner or a stranger is refused', async () => {
    const cluster = await started()
    const old = cluster.leader
    assert.equal(await ask(cluster, old, 'RAFT', 'TRANSFER'), 'OK')
    await cluster.settled()
    assert.notEqual(cluster.leader, old)
    assert.match(
      String(await ask(cluster, old, 'RAFT', 'TRANSFER', 'f'.repeat(40))),
      /no member has the id/,
    )
    assert.match(String(await ask(cluster, old, 'RAFT', 'TRANSFER', 'f')), /40 hex digits/)
  })

  test('to a member that does not answer is given up, and the leader goes on', async () => {
    const cluster = await started()
    const { leader } = cluster
    const [target] = cluster.followers
    assert.ok(target)
    // It hears everything and says nothing: to the leader it looks alive for a moment.
    cluster.network.block(target.name, leader.name)
    const reply = begin(cluster, leader, 'RAFT', 'TRANSFER', target.id)
    const write = begin(cluster, leader, 'SET', 'k', '1')
    await cluster.time.until(() => write.reply !== undefined && reply.reply !== undefined, 15_000)
    assert.equal(write.reply, 'OK')
  })

  test('is handed over by a leader that stops', async () => {
    const cluster = await started()
    const old = cluster.leader
    const counters = new Counters(cluster, cluster.followers)
    await cluster.time.runFor(200)
    let left = false
    void old.replica.members.leave(2_000).then(() => {
      left = true
    })
    await cluster.time.until(() => left, 1_000, 'handed over')
    old.crash()
    await cluster.time.runFor(1_000)
    await counters.stop(cluster)
    assert.deepEqual(counters.failures, [])
    assert.ok(counters.longestMs < 150, `a command took ${counters.longestMs} ms`)
  })

  test('is handed over by a leader whose disk stays slow', async () => {
    const cluster = await started({ config: ['--slow-commit-ms', '50'] })
    const old = cluster.leader
    const counters = new Counters(cluster, cluster.followers)
    old.diskMs = { min: 150, max: 200 }
    const another = (): boolean =>
      cluster.running.some((node) => node !== old && node.replica.status()?.established === true)
    await cluster.time.until(another, 10_000, 'handed over')
    await counters.stop(cluster)
    assert.deepEqual(counters.failures, [])
    assert.ok(old.warnings.some((line) => /no log commit took less than 50 ms/.test(line)))
  })
})

describe('a cluster', () => {
  test('goes from one to three to five to three under load, without a failed command', async () => {
    const cluster = await started({ size: 1 })
    const [first] = cluster.nodes
    assert.ok(first)
    const counters = new Counters(cluster, [first])
    for (let size = 2; size <= 5; size++) {
      const through = cluster.nodes[size - 2]
      assert.ok(through)
      await cluster.join(through)
      await untilRoles(cluster, Array.from({ length: size }, () => 'voter').join(' '))
    }
    const leaving = [cluster.leader, cluster.followers.find((node) => node !== first)]
    for (const node of leaving) {
      assert.ok(node)
      if (node === first) continue
      assert.equal(await ask(cluster, first, 'RAFT', 'REMOVE', node.id), 'OK')
    }
    await cluster.time.runFor(500)
    await counters.stop(cluster)
    assert.deepEqual(counters.failures, [])
    assert.ok(counters.longestMs < 1_000, `a command took ${counters.longestMs} ms`)
    assert.equal(await ask(cluster, first, 'GET', 'n'), String(counters.acknowledged))
  })

  test('knows a member that has moved by its new address', async () => {
    const cluster = await started()
    const [moving, other] = cluster.followers
    assert.ok(moving && other)
    const { id } = moving
    assert.equal(await ask(cluster, moving, 'SET', 'k', '0'), 'OK')
    moving.crash()
    const moved = cluster.machine([], moving)
    await cluster.started([moved])
    const known = (node: SimNode): string | undefined =>
      node.replica.members.member(id)?.peerAddress
    await cluster.time.until(
      () => [moved, other, cluster.leader].every((node) => known(node) === moved.peerAddress),
      5_000,
      'the new address',
    )
    assert.equal(cluster.leader.replica.members.all.length, 3)
    assert.equal(await ask(cluster, moved, 'SET', 'k', '1'), 'OK')
    // And when it is the leader that moves: it says so of itself.
    const old = cluster.leader
    const oldId = old.id
    old.crash()
    const again = cluster.machine([], old)
    await cluster.started([again])
    await cluster.time.until(
      () => other.replica.members.member(oldId)?.peerAddress === again.peerAddress,
      5_000,
      'the address of who led',
    )
  })
})
