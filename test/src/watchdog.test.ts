/*
 * A process whose disk or main loop has stopped answering ends itself with its reason told; one that was merely
 * stopped does not.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Child, temporaryDirectory, until } from '../processes.ts'

const BOUND_MS = 400

function subject(context: TestContext, ...args: readonly string[]): Child {
  return new Child(context, 'test/src/watchdog-subject.js', args)
}

const reasons = {
  log: 'a commit of the log has not come back for 400 ms: this process ends itself',
  state: 'a commit of the state has not come back for 400 ms: this process ends itself',
  stall: 'the main loop has not come back for 400 ms: this process ends itself',
}

for (const [behaviour, reason] of Object.entries(reasons)) {
  test(`ends the process with a reason: ${behaviour}`, async (context) => {
    const child = subject(context, behaviour)
    await child.prints('started\n')
    const startedAt = performance.now()
    assert.deepEqual(await child.end(5000), { code: null, signal: 'SIGKILL' })
    assert.ok(performance.now() - startedAt > BOUND_MS / 2, 'too early')
    const line = child.stdout.trim().split('\n').at(-1) ?? ''
    assert.deepEqual((({ level, msg }) => ({ level, msg }))(JSON.parse(line)), {
      level: 60,
      msg: reason,
    })
    assert.equal(child.stderr, `holdfast: ${reason}\n`)
  })
}

test('does not end a process whose commits settle and whose loop runs', async (context) => {
  const child = subject(context, 'busy')
  await child.prints('started\n')
  const startedAt = performance.now()
  await until('three times the bound', () => performance.now() - startedAt > 3 * BOUND_MS)
  assert.equal(child.ended, undefined)
  child.closeStdin()
  assert.deepEqual(await child.end(), { code: 0, signal: null })
})

test('forgives what it slept through: stopped for longer than the bound', async (context) => {
  const child = subject(context, 'busy')
  await child.prints('started\n')
  for (let round = 0; round < 2; round++) {
    child.kill('SIGSTOP')
    const stoppedAt = performance.now()
    await until('three times the bound', () => performance.now() - stoppedAt > 3 * BOUND_MS)
    child.kill('SIGCONT')
    await until('the bound once more', () => performance.now() - stoppedAt > 4 * BOUND_MS)
    assert.equal(child.ended, undefined, child.stderr)
  }
  child.closeStdin()
  assert.deepEqual(await child.end(), { code: 0, signal: null })
})

test('endProcess tells the reason in the log and ends at once, past every exit handler', async (context) => {
  const logfile = join(temporaryDirectory(context), 'log')
  const child = subject(context, 'end', logfile)
  assert.deepEqual(await child.end(), { code: null, signal: 'SIGKILL' })
  assert.equal(child.stdout, 'started\n')
  assert.equal(child.stderr, 'holdfast: the disk failed\n')
  const { level, msg, node, term } = JSON.parse(readFileSync(logfile, 'utf8'))
  assert.deepEqual(
    { level, msg, node, term },
    { level: 60, msg: 'the disk failed', node: 'a'.repeat(40), term: 7 },
  )
})
