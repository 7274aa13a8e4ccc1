/*
 * LogCache: the newest entries in memory, in front of any LogStore, so that replication and applying do not read
 * back what was just written. A ring by index: a slot answers only for the index that it holds, so a stale slot can
 * never be mistaken for another entry. It is filled after the store has succeeded, never before, and keeps nothing
 * of its own: base, last index and terms are the store's.
 */

import { assert } from '../raft/assert.ts'
import {
  type Entry,
  entryBytes,
  type HardState,
  type Index,
  type Position,
  type Term,
} from '../raft/types.ts'
import type { StateSwitch, SwitchingLog } from './log-store.ts'

export interface LogCacheLimits {
  readonly entries: number
  /** The newest entry is kept even when it alone is larger. */
  readonly bytes: number
}

export interface LogCacheMetrics {
  /** Entries served from memory, and those that the store had to read. */
  readonly hits: number
  readonly misses: number
  readonly entries: number
  readonly bytes: number
}

export class LogCache implements SwitchingLog {
  readonly #store: SwitchingLog
  readonly #limits: LogCacheLimits
  readonly #slots: (Entry | undefined)[]
  /** The cached entries are exactly those of [#first, #end); empty when they are equal. */
  #first: Index
  #end: Index
  #bytes = 0
  #hits = 0
  #misses = 0

  constructor(store: SwitchingLog, limits: LogCacheLimits) {
    assert(limits.entries > 0, () => `a cache of ${limits.entries} entries`)
    this.#store = store
    this.#limits = limits
    this.#slots = new Array<Entry | undefined>(limits.entries).fill(undefined)
    this.#first = store.lastIndex() + 1
    this.#end = this.#first
  }

  base(): Position {
    return this.#store.base()
  }

  lastIndex(): Index {
    return this.#store.lastIndex()
  }

  term(index: Index): Term | undefined {
    return this.#store.term(index)
  }

  entries(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    assert(from > this.base().index && to < this.#end + 1, () => {
      return `entries ${from} to ${to} of a log from ${this.base().index} to ${this.#end - 1}`
    })
    const entries: Entry[] = []
    let bytes = 0
    const stored = Math.min(to, this.#first)
    if (from < stored) {
      entries.push(...this.#store.entries(from, stored, maxBytes))
      this.#misses += entries.length
      for (const entry of entries) bytes += entryBytes(entry)
      if (from + entries.length < stored) return entries
    }
    for (let index = from + entries.length; index < to; index++) {
      if (entries.length > 0 && bytes > maxBytes) break
      const entry = this.#slots[index % this.#limits.entries]
      assert(entry?.index === index, () => `slot of ${index} holds ${entry?.index}`)
      entries.push(entry)
      bytes += entryBytes(entry)
      this.#hits++
    }
    return entries
  }

  async persist(batch: {
    hardState: HardState | undefined
    entries: readonly Entry[]
  }): Promise<void> {
    await this.#store.persist(batch)
    const [first] = batch.entries
    if (first !== undefined) this.#cut(first.index)
    for (const entry of batch.entries) this.#append(entry)
  }

  async compact(upTo: Index): Promise<void> {
    await this.#store.compact(upTo)
    while (this.#first < this.#end && this.#first <= upTo) this.#dropFirst()
  }

  async switchState(to: StateSwitch): Promise<void> {
    await this.#store.switchState(to)
    // Where the log was dropped nothing of it may be offered any more, and the next entry comes after the new base.
    const dropped = this.lastIndex() === this.base().index
    if (dropped) this.#cut(this.#first)
    if (dropped) this.#first = this.#end = this.lastIndex() + 1
  }

  metrics(): LogCacheMetrics {
    return {
      hits: this.#hits,
      misses: this.#misses,
      entries: this.#end - this.#first,
      bytes: this.#bytes,
    }
  }

  #append(entry: Entry): void {
    assert(entry.index === this.#end, () => `entry ${entry.index} after ${this.#end - 1}`)
    if (this.#end - this.#first === this.#limits.entries) this.#dropFirst()
    this.#slots[entry.index % this.#limits.entries] = entry
    this.#bytes += memoryOf(entry)
    this.#end++
    // The newest entry stays whatever its size: it is about to be applied, and reading a large one back from the
    // disk would hold up the loop for longer than anything else that is done with it.
    while (this.#bytes > this.#limits.bytes && this.#end - this.#first > 1) this.#dropFirst()
  }

  /** Drops the suffix from `index` on. */
  #cut(index: Index): void {
    for (let last = this.#end - 1; last >= Math.max(index, this.#first); last--) this.#drop(last)
    this.#end = index
    this.#first = Math.min(this.#first, index)
  }

  #dropFirst(): void {
    this.#drop(this.#first)
    this.#first++
  }

  #drop(index: Index): void {
    const slot = index % this.#limits.entries
    const entry = this.#slots[slot]
    assert(entry?.index === index, () => `slot of ${index} holds ${entry?.index}`)
    this.#bytes -= memoryOf(entry)
    this.#slots[slot] = undefined
  }
}

/** A leader's entry holds its commands twice, as they came and encoded; a follower's are views of the encoded ones. */
function memoryOf(entry: Entry): number {
  const { payload, encoded } = entry
  const shared = payload.type === 'commands' && payload.data.buffer === encoded?.buffer
  return entryBytes(entry) + (shared ? 0 : (encoded?.length ?? 0))
}
