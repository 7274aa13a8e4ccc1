/*
 * When faults happen: one after the other with quiet times between, of each kind equally often, and now and then two
 * at once. Whatever was begun is healed, also when something goes wrong on the way.
 */

import { lapse } from '../processes.ts'
import type { Interval } from './availability.ts'
import type { Fault, Nemesis } from './nemeses.ts'
import type { Recorder } from './recorder.ts'
import type { Testbed } from './testbed.ts'

/** After a heal: time to settle, then some of quiet service. */
const QUIET_MS = { least: 6500, most: 9000 }
const FIRST_FAULT_MS = 2000
/** Chance that a second fault begins while the first lasts, where that is possible. */
const TWO_AT_ONCE = 0.35
const WATCH_MS = 250

export interface TormentOptions {
  readonly testbed: Testbed
  readonly recorder: Recorder
  readonly nemeses: readonly Nemesis[]
  readonly random: () => number
  readonly minutes: number
  /** Called several times a second. */
  readonly watch: () => void
  readonly say: (line: string) => void
}

interface Active {
  readonly nemesis: Nemesis
  readonly fault: Fault
  readonly fromNs: number
  /** On the recorder's clock. */
  readonly dueNs: number
}

function byHeal(a: Active, b: Active): number {
  const last = Number(a.nemesis.healsLast ?? false) - Number(b.nemesis.healsLast ?? false)
  return last === 0 ? a.dueNs - b.dueNs : last
}

export class Torment {
  /** Those that are over. */
  readonly faults: Interval[] = []
  readonly #options: TormentOptions
  /** Names still to be used before all are used again. */
  #bag: Nemesis[] = []
  #active: Active[] = []

  constructor(options: TormentOptions) {
    this.#options = options
  }

  /** Until the time is over; everything is healed then. Throws when a node has ended by itself. */
  async run(): Promise<void> {
    const { recorder, random, minutes } = this.#options
    const endNs = recorder.now() + minutes * 60e9
    try {
      await this.#spend(FIRST_FAULT_MS)
      for (;;) {
        const quietMs = QUIET_MS.least + random() * (QUIET_MS.most - QUIET_MS.least)
        const lastHealNs = endNs - quietMs * 1e6
        // The last quiet time is part of the run: what follows the last fault must be served too.
        if (recorder.now() >= lastHealNs) break
        await this.#strike(lastHealNs)
        await this.#spend(quietMs)
      }
      await this.#spend((endNs - recorder.now()) / 1e6)
    } finally {
      for (const active of this.#active) await this.#heal(active)
    }
  }

  async #strike(lastHealNs: number): Promise<void> {
    const { recorder, random } = this.#options
    const first = this.#draw(() => true)
    const { dueNs } = await this.#begin(first, lastHealNs)
    if (random() < TWO_AT_ONCE) {
      await this.#spend((random() * (dueNs - recorder.now())) / 1e6)
      const second = this.#second(first)
      if (second !== undefined) await this.#begin(second, lastHealNs)
    }
    for (const active of this.#active.toSorted(byHeal)) {
      await this.#spend((active.dueNs - recorder.now()) / 1e6)
      await this.#heal(active)
    }
  }

  /** The nemesis whose turn it is, among those that fit. */
  #draw(fits: (nemesis: Nemesis) => boolean): Nemesis {
    const { nemeses, random } = this.#options
    if (!this.#bag.some(fits)) this.#bag = [...nemeses]
    const fitting = this.#bag.filter(fits)
    const drawn = fitting[Math.floor(random() * fitting.length)]
    if (drawn === undefined) throw new Error('no nemesis fits')
    this.#bag.splice(this.#bag.indexOf(drawn), 1)
    return drawn
  }

  /** Of two faults at once at least one leaves the processes alone. */
  #second(first: Nemesis): Nemesis | undefined {
    const fits = (nemesis: Nemesis): boolean =>
      nemesis !== first && (first.isBackground || nemesis.isBackground)
    return this.#options.nemeses.some(fits) ? this.#draw(fits) : undefined
  }

  async #begin(nemesis: Nemesis, lastHealNs: number): Promise<Active> {
    const { testbed, recorder, random, say } = this.#options
    const event = { process: 'nemesis', type: 'info', f: nemesis.name } as const
    const fromNs = recorder.record({ ...event, value: null })
    const fault = await nemesis.begin(testbed, random)
    const nowNs = recorder.record({ ...event, value: fault.what })
    const dueNs = Math.min(nowNs + fault.ms * 1e6, lastHealNs)
    const active = { nemesis, fault, fromNs, dueNs }
    this.#active.push(active)
    const seconds = Math.max(0, dueNs - nowNs) / 1e9
    say(`${(fromNs / 1e9).toFixed(1)} s: ${fault.what}, for ${seconds.toFixed(1)} s`)
    return active
  }

  async #heal(active: Active): Promise<void> {
    const { nemesis, fault, fromNs } = active
    this.#active = this.#active.filter((one) => one !== active)
    await fault.heal()
    const toNs = this.#options.recorder.record({
      process: 'nemesis',
      type: 'info',
      f: `heal-${nemesis.name}`,
      value: fault.what,
    })
    this.faults.push({ what: fault.what, fromMs: fromNs / 1e6, toMs: toNs / 1e6 })
  }

  async #spend(ms: number): Promise<void> {
    const { testbed, watch } = this.#options
    const until = performance.now() + ms
    while (performance.now() < until) {
      await lapse(Math.min(WATCH_MS, until - performance.now()))
      testbed.assertAlive()
      watch()
    }
  }
}
