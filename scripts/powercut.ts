/*
 * `npm run powercut`: cuts the power of a real node at many moments and looks at what it recovers to. The system calls
 * of a running server are recorded, every disk that a power cut could have left is rebuilt from them, and each is
 * opened by the production recovery. At the end it breaks the server on purpose, to prove that it would notice.
 * How a disk, a recording or a judgement works is in test/powercut/.
 *
 *   -- --images 300 --seconds 4    how many disks, from how long a recording
 *   -- --seed 1                    which of them
 *   -- --keep                      leaves the recording, and says how to judge it again:
 *   -- --replay FOLDER --image 7   from a recording that was kept, one disk alone
 */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CommandLine, exitOnSignals, numberFrom, runScript } from '../test/command-line.ts'
import type { Cluster } from '../test/e2e/cluster.ts'
import { PLACES, type Place, runCampaign, type Summary } from '../test/powercut/campaign.ts'
import { FAULTS, type Fault } from '../test/powercut/faults.ts'
import { recordMember } from '../test/powercut/member-recording.ts'
import { type RecordOptions, readRecording, recordNode } from '../test/powercut/recording.ts'
import { readTimeline, type Timeline } from '../test/powercut/timeline.ts'
import { requireTool } from '../test/tools.ts'

interface Plan {
  readonly images: number
  readonly seed: number
  readonly seconds: number
  readonly keep: boolean
  /** A recording that was kept: judged again instead of recording anew. */
  readonly replay: string | undefined
  readonly image: number | undefined
}

/** A server broken in one way, and the lives in which it must be noticed. */
interface Control {
  readonly fault: Fault
  readonly lives: RecordOptions['lives']
  readonly places: readonly Place[]
}

const CONTROLS: readonly Control[] = [
  {
    fault: 'early-acknowledgement',
    lives: ['early-acknowledgement'],
    places: ['anywhere'],
  },
  {
    fault: 'directories-not-synced',
    lives: ['directories-not-synced'],
    places: ['anywhere'],
  },
  {
    // What a killed process has not flushed stays lost when the power goes after a sound one has opened the files.
    fault: 'no-sync',
    lives: ['no-sync', undefined],
    places: ['anywhere', 'reopening'],
  },
]
const CONTROL_SECONDS = 1
const CONTROL_IMAGES = 18
/** Of the images, those of a node alone; the others are of a member of three. */
const NODE_SHARE = 2 / 3
/** Load, kill -9, load, kill -9, load, stop. */
const NODE_LIVES = [undefined, undefined, undefined]
/** Less than this is looked for: then the run proves nothing. */
const ACKNOWLEDGED_MIN = 100
const PROMISED_MIN = 20
const PROGRESS_MS = 2000
const FAILURES_SHOWN = 5
const SEED_MAX = 1_000_000
const IMAGES_MAX = 100_000
const SECONDS_MAX = 60

let running: Cluster | undefined

const OPTIONS = {
  images: { type: 'string', default: '300' },
  seed: { type: 'string', default: String(1 + Math.floor(Math.random() * SEED_MAX)) },
  seconds: { type: 'string', default: '4' },
  keep: { type: 'boolean', default: false },
  replay: { type: 'string' },
  image: { type: 'string' },
} as const

function planOf({ values }: CommandLine<typeof OPTIONS>): Plan {
  const { images, seed, seconds, keep, replay, image } = values
  const whole = (name: string, text: string, least: number, most: number): number =>
    numberFrom(name, text, { least, most, whole: true })
  return {
    images: whole('images', images, 1, IMAGES_MAX),
    seed: whole('seed', seed, 1, SEED_MAX),
    seconds: whole('seconds', seconds, 1, SECONDS_MAX),
    keep,
    replay,
    image: image === undefined ? undefined : whole('image', image, 0, IMAGES_MAX),
  }
}

async function main(line: CommandLine<typeof OPTIONS>): Promise<number> {
  const plan = planOf(line)
  const strace = requireTool('strace')
  if (strace === undefined) {
    say('NOT RUN: strace is missing, so no system call can be recorded')
    return 0
  }
  if (plan.replay !== undefined) {
    const failed = await judged(plan, plan.replay, 'the recording', plan.images)
    return failed ? 1 : 0
  }
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-powercut-'))
  // The nodes' own directories too, so that one removal leaves nothing behind.
  process.env.TMPDIR = folder
  process.once('exit', () => {
    running?.kill()
    if (!plan.keep) rmSync(folder, { recursive: true, force: true, maxRetries: 10 })
  })
  exitOnSignals()
  const failed = await run(plan, folder)
  if (plan.keep) {
    const again = `--replay ${join(folder, 'node')} --seed ${plan.seed} --image N --keep`
    say(`kept: ${folder}; one image again: npm run powercut -- ${again}`)
  } else if (failed) {
    // Timing makes every recording another one, so a seed alone does not bring an image back.
    say('--keep keeps the recordings and the images that fail, to judge them again')
  }
  return failed ? 1 : 0
}

/** Whether anything failed. */
async function run(plan: Plan, folder: string): Promise<boolean> {
  say(`power cuts: ${plan.images} images, seed ${plan.seed}`)
  const ofNode = Math.max(1, Math.round(plan.images * NODE_SHARE))
  const node = place(folder, 'node')
  await recordNode(recordOptions(plan, node, NODE_LIVES))
  let failed = await judged(plan, node, 'a node alone', ofNode)
  if (plan.images > ofNode) {
    const member = place(folder, 'member')
    await recordMember(recordOptions(plan, member, []))
    failed = (await judged(plan, member, 'a member of three', plan.images - ofNode)) || failed
  }
  for (const control of CONTROLS) failed = !(await isCaught(plan, folder, control)) || failed
  say(failed ? 'FAILED' : 'passed')
  return failed
}

function place(folder: string, name: string): string {
  const path = join(folder, name)
  mkdirSync(path)
  return path
}

function recordOptions(
  { seed, seconds }: Plan,
  folder: string,
  lives: RecordOptions['lives'],
): RecordOptions {
  return {
    folder,
    seed,
    seconds,
    lives,
    prepared: (cluster) => {
      running = cluster
    },
  }
}

/** Judges a recording and tells what came out; whether anything failed. */
async function judged(plan: Plan, folder: string, what: string, images: number): Promise<boolean> {
  const timeline = await readTimeline(folder, readRecording(folder))
  const { image, keep, seed } = plan
  say(`${what}: ${describe(timeline)}`)
  const summary = await runCampaign({
    ...{ folder, timeline, seed, images, keep, places: PLACES },
    ...(image === undefined ? {} : { only: image }),
    progress: progressOf(what, images),
  })
  const { failures } = summary
  for (const { text } of failures.slice(0, FAILURES_SHOWN)) say(text)
  if (failures.length > FAILURES_SHOWN) say(`${failures.length - FAILURES_SHOWN} more images fail`)
  say(`${what}: ${totals(summary)}`)
  const weak = summary.acknowledged < ACKNOWLEDGED_MIN && summary.promised < PROMISED_MIN
  if (weak && image === undefined) say(`${what}: too little was promised for this to prove much`)
  return failures.length > 0 || (weak && image === undefined)
}

async function isCaught(plan: Plan, parent: string, control: Control): Promise<boolean> {
  const { fault, lives, places } = control
  const folder = place(parent, fault)
  const shorter = { ...plan, seconds: CONTROL_SECONDS }
  await recordNode(recordOptions(shorter, folder, lives))
  const timeline = await readTimeline(folder, readRecording(folder))
  const { seed } = plan
  const { failures } = await runCampaign({
    ...{ folder, timeline, seed, places, images: CONTROL_IMAGES, keep: false },
    progress: () => {},
  })
  const kinds = new Set(failures.flatMap(({ problems }) => problems.map(({ what }) => what)))
  const missed = lives.findIndex((_, life) => !failures.some((failure) => failure.life === life))
  const found = `${failures.length} of ${CONTROL_IMAGES} images fail (${[...kinds].join(', ')})`
  const caught = missed === -1
  say(
    caught
      ? `control caught: ${fault}, ${FAULTS[fault]}: ${found}`
      : `control MISSED: ${fault}, ${FAULTS[fault]}: ${found}, none in life ${missed + 1}`,
  )
  return caught
}

function describe({ recording, steps, reference, told, lives }: Timeline): string {
  const answered = recording.clients.reduce((sum, client) => sum + client.answered, 0)
  const checkpoints = told.filter(({ type }) => type === 'checkpoint').length
  const votes = told.filter(({ type }) => type === 'vote').length
  const matches = told.filter(({ type }) => type === 'match').length
  return [
    `${lives.length} lives`,
    `${steps.length} steps on its disk`,
    `${reference.lastIndex} entries`,
    `${checkpoints} checkpoints`,
    recording.clients.length > 0
      ? `${answered} commands acknowledged`
      : `${votes} votes and ${matches} acknowledged appends`,
  ].join(', ')
}

function totals(summary: Summary): string {
  const { images, failures, withLosses, afterKill, dropped, torn, names } = summary
  const { acknowledged, promised } = summary
  return [
    `${images} images (${withLosses} with losses, ${afterKill} after a kill -9)`,
    `${dropped} writes lost, ${torn} torn, ${names} names lost`,
    `${acknowledged} acknowledged commands and ${promised} other promises looked for`,
    `${failures.length} images fail`,
  ].join('; ')
}

function progressOf(what: string, images: number): (done: number, failures: number) => void {
  let last = performance.now()
  return (done, failures) => {
    if (performance.now() - last < PROGRESS_MS) return
    last = performance.now()
    say(`${what}: ${done} of ${images} images, ${failures} fail`)
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
