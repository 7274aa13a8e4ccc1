#!/usr/bin/env node
/*
 * The command `holdfast`: options in, a running node or one clear line out. Exit code 0 after an orderly stop,
 * 1 for what the operator has to mend. Anything else is a bug or a dead disk: its reason is logged and the process
 * ends at once. This file must not know how a server is put together; server.ts does.
 */

import { readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { checkReady } from './check.ts'
import type { Config } from './config.ts'
import { describeOptions, loadConfig } from './config-load.ts'
import { createLogger, type RootLogger } from './logger.ts'
import { parseAddress } from './network.ts'
import { OperatorError, operatorLine } from './operator-error.ts'
import { version } from './version.ts'
import { endProcess } from './watchdog.ts'

/** A flag and no option: it must not stand in a file or an environment, where nobody sees it. */
const FORCE = '--force-new-cluster'
const CHECK_TIMEOUT_MS = 5000
/** An orderly stop that takes longer is ended as a crash: everything acknowledged is durable anyway. */
const STOP_TIMEOUT_MS = 10_000
/** A signal so soon after the first is the same one: `timeout` and npm send theirs to a group and to its first process. */
const SAME_SIGNAL_MS = 1000

/**
 * V8 collects all garbage once a heap has grown by a factor. That factor falls from 4 to 1.1 while collections take
 * much of the time, and buffers count as if they were objects: large values on a small heap bring a collection every 80
 * ms, which keeps the factor low. It stays at 4 (300 % more).
 */
const GARBAGE_FLAGS = '--heap-growing-percent=300'

const USAGE = `holdfast ${version}: a Redis-protocol cache server whose replicas agree through Raft

  holdfast [holdfast.conf] [--name value ...]    start one node
  holdfast --force-new-cluster ...               a survivor of a quorum that is lost for good goes on alone, as a new
                                                 cluster that refuses the old nodes: read docs/operations.md first
  holdfast --check host:port                     exit code 0 if that node can serve a linearizable read now
  holdfast backup --from host:port FILE          writes all that the cluster holds now, as that node has it, to FILE
  holdfast restore FILE --dir DIR                makes DIR the data of a new cluster of one node that holds it
  holdfast --version
  holdfast --help

Every option is also a line of the file (name value) and an environment variable (HOLDFAST_PORT).
Flag beats environment beats file beats default. Sizes take kb, mb, gb.

`

async function main(argv: readonly string[]): Promise<void> {
  const [word, ...words] = argv
  if (argv.includes('--help') || word === '-h' || word === 'help') {
    process.stdout.write(`${USAGE}${describeOptions()}\n`)
    return
  }
  if (argv.includes('--version') || word === '-v') {
    process.stdout.write(`holdfast ${version}\n`)
    return
  }
  if (word === 'backup') await writeBackup(words)
  else if (word === 'restore') await restoreBackup(words)
  else {
    const { value: target, rest } = takeFlag('--check', argv)
    const options = rest.filter((argument) => argument !== FORCE)
    const config = configFrom(options)
    if (target !== undefined) await check(target, config)
    else await serve(config, options.length < rest.length)
  }
}

function configFrom(argv: readonly string[]): Config {
  const readFile = (path: string): string => readFileSync(path, 'utf8')
  return loadConfig({ argv, environment: process.env, readFile })
}

/** Takes `--name value` or `--name=value` out of a command line; '' where the value is missing. */
function takeFlag(
  name: string,
  argv: readonly string[],
): { value: string | undefined; rest: readonly string[] } {
  const at = argv.findIndex((argument) => argument === name || argument.startsWith(`${name}=`))
  const flag = argv[at]
  if (flag === undefined) return { value: undefined, rest: argv }
  const inline = flag.startsWith(`${name}=`)
  const value = inline ? flag.slice(name.length + 1) : (argv[at + 1] ?? '')
  return { value, rest: argv.filter((_, index) => index !== at && (inline || index !== at + 1)) }
}

/** Takes FILE out of a command line, where it is the first word or the last one. */
function takeFile(
  command: string,
  argv: readonly string[],
): { file: string; rest: readonly string[] } {
  const at = argv[0]?.startsWith('--') === false ? 0 : argv.length - 1
  const file = argv[at]
  if (file === undefined || file === '' || file.startsWith('--')) {
    throw new OperatorError('CONFIG', `${command}: the name of the file is missing`)
  }
  return { file, rest: argv.filter((_, index) => index !== at) }
}

function addressOf(flag: string, value: string): { host: string; port: number } {
  const address = parseAddress(value)
  if (address !== undefined) return address
  throw new OperatorError('CONFIG', `${flag}: value '${value}'; allowed: host:port`)
}

async function writeBackup(argv: readonly string[]): Promise<void> {
  const { value: from = '', rest } = takeFlag('--from', argv)
  const address = addressOf('backup --from', from)
  const { file, rest: options } = takeFile('backup', rest)
  const password = configFrom(options).get('requirepass')
  const { backup } = await import('./backup.ts')
  const { index, counts } = await backup({ ...address, password, file })
  const keys = counts.reduce((sum, count) => sum + count, 0)
  process.stdout.write(`${file} holds the state at entry ${index}: ${keys} keys\n`)
}

async function restoreBackup(argv: readonly string[]): Promise<void> {
  const { file, rest } = takeFile('restore', argv)
  const config = configFrom(rest)
  const { restore } = await import('./restore.ts')
  const { clusterId, index } = await restore(file, config)
  const what = `the state at entry ${index}, as the new cluster ${clusterId}`
  process.stdout.write(`${config.get('dir')} holds ${what}\n`)
}

async function check(target: string, config: Config): Promise<void> {
  const address = addressOf('--check', target)
  const password = config.get('requirepass')
  const reason = await checkReady({ ...address, password, timeoutMs: CHECK_TIMEOUT_MS })
  process.stdout.write(`${reason ?? 'OK'}\n`)
  process.exitCode = reason === undefined ? 0 : 1
}

async function serve(config: Config, forceNewCluster: boolean): Promise<void> {
  setFlagsFromString(GARBAGE_FLAGS)
  const logger = createLogger({ level: config.get('loglevel'), logfile: config.get('logfile') })
  config.watch('loglevel', () => logger.setLevel(config.get('loglevel')))
  // A fault outside every promise and handler has no owner who could make it good.
  process.on('uncaughtException', (error) => endProcess(logger, reasonOf(error)))
  process.on('unhandledRejection', (error) => endProcess(logger, reasonOf(error)))
  // Loaded here, so that --help and --check do not load a database engine.
  const { startServer } = await import('./server.ts')
  const starting = startServer({ config, logger, forceNewCluster })
  // A failed start ends the process below; here it only means that there is nothing to stop.
  stopOnSignal(logger, async () => (await starting.catch(() => undefined))?.stop())
  const server = await starting
  await server.closed
  // Timers or handles that somebody forgot must not keep a stopped server alive.
  process.exit(0)
}

function stopOnSignal(logger: RootLogger, stop: () => Promise<unknown>): void {
  let stoppingSince: number | undefined
  function begin(cause: string): void {
    const now = performance.now()
    if (stoppingSince !== undefined) {
      if (now - stoppingSince < SAME_SIGNAL_MS) return
      endProcess(logger, `${cause} while stopping`)
    }
    stoppingSince = now
    logger.info({}, `stopping: ${cause}`)
    const slow = `did not stop within ${STOP_TIMEOUT_MS} ms`
    setTimeout(() => endProcess(logger, slow), STOP_TIMEOUT_MS).unref()
    stop().catch((error: unknown) => endProcess(logger, reasonOf(error)))
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => begin(signal))
  // As in Redis: a terminal that closes ends no node. Node.js undoes what nohup has set, so it is said here.
  process.on('SIGHUP', () => {})
  if (process.env.HOLDFAST_STOP_WITH_STDIN === undefined) return
  // scripts/cluster.ts holds the other end: when it ends, however it ends, its nodes do not stay behind.
  process.stdin.once('close', () => {
    if (stoppingSince === undefined) begin('the process that started this node has ended')
  })
  process.stdin.resume()
}

function reasonOf(error: unknown): string {
  if (error instanceof OperatorError) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const line = operatorLine(error)
  process.stderr.write(`holdfast: ${line ?? reasonOf(error)}\n`)
  // Not exitCode: a server that failed half-way through its start may have left handles open.
  process.exit(1)
})
