/*
 * The list of mutants and its table: every change fits the code as it is now, and what docs/mutants.md says is what
 * the list says. That they die is `npm run mutants`.
 */

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { mutants, readTable, tableOf } from './mutants.ts'
import { Build, changed, changedFiles } from './mutation.ts'

const table = readFileSync(new URL('../../../docs/mutants.md', import.meta.url), 'utf8')

test('every mutant fits the compiled code', () => {
  const misfits = mutants.flatMap((mutant) => {
    try {
      return changedFiles(mutant).size > 0 ? [] : [`mutant ${mutant.id} changes nothing`]
    } catch (error) {
      return [String(error)]
    }
  })
  const help = 'the code has changed: say in test/sim/*-mutants.ts how the bug is made now'
  assert.deepEqual(misfits, [], `${misfits.join('\n')}\n${help}`)
})

test('every mutant has a name of its own, and an invariant that convicts it', () => {
  assert.equal(new Set(mutants.map(({ id }) => id)).size, mutants.length)
  assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length)
  for (const { id, invariants } of mutants) {
    assert.ok(invariants.length > 0 && invariants.every((one) => /^I\d+$/.test(one)), id)
  }
})

test('docs/mutants.md says where each of them was caught, and nothing else', () => {
  const convictions = readTable(table)
  const missing = mutants.filter(({ id }) => !convictions.has(id)).map(({ id }) => id)
  assert.deepEqual(missing, [], `find their seeds: npm run mutants -- --search --only ${missing}`)
  assert.equal(tableOf(convictions), table)
  for (const { id, invariants, stale } of mutants) {
    const { invariant, historySeed } = convictions.get(id) ?? {}
    assert.ok(invariants.includes(invariant ?? ''), `${id} is caught by ${invariant}`)
    assert.equal(historySeed !== undefined, stale === true, `${id} and its history`)
  }
})

test('a change must fit exactly once; white space and comments do not count', () => {
  const source = 'f(a) // one\n  {\n  return /* what */ a + 1\n}\ng(a)\n'
  assert.equal(changed(source, ['x.js', 'f(a) { return a + 1 }', 'f(a) {}']), 'f(a) {}\ng(a)\n')
  assert.throws(() => changed(source, ['x.js', 'h(a)', '']), /fits x\.js 0 times/)
  assert.throws(() => changed(source, ['x.js', '(a)', '']), /fits x\.js 2 times/)
  assert.throws(() => changed(source, ['x.js', 'one', '']), /fits x\.js 0 times/)
})

test('a mutant is a copy: what is compiled stays as it is', () => {
  const [mutant] = mutants
  assert.ok(mutant !== undefined)
  const [file = ''] = mutant.changes[0] ?? []
  const compiled = new URL(`../../${file}`, import.meta.url)
  const before = readFileSync(compiled, 'utf8')
  const build = new Build(mutant)
  try {
    assert.equal(readFileSync(build.path(file), 'utf8'), changedFiles(mutant).get(file))
    assert.notEqual(readFileSync(build.path(file), 'utf8'), before)
    assert.equal(readFileSync(compiled, 'utf8'), before)
    // A copy that lacks what the script needs ends at once, and seems to survive.
    const script = build.path('scripts/mutants.js')
    const needed = [...readFileSync(script, 'utf8').matchAll(/ from '(\.[^']+)'/g)]
    const lacking = needed.filter(([, path = '']) => !existsSync(join(dirname(script), path)))
    assert.ok(needed.length > 0)
    assert.deepEqual(lacking, [])
  } finally {
    build.remove()
  }
})
