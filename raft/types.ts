/*
 * The words of the algorithm: entries, hard state, membership, messages and the Ready that the core hands out.
 * Plain immutable data, shared by the core, the stores and the peers. Nothing here knows how any of it is encoded.
 */

import { assert } from './assert.ts'

/** A node's random 40 hex digits, made once and kept for ever (never reused for another disk). */
export type NodeId = string
/** A Raft term; 0 before the first election. A safe integer. */
export type Term = number
/** A position in the log; the first entry has index 1, and 0 means "before the log". A safe integer. */
export type Index = number
/** Names one batch of reads on the node that asked; never used twice, not even by its next incarnation. */
export type ReadId = number

/**
 * Voters decide. A learner receives everything and decides nothing; nor does who is joining, whom the leader is to
 * promote when it has caught up. Who is leaving is no voter of the membership that a joint one leads to, and gone when
 * that is in force.
 */
export type MemberRole = 'voter' | 'learner' | 'joining' | 'leaving'

/** One member as the log records it. */
export interface Member {
  readonly id: NodeId
  readonly role: MemberRole
  /** host:port at which the member accepts its peers. */
  readonly peerAddress: string
  /** host:port that clients are told. */
  readonly clientAddress: string
}

/** Who takes part, as one entry of the log states it. */
export interface Membership {
  readonly members: readonly Member[]
  /**
   * Only while joint (paper 6): the voters of the membership that is being left. Every decision takes a majority of
   * them and a majority of those whose role is voter.
   */
  readonly outgoing?: readonly NodeId[]
}

/** What a snapshot says of itself: it is the state after the entry `last`, with the membership in force there. */
export interface SnapshotMeta {
  readonly last: Position
  readonly membership: Membership
}

export type Payload =
  | { readonly type: 'noop' }
  | { readonly type: 'membership'; readonly membership: Membership }
  /** Opaque to raft/: the state machine's own bytes. */
  | { readonly type: 'commands'; readonly data: Uint8Array }

/** One entry of the log. Immutable, and passed around by reference. */
export interface Entry {
  readonly index: Index
  readonly term: Term
  readonly payload: Payload
  /**
   * The entry's one byte form (storage/codec.ts), kept by whoever made or received it first, so that a
   * follower stores and forwards exactly the bytes that the leader made. raft/ never looks at it.
   */
  encoded: Uint8Array | undefined
}

/** Position of an entry: what a log is compared by (paper 5.4.1). */
export interface Position {
  readonly index: Index
  readonly term: Term
}

/** What must be durable before this node may speak in a term (paper figure 2, "persistent state"). */
export interface HardState {
  readonly term: Term
  readonly vote: NodeId | undefined
}

/**
 * The member whose log is furthest behind: nobody compacts past its match index while there is room (a member that
 * is being sent a snapshot counts from there on; one that needs a snapshot anyway does not count).
 */
export interface Slowest {
  readonly id: NodeId
  readonly match: Index
}

interface Envelope {
  readonly from: NodeId
  readonly to: NodeId
  readonly term: Term
}

/** "Would you vote for me in `term`?" Changes nothing at the receiver (thesis 9.6). */
export interface PreVote extends Envelope {
  readonly type: 'pre-vote'
  readonly last: Position
}
/** `term` is the asked-for term when granted, the receiver's own when refused. */
export interface PreVoteReply extends Envelope {
  readonly type: 'pre-vote-reply'
  readonly granted: boolean
}
/** RequestVote (paper 5.2). */
export interface Vote extends Envelope {
  readonly type: 'vote'
  readonly last: Position
  /** The leader itself asked for this election: whoever hears that leader answers nevertheless (thesis 4.2.3). */
  readonly transfer: boolean
}
export interface VoteReply extends Envelope {
  readonly type: 'vote-reply'
  readonly granted: boolean
}
/** AppendEntries (paper 5.3). `entries` follow `prev` without a gap; `commit` is the leader's commit index. */
export interface Append extends Envelope {
  readonly type: 'append'
  readonly prev: Position
  readonly entries: readonly Entry[]
  readonly commit: Index
}
/** The follower's log is durable and equal to the leader's up to `match`. */
export interface AppendReply extends Envelope {
  readonly type: 'append-reply'
  readonly match: Index
}
/**
 * The follower has no entry equal to `prev`. `hint` is the largest position of its log that may still agree
 * (largest index not above `prev` whose term is not above prev's); `last` is its last index.
 */
export interface AppendReject extends Envelope {
  readonly type: 'append-reject'
  readonly prev: Index
  readonly hint: Position
  readonly last: Index
}
/**
 * Leadership, without a log position: `commit` is already clamped to what the receiver has matched. `round`
 * is the latest read round (0: none yet in this term); `slowest` bounds the receiver's compaction.
 */
export interface Heartbeat extends Envelope {
  readonly type: 'heartbeat'
  readonly commit: Index
  readonly round: number
  readonly slowest: Slowest
}
/** Promises nothing durable, so it never waits for a disk. */
export interface HeartbeatReply extends Envelope {
  readonly type: 'heartbeat-reply'
  readonly round: number
}
/** A follower asks its leader for a read index (thesis 6.4). */
export interface ReadRequest extends Envelope {
  readonly type: 'read'
  readonly id: ReadId
}
export interface ReadReply extends Envelope {
  readonly type: 'read-reply'
  readonly id: ReadId
  readonly index: Index
}
/** The leader hands over: campaign at once (thesis 3.10). */
export interface TimeoutNow extends Envelope {
  readonly type: 'timeout-now'
}

export type Message =
  | PreVote
  | PreVoteReply
  | Vote
  | VoteReply
  | Append
  | AppendReply
  | AppendReject
  | Heartbeat
  | HeartbeatReply
  | ReadRequest
  | ReadReply
  | TimeoutNow

/** One transaction for the log environment; `token` names it when its durability is reported. */
export interface Persist {
  readonly token: number
  readonly hardState: HardState | undefined
  /** Contiguous; the first one replaces the stored log from its index on. */
  readonly entries: readonly Entry[]
  /** The received snapshot to switch to in this transaction, which then holds no entries. */
  readonly snapshot: SnapshotMeta | undefined
}

/** The core's output: what the driver must do now, and what only after the disk has answered. */
export interface Ready {
  /** Leave at once: they promise nothing durable, or what they promise is durable already (thesis 10.2.1). */
  readonly messages: readonly Message[]
  readonly persist: Persist | undefined
  /** Leave only when `persist` is durable: votes, requests for votes, acknowledgements of appends. */
  readonly afterPersist: readonly Message[]
  /** Committed and durable here: may be applied at once, in order. */
  readonly committed: readonly Entry[]
  /** Reads that may be served once `index` is applied here. */
  readonly reads: readonly { readonly id: ReadId; readonly index: Index }[]
  /** Reads whose round was lost with the leader; ask again under a fresh id. */
  readonly lostReads: readonly ReadId[]
  /** Members that need entries which are gone: each is to be sent a snapshot, and snapshotBegun() told of it. */
  readonly snapshots: readonly NodeId[]
}

export type Role = 'follower' | 'pre-candidate' | 'candidate' | 'leader'

/** The bytes an entry counts for in every limit of memory and traffic. */
export function entryBytes(entry: Entry): number {
  const { payload } = entry
  return 32 + (payload.type === 'commands' ? payload.data.length : 0)
}

/** The gateway check of every term and index that comes from outside. */
export function assertIndex(value: number, name: string): void {
  assert(
    Number.isSafeInteger(value) && value >= 0,
    () => `${name} must be a safe integer, not ${value}`,
  )
}
