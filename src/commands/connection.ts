/*
 * The commands of the handshake and of the connection itself: what every client sends first, so
 * each reply is Redis 7.2's to the byte. They run on the node that holds the connection and never
 * touch data. Passwords are compared as SHA-256 digests in constant time, whoever the user claims
 * to be.
 */

import { createHash, timingSafeEqual } from 'node:crypto'
import { ErrorReply, MapReply, OK, PONG, type Reply, SimpleReply } from '../../resp/encoder.ts'
import type { Session } from '../session.ts'
import { argument, isWord, parseInt64, quoted, textOf } from './arguments.ts'
import type { Args, ArgumentDoc, Command, LocalCommand } from './command.ts'
import { CommandError, syntaxError, wrongArity } from './command.ts'
import { databaseIndex } from './databases.ts'
import { type LocalServer, REDIS_VERSION } from './local-server.ts'

const DEFAULT_USER = 'default'

const wrongPassword = new CommandError(
  'WRONGPASS invalid username-password pair or user is disabled.',
)
const noPasswordSet = new CommandError(
  'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?',
)
const badProtocol = new CommandError('ERR Protocol version is not an integer or out of range')
const unsupportedProtocol = new CommandError('NOPROTO unsupported protocol version')
const helloNeedsAuth = new CommandError(
  'NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time',
)
const badClientName = new CommandError(
  'ERR Client names cannot contain spaces, newlines or special characters.',
)

/** The reply to a command of a connection that has not authenticated where it must. */
export const noAuth: ErrorReply = new ErrorReply('NOAUTH Authentication required.')

/** Whether the connection may send only commands with the flag `no_auth` for now. */
export function mustAuthenticate(session: Session, server: LocalServer): boolean {
  return !session.authenticated && server.passwordDigest() !== undefined
}

/**
 * The name a client gives itself or its library: printable ASCII, so that CLIENT LIST stays one
 * line each.
 */
export function clientName(bytes: Uint8Array, refusal: CommandError = badClientName): string {
  for (const byte of bytes) if (byte < 0x21 || byte > 0x7e) throw refusal
  return textOf(bytes)
}

function ping(_session: Session, args: Args): Reply {
  if (args.length > 2) throw wrongArity('ping')
  return args[1] ?? PONG
}

function quit(session: Session): Reply {
  session.closeAfterReply = true
  return OK
}

function select(session: Session, args: Args): Reply {
  session.database = databaseIndex(argument(args, 1))
  return OK
}

function auth(session: Session, args: Args, server: LocalServer): Reply {
  if (args.length > 3) throw syntaxError
  const password = argument(args, args.length - 1)
  if (args.length === 3) {
    authenticate(session, server, textOf(argument(args, 1)), password)
  } else {
    if (server.passwordDigest() === undefined) throw noPasswordSet
    authenticate(session, server, DEFAULT_USER, password)
  }
  return OK
}

function authenticate(
  session: Session,
  server: LocalServer,
  user: string,
  password: Uint8Array,
): void {
  const wanted = server.passwordDigest()
  const given = createHash('sha256').update(password).digest()
  // Both questions are always asked, so that the time tells nothing about which one failed.
  const passwordMatches = timingSafeEqual(given, wanted ?? given)
  if (user !== DEFAULT_USER || !passwordMatches) throw wrongPassword
  session.authenticated = true
}

/**
 * Nothing of a HELLO takes effect unless all of it does, except that a right password stays
 * accepted.
 */
function hello(session: Session, args: Args, server: LocalServer): Reply {
  const protocol = args.length === 1 ? session.protocol : helloProtocol(argument(args, 1))
  let credentials: { user: string; password: Uint8Array } | undefined
  let name: string | undefined
  for (let i = 2; i < args.length; i++) {
    const option = argument(args, i)
    const following = args.length - 1 - i
    if (isWord(option, 'auth') && following >= 2) {
      credentials = { user: textOf(argument(args, i + 1)), password: argument(args, i + 2) }
      i += 2
    } else if (isWord(option, 'setname') && following >= 1) {
      name = clientName(argument(args, i + 1))
      i += 1
    } else {
      throw new CommandError(`ERR Syntax error in HELLO option '${quoted(option)}'`)
    }
  }
  if (credentials !== undefined) {
    authenticate(session, server, credentials.user, credentials.password)
  }
  if (mustAuthenticate(session, server)) throw helloNeedsAuth
  if (name !== undefined) session.name = name
  session.protocol = protocol
  const mode = server.mode()
  const role = server.raft().role === 'leader' ? 'master' : 'replica'
  return new MapReply([
    ['server', 'redis'],
    ['version', REDIS_VERSION],
    ['proto', protocol],
    ['id', session.id],
    ['mode', mode],
    ...(mode === 'sentinel' ? [] : [['role', role] as const]),
    ['modules', []],
  ])
}

function helloProtocol(bytes: Uint8Array): 2 | 3 {
  const version = parseInt64(bytes)
  if (version === undefined) throw badProtocol
  if (version !== 2 && version !== 3) throw unsupportedProtocol
  return version
}

function reset(session: Session, _args: Args, server: LocalServer): Reply {
  session.reset(server.passwordDigest() === undefined)
  server.observer.endMonitor(session)
  return RESET
}

const RESET = new SimpleReply('RESET')

function switchReadonly(isReadonly: boolean): LocalCommand['run'] {
  return (session) => {
    session.isReadonly = isReadonly
    return OK
  }
}

const username: ArgumentDoc = { name: 'username', type: 'string' }
const password: ArgumentDoc = { name: 'password', type: 'string' }

export const connectionCommands: readonly Command[] = [
  {
    name: 'asking',
    arity: 1,
    flags: ['fast'],
    categories: ['connection'],
    differs: 'Without effect, because no slot ever moves.',
    doc: {
      summary: 'Allows the next command on a slot that is on the move.',
      since: '3.0.0',
      group: 'cluster',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: () => OK,
  },
  {
    name: 'auth',
    arity: -2,
    flags: ['noscript', 'loading', 'stale', 'fast', 'no_auth', 'allow_busy'],
    categories: ['connection'],
    differs: 'The only user is `default`.',
    doc: {
      summary: 'Authenticates the connection.',
      since: '1.0.0',
      group: 'connection',
      complexity: 'O(N) where N is the length of the password.',
      arguments: [{ ...username, optional: true }, password],
    },
    kind: 'local',
    run: auth,
  },
  {
    name: 'echo',
    arity: 2,
    flags: ['loading', 'stale', 'fast'],
    categories: ['connection'],
    doc: {
      summary: 'Returns its argument.',
      since: '1.0.0',
      group: 'connection',
      complexity: 'O(1)',
      arguments: [{ name: 'message', type: 'string' }],
    },
    kind: 'local',
    run: (_session, args) => argument(args, 1),
  },
  {
    name: 'hello',
    arity: -1,
    flags: ['noscript', 'loading', 'stale', 'fast', 'no_auth', 'allow_busy'],
    categories: ['connection'],
    differs: 'The only user is `default`.',
    doc: {
      summary: 'Agrees on a protocol, authenticates and names the connection.',
      since: '6.0.0',
      group: 'connection',
      complexity: 'O(1)',
      arguments: [
        {
          name: 'arguments',
          type: 'block',
          optional: true,
          arguments: [
            { name: 'protover', type: 'integer' },
            {
              name: 'auth',
              type: 'block',
              token: 'AUTH',
              optional: true,
              arguments: [username, password],
            },
            { name: 'clientname', type: 'string', token: 'SETNAME', optional: true },
          ],
        },
      ],
    },
    kind: 'local',
    run: hello,
  },
  {
    name: 'ping',
    arity: -1,
    flags: ['fast'],
    categories: ['connection'],
    doc: {
      summary: 'Answers PONG, or its argument: the connection is alive.',
      since: '1.0.0',
      group: 'connection',
      complexity: 'O(1)',
      arguments: [{ name: 'message', type: 'string', optional: true }],
    },
    kind: 'local',
    run: ping,
  },
  {
    name: 'quit',
    arity: -1,
    immediate: true,
    flags: ['noscript', 'loading', 'stale', 'fast', 'no_auth', 'allow_busy'],
    categories: ['connection'],
    doc: {
      summary: 'Closes the connection.',
      since: '1.0.0',
      group: 'connection',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: quit,
  },
  {
    name: 'readonly',
    arity: 1,
    flags: ['loading', 'stale', 'fast'],
    categories: ['connection'],
    differs: 'Reads stay linearizable.',
    doc: {
      summary: 'With `redirect moved`, reads of the connection run where it is connected.',
      since: '3.0.0',
      group: 'cluster',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: switchReadonly(true),
  },
  {
    name: 'readwrite',
    arity: 1,
    flags: ['loading', 'stale', 'fast'],
    categories: ['connection'],
    doc: {
      summary: 'Ends READONLY.',
      since: '3.0.0',
      group: 'cluster',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: switchReadonly(false),
  },
  {
    name: 'reset',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'fast', 'no_auth', 'allow_busy'],
    categories: ['connection'],
    immediate: true,
    doc: {
      summary: 'Makes the connection as it was when it began.',
      since: '6.2.0',
      group: 'connection',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: reset,
  },
  {
    name: 'select',
    arity: 2,
    flags: ['loading', 'stale', 'fast'],
    categories: ['connection'],
    doc: {
      summary: 'Chooses the database of the connection.',
      since: '1.0.0',
      group: 'connection',
      complexity: 'O(1)',
      arguments: [{ name: 'index', type: 'integer' }],
    },
    kind: 'local',
    run: select,
  },
]
