/*
 * The log as the core sees it: the durable log behind a LogReader, and in front of it the unstable tail, entries
 * that a persist has not made durable yet. It keeps three cursors, and these invariants hold between all calls:
 *   base <= handed <= min(committed, durable)      committed <= last      durable <= last
 * where `handed` is the last entry given out for applying. A truncation cuts the durable cursor too, because what
 * lies above it on disk no longer belongs to this log and the next persist replaces it.
 */

import { assert } from './assert.ts'
import type { LogReader } from './ports.ts'
import { type Entry, entryBytes, type Index, type Position, type Term } from './types.ts'

export class RaftLog {
  readonly #reader: LogReader
  /** Entries durable + 1 .. last. */
  #tail: Entry[] = []
  #durable: Index
  #committed: Index
  #handed: Index
  /** Last index of the persist in flight that still belongs to this log; undefined: none in flight. */
  #persisting: Index | undefined

  /** `applied`: the last index that is part of the state already; everything up to it is committed. */
  constructor(reader: LogReader, applied: Index) {
    assert(
      reader.base().index <= applied && applied <= reader.lastIndex(),
      () =>
        `applied ${applied} lies outside the log [${reader.base().index}, ${reader.lastIndex()}]`,
    )
    this.#reader = reader
    this.#durable = reader.lastIndex()
    this.#committed = applied
    this.#handed = applied
  }

  get durable(): Index {
    return this.#durable
  }

  get committed(): Index {
    return this.#committed
  }

  get handed(): Index {
    return this.#handed
  }

  get lastIndex(): Index {
    return this.#durable + this.#tail.length
  }

  last(): Position {
    const index = this.lastIndex
    return { index, term: this.termOf(index) }
  }

  base(): Position {
    return this.#reader.base()
  }

  /** Term of the entry at `index`, undefined when the log does not reach it. */
  term(index: Index): Term | undefined {
    if (index > this.#durable) return this.#tail[index - this.#durable - 1]?.term
    return this.#reader.term(index)
  }

  /** Term of an entry that must be there. */
  termOf(index: Index): Term {
    const term = this.term(index)
    assert(term !== undefined, () => `the log has no entry ${index} (last ${this.lastIndex})`)
    return term
  }

  /** [from, to), cut after `maxBytes`, at least one entry when the range is not empty. */
  entries(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    assert(to <= this.lastIndex + 1, () => `entries up to ${to} asked, last is ${this.lastIndex}`)
    if (from >= to) return []
    if (from <= this.#durable) {
      const stored = this.#reader.entries(from, Math.min(to, this.#durable + 1), maxBytes)
      const next = from + stored.length
      if (next <= this.#durable || next >= to) return stored
      const left = maxBytes - stored.reduce((sum, entry) => sum + entryBytes(entry), 0)
      return left <= 0 ? stored : stored.concat(this.#tailEntries(next, to, left))
    }
    return this.#tailEntries(from, to, maxBytes)
  }

  #tailEntries(from: Index, to: Index, maxBytes: number): Entry[] {
    const start = from - this.#durable - 1
    let end = start
    let bytes = 0
    while (end < to - this.#durable - 1 && (end === start || bytes < maxBytes)) {
      const entry = this.#tail[end]
      assert(entry !== undefined, () => `the unstable tail ends before ${to}`)
      bytes += entryBytes(entry)
      end++
    }
    return this.#tail.slice(start, end)
  }

  /** A leader's own entry: always behind the last one (leader append-only, paper 5.3). */
  push(entry: Entry): void {
    assert(entry.index === this.lastIndex + 1, () => `entry ${entry.index} after ${this.lastIndex}`)
    this.#tail.push(entry)
  }

  /** Whether this log holds an entry equal to `prev` (the consistency check of AppendEntries, paper 5.3). */
  matches(prev: Position): boolean {
    return this.term(prev.index) === prev.term
  }

  /**
   * A follower's append behind a `prev` that matches: entries it holds already are left alone, and only from the
   * first real conflict on is the log cut, so that a late duplicate can never remove an entry (paper 5.3).
   * Returns the index at which the log changed, undefined when it did not.
   */
  append(entries: readonly Entry[]): Index | undefined {
    let skip = 0
    while (skip < entries.length) {
      const entry = entries[skip]
      if (entry === undefined || this.term(entry.index) !== entry.term) break
      skip++
    }
    const first = entries[skip]
    if (first === undefined) return undefined
    if (first.index <= this.lastIndex) this.#truncate(first.index)
    for (let i = skip; i < entries.length; i++) this.push(entries[i] as Entry)
    return first.index
  }

  #truncate(from: Index): void {
    assert(
      from > this.#committed,
      () => `a leader asks to replace the committed entry ${from} (committed ${this.#committed})`,
    )
    if (from > this.#durable) {
      this.#tail.length = from - this.#durable - 1
    } else {
      this.#tail.length = 0
      this.#durable = from - 1
    }
    if (this.#persisting !== undefined) this.#persisting = Math.min(this.#persisting, from - 1)
  }

  /**
   * The largest position not above `index` whose term is not above `term`: where a log that disagrees at
   * (index, term) may still agree, so that a whole term is skipped per rejection (paper 5.3, last paragraph).
   */
  mayAgree(index: Index, term: Term): Position {
    const base = this.base().index
    let at = Math.min(index, this.lastIndex)
    while (at > base && this.termOf(at) > term) at--
    return { index: at, term: this.term(at) ?? 0 }
  }

  /** Commit never falls and never passes the end of the log. */
  commitTo(index: Index): boolean {
    if (index <= this.#committed) return false
    assert(
      index <= this.lastIndex,
      () => `commit ${index} is past the last entry ${this.lastIndex}`,
    )
    this.#committed = index
    return true
  }

  /** The entries that no persist holds yet; from here on they are in flight. */
  takeUnpersisted(): readonly Entry[] {
    assert(this.#persisting === undefined, () => 'a persist is in flight')
    this.#persisting = this.lastIndex
    return this.#tail.slice()
  }

  get hasUnpersisted(): boolean {
    return this.#tail.length > 0
  }

  /** The persist in flight is durable: only what was not cut since becomes stable. */
  persisted(): void {
    const upTo = this.#persisting
    assert(upTo !== undefined, () => 'no persist is in flight')
    this.#persisting = undefined
    if (upTo <= this.#durable) return
    this.#tail.splice(0, upTo - this.#durable)
    this.#durable = upTo
  }

  /**
   * The durable log is that of a snapshot now: everything up to `last` is part of the state, and what the reader shows
   * behind it was there before and agrees. Nothing may be unstable or in flight.
   */
  restored(last: Position): void {
    assert(
      this.#tail.length === 0 && this.#persisting === undefined,
      () => `a snapshot at ${last.index} replaces entries that are being written`,
    )
    assert(
      last.index > this.#committed && this.#reader.term(last.index) === last.term,
      () => `a snapshot at ${last.index}@${last.term} in a log committed to ${this.#committed}`,
    )
    this.#durable = this.#reader.lastIndex()
    this.#committed = last.index
    this.#handed = last.index
  }

  /** Committed and durable entries that were not handed out yet, at most about `maxBytes`. */
  takeCommitted(maxBytes: number): readonly Entry[] {
    const to = Math.min(this.#committed, this.#durable)
    if (to <= this.#handed || maxBytes <= 0) return []
    const entries = this.entries(this.#handed + 1, to + 1, maxBytes)
    this.#handed += entries.length
    return entries
  }

  get hasCommitted(): boolean {
    return this.#handed < Math.min(this.#committed, this.#durable)
  }
}
