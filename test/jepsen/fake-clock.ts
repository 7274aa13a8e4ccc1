/*
 * Wall clocks that jump: libfaketime below a node, steered by a file per node. Only the wall may move: timers and the
 * monotonic clock must go on, or the run would test Node.js and not us. That is checked before it is relied on.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const FOLDERS = ['/usr/lib', '/usr/local/lib']
const JUMP_SECONDS = 36_000
/** A measured jump may be off by the start of a process. */
const SLACK_MS = 60_000

/** The library's path; undefined when it is not installed. */
export function findLibrary(): string | undefined {
  for (const folder of FOLDERS) {
    const architectures = existsSync(folder) ? readdirSync(folder) : []
    for (const name of ['', ...architectures]) {
      const path = join(folder, name, 'faketime', 'libfaketime.so.1')
      if (existsSync(path)) return path
    }
  }
  return undefined
}

export class FakeClock {
  readonly #library: string
  readonly #file: string

  constructor(library: string, file: string) {
    this.#library = library
    this.#file = file
    this.set(0)
  }

  /** What a node's process needs in its environment. */
  get environment(): Readonly<Record<string, string>> {
    return {
      LD_PRELOAD: this.#library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
    }
  }

  /** The wall from now on, as an offset to the true one. */
  set(seconds: number): void {
    writeFileSync(this.#file, `${seconds < 0 ? '-' : '+'}${Math.abs(seconds)}s`)
  }

  /** Undefined when the wall jumps and nothing else does; else what is wrong. */
  fault(): string | undefined {
    const script = `
      const wall = Date.now(), monotonic = performance.now(), high = process.hrtime.bigint()
      require('node:fs').writeFileSync(process.argv[1], '+${JUMP_SECONDS}s')
      setTimeout(() => {
        const nanoseconds = Number(process.hrtime.bigint() - high)
        const moved = [Date.now() - wall, performance.now() - monotonic, nanoseconds / 1e6]
        process.stdout.write(JSON.stringify(moved))
      }, 100)
    `
    const { stdout } = spawnSync(process.execPath, ['-e', script, this.#file], {
      env: { ...process.env, ...this.environment },
      encoding: 'utf8',
    })
    this.set(0)
    const [wall = 0, monotonic = 0, highResolution = 0]: number[] =
      stdout === '' ? [] : JSON.parse(stdout)
    if (Math.abs(wall - JUMP_SECONDS * 1000) > SLACK_MS) return `the wall moved ${wall} ms`
    const still = monotonic < SLACK_MS && highResolution < SLACK_MS && monotonic > 0
    return still ? undefined : `the monotonic clock moved ${monotonic} and ${highResolution} ms`
  }
}
