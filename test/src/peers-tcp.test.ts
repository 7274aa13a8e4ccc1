/*
 * Peers over real loopback sockets: the same code, and that 64 MiB on one link do not hold up another.
 */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { Append, Heartbeat, Member, Message, NodeId } from '../../raft/types.ts'
import { Peers } from '../../src/peers.ts'
import { systemClock, systemTimers, TcpNetwork } from '../../src/tcp.ts'
import { freePorts } from '../processes.ts'
import { eventually } from '../sim/eventually.ts'
import { nodeId, testLimits } from '../sim/peer-node.ts'

const [A, B] = [nodeId('a'), nodeId('b')]
const MEBIBYTE = 1_048_576

interface Node {
  readonly peers: Peers
  readonly received: { message: Message; at: number }[]
  readonly forwarded: Uint8Array[]
  readonly replied: string[]
  down: number
}

function makeNode(id: NodeId, ports: readonly [number, number]): Node {
  const node: Omit<Node, 'peers'> = { received: [], forwarded: [], replied: [], down: 0 }
  const port = id === A ? ports[0] : ports[1]
  const peers = new Peers({
    network: new TcpNetwork(),
    clock: systemClock,
    timers: systemTimers,
    random: Math.random,
    randomBytes,
    log: { warn: (_, text) => assert.fail(text) },
    events: {
      message: (message) => node.received.push({ message, at: performance.now() }),
      noted: () => {},
      unreachable: () => {},
      restarted: () => {},
      peerUp: () => {},
      peerDown: () => {
        node.down++
      },
      forwarded: (_, body, channel) => {
        node.forwarded.push(body)
        channel.reply(Buffer.from(`got ${body.length}`))
        peers.flush()
      },
      forwardReplied: (_, body) => node.replied.push(Buffer.from(body).toString()),
      forwardDown: () => {},
      snapshot: () => {},
      snapshotReplied: () => {},
      snapshotLink: () => {},
      removed: () => {},
      joinAsked: () => undefined,
    },
    limits: testLimits,
    id,
    clusterId: 'c'.repeat(40),
    incarnation: 1,
    peerAddress: `127.0.0.1:${port}`,
    clientAddress: `127.0.0.1:${port + 1}`,
    seeds: [],
    listHash: '0'.repeat(64),
    join: [],
    wasRemoved: () => false,
    secret: 'between us',
    protectedMode: true,
  })
  return Object.assign(node, { peers })
}

async function openPair(): Promise<{ a: Node; b: Node; close: () => Promise<void> }> {
  const first = await freePorts(2)
  const ports = [first, first + 1] as const
  const members: Member[] = [A, B].map((id, at) => ({
    id,
    role: 'voter',
    peerAddress: `127.0.0.1:${ports[at]}`,
    clientAddress: '127.0.0.1:1',
  }))
  const [a, b] = [makeNode(A, ports), makeNode(B, ports)]
  await a.peers.open(['127.0.0.1'], ports[0])
  await b.peers.open(['127.0.0.1'], ports[1])
  for (const { peers } of [a, b]) peers.setMembers(members, 1)
  await eventually(() => [a, b].every(({ peers }) => peers.stats()[0]?.up === true))
  return {
    a,
    b,
    close: async () => {
      await a.peers.close()
      await b.peers.close()
    },
  }
}

function append(bytes: number): Append {
  const data = randomBytes(bytes)
  const entries = [
    { index: 2, term: 1, payload: { type: 'commands', data }, encoded: undefined } as const,
  ]
  return {
    type: 'append',
    from: A,
    to: B,
    term: 1,
    prev: { index: 1, term: 1 },
    entries,
    commit: 0,
  }
}

function heartbeat(round: number): Heartbeat {
  const slowest = { id: B, match: 0 }
  return { type: 'heartbeat', from: A, to: B, term: 1, commit: 0, round, slowest }
}

test('64 MiB appends and forwards arrive whole, and heartbeats pass them', async () => {
  const { a, b, close } = await openPair()
  const large = append(64 * MEBIBYTE)
  // Encoded once, as the leader has it by the time it sends.
  await eventually(() => {
    a.peers.send([heartbeat(0)])
    return b.received.length > 0
  })
  const forwarded = randomBytes(64 * MEBIBYTE)
  a.peers.send([large])
  await eventually(() => a.peers.forward(B, forwarded))
  a.peers.flush()
  let round = 0
  let lastSent = performance.now()
  await eventually(() => {
    if (performance.now() - lastSent > 10) {
      lastSent = performance.now()
      a.peers.send([heartbeat(++round)])
    }
    const appended = b.received.some(({ message }) => message.type === 'append')
    return appended && b.forwarded.length === 1 && a.replied.length === 1
  })
  await eventually(() => roundsOf(b).at(-1) === round)
  const at = b.received.findIndex(({ message }) => message.type === 'append')
  const arrived = b.received[at]?.message
  assert.ok(arrived?.type === 'append')
  const payload = arrived.entries[0]?.payload
  const sent = large.entries[0]?.payload
  assert.ok(payload?.type === 'commands' && sent?.type === 'commands')
  assert.ok(Buffer.from(payload.data).equals(sent.data))
  assert.ok(forwarded.equals(b.forwarded[0] ?? new Uint8Array(0)))
  assert.deepEqual(a.replied, [`got ${forwarded.length}`])
  // Heartbeats came while the rest was on its way, all of them and in order.
  const before = b.received
    .slice(0, at)
    .filter(({ message }) => message.type === 'heartbeat').length
  assert.ok(before >= 3, `${before} heartbeats before the append, of ${round}`)
  const rounds = roundsOf(b).filter((heard) => heard > 0)
  assert.deepEqual(
    rounds,
    rounds.map((_, index) => index + 1),
  )
  assert.equal(a.down + b.down, 0)
  await close()
})

function roundsOf(node: Node): number[] {
  return node.received.flatMap(({ message }) =>
    message.type === 'heartbeat' ? [message.round] : [],
  )
}

test('a peer that ends is down at once', async () => {
  const { a, b, close } = await openPair()
  await b.peers.close()
  await eventually(() => a.down === 1, 2_000)
  assert.equal(a.peers.stats()[0]?.up, false)
  await close()
})
