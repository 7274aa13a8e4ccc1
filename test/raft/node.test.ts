/*
 * RaftNode, the driver: what it does with its ports, in which order, and what it does no more after a failure or a
 * stop. The core's rules have tests of their own; here one node, or a small cluster, is enough.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RaftNode } from '../../raft/node.ts'
import type { LogRetention } from '../../raft/ports.ts'
import type { Entry, Message, NodeId } from '../../raft/types.ts'
import { Cluster, ListMachine, seeded } from './cluster.ts'
import { entryText } from './invariants.ts'
import { entry, membershipOf } from './lone.ts'
import { MemoryLog } from './memory-log.ts'

/** Lets the reactions of settled promises run. */
async function reactions(): Promise<void> {
  for (let turn = 0; turn < 8; turn++) await undefined
}

/** A node with everything it needs, whose turns the test takes. */
class Bench {
  readonly log: MemoryLog = new MemoryLog()
  readonly machine: ListMachine = new ListMachine(undefined, () => {})
  readonly sent: Message[] = []
  readonly fatal: unknown[] = []
  readonly sending: NodeId[] = []
  readonly cancelled: NodeId[] = []
  sendable = true
  bytesMax = Number.POSITIVE_INFINITY
  pinnedBytesMax = Number.POSITIVE_INFINITY
  /** What the next snapshot holds. */
  installed: readonly Entry[] = []
  wakes = 0
  readonly node: RaftNode

  constructor(size: number, applySliceBytes: number) {
    const ids = Array.from({ length: size }, (_, at) => `${at + 1}`)
    this.node = new RaftNode({
      id: '1',
      hardState: this.log.hardState(),
      log: this.log,
      machine: this.machine,
      membership: membershipOf(ids),
      random: () => 0,
      electionTicks: 10,
      heartbeatTicks: 2,
      limits: {
        appendBytes: 1_000,
        window: { messages: 4, bytes: 10_000 },
        uncommittedBytes: 10_000,
        applyBytes: 10_000,
      },
      transport: { send: (messages) => this.sent.push(...messages) },
      source: {
        send: (to) => {
          this.sending.push(to)
          return this.sendable ? this.machine.checkpoint : undefined
        },
        cancel: (to) => this.cancelled.push(to),
      },
      sink: {
        install: async ({ last }, hardState) => {
          await this.log.install(last, hardState)
          this.machine.install(this.installed)
        },
      },
      retention: this.#retention(),
      events: {
        wake: () => {
          this.wakes++
        },
        fatal: (error) => this.fatal.push(error),
      },
      applySliceBytes,
      compactStepEntries: 2,
    })
  }

  #retention(): LogRetention {
    const [bytesMax, pinnedBytesMax] = [() => this.bytesMax, () => this.pinnedBytesMax]
    return {
      bytes: () => this.log.bytes(),
      get bytesMax() {
        return bytesMax()
      },
      get pinnedBytesMax() {
        return pinnedBytesMax()
      },
    }
  }

  async turn(): Promise<void> {
    this.node.pump()
    await reactions()
  }

  async persist(): Promise<void> {
    this.log.complete()
    await reactions()
    await this.turn()
  }

  propose(count: number): void {
    const data = Array.from({ length: count }, (_, at) => Uint8Array.of(97 + at))
    assert.equal(this.node.propose(data).accepted, true)
  }

  /** The sole voter is elected and has applied its no-op. */
  async lead(): Promise<this> {
    this.node.tick()
    await this.turn()
    await this.persist()
    await this.persist()
    assert.deepEqual([this.node.isLeader, this.node.established], [true, true])
    return this
  }
}

test('a node tells who leads, its term, its members and who is slowest', async () => {
  const bench = await new Bench(1, 1_000).lead()
  const { node } = bench
  assert.deepEqual([node.leader, node.term], ['1', 1])
  assert.deepEqual(node.membership, membershipOf(['1']))
  assert.deepEqual(node.slowest, { id: '1', match: 1 })
})

test('every input wakes the owner, which pumps in its own time', async () => {
  const bench = await new Bench(1, 1_000).lead()
  const { node } = bench
  const inputs: (() => void)[] = [
    () => node.tick(),
    () => bench.propose(1),
    () => node.read(() => {}),
    () => node.unreachable('2'),
    () => node.restarted('2'),
    () => node.compactTo(1),
    () => node.step({ type: 'read', from: '2', to: '1', term: 1, id: 1 }),
  ]
  for (const input of inputs) {
    bench.wakes = 0
    input()
    assert.equal(bench.wakes, 1)
  }
  bench.wakes = 0
  assert.equal(bench.log.pending, undefined, 'nothing happens before the pump')
  await bench.turn()
  await bench.persist()
  assert.ok(bench.wakes > 0, 'the answer of the disk wakes as well')
})

test('a backlog is applied in slices, and each leaves the turn to others', async () => {
  const bench = await new Bench(1, 40).lead()
  bench.propose(6)
  await bench.turn()
  bench.log.complete()
  await reactions()
  const applied: number[] = []
  for (let turn = 0; turn < 4; turn++) {
    bench.wakes = 0
    bench.node.pump()
    applied.push(bench.machine.applied.length)
    assert.equal(bench.wakes > 0, turn < 2, 'it wakes itself while there is more')
  }
  assert.deepEqual(applied, [3, 5, 7, 7])
})

test('what the state machine does for an entry counts for its slice', async () => {
  const bench = await new Bench(1, 1_000).lead()
  bench.machine.costBytes = 450
  bench.propose(6)
  await bench.turn()
  bench.log.complete()
  await reactions()
  const applied: number[] = []
  for (let turn = 0; turn < 4; turn++) {
    bench.node.pump()
    applied.push(bench.machine.applied.length)
  }
  assert.deepEqual(applied, [4, 7, 7, 7])
})

test('a state machine that takes no more holds up applying and the reads behind it, nothing else', async () => {
  const bench = await new Bench(1, 1_000).lead()
  bench.machine.open = false
  bench.propose(2)
  await bench.turn()
  await bench.persist()
  const outcomes: boolean[] = []
  bench.node.read((confirmed) => outcomes.push(confirmed))
  bench.wakes = 0
  await bench.turn()
  assert.deepEqual([bench.wakes, bench.machine.applied.length, outcomes], [0, 1, []])
  assert.equal(bench.node.status().commit, 3)
  bench.machine.open = true
  await bench.turn()
  assert.deepEqual([bench.machine.applied.map(entryText), outcomes], [['noop', 'a', 'b'], [true]])
})

test('a failed write is fatal, once: nothing is sent, applied or written after it', async () => {
  const bench = await new Bench(1, 1_000).lead()
  bench.propose(1)
  await bench.turn()
  bench.node.compactTo(1)
  await bench.turn()
  const error = new Error('fsync')
  bench.log.fail(error)
  await reactions()
  assert.deepEqual(bench.fatal, [error])
  bench.wakes = 0
  bench.node.tick()
  bench.node.step({ type: 'read', from: '2', to: '1', term: 1, id: 1 })
  bench.node.unreachable('2')
  bench.node.restarted('2')
  await bench.turn()
  assert.deepEqual([bench.wakes, bench.sent, bench.log.pending], [0, [], undefined])
  assert.equal(bench.log.base().index, 0, 'the compaction behind it was not begun')
  assert.throws(() => bench.propose(1), /stopped/)
  assert.throws(() => bench.node.read(() => {}), /stopped/)
})

test('a stop waits for the write that has begun and promises nothing by it', async () => {
  const bench = new Bench(3, 1_000)
  bench.node.step({
    type: 'vote',
    from: '2',
    to: '1',
    term: 1,
    last: { index: 0, term: 0 },
    transfer: false,
  })
  await bench.turn()
  let stopped = false
  const stopping = bench.node.stop().then(() => {
    stopped = true
  })
  await reactions()
  assert.equal(stopped, false)
  bench.log.complete()
  await stopping
  await bench.turn()
  assert.deepEqual([bench.log.hardState().vote, bench.sent], ['2', []])
})

test('compaction goes in small steps, never while a write is in flight, never past what is applied durably', async () => {
  const bench = await new Bench(1, 1_000).lead()
  bench.propose(5)
  await bench.turn()
  await bench.persist()
  bench.node.compactTo(5)
  bench.node.pump()
  bench.propose(1)
  bench.node.pump()
  await reactions()
  const bases = [bench.log.base().index]
  await bench.persist()
  for (let turn = 0; turn < 4; turn++) {
    bases.push(bench.log.base().index)
    await bench.turn()
  }
  assert.deepEqual(bases, [2, 4, 5, 5, 5])
})

/** Leads '2' and '3' with a log that begins after entry 4; '3' needs a snapshot. */
async function compactedLeader(): Promise<Bench> {
  const bench = new Bench(3, 1_000)
  for (let tick = 0; tick < 10; tick++) bench.node.tick()
  await bench.turn()
  const granted = { from: '2', to: '1', term: 1, granted: true } as const
  bench.node.step({ type: 'pre-vote-reply', ...granted })
  await bench.turn()
  await bench.persist()
  bench.node.step({ type: 'vote-reply', ...granted })
  bench.propose(4)
  await bench.turn()
  await bench.persist()
  bench.node.step({ type: 'append-reply', from: '2', to: '1', term: 1, match: 5 })
  await bench.turn()
  bench.machine.checkpoint = 5
  bench.node.compactTo(5)
  for (let turn = 0; turn < 4; turn++) await bench.turn()
  return bench
}

test('above its limit the log is compacted past a member that is behind, which is sent a snapshot', async () => {
  const bench = await compactedLeader()
  assert.deepEqual([bench.log.base().index, bench.sending], [0, []], 'it is kept for 3')
  bench.bytesMax = 10
  for (let turn = 0; turn < 6; turn++) await bench.turn()
  assert.deepEqual([bench.log.base().index, bench.sending], [5, ['3']])
  assert.deepEqual(bench.cancelled, [])
  bench.propose(2)
  await bench.turn()
  await bench.persist()
  bench.node.step({ type: 'append-reply', from: '2', to: '1', term: 1, match: 7 })
  await bench.turn()
  bench.node.compactTo(7)
  for (let turn = 0; turn < 4; turn++) await bench.turn()
  assert.equal(bench.log.base().index, 5, 'what follows the snapshot is kept')
  bench.pinnedBytesMax = 10
  bench.machine.checkpoint = 7
  for (let turn = 0; turn < 4; turn++) await bench.turn()
  assert.deepEqual([bench.log.base().index, bench.sending], [7, ['3', '3']], 'a newer one is begun')
})

test('a sending is cancelled once when the member has it, and when this node leads no more', async () => {
  for (const message of [
    { type: 'append-reply', from: '3', to: '1', term: 1, match: 5 },
    { type: 'heartbeat-reply', from: '3', to: '1', term: 2, round: 0 },
  ] as const) {
    const bench = await compactedLeader()
    bench.bytesMax = 10
    for (let turn = 0; turn < 6; turn++) await bench.turn()
    bench.node.step(message)
    for (let turn = 0; turn < 3; turn++) await bench.turn()
    assert.deepEqual(bench.cancelled, ['3'])
    bench.wakes = 0
    bench.node.snapshotEnded('3', true)
    assert.equal(bench.wakes, 0, 'whatever it hears of it later means nothing')
  }
})

test('a source that cannot send now is asked again, not cancelled', async () => {
  const bench = await compactedLeader()
  bench.sendable = false
  bench.bytesMax = 10
  for (let turn = 0; turn < 6; turn++) await bench.turn()
  const asked = bench.sending.length
  assert.ok(asked > 0)
  await bench.turn()
  assert.deepEqual([bench.sending.length, bench.cancelled], [asked, []])
  const round = 0
  bench.node.step({ type: 'heartbeat-reply', from: '3', to: '1', term: 1, round })
  await bench.turn()
  const hint = { index: 1, term: 1 }
  const reject = {
    type: 'append-reject',
    from: '3',
    to: '1',
    term: 1,
    prev: 5,
    hint,
    last: 1,
  } as const
  bench.sendable = true
  bench.node.step(reject)
  await bench.turn()
  assert.equal(bench.sending.length, asked + 1)
})

test('a snapshot is installed when the disk is free; what waited to be applied is dropped for it', async () => {
  const bench = new Bench(3, 1)
  const entries = [1, 2, 3].map((index) => entry(index, 1))
  const prev = { index: 0, term: 0 }
  bench.node.step({ type: 'append', from: '2', to: '1', term: 1, prev, entries, commit: 3 })
  await bench.turn()
  bench.log.complete()
  await reactions()
  bench.node.pump()
  assert.equal(bench.machine.applied.length, 1, 'one slice')
  const snapshot = { last: { index: 5, term: 1 }, membership: membershipOf(['1', '2', '3']) }
  assert.equal(bench.node.offerSnapshot('2', 1, snapshot), true)
  bench.node.compactTo(9)
  for (let turn = 0; turn < 3; turn++) await bench.turn()
  assert.equal(bench.machine.applied.length, 1, 'nothing is applied once the switch has begun')
  bench.installed = [1, 2, 3, 4, 5].map((index) => entry(index, 1))
  await bench.persist()
  assert.deepEqual([bench.fatal, bench.node.status().applied], [[], 5])
  await bench.node.stop()
  assert.equal(bench.node.offerSnapshot('2', 1, snapshot), false, 'a stopped node takes none')
})

test('a state that is not at the snapshot after the switch ends the process', async () => {
  const bench = new Bench(3, 1)
  const snapshot = { last: { index: 5, term: 1 }, membership: membershipOf(['1', '2', '3']) }
  bench.node.offerSnapshot('2', 1, snapshot)
  await bench.turn()
  bench.log.complete()
  await reactions()
  assert.match(String(bench.fatal[0]), /installed a snapshot at 5, now at 0/)
})

test('a node without a leader compacts nothing: it does not know who is slowest', async () => {
  const bench = new Bench(3, 1_000)
  bench.node.compactTo(9)
  await bench.turn()
  assert.deepEqual([bench.node.slowest, bench.log.base().index], [undefined, 0])
})

test('a read that was lost tells its caller, who may ask again', async () => {
  const bench = new Bench(3, 1_000)
  const outcomes: boolean[] = []
  bench.node.read((confirmed) => outcomes.push(confirmed))
  assert.deepEqual(outcomes, [], 'never from inside read()')
  await bench.turn()
  assert.deepEqual(outcomes, [false])
})

test('a caller that asks again at once asks in the next turn, so that no turn is endless', async () => {
  const bench = new Bench(3, 1_000)
  let outcomes = 0
  const again = (): void => {
    outcomes++
    bench.node.read(again)
  }
  bench.node.read(again)
  bench.node.pump()
  assert.equal(outcomes, 1)
  const sole = await new Bench(1, 1_000).lead()
  let served = 0
  const more = (confirmed: boolean): void => {
    if (confirmed) served++
    sole.node.read(more)
  }
  sole.node.read(more)
  sole.node.pump()
  assert.equal(served, 1)
})

/** Elects somebody; random timeouts, so the test asks who it became. */
async function elect(cluster: Cluster): Promise<NodeId> {
  for (let tick = 0; tick < 100; tick++) {
    for (const id of cluster.ids) await cluster.tick(id)
    await cluster.settle()
    const leader = cluster.leader()
    if (leader !== undefined && cluster.node(leader).established) return leader
  }
  throw new Error('nobody was elected')
}

test('an answer to a read of the process before serves no read of the process after it', async () => {
  const cluster = new Cluster({ size: 3, random: seeded(7) })
  const leader = await elect(cluster)
  const [follower = '', third = ''] = cluster.ids.filter((id) => id !== leader)
  const deliver = async (from: NodeId, to: NodeId, type: Message['type']): Promise<void> => {
    const found = cluster.packets.find((m) => m.from === from && m.to === to && m.type === type)
    assert.ok(found !== undefined, `${from}>${to} ${type} is on its way`)
    await cluster.deliver(found)
  }
  await cluster.checkpoint(follower)
  await cluster.read(follower, () => assert.fail('this process ends before it is answered'))
  await deliver(follower, leader, 'read')
  await deliver(leader, third, 'heartbeat')
  cluster.crash(follower, false)
  cluster.restart(follower)
  // The round is still open when a write is acknowledged, and the new process asks for a read after it.
  await cluster.propose(leader, ['new'])
  await deliver(leader, third, 'append')
  await cluster.persist(third)
  await cluster.persist(leader)
  await deliver(third, leader, 'append-reply')
  assert.equal(cluster.acks, 1)
  await deliver(leader, follower, 'heartbeat')
  let served = false
  await cluster.read(follower, (confirmed) => {
    served = confirmed
  })
  await deliver(third, leader, 'heartbeat-reply')
  await deliver(leader, follower, 'read-reply')
  assert.equal(served, false, 'that answer is older than the read')
  await cluster.settle()
  for (let tick = 0; tick < 2; tick++) await cluster.tick(leader)
  await cluster.settle()
  assert.equal(served, true)
  assert.deepEqual(entryText(cluster.host(follower).machine.applied.at(-1) ?? assert.fail()), 'new')
})
