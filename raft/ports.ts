/*
 * What raft/ needs from the world, as contracts: the consumer owns the interface, so every arrow points inward.
 * storage/, src/ and test/ implement these; the driver (node.ts) is their only caller, on one thread.
 */

import type {
  Entry,
  HardState,
  Index,
  Message,
  NodeId,
  Position,
  SnapshotMeta,
  Term,
} from './types.ts'

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
  /**
   * Applies one entry, synchronously and deterministically: reads nothing but the entry and the state. Returns the
   * bytes of state that it has handled, which count for a slice like those of the entry.
   */
  apply(entry: Entry): number
  /** False while the state cannot take more for now (memtable full); the driver asks again after wake(). */
  canApply(): boolean
}

/**
 * Sends this node's durable state to members that need entries which are gone from the log. The driver calls it in
 * the turn in which the core asks; how a sending ended comes back through RaftNode.snapshotEnded().
 */
export interface SnapshotSource {
  /**
   * Begins to send the state as it is durable now, in the name of the leader of `term`; an earlier sending to the
   * same member ends without a word. Returns the index from which the log must be kept for the receiver: that of the
   * state, or one below it. undefined: not now (too many are under way), ask again.
   */
  send(to: NodeId, term: Term): Index | undefined
  /** The receiver needs it no longer, or this node does not lead any more. Nothing more is told of this sending. */
  cancel(to: NodeId): void
}

/**
 * Switches to a snapshot that was received, verified and announced by RaftNode.offerSnapshot(), which accepted it.
 * Never overlaps a persist or a compaction.
 */
export interface SnapshotSink {
  /**
   * ONE log transaction: the state in force, hard state, and, unless the log has an entry equal to `last`, an empty log
   * that begins after it. Resolves when all of it is durable, LogReader and StateMachine show it, and
   * appliedIndex() is last.index. A rejection is fatal. A crash leaves the old state or the new one.
   */
  install(snapshot: SnapshotMeta, hardState: HardState | undefined): Promise<void>
}

/** How much log is kept for members that are behind. */
export interface LogRetention {
  /** Bytes that the entries of the log take. */
  bytes(): number
  /** Above this nothing is kept for a member that is behind: it will need a snapshot. */
  readonly bytesMax: number
  /** Above this nothing is kept even for a member that is being sent a snapshot: it will need another one. */
  readonly pinnedBytesMax: number
}

/** Sends without waiting: may drop, never blocks, keeps the order per (receiver, kind of link) it delivers. */
export interface Transport {
  send(messages: readonly Message[]): void
}

/** A seeded generator in [0, 1): election timeouts come from nowhere else. */
export type Random = () => number
