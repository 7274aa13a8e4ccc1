/*
 * Real processes that die: killed in the middle of commits, checkpoints and compactions, or ended by a disk that
 * takes no more. Whatever was acknowledged is there afterwards, and the state is exactly that of its index.
 */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { extname } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { limits } from '../../src/config.ts'
import { encodeEntry } from '../../storage/codec.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { openStorage } from '../../storage/open.ts'
import { scratchDirectory } from './scratch.ts'
import { applyTo, assertState, entryAt } from './workload.ts'

const CHILD = fileURLToPath(new URL(`./crash-child${extname(import.meta.url)}`, import.meta.url))
const DEADLINE_MS = 15_000

class Run {
  acked = 0
  checkpoints = 0
  fatal = ''
  stderr = ''
  readonly #child: ChildProcess
  readonly #ended: Promise<void>
  #rest = ''
  #onLine: () => void = () => {}

  constructor(command: string, argv: readonly string[]) {
    const child = spawn(command, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#read(text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.#ended = new Promise((done) => child.once('close', () => done()))
  }

  /** Waits for a state of affairs, or for the deadline. */
  async until(holds: () => boolean): Promise<void> {
    const deadline = setTimeout(() => this.kill(), DEADLINE_MS)
    const met = new Promise<void>((done) => {
      this.#onLine = () => holds() && done()
      this.#onLine()
    })
    await Promise.race([met, this.#ended])
    clearTimeout(deadline)
    assert.ok(holds(), `the child ended early: ${this.fatal}${this.stderr}`)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  ended(): Promise<void> {
    return this.#ended
  }

  get signal(): NodeJS.Signals | null {
    return this.#child.signalCode
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      const [word, ...rest] = line.split(' ')
      if (word === 'acked') this.acked = Number(rest[0])
      if (word === 'checkpoint') this.checkpoints++
      if (word === 'fatal:') this.fatal = rest.join(' ')
      this.#onLine()
    }
  }
}

/** Opens what a dead process left, and compares all of it with the workload. Returns the last index. */
async function inspect(directory: string, acked: number): Promise<number> {
  const engine = new LmdbEngine(directory, assert.fail)
  const { log, state } = await openStorage(engine, {
    memtableBytes: 1 << 30,
    cacheBytes: 1 << 20,
    views: limits.stateViews,
    now: () => 0,
  })
  const last = log.lastIndex()
  assert.ok(last >= acked, `${acked} was acknowledged, the log ends at ${last}`)
  assert.ok(log.base().index <= state.durableAt().index)
  assert.ok(log.hardState().term >= 1)
  assertState(state)
  for (const entry of log.entries(log.base().index + 1, last + 1, 1e9)) {
    assert.deepEqual(
      Buffer.from(encodeEntry(entry)),
      Buffer.from(encodeEntry(entryAt(entry.index))),
    )
    if (entry.index > state.appliedIndex()) applyTo(state, entry)
  }
  assert.equal(state.appliedIndex(), last)
  assertState(state)
  await state.close()
  await log.close()
  return last
}

describe('killed in the middle', () => {
  it('a process loses nothing it acknowledged, and its state is whole', async () => {
    const scratch = scratchDirectory()
    try {
      let last = 0
      for (let round = 0; round < 6; round++) {
        const run = new Run(process.execPath, [CHILD, scratch.path])
        const target = last + 40 + round * 37
        // In turn: in the middle of a commit, and in the middle of a checkpoint or a compaction.
        await run.until(() => run.acked >= target && (round % 2 === 0 || run.checkpoints > round))
        run.kill()
        await run.ended()
        assert.equal(run.stderr, '')
        last = await inspect(scratch.path, run.acked)
      }
    } finally {
      scratch.remove()
    }
  })
})

describe('a disk that takes no more', () => {
  // Limits in units of 512 bytes: above them every write fails with EFBIG, as one to a full disk would.
  for (const [what, mode, limit] of [
    ['commit', 'log', 400],
    ['checkpoint', 'state', 1500],
  ] as const) {
    it(`ends the process with a reason and loses nothing: in a ${what}`, async () => {
      const scratch = scratchDirectory()
      try {
        const script = `ulimit -f ${limit}; exec "$0" "$@"`
        const run = new Run('sh', ['-c', script, process.execPath, CHILD, scratch.path, mode])
        await run.until(() => run.fatal !== '')
        await run.ended()
        assert.equal(
          run.signal,
          'SIGKILL',
          'ended by itself, as told, not by an unhandled rejection',
        )
        assert.match(run.fatal, new RegExp(`^a ${what} to .* failed: .+`))
        assert.ok(run.acked > 0)
        await inspect(scratch.path, run.acked)
      } finally {
        scratch.remove()
      }
    })
  }
})
