/*
 * Peers over the simulated network: who is known, who is let in, what the server is told, in which order.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Append, Heartbeat, Member } from '../../raft/types.ts'
import { frame, frameKinds } from '../../src/peer-frame.ts'
import { encodeFrame, encodeMessage } from '../../storage/codec.ts'
import { SimNetwork, type SimOptions, SimTime, seededRandom } from '../sim/network.ts'
import {
  type NodeOptions,
  nodeId,
  PEER_PORT,
  PeerNode,
  SimDisk,
  testLimits,
} from '../sim/peer-node.ts'

const CLUSTER = 'c'.repeat(40)
const [A, B, C] = [nodeId('a'), nodeId('b'), nodeId('d')]
const names = ['127.0.0.1', '127.0.0.2', '127.0.0.3'] as const
const list = names.map((name) => `${name}:${PEER_PORT}`)
const members: Member[] = [A, B, C].map((id, at) => ({
  id,
  role: 'voter',
  peerAddress: `${names[at]}:${PEER_PORT}`,
  clientAddress: `${names[at]}:6379`,
}))

function disk(id: string, knows: readonly Member[] | undefined = members): SimDisk {
  const made = new SimDisk(id)
  made.clusterId = CLUSTER
  if (knows !== undefined) {
    const payload = { type: 'membership', membership: { members: knows } } as const
    made.entries = [{ index: 1, term: 1, payload, encoded: undefined }]
  }
  return made
}

function heartbeat(from: string, to: string, round = 0): Heartbeat {
  return { type: 'heartbeat', from, to, term: 1, commit: 0, round, slowest: { id: to, match: 0 } }
}

function append(from: string, to: string, index: number, bytes: number): Append {
  const data = new Uint8Array(bytes)
  const entries = [
    { index, term: 1, payload: { type: 'commands', data }, encoded: undefined } as const,
  ]
  return {
    type: 'append',
    from,
    to,
    term: 1,
    prev: { index: index - 1, term: 1 },
    entries,
    commit: 0,
  }
}

interface World {
  readonly time: SimTime
  readonly sim: SimNetwork
  node(at: 0 | 1 | 2, options?: NodeOptions, on?: SimDisk): Promise<PeerNode>
}

function world(options: Partial<SimOptions> = {}, seed = 3): World {
  const time = new SimTime()
  const sim = new SimNetwork(time, seededRandom(seed), options)
  const ids = [A, B, C] as const
  return {
    time,
    sim,
    node: async (at, nodeOptions = {}, on = disk(ids[at])) => {
      const node = new PeerNode(sim, names[at], on, { list, ...nodeOptions })
      await node.open()
      return node
    },
  }
}

async function pair(options: NodeOptions = {}, sim: Partial<SimOptions> = {}) {
  const made = world(sim)
  const a = await made.node(0, options)
  const b = await made.node(1, options)
  await made.time.until(() => a.upWith(B) && b.upWith(A))
  await made.time.until(() => a.peers.forward(B, Buffer.from('first')))
  return { ...made, a, b }
}

test('three members find each other, and messages go where they are meant to', async () => {
  const { node, time } = world({ pieceBytesMax: 7 })
  const nodes = [await node(0), await node(1), await node(2)]
  const [a, b, c] = nodes
  assert.ok(a && b && c)
  await time.until(() => [B, C].every((id) => a.upWith(id)) && b.upWith(C))
  a.peers.send([heartbeat(A, B, 1), heartbeat(A, C, 2), heartbeat(A, B, 3)])
  await time.until(() => b.messages().length === 2 && c.messages().length === 1)
  assert.deepEqual(b.messages(), [heartbeat(A, B, 1), heartbeat(A, B, 3)])
  assert.deepEqual(c.messages(), [heartbeat(A, C, 2)])
  for (const one of nodes) {
    assert.equal(one.of('up').length, 2)
    assert.equal(one.of('down').length, 0)
    assert.equal(one.of('unreachable').length, 0)
    assert.deepEqual(one.lines, [])
  }
})

test('the process of a peer is announced before its first message, and again when it restarts', async () => {
  const { a, time, node, b } = await pair()
  const first = a.events.findIndex((event) => event.type === 'restarted')
  assert.deepEqual(a.events[first], { type: 'restarted', id: B, incarnation: 1 })
  b.peers.send([heartbeat(B, A, 1)])
  await time.until(() => a.messages().length === 1)
  b.host.kill()
  await time.until(() => a.of('unreachable').length > 0)
  assert.deepEqual(a.of('down'), [{ type: 'down', id: B }])
  const again = await node(1, {}, b.disk)
  await time.until(() => a.upWith(B) && again.upWith(A))
  again.peers.send([heartbeat(B, A, 2)])
  await time.until(() => a.messages().length === 2)
  assert.deepEqual(
    a.events
      .filter(({ type }) => type === 'restarted' || type === 'message')
      .map(({ type }) => type),
    ['restarted', 'message', 'restarted', 'message'],
  )
  assert.equal(a.of('restarted')[1]?.incarnation, 2)
})

test('nothing of an earlier process is delivered after the new one was announced', async () => {
  const { time, node, sim } = world()
  const a = await node(0)
  const b = await node(1)
  await time.until(() => a.upWith(B) && b.upWith(A))
  const reply = { type: 'append-reply', from: B, to: A, term: 1, match: 7 } as const
  await time.until(() => {
    b.peers.send([reply])
    return a.messages().length > 0
  })
  // What the old process sent is held up on the way, as by a lost packet, while it dies and comes back.
  const old = [...sim.connections].filter(({ host }) => host === a.host)
  for (const connection of old) connection.pause()
  b.peers.send([reply, heartbeat(B, A, 1)])
  await time.runFor(50)
  b.host.kill()
  await node(1, {}, b.disk)
  await time.until(() => a.of('restarted').length === 2)
  const told = a.messages().length
  for (const connection of old) connection.resume()
  await time.runFor(500)
  assert.equal(a.messages().length, told)
})

test('a process that has ended is refused when its connection comes late, without a word', async () => {
  const { time, node, sim } = world()
  const a = await node(0)
  await node(1, { incarnation: 7 })
  await time.until(() => a.of('restarted').length === 1)
  const old = new PeerNode(sim, names[1], disk(B), { list, incarnation: 6 })
  old.peers.setMembers(members, 1)
  for (let i = 0; i < 30; i++) {
    await time.runFor(100)
    old.peers.send([heartbeat(B, A)])
  }
  assert.deepEqual(a.of('restarted'), [{ type: 'restarted', id: B, incarnation: 7 }])
  assert.deepEqual(a.messages(), [])
  assert.deepEqual(a.lines, [])
})

test('of two links of one process the newest counts, and the change is no outage', async () => {
  const { time, node, sim } = world()
  const a = await node(0)
  const b = await node(1)
  await time.until(() => a.upWith(B) && b.upWith(A))
  // The same process once more (the same incarnation), as after a change of its address or a lost close.
  const twin = new PeerNode(sim, names[1], disk(B), { list, incarnation: 1 })
  twin.peers.setMembers(members, 1)
  await time.until(() => {
    twin.peers.send([heartbeat(B, A, 5)])
    return (twin.peers.stats().find((peer) => peer.id === A)?.messagesOut ?? 0) > 0
  })
  // The older link still looks whole to its maker, but nothing of it counts any more.
  b.peers.send([heartbeat(B, A, 4)])
  await time.until(() => a.messages().length > 0)
  await time.runFor(10)
  assert.deepEqual(a.messages(), [heartbeat(B, A, 5)])
  assert.equal(a.of('unreachable').length, 0)
  assert.equal(a.of('down').length, 0)
  assert.equal(a.of('restarted').length, 1)
})

const refusals: {
  name: string
  one: NodeOptions
  other: NodeOptions
  on?: () => SimDisk
  says: RegExp
}[] = [
  {
    name: 'a wrong secret',
    one: { secret: 'x' },
    other: { secret: 'y' },
    says: /peer-secret differs/,
  },
  { name: 'no secret', one: { secret: 'x' }, other: {}, says: /peer-secret differs/ },
  {
    name: 'another cluster',
    one: {},
    other: {},
    on: () => {
      const made = disk(B)
      made.clusterId = 'e'.repeat(40)
      return made
    },
    says: /is of cluster e+, this node of cluster c+/,
  },
  {
    name: 'another node at the address of a member',
    one: {},
    other: {},
    on: () =>
      disk(
        nodeId('f'),
        members.map((one) => (one.id === B ? { ...one, id: nodeId('f') } : one)),
      ),
    says: /meant for node b+|node f+ at .* is not a member/,
  },
]

for (const { name, one, other, on, says } of refusals) {
  test(`refused with one line, however often it comes back: ${name}`, async () => {
    const { time, node } = world()
    const a = await node(0, one)
    const b = await node(1, other, on?.())
    await time.runFor(60_000)
    assert.equal(a.upWith(B), false)
    a.peers.send([heartbeat(A, B)])
    b.peers.send([heartbeat(b.disk.id, A)])
    await time.runFor(1_000)
    for (const side of [a, b]) {
      assert.deepEqual(side.events, [])
      assert.ok(side.lines.length >= 1 && side.lines.length <= 2, side.lines.join('\n'))
      assert.equal(new Set(side.lines).size, side.lines.length)
    }
    assert.match(a.lines.join('\n'), says)
    for (const line of [...a.lines, ...b.lines]) assert.ok(!/[\r\n]/.test(line))
  })
}

test('protected-mode: without a secret only loopback peers, in both directions', async () => {
  for (const [options, open] of [
    [{}, false],
    [{ secret: 's' }, true],
    [{ protectedMode: false }, true],
  ] as const) {
    const time = new SimTime()
    const sim = new SimNetwork(time, seededRandom(5))
    const far = members.map((member) => ({
      ...member,
      peerAddress: member.peerAddress.replace('127.0.0', '10.0.0'),
    }))
    const make = async (name: string, id: string): Promise<PeerNode> => {
      const node = new PeerNode(sim, name, disk(id, far), options)
      await node.open()
      return node
    }
    const [a, b] = [await make('10.0.0.1', A), await make('10.0.0.2', B)]
    await time.runFor(10_000)
    assert.equal(a.upWith(B) && b.upWith(A), open)
    assert.equal(a.lines.filter((line) => /protected-mode/.test(line)).length > 0, !open)
    assert.ok(a.lines.length <= 3)
  }
})

test('a garbled frame costs the connection and one line, never the process', async () => {
  const { time, sim, a, b } = await pair()
  for (let i = 0; i < 5; i++) {
    const before = a.of('unreachable').length
    for (const connection of sim.connections) {
      const { localAddress } = connection
      if (connection.host === b.host && localAddress !== `${names[1]}:${PEER_PORT}`) {
        connection.write(Buffer.from('not a frame at all, not even nearly'))
      }
    }
    await time.until(() => a.of('unreachable').length > before)
    await time.until(() => a.upWith(B) && b.upWith(A))
  }
  assert.ok(a.lines.length >= 1 && a.lines.every((line) => /frame/.test(line)), a.lines.join('\n'))
})

test('a message out of place or undecodable ends its link with one line, and is never delivered', async () => {
  const message = (bytes: Uint8Array): Uint8Array => frame(frameKinds.message, bytes)
  const good = Buffer.concat(encodeMessage(heartbeat(A, B, 9)))
  const misplaced = Buffer.concat(encodeMessage(append(A, B, 2, 10)))
  const bad: [link: number, bytes: Uint8Array, says: RegExp][] = [
    [0, message(misplaced), /bad message: append on a link for control/],
    [1, message(good), /bad message: heartbeat on a link for append/],
    [2, message(good), /bad message: heartbeat on a link for forward/],
    [0, message(good.subarray(0, good.length - 1)), /bad message: /],
    [0, message(new Uint8Array(0)), /bad message: /],
    [0, frame(frameKinds.forward, new Uint8Array([1])), /bad message: out of place/],
    [0, frame(frameKinds.forwardReply, new Uint8Array([1])), /bad message: out of place/],
    [2, frame(frameKinds.forwardReply, new Uint8Array([1])), /bad message: out of place/],
    [0, frame(frameKinds.note, encodeFrame(['clock-told'])), /bad message: field 2 is no safe/],
    [
      0,
      frame(frameKinds.note, encodeFrame(['gossip', 1])),
      /bad message: a note of an unknown type/,
    ],
    [
      0,
      frame(frameKinds.note, encodeFrame(['progress-asked', 1])),
      /bad message: 2 fields where 1/,
    ],
    [1, frame(frameKinds.note, encodeFrame(['clock-told', 1])), /bad message: out of place/],
    [0, frame(frameKinds.hello, new Uint8Array([1])), /handshake on an established link/],
  ]
  for (const [link, bytes, says] of bad) {
    const { node, sim, time } = world()
    const b = await node(1)
    const a = await node(0)
    await time.until(() => a.upWith(B) && b.upWith(A))
    await time.until(() => a.peers.forward(B, Buffer.from('x')))
    // The first dials of a host have the first ports, one per kind of link.
    const local = `${names[0]}:${40_000 + link}`
    const connection = [...sim.connections].find(({ localAddress }) => localAddress === local)
    connection?.write(bytes)
    await time.until(() => b.lines.length > 0)
    assert.match(b.lines.join('\n'), says)
    await time.runFor(2_000)
    assert.equal(b.lines.length, 1)
    assert.deepEqual(b.messages(), [])
    assert.ok(a.upWith(B) && b.upWith(A))
  }
})

test('forwarded bodies are answered on their connection, in order', async () => {
  const { time, a, b } = await pair({ echo: true }, { pieceBytesMax: 11 })
  a.peers.flush()
  for (let i = 0; i < 30; i++) assert.ok(a.peers.forward(B, Buffer.from(`${i}`)))
  a.peers.flush()
  await time.until(() => a.of('replied').length === 31)
  const expected = ['first', ...Array.from({ length: 30 }, (_, i) => `${i}`)]
  assert.deepEqual(
    b.of('forwarded').map(({ text }) => text),
    expected,
  )
  assert.deepEqual(
    a.of('replied').map(({ text }) => text),
    expected.map((text) => `(${text})`),
  )
})

test('notes go both ways, each before the message sent after it, and at the flush at the latest', async () => {
  const { time, a, b } = await pair()
  const told = { type: 'clock-told', clock: 1_700_000_000_123 } as const
  const progress = { type: 'progress-told', durable: 7, matches: [2 ** 40, 0] } as const
  a.peers.note(B, told)
  a.peers.send([heartbeat(A, B)])
  a.peers.note(B, progress)
  a.peers.flush()
  b.peers.note(A, { type: 'clock-asked', clock: 5 })
  b.peers.note(A, { type: 'progress-asked' })
  b.peers.flush()
  a.peers.note(nodeId('f'), told)
  await time.until(() => a.of('noted').length === 2 && b.of('noted').length === 2)
  assert.deepEqual(
    a.of('noted').map(({ note }) => note),
    [{ type: 'clock-asked', clock: 5 }, { type: 'progress-asked' }],
  )
  assert.deepEqual(b.of('noted'), [
    { type: 'noted', from: A, note: told },
    { type: 'noted', from: A, note: progress },
  ])
  const kinds = b.events.map(({ type }) => type)
  assert.ok(kinds.indexOf('noted') < kinds.lastIndexOf('message'))
})

test('forward() says false exactly when nothing can have been sent, and a dead link is told once', async () => {
  const { time, a, b } = await pair()
  a.peers.flush()
  await time.until(() => b.of('forwarded').length === 1)
  a.peers.forward(B, Buffer.from('handed over'))
  a.peers.flush()
  a.peers.forward(B, Buffer.from('still queued'))
  a.peers.forward(B, Buffer.from('still queued too'))
  b.host.kill()
  await time.until(() => a.of('forwardDown').length === 1)
  assert.deepEqual(a.of('forwardDown'), [{ type: 'forwardDown', to: B, unsent: 2 }])
  assert.equal(a.peers.forward(B, Buffer.from('later')), false)
  assert.equal(a.peers.forward(nodeId('f'), Buffer.from('to nobody')), false)
  a.peers.flush()
  await time.runFor(2_000)
  assert.equal(a.of('forwardDown').length, 1)
})

test('a forwarded body that is none ends the link with one line; the next one finds it again', async () => {
  const { time, a, b } = await pair()
  a.peers.flush()
  await time.until(() => b.of('forwarded').length === 1)
  a.peers.forward(B, Buffer.from('undecodable'))
  a.peers.forward(B, Buffer.from('behind it'))
  a.peers.flush()
  await time.until(() => a.of('forwardDown').length === 1)
  await time.until(() => a.peers.forward(B, Buffer.from('later')))
  a.peers.flush()
  await time.until(() => b.of('forwarded').length === 2)
  assert.equal(b.of('forwarded')[1]?.text, 'later')
  assert.deepEqual(b.lines, ['peer refused: bad message: undecodable'])
})

test('a full forward queue is refused at once and bounded', async () => {
  const limits = {
    ...testLimits,
    queueBytes: { control: 10_000, append: 10_000, forward: 10_000, snapshot: 10_000 },
  }
  const { a, b, sim, time } = await pair({ limits }, { windowBytes: 1_000 })
  a.peers.flush()
  await time.until(() => b.of('forwarded').length === 1)
  for (const connection of sim.connections) if (connection.host === b.host) connection.pause()
  let taken = 0
  while (a.peers.forward(B, Buffer.alloc(1_000)) && taken < 2_000) {
    taken++
    a.peers.flush()
  }
  assert.ok(taken > 8 && taken < 2_000, `${taken} taken`)
  assert.ok((a.peers.stats()[0]?.queuedBytes.forward ?? 0) <= 10_000)
  for (const connection of sim.connections) connection.resume()
  await time.until(() => b.of('forwarded').length === taken + 1)
})

test('a dropped append is reported, later than the call and once per turn; other drops are not', async () => {
  const limits = {
    ...testLimits,
    queueBytes: { control: 2_000, append: 10_000, forward: 10_000, snapshot: 10_000 },
  }
  const { a, b, sim, time } = await pair({ limits }, { windowBytes: 1_000 })
  for (const connection of sim.connections) if (connection.host === b.host) connection.pause()
  a.peers.send(Array.from({ length: 3_000 }, (_, i) => append(A, B, i + 2, 1_000)))
  assert.equal(a.of('unreachable').length, 0)
  await time.until(() => a.of('unreachable').length > 0)
  await time.runFor(10)
  assert.deepEqual(a.of('unreachable'), [{ type: 'unreachable', id: B }])
  for (let i = 0; i < 100; i++) a.peers.send(Array.from({ length: 500 }, () => heartbeat(A, B)))
  await time.runFor(10)
  assert.equal(a.of('unreachable').length, 1)
  const [stats] = a.peers.stats()
  assert.ok((stats?.messagesDropped ?? 0) > 2_000)
  assert.ok((stats?.queuedBytes.control ?? 0) <= 2_000)
})

test('a large append does not delay what is on the control link', async () => {
  const { a, b, time } = await pair({}, { windowBytes: 65_536, delayMs: { min: 1, max: 1 } })
  a.peers.send([append(A, B, 2, 20_000_000), heartbeat(A, B, 1)])
  await time.until(() => b.messages().length === 1)
  assert.equal(b.messages()[0]?.type, 'heartbeat')
  await time.until(() => b.messages().length === 2)
  const large = b.messages()[1]
  assert.ok(large?.type === 'append' && large.entries[0]?.payload.type === 'commands')
})

test('a link on which nothing passes is given up, and made again when the network heals', async () => {
  const { a, b, sim, time } = await pair()
  sim.block(names[0], names[1])
  await time.until(() => a.of('down').length === 1 && b.of('down').length === 1, 6_000)
  await time.runFor(20_000)
  sim.unblock(names[0], names[1])
  const healed = time.now
  await time.until(() => a.upWith(B) && b.upWith(A), 5_000)
  assert.ok(time.now - healed < 4_000, `${time.now - healed} ms`)
  assert.equal(a.of('restarted').length, 1)
})

test('a peer that comes back is reached at once, not after the longest pause', async () => {
  const { node, time } = world()
  const a = await node(0)
  await time.runFor(30_000)
  const b = await node(1)
  const started = time.now
  await time.until(() => a.upWith(B) && b.upWith(A))
  assert.ok(time.now - started < 200, `${time.now - started} ms`)
})

test('handshakes that hang are bounded, and do not keep members out', async () => {
  const { node, sim, time } = world()
  const a = await node(0)
  const stranger = sim.host('127.0.0.9')
  for (let i = 0; i < 300; i++) {
    stranger.network.dial(names[0], PEER_PORT).start({
      opened: () => {},
      received: () => {},
      finished: () => {},
      drained: () => {},
      closed: () => {},
    })
  }
  await time.runFor(100)
  const held = [...sim.connections].filter((connection) => connection.host === a.host).length
  assert.ok(held <= 64 + 6, `${held} connections are held`)
  const b = await node(1)
  await time.until(() => a.upWith(B) && b.upWith(A), 1_000)
  await time.runFor(5_000)
  assert.equal(a.peers.stats().filter((peer) => peer.up).length, 1)
  assert.deepEqual(a.lines, [])
})

test('setMembers drops who is gone, dials who is new, and tells it later than the call', async () => {
  const { node, time } = world()
  const [a, b, c] = [await node(0), await node(1), await node(2)]
  await time.until(() => a.upWith(B) && a.upWith(C) && b.upWith(C))
  a.peers.setMembers(members.slice(0, 2), 1)
  assert.equal(a.of('unreachable').length, 0)
  await time.until(() => a.of('down').length === 1, 100)
  assert.deepEqual(a.of('down'), [{ type: 'down', id: C }])
  await time.runFor(5_000)
  assert.equal(a.upWith(C) || c.upWith(A), false)
  assert.equal(a.upWith(B), true)
  assert.match(a.lines.join(), /node d+ at .* is not a member/)
  a.peers.setMembers(members, 1)
  await time.until(() => a.upWith(C) && c.upWith(A))
})

test('a node bound by invitation speaks with the members that name it, then with its membership', async () => {
  const { node, time } = world()
  const a = await node(0)
  const b = await node(1, {}, disk(B, undefined as never))
  b.disk.entries = []
  const c = await node(2)
  await time.until(() => a.upWith(B) && b.upWith(A) && b.upWith(C))
  b.peers.send([heartbeat(B, A, 4)])
  await time.until(() => a.messages().length === 1)
  const before = b.of('unreachable').length
  b.peers.setMembers(members, 1)
  await time.runFor(3_000)
  assert.equal(b.of('unreachable').length, before)
  assert.ok(b.upWith(A) && c.upWith(B))
})

test('close() ends everything without a word', async () => {
  const { a, b, sim, time } = await pair()
  const told = a.events.length
  await a.peers.close()
  await time.until(() => b.of('down').length === 1)
  assert.equal(a.events.length, told)
  assert.equal([...sim.connections].filter((connection) => connection.host === a.host).length, 0)
  await time.runFor(5_000)
  assert.equal(a.events.length, told)
})

test('who is at an address: an empty node, a member, a stranger, nobody', async () => {
  const { time, node, sim } = world()
  const a = await node(0)
  await node(1)
  const empty = new PeerNode(sim, '127.0.0.9', new SimDisk(nodeId('9')))
  await empty.open()
  const other = new SimDisk(nodeId('8'))
  other.clusterId = 'e'.repeat(40)
  const stranger = new PeerNode(sim, '127.0.0.8', other)
  await stranger.open()
  const probe = async (address: string): Promise<unknown> => {
    let found: unknown
    void a.peers.enquiries.probe(address).then((said) => {
      found = typeof said === 'string' ? said : [said.id, said.clusterId, said.peerAddress]
    })
    await time.until(() => found !== undefined, 10_000, address)
    return found
  }
  assert.deepEqual(await probe(`127.0.0.9:${PEER_PORT}`), [
    nodeId('9'),
    undefined,
    `127.0.0.9:${PEER_PORT}`,
  ])
  assert.deepEqual(await probe(`127.0.0.2:${PEER_PORT}`), [B, CLUSTER, list[1]])
  assert.deepEqual(await probe(`127.0.0.8:${PEER_PORT}`), [
    nodeId('8'),
    'e'.repeat(40),
    `127.0.0.8:${PEER_PORT}`,
  ])
  assert.match(String(await probe('127.0.0.77:1')), /^127.0.0.77:1 does not answer/)
  assert.deepEqual([...a.lines, ...empty.lines, ...stranger.lines], [])
  const many = Array.from({ length: 17 }, () => a.peers.enquiries.probe('127.0.0.77:1'))
  assert.equal(await many.at(-1), 'too many nodes are being asked')
})

test('a node that was removed hears it from whoever knows, and is let in by nobody', async () => {
  const { time, node } = world()
  const a = await node(0, { removed: [C] })
  a.peers.setMembers(members.slice(0, 2), 5)
  const c = await node(2)
  await time.until(() => c.of('removed').length > 0)
  assert.deepEqual(c.of('removed')[0], { type: 'removed', by: A })
  assert.equal(a.of('up').length + a.of('restarted').length, 0)
  assert.match(a.lines.join(), /was removed from cluster c+/)
  // It believes it, and is silent from then on.
  c.peers.setMembers([], 1)
  await time.runFor(3_000)
  const said = c.of('removed').length
  await time.runFor(10_000)
  assert.equal(c.of('removed').length, said)
})

test('a joiner is told why it may not join, once', async () => {
  const { time, node, sim } = world()
  const a = await node(0, { refuseJoiners: 'the cluster is full' })
  const joiner = new PeerNode(sim, '127.0.0.9', new SimDisk(nodeId('9')), {
    join: ['127.0.0.99:1', `127.0.0.1:${PEER_PORT}`],
  })
  await joiner.open()
  await time.until(() => a.of('joinAsked').length > 3, 20_000, 'it asks again and again')
  const [unanswered, refused, ...more] = joiner.lines
  assert.match(unanswered ?? '', /^no member to ask at 127\.0\.0\.99:1: \S/)
  assert.equal(refused, `peer refused: ${list[0]} says: the cluster is full`)
  assert.deepEqual(more, [])
  await joiner.peers.close()
  assert.equal(joiner.lines.length, 2)
  const asked = a.of('joinAsked').length
  await time.runFor(5_000)
  assert.equal(a.of('joinAsked').length, asked)
})
