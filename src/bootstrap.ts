/*
 * How a cluster comes to be, once: nodes with the same `cluster` list and empty disks become one cluster with
 * one membership, or none at all. The node at the lowest listed address (the founder) waits until ALL listed
 * nodes stand before it at the same time, unbound and with the same list, and then writes the cluster id and the
 * first entries in one transaction; every other node binds to the cluster whose membership names its id. Each
 * step may be killed and repeated. A node that lost its disk has another id, so nobody names it and it never
 * votes again: it has to join, as every later node does, by being named in a membership. This file must not know how the nodes talk (peers.ts) nor how the log is stored.
 */

import { createHash } from 'node:crypto'
import type { Entry, HardState, Member, Membership, NodeId } from '../raft/types.ts'
import { encodeCommands } from '../storage/codec.ts'
import { HASH_KEY_BYTES } from '../storage/layout.ts'
import type { Config } from './config.ts'
import { firstLevel } from './feature-level.ts'
import { hashKeyCommand } from './keyspace.ts'
import { formatAddress, parseAddress, sameAddress } from './network.ts'
import { OperatorError } from './operator-error.ts'
import type { PeerStats } from './peer.ts'
import type { Identity } from './peer-handshake.ts'
import type { ReplicaOptions } from './replica-ports.ts'

/** While nodes of the list are missing: every so many sweeps each is named, for its address may be wrong. */
const SWEEPS_PER_WARNING = 10

/** The `cluster` option as this node sees it. Addresses are in their one form (network.ts). */
export interface ClusterList {
  readonly own: string
  readonly others: readonly string[]
  /** The lowest address of all: by host as text, then by port. */
  readonly founder: string
  /** SHA-256 of all addresses in order, 64 hex digits: equal on nodes with the same list. */
  readonly hash: string
}

/**
 * Finds this node in the list; without a list it is alone. Throws OperatorError when an address is malformed or
 * listed twice, or when no entry is `peerAnnounce`.
 */
export function readClusterList(list: readonly string[], peerAnnounce: string): ClusterList {
  const own = oneForm(peerAnnounce, 'peer-announce')
  const all = list.length === 0 ? [own] : list.map((address) => oneForm(address, 'cluster'))
  const ordered = [...all].sort(byHostThenPort)
  const twice = ordered.find((address, at) => address === ordered[at + 1])
  if (twice !== undefined) throw new OperatorError('CLUSTER', `cluster lists ${twice} twice`)
  if (!ordered.includes(own)) {
    const text = `cluster (${ordered.join(',')}) does not list this node: peer-announce is ${own}`
    throw new OperatorError('CLUSTER', text)
  }
  return {
    own,
    others: ordered.filter((address) => address !== own),
    founder: ordered[0] ?? own,
    hash: createHash('sha256').update(ordered.join('\n')).digest('hex'),
  }
}

/** The one line a bound node logs when its options and the stored membership say different things. */
export function listWarning(list: ClusterList, { members }: Membership): string | undefined {
  const stored = members.map(({ peerAddress }) => peerAddress).sort(byHostThenPort)
  const listed = [list.own, ...list.others].sort(byHostThenPort)
  // Without a list there is nothing that could differ: a bound node may be started without one.
  if (listed.length === 1 || stored.join() === listed.join()) return undefined
  return `cluster (${listed.join(',')}) is not the stored membership (${stored.join(',')}), which counts`
}

/** The one line of a node that was started to join others, and has a cluster already. */
export function joinWarning(
  join: readonly string[],
  self: NodeId,
  membership: Membership,
): string | undefined {
  const { members } = membership
  // Not a member: it still asks, and is told.
  if (join.length === 0 || !members.some(({ id }) => id === self)) return undefined
  const known = join.some((address) => {
    return members.some(({ peerAddress }) => sameAddress(peerAddress, address))
  })
  if (known) return undefined
  return `join (${join.join(',')}) is not followed: this node belongs to a cluster already, and only an empty one can join another`
}

/** What the state machine of a new cluster is born with: how it hashes keys, and what all of its nodes understand. */
export function firstCommands(
  { clock, randomBytes, level }: Pick<ReplicaOptions, 'clock' | 'randomBytes' | 'level'>,
  others: readonly Identity[],
): Uint8Array {
  const hashKey = hashKeyCommand(randomBytes(HASH_KEY_BYTES))
  return encodeCommands(clock.wall(), [hashKey, ...firstLevel([{ level }, ...others])])
}

/** The members that a new node asks to be added, or one that comes back empty for its place (rejoin.ts). */
export function membersToAsk(config: Config): readonly string[] {
  return [...config.get('join'), ...config.get('rejoin')]
}

/** What a node is told while it waits. */
export interface Watcher {
  /** acquainted() changed. */
  changed(): void
  /** Comes again and again, at a steady pace. */
  swept(): void
  /** A member of `clusterId` names this node in its membership. */
  invited(clusterId: string, by: NodeId): void
}

/** The other nodes while this one is unbound: what bootstrap needs of Peers. */
export interface Acquaintances {
  /** The nodes that answered at their listed addresses, unbound and with the same list, and are still there. */
  acquainted(): readonly Identity[]
  stats(): readonly Pick<PeerStats, 'address' | 'error' | 'unanswered'>[]
  watch(watcher: Watcher | undefined): void
  /** From now on this node speaks as one of that cluster. Only after that is durable. */
  bind(clusterId: string): void
}

/** The disk: one transaction, durable when it resolves; the node was unbound before. */
export interface BindStore {
  bind(binding: {
    readonly clusterId: string
    readonly hardState: HardState
    readonly entries: readonly Entry[]
  }): Promise<void>
}

export interface BootstrapOptions {
  readonly list: ClusterList
  /** Members that this node has asked to be added: it founds nothing then. */
  readonly join: readonly string[]
  readonly self: { readonly id: NodeId; readonly clientAddress: string }
  readonly peers: Acquaintances
  readonly store: BindStore
  readonly randomBytes: (count: number) => Uint8Array
  /** The payload of entry 2: what the state machine needs to be born with, equal everywhere; of a cluster with these. */
  readonly firstCommands: (others: readonly Identity[]) => Uint8Array
  readonly log: Record<'info' | 'warn', LogLine>
}

type LogLine = (fields: Readonly<Record<string, unknown>>, text: string) => void

export interface Binding {
  readonly clusterId: string
  /** undefined on a node that was invited: its log is empty until the leader's first append. */
  readonly membership: Membership | undefined
}

/** Resolves when this node is bound, which may take until the other nodes are started. Rejects when bind() does. */
export async function bootstrap(options: BootstrapOptions): Promise<Binding> {
  const { list, self, peers, store, log } = options
  const decision = await decide(options)
  const { clusterId, members } = decision
  if (members === undefined) {
    log.info({ clusterId, by: decision.by }, 'joining the cluster that names this node')
    await store.bind({ clusterId, hardState: { term: 0, vote: undefined }, entries: [] })
    peers.bind(clusterId)
    return { clusterId, membership: undefined }
  }
  const own: Member = {
    id: self.id,
    role: 'voter',
    peerAddress: list.own,
    clientAddress: self.clientAddress,
  }
  const membership = { members: [own, ...members] }
  const entries: Entry[] = [
    { index: 1, term: 1, payload: { type: 'membership', membership }, encoded: undefined },
    {
      index: 2,
      term: 1,
      payload: { type: 'commands', data: options.firstCommands(decision.others) },
      encoded: undefined,
    },
  ]
  await store.bind({ clusterId, hardState: { term: 1, vote: undefined }, entries })
  peers.bind(clusterId)
  log.info({ clusterId, members: membership.members.length }, 'founded a new cluster')
  return { clusterId, membership }
}

interface Decision {
  readonly clusterId: string
  /** The other members of a cluster to found; undefined: join the one that exists. */
  readonly members: readonly Member[] | undefined
  readonly by: NodeId
  /** Those other members, as they have introduced themselves. */
  readonly others: readonly Identity[]
}

/** Waits for one of the two ways. What is told after the decision no longer counts: it is about to be durable. */
function decide({
  list,
  join,
  self,
  peers,
  randomBytes,
  log,
}: BootstrapOptions): Promise<Decision> {
  return new Promise((resolve) => {
    const settle = (decision: Decision): void => {
      peers.watch(undefined)
      resolve(decision)
    }
    const isFounder = list.own === list.founder && join.length === 0
    const changed = (): void => {
      const others = peers.acquainted()
      const members = isFounder ? everyone(list, self.id, others) : undefined
      if (members === undefined) return
      const clusterId = Buffer.from(randomBytes(20)).toString('hex')
      settle({ clusterId, members, by: self.id, others })
    }
    let sweeps = 0
    const swept = (): void => {
      if (++sweeps % SWEEPS_PER_WARNING !== 0) return
      for (const { address, error, unanswered } of peers.stats()) {
        // What a node there has refused was said already.
        if (!unanswered) continue
        log.warn({ peer: address }, `cluster: no node answers at ${address}: ${error}`)
      }
    }
    peers.watch({
      changed,
      swept,
      invited: (clusterId, by) => settle({ clusterId, members: undefined, by, others: [] }),
    })
    if (join.length > 0) log.info({ join }, 'waiting to be added to the cluster of these members')
    else if (list.others.length > 0) {
      const text = isFounder
        ? 'waiting for every node of the cluster list, to found the cluster'
        : `waiting for the node at ${list.founder} to found the cluster`
      log.info({ cluster: [list.own, ...list.others].sort(byHostThenPort) }, text)
    }
    changed()
  })
}

/** The members at all other listed addresses, or undefined while one is missing. */
function everyone(
  list: ClusterList,
  self: NodeId,
  acquainted: readonly Identity[],
): readonly Member[] | undefined {
  const members: Member[] = []
  const ids = new Set([self])
  for (const address of list.others) {
    const node = acquainted.find(({ peerAddress }) => peerAddress === address)
    // Two addresses that lead to one node would make a cluster with fewer disks than it believes to have.
    if (node === undefined || ids.has(node.id)) return undefined
    ids.add(node.id)
    const { id, clientAddress } = node
    members.push({ id, role: 'voter', peerAddress: address, clientAddress })
  }
  return members
}

function oneForm(text: string, option: string): string {
  const address = parseAddress(text)
  if (address === undefined) {
    throw new OperatorError('CLUSTER', `${option}: '${text}' is not host:port`)
  }
  return formatAddress(address.host, address.port)
}

function byHostThenPort(one: string, other: string): number {
  const [a, b] = [parseAddress(one), parseAddress(other)]
  if (a === undefined || b === undefined) return one < other ? -1 : 1
  if (a.host !== b.host) return a.host < b.host ? -1 : 1
  return a.port - b.port
}
