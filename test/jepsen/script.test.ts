/*
 * What `npm run jepsen` makes on a machine, it takes away, however it ends: processes are counted from outside. And
 * what it cannot do or must not remove, it says in one line.
 */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Child, temporaryDirectory, until } from '../processes.ts'
import { needs } from '../tools.ts'

const NODES = 3
const START_MS = 60_000

/** Command lines of all processes that name the folder. */
function naming(folder: string): readonly string[] {
  const lines = execFileSync('ps', ['-A', '-o', 'args='], { encoding: 'utf8' }).split('\n')
  return lines.filter((line) => line.includes(folder))
}

for (const signal of ['SIGINT', 'SIGKILL'] as const) {
  test(`after ${signal} nothing of a run is left`, needs('ps'), async (context) => {
    const folder = join(temporaryDirectory(context), 'report')
    const args = ['--minutes', '5', '--nodes', String(NODES), '--out', folder]
    const run = new Child(context, 'scripts/jepsen.js', args)
    await run.prints('report in', START_MS)
    assert.equal(naming(folder).filter((line) => line.includes('main.js')).length, NODES)
    assert.ok(existsSync(join(folder, 'nodes')))
    run.kill(signal)
    await until('the end of all of its processes', () => naming(folder).length === 0, START_MS)
    await until('the end of the nodes folder', () => !existsSync(join(folder, 'nodes')))
    const { code } = await run.end()
    assert.notEqual(code, 0)
  })
}

test('a folder that holds something else is not taken for a report', async (context) => {
  const folder = temporaryDirectory(context)
  writeFileSync(join(folder, 'mine.txt'), 'mine')
  const run = new Child(context, 'scripts/jepsen.js', ['--out', folder])
  assert.equal((await run.end(START_MS)).code, 2)
  assert.match(run.stderr, /holds something that is no report/)
  assert.equal(readFileSync(join(folder, 'mine.txt'), 'utf8'), 'mine')
})

test('a nemesis that this run has no use for is refused with the reason', async (context) => {
  const run = new Child(context, 'scripts/jepsen.js', ['--nodes', '1', '--nemesis', 'member'])
  assert.equal((await run.end(START_MS)).code, 2)
  assert.match(run.stderr, /the nemesis member needs three nodes/)
})

test('an unknown nemesis or workload is refused by its name', async (context) => {
  for (const [flag, value] of [
    ['--nemesis', 'kill,floods'],
    ['--workload', 'floods'],
  ] as const) {
    const run = new Child(context, 'scripts/jepsen.js', [flag, value])
    assert.equal((await run.end(START_MS)).code, 2)
    assert.match(run.stderr, /no (?:nemesis|workload) 'floods'; there are \w+/)
  }
})
