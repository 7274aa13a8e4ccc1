/*
 * Cuts the power at many moments of one recording, recovers what is left each time, and has it judged. Every image
 * follows from the seed and its number; the moments are half anywhere, and half where a node makes or opens its
 * files or checkpoints, because little time passes there and much can go wrong.
 */

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Random } from '../../raft/ports.ts'
import { seededRandom } from '../sim/network.ts'
import { Disk, type Image, type Write } from './disk.ts'
import { acknowledged, type Due, dueAt, judge, type Memory, type Problem } from './judge.ts'
import { Recoverer } from './recoverer.ts'
import { LOCK_FILE } from './steps.ts'
import { survivalOf } from './survival.ts'
import { type Timeline, writeEntries } from './timeline.ts'

/** A creation is the opening of the first life, a reopening that of the last. */
export type Place = 'anywhere' | 'creation' | 'opening' | 'reopening' | 'checkpoint'

export const PLACES: readonly Place[] = [
  'anywhere',
  'opening',
  'checkpoint',
  'anywhere',
  'creation',
  'anywhere',
]

export interface CampaignOptions {
  readonly folder: string
  readonly timeline: Timeline
  readonly seed: number
  readonly images: number
  /** Where the power is cut, in turn, one image each. */
  readonly places: readonly Place[]
  /** Only this one, whatever `images` says. */
  readonly only?: number
  /** Keeps the images that fail. */
  readonly keep: boolean
  readonly progress: (done: number, failures: number) => void
}

export interface Failure {
  readonly image: number
  /** Counted from 0. */
  readonly life: number
  readonly problems: readonly Problem[]
  /** Everything that is needed to understand it. */
  readonly text: string
}

export interface Summary {
  readonly images: number
  /** Of these: with a write, a name or a size that was lost; cut in a life after a kill -9. */
  readonly withLosses: number
  readonly afterKill: number
  readonly dropped: number
  readonly torn: number
  readonly names: number
  /** What was looked for, all images together: acknowledged commands; votes, acknowledged entries, checkpoints. */
  readonly acknowledged: number
  readonly promised: number
  readonly failures: readonly Failure[]
}

/** Steps at the beginning of a life that count as its opening. */
const OPENING_STEPS = 160
/** Of these, the ones that make the files of both environments. */
const CREATION_STEPS = 64
/** Of these, the ones before which a next process has flushed little of what a killed one left. */
const REOPENING_STEPS = 24
const LISTED_MAX = 6

interface Plan {
  readonly image: number
  /** The image holds what the steps up to this one have done. */
  readonly step: number
}

export async function runCampaign(options: CampaignOptions): Promise<Summary> {
  const { timeline, only } = options
  const numbers = Array.from({ length: options.images }, (_, image) => image)
  const plans = (only === undefined ? numbers : [only])
    .map((image) => planOf(image, options))
    .sort((a, b) => a.step - b.step)
  const campaign = new Campaign(options)
  try {
    let next = 0
    for (const plan of plans) {
      for (; next <= plan.step; next++) timeline.steps[next]?.run(campaign.disk)
      await campaign.cut(plan)
    }
    return campaign.summary
  } finally {
    await campaign.close()
  }
}

function randomOf(seed: number, image: number): Random {
  return seededRandom(seed * 65_537 + image)
}

function planOf(image: number, { timeline, seed, places }: CampaignOptions): Plan {
  const random = randomOf(seed, image)
  const place = places[image % places.length] ?? 'anywhere'
  const candidates = candidatesAt(place, timeline, random)
  // Most of what can go wrong in an opening comes before its first flush.
  const draw = place === 'opening' || place === 'reopening' ? random() ** 2 : random()
  return { image, step: candidates[Math.floor(draw * candidates.length)] ?? 0 }
}

function candidatesAt(place: Place, { steps, lives }: Timeline, random: Random): readonly number[] {
  const all = steps.map((_, step) => step)
  const opening = (life: number, count: number): readonly number[] => {
    const from = lives[life]?.from ?? 0
    return all.filter((step) => (steps[step]?.at ?? 0) >= from).slice(0, count)
  }
  switch (place) {
    case 'anywhere':
      return all
    case 'creation':
      return opening(0, CREATION_STEPS)
    case 'opening':
      return opening(Math.floor(random() * lives.length), OPENING_STEPS)
    case 'reopening':
      return opening(lives.length - 1, REOPENING_STEPS)
    case 'checkpoint':
      return all.filter((step) => steps[step]?.path.includes('/state-') === true)
  }
}

class Campaign {
  readonly disk = new Disk()
  readonly #options: CampaignOptions
  readonly #recoverer = new Recoverer()
  readonly #memory: Memory = { digests: new Map(), votes: new Map() }
  readonly #failures: Failure[] = []
  readonly #sums = { images: 0, withLosses: 0, afterKill: 0, dropped: 0, torn: 0, names: 0 }
  #acknowledged = 0
  #promised = 0

  constructor(options: CampaignOptions) {
    this.#options = options
  }

  get summary(): Summary {
    return {
      ...this.#sums,
      acknowledged: this.#acknowledged,
      promised: this.#promised,
      failures: this.#failures,
    }
  }

  async cut({ image, step }: Plan): Promise<void> {
    const { folder, timeline, seed, keep } = this.#options
    // Another sequence than the one that drew the moment.
    const random = randomOf(~seed, image)
    const survival = survivalOf(random)
    const cut = this.disk.cut(survival)
    const life = this.#lifeOf(step)
    const directory = join(folder, `image-${image}`)
    // An earlier run may have kept it.
    rmSync(directory, { recursive: true, force: true })
    mkdirSync(directory)
    writeEntries(directory, this.#withLocks(cut, life, random))
    const outcome = await this.#recoverer.recover(join(directory, timeline.recording.node))
    const until = (timeline.steps[step + 1]?.at ?? Number.POSITIVE_INFINITY) - 1
    const due = dueAt(until, timeline.told, timeline.recording.clients)
    const problems = judge(outcome, due, timeline.reference, this.#memory)
    this.#count(cut, life, due)
    if (problems.length > 0) {
      const text = this.#describe({ image, step }, survival.way, cut, problems)
      this.#failures.push({ image, life, problems, text })
    }
    if (problems.length === 0 || !keep) rmSync(directory, { recursive: true, force: true })
    this.#options.progress(this.#sums.images, this.#failures.length)
  }

  close(): Promise<void> {
    return this.#recoverer.close()
  }

  #lifeOf(step: number): number {
    const at = this.#options.timeline.steps[step]?.at ?? 0
    return this.#options.timeline.lives.findLastIndex(({ from }) => from <= at)
  }

  /** LMDB's lock file is written through memory: it may be found as any life has left it, or all zeros. */
  #withLocks({ entries }: Image, life: number, random: Random): Image['entries'] {
    const files = this.#options.timeline.lives[life - (random() < 0.5 ? 1 : 0)]?.files
    const asLeft = random() < 0.5
    return entries.map((entry) => {
      const found = LOCK_FILE.test(entry.path) && asLeft ? files?.get(entry.path) : undefined
      return found === undefined ? entry : { path: entry.path, bytes: found }
    })
  }

  #count({ losses }: Image, life: number, due: Due): void {
    const { dropped, torn, names } = losses
    this.#sums.images++
    this.#sums.withLosses += dropped.length + torn.length + names.length > 0 ? 1 : 0
    this.#sums.afterKill += life > 0 ? 1 : 0
    this.#sums.dropped += dropped.length
    this.#sums.torn += torn.length
    this.#sums.names += names.length
    this.#acknowledged += acknowledged(due)
    this.#promised += due.votes.length + due.matches.length + (due.checkpoint > 0 ? 1 : 0)
  }

  #describe(
    { image, step }: Plan,
    way: string,
    { losses }: Image,
    problems: readonly Problem[],
  ): string {
    const { pending, dropped, torn, names } = losses
    const lines = [
      `image ${image}: the power went ${this.#place(this.#options.timeline.steps[step]?.at ?? 0)}`,
      ...problems.slice(0, LISTED_MAX).map(({ what, text }) => `  ${what}: ${text}`),
      `  of what was not flushed there survived: ${way} (${pending.length} writes)`,
      ...this.#writes('lost', dropped),
      ...this.#writes('torn', torn),
      ...(names.length === 0 ? [] : [`  lost names: ${names.join(', ')}`]),
    ]
    return lines.join('\n')
  }

  #writes(what: string, writes: readonly Write[]): readonly string[] {
    const lines = writes.slice(0, LISTED_MAX).map(({ path, offset, bytes, at }) => {
      return `  ${what}: ${bytes.length} bytes at ${offset} of ${path}, written ${this.#place(at)}`
    })
    const more = writes.length - lines.length
    return more > 0 ? [...lines, `  ${what}: ${more} more`] : lines
  }

  /** A moment as a line of a trace file. */
  #place(moment: number): string {
    const { lives, recording } = this.#options.timeline
    const life = lives.findLastIndex(({ from }) => from <= moment)
    const line = Math.floor((moment - (lives[life]?.from ?? 0)) / 2) + 1
    const side = moment % 2 === 0 ? 'when it began' : 'when it returned'
    return `at line ${line} of ${recording.lives[life]?.trace}, ${side}`
  }
}
