/*
 * Log replication and commitment, one test per rule of the paper (figure 2, 5.3, 5.4.2) and the thesis (10.2.1), each
 * on one core whose peers are the test.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Append, Entry, Message } from '../../raft/types.ts'
import { ELECTION_TICKS, entry, HEARTBEAT_TICKS, Lone } from './lone.ts'

function reject(
  from: string,
  prev: number,
  hint: readonly [number, number],
  last: number,
): Message {
  const position = { index: hint[0], term: hint[1] }
  return { type: 'append-reject', from, to: '1', term: 2, prev, hint: position, last }
}
function heartbeatReply(from: string, term: number, round = 0): Message {
  return { type: 'heartbeat-reply', from, to: '1', term, round }
}
function indices(append: Append | undefined): (number | undefined)[] {
  return [append?.prev.index, ...(append?.entries ?? []).map((sent: Entry) => sent.index)]
}
function terms(one: Lone): (number | undefined)[] {
  const { last } = one.core.status()
  return Array.from({ length: last }, (_, at) => one.log.term(at + 1))
}

/** A leader of term 2 over five entries of term 1, its no-op at 6; its disk holds all of it. */
function leader(limits: { appendBytes?: number } = {}): Lone {
  const one = new Lone({ terms: [1, 1, 1, 1, 1], limits }).lead().persistAll()
  one.sent()
  return one
}

// ---- The follower ---------------------------------------------------------------------------------------------------

test('an append is refused where the log has no entry of that index and term', () => {
  for (const [prev, hint] of [
    [
      [3, 2],
      [2, 1],
    ],
    [
      [2, 2],
      [2, 1],
    ],
    [
      [9, 2],
      [2, 1],
    ],
  ] as const) {
    const one = new Lone({ terms: [1, 1] }).append('2', 2, prev, [entry(prev[0] + 1, 2)])
    one.persistAll()
    const [answer, ...more] = one.sent()
    assert.equal(answer?.type, 'append-reject')
    assert.deepEqual(
      [answer?.type === 'append-reject' && answer.hint, more],
      [{ index: hint[0], term: hint[1] }, []],
    )
    assert.equal(one.core.status().last, 2, 'and changes nothing')
  }
})

test('an append behind a matching entry is stored and acknowledged when it is durable, not before', () => {
  const one = new Lone({ terms: [1] }).append('2', 1, [1, 1], [entry(2, 1), entry(3, 1)])
  assert.deepEqual([one.sent(), one.core.status().last], [[], 3])
  one.persist()
  const [ack] = one.sentOf('append-reply')
  assert.deepEqual([ack?.match, one.log.lastIndex()], [3, 3])
})

test('a repeated append is acknowledged only when the first one is durable', () => {
  const one = new Lone({ terms: [1] }).append('2', 1, [1, 1], [entry(2, 1)])
  one.append('2', 1, [1, 1], [entry(2, 1)])
  assert.deepEqual(one.sent(), [])
  one.persistAll()
  const acks = one.sentOf('append-reply')
  assert.deepEqual(acks.at(-1)?.match, 2)
})

test('an empty append acknowledges prev, and never the entries behind it that it did not verify', () => {
  const one = new Lone({ terms: [1, 1, 1] }).append('2', 2, [1, 1], []).persistAll()
  assert.equal(one.sentOf('append-reply')[0]?.match, 1)
})

test('an existing entry that conflicts is cut with all that follow it', () => {
  const one = new Lone({ terms: [1, 1, 1, 1] }).append('2', 2, [1, 1], [entry(2, 2)]).persistAll()
  assert.deepEqual(terms(one), [1, 2])
})

test('entries that are already there are left alone, with what follows them', () => {
  const one = new Lone({ terms: [1, 1, 2, 2] }).append('2', 2, [1, 1], [entry(2, 1), entry(3, 2)])
  one.persistAll()
  assert.deepEqual(terms(one), [1, 1, 2, 2])
  assert.equal(one.sentOf('append-reply')[0]?.match, 3)
})

test('only from the first real conflict on is the log cut', () => {
  const one = new Lone({ terms: [1, 1, 1, 1] })
  one.append('2', 2, [0, 0], [entry(1, 1), entry(2, 1), entry(3, 2)]).persistAll()
  assert.deepEqual(terms(one), [1, 1, 2])
})

test('the commit index of a follower is the lower of what the leader says and what this append verified', () => {
  const one = new Lone({ terms: [1, 1, 1, 1] }).append('2', 2, [2, 1], [], 4).persistAll()
  assert.equal(one.core.status().commit, 2, 'entries 3 and 4 may not be the leader’s')
  one.append('2', 2, [2, 1], [entry(3, 2), entry(4, 2)], 3).persistAll()
  assert.equal(one.core.status().commit, 3)
  one.append('2', 2, [2, 1], [entry(3, 2)], 1)
  assert.equal(one.core.status().commit, 3, 'and never falls')
})

test('a heartbeat commits what this node has acknowledged, and moves no log position', () => {
  const one = new Lone({ terms: [1] }).append('2', 2, [1, 1], [entry(2, 2)]).persistAll()
  one.sent()
  one.heartbeat('2', 2, 2)
  assert.equal(one.core.status().commit, 2)
  assert.deepEqual(
    one.sent().map((message) => message.type),
    ['heartbeat-reply'],
  )
})

test('committed entries are applied in order, and only when they are durable here', () => {
  const one = new Lone().append('2', 1, [0, 0], [entry(1, 1), entry(2, 1)], 2)
  assert.deepEqual([one.core.status().commit, one.applied.length], [2, 0])
  one.persistAll()
  assert.deepEqual(
    one.applied.map(({ index }) => index),
    [1, 2],
  )
})

test('an append from before the commit index is acknowledged up to it; what it brings beyond is taken', () => {
  const one = new Lone({ terms: [1, 1, 1] }).append('2', 2, [3, 1], [], 3).persistAll()
  one.sent()
  one.append('2', 2, [1, 1], [entry(2, 1)], 3)
  assert.equal(one.sentOf('append-reply')[0]?.match, 3)
  one.append('2', 2, [2, 1], [entry(3, 1), entry(4, 2)], 3).persistAll()
  assert.equal(one.sentOf('append-reply')[0]?.match, 4)
})

test('acknowledgements that wait for a slow disk become one', () => {
  const one = new Lone({ terms: [1] }).append('2', 1, [1, 1], [entry(2, 1)])
  for (let round = 0; round < 50; round++) one.append('2', 1, [1, 1], [entry(2, 1)])
  one.append('2', 1, [2, 1], [entry(3, 1)])
  for (let round = 0; round < 50; round++) one.append('2', 1, [2, 1], [])
  one.persistAll()
  assert.deepEqual(
    one.sentOf('append-reply').map(({ match }) => match),
    [2, 3],
  )
})

test('what was cut while it was being written is not durable, even when it comes back', () => {
  const one = new Lone({ terms: [1] }).append('2', 1, [1, 1], [entry(2, 1), entry(3, 1)])
  one.append('3', 2, [1, 1], [entry(2, 2)])
  one.append('2', 3, [1, 1], [entry(2, 1), entry(3, 1)])
  one.persist()
  assert.equal(one.core.status().durable, 1)
  const early = one.sentOf('append-reply').filter(({ term }) => term === 3)
  assert.deepEqual(early, [], 'nothing of term 3 is durable yet')
  one.persist()
  assert.deepEqual([one.core.status().durable, one.log.hardState().term], [3, 3])
  assert.equal(one.sentOf('append-reply')[0]?.match, 3)
})

test('a write that was partly cut makes durable only what is left of it', () => {
  const one = new Lone({ terms: [1] }).append('2', 1, [1, 1], [entry(2, 1), entry(3, 1)])
  one.append('3', 2, [2, 1], [entry(3, 2), entry(4, 2)])
  one.persist()
  assert.deepEqual([one.core.status().durable, one.core.status().last], [2, 4])
  one.persist()
  assert.deepEqual(terms(one), [1, 1, 2, 2])
})

test('two leaders of one term end the process', () => {
  const one = new Lone().heartbeat('2', 1)
  assert.throws(() => one.heartbeat('3', 1), /two leaders in term 1/)
  const leads = new Lone().lead()
  assert.throws(() => leads.heartbeat('3', 1), /two leaders in term 1/)
})

// ---- The leader -----------------------------------------------------------------------------------------------------

test('a new leader appends a no-op of its own term behind its log, and never touches what is there', () => {
  const one = leader()
  assert.deepEqual(terms(one), [1, 1, 1, 1, 1, 2])
  assert.equal(one.log.entry(6)?.payload.type, 'noop')
})

test('a new leader asks each peer with an empty append behind its last entry', () => {
  const one = new Lone({ terms: [1, 1] }).lead()
  const probes = one.sentOf('append')
  assert.deepEqual(
    probes.map((probe) => [probe.to, ...indices(probe)]),
    [
      ['2', 2],
      ['3', 2],
    ],
  )
})

test('a proposal is appended to the own log first and sent while the own disk writes', () => {
  const one = leader().ack('2', 6)
  one.sent()
  const result = one.propose('a', 'b')
  assert.deepEqual(result, { accepted: true, term: 2, first: 7 })
  assert.equal(one.writing, true)
  assert.deepEqual(
    one.sentOf('append').map((append) => [append.to, ...indices(append)]),
    [['2', 6, 7, 8]],
  )
})

test('a rejected append makes the leader go back, a whole term at a time', () => {
  const one = new Lone({ terms: [1, 1, 1, 3, 3, 3, 3], hardState: { term: 3, vote: undefined } })
  one.lead().sent()
  const toThree = { ...reject('3', 7, [6, 2], 9), term: 4 }
  assert.deepEqual(indices(one.step(toThree).sentOf('append')[0]), [3])
})

test('a rejection that is late or repeated is told apart by its prev and changes nothing', () => {
  const one = leader()
  one.step(reject('2', 5, [3, 1], 3))
  assert.deepEqual(indices(one.sentOf('append')[0]), [3])
  one.step(reject('2', 5, [1, 1], 3))
  assert.deepEqual(one.sent(), [])
  one.ack('2', 3)
  assert.deepEqual(indices(one.sentOf('append')[0]), [3, 4, 5, 6])
  one.step(reject('2', 2, [1, 1], 3))
  assert.deepEqual(one.sent(), [])
  assert.deepEqual(one.core.status().peers[0], { id: '2', match: 3, next: 7, state: 'replicate' })
})

test('a peer that acknowledged is sent what follows, until it holds everything', () => {
  const one = leader().ack('2', 5)
  assert.deepEqual(indices(one.sentOf('append')[0]), [5, 6])
  assert.deepEqual(one.ack('2', 6).sentOf('append'), [])
})

test('an older or repeated acknowledgement moves nothing back', () => {
  const one = leader().ack('2', 5).ack('2', 6)
  one.ack('2', 5).ack('2', 0).ack('2', 6)
  assert.deepEqual(one.core.status().peers[0], { id: '2', match: 6, next: 7, state: 'replicate' })
})

test('appends are pipelined inside the window of messages and of bytes', () => {
  const one = new Lone({ limits: { appendBytes: 30, window: { messages: 2, bytes: 10_000 } } })
  one.leadEstablished().sent()
  one.propose('a', 'b', 'c', 'd')
  assert.deepEqual(one.sentOf('append').map(indices), [
    [1, 2],
    [2, 3],
  ])
  assert.deepEqual(one.ack('2', 2).sentOf('append').map(indices), [[3, 4]])
  const bytes = new Lone({ limits: { appendBytes: 30, window: { messages: 9, bytes: 40 } } })
  bytes.leadEstablished().sent()
  bytes.propose('a', 'b', 'c', 'd')
  assert.equal(bytes.sentOf('append').length, 2)
})

test('a lost append is found by the empty one behind the second heartbeat without progress', () => {
  const one = leader().ack('2', 6)
  one.propose('a')
  one.step(heartbeatReply('2', 2)).sent()
  const [nudge] = one.step(heartbeatReply('2', 2)).sentOf('append')
  assert.deepEqual(indices(nudge), [7])
  assert.deepEqual(
    one
      .step(reject('2', 7, [6, 2], 6))
      .sentOf('append')
      .map(indices),
    [[6]],
  )
  assert.deepEqual(one.ack('2', 6).sentOf('append').map(indices), [[6, 7]])
})

test('a lost probe is sent again when the peer answers a heartbeat, and only then', () => {
  const one = leader().tick(HEARTBEAT_TICKS)
  assert.equal(one.sentOf('append').length, 0)
  assert.deepEqual(one.step(heartbeatReply('3', 2)).sentOf('append').map(indices), [[5]])
})

test('a broken link makes the leader ask again from the last match', () => {
  const one = leader().ack('2', 6)
  one.propose('a')
  one.sent()
  one.core.reportUnreachable('2')
  assert.deepEqual(indices(one.run().sentOf('append')[0]), [6])
  assert.deepEqual(one.ack('2', 6).sentOf('append').map(indices), [[6, 7]])
})

test('a restarted peer is asked again, also while it is being asked', () => {
  const one = leader()
  one.core.peerRestarted('2')
  assert.deepEqual(indices(one.run().sentOf('append')[0]), [5])
})

test('an entry is committed when a majority of DISKS holds it, the own one included', () => {
  const one = new Lone({ size: 5 }).lead()
  one.ack('2', 1).ack('3', 1)
  assert.equal(one.core.status().commit, 0, 'the own disk has not answered')
  one.persistAll()
  assert.equal(one.core.status().commit, 1)
  const others = new Lone().lead().ack('2', 1)
  assert.equal(others.core.status().commit, 0)
  assert.equal(others.ack('3', 1).core.status().commit, 1, 'two others are a majority, too')
  assert.equal(others.applied.length, 0, 'but it is applied here when it is durable here')
  assert.equal(others.persistAll().applied.length, 1)
})

test('a majority of an even cluster is more than half', () => {
  const one = new Lone({ size: 4 }).lead().persistAll().ack('2', 1)
  assert.equal(one.core.status().commit, 0)
  assert.equal(one.ack('4', 1).core.status().commit, 1)
})

test('an entry of an earlier term is never committed by counting, only together with one of the own term', () => {
  const one = leader().ack('2', 5).ack('3', 5)
  assert.equal(one.core.status().commit, 0)
  assert.equal(one.ack('2', 6).core.status().commit, 6)
})

test('the commit index travels with the next append, and with the heartbeat no further than the match', () => {
  const one = leader().ack('2', 6)
  one.sent()
  one.propose('a')
  assert.equal(one.sentOf('append')[0]?.commit, 6)
  const beats = one.tick(HEARTBEAT_TICKS).sentOf('heartbeat')
  assert.deepEqual(
    beats.map(({ to, commit }) => [to, commit]),
    [
      ['2', 6],
      ['3', 0],
    ],
  )
})

test('an acknowledgement of what the leader never had ends the process', () => {
  assert.throws(() => leader().ack('2', 7), /acknowledges 7/)
})

test('an acknowledgement of another term, or to a node that leads no more, counts for nothing', () => {
  const one = leader()
  one.step({ type: 'append-reply', from: '2', to: '1', term: 1, match: 6 })
  assert.equal(one.core.status().commit, 0)
  one.tick(2 * ELECTION_TICKS).step({ type: 'append-reply', from: '2', to: '1', term: 2, match: 6 })
  one.step(reject('2', 5, [1, 1], 1)).step(heartbeatReply('2', 2))
  assert.deepEqual([one.core.status().role, one.core.status().commit], ['follower', 0])
})

test('a stranger is never sent anything, counted or asked', () => {
  const one = leader().ack('9', 6).ack('8', 6)
  one.step(reject('9', 5, [1, 1], 1)).step(heartbeatReply('9', 2))
  assert.equal(one.core.status().commit, 0)
  assert.deepEqual(
    one.sent().filter(({ to }) => to === '9' || to === '8'),
    [],
  )
})

test('a peer whose disk was rolled back counts for nothing, not even for what it acknowledged before', () => {
  const one = new Lone().lead().ack('2', 1)
  one.core.peerRestarted('2')
  const rolledBack: Message = {
    type: 'append-reject',
    from: '2',
    to: '1',
    term: 1,
    prev: 1,
    hint: { index: 0, term: 0 },
    last: 0,
  }
  one.run().step(rolledBack)
  assert.equal(one.core.status().peers[0]?.state, 'reverted')
  one.persistAll()
  assert.equal(one.core.status().commit, 0)
  one.sent()
  const beats = one.tick(HEARTBEAT_TICKS).sentOf('heartbeat')
  assert.equal(beats[0]?.commit, 0)
  assert.equal(one.ack('3', 1).core.status().commit, 1)
})

test('a rolled-back peer with other entries where it acknowledged is not asked for ever', () => {
  const one = leader().ack('2', 6)
  one.core.peerRestarted('2')
  one.run().sent()
  one.step(reject('2', 6, [6, 1], 8))
  assert.deepEqual([one.core.status().peers[0]?.state, one.sent()], ['reverted', []])
})

test('a peer that needs what was compacted is sent a snapshot, not served from nowhere', async () => {
  for (const [prev, hint] of [
    [5, [0, 0]],
    [5, [3, 1]],
    [4, [4, 0]],
  ] as const) {
    const one = new Lone({ terms: [1, 1, 1, 1, 1], applied: 4 })
    await one.log.compact(4)
    one.lead().persistAll().sent()
    one.step(reject('2', 5, [4, 1], 5))
    assert.equal(one.core.status().peers[0]?.state, 'probe', 'the base itself is known')
    one.step(reject('2', prev, hint, 5)).step(reject('2', 4, hint, 5))
    assert.equal(one.core.status().peers[0]?.state, 'snapshot', `hint ${hint}`)
    assert.deepEqual(one.snapshots, ['2'])
  }
})

test('proposals are refused above the limit of uncommitted bytes, and by every node but the leader', () => {
  const one = new Lone({ limits: { uncommittedBytes: 100 } })
  assert.deepEqual(one.propose('a'), { accepted: false, reason: 'not-leader' })
  one.leadEstablished()
  assert.equal(one.propose('x'.repeat(500)).accepted, true, 'one large one when nothing waits')
  assert.deepEqual(one.propose('a'), { accepted: false, reason: 'full' })
  one.ack('2', 2).ack('3', 2)
  assert.equal(one.core.status().commit, 2)
  assert.deepEqual(one.propose('a'), { accepted: false, reason: 'full' }, 'not durable here')
  one.persistAll()
  assert.equal(one.propose('a').accepted, true)
})

test('no more is handed out for applying than the limit allows, and the rest when that is applied', () => {
  const one = new Lone({ limits: { applyBytes: 70 }, slowApply: true })
  const entries = [1, 2, 3, 4, 5].map((index) => entry(index, 1))
  one.append('2', 1, [0, 0], entries, 5).persistAll()
  const handed = (): number | undefined => one.applied.at(-1)?.index
  assert.equal(handed(), 3, 'three entries of 33 bytes pass 70')
  one.core.applied(2)
  assert.equal(one.run() && handed(), 3, 'the three were handed out together')
  one.core.applied(3)
  assert.equal(one.run() && handed(), 5)
  assert.throws(() => one.core.applied(6), /applied 6/)
})

test('a message for another node, or with a term that is no safe integer, ends the process', () => {
  const one = new Lone()
  assert.throws(() => one.step({ ...heartbeatReply('2', 1), to: '2' }), /reached 1/)
  assert.throws(() => one.heartbeat('2', 2 ** 53), /safe integer/)
  assert.throws(() => one.heartbeat('2', -1), /safe integer/)
})

test('an append with a gap, or with an entry of a later term than its leader, ends the process', () => {
  assert.throws(() => new Lone().append('2', 1, [0, 0], [entry(2, 1)]), /a gap/)
  assert.throws(() => new Lone().append('2', 1, [0, 0], [entry(1, 2)]), /of term 2/)
})

test('a completion that nobody waits for ends the process', () => {
  assert.throws(() => new Lone().core.persisted(1), /no persist 1/)
})
