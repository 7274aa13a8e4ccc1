/*
 * InstallSnapshot (paper 7) seen from one core: which snapshots are accepted, what stands still until the switch is
 * durable, and what the node is afterwards; and from one leader: to whom it sends one, and what it keeps meanwhile.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SnapshotMeta } from '../../raft/types.ts'
import { ELECTION_TICKS, entry, HEARTBEAT_TICKS, Lone, membershipOf } from './lone.ts'

function snapshotAt(
  index: number,
  term: number,
  ids: readonly string[] = ['1', '2', '3'],
): SnapshotMeta {
  return { last: { index, term }, membership: membershipOf(ids) }
}

function offer(one: Lone, term: number, snapshot: SnapshotMeta): boolean {
  const accepted = one.core.offerSnapshot('2', term, snapshot)
  one.run()
  return accepted
}

test('a snapshot of an older term is refused, whatever it holds', () => {
  const one = new Lone({ terms: [1, 3] })
  assert.equal(offer(one, 2, snapshotAt(9, 2)), false)
  assert.deepEqual([one.core.leader, one.core.term, one.sent()], [undefined, 3, []])
})

test('a snapshot that is not ahead of what is committed is refused, and answered with that', () => {
  const one = new Lone({ terms: [1, 1, 1], applied: 0 })
  one.append('2', 1, [3, 1], [], 3)
  one.sent()
  for (const index of [1, 3]) {
    assert.equal(offer(one, 1, snapshotAt(index, 1)), false)
    assert.deepEqual(
      one.sentOf('append-reply').map(({ match }) => match),
      [3],
    )
  }
  assert.equal(offer(one, 1, snapshotAt(4, 1)), true)
})

test('a snapshot of a later term makes its sender the leader, and the switch makes the term durable', () => {
  const one = new Lone({ terms: [1] })
  assert.equal(offer(one, 4, snapshotAt(9, 3)), true)
  assert.deepEqual([one.core.leader, one.core.term], ['2', 4])
  one.persistAll()
  assert.deepEqual(one.log.hardState(), { term: 4, vote: undefined })
  assert.deepEqual(one.log.base(), { index: 9, term: 3 })
})

test('a snapshot of a term above its leader’s is a bug of the caller', () => {
  assert.throws(() => offer(new Lone(), 3, snapshotAt(9, 4)), /term 4 from a leader of 3/)
})

test('nothing is acknowledged before the switch is durable; then the node stands at the snapshot', () => {
  const one = new Lone({ terms: [1, 1] })
  offer(one, 1, snapshotAt(7, 1, ['1', '2', '3', '4']))
  assert.deepEqual([one.writing, one.sent()], [true, []])
  assert.equal(one.core.status().commit, 0)
  one.persist()
  assert.deepEqual(one.sentOf('append-reply'), [
    { type: 'append-reply', from: '1', to: '2', term: 1, match: 7 },
  ])
  const { commit, applied, last, durable, first } = one.core.status()
  assert.deepEqual([commit, applied, last, durable, first], [7, 7, 7, 7, 8])
  assert.deepEqual(one.core.membership, membershipOf(['1', '2', '3', '4']))
  one.append('2', 1, [7, 1], [entry(8, 1)], 8).persistAll()
  assert.deepEqual(
    one.applied.map(({ index }) => index),
    [8],
    'applying goes on behind it',
  )
})

test('what was accepted before the snapshot is durable before the switch begins', () => {
  const one = new Lone({ terms: [1] })
  one.append('2', 1, [1, 1], [entry(2, 1)])
  one.append('2', 1, [2, 1], [entry(3, 1)])
  offer(one, 1, snapshotAt(3, 1))
  one.persist()
  assert.equal(one.log.pending?.snapshot, undefined)
  assert.deepEqual(one.log.pending?.entries.length, 1)
  one.persist()
  assert.deepEqual(one.log.pending?.snapshot, { index: 3, term: 1 })
  one.persist()
  assert.deepEqual([one.log.base().index, one.log.lastIndex()], [0, 3], 'the log agrees and stays')
  assert.equal(one.core.status().applied, 3)
})

test('until the switch is durable the log stands still: no append, no commit, nothing to apply, no campaign', () => {
  const one = new Lone({ terms: [1, 1, 1] })
  offer(one, 1, snapshotAt(9, 1))
  one.append('2', 1, [3, 1], [entry(4, 1)], 3)
  one.heartbeat('2', 1, 3)
  assert.deepEqual([one.core.status().commit, one.core.status().last, one.applied], [0, 3, []])
  assert.deepEqual(
    one.sent().map(({ type }) => type),
    ['heartbeat-reply'],
    'a heartbeat is answered, an append is not',
  )
  one.tick(3 * ELECTION_TICKS)
  assert.deepEqual([one.core.status().role, one.sent()], ['follower', []])
  assert.equal(offer(one, 1, snapshotAt(12, 1)), false, 'one at a time')
  one.persist()
  assert.equal(one.core.status().applied, 9)
  one.tick(2 * ELECTION_TICKS)
  assert.equal(one.core.status().role, 'pre-candidate')
})

test('a leader of a later term that is heard during the switch gets the acknowledgement in its own term', () => {
  const one = new Lone({ terms: [1] })
  offer(one, 1, snapshotAt(9, 1))
  one.heartbeat('3', 2)
  one.sent()
  one.persistAll()
  assert.deepEqual(one.sentOf('append-reply'), [
    { type: 'append-reply', from: '1', to: '3', term: 2, match: 9 },
  ])
})

test('entries that are being applied when the snapshot takes their place are forgotten', () => {
  const one = new Lone({ terms: [1, 1, 1], slowApply: true, limits: { applyBytes: 70 } })
  one.append('2', 1, [3, 1], [], 3)
  assert.ok(one.applied.length > 0)
  offer(one, 1, snapshotAt(9, 1))
  one.persistAll()
  one.append('2', 1, [9, 1], [entry(10, 1), entry(11, 1)], 11).persistAll()
  assert.deepEqual(
    one.applied.slice(-2).map(({ index }) => index),
    [10, 11],
    'the queue of entries to apply is empty again',
  )
})

test('the membership of the snapshot counts, and a later one in the log that is kept counts before it', () => {
  const one = new Lone({ terms: [1, 1] })
  const membership = membershipOf(['1', '2'])
  const change = {
    index: 3,
    term: 1,
    payload: { type: 'membership', membership },
    encoded: undefined,
  } as const
  one.append('2', 1, [2, 1], [change]).persistAll()
  offer(one, 1, snapshotAt(2, 1, ['1', '2', '3', '4', '5']))
  one.persistAll()
  assert.deepEqual(one.core.membership, membership)
  one.append('2', 2, [2, 1], [entry(3, 2)]).persistAll()
  assert.deepEqual(one.core.membership, membershipOf(['1', '2', '3', '4', '5']), 'it was cut')
})

/** A leader whose log begins after entry 4, and whose peer '3' has acknowledged nothing. */
async function compactedLeader(): Promise<Lone> {
  const one = new Lone({ terms: [1, 1, 1, 1], applied: 4 })
  await one.log.compact(4)
  one.leadEstablished().sent()
  one.step({
    type: 'append-reject',
    from: '3',
    to: '1',
    term: one.core.term,
    prev: 4,
    hint: { index: 1, term: 1 },
    last: 1,
  })
  return one
}

test('a member that needs what is gone is named once, and sent nothing while its snapshot is on its way', async () => {
  const one = await compactedLeader()
  assert.deepEqual(one.snapshots, ['3'])
  one.core.snapshotBegun('3', 4)
  one.propose('a')
  one.tick(HEARTBEAT_TICKS)
  const to3 = one.sent().filter(({ to }) => to === '3')
  assert.deepEqual(
    to3.map(({ type }) => type),
    ['heartbeat'],
  )
  assert.deepEqual([one.snapshots, one.core.sendsSnapshot('3')], [['3'], true])
})

test('the log is kept for a snapshot from its index on, and not at all for a member that needs one', async () => {
  const one = await compactedLeader()
  one.propose('a', 'b')
  one.persistAll().ack('2', 7)
  assert.deepEqual([one.core.slowest?.match, one.core.pinned], [7, Number.POSITIVE_INFINITY])
  one.core.snapshotBegun('3', 5)
  assert.deepEqual([one.core.slowest, one.core.pinned], [{ id: '3', match: 5 }, 5])
  one.core.snapshotEnded('3', true)
  assert.deepEqual([one.core.pinned, one.core.sendsSnapshot('3')], [5, false])
  one.sent()
  one.ack('3', 6)
  assert.deepEqual(one.core.pinned, Number.POSITIVE_INFINITY)
  assert.deepEqual(
    one.sentOf('append').map(({ prev }) => prev.index),
    [6],
  )
})

test('a snapshot that cannot be sent now is asked for again when the member answers a heartbeat', async () => {
  const one = await compactedLeader()
  one.core.snapshotBegun('3', undefined)
  one.run().sent()
  one.tick(HEARTBEAT_TICKS)
  assert.deepEqual(one.sentOf('append'), [])
  one.step({ type: 'heartbeat-reply', from: '3', to: '1', term: one.core.term, round: 0 })
  assert.deepEqual(
    one.sentOf('append').map(({ prev }) => prev.index),
    [4],
  )
})

test('a node that does not lead sends no snapshot, and hears of none', () => {
  const one = new Lone()
  one.core.snapshotBegun('3', 4)
  one.core.snapshotEnded('3', true)
  assert.deepEqual(
    [one.core.sendsSnapshot('3'), one.core.pinned],
    [false, Number.POSITIVE_INFINITY],
  )
})
