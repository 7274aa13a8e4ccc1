/*
 * RaftLog by itself: the seam between the durable log and the unstable tail, against a plain list as the model, and
 * the gateways that keep the cursors in order.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RaftLog } from '../../raft/log.ts'
import type { Entry } from '../../raft/types.ts'
import { entry } from './lone.ts'
import { MemoryLog } from './memory-log.ts'
import { diskOf } from './script.ts'

function logOf(terms: readonly number[], applied = 0): { log: RaftLog; disk: MemoryLog } {
  const disk = new MemoryLog(diskOf(terms, 0))
  return { log: new RaftLog(disk, applied), disk }
}

test('the tail lies in front of what the disk still holds', () => {
  const { log } = logOf([1, 1, 1])
  assert.equal(log.append([entry(2, 2), entry(3, 2), entry(4, 2)]), 2)
  assert.deepEqual([log.durable, log.lastIndex, log.termOf(1), log.termOf(2)], [1, 4, 1, 2])
  assert.deepEqual(
    log.entries(1, 5, 1e9).map(({ term }) => term),
    [1, 2, 2, 2],
  )
  assert.equal(log.term(5), undefined)
  assert.throws(() => log.termOf(5), /no entry 5/)
})

test('entries are cut after the one that passes the bytes, also across the seam', () => {
  const { log } = logOf([1, 1])
  log.append([entry(3, 1), entry(4, 1)])
  const read = (from: number, to: number, bytes: number): number[] =>
    log.entries(from, to, bytes).map(({ index }) => index)
  assert.deepEqual(read(1, 5, 1), [1])
  assert.deepEqual(read(1, 5, 35), [1, 2])
  assert.deepEqual(read(1, 5, 68), [1, 2], 'the two on disk use the budget up')
  assert.deepEqual(read(1, 5, 80), [1, 2, 3])
  assert.deepEqual(read(3, 5, 1), [3])
  assert.deepEqual(read(2, 2, 1), [])
  assert.throws(() => log.entries(1, 6, 1), /last is 4/)
})

test('nothing below the commit index is ever cut', () => {
  const { log } = logOf([1, 1, 1])
  log.commitTo(2)
  assert.throws(() => log.append([entry(2, 2)]), /committed entry 2/)
  assert.throws(() => log.commitTo(4), /past the last entry 3/)
  assert.equal(log.commitTo(1), false)
  assert.equal(log.committed, 2)
})

test('a log that begins after the applied index, or ends before it, is refused', () => {
  assert.throws(() => logOf([1], 2), /outside the log/)
  const disk = new MemoryLog(diskOf([1], 5))
  assert.throws(() => new RaftLog(disk, 4), /outside the log/)
  assert.equal(new RaftLog(disk, 5).base().index, 5)
})

test('a leader’s own entry stands behind the last one', () => {
  const { log } = logOf([1])
  assert.throws(() => log.push(entry(3, 1)), /entry 3 after 1/)
})

test('the hint passes over whole terms and stops at the base', () => {
  const { log } = logOf([1, 1, 3, 3, 4])
  assert.deepEqual(log.mayAgree(5, 3), { index: 4, term: 3 })
  assert.deepEqual(log.mayAgree(5, 2), { index: 2, term: 1 })
  assert.deepEqual(log.mayAgree(99, 9), { index: 5, term: 4 })
  assert.deepEqual(log.mayAgree(5, 0), { index: 0, term: 0 })
})

test('a completion without a write, or two writes at once, end the process', () => {
  const { log } = logOf([])
  assert.throws(() => log.persisted(), /no persist/)
  log.push(entry(1, 1))
  log.takeUnpersisted()
  assert.throws(() => log.takeUnpersisted(), /in flight/)
})

type Act =
  | { readonly kind: 'append'; readonly back: number; readonly terms: readonly number[] }
  | { readonly kind: 'begin' | 'end' }
  | { readonly kind: 'commit' | 'take'; readonly amount: number }

const acts: fc.Arbitrary<Act> = fc.oneof(
  fc.record({
    kind: fc.constant('append' as const),
    back: fc.nat(4),
    terms: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 4 }),
  }),
  fc.constant({ kind: 'begin' as const }),
  fc.constant({ kind: 'end' as const }),
  fc.record({ kind: fc.constantFrom('commit' as const, 'take' as const), amount: fc.nat(5) }),
)

/** RaftLog over a MemoryLog, beside the plain list that it must look like. */
class Pair {
  readonly disk: MemoryLog = new MemoryLog()
  readonly log: RaftLog = new RaftLog(this.disk, 0)
  readonly model: Entry[] = []
  #term = 0
  #taken = 0

  do(act: Act): void {
    if (act.kind === 'append') this.#append(act.back, act.terms)
    else if (act.kind === 'begin' && this.disk.pending === undefined && this.log.hasUnpersisted) {
      void this.disk.persist({ hardState: undefined, entries: this.log.takeUnpersisted() })
    } else if (act.kind === 'end' && this.disk.pending !== undefined) {
      this.disk.complete()
      this.log.persisted()
    } else if (act.kind === 'commit') {
      this.log.commitTo(Math.min(this.log.committed + act.amount, this.log.lastIndex))
    } else if (act.kind === 'take') {
      for (const taken of this.log.takeCommitted(act.amount * 40)) {
        assert.equal(taken, this.model[this.#taken++])
      }
    }
    this.#compare()
  }

  /** Each append is of a later leader, so a term names one history only. */
  #append(back: number, steps: readonly number[]): void {
    this.#term++
    const from = Math.max(this.log.lastIndex - back, this.log.committed)
    const entries = steps.map((step, at) => entry(from + 1 + at, this.#term * 10 + step))
    this.log.append(entries)
    this.model.length = from
    this.model.push(...entries)
  }

  #compare(): void {
    const { log, model } = this
    assert.equal(log.lastIndex, model.length)
    assert.deepEqual(log.entries(1, model.length + 1, 1e9), model)
    assert.ok(log.handed <= Math.min(log.committed, log.durable) && log.durable <= log.lastIndex)
    for (let index = 1; index <= log.durable; index++) {
      assert.equal(this.disk.entry(index), model[index - 1], `durable ${index} is on the disk`)
    }
  }
}

test('under any order of appends, cuts and completions the log equals a list, and durable means on disk', () => {
  fc.assert(
    fc.property(fc.array(acts, { maxLength: 40 }), (script) => {
      const pair = new Pair()
      for (const act of script) pair.do(act)
    }),
    { numRuns: 500, seed: 1 },
  )
})

test('a restored log begins with what the reader shows, and only where nothing is being written', async () => {
  const { log, disk } = logOf([1, 1, 1])
  const land = (): void => disk.complete()
  const installing = disk.install({ index: 5, term: 2 }, undefined)
  land()
  await installing
  log.restored({ index: 5, term: 2 })
  assert.deepEqual([log.durable, log.committed, log.handed, log.lastIndex], [5, 5, 5, 5])
  assert.throws(() => log.restored({ index: 5, term: 2 }), /committed to 5/)
  const other = logOf([1, 1, 1]).log
  assert.throws(() => other.restored({ index: 3, term: 2 }), /3@2 in a log/)
  other.push(entry(4, 1))
  assert.throws(() => other.restored({ index: 3, term: 1 }), /being written/)
})
