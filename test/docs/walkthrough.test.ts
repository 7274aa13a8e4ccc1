/*
 * Documents that are run: that what fails is found, at its place, and that nothing of it stays.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRunning, until } from '../processes.ts'
import { matches, stepsOf, walk, withPorts } from './walkthrough.ts'

const LIMITS = { ports: new Map<string, number>(), timeoutMs: 20_000 }

function document(...blocks: readonly string[]): string {
  return `# Title\n\n## Part\n\n${blocks.join('\n\nwords\n\n')}\n`
}

const shell = (...lines: string[]): string => ['```sh', ...lines, '```'].join('\n')
const text = (...lines: string[]): string => ['```text', ...lines, '```'].join('\n')

test('the steps of a document, with where they stand and what they print', () => {
  const steps = stepsOf(
    document(shell('echo 1', 'echo 2'), text('1', '2'), '```conf\nx\n```', shell('true')),
  )
  assert.deepEqual(steps, [
    { heading: 'Part', line: 5, script: 'echo 1\necho 2', prints: '1\n2' },
    { heading: 'Part', line: 25, script: 'true', prints: undefined },
  ])
})

test('what is printed is compared, with ... for anything', () => {
  assert.ok(matches('a b c\n', 'a ... c'))
  assert.ok(matches('a\nb\nc\n', 'a\n...\nc'))
  assert.ok(!matches('a\nb\nd\n', 'a\n...\nc'))
  assert.ok(!matches('axb', 'a.b'))
})

test('ports, and nothing else, are changed', () => {
  const ports = new Map([
    ['7001', 31],
    ['17001', 131],
  ])
  assert.equal(withPorts('h:7001 h:17001 70011 7002', ports), 'h:31 h:131 70011 7002')
})

test('steps share a shell and a folder', async () => {
  const steps = stepsOf(
    document(shell('echo 5 > file', 'x=7'), shell('cat file', 'echo $x'), text('5', '7')),
  )
  assert.equal(await walk(steps, LIMITS), undefined)
})

test('a step that fails, prints something else, or does not end is named', async () => {
  const bad = [
    [shell('echo one', 'false'), /exit code 1/],
    [shell('echo two | grep three'), /exit code 1/],
    [`${shell('echo one')}\n${text('two')}`, /it printed\none\n\ninstead of\ntwo/],
  ] as const
  for (const [block, why] of bad) {
    const failure = await walk(stepsOf(document(shell('true'), block, shell('true'))), LIMITS)
    assert.equal(failure?.step.line, 11)
    assert.match(failure?.why ?? '', why)
  }
  const endless = stepsOf(document(shell('true'), shell('sleep 1000')))
  const failure = await walk(endless, { ...LIMITS, timeoutMs: 300 })
  assert.equal(failure?.step.line, 11)
  assert.match(failure?.why ?? '', /took too long/)
})

test('what a step leaves running is ended', async () => {
  const steps = stepsOf(document(shell('sleep 1000 &', 'echo $! >&2', 'false')))
  const failure = await walk(steps, LIMITS)
  const pid = Number(/^\d+$/m.exec(failure?.why ?? '')?.[0])
  assert.ok(pid > 0)
  await until('its end', () => !isRunning(pid))
})
