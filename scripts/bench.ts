/*
 * How fast this build is, beside the Redis that is on PATH: Holdfast with three nodes (through leader and follower)
 * and with one, redis-server with nothing on disk and with `appendfsync always`, all of them driven in turn. What is
 * measured and how lies in test/bench/; docs/benchmarks.md says how to read it.
 *
 *   npm run bench [-- --rounds 5 --seconds 1 --minutes 8.5 --full --only 'c=50 P=16' --peer host:port --against DIST --save]
 *   npm run bench -- profile [--only 'c=50 P=16 64 B' --folder FOLDER]      CPU profiles of leader and follower
 *   npm run bench -- check                  our load generator beside redis-benchmark, in turn
 *   npm run bench -- growth [--full --only Keys --save]      with keys, nodes, connections and sizes of values
 *   npm run bench -- micro [--save]         parts of the hot path alone, held against test/bench/baseline.json
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { OperatorError } from '../src/operator-error.ts'
import { circumstances, today } from '../test/bench/circumstances.ts'
import { measureGrowth } from '../test/bench/growth.ts'
import { alarms, measureParts, parts, type Ratios } from '../test/bench/micro.ts'
import { profile } from '../test/bench/profile.ts'
import {
  chart,
  type Findings,
  generator,
  markdown,
  overRuns,
  ratiosOf,
  reproduced,
  type SavedRun,
} from '../test/bench/report.ts'
import {
  type Cell,
  checkGenerator,
  everyCell,
  HEAVY_TIMES,
  nameOf,
  runRounds,
  usualCells,
} from '../test/bench/rounds.ts'
import { measureStalls } from '../test/bench/stalls.ts'
import { holdfast, redis, running, type System } from '../test/bench/systems.ts'
import {
  type CommandLine,
  calledWrongly,
  exitOnSignals,
  numberFrom,
  runScript,
} from '../test/command-line.ts'
import { requireTool } from '../test/tools.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const BASELINE = `${ROOT}/test/bench/baseline.json`
const DOCUMENT = `${ROOT}/docs/benchmarks.md`
const CHART = `${ROOT}/docs/benchmarks.svg`
/** The ratios of the saved runs, the newest last. */
const RATIOS = `${ROOT}/docs/benchmarks.json`
const RUNS_KEPT = 6
const GROWTH = `${ROOT}/docs/growth.md`
/** In a document: what stands above it is written by hand. */
const FIGURES = '<!-- figures: everything below is written by npm run bench -- --save -->'

const NO_PEERS: string[] = []
const OPTIONS = {
  /** Many short ones: what falls into one of them, as a checkpoint does, is not in the median. */
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '1' },
  /** No round begins that would end later. */
  minutes: { type: 'string', default: '8.5' },
  only: { type: 'string', default: '' },
  full: { type: 'boolean', default: false },
  save: { type: 'boolean', default: false },
  /** Another server that runs, as host:port. */
  peer: { type: 'string', multiple: true, default: NO_PEERS },
  /** The compiled files of another build, whose three nodes are measured beside those of this one. */
  against: { type: 'string' },
  /** Where profiles are written. */
  folder: { type: 'string', default: join(tmpdir(), 'holdfast-profiles') },
  /** Of 'one', 'redis', 'aof', 'stalls', 'check': what is left out. */
  without: { type: 'string', default: '' },
} as const

type Values = CommandLine<typeof OPTIONS>['values']

function number(values: Values, name: 'rounds' | 'seconds' | 'minutes'): number {
  return numberFrom(name, values[name], { above: 0 })
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function micro(values: Values): Promise<number> {
  const ratios = await measureParts(await parts())
  for (const [name, ratio] of Object.entries(ratios)) print(`${name}: ${ratio.toFixed(3)}`)
  if (values.save) {
    const rounded = Object.entries(ratios).map(([name, ratio]) => [name, Number(ratio.toFixed(3))])
    writeFileSync(BASELINE, `${JSON.stringify(Object.fromEntries(rounded), undefined, 2)}\n`)
    return 0
  }
  const baseline: Ratios = JSON.parse(readFileSync(BASELINE, 'utf8'))
  const found = alarms(ratios, baseline)
  print(found.length === 0 ? 'passed' : `ALARM\n${found.join('\n')}`)
  return found.length === 0 ? 0 : 1
}

async function bench(values: Values): Promise<void> {
  if (requireTool('redis-benchmark') === undefined) {
    const what = 'redis-benchmark is not on PATH; it comes with Redis (Debian: redis-tools)'
    throw new OperatorError('TOOL', what)
  }
  const without = new Set(values.without.split(','))
  const cells = chosenCells(values)
  const [rounds, seconds] = [number(values, 'rounds'), number(values, 'seconds')]
  const startedAt = performance.now()
  const systems: System[] = []
  const end = async (): Promise<void> => {
    for (const system of systems.splice(0)) await system.end()
  }
  // What runs ends with this process (systems.ts), also what is only starting.
  exitOnSignals()
  try {
    const three = await holdfast({ nodes: 3, name: '3 nodes' })
    systems.push(three)
    if (!without.has('one')) systems.push(await holdfast({ nodes: 1, name: '1 node' }))
    const own = systems.length
    for await (const peer of peers(values, without)) systems.push(peer)
    const targets = systems.flatMap((system) => system.targets)
    const minutesMax = values.full ? Number.POSITIVE_INFINITY : number(values, 'minutes')
    const run = { cells, targets, rounds, seconds, minutesMax, progress: print }
    const results = await runRounds(run)
    const [leader] = three.targets
    const checks =
      leader === undefined || without.has('check')
        ? []
        : await checkGenerator(leader, { rounds, seconds })
    const others = systems.slice(own).flatMap((system) => system.targets)
    await end()
    const stalls = without.has('stalls') ? [] : await measureStalls(seconds * 2)
    const made = Math.max(
      ...[...results.values()].flatMap((byTarget) =>
        [...byTarget.values()].map((samples) => samples.length),
      ),
    )
    const inTurn = `- ${made} rounds of ${seconds} s per load and target (SET with P=16 or of 1 KiB and more ${HEAVY_TIMES} times as long), each in turn; ${today()}`
    const found = { results, targets, peers: others, generator: checks, stalls }
    report(values, { ...found, circumstances: [...circumstances(), inTurn] })
    print(`took ${((performance.now() - startedAt) / 60_000).toFixed(1)} minutes`)
  } finally {
    await end()
  }
}

/** Our generator alone, held against redis-benchmark at the leader of three nodes. */
async function check(values: Values): Promise<void> {
  const { targets, end } = await holdfast({ nodes: 3, name: '3 nodes' })
  try {
    const [leader] = targets
    if (leader === undefined) throw new Error('a cluster without a leader')
    const checks = await checkGenerator(leader, {
      rounds: number(values, 'rounds'),
      seconds: number(values, 'seconds'),
    })
    for (const line of generator({ generator: checks })) print(line)
  } finally {
    await end()
  }
}

/** One after the other, so that each is known as soon as it runs. */
async function* peers(values: Values, without: ReadonlySet<string>): AsyncGenerator<System> {
  if (values.against !== undefined) {
    yield await holdfast({ nodes: 3, name: 'other build', dist: values.against })
  }
  const plain = without.has('redis') ? undefined : await redis('Redis', ['--appendonly', 'no'])
  if (plain !== undefined) yield plain
  const always = ['--appendonly', 'yes', '--appendfsync', 'always']
  const durable = without.has('aof') ? undefined : await redis('Redis, appendfsync always', always)
  if (durable !== undefined) yield durable
  for (const address of values.peer) yield running(address)
}

function report(values: Values, findings: Findings): void {
  const text = markdown(findings)
  print(text)
  const run: SavedRun = { circumstances: findings.circumstances, ratios: ratiosOf(findings) }
  const before: readonly SavedRun[] = existsSync(RATIOS)
    ? JSON.parse(readFileSync(RATIOS, 'utf8'))
    : []
  if (before.length > 0) for (const line of reproduced(run.ratios, before)) print(line)
  if (!values.save) return
  const runs = [...before, run].slice(-RUNS_KEPT)
  writeFileSync(RATIOS, `${JSON.stringify(runs, undefined, 2)}\n`)
  write(DOCUMENT, `${text}\n${overRuns(runs)}`)
  writeFileSync(CHART, chart(findings))
}

/** Puts the figures into a document, in the place of those that it has. */
function write(document: string, text: string): void {
  const [byHand = ''] = readFileSync(document, 'utf8').split(FIGURES)
  writeFileSync(document, `${byHand}${FIGURES}\n\n${text}`)
}

async function growth(values: Values): Promise<void> {
  const seconds = number(values, 'seconds')
  const lines = circumstances()
  lines.push(`- loads of ${seconds} s (SET ${HEAVY_TIMES} times as long); ${today()}`)
  const only = pattern(values)
  await measureGrowth({
    seconds,
    full: values.full,
    only,
    progress: (line) => process.stderr.write(`${line}\n`),
    print: (line) => {
      lines.push(line)
      print(line)
    },
  })
  if (values.save) write(GROWTH, `${lines.join('\n')}\n`)
}

/** The loads that are asked for by --full and --only. */
function chosenCells(values: Values): readonly Cell[] {
  const only = pattern(values)
  const cells = (values.full ? everyCell() : usualCells()).filter((cell) => only.test(nameOf(cell)))
  if (cells.length === 0) throw calledWrongly(`no load is named like '${values.only}'`)
  return cells
}

function pattern({ only }: Values): RegExp {
  try {
    return new RegExp(only)
  } catch {
    throw calledWrongly(`--only takes a regular expression, not '${only}'`)
  }
}

async function main({
  values,
  positionals: [what],
}: CommandLine<typeof OPTIONS>): Promise<number | undefined> {
  if (what === 'micro') return await micro(values)
  if (what === 'check') await check(values)
  else if (what === 'growth') await growth(values)
  else if (what === 'profile') {
    const { folder } = values
    const seconds = number(values, 'seconds') * 2
    await profile({ cells: chosenCells(values), folder, seconds, print })
  } else if (what === undefined) await bench(values)
  else {
    const allowed = 'micro, profile, check, growth, or nothing for the whole benchmark'
    throw calledWrongly(`there is no '${what}'; allowed: ${allowed}`)
  }
  return undefined
}

await runScript({ url: import.meta.url, options: OPTIONS, words: true }, main)
