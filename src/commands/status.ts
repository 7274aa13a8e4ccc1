/*
 * What a node says about its place in the cluster, as fields: INFO's section raft and RAFT STATUS
 * tell the same under the same names, and a fact the node does not have is no field. Pure
 * text-making over RaftStatus.
 */

import { assert } from '../../raft/assert.ts'
import type { Member } from '../../raft/types.ts'
import { type Address, parseAddress } from '../network.ts'
import type { MemberStatus, RaftStatus } from './local-server.ts'

/** A field's name and value; undefined: this node does not know, so the field is left out. */
export type Field = readonly [name: string, value: string | number | undefined]
export type KnownField = readonly [name: string, value: string | number]

export function known(fields: readonly Field[]): readonly KnownField[] {
  return fields.filter((field): field is KnownField => field[1] !== undefined)
}

/** Where clients reach the member. */
export function clientHost({ clientAddress }: Member): Address {
  const address = parseAddress(clientAddress)
  // The membership was checked when it was logged.
  assert(address !== undefined, () => `client address ${clientAddress}`)
  return address
}

export function statusFields(status: RaftStatus): readonly KnownField[] {
  return known([
    ['node_id', status.nodeId],
    ['cluster_id', status.clusterId],
    ['role', status.role],
    ['term', status.term],
    ['leader_id', status.leader?.id],
    ['leader_address', status.leader?.clientAddress],
    ['removed', status.removed ? 'yes' : undefined],
    ['members', status.members.length],
    ['membership_changing', status.changing ? 'yes' : 'no'],
    ['feature_level', status.featureLevel],
    ['commit_index', status.commit],
    ['applied_index', status.applied],
    ['durable_index', status.durable],
    ['log_first_index', status.logFirst],
    ['log_last_index', status.logLast],
    ['log_last_term', status.logLastTerm],
    ['checkpoint_index', status.checkpoint],
    ['slowest_id', status.slowest?.id],
    ['slowest_match_index', status.slowest?.match],
    ['pending_proposals', status.pendingProposals],
    ['parked_commands', status.parkedCommands],
    ['resting_commands', status.restingCommands],
    ['log_cache_hits', status.logCacheHits],
    ['log_cache_misses', status.logCacheMisses],
  ])
}

export function memberFields(status: RaftStatus, one: MemberStatus): readonly KnownField[] {
  const { member } = one
  return known([
    ['id', member.id],
    ['peer_address', member.peerAddress],
    ['client_address', member.clientAddress],
    ['role', roleOf(status, member)],
    ['membership', member.role],
    ['connected', one.connected ? 'yes' : 'no'],
    ['match_index', one.match],
    ['silent_ms', one.silentForMs],
  ])
}

/** Of the other members a node knows only who leads. */
function roleOf(status: RaftStatus, member: Member): string {
  if (member.id === status.nodeId) return status.role
  return member.id === status.leader?.id ? 'leader' : 'follower'
}
