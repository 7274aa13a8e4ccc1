/*
 * ReadIndex rounds of a leader (thesis 6.4): a read is linearizable at the commit index that stood when its round
 * began, once a majority has confirmed AFTER that moment that the leader still leads. At most one round is in
 * flight and one collecting; every round has a number of its own, so a late answer can never confirm a newer read.
 */

import { assert } from './assert.ts'
import type { Index, NodeId, ReadId } from './types.ts'

/** Reads that may wait for a round, and reads that a node may have asked its leader for. */
export const READS_MAX = 10_000

/** A read and the node that asked for it. */
export interface PendingRead {
  readonly from: NodeId
  readonly id: ReadId
}

interface Round {
  readonly index: Index
  readonly reads: readonly PendingRead[]
  readonly confirmed: Set<NodeId>
}

export class ReadRounds {
  #number = 0
  #collecting: PendingRead[] = []
  #inFlight: Round | undefined

  /** The number of the latest round; 0 before the first. */
  get round(): number {
    return this.#number
  }

  get canBegin(): boolean {
    return this.#inFlight === undefined && this.#collecting.length > 0
  }

  /** False when too many wait already: without a commit in its term a leader answers none of them. */
  add(read: PendingRead): boolean {
    if (this.#collecting.length >= READS_MAX) return false
    this.#collecting.push(read)
    return true
  }

  /** Every read collected so far gets `index`, the commit index of this moment. `self` confirms by itself. */
  begin(index: Index, self: NodeId): void {
    assert(this.canBegin, () => 'a read round is in flight, or there is nothing to read')
    this.#number++
    this.#inFlight = { index, reads: this.#collecting, confirmed: new Set([self]) }
    this.#collecting = []
  }

  /** A heartbeat of `round` was answered by `from`. */
  confirm(from: NodeId, round: number): void {
    if (round === this.#number) this.#inFlight?.confirmed.add(from)
  }

  /** The round in flight, once `isQuorum` holds for those that confirmed it. */
  finish(
    isQuorum: (confirmed: ReadonlySet<NodeId>) => boolean,
  ): { readonly index: Index; readonly reads: readonly PendingRead[] } | undefined {
    const round = this.#inFlight
    if (round === undefined || !isQuorum(round.confirmed)) return undefined
    this.#inFlight = undefined
    return round
  }

  /** Every read that has not been answered, when leadership is lost. */
  abandon(): readonly PendingRead[] {
    const all = [...(this.#inFlight?.reads ?? []), ...this.#collecting]
    this.#inFlight = undefined
    this.#collecting = []
    return all
  }
}
