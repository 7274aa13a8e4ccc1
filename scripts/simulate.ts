/*
 * `npm run simulate`: whole clusters from seeds (test/sim/simulation.ts), in worker processes.
 *
 *   -- --seed N        one seed, with the whole transcript when it fails: what it did before, it does again
 *   -- --seeds A..B    these seeds
 *   -- --forever       from a random seed on, until stopped
 *   -- --ci            the fixed set that CI runs, with its counts and its coverage marks
 *
 * Which seeds are long, and which run twice, follows from the seed alone, so that a number is all one needs to know.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type CommandLine, calledWrongly, numberFrom, runScript } from '../test/command-line.ts'
import { checkHistory } from '../test/linearizability/check.ts'
import { MARK_FLOOR, Marks } from '../test/sim/marks.ts'
import { QUOTA, type SimulationResult, simulate } from '../test/sim/simulation.ts'
import { LONG_DURATION_MS } from '../test/sim/swarm.ts'

const CI_SEEDS = { first: 1, last: 200 } as const
const CI_SECONDS = 180
const WORKERS = 2
/** Lines of a transcript that a run of many seeds shows; --seed shows all that are kept. */
const LINES_SHOWN = 40
/** A seed that takes longer than this in real time does not end by itself. */
const SEED_TIMEOUT_MS = 300_000
const PROGRESS_MS = 5000

/** Every tenth seed simulates ten minutes instead of one. */
const isLong = (seed: number): boolean => seed % 10 === 0
/** Every tenth seed is run twice and must be the same run; the second time the checker of histories judges. */
const runsTwice = (seed: number): boolean => seed % 10 === 5

/** What a seed allocates is mostly garbage after some events: a larger nursery is collected less often (0.95 of the time). */
const WORKER_FLAGS = ['--max-semi-space-size=32']

interface Outcome {
  readonly result: SimulationResult
  /** Why the seed counts as failed although nothing broke. */
  readonly shortfall: string | undefined
}

async function runSeed(seed: number): Promise<Outcome> {
  const options = { seed, long: isLong(seed) }
  const result = await simulate(options)
  if (result.failure !== undefined) return { result, shortfall: undefined }
  if (runsTwice(seed)) {
    // I9 once more, by a judge that knows nothing of logs.
    const { hash, history } = await simulate({ ...options, history: true })
    if (hash !== result.hash) {
      const shortfall = `I21 determinism: trace ${result.hash}, then ${hash}`
      return { result, shortfall }
    }
    const keys = checkHistory(history).violations.map(({ key }) => key)
    if (keys.length > 0) {
      return { result, shortfall: `I9 linearizability: no order explains what was read of ${keys}` }
    }
  }
  return { result, shortfall: shortfallOf(result) }
}

/** A seed in which little happens proves little. */
function shortfallOf({
  operations,
  faults,
  simulatedMs,
  long,
}: SimulationResult): string | undefined {
  const ms = long ? LONG_DURATION_MS : QUOTA.simulatedMs
  const missing = [
    operations < QUOTA.operations ? `${operations} of ${QUOTA.operations} operations` : undefined,
    faults < QUOTA.faults ? `${faults} of ${QUOTA.faults} faults` : undefined,
    simulatedMs < ms ? `${Math.round(simulatedMs)} of ${ms} simulated ms` : undefined,
  ].filter((one) => one !== undefined)
  return missing.length === 0 ? undefined : `too little happened: ${missing.join(', ')}`
}

/** What all seeds together came to. */
class Totals {
  readonly marks = new Marks()
  readonly #startedAt = performance.now()
  passed = 0
  failed = 0
  #events = 0
  #simulatedMs = 0
  #operations = 0
  #faults = 0
  #long = 0
  #twice = 0

  add(seed: number, { result, shortfall }: Outcome): void {
    if (result.failure === undefined && shortfall === undefined) this.passed++
    else this.failed++
    this.#events += result.events
    this.#simulatedMs += result.simulatedMs
    this.#operations += result.operations
    this.#faults += result.faults
    if (result.long) this.#long++
    if (runsTwice(seed)) this.#twice++
    this.marks.add(result.marks)
  }

  get seconds(): number {
    return (performance.now() - this.#startedAt) / 1000
  }

  get progress(): string {
    const { seconds } = this
    return (
      `${this.passed + this.failed} seeds, ${Math.round(this.#events / seconds / 1000)} k events/s, ` +
      `${(this.#simulatedMs / 3_600_000).toFixed(2)} simulated hours in ${Math.round(seconds)} s, ` +
      `${this.failed} failures`
    )
  }

  get counts(): string {
    return (
      `${this.#operations} acknowledged operations, ${this.#faults} faults; ` +
      `${this.#long} seeds of ${LONG_DURATION_MS / 60_000} simulated minutes, ${this.#twice} run twice`
    )
  }

  marksText(): string {
    const lines = Object.entries(this.marks.counts()).map(([name, count]) => {
      return `  ${String(count).padStart(7)}  ${name}`
    })
    return `coverage marks (at least ${MARK_FLOOR} each in CI):\n${lines.join('\n')}`
  }
}

function report(seed: number, { result, shortfall }: Outcome): void {
  const { failure } = result
  if (failure === undefined && shortfall === undefined) return
  const text = failure === undefined ? `seed ${seed}: ${shortfall}` : failure.message
  const lines = failure?.transcript.split('\n').slice(-LINES_SHOWN).join('\n') ?? ''
  process.stdout.write(`\nFAILED ${text}\n${lines}\nreplay: npm run simulate -- --seed ${seed}\n\n`)
}

/** One worker process: takes a seed, gives an outcome, takes the next. */
class SeedWorker {
  readonly #child: ChildProcess
  readonly #next: () => number | undefined
  readonly #done: (seed: number, outcome: Outcome | string) => void
  readonly ended: Promise<void>
  #seed: number | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(
    next: () => number | undefined,
    done: (seed: number, outcome: Outcome | string) => void,
  ) {
    this.#next = next
    this.#done = done
    this.#child = fork(fileURLToPath(import.meta.url), ['--worker'], { execArgv: WORKER_FLAGS })
    this.#child.on('message', (outcome: Outcome) => this.#finish(outcome))
    this.ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#finish(`the worker ended with ${signal ?? code}`, true)
        resolve()
      })
    })
    this.#begin()
  }

  stop(): void {
    this.#child.kill()
  }

  #begin(): void {
    this.#seed = this.#next()
    if (this.#seed === undefined) {
      this.#child.disconnect()
      return
    }
    this.#timer = setTimeout(() => this.#child.kill('SIGKILL'), SEED_TIMEOUT_MS)
    this.#child.send(this.#seed)
  }

  #finish(outcome: Outcome | string, ended = false): void {
    clearTimeout(this.#timer)
    const seed = this.#seed
    this.#seed = undefined
    if (seed !== undefined) this.#done(seed, outcome)
    if (!ended) this.#begin()
  }
}

async function runMany(seeds: Iterable<number>): Promise<Totals> {
  const totals = new Totals()
  const iterator = seeds[Symbol.iterator]()
  let stopping = false
  const next = (): number | undefined => {
    if (stopping) return undefined
    const { done, value } = iterator.next()
    return done === true ? undefined : value
  }
  const done = (seed: number, outcome: Outcome | string): void => {
    if (typeof outcome !== 'string') {
      totals.add(seed, outcome)
      report(seed, outcome)
    } else if (!stopping) {
      totals.failed++
      process.stdout.write(`\nFAILED seed ${seed}: ${outcome}\n`)
    }
  }
  const workers = Array.from({ length: WORKERS }, () => new SeedWorker(next, done))
  const stop = (): void => {
    stopping = true
    for (const worker of workers) worker.stop()
  }
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  const progress = setInterval(() => process.stdout.write(`${totals.progress}\n`), PROGRESS_MS)
  await Promise.all(workers.map(({ ended }) => ended))
  clearInterval(progress)
  process.stdout.write(`${totals.progress}\n${totals.counts}\n${totals.marksText()}\n`)
  return totals
}

/** A seed by itself, in this process, with everything there is to read. */
async function runOne(seed: number): Promise<boolean> {
  const outcome = await runSeed(seed)
  const { failure, marks, ...facts } = outcome.result
  process.stdout.write(`${JSON.stringify(facts)}\n`)
  const reached = Object.entries(marks).filter(([, count]) => count > 0)
  for (const [name, count] of reached) process.stdout.write(`  ${count}  ${name}\n`)
  if (failure !== undefined) process.stdout.write(`${failure.transcript}\n`)
  if (failure !== undefined) process.stdout.write(`\nFAILED ${failure.message}\n`)
  if (outcome.shortfall !== undefined) process.stdout.write(`\nFAILED: ${outcome.shortfall}\n`)
  return failure === undefined && outcome.shortfall === undefined
}

function work(): void {
  process.on('message', (seed: number) => {
    void runSeed(seed).then((outcome) => process.send?.(outcome))
  })
}

function* seedsFrom(first: number, last: number): Generator<number> {
  for (let seed = first; seed <= last; seed++) yield seed
}

/** Long seeds first: a late long one would keep one worker busy while the other has nothing to do. */
function ciSeeds(): readonly number[] {
  const all = [...seedsFrom(CI_SEEDS.first, CI_SEEDS.last)]
  return [...all.filter(isLong), ...all.filter((seed) => !isLong(seed))]
}

function failuresOfCi(totals: Totals): readonly string[] {
  const missing = totals.marks
    .missing()
    .map((name) => `reached fewer than ${MARK_FLOOR} times: ${name}`)
  const seeds = CI_SEEDS.last - CI_SEEDS.first + 1
  const ran = totals.passed + totals.failed
  return ran < seeds ? [...missing, `only ${ran} of ${seeds} seeds ran`] : missing
}

const OPTIONS = {
  seed: { type: 'string' },
  seeds: { type: 'string' },
  forever: { type: 'boolean' },
  ci: { type: 'boolean' },
  /** How this script starts its workers. */
  worker: { type: 'boolean' },
} as const

async function main({ values }: CommandLine<typeof OPTIONS>): Promise<number | undefined> {
  if (values.worker === true) {
    work()
    return undefined
  }
  if (values.seed !== undefined) {
    const passed = await runOne(numberFrom('seed', values.seed, { least: 0, whole: true }))
    process.stdout.write(passed ? '1 passed, 0 failed\n' : '0 passed, 1 failed\n')
    return passed ? 0 : 1
  }
  const range = /^(\d+)\.\.(\d+)$/.exec(values.seeds ?? '')
  if (range === null && values.forever !== true && values.ci !== true) {
    throw calledWrongly('say one of: --seed N, --seeds A..B, --forever, --ci')
  }
  const random = Math.floor(Math.random() * 2 ** 31)
  const forever = seedsFrom(random, Number.MAX_SAFE_INTEGER)
  const some = range === null ? forever : seedsFrom(Number(range[1]), Number(range[2]))
  const totals = await runMany(values.ci === true ? ciSeeds() : some)
  const failures = values.ci === true ? failuresOfCi(totals) : []
  for (const failure of failures) process.stdout.write(`FAILED ${failure}\n`)
  if (values.ci === true && totals.seconds > CI_SECONDS) {
    process.stdout.write(
      `slow: ${Math.round(totals.seconds)} s, meant are ${CI_SECONDS} s on 2 cores\n`,
    )
  }
  process.stdout.write(`${totals.passed} passed, ${totals.failed + failures.length} failed\n`)
  return totals.failed + failures.length === 0 ? 0 : 1
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
