/*
 * Wishes between nodes without raft: the members are a variable, whoever leads is the test's choice, and notes are lost
 * or come twice. What the wishes mean is in membership-plan.test.ts.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Member, NodeId } from '../../raft/types.ts'
import { limits } from '../../src/config.ts'
import { MembershipRequests, type RequestOutcome } from '../../src/membership-requests.ts'
import type { Identity } from '../../src/peer-handshake.ts'
import type { Note } from '../../src/peer-messages.ts'
import { Lone } from '../raft/lone.ts'

const TICK_MS = 10

interface Sent {
  readonly from: NodeId
  readonly to: NodeId
  readonly note: Note
}

class World {
  now = 0
  leader: NodeId | undefined = 'a'
  /** The leader may propose. */
  established = true
  /** Changes are committed at once; false: the next one stays uncommitted. */
  commits = true
  joint = false
  transferTo: NodeId | undefined
  members: readonly Member[] = ['a', 'b', 'c'].map((id) => member(id))
  changes = 0
  transfers: (NodeId | undefined)[] = []
  noTarget = false
  /** The feature level that the cluster has reached, and whether another is on its way. */
  level = 1
  raising = false
  found: Identity | string = 'nobody there'
  notes: Sent[] = []
  readonly nodes: Map<NodeId, MembershipRequests>
  readonly #removed = new Set<NodeId>(['z'])

  constructor() {
    this.nodes = new Map(['a', 'b', 'c'].map((id) => [id, this.#node(id)]))
  }

  #node(self: NodeId): MembershipRequests {
    return new MembershipRequests({
      self,
      random: () => 0.5,
      now: () => this.now,
      leader: () => this.leader,
      led: () => {
        if (this.leader !== self || !this.established) return undefined
        return {
          ...new Lone().core.status(),
          membership: {
            members: this.members,
            ...(this.joint && { outgoing: ['a'] }),
          },
          membershipIndex: this.commits ? 1 : 10,
          applied: 5,
          transferTo: this.transferTo,
        }
      },
      changeMembership: (members) => {
        this.changes++
        for (const { id } of this.members) this.#removed.add(id)
        for (const { id } of members) this.#removed.delete(id)
        this.members = members
        return { accepted: true, term: 1, index: 1 }
      },
      transferLeadership: (to) => {
        this.transfers.push(to)
        if (this.noTarget) return 'no-target'
        this.transferTo = to ?? 'b'
        return 'begun'
      },
      note: (to, note) => this.notes.push({ from: self, to, note }),
      probe: () => Promise.resolve(this.found),
      announced: () => undefined,
      clusterId: () => 'cluster',
      connected: (id) => id !== 'd',
      wasRemoved: (id) => this.#removed.has(id),
      whyTooOld: ({ level = 1 }) => (level < this.level ? 'an older build' : undefined),
      isRaisingLevel: () => this.raising,
      mayTellLevel: () => this.level > 1,
      log: { info: () => {} },
    })
  }

  node(id: NodeId): MembershipRequests {
    const node = this.nodes.get(id)
    assert.ok(node)
    return node
  }

  deliver(times = 1): void {
    const notes = this.notes
    this.notes = []
    for (const { from, to, note } of notes) {
      for (let i = 0; i < times; i++) {
        if (note.type === 'membership-asked') this.node(to).asked(from, note)
        if (note.type === 'membership-told') this.node(to).told(from, note)
      }
    }
  }

  /** One tick of every node; what they sent arrives with the next. */
  async tick(ms = TICK_MS, times = 1): Promise<void> {
    for (let passed = 0; passed < ms; passed += TICK_MS) {
      this.now += TICK_MS
      for (const node of this.nodes.values()) node.work()
      this.deliver(times)
      await Promise.resolve()
      await Promise.resolve()
    }
  }
}

function member(id: NodeId): Member {
  return { id, role: 'voter', peerAddress: `${id}:1`, clientAddress: `${id}:2` }
}

function identity(id: NodeId, clusterId?: string): Identity {
  return {
    id,
    clusterId,
    incarnation: 1,
    peerAddress: `${id}:1`,
    clientAddress: `${id}:2`,
    listHash: '',
    members: undefined,
    membershipIndex: 0,
  }
}

/** What becomes of a wish, as soon as it is known. */
class Watched {
  outcome: RequestOutcome | undefined

  constructor(promise: Promise<RequestOutcome>) {
    void promise.then((outcome) => {
      this.outcome = outcome
    })
  }

  get text(): string {
    return this.outcome?.text ?? 'not known yet'
  }
}

function watch(promise: Promise<RequestOutcome>): Watched {
  return new Watched(promise)
}

test('a wish goes to the leader, from wherever it came, and is answered when it is fulfilled', async () => {
  for (const at of ['a', 'b']) {
    const world = new World()
    const seen = watch(world.node(at).submit({ type: 'remove', id: 'c', force: false }))
    await world.tick(100)
    assert.deepEqual(seen.outcome, { ok: true, text: 'OK' })
    assert.equal(world.changes, 1)
  }
})

test('notes that are lost are sent again, those that come twice are one', async () => {
  const world = new World()
  const seen = watch(world.node('b').submit({ type: 'remove', id: 'c', force: false }))
  for (let lost = 0; lost < 60; lost++) {
    await world.tick()
    world.notes = []
    world.leader = lost < 30 ? undefined : 'a'
  }
  await world.tick(2_000, 3)
  assert.deepEqual(seen.outcome, { ok: true, text: 'OK' })
  assert.equal(world.changes, 1)
})

test('one step at a time: the next waits until the one before is committed, not joint, and nothing is handed over', async () => {
  const world = new World()
  world.commits = false
  const first = watch(world.node('b').submit({ type: 'remove', id: 'c', force: false }))
  await world.tick(100)
  assert.equal(world.changes, 0)
  world.commits = true
  world.joint = true
  await world.tick(100)
  assert.equal(world.changes, 0)
  world.joint = false
  world.transferTo = 'b'
  await world.tick(100)
  assert.equal(world.changes, 0)
  world.transferTo = undefined
  await world.tick(100)
  assert.deepEqual([world.changes, first.outcome?.ok], [1, true])
})

test('a leader that goes hands the wish to its successor, and no step is done twice', async () => {
  const world = new World()
  world.commits = false
  const seen = watch(world.node('c').submit({ type: 'remove', id: 'b', force: false }))
  await world.tick(50)
  world.leader = undefined
  await world.tick(50)
  world.leader = 'a'
  world.commits = true
  await world.tick(100)
  assert.deepEqual([world.changes, seen.outcome?.ok], [1, true])
  // Asked again after all: it is so already.
  const again = watch(world.node('c').submit({ type: 'remove', id: 'z', force: false }))
  await world.tick(100)
  assert.deepEqual([world.changes, again.outcome?.ok], [1, true])
})

test('what the leader refuses is told in its words; what nobody answers is given up', async () => {
  const world = new World()
  const refused = watch(world.node('b').submit({ type: 'remove', id: 'x', force: false }))
  await world.tick(100)
  assert.match(refused.text, /no member has the id x/)
  assert.equal(refused.outcome?.ok, false)
  world.leader = undefined
  const lost = watch(world.node('b').submit({ type: 'remove', id: 'c', force: false }))
  await world.tick(limits.membershipRequestTimeoutMs - TICK_MS)
  assert.equal(lost.outcome, undefined)
  await world.tick(2 * TICK_MS)
  assert.match(lost.text, /not done in time/)
})

test('the removal of the leader begins with a hand-over, and is refused when nobody takes over', async () => {
  const world = new World()
  const seen = watch(world.node('b').submit({ type: 'remove', id: 'a', force: false }))
  await world.tick(50)
  assert.deepEqual([world.transfers, world.changes], [[undefined], 0])
  world.leader = 'b'
  world.transferTo = undefined
  await world.tick(700)
  assert.deepEqual([seen.outcome?.ok, world.changes], [true, 1])

  const stuck = new World()
  const failed = watch(stuck.node('b').submit({ type: 'transfer', from: 'a', to: 'c' }))
  await stuck.tick(50)
  stuck.transferTo = undefined
  await stuck.tick(50)
  assert.deepEqual(failed.outcome, { ok: false, text: 'node c did not take over in time' })
  assert.equal(stuck.transfers.length, 1)

  const none = new World()
  none.noTarget = true
  const refused = watch(none.node('a').submit({ type: 'remove', id: 'a', force: false }))
  await none.tick(50)
  assert.match(refused.text, /no other voter/)
})

test('a hand-over is answered by the old leader, as soon as it knows who leads', async () => {
  for (const to of [undefined, 'b']) {
    const world = new World()
    const seen = watch(world.node('c').submit({ type: 'transfer', from: 'a', to }))
    await world.tick(30)
    assert.deepEqual(world.transfers, [to])
    world.transferTo = undefined
    world.leader = undefined
    await world.tick(30)
    assert.equal(seen.outcome, undefined)
    // Not established yet: it answers nothing itself.
    world.leader = 'b'
    world.established = false
    await world.tick(20)
    assert.deepEqual(seen.outcome, { ok: true, text: 'OK' })
  }
  // Somebody else took over: that one is asked to go on.
  const other = new World()
  const seen = watch(other.node('a').submit({ type: 'transfer', from: 'a', to: 'c' }))
  await other.tick(30)
  other.leader = 'b'
  other.transferTo = undefined
  await other.tick(100)
  assert.deepEqual(seen.outcome, undefined)
  assert.deepEqual(other.transfers, ['c', 'c'])
})

test('an addition asks first who is at the address', async () => {
  const world = new World()
  const add = async (): Promise<RequestOutcome | undefined> => {
    const request = { type: 'add', address: 'd:1', learner: true } as const
    const seen = watch(world.node('b').submit(request))
    await world.tick(100)
    return seen.outcome
  }
  assert.deepEqual(await add(), { ok: false, text: 'nobody there' })
  world.found = identity('d', 'another')
  assert.match((await add())?.text ?? '', /belongs to cluster another: only a new, empty node/)
  world.found = identity('z', 'cluster')
  assert.match((await add())?.text ?? '', /was removed once/)
  world.found = { ...identity('d'), level: 0 }
  assert.deepEqual(await add(), { ok: false, text: 'an older build' })
  assert.equal(world.changes, 0)
  world.found = identity('d')
  assert.deepEqual(await add(), { ok: true, text: 'd' })
  assert.equal(world.members.at(-1)?.role, 'learner')
})

test('a node that was added or asks, and knows whose place it is to take, takes it in one change', async () => {
  for (const way of ['add', 'join'] as const) {
    const world = new World()
    world.members = ['a', 'b', 'd'].map((id) => member(id))
    const back = { ...identity('e'), replaces: 'd' }
    world.found = back
    const request = { type: 'add', address: 'e:1', learner: false } as const
    if (way === 'add') void world.node('b').submit(request)
    else assert.equal(world.node('b').joinAsked(back), undefined)
    await world.tick(100)
    const roles = world.members.map(({ id, role }) => `${id} ${role}`)
    assert.deepEqual([world.changes, roles], [1, ['a voter', 'b voter', 'e voter']], way)
  }
})

test('a node that asks to join is added once, and one that may not is told why for a while', async () => {
  const world = new World()
  const b = world.node('b')
  for (let i = 0; i < 5; i++) assert.equal(b.joinAsked(identity('d')), undefined)
  await world.tick(100)
  assert.deepEqual([world.changes, world.members.at(-1)?.role], [1, 'joining'])
  assert.equal(b.joinAsked(identity('z')), undefined)
  await world.tick(100)
  assert.match(b.joinAsked(identity('z')) ?? '', /was removed once/)
  await world.tick(6_000)
  assert.equal(b.joinAsked(identity('z')), undefined, 'looked at anew')
  assert.equal(b.joinAsked({ ...identity('e'), level: 0 }), 'an older build')
})

test('while the feature level is being raised nobody is admitted, and then no older build that asked before', async () => {
  const world = new World()
  assert.equal(world.node('b').joinAsked({ ...identity('d'), level: 1 }), undefined)
  world.raising = true
  await world.tick(100)
  assert.equal(world.changes, 0)
  world.raising = false
  world.level = 2
  await world.tick(100)
  assert.equal(world.changes, 0)
  assert.equal(world.node('b').joinAsked({ ...identity('d'), level: 1 }), 'an older build')
  assert.equal(world.node('b').joinAsked({ ...identity('e'), level: 2 }), undefined)
  await world.tick(100)
  assert.equal(world.members.at(-1)?.id, 'e', 'what is told then has its level')
})

test('wishes are bounded, here and at the leader', async () => {
  const world = new World()
  world.leader = undefined
  const many = Array.from({ length: limits.membershipRequestsMax + 1 }, () =>
    watch(world.node('b').submit({ type: 'remove', id: 'c', force: false })),
  )
  await world.tick()
  const refused = many.filter(({ outcome }) => outcome !== undefined)
  assert.deepEqual(
    refused.map(({ outcome }) => outcome?.text),
    ['too many changes of the membership wait'],
  )
  assert.equal(many.at(-1)?.outcome?.ok, false, 'the last one')
  world.leader = 'a'
  world.commits = false
  await world.tick(100)
  const late = watch(world.node('a').submit({ type: 'remove', id: 'c', force: false }))
  await world.tick(TICK_MS)
  assert.match(late.text, /too many/)
  world.leader = undefined
  assert.equal(world.node('c').joinAsked(identity('d')), undefined)
})

test('a node that was removed waits for no answer: its own removal is done, everything else is not', async () => {
  const world = new World()
  world.leader = undefined
  const b = world.node('b')
  const own = watch(b.submit({ type: 'remove', id: 'b', force: false }))
  const other = watch(b.submit({ type: 'remove', id: 'c', force: false }))
  b.removed()
  await world.tick()
  assert.deepEqual(own.outcome, { ok: true, text: 'OK' })
  assert.match(other.text, /this node was removed/)
  // Nor does what it is asked afterwards wait.
  const ownAgain = watch(b.submit({ type: 'remove', id: 'b', force: false }))
  const later = watch(b.submit({ type: 'promote', id: 'c', force: false }))
  await world.tick()
  assert.deepEqual(ownAgain.outcome, { ok: true, text: 'OK' })
  assert.deepEqual(later.outcome, { ok: false, text: 'this node was removed from its cluster' })
})
