/*
 * One node of the peer tests: the real Peers (and bootstrap) on a simulated host, over a disk that outlives it.
 * Everything the server would be told is written down in order, so that a test can read what happened.
 */

import { randomBytes as systemRandomBytes } from 'node:crypto'
import type { Entry, Member, Message, NodeId } from '../../raft/types.ts'
import {
  type Binding,
  type BindStore,
  bootstrap,
  type ClusterList,
  readClusterList,
} from '../../src/bootstrap.ts'
import type { ForwardChannel, PeerLimits } from '../../src/peer-link.ts'
import type { Note } from '../../src/peer-messages.ts'
import { Peers } from '../../src/peers.ts'
import { CodecError } from '../../storage/codec.ts'
import { type SimHost, type SimNetwork, seededRandom } from './network.ts'

export const PEER_PORT = 16379

export const testLimits: PeerLimits = {
  queueBytes: {
    control: 1_048_576,
    append: 67_108_864,
    forward: 67_108_864,
    snapshot: 67_108_864,
  },
  messageBytes: 134_217_728,
}

/** 40 hex digits that tell which node it is. */
export function nodeId(digit: string): NodeId {
  return digit.repeat(40)
}

/** What a node has written. */
export class SimDisk {
  readonly id: NodeId
  boots = 0
  clusterId: string | undefined
  entries: readonly Entry[] = []

  constructor(id: NodeId) {
    this.id = id
  }

  get members(): readonly Member[] | undefined {
    const payload = this.entries[0]?.payload
    return payload?.type === 'membership' ? payload.membership.members : undefined
  }
}

export type PeerEvent =
  | { type: 'message'; message: Message }
  | { type: 'unreachable'; id: NodeId }
  | { type: 'restarted'; id: NodeId; incarnation: number }
  | { type: 'up'; id: NodeId }
  | { type: 'down'; id: NodeId }
  | { type: 'forwarded'; from: NodeId; text: string }
  | { type: 'replied'; from: NodeId; text: string }
  | { type: 'forwardDown'; to: NodeId; unsent: number }
  | { type: 'snapshot'; from: NodeId; text: string }
  | { type: 'snapshotReplied'; from: NodeId; text: string }
  | { type: 'snapshotLink'; to: NodeId; change: 'up' | 'down' }
  | { type: 'noted'; from: NodeId; note: Note }
  | { type: 'removed'; by: NodeId }
  | { type: 'joinAsked'; id: NodeId; peerAddress: string }

export interface NodeOptions {
  readonly list?: readonly string[]
  readonly secret?: string
  readonly protectedMode?: boolean
  readonly limits?: PeerLimits
  /** Answers every forwarded body at once with its own text in brackets. */
  readonly echo?: boolean
  /** How a bind() ends when the host is killed before it has resolved: with or without the write. */
  readonly bindSurvivesKill?: boolean
  readonly incarnation?: number
  readonly join?: readonly string[]
  /** Ids that this node knows to be removed. */
  readonly removed?: readonly NodeId[]
  /** What joiners are told; undefined: that the leader was asked. */
  readonly refuseJoiners?: string
}

export class PeerNode {
  readonly host: SimHost
  readonly disk: SimDisk
  readonly peers: Peers
  readonly list: ClusterList
  readonly events: PeerEvent[] = []
  readonly lines: string[] = []
  readonly #options: NodeOptions

  constructor(sim: SimNetwork, name: string, disk: SimDisk, options: NodeOptions = {}) {
    const host = sim.host(name)
    this.host = host
    this.disk = disk
    this.#options = options
    this.list = readClusterList(options.list ?? [], `${name}:${PEER_PORT}`)
    const echo = (from: NodeId, body: Uint8Array, channel: ForwardChannel): void => {
      const text = Buffer.from(body).toString()
      if (text === 'undecodable') throw new CodecError(text)
      this.events.push({ type: 'forwarded', from, text })
      if (options.echo !== true) return
      channel.reply(Buffer.from(`(${text})`))
      this.peers.flush()
    }
    this.peers = new Peers({
      network: host.network,
      clock: host.clock,
      timers: host.timers,
      random: seededRandom(disk.boots),
      randomBytes: systemRandomBytes,
      log: { warn: (_, text) => this.lines.push(text) },
      events: {
        message: (message) => this.events.push({ type: 'message', message }),
        noted: (from, note) => this.events.push({ type: 'noted', from, note }),
        unreachable: (id) => this.events.push({ type: 'unreachable', id }),
        restarted: (id, incarnation) => this.events.push({ type: 'restarted', id, incarnation }),
        peerUp: (id) => this.events.push({ type: 'up', id }),
        peerDown: (id) => this.events.push({ type: 'down', id }),
        forwarded: echo,
        forwardReplied: (from, body) =>
          this.events.push({ type: 'replied', from, text: Buffer.from(body).toString() }),
        snapshot: (from, body, reply) => {
          this.events.push({ type: 'snapshot', from, text: Buffer.from(body).toString() })
          if (options.echo === true) reply(Buffer.from(`(${Buffer.from(body)})`))
        },
        snapshotReplied: (from, body) =>
          this.events.push({ type: 'snapshotReplied', from, text: Buffer.from(body).toString() }),
        snapshotLink: (to, change) => this.events.push({ type: 'snapshotLink', to, change }),
        forwardDown: (to, unsent) => this.events.push({ type: 'forwardDown', to, unsent }),
        removed: (by) => this.events.push({ type: 'removed', by: by.id }),
        joinAsked: ({ id, peerAddress }) => {
          this.events.push({ type: 'joinAsked', id, peerAddress })
          return options.refuseJoiners
        },
      },
      limits: options.limits ?? testLimits,
      id: disk.id,
      clusterId: disk.clusterId,
      incarnation: options.incarnation ?? ++disk.boots,
      peerAddress: this.list.own,
      clientAddress: `${name}:6379`,
      seeds: this.list.others,
      listHash: this.list.hash,
      secret: options.secret,
      protectedMode: options.protectedMode ?? true,
      join: options.join ?? [],
      wasRemoved: (id) => options.removed?.includes(id) === true,
    })
  }

  /** Listens, and speaks as a member when the disk says so. */
  async open(): Promise<void> {
    await this.peers.open([this.host.name], PEER_PORT)
    if (this.disk.members !== undefined) this.peers.setMembers(this.disk.members, 1)
  }

  /** Becomes a member of a cluster, and knows the membership if it founded it. */
  async bootstrap(
    randomBytes: (count: number) => Uint8Array = systemRandomBytes,
  ): Promise<Binding> {
    const binding = await bootstrap({
      list: this.list,
      join: this.#options.join ?? [],
      self: { id: this.disk.id, clientAddress: `${this.host.name}:6379` },
      peers: this.peers,
      store: this.#store(),
      randomBytes,
      firstCommands: () => new Uint8Array([1]),
      log: {
        info: (_, text) => this.lines.push(text),
        warn: (_, text) => this.lines.push(text),
      },
    })
    if (binding.membership !== undefined) this.peers.setMembers(binding.membership.members, 1)
    return binding
  }

  /** Takes 5 ms to become durable; what a kill meanwhile leaves is the test's choice. */
  #store(): BindStore {
    const { disk, host } = this
    return {
      bind: ({ clusterId, entries }) =>
        new Promise((resolve) => {
          const write = (): void => {
            disk.clusterId = clusterId
            disk.entries = entries
          }
          if (this.#options.bindSurvivesKill === true) write()
          host.after(5, () => {
            write()
            resolve()
          })
        }),
    }
  }

  upWith(id: NodeId): boolean {
    return this.peers.stats().some((peer) => peer.id === id && peer.up)
  }

  messages(): readonly Message[] {
    return this.events.flatMap((event) => (event.type === 'message' ? [event.message] : []))
  }

  of<T extends PeerEvent['type']>(type: T): Extract<PeerEvent, { type: T }>[] {
    const isOf = (event: PeerEvent): event is Extract<PeerEvent, { type: T }> => event.type === type
    return this.events.filter(isOf)
  }
}
