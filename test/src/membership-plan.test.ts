/*
 * What a wish about the members means to a leader, as a table: which are done already, which change what, which are
 * refused, and in which words.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Member, MemberRole, NodeId } from '../../raft/types.ts'
import { type Decision, decide, type LeaderView, maintain } from '../../src/membership-plan.ts'

function member(id: NodeId, role: MemberRole = 'voter'): Member {
  return { id, role, peerAddress: `${id}:1`, clientAddress: `${id}:2` }
}

interface Setup {
  readonly members?: readonly Member[]
  /** Who is not connected. */
  readonly away?: readonly NodeId[]
  /** Who is 5,000 entries behind. */
  readonly behind?: readonly NodeId[]
  readonly announced?: Readonly<Record<NodeId, string>>
}

/** `a` leads; `z` was removed once. */
function view({ members, away = [], behind = [], announced = {} }: Setup = {}): LeaderView {
  return {
    self: 'a',
    members: members ?? [member('a'), member('b'), member('c')],
    commit: 9_000,
    connected: (id) => !away.includes(id),
    match: (id) => (behind.includes(id) ? 4_000 : 8_500),
    wasRemoved: (id) => id === 'z',
    whyTooOld: ({ level = 1 }) => (level < 1 ? 'an older build' : undefined),
    announced: (id) => {
      const host = announced[id]
      return host === undefined
        ? undefined
        : { peerAddress: `${host}:1`, clientAddress: `${host}:2` }
    },
    lagMax: 1_000,
    membersMax: 5,
  }
}

/** `change a b:learner`, or the type of the decision and its text. */
function shown(decision: Decision): string {
  switch (decision.type) {
    case 'change':
      return `change ${shownMembers(decision.members)}`
    case 'hand-over':
      return `hand over to ${decision.to ?? 'anybody'}`
    default:
      return `${decision.type}: ${decision.text}`
  }
}

function shownMembers(members: readonly Member[]): string {
  return members.map(({ id, role }) => (role === 'voter' ? id : `${id}:${role}`)).join(' ')
}

function admit(id: NodeId, setup?: Setup, learner = false): string {
  const newcomer = { id, peerAddress: `${id}:1`, clientAddress: `${id}:2` }
  return shown(decide({ type: 'admit', newcomer, learner }, view(setup)))
}

function wish(
  type: 'remove' | 'promote' | 'demote',
  id: NodeId,
  setup?: Setup,
  force = false,
): string {
  return shown(decide({ type, id, force }, view(setup)))
}

test('a newcomer begins without a vote; whoever is there already changes nothing', () => {
  assert.equal(admit('d'), 'change a b c d:joining')
  assert.equal(admit('d', {}, true), 'change a b c d:learner')
  assert.equal(admit('b'), 'done: b')
})

test('an id is never used again, nor an address twice, and a cluster has an end', () => {
  assert.match(admit('z'), /^refused: node z was removed once, .* empty directory$/)
  const there = { id: 'd', peerAddress: 'B:1', clientAddress: 'd:2' }
  assert.equal(
    shown(decide({ type: 'admit', newcomer: there, learner: false }, view())),
    'refused: node b is the member at B:1: remove it first',
  )
  const members = ['a', 'b', 'c', 'd', 'e'].map((id) => member(id))
  assert.equal(admit('f', { members }), 'refused: a cluster has at most 5 members')
  assert.equal(admit('e', { members: members.slice(0, 4) }), 'change a b c d e:joining')
})

test('whoever has too old a build is refused, but for a member', () => {
  const older = (id: NodeId): string => {
    const newcomer = { id, peerAddress: `${id}:1`, clientAddress: `${id}:2`, level: 0 }
    return shown(decide({ type: 'admit', newcomer, learner: false }, view()))
  }
  assert.equal(older('d'), 'refused: an older build')
  assert.equal(older('b'), 'done: b')
})

test('a node that comes back empty takes the place of the one it was, in one change', () => {
  const back = (setup: Setup = {}, replaces = 'c', peerAddress = 'c:1'): string => {
    const newcomer = { id: 'd', peerAddress, clientAddress: 'c:2', replaces }
    return shown(decide({ type: 'admit', newcomer, learner: false }, view(setup)))
  }
  assert.equal(back({ away: ['c', 'd'] }), 'change a b d')
  const learners = [member('a'), member('b'), member('c', 'learner')]
  assert.equal(back({ members: learners, away: ['c', 'd'] }), 'change a b d:learner')
  // Whoever is there is not replaced, and nor is the leader itself.
  assert.match(back({ away: ['d'] }), /^refused: node c, .*, is connected: it lives$/)
  assert.match(back({ away: ['d'] }, 'a'), /^refused: node a, .*, is connected: it lives$/)
  assert.equal(back({ away: ['c'] }, 'c', 'b:1'), 'refused: node b is the member at b:1')
  // With b away, too, a would be alone of three.
  assert.match(back({ away: ['b', 'c', 'd'] }), /^refused: of the 3 voters to be only 1 would be/)
  // Replaced already, or removed meanwhile: it is a newcomer like any other.
  const replaced = [member('a'), member('b'), member('d')]
  assert.equal(back({ members: replaced }), 'done: d')
  assert.equal(back({ members: [member('a'), member('b')] }, 'z'), 'change a b d:joining')
})

test('a removal needs a majority of those that stay, there and up to date', () => {
  assert.equal(wish('remove', 'c'), 'change a b')
  assert.equal(wish('remove', 'c', { away: ['c'] }), 'change a b')
  // b is down: without c it would be a alone of two.
  assert.equal(
    wish('remove', 'c', { away: ['b'] }),
    'refused: of the 2 voters to be only 1 would be connected and up to date, and 2 are needed to go on; ' +
      'FORCE does it all the same',
  )
  assert.match(wish('remove', 'c', { behind: ['b'] }), /^refused: of the 2 voters to be only 1/)
  assert.equal(wish('remove', 'c', { away: ['b'] }, true), 'change a b')
  assert.equal(wish('remove', 'z'), 'done: OK')
  assert.match(wish('remove', 'x'), /^refused: no member has the id x/)
})

test('a learner may go at any time', () => {
  const members = [member('a'), member('b'), member('c', 'learner'), member('d', 'joining')]
  assert.equal(wish('remove', 'c', { members, away: ['b', 'c'] }), 'change a b d:joining')
  assert.equal(wish('remove', 'd', { members, away: ['b', 'd'] }), 'change a b c:learner')
})

test('a leader hands over before it goes, and the last voter never goes, not even by force', () => {
  assert.equal(wish('remove', 'a'), 'hand over to anybody')
  assert.equal(wish('demote', 'a'), 'hand over to anybody')
  const alone = { members: [member('a'), member('b', 'learner')] }
  for (const type of ['remove', 'demote'] as const) {
    assert.equal(wish(type, 'a', alone, true), 'refused: node a is the only voter')
  }
})

test('a promotion needs a learner that is there and has caught up', () => {
  const members = [member('a'), member('b'), member('c', 'learner')]
  assert.equal(wish('promote', 'c', { members }), 'change a b c')
  assert.equal(wish('promote', 'b', { members }), 'done: OK')
  assert.equal(
    wish('promote', 'c', { members, behind: ['c'] }),
    'refused: node c is 5000 entries behind',
  )
  assert.match(wish('promote', 'c', { members, away: ['c'] }), /^refused: node c is not connected/)
  assert.equal(wish('promote', 'c', { members, away: ['c'] }, true), 'change a b c')
  assert.match(wish('promote', 'x', { members }), /^refused: no member/)
  // With b away there are a and c of three, which is enough.
  assert.equal(wish('promote', 'c', { members, away: ['b'] }), 'change a b c')
})

test('demoting a learner is done already, and one that joins is told to stay one (redisraft#48)', () => {
  const members = [member('a'), member('b', 'learner'), member('c', 'joining'), member('d')]
  assert.equal(wish('demote', 'b', { members }), 'done: OK')
  assert.equal(wish('demote', 'c', { members }), 'change a b:learner c:learner d')
  assert.equal(wish('demote', 'd', { members }), 'change a b:learner c:joining d:learner')
})

test('leadership goes to a voter that is there and up to date, and only away from who was meant', () => {
  const members = [member('a'), member('b'), member('c', 'learner')]
  const transfer = (from: NodeId, to?: NodeId, setup: Setup = { members }): string =>
    shown(decide({ type: 'transfer', from, to }, view(setup)))
  assert.equal(transfer('a'), 'hand over to anybody')
  assert.equal(transfer('b'), 'done: OK', 'somebody else leads already')
  assert.equal(transfer('b', 'a'), 'done: OK')
  assert.equal(transfer('a', 'b'), 'hand over to b')
  assert.match(transfer('a', 'c'), /^refused: node c is a learner/)
  assert.match(transfer('a', 'x'), /^refused: no member/)
  assert.match(transfer('a', 'b', { members, away: ['b'] }), /^refused: node b is not connected/)
})

test('unasked, a leader promotes who has caught up, and only where that is safe', () => {
  const members = [member('a'), member('b', 'joining'), member('c', 'learner')]
  const unasked = (setup: Setup): string =>
    shownMembers(maintain(view({ members, ...setup })) ?? [])
  assert.equal(unasked({}), 'a b c:learner')
  assert.equal(unasked({ behind: ['b'] }), '')
  assert.equal(unasked({ away: ['b'] }), '')
  // a and b of a, b and c, of which c is away: enough. Of five with two away and one behind: not.
  const five = [...'acde'].map((id) => member(id))
  const risky = [...five, member('b', 'joining')]
  assert.equal(unasked({ members: risky, away: ['c', 'd'] }), 'a c d e b')
  assert.equal(unasked({ members: risky, away: ['c', 'd', 'e'] }), '')
})

test('a changed address is the same member at another place, also that of the leader itself', () => {
  const members = [member('a'), member('b')]
  const moved = maintain(view({ members, announced: { a: 'a', b: 'elsewhere' } }))
  assert.deepEqual(moved, [
    member('a'),
    { id: 'b', role: 'voter', peerAddress: 'elsewhere:1', clientAddress: 'elsewhere:2' },
  ])
  assert.equal(maintain(view({ members, announced: { a: 'A', b: 'B' } })), undefined)
  assert.equal(maintain(view({ members, announced: { a: 'other' } }))?.[0]?.peerAddress, 'other:1')
})
