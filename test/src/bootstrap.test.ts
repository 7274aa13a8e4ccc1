/*
 * The birth of a cluster, killed at every step: there is no cluster, or exactly one with all listed nodes in it.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ClusterList, joinWarning, listWarning, readClusterList } from '../../src/bootstrap.ts'
import { OperatorError } from '../../src/operator-error.ts'
import { SimNetwork, SimTime, seededRandom } from '../sim/network.ts'
import { type NodeOptions, nodeId, PEER_PORT, PeerNode, SimDisk } from '../sim/peer-node.ts'

const names = ['127.0.0.1', '127.0.0.2', '127.0.0.3'] as const
const list = names.map((name) => `${name}:${PEER_PORT}`)

/** Nodes that are started, killed and started again over their disks. */
class World {
  readonly time = new SimTime()
  readonly sim: SimNetwork
  readonly disks = [nodeId('a'), nodeId('b'), nodeId('c')].map((id) => new SimDisk(id))
  readonly nodes: (PeerNode | undefined)[] = []

  constructor(seed: number) {
    this.sim = new SimNetwork(this.time, seededRandom(seed), {
      delayMs: { min: 0.1, max: 5 },
      splitChance: 0,
    })
  }

  async start(at: number, options: NodeOptions = {}): Promise<PeerNode> {
    const disk = this.disks[at]
    const name = names[at]
    assert.ok(disk !== undefined && name !== undefined)
    const node = new PeerNode(this.sim, name, disk, { list, ...options })
    this.nodes[at] = node
    await node.open()
    // What a killed node still waits for never resolves, and what fails must fail the test.
    if (disk.clusterId === undefined) void node.bootstrap()
    return node
  }

  async startAll(options: NodeOptions = {}): Promise<void> {
    for (const at of names.keys()) await this.start(at, options)
  }

  kill(at: number): void {
    this.nodes[at]?.host.kill()
    this.nodes[at] = undefined
  }

  bound(): boolean {
    return this.disks.every(({ clusterId }) => clusterId !== undefined)
  }

  /** Everyone that has begun can speak with the founder, who alone has a log. */
  connected(): boolean {
    const [founder, ...others] = this.nodes
    const ids = this.disks.map(({ id }) => id)
    return others.every(
      (node, at) =>
        founder?.upWith(ids[at + 1] ?? '') === true && node?.upWith(ids[0] ?? '') === true,
    )
  }

  checkOneCluster(): void {
    const clusters = new Set(this.disks.map(({ clusterId }) => clusterId))
    assert.equal(clusters.size, 1)
    const logs = this.disks.filter(({ entries }) => entries.length > 0)
    assert.equal(logs.length, 1, 'one node alone may write the first entries')
    const [log] = logs
    assert.deepEqual(
      log?.members,
      this.disks.map(({ id }, at) => ({
        id,
        role: 'voter',
        peerAddress: list[at],
        clientAddress: `${names[at]}:6379`,
      })),
    )
    assert.deepEqual(
      log?.entries.map(({ index, term, payload }) => [index, term, payload.type]),
      [
        [1, 1, 'membership'],
        [2, 1, 'commands'],
      ],
    )
  }
}

test('three nodes become one cluster, whichever is started last', async () => {
  const orders = [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]
  for (const [seed, order] of orders.entries()) {
    const world = new World(seed)
    for (const at of order) {
      await world.time.runFor(700)
      assert.ok(world.disks.every(({ clusterId }) => clusterId === undefined))
      await world.start(at)
    }
    await world.time.until(() => world.bound() && world.connected(), 5_000)
    world.checkOneCluster()
    for (const node of world.nodes) {
      assert.ok(node !== undefined && node.lines.length <= 2, node?.lines.join('\n'))
    }
  }
})

test('no cluster while one listed node is missing', async () => {
  const world = new World(1)
  await world.start(0)
  await world.start(1)
  await world.time.runFor(30_000)
  assert.ok(world.disks.every(({ clusterId }) => clusterId === undefined))
  // Each says again and again whom it waits for, and why.
  for (const node of world.nodes) {
    const warnings = node?.lines.filter((line) => /no node answers/.test(line)) ?? []
    if (node === undefined) continue
    assert.ok(warnings.length >= 3 && warnings.length <= 30, `${warnings.length} warnings`)
    for (const line of warnings) {
      assert.match(line, /^cluster: no node answers at 127\.0\.0\.3:\d+: ./)
    }
  }
  // One that was there and went does not count either: all must be there at the same time.
  world.kill(1)
  await world.start(2)
  await world.time.runFor(30_000)
  assert.ok(world.disks.every(({ clusterId }) => clusterId === undefined))
  await world.start(1)
  await world.time.until(() => world.bound() && world.connected(), 5_000)
  world.checkOneCluster()
})

for (const victim of names.keys()) {
  for (const bindSurvivesKill of [false, true]) {
    test(`node ${victim} killed at every step (a write under way is ${bindSurvivesKill ? 'kept' : 'lost'})`, async () => {
      let inTheMiddle = 0
      let complete = false
      // Every other step here, and those between them with the other fate of the write.
      for (let step = bindSurvivesKill ? 1 : 0; !complete; step += 2) {
        const world = new World(99)
        await world.startAll({ bindSurvivesKill })
        for (let i = 0; i < step && !complete; i++) {
          await world.time.step()
          complete = world.bound() && world.connected()
        }
        const bound = world.disks.filter(({ clusterId }) => clusterId !== undefined).length
        if (bound > 0 && bound < 3) inTheMiddle++
        world.kill(victim)
        await world.time.runFor(step % 3 === 0 ? 0 : 40)
        await world.start(victim, { bindSurvivesKill })
        await world.time.until(() => world.bound() && world.connected(), 10_000, `step ${step}`)
        world.checkOneCluster()
      }
      assert.ok(inTheMiddle > 10, `${inTheMiddle} kills came between the first bind and the last`)
    })
  }
}

test('all nodes killed again and again, at random moments', async () => {
  for (let seed = 0; seed < 25; seed++) {
    const world = new World(seed)
    const random = seededRandom(seed)
    await world.startAll()
    for (let round = 0; round < 12; round++) {
      await world.time.runFor(random() * 60)
      const at = Math.floor(random() * 3)
      const options = { bindSurvivesKill: random() < 0.5 }
      if (random() < 0.2) for (const other of names.keys()) world.kill(other)
      else world.kill(at)
      for (const other of names.keys()) {
        if (world.nodes[other] === undefined) await world.start(other, options)
      }
    }
    await world.time.until(() => world.bound() && world.connected(), 10_000, `seed ${seed}`)
    world.checkOneCluster()
  }
})

test('a wiped node has another id: nobody lets it in, it never binds, and both sides say so once', async () => {
  for (const victim of names.keys()) {
    const world = new World(victim)
    await world.startAll()
    await world.time.until(() => world.bound() && world.connected(), 5_000)
    // The others have received the membership by now, as the log would have brought it.
    const entries = world.disks[0]?.entries ?? []
    for (const disk of world.disks) disk.entries = entries
    for (const at of names.keys()) world.kill(at)
    world.disks[victim] = new SimDisk(nodeId('f'))
    await world.startAll()
    await world.time.runFor(60_000)
    assert.equal(world.disks[victim]?.clusterId, undefined)
    for (const [at, node] of world.nodes.entries()) {
      assert.ok(node !== undefined)
      const said = node.lines.filter((line) => /empty/.test(line))
      // On the wiped node one line per member that it knows of; each line once in all that time.
      assert.equal(said.length, at === victim ? 2 : 1, node.lines.join('\n'))
      assert.equal(new Set(node.lines).size, node.lines.length, node.lines.join('\n'))
      if (at === victim) {
        assert.match(
          said[0] ?? '',
          /this node's disk is empty, but the cluster [0-9a-f]{40} exists/,
        )
        assert.deepEqual(node.events, [])
      } else {
        assert.equal(node.upWith(nodeId('f')), false)
        assert.ok(node.of('message').length === 0)
      }
    }
  }
})

test('two wiped nodes of three, the founder among them, do not make a second cluster', async () => {
  const world = new World(4)
  await world.startAll()
  await world.time.until(() => world.bound() && world.connected(), 5_000)
  const entries = world.disks[0]?.entries ?? []
  for (const at of names.keys()) world.kill(at)
  world.disks[0] = new SimDisk(nodeId('e'))
  world.disks[1] = new SimDisk(nodeId('f'))
  const survivor = world.disks[2]
  if (survivor !== undefined) survivor.entries = entries
  await world.startAll()
  await world.time.runFor(60_000)
  assert.equal(world.disks[0]?.clusterId, undefined)
  assert.equal(world.disks[1]?.clusterId, undefined)
})

test('nodes with different lists do not become a cluster, and say why once', async () => {
  const world = new World(5)
  await world.start(0)
  await world.start(1)
  await world.start(2, { list: [...list, '127.0.0.4:16379'] })
  await world.time.runFor(60_000)
  assert.ok(world.disks.every(({ clusterId }) => clusterId === undefined))
  for (const node of world.nodes) {
    const lines = node?.lines.filter((line) => /another cluster list/.test(line)) ?? []
    assert.ok(lines.length >= 1 && lines.length <= 2, node?.lines.join('\n'))
    assert.equal(new Set(lines).size, lines.length)
  }
})

test('a node alone binds at once: with no list, and with itself as the only entry', async () => {
  for (const only of [[], [list[0] ?? '']]) {
    const world = new World(6)
    const node = new PeerNode(world.sim, names[0], world.disks[0] ?? new SimDisk(nodeId('a')), {
      join: [],
      list: only,
    })
    const binding = node.bootstrap()
    await world.time.runFor(10)
    await world.time.runFor(10)
    const { clusterId, membership } = await binding
    assert.match(clusterId, /^[0-9a-f]{40}$/)
    assert.deepEqual(membership?.members, node.disk.members)
    assert.equal(node.disk.members?.length, 1)
  }
})

test('a failing write rejects, and the node does not speak as bound', async () => {
  const { bootstrap } = await import('../../src/bootstrap.ts')
  let bound = false
  const failing = bootstrap({
    list: readClusterList([], '127.0.0.1:1'),
    join: [],
    self: { id: nodeId('a'), clientAddress: '127.0.0.1:2' },
    peers: {
      acquainted: () => [],
      stats: () => [],
      watch: () => {},
      bind: () => {
        bound = true
      },
    },
    store: { bind: () => Promise.reject(new Error('no space')) },
    randomBytes: (count) => new Uint8Array(count),
    firstCommands: () => new Uint8Array(1),
    log: { info: () => {}, warn: () => {} },
  })
  await assert.rejects(failing, /no space/)
  assert.equal(bound, false)
})

test('the list: order does not matter, this node must be in it, nothing twice, nothing malformed', () => {
  const one = readClusterList(['b:2', 'a:10', 'a:9'], 'b:2')
  const other = readClusterList(['a:9', 'B:2', 'a:10'], 'A:9')
  assert.equal(one.hash, other.hash)
  assert.equal(one.founder, 'a:9')
  assert.equal(other.founder, 'a:9')
  assert.deepEqual(one.others, ['a:9', 'a:10'])
  assert.notEqual(one.hash, readClusterList(['a:9', 'b:2'], 'b:2').hash)
  const bad = (entries: readonly string[], announce: string, says: RegExp): void =>
    assert.throws(
      () => readClusterList(entries, announce),
      (error) => error instanceof OperatorError && says.test(error.message),
    )
  bad(['a:1', 'b:2'], 'c:3', /does not list this node: peer-announce is c:3/)
  bad(['a:1', 'A:1'], 'a:1', /lists a:1 twice/)
  bad(['a:1', 'b'], 'a:1', /'b' is not host:port/)
  bad(['a:1', 'b:70000'], 'a:1', /'b:70000' is not host:port/)
})

test('a list that differs from the stored membership is one warning', () => {
  const membership = {
    members: [
      { id: nodeId('a'), role: 'voter', peerAddress: 'h1:1', clientAddress: 'h1:2' },
      { id: nodeId('b'), role: 'voter', peerAddress: 'h2:1', clientAddress: 'h2:2' },
    ],
  } as const
  const warn = (given: ClusterList): string | undefined => listWarning(given, membership)
  assert.equal(warn(readClusterList(['h2:1', 'H1:1'], 'h1:1')), undefined)
  assert.equal(warn(readClusterList([], 'h1:1')), undefined)
  assert.match(
    warn(readClusterList(['h1:1', 'h3:1'], 'h1:1')) ?? '',
    /is not the stored membership/,
  )
  assert.match(warn(readClusterList(['h1:1', 'h2:1', 'h3:1'], 'h1:1')) ?? '', /which counts/)
  // A node that has moved says so to the others by itself.
  assert.equal(warn(readClusterList([], 'h9:1')), undefined)
})

test('a node that was to join, but has a cluster, says that it does not', () => {
  const at = (digit: string, host: string) =>
    ({ id: nodeId(digit), role: 'voter', peerAddress: `${host}:1`, clientAddress: 'h:2' }) as const
  const membership = { members: [at('a', 'h1'), at('b', 'h2')] }
  const warn = (join: readonly string[], id = nodeId('a')) => joinWarning(join, id, membership)
  assert.equal(warn([]), undefined)
  assert.equal(warn(['h9:1', 'H2:1']), undefined, 'it is where it wanted to be')
  assert.equal(warn(['h9:1'], nodeId('c')), undefined, 'it asks, and is told')
  assert.match(warn(['h9:1']) ?? '', /join \(h9:1\) is not followed: .* a cluster already/)
})

test('a node that joins founds nothing, and is bound by whoever names it', async () => {
  const time = new SimTime()
  const sim = new SimNetwork(time, seededRandom(5))
  const member = new PeerNode(sim, '127.0.0.1', new SimDisk(nodeId('a')))
  await member.open()
  const binding = member.bootstrap()
  await time.until(() => member.disk.clusterId !== undefined)
  await binding
  const join = [`127.0.0.1:${PEER_PORT}`]
  const joiner = new PeerNode(sim, '127.0.0.2', new SimDisk(nodeId('b')), { join })
  await joiner.open()
  const joined = joiner.bootstrap()
  await time.until(() => member.of('joinAsked').length > 1, 5_000, 'it asks again')
  assert.deepEqual(member.of('joinAsked')[0], {
    type: 'joinAsked',
    id: nodeId('b'),
    peerAddress: `127.0.0.2:${PEER_PORT}`,
  })
  assert.equal(joiner.disk.clusterId, undefined)
  const named = [
    ...(member.disk.members ?? []),
    {
      id: nodeId('b'),
      role: 'learner',
      peerAddress: `127.0.0.2:${PEER_PORT}`,
      clientAddress: '127.0.0.2:6379',
    } as const,
  ]
  member.peers.setMembers(named, 7)
  await time.until(() => joiner.disk.clusterId === member.disk.clusterId)
  assert.equal((await joined).membership, undefined)
  await time.until(() => member.upWith(nodeId('b')))
  // It asks until its own log says that it is a member.
  joiner.peers.setMembers(named, 7)
  const asked = member.of('joinAsked').length
  await time.runFor(5_000)
  assert.equal(member.of('joinAsked').length, asked)
  assert.deepEqual(
    [...joiner.lines, ...member.lines].filter((line) => /refused/.test(line)),
    [],
  )
})
