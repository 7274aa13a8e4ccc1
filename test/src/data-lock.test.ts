/*
 * One process per data directory, whatever happens to the processes: they are killed, stopped, start at once, and
 * leave anything behind.
 */

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireDataLock } from '../../src/data-lock.ts'
import { Child, temporaryDirectory } from '../processes.ts'

function holder(context: TestContext, directory: string): Child {
  return new Child(context, 'test/src/lock-holder.js', [directory])
}

/** Leaves a connection open there; false when the kernel takes none. */
function connects(context: TestContext, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path }, () => resolve(true)).once('error', () => resolve(false))
    context.after(() => socket.destroy())
  })
}

test('a second process is told who has the directory', async (context) => {
  const directory = join(temporaryDirectory(context), 'made', 'by', 'the', 'lock')
  const first = holder(context, directory)
  await first.prints('held\n')
  await assert.rejects(acquireDataLock(directory), {
    name: 'OperatorError',
    code: 'DATA_LOCKED',
    message: `the data directory ${directory} is in use by process ${first.pid}`,
  })
  first.closeStdin()
  assert.deepEqual(await first.end(), { code: 0, signal: null })
  const lock = await acquireDataLock(directory)
  await assert.rejects(acquireDataLock(directory), { code: 'DATA_LOCKED' })
  await lock.release()
  assert.deepEqual(readdirSync(directory), [])
})

test('a holder that is killed gives the directory up, and its traces go', async (context) => {
  const directory = temporaryDirectory(context)
  const first = holder(context, directory)
  await first.prints('held\n')
  first.kill('SIGKILL')
  await first.end()
  assert.equal(readdirSync(directory).length, 2)
  writeFileSync(join(directory, `lock-${'0'.repeat(16)}.json`), 'litter')
  writeFileSync(join(directory, `lock-${'0'.repeat(16)}.new`), '')
  writeFileSync(join(directory, 'lock-other'), 'not ours')
  const lock = await acquireDataLock(directory)
  assert.equal(readdirSync(directory).length, 3)
  await lock.release()
  assert.deepEqual(readdirSync(directory), ['lock-other'])
})

test('a holder that is stopped still holds', async (context) => {
  const directory = temporaryDirectory(context)
  const first = holder(context, directory)
  await first.prints('held\n')
  first.kill('SIGSTOP')
  for (let attempt = 0; attempt < 20; attempt++) {
    await assert.rejects(acquireDataLock(directory), { code: 'DATA_LOCKED' })
  }
  // Even when so many have asked that the kernel takes no more connections for it.
  const socket = readdirSync(directory).find((name) => name.endsWith('.socket')) ?? ''
  let refused = false
  while (!refused) refused = !(await connects(context, join(directory, socket)))
  await assert.rejects(acquireDataLock(directory), { code: 'DATA_LOCKED' })
  first.kill('SIGCONT')
  await assert.rejects(acquireDataLock(directory), { code: 'DATA_LOCKED' })
  assert.equal(first.ended, undefined)
})

test('of many that start at once over a dead lock exactly one holds', async (context) => {
  const directory = temporaryDirectory(context)
  const dead = holder(context, directory)
  await dead.prints('held\n')
  dead.kill('SIGKILL')
  await dead.end()
  for (let round = 0; round < 30; round++) {
    const results = await Promise.allSettled(
      Array.from({ length: 5 }, () => acquireDataLock(directory)),
    )
    const locks = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    assert.equal(locks.length, 1)
    for (const result of results) {
      if (result.status === 'rejected') assert.equal(result.reason.code, 'DATA_LOCKED')
    }
    await Promise.all(locks.map((lock) => lock.release()))
  }
  // The same with processes of their own.
  const starters = Array.from({ length: 4 }, () => holder(context, directory))
  await Promise.all(starters.map((starter) => starter.prints('\n')))
  assert.equal(starters.filter(({ stdout }) => stdout === 'held\n').length, 1)
})

test("a path far beyond the length of a socket's path", async (context) => {
  const directory = join(temporaryDirectory(context), 'x'.repeat(200), 'y'.repeat(200))
  const lock = await acquireDataLock(directory)
  await assert.rejects(acquireDataLock(directory), { code: 'DATA_LOCKED' })
  await lock.release()
})

test('a directory that cannot be one is one line', async (context) => {
  const file = join(temporaryDirectory(context), 'file')
  writeFileSync(file, '')
  await assert.rejects(acquireDataLock(file), {
    name: 'OperatorError',
    message: `the data directory ${file} is not a directory (ENOTDIR)`,
  })
  await assert.rejects(acquireDataLock(join(file, 'below')), {
    name: 'OperatorError',
    message: /is not a directory \(ENOTDIR\)$/,
  })
  await assert.rejects(acquireDataLock(join('/proc', 'nothing')), { name: 'OperatorError' })
})

test("files with a lock's name that are no sockets are no lock", async (context) => {
  const directory = temporaryDirectory(context)
  writeFileSync(join(directory, `lock-${'1'.repeat(16)}.socket`), '')
  writeFileSync(join(directory, `lock-${'1'.repeat(16)}.json`), '{"pid":"1"}')
  mkdirSync(join(directory, 'log'))
  const lock = await acquireDataLock(directory)
  await lock.release()
  assert.deepEqual(readdirSync(directory), ['log'])
})
