/*
 * RAFT: what Redis has no words for. STATUS and MEMBERS tell what this node knows, without asking
 * anybody; READY makes the node prove that it can serve a linearizable read now, which is what
 * `holdfast --check` asks; BACKUP gives its state to `holdfast backup`. The others change the members,
 * through whoever leads.
 */

import { Buffer } from 'node:buffer'
import type { NodeId } from '../../raft/types.ts'
import { ErrorReply, MapReply, OK, type Reply } from '../../resp/encoder.ts'
import { BackupError } from '../backup-source.ts'
import type { RequestOutcome } from '../membership-requests.ts'
import { formatAddress, parseAddress } from '../network.ts'
import type { Session } from '../session.ts'
import { argument, isWord, quoted, textOf } from './arguments.ts'
import {
  type Args,
  type ArgumentDoc,
  type Command,
  CommandError,
  syntaxError,
  type TableEntry,
} from './command.ts'
import { helpCommand } from './help.ts'
import { type LocalServer, REDIS_VERSION } from './local-server.ts'
import { memberFields, statusFields } from './status.ts'

function status(_session: Session, _args: Args, server: LocalServer): Reply {
  return new MapReply(statusFields(server.raft()))
}

function members(_session: Session, _args: Args, server: LocalServer): Reply {
  const now = server.raft()
  return now.members.map((member) => new MapReply(memberFields(now, member)))
}

async function add(_session: Session, args: Args, server: LocalServer): Promise<Reply> {
  const bytes = argument(args, 2)
  const address = parseAddress(textOf(bytes))
  if (address === undefined) throw new CommandError(`ERR ${quoted(bytes)} is not host:peerport`)
  const words = wordsOf(args, 3, ['learner'])
  const { ok, text: told } = await server.changeMembership({
    type: 'add',
    address: formatAddress(address.host, address.port),
    learner: words.has('learner'),
  })
  return ok ? Buffer.from(told) : new ErrorReply(`ERR ${told}`)
}

function change(type: 'remove' | 'promote' | 'demote') {
  return async (_session: Session, args: Args, server: LocalServer): Promise<Reply> => {
    const id = idOf(argument(args, 2))
    const force = wordsOf(args, 3, ['force']).has('force')
    return replyOf(await server.changeMembership({ type, id, force }))
  }
}

async function transfer(_session: Session, args: Args, server: LocalServer): Promise<Reply> {
  if (args.length > 3) throw syntaxError
  const to = args[2] === undefined ? undefined : idOf(args[2])
  const from = server.raft().leader?.id
  if (from === undefined) return new ErrorReply('ERR no leader is known to this node')
  return replyOf(await server.changeMembership({ type: 'transfer', from, to }))
}

function replyOf({ ok, text }: RequestOutcome): Reply {
  return ok ? OK : new ErrorReply(`ERR ${text}`)
}

/** As RAFT MEMBERS shows it. */
function idOf(bytes: Uint8Array): NodeId {
  const id = textOf(bytes).toLowerCase()
  if (!/^[0-9a-f]{40}$/.test(id)) {
    throw new CommandError(
      'ERR a member is named by its id, 40 hex digits: RAFT MEMBERS lists them',
    )
  }
  return id
}

/** The words from `first` on, of those that are allowed. */
function wordsOf(args: Args, first: number, allowed: readonly string[]): ReadonlySet<string> {
  const words = new Set<string>()
  for (const option of args.slice(first)) {
    const word = allowed.find((known) => isWord(option, known))
    if (word === undefined) throw syntaxError
    words.add(word)
  }
  return words
}

async function ready(_session: Session, args: Args, server: LocalServer): Promise<Reply> {
  if (args.length > 3) throw syntaxError
  const stranger = refusalOfOther(args[2], server)
  if (stranger !== undefined) return stranger
  const reason = await server.ready()
  return reason === undefined ? OK : new ErrorReply(`NOTREADY ${reason}`)
}

/** What whoever means another cluster than this node's is told. */
function refusalOfOther(meant: Args[number] | undefined, server: LocalServer): Reply | undefined {
  const { clusterId } = server.raft()
  if (meant === undefined || textOf(meant) === clusterId) return undefined
  return new ErrorReply(`ERR this node belongs to another cluster: ${clusterId}`)
}

/** What `holdfast backup` says: BEGIN (with the id of the cluster that is meant) once, then NEXT until nothing comes. Its parts are for that program only. */
async function backup(session: Session, args: Args, server: LocalServer): Promise<Reply> {
  const word = argument(args, 2)
  const begins = isWord(word, 'begin')
  if (args.length > (begins ? 4 : 3) || (!begins && !isWord(word, 'next'))) throw syntaxError
  const stranger = refusalOfOther(args[3], server)
  if (stranger !== undefined) return stranger
  const { backups } = server
  try {
    return (await (begins ? backups.begin(session) : backups.next(session))) ?? null
  } catch (error) {
    if (error instanceof BackupError) return new ErrorReply(`ERR ${error.message}`)
    throw error
  }
}

const own = {
  arity: 2,
  flags: ['noscript', 'loading', 'stale'],
  categories: [],
  kind: 'local',
} as const

/** Whoever may use these may end the cluster. */
const administrative = {
  ...own,
  arity: -3,
  flags: ['admin', 'noscript', 'loading', 'stale'],
} as const

const idArgument: ArgumentDoc = { name: 'id', type: 'string' }
const force: ArgumentDoc = { name: 'force', type: 'pure-token', token: 'FORCE', optional: true }

const subcommands: readonly Command[] = [
  {
    ...administrative,
    name: 'raft|add',
    doc: doc('Adds the new, empty node at an address; it is promoted when it has caught up.', [
      { name: 'host:peerport', type: 'string' },
      { name: 'learner', type: 'pure-token', token: 'LEARNER', optional: true },
    ]),
    run: add,
  },
  {
    ...administrative,
    name: 'raft|backup',
    doc: doc('Gives the state of this node, part by part: see `holdfast backup`.'),
    run: backup,
  },
  {
    ...administrative,
    name: 'raft|demote',
    doc: doc('Makes a learner of a voter.', [idArgument, force]),
    run: change('demote'),
  },
  helpCommand('raft', () => subcommands, { categories: [], since: REDIS_VERSION }),
  {
    ...own,
    name: 'raft|members',
    doc: doc('Lists the members of the cluster as this node sees them.'),
    run: members,
  },
  {
    ...administrative,
    name: 'raft|promote',
    doc: doc('Makes a voter of a learner that has caught up.', [idArgument, force]),
    run: change('promote'),
  },
  {
    ...own,
    arity: -2,
    name: 'raft|ready',
    doc: doc('Answers OK when this node can serve a linearizable read, else why not.', [
      { name: 'cluster', type: 'string', optional: true },
    ]),
    run: ready,
  },
  {
    ...administrative,
    name: 'raft|remove',
    doc: doc('Removes a member for good; a leader hands over first.', [idArgument, force]),
    run: change('remove'),
  },
  {
    ...own,
    name: 'raft|status',
    doc: doc("Tells this node's place in the cluster and in the log."),
    run: status,
  },
  {
    ...administrative,
    arity: -2,
    name: 'raft|transfer',
    doc: doc('Hands leadership over to a member, or to the one that is furthest.', [
      { ...idArgument, optional: true },
    ]),
    run: transfer,
  },
]

/**
 * `since` is a version of Redis to those who read it; these commands came with the one that is
 * followed here.
 */
function doc(summary: string, parameters?: readonly ArgumentDoc[]): Command['doc'] {
  const own = { summary, since: REDIS_VERSION, group: 'server', complexity: 'O(1)' } as const
  return parameters === undefined ? own : { ...own, arguments: parameters }
}

export const raftEntry: TableEntry = {
  name: 'raft',
  arity: -2,
  flags: [],
  categories: [],
  doc: doc('A container of commands about consensus.'),
  kind: 'container',
  subcommands,
}
