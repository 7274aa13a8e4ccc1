/*
 * The commands of the Sentinel port: every member answers as a Sentinel that watches one master, the leader. Clients
 * that know Sentinel find the leader here and hear of the next one through the channels of sentinel-events.ts. It
 * decides nothing: who leads is Raft's business. Fields, shapes and texts are those of Redis 7.2's Sentinel.
 */

import {
  ErrorReply,
  MapReply,
  nullArray,
  PONG,
  PushReply,
  type Reply,
  SimpleReply,
  VerbatimReply,
} from '../../resp/encoder.ts'
import { limits } from '../config.ts'
import type { Session } from '../session.ts'
import { argument, keyOf, textOf } from './arguments.ts'
import { clientEntry } from './client.ts'
import type { Args, ArgumentDoc, Command, Doc, TableEntry } from './command.ts'
import { CommandError, type NoReply, noReply, wrongArity } from './command.ts'
import { CommandTable } from './command-table.ts'
import { connectionCommands } from './connection.ts'
import { helpCommand } from './help.ts'
import { commandEntry } from './introspection.ts'
import {
  type LocalServer,
  type MemberStatus,
  type RaftStatus,
  REDIS_VERSION,
} from './local-server.ts'
import { clientHost } from './status.ts'

const noSuchMaster = new CommandError('ERR No such master with that name')
/** A member that does not answer for so long counts as down: the election timeout decides, this is what is shown. */
const DOWN_AFTER_MS = 1000

/** The cluster with a leader, if one is found while the question waits. */
async function settled(server: LocalServer): Promise<RaftStatus> {
  const raft = server.raft()
  if (raft.leader !== undefined) return raft
  await server.ready()
  return server.raft()
}

/** The master as it is or, during an election, as it was; undefined when none was ever known. */
function masterOf(raft: RaftStatus): MemberStatus | undefined {
  const id = (raft.leader ?? raft.lastLeader)?.id
  return raft.members.find(({ member }) => member.id === id)
}

function checkName(args: Args, server: LocalServer): void {
  if (textOf(argument(args, 2)) !== server.masterName()) throw noSuchMaster
}

/** Fields that every instance has, in Sentinel's order; all values are text. */
function instanceFields(
  { member, connected, silentForMs }: MemberStatus,
  options: { name: string; flags: string; port?: number },
): readonly (readonly [string, string])[] {
  const { host, port } = clientHost(member)
  const silent = String(silentForMs ?? 0)
  return [
    ['name', options.name],
    ['ip', host],
    ['port', String(options.port ?? port)],
    ['runid', member.id],
    ['flags', connected ? options.flags : `${options.flags},s_down`],
    ['link-pending-commands', '0'],
    ['link-refcount', '1'],
    ['last-ping-sent', '0'],
    ['last-ok-ping-reply', silent],
    ['last-ping-reply', silent],
    ['down-after-milliseconds', String(DOWN_AFTER_MS)],
  ]
}

function masterMap(raft: RaftStatus, server: LocalServer): MapReply {
  const master = masterOf(raft)
  if (master === undefined) throw noSuchMaster
  const others = raft.members.length - 1
  const flags = raft.leader === undefined ? 'master,s_down,o_down' : 'master'
  return new MapReply([
    ...instanceFields({ ...master, connected: true }, { name: server.masterName(), flags }),
    ['info-refresh', '0'],
    ['role-reported', 'master'],
    ['role-reported-time', '0'],
    ['config-epoch', String(raft.term)],
    ['num-slaves', String(others)],
    ['num-other-sentinels', String(others)],
    ['quorum', String(quorum(raft))],
    ['failover-timeout', '180000'],
    ['parallel-syncs', '1'],
  ])
}

function quorum({ members }: RaftStatus): number {
  return Math.floor(members.length / 2) + 1
}

function replicaMap(raft: RaftStatus, status: MemberStatus, master: MemberStatus): MapReply {
  const { host, port } = clientHost(status.member)
  const leader = clientHost(master.member)
  const offset = status.member.id === raft.nodeId ? raft.applied : (status.match ?? 0)
  return new MapReply([
    ...instanceFields(status, { name: `${host}:${port}`, flags: 'slave' }),
    ['info-refresh', '0'],
    ['role-reported', 'slave'],
    ['role-reported-time', '0'],
    ['master-link-down-time', '0'],
    ['master-link-status', status.connected ? 'ok' : 'err'],
    ['master-host', leader.host],
    ['master-port', String(leader.port)],
    ['slave-priority', '100'],
    ['slave-repl-offset', String(offset)],
    ['replica-announced', '1'],
  ])
}

async function masters(_session: Session, _args: Args, server: LocalServer): Promise<Reply> {
  const raft = await settled(server)
  return masterOf(raft) === undefined ? [] : [masterMap(raft, server)]
}

async function master(_session: Session, args: Args, server: LocalServer): Promise<Reply> {
  checkName(args, server)
  return masterMap(await settled(server), server)
}

async function replicas(_session: Session, args: Args, server: LocalServer): Promise<Reply> {
  checkName(args, server)
  const raft = await settled(server)
  const leading = masterOf(raft)
  if (leading === undefined) throw noSuchMaster
  return raft.members
    .filter((status) => status !== leading)
    .map((status) => replicaMap(raft, status, leading))
}

/** The other members. Their Sentinel ports are as far from their client ports as this node's is. */
async function sentinels(_session: Session, args: Args, server: LocalServer): Promise<Reply> {
  checkName(args, server)
  const raft = await settled(server)
  const distance = server.sentinelPort() - server.info().port
  return raft.members
    .filter(({ member }) => member.id !== raft.nodeId)
    .map((status) => {
      const port = clientHost(status.member).port + distance
      const { id } = status.member
      return new MapReply([
        ...instanceFields(status, { name: id, flags: 'sentinel', port }),
        ['last-hello-message', '0'],
        ['voted-leader', '?'],
        ['voted-leader-epoch', '0'],
      ])
    })
}

async function masterAddress(_session: Session, args: Args, server: LocalServer): Promise<Reply> {
  if (textOf(argument(args, 2)) !== server.masterName()) return nullArray
  const found = masterOf(await settled(server))
  if (found === undefined) return nullArray
  const { host, port } = clientHost(found.member)
  return [host, String(port)]
}

function ckquorum(_session: Session, args: Args, server: LocalServer): Reply {
  checkName(args, server)
  const raft = server.raft()
  const usable = raft.members.filter(({ connected }) => connected).length
  if (usable >= quorum(raft)) {
    return new SimpleReply(
      `OK ${usable} usable Sentinels. Quorum and failover authorization can be reached`,
    )
  }
  const text = `NOQUORUM ${usable} usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master`
  return new ErrorReply(text)
}

// ---- Publish and subscribe -------------------------------------------------------------------------------------

type Kind = 'channels' | 'patterns'

function subscribe(kind: Kind, word: string) {
  return (session: Session, args: Args): NoReply => {
    const { subscriptions } = session
    for (const name of args.slice(1)) {
      const topics = subscriptions[kind]
      if (topics.size >= limits.subscriptionsMax) throw tooMany
      topics.add(keyOf(name))
      session.push(new PushReply([word, name, countOf(session)]))
    }
    return noReply
  }
}

const tooMany = new CommandError('ERR too many subscriptions of one connection')

/** Without arguments: from all of its kind; from none, there is one answer all the same. */
function unsubscribe(kind: Kind, word: string) {
  return (session: Session, args: Args): NoReply => {
    const topics = session.subscriptions[kind]
    const names =
      args.length > 1 ? args.slice(1) : [...topics].map((name) => Buffer.from(name, 'latin1'))
    if (names.length === 0) session.push(new PushReply([word, null, countOf(session)]))
    for (const name of names) {
      topics.delete(keyOf(name))
      session.push(new PushReply([word, name, countOf(session)]))
    }
    return noReply
  }
}

function countOf({ subscriptions }: Session): number {
  return subscriptions.channels.size + subscriptions.patterns.size
}

function ping(session: Session, args: Args): Reply {
  if (args.length > 2) throw wrongArity('ping')
  if (session.protocol === 2 && countOf(session) > 0) return ['pong', args[1] ?? '']
  return args[1] ?? PONG
}

// ---- The table ------------------------------------------------------------------------------------------------------

function info(_session: Session, _args: Args, server: LocalServer): Reply {
  const raft = server.raft()
  const found = masterOf(raft)
  const address = found === undefined ? undefined : clientHost(found.member)
  const lines = [
    '# Server',
    `redis_version:${REDIS_VERSION}`,
    `holdfast_version:${server.info().holdfastVersion}`,
    'redis_mode:sentinel',
    `run_id:${raft.nodeId}`,
    `tcp_port:${server.sentinelPort()}`,
    '',
    '# Sentinel',
    `sentinel_masters:${address === undefined ? 0 : 1}`,
    'sentinel_tilt:0',
    'sentinel_running_scripts:0',
    'sentinel_scripts_queue_length:0',
    ...(address === undefined
      ? []
      : [
          `master0:name=${server.masterName()},status=${raft.leader === undefined ? 'odown' : 'ok'},` +
            `address=${address.host}:${address.port},slaves=${raft.members.length - 1},sentinels=${raft.members.length}`,
        ]),
  ]
  return new VerbatimReply(lines.map((line) => `${line}\r\n`).join(''))
}

function doc(summary: string, since: string, args?: readonly ArgumentDoc[]): Doc {
  const complexity = 'O(N) where N is the number of members.'
  const base = { summary, since, group: 'sentinel', complexity } as const
  return args === undefined ? base : { ...base, arguments: args }
}

const name: ArgumentDoc = { name: 'master-name', type: 'string' }
const channel: ArgumentDoc = { name: 'channel', type: 'string', multiple: true }

/** Each takes the name of the master, but for those that concern all. */
function sentinel(
  word: string,
  summary: string,
  run: (session: Session, args: Args, server: LocalServer) => Reply | Promise<Reply>,
): Command {
  const named = word !== 'masters' && word !== 'myid'
  return {
    name: `sentinel|${word}`,
    arity: named ? 3 : 2,
    flags: ['admin'],
    categories: ['admin', 'dangerous'],
    doc: doc(summary, '2.8.4', named ? [name] : undefined),
    kind: 'local',
    run,
  }
}

const subcommands: readonly Command[] = [
  sentinel('ckquorum', 'Tells whether a majority of the members answers.', ckquorum),
  sentinel('get-master-addr-by-name', 'Returns where the leader takes clients.', masterAddress),
  helpCommand('sentinel', () => subcommands, { categories: [], since: '6.2.0' }),
  sentinel('master', 'Describes the leader.', master),
  sentinel('masters', 'Describes the leader, in a list of one.', masters),
  sentinel(
    'myid',
    'Returns the id of this member.',
    (_session, _args, server) => server.raft().nodeId,
  ),
  sentinel('replicas', 'Describes the followers.', replicas),
  sentinel('sentinels', 'Describes the other members as Sentinels.', sentinels),
  sentinel('slaves', 'Describes the followers, under their old name.', replicas),
]

function topicCommand(word: string, run: (session: Session, args: Args) => NoReply): Command {
  const subscribes = !word.includes('un')
  return {
    name: word,
    arity: subscribes ? -2 : -1,
    flags: ['noscript', 'loading', 'stale'],
    categories: [],
    doc: doc(
      subscribes ? 'Asks for the messages of channels.' : 'Asks for no more messages of channels.',
      '2.0.0',
      [subscribes ? channel : { ...channel, optional: true }],
    ),
    kind: 'local',
    run,
  }
}

const SHARED = ['auth', 'hello', 'quit']

export const sentinelEntries: readonly TableEntry[] = [
  ...connectionCommands.filter((command) => SHARED.includes(command.name)),
  clientEntry,
  commandEntry(() => sentinelEntries),
  {
    name: 'info',
    arity: -1,
    flags: ['loading', 'stale'],
    categories: ['dangerous'],
    doc: doc('Tells about this node as a Sentinel.', '1.0.0'),
    kind: 'local',
    run: info,
  },
  {
    name: 'ping',
    arity: -1,
    flags: ['fast'],
    categories: ['connection'],
    doc: doc('Answers PONG, or its argument.', '1.0.0'),
    kind: 'local',
    run: ping,
  },
  topicCommand('psubscribe', subscribe('patterns', 'psubscribe')),
  topicCommand('punsubscribe', unsubscribe('patterns', 'punsubscribe')),
  {
    name: 'role',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'fast'],
    categories: ['admin', 'dangerous'],
    doc: doc('Tells that this is a Sentinel, and of which masters.', '2.8.12'),
    kind: 'local',
    run: (_session, _args, server) => ['sentinel', [server.masterName()]],
  },
  {
    name: 'sentinel',
    arity: -2,
    flags: ['admin'],
    categories: ['admin', 'dangerous'],
    doc: doc('A container of the commands of Sentinel.', '2.8.4'),
    kind: 'container',
    subcommands,
  },
  topicCommand('subscribe', subscribe('channels', 'subscribe')),
  topicCommand('unsubscribe', unsubscribe('channels', 'unsubscribe')),
]

const table = new CommandTable(sentinelEntries)

/** Which commands a RESP2 connection with subscriptions may send: its replies could not be told from messages. */
const ALLOWED_WHILE_SUBSCRIBED = [
  'subscribe',
  'unsubscribe',
  'psubscribe',
  'punsubscribe',
  'ping',
  'quit',
]

/** The command of the Sentinel port that `args` calls, for this connection; else the error for it. */
export function resolveSentinel(args: Args, session: Session): Command | ErrorReply {
  const command = table.resolve(args)
  if (command instanceof ErrorReply || session.protocol === 3 || countOf(session) === 0)
    return command
  if (ALLOWED_WHILE_SUBSCRIBED.includes(command.name)) return command
  const shown = command.name.replace('|', ' ')
  return new ErrorReply(
    `ERR Can't execute '${shown}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context`,
  )
}
