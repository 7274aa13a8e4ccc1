/*
 * Sender and receiver of a snapshot over a wire that the test holds in its hands: flow control, resumption, what is
 * late, doubled or of the past, and every way in which either side gives up.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RaftNode } from '../../raft/node.ts'
import type { SnapshotMeta } from '../../raft/types.ts'
import { limits } from '../../src/config.ts'
import type { Logger } from '../../src/logger.ts'
import type { Body } from '../../src/peer-frame.ts'
import {
  decodeToReceiver,
  decodeToSender,
  encodeToReceiver,
  encodeToSender,
  type ToReceiver,
  type ToSender,
} from '../../src/snapshot-messages.ts'
import { SnapshotReceiver } from '../../src/snapshot-receiver.ts'
import { SnapshotSender } from '../../src/snapshot-sender.ts'
import { CodecError } from '../../storage/codec.ts'
import { openStorage, type Storage } from '../../storage/open.ts'
import { SimTime } from '../sim/network.ts'
import { MemoryEngine } from '../storage/memory-engine.ts'

const VALUES = 1200
const membership = {
  members: [{ id: 'a', peerAddress: 'h:1', clientAddress: 'h:2', role: 'voter' as const }],
}

function silent(lines: string[]): Logger {
  const ignore = (): void => {}
  const note = (_: unknown, text: string): void => void lines.push(text)
  const logger: Logger = {
    trace: ignore,
    debug: ignore,
    info: ignore,
    warn: note,
    error: note,
    fatal: note,
    child: () => logger,
  }
  return logger
}

async function storageWith(values: number): Promise<{ engine: MemoryEngine; storage: Storage }> {
  const engine = new MemoryEngine()
  const options = {
    memtableBytes: 1 << 30,
    cacheBytes: 1 << 20,
    views: limits.stateViews,
    now: () => 0,
  }
  const storage = await openStorage(engine, options)
  if (values === 0) return { engine, storage }
  const { state } = storage
  state.setHashKey(Buffer.from('01234567'))
  for (let i = 0; i < values; i++) {
    const value = Buffer.alloc(10_000, i)
    state.put(0, `k${i}`, { type: 'string', expireAt: 0, version: 1, value })
  }
  state.commitEntry({ index: 1, term: 1, clock: 1, membership })
  await state.checkpoint()
  return { engine, storage }
}

function bytesOf(body: Body): Uint8Array {
  return body instanceof Uint8Array ? body : Buffer.concat(body)
}

/** One leader 'a' that sends, and one member 'b' that receives. */
class Wire {
  readonly time = new SimTime()
  readonly lines: string[] = []
  readonly toReceiver: Uint8Array[] = []
  readonly toSender: Uint8Array[] = []
  readonly ended: boolean[] = []
  readonly offered: SnapshotMeta[] = []
  up = true
  term = 1
  commit = 0
  accepts = true
  held = false
  readonly sender: SnapshotSender
  readonly receiver: SnapshotReceiver
  readonly from: Storage
  readonly to: Storage
  readonly engine: MemoryEngine

  constructor(from: Storage, { storage, engine }: { storage: Storage; engine: MemoryEngine }) {
    this.from = from
    this.to = storage
    this.engine = engine
    const { time, lines } = this
    const clock = { monotonic: () => time.now, wall: () => 0 }
    const timers = { after: (ms: number, act: () => void) => time.after(ms, act) }
    const log = silent(lines)
    this.sender = new SnapshotSender({
      state: from.state,
      clock,
      timers,
      log,
      reaches: () => this.up,
      send: (_, body) => {
        if (this.up) this.toReceiver.push(bytesOf(body))
        return this.up
      },
      ended: (_, delivered) => this.ended.push(delivered),
    })
    // All that the receiver asks of raft.
    const raft: Pick<RaftNode, 'term' | 'status' | 'offerSnapshot'> = Object.defineProperties(
      { offerSnapshot: (_: string, __: number, snapshot: SnapshotMeta) => this.#offered(snapshot) },
      {
        term: { get: () => this.term },
        status: { value: () => ({ commit: this.commit }) },
      },
    ) as RaftNode
    this.receiver = new SnapshotReceiver({
      received: storage.received,
      clock,
      timers,
      log,
      raft: () => raft as RaftNode,
      checkpoints: {
        hold: async () => {
          this.held = true
        },
        release: () => {
          this.held = false
        },
      },
      installed: () => {},
      fatal: assert.fail,
    })
    this.receiver.opened(storage.log)
  }

  static async make(values = VALUES): Promise<Wire> {
    const { storage } = await storageWith(values)
    return new Wire(storage, await storageWith(0))
  }

  #offered(snapshot: SnapshotMeta): boolean {
    this.offered.push(snapshot)
    return this.accepts
  }

  /** Parts go from one side to the other until nothing is left, or `stop` says so. */
  async run(stop: () => boolean = () => false): Promise<void> {
    for (let idle = 0; idle < 20; idle++) {
      if (stop()) return
      const part = this.toReceiver.shift()
      const answer = this.toSender.shift()
      if (part !== undefined) this.receiver.received('a', part, (body) => this.toSender.push(body))
      if (answer !== undefined) this.sender.received('b', answer)
      if (part !== undefined || answer !== undefined) idle = 0
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  breakLink(): void {
    this.up = false
    this.toReceiver.length = 0
    this.toSender.length = 0
    this.sender.linkChanged('b', 'down')
  }

  mendLink(): void {
    this.up = true
    this.sender.linkChanged('b', 'up')
  }

  get sent(): readonly ToReceiver[] {
    return this.toReceiver.map(decodeToReceiver)
  }

  get answers(): readonly ToSender[] {
    return this.toSender.map(decodeToSender)
  }

  get environments(): string {
    return [...this.engine.list()].sort().join()
  }
}

test('messages survive the way, and nothing else is taken for one', () => {
  const parts: readonly ToReceiver[] = [
    { type: 'begin', session: 3, term: 9 },
    { type: 'chunk', session: 3, offset: 77, bytes: Uint8Array.of(1, 2, 3) },
    { type: 'end', session: 3, offset: 80 },
    { type: 'abort', session: 3 },
  ]
  for (const part of parts) {
    const bytes = Buffer.concat(encodeToReceiver(part))
    const decoded = decodeToReceiver(bytes)
    if (decoded.type === 'chunk') assert.deepEqual([...decoded.bytes], [1, 2, 3])
    else assert.deepEqual(decoded, part)
    for (let cut = 0; cut < bytes.length; cut++) {
      assert.throws(() => decodeToReceiver(bytes.subarray(0, cut)), CodecError)
    }
    const last = bytes.length - 1
    bytes[last] = (bytes[last] ?? 0) ^ 0x80
    if (part.type === 'chunk') assert.throws(() => decodeToReceiver(bytes), /checksum/)
  }
  const answers: readonly ToSender[] = [
    { type: 'at', session: 3, offset: 80 },
    { type: 'done', session: 3 },
    { type: 'failed', session: 3, reason: 'why' },
  ]
  for (const answer of answers) {
    assert.deepEqual(decodeToSender(encodeToSender(answer)), answer)
    assert.throws(() => decodeToSender(encodeToSender(answer).subarray(1)), CodecError)
  }
})

test('a state arrives, is offered once, and is installed when raft says so', async () => {
  const wire = await Wire.make()
  assert.equal(wire.sender.send('b', 1), 1)
  await wire.run()
  const snapshot = { last: { index: 1, term: 1 }, membership }
  assert.deepEqual(wire.offered, [snapshot])
  assert.deepEqual([wire.held, wire.ended], [true, []])
  await wire.receiver.install(snapshot, { term: 1, vote: undefined })
  await wire.run()
  assert.deepEqual([wire.held, wire.ended, wire.lines], [false, [true], []])
  assert.equal(wire.to.state.size(0), VALUES)
  assert.equal(wire.environments, 'log,state-2')
})

test('no more is on its way than the window allows, until the receiver has taken it', async () => {
  const wire = await Wire.make()
  wire.sender.send('b', 1)
  await wire.run(() => wire.sent.some(({ type }) => type === 'chunk'))
  // From here on nothing of it is delivered.
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
  const bytes = wire.sent.reduce((sum, part) => {
    return sum + (part.type === 'chunk' ? part.bytes.length : 0)
  }, 0)
  const most = limits.snapshotWindowBytes + limits.snapshotChunkBytes
  assert.ok(bytes >= limits.snapshotWindowBytes && bytes < most, `${bytes} bytes`)
  await wire.run()
  assert.equal(wire.offered.length, 1)
})

test('after a broken link the same session goes on where the receiver stands', async () => {
  const wire = await Wire.make()
  wire.sender.send('b', 1)
  let chunks = 0
  for (let breaks = 0; breaks < 3; breaks++) {
    const stop = ++chunks * 5
    let seen = 0
    await wire.run(() => {
      seen++
      return seen > stop * 3
    })
    wire.breakLink()
    wire.mendLink()
    assert.deepEqual(wire.sent, [{ type: 'begin', session: 1, term: 1 }])
  }
  await wire.run()
  assert.deepEqual([wire.offered.length, wire.ended, wire.lines], [1, [], []])
})

test('parts that come twice, late or of another session change nothing', async () => {
  const wire = await Wire.make()
  wire.sender.send('b', 1)
  await wire.run(() => wire.sent.length > 4)
  const late = [...wire.toReceiver]
  const reply = (body: Uint8Array): void => void wire.toSender.push(body)
  for (const part of late) wire.receiver.received('a', part, reply)
  await wire.run()
  const stranger = encodeToReceiver({
    type: 'chunk',
    session: 9,
    offset: 0,
    bytes: Uint8Array.of(1),
  })
  const refusals: ToSender[] = []
  wire.receiver.received('a', Buffer.concat(stranger), (body) =>
    refusals.push(decodeToSender(body)),
  )
  assert.deepEqual(refusals, [{ type: 'failed', session: 9, reason: 'it was given up' }])
  for (const part of late) wire.receiver.received('a', part, reply)
  await wire.run()
  assert.deepEqual([wire.offered.length, wire.ended, wire.lines], [1, [], []])
})

test('what a leader of the past sends is refused, and what one had begun is given up', async () => {
  const wire = await Wire.make()
  wire.term = 5
  wire.sender.send('b', 4)
  await wire.run()
  assert.deepEqual([wire.offered, wire.ended], [[], [false]])
  wire.sender.send('b', 5)
  await wire.run(() => wire.environments === 'log,state-1,state-2' && wire.sent.length > 2)
  wire.receiver.tick()
  assert.equal(wire.environments, 'log,state-1,state-2')
  wire.term = 6
  wire.receiver.tick()
  await wire.run()
  assert.deepEqual([wire.offered, wire.ended], [[], [false, false]])
  assert.equal(wire.environments, 'log,state-1')
})

test('a newer snapshot takes the place of one that is being received', async () => {
  const wire = await Wire.make()
  wire.sender.send('b', 1)
  await wire.run(() => wire.sent.length > 4)
  wire.sender.send('b', 1)
  await wire.run()
  assert.deepEqual([wire.offered.length, wire.ended], [1, []])
})

test('a state that raft does not want is dropped, and told as done only when it is no news', async () => {
  for (const commit of [0, 1]) {
    const wire = await Wire.make(10)
    wire.accepts = false
    wire.commit = commit
    wire.sender.send('b', 1)
    await wire.run()
    assert.deepEqual([wire.ended, wire.held], [[commit === 1], false])
    assert.equal(wire.environments, 'log,state-1')
  }
})

test('a damaged state is refused with the reason', async () => {
  const wire = await Wire.make(10)
  wire.sender.send('b', 1)
  await wire.run(() => wire.sent.some(({ type }) => type === 'chunk'))
  const [chunk] = wire.sent
  assert.ok(chunk?.type === 'chunk')
  const bytes = Uint8Array.from(chunk.bytes)
  bytes[5000] = (bytes[5000] ?? 0) ^ 1
  wire.toReceiver[0] = Buffer.concat(encodeToReceiver({ ...chunk, bytes }))
  await wire.run()
  assert.deepEqual([wire.offered, wire.ended], [[], [false]])
  assert.match(wire.lines.join(), /given up.*could not be delivered/)
  assert.equal(wire.environments, 'log,state-1')
})

test('either side gives up when the other is silent for too long', async () => {
  const wire = await Wire.make()
  wire.up = false
  assert.equal(wire.sender.send('b', 1), undefined, 'nothing is begun without a link')
  wire.up = true
  wire.sender.send('b', 1)
  wire.breakLink()
  await wire.time.runFor(limits.snapshotPatienceMs + 1)
  assert.deepEqual(wire.ended, [false], 'the link did not come back')
  wire.up = true
  wire.sender.send('b', 1)
  await wire.run(() => wire.sent.length > 4)
  await wire.time.runFor(limits.snapshotPatienceMs + 1)
  await wire.run(() => true)
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(wire.environments, 'log,state-1', 'the receiver waits no longer')
  await wire.time.runFor(limits.snapshotStallMs)
  assert.deepEqual(wire.ended, [false, false], 'and then the sender')
})

test('a sending that is cancelled is silent, and the receiver drops what it has', async () => {
  const wire = await Wire.make()
  wire.sender.send('b', 1)
  await wire.run(() => wire.sent.length > 4)
  wire.sender.cancel('b')
  await wire.run()
  assert.deepEqual([wire.ended, wire.environments], [[], 'log,state-1'])
  await wire.sender.close()
  await wire.receiver.close()
})

test('no more snapshots are sent at a time than the limit says', async () => {
  const wire = await Wire.make(10)
  const begun = ['b', 'c', 'd', 'e'].map((to) => wire.sender.send(to, 1))
  assert.deepEqual(begun.filter((index) => index !== undefined).length, limits.snapshotsSendingMax)
  await wire.sender.close()
  assert.equal(wire.sender.send('f', 1), 1)
  await wire.sender.close()
})
