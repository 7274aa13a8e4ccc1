/* docs/compatibility.md says what the command tables say, and is complete. */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { commandTable } from '../../src/commands/table.ts'
import { compatibilityText, redisCommands } from './compatibility.ts'

const text = readFileSync(new URL('../../../docs/compatibility.md', import.meta.url), 'utf8')

test('docs/compatibility.md is what the tables make of it', () => {
  assert.equal(text, compatibilityText(), 'it is stale: npm run compatibility')
})

test('every command of Redis stands in it once, as what it is', () => {
  const [, , supported = '', differs = '', missing = ''] = text.split('\n## ')
  const callable = redisCommands.filter(
    (name) => name === 'command' || !redisCommands.some((other) => other.startsWith(`${name}|`)),
  )
  const there = new Map(
    commandTable
      .flatMap((entry) => [entry, ...(entry.subcommands ?? [])])
      .map((entry) => [entry.name, entry]),
  )
  for (const name of callable) {
    const shown = name.replace('|', ' ').toUpperCase()
    const places = [supported, differs, missing].map((section) =>
      section.split(/ · |: | \| |\| |\n/).some((word) => word === shown),
    )
    const entry = there.get(name)
    const expected =
      entry === undefined
        ? [false, false, true]
        : [entry.differs === undefined, entry.differs !== undefined, false]
    assert.deepEqual(places, expected, shown)
  }
})
