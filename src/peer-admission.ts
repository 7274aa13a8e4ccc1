/*
 * Who may have a link with whom, as both sides judge it: by what a node says of itself (its handshake has proved it)
 * and what this one knows. Pure. It must not know frames, links or raft; only who belongs to which cluster.
 */

import type { NodeId } from '../raft/types.ts'
import type { Identity } from './peer-handshake.ts'

/** Why a link may not be. */
export const refusalCodes = [
  'version', // no common version of this protocol
  'protected', // not loopback, and no secret
  'secret', // the proof is wrong
  'receiver', // meant for another node
  'self', // the other side has this node's id
  'cluster', // of another cluster
  'sender', // not a member
  'removed', // was a member, and will never be one again
  'list', // unbound, with another `cluster` list
  'wiped', // unbound, and the cluster does not know it
  'joining', // about to bind: will be welcome in a moment
  'join', // asked to become a member, and may not
  'probed', // only wanted to know who is there
  'unready', // nobody here knows the membership yet: will be known in a moment
  'stale', // of a process that has ended since
] as const
export type RefusalCode = (typeof refusalCodes)[number]

export interface Refusal {
  readonly code: RefusalCode
  readonly text: string
}

const transient: ReadonlySet<RefusalCode> = new Set(['joining', 'probed', 'unready', 'stale'])

/** Refusals that pass by themselves and are no news to an operator. */
export function isTransient(code: RefusalCode): boolean {
  return transient.has(code)
}

/** Whether that node was a member of this cluster, as far as this node knows, and is none any more. */
export type WasRemoved = (id: NodeId) => boolean

/** Whether `self` may have a link with `other`; the other side asks itself the same. undefined: it may. */
export function judge(
  self: Identity,
  other: Identity,
  wasRemoved: WasRemoved,
): Refusal | undefined {
  const name = nameOf(other)
  if (other.id === self.id) {
    return { code: 'self', text: `${name} has the id of this node: a copied data folder?` }
  }
  if (self.clusterId === undefined) return judgeUnbound(self, other, name)
  if (other.clusterId === undefined) return judgeNewcomer(self, other, name)
  if (other.clusterId !== self.clusterId) return ofAnotherCluster(self, other)
  if (wasRemoved(other.id)) return removed(self, other)
  if (self.members?.includes(other.id)) return undefined
  // This node's log may be behind, or empty still: whoever names both in a later membership is a member.
  const named = other.members?.includes(self.id) === true && other.members.includes(other.id)
  if (named && other.membershipIndex > self.membershipIndex) return undefined
  if (self.members === undefined) {
    return { code: 'unready', text: 'the membership has not arrived here yet' }
  }
  return { code: 'sender', text: `${name} is not a member of cluster ${self.clusterId}` }
}

/** Whether `other` may ask this node to be made a member. undefined: it may. */
export function judgeJoiner(
  self: Identity,
  other: Identity,
  wasRemoved: WasRemoved,
): Refusal | undefined {
  if (other.id === self.id) return judge(self, other, wasRemoved)
  if (self.clusterId === undefined || self.members?.includes(self.id) !== true) {
    return { code: 'unready', text: `node ${self.id} is no member of a cluster itself` }
  }
  if (other.clusterId !== undefined) {
    if (other.clusterId !== self.clusterId) return ofAnotherCluster(self, other)
    if (wasRemoved(other.id)) return removed(self, other)
  }
  if (!self.members.includes(other.id)) return undefined
  return { code: 'joining', text: `${nameOf(other)} joins the cluster` }
}

function nameOf({ id, peerAddress }: Identity): string {
  return `node ${id} at ${peerAddress}`
}

function ofAnotherCluster(self: Identity, other: Identity): Refusal {
  const text = `${nameOf(other)} is of cluster ${other.clusterId}, this node of cluster ${self.clusterId}`
  return { code: 'cluster', text }
}

function removed(self: Identity, other: Identity): Refusal {
  const text =
    `${nameOf(other)} was removed from cluster ${self.clusterId}; ` +
    'to come back it needs an empty data directory, and joins as a new member'
  return { code: 'removed', text }
}

function judgeUnbound(self: Identity, other: Identity, name: string): Refusal | undefined {
  if (other.clusterId === undefined) {
    if (other.listHash === self.listHash) return undefined
    return { code: 'list', text: `${name} has another cluster list than this node` }
  }
  if (other.members === undefined) {
    return { code: 'unready', text: `${name} does not know its membership yet` }
  }
  if (other.members.includes(self.id))
    return { code: 'joining', text: 'this node joins the cluster' }
  return {
    code: 'wiped',
    text:
      `this node's disk is empty, but the cluster ${other.clusterId} exists already and does not know it ` +
      `(says ${name}); a node that lost its disk must not vote again: it has to be joined as a new member`,
  }
}

function judgeNewcomer(self: Identity, other: Identity, name: string): Refusal {
  if (self.members === undefined) {
    return { code: 'unready', text: 'the membership has not arrived here yet' }
  }
  if (self.members.includes(other.id)) return { code: 'joining', text: `${name} joins the cluster` }
  return {
    code: 'wiped',
    text: `${name} has an empty disk and is not a member of cluster ${self.clusterId}: it must not vote`,
  }
}
