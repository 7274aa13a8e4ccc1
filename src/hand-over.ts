/*
 * When a leader gives its office up by itself: because it is about to stop, or because its disk stays slow while
 * another's may not be. Once a tick it looks how long entries take to become durable. It knows no timer and no disk.
 */

import type { CoreStatus, TransferResult } from '../raft/core.ts'
import type { Index } from '../raft/types.ts'

/** A disk is slow when no commit was quick for so long: one that is busy for a moment passes. */
const SLOW_FOR_MS = 5_000
/** Where all disks are slow, leadership would go round: it is handed over for that no more often than this. */
const SLOW_AGAIN_MS = 60_000

export interface HandOverPorts {
  now(): number
  /** undefined: this node does not lead. */
  led(): CoreStatus | undefined
  /** Beyond so many ms a commit is slow; 0: none is. */
  slowCommitMs(): number
  transferLeadership(): TransferResult
  readonly log: { warn(fields: Readonly<Record<string, unknown>>, text: string): void }
}

export class HandOver {
  readonly #ports: HandOverPorts
  #leaving: { readonly deadline: number; readonly resolve: () => void } | undefined
  /** An entry that was not durable when it was first seen, and when that was. */
  #commit: { readonly index: Index; readonly since: number } | undefined
  #slowSince: number | undefined
  #notBefore = 0

  constructor(ports: HandOverPorts) {
    this.#ports = ports
  }

  /** Resolves when another node leads, nobody could, or `ms` have passed. */
  leave(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#leaving = { deadline: this.#ports.now() + ms, resolve }
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
      this.#slowSince = undefined
    }
  }

  #leave(leaving: { deadline: number; resolve: () => void }, status: CoreStatus | undefined): void {
    const { now, transferLeadership } = this.#ports
    const gone = status === undefined || now() >= leaving.deadline
    // Again and again: whoever was to lead may have died meanwhile.
    const waits = !gone && transferLeadership() !== 'no-target'
    if (waits) return
    this.#leaving = undefined
    leaving.resolve()
  }

  #watchDisk({ durable, last, transferTo }: CoreStatus): void {
    const now = this.#ports.now()
    const limit = this.#ports.slowCommitMs()
    const waited = this.#waited(durable, last, now)
    if (limit === 0 || (waited?.done === true && waited.ms <= limit)) {
      this.#slowSince = undefined
    } else if (waited !== undefined && waited.ms > limit) this.#slowSince ??= now - waited.ms
    const slow = this.#slowSince !== undefined && now - this.#slowSince >= SLOW_FOR_MS
    if (!slow || transferTo !== undefined || now < this.#notBefore) return
    this.#notBefore = now + SLOW_AGAIN_MS
    const result = this.#ports.transferLeadership()
    if (result !== 'begun') return
    const text = `no log commit took less than ${limit} ms for some seconds: handing over leadership`
    this.#ports.log.warn({ slowForMs: Math.round(now - (this.#slowSince ?? now)) }, text)
  }

  /** How long an entry has taken to become durable, or has waited so far; undefined: none waits. */
  #waited(
    durable: Index,
    last: Index,
    now: number,
  ): { readonly ms: number; readonly done: boolean } | undefined {
    const commit = this.#commit
    if (commit === undefined) {
      if (durable < last) this.#commit = { index: last, since: now }
      return undefined
    }
    const done = durable >= commit.index
    if (done) this.#commit = undefined
    return { ms: now - commit.since, done }
  }
}
