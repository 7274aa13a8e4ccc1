/*
 * One peer as the leader sees it (etcd/raft's machine):
 *
 *           ack at or above match                  a rejected append, a broken link, a restart
 *   probe ------------------------> replicate ---------------------------------------------> probe
 *     |  one empty append at a time:     pipelined: `next` runs ahead of `match` inside a
 *     |  finds where the logs agree      window of messages and bytes
 *     '--> reverted: the peer rejects what it once acknowledged: its disk was lost or rolled back. It is sent no
 *          entries any more and counts for nothing; only an operator can mend that. A rejection that was merely
 *          late looks the same, so it is still probed once per heartbeat: an acknowledgement ends a false alarm,
 *          and a peer whose log is really gone can never give one.
 *
 *                        the entry at `next` is gone from the log
 *   probe | replicate ------------------------------------------> snapshot
 *     ^                                                              |  nothing is appended; the log is kept from
 *     '--------------------------------------------------------------'  the snapshot's index on (the pin)
 *       it was sent: probed just behind it, still pinned, until an acknowledgement shows that it is in place;
 *       it could not be sent: probed where the log begins, and a rejection asks for the next one
 *
 * So what became of a snapshot is known from the peer's log alone, however its sending ended.
 * Invariant: match < next; entries up to match are durable at the peer and equal to the leader's.
 */

import { assert } from './assert.ts'
import type { Index } from './types.ts'

export interface WindowLimits {
  readonly messages: number
  readonly bytes: number
}

export type ProgressState = 'probe' | 'replicate' | 'snapshot' | 'reverted'

export class Progress {
  #state: ProgressState = 'probe'
  #match: Index = 0
  #next: Index
  #probeSent = false
  readonly #limits: WindowLimits
  /** Appends on their way, oldest first. */
  #inFlight: { last: Index; bytes: number }[] = []
  #inFlightBytes = 0
  #matchAtLastHeartbeat: Index = 0
  /** In state snapshot: one is to be sent, and nobody was told yet. */
  #snapshotDue = false
  /** The log is kept from here on for a snapshot that is being sent or was delivered. */
  #pinned: Index | undefined
  /** The peer answered something in this term since the last check of the quorum. */
  active = false
  /** The commit index the peer was last told. */
  commitSent: Index = 0
  /** The highest read index the peer was given: it waits for a commit index at least as high. */
  readIndex: Index = 0

  constructor(next: Index, limits: WindowLimits) {
    assert(next > 0, () => `next must be positive, not ${next}`)
    this.#next = next
    this.#limits = limits
  }

  get state(): ProgressState {
    return this.#state
  }

  get match(): Index {
    return this.#match
  }

  /** What may be counted upon: nothing of a peer that lost what it acknowledged. */
  get reliable(): Index {
    return this.#state === 'reverted' ? 0 : this.#match
  }

  get next(): Index {
    return this.#next
  }

  get pinned(): Index | undefined {
    return this.#pinned
  }

  /** The log is needed from here on; Infinity: the peer needs a snapshot whatever is kept. */
  get needsFrom(): Index {
    if (this.#state === 'snapshot') return this.#pinned ?? Number.POSITIVE_INFINITY
    return Math.max(this.#match, this.#pinned ?? 0)
  }

  /** Whether an append may leave now: one probe at a time, or room in the window. */
  canSend(): boolean {
    if (this.#state === 'snapshot') return false
    if (this.#state !== 'replicate') return !this.#probeSent
    return this.#inFlight.length < this.#limits.messages && this.#inFlightBytes < this.#limits.bytes
  }

  sentProbe(): void {
    this.#probeSent = true
  }

  sentEntries(count: number, bytes: number): void {
    assert(this.#state === 'replicate', () => `entries sent in state ${this.#state}`)
    if (count === 0) return
    this.#next += count
    this.#inFlight.push({ last: this.#next - 1, bytes })
    this.#inFlightBytes += bytes
  }

  /**
   * The peer's log is durable and equal up to `match`; the leader's begins after `base`. Duplicates and late answers
   * change nothing.
   */
  acknowledged(match: Index, base: Index): void {
    if (match < this.#match) return
    this.#match = match
    if (this.#state !== 'replicate') {
      if (match >= base) {
        this.#enterProbe(match + 1)
        this.#state = 'replicate'
        this.#pinned = undefined
      } else if (this.#state === 'reverted') this.#enterProbe(base + 1)
      this.#next = Math.max(this.#next, match + 1)
      return
    }
    this.#next = Math.max(this.#next, match + 1)
    let done = 0
    for (const sent of this.#inFlight) {
      if (sent.last > match) break
      this.#inFlightBytes -= sent.bytes
      done++
    }
    if (done > 0) this.#inFlight.splice(0, done)
  }

  /**
   * The peer has no entry equal to the one at `prev`; `agree` is where the leader's log may agree with it, `last`
   * the end of the peer's log and `base` where the leader's log begins. Late rejections are told apart by `prev`.
   */
  rejected(prev: Index, agree: Index, last: Index, base: Index): void {
    if (this.#state === 'reverted') return
    if (this.#state === 'replicate') {
      // A log that ends below `match` is either an old message or a lost disk: the probe at `match` finds out.
      if (prev > this.#match || last < this.#match) this.toProbe()
      return
    }
    if (this.#state === 'snapshot' || prev !== this.#next - 1) return
    if (prev <= this.#match || last < this.#match) {
      // It refuses what it acknowledged. A snapshot would hide that its disk was lost, and let it vote again.
      this.#state = 'reverted'
      return
    }
    this.#next = Math.max(Math.min(prev, agree + 1), this.#match + 1)
    this.#probeSent = false
    this.compacted(base)
  }

  /** The leader's log begins after `base`: a peer that is behind it needs a snapshot. */
  compacted(base: Index): void {
    if (this.#state === 'snapshot') {
      // What is being sent could not be joined to the log any more.
      if ((this.#pinned ?? base) < base) this.#askForSnapshot()
    } else if (this.#next <= base) {
      if (this.#state === 'reverted') this.#next = base + 1
      else this.#askForSnapshot()
    }
  }

  /** True once for each snapshot that is to be sent. */
  takeSnapshotDue(): boolean {
    const due = this.#snapshotDue
    this.#snapshotDue = false
    return due
  }

  /** A state that stands at `index` or above is on its way. */
  snapshotBegun(index: Index): void {
    if (this.#state === 'snapshot') this.#pinned = index
  }

  /** The sending has ended; the leader's log begins after `base`. The peer's own log will tell what it has. */
  snapshotEnded(delivered: boolean, base: Index): void {
    if (this.#state !== 'snapshot') return
    const pinned = delivered ? this.#pinned : undefined
    this.#enterProbe(Math.max(this.#match, pinned ?? base) + 1)
    this.#pinned = pinned
    // Not at once: a peer that cannot be sent a snapshot now would be asked, and reject, without end.
    this.#probeSent = !delivered
    this.compacted(base)
  }

  #askForSnapshot(): void {
    this.#clearInFlight()
    this.#state = 'snapshot'
    this.#snapshotDue = true
    this.#pinned = undefined
  }

  #enterProbe(next: Index): void {
    this.#state = 'probe'
    this.#next = next
    this.#probeSent = false
  }

  /** Forget what was on its way: the link broke, the peer restarted, or an append was lost. */
  toProbe(): void {
    // A snapshot has a link of its own, and its sender hears itself when it cannot go on.
    if (this.#state === 'reverted' || this.#state === 'snapshot') return
    // While probing, `next` is the best guess there is.
    this.#enterProbe(this.#state === 'replicate' ? this.#match + 1 : this.#next)
    this.#clearInFlight()
  }

  /**
   * A heartbeat was answered: a lost probe is due again. True when appends are under way but none was
   * acknowledged since the last heartbeat: one may be lost, so an empty append behind them should find out.
   */
  heartbeatAnswered(): boolean {
    this.#probeSent = false
    const stalled =
      this.#state === 'replicate' &&
      this.#inFlight.length > 0 &&
      this.#match === this.#matchAtLastHeartbeat
    this.#matchAtLastHeartbeat = this.#match
    return stalled
  }

  #clearInFlight(): void {
    this.#inFlight = []
    this.#inFlightBytes = 0
  }
}
