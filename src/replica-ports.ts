/*
 * What a replica stands on and whom it serves, as contracts: everything of the world comes in through these, so that
 * the server and the simulator compose the same replica.
 */

import type { Random, StableStore } from '../raft/ports.ts'
import type { Member, NodeId } from '../raft/types.ts'
import type { SwitchingLog } from '../storage/log-store.ts'
import type { ReceivedState } from '../storage/received-state.ts'
import type { StateStore } from '../storage/state-store.ts'
import type { BindStore, ClusterList } from './bootstrap.ts'
import type { Config } from './config.ts'
import type { DiskSpace } from './disk-space.ts'
import type { Logger } from './logger.ts'
import type { Clock, Network, Timers } from './network.ts'

export interface ReplicaOptions {
  readonly config: Config
  readonly network: Network
  readonly clock: Clock
  readonly timers: Timers
  readonly random: Random
  readonly randomBytes: (count: number) => Uint8Array
  readonly log: Logger
  readonly id: NodeId
  readonly clusterId: string | undefined
  /** Of an unbound node: whose place it is to take. */
  readonly replaces?: NodeId | undefined
  /** The highest feature level that this node knows; left out: what builds before level 2 know. */
  readonly level?: number | undefined
  readonly incarnation: number
  readonly list: ClusterList
  /** The log environment: identity, hard state, and the one transaction that binds a new node. */
  readonly disk: BindStore & StableStore
  /** The log itself, asked for once this node is bound. */
  readonly openLog: () => SwitchingLog
  /** Bytes of log that are kept. */
  readonly logBytes: () => number
  readonly state: StateStore
  readonly space: DiskSpace
  /** Where a state from another node is built, and switched to. */
  readonly received: ReceivedState
  /** Runs the action once, after the sockets that are readable now were read (setImmediate). */
  readonly afterPoll: (action: () => void) => void
  /** Told of what clients may want to hear of, after it is so. */
  readonly watch?: ReplicaWatch
  /**
   * This node's state cannot be trusted any more: in words for an operator, and which members have a sound one (left
   * out: any may). It must stop to serve at once, and get another one.
   */
  readonly damaged: (what: string, sound?: readonly NodeId[]) => void
  /** Something failed that a process must not survive. */
  readonly fatal: (reason: string) => void
}

export interface ReplicaWatch {
  /** `leader` is known to lead; called for every term that has one, and again when members change. */
  leading(leader: Member): void
  /** This node led, and does not any longer. */
  steppedDown(): void
  /** The links to another member are there, or are not. */
  peer(member: Member, change: 'up' | 'down'): void
}

/** The clients' half of a turn: Frontend. */
export interface Clients {
  work(): void
  flush(): void
}
