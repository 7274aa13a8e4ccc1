/* When a leader proposes an entry that is nothing but a clock, and what a node knows of its leader's time. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ExpiryClock } from '../../src/expiry-clock.ts'

const LEADER = 'a'.repeat(40)
const OTHER = 'b'.repeat(40)

/** A node whose time is in the test's hand; its logical clock is 1000 ms ahead of the monotonic one. */
class Node {
  time = 0
  leads = true
  applied = 10
  appliedClock = 0
  nextExpiry: number | undefined
  readonly proposed: number[] = []
  readonly asked: (readonly [string, number])[] = []
  refuses = false

  readonly clock: ExpiryClock = new ExpiryClock({
    now: () => this.time,
    leads: () => this.leads,
    logicalNow: () => 1000 + this.time,
    appliedIndex: () => this.applied,
    appliedClock: () => this.appliedClock,
    nextExpiry: () => this.nextExpiry,
    propose: () => {
      if (this.refuses) return undefined
      this.proposed.push(1000 + this.time)
      this.clock.appended()
      return this.applied + this.proposed.length
    },
    ask: (leader, clock) => this.asked.push([leader, clock]),
  })

  /** Turns for so long, one each ms. */
  run(ms: number): void {
    for (let i = 0; i < ms; i++) {
      this.clock.work()
      this.time++
    }
  }

  /** Everything proposed is applied, and no key is due any more. */
  apply(): void {
    this.applied += this.proposed.length
    this.appliedClock = this.proposed.splice(0).at(-1) ?? this.appliedClock
  }
}

test('a key that falls due brings one entry, and nothing before', () => {
  const node = new Node()
  node.nextExpiry = 1200
  node.run(200)
  assert.deepEqual(node.proposed, [])
  node.run(5000)
  assert.deepEqual(node.proposed, [1200], 'at most one in flight')
  node.apply()
  node.nextExpiry = undefined
  node.run(5000)
  assert.deepEqual(node.proposed, [])
})

test('without a read that waits there is one entry per 100 ms, and none while something is written', () => {
  const node = new Node()
  node.nextExpiry = 0
  let entries = 0
  for (let i = 0; i < 1000; i++) {
    node.run(1)
    entries += node.proposed.length
    node.apply()
  }
  assert.equal(entries, 10)
  for (let i = 0; i < 100; i++) {
    node.clock.appended()
    node.run(50)
  }
  assert.deepEqual(node.proposed, [])
})

test('a read that waits gets its entry at once, one in flight, until its clock is applied', () => {
  const node = new Node()
  node.clock.appended()
  node.clock.await(1000)
  node.run(1)
  assert.deepEqual(node.proposed, [1000])
  node.clock.want(1001)
  node.run(3)
  assert.deepEqual(node.proposed, [1000])
  node.apply()
  node.run(3)
  assert.deepEqual(node.proposed, [1004])
  node.apply()
  node.run(50)
  assert.deepEqual(node.proposed, [])
})

test('a time that the leader has not reached is not proposed for', () => {
  const node = new Node()
  node.clock.want(5000)
  node.run(100)
  assert.deepEqual(node.proposed, [])
})

test('what was not taken is proposed again', () => {
  const node = new Node()
  node.refuses = true
  node.clock.want(1000)
  node.run(3)
  node.refuses = false
  node.run(3)
  assert.equal(node.proposed.length, 1)
})

test('a node that does not lead proposes nothing and asks its leader', () => {
  const node = new Node()
  node.leads = false
  node.nextExpiry = 0
  node.clock.await(70)
  node.clock.follow(LEADER)
  node.clock.await(80)
  node.run(200)
  assert.deepEqual([node.proposed, node.asked], [[], [[LEADER, 80]]])
})

test('the time of the leader is the latest that it told, and never behind what is applied', () => {
  const node = new Node()
  node.leads = false
  node.appliedClock = 50
  node.clock.toldBy(LEADER, 60)
  assert.equal(node.clock.leaderNow(), 50, 'told by nobody who leads')
  node.clock.follow(LEADER)
  node.clock.toldBy(LEADER, 100)
  node.clock.toldBy(LEADER, 90)
  node.clock.toldBy(OTHER, 900)
  assert.equal(node.clock.leaderNow(), 100)
  node.appliedClock = 120
  assert.equal(node.clock.leaderNow(), 120)
  node.clock.follow(OTHER)
  node.clock.toldBy(LEADER, 999)
  assert.equal(node.clock.leaderNow(), 120)
  node.leads = true
  node.time = 5
  assert.equal(node.clock.leaderNow(), 1005)
})

test('in another term nothing of the one before holds it up', () => {
  const node = new Node()
  node.clock.want(1000)
  node.run(1)
  node.proposed.splice(0)
  node.clock.follow(LEADER)
  node.clock.want(1001)
  node.run(1)
  assert.equal(node.proposed.length, 1)
})
