/*
 * Elections, one test per rule of the paper (5.1, 5.2, 5.4.1) and the thesis (4.2.3, 9.6), each on one core whose
 * peers are the test.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Entry, Message } from '../../raft/types.ts'
import { ELECTION_TICKS, HEARTBEAT_TICKS, Lone, membershipOf } from './lone.ts'

function vote(from: string, term: number, last: readonly [number, number]): Message {
  const position = { index: last[0], term: last[1] }
  return { type: 'vote', from, to: '1', term, last: position, transfer: false }
}
function preVote(from: string, term: number, last: readonly [number, number]): Message {
  return { type: 'pre-vote', from, to: '1', term, last: { index: last[0], term: last[1] } }
}
function voteReply(from: string, term: number, granted: boolean): Message {
  return { type: 'vote-reply', from, to: '1', term, granted }
}
function preVoteReply(from: string, term: number, granted: boolean): Message {
  return { type: 'pre-vote-reply', from, to: '1', term, granted }
}

/** A candidate of term 1 whose own vote is durable. */
function candidate(size = 3): Lone {
  const one = new Lone({ size }).tick(ELECTION_TICKS)
  for (let peer = 2; peer <= size; peer++) one.step(preVoteReply(`${peer}`, 1, true))
  one.persistAll().sent()
  return one
}

test('a node starts as a follower in the term and with the vote of its disk', () => {
  const one = new Lone({ terms: [1, 3], hardState: { term: 5, vote: '2' } })
  const { role, term, vote: voted, leader, last } = one.core.status()
  assert.deepEqual([role, term, voted, leader, last], ['follower', 5, '2', undefined, 2])
})

test('a log that is ahead of the stored term is refused: term and entries are written together', () => {
  assert.throws(() => new Lone({ terms: [3], hardState: { term: 2, vote: undefined } }))
})

test('a follower that hears a leader or grants its vote does not campaign', () => {
  const one = new Lone()
  for (let round = 0; round < 5; round++) {
    one.tick(ELECTION_TICKS - 1).heartbeat('2', 1)
    one.tick(ELECTION_TICKS - 1).append('2', 1, [0, 0], [])
  }
  assert.equal(one.core.status().role, 'follower')
  const voter = new Lone({ hardState: { term: 1, vote: undefined } }).tick(ELECTION_TICKS - 1)
  voter.step(vote('2', 1, [0, 0]))
  assert.equal(voter.tick(ELECTION_TICKS - 1).core.status().role, 'follower')
  assert.equal(voter.tick().core.status().role, 'pre-candidate')
})

test('a refused vote does not hold back the own election', () => {
  const one = new Lone({ terms: [1, 1] }).tick(ELECTION_TICKS - 1).step(vote('2', 1, [1, 1]))
  assert.equal(one.tick().core.status().role, 'pre-candidate')
})

test('election timeouts are spread by the generator over one to two election times', () => {
  for (const [random, ticks] of [
    [0, ELECTION_TICKS],
    [0.5, 1.5 * ELECTION_TICKS],
    [0.999, 2 * ELECTION_TICKS - 1],
  ] as const) {
    const one = new Lone({ random: () => random }).tick(ticks - 1)
    assert.equal(one.core.status().role, 'follower')
    assert.equal(one.tick().core.status().role, 'pre-candidate')
  }
})

test('a timeout is drawn anew for every election', () => {
  const draws = [0, 0.9, 0, 0.9]
  const one = new Lone({ random: () => draws.shift() ?? 0 }).tick(ELECTION_TICKS)
  assert.equal(one.sentOf('pre-vote').length, 2)
  assert.equal(one.tick(ELECTION_TICKS + 8).sentOf('pre-vote').length, 0)
  assert.equal(one.tick().sentOf('pre-vote').length, 2)
})

test('a candidate raises its term, votes for itself and asks all others, after its vote is durable', () => {
  const one = new Lone().tick(ELECTION_TICKS)
  one.sent()
  one.step(preVoteReply('2', 1, true))
  const { role, term, vote: voted } = one.core.status()
  assert.deepEqual([role, term, voted], ['candidate', 1, '1'])
  assert.deepEqual(one.sent(), [], 'no request leaves before the vote is durable')
  one.persist()
  assert.deepEqual(one.log.hardState(), { term: 1, vote: '1' })
  const requests = one.sentOf('vote')
  assert.deepEqual(
    requests.map((request) => request.to),
    ['2', '3'],
  )
})

test('the own vote counts only when it is durable', () => {
  const one = new Lone({ size: 1 }).tick()
  assert.equal(one.core.status().role, 'candidate')
  assert.equal(one.persist().core.status().role, 'leader')
})

test('a majority of the votes makes a leader, fewer do not', () => {
  const five = candidate(5).step(voteReply('2', 1, true))
  assert.equal(five.core.status().role, 'candidate', 'two of five')
  assert.equal(five.step(voteReply('3', 1, true)).core.status().role, 'leader', 'three of five')
  const four = candidate(4).step(voteReply('2', 1, true))
  assert.equal(four.core.status().role, 'candidate', 'two of four')
  assert.equal(four.step(voteReply('3', 1, true)).core.status().role, 'leader', 'three of four')
})

test('votes are counted by voter: a repeated vote, or one of a stranger, counts for nothing', () => {
  const one = candidate(5)
  for (const from of ['2', '2', '2', 'stranger', '9']) one.step(voteReply(from, 1, true))
  assert.equal(one.core.status().role, 'candidate')
})

test('a majority of refusals ends the candidacy, fewer do not', () => {
  const one = candidate(5)
    .step(voteReply('2', 1, false))
    .step(voteReply('3', 1, false))
  assert.equal(one.core.status().role, 'candidate')
  assert.equal(one.step(voteReply('4', 1, false)).core.status().role, 'follower')
})

test('a vote of an earlier term is not counted', () => {
  const one = candidate().tick(ELECTION_TICKS)
  one.step(preVoteReply('2', 2, true)).persistAll()
  assert.equal(one.core.term, 2)
  assert.equal(one.step(voteReply('2', 1, true)).core.status().role, 'candidate')
  assert.equal(one.step(voteReply('2', 2, true)).core.status().role, 'leader')
})

test('a candidate that hears the leader of its own term follows it', () => {
  for (const type of ['append', 'heartbeat'] as const) {
    const one = candidate()
    if (type === 'append') one.append('3', 1, [0, 0], [])
    else one.heartbeat('3', 1)
    const { role, term, leader } = one.core.status()
    assert.deepEqual([role, term, leader], ['follower', 1, '3'])
  }
})

test('a candidate whose election brings no result starts another one', () => {
  const one = candidate().tick(ELECTION_TICKS)
  assert.equal(one.core.status().role, 'pre-candidate')
  assert.equal(one.step(preVoteReply('2', 2, true)).core.term, 2)
})

test('a leader speaks at once, and again every heartbeat', () => {
  const one = new Lone().lead()
  assert.deepEqual(
    one.sentOf('heartbeat').map((heartbeat) => heartbeat.to),
    ['2', '3'],
  )
  assert.equal(one.tick(HEARTBEAT_TICKS - 1).sentOf('heartbeat').length, 0)
  assert.equal(one.tick().sentOf('heartbeat').length, 2)
})

test('a vote is given once per term, to the first that asks, and again to it alone', () => {
  const one = new Lone().step(vote('2', 1, [0, 0]))
  assert.deepEqual(one.sent(), [], 'no vote before it is durable')
  one.persist()
  assert.deepEqual(one.log.hardState(), { term: 1, vote: '2' })
  assert.equal(one.sentOf('vote-reply')[0]?.granted, true)
  assert.equal(one.step(vote('3', 1, [9, 1])).sentOf('vote-reply')[0]?.granted, false)
  assert.equal(one.step(vote('2', 1, [0, 0])).sentOf('vote-reply')[0]?.granted, true)
  assert.equal(one.core.status().vote, '2')
})

test('a vote of the next term is free again', () => {
  const one = new Lone({ hardState: { term: 1, vote: '2' } }).step(vote('3', 2, [0, 0])).persist()
  assert.equal(one.sentOf('vote-reply')[0]?.granted, true)
  assert.deepEqual(one.log.hardState(), { term: 2, vote: '3' })
})

test('a vote needs a log that is at least as up to date: last term first, then length', () => {
  const cases: [readonly [number, number], boolean][] = [
    [[3, 2], true],
    [[4, 2], true],
    [[1, 3], true],
    [[2, 2], false],
    [[9, 1], false],
    [[0, 0], false],
  ]
  for (const [last, granted] of cases) {
    const one = new Lone({ terms: [1, 2, 2] }).step(vote('2', 3, last)).persist()
    assert.equal(one.sentOf('vote-reply')[0]?.granted, granted, `last ${last}`)
    const pre = new Lone({ terms: [1, 2, 2] }).step(preVote('2', 3, last))
    assert.equal(pre.sentOf('pre-vote-reply')[0]?.granted, granted, `pre-vote, last ${last}`)
  }
})

test('entries that are not durable yet count for the own log, and are durable before the vote is shown', () => {
  const one = new Lone().append('2', 1, [0, 0], []).persistAll()
  one.append('2', 1, [0, 0], [{ index: 1, term: 1, payload: { type: 'noop' }, encoded: undefined }])
  one.sent()
  one.tick(ELECTION_TICKS).step(vote('3', 2, [1, 1]))
  one.sent()
  assert.equal(one.log.lastIndex(), 0)
  one.persist()
  assert.equal(one.sentOf('vote-reply').length, 0, 'that write held the entry, not the vote')
  one.persist()
  assert.equal(one.log.lastIndex(), 1)
  assert.equal(one.sentOf('vote-reply')[0]?.granted, true)
})

test('a higher term makes a follower of every role, and is durable before anything is promised in it', () => {
  const leader = new Lone().leadEstablished()
  const asCandidate = candidate()
  for (const one of [leader, asCandidate]) {
    one.step({ type: 'append-reply', from: '2', to: '1', term: 7, match: 0 })
    const { role, term, vote: voted } = one.core.status()
    assert.deepEqual([role, term, voted], ['follower', 7, undefined])
    one.persistAll()
    assert.deepEqual(one.log.hardState(), { term: 7, vote: undefined })
  }
})

test('a request of a lower term is refused, or not answered where an answer helps nobody', () => {
  const one = new Lone({ hardState: { term: 5, vote: undefined } })
  one.step(vote('2', 4, [9, 4]))
  assert.deepEqual(one.sent(), [])
  const [refused] = one.step(preVote('2', 4, [9, 4])).sentOf('pre-vote-reply')
  assert.deepEqual([refused?.granted, refused?.term], [false, 5])
  assert.equal(one.append('2', 4, [0, 0], []).sentOf('append-reject')[0]?.term, 5)
  assert.equal(one.heartbeat('2', 4).sentOf('heartbeat-reply')[0]?.term, 5)
  assert.equal(one.core.status().leader, undefined)
})

test('promises of a lower term that did not leave yet are dropped with it', () => {
  const one = new Lone().step(vote('2', 1, [0, 0]))
  one.step(vote('3', 2, [0, 0])).persistAll()
  const replies = one.sentOf('vote-reply')
  assert.deepEqual(
    replies.map(({ to, term }) => [to, term]),
    [
      ['2', 1],
      ['3', 2],
    ],
    'the vote of term 1 was durable by itself before term 2 was written',
  )
  const slow = new Lone().step(vote('2', 1, [0, 0]))
  slow
    .step(vote('3', 2, [0, 0]))
    .step(vote('2', 3, [0, 0]))
    .persistAll()
  const terms = slow.sentOf('vote-reply').map(({ term }) => term)
  assert.deepEqual(terms, [1, 3], 'term 2 came and went while the disk wrote term 1')
})

test('a promise born while a write is in flight, and superseded by a higher term, is never made', () => {
  const one = new Lone().append('2', 1, [0, 0], [])
  one.persistAll().append('2', 1, [0, 0], [noop(1, 1)])
  one.append('2', 1, [1, 1], [noop(2, 1)])
  one.append('3', 2, [0, 0], [])
  one.persistAll()
  const acks = one.sentOf('append-reply').filter(({ to, term }) => to === '2' && term === 1)
  assert.deepEqual(
    acks.map(({ match }) => match),
    [0, 1],
    'entry 2 was never acknowledged in term 1',
  )
})

function noop(index: number, term: number): Entry {
  return { index, term, payload: { type: 'noop' }, encoded: undefined }
}

// ---- Pre-vote (thesis 9.6), ignored votes and check-quorum (4.2.3, 6.2) ------------------------------------------

test('a pre-vote raises no term and gives no vote away, whoever asks and however often', () => {
  const one = new Lone()
  for (const from of ['2', '3', '2']) {
    const [reply] = one.step(preVote(from, 8, [0, 0])).sentOf('pre-vote-reply')
    assert.deepEqual([reply?.granted, reply?.term], [true, 8])
  }
  const { term, vote: voted } = one.core.status()
  assert.deepEqual([term, voted, one.writing], [0, undefined, false])
})

test('a node campaigns only after a majority would vote for it; until then its term stands still', () => {
  const one = new Lone({ size: 5 })
  for (let round = 0; round < 5; round++) one.tick(ELECTION_TICKS)
  one.step(preVoteReply('2', 1, true))
  assert.deepEqual([one.core.term, one.writing], [0, false])
  one.step(preVoteReply('3', 1, true))
  assert.equal(one.core.term, 1)
})

test('a granted pre-vote for another term counts for nothing', () => {
  const one = new Lone({ hardState: { term: 4, vote: undefined } }).tick(ELECTION_TICKS)
  one.step(preVoteReply('2', 9, true)).step(preVoteReply('3', 9, true))
  assert.deepEqual([one.core.status().role, one.core.term], ['pre-candidate', 4])
})

test('a refused pre-vote brings a higher term along', () => {
  const one = new Lone().tick(ELECTION_TICKS).step(preVoteReply('2', 6, false))
  assert.deepEqual([one.core.status().role, one.core.term], ['follower', 6])
})

test('a majority of refused pre-votes sends the node back to waiting', () => {
  const one = new Lone().tick(ELECTION_TICKS)
  one.step(preVoteReply('2', 0, false)).step(preVoteReply('3', 0, false))
  assert.equal(one.core.status().role, 'follower')
})

test('whoever hears a leader refuses pre-votes and ignores votes, until an election time has passed', () => {
  const one = new Lone({ terms: [1] }).heartbeat('2', 1)
  one.tick(ELECTION_TICKS - 1).sent()
  assert.equal(one.step(preVote('3', 2, [9, 1])).sentOf('pre-vote-reply')[0]?.granted, false)
  one.step(vote('3', 2, [9, 1]))
  assert.deepEqual([one.sent(), one.core.term], [[], 1])
  const later = new Lone({ terms: [1], random: () => 0.9 }).heartbeat('2', 1)
  later.tick(ELECTION_TICKS).sent()
  assert.equal(later.step(preVote('3', 2, [9, 1])).sentOf('pre-vote-reply')[0]?.granted, true)
  later.step(vote('3', 2, [9, 1])).persistAll()
  assert.equal(later.sentOf('vote-reply')[0]?.granted, true)
})

test('a leader ignores votes and refuses pre-votes of higher terms', () => {
  const one = new Lone().leadEstablished()
  one.sent()
  one.step(vote('3', 9, [99, 8]))
  assert.deepEqual([one.sent(), one.core.term, one.core.isLeader], [[], 1, true])
  assert.equal(one.step(preVote('3', 9, [99, 8])).sentOf('pre-vote-reply')[0]?.granted, false)
})

test('a vote of the same term is refused by whoever follows a leader in it', () => {
  const one = new Lone()
    .heartbeat('2', 1)
    .step(vote('3', 1, [9, 1]))
    .persistAll()
  assert.equal(one.sentOf('vote-reply')[0]?.granted, false)
})

test('a leader that hears no majority for an election time steps down without raising its term', () => {
  const one = new Lone().leadEstablished()
  one.tick(ELECTION_TICKS)
  assert.equal(one.core.isLeader, true, 'it was heard when it was elected')
  one.tick(ELECTION_TICKS)
  assert.deepEqual([one.core.status().role, one.core.term], ['follower', 1])
})

test('a leader that hears a majority stays, and only members that answer in its term count', () => {
  const reply = (from: string): Message => {
    return { type: 'heartbeat-reply', from, to: '1', term: 1, round: 0 }
  }
  const heard = new Lone({ size: 5 }).lead()
  for (let round = 0; round < 5; round++) {
    heard
      .tick(ELECTION_TICKS - 1)
      .step(reply('4'))
      .step(reply('5'))
      .tick()
  }
  assert.equal(heard.core.isLeader, true)
  const alone = new Lone({ size: 5 }).lead()
  alone
    .step(reply('4'))
    .step(reply('stranger'))
    .step(preVote('5', 2, [9, 9]))
  assert.equal(alone.tick(ELECTION_TICKS).core.isLeader, false, 'a pre-vote is not an answer')
})

test('a node without a membership, or outside of it, never campaigns', () => {
  const unbound = new Lone({ size: 0 }).tick(5 * ELECTION_TICKS)
  assert.deepEqual([unbound.core.status().role, unbound.sent()], ['follower', []])
  const outside = new Lone({ size: 0 }).append(
    '2',
    1,
    [0, 0],
    [
      {
        index: 1,
        term: 1,
        payload: { type: 'membership', membership: membershipOf(['2', '3', '4']) },
        encoded: undefined,
      },
    ],
  )
  outside.persistAll().sent()
  outside.tick(5 * ELECTION_TICKS)
  assert.deepEqual([outside.core.status().leader, outside.sent()], [undefined, []])
})

test('a membership is in force when it is appended, and the one before returns when it is cut', () => {
  const membership = membershipOf(['1', '2', '3', '4', '5'])
  const one = new Lone({ terms: [1] }).append(
    '2',
    1,
    [1, 1],
    [{ index: 2, term: 1, payload: { type: 'membership', membership }, encoded: undefined }],
  )
  assert.equal(one.core.status().membership?.members.length, 5)
  one.append('3', 2, [1, 1], [noop(2, 2)])
  assert.equal(one.core.status().membership?.members.length, 3)
})

test('a restart finds the membership in the log behind the applied index', () => {
  const membership = membershipOf(['1'])
  const one = new Lone({ size: 0 }).append(
    '2',
    1,
    [0, 0],
    [{ index: 1, term: 1, payload: { type: 'membership', membership }, encoded: undefined }],
  )
  one.persistAll()
  const again = new Lone({ size: 0, disk: one.log.crash(false) })
  assert.deepEqual(again.core.status().membership, membership)
  assert.equal(again.tick().core.status().role, 'candidate')
})

test('a candidate whose own vote is not durable yet begins no other term, however slow the disk is', () => {
  const sole = new Lone({ size: 1 }).tick(100 * ELECTION_TICKS)
  assert.equal(sole.core.term, 1)
  sole.persistAll()
  assert.equal(sole.core.isLeader, true)
  assert.equal(sole.core.term, 1)

  const one = new Lone({ size: 3 }).tick(ELECTION_TICKS)
  one.step(preVoteReply('2', 1, true)).tick(20 * ELECTION_TICKS)
  assert.equal(one.core.term, 1)
  assert.equal(one.sentOf('vote').length, 0)
  one.persistAll()
  assert.equal(one.sentOf('vote').length, 2)
  // Its vote is durable and nobody answers: now the next campaign may come.
  one.tick(2 * ELECTION_TICKS)
  assert.notEqual(one.sentOf('pre-vote').length, 0)
})
