/*
 * CLUSTER: the cluster as a Redis Cluster client sees it, which is one shard. The leader owns every slot, the other
 * members are its replicas, and the term is the epoch. Everything is told by the node that is asked, from what it
 * knows; while no leader is known the answer waits for one a moment, and then names the latest there was, because
 * clients give up on a map without an owner. Shapes are Redis 7.2's.
 */

import { Buffer } from 'node:buffer'
import { MapReply, type Reply, VerbatimReply } from '../../resp/encoder.ts'
import { HASH_SLOTS, keySlot, POSITIONS } from '../../storage/layout.ts'
import { parseAddress } from '../network.ts'
import type { Session } from '../session.ts'
import { argument, parseInt64 } from './arguments.ts'
import type { Args, ArgumentDoc, Command, ReadDatabase, Slices, TableEntry } from './command.ts'
import { CommandError, inOneGo, notAnInteger, SLICE_WORK } from './command.ts'
import { helpCommand } from './help.ts'
import type { LocalServer, MemberStatus, RaftStatus } from './local-server.ts'
import { clientHost } from './status.ts'

const clusterDisabled = new CommandError('ERR This instance has cluster support disabled')

/** What a command of Redis Cluster is where `cluster-enabled` is no: it fails when it runs, be that in EXEC. */
export function disabled(command: Command): Command {
  return {
    ...command,
    kind: 'local',
    run: () => {
      throw clusterDisabled
    },
  }
}

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
    const { member, connected, silentForMs } = part.status
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
      // No ping is waited for; when it was last heard is known of whoever is heard regularly.
      0,
      silentForMs === undefined ? 0 : Math.floor(server.wall() - silentForMs),
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

/** Of `cluster|<word>`. */
function local(
  word: string,
  options: {
    readonly arity?: number
    readonly since?: string
    readonly summary: string
    readonly arguments?: readonly ArgumentDoc[]
    readonly differs?: string
    run(session: Session, args: Args, server: LocalServer): Reply | Promise<Reply>
  },
): Command {
  const { arity = 2, since = '3.0.0', summary, arguments: args, differs } = options
  return {
    name: `cluster|${word}`,
    arity,
    flags: ['stale'],
    categories: [],
    ...(differs === undefined ? {} : { differs }),
    doc: {
      summary,
      since,
      group: 'cluster',
      complexity: 'O(N) where N is the number of members.',
      ...(args === undefined ? {} : { arguments: args }),
    },
    kind: 'local',
    run: options.run,
  }
}

/** The positions of a slot's keys are one range of this size. */
const SLOT_POSITIONS = POSITIONS / HASH_SLOTS
const invalidSlot = new CommandError('ERR Invalid slot')
const invalidSlotOrCount = new CommandError('ERR Invalid slot or number of keys')

function slotArgument(bytes: Uint8Array): number {
  const slot = parseInt64(bytes)
  if (slot === undefined) throw notAnInteger
  if (slot < 0 || slot >= HASH_SLOTS) throw invalidSlot
  return Number(slot)
}

/** Looks at the keys of a slot, in slices; `visit` false ends it. */
function* slotKeys(db: ReadDatabase, slot: number, visit: (key: string) => boolean): Slices {
  const end = (slot + 1) * SLOT_POSITIONS
  let from: number | undefined = slot * SLOT_POSITIONS
  while (from !== undefined) {
    let work = 0
    let last = -1
    let next: number | undefined
    db.scan(from, (position, key) => {
      if (position >= end) return false
      // Keys of one position stay together, so that the next slice can begin behind them.
      if (position !== last && ++work > SLICE_WORK) {
        next = position
        return false
      }
      last = position
      return key === undefined || visit(key)
    })
    from = next
    if (from !== undefined) yield []
  }
  return { elements: [] }
}

function* countKeysInSlot(db: ReadDatabase, args: Args): Slices {
  let count = 0
  yield* slotKeys(db, slotArgument(argument(args, 2)), () => {
    count++
    return true
  })
  return { reply: count }
}

function* getKeysInSlot(db: ReadDatabase, args: Args): Slices {
  const slot = parseInt64(argument(args, 2))
  const most = parseInt64(argument(args, 3))
  if (slot === undefined || most === undefined) throw notAnInteger
  if (slot < 0 || slot >= HASH_SLOTS || most < 0) throw invalidSlotOrCount
  const found: Buffer[] = []
  if (most > 0) {
    yield* slotKeys(db, Number(slot), (key) => found.push(Buffer.from(key, 'latin1')) < most)
  }
  return { reply: found }
}

function keysOfSlot(
  word: string,
  options: {
    readonly arity: number
    readonly summary: string
    readonly arguments: readonly ArgumentDoc[]
    slices(db: ReadDatabase, args: Args): Slices
  },
): Command {
  const { arity, summary, arguments: args, slices } = options
  return {
    name: `cluster|${word}`,
    arity,
    flags: ['stale'],
    categories: [],
    unclassed: true,
    doc: {
      summary,
      since: '3.0.0',
      group: 'cluster',
      complexity: 'O(N) where N is the number of keys of the slot.',
      arguments: args,
    },
    kind: 'read',
    slices,
    run: (db, given) => inOneGo(slices(db, given)),
  }
}

const ONE_SHARD = 'One shard has all slots, and the leader is its master.'

const slot: ArgumentDoc = { name: 'slot', type: 'integer' }

const subcommands: readonly Command[] = [
  keysOfSlot('countkeysinslot', {
    arity: 3,
    summary: 'Counts the keys of a slot in the selected database.',
    arguments: [slot],
    slices: countKeysInSlot,
  }),
  keysOfSlot('getkeysinslot', {
    arity: 4,
    summary: 'Returns keys of a slot in the selected database.',
    arguments: [slot, { name: 'count', type: 'integer' }],
    slices: getKeysInSlot,
  }),
  helpCommand('cluster', () => subcommands, { categories: [], since: '5.0.0' }),
  local('info', {
    summary: 'Tells whether the cluster takes commands.',
    differs: 'Without the fields about the messages of a cluster bus.',
    run: info,
  }),
  local('keyslot', {
    arity: 3,
    summary: 'Returns the hash slot of a key.',
    arguments: [key],
    run: (_session, args) => keySlot(argument(args, 2)),
  }),
  local('links', {
    since: '7.0.0',
    summary: 'Lists the connections of a cluster bus, of which there is none.',
    differs: 'Always empty: there is no cluster bus.',
    run: () => [],
  }),
  local('myid', {
    summary: 'Returns the id of this node.',
    run: (_session, _args, server) => server.raft().nodeId,
  }),
  local('myshardid', {
    since: '7.2.0',
    summary: 'Returns the id of the one shard, that of the cluster.',
    differs: 'The id of the cluster.',
    run: (_session, _args, server) => server.raft().clusterId,
  }),
  local('nodes', { summary: 'Describes every member in a line.', differs: ONE_SHARD, run: nodes }),
  local('shards', {
    since: '7.0.0',
    summary: 'Describes the one shard with its members.',
    differs: ONE_SHARD,
    run: shards,
  }),
  local('slots', { summary: 'Maps the slots to the members.', differs: ONE_SHARD, run: slots }),
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
