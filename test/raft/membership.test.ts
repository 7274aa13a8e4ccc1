/*
 * Changes of the membership and of the leader, one test per rule, on one core whose peers are the test. How nodes
 * interact meanwhile is in the transcripts membership-*.txt and transfer*.txt.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Memberships, membershipTowards, settled } from '../../raft/membership.ts'
import type { Entry, Member, MemberRole, Membership } from '../../raft/types.ts'
import { member } from './cluster.ts'
import { membershipText } from './invariants.ts'
import { ELECTION_TICKS, entry, HEARTBEAT_TICKS, Lone, membershipOf } from './lone.ts'

function members(voters: string, learners = ''): Member[] {
  return [
    ...[...voters].map((id) => member(id)),
    ...[...learners].map((id) => member(id, 'learner')),
  ]
}

function change(index: number, term: number, membership: Membership): Entry {
  return { index, term, payload: { type: 'membership', membership }, encoded: undefined }
}

function inForce(one: Lone): string {
  const { membership } = one.core.status()
  return membership === undefined ? 'none' : membershipText(membership)
}

/** A leader of three whose no-op is committed and who has just proposed `to`. */
function changing(to: readonly Member[]): Lone {
  const one = new Lone().leadEstablished()
  assert.equal(one.core.changeMembership(to).accepted, true)
  one.run().sent()
  return one
}

test('a change of voters is joint first, any other is one entry', () => {
  const current = { members: members('123', '4') }
  const towards = (to: readonly Member[]): string => membershipText(membershipTowards(current, to))
  assert.equal(towards(members('1234')), '1,2,3 to 1,2,3,4')
  assert.equal(towards(members('12', '34')), '1,2,3 to 1,2 +3,4')
  assert.equal(towards(members('45')), '1,2,3 to 4,5')
  assert.equal(towards(members('123', '45')), '1,2,3 +4,5')
  assert.equal(towards(members('321')), '1,2,3')
  const moved = { ...member('2'), peerAddress: 'elsewhere' }
  assert.deepEqual(membershipTowards(current, [member('1'), moved, member('3')]), {
    members: [member('1'), moved, member('3')],
  })
  // Demoting who is a learner already changes nothing, and must not end the process (redisraft#48).
  assert.deepEqual(membershipTowards(current, current.members), current)
})

test('who leaves is a member until the change is over, and a learner that leaves is gone at once', () => {
  const joint = membershipTowards({ members: members('123', '4') }, members('12'))
  const roles = joint.members.map(({ id, role }): [string, MemberRole] => [id, role])
  assert.deepEqual(roles, [
    ['1', 'voter'],
    ['2', 'voter'],
    ['3', 'leaving'],
  ])
  assert.deepEqual(settled(joint), { members: members('12') })
  const demoted = membershipTowards({ members: members('123') }, members('12', '3'))
  assert.deepEqual(settled(demoted), { members: members('12', '3') })
})

test('a membership that could not decide, or names somebody twice, is a bug', () => {
  const current = { members: members('123') }
  assert.throws(() => membershipTowards(current, members('', '123')), /without voters/)
  assert.throws(() => membershipTowards(current, []), /without voters/)
  assert.throws(() => membershipTowards(current, members('11')), /twice/)
  assert.throws(() => membershipTowards(current, [member('1'), member('2', 'leaving')]), /leaving/)
  const joint = membershipTowards(current, members('1'))
  assert.throws(() => membershipTowards(joint, members('1')), /joint/)
})

test('what was in force returns for as long as a truncation could bring it back, and no longer', () => {
  const all = new Memberships()
  all.reset(0, { members: members('1') })
  for (const [index, voters] of ['12', '123', '1234'].entries()) {
    all.append(change(index + 2, 1, { members: members(voters) }), 0)
  }
  all.truncate(4)
  assert.deepEqual([all.index, all.voters], [3, ['1', '2', '3']])
  all.truncate(1)
  assert.deepEqual([all.index, all.voters], [0, ['1']])
  all.append(change(2, 1, { members: members('23') }), 0)
  assert.equal(all.mayLead('1', 1), true, 'the change without it may not be committed')
  assert.equal(all.mayLead('1', 2), false)
  assert.equal(all.mayLead('2', 2), true)
})

test('a change waits for a committed entry of the own term, and for the change before it', () => {
  const one = new Lone()
  const refusal = (): string => {
    const result = one.core.changeMembership(members('123', '4'))
    return result.accepted ? 'accepted' : result.reason
  }
  assert.equal(refusal(), 'not-leader')
  one.lead().persistAll()
  assert.equal(refusal(), 'not-ready')
  one.ack('2', 1)
  assert.equal(refusal(), 'accepted')
  assert.equal(inForce(one), '1,2,3 +4', 'in force before it is committed, or even on a disk')
  assert.equal(refusal(), 'changing')
  one.run().persistAll()
  assert.equal(refusal(), 'changing', 'the own disk is not a majority')
  one.ack('2', 2)
  assert.equal(refusal(), 'accepted')
})

test('the entry that ends a joint membership is appended by the leader itself, when the joint one is committed', () => {
  const one = changing(members('1234'))
  assert.equal(inForce(one), '1,2,3 to 1,2,3,4')
  one.persistAll().ack('2', 2)
  // Of the new voters 1 and 2 have it, which is no majority of four.
  assert.deepEqual([one.core.status().commit, inForce(one)], [1, '1,2,3 to 1,2,3,4'])
  one.ack('4', 2)
  assert.deepEqual([one.core.status().commit, inForce(one)], [2, '1,2,3,4'])
  assert.equal(one.core.changeMembership(members('123')).accepted, false)
  one.persistAll().ack('2', 3).ack('4', 3)
  assert.equal(one.core.status().commit, 3)
  assert.equal(one.core.changeMembership(members('123')).accepted, true)
})

test('every member is sent the log, whoever is none is not', () => {
  const one = changing(members('123', '4'))
  const peers = (): string =>
    one.core
      .status()
      .peers.map(({ id }) => id)
      .join()
  assert.equal(peers(), '2,3,4')
  one.persistAll().ack('2', 2).ack('3', 2)
  assert.equal(one.core.changeMembership(members('12')).accepted, true)
  one.run()
  assert.equal(peers(), '2,3', 'who leaves is sent the log until the change is over')
  one.persistAll().ack('2', 3)
  assert.equal(peers(), '2')
})

test('a learner holds compaction back like every member', () => {
  const one = changing(members('123', '4')).persistAll().ack('2', 2).ack('3', 2)
  assert.deepEqual(one.core.slowest, { id: '4', match: 0 })
  one.ack('4', 2)
  assert.equal(one.core.slowest?.match, 2)
})

test('a leader without a vote counts itself for nothing, and goes when that is committed', () => {
  const one = changing(members('23')).persistAll().ack('2', 2).ack('3', 2)
  one.persistAll().sent()
  one.ack('2', 3)
  assert.deepEqual([one.core.isLeader, one.core.status().commit], [true, 2])
  one.ack('3', 3)
  assert.deepEqual([one.core.isLeader, one.core.leader], [false, undefined])
  assert.deepEqual(
    one.sentOf('timeout-now').map(({ to }) => to),
    ['2'],
  )
  one.tick(5 * ELECTION_TICKS)
  assert.deepEqual(one.sentOf('pre-vote'), [])
})

test('it hands over to whoever has most of the log', () => {
  const one = changing(members('234')).persistAll().ack('3', 2).ack('4', 2)
  one.persistAll().sent()
  one.ack('4', 3).ack('3', 2).ack('3', 3)
  const [asked] = one.sentOf('timeout-now')
  assert.ok(asked?.to === '3' || asked?.to === '4')
})

test('at every position at which it may start anew a node finds the membership in force there', () => {
  const log = [
    entry(1, 1),
    change(2, 1, { members: members('12', '3') }),
    entry(3, 1),
    change(4, 1, membershipTowards({ members: members('12', '3') }, members('23'))),
    change(5, 1, { members: members('23') }),
    entry(6, 1),
  ]
  // At each index: the one of the state until an entry says otherwise (redisraft#30 lost or revived members here).
  const first = membershipOf(['1', '2'])
  const texts = ['1,2', '1,2', '1,2 +3', '1,2 +3', '1,2 to 2,3', '2,3', '2,3']
  for (let last = 0; last <= log.length; last++) {
    const entries = log.slice(0, last)
    for (let applied = 0; applied <= last; applied++) {
      const before = log.slice(0, applied).reverse()
      const known = before.find(({ payload }) => payload.type === 'membership')?.payload
      const membership = known?.type === 'membership' ? known.membership : first
      const disk = {
        hardState: { term: 1, vote: undefined },
        base: { index: 0, term: 0 },
        entries,
      }
      const one = new Lone({ disk, applied, membership })
      assert.equal(inForce(one), texts[last], `last ${last}, applied ${applied}`)
    }
  }
})

test('leadership goes only to a voter of the membership to come that is not the leader itself', () => {
  const one = new Lone()
  assert.equal(one.core.transferLeadership('2'), 'not-leader')
  one.leadEstablished()
  for (const to of ['1', '4']) assert.equal(one.core.transferLeadership(to), 'no-target')
  const learner = changing(members('12', '3')).persistAll().ack('2', 2)
  assert.equal(learner.core.transferLeadership('3'), 'no-target')
  assert.equal(learner.core.transferLeadership(), 'begun')
  assert.equal(new Lone({ size: 1 }).tick().persistAll().core.transferLeadership(), 'no-target')
})

test('the target is told only when it has everything, and nothing is proposed meanwhile', () => {
  const one = new Lone().leadEstablished()
  one.propose('x')
  one.persistAll().sent()
  assert.equal(one.core.transferLeadership('3'), 'begun')
  assert.equal(one.run().sentOf('timeout-now').length, 0)
  assert.deepEqual(one.propose('y'), { accepted: false, reason: 'transferring' })
  assert.deepEqual(one.core.changeMembership(members('12')), {
    accepted: false,
    reason: 'transferring',
  })
  assert.equal(one.core.transferLeadership('2'), 'transferring')
  one.ack('3', 1)
  assert.equal(one.sentOf('timeout-now').length, 0)
  one.ack('3', 2)
  assert.deepEqual(
    one.sentOf('timeout-now').map(({ to }) => to),
    ['3'],
  )
  assert.equal(one.core.isLeader, true, 'it leads until somebody else does')
  assert.equal(one.tick(HEARTBEAT_TICKS).sentOf('timeout-now').length, 1, 'and asks again')
})

test('a transfer that brings no leader ends after an election time, and the leader goes on', () => {
  const one = new Lone().leadEstablished()
  one.core.transferLeadership('3')
  const alive = (): unknown =>
    one.step({ type: 'heartbeat-reply', from: '2', to: '1', term: 1, round: 0 })
  for (let tick = 1; tick < ELECTION_TICKS; tick++) {
    one.tick()
    alive()
    assert.equal(one.propose('x').accepted, false)
  }
  one.tick()
  assert.equal(one.propose('x').accepted, true)
  assert.equal(one.core.status().transferTo, undefined)
})

test('who is told to campaign does so at once, without a pre-vote, and says who wants it', () => {
  const one = new Lone().heartbeat('2', 3)
  one.persistAll().sent()
  one.step({ type: 'timeout-now', from: '2', to: '1', term: 3 })
  assert.deepEqual([one.core.status().role, one.core.term], ['candidate', 4])
  const votes = one.persistAll().sentOf('vote')
  assert.deepEqual(
    votes.map(({ to, term, transfer }) => [to, term, transfer]),
    [
      ['2', 4, true],
      ['3', 4, true],
    ],
  )
  // The same request of the term before is nothing to anybody.
  one.step({ type: 'timeout-now', from: '2', to: '1', term: 3 })
  assert.equal(one.core.term, 4)
})

test('an ordinary election says nothing of a transfer', () => {
  const one = new Lone().tick(ELECTION_TICKS).step({
    type: 'pre-vote-reply',
    from: '2',
    to: '1',
    term: 1,
    granted: true,
  })
  assert.deepEqual(
    one
      .persistAll()
      .sentOf('vote')
      .map(({ transfer }) => transfer),
    [false, false],
  )
})

test('a learner does not campaign, whoever asks it to', () => {
  const membership = { members: members('23', '1') }
  const one = new Lone({ membership }).heartbeat('2', 1).persistAll()
  one.step({ type: 'timeout-now', from: '2', to: '1', term: 1 }).tick(5 * ELECTION_TICKS)
  assert.deepEqual([one.core.term, one.core.status().role], [1, 'follower'])
})

test('a vote that the leader wanted is given by those who hear that leader, and to a better log only', () => {
  const ask = (transfer: boolean, index: number): Lone => {
    const one = new Lone({ terms: [1, 1] }).heartbeat('2', 1)
    one.persistAll().sent()
    const last = { index, term: 1 }
    return one.step({ type: 'vote', from: '3', to: '1', term: 2, last, transfer }).persistAll()
  }
  assert.deepEqual(
    ask(true, 2)
      .sentOf('vote-reply')
      .map(({ granted }) => granted),
    [true],
  )
  assert.deepEqual(
    ask(true, 1)
      .sentOf('vote-reply')
      .map(({ granted }) => granted),
    [false],
  )
  assert.deepEqual(ask(false, 2).sentOf('vote-reply'), [])
})

test('a membership of this node alone behind a joint one that nobody can commit: it leads, and all of it is committed', () => {
  // What --force-new-cluster leaves of a survivor: the change of the lost cluster was still open.
  const disk = {
    hardState: { term: 4, vote: undefined },
    base: { index: 0, term: 0 },
    entries: [
      change(1, 1, { members: members('123') }),
      entry(2, 2),
      change(3, 3, membershipTowards({ members: members('123') }, members('145'))),
      change(4, 4, { members: members('1') }),
    ],
  }
  const one = new Lone({ size: 0, disk })
  assert.equal(inForce(one), '1')
  one.tick(2 * ELECTION_TICKS).persistAll()
  const { role, term, commit, last } = one.core.status()
  assert.deepEqual({ role, term, commit, last }, { role: 'leader', term: 5, commit: 5, last: 5 })
  assert.equal(inForce(one), '1')
  assert.deepEqual(one.sent(), [])
})
