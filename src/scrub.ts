/*
 * Has the state read through, slowly and without end, so that a record that the disk has changed is found while the
 * other copies of it are still sound, and not when somebody asks for it. It decides only when the next piece is read;
 * what is damaged it tells once, and goes on with nothing.
 */

import { CorruptStateError } from '../storage/record.ts'
import type { ScrubPosition } from '../storage/scrub.ts'
import type { StateStore } from '../storage/state-store.ts'
import { type Config, limits } from './config.ts'
import type { Clock } from './network.ts'

/** At this number of pieces in a second the pace is kept, where their size allows. */
const STEPS_PER_SECOND = 20

export interface ScrubOptions {
  readonly config: Config
  readonly clock: Clock
  readonly state: Pick<StateStore, 'scrub'>
  /** In words for an operator. Called at most once. */
  readonly damaged: (what: string) => void
}

export class Scrub {
  readonly #options: ScrubOptions
  #position: ScrubPosition | undefined
  /** Rises when the state becomes another one: what was asked of the one before counts no longer. */
  #generation = 0
  #reading = false
  #isOver = false
  #notBefore = Number.NEGATIVE_INFINITY
  #passes = 0

  constructor(options: ScrubOptions) {
    this.#options = options
  }

  /** How often the whole state was read since the start. */
  get passes(): number {
    return this.#passes
  }

  /** The state is another one: the pass begins anew. */
  replaced(): void {
    this.#position = undefined
    this.#generation++
  }

  /** Every tick. */
  work(): void {
    const { config, clock } = this.#options
    const bytesPerSecond = config.get('scrub-bytes-per-second')
    const now = clock.monotonic()
    if (bytesPerSecond === 0 || this.#reading || this.#isOver || now < this.#notBefore) return
    this.#reading = true
    void this.#read(now, bytesPerSecond)
  }

  /** A rejection that is not about a record is fatal to the process, and nobody catches it here. */
  async #read(startedAt: number, bytesPerSecond: number): Promise<void> {
    const generation = this.#generation
    try {
      const { next, bytes } = await this.#options.state.scrub(
        this.#position,
        stepBytes(bytesPerSecond),
      )
      const pauseMs = next === undefined ? limits.scrubPauseMs : 0
      this.#notBefore = startedAt + Math.max(pauseMs, (1000 * bytes) / bytesPerSecond)
      if (generation === this.#generation) {
        this.#position = next
        if (next === undefined) this.#passes++
      }
    } catch (error) {
      if (!(error instanceof CorruptStateError)) throw error
      if (generation === this.#generation) {
        this.#isOver = true
        this.#options.damaged(error.what)
      }
    } finally {
      this.#reading = false
    }
  }
}

/** Small pieces hold up a checkpoint for a moment only; at a high pace they would be too many for the ticks. */
function stepBytes(bytesPerSecond: number): number {
  const { min, max } = limits.scrubStepBytes
  return Math.min(max, Math.max(min, Math.floor(bytesPerSecond / STEPS_PER_SECOND)))
}
