/*
 * Verdicts on whole histories: written by hand, one per way to be wrong, and simulated by the thousand operations,
 * right ones and ones from a store with a named fault.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkHistory, mergeVerdicts } from './check.ts'
import { history } from './history-fixture.ts'
import type { Operation } from './operation.ts'
import { type Fault, simulate, type Workload } from './simulation.ts'
import { stringModel } from './string-model.ts'

const WORKLOADS: readonly Workload[] = ['register', 'counter', 'compare', 'append', 'mixed']

/** Each line: process, from, to, key, command; `→` reply; `?` unknown outcome; `✗` failed. */
const GOOD: readonly (readonly [string, string])[] = [
  ['reads what was written', 'a 0-1 k set 1 → OK | b 2-3 k get → 1'],
  [
    'concurrent with a write, a read may see either',
    'a 0-5 k set 1 → OK | b 1-2 k get → nil | c 3-4 k get → 1',
  ],
  ['an unknown write may happen late', 'a 0-? k set 1 | b 1-2 k get → nil | b 9-10 k get → 1'],
  ['an unknown write may never happen', 'a 0-? k set 1 | b 1-2 k get → nil | b 9-10 k get → nil'],
  ['an unknown write may be overwritten', 'a 0-? k set 1 | b 1-2 k set 2 → OK | b 3-4 k get → 2'],
  [
    'unknown DEL and SETNX explain a third winner',
    'a 0-1 k setnx 1 → 1 | b 0-? k del | c 2-3 k setnx 2 → 1',
  ],
  ['unknown INCRs fill a gap', 'a 0-? k incr | b 0-? k incr | c 1-2 k incr → 3 | c 3-4 k get → 3'],
  ['a failed write is not there', 'a 0-1 k set 1 ✗ | b 2-3 k get → nil'],
  ['keys are apart', 'a 0-1 k set 1 → OK | b 2-3 l get → nil | b 4-5 __proto__ get → nil'],
  ['appends in either order', 'a 0-5 k append x → 2 | b 0-5 k append y → 1 | c 6-7 k get → yx'],
  [
    'SET GET answers the old value',
    'a 0-1 k set 1 → OK | a 2-3 k set 2 XX GET → 1 | a 4-5 k set 3 NX → nil',
  ],
]

const BAD: readonly (readonly [string, string])[] = [
  ['stale read', 'a 0-1 k set 1 → OK | a 2-3 k set 2 → OK | b 4-5 k get → 1'],
  ['lost write', 'a 0-1 k set 1 → OK | b 2-3 k get → nil'],
  ['lost update', 'a 0-5 k incr → 1 | b 0-5 k incr → 1'],
  ['double INCR', 'a 0-1 k incr → 1 | a 2-3 k incr → 3'],
  ['a failed write took effect', 'a 0-1 k set 1 ✗ | b 2-3 k get → 1'],
  [
    'a failed write took effect although an unknown one is about',
    'a 0-1 k set 1 ✗ | c 0-? k set 2 | b 2-3 k get → 1',
  ],
  ['read of the future', 'b 0-1 k get → 1 | a 2-3 k set 1 → OK'],
  ['read of what nobody wrote', 'a 0-1 k set 1 → OK | b 0-5 k get → 7'],
  ['two SETNX winners', 'a 0-5 k setnx 1 → 1 | b 0-5 k setnx 2 → 1'],
  ['two SET NX winners', 'a 0-5 k set 1 NX → OK | b 0-5 k set 2 NX → OK | c 0-? k set 3 XX'],
  ['reads go back', 'a 0-9 k set 1 → OK | b 1-2 k get → 1 | c 3-4 k get → nil'],
  [
    'two readers, two orders',
    'a 0-9 k set 1 → OK | b 0-9 k set 2 → OK | c 10-11 k get → 1 | c 12-13 k get → 2',
  ],
  [
    'an unknown write happens twice',
    'a 0-? k set 1 | b 1-2 k get → 1 | b 3-4 k set 2 → OK | b 5-6 k get → 1',
  ],
  ['an unknown INCR happens twice', 'a 0-? k incr | b 1-2 k get → 1 | b 3-4 k get → 2'],
  ['lost append', 'a 0-1 k append x → 1 | b 2-3 k append y → 1'],
  ['reordered appends', 'a 0-1 k append x → 1 | b 2-3 k append y → 2 | c 4-5 k get → yx'],
  ['DEL of what is not there', 'a 0-1 k del → 1'],
  ['crossed replies', 'a 0-1 k set 1 → OK | b 2-3 k get → #1'],
  ['GETSET skips a value', 'a 0-1 k getset 1 → nil | a 2-3 k getset 2 → 1 | a 4-5 k getset 3 → 1'],
]

test('calls right histories valid', () => {
  for (const [name, text] of GOOD) assert.equal(checkHistory(history(text)).outcome, 'valid', name)
})

test('calls wrong histories invalid', () => {
  for (const [name, text] of BAD) {
    const { outcome, violations } = checkHistory(history(text))
    assert.equal(outcome, 'invalid', name)
    assert.deepEqual(
      violations.map(({ key }) => key),
      ['k'],
      name,
    )
  }
})

test('a linearizable store is valid, whatever the seed and the workload', () => {
  for (const workload of WORKLOADS) {
    for (let seed = 1; seed <= 30; seed++) {
      const plan = { seed, workload, operations: 1000, processes: 8, keys: 4 }
      const { outcome } = checkHistory(simulate({ ...plan, unknown: 0.02, failed: 0.05 }))
      assert.equal(outcome, 'valid', `${workload}, seed ${seed}`)
    }
  }
})

const FAULTS: readonly (readonly [Fault, readonly Workload[]])[] = [
  ['stale read', ['register', 'counter', 'compare', 'append']],
  ['lost write', ['register', 'counter', 'compare', 'append']],
  ['lost update', ['register', 'counter', 'append']],
  ['executed twice', ['register', 'counter', 'compare', 'append']],
  ['late check', ['compare']],
  ['failed and executed', ['register', 'counter', 'compare', 'append']],
  ['crossed replies', WORKLOADS],
]

test('a store with a fault is caught', () => {
  for (const [fault, workloads] of FAULTS) {
    for (const workload of workloads) {
      let caught = 0
      for (let seed = 1; seed <= 10; seed++) {
        const plan = { seed, workload, operations: 1500, processes: 8, keys: 4, fault }
        const { outcome } = checkHistory(simulate({ ...plan, unknown: 0.01, failed: 0.2 }))
        if (outcome === 'invalid') caught++
      }
      // A fault need not show: a write that is lost may have been overwritten anyway.
      assert.ok(caught >= 9, `${fault}, ${workload}: ${caught} of 10`)
    }
  }
})

test('100,000 operations of 30 clients on 100 keys take seconds', () => {
  const plan = {
    seed: 1,
    operations: 100_000,
    processes: 30,
    keys: 100,
    unknown: 0.01,
    failed: 0.02,
  }
  for (const workload of ['register', 'mixed'] as const) {
    const operations = simulate({ ...plan, workload })
    const started = performance.now()
    const verdict = checkHistory(operations)
    const seconds = (performance.now() - started) / 1000
    assert.equal(verdict.outcome, 'valid')
    assert.equal(verdict.operations, 100_000)
    assert.ok(seconds < 30, `${seconds} s`)
    // The machine may be slow; the work must not grow.
    assert.ok(verdict.steps < 2_000_000, `${verdict.steps} steps`)
  }
})

test('counts, and merges parts of a history', () => {
  const good = checkHistory(history('a 0-1 k set 1 → OK | b 0-? k set 2 | c 0-1 k get ✗'))
  const { keys, operations, failed, unknown } = good
  assert.deepEqual(
    { keys, operations, failed, unknown },
    { keys: 1, operations: 3, failed: 1, unknown: 1 },
  )
  const bad = checkHistory(history('a 0-1 l incr → 2'))
  const limits = { steps: 1, configurations: 1, states: 1 }
  const undecided = checkHistory(history('a 0-1 m incr → 1'), stringModel, limits)
  assert.equal(undecided.outcome, 'unknown')
  assert.deepEqual(undecided.undecided, ['m'])
  assert.equal(mergeVerdicts([good]).outcome, 'valid')
  assert.equal(mergeVerdicts([good, undecided]).outcome, 'unknown')
  const all = mergeVerdicts([good, undecided, bad])
  assert.equal(all.outcome, 'invalid')
  assert.equal(all.keys, 3)
  assert.equal(all.operations, 5)
})

test('refuses operations that cannot be', () => {
  const [operation] = history('a 0-1 k get → nil') as [Operation]
  const impossible: readonly Partial<Operation>[] = [
    { returned: -1 },
    { returned: Number.POSITIVE_INFINITY },
    { outcome: 'info' },
    { invoked: Number.NaN },
    { f: 'flushall' },
  ]
  for (const change of impossible) {
    assert.throws(() => checkHistory([{ ...operation, ...change }]), { code: 'HISTORY' })
  }
})
