import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { test } from 'node:test'
import { BACKGROUND_NICE } from '../../storage/background.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { scratchDirectory } from './scratch.ts'

const TASKS = '/proc/self/task'
const PLACE_OF_NICE = 16

/** Of the threads of this process, those that are less urgent than it is itself; none where threads have no priority. */
function lessUrgent(): readonly number[] {
  if (!existsSync(TASKS)) return []
  const priorities = readdirSync(TASKS).map((task) => {
    const stat = readFileSync(`${TASKS}/${task}/stat`, 'latin1')
    // The name of a thread, in brackets, may hold anything.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[PLACE_OF_NICE])
  })
  return priorities.filter((nice) => nice > getPriority())
}

test('the thread that writes checkpoints is less urgent, and no other is', async () => {
  const scratch = scratchDirectory()
  try {
    const engine = new LmdbEngine(scratch.path, () => {})
    assert.deepEqual(lessUrgent(), [])
    const state = await engine.openState('state-1', ['database-0'])
    const whileOpen = lessUrgent()
    await state.close()
    const canBe = existsSync(TASKS) && getPriority() < BACKGROUND_NICE
    assert.deepEqual(whileOpen, canBe ? [BACKGROUND_NICE] : [])
    assert.deepEqual(lessUrgent(), [])
  } finally {
    scratch.remove()
  }
})
