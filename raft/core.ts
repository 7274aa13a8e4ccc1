/*
 * RaftCore: the algorithm, pure and synchronous. Messages, ticks and completions go in at once, always; a Ready
 * comes out. It knows no clock, socket, disk or randomness of its own, so a seed replays it exactly.
 *
 * What leaves when (thesis 10.2.1, etcd/raft's asynchronous storage):
 *   - `messages` promise nothing that is not durable already, and leave in this turn;
 *   - `afterPersist` (votes, requests for votes, acknowledgements of appends) waits for the persist that holds what
 *     it promises. At most one persist is in flight; a promise born meanwhile belongs to the next one. What piles
 *     up meanwhile IS the group commit. A higher term drops the promises of lower ones that did not leave yet.
 *   - `committed` holds only entries that are durable here, and never waits for a later persist.
 * Heartbeats and their answers carry no log position, so a slow fsync never causes an election.
 */

import { assert, unreachable } from './assert.ts'
import { RaftLog } from './log.ts'
import { Memberships, membershipTowards, settled } from './membership.ts'
import type { LogReader, Random } from './ports.ts'
import { Progress, type ProgressState, type WindowLimits } from './progress.ts'
import { countVotes, hasQuorum, quorumIndex } from './quorum.ts'
import { READS_MAX, ReadRounds } from './reads.ts'
import {
  type Append,
  type AppendReject,
  type AppendReply,
  assertIndex,
  type Entry,
  entryBytes,
  type HardState,
  type Heartbeat,
  type HeartbeatReply,
  type Index,
  type Member,
  type Membership,
  type Message,
  type NodeId,
  type Payload,
  type PreVote,
  type ReadId,
  type ReadReply,
  type ReadRequest,
  type Ready,
  type Role,
  type Slowest,
  type SnapshotMeta,
  type Term,
  type TimeoutNow,
  type Vote,
} from './types.ts'

export interface CoreLimits {
  /** Bytes of entries in one append message; one larger entry travels alone. */
  readonly appendBytes: number
  /** Appends on their way to one peer. */
  readonly window: WindowLimits
  /**
   * Bytes of proposed entries that are not yet committed, or not yet durable here; one larger proposal is taken
   * when there are none.
   */
  readonly uncommittedBytes: number
  /** Bytes of committed entries handed out and not yet applied. */
  readonly applyBytes: number
}

export interface CoreOptions {
  readonly id: NodeId
  readonly hardState: HardState
  readonly log: LogReader
  /** The last index that is part of the state already. */
  readonly applied: Index
  /** The membership at `applied`; undefined when the state has none yet (a new node). */
  readonly membership: Membership | undefined
  readonly random: Random
  /** A follower campaigns after [electionTicks, 2 * electionTicks) ticks of silence. */
  readonly electionTicks: number
  readonly heartbeatTicks: number
  readonly limits: CoreLimits
}

export type ProposeResult =
  | { readonly accepted: true; readonly term: Term; readonly first: Index }
  /** 'transferring': leadership is being handed over, which takes at most an election timeout. */
  | { readonly accepted: false; readonly reason: 'not-leader' | 'full' | 'transferring' }

export type ChangeResult =
  | { readonly accepted: true; readonly term: Term; readonly index: Index }
  /**
   * 'not-ready': no entry of this leader's term is committed yet. 'changing': the membership in force is not committed,
   * or still joint.
   */
  | {
      readonly accepted: false
      readonly reason: 'not-leader' | 'not-ready' | 'changing' | 'transferring'
    }

/** 'no-target': nobody may lead instead, or the one that was named may not. */
export type TransferResult = 'begun' | 'not-leader' | 'no-target' | 'transferring'

export interface PeerStatus {
  readonly id: NodeId
  readonly match: Index
  readonly next: Index
  readonly state: ProgressState
}

export interface CoreStatus {
  readonly id: NodeId
  readonly role: Role
  readonly term: Term
  readonly vote: NodeId | undefined
  readonly leader: NodeId | undefined
  readonly commit: Index
  readonly applied: Index
  readonly last: Index
  readonly lastTerm: Term
  readonly durable: Index
  readonly first: Index
  /** The leader's no-op is applied here: it may propose commands (architecture: time is a logged fact). */
  readonly established: boolean
  readonly membership: Membership | undefined
  /** The entry that put it in force, or one of the state's above it. */
  readonly membershipIndex: Index
  /** Proposed in this term and not committed, or not durable here; 0 on a node that does not lead. */
  readonly uncommittedBytes: number
  /** To whom leadership is being handed over. */
  readonly transferTo: NodeId | undefined
  /** Who bounds compaction, as far as this node has been told in this term. */
  readonly slowest: Slowest | undefined
  /** Only a leader sees its peers. */
  readonly peers: readonly PeerStatus[]
}

/** State that exists only while leading. */
interface Leader {
  readonly role: 'leader'
  readonly progress: Map<NodeId, Progress>
  readonly reads: ReadRounds
  /** Index of this term's no-op: nothing is read or proposed before it is committed, or applied. */
  readonly noop: Index
  heartbeatElapsed: number
  quorumElapsed: number
  heartbeatDue: boolean
  /** Proposed entries of this term that are not committed or not durable here, oldest first. */
  uncommitted: { index: Index; bytes: number }[]
  uncommittedBytes: number
  /** Leadership is being handed over: nothing is proposed until that has ended. */
  transfer: Transfer | undefined
}
interface Transfer {
  readonly to: NodeId
  elapsed: number
  asked: boolean
}
interface Candidate {
  readonly role: 'pre-candidate' | 'candidate'
  readonly votes: Map<NodeId, boolean>
}
interface Follower {
  readonly role: 'follower'
  leader: NodeId | undefined
}

export class RaftCore {
  readonly #id: NodeId
  readonly #log: RaftLog
  readonly #random: Random
  readonly #electionTicks: number
  readonly #heartbeatTicks: number
  readonly #limits: CoreLimits

  #term: Term
  #vote: NodeId | undefined
  #role: Leader | Candidate | Follower = { role: 'follower', leader: undefined }
  readonly #memberships = new Memberships()

  #electionElapsed = 0
  #electionTimeout = 0
  /** Ticks until a pre-vote because the link to the leader broke; undefined: it did not. */
  #linkDownTicks: number | undefined
  #linkDownElapsed = 0

  #hardStateChanged = false
  #persistToken = 0
  #persistInFlight = false
  #messages: Message[] = []
  #afterPersist: Message[] = []
  #reads: { id: ReadId; index: Index }[] = []
  #lostReads: ReadId[] = []
  /** Reads asked of the leader, with the ticks they have waited. */
  #remoteReads = new Map<ReadId, number>()
  #slowest: Slowest | undefined
  /**
   * The snapshot that this node is about to switch to. Until its persist is durable the log stands still: appends are
   * not answered, nothing is handed out, and the node does not campaign with a log that it is giving up.
   */
  #installing: SnapshotMeta | undefined
  /** The persist in flight is the one that switches. */
  #switching = false
  #snapshots: NodeId[] = []

  #applied: Index
  #applying: { index: Index; bytes: number }[] = []
  #applyingBytes = 0

  constructor(options: CoreOptions) {
    assertIndex(options.hardState.term, 'the stored term')
    assert(options.heartbeatTicks >= 1, () => 'a heartbeat takes at least one tick')
    assert(options.electionTicks > options.heartbeatTicks, () => 'elections outlast heartbeats')
    this.#id = options.id
    this.#log = new RaftLog(options.log, options.applied)
    this.#random = options.random
    this.#electionTicks = options.electionTicks
    this.#heartbeatTicks = options.heartbeatTicks
    this.#limits = options.limits
    this.#term = options.hardState.term
    this.#vote = options.hardState.vote
    this.#applied = options.applied
    assert(
      this.#log.last().term <= this.#term,
      () => `the log ends in term ${this.#log.last().term}, the hard state in ${this.#term}`,
    )
    this.#loadMemberships(options.membership)
    this.#resetElectionTimer()
  }

  /** From that of the state, which stands at #applied, and the log behind it. */
  #loadMemberships(membership: Membership | undefined): void {
    this.#memberships.reset(this.#applied, membership)
    let from = this.#applied + 1
    while (from <= this.#log.lastIndex) {
      const page = this.#log.entries(from, this.#log.lastIndex + 1, this.#limits.appendBytes)
      for (const entry of page) this.#memberships.append(entry, this.#applied)
      from += page.length
    }
  }

  // ---- The outside: what it asks, what it tells ---------------------------------------------------------------

  get term(): Term {
    return this.#term
  }

  get isLeader(): boolean {
    return this.#role.role === 'leader'
  }

  get leader(): NodeId | undefined {
    if (this.#role.role === 'leader') return this.#id
    return this.#role.role === 'follower' ? this.#role.leader : undefined
  }

  /** The membership in force: the last one in the log, else the state's. */
  get membership(): Membership | undefined {
    return this.#memberships.current
  }

  /** Where it stands: its entry, or that of the state above it. 0 without one. */
  get membershipIndex(): Index {
    return this.#memberships.index
  }

  /** The leader's own no-op is applied, so everything of earlier terms is as well. */
  get established(): boolean {
    return this.#role.role === 'leader' && this.#applied >= this.#role.noop
  }

  /** The member that bounds compaction: told by heartbeats, known by a leader; undefined until then. */
  get slowest(): Slowest | undefined {
    if (this.#role.role !== 'leader') return this.#slowest
    let slowest: Slowest = { id: this.#id, match: this.#log.durable }
    for (const [id, { needsFrom }] of this.#role.progress) {
      if (needsFrom < slowest.match) slowest = { id, match: needsFrom }
    }
    return slowest
  }

  /** The log is kept from here on for snapshots that are being sent or were just delivered; Infinity: for none. */
  get pinned(): Index {
    let pinned = Number.POSITIVE_INFINITY
    if (this.#role.role !== 'leader') return pinned
    for (const progress of this.#role.progress.values()) {
      pinned = Math.min(pinned, progress.pinned ?? pinned)
    }
    return pinned
  }

  /** Whether the snapshot that was begun for this member is still wanted. */
  sendsSnapshot(to: NodeId): boolean {
    if (this.#role.role !== 'leader') return false
    const progress = this.#role.progress.get(to)
    return progress?.state === 'snapshot' && progress.pinned !== undefined
  }

  status(): CoreStatus {
    const peers: PeerStatus[] = []
    if (this.#role.role === 'leader') {
      for (const [id, { match, next, state }] of this.#role.progress) {
        peers.push({ id, match, next, state })
      }
    }
    return {
      id: this.#id,
      role: this.#role.role,
      term: this.#term,
      vote: this.#vote,
      leader: this.leader,
      commit: this.#log.committed,
      applied: this.#applied,
      last: this.#log.lastIndex,
      lastTerm: this.#log.last().term,
      durable: this.#log.durable,
      first: this.#log.base().index + 1,
      established: this.established,
      membership: this.membership,
      membershipIndex: this.#memberships.index,
      uncommittedBytes: this.#role.role === 'leader' ? this.#role.uncommittedBytes : 0,
      transferTo: this.#role.role === 'leader' ? this.#role.transfer?.to : undefined,
      slowest: this.slowest,
      peers,
    }
  }

  // ---- Inputs ---------------------------------------------------------------------------------------------------

  /** One unit of time has passed. */
  tick(): void {
    if (this.#role.role === 'leader') this.#tickLeader(this.#role)
    else this.#tickElection()
    for (const [id, age] of this.#remoteReads) {
      if (age + 1 < this.#electionTicks) this.#remoteReads.set(id, age + 1)
      else this.#loseRemoteRead(id)
    }
  }

  #tickLeader(leader: Leader): void {
    if (++leader.quorumElapsed >= this.#electionTicks) {
      leader.quorumElapsed = 0
      const heard = hasQuorum(
        this.#memberships.quorums,
        (voter) => voter === this.#id || leader.progress.get(voter)?.active === true,
      )
      if (!heard) {
        this.#becomeFollower(this.#term, undefined)
        return
      }
      for (const progress of leader.progress.values()) progress.active = false
    }
    if (++leader.heartbeatElapsed >= this.#heartbeatTicks) leader.heartbeatDue = true
    // Whoever was to lead does not: this node goes on (thesis 3.10).
    const { transfer } = leader
    if (transfer !== undefined && ++transfer.elapsed >= this.#electionTicks) {
      leader.transfer = undefined
    }
  }

  #tickElection(): void {
    this.#electionElapsed++
    if (this.#linkDownTicks !== undefined) this.#linkDownElapsed++
    const linkDown =
      this.#linkDownTicks !== undefined && this.#linkDownElapsed >= this.#linkDownTicks
    if (this.#electionElapsed < this.#electionTimeout && !linkDown) return
    this.#linkDownTicks = undefined
    this.#resetElectionTimer()
    if (this.#installing !== undefined) return
    // While its own vote is not durable nobody was asked yet: another term would begin all over, and on a disk slower
    // than the timeout there would never be a leader.
    if (this.#role.role === 'candidate' && !this.#role.votes.has(this.#id)) return
    if (this.#memberships.mayLead(this.#id, this.#log.committed)) this.#campaign()
    else if (this.#role.role === 'follower') this.#setLeader(this.#role, undefined)
  }

  /** A message from a peer, or one that this node sent to itself. */
  step(message: Message): void {
    assert(message.to === this.#id, () => `a message for ${message.to} reached ${this.#id}`)
    assertIndex(message.term, 'the term of a message')
    if (message.term > this.#term) {
      if (!this.#admitsHigherTerm(message)) return
    } else if (message.term < this.#term) {
      this.#answerLowerTerm(message)
      return
    }
    // A pre-vote asks for a later term: it shows a peer that does not hear this leader.
    if (message.term === this.#term) this.#noteActive(message.from)
    this.#dispatch(message)
  }

  /** Steps up to a higher term where the message proves one; false when the message is to be ignored. */
  #admitsHigherTerm(message: Message): boolean {
    switch (message.type) {
      case 'pre-vote':
        return true
      case 'pre-vote-reply':
        if (message.granted) return true
        break
      case 'vote':
        // A leader is heard: whoever campaigns now does so because IT hears nothing (thesis 4.2.3), or was removed.
        if (this.#hearsLeader() && !message.transfer) return false
        break
      default:
        break
    }
    const fromLeader = ['append', 'heartbeat', 'timeout-now'].includes(message.type)
    this.#becomeFollower(message.term, fromLeader ? message.from : undefined)
    return true
  }

  /** A leader of a lower term learns ours and steps down; everything else of the past is nobody's business. */
  #answerLowerTerm(message: Message): void {
    if (message.type === 'heartbeat') {
      this.#send({ type: 'heartbeat-reply', ...this.#envelope(message.from), round: 0 })
    } else if (message.type === 'append') {
      this.#sendReject(message)
    } else if (message.type === 'pre-vote') {
      this.#send({ type: 'pre-vote-reply', ...this.#envelope(message.from), granted: false })
    }
  }

  #dispatch(message: Message): void {
    switch (message.type) {
      case 'pre-vote':
        this.#onPreVote(message)
        break
      case 'vote':
        this.#onVote(message)
        break
      case 'pre-vote-reply':
      case 'vote-reply':
        this.#onVoteReply(message)
        break
      case 'append':
        this.#onAppend(message)
        break
      case 'append-reply':
        this.#onAppendReply(message)
        break
      case 'append-reject':
        this.#onAppendReject(message)
        break
      case 'heartbeat':
        this.#onHeartbeat(message)
        break
      case 'heartbeat-reply':
        this.#onHeartbeatReply(message)
        break
      case 'read':
        this.#onRead(message)
        break
      case 'read-reply':
        this.#onReadReply(message)
        break
      case 'timeout-now':
        this.#onTimeoutNow(message)
        break
      default:
        unreachable(message)
    }
  }

  /**
   * Appends one commands entry per element. Refused ('full') above the limit of uncommitted bytes, and on any node
   * but the leader; a refusal is certain: nothing was appended.
   */
  propose(data: readonly Uint8Array[]): ProposeResult {
    const leader = this.#role
    if (leader.role !== 'leader') return { accepted: false, reason: 'not-leader' }
    if (leader.transfer !== undefined) return { accepted: false, reason: 'transferring' }
    const bytes = data.reduce((sum, bytes) => sum + bytes.length, 0)
    if (
      leader.uncommittedBytes > 0 &&
      leader.uncommittedBytes + bytes > this.#limits.uncommittedBytes
    ) {
      return { accepted: false, reason: 'full' }
    }
    const first = this.#log.lastIndex + 1
    for (const bytes of data) this.#pushOwn(leader, { type: 'commands', data: bytes })
    return { accepted: true, term: this.#term, first }
  }

  /**
   * Proposes that `members` be the members. In force at once, joint first when the voters change; the leader ends that
   * by itself. Only one at a time, and only behind an entry of the own term that is committed: else two leaders could
   * each commit with a majority that does not meet the other's (Ongaro on raft-dev, 2015).
   */
  changeMembership(members: readonly Member[]): ChangeResult {
    const leader = this.#role
    const { current, index } = this.#memberships
    if (leader.role !== 'leader' || current === undefined) {
      return { accepted: false, reason: 'not-leader' }
    }
    if (this.#log.committed < leader.noop) return { accepted: false, reason: 'not-ready' }
    if (index > this.#log.committed || current.outgoing !== undefined) {
      return { accepted: false, reason: 'changing' }
    }
    if (leader.transfer !== undefined) return { accepted: false, reason: 'transferring' }
    this.#pushMembership(leader, membershipTowards(current, members))
    return { accepted: true, term: this.#term, index: this.#log.lastIndex }
  }

  /**
   * Hands leadership over to this voter, or to the one that is furthest (thesis 3.10): once it has everything, it is
   * told to campaign at once. Until then, and for at most an election timeout, nothing is proposed.
   */
  transferLeadership(to?: NodeId): TransferResult {
    const leader = this.#role
    if (leader.role !== 'leader') return 'not-leader'
    if (leader.transfer !== undefined) return 'transferring'
    const target = to ?? this.#furthestVoter(leader)
    if (target === undefined || target === this.#id) return 'no-target'
    if (!this.#memberships.quorums[0]?.includes(target)) return 'no-target'
    leader.transfer = { to: target, elapsed: 0, asked: false }
    return 'begun'
  }

  /** Asks for a read index. The answer comes in a Ready: `reads`, or `lostReads` when no leader confirms it. */
  requestRead(id: ReadId): void {
    if (this.#role.role === 'leader') {
      if (!this.#role.reads.add({ from: this.#id, id })) this.#lostReads.push(id)
      return
    }
    const leader = this.leader
    if (leader === undefined || this.#remoteReads.size >= READS_MAX) {
      this.#lostReads.push(id)
      return
    }
    this.#remoteReads.set(id, 0)
    this.#send({ type: 'read', ...this.#envelope(leader), id })
  }

  /** The link to `peer` broke: what was on its way may be lost. */
  reportUnreachable(peer: NodeId): void {
    if (this.#role.role === 'leader') {
      const progress = this.#role.progress.get(peer)
      if (progress?.state === 'replicate') progress.toProbe()
      return
    }
    if (this.leader !== peer) return
    for (const id of this.#remoteReads.keys()) this.#loseRemoteRead(id)
    // Only a pre-vote, and only after a heartbeat's time: a link that comes back at once changes nothing. The
    // random part keeps the followers of a dead leader from campaigning in the same tick.
    if (this.#linkDownTicks === undefined) {
      this.#linkDownTicks =
        this.#heartbeatTicks + 1 + Math.floor(this.#random() * 2 * this.#heartbeatTicks)
      this.#linkDownElapsed = 0
    }
  }

  /** `peer` came back as a new process: nothing that its old one was sent is still on its way. */
  peerRestarted(peer: NodeId): void {
    if (this.#role.role === 'leader') this.#role.progress.get(peer)?.toProbe()
  }

  /**
   * InstallSnapshot (paper 7): a whole state was received from the leader of `term` and lies verified beside the old
   * one. True: it is accepted, and a later persist switches to it. False: drop it; it is from the past, or this node
   * has as much already.
   */
  offerSnapshot(from: NodeId, term: Term, snapshot: SnapshotMeta): boolean {
    const { last } = snapshot
    assertIndex(term, 'the term of a snapshot')
    assertIndex(last.index, 'the index of a snapshot')
    assert(last.term <= term, () => `a snapshot of term ${last.term} from a leader of ${term}`)
    if (term < this.#term) return false
    if (term > this.#term) this.#becomeFollower(term, from)
    this.#follow(from)
    if (this.#installing !== undefined) return false
    if (last.index <= this.#log.committed) {
      this.#acknowledge(from, this.#log.committed)
      return false
    }
    this.#installing = snapshot
    return true
  }

  /** A state that stands at `index` or above is on its way to this member; undefined: it cannot be sent now. */
  snapshotBegun(to: NodeId, index: Index | undefined): void {
    if (this.#role.role !== 'leader') return
    if (index === undefined) this.snapshotEnded(to, false)
    else this.#role.progress.get(to)?.snapshotBegun(index)
  }

  /** The sending to this member ended: the other side has all of it, or will not get it. */
  snapshotEnded(to: NodeId, delivered: boolean): void {
    if (this.#role.role !== 'leader') return
    this.#role.progress.get(to)?.snapshotEnded(delivered, this.#log.base().index)
  }

  /** The persist named by `token` is durable. Its `afterPersist` messages may leave now. */
  persisted(token: number): void {
    assert(this.#persistInFlight && token === this.#persistToken, () => `no persist ${token}`)
    this.#persistInFlight = false
    this.#log.persisted()
    if (this.#switching) this.#installed()
    if (this.#role.role !== 'leader') return
    this.#advanceCommit(this.#role)
    this.#releaseUncommitted(this.#role)
  }

  /** The store and the state machine show the snapshot: from here on it is what this node has. */
  #installed(): void {
    const snapshot = this.#installing
    assert(snapshot !== undefined, () => 'no snapshot was to be installed')
    this.#installing = undefined
    this.#switching = false
    this.#log.restored(snapshot.last)
    this.#applied = snapshot.last.index
    this.#applying = []
    this.#applyingBytes = 0
    this.#loadMemberships(snapshot.membership)
    const { leader } = this
    if (leader !== undefined) this.#acknowledge(leader, snapshot.last.index)
  }

  /** Everything up to `index` is part of the state now. */
  applied(index: Index): void {
    assert(
      index >= this.#applied && index <= this.#log.handed,
      () => `applied ${index}, after ${this.#applied}, handed out ${this.#log.handed}`,
    )
    this.#applied = index
    let done = 0
    for (const batch of this.#applying) {
      if (batch.index > index) break
      this.#applyingBytes -= batch.bytes
      done++
    }
    if (done > 0) this.#applying.splice(0, done)
  }

  // ---- Output ---------------------------------------------------------------------------------------------------

  /** What is to be done now; undefined when there is nothing. */
  ready(): Ready | undefined {
    if (this.#role.role === 'leader') this.#prepareLeader(this.#role)
    const persist = this.#takePersist()
    let afterPersist: readonly Message[] = []
    if (persist !== undefined) {
      afterPersist = this.#afterPersist
      this.#afterPersist = []
    } else if (!this.#persistInFlight && this.#afterPersist.length > 0) {
      // Everything they promise is durable already.
      for (const message of this.#afterPersist) this.#messages.push(message)
      this.#afterPersist = []
    }
    const committed = this.#takeCommitted()
    if (
      persist === undefined &&
      committed.length === 0 &&
      this.#messages.length === 0 &&
      this.#reads.length === 0 &&
      this.#lostReads.length === 0 &&
      this.#snapshots.length === 0
    ) {
      return undefined
    }
    const ready: Ready = {
      messages: this.#messages,
      persist,
      afterPersist,
      committed,
      reads: this.#reads,
      lostReads: this.#lostReads,
      snapshots: this.#snapshots,
    }
    this.#messages = []
    this.#snapshots = []
    this.#reads = []
    this.#lostReads = []
    return ready
  }

  #takePersist(): Ready['persist'] {
    if (this.#persistInFlight) return undefined
    const { hasUnpersisted } = this.#log
    // What was accepted before the snapshot becomes durable first: only then is it known what the log holds.
    const snapshot = hasUnpersisted ? undefined : this.#installing
    if (!this.#hardStateChanged && !hasUnpersisted && snapshot === undefined) return undefined
    const hardState = this.#hardStateChanged ? { term: this.#term, vote: this.#vote } : undefined
    this.#hardStateChanged = false
    this.#persistInFlight = true
    this.#switching = snapshot !== undefined
    const entries = this.#log.takeUnpersisted()
    return { token: ++this.#persistToken, hardState, entries, snapshot }
  }

  #takeCommitted(): readonly Entry[] {
    if (!this.#log.hasCommitted || this.#installing !== undefined) return []
    const entries = this.#log.takeCommitted(this.#limits.applyBytes - this.#applyingBytes)
    if (entries.length === 0) return entries
    let bytes = 0
    for (const entry of entries) bytes += entryBytes(entry)
    this.#applying.push({ index: this.#log.handed, bytes })
    this.#applyingBytes += bytes
    return entries
  }

  /** Builds what a leader owes its peers from the state of this moment: one append holds all of a turn. */
  #prepareLeader(leader: Leader): void {
    if (leader.reads.canBegin && this.#log.committed >= leader.noop) {
      leader.reads.begin(this.#log.committed, this.#id)
      leader.heartbeatDue = true
      this.#finishReads(leader)
    }
    if (leader.heartbeatDue) {
      leader.heartbeatDue = false
      leader.heartbeatElapsed = 0
      for (const peer of leader.progress.keys()) this.#sendHeartbeat(leader, peer)
      // Asked again with every heartbeat: the first request may be lost.
      if (leader.transfer !== undefined) leader.transfer.asked = false
    }
    for (const [peer, progress] of leader.progress) this.#sendAppends(peer, progress)
    this.#askSuccessor(leader)
  }

  #askSuccessor({ transfer, progress }: Leader): void {
    if (transfer === undefined || transfer.asked) return
    if (progress.get(transfer.to)?.reliable !== this.#log.lastIndex) return
    transfer.asked = true
    this.#send({ type: 'timeout-now', ...this.#envelope(transfer.to) })
  }

  // ---- Elections --------------------------------------------------------------------------------------------------

  #campaign(): void {
    if (this.#isSoleVoter()) {
      this.#becomeCandidate(false)
      return
    }
    this.#abandonRole()
    this.#role = { role: 'pre-candidate', votes: new Map([[this.#id, true]]) }
    for (const peer of this.#memberships.voters) {
      if (peer === this.#id) continue
      const envelope = { from: this.#id, to: peer, term: this.#term + 1 }
      this.#send({ type: 'pre-vote', ...envelope, last: this.#log.last() })
    }
  }

  #isSoleVoter(): boolean {
    const { voters } = this.#memberships
    return voters.length === 1 && voters[0] === this.#id
  }

  #becomeCandidate(transfer: boolean): void {
    this.#abandonRole()
    this.#setTerm(this.#term + 1, this.#id)
    this.#resetElectionTimer()
    this.#role = { role: 'candidate', votes: new Map() }
    // Its own vote counts when it is durable, like everybody else's.
    this.#afterPersist.push({ type: 'vote-reply', ...this.#envelope(this.#id), granted: true })
    for (const peer of this.#memberships.voters) {
      if (peer === this.#id) continue
      const last = this.#log.last()
      this.#afterPersist.push({ type: 'vote', ...this.#envelope(peer), last, transfer })
    }
  }

  /** The leader hands over: it is known to lead no longer, so nobody is asked beforehand. */
  #onTimeoutNow(message: TimeoutNow): void {
    this.#follow(message.from)
    if (this.#installing !== undefined) return
    if (this.#memberships.voters.includes(this.#id)) this.#becomeCandidate(true)
  }

  #becomeLeader(): void {
    assert(this.#role.role === 'candidate', () => `a ${this.#role.role} cannot win an election`)
    const noop = this.#log.lastIndex + 1
    const leader: Leader = {
      role: 'leader',
      progress: new Map(),
      reads: new ReadRounds(),
      noop,
      heartbeatElapsed: 0,
      quorumElapsed: 0,
      heartbeatDue: true,
      uncommitted: [],
      uncommittedBytes: 0,
      transfer: undefined,
    }
    this.#role = leader
    this.#meetMembers(leader)
    this.#pushOwn(leader, { type: 'noop' })
  }

  #becomeFollower(term: Term, leader: NodeId | undefined): void {
    this.#abandonRole()
    if (term > this.#term) this.#setTerm(term, undefined)
    this.#role = { role: 'follower', leader }
    this.#linkDownTicks = undefined
    this.#resetElectionTimer()
  }

  /** What the role being left owes: its reads are lost, and so are those asked of a leader. */
  #abandonRole(): void {
    if (this.#role.role === 'leader') {
      for (const read of this.#role.reads.abandon()) {
        if (read.from === this.#id) this.#lostReads.push(read.id)
      }
      this.#slowest = undefined
    }
    for (const id of this.#remoteReads.keys()) this.#loseRemoteRead(id)
  }

  #setTerm(term: Term, vote: NodeId | undefined): void {
    assert(term > this.#term, () => `term ${term} does not rise above ${this.#term}`)
    assertIndex(term, 'a term')
    this.#term = term
    this.#vote = vote
    this.#hardStateChanged = true
    this.#slowest = undefined
    // Promises of lower terms that wait for a persist help nobody any more, and the next persist may not hold
    // what they promise (an acknowledged entry may be cut before it becomes durable).
    this.#afterPersist = []
  }

  #resetElectionTimer(): void {
    this.#electionElapsed = 0
    this.#electionTimeout = this.#electionTicks + Math.floor(this.#random() * this.#electionTicks)
    // A sole voter has nobody to wait for.
    if (this.#isSoleVoter()) this.#electionTimeout = 1
  }

  /** A leader was heard within an election timeout, and the link to it did not break a heartbeat ago. */
  #hearsLeader(): boolean {
    if (this.#role.role === 'leader') return true
    if (this.#role.role !== 'follower' || this.#role.leader === undefined) return false
    const linkDown =
      this.#linkDownTicks !== undefined && this.#linkDownElapsed >= this.#heartbeatTicks
    return this.#electionElapsed < this.#electionTicks && !linkDown
  }

  #isUpToDate(last: { index: Index; term: Term }): boolean {
    const own = this.#log.last()
    return last.term > own.term || (last.term === own.term && last.index >= own.index)
  }

  #onPreVote(message: PreVote): void {
    const granted =
      message.term > this.#term && !this.#hearsLeader() && this.#isUpToDate(message.last)
    const term = granted ? message.term : this.#term
    const envelope = { from: this.#id, to: message.from, term }
    this.#send({ type: 'pre-vote-reply', ...envelope, granted })
  }

  #onVote(message: Vote): void {
    const free = this.#vote === undefined || this.#vote === message.from
    const granted = free && this.leader === undefined && this.#isUpToDate(message.last)
    if (granted && this.#vote === undefined) {
      this.#vote = message.from
      this.#hardStateChanged = true
    }
    if (granted) this.#resetElectionTimer()
    this.#afterPersist.push({ type: 'vote-reply', ...this.#envelope(message.from), granted })
  }

  #onVoteReply(message: Extract<Message, { type: 'pre-vote-reply' | 'vote-reply' }>): void {
    const wanted = message.type === 'vote-reply' ? 'candidate' : 'pre-candidate'
    if (this.#role.role !== wanted) return
    if (message.type === 'pre-vote-reply' && message.granted && message.term !== this.#term + 1) {
      return
    }
    this.#role.votes.set(message.from, message.granted)
    const result = countVotes(this.#memberships.quorums, this.#role.votes)
    if (result === 'won') {
      if (wanted === 'candidate') this.#becomeLeader()
      else this.#becomeCandidate(false)
    } else if (result === 'lost') {
      this.#becomeFollower(this.#term, undefined)
    }
  }

  // ---- Following ----------------------------------------------------------------------------------------------------

  /** A message that only the leader of this term sends: whoever it is, this node follows it. */
  #follow(leader: NodeId): void {
    assert(
      this.#role.role !== 'leader',
      () => `two leaders in term ${this.#term}: ${leader} and ${this.#id}`,
    )
    if (this.#role.role !== 'follower') this.#becomeFollower(this.#term, leader)
    else if (this.#role.leader === undefined) this.#setLeader(this.#role, leader)
    else {
      assert(
        this.#role.leader === leader,
        () => `two leaders in term ${this.#term}: ${leader} and ${this.leader}`,
      )
    }
    this.#electionElapsed = 0
    this.#linkDownTicks = undefined
  }

  #setLeader(follower: Follower, leader: NodeId | undefined): void {
    follower.leader = leader
    for (const id of this.#remoteReads.keys()) this.#loseRemoteRead(id)
  }

  #onAppend(message: Append): void {
    this.#follow(message.from)
    if (this.#installing !== undefined) return
    const { prev, entries } = message
    if (prev.index < this.#log.committed) {
      // A late or repeated append: what is committed agrees with every leader. Entries may still be new.
      const known = Math.min(this.#log.committed, prev.index + entries.length)
      const rest = entries.slice(known - prev.index)
      if (rest.length > 0)
        this.#accept({ index: known, term: this.#log.termOf(known) }, rest, message)
      else this.#acknowledge(message.from, this.#log.committed)
      return
    }
    if (this.#log.matches(prev)) this.#accept(prev, entries, message)
    else this.#sendReject(message)
  }

  #accept(prev: { index: Index; term: Term }, entries: readonly Entry[], message: Append): void {
    let at = prev.index
    for (const entry of entries) {
      assert(entry.index === ++at, () => `a gap in an append: ${entry.index} where ${at} belongs`)
      assert(entry.term <= message.term, () => `entry ${at} is of term ${entry.term}`)
    }
    const changed = this.#log.append(entries)
    if (changed !== undefined) {
      this.#memberships.truncate(changed)
      for (const entry of entries)
        if (entry.index >= changed) this.#memberships.append(entry, this.#log.committed)
    }
    // Only what THIS message has verified may be committed, not whatever else this log holds (paper figure 2).
    this.#log.commitTo(Math.min(message.commit, at))
    this.#acknowledge(message.from, at)
  }

  /** One acknowledgement speaks for all that wait for the same persist: however slow the disk, they do not pile up. */
  #acknowledge(to: NodeId, match: Index): void {
    const waiting = this.#afterPersist.at(-1)
    if (waiting?.type === 'append-reply') {
      if (waiting.match >= match) return
      this.#afterPersist.pop()
    }
    this.#afterPersist.push({ type: 'append-reply', ...this.#envelope(to), match })
  }

  #sendReject(message: Append): void {
    this.#send({
      type: 'append-reject',
      ...this.#envelope(message.from),
      prev: message.prev.index,
      hint: this.#log.mayAgree(message.prev.index, message.prev.term),
      last: this.#log.lastIndex,
    })
  }

  #onHeartbeat(message: Heartbeat): void {
    this.#follow(message.from)
    this.#slowest = message.slowest
    if (this.#installing === undefined) {
      this.#log.commitTo(Math.min(message.commit, this.#log.lastIndex))
    }
    this.#send({
      type: 'heartbeat-reply',
      ...this.#envelope(message.from),
      round: message.round,
    })
  }

  // ---- Leading --------------------------------------------------------------------------------------------------------

  #noteActive(from: NodeId): void {
    if (this.#role.role !== 'leader') return
    const progress = this.#role.progress.get(from)
    if (progress !== undefined) progress.active = true
  }

  #pushOwn(leader: Leader, payload: Payload): Entry {
    const entry: Entry = {
      index: this.#log.lastIndex + 1,
      term: this.#term,
      payload,
      encoded: undefined,
    }
    this.#log.push(entry)
    const bytes = entryBytes(entry)
    leader.uncommitted.push({ index: entry.index, bytes })
    leader.uncommittedBytes += bytes
    return entry
  }

  #sendAppends(peer: NodeId, progress: Progress): void {
    progress.compacted(this.#log.base().index)
    if (progress.takeSnapshotDue()) this.#snapshots.push(peer)
    if (progress.state !== 'replicate') {
      // Empty: where the logs agree is not known yet, so entries might travel for nothing.
      if (progress.canSend()) {
        progress.sentProbe()
        this.#sendAppend(peer, progress, [])
      }
      return
    }
    while (progress.next <= this.#log.lastIndex && progress.canSend()) {
      const entries = this.#log.entries(
        progress.next,
        this.#log.lastIndex + 1,
        this.#limits.appendBytes,
      )
      this.#sendAppend(peer, progress, entries)
    }
    // Only what was sent already can be told as committed: behind a full window that is less than the commit index.
    const tellable = Math.min(this.#log.committed, progress.next - 1)
    const waits = progress.readIndex > progress.commitSent && progress.state === 'replicate'
    if (waits && tellable > progress.commitSent) this.#sendAppend(peer, progress, [])
  }

  #sendAppend(peer: NodeId, progress: Progress, entries: readonly Entry[]): void {
    const index = progress.next - 1
    const commit = this.#log.committed
    this.#send({
      type: 'append',
      ...this.#envelope(peer),
      prev: { index, term: this.#log.termOf(index) },
      entries,
      commit,
    })
    if (progress.state !== 'replicate') return
    let bytes = 0
    for (const entry of entries) bytes += entryBytes(entry)
    progress.sentEntries(entries.length, bytes)
    progress.commitSent = Math.max(progress.commitSent, Math.min(commit, index + entries.length))
  }

  #sendHeartbeat(leader: Leader, peer: NodeId): void {
    const match = leader.progress.get(peer)?.reliable ?? 0
    const slowest = this.slowest
    assert(slowest !== undefined, () => 'a leader knows who is slowest')
    this.#send({
      type: 'heartbeat',
      ...this.#envelope(peer),
      commit: Math.min(match, this.#log.committed),
      round: leader.reads.round,
      slowest,
    })
  }

  #onAppendReply(message: AppendReply): void {
    if (this.#role.role !== 'leader') return
    const progress = this.#role.progress.get(message.from)
    if (progress === undefined) return
    assert(
      message.match <= this.#log.lastIndex,
      () => `${message.from} acknowledges ${message.match}, past ${this.#log.lastIndex}`,
    )
    progress.acknowledged(message.match, this.#log.base().index)
    this.#advanceCommit(this.#role)
  }

  #onAppendReject(message: AppendReject): void {
    if (this.#role.role !== 'leader') return
    const progress = this.#role.progress.get(message.from)
    if (progress === undefined) return
    const agree = this.#log.mayAgree(message.hint.index, message.hint.term).index
    progress.rejected(message.prev, agree, message.last, this.#log.base().index)
  }

  #onHeartbeatReply(message: HeartbeatReply): void {
    const leader = this.#role
    if (leader.role !== 'leader') return
    const progress = leader.progress.get(message.from)
    if (progress === undefined) return
    if (progress.state !== 'reverted') leader.reads.confirm(message.from, message.round)
    this.#finishReads(leader)
    const stalled = progress.heartbeatAnswered()
    // Behind the base the next turn finds that it needs a snapshot.
    if (stalled && progress.next > this.#log.base().index) {
      this.#sendAppend(message.from, progress, [])
    }
  }

  /** Only entries of the own term are committed by counting; earlier ones follow them (paper 5.4.2). */
  #advanceCommit(leader: Leader): void {
    const index = quorumIndex(this.#memberships.quorums, (voter) => {
      if (voter === this.#id) return this.#log.durable
      return leader.progress.get(voter)?.reliable ?? 0
    })
    if (index <= this.#log.committed || this.#log.term(index) !== this.#term) return
    this.#log.commitTo(index)
    this.#releaseUncommitted(leader)
    this.#finishChange(leader)
  }

  /** A majority without this node can commit while its own disk is slow: its unstable tail is bounded, too. */
  #releaseUncommitted(leader: Leader): void {
    const settled = Math.min(this.#log.committed, this.#log.durable)
    let done = 0
    for (const entry of leader.uncommitted) {
      if (entry.index > settled) break
      leader.uncommittedBytes -= entry.bytes
      done++
    }
    leader.uncommitted.splice(0, done)
  }

  // ---- Reads ------------------------------------------------------------------------------------------------------------

  #onRead(message: ReadRequest): void {
    // A read that finds no room, or no leader, is not answered: its node gives it up after an election timeout.
    if (this.#role.role === 'leader') this.#role.reads.add({ from: message.from, id: message.id })
  }

  #onReadReply(message: ReadReply): void {
    if (this.#remoteReads.delete(message.id)) {
      this.#reads.push({ id: message.id, index: message.index })
    }
  }

  #finishReads(leader: Leader): void {
    const round = leader.reads.finish((confirmed) =>
      hasQuorum(this.#memberships.quorums, (voter) => confirmed.has(voter)),
    )
    if (round === undefined) return
    for (const { from, id } of round.reads) {
      if (from === this.#id) {
        this.#reads.push({ id, index: round.index })
        continue
      }
      const progress = leader.progress.get(from)
      if (progress !== undefined) progress.readIndex = Math.max(progress.readIndex, round.index)
      this.#send({ type: 'read-reply', ...this.#envelope(from), id, index: round.index })
    }
  }

  #loseRemoteRead(id: ReadId): void {
    this.#remoteReads.delete(id)
    this.#lostReads.push(id)
  }

  // ---- Membership ---------------------------------------------------------------------------------------------------------

  #pushMembership(leader: Leader, membership: Membership): void {
    const entry = this.#pushOwn(leader, { type: 'membership', membership })
    this.#memberships.append(entry, this.#log.committed)
    this.#meetMembers(leader)
    // Those that have confirmed the round in flight may be enough now, and nobody else may be left to answer.
    this.#finishReads(leader)
  }

  /** Every other member, voter or not, is sent the log; nobody else is. */
  #meetMembers({ progress }: Leader): void {
    const others = new Set(this.membership?.members.map(({ id }) => id))
    others.delete(this.#id)
    for (const id of progress.keys()) if (!others.has(id)) progress.delete(id)
    for (const id of others) {
      if (progress.has(id)) continue
      progress.set(id, new Progress(this.#log.lastIndex + 1, this.#limits.window))
    }
  }

  /** A committed membership has consequences: a joint one is left, and a leader that it leaves out goes. */
  #finishChange(leader: Leader): void {
    const { current, index } = this.#memberships
    if (current === undefined || index > this.#log.committed) return
    if (current.outgoing !== undefined) this.#pushMembership(leader, settled(current))
    else if (!this.#memberships.voters.includes(this.#id)) this.#stepAside(leader)
  }

  /** This leader is no voter any more (thesis 4.2.2): the one that has most of the log is to follow it at once. */
  #stepAside(leader: Leader): void {
    const next = this.#furthestVoter(leader)
    if (next !== undefined) this.#send({ type: 'timeout-now', ...this.#envelope(next) })
    this.#becomeFollower(this.#term, undefined)
  }

  /** Of those that could be elected in the membership to come; one that answers, if any does. */
  #furthestVoter(leader: Leader): NodeId | undefined {
    let best: { id: NodeId; rank: number } | undefined
    for (const id of this.#memberships.quorums[0] ?? []) {
      const progress = leader.progress.get(id)
      if (progress === undefined || progress.state === 'reverted') continue
      const rank = progress.match + (progress.state === 'replicate' ? this.#log.lastIndex + 1 : 0)
      if (best === undefined || rank > best.rank) best = { id, rank }
    }
    return best?.id
  }

  #envelope(to: NodeId): { from: NodeId; to: NodeId; term: Term } {
    return { from: this.#id, to, term: this.#term }
  }

  #send(message: Message): void {
    this.#messages.push(message)
  }
}
