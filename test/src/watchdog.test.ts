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

/** Until the child has seen this many more commits settle: an eighth of the bound each. */
async function moreCommits(child: Child, count: number): Promise<void> {
  const settled = (): number => child.stdout.split('settled').length - 1
  const aim = settled() + count
  await until(`${aim} commits`, () => settled() >= aim || child.ended !== undefined)
  assert.equal(child.ended, undefined, child.stderr)
}

test('does not end a process whose commits settle and whose loop runs', async (context) => {
  const child = subject(context, 'busy')
  await moreCommits(child, 3 * 8)
  child.closeStdin()
  assert.deepEqual(await child.end(), { code: 0, signal: null })
})

test('forgives what it slept through: stopped for longer than the bound', async (context) => {
  const child = subject(context, 'busy')
  await moreCommits(child, 1)
  for (let round = 0; round < 2; round++) {
    child.kill('SIGSTOP')
    const stoppedAt = performance.now()
    // The length of the stop is what is tested: nothing happens in it that could be waited for.
    await until('twice the bound', () => performance.now() - stoppedAt > 2 * BOUND_MS)
    child.kill('SIGCONT')
    await moreCommits(child, 2 * 8)
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
