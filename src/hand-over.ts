/*
 * When a leader gives its office up by itself: because it is about to stop, or because its disk stays slow while
 * another's may not be. Once a tick it looks how long entries take to become durable. It knows no timer and no disk.
 */

import type { CoreStatus, TransferResult } from '../raft/core.ts'
import type { Index } from '../raft/types.ts'

/** A disk is slow when commits have taken so long together and none of them was quick: a busy moment passes. */
const SLOW_FOR_MS = 5_000
/** What a disk that is not slow writes at least: a commit of many bytes may take longer by them. */
const WRITTEN_BYTES_PER_MS = 16_384
/** Where all disks are slow, leadership would go round: it is handed over for that no more often than this. */
const SLOW_AGAIN_MS = 60_000

export interface HandOverPorts {
  now(): number
  /** undefined: this node does not lead. */
  led(): CoreStatus | undefined
  /** A turn has seen that another node leads: what this one had to say to it, or for it, is said. */
  otherLeads(): boolean
  /** Beyond so many ms a commit of few bytes is slow; 0: none is. */
  slowCommitMs(): number
  transferLeadership(): TransferResult
  readonly log: { warn(fields: Readonly<Record<string, unknown>>, text: string): void }
}

interface Leaving {
  readonly deadline: number
  readonly resolve: () => void
  /** Seen leading since. */
  hasLed: boolean
}

export class HandOver {
  readonly #ports: HandOverPorts
  #leaving: Leaving | undefined
  /** An entry that was not durable when it was first seen, when that was, and how long it may take. */
  #commit: { readonly index: Index; readonly since: number; readonly allowedMs: number } | undefined
  /** What commits took since the last one that was not slow. */
  #slowMs = 0
  #notBefore = 0

  constructor(ports: HandOverPorts) {
    this.#ports = ports
  }

  /**
   * Resolves when this node does not lead, and another does if this one did; when nobody could, or `ms` have passed.
   * One that only gave up its office may owe its successor a vote.
   */
  leave(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#leaving = { deadline: this.#ports.now() + ms, resolve, hasLed: false }
      this.work()
    })
  }

  /** Every tick. */
  work(): void {
    const status = this.#ports.led()
    if (this.#leaving !== undefined) this.#leave(this.#leaving, status)
    if (status !== undefined) this.#watchDisk(status)
    else {
      this.#commit = undefined
      this.#slowMs = 0
    }
  }

  #leave(leaving: Leaving, status: CoreStatus | undefined): void {
    const { now, otherLeads, transferLeadership } = this.#ports
    if (now() < leaving.deadline) {
      if (status !== undefined) {
        leaving.hasLed = true
        // Again and again: whoever was to lead may have died meanwhile.
        if (transferLeadership() !== 'no-target') return
      } else if (leaving.hasLed && !otherLeads()) return
    }
    this.#leaving = undefined
    leaving.resolve()
  }

  #watchDisk(status: CoreStatus): void {
    const now = this.#ports.now()
    const slowMs = this.#slowFor(status, now)
    if (slowMs < SLOW_FOR_MS || status.transferTo !== undefined || now < this.#notBefore) return
    this.#notBefore = now + SLOW_AGAIN_MS
    if (this.#ports.transferLeadership() !== 'begun') return
    const limit = this.#ports.slowCommitMs()
    const text = `no log commit took less than ${limit} ms for some seconds: handing over leadership`
    this.#ports.log.warn({ slowForMs: Math.round(slowMs) }, text)
  }

  /** How long slow commits have taken in a row, the one included that has not ended. */
  #slowFor({ durable, last, uncommittedBytes }: CoreStatus, now: number): number {
    const limit = this.#ports.slowCommitMs()
    if (limit === 0) {
      this.#commit = undefined
      this.#slowMs = 0
      return 0
    }
    if (this.#commit === undefined) {
      const allowedMs = limit + uncommittedBytes / WRITTEN_BYTES_PER_MS
      if (durable < last) this.#commit = { index: last, since: now, allowedMs }
      return 0
    }
    const { index, since, allowedMs } = this.#commit
    const tookMs = now - since
    const slow = tookMs > allowedMs
    if (durable < index) return slow ? this.#slowMs + tookMs : 0
    this.#commit = undefined
    this.#slowMs = slow ? this.#slowMs + tookMs : 0
    return this.#slowMs
  }
}
