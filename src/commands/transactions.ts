/*
 * MULTI, EXEC, DISCARD, WATCH and UNWATCH: the half of a transaction that its connection sees. EXEC hands the data
 * commands and the watched versions on as ONE command, wherever that will run, and puts the replies of the
 * connection's own commands (PING, SELECT, CLIENT ...) between the replies that come back. SELECT and HELLO count
 * for what is queued behind them, so they are tried on a copy of the session before.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../../raft/assert.ts'
import {
  EncodedReply,
  ErrorReply,
  nullArray,
  OK,
  type Reply,
  ReplyBuffer,
} from '../../resp/encoder.ts'
import { encodeTransaction, type WatchedKey } from '../../storage/logged-command.ts'
import { limits } from '../config.ts'
import { MultiQueue, type QueuedCommand } from '../multi.ts'
import type { Session } from '../session.ts'
import type {
  Args,
  Command,
  DataReply,
  LocalCommand,
  LocalReply,
  Spec,
  Watched,
} from './command.ts'
import { CommandError, DataCall, noReply } from './command.ts'
import type { LocalServer } from './local-server.ts'

/** The names under which data is asked: see transaction.ts. */
export const EXEC_WRITES = 'holdfast.exec'
export const EXEC_READS = 'holdfast.exec-reads'
export const VERSIONS = 'holdfast.versions'

const nestedMulti = new CommandError('ERR MULTI calls can not be nested')
const watchInMulti = new CommandError('ERR WATCH inside MULTI is not allowed')
const execWithoutMulti = new CommandError('ERR EXEC without MULTI')
const discardWithoutMulti = new CommandError('ERR DISCARD without MULTI')
const aborted = new CommandError('EXECABORT Transaction discarded because of previous errors.')
const tooManyWatched = new CommandError(
  `ERR a connection may watch ${limits.watchedKeysMax} keys at most`,
)
export const notInTransaction: CommandError = new CommandError(
  'ERR Command not allowed inside a transaction',
)

/** What a queued command finds when its turn comes. */
interface Planned {
  readonly queued: QueuedCommand
  readonly database: number
  readonly protocol: 2 | 3
}

function multi(session: Session): Reply {
  if (session.multi !== undefined) throw nestedMulti
  session.multi = new MultiQueue()
  return OK
}

function discard(session: Session): Reply {
  if (session.multi === undefined) throw discardWithoutMulti
  session.endTransaction()
  return OK
}

function exec(session: Session, _args: Args, server: LocalServer): LocalReply {
  const queue = session.multi
  if (queue === undefined) throw execWithoutMulti
  const watched = session.watches.keys
  session.endTransaction()
  if (queue.broken) throw aborted
  const planned = plan(queue.commands, session, server)
  const commands = planned.filter(isData)
  if (commands.length + watched.length === 0) return spliced(planned, [], session, server)
  const writes = commands.some(({ queued }) => queued.command.kind === 'write')
  const transaction = {
    watched,
    commands: commands.map(({ queued, database, protocol }) => {
      return { form: queued.form, database, protocol }
    }),
  }
  return new DataCall({
    args: [Buffer.from(writes ? EXEC_WRITES : EXEC_READS), encodeTransaction(transaction)],
    database: session.database,
    holds: commands.length < planned.length,
    work: queue.work,
    handlesValues: queue.handlesValues,
    answered: (reply) => {
      if (reply === null) return nullArray
      return isParts(reply) ? spliced(planned, reply, session, server) : reply
    },
  })
}

/** An EXEC that cannot run at all ends its transaction. */
export function execRefused(session: Session, { text }: ErrorReply): ErrorReply {
  session.endTransaction()
  return new ErrorReply(`EXECABORT Transaction discarded because of: ${text.replace(/^ERR /, '')}`)
}

/** The commands of the connection that decide how those behind them run. They answer at once. */
const DECIDING = new Set(['select', 'hello', 'auth'])

function plan(
  commands: readonly QueuedCommand[],
  session: Session,
  server: LocalServer,
): readonly Planned[] {
  const ahead = session.copy()
  return commands.map((queued) => {
    const { command } = queued
    const planned = { queued, database: ahead.database, protocol: ahead.protocol }
    if (command.kind === 'local' && DECIDING.has(command.name)) {
      void run(command, queued.args, ahead, server)
    }
    return planned
  })
}

function isData({ queued }: Planned): boolean {
  return queued.command.kind !== 'local'
}

const NONE = new Uint8Array(0)

/** The array that EXEC answers: `parts` are the replies of the data commands, in order. */
function spliced(
  planned: readonly Planned[],
  parts: readonly Uint8Array[],
  session: Session,
  server: LocalServer,
): Reply | Promise<Reply> {
  const data = planned.filter(isData)
  assert(data.length === parts.length, () => `${parts.length} replies to ${data.length} commands`)
  let next = 0
  const replies = planned.map(({ queued, database }): Reply | Promise<Reply> => {
    const { command } = queued
    const part = command.kind === 'local' ? undefined : parts[next++]
    const reply =
      command.kind === 'local'
        ? run(command, queued.args, session, server)
        : new EncodedReply(part ?? NONE)
    const { observer } = server
    if (observer.monitors > 0) {
      const shownIn = command.kind === 'local' ? session.database : database
      observer.show({ session, command, args: queued.args }, shownIn)
    }
    if (!(reply instanceof Promise)) observer.partAnswered(command, reply)
    return reply
  })
  const isReady = (reply: Reply | Promise<Reply>): reply is Reply => !(reply instanceof Promise)
  return replies.every(isReady) ? replies : Promise.all(replies)
}

/** Encoded at once, because the next command may change the protocol. */
function run(
  command: LocalCommand,
  args: Args,
  session: Session,
  server: LocalServer,
): Reply | Promise<Reply> {
  const encode = (reply: Reply): Reply => {
    const buffer = new ReplyBuffer()
    buffer.append(reply, session.protocol)
    return new EncodedReply(buffer.take())
  }
  const failed = (error: unknown): Reply => {
    if (error instanceof CommandError) return error.reply
    throw error
  }
  try {
    session.mayWait = false
    const reply = command.run(session, args, server)
    if (reply instanceof DataCall) return notInTransaction.reply
    // An array has a place for it; Redis leaves that out, and then its client waits for ever.
    if (reply === noReply) return encode(null)
    return reply instanceof Promise ? reply.catch(failed).then(encode) : encode(reply)
  } catch (error) {
    return failed(error)
  } finally {
    session.mayWait = true
  }
}

function isParts(reply: DataReply): reply is readonly Uint8Array[] {
  return Array.isArray(reply)
}

function watch(session: Session, args: Args): LocalReply {
  if (session.multi !== undefined) throw watchInMulti
  const { watches, database } = session
  const keys = args.slice(1)
  if (watches.size + keys.length > limits.watchedKeysMax) throw tooManyWatched
  return new DataCall({
    args: [Buffer.from(VERSIONS), ...keys],
    database,
    // What is read behind it must be younger than what it remembers.
    holds: true,
    work: 0,
    handlesValues: false,
    answered: (reply) => {
      if (!isParts(reply)) return reply
      for (const [at, key] of keys.entries()) watches.add(watchedKey(database, key, reply[at]))
      return OK
    },
  })
}

const MISSING = 'missing since '

/** What is told of a key that is watched: its version, or as of which one it is missing. */
export function writeWatched({ version, isMissing }: Watched): Uint8Array {
  return Buffer.from(isMissing ? MISSING + version : String(version))
}

function watchedKey(database: number, key: Uint8Array, told: Uint8Array | undefined): WatchedKey {
  const text = Buffer.from(told ?? NONE).toString('latin1')
  const isMissing = text.startsWith(MISSING)
  const version = Number(isMissing ? text.slice(MISSING.length) : text)
  return { database, key, version, isMissing }
}

function unwatch(session: Session): Reply {
  session.watches.clear()
  return OK
}

const own = {
  flags: ['noscript', 'loading', 'stale', 'fast', 'allow_busy'],
  categories: ['transaction'],
} as const satisfies Partial<Spec>

function doc(summary: string, since: string, complexity: string): Spec['doc'] {
  return { summary, since, group: 'transactions', complexity }
}

export const transactionCommands: readonly Command[] = [
  {
    ...own,
    name: 'discard',
    arity: 1,
    immediate: true,
    doc: doc('Drops the transaction.', '2.0.0', 'O(N) where N is the number of queued commands.'),
    kind: 'local',
    run: discard,
  },
  {
    ...own,
    name: 'exec',
    arity: 1,
    flags: ['noscript', 'loading', 'stale', 'skip_slowlog'],
    immediate: true,
    differs: 'Of the commands in it, those that read very much are refused.',
    doc: doc('Runs the transaction.', '1.2.0', 'That of the queued commands together.'),
    kind: 'local',
    run: exec,
  },
  {
    ...own,
    name: 'multi',
    arity: 1,
    immediate: true,
    differs: 'At most 5,000 commands, and `transaction-max-bytes` of arguments.',
    doc: doc('Begins a transaction: what follows is queued.', '1.2.0', 'O(1)'),
    kind: 'local',
    run: multi,
  },
  {
    ...own,
    name: 'unwatch',
    arity: 1,
    doc: doc('Forgets the watched keys.', '2.2.0', 'O(1)'),
    kind: 'local',
    run: unwatch,
  },
  {
    ...own,
    name: 'watch',
    arity: -2,
    keys: { first: 1, last: -1, step: 1, access: ['RO'] },
    immediate: true,
    differs:
      'At most 10,000 keys. For keys that do not exist, SWAPDB of their database counts as a change, and so do 16,384 keys that came elsewhere meanwhile; for one that exists, SWAPDB there and back does not. A BITFIELD that fails with OVERFLOW FAIL and makes its key longer counts as a change; in Redis it does not.',
    doc: {
      ...doc(
        'Makes the next transaction do nothing if one of the keys has changed by then.',
        '2.2.0',
        'O(N) where N is the number of keys.',
      ),
      arguments: [{ name: 'key', type: 'key', multiple: true }],
    },
    kind: 'local',
    run: watch,
  },
]
