/*
 * One link over the simulated network: its pace, its bounds, its signs of life, and its end at every byte.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Connection } from '../../src/network.ts'
import { type FrameKind, frameKinds } from '../../src/peer-frame.ts'
import {
  AcceptHandshake,
  DialHandshake,
  type Identity,
  NONCE_BYTES,
} from '../../src/peer-handshake.ts'
import { type LinkEnd, PeerLink } from '../../src/peer-link.ts'
import { SimNetwork, type SimOptions, SimTime, seededRandom } from '../sim/network.ts'
import { nodeId } from '../sim/peer-node.ts'

const QUEUE_MAX = 100_000
/** Of the acceptor, for its answers. */
const ANSWERS_MAX = 8_000_000
const MESSAGE_MAX = 4_000_000

function identity(digit: string, port: number): Identity {
  return {
    id: nodeId(digit),
    clusterId: 'c'.repeat(40),
    incarnation: 1,
    peerAddress: `127.0.0.1:${port}`,
    clientAddress: '127.0.0.1:1',
    listHash: '0'.repeat(64),
    members: undefined,
    membershipIndex: 0,
  }
}

class Side {
  readonly link: PeerLink
  established = false
  end: LinkEnd | undefined
  readonly received: { kind: FrameKind; bytes: Uint8Array }[] = []

  constructor(connection: Connection, role: 'dialler' | 'acceptor') {
    const self = identity(role === 'dialler' ? 'a' : 'b', role === 'dialler' ? 1 : 2)
    const options = {
      self,
      secret: 's',
      nonce: new Uint8Array(NONCE_BYTES).fill(role.length),
      admit: () => undefined,
    }
    const receiver = { id: nodeId('b'), address: '127.0.0.1:2' }
    this.link = new PeerLink({
      connection,
      role,
      handshake:
        role === 'dialler'
          ? new DialHandshake({ ...options, kind: 'forward', receiver })
          : new AcceptHandshake(options),
      queueBytesMax: role === 'dialler' ? QUEUE_MAX : ANSWERS_MAX,
      messageBytesMax: MESSAGE_MAX,
      handler: {
        admitAddress: () => undefined,
        established: () => {
          this.established = true
        },
        received: (_, kind, bytes) => this.received.push({ kind, bytes }),
        closed: (_, end) => {
          assert.equal(this.end, undefined, 'closed twice')
          this.end = end
        },
      },
    })
    this.link.start()
  }
}

interface Pair {
  readonly time: SimTime
  readonly sim: SimNetwork
  readonly dialler: Side
  readonly acceptor: () => Side
  readonly accepted: readonly Side[]
}

async function connect(
  options: Partial<SimOptions> = {},
  prepare?: (sim: SimNetwork) => void,
): Promise<Pair> {
  const time = new SimTime()
  const sim = new SimNetwork(time, seededRandom(7), options)
  prepare?.(sim)
  const accepted: Side[] = []
  const far = sim.host('127.0.0.2')
  await far.network.listen(
    { host: '127.0.0.2', port: 2, connectionsMax: 10, keepAliveMs: 0 },
    {
      accepted: (connection) => accepted.push(new Side(connection, 'acceptor')),
      failed: assert.fail,
    },
  )
  const near = sim.host('127.0.0.1')
  const dialler = new Side(near.network.dial('127.0.0.2', 2), 'dialler')
  const acceptor = (): Side => {
    const [side] = accepted
    assert.ok(side !== undefined)
    return side
  }
  return { time, sim, dialler, acceptor, accepted }
}

async function established(options: Partial<SimOptions> = {}): Promise<Pair> {
  const pair = await connect(options)
  await pair.time.until(() => pair.dialler.established)
  assert.ok(pair.acceptor().established)
  return pair
}

const text = (message: { bytes: Uint8Array } | undefined): string =>
  Buffer.from(message?.bytes ?? []).toString()

test('messages go both ways in order, and what one turn queued leaves in one write', async () => {
  const { time, sim, dialler, acceptor } = await established({ pieceBytesMax: 3 })
  let writes = 0
  for (const connection of sim.connections) {
    const write = connection.write.bind(connection)
    connection.write = (bytes) => {
      writes++
      return write(bytes)
    }
  }
  for (let i = 0; i < 100; i++) {
    assert.ok(dialler.link.enqueue(frameKinds.forward, Buffer.from(`request ${i}`)))
  }
  dialler.link.flush()
  assert.equal(writes, 1)
  await time.until(() => acceptor().received.length === 100)
  acceptor().link.enqueue(frameKinds.forwardReply, Buffer.from('reply'))
  acceptor().link.flush()
  await time.until(() => dialler.received.length === 1)
  assert.deepEqual(
    acceptor().received.map(text),
    Array.from({ length: 100 }, (_, i) => `request ${i}`),
  )
  assert.equal(text(dialler.received[0]), 'reply')
})

test('nothing is taken before the link is established', async () => {
  const { dialler, time } = await connect()
  assert.equal(dialler.link.enqueue(frameKinds.forward, new Uint8Array(1)), false)
  await time.until(() => dialler.established)
  assert.equal(dialler.link.enqueue(frameKinds.forward, new Uint8Array(1)), true)
})

test('a reader that stops makes the queue fill to its bound and no further; then all arrives', async () => {
  const { time, sim, dialler, acceptor } = await established({ windowBytes: 10_000 })
  for (const connection of sim.connections) {
    if (connection.host.name === '127.0.0.2') connection.pause()
  }
  let taken = 0
  let refused = 0
  for (let i = 0; i < 400; i++) {
    if (dialler.link.enqueue(frameKinds.forward, Buffer.alloc(10_000, i))) taken++
    else refused++
    dialler.link.flush()
    await time.runFor(1)
    assert.ok(dialler.link.queuedBytes <= QUEUE_MAX)
  }
  assert.ok(refused > 100, `${refused} of 400 refused`)
  assert.ok(dialler.link.unsent > 0 && dialler.link.unsent < taken)
  for (const connection of sim.connections) connection.resume()
  await time.until(() => acceptor().received.length === taken)
  assert.equal(dialler.link.queuedBytes, 0)
  assert.equal(dialler.link.unsent, 0)
})

test('one message larger than the queue is taken when nothing waits, and only then', async () => {
  const { time, dialler, acceptor } = await established()
  const large = Buffer.alloc(3_000_000, 'xyz')
  assert.ok(dialler.link.enqueue(frameKinds.forward, large))
  assert.equal(dialler.link.enqueue(frameKinds.forward, Buffer.from('small')), false)
  dialler.link.flush()
  await time.until(() => acceptor().received.length === 1)
  assert.ok(large.equals(acceptor().received[0]?.bytes ?? new Uint8Array(0)))
})

test('a dialler that does not read its answers gets no more questions in', async () => {
  const { time, sim, dialler, acceptor } = await established({ windowBytes: 10_000 })
  for (const connection of sim.connections) {
    if (connection.host.name === '127.0.0.1') connection.pause()
  }
  let answers = 0
  for (let i = 0; i < 2_000 && dialler.link.enqueue(frameKinds.forward, Buffer.alloc(10)); i++) {
    dialler.link.flush()
    await time.runFor(0.5)
    while (answers < acceptor().received.length) {
      assert.ok(
        acceptor().link.enqueue(frameKinds.forwardReply, Buffer.alloc(500_000)),
        'the questions stop before the answers find no room',
      )
      acceptor().link.flush()
      answers++
    }
  }
  const heard = acceptor().received.length
  assert.ok(heard < 1_000, `${heard} questions came in`)
  for (const connection of sim.connections) connection.resume()
  await time.until(() => {
    while (answers < acceptor().received.length) {
      acceptor().link.enqueue(frameKinds.forwardReply, Buffer.alloc(1))
      answers++
    }
    acceptor().link.flush()
    return acceptor().received.length === dialler.link.counters.messagesOut
  })
  assert.ok(acceptor().received.length > heard)
})

/** What Peers does every SWEEP_MS. */
async function sweeps(pair: Pair, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    pair.dialler.link.sweep()
    for (const side of pair.accepted) side.link.sweep()
    await pair.time.runFor(500)
  }
}

test('an idle link lives on its signs of life', async () => {
  const pair = await established()
  await sweeps(pair, 50)
  assert.equal(pair.dialler.end, undefined)
  assert.equal(pair.acceptor().end, undefined)
  assert.equal(pair.acceptor().received.length, 0)
})

for (const [from, to] of [
  ['127.0.0.1', '127.0.0.2'],
  ['127.0.0.2', '127.0.0.1'],
] as const) {
  test(`both sides give up a link on which nothing comes from ${from} any more`, async () => {
    const pair = await established()
    pair.sim.block(from, to)
    await sweeps(pair, 12)
    assert.equal(pair.dialler.end?.type, 'broken')
    assert.equal(pair.dialler.link.enqueue(frameKinds.forward, new Uint8Array(1)), false)
    // What the dialler's close says cannot pass either in the first case: silence has to do.
    assert.equal(pair.acceptor().end?.type, 'broken')
  })
}

test('an acceptor that has paused its reading hears in its own progress that the dialler lives', async () => {
  const slowly = { windowBytes: 10_000, pieceBytesMax: 5_000, delayMs: { min: 15, max: 15 } }
  const pair = await established(slowly)
  const answers = 60
  for (let i = 0; i < answers; i++) {
    assert.ok(pair.acceptor().link.enqueue(frameKinds.forwardReply, Buffer.alloc(100_000)))
  }
  pair.acceptor().link.flush()
  let slow = 0
  while (pair.dialler.received.length < answers && pair.acceptor().end === undefined) {
    await sweeps(pair, 1)
    slow++
  }
  assert.ok(slow > 8, `all was read within ${slow} sweeps`)
  assert.equal(pair.acceptor().end, undefined)
  assert.equal(pair.dialler.end, undefined)
})

test('a process that was stopped itself does not take its own silence for the other side', async () => {
  const pair = await established()
  // One sweep, late by any time, counts once.
  await pair.time.runFor(60_000)
  pair.dialler.link.sweep()
  pair.acceptor().link.sweep()
  await pair.time.runFor(100)
  await sweeps(pair, 3)
  assert.equal(pair.dialler.end, undefined)
  assert.equal(pair.acceptor().end, undefined)
})

test('a connection that says nothing is dropped by the acceptor, and so is one that trickles', async () => {
  const time = new SimTime()
  const sim = new SimNetwork(time, seededRandom(1))
  const accepted: Side[] = []
  await sim
    .host('127.0.0.2')
    .network.listen(
      { host: '127.0.0.2', port: 2, connectionsMax: 10, keepAliveMs: 0 },
      { accepted: (made) => accepted.push(new Side(made, 'acceptor')), failed: assert.fail },
    )
  const near = sim.host('127.0.0.1')
  const connection = near.network.dial('127.0.0.2', 2)
  let closed = false
  connection.start({
    opened: () => {},
    received: () => {},
    finished: () => {},
    drained: () => {},
    closed: () => {},
  })
  await time.until(() => accepted.length === 1)
  for (let i = 0; i < 6 && !closed; i++) {
    connection.write(new Uint8Array([0]))
    await time.runFor(500)
    accepted[0]?.link.sweep()
    closed = accepted[0]?.end !== undefined
  }
  assert.deepEqual(accepted[0]?.end, { type: 'broken', text: 'no handshake in time' })
})

test('a reset after any byte, either way, ends both sides once, and never makes up a message', async () => {
  const whole = await established()
  whole.dialler.link.enqueue(frameKinds.forward, Buffer.from('request'))
  whole.dialler.link.flush()
  await whole.time.until(() => whole.acceptor().received.length === 1)
  const total = {
    toAcceptor: whole.acceptor().link.counters.bytesIn,
    toDialler: whole.dialler.link.counters.bytesIn,
  }
  for (const way of ['toAcceptor', 'toDialler'] as const) {
    for (let cut = 1; cut <= total[way]; cut++) {
      const rule = (): { toAcceptor?: number; toDialler?: number } => ({ [way]: cut })
      const pair = await connect({}, (sim) => {
        sim.cutRule = rule
      })
      let sent = false
      while (pair.dialler.end === undefined && (await pair.time.step())) {
        if (!pair.dialler.established || sent) continue
        sent = true
        pair.dialler.link.enqueue(frameKinds.forward, Buffer.from('request'))
        pair.dialler.link.flush()
      }
      await pair.time.runFor(100)
      assert.equal(pair.dialler.end?.type, 'broken', `${way} ${cut}`)
      const far = pair.accepted[0]
      assert.equal(far?.end?.type, 'broken', `${way} ${cut}`)
      for (const message of far?.received ?? []) assert.equal(text(message), 'request')
      const complete = way === 'toDialler' ? cut === total.toDialler : cut === total.toAcceptor
      if (way === 'toAcceptor') assert.equal(far?.received.length, complete ? 1 : 0)
    }
  }
})
