/*
 * The log: JSON lines with Redis' levels, out before the call returns, and never in the way of who logs.
 */

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { createLogger, prettyLine } from '../../src/logger.ts'
import { Child, temporaryDirectory } from '../processes.ts'

test('lines are in the file when the call returns, with node and term once they are known', (context) => {
  const logfile = join(temporaryDirectory(context), 'log')
  const logger = createLogger({ level: 'notice', logfile })
  const lines = (): Record<string, unknown>[] =>
    readFileSync(logfile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  logger.info({}, 'first')
  assert.equal(lines().length, 1)
  assert.equal(lines()[0]?.node, undefined)
  let term = 1
  logger.identify(() => ({ node: 'n1', term }))
  const part = logger.child({ part: 'peers' })
  part.warn({ peer: 'x' }, 'second')
  term = 2
  logger.error({ err: new Error('broken') }, 'third')
  const [, second, third] = lines()
  assert.deepEqual(
    [second?.msg, second?.node, second?.term, second?.part],
    ['second', 'n1', 1, 'peers'],
  )
  assert.equal(third?.term, 2)
  assert.match(JSON.stringify(third?.err), /broken/)
})

test('the four levels of Redis', (context) => {
  const logfile = join(temporaryDirectory(context), 'log')
  const logger = createLogger({ level: 'warning', logfile })
  const levels = ['warning', 'notice', 'verbose', 'debug'] as const
  const counts = levels.map((level) => {
    logger.setLevel(level)
    const before = readFileSync(logfile, 'utf8').length
    for (const call of ['trace', 'debug', 'info', 'warn'] as const) logger[call]({}, call)
    return readFileSync(logfile, 'utf8').slice(before).trim().split('\n').length
  })
  assert.deepEqual(counts, [1, 2, 3, 4])
})

test('a logfile that cannot be opened is one line', (context) => {
  const logfile = join(temporaryDirectory(context), 'missing', 'log')
  assert.throws(() => createLogger({ level: 'notice', logfile }), {
    name: 'OperatorError',
    message: `logfile ${logfile} does not exist (ENOENT)`,
  })
})

test('a pipe that nobody reads does not hold the writer up, and what was lost is counted', async (context) => {
  const child = new Child(context, 'test/src/log-flood.js', [])
  child.pauseOutput()
  // 4 MiB of lines: more than the pipe and the backlog hold.
  await child.prints('flooded\n')
  child.resumeOutput()
  await child.prints('were dropped')
  child.closeStdin()
  assert.deepEqual(await child.end(), { code: 0, signal: null })
  const lines = child.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const numbers = lines.flatMap(({ number }) => (number === undefined ? [] : [number]))
  assert.deepEqual(
    numbers,
    Array.from(numbers, (_, index) => index),
    'in order, from the first',
  )
  const dropped = /^(\d+) log lines were dropped/.exec(lines.at(-1)?.msg ?? '')?.[1]
  assert.equal(numbers.length + Number(dropped), 4096)
})

test('lines for a person', () => {
  const pretty = prettyLine({ colour: false })
  const line = JSON.stringify({
    level: 30,
    time: 0,
    pid: 1,
    node: '0123456789abcdef',
    term: 3,
    msg: 'leads',
    peer: 'x',
  })
  assert.match(
    pretty(`${line}\n`),
    /^\[\d\d:\d\d:\d\d\.000\] INFO: 01234567 term 3: leads \{"peer":"x"\}\n$/,
  )
  assert.equal(pretty('not of the log'), 'not of the log')
  assert.equal(pretty('{ not JSON').trimEnd(), '{ not JSON')
})
