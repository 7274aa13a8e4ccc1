/*
 * Keys whose time has come leave the state in the order of that time, some with every entry that brings a clock, alike
 * on every node. For all commands they are gone before. It knows no commands.
 */

import type { StateStore } from '../storage/state-store.ts'
import type { KeyspaceCounts } from './keyspace-counts.ts'

/** An entry removes no more of them, so that a million of them hold up nobody; the next one goes on. */
const REMOVED_PER_ENTRY = 256

export class DueRemoval {
  readonly #store: Pick<StateStore, 'nextExpiry' | 'dueKeys' | 'delete'>
  readonly #counts: KeyspaceCounts

  constructor(
    store: Pick<StateStore, 'nextExpiry' | 'dueKeys' | 'delete'>,
    counts: KeyspaceCounts,
  ) {
    this.#store = store
    this.#counts = counts
  }

  /** An entry brings this clock. */
  remove(now: number): void {
    const next = this.#store.nextExpiry()
    if (next === undefined || next > now) return
    for (const { database, key } of this.#store.dueKeys(now, REMOVED_PER_ENTRY)) {
      this.#store.delete(database, key)
      this.#counts.expired++
    }
  }
}
