/*
 * The commands by which an operator looks at a node and steers it: CONFIG, INFO, ROLE and SHUTDOWN.
 * They concern this node only, run without Raft, and know the node through LocalServer alone.
 */

import { Buffer } from 'node:buffer'
import { MapReply, OK, type Reply, VerbatimReply } from '../../resp/encoder.ts'
import type { Session } from '../session.ts'
import { argument, isWord, parseInt64, textOf } from './arguments.ts'
import type { Args, ArgumentDoc, Command, TableEntry } from './command.ts'
import { CommandError, notAnInteger, syntaxError } from './command.ts'
import { globMatches, patternOf } from './glob.ts'
import { helpCommand } from './help.ts'
import { infoText } from './info.ts'
import { type LocalServer, REDIS_VERSION } from './local-server.ts'
import { clientHost } from './status.ts'

/** An option that is named, not looked for, has the name as the client wrote it. */
function configGet(_session: Session, args: Args, server: LocalServer): Reply {
  const options = new Map(server.config.entries())
  const found = new Map<string, readonly [string, string]>()
  for (const bytes of args.slice(2)) {
    const pattern = patternOf(bytes)
    const lower = pattern.toLowerCase()
    const names = /[[*?]/.test(pattern)
      ? [...options.keys()].filter((name) => globMatches(lower, name))
      : [lower]
    for (const name of names) {
      const value = options.get(name)
      if (value === undefined || found.has(name)) continue
      found.set(name, [name === lower ? textOf(bytes) : name, value])
    }
  }
  return new MapReply([...found.values()])
}

function configSet(_session: Session, args: Args, server: LocalServer): Reply {
  if (args.length % 2 === 1) throw syntaxError
  const changes: (readonly [name: string, value: string])[] = []
  for (let i = 2; i < args.length; i += 2) {
    changes.push([textOf(argument(args, i)), textOf(argument(args, i + 1))])
  }
  const refusal = server.config.set(changes)
  if (refusal === undefined) return OK
  const { name, reason } = refusal
  if (reason !== undefined) throw configFailure(name, reason)
  throw new CommandError(
    `ERR Unknown option or number of arguments for CONFIG SET - '${bytesOf(name)}'`,
  )
}

function configFailure(name: string, reason: string): CommandError {
  return new CommandError(
    `ERR CONFIG SET failed (possibly related to argument '${bytesOf(name)}') - ${reason}`,
  )
}

/** A text as error replies have it: one character per byte. */
function bytesOf(text: string): string {
  return Buffer.from(text).toString('latin1')
}

function info(_session: Session, args: Args, server: LocalServer): Reply {
  const sections = args.slice(1).map((bytes) => textOf(bytes).toLowerCase())
  return new VerbatimReply(infoText(server, sections))
}

/**
 * Offsets are indices of the log: what this node has applied, what the leader knows of each member.
 */
function role(_session: Session, _args: Args, server: LocalServer): Reply {
  const status = server.raft()
  if (status.role === 'leader') {
    const replicas = status.members.filter(
      ({ member, connected }) => connected && member.id !== status.nodeId,
    )
    return [
      'master',
      status.applied,
      replicas.map(({ member, match }) => {
        const { host, port } = clientHost(member)
        return [host, String(port), String(match ?? 0)]
      }),
    ]
  }
  const { leader } = status
  // Redis' own word for a replica that still looks for its master.
  if (leader === undefined) return ['slave', '', 0, 'connect', status.applied]
  const { host, port } = clientHost(leader)
  const link = status.members.find(({ member }) => member.id === leader.id)
  return ['slave', host, port, link?.connected ? 'connected' : 'connect', status.applied]
}

/** Everything acknowledged is on disk already, so SAVE and NOSAVE mean the same. */
function shutdown(_session: Session, args: Args, server: LocalServer): Reply | Promise<Reply> {
  const words = new Set<string>()
  for (const option of args.slice(1)) {
    const word = SHUTDOWN_OPTIONS.find((known) => isWord(option, known))
    if (word === undefined) throw syntaxError
    words.add(word)
  }
  if (words.has('save') && words.has('nosave')) throw syntaxError
  if (!words.has('abort')) return server.shutdown()
  if (words.size > 1) throw syntaxError
  // A shutdown waits for nothing that could be called off.
  throw new CommandError('ERR No shutdown in progress.')
}

/** Seconds and microseconds of this machine's clock. */
function time(_session: Session, _args: Args, server: LocalServer): Reply {
  const micros = Math.floor(server.wall() * 1000)
  return [String(Math.floor(micros / 1e6)), String(micros % 1e6)]
}

function lolwut(_session: Session, args: Args): Reply {
  if (args.length > 2 && isWord(argument(args, 1), 'version')) {
    if (parseInt64(argument(args, 2)) === undefined) throw notAnInteger
  }
  return new VerbatimReply(`Redis ver. ${REDIS_VERSION}\n`)
}

function monitor(session: Session, _args: Args, server: LocalServer): Reply {
  if (!session.mayWait) throw noMonitorInTransaction
  session.isMonitor = true
  server.observer.monitor(session)
  return OK
}

const noMonitorInTransaction = new CommandError(
  "ERR MONITOR isn't allowed for DENY BLOCKING client",
)
const noDebug = new CommandError(
  'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.',
)

async function configRewrite(_session: Session, _args: Args, server: LocalServer): Promise<Reply> {
  const failure = await server.config.rewrite()
  if (failure === undefined) return OK
  if (failure.reason === undefined) {
    throw new CommandError('ERR The server is running without a config file')
  }
  throw new CommandError(`ERR Rewriting config file: ${failure.reason}`)
}

const SHUTDOWN_OPTIONS: readonly string[] = ['nosave', 'save', 'now', 'force', 'abort']

const configSubcommands: readonly Command[] = [
  {
    name: 'config|get',
    arity: -3,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    categories: [],
    differs: 'The options are those of this server.',
    doc: {
      summary: 'Returns the options of this node that match a pattern.',
      since: '2.0.0',
      group: 'server',
      complexity: 'O(N) where N is the number of options.',
      arguments: [{ name: 'parameter', type: 'string', multiple: true }],
    },
    kind: 'local',
    run: configGet,
  },
  helpCommand('config', () => configSubcommands, { categories: [], since: '5.0.0' }),
  {
    name: 'config|resetstat',
    arity: 2,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    categories: [],
    doc: {
      summary: 'Counts from zero again what INFO counts.',
      since: '2.0.0',
      group: 'server',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: (_session, _args, server) => {
      server.resetStats()
      return OK
    },
  },
  {
    name: 'config|rewrite',
    arity: 2,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    categories: [],
    doc: {
      summary: 'Writes the options as they are into the configuration file.',
      since: '2.8.0',
      group: 'server',
      complexity: 'O(N) where N is the number of options and lines.',
    },
    kind: 'local',
    run: configRewrite,
  },
  {
    name: 'config|set',
    arity: -4,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    categories: [],
    differs: 'The options are those of this server.',
    doc: {
      summary: 'Changes options of this node, all of them or none.',
      since: '2.0.0',
      group: 'server',
      complexity: 'O(N) where N is the number of options given.',
      arguments: [
        {
          name: 'data',
          type: 'block',
          multiple: true,
          arguments: [
            { name: 'parameter', type: 'string' },
            { name: 'value', type: 'string' },
          ],
        },
      ],
    },
    kind: 'local',
    run: configSet,
  },
]

const shutdownWords: readonly ArgumentDoc[] = [
  {
    name: 'save-selector',
    type: 'oneof',
    optional: true,
    arguments: [
      { name: 'nosave', type: 'pure-token', token: 'NOSAVE' },
      { name: 'save', type: 'pure-token', token: 'SAVE' },
    ],
  },
  { name: 'now', type: 'pure-token', token: 'NOW', optional: true },
  { name: 'force', type: 'pure-token', token: 'FORCE', optional: true },
  { name: 'abort', type: 'pure-token', token: 'ABORT', optional: true },
]

export const serverCommands: readonly TableEntry[] = [
  {
    name: 'config',
    arity: -2,
    flags: [],
    categories: [],
    doc: {
      summary: 'A container of commands about the options of this node.',
      since: '2.0.0',
      group: 'server',
      complexity: 'Depends on the subcommand.',
    },
    kind: 'container',
    subcommands: configSubcommands,
  },
  {
    name: 'debug',
    arity: -2,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    categories: [],
    refusal: noDebug,
    differs: 'Always refused, as in a Redis that does not enable it.',
    doc: {
      summary: 'Is refused.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: () => noDebug.reply,
  },
  {
    name: 'info',
    arity: -1,
    flags: ['loading', 'stale'],
    categories: ['dangerous'],
    differs:
      'Only fields that this server can tell; a section `raft` besides. `keyspace_hits` and `keyspace_misses` count the reads of this node, not writes that return a value, such as GETDEL.',
    doc: {
      summary: 'Tells about this node, by section.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1)',
      arguments: [{ name: 'section', type: 'string', optional: true, multiple: true }],
    },
    kind: 'local',
    run: info,
  },
  {
    name: 'lolwut',
    arity: -1,
    flags: ['readonly', 'fast'],
    categories: ['read'],
    differs: 'Only the line with the version.',
    doc: {
      summary: 'Tells the version.',
      since: '5.0.0',
      group: 'server',
      complexity: 'O(1)',
      arguments: [{ name: 'version', type: 'integer', token: 'VERSION', optional: true }],
    },
    kind: 'local',
    run: lolwut,
  },
  {
    name: 'monitor',
    arity: 1,
    flags: ['admin', 'noscript', 'loading', 'stale'],
    categories: [],
    differs:
      'Shows the commands of the clients of this node, also those that it forwards; a line ends at 64 KiB.',
    doc: {
      summary: 'Shows every command that clients of this node send.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(N) of every command, where N is the number of its arguments.',
    },
    kind: 'local',
    run: monitor,
  },
  {
    name: 'role',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'fast'],
    categories: ['admin', 'dangerous'],
    differs: 'Offsets are indices of the log.',
    doc: {
      summary: 'Tells whether this node leads, and whom or whom not.',
      since: '2.8.12',
      group: 'server',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: role,
  },
  {
    name: 'shutdown',
    arity: -1,
    flags: ['admin', 'noscript', 'loading', 'stale', 'no_multi', 'allow_busy'],
    categories: [],
    differs: 'SAVE and NOSAVE mean the same, because what was acknowledged is on disk.',
    doc: {
      summary: 'Ends this node in order.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1): what was acknowledged is on disk.',
      arguments: shutdownWords,
    },
    kind: 'local',
    run: shutdown,
  },
  {
    name: 'time',
    arity: 1,
    flags: ['loading', 'stale', 'fast'],
    categories: [],
    doc: {
      summary: 'Returns the time of this node: seconds since 1970 and microseconds.',
      since: '2.6.0',
      group: 'server',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: time,
  },
]
