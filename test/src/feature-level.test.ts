/*
 * When a leader raises the feature level and when it does not, what an entry of it means to a build, and who is too old
 * to become a member.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AssertionError } from '../../raft/assert.ts'
import type { CoreStatus } from '../../raft/core.ts'
import type { Index, Member } from '../../raft/types.ts'
import {
  FEATURE_LEVEL,
  FeatureLevel,
  firstLevel,
  knownLevel,
  LEVEL_NAME,
  REPLACE_LEVEL,
  refuseNewer,
  whyTooOld,
} from '../../src/feature-level.ts'
import type { LoggedCommand } from '../../storage/codec.ts'
import { Lone } from '../raft/lone.ts'
import { Replicas, type SimNode } from '../sim/replicas.ts'

class World {
  reached = 1
  leads = true
  applied: Index = 10
  last: Index = 10
  joint = false
  canPropose = true
  readonly away = new Set<string>()
  /** b says nothing, as a build before level 2. */
  readonly levels = new Map<string, number>([['c', 2]])
  readonly proposed: string[] = []
  readonly level: FeatureLevel

  constructor(own = 2) {
    this.level = new FeatureLevel({
      self: 'a',
      own,
      led: () => (this.leads ? this.#status() : undefined),
      reached: () => this.reached,
      connected: (id) => !this.away.has(id),
      known: (id) => this.levels.get(id),
      propose: (command) => {
        if (!this.canPropose) return undefined
        this.proposed.push(words(command))
        return ++this.last
      },
      log: { info: () => {} },
    })
  }

  #status(): CoreStatus {
    const members = ['a', 'b', 'c'].map((id): Member => {
      return {
        id,
        role: id === 'c' ? 'learner' : 'voter',
        peerAddress: 'h:1',
        clientAddress: 'h:2',
      }
    })
    const { applied, last } = this
    const membership = { members, ...(this.joint && { outgoing: ['a', 'b'] }) }
    return { ...new Lone().core.status(), membership, applied, last }
  }

  /** What is proposed in one tick. */
  tick(): readonly string[] {
    const before = this.proposed.length
    this.level.work()
    return this.proposed.slice(before)
  }
}

function words({ argv }: LoggedCommand): string {
  return argv.map((bytes) => Buffer.from(bytes).toString()).join(' ')
}

test('it is raised once every member, learners too, is there and knows more', () => {
  const world = new World()
  assert.deepEqual(world.tick(), [], 'b is older')
  world.levels.set('b', 2)
  world.away.add('c')
  assert.deepEqual(world.tick(), [], 'c may come back with any build')
  world.away.clear()
  world.leads = false
  assert.deepEqual(world.tick(), [], 'somebody else leads')
  world.leads = true
  world.joint = true
  assert.deepEqual(world.tick(), [], 'those that go still decide')
  world.joint = false
  world.canPropose = false
  assert.deepEqual(world.tick(), [])
  world.canPropose = true
  assert.deepEqual(world.tick(), [`${LEVEL_NAME} 2`])
})

test('it is raised to what all know, and not beyond', () => {
  const world = new World(5)
  world.levels.set('b', 4).set('c', 3)
  assert.deepEqual(world.tick(), [`${LEVEL_NAME} 3`])
  world.applied = world.last
  world.reached = 3
  assert.deepEqual(world.tick(), [])
  world.levels.set('c', 9)
  assert.deepEqual(world.tick(), [`${LEVEL_NAME} 4`])
})

test('it is asked for once, and again when that entry came to nothing', () => {
  const world = new World()
  world.levels.set('b', 2)
  assert.equal(world.tick().length, 1)
  assert.deepEqual(world.tick(), [], 'on its way')
  world.last = 10
  assert.equal(world.tick().length, 1, 'the log was cut')
  world.applied = world.last
  assert.equal(world.tick().length, 1, 'another entry stands where it was')
  world.applied = world.last
  world.reached = 2
  assert.deepEqual(world.tick(), [])
})

test('a new cluster begins with what all of its nodes know', () => {
  assert.deepEqual(firstLevel([{ level: 3 }, { level: 2 }]).map(words), [`${LEVEL_NAME} 2`])
  assert.deepEqual(firstLevel([{ level: 2 }, {}]), [])
})

test('a build that does not know a level stops at its entry, and does not start on a state of it', () => {
  assert.equal(knownLevel(Buffer.from(String(FEATURE_LEVEL))), FEATURE_LEVEL)
  const next = FEATURE_LEVEL + 1
  assert.throws(() => knownLevel(Buffer.from(String(next))), {
    code: 'FEATURE_LEVEL',
    message: new RegExp(`has reached feature level ${next}, .* start the newer build again`),
  })
  for (const nothing of ['', '0', 'two', '1.5']) {
    assert.throws(() => knownLevel(Buffer.from(nothing)), AssertionError)
  }
  refuseNewer(2, 2)
  assert.throws(() => refuseNewer(3, 2), { code: 'FEATURE_LEVEL' })
})

test('who may become a member', () => {
  assert.equal(whyTooOld({}, 1), undefined)
  assert.equal(whyTooOld({ level: 3 }, 2), undefined)
  assert.match(whyTooOld({}, 2) ?? '', /knows feature levels up to 1, .* reached 2/)
  // A member that does not know this wish would break the link over it.
  const back = { level: REPLACE_LEVEL, replaces: 'c' }
  assert.match(whyTooOld(back, REPLACE_LEVEL - 1) ?? '', /upgrade them first/)
  assert.equal(whyTooOld(back, REPLACE_LEVEL), undefined)
})

// ---- Whole replicas -----------------------------------------------------------------------------

test('an older build that asks to join while the level is being raised becomes no member, or the level waits for it', async () => {
  const ends = { refused: 0, admitted: 0 }
  for (const seed of [2, 20, 22, 3, 5, 8, 12, 17]) {
    const replicas = new Replicas({ seed })
    const { time, nodes } = replicas
    const [, , last] = nodes
    assert.ok(last !== undefined)
    for (const node of nodes) if (node !== last) node.level = 2
    await replicas.start()
    last.crash()
    last.level = 2
    await replicas.started([last])
    const asked = nodes[seed % nodes.length]
    const older = replicas.machine(['--join', asked?.peerAddress ?? ''])
    await time.runFor((seed % 20) * 20)
    await replicas.started([older])
    await time.runFor(3000)
    const level = replicas.leader.state.featureLevel()
    const { all } = replicas.leader.replica.members
    const isMember = all.some(({ peerAddress }) => peerAddress === older.peerAddress)
    assert.equal(level, isMember ? 1 : 2, `seed ${seed}`)
    ends[isMember ? 'admitted' : 'refused']++
  }
  assert.ok(ends.refused > 0, JSON.stringify(ends))
})

/** A cluster of older builds, which are upgraded one after the other while nodes die and are cut off. */
class Upgrade {
  readonly replicas: Replicas
  /** By index: every state at one index has the same. */
  readonly levels = new Map<Index, number>()
  /** How often a leader that knows more was connected to a member that does not. */
  heldBack = 0
  /** How often a leader that knows more saw nobody that does not, because that member was away. */
  unseen = 0

  constructor(seed: number) {
    this.replicas = new Replicas({ seed })
  }

  look(): void {
    const { nodes, running } = this.replicas
    const older = nodes.filter(({ level }) => level === undefined)
    for (const { state, replica } of running) {
      const index = state.appliedIndex()
      const level = state.featureLevel()
      assert.equal(level, this.levels.get(index) ?? level, `at entry ${index}`)
      this.levels.set(index, level)
      assert.ok(level === 1 || older.length === 0, `level ${level}, and a member knows less`)
      const leads = replica.status()?.established === true
      if (!leads || older.some((node) => node.isRunning && node.replica === replica)) continue
      const isThere = (node: SimNode): boolean => node.isRunning && replica.members.isUp(node.id)
      if (older.length > 0 && older.every(isThere)) this.heldBack++
      else if (older.length > 0 && !older.some(isThere)) this.unseen++
    }
  }

  async runFor(ms: number): Promise<void> {
    const { time } = this.replicas
    const end = time.now + ms
    time.after(ms, () => {})
    while (time.now < end) {
      await time.step()
      this.look()
    }
  }

  async strike(): Promise<void> {
    const { replicas } = this
    const { nodes, random } = replicas
    const victim = nodes[Math.floor(random() * nodes.length)]
    assert.ok(victim !== undefined)
    if (random() < 0.4) replicas.isolate(victim)
    else victim.crash()
    await this.runFor(random() * 2000)
    replicas.heal()
    if (!victim.isRunning) {
      // The last of them stays as it is until the end.
      const others = nodes.filter((node) => node !== victim && node.level === undefined)
      if (others.length > 0 && random() < 0.7) victim.level = FEATURE_LEVEL
      await replicas.started([victim])
    }
    await this.runFor(random() * 2000)
  }
}

test('while nodes are upgraded, die and are cut off, no member is told more than it knows, and the level never falls', async () => {
  let heldBack = 0
  let unseen = 0
  for (const seed of [1, 2, 3]) {
    const upgrade = new Upgrade(seed)
    const { replicas } = upgrade
    await replicas.start()
    for (let strikes = 0; strikes < 8; strikes++) await upgrade.strike()
    for (const node of replicas.nodes) {
      if (node.level === FEATURE_LEVEL) continue
      node.crash()
      node.level = FEATURE_LEVEL
      await replicas.started([node])
    }
    await replicas.settled()
    await upgrade.runFor(3000)
    for (const { state } of replicas.nodes) assert.equal(state.featureLevel(), FEATURE_LEVEL)
    const inOrder = [...upgrade.levels].sort(([a], [b]) => a - b).map(([, level]) => level)
    assert.deepEqual(inOrder, inOrder.toSorted())
    heldBack += upgrade.heldBack
    unseen += upgrade.unseen
  }
  assert.ok(heldBack > 100 && unseen > 100, `held back ${heldBack}, unseen ${unseen}`)
})
