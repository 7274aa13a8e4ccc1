/*
 * A process for crash tests to kill: appends the workload to the storage in argv[2], applies what is durable,
 * checkpoints and compacts all the time, and prints the index of every entry once its commit is durable. With a limit
 * on file sizes it meets a failing disk instead: then it prints why, and ends as a server does.
 */

import { writeSync } from 'node:fs'
import { limits } from '../../src/config.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { openStorage } from '../../storage/open.ts'
import type { StoredValue } from '../../storage/state-store.ts'
import { applyTo, entryAt } from './workload.ts'

const [, , directory, mode] = process.argv
const CHECKPOINT_ENTRIES = 50
const KEPT_ENTRIES = 30

function end(reason: string): void {
  writeSync(1, `fatal: ${reason}\n`)
  process.kill(process.pid, 'SIGKILL')
}

/** Makes the state outgrow the log, so that the checkpoint is what meets the limit. */
function bigValue(version: number): StoredValue {
  return { type: 'string', expireAt: 0, version, value: new Uint8Array(20_000) }
}

const engine = new LmdbEngine(directory ?? '', end)
const { log, state } = await openStorage(engine, {
  memtableBytes: 1 << 30,
  cacheBytes: 4000,
  views: limits.stateViews,
  now: () => 0,
})
if (log.identity().clusterId === undefined) {
  await log.bind({ clusterId: 'c', hardState: { term: 1, vote: 'v' }, entries: [] })
}
for (let index = state.appliedIndex() + 1; index <= log.lastIndex(); index++) {
  for (const entry of log.entries(index, index + 1, 1)) applyTo(state, entry)
}
writeSync(1, 'ready\n')

let checkpointing = false
async function checkpoint(): Promise<void> {
  checkpointing = true
  const { index } = await state.checkpoint()
  writeSync(1, `checkpoint ${index}\n`)
  checkpointing = false
}

for (;;) {
  const first = log.lastIndex() + 1
  const entries = Array.from({ length: 1 + (first % 5) }, (_, i) => entryAt(first + i))
  await log.persist({ hardState: { term: first, vote: 'v' }, entries })
  writeSync(1, `acked ${log.lastIndex()}\n`)
  for (const entry of entries) {
    if (mode === 'state' && entry.index > 1) state.put(9, `${entry.index}`, bigValue(entry.index))
    applyTo(state, entry)
  }
  const behind = state.appliedIndex() - state.durableAt().index
  if (behind > CHECKPOINT_ENTRIES && !checkpointing && mode !== 'log') void checkpoint()
  const upTo = state.durableAt().index - KEPT_ENTRIES
  if (upTo > log.base().index) await log.compact(upTo)
}
