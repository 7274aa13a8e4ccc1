/*
 * The engine port: all that the stores above need from a disk, kept narrow so that the same checkpoint, recovery and
 * compaction run on LMDB (lmdb-engine.ts), in memory, and on a simulated disk that crashes. An engine holds named
 * environments; an environment holds named databases of byte keys in byte order. It knows nothing of Raft, and its
 * callers know nothing of LMDB.
 */

import type { CheckpointSummary } from './checkpoint.ts'
import type { ScrubPosition, ScrubStep } from './scrub.ts'

/** The longest key that every engine takes: LMDB's limit on pages of 4 KiB. Empty keys do not exist. */
export const KEY_BYTES_MAX = 1978

/** One write of a batch; `clear` removes every key of its database. */
export type Operation =
  | {
      readonly type: 'put'
      readonly database: string
      readonly key: Uint8Array
      readonly value: Uint8Array
    }
  | { readonly type: 'remove'; readonly database: string; readonly key: Uint8Array }
  | { readonly type: 'clear'; readonly database: string }

/** Called per pair of a range, in key order, with memory it may keep; false ends the range. */
export type Visitor = (key: Uint8Array, value: Uint8Array) => boolean

/**
 * Synchronous reads. They see committed data only, never part of a batch. A batch may become visible a moment
 * before its promise resolves, so what is visible is not yet a promise of durability: that comes from commit().
 * A read that fails (damaged pages) is fatal: it is reported through onFatal, and thrown.
 */
export interface Reads {
  /** The value, in memory that the caller owns; undefined when there is none. */
  get(database: string, key: Uint8Array): Uint8Array | undefined
  /** Costs the same whatever the size of the value. */
  has(database: string, key: Uint8Array): boolean
  /** Visits the pairs from `from` (included) on, as of one moment. `visit` must not write. */
  range(database: string, from: Uint8Array, visit: Visitor): void
  /** The same without reading the values. */
  keys(database: string, from: Uint8Array, visit: (key: Uint8Array) => boolean): void
}

export interface Environment extends Reads {
  /** What it occupies on disk, for metrics. */
  bytes(): number
  /** What its records occupy: free pages, which later records will use, are not counted. */
  usedBytes(): number
  /** Waits for what was begun, then lets go of everything. Nothing may be called afterwards. */
  close(): Promise<void>
}

/** An environment of small, frequent commits, written by the thread that reads it. */
export interface LogEnvironment extends Environment {
  /** How often it was opened, this time included: it rises with every start, whatever the clocks do. */
  readonly boots: number
  /**
   * One atomic batch, applied in order. Resolves only when all of it is durable; batches become durable in the order
   * of the calls. Keys are copied at once; values are borrowed: whoever passes them leaves them unchanged until the
   * promise settles. A rejection means that what is stored is unknown: onFatal has been called, nothing is retried.
   */
  commit(operations: readonly Operation[]): Promise<void>
}

/** An environment that only its engine's own writer changes, off the calling thread where there is one. */
export interface StateEnvironment extends Environment {
  /**
   * Runs runCheckpoint(header, chunks) inside ONE write transaction. The chunks are pulled one at a time between
   * other work. Resolves when the transaction is durable and every later read here sees it. At most one at a time. A
   * rejection is fatal, as for commit().
   */
  checkpoint(header: Uint8Array, chunks: ChunkSource): Promise<CheckpointSummary>
  /**
   * What is visible now, whatever is written later. It must be released before close(): until then the disk reuses
   * nothing of what it holds.
   */
  view(): EnvironmentView
  /**
   * All that is visible when it resolves, or was a little earlier, but not before the call. Any number at a time; each
   * is closed before close().
   */
  stream(chunkBytes: number): Promise<StateStream>
  /**
   * Reads the next piece to see whether it is intact (scrub.ts), off the calling thread where there is one. One call at
   * a time. Rejects with CorruptStateError where it is not: what then has to happen is the caller's business.
   */
  scrub(from: ScrubPosition | undefined, bytesMax: number): Promise<ScrubStep>
}

/** A whole state as it was at one moment, as state-stream.ts makes it, read off the calling thread where there is one. */
export interface StateStream {
  /** undefined behind the last chunk. One call at a time. A rejection is fatal, as for a read. */
  next(): Promise<Chunk | undefined>
  /** Until then the disk reuses nothing of what the stream shows. */
  close(): Promise<void>
}

/**
 * A new state environment that is filled from a stream and stands for nothing until it is finished. Rejections with
 * DamagedStreamError mean that it must be aborted; any other is fatal, as for commit().
 */
export interface StateBuilder {
  /**
   * The next chunk, given away. Resolves when there is room for more, which may be before this one is looked at: what
   * is wrong with it rejects a later call, finish() at the latest. The order is that of the calls.
   */
  add(chunk: Chunk): Promise<void>
  /** Behind the last chunk: resolves when all of it is verified and durable, and openState() may be called. */
  finish(): Promise<void>
  /** Removes what was built, also while a call above has not resolved. */
  abort(): Promise<void>
}

export interface EnvironmentView extends Reads {
  /** Once; nothing may be called afterwards. */
  release(): void
}

/** Memory of its own, so that it can be transferred to another thread; never shared memory. */
export type Chunk = Uint8Array<ArrayBuffer>

/** Gives memory of so many bytes, filled with whatever was there. */
export type TakeMemory = (bytes: number) => Chunk

/** What is copied for another thread: chunk by chunk, into memory that whoever pulls them gives, and has. */
export type ChunkSource = (take: TakeMemory) => Iterable<Chunk>

/** The inside of a write transaction, as runCheckpoint sees it: its own writes included. */
export interface WriteTransaction {
  /** Valid until the next call. */
  get(database: string, key: Uint8Array): Uint8Array | undefined
  /** Takes what it needs from key and value before it returns. */
  put(database: string, key: Uint8Array, value: Uint8Array): void
  remove(database: string, key: Uint8Array): void
  clear(database: string): void
}

export interface Engine {
  /** Where the environments are, in words for an operator: the data directory. */
  readonly location: string
  /** The names of the environments that exist. */
  list(): readonly string[]
  /**
   * Opens an environment, or creates it; `databases` are created if need be. It resolves after a durable write of
   * its own (the boot record): from then on whatever is visible is durable too, however the last process ended.
   */
  openLog(name: string, databases: readonly string[]): Promise<LogEnvironment>
  openState(name: string, databases: readonly string[]): Promise<StateEnvironment>
  /** A new, empty environment; what was there under this name, and is not open, is removed. */
  buildState(name: string, databases: readonly string[]): Promise<StateBuilder>
  /** Removes an environment that is not open, for good: resolves when that is durable. */
  drop(name: string): Promise<void>
}

/**
 * Told once, with the reason, when a commit or a read has failed. The process must end at once: a retry would leave
 * holes in the log, and what the disk holds is unknown.
 */
export type OnFatal = (reason: string) => void
