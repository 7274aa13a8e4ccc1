/*
 * CLUSTER: the cluster as a Redis Cluster client sees it, which is one shard. The leader owns every slot, the other
 * members are its replicas, and the term is the epoch. Everything is told by the node that is asked, from what it
 * knows; while no leader is known the answer waits for one a moment, and then names the latest there was, because
 * clients give up on a map without an owner. Shapes are Redis 7.2's.
 */

import { MapReply, type Reply, VerbatimReply } from '../../resp/encoder.ts'
import { HASH_SLOTS, keySlot } from '../../storage/layout.ts'
import { parseAddress } from '../network.ts'
import type { Session } from '../session.ts'
import { argument } from './arguments.ts'
import type { Args, ArgumentDoc, Command, TableEntry } from './command.ts'
import { CommandError } from './command.ts'
import { helpCommand } from './help.ts'
import type { LocalServer, MemberStatus, RaftStatus } from './local-server.ts'
import { clientHost } from './status.ts'

export const clusterDisabled: CommandError = new CommandError(
  'ERR This instance has cluster support disabled',
)

/** A member's part, the leader first: clients take the first node of a slot range for its owner. */
interface Part {
  readonly status: MemberStatus
  readonly owner: boolean
  readonly host: string
  readonly port: number
}

function parts(raft: RaftStatus): readonly Part[] {
  const owner = (raft.leader ?? raft.lastLeader)?.id
  return raft.members
    .map((status) => ({
      status,
      owner: status.member.id === owner,
      ...clientHost(status.member),
    }))
    .toSorted((a, b) => Number(b.owner) - Number(a.owner))
}

/** The cluster with an owner of the slots, if one can be found in time. */
async function cluster(server: LocalServer): Promise<RaftStatus> {
  const raft = server.raft()
  if (raft.leader !== undefined) return raft
  await server.ready()
  return server.raft()
}

async function slots(_session: Session, _args: Args, server: LocalServer): Promise<Reply> {
  const all = parts(await cluster(server))
  if (all[0]?.owner !== true) return []
  const nodes = all.map(({ host, port, status }) => [
    host,
    port,
    status.member.id,
    new MapReply([]),
  ])
  return [[0, HASH_SLOTS - 1, ...nodes]]
}

async function shards(_session: Session, _args: Args, server: LocalServer): Promise<Reply> {
  const raft = await cluster(server)
  const all = parts(raft)
  if (all[0]?.owner !== true) return []
  const nodes = all.map(
    ({ status, owner, host, port }) =>
      new MapReply([
        ['id', status.member.id],
        ['port', port],
        ['ip', host],
        ['endpoint', host],
        ['role', owner ? 'master' : 'replica'],
        ['replication-offset', offsetOf(raft, status)],
        ['health', status.connected ? 'online' : 'fail'],
      ]),
  )
  return [
    new MapReply([
      ['slots', [0, HASH_SLOTS - 1]],
      ['nodes', nodes],
    ]),
  ]
}

/** An index of the log: this node's own is exact, another's is what the leader has heard of it. */
function offsetOf(raft: RaftStatus, { member, match }: MemberStatus): number {
  return member.id === raft.nodeId ? raft.applied : (match ?? 0)
}

async function nodes(_session: Session, _args: Args, server: LocalServer): Promise<Reply> {
  const raft = await cluster(server)
  const all = parts(raft)
  const owner = all[0]?.owner === true ? all[0].status.member.id : '-'
  const lines = all.map((part) => {
    const { member, connected } = part.status
    const flags = [
      ...(member.id === raft.nodeId ? ['myself'] : []),
      part.owner ? 'master' : 'slave',
      ...(connected ? [] : ['fail']),
    ]
    const busPort = parseAddress(member.peerAddress)?.port ?? 0
    return [
      member.id,
      `${part.host}:${part.port}@${busPort}`,
      flags.join(','),
      part.owner ? '-' : owner,
      0,
      0,
      raft.term,
      connected ? 'connected' : 'disconnected',
      ...(part.owner ? [`0-${HASH_SLOTS - 1}`] : []),
    ].join(' ')
  })
  return new VerbatimReply(lines.map((line) => `${line}\n`).join(''))
}

function info(_session: Session, _args: Args, server: LocalServer): Reply {
  const { leader, members, term } = server.raft()
  const fields: readonly (readonly [string, string | number])[] = [
    ['cluster_state', leader === undefined ? 'fail' : 'ok'],
    ['cluster_slots_assigned', HASH_SLOTS],
    ['cluster_slots_ok', leader === undefined ? 0 : HASH_SLOTS],
    ['cluster_slots_pfail', 0],
    ['cluster_slots_fail', leader === undefined ? HASH_SLOTS : 0],
    ['cluster_known_nodes', members.length],
    ['cluster_size', 1],
    ['cluster_current_epoch', term],
    ['cluster_my_epoch', term],
  ]
  return new VerbatimReply(fields.map(([name, value]) => `${name}:${value}\r\n`).join(''))
}

const key: ArgumentDoc = { name: 'key', type: 'string' }

/** Of `cluster|<word>`; a node with `cluster-enabled no` answers none of them. */
function local(
  word: string,
  options: {
    readonly arity?: number
    readonly since?: string
    readonly summary: string
    readonly arguments?: readonly ArgumentDoc[]
    run(session: Session, args: Args, server: LocalServer): Reply | Promise<Reply>
  },
): Command {
  const { arity = 2, since = '3.0.0', summary, arguments: args } = options
  return {
    name: `cluster|${word}`,
    arity,
    flags: ['stale'],
    categories: [],
    doc: {
      summary,
      since,
      group: 'cluster',
      complexity: 'O(N) where N is the number of members.',
      ...(args === undefined ? {} : { arguments: args }),
    },
    kind: 'local',
    run: (session, given, server) => {
      if (server.mode() !== 'cluster') throw clusterDisabled
      return options.run(session, given, server)
    },
  }
}

const subcommands: readonly Command[] = [
  helpCommand('cluster', () => subcommands, { categories: [], since: '5.0.0' }),
  local('info', { summary: 'Tells whether the cluster takes commands.', run: info }),
  local('keyslot', {
    arity: 3,
    summary: 'Returns the hash slot of a key.',
    arguments: [key],
    run: (_session, args) => keySlot(argument(args, 2)),
  }),
  local('links', {
    since: '7.0.0',
    summary: 'Lists the connections of a cluster bus, of which there is none.',
    run: () => [],
  }),
  local('myid', {
    summary: 'Returns the id of this node.',
    run: (_session, _args, server) => server.raft().nodeId,
  }),
  local('myshardid', {
    since: '7.2.0',
    summary: 'Returns the id of the one shard, that of the cluster.',
    run: (_session, _args, server) => server.raft().clusterId,
  }),
  local('nodes', { summary: 'Describes every member in a line.', run: nodes }),
  local('shards', {
    since: '7.0.0',
    summary: 'Describes the one shard with its members.',
    run: shards,
  }),
  local('slots', { summary: 'Maps the slots to the members.', run: slots }),
]

export const clusterEntry: TableEntry = {
  name: 'cluster',
  arity: -2,
  flags: [],
  categories: [],
  doc: {
    summary: 'A container of commands for clients that speak Redis Cluster.',
    since: '3.0.0',
    group: 'cluster',
    complexity: 'Depends on the subcommand.',
  },
  kind: 'container',
  subcommands,
}
