/*
 * What a router stands on: the node that it is part of, the options that may change, and the limits that do not.
 */

import type { ProposeResult } from '../raft/core.ts'
import type { Index, NodeId, Term } from '../raft/types.ts'
import type { ErrorReply } from '../resp/encoder.ts'
import type { Call, ReadTime } from './call.ts'
import type { Args, Spec } from './commands/command.ts'
import type { HeavyWriteLimits } from './heavy-writes.ts'
import type { Batch, ReadOutcome } from './keyspace.ts'

/** What the router asks of the node it stands in. */
export interface RouterPorts {
  /** Monotonic ms. */
  now(): number
  /** The leader's logical clock: `at` of an entry (architecture: time is a logged fact). */
  logicalNow(): number
  propose(data: readonly Uint8Array[]): ProposeResult
  /** Who waits for the entry just proposed: the state machine answers its items, or calls overwritten(). */
  expect(index: Index, batch: Batch): void
  /** Nobody waits for it any more. */
  forget(index: Index, batch: Batch): void
  /** Calls back once: true when a linearizable read may run here, false when no leader confirmed it. */
  read(done: (confirmed: boolean) => void): void
  /**
   * Runs a read command against the applied state, by the time of the leader, by what is applied of it, or (stale)
   * by that of this node.
   */
  run(call: Call, time: ReadTime): ReadOutcome
  /** The clock of what is applied. */
  appliedClock(): number
  /** A read waits until this clock is applied: an entry is to bring it. Said again while it waits. */
  awaitClock(clock: number): void
  appliedIndex(): Index
  /** Commands of other nodes' clients that were found in entries of other leaders. */
  strangersCommands(): number
  /** The state is being written to disk. */
  isCheckpointing(): boolean
  /** The term of the last entry that was applied here; 0: none in the life of this process. */
  appliedTerm(): Term
  /** Bytes of a key's value in what is applied; 0 without one. */
  valueLength(database: number, key: string): number
  /** The hash slot of a command's first key; undefined when it names none. */
  keySlot(command: Pick<Spec, 'keys'>, args: Args): number | undefined
  /** Hands calls, whose tags follow each other, to the leader of `term`; false: certainly nothing of it was sent. */
  forward(leader: NodeId, term: Term, calls: readonly Call[]): boolean
  /** Asks the leader of `term` for a fence with this tag: see HandedCalls. False: certainly not sent. */
  fence(leader: NodeId, term: Term, tag: number): boolean
  /** The host:port that clients are told of a member. */
  clientAddress(id: NodeId): string | undefined
  /** flush() is wanted in this turn or soon. */
  wake(): void
  /** The same in so many ms, when `due` is called first. */
  wakeAfter(ms: number, due: () => void): void
}

/** The options that CONFIG SET may change while commands run. */
export interface RouterOptions {
  readonly readConsistency: 'linearizable' | 'stale'
  readonly redirect: 'forward' | 'moved'
  readonly parkTimeoutMs: number
  readonly parkBytes: number
  /** A write that would work on more bytes of values in one go is refused. */
  readonly writeWorkMax: number
  /** What a write is answered with instead of being appended; undefined: it is appended. */
  readonly refusal: ErrorReply | undefined
}

export interface RouterLimits {
  /** An entry closes at so many commands, bytes or keys; one larger command stands alone. */
  readonly entryCommands: number
  readonly entryBytes: number
  readonly entryKeys: number
  /** Also before its writes handle more bytes of values than this; one larger command stands alone. */
  readonly entryWeight: number
  /** Ms that an entry may wait for more commands while another one is on its way. */
  readonly entryWaitMs: number
  /** Ms that reads may wait for others to share their round. */
  readonly readWaitMs: number
  /** Ms of a turn that go to reads: after them the first one of the next turn runs. */
  readonly readTurnMs: number
  /** A write of more keys or operations is refused: every node stands still while it applies one. */
  readonly writeKeys: number
  /** Bytes of calls in entries that were proposed and not answered; one larger entry stands alone. */
  readonly unappliedBytes: number
  /** Bytes of calls handed to a leader and not answered; one larger call is handed over alone. */
  readonly forwardBytes: number
  readonly heavyWrites: HeavyWriteLimits
  /** Above so many bytes of waiting calls the frontend takes no more for a while. */
  readonly backlogBytes: number
}
