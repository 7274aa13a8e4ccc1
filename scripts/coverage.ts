/*
 * `npm run coverage`: a floor for each folder whose faults lose data, measured by V8 under that folder's own tests:
 * what only an end-to-end test happens to pass through is not tested there. The floors are on the compiled files,
 * which are what runs and what ships; a file that no test loads counts with none of its lines covered.
 */

import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runScript } from '../test/command-line.ts'

const FOLDERS = ['raft', 'resp', 'storage'] as const
const FLOOR_LINES_PERCENT = 95
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** The folder of compiled files that this one is part of. */
const COMPILED = basename(fileURLToPath(new URL('..', import.meta.url)))
const TESTS = fileURLToPath(new URL('./test.js', import.meta.url))
/** What V8 writes, one file per process. */
const RAW = join(ROOT, 'coverage', 'raw')

function main(): number {
  rmSync(join(ROOT, 'coverage'), { recursive: true, force: true })
  const own = FOLDERS.map((folder) => `${folder}/`)
  const tests = node([TESTS, ...own], { NODE_V8_COVERAGE: RAW })
  if (tests !== 0) {
    process.stdout.write('coverage: the tests failed, so nothing was measured\n')
    return 1
  }
  const below = FOLDERS.filter((folder) => report(folder) !== 0)
  if (below.length === 0) return 0
  process.stdout.write(`coverage: below ${FLOOR_LINES_PERCENT} % of lines: ${below.join(', ')}\n`)
  return 1
}

function report(folder: string): number {
  const c8 = join(dirname(createRequire(import.meta.url).resolve('c8')), 'bin', 'c8.js')
  const options = {
    'temp-directory': RAW,
    'reports-dir': join(ROOT, 'coverage', folder),
    reporter: 'text',
    all: 'true',
    src: join(ROOT, COMPILED, folder),
    include: `${COMPILED}/${folder}/**/*.js`,
    'check-coverage': 'true',
    lines: String(FLOOR_LINES_PERCENT),
  }
  process.stdout.write(`\n${folder}/\n`)
  return node([c8, 'report', ...Object.entries(options).map(([key, value]) => `--${key}=${value}`)])
}

function node(args: readonly string[], environment: Record<string, string> = {}): number {
  const { status } = spawnSync(process.execPath, args, {
    cwd: ROOT,
    env: { ...process.env, ...environment },
    stdio: 'inherit',
  })
  return status ?? 1
}

await runScript({ url: import.meta.url, options: {} }, main)
