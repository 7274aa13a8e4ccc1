/*
 * A cluster under random faults from one seed: loss, repetition, reordering, cuts, crashes (with the persist in flight
 * landed or not), slow disks, late turns, checkpoints, proposals, reads, changes of the membership and of the leader;
 * then everything heals, and within twenty election timeouts the cluster must serve (I18), whoever was removed being
 * there and disturbing nobody (I17). `HOLDFAST_SEED=n` runs one seed alone.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NodeId } from '../../raft/types.ts'
import { Cluster, member, seeded } from './cluster.ts'
import { entryText } from './invariants.ts'

const SEEDS = 300
const EVENTS = 1_500

interface Mix {
  readonly loss: number
  readonly repeat: number
  readonly reorder: number
  readonly crash: number
  readonly cut: number
  readonly diskSpeed: number
  readonly lateTurns: boolean
  readonly checkpoints: number
  readonly leaveBehind: number
  readonly changes: number
  readonly transfers: number
}

interface World {
  readonly cluster: Cluster
  readonly random: () => number
  readonly mix: Mix
  writes: number
}

function pick<T>(random: () => number, items: readonly T[]): T | undefined {
  return items[Math.floor(random() * items.length)]
}

/** Each seed stresses other things: a world where everything fails always reaches nothing. */
function mixOf(random: () => number): Mix {
  const some = (most: number): number => (random() < 0.5 ? 0 : random() * most)
  return {
    loss: some(0.2),
    repeat: some(0.2),
    reorder: some(1),
    crash: some(0.03),
    cut: some(0.02),
    diskSpeed: random() < 0.5 ? 0.5 : 0.05 + random() * 0.2,
    lateTurns: random() < 0.3,
    checkpoints: some(0.4),
    leaveBehind: some(0.02),
    changes: some(0.6),
    transfers: some(0.2),
  }
}

async function network(world: World): Promise<void> {
  const { cluster, random, mix } = world
  const { packets } = cluster
  const message = random() < mix.reorder ? pick(random, packets) : packets[0]
  if (message === undefined) return
  // A queue that grows without end would only ever deliver the past.
  if (random() < mix.loss || packets.length > 400) await cluster.drop(message)
  else {
    if (random() < mix.repeat) cluster.duplicate(message)
    await cluster.deliver(message)
  }
}

function cutLinks(world: World): void {
  const { cluster, random } = world
  cluster.heal()
  const kind = random()
  const lonely = pick(random, cluster.ids)
  for (const from of cluster.ids) {
    for (const to of cluster.ids) {
      if (kind < 0.3 && random() < 0.3) cluster.cut(from, to)
      else if (kind < 0.7 && (from === lonely) !== (to === lonely)) cluster.cut(from, to)
    }
  }
}

async function crashOrRestart(world: World): Promise<void> {
  const { cluster, random } = world
  const id = pick(random, cluster.ids) ?? '1'
  if (cluster.host(id).node !== undefined) cluster.crash(id, random() < 0.5)
  if (random() < 0.3) return
  cluster.restart(id)
  if (random() < 0.5) await noticeRestart(world, id)
}

async function noticeRestart({ cluster }: World, id: NodeId): Promise<void> {
  for (const peer of cluster.up) if (peer !== id) await cluster.restarted(peer, id)
}

async function work(world: World): Promise<void> {
  const { cluster, random } = world
  const id = pick(random, cluster.up)
  if (id === undefined) return
  const what = random()
  if (random() < world.mix.changes) await changeMembers(world)
  else if (random() < world.mix.transfers) {
    await cluster.transfer(cluster.leader() ?? id, pick(random, [...cluster.ids, undefined]))
  } else if (random() < world.mix.checkpoints) await cluster.checkpoint(id)
  else if (what < 0.5) {
    const texts = Array.from({ length: 1 + Math.floor(random() * 4) }, () => `w${world.writes++}`)
    await cluster.propose(random() < 0.7 ? (cluster.leader() ?? id) : id, texts)
  } else if (what < 0.9) await cluster.read(id)
  else if (what < 0.93) await cluster.checkpoint(id)
  else if (what < 0.97) await cluster.openMachine(id, random() < 0.6)
  else await cluster.unreachable(id, pick(random, cluster.ids) ?? id)
}

/** Any members may follow any others: joint consensus allows it, however many are replaced at once. */
async function changeMembers({ cluster, random }: World): Promise<void> {
  const leader = cluster.leader()
  if (leader === undefined) return
  const current = cluster.node(leader).membership
  if (current === undefined) return
  // Mostly near the present one, so that changes of one member, and of roles alone, are common.
  const chance = random() < 0.7 ? 0.2 : 0.7
  const members = cluster.ids.flatMap((id) => {
    const known = current.members.find((one) => one.id === id)
    if (random() > chance) return known === undefined ? [] : [member(id, known.role)]
    const role = pick(random, ['voter', 'voter', 'learner', undefined] as const)
    return role === undefined ? [] : [member(id, role)]
  })
  if (current.outgoing === undefined && members.some(({ role }) => role === 'voter')) {
    await cluster.change(leader, members)
  }
}

/** One hears nobody while the others go on, and drop the log that it would need. */
async function leaveBehind(world: World): Promise<void> {
  const { cluster, random } = world
  const lonely = pick(random, cluster.ids)
  cluster.heal()
  for (const peer of cluster.ids) {
    if (peer !== lonely) cluster.cut(peer, lonely ?? '')
  }
  for (let round = 0; round < 4; round++) {
    const leader = cluster.leader()
    if (leader === undefined) return
    await cluster.propose(leader, [`w${world.writes++}`, `w${world.writes++}`])
    await cluster.settle()
    for (const id of cluster.up) await cluster.checkpoint(id)
    await cluster.tick(leader)
  }
}

async function step(world: World): Promise<void> {
  const { cluster, random, mix } = world
  const id = pick(random, cluster.ids) ?? '1'
  if (random() < mix.crash) await crashOrRestart(world)
  else if (random() < mix.cut) cutLinks(world)
  else if (random() < mix.leaveBehind) await leaveBehind(world)
  cluster.eager = !mix.lateTurns || random() < 0.5
  const what = random()
  if (what < 0.5) await network(world)
  else if (what < 0.68) await cluster.tick(id)
  else if (what < 0.88) {
    if (random() < mix.diskSpeed) await cluster.persist(id)
  } else if (what < 0.98) await work(world)
  else if (what < 0.99) await cluster.pump(id)
  else await cluster.noticeLostSnapshots()
}

/** Ticks everybody and lets all come to rest, until `done` or the deadline of twenty election timeouts. */
async function heal(cluster: Cluster, done: () => boolean): Promise<void> {
  for (let ticks = 0; ticks < 20 * cluster.electionTicks; ticks++) {
    if (done()) return
    for (const id of cluster.ids) await cluster.tick(id)
    await cluster.settle()
    await cluster.noticeLostSnapshots()
  }
  const states = cluster.ids.map((id) => JSON.stringify(cluster.node(id).status()))
  assert.fail(`I18 liveness after heal: not within 20 election timeouts:\n${states.join('\n')}`)
}

/** Those that the leader's membership names; everybody else may be anywhere. */
function membersOf(cluster: Cluster): readonly NodeId[] {
  const leader = cluster.leader()
  if (leader === undefined) return []
  return cluster.node(leader).membership?.members.map(({ id }) => id) ?? []
}

function isCalm(cluster: Cluster): boolean {
  const leader = cluster.leader()
  if (leader === undefined) return false
  const { commit, last, term, membership, transferTo } = cluster.node(leader).status()
  if (membership?.outgoing !== undefined || transferTo !== undefined) return false
  return membersOf(cluster).every((id) => {
    const status = cluster.node(id).status()
    const follows = status.leader === leader && status.term === term
    return follows && commit === last && status.applied === commit && status.last === last
  })
}

/** Nobody, removed or not, changes the leader of a cluster without faults (I17). */
async function staysCalm(cluster: Cluster): Promise<void> {
  const [leader, { elections }] = [cluster.leader(), cluster.invariants]
  for (let ticks = 0; ticks < 4 * cluster.electionTicks; ticks++) {
    for (const id of cluster.ids) await cluster.tick(id)
    await cluster.settle()
    await cluster.noticeLostSnapshots()
  }
  assert.deepEqual(
    [cluster.leader(), cluster.invariants.elections],
    [leader, elections],
    'I17 no disruption',
  )
}

async function healAndProve(world: World): Promise<void> {
  const { cluster } = world
  cluster.eager = true
  cluster.heal()
  for (const id of cluster.ids) {
    if (cluster.host(id).node === undefined) cluster.restart(id)
    await cluster.openMachine(id, true)
    await cluster.pump(id)
  }
  await heal(cluster, () => isCalm(cluster))
  await staysCalm(cluster)
  const { acks } = cluster
  const ids = membersOf(cluster)
  const before = new Map(ids.map((id) => [id, cluster.host(id).machine.applied.length]))
  await cluster.propose(cluster.leader() ?? '', ['last'])
  await heal(cluster, () => cluster.acks === acks + 1)
  const reads: string[] = []
  for (const id of ids) {
    await cluster.read(id, (confirmed) => {
      const state = cluster.host(id).machine.applied.slice(before.get(id)).map(entryText)
      if (confirmed) reads.push(`${id} ${state.at(-1)}`)
    })
    await heal(cluster, () => reads.some((read) => read.startsWith(`${id} `)))
  }
  assert.deepEqual(
    reads,
    ids.map((id) => `${id} last`),
  )
  await heal(cluster, () => ids.every((id) => cluster.host(id).readsPending === 0))
}

interface Reached {
  elections: number
  acks: number
  reads: number
  applied: number
  installs: number
  changes: number
  transfers: number
}

async function runSeed(seed: number): Promise<Reached> {
  const random = seeded(seed)
  const mix = mixOf(random)
  const size = [1, 2, 3, 3, 3, 4, 5][Math.floor(random() * 7)] ?? 3
  const small = { appendBytes: 100, window: { messages: 2, bytes: 200 }, uncommittedBytes: 1000 }
  // In every second seed some nodes are there that nobody knows yet.
  const strangers = random() < 0.5 ? Math.floor(random() * 3) : 0
  const members = Array.from({ length: size }, (_, at) => `${at + 1}`)
  const cluster = new Cluster({
    size: size + strangers,
    members,
    random,
    electionTicks: 5,
    heartbeatTicks: 1,
    limits: random() < 0.4 ? { ...small, applyBytes: 100 } : {},
    // Short logs, so that whoever was away needs a snapshot; in some seeds so short that one comes too late.
    retain: {
      bytes: random() < 0.3 ? 1e9 : 40 * (1 + random() * 6),
      pinned: random() < 0.7 ? 1e9 : 40 * (4 + random() * 12),
    },
  })
  const world: World = { cluster, random, mix, writes: 0 }
  for (let event = 0; event < EVENTS; event++) await step(world)
  await healAndProve(world)
  const { elections, canon, changes } = cluster.invariants
  return {
    elections,
    acks: cluster.acks,
    reads: cluster.readsServed,
    applied: canon.length,
    installs: cluster.installs,
    changes,
    transfers: cluster.transfers,
  }
}

test('a random cluster keeps every invariant, and serves again within 20 election timeouts', async () => {
  const only = process.env.HOLDFAST_SEED
  const seeds = only ? [Number(only)] : Array.from({ length: SEEDS }, (_, at) => at + 1)
  const total: Reached = {
    elections: 0,
    acks: 0,
    reads: 0,
    applied: 0,
    installs: 0,
    changes: 0,
    transfers: 0,
  }
  for (const seed of seeds) {
    try {
      const reached = await runSeed(seed)
      for (const key of Object.keys(total) as (keyof Reached)[]) total[key] += reached[key]
    } catch (error) {
      throw new Error(`seed ${seed} (HOLDFAST_SEED=${seed} runs it alone): ${error}`, {
        cause: error,
      })
    }
  }
  // A run in which nothing happens would prove nothing.
  const each = only ? 0 : seeds.length
  assert.ok(total.elections >= 1.5 * each, `only ${total.elections} elections`)
  assert.ok(total.acks >= 5 * each, `only ${total.acks} acknowledged writes`)
  assert.ok(total.reads >= 5 * each, `only ${total.reads} reads`)
  assert.ok(total.installs >= 0.25 * each, `only ${total.installs} snapshots`)
  assert.ok(total.changes >= each, `only ${total.changes} changes of the membership`)
  assert.ok(total.transfers >= 0.1 * each, `only ${total.transfers} transfers of leadership`)
})
