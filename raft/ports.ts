/*
 * What raft/ needs from the world, as contracts: the consumer owns the interface, so every arrow points inward.
 * storage/, src/ and test/ implement these; the driver (node.ts) is their only caller, on one thread.
 */

import type { Entry, HardState, Index, Message, Position, Term } from './types.ts'

/**
 * Synchronous reads of the durable log. The core reads it while a persist is in flight and masks what its own
 * unstable tail replaces; an implementation shows a persist's entries only once that persist has resolved.
 */
export interface LogReader {
  /** The position just before the first entry: {0, 0} for a log that was never compacted. */
  base(): Position
  /** Index of the last entry; base().index when the log is empty. */
  lastIndex(): Index
  /** Term of the entry at `index`, also for base().index; undefined outside [base, last]. */
  term(index: Index): Term | undefined
  /**
   * The entries of [from, to), cut after the first one that brings their entryBytes() over `maxBytes` (so at
   * least one). `from` > base().index and `to` <= lastIndex() + 1, else an AssertionError. Throws CorruptLogError
   * on a bad checksum or a hole: fatal, never repaired here.
   */
  entries(from: Index, to: Index, maxBytes: number): readonly Entry[]
}

/** The durable log. The driver has at most one persist in flight, and compact never overlaps one. */
export interface LogStore extends LogReader {
  /**
   * ONE transaction: hard state, the cut at entries[0].index, the entries. Resolves only when all of it has
   * been flushed; any rejection is fatal to the process (after it, what is stored is unknown). `entries` are
   * contiguous and begin in (base, last + 1].
   */
  persist(batch: { hardState: HardState | undefined; entries: readonly Entry[] }): Promise<void>
  /** Deletes the entries up to and including `upTo` (base moves there), in small batches, off the commit path. */
  compact(upTo: Index): Promise<void>
}

/** What a node must know of itself before it may speak. Loaded once, at start, after the boot record is durable. */
export interface StableStore {
  hardState(): HardState
}

/** The replicated state. Called in index order, every index once, never concurrently. */
export interface StateMachine {
  /** The last index that is part of the state: where applying goes on after a restart. */
  appliedIndex(): Index
  /** Applies one entry, synchronously and deterministically: reads nothing but the entry and the state. */
  apply(entry: Entry): void
  /** False while the state cannot take more for now (memtable full); the driver asks again after wake(). */
  canApply(): boolean
}

/** Sends without waiting: may drop, never blocks, keeps the order per (receiver, kind of link) it delivers. */
export interface Transport {
  send(messages: readonly Message[]): void
}

/** A seeded generator in [0, 1): election timeouts come from nowhere else. */
export type Random = () => number
