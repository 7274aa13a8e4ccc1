#!/usr/bin/env node
/*
 * The command `holdfast`: options in, a running node or one clear line out. Exit code 0 after an orderly stop,
 * 1 for what the operator has to mend. Anything else is a bug or a dead disk: its reason is logged and the process
 * ends at once. This file must not know how a server is put together; server.ts does.
 */

import { readFileSync } from 'node:fs'
import { checkReady } from './check.ts'
import type { Config } from './config.ts'
import { describeOptions, loadConfig } from './config-load.ts'
import { createLogger, type RootLogger } from './logger.ts'
import { parseAddress } from './network.ts'
import { OperatorError, operatorLine } from './operator-error.ts'
import { version } from './version.ts'
import { endProcess } from './watchdog.ts'

const CHECK_TIMEOUT_MS = 5000
/** An orderly stop that takes longer is ended as a crash: everything acknowledged is durable anyway. */
const STOP_TIMEOUT_MS = 10_000

const USAGE = `holdfast ${version}: a Redis-protocol cache server whose replicas agree through Raft

  holdfast [holdfast.conf] [--name value ...]    start one node
  holdfast --check host:port                     exit code 0 if that node can serve a linearizable read now
  holdfast --version
  holdfast --help

Every option is also a line of the file (name value) and an environment variable (HOLDFAST_PORT).
Flag beats environment beats file beats default. Sizes take kb, mb, gb.

`

async function main(argv: readonly string[]): Promise<void> {
  if (argv.includes('--help')) {
    process.stdout.write(`${USAGE}${describeOptions()}\n`)
    return
  }
  if (argv.includes('--version')) {
    process.stdout.write(`holdfast ${version}\n`)
    return
  }
  const { target, rest } = takeCheck(argv)
  const config = loadConfig({
    argv: rest,
    environment: process.env,
    readFile: (path) => readFileSync(path, 'utf8'),
  })
  if (target === undefined) await serve(config)
  else await check(target, config)
}

/** Takes `--check host:port` out of the command line; the password may come from any source of options. */
function takeCheck(argv: readonly string[]): {
  target: string | undefined
  rest: readonly string[]
} {
  const at = argv.findIndex((argument) => argument === '--check' || argument.startsWith('--check='))
  const flag = argv[at]
  if (flag === undefined) return { target: undefined, rest: argv }
  const inline = flag.startsWith('--check=')
  const target = inline ? flag.slice('--check='.length) : (argv[at + 1] ?? '')
  return { target, rest: argv.filter((_, index) => index !== at && (inline || index !== at + 1)) }
}

async function check(target: string, config: Config): Promise<void> {
  const address = parseAddress(target)
  if (address === undefined) {
    throw new OperatorError('CONFIG', `--check: value '${target}'; allowed: host:port`)
  }
  const password = config.get('requirepass')
  const reason = await checkReady({ ...address, password, timeoutMs: CHECK_TIMEOUT_MS })
  process.stdout.write(`${reason ?? 'OK'}\n`)
  process.exitCode = reason === undefined ? 0 : 1
}

async function serve(config: Config): Promise<void> {
  const logger = createLogger({ level: config.get('loglevel'), logfile: config.get('logfile') })
  config.watch('loglevel', () => logger.setLevel(config.get('loglevel')))
  // A fault outside every promise and handler has no owner who could make it good.
  process.on('uncaughtException', (error) => endProcess(logger, reasonOf(error)))
  process.on('unhandledRejection', (error) => endProcess(logger, reasonOf(error)))
  // Loaded here, so that --help and --check do not load a database engine.
  const { startServer } = await import('./server.ts')
  const starting = startServer({ config, logger })
  // A failed start ends the process below; here it only means that there is nothing to stop.
  stopOnSignal(logger, async () => (await starting.catch(() => undefined))?.stop())
  const server = await starting
  await server.closed
  // Timers or handles that somebody forgot must not keep a stopped server alive.
  process.exit(0)
}

function stopOnSignal(logger: RootLogger, stop: () => Promise<unknown>): void {
  let stopping = false
  function begin(cause: string): void {
    if (stopping) endProcess(logger, `${cause} while stopping`)
    stopping = true
    logger.info({}, `stopping: ${cause}`)
    const slow = `did not stop within ${STOP_TIMEOUT_MS} ms`
    setTimeout(() => endProcess(logger, slow), STOP_TIMEOUT_MS).unref()
    stop().catch((error: unknown) => endProcess(logger, reasonOf(error)))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => begin(signal))
  if (process.env.HOLDFAST_STOP_WITH_STDIN === undefined) return
  // scripts/cluster.ts holds the other end: when it ends, however it ends, its nodes do not stay behind.
  process.stdin.once('close', () => {
    if (!stopping) begin('the process that started this node has ended')
  })
  process.stdin.resume()
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const line = operatorLine(error)
  process.stderr.write(`holdfast: ${line ?? reasonOf(error)}\n`)
  // Not exitCode: a server that failed half-way through its start may have left handles open.
  process.exit(1)
})
