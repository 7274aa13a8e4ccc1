/* Reads in slices: what is answered, with how much at most, in whose turn, and that no view is left open. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Protocol, Reply } from '../../resp/encoder.ts'
import type { LastSlice, Slices } from '../../src/commands/command.ts'
import { LongRead, LongReads } from '../../src/long-reads.ts'
import { ViewClosedError } from '../../storage/state-views.ts'
import { MemoryStore, wire } from './command-fixture.ts'

class Bench {
  readonly store: MemoryStore = new MemoryStore()
  wakes = 0
  readonly reads: LongReads
  readonly answers: string[] = []
  /** What rests, and for how long. */
  readonly timers: { ms: number; action: () => void }[] = []
  #now = 0

  /** Each look at the clock is `sliceMs` later than the one before. */
  constructor(longReplyBytesMax = 1000, sliceMs = 1) {
    this.reads = new LongReads({
      limits: { longReplyBytesMax, turnSlicesMsMax: 2 },
      clock: { monotonic: () => (this.#now += sliceMs) },
      timers: {
        after: (ms, action) => {
          this.timers.push({ ms, action })
          return () => {}
        },
      },
      wake: () => this.wakes++,
    })
  }

  start(name: string, slices: Slices, protocol: Protocol = 2): void {
    const view = this.store.view()
    assert.ok(view)
    const failure = (error: unknown): Reply => {
      if (error instanceof ViewClosedError) return 'closed'
      throw error
    }
    new LongRead({ slices, view, failure }, this.reads).start(protocol, (reply) =>
      this.answers.push(`${name} ${wire(reply, protocol)}`),
    )
  }
}

function* pieces(count: number, last: LastSlice, element: Reply = 'x'): Slices {
  for (let i = 0; i < count; i++) yield [element]
  return last
}

test('the elements of all slices are one array, and a reply of another kind is the reply', () => {
  const bench = new Bench()
  bench.start('array', pieces(2, { elements: [null] }), 3)
  bench.start('number', pieces(1, { reply: 7 }))
  for (let turn = 0; turn < 4; turn++) bench.reads.work(false)
  assert.deepEqual(bench.answers.toSorted(), [
    'array *3\r\n$1\r\nx\r\n$1\r\nx\r\n_\r\n',
    'number :7\r\n',
  ])
  assert.equal(bench.store.openViews, 0)
})

test('a turn runs slices for its time, of each read in its turn, and asks for another while some are left', () => {
  const bench = new Bench()
  bench.start('long', pieces(4, { reply: 0 }))
  bench.start('short', pieces(1, { reply: 0 }))
  assert.equal(bench.wakes, 2)
  const turns: string[][] = []
  for (let turn = 0; turn < 4; turn++) {
    bench.reads.work(false)
    turns.push(bench.answers.splice(0))
  }
  assert.deepEqual(turns, [[], ['short :0\r\n'], [], ['long :0\r\n']])
  const { wakes } = bench
  bench.reads.work(false)
  assert.equal(bench.wakes, wakes)
})

test('where others wanted the turn too, reads rest as long as their slices took, and then ask for a turn', () => {
  const bench = new Bench()
  bench.start('long', pieces(3, { reply: 0 }))
  bench.reads.work(true)
  assert.deepEqual(
    bench.timers.map(({ ms }) => ms),
    [2],
  )
  assert.equal(bench.wakes, 1)
  bench.reads.work(true)
  bench.reads.work(false)
  assert.deepEqual(bench.answers, [])
  bench.timers[0]?.action()
  assert.equal(bench.wakes, 2)
  bench.reads.work(false)
  assert.deepEqual(bench.answers, ['long :0\r\n'])
  assert.equal(bench.timers.length, 1)
})

test('what is answered asks for the turn that writes it, rest or not', () => {
  const bench = new Bench()
  bench.start('short', pieces(0, { reply: 0 }))
  bench.reads.work(true)
  assert.deepEqual(bench.answers, ['short :0\r\n'])
  assert.equal(bench.wakes, 2)
})

test('a turn runs one slice at least, and sixteen at most where they take no time', () => {
  const slow = new Bench(1000, 5)
  slow.start('slow', pieces(2, { reply: 0 }))
  slow.reads.work(false)
  slow.reads.work(false)
  assert.deepEqual(slow.answers, [])
  slow.reads.work(false)
  assert.deepEqual(slow.answers, ['slow :0\r\n'])
  for (const [count, turns] of [
    [15, 1],
    [16, 2],
  ] as const) {
    const quick = new Bench(1000, 0)
    quick.start('quick', pieces(count, { reply: 0 }))
    for (let turn = 1; turn < turns; turn++) quick.reads.work(false)
    assert.deepEqual(quick.answers, [])
    quick.reads.work(false)
    assert.deepEqual(quick.answers, ['quick :0\r\n'])
  }
})

test('a reply may be as large as the limit and no larger', () => {
  const element = 'x'.repeat(90)
  // Each is 97 bytes: $90 and two line ends around it.
  for (const [count, expected] of [
    [10, /^large \*10\r\n/],
    [11, /^large -ERR the reply is too large/],
  ] as const) {
    const bench = new Bench(970)
    bench.start('large', pieces(count, { elements: [] }, element))
    for (let turn = 0; turn < 6; turn++) bench.reads.work(false)
    assert.match(bench.answers[0] ?? '', expected)
    assert.equal(bench.store.openViews, 0)
  }
})

test('what a slice throws is answered, and what must end the process passes through', () => {
  const bench = new Bench()
  bench.start(
    'view',
    (function* (): Slices {
      yield []
      throw new ViewClosedError()
    })(),
  )
  bench.reads.work(false)
  assert.deepEqual(bench.answers, ['view $6\r\nclosed\r\n'])
  assert.equal(bench.store.openViews, 0)
  const bug = new TypeError('bug')
  bench.start(
    'bug',
    (function* (): Slices {
      yield []
      throw bug
    })(),
  )
  assert.throws(() => bench.reads.work(false), bug)
})
