/*
 * RAFT: what Redis has no words for. STATUS and MEMBERS tell what this node knows, without asking
 * anybody; READY makes the node prove that it can serve a linearizable read now, which is what
 * `holdfast --check` asks; BACKUP gives its state to `holdfast backup`.
 */

import { ErrorReply, MapReply, OK, type Reply } from '../../resp/encoder.ts'
import { BackupError } from '../backup-source.ts'
import type { Session } from '../session.ts'
import { argument, isWord, textOf } from './arguments.ts'
import { type Args, type Command, syntaxError, type TableEntry } from './command.ts'
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

async function ready(_session: Session, _args: Args, server: LocalServer): Promise<Reply> {
  const reason = await server.ready()
  return reason === undefined ? OK : new ErrorReply(`NOTREADY ${reason}`)
}

/** What `holdfast backup` says: BEGIN (with the id of the cluster that is meant) once, then NEXT until nothing comes. Its parts are for that program only. */
async function backup(session: Session, args: Args, server: LocalServer): Promise<Reply> {
  const word = argument(args, 2)
  const begins = isWord(word, 'begin')
  if (args.length > (begins ? 4 : 3) || (!begins && !isWord(word, 'next'))) throw syntaxError
  const { clusterId } = server.raft()
  if (args[3] !== undefined && textOf(args[3]) !== clusterId) {
    return new ErrorReply(`ERR this node belongs to another cluster: ${clusterId}`)
  }
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

const subcommands: readonly Command[] = [
  {
    ...own,
    arity: -3,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    name: 'raft|backup',
    doc: doc('Gives the state of this node, part by part: see `holdfast backup`.'),
    run: backup,
  },
  helpCommand('raft', () => subcommands, { categories: [], since: REDIS_VERSION }),
  {
    ...own,
    name: 'raft|members',
    doc: doc('Lists the members of the cluster as this node sees them.'),
    run: members,
  },
  {
    ...own,
    name: 'raft|ready',
    doc: doc('Answers OK when this node can serve a linearizable read, else why not.'),
    run: ready,
  },
  {
    ...own,
    name: 'raft|status',
    doc: doc("Tells this node's place in the cluster and in the log."),
    run: status,
  },
]

/**
 * `since` is a version of Redis to those who read it; these commands came with the one that is
 * followed here.
 */
function doc(summary: string): Command['doc'] {
  return { summary, since: REDIS_VERSION, group: 'server', complexity: 'O(1)' }
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
