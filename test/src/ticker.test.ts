/* Ticks from timers that are late, early, or come after a long sleep. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Ticker } from '../../src/ticker.ts'

/** An event loop in the test's hand: timers, then sockets, then what was put behind the poll phase. */
class Loop {
  now = 0
  ticks = 0
  readonly order: string[] = []
  #timers: { at: number; action: () => void; cancelled: boolean }[] = []
  #afterPoll: (() => void)[] = []
  readonly ticker: Ticker

  constructor() {
    this.ticker = new Ticker({
      clock: { monotonic: () => this.now, wall: () => 0 },
      timers: {
        after: (ms, action) => {
          const timer = { at: this.now + ms, action, cancelled: false }
          this.#timers.push(timer)
          return () => {
            timer.cancelled = true
          }
        },
      },
      tickMs: 10,
      ticksMax: 5,
      afterPoll: (action) => void this.#afterPoll.push(action),
      tick: () => {
        this.ticks++
        this.order.push('tick')
      },
    })
  }

  get timers(): number {
    return this.#timers.filter(({ cancelled }) => !cancelled).length
  }

  /** One turn of the loop, `ms` after the last. */
  turn(ms: number): void {
    this.now += ms
    const due = this.#timers.filter(({ at }) => at <= this.now)
    this.#timers = this.#timers.filter(({ at }) => at > this.now)
    for (const { action, cancelled } of due) if (!cancelled) action()
    this.order.push('sockets')
    for (const action of this.#afterPoll.splice(0)) action()
  }
}

test('one tick per interval', () => {
  const loop = new Loop()
  for (let i = 0; i < 100; i++) loop.turn(10)
  assert.equal(loop.ticks, 100)
  assert.equal(loop.timers, 1)
})

test('no tick is lost or gained by timers that are a little late', () => {
  const loop = new Loop()
  for (let i = 0; i < 100; i++) loop.turn(13)
  assert.equal(loop.ticks, 130)
})

test('nor by timers that are a little early', () => {
  const loop = new Loop()
  for (let i = 0; i < 1000; i++) loop.turn(1)
  loop.turn(9.5)
  loop.turn(0.5)
  assert.equal(loop.ticks, 101)
})

test('after a stall the sockets are read before any tick', () => {
  const loop = new Loop()
  loop.turn(10)
  loop.order.length = 0
  loop.turn(3000)
  assert.deepEqual(loop.order, ['sockets', ...Array(5).fill('tick')])
})

test('a long sleep counts as the most ticks allowed, and is then forgotten', () => {
  const loop = new Loop()
  loop.turn(60_000)
  assert.equal(loop.ticks, 5)
  for (let i = 0; i < 10; i++) loop.turn(10)
  assert.equal(loop.ticks, 15)
})

test('as many ticks as allowed are none too many', () => {
  const loop = new Loop()
  loop.turn(50)
  assert.equal(loop.ticks, 5)
  loop.turn(59)
  assert.equal(loop.ticks, 10)
  loop.turn(10)
  assert.equal(loop.ticks, 11)
})

test('stopped, it ticks no more, not even for a timer that has fired', () => {
  const loop = new Loop()
  loop.turn(10)
  loop.now += 10
  loop.ticker.stop()
  loop.turn(10)
  assert.equal(loop.ticks, 1)
  assert.equal(loop.timers, 0)
})
