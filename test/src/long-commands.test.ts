/* Connections in the midst of long commands: their turns, and the rest that they share. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LongCommands } from '../../src/long-commands.ts'

interface FakeConnection {
  readonly name: string
  receivedBytes: number
  work(share: number, end: number): boolean
}

class Bench {
  now = 0
  wakes = 0
  readonly worked: string[] = []
  readonly more: string[] = []
  readonly timers: { ms: number; action: () => void }[] = []
  readonly long: LongCommands<FakeConnection> = new LongCommands({
    limits: { turnLongCommandsMsMax: 2, longCommandBytesPerMs: 1000 },
    clock: { monotonic: () => this.now },
    timers: {
      after: (ms, action) => {
        this.timers.push({ ms, action })
        return () => {}
      },
    },
    wake: () => this.wakes++,
  })

  /** Connections that each take `ms`, and have received so many bytes. */
  add(names: string, ms: number, receivedBytes = 0, hasMore = false): void {
    for (const name of names) {
      this.long.add({
        name,
        receivedBytes,
        work: () => {
          this.worked.push(name)
          this.now += ms
          return hasMore
        },
      })
    }
  }

  turn(): { worked: string; goesOn: boolean } {
    const goesOn = this.long.work(({ name }) => this.more.push(name))
    return { worked: this.worked.splice(0).join(''), goesOn }
  }
}

test('a turn takes them in their order, one at least and as many as its time allows', () => {
  const bench = new Bench()
  bench.add('abc', 0.3)
  assert.deepEqual(bench.turn(), { worked: 'abc', goesOn: false })
  bench.add('abc', 1)
  assert.deepEqual(bench.turn(), { worked: 'ab', goesOn: false })
  bench.timers[0]?.action()
  bench.add('d', 3)
  assert.deepEqual(bench.turn(), { worked: 'cd', goesOn: false })
  bench.timers[1]?.action()
  bench.add('ef', 3)
  assert.deepEqual(bench.turn(), { worked: 'e', goesOn: false })
})

test('all of them rest as long as they took, and what they received counts as time too', () => {
  const bench = new Bench()
  bench.add('abc', 1.5, 1000)
  assert.deepEqual(bench.turn(), { worked: 'a', goesOn: false })
  assert.deepEqual(
    bench.timers.map(({ ms }) => ms),
    [2.5],
  )
  bench.now += 10
  assert.deepEqual(bench.turn(), { worked: '', goesOn: false })
  assert.equal(bench.wakes, 0)
  bench.timers[0]?.action()
  assert.equal(bench.wakes, 1)
  assert.deepEqual(bench.turn(), { worked: 'b', goesOn: false })
})

test('a rest begins above one millisecond', () => {
  for (const [ms, rests] of [
    [1, 0],
    [1.01, 1],
  ] as const) {
    const bench = new Bench()
    bench.add('a', ms)
    bench.turn()
    assert.equal(bench.timers.length, rests)
  }
})

test('those with more to do are told, and who has left is passed over', () => {
  const bench = new Bench()
  bench.add('a', 0, 0, true)
  bench.add('b', 0)
  assert.deepEqual(bench.turn(), { worked: 'ab', goesOn: false })
  assert.deepEqual(bench.more, ['a'])
  const gone = { name: 'x', receivedBytes: 0, work: () => assert.fail('it has left') }
  bench.long.add(gone)
  bench.long.delete(gone)
  assert.deepEqual(bench.turn(), { worked: '', goesOn: false })
})
