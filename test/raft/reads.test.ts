/*
 * Linearizable reads by ReadIndex (thesis 6.4; paper 8), one test per rule, each on one core whose peers are the test.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { READS_MAX, ReadRounds } from '../../raft/reads.ts'
import type { Message } from '../../raft/types.ts'
import { ELECTION_TICKS, entry, HEARTBEAT_TICKS, Lone } from './lone.ts'

function confirm(from: string, term: number, round: number): Message {
  return { type: 'heartbeat-reply', from, to: '1', term, round }
}
function ask(from: string, term: number, id: number): Message {
  return { type: 'read', from, to: '1', term, id }
}
function answer(from: string, term: number, id: number, index: number): Message {
  return { type: 'read-reply', from, to: '1', term, id, index }
}
function rounds(one: Lone): number[] {
  return one.sentOf('heartbeat').map(({ round }) => round)
}

test('no read is served before an entry of the leader’s own term is committed', () => {
  const one = new Lone({ terms: [1, 1] }).lead().read(7)
  assert.deepEqual(rounds(one), [0, 0], 'no round is begun')
  one
    .step(confirm('2', 2, 0))
    .step(confirm('2', 2, 1))
    .step(confirm('3', 2, 1))
  one.persistAll().ack('2', 2)
  assert.deepEqual([one.reads, rounds(one)], [[], []])
  one.ack('2', 3)
  assert.deepEqual(rounds(one), [1, 1])
  one.step(confirm('2', 2, 1))
  assert.deepEqual(one.reads, [{ id: 7, index: 3 }])
})

test('a read gets the commit index that stood when its round began, once a majority confirmed it after that', () => {
  const one = new Lone({ size: 5 }).lead().persistAll().ack('2', 1).ack('3', 1)
  one.sent()
  one.read(1)
  one
    .step(confirm('2', 1, 1))
    .step(confirm('2', 1, 1))
    .step(confirm('stranger', 1, 1))
  assert.deepEqual(one.reads, [], 'two of five')
  one.propose('a')
  one.persistAll().ack('2', 2).ack('3', 2)
  assert.equal(one.core.status().commit, 2)
  one.step(confirm('4', 1, 1))
  assert.deepEqual(one.reads, [{ id: 1, index: 1 }])
})

test('an answer to an older round confirms nothing', () => {
  const one = new Lone()
    .leadEstablished()
    .read(1)
    .step(confirm('2', 1, 1))
  one
    .read(2)
    .step(confirm('3', 1, 1))
    .step(confirm('2', 1, 0))
  assert.deepEqual(
    one.reads.map(({ id }) => id),
    [1],
  )
  one.step(confirm('3', 1, 2))
  assert.deepEqual(
    one.reads.map(({ id }) => id),
    [1, 2],
  )
})

test('every round has a number of its own: one is in flight, and one collects what comes meanwhile', () => {
  const one = new Lone().leadEstablished()
  one.sent()
  one.read(1)
  assert.deepEqual(rounds(one), [1, 1])
  one.read(2).read(3)
  assert.deepEqual(rounds(one), [])
  one.step(confirm('2', 1, 1))
  assert.deepEqual(
    one.reads.map(({ id }) => id),
    [1],
  )
  assert.deepEqual(rounds(one), [2, 2], 'they are not served by a round that began before them')
  one.step(confirm('2', 1, 2))
  assert.deepEqual(
    one.reads.map(({ id }) => id),
    [1, 2, 3],
  )
})

test('a lost round is carried by the next heartbeats', () => {
  const one = new Lone().leadEstablished().read(1)
  one.sent()
  assert.deepEqual(rounds(one.tick(HEARTBEAT_TICKS)), [1, 1])
})

test('a leader that is deposed loses its reads, and answers of its old term serve none', () => {
  const one = new Lone().leadEstablished().read(1).read(2)
  one.heartbeat('3', 5)
  assert.deepEqual([one.reads, one.lostReads], [[], [1, 2]])
  one.step(confirm('2', 1, 1)).step(confirm('2', 5, 1))
  assert.deepEqual(one.reads, [])
})

test('a leader without a majority loses its reads when it steps down', () => {
  const one = new Lone()
    .leadEstablished()
    .read(1)
    .tick(2 * ELECTION_TICKS)
  assert.deepEqual(one.lostReads, [1])
})

test('the rounds of a later term begin anew and take nothing over', () => {
  const one = new Lone()
    .leadEstablished()
    .read(1)
    .tick(2 * ELECTION_TICKS)
  one.lead().persistAll().ack('2', 2)
  one.sent()
  one.read(2).step(confirm('2', 1, 1))
  assert.deepEqual(one.reads, [], 'round 1 of term 1 is not round 1 of term 2')
  assert.deepEqual(one.step(confirm('2', 2, 1)).reads, [{ id: 2, index: 2 }])
})

test('a sole voter confirms by itself', () => {
  const one = new Lone({ size: 1 }).tick().persistAll().read(1)
  assert.deepEqual(one.reads, [{ id: 1, index: 1 }])
})

test('a follower asks its leader, and without one the read is lost at once', () => {
  const one = new Lone().read(1)
  assert.deepEqual(one.lostReads, [1])
  one.heartbeat('2', 1).sent()
  one.read(2)
  assert.deepEqual(
    one.sentOf('read').map(({ to, id }) => [to, id]),
    [['2', 2]],
  )
  one.step(answer('2', 1, 2, 0))
  assert.deepEqual(one.reads, [{ id: 2, index: 0 }])
})

test('an answer to a read that nobody waits for any more serves nothing', () => {
  const one = new Lone()
    .heartbeat('2', 1)
    .read(1)
    .step(answer('2', 1, 1, 0))
  one.step(answer('2', 1, 1, 9)).step(answer('2', 1, 99, 9))
  assert.equal(one.reads.length, 1)
})

test('a follower gives a read up when the leader changes, when its link breaks, or after an election time', () => {
  const changed = new Lone().heartbeat('2', 1).read(1).heartbeat('3', 2)
  assert.deepEqual(changed.step(answer('2', 1, 1, 0)).lostReads, [1])
  const broken = new Lone().heartbeat('2', 1).read(1)
  broken.core.reportUnreachable('3')
  assert.deepEqual(broken.run().lostReads, [])
  broken.core.reportUnreachable('2')
  assert.deepEqual(broken.run().lostReads, [1])
  const slow = new Lone().heartbeat('2', 1).read(1)
  for (let tick = 0; tick < ELECTION_TICKS - 1; tick++) slow.tick().heartbeat('2', 1)
  assert.deepEqual(slow.lostReads, [])
  assert.deepEqual(slow.tick().lostReads, [1])
  assert.deepEqual(slow.step(answer('2', 1, 1, 0)).reads, [])
})

test('a leader answers the reads of its followers after the same round as its own', () => {
  const one = new Lone().leadEstablished()
  one.sent()
  one.step(ask('3', 1, 40)).read(1)
  one.sent()
  one.step(ask('2', 1, 41))
  assert.deepEqual(one.sentOf('read-reply'), [])
  one.step(confirm('3', 1, 1))
  assert.deepEqual(
    one.sentOf('read-reply').map(({ to, id, index }) => [to, id, index]),
    [['3', 40, 1]],
  )
})

test('a peer with a read pending is told the commit index at once, and only once', () => {
  const one = new Lone().leadEstablished().ack('2', 1).ack('3', 1)
  one.propose('a')
  one.persistAll().ack('2', 2)
  one.sent()
  one.step(ask('2', 1, 1)).step(confirm('2', 1, 1))
  const commits = one.sentOf('append').map(({ to, commit }) => [to, commit])
  assert.deepEqual(commits, [['2', 2]])
  assert.deepEqual(one.step(confirm('2', 1, 1)).sentOf('append'), [])
})

test('a peer with a read pending behind a full window is told no more than its appends reach', () => {
  const limits = { appendBytes: 30, window: { messages: 1, bytes: 1_000 } }
  const one = new Lone({ limits }).leadEstablished().ack('3', 1)
  one.propose('a', 'b', 'c')
  one.persistAll().ack('2', 2).ack('2', 3).ack('2', 4)
  assert.equal(one.core.status().commit, 4)
  one.step(ask('3', 1, 1)).step(confirm('3', 1, 1))
  const told = one.sentOf('append').filter(({ to }) => to === '3')
  assert.ok(told.length <= 3, `told ${told.length} times`)
  assert.deepEqual(told.at(-1)?.prev.index, 2)
})

test('a node that does not lead ignores the reads it is asked for', () => {
  const one = new Lone().heartbeat('2', 1)
  one.sent()
  assert.deepEqual(one.step(ask('3', 1, 1)).sent(), [])
})

test('reads that cannot be answered are bounded: the next one is lost at once', () => {
  const one = new Lone().lead()
  for (let id = 1; id <= READS_MAX + 1; id++) one.core.requestRead(id)
  assert.deepEqual(one.run().lostReads, [READS_MAX + 1])
  const follower = new Lone().append('2', 1, [0, 0], [entry(1, 1)])
  for (let id = 1; id <= READS_MAX + 1; id++) follower.core.requestRead(id)
  assert.deepEqual(follower.run().lostReads, [READS_MAX + 1])
})

test('ReadRounds begins nothing twice', () => {
  const reads = new ReadRounds()
  assert.throws(() => reads.begin(1, '1'), /nothing to read/)
  reads.add({ from: '1', id: 1 })
  reads.begin(1, '1')
  reads.add({ from: '1', id: 2 })
  assert.equal(reads.canBegin, false)
  assert.throws(() => reads.begin(1, '1'), /in flight/)
})
