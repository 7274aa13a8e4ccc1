/*
 * Explanations: the window of hand-written histories is the one that a person would point at, and on many simulated
 * ones it ends at the first return that no order explains and is as illegal as the whole.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkHistory, KEY_LIMITS, type Violation } from './check.ts'
import { type Explanation, explain, quickXplain } from './explain.ts'
import { history } from './history-fixture.ts'
import { type Operation, shownCommand } from './operation.ts'
import { searchOrder } from './search.ts'
import { type Fault, seededRandom, simulate } from './simulation.ts'
import { stringModel } from './string-model.ts'

function explained(text: string): Explanation {
  const [violation] = checkHistory(history(text)).violations
  assert.ok(violation !== undefined)
  return explain(violation)
}

function names(operations: readonly Operation[]): readonly string[] {
  return operations.map((operation) => `${operation.process} ${shownCommand(operation)}`)
}

test('a stale read: the window is the read, its value is known, the writer is named', () => {
  const explanation = explained(
    'a 0-1 k set 1 → OK | a 2-3 k set 2 → OK | b 4-5 k get → 1 | b 6-7 k get → 2',
  )
  assert.deepEqual(names(explanation.window), ['b GET'])
  assert.deepEqual(names(explanation.core), ['b GET'])
  assert.deepEqual(explanation.before, ['2'])
  assert.equal(explanation.to, 5)
  assert.deepEqual(names(explanation.leadIn), ['a SET "1"', 'a SET "2"'])
  const [stuck] = explanation.stuck
  assert.equal(stuck?.answer, '2')
  assert.deepEqual(explanation.hints, [
    '"1" is what SET "1" of process "a" wrote, which had returned before',
  ])
})

test('two winners: both are in the contradiction, what is beside them is not', () => {
  const explanation = explained(
    [
      'a 0-1 k setnx 0 → 1 | a 2-3 k del → 1',
      'b 10-20 k setnx 1 → 1 | c 11-19 k setnx 2 → 1 | d 12-13 k exists → 1 | e 12-? k set 5 XX',
    ].join('|'),
  )
  assert.deepEqual(explanation.before, [null])
  assert.deepEqual(names(explanation.core), ['b SETNX "1"', 'c SETNX "2"'])
})

test('an unknown write that is needed twice: the window knows that it is used up', () => {
  const explanation = explained(
    [
      'a 0-? k set 1 | b 1-2 k get → 1 | b 3-4 k set 2 → OK',
      ...Array.from({ length: 20 }, (_, i) => `c ${10 + 2 * i}-${11 + 2 * i} k get → 2`),
      'b 60-61 k get → 1',
    ].join('|'),
  )
  assert.deepEqual(names(explanation.window), ['b GET'])
  assert.deepEqual(explanation.before, ['2'])
})

test('says where a value came from', () => {
  const hint = (text: string): readonly string[] => explained(text).hints
  assert.match(
    hint('a 0-1 k set 1 → OK | b 0-1 k get → 7')[0] ?? '',
    /^no operation .* writes "7"$/,
  )
  assert.match(hint('a 0-1 k set 7 ✗ | b 2-3 k get → 7')[0] ?? '', /answered as failed$/)
  assert.match(hint('b 2-3 k get → 7 | a 4-5 k set 7 → OK')[0] ?? '', /invoked later$/)
})

/** The history up to a return, as everybody saw it then. */
function until(operations: readonly Operation[], end: number): readonly Operation[] {
  const never = Number.POSITIVE_INFINITY
  return operations
    .filter(({ invoked, outcome }) => invoked <= end && outcome !== 'fail')
    .map((operation) => {
      return operation.returned <= end
        ? operation
        : { ...operation, outcome: 'info', reply: undefined, returned: never }
    })
}

function outcome(operations: readonly Operation[], start: string | null = null): string {
  return searchOrder(operations, { model: stringModel, limits: KEY_LIMITS, start }).outcome
}

/** What must hold of any explanation. */
function holds({ operations }: Violation, explanation: Explanation): void {
  const { from, to, window, core, before, order, stuck } = explanation
  assert.equal(outcome(until(operations, to)), 'illegal')
  assert.equal(outcome(until(operations, to - 1)), 'legal')
  const inside = window.filter(({ invoked }) => invoked >= from)
  for (const start of before) {
    assert.equal(outcome(until(inside, to), start), 'illegal')
    assert.equal(outcome(until(core, to), start), 'illegal')
  }
  assert.ok(core.length > 0 && stuck.length > 0)
  assert.ok(core.every((operation) => window.includes(operation)))
  assert.ok(stuck.every(({ operation }) => !order.some((placed) => placed.operation === operation)))
}

test('explains every violation of faulty stores in a window that is illegal by itself', () => {
  const faults: readonly Fault[] = ['stale read', 'lost write', 'late check', 'crossed replies']
  let explanations = 0
  let operationsShown = 0
  for (const fault of faults) {
    for (let seed = 1; seed <= 6; seed++) {
      const workload = fault === 'late check' ? 'compare' : seed % 2 === 0 ? 'register' : 'counter'
      const plan = { seed, workload, operations: 600, processes: 8, keys: 3, fault } as const
      const operations = simulate({ ...plan, unknown: 0.01, failed: 0.05 })
      for (const violation of checkHistory(operations).violations) {
        const explanation = explain(violation)
        holds(violation, explanation)
        explanations++
        operationsShown += explanation.window.length
      }
    }
  }
  assert.ok(explanations > 40, `${explanations}`)
  assert.ok(operationsShown / explanations < 6, `${operationsShown / explanations} on average`)
})

test('QuickXplain finds a minimal part that is enough', () => {
  const random = seededRandom(5)
  for (let round = 0; round < 200; round++) {
    const parts = Array.from({ length: 1 + Math.floor(random() * 40) }, (_, index) => index)
    const conflicts = [0, 1].map(() => parts.filter(() => random() < 0.15))
    const isEnough = (kept: readonly number[]): boolean => {
      return conflicts.some((conflict) => conflict.every((part) => kept.includes(part)))
    }
    const found = quickXplain([], parts, isEnough)
    assert.ok(isEnough(found))
    for (const part of found) assert.ok(!isEnough(found.filter((other) => other !== part)))
  }
})
