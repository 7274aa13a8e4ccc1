/*
 * The search against the definition (brute-force.ts) on thousands of small random histories, and against itself: an
 * order that it finds is replayed, and what it cannot finish within its limits it must not call valid.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLinearizable, valueAfter } from './brute-force.ts'
import { KEY_LIMITS } from './check.ts'
import type { Operation, Outcome, Reply } from './operation.ts'
import { applyCommand } from './reference.ts'
import { type SearchLimits, type SearchResult, searchOrder } from './search.ts'
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
