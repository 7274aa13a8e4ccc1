/*
 * The half of CLIENT that changes connections instead of describing them: KILL, PAUSE, REPLY and the switches. A
 * switch whose effect this server does not have (NO-TOUCH, because nothing is evicted by age) is remembered and
 * shown; caching by clients (TRACKING) is refused.
 */

import { MapReply, OK, type Reply, SetReply } from '../../resp/encoder.ts'
import type { Session } from '../session.ts'
import { argument, isWord, parseInt64, quoted, textOf } from './arguments.ts'
import type { Args, ArgumentDoc, Command, CommandFlag, LocalReply } from './command.ts'
import {
  CommandError,
  noReply,
  notAnInteger,
  syntaxError,
  tokenDoc,
  wrongNumber,
} from './command.ts'
import type { LocalServer } from './local-server.ts'
import { type Subcommand, subcommand } from './subcommand.ts'

const noSuchClient = new CommandError('ERR No such client')
const badId = new CommandError('ERR client-id should be greater than 0')
const badTimeout = new CommandError('ERR timeout is not an integer or out of range')
const negativeTimeout = new CommandError('ERR timeout is negative')
const badMode = new CommandError('ERR CLIENT PAUSE mode must be WRITE or ALL')
const noTracking = new CommandError(
  'ERR CLIENT TRACKING ON is not supported: no node tells clients of changes',
)
const redirectedTwice = new CommandError('ERR A client can only redirect to a single other client')
const noRedirect = new CommandError('ERR The client ID you want redirect to does not exist')
const noCaching = new CommandError(
  'ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled',
)
const badReason = new CommandError('ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR')
const USERS = ['default']
/** What a timer can hold: 24 days. */
const PAUSE_MS_MAX = 2 ** 31 - 1

/** Whether a connection is of the type: there are no replicas among them. */
export function typeFilter(type: Uint8Array): (session: Session) => boolean {
  if (isWord(type, 'normal')) return (session) => session.subscriptionCount === 0
  if (isWord(type, 'pubsub')) return (session) => session.subscriptionCount > 0
  if (['master', 'replica', 'slave'].some((other) => isWord(type, other))) return () => false
  throw new CommandError(`ERR Unknown client type '${quoted(type)}'`)
}

// ---- KILL -----------------------------------------------------------------------------------------

function kill(session: Session, args: Args, server: LocalServer): Reply {
  if (args.length === 3) {
    const address = textOf(argument(args, 2))
    const killed = killAll(
      session,
      [...server.sessions()].filter((one) => one.address === address),
    )
    if (killed === 0) throw noSuchClient
    return OK
  }
  const { filters, skipsMe } = killOptions(args)
  const chosen = [...server.sessions()].filter(
    (one) => !(skipsMe && one.id === session.id) && filters.every((matches) => matches(one)),
  )
  return killAll(session, chosen)
}

type Filter = (session: Session) => boolean

function killOptions(args: Args): {
  readonly filters: readonly Filter[]
  readonly skipsMe: boolean
} {
  if (args.length % 2 === 1) throw syntaxError
  const filters: Filter[] = []
  let skipsMe = true
  for (let at = 2; at < args.length; at += 2) {
    const option = argument(args, at)
    const value = argument(args, at + 1)
    if (isWord(option, 'skipme')) {
      skipsMe = isWord(value, 'yes')
      if (!skipsMe && !isWord(value, 'no')) throw syntaxError
    } else filters.push(killFilter(option, value))
  }
  return { filters, skipsMe }
}

function killFilter(option: Uint8Array, value: Uint8Array): Filter {
  const text = textOf(value)
  if (isWord(option, 'id')) {
    const id = parseInt64(value)
    if (id === undefined || id < 1) throw badId
    return (session) => session.id === Number(id)
  }
  if (isWord(option, 'type')) return typeFilter(value)
  if (isWord(option, 'addr')) return (session) => session.address === text
  if (isWord(option, 'laddr')) return (session) => session.localAddress === text
  if (!isWord(option, 'user')) throw syntaxError
  if (!USERS.includes(text)) throw new CommandError(`ERR No such user '${quoted(value)}'`)
  return (session) => session.authenticated
}

/** The connection itself gets its reply before it ends. */
function killAll(session: Session, chosen: readonly Session[]): number {
  for (const one of chosen) {
    if (one.id === session.id) session.closeAfterReply = true
    else one.close()
  }
  return chosen.length
}

// ---- PAUSE, REPLY and switches --------------------------------------------------------------------

function pause(_session: Session, args: Args, server: LocalServer): Reply {
  if (args.length > 4) throw wrongNumber(args)
  const mode = args[3]
  const writesOnly = mode !== undefined && isWord(mode, 'write')
  if (mode !== undefined && !writesOnly && !isWord(mode, 'all')) throw badMode
  const ms = parseInt64(argument(args, 2))
  if (ms === undefined) throw badTimeout
  if (ms < 0) throw negativeTimeout
  server.pause(Math.min(Number(ms), PAUSE_MS_MAX), writesOnly ? 'write' : 'all')
  return OK
}

function reply(session: Session, args: Args): LocalReply {
  const mode = argument(args, 2)
  if (isWord(mode, 'on')) {
    session.replies = 'on'
    return OK
  }
  if (isWord(mode, 'off')) session.replies = 'off'
  else if (!isWord(mode, 'skip')) throw syntaxError
  else if (session.replies !== 'off') session.replies = 'skip'
  return noReply
}

function onOrOff(bytes: Uint8Array): boolean {
  const on = isWord(bytes, 'on')
  if (!on && !isWord(bytes, 'off')) throw syntaxError
  return on
}

/** Redis checks the options before it looks whether they are to be switched on. */
function tracking(_session: Session, args: Args, server: LocalServer): Reply {
  let redirected = false
  for (let at = 3; at < args.length; at++) {
    const option = argument(args, at)
    const more = at + 1 < args.length
    if (isWord(option, 'redirect') && more) {
      if (redirected) throw redirectedTwice
      const id = parseInt64(argument(args, ++at))
      if (id === undefined) throw notAnInteger
      redirected = [...server.sessions()].some((session) => session.id === Number(id))
      if (!redirected) throw noRedirect
    } else if (isWord(option, 'prefix') && more) at++
    else if (!TRACKING_WORDS.some((word) => isWord(option, word))) throw syntaxError
  }
  if (onOrOff(argument(args, 2))) throw noTracking
  return OK
}

const TRACKING_WORDS = ['bcast', 'optin', 'optout', 'noloop']

function caching(): Reply {
  throw noCaching
}

/** WAIT and WAITAOF are all that a connection can wait in. */
function unblock(_session: Session, args: Args, server: LocalServer): Reply {
  if (args.length > 4) throw wrongNumber(args)
  const reason = args[3]
  const withError = reason !== undefined && isWord(reason, 'error')
  if (reason !== undefined && !withError && !isWord(reason, 'timeout')) throw badReason
  const id = parseInt64(argument(args, 2))
  if (id === undefined) throw notAnInteger
  const target = [...server.sessions()].find((session) => session.id === Number(id))
  const [wait] = target?.waits ?? []
  if (wait === undefined) return 0
  wait.end = withError ? 'error' : 'timeout'
  return 1
}

const toggle: ArgumentDoc = {
  name: 'enabled',
  type: 'oneof',
  arguments: [tokenDoc('ON'), tokenDoc('OFF')],
}

function entry(word: string, options: Subcommand & { readonly admin?: true }): Command {
  const flags: readonly CommandFlag[] = ['noscript', 'loading', 'stale']
  return subcommand(
    `client|${word}`,
    {
      flags: options.admin === true ? ['admin', ...flags] : flags,
      categories: ['connection'],
      group: 'connection',
    },
    options,
  )
}

const filterDocs: readonly ArgumentDoc[] = [
  { name: 'client-id', type: 'integer', token: 'ID', optional: true },
  {
    name: 'client-type',
    type: 'oneof',
    token: 'TYPE',
    optional: true,
    arguments: ['NORMAL', 'MASTER', 'SLAVE', 'REPLICA', 'PUBSUB'].map((word) => tokenDoc(word)),
  },
  { name: 'username', type: 'string', token: 'USER', optional: true },
  { name: 'ip:port', type: 'string', token: 'ADDR', optional: true },
  { name: 'ip:port', type: 'string', token: 'LADDR', optional: true },
  {
    name: 'skipme',
    type: 'oneof',
    token: 'SKIPME',
    optional: true,
    arguments: [tokenDoc('YES'), tokenDoc('NO')],
  },
]

export const clientControls: readonly Command[] = [
  entry('caching', {
    arity: 3,
    since: '6.0.0',
    summary: 'Is refused: it belongs to TRACKING ON.',
    arguments: [{ name: 'mode', type: 'oneof', arguments: [tokenDoc('YES'), tokenDoc('NO')] }],
    differs: 'Always refused, as without TRACKING ON.',
    run: caching,
  }),
  entry('capa', {
    arity: -3,
    since: '7.2.4',
    summary: 'Tells what the client can do, as in Valkey.',
    arguments: [{ name: 'capability', type: 'string', multiple: true }],
    differs: 'Of Valkey. Accepted without effect: a node forwards instead of redirecting.',
    run: () => OK,
  }),
  entry('getredir', {
    arity: 2,
    since: '6.0.0',
    summary: 'Returns the connection that messages of TRACKING go to: -1, none.',
    run: () => -1,
  }),
  entry('kill', {
    arity: -3,
    admin: true,
    since: '2.4.0',
    summary: 'Ends connections of this node.',
    complexity: 'O(N) where N is the number of connections.',
    arguments: [
      {
        name: 'filter',
        type: 'oneof',
        arguments: [
          { name: 'old-format', type: 'string' },
          { name: 'new-format', type: 'oneof', multiple: true, arguments: filterDocs },
        ],
      },
    ],
    run: kill,
  }),
  entry('no-evict', {
    arity: 3,
    admin: true,
    since: '7.0.0',
    summary: 'Keeps the connection when all together exceed maxmemory-clients.',
    arguments: [toggle],
    run: (session, args) => {
      session.noEvict = onOrOff(argument(args, 2))
      return OK
    },
  }),
  entry('no-touch', {
    arity: 3,
    since: '7.2.0',
    summary: 'Tells whether commands of the connection count as use of a key.',
    arguments: [toggle],
    differs: 'Without effect: no key is evicted, and OBJECT IDLETIME is not kept.',
    run: (session, args) => {
      session.noTouch = onOrOff(argument(args, 2))
      return OK
    },
  }),
  entry('pause', {
    arity: -3,
    admin: true,
    since: '3.0.0',
    summary: 'Holds up the commands of all connections of this node for a while.',
    arguments: [
      { name: 'timeout', type: 'integer' },
      {
        name: 'mode',
        type: 'oneof',
        optional: true,
        arguments: [tokenDoc('WRITE'), tokenDoc('ALL')],
      },
    ],
    differs: 'Of this node only; keys go on to expire.',
    run: pause,
  }),
  entry('reply', {
    arity: 3,
    since: '3.2.0',
    summary: 'Tells whether the connection wants replies.',
    arguments: [
      {
        name: 'action',
        type: 'oneof',
        arguments: [tokenDoc('ON'), tokenDoc('OFF'), tokenDoc('SKIP')],
      },
    ],
    differs: 'Inside EXEC, OFF and SKIP have a null in their place of the array.',
    run: reply,
  }),
  entry('tracking', {
    arity: -3,
    since: '6.0.0',
    summary: 'Asks to be told of changes, which this server refuses.',
    arguments: [toggle],
    differs: 'Only OFF; ON is refused.',
    run: tracking,
  }),
  entry('trackinginfo', {
    arity: 2,
    since: '6.2.0',
    summary: 'Tells that the connection is not told of changes.',
    run: () =>
      new MapReply([
        ['flags', new SetReply(['off'])],
        ['redirect', -1],
        ['prefixes', []],
      ]),
  }),
  entry('unblock', {
    arity: -3,
    admin: true,
    since: '5.0.0',
    summary: 'Ends the WAIT or WAITAOF of a connection of this node.',
    arguments: [
      { name: 'client-id', type: 'integer' },
      {
        name: 'unblock-type',
        type: 'oneof',
        optional: true,
        arguments: [tokenDoc('TIMEOUT'), tokenDoc('ERROR')],
      },
    ],
    run: unblock,
  }),
  entry('unpause', {
    arity: 2,
    admin: true,
    since: '6.2.0',
    summary: 'Ends CLIENT PAUSE.',
    complexity: 'O(N) where N is the number of connections that wait.',
    run: (_session, _args, server) => {
      server.unpause()
      return OK
    },
  }),
]
