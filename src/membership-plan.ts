/*
 * What a wish about the members means to the leader: a change, a hand-over first, nothing any more, or a refusal in
 * words for an operator. Pure: it is asked again after every step, and a wish is fulfilled when nothing is left to do,
 * so any leader can go on with what another one began. It must not know how changes are replicated.
 */

import { votersOf } from '../raft/membership.ts'
import { majority } from '../raft/quorum.ts'
import type { Index, Member, MemberRole, NodeId } from '../raft/types.ts'
import { sameAddress } from './network.ts'

/** A node that is to be a member. */
export interface Newcomer {
  readonly id: NodeId
  readonly peerAddress: string
  readonly clientAddress: string
  /** The member whose place it takes, in one change; undefined: it comes in addition. */
  readonly replaces?: NodeId | undefined
  /** The highest feature level that its build knows; left out: the first, or nobody could tell the leader. */
  readonly level?: number | undefined
}

export type MembershipRequest =
  /** The node at this address; who that is has to be asked first. */
  | { readonly type: 'add'; readonly address: string; readonly learner: boolean }
  | { readonly type: 'admit'; readonly newcomer: Newcomer; readonly learner: boolean }
  | { readonly type: 'remove' | 'promote' | 'demote'; readonly id: NodeId; readonly force: boolean }
  /** `from` is to lead no more; `to`, or anybody, is to lead instead. */
  | { readonly type: 'transfer'; readonly from: NodeId; readonly to: NodeId | undefined }

/** How the leader sees the members. The membership is committed, and not joint; the feature level is not being raised. */
export interface LeaderView {
  readonly self: NodeId
  readonly members: readonly Member[]
  readonly commit: Index
  /** A link to it is up. */
  connected(id: NodeId): boolean
  /** Up to where its log is known to be durable and equal. */
  match(id: NodeId): Index
  wasRemoved(id: NodeId): boolean
  /** Why that node's build does not do for the level that the cluster has reached; undefined: it does. */
  whyTooOld(newcomer: Newcomer): string | undefined
  /** Where that member says that it is to be reached now; undefined: it said nothing yet. */
  announced(id: NodeId): Pick<Member, 'peerAddress' | 'clientAddress'> | undefined
  /** A member that lacks no more entries has caught up. */
  readonly lagMax: number
  readonly membersMax: number
}

export type Decision =
  | { readonly type: 'done'; readonly text: string }
  | { readonly type: 'refused'; readonly text: string }
  | { readonly type: 'change'; readonly members: readonly Member[] }
  | { readonly type: 'hand-over'; readonly to: NodeId | undefined }

const done: Decision = { type: 'done', text: 'OK' }

export function decide(
  request: Exclude<MembershipRequest, { type: 'add' }>,
  view: LeaderView,
): Decision {
  switch (request.type) {
    case 'admit':
      return admit(request.newcomer, request.learner ? 'learner' : 'joining', view)
    case 'remove':
      return remove(request.id, request.force, view)
    case 'promote':
      return promote(request.id, request.force, view)
    case 'demote':
      return demote(request.id, request.force, view)
    case 'transfer':
      return transfer(request.from, request.to, view)
  }
}

/** What the leader changes unasked: addresses that members announce, and newcomers that have caught up. */
export function maintain(view: LeaderView): readonly Member[] | undefined {
  let changed = false
  const members = view.members.map((member) => {
    const said = view.announced(member.id)
    if (said === undefined || isAt(member, said)) return member
    changed = true
    const { peerAddress, clientAddress } = said
    return { ...member, peerAddress, clientAddress }
  })
  if (changed) return members
  const ready = view.members.find(({ id, role }) => role === 'joining' && hasCaughtUp(id, view))
  if (ready === undefined) return undefined
  const promoted = withRole(view.members, ready.id, 'voter')
  return whyUnsafe(promoted, view) === undefined ? promoted : undefined
}

function admit(newcomer: Newcomer, role: MemberRole, view: LeaderView): Decision {
  const { id, peerAddress } = newcomer
  const { members, membersMax } = view
  if (memberOf(id, view) !== undefined) return { type: 'done', text: id }
  if (view.wasRemoved(id)) {
    return refuse(
      `node ${id} was removed once, and its id is never used again: it needs an empty directory`,
    )
  }
  // Where the wish came in the level may have been an earlier one.
  const tooOld = view.whyTooOld(newcomer)
  if (tooOld !== undefined) return refuse(tooOld)
  const replaced = newcomer.replaces === undefined ? undefined : memberOf(newcomer.replaces, view)
  if (replaced !== undefined) return replace(replaced, newcomer, view)
  const there = members.find((member) => sameAddress(member.peerAddress, peerAddress))
  if (there !== undefined) {
    return refuse(`node ${there.id} is the member at ${peerAddress}: remove it first`)
  }
  if (members.length >= membersMax) return refuse(`a cluster has at most ${membersMax} members`)
  return { type: 'change', members: [...members, memberFrom(newcomer, role)] }
}

/**
 * The newcomer gets the role at once, with nothing in its log: in the joint membership the old voters decide as well,
 * so whatever they had committed without it is on a majority that does not count it before its empty log counts.
 */
function replace(old: Member, newcomer: Newcomer, view: LeaderView): Decision {
  const { id, peerAddress } = newcomer
  if (old.id === view.self || view.connected(old.id)) {
    return refuse(`node ${old.id}, whose place node ${id} would take, is connected: it lives`)
  }
  const others = view.members.filter((member) => member.id !== old.id)
  const there = others.find((member) => sameAddress(member.peerAddress, peerAddress))
  if (there !== undefined) return refuse(`node ${there.id} is the member at ${peerAddress}`)
  const members = view.members.map((member) => {
    return member.id === old.id ? memberFrom(newcomer, old.role) : member
  })
  const unsafe = old.role === 'voter' ? whyUnsafe(members, view) : undefined
  return unsafe === undefined ? { type: 'change', members } : refuse(unsafe)
}

function memberFrom({ id, peerAddress, clientAddress }: Newcomer, role: MemberRole): Member {
  return { id, role, peerAddress, clientAddress }
}

function remove(id: NodeId, force: boolean, view: LeaderView): Decision {
  const { members } = view
  if (memberOf(id, view) === undefined) return view.wasRemoved(id) ? done : stranger(id)
  return without(
    id,
    members.filter((member) => member.id !== id),
    force,
    view,
  )
}

function demote(id: NodeId, force: boolean, view: LeaderView): Decision {
  const member = memberOf(id, view)
  if (member === undefined) return stranger(id)
  if (member.role === 'learner') return done
  return without(id, withRole(view.members, id, 'learner'), force, view)
}

/** A change after which that member is no voter. */
function without(
  id: NodeId,
  members: readonly Member[],
  force: boolean,
  view: LeaderView,
): Decision {
  if (votersOf({ members }).length === 0) return refuse(`node ${id} is the only voter`)
  if (id === view.self) return { type: 'hand-over', to: undefined }
  const isVoter = memberOf(id, view)?.role === 'voter'
  const unsafe = isVoter && !force ? whyUnsafe(members, view) : undefined
  return unsafe === undefined ? { type: 'change', members } : refuse(unsafe)
}

function promote(id: NodeId, force: boolean, view: LeaderView): Decision {
  const member = memberOf(id, view)
  if (member === undefined) return stranger(id)
  if (member.role === 'voter') return done
  const members = withRole(view.members, id, 'voter')
  const unsafe = force ? undefined : (whyBehind(id, view) ?? whyUnsafe(members, view))
  return unsafe === undefined ? { type: 'change', members } : refuse(unsafe)
}

function transfer(from: NodeId, to: NodeId | undefined, view: LeaderView): Decision {
  const { self } = view
  if (to === undefined ? self !== from : self === to) return done
  if (to === undefined) return { type: 'hand-over', to }
  const member = memberOf(to, view)
  if (member === undefined) return stranger(to)
  if (member.role !== 'voter') return refuse(`node ${to} is a learner: promote it first`)
  const behind = whyBehind(to, view)
  return behind === undefined ? { type: 'hand-over', to } : refuse(behind)
}

/** Why the voters among `members` might not make a majority; undefined: enough of them are there and up to date. */
function whyUnsafe(members: readonly Member[], view: LeaderView): string | undefined {
  const voters = votersOf({ members })
  const ready = voters.filter((id) => hasCaughtUp(id, view)).length
  const needed = majority(voters.length)
  if (ready >= needed) return undefined
  return (
    `of the ${voters.length} voters to be only ${ready} would be connected and up to date, ` +
    `and ${needed} are needed to go on; FORCE does it all the same`
  )
}

function hasCaughtUp(id: NodeId, view: LeaderView): boolean {
  return whyBehind(id, view) === undefined
}

function whyBehind(id: NodeId, view: LeaderView): string | undefined {
  if (id === view.self) return undefined
  if (!view.connected(id)) return `node ${id} is not connected to the leader`
  const lag = view.commit - view.match(id)
  return lag <= view.lagMax ? undefined : `node ${id} is ${lag} entries behind`
}

function memberOf(id: NodeId, { members }: LeaderView): Member | undefined {
  return members.find((member) => member.id === id)
}

function withRole(members: readonly Member[], id: NodeId, role: MemberRole): readonly Member[] {
  return members.map((member) => (member.id === id ? { ...member, role } : member))
}

function isAt(member: Member, said: Pick<Member, 'peerAddress' | 'clientAddress'>): boolean {
  return (
    sameAddress(member.peerAddress, said.peerAddress) &&
    sameAddress(member.clientAddress, said.clientAddress)
  )
}

function stranger(id: NodeId): Decision {
  return refuse(`no member has the id ${id}: RAFT MEMBERS lists them`)
}

function refuse(text: string): Decision {
  return { type: 'refused', text }
}
