/*
 * What the peers stand on and whom they tell, as contracts: the server and the simulator give them the same.
 */

import type { Random } from '../raft/ports.ts'
import type { Message, NodeId } from '../raft/types.ts'
import type { Clock, Network, Timers } from './network.ts'
import type { WasRemoved } from './peer-admission.ts'
import type { Identity } from './peer-handshake.ts'
import type { ForwardChannel, PeerLimits } from './peer-link.ts'
import type { Note } from './peer-messages.ts'
import type { PeerLog } from './peer-refusals.ts'

/** What the server is told. Never called from within send(), forward(), reply(), flush() or setMembers(). */
export interface PeerEvents {
  /** A message of a member of this cluster, for this node, from the latest process of that member. */
  message(message: Message): void
  noted(from: NodeId, note: Note): void
  /** A control link with that member broke, or an append to it was dropped. */
  unreachable(id: NodeId): void
  /**
   * A handshake showed a process of that member not seen before (the first one seen, too): comes before any of
   * its messages, and no message of an earlier process comes after it.
   */
  restarted(id: NodeId, incarnation: number): void
  /** Both can reach each other, and no longer. */
  peerUp(id: NodeId, peerAddress: string): void
  peerDown(id: NodeId, reason: string): void
  /** These two may throw CodecError on a body that is none: it ends the link, as every broken frame does. */
  forwarded(from: NodeId, body: Uint8Array, channel: ForwardChannel): void
  forwardReplied(from: NodeId, body: Uint8Array): void
  /**
   * The forward link broke: of everything forwarded on it and not answered the outcome is unknown, but for the
   * last `unsent` bodies, of which not one byte was handed to the connection.
   */
  forwardDown(to: NodeId, unsent: number): void
  /** A part of a snapshot; `reply` sends a body back on the link it came on, and drops it when that is gone. */
  snapshot(from: NodeId, body: Uint8Array, reply: (body: Uint8Array) => void): void
  snapshotReplied(from: NodeId, body: Uint8Array): void
  /** The link that snapshots are sent on; what was on its way when it broke is lost. */
  snapshotLink(to: NodeId, change: 'up' | 'down'): void
  /** That member says that this node was removed from the cluster. Said again with every attempt to reach one. */
  removed(by: Identity): void
  /** That node asks to be made a member. Returns why it may not, as far as that is known already. */
  joinAsked(other: Identity): string | undefined
}

export interface PeersOptions {
  readonly network: Network
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  /** Unpredictable bytes, for the nonces of handshakes. */
  readonly randomBytes: (count: number) => Uint8Array
  readonly log: PeerLog
  readonly events: PeerEvents
  readonly limits: PeerLimits
  readonly id: NodeId
  /** undefined: unbound. */
  readonly clusterId: string | undefined
  /** See Identity. */
  readonly replaces?: NodeId | undefined
  readonly level?: number | undefined
  /** Rises with every start of this node: its boot count. */
  readonly incarnation: number
  readonly peerAddress: string
  readonly clientAddress: string
  /** The other entries of the `cluster` list and the hash of all of it (bootstrap.ts); of use while unbound. */
  readonly seeds: readonly string[]
  readonly listHash: string
  readonly secret: string | undefined
  readonly protectedMode: boolean
  /** host:port of members that are asked in turn to make this node one, until it is. */
  readonly join: readonly string[]
  readonly wasRemoved: WasRemoved
}

/** What a node says of itself while it knows no members. */
export function introduced(options: PeersOptions): Identity {
  const { id, clusterId, incarnation, peerAddress, clientAddress, listHash, replaces, level } =
    options
  const own = { id, clusterId, incarnation, peerAddress, clientAddress, listHash, replaces, level }
  return { ...own, members: undefined, membershipIndex: 0 }
}
