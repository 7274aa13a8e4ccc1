/*
 * `npm run test:redis`: random histories of commands against a real redis-server and against Holdfast, in RESP2 and
 * RESP3, replies compared byte by byte (test/redis/differential.ts).
 *
 *   -- --commands 100000   how many, in histories of 60
 *   -- --seed 1            the number of the first history
 *
 * The last line is `N passed, M failed`, counted in histories. A history that differs is printed as short as it gets.
 */

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CommandLine, exitOnSignals, numberFrom, runScript } from '../test/command-line.ts'
import { Cluster } from '../test/e2e/cluster.ts'
import { accepts, freePorts, until } from '../test/processes.ts'
import { compare, describe, history } from '../test/redis/differential.ts'
import { requireTool } from '../test/tools.ts'

const PROGRESS_MS = 5000
const FAILURES_SHOWN = 10
/** Redis refuses no value that it can make, however long everybody waits for it. */
const MAKES_ANY_VALUE = ['--write-work-max', '1gb']
/** What takes long is chance: SLOWLOG has to be empty. */
const NOTHING_IS_SLOW = ['--slowlog-log-slower-than', '-1']

interface Redis {
  readonly port: number
  stop(): void
}

async function startRedis(program: string): Promise<Redis> {
  const port = await freePorts(1)
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-redis-'))
  const options = [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--dir',
    dir,
    ...NOTHING_IS_SLOW,
  ]
  const child = spawn(program, options, { stdio: 'ignore' })
  await until('redis-server', () => accepts(port))
  return {
    port,
    stop: () => {
      child.kill('SIGKILL')
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

const OPTIONS = {
  commands: { type: 'string', default: '100000' },
  seed: { type: 'string', default: '1' },
} as const

async function main({ values }: CommandLine<typeof OPTIONS>): Promise<number> {
  const wanted = numberFrom('commands', values.commands, { least: 1, whole: true })
  const firstSeed = numberFrom('seed', values.seed, { least: 0, whole: true })
  const program = requireTool('redis-server')
  if (program === undefined) {
    process.stdout.write(
      'NOT RUN: redis-server is not on PATH, so there is nothing to compare with\n',
    )
    return 0
  }
  const redis = await startRedis(program)
  const cluster = await Cluster.start({
    nodes: 1,
    flags: ['--cluster-enabled', 'no', ...MAKES_ANY_VALUE, ...NOTHING_IS_SLOW],
  })
  process.once('exit', () => {
    redis.stop()
    cluster.abandon()
  })
  exitOnSignals()
  try {
    const failed = await compareAll(
      { redis: redis.port, holdfast: cluster.node(0).port },
      wanted,
      firstSeed,
    )
    return failed > 0 ? 1 : 0
  } catch (error) {
    process.stdout.write(`${cluster.logs()}\n`)
    throw error
  } finally {
    await cluster.end()
    redis.stop()
  }
}

async function compareAll(
  servers: { redis: number; holdfast: number },
  wanted: number,
  firstSeed: number,
): Promise<number> {
  let commands = 0
  let passed = 0
  let failed = 0
  let shownAt = performance.now()
  let seed = firstSeed
  for (; commands < wanted; seed++) {
    commands += history(seed).steps.length
    const difference = await compare(servers, seed).catch((error: unknown) => {
      throw new Error(`history ${seed}: ${String(error)}`)
    })
    if (difference === undefined) passed++
    else if (++failed <= FAILURES_SHOWN) {
      process.stdout.write(`history ${seed} differs:\n${describe(difference)}\n`)
    }
    if (performance.now() - shownAt > PROGRESS_MS) {
      shownAt = performance.now()
      process.stdout.write(`${commands} commands, ${failed} histories differ\n`)
    }
  }
  process.stdout.write(`${commands} commands in histories ${firstSeed} to ${seed - 1}\n`)
  if (failed > 0) process.stdout.write('repeat one: npm run test:redis -- --commands 1 --seed N\n')
  process.stdout.write(`${passed} passed, ${failed} failed\n`)
  return failed
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
