/*
 * When a key falls due, an entry must say so before anybody may act on it. Entries of commands do, by the clock they
 * carry; here the leader decides when an entry that is nothing but a clock is needed, and every node remembers
 * what its leader told it of the time. It knows no raft, no timer and no store: its work is done once a turn.
 *
 * At most one clock entry is in flight. Without a read that waits, none follows another entry within IDLE_MS, so that
 * keys that fall due all the time cost ten small entries a second, and none at all while something is written.
 */

import type { Index, NodeId } from '../raft/types.ts'

/** A clock entry that nobody waits for keeps this distance, in ms, from the entry before it. */
const IDLE_MS = 100

export interface ExpiryClockPorts {
  /** Monotonic ms. */
  now(): number
  /** Whether this node leads and takes commands. */
  leads(): boolean
  /** Its logical clock as a leader, in ms. */
  logicalNow(): number
  appliedIndex(): Index
  /** The clock of what is applied here. */
  appliedClock(): number
  /** When the first of the keys is due that are there; undefined: never. */
  nextExpiry(): number | undefined
  /** Appends an entry that is nothing but a clock; undefined: not now, or entries wait that bring one. */
  propose(): Index | undefined
  /** Asks that member for an entry that brings at least `clock`; may be lost. */
  ask(leader: NodeId, clock: number): void
}

export class ExpiryClock {
  readonly #ports: ExpiryClockPorts
  #leader: NodeId | undefined
  /** The clock that the leader told last; 0: none yet. */
  #told = 0
  /** At the leader: a read, here or elsewhere, waits until this is applied. */
  #wanted = 0
  /** At the leader: the latest clock entry, and when anything was appended last. */
  #proposed: Index = 0
  #appendedAt = Number.NEGATIVE_INFINITY

  constructor(ports: ExpiryClockPorts) {
    this.#ports = ports
  }

  /** Who leads from now on: what was told and wanted before counts no longer. */
  follow(leader: NodeId | undefined): void {
    this.#leader = leader
    this.#told = 0
    this.#wanted = 0
    this.#proposed = 0
  }

  /** A member told its logical clock: that of the leader is kept. */
  toldBy(from: NodeId, clock: number): void {
    if (from === this.#leader) this.#told = Math.max(this.#told, clock)
  }

  /** The leader's time as far as this node knows it; never behind what is applied. */
  leaderNow(): number {
    const { leads, logicalNow, appliedClock } = this.#ports
    return Math.max(leads() ? logicalNow() : this.#told, appliedClock())
  }

  /** A read of this node waits until `clock` is applied. To be said again while it waits. */
  await(clock: number): void {
    if (this.#ports.leads()) this.want(clock)
    else if (this.#leader !== undefined) this.#ports.ask(this.#leader, clock)
  }

  /** At the leader: somebody waits for an entry that brings at least `clock`. */
  want(clock: number): void {
    this.#wanted = Math.max(this.#wanted, clock)
  }

  /** At the leader: an entry that brings a clock was appended. */
  appended(): void {
    this.#appendedAt = this.#ports.now()
  }

  /** Once a turn: proposes a clock entry where one is due. */
  work(): void {
    if (!this.#ports.leads() || this.#proposed > this.#ports.appliedIndex()) return
    if (this.#isDue()) this.#proposed = this.#ports.propose() ?? 0
  }

  #isDue(): boolean {
    const { now, logicalNow, appliedClock, nextExpiry } = this.#ports
    const logical = logicalNow()
    // Whoever wants a time that this leader has not reached heard it of another one, and will ask anew.
    if (this.#wanted > appliedClock() && this.#wanted <= logical) return true
    if (now() - this.#appendedAt < IDLE_MS) return false
    const next = nextExpiry()
    return next !== undefined && next <= logical
  }
}
