/*
 * The members, as this node knows them and as it deals with them: the membership in force, who of them is connected and
 * was heard when, what is wished of them (membership-requests.ts), when this node hands its leadership over, and
 * whether it is a member itself any more. It owns no link, timer or clock.
 */

import type { CoreStatus, TransferResult } from '../raft/core.ts'
import type { RaftNode } from '../raft/node.ts'
import type { Index, Member, Membership, NodeId } from '../raft/types.ts'
import type { LoggedCommand } from '../storage/codec.ts'
import { FEATURE_LEVEL_FIRST } from '../storage/state-meta.ts'
import type { StateStore } from '../storage/state-store.ts'
import type { Config } from './config.ts'
import { FeatureLevel, REPLACE_LEVEL, whyTooOld } from './feature-level.ts'
import { HandOver } from './hand-over.ts'
import type { MembershipRequest } from './membership-plan.ts'
import { MembershipRequests, type RequestOutcome } from './membership-requests.ts'
import type { Identity } from './peer-handshake.ts'
import type { Note } from './peer-messages.ts'
import type { Peers } from './peers.ts'
import type { ReplicaOptions } from './replica-ports.ts'

export interface MembersOptions
  extends Pick<ReplicaOptions, 'id' | 'clock' | 'random' | 'log' | 'config' | 'state' | 'level'> {
  readonly config: Config
  readonly state: StateStore
  /** Where this node is reached now, as it tells the others. */
  readonly own: Pick<Member, 'peerAddress' | 'clientAddress'>
  readonly peers: () => Peers
  readonly clusterId: () => string | undefined
  /** undefined until this node is bound to a cluster. */
  readonly raft: () => RaftNode | undefined
  /** Appends an entry with this command, of a leader; undefined: not now. */
  readonly propose: (command: LoggedCommand) => Index | undefined
  readonly wake: () => void
}

export class Members {
  readonly #options: MembersOptions
  readonly #requests: MembershipRequests
  readonly #handOver: HandOver
  readonly #level: FeatureLevel
  readonly #heardAt = new Map<NodeId, number>()
  #membership: Membership | undefined
  #removed = false
  /** The membership that was applied when it was last looked at. */
  #applied: Membership | undefined
  /** Who leads, as the last turn saw it, and who led last, as far as this node knows. */
  #leader: NodeId | undefined
  lastLeader: NodeId | undefined

  constructor(options: MembersOptions) {
    this.#options = options
    const { id, clock, random, log, config, state, own, peers, raft } = options
    const ports = {
      now: () => clock.monotonic(),
      led: (): CoreStatus | undefined => this.#led(),
      transferLeadership: (to?: NodeId): TransferResult =>
        raft()?.transferLeadership(to) ?? 'not-leader',
      log,
    }
    this.#requests = new MembershipRequests({
      ...ports,
      self: id,
      random,
      leader: () => raft()?.leader,
      changeMembership: (members) =>
        raft()?.changeMembership(members) ?? { accepted: false, reason: 'not-leader' },
      note: (to, note) => peers().note(to, note),
      probe: (address) => peers().enquiries.probe(address),
      announced: (member) => (member === id ? own : peers().announced(member)),
      clusterId: options.clusterId,
      connected: (member) => this.isUp(member),
      wasRemoved: (member) => state.wasRemoved(member),
      whyTooOld: (node) => whyTooOld(node, state.featureLevel()),
      isRaisingLevel: (status) => this.#level.isBeingRaised(status),
      mayTellLevel: () => state.featureLevel() >= REPLACE_LEVEL,
    })
    this.#level = new FeatureLevel({
      ...ports,
      self: id,
      own: options.level ?? FEATURE_LEVEL_FIRST,
      reached: () => state.featureLevel(),
      connected: (member) => this.isUp(member),
      known: (member) => peers().announced(member)?.level,
      propose: options.propose,
    })
    this.#handOver = new HandOver({
      ...ports,
      otherLeads: () => this.#leader !== undefined && this.#leader !== id,
      slowCommitMs: () => config.get('slow-commit-ms'),
    })
  }

  // ---- Who they are -----------------------------------------------------------------------------------------------

  /** Undefined until this node's log has one. */
  get membership(): Membership | undefined {
    return this.#membership
  }

  get all(): readonly Member[] {
    return this.#membership?.members ?? []
  }

  member(id: NodeId | undefined): Member | undefined {
    return this.all.find((member) => member.id === id)
  }

  /** This node was a member once, and never will be again. */
  get isRemoved(): boolean {
    return this.#removed
  }

  isUp(id: NodeId): boolean {
    return this.#options.peers().isUp(id)
  }

  heard(from: NodeId): void {
    this.#heardAt.set(from, this.#options.clock.monotonic())
  }

  /** Ms since that member was last heard; undefined: not in the life of this process. */
  silentForMs(id: NodeId): number | undefined {
    const heard = this.#heardAt.get(id)
    return heard === undefined ? undefined : Math.round(this.#options.clock.monotonic() - heard)
  }

  /** Takes over what is in force now; false when that is known already. */
  follow(raft: RaftNode): boolean {
    const { membership } = raft
    if (this.#removed || membership === undefined || membership === this.#membership) return false
    this.#membership = membership
    this.#options.peers().setMembers(membership.members, raft.membershipIndex)
    const ids = new Set(membership.members.map(({ id }) => id))
    for (const id of this.#heardAt.keys()) if (!ids.has(id)) this.#heardAt.delete(id)
    return true
  }

  // ---- What is wished of them -------------------------------------------------------------------------------------

  request(request: MembershipRequest): Promise<RequestOutcome> {
    const outcome = this.#requests.submit(request)
    this.#requests.work()
    this.#options.wake()
    return outcome
  }

  /** See PeerEvents.joinAsked. */
  joinAsked(other: Identity): string | undefined {
    return this.#requests.joinAsked(other)
  }

  noted(from: NodeId, note: Note): void {
    if (note.type === 'membership-asked') {
      this.#requests.asked(from, note)
      this.#requests.work()
    } else if (note.type === 'membership-told') this.#requests.told(from, note)
  }

  /** Another member leads, or none, or this one may propose now. */
  led(by: NodeId | undefined): void {
    this.#leader = by
    this.lastLeader = by ?? this.lastLeader
    this.#requests.work()
    this.#options.wake()
  }

  /** See HandOver.leave. */
  leave(ms: number): Promise<void> {
    return this.#handOver.leave(ms)
  }

  /** Every tick. */
  work(): void {
    const applied = this.#options.state.membership()
    if (applied !== this.#applied) {
      this.#applied = applied
      if (this.#options.state.wasRemoved(this.#options.id)) this.removed(undefined)
    }
    this.#requests.work()
    this.#handOver.work()
    this.#level.work()
  }

  #led(): CoreStatus | undefined {
    const raft = this.#options.raft()
    return raft?.established === true ? raft.status() : undefined
  }

  /** The log says that this node was removed, or that member does. From now on it stays silent. */
  removed(by: NodeId | undefined): void {
    if (this.#removed) return
    this.#removed = true
    const text =
      'this node was removed from its cluster: it serves nothing any more. ' +
      'To come back it needs an empty data directory, and --join'
    this.#options.log.warn({ clusterId: this.#options.clusterId(), by: by ?? null }, text)
    this.#options.peers().setMembers([], this.#options.raft()?.membershipIndex ?? 0)
    this.#requests.removed()
    this.#options.wake()
  }
}
