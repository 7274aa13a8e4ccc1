/*
 * The search against the definition (brute-force.ts) on thousands of small random histories, and against itself: an
 * order that it finds is replayed, and what it cannot finish within its limits it must not call valid.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { finalValues, isLinearizable, valueAfter } from './brute-force.ts'
import { KEY_LIMITS } from './check.ts'
import type { Operation, Outcome, Reply } from './operation.ts'
import { applyCommand } from './reference.ts'
import {
  type Reached,
  type SearchLimits,
  type SearchResult,
  searchOrder,
  searchReached,
} from './search.ts'
import { type Random, seededRandom, simulate } from './simulation.ts'
import { stringModel } from './string-model.ts'

const HISTORIES = 6_000
const FAMILIES: readonly (readonly string[])[] = [
  ['get', 'get', 'set', 'set', 'getset', 'del'],
  ['get', 'set NX', 'set XX', 'set NX GET', 'set XX GET', 'setnx', 'del', 'exists', 'set'],
  ['incr', 'incr', 'decr', 'incrby', 'decrby', 'get'],
  ['append', 'append', 'get', 'strlen'],
  ['get', 'set', 'set NX', 'getset', 'del', 'setnx', 'exists', 'strlen', 'append', 'incr'],
]

function search(operations: readonly Operation[], limits: SearchLimits = KEY_LIMITS): SearchResult {
  return searchOrder(operations, { model: stringModel, limits, wantsLongest: true })
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T
}

/**
 * Up to seven operations on one key. Half of the histories answer as a store would at random moments and then lie
 * about one reply; the others answer at random. So both verdicts are common.
 */
function smallHistory(random: Random): readonly Operation[] {
  const family = pick(random, FAMILIES)
  const honest = random() < 0.7
  const length = 2 + Math.floor(random() * 6)
  const drafts = Array.from({ length }, () => draft(random, family))
  const inOrder = [...drafts].sort((a, b) => a.effect - b.effect)
  let value: string | null = null
  const replies = new Map<Operation, Reply>()
  for (const { operation } of inOrder) {
    if (operation.outcome === 'fail' || (operation.outcome === 'info' && random() < 0.5)) continue
    try {
      const applied = applyCommand(value, operation.f, operation.args)
      value = applied.value
      replies.set(operation, applied.reply)
    } catch {
      replies.set(operation, random() < 0.5 ? 1 : '1')
    }
  }
  const liar = honest && random() < 0.6 ? pick(random, drafts).operation : undefined
  return drafts.map(({ operation }) => {
    if (operation.outcome !== 'ok' || random() < 0.05) return operation
    const lies = !honest || operation === liar
    return { ...operation, reply: lies ? randomReply(random, operation) : replies.get(operation) }
  })
}

function draft(
  random: Random,
  family: readonly string[],
): { operation: Operation; effect: number } {
  const [f = '', ...options] = pick(random, family).split(' ')
  const invoked = Math.floor(random() * 12)
  const end = invoked + Math.floor(random() * 6)
  const outcome: Outcome = random() < 0.2 ? 'info' : random() < 0.1 ? 'fail' : 'ok'
  const returned = outcome === 'info' ? Number.POSITIVE_INFINITY : end
  const effect = invoked + random() * (end - invoked)
  const args = argumentsOf(random, f, options)
  const times = { invoked, returned, invokedNs: invoked, returnedNs: returned }
  return {
    operation: { process: 'p', key: 'k', f, args, outcome, reply: undefined, ...times },
    effect,
  }
}

function argumentsOf(random: Random, f: string, options: readonly string[]): readonly string[] {
  if (f === 'incrby' || f === 'decrby') return [pick(random, ['1', '2', '-1', '0'])]
  if (f === 'append') return [pick(random, ['a', 'b', 'ab', '1', ''])]
  return ['set', 'setnx', 'getset'].includes(f)
    ? [pick(random, ['1', '2', 'a', '']), ...options]
    : []
}

function randomReply(random: Random, { f, args }: Operation): Reply {
  const bulk = pick(random, [null, '1', '2', 'a', 'ab', '', 'b'])
  if (f === 'get' || f === 'getset' || args.includes('GET')) return bulk
  if (f === 'set') return pick(random, ['OK', 'OK', null])
  return pick(random, [0, 1, 2, 3])
}

/** The order is one: real time, every reply, everything known in it. */
function replay(operations: readonly Operation[], result: SearchResult): void {
  let value: string | null = null
  const order = result.order.map(({ operation }) => operation)
  for (const [index, operation] of order.entries()) {
    assert.ok(order.slice(index).every((later) => later.returned >= operation.invoked))
    const after = valueAfter(operation, value)
    assert.notEqual(after, undefined)
    value = after ?? null
    assert.equal(result.model.value(result.order[index]?.state ?? -1), value)
  }
  assert.equal(new Set(order).size, order.length)
  const known = operations.filter(({ outcome }) => outcome === 'ok')
  assert.ok(known.every((operation) => order.includes(operation)))
}

test('agrees with the definition on thousands of small histories', () => {
  const seen = { legal: 0, illegal: 0 }
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const operations = smallHistory(seededRandom(seed))
    const result = search(operations)
    const expected = isLinearizable(operations) ? 'legal' : 'illegal'
    assert.equal(result.outcome, expected, `seed ${seed}: ${JSON.stringify(operations, null, 1)}`)
    if (expected === 'legal') replay(operations, result)
    seen[expected]++
  }
  assert.ok(seen.legal > HISTORIES / 5 && seen.illegal > HISTORIES / 5, JSON.stringify(seen))
})

test('reaches the values that the definition reaches', () => {
  let several = 0
  // Values that nobody reads are one to the search; with these, none is.
  const readers = ['1', '2', 'a', ''].map((reply): Operation => {
    const times = { invoked: 20, returned: 21, invokedNs: 20, returnedNs: 21 }
    return { process: 'r', key: 'k', f: 'get', args: [], outcome: 'ok', reply, ...times }
  })
  for (let seed = 1; seed <= HISTORIES / 2; seed++) {
    const operations = smallHistory(seededRandom(seed))
    const request = {
      model: stringModel,
      limits: KEY_LIMITS,
      witnesses: [...operations, ...readers],
    }
    const reached = searchReached(operations, request) ?? []
    const unknown = operations.filter(({ outcome }) => outcome === 'info')
    const values = new Set(reached.flatMap((start) => valuesLater(start, unknown)))
    assert.deepEqual([...values].sort(), [...finalValues(operations)].sort(), `seed ${seed}`)
    if (values.size > 1) several++
  }
  assert.ok(several > HISTORIES / 20, `${several}`)
})

/** What unknown operations that are not used yet can still make of the value. */
function valuesLater(
  { value, used }: Reached,
  unknown: readonly Operation[],
): readonly (string | null)[] {
  const left = unknown.filter((operation) => !used.includes(operation))
  const later = left.flatMap((operation) => {
    const after = valueAfter(operation, value) ?? null
    return valuesLater({ value: after, used: [...used, operation] }, unknown)
  })
  return [value, ...later]
}

test('finds an order that replays, with many clients on one key', () => {
  for (const workload of ['register', 'counter', 'compare', 'append', 'mixed'] as const) {
    const plan = { seed: 7, workload, operations: 600, processes: 8, keys: 1 }
    const operations = simulate({ ...plan, unknown: 0.02, failed: 0.05 })
    const result = search(operations)
    assert.equal(result.outcome, 'legal', workload)
    replay(operations, result)
  }
})

/** Unknown INCRBYs of different amounts, and a GET that no sum of them explains: a knapsack. */
function knapsack(items: number): readonly Operation[] {
  const never = Number.POSITIVE_INFINITY
  const unknown = Array.from({ length: items }, (_, index): Operation => {
    const times = { invoked: index, returned: never, invokedNs: index, returnedNs: never }
    const args = [String(1000 + 2 ** (index % 40))]
    return {
      process: `${index}`,
      key: 'k',
      f: 'incrby',
      args,
      outcome: 'info',
      reply: undefined,
      ...times,
    }
  })
  const times = { invoked: 100, returned: 101, invokedNs: 100, returnedNs: 101 }
  const read = {
    process: 'r',
    key: 'k',
    f: 'get',
    args: [],
    outcome: 'ok',
    reply: '-1',
    ...times,
  } as const
  return [...unknown, read]
}

test('is never legal for want of time: a limit makes it unknown', () => {
  const tight = { ...KEY_LIMITS, steps: 200_000 }
  assert.equal(search(knapsack(8)).outcome, 'illegal')
  assert.equal(search(knapsack(40), tight).outcome, 'unknown')
  assert.equal(search(knapsack(40), { ...KEY_LIMITS, configurations: 1000 }).outcome, 'unknown')
  assert.equal(search(knapsack(40), { ...KEY_LIMITS, states: 1000 }).outcome, 'unknown')
  const request = { model: stringModel, limits: tight }
  assert.equal(searchReached(knapsack(40), request), undefined)
})

test('many unknown writes cost little where no reply needs them', () => {
  const never = Number.POSITIVE_INFINITY
  const lost = Array.from({ length: 2000 }, (_, index): Operation => {
    const times = { invoked: index / 10, returned: never, invokedNs: 0, returnedNs: never }
    const args = [`lost ${index}`]
    return {
      process: `l${index}`,
      key: 'key-0',
      f: 'set',
      args,
      outcome: 'info',
      reply: undefined,
      ...times,
    }
  })
  const plan = { seed: 3, workload: 'register', operations: 500, processes: 5, keys: 1 } as const
  const good = search([...lost, ...simulate(plan)])
  assert.equal(good.outcome, 'legal')
  const bad = search([...lost, ...simulate({ ...plan, fault: 'stale read' })])
  assert.equal(bad.outcome, 'illegal')
})
