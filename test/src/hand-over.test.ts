/* When a leader gives its office up by itself: at its end, and on a disk that stays slow. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CoreStatus, TransferResult } from '../../raft/core.ts'
import { HandOver } from '../../src/hand-over.ts'
import { Lone } from '../raft/lone.ts'

const TICK_MS = 10

class Bench {
  now = 0
  leads = true
  otherLeads = false
  durable = 100
  last = 100
  limit = 100
  uncommittedBytes = 0
  answer: TransferResult = 'begun'
  transferTo: string | undefined
  transfers = 0
  readonly lines: string[] = []
  readonly handOver = new HandOver({
    now: () => this.now,
    led: () => (this.leads ? this.#status() : undefined),
    otherLeads: () => this.otherLeads,
    slowCommitMs: () => this.limit,
    transferLeadership: () => {
      this.transfers++
      return this.answer
    },
    log: { warn: (_, text) => this.lines.push(text) },
  })

  #status(): CoreStatus {
    const { durable, last, uncommittedBytes, transferTo } = this
    return { ...new Lone().core.status(), durable, last, uncommittedBytes, transferTo }
  }

  /** Ticks for `ms`; each commit takes `commitMs`, and another one follows at once. */
  run(ms: number, commitMs: number): this {
    const end = this.now + ms
    let since = this.now
    while (this.now < end) {
      if (this.durable === this.last) {
        this.last++
        since = this.now
      }
      this.handOver.work()
      this.now += TICK_MS
      if (this.now - since >= commitMs) this.durable = this.last
    }
    return this
  }
}

test('a node that leads and leaves waits until another leads', async () => {
  const bench = new Bench()
  let left = false
  const leaving = bench.handOver.leave(1_000).then(() => {
    left = true
  })
  bench.run(300, 10)
  await Promise.resolve()
  assert.equal(left, false)
  assert.ok(bench.transfers > 1, 'whoever was to lead may die: it is asked again')
  bench.leads = false
  bench.run(300, 10)
  await Promise.resolve()
  assert.equal(left, false, 'its successor may need its vote')
  bench.otherLeads = true
  bench.handOver.work()
  await leaving
})

test('it waits for nobody where nobody could lead, and for nobody for ever', async () => {
  const alone = new Bench()
  alone.answer = 'no-target'
  await alone.handOver.leave(1_000)
  const follower = new Bench()
  follower.leads = false
  await follower.handOver.leave(1_000)
  assert.equal(follower.transfers, 0)
  const stuck = new Bench()
  const leaving = stuck.handOver.leave(1_000)
  stuck.run(1_100, 10)
  await leaving
})

test('a disk that stays slow for some seconds ends the office, one that was slow for a moment does not', () => {
  assert.equal(new Bench().run(20_000, 60).transfers, 0)
  const slow = new Bench().run(4_900, 200)
  assert.equal(slow.transfers, 0)
  slow.run(700, 200)
  assert.equal(slow.transfers, 1)
  assert.match(slow.lines[0] ?? '', /no log commit took less than 100 ms/)
  const passing = new Bench()
  for (let at = 0; at < 10; at++) passing.run(3_000, 200).run(200, 20)
  assert.equal(passing.transfers, 0)
})

test('many bytes may take longer, in proportion', () => {
  const bench = new Bench()
  bench.uncommittedBytes = 16_384 * 1_900
  assert.equal(bench.run(20_000, 1_900).transfers, 0)
  assert.equal(bench.run(20_000, 2_100).transfers, 1)
})

test('what took long is counted, not the time between: one slow commit and a pause are no slow disk', () => {
  const bench = new Bench().run(210, 200)
  bench.last = bench.durable
  for (const end = bench.now + 60_000; bench.now < end; bench.now += TICK_MS) {
    bench.handOver.work()
  }
  assert.equal(bench.run(1_000, 200).transfers, 0)
  const paused = new Bench()
  for (let at = 0; at < 40; at++) {
    paused.run(210, 200)
    paused.last = paused.durable
    for (const end = paused.now + 500; paused.now < end; paused.now += TICK_MS) {
      paused.handOver.work()
    }
  }
  assert.equal(paused.transfers, 1)
})

test('a commit that does not return at all is slow before it has ended', () => {
  const bench = new Bench()
  bench.last++
  for (; bench.now < 6_000; bench.now += TICK_MS) bench.handOver.work()
  assert.equal(bench.transfers, 1)
})

test('it does so once a minute at most, never when it is off, and only as a leader', () => {
  assert.equal(new Bench().run(50_000, 200).transfers, 1)
  assert.equal(new Bench().run(130_000, 200).transfers, 3)
  const off = new Bench()
  off.limit = 0
  assert.equal(off.run(20_000, 200).transfers, 0)
  const follower = new Bench()
  follower.leads = false
  assert.equal(follower.run(20_000, 200).transfers, 0)
  const handing = new Bench()
  handing.transferTo = 'x'
  assert.equal(handing.run(20_000, 200).transfers, 0)
})
