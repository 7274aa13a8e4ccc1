/*
 * The model against the reference, command by command, and what the reference leaves out: the ends of int64, bytes
 * of UTF-8, replies of the wrong type, and equality of values that came about differently.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ILLEGAL, type KeyModel } from './model.ts'
import type { Operation, Reply } from './operation.ts'
import { applyCommand } from './reference.ts'
import { type Random, seededRandom } from './simulation.ts'
import { stringModel } from './string-model.ts'
import { ValueTable } from './value-table.ts'

function operation(f: string, args: readonly string[], reply: Reply | undefined): Operation {
  const times = { invoked: 0, returned: 1, invokedNs: 0, returnedNs: 1 }
  return { process: 'p', key: 'k', f, args, outcome: 'ok', reply, ...times }
}

/** The value after the command, or ILLEGAL. */
function step(value: string | null, f: string, args: readonly string[], reply?: Reply): unknown {
  const model = stringModel.begin([operation(f, args, reply)])
  const next = model.step(model.state(value), 0)
  return next === ILLEGAL ? ILLEGAL : model.value(next)
}

const COMMANDS: readonly (readonly [string, readonly (readonly string[])[]])[] = [
  ['get', [[]]],
  ['exists', [[]]],
  ['strlen', [[]]],
  ['del', [[]]],
  ['incr', [[]]],
  ['decr', [[]]],
  ['incrby', [['5'], ['-3'], ['0']]],
  ['decrby', [['2'], ['-2']]],
  ['append', [['7'], [''], ['ä€😀']]],
  ['setnx', [['1'], ['']]],
  ['getset', [['1'], ['x']]],
  ['set', [['1'], ['x', 'NX'], ['2', 'XX'], ['3', 'GET'], ['4', 'NX', 'GET'], ['5', 'XX', 'GET']]],
]
const VALUES = [null, '', '0', '1', '-1', '900719925474099', 'x', '1 ', '01', '+1', '-0', 'ä€😀']

test('does what the reference does, for every command on every kind of value', () => {
  for (const [f, variants] of COMMANDS) {
    for (const args of variants) {
      for (const value of VALUES) {
        const where = `${f} ${args} on ${value}`
        let applied: ReturnType<typeof applyCommand>
        try {
          applied = applyCommand(value, f, args)
        } catch {
          // An error: no reply fits, and an operation of unknown reply changes nothing.
          assert.equal(step(value, f, args, 0), ILLEGAL, where)
          assert.equal(step(value, f, args), value, where)
          continue
        }
        assert.equal(step(value, f, args, applied.reply), applied.value, where)
        assert.equal(step(value, f, args), applied.value, where)
        for (const wrong of [null, 'OK', 'other', '', 0, 1, 99, -7, '0', '1']) {
          if (wrong === applied.reply) continue
          assert.equal(step(value, f, args, wrong), ILLEGAL, `${where} answered ${wrong}`)
        }
      }
    }
  }
})

test('counts to the ends of int64 and not beyond', () => {
  const max = '9223372036854775807'
  const min = '-9223372036854775808'
  assert.equal(step('9223372036854775806', 'incr', [], max), max)
  assert.equal(step(max, 'incr', []), max)
  assert.equal(step(max, 'incr', [], min), ILLEGAL)
  assert.equal(step(min, 'decr', []), min)
  assert.equal(step('0', 'decrby', [min]), '0')
  assert.equal(step('-1', 'decrby', [min], max), max)
  assert.equal(step('9223372036854775808', 'incr', []), '9223372036854775808')
})

test('refuses what it cannot check', () => {
  const bad: readonly (readonly [string, readonly string[]])[] = [
    ['mget', []],
    ['__proto__', []],
    ['get', ['x']],
    ['set', []],
    ['set', ['v', 'EX', '1']],
    ['set', ['v', 'NX', 'XX']],
    ['incrby', ['1.5']],
    ['incrby', ['9223372036854775808']],
    ['append', []],
  ]
  for (const [f, args] of bad) {
    assert.equal(typeof stringModel.refusal(f, args), 'string', f)
    assert.throws(() => stringModel.begin([operation(f, args, null)]), { code: 'HISTORY' })
  }
  assert.equal(stringModel.refusal('set', ['v', 'nx', 'get']), undefined)
})

/** Hints steer the search: a wrong one would make it wrong, so they are held against `step`. */
test('says of operations only what is true in every state', () => {
  const replies: readonly Reply[] = [null, 'OK', 'x', '1', '', 0, 1, 2]
  const values = [...VALUES, '2', 'x7']
  for (const [f, variants] of COMMANDS) {
    for (const args of variants) {
      for (const reply of [...replies, undefined]) {
        const model = stringModel.begin([operation(f, args, reply)])
        const steps = values.map((value) => {
          const state = model.state(value)
          return { state, next: model.step(state, 0) }
        })
        holds(
          model,
          steps.filter(({ next }) => next !== ILLEGAL),
          `${f} ${args} → ${reply}`,
        )
      }
    }
  }
})

function holds(
  model: KeyModel,
  legal: readonly { readonly state: number; readonly next: number }[],
  where: string,
): void {
  const changes = legal.filter(({ state, next }) => state !== next)
  if (model.isIdle(0)) assert.equal(changes.length, 0, where)
  const needs = model.needs(0)
  if (needs !== undefined)
    assert.ok(
      legal.every(({ state }) => state === needs),
      where,
    )
  const makes = model.makes(0)
  if (makes === undefined) assert.equal(changes.length, 0, where)
  if (typeof makes === 'number')
    assert.ok(
      changes.every(({ next }) => next === makes),
      where,
    )
}

test('equal values are one state, however they came about', () => {
  const table = new ValueTable()
  const random: Random = seededRandom(1)
  const states = new Map<string, number>()
  let state = table.of('')
  let text = ''
  for (let i = 0; i < 2000; i++) {
    const tail = ['', 'a', 'b', 'ab', 'ba', '€'][Math.floor(random() * 6)] ?? ''
    if (random() < 0.2) {
      text = tail + tail
      state = table.append(table.of(tail), tail)
    } else {
      text += tail
      state = table.append(state, tail)
    }
    assert.equal(table.text(state), text)
    assert.equal(table.bytes(state), Buffer.byteLength(text))
    assert.equal(states.get(text) ?? state, state)
    assert.equal(table.of(text), state)
    states.set(text, state)
  }
  assert.equal(new Set(states.values()).size, states.size)
})

test('values whose hashes collide are different states', () => {
  const table = new ValueTable()
  const [one, other] = [table.of('declinate'), table.of('macallums')]
  assert.notEqual(one, other)
  assert.equal(table.append(table.of('macall'), 'ums'), other)
  assert.equal(table.append(table.of('decli'), 'nate'), one)
})
