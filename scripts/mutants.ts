/*
 * `npm run mutants`: does the simulator find the bugs that it must find? Each mutant (test/sim/mutants.ts) has to die on
 * a seed that is clean without it, by an invariant that it is named for: a crash proves nothing.
 *
 *   (nothing)              what CI runs: the recorded seed of each, others where the code has changed since and that
 *                          seed does not do any more, and a few mutants, or as many as there is time for, on one
 *                          seed that nobody has chosen
 *   -- --search            finds the seeds anew and writes docs/mutants.md
 *   -- --only 8,x3         these mutants, alone or with --search
 *   -- --only 8 --seed 3   one run, with its transcript
 *
 * The last line is `N passed, M failed`.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import {
  type CommandLine,
  calledWrongly,
  exitOnSignals,
  numberFrom,
  runScript,
} from '../test/command-line.ts'
import { checkHistory } from '../test/linearizability/check.ts'
import { type Conviction, mutants, readTable, tableOf } from '../test/sim/mutants.ts'
import { Build, type Mutant } from '../test/sim/mutation.ts'
import { simulate } from '../test/sim/simulation.ts'

/** One more than the processors: one may be waiting for a seed to be run without a mutant. */
const WORKERS = 3
const SEEDS_IN_CI = 25
const SEEDS_IN_SEARCH = 200
const CI_SECONDS = 120
/** No mutant is run on a fresh seed later than this, but for a few. */
const FRESH_SECONDS = 110
const FRESH_LEAST = 2
/** A mutant may never come to an end by itself. */
const RUN_TIMEOUT_MS = 180_000
const LINES_SHOWN = 60
const OWN_FILE = fileURLToPath(import.meta.url)
const TABLE = fileURLToPath(new URL('../../docs/mutants.md', import.meta.url))

interface Order {
  readonly seed: number
  /** The checker of histories judges, and nothing else does. */
  readonly history: boolean
}

/** How a run ended. */
interface Ending {
  /** The name of what did not hold; undefined: nothing broke, or nothing that has a name. */
  readonly invariant: string | undefined
  readonly message: string | undefined
  readonly transcript: string
  readonly verdict: 'valid' | 'invalid' | 'unknown' | undefined
}

/** A process that simulates seeds, with or without a mutant, one after another. */
class Simulator {
  readonly #script: string
  #child: ChildProcess | undefined

  constructor(script: string) {
    this.#script = script
  }

  run(order: Order): Promise<Ending> {
    this.#child ??= this.#start()
    const child = this.#child
    return new Promise((resolve) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), RUN_TIMEOUT_MS)
      const settle = (ending: Ending): void => {
        clearTimeout(timer)
        child.removeAllListeners()
        resolve(ending)
      }
      child.once('message', settle)
      child.once('exit', (code, signal) => {
        this.#child = undefined
        settle(crashed(`the process ended: ${signal ?? code}`))
      })
      child.send(order)
    })
  }

  #start(): ChildProcess {
    return fork(this.#script, ['--worker'], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
  }

  stop(): void {
    this.#child?.kill('SIGKILL')
    this.#child = undefined
  }
}

function crashed(message: string): Ending {
  return { invariant: undefined, message, transcript: '', verdict: undefined }
}

/** What seeds come to without a mutant; each is run once. */
class CleanSeeds {
  readonly #simulator = new Simulator(OWN_FILE)
  readonly #known = new Map<string, Promise<boolean>>()
  /** The run that was asked for last: the simulator takes one at a time. */
  #last: Promise<unknown> = Promise.resolve()
  /** Seeds that broke without a mutant. */
  readonly broken: string[] = []

  isClean({ seed, history }: Order): Promise<boolean> {
    const key = `${seed}/${history}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const run = this.#last.then(() => this.#run({ seed, history }))
    this.#known.set(key, run)
    this.#last = run
    return run
  }

  async #run(order: Order): Promise<boolean> {
    const { message, verdict } = await this.#simulator.run(order)
    const isClean = message === undefined && verdict !== 'invalid'
    if (!isClean) this.broken.push(`seed ${order.seed}: ${message ?? 'its history is invalid'}`)
    return isClean
  }

  stop(): void {
    this.#simulator.stop()
  }
}

interface Trial {
  readonly mutant: Mutant
  readonly conviction: Conviction | undefined
  /** Why it was not convicted, and what was seen on the way. */
  readonly notes: readonly string[]
}

interface Plan {
  readonly clean: CleanSeeds
  readonly recorded: ReadonlyMap<string, Conviction>
  /** The most seeds that each mutant gets. */
  readonly seedsMax: number
}

/** Not those that end in 0: they take ten times as long (scripts/simulate.ts). */
function* shortSeeds(first: number): Generator<number> {
  for (let seed = first; ; seed++) if (seed % 10 !== 0) yield seed
}

function take(count: number, seeds: Iterable<number>): readonly number[] {
  const taken: number[] = []
  for (const seed of seeds) if (taken.push(seed) === count) break
  return taken
}

/** The recorded seed and then the first ones. */
function candidates(recorded: number | undefined, count: number): readonly number[] {
  const first = take(count, shortSeeds(1))
  if (recorded === undefined) return first
  return [recorded, ...first.filter((seed) => seed !== recorded)].slice(0, count)
}

function convicts({ invariants }: Mutant, { invariant }: Ending): boolean {
  return invariant !== undefined && invariants.includes(codeOf(invariant))
}

/** 'I7' of 'I7 commit is on a durable quorum'. */
function codeOf(invariant: string): string {
  return invariant.split(' ')[0] ?? ''
}

async function tryMutant(mutant: Mutant, plan: Plan): Promise<Trial> {
  try {
    return await simulating(mutant, (simulator) => new Court(mutant, simulator, plan).trial())
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return { mutant, conviction: undefined, notes: [why] }
  }
}

/** Throws when the mutant does not fit. */
async function simulating<T>(
  mutant: Mutant,
  act: (simulator: Simulator) => Promise<T>,
): Promise<T> {
  const build = new Build(mutant)
  const simulator = new Simulator(build.path('scripts/mutants.js'))
  try {
    return await act(simulator)
  } finally {
    simulator.stop()
    build.remove()
  }
}

/** Looks for what convicts one mutant. */
class Court {
  readonly #mutant: Mutant
  readonly #simulator: Simulator
  readonly #plan: Plan
  readonly #notes: string[] = []

  constructor(mutant: Mutant, simulator: Simulator, plan: Plan) {
    this.#mutant = mutant
    this.#simulator = simulator
    this.#plan = plan
  }

  async trial(): Promise<Trial> {
    const mutant = this.#mutant
    const recorded = this.#plan.recorded.get(mutant.id)
    let invariant = ''
    const seed = await this.#first('a run', false, recorded?.seed, (ending) => {
      invariant = codeOf(ending.invariant ?? '')
      return convicts(mutant, ending)
    })
    const historySeed =
      mutant.stale === true && seed !== undefined
        ? await this.#first('its history', true, recorded?.historySeed, ({ verdict, message }) => {
            return verdict === 'invalid' && message === undefined
          })
        : undefined
    const isDone = seed !== undefined && (mutant.stale !== true || historySeed !== undefined)
    if (!isDone) return { mutant, conviction: undefined, notes: this.#notes }
    return { mutant, conviction: { invariant, seed, historySeed }, notes: this.#notes }
  }

  /** The first seed whose ending convicts; undefined, with a note: there is none among so many. */
  async #first(
    what: string,
    history: boolean,
    recorded: number | undefined,
    isConvicted: (ending: Ending) => boolean,
  ): Promise<number | undefined> {
    const { seedsMax, clean } = this.#plan
    const others: string[] = []
    for (const seed of candidates(recorded, seedsMax)) {
      const ending = await this.#simulator.run({ seed, history })
      if (isConvicted(ending) && (await clean.isClean({ seed, history }))) {
        if (recorded !== undefined && seed !== recorded) {
          this.#notes.push(
            `${what} on seed ${recorded}, where it was caught once, convicts no more`,
          )
        }
        return seed
      }
      if (ending.message !== undefined) others.push(`${seed}: ${ending.message.split('\n')[0]}`)
    }
    this.#notes.push(`${what} on ${seedsMax} seeds does not convict it`)
    this.#notes.push(...others.slice(0, 3).map((other) => `seed ${other}`))
    return undefined
  }
}

function lineOf({ mutant, conviction, notes }: Trial): string {
  const { id, name, breaks } = mutant
  const head = `${id.padStart(4)}  ${name} (${breaks})`
  const outcome =
    conviction === undefined
      ? 'SURVIVES'
      : `${conviction.invariant} on seed ${conviction.seed}${
          conviction.historySeed === undefined
            ? ''
            : `, by its history on seed ${conviction.historySeed}`
        }`
  return `${head}\n      ${[outcome, ...notes].join('\n      ')}\n`
}

/** Each mutant in turn, as many at a time as there are workers. */
async function forEach(
  chosen: readonly Mutant[],
  act: (mutant: Mutant) => Promise<void>,
): Promise<void> {
  const waiting = [...chosen]
  const work = async (): Promise<void> => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      await act(mutant)
    }
  }
  await Promise.all(Array.from({ length: WORKERS }, work))
}

async function tryAll(chosen: readonly Mutant[], plan: Plan): Promise<readonly Trial[]> {
  const trials: Trial[] = []
  await forEach(chosen, async (mutant) => {
    const trial = await tryMutant(mutant, plan)
    trials.push(trial)
    process.stdout.write(lineOf(trial))
  })
  return trials
}

/**
 * A seed that nobody has chosen, which has to be clean without a mutant, and as many mutants on it as there is time
 * for, a few at least, drawn by lot: how many of them such a seed catches says how much the recorded ones were chosen.
 */
async function tryFresh(
  chosen: readonly Mutant[],
  clean: CleanSeeds,
  hasTime: () => boolean,
): Promise<void> {
  const [seed = 1] = take(1, shortSeeds(1000 + Math.floor(Math.random() * 2 ** 30)))
  const checked = clean.isClean({ seed, history: false })
  let tried = 0
  const caught: string[] = []
  const lots = chosen.map((mutant) => ({ mutant, lot: Math.random() }))
  const drawn = lots.sort((a, b) => a.lot - b.lot).map(({ mutant }) => mutant)
  await forEach(drawn, async (mutant) => {
    if (tried >= FRESH_LEAST && !hasTime()) return
    tried++
    const ending = await simulating(mutant, (simulator) => simulator.run({ seed, history: false }))
    if (convicts(mutant, ending)) caught.push(mutant.id)
  })
  await checked
  process.stdout.write(
    `seed ${seed}, chosen by nobody, catches ${caught.length} of ${tried}: ${caught.join(' ')}\n`,
  )
}

/** One run of one mutant, to be read. */
async function runOne(mutant: Mutant, seed: number): Promise<number> {
  const ending = await simulating(mutant, (simulator) => simulator.run({ seed, history: false }))
  const lines = ending.transcript.split('\n').slice(-LINES_SHOWN).join('\n')
  process.stdout.write(`${lines}\n\n${ending.message ?? 'nothing broke'}\n`)
  const isCaught = convicts(mutant, ending)
  process.stdout.write(isCaught ? '1 passed, 0 failed\n' : '0 passed, 1 failed\n')
  return isCaught ? 0 : 1
}

const OPTIONS = {
  search: { type: 'boolean', default: false },
  only: { type: 'string' },
  seed: { type: 'string' },
  /** How this script starts its simulators. */
  worker: { type: 'boolean' },
} as const

async function main({ values }: CommandLine<typeof OPTIONS>): Promise<number | undefined> {
  if (values.worker === true) {
    work()
    return undefined
  }
  process.once('exit', () => Build.removeAll())
  exitOnSignals()
  const only = values.only?.split(',')
  const unknown = only?.find((id) => mutants.every((mutant) => mutant.id !== id))
  if (unknown !== undefined) {
    const ids = mutants.map(({ id }) => id).join(', ')
    throw calledWrongly(`no mutant is called '${unknown}'; there are ${ids}`)
  }
  const chosen = mutants.filter(({ id }) => only?.includes(id) ?? true)
  const [first] = chosen
  if (values.seed !== undefined && first !== undefined) {
    return await runOne(first, numberFrom('seed', values.seed, { least: 0, whole: true }))
  }

  const startedAt = performance.now()
  const seconds = (): number => (performance.now() - startedAt) / 1000
  const recorded = existsSync(TABLE) ? readTable(readFileSync(TABLE, 'utf8')) : new Map()
  const clean = new CleanSeeds()
  const trials = await tryAll(chosen, {
    clean,
    recorded: values.search ? new Map() : recorded,
    seedsMax: values.search ? SEEDS_IN_SEARCH : SEEDS_IN_CI,
  })
  const caught = trials.filter(({ conviction }) => conviction !== undefined)
  if (values.search) {
    const found = caught.map(({ mutant, conviction }) => [mutant.id, conviction] as const)
    const others = only === undefined ? [] : recorded
    writeFileSync(TABLE, tableOf(new Map([...others, ...found])))
  }
  if (!values.search) await tryFresh(chosen, clean, () => seconds() < FRESH_SECONDS)
  clean.stop()
  for (const broken of clean.broken) process.stdout.write(`FAILED without a mutant: ${broken}\n`)
  process.stdout.write(`${Math.round(seconds())} s, meant are ${CI_SECONDS} s on 2 cores\n`)
  const failed = trials.length - caught.length + clean.broken.length
  process.stdout.write(`${caught.length} passed, ${failed} failed\n`)
  return failed === 0 ? 0 : 1
}

function work(): void {
  process.on('message', ({ seed, history }: Order) => {
    void simulate({ seed, long: false, history }).then((result) => {
      const { failure } = result
      const verdict = history ? checkHistory(result.history).outcome : undefined
      const { invariant, message, transcript = '' } = failure ?? {}
      process.send?.({ invariant, message, transcript, verdict })
    })
  })
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
