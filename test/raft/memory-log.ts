/*
 * MemoryLog: the in-memory twin of the durable log and its hard state. What a persist holds becomes visible only when
 * the test completes it, because that moment decides every promise of raft/. A crash goes back to the durable state;
 * whether the persist in flight had reached the disk by then is the test's choice, as it is the disk's in production.
 */

import { assert } from '../../raft/assert.ts'
import type { LogStore, StableStore } from '../../raft/ports.ts'
import {
  type Entry,
  entryBytes,
  type HardState,
  type Index,
  type Position,
  type Term,
} from '../../raft/types.ts'

/** What is on the disk: all that a restart finds. */
export interface DurableState {
  readonly hardState: HardState
  readonly base: Position
  readonly entries: readonly Entry[]
}

export interface Batch {
  readonly hardState: HardState | undefined
  readonly entries: readonly Entry[]
  /** Set in the transaction that switches to a snapshot. */
  readonly snapshot?: Position
}

interface Pending {
  readonly batch: Batch
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export const emptyDisk: DurableState = {
  hardState: { term: 0, vote: undefined },
  base: { index: 0, term: 0 },
  entries: [],
}

export class MemoryLog implements LogStore, StableStore {
  #hardState: HardState
  #base: Position
  #entries: Entry[]
  #pending: Pending | undefined

  constructor(disk: DurableState = emptyDisk) {
    this.#hardState = disk.hardState
    this.#base = disk.base
    this.#entries = [...disk.entries]
  }

  hardState(): HardState {
    return this.#hardState
  }

  base(): Position {
    return this.#base
  }

  lastIndex(): Index {
    return this.#base.index + this.#entries.length
  }

  term(index: Index): Term | undefined {
    if (index === this.#base.index) return this.#base.term
    return this.entry(index)?.term
  }

  /** The durable entry at `index`, for the tests' own questions. */
  entry(index: Index): Entry | undefined {
    return this.#entries[index - this.#base.index - 1]
  }

  /** @throws {AssertionError} when [from, to) is not inside the log */
  entries(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    assert(
      from > this.#base.index && to <= this.lastIndex() + 1,
      () => `[${from}, ${to}) is outside (${this.#base.index}, ${this.lastIndex()}]`,
    )
    const found: Entry[] = []
    let bytes = 0
    for (let index = from; index < to && (found.length === 0 || bytes < maxBytes); index++) {
      const entry = this.entry(index)
      assert(entry !== undefined, () => `a hole at ${index}`)
      found.push(entry)
      bytes += entryBytes(entry)
    }
    return found
  }

  /** Settles when the test calls complete() or fail(). */
  persist(batch: Batch): Promise<void> {
    assert(this.#pending === undefined, () => 'two persists in flight')
    const first = batch.entries[0]?.index ?? this.lastIndex() + 1
    assert(
      first > this.#base.index && first <= this.lastIndex() + 1,
      () => `a persist begins at ${first}, outside (${this.#base.index}, ${this.lastIndex() + 1}]`,
    )
    batch.entries.forEach((entry, at) => {
      assert(entry.index === first + at, () => `a persist has ${entry.index} at ${first + at}`)
    })
    return new Promise((resolve, reject) => {
      this.#pending = { batch, resolve, reject }
    })
  }

  /** The switch to a snapshot: settles like a persist. */
  install(last: Position, hardState: HardState | undefined): Promise<void> {
    assert(this.#pending === undefined, () => 'a switch overlaps a persist')
    return new Promise((resolve, reject) => {
      this.#pending = { batch: { hardState, entries: [], snapshot: last }, resolve, reject }
    })
  }

  /** What the entries count for in the limits of the log. */
  bytes(): number {
    return this.#entries.reduce((sum, entry) => sum + entryBytes(entry), 0)
  }

  async compact(upTo: Index): Promise<void> {
    assert(this.#pending === undefined, () => 'a compaction overlaps a persist')
    const term = this.term(upTo)
    assert(term !== undefined && upTo >= this.#base.index, () => `cannot compact to ${upTo}`)
    this.#entries.splice(0, upTo - this.#base.index)
    this.#base = { index: upTo, term }
  }

  get pending(): Batch | undefined {
    return this.#pending?.batch
  }

  /** The disk has answered: what was in flight is durable and visible now. */
  complete(): void {
    const pending = this.#pending
    assert(pending !== undefined, () => 'no persist is in flight')
    this.#land()
    pending.resolve()
  }

  fail(error: Error): void {
    const pending = this.#pending
    assert(pending !== undefined, () => 'no persist is in flight')
    this.#pending = undefined
    pending.reject(error)
  }

  /** The process died: its persist in flight, if any, reached the disk (`landed`) or did not. */
  crash(landed: boolean): DurableState {
    if (landed) this.#land()
    this.#pending = undefined
    return { hardState: this.#hardState, base: this.#base, entries: this.#entries.slice() }
  }

  #land(): void {
    const batch = this.#pending?.batch
    this.#pending = undefined
    if (batch === undefined) return
    this.#hardState = batch.hardState ?? this.#hardState
    const { snapshot } = batch
    if (snapshot !== undefined && this.term(snapshot.index) !== snapshot.term) {
      this.#entries = []
      this.#base = snapshot
    }
    const first = batch.entries[0]
    if (first === undefined) return
    this.#entries.length = first.index - this.#base.index - 1
    this.#entries.push(...batch.entries)
  }
}
