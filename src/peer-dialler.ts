/*
 * Keeps one outgoing link alive: dials, and after an end dials again, slower each time up to a bound, until
 * stopped. It must not know what the link is for or why it ended; peers.ts decides that.
 */

import type { Random } from '../raft/ports.ts'
import type { Cancel, Timers } from './network.ts'
import type { PeerLink } from './peer-link.ts'

/** The first pause; it doubles with every attempt in a row that failed. */
const BACKOFF_MS_MIN = 50
const BACKOFF_MS_MAX = 1_000

export interface DiallerOptions {
  readonly timers: Timers
  /** Spreads the pauses, so that the nodes do not dial in step. */
  readonly random: Random
  /** Makes a link and starts it; its end is told by ended(). */
  readonly dial: () => PeerLink
}

export class Dialler {
  readonly #options: DiallerOptions
  #link: PeerLink | undefined
  #failures = 0
  #retry: Cancel | undefined
  #stopped = false

  constructor(options: DiallerOptions) {
    this.#options = options
  }

  /** The link once it may carry messages. */
  get established(): PeerLink | undefined {
    return this.#link?.isEstablished ? this.#link : undefined
  }

  /** The link in whatever state it is. */
  get link(): PeerLink | undefined {
    return this.#link
  }

  start(): void {
    if (this.#stopped) return
    this.#retry = undefined
    this.#link = this.#options.dial()
  }

  /** The other side showed signs of life: do not sit out a long pause. */
  wake(): void {
    if (this.#retry === undefined || this.#failures <= 1) return
    this.#retry()
    this.#failures = 0
    this.#pause()
  }

  /** Called at a steady pace. Only a link that was still there then ends the row of failures. */
  sweep(): void {
    if (this.established !== undefined) this.#failures = 0
    this.#link?.sweep()
  }

  /** `link` has ended. False when it was not the current one. */
  ended(link: PeerLink): boolean {
    if (link !== this.#link) return false
    this.#link = undefined
    if (!this.#stopped) this.#pause()
    return true
  }

  stop(text: string): void {
    this.#stopped = true
    this.#retry?.()
    this.#retry = undefined
    this.#link?.close(text)
  }

  #pause(): void {
    const longest = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.#failures)
    this.#failures++
    const ms = longest * (0.5 + this.#options.random() / 2)
    this.#retry = this.#options.timers.after(ms, () => this.start())
  }
}
