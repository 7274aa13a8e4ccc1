/*
 * CLIENT: what a connection says about itself and may learn of the others. The lines of LIST and
 * INFO are Redis' own `field=value` pairs; a field that this server could only guess (buffer
 * internals of Redis) is left out, because a missing field is honest and every client library copes
 * with it.
 */

import { OK, type Reply, VerbatimReply } from '../../resp/encoder.ts'
import type { Session } from '../session.ts'
import { argument, isWord, parseInt64, quoted } from './arguments.ts'
import { clientControls, typeFilter } from './client-control.ts'
import type { Args, Command, TableEntry } from './command.ts'
import { CommandError, syntaxError } from './command.ts'
import { clientName } from './connection.ts'
import { helpCommand } from './help.ts'
import type { LocalServer } from './local-server.ts'

const noBuffers = "The fields of Redis' own buffers, of which there are none, are 0; `fd` is -1."
const badClientId = new CommandError('ERR Invalid client ID')

function list(_session: Session, args: Args, server: LocalServer): Reply {
  const now = server.now()
  const sessions = [...server.sessions()]
  let listed = sessions
  if (args.length === 4 && isWord(argument(args, 2), 'type')) {
    listed = sessions.filter(typeFilter(argument(args, 3)))
  } else if (args.length > 3 && isWord(argument(args, 2), 'id')) {
    const ids = args.slice(3).map(clientId)
    listed = ids.flatMap((id) => sessions.filter((session) => session.id === id))
  } else if (args.length !== 2) {
    throw syntaxError
  }
  return new VerbatimReply(listed.map((session) => describe(session, now)).join(''))
}

function clientId(bytes: Uint8Array): number {
  const id = parseInt64(bytes)
  if (id === undefined) throw badClientId
  return Number(id)
}

/** One line of CLIENT LIST, with its line feed. */
function describe(session: Session, now: number): string {
  const fields: readonly (readonly [string, string | number])[] = [
    ['id', session.id],
    ['addr', session.address],
    ['laddr', session.localAddress],
    // It is no business of this code, but clients expect a number.
    ['fd', -1],
    ['name', session.name],
    ['age', wholeSeconds(now - session.createdAt)],
    ['idle', wholeSeconds(now - session.lastCommandAt)],
    ['flags', flagsOf(session)],
    ['db', session.database],
    ['sub', session.subscriptions.channels.size],
    ['psub', session.subscriptions.patterns.size],
    ['ssub', 0],
    ['multi', session.multi?.commands.length ?? -1],
    ['qbuf', session.inputBytes],
    ...noFields('qbuf-free', 'argv-mem'),
    ['multi-mem', session.multi?.bytes ?? 0],
    ...noFields('rbs', 'rbp', 'obl', 'oll'),
    ['omem', session.outputBytes],
    ['tot-mem', session.memoryBytes],
    ['events', 'r'],
    ['cmd', session.lastCommand === '' ? 'NULL' : session.lastCommand],
    ['user', 'default'],
    ['redir', -1],
    ['resp', session.protocol],
    ['lib-name', session.libName],
    ['lib-ver', session.libVersion],
  ]
  return `${fields.map(([name, value]) => `${name}=${value}`).join(' ')}\n`
}

/** Of buffers that this server has not: redis-py reads a line of CLIENT INFO only when it has them. */
function noFields(...names: readonly string[]): readonly (readonly [string, number])[] {
  return names.map((name) => [name, 0] as const)
}

/** Redis' letters, in its order. */
function flagsOf(session: Session): string {
  const flags: readonly (readonly [boolean, string])[] = [
    [session.isMonitor, 'O'],
    [session.subscriptionCount > 0, 'P'],
    [session.multi !== undefined, 'x'],
    [session.waits.size > 0, 'b'],
    [session.closeAfterReply, 'c'],
    [session.isReadonly, 'r'],
    [session.noEvict, 'e'],
    [session.noTouch, 'T'],
  ]
  const set = flags.filter(([is]) => is).map(([, flag]) => flag)
  return set.length === 0 ? 'N' : set.join('')
}

function wholeSeconds(ms: number): number {
  return Math.max(0, Math.floor(ms / 1000))
}

function setname(session: Session, args: Args): Reply {
  session.name = clientName(argument(args, 2))
  return OK
}

function setinfo(session: Session, args: Args): Reply {
  const attribute = argument(args, 2)
  const isName = isWord(attribute, 'lib-name')
  if (!isName && !isWord(attribute, 'lib-ver')) {
    throw new CommandError(`ERR Unrecognized option '${quoted(attribute)}'`)
  }
  const refusal = `ERR ${quoted(attribute)} cannot contain spaces, newlines or special characters.`
  const value = clientName(argument(args, 3), new CommandError(refusal))
  if (isName) session.libName = value
  else session.libVersion = value
  return OK
}

const own: readonly Command[] = [
  {
    name: 'client|getname',
    arity: 2,
    flags: ['noscript', 'loading', 'stale'],
    categories: ['connection'],
    doc: {
      summary: 'Returns the name of the connection.',
      since: '2.6.9',
      group: 'connection',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: (session) => (session.name === '' ? null : session.name),
  },
  helpCommand('client', () => subcommands, { categories: ['connection'], since: '5.0.0' }),
  {
    name: 'client|id',
    arity: 2,
    flags: ['noscript', 'loading', 'stale'],
    categories: ['connection'],
    doc: {
      summary: 'Returns the number of the connection.',
      since: '5.0.0',
      group: 'connection',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: (session) => session.id,
  },
  {
    name: 'client|info',
    arity: 2,
    flags: ['noscript', 'loading', 'stale'],
    categories: ['connection'],
    differs: noBuffers,
    doc: {
      summary: 'Describes the connection.',
      since: '6.2.0',
      group: 'connection',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: (session, _args, server) => new VerbatimReply(describe(session, server.now())),
  },
  {
    name: 'client|list',
    arity: -2,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    categories: ['connection'],
    differs: noBuffers,
    doc: {
      summary: 'Describes the connections of this node.',
      since: '2.4.0',
      group: 'connection',
      complexity: 'O(N) where N is the number of connections.',
      arguments: [
        {
          name: 'client-type',
          type: 'oneof',
          token: 'TYPE',
          optional: true,
          arguments: [
            { name: 'normal', type: 'pure-token', token: 'NORMAL' },
            { name: 'master', type: 'pure-token', token: 'MASTER' },
            { name: 'replica', type: 'pure-token', token: 'REPLICA' },
            { name: 'pubsub', type: 'pure-token', token: 'PUBSUB' },
          ],
        },
        { name: 'client-id', type: 'integer', token: 'ID', optional: true, multiple: true },
      ],
    },
    kind: 'local',
    run: list,
  },
  {
    name: 'client|setinfo',
    arity: 4,
    flags: ['noscript', 'loading', 'stale'],
    categories: ['connection'],
    doc: {
      summary: 'Tells which library the client is made with.',
      since: '7.2.0',
      group: 'connection',
      complexity: 'O(1)',
      arguments: [
        {
          name: 'attr',
          type: 'oneof',
          arguments: [
            { name: 'libname', type: 'string', token: 'LIB-NAME' },
            { name: 'libver', type: 'string', token: 'LIB-VER' },
          ],
        },
      ],
    },
    kind: 'local',
    run: setinfo,
  },
  {
    name: 'client|setname',
    arity: 3,
    flags: ['noscript', 'loading', 'stale'],
    categories: ['connection'],
    doc: {
      summary: 'Names the connection.',
      since: '2.6.9',
      group: 'connection',
      complexity: 'O(1)',
      arguments: [{ name: 'connection-name', type: 'string' }],
    },
    kind: 'local',
    run: setname,
  },
]

const subcommands = [...own, ...clientControls].sort((a, b) => (a.name < b.name ? -1 : 1))

export const clientEntry: TableEntry = {
  name: 'client',
  arity: -2,
  flags: [],
  categories: [],
  doc: {
    summary: 'A container of commands about connections.',
    since: '2.4.0',
    group: 'connection',
    complexity: 'Depends on the subcommand.',
  },
  kind: 'container',
  subcommands,
}
