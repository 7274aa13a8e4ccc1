/*
 * A transaction where it runs: the check of its watched keys, and its reply, which is one string of RESP for each
 * command, because the node of the client puts the replies of the connection's own commands between them. It knows
 * the databases as handlers see them; the writes of a transaction run in keyspace.ts. What EXEC and WATCH hand on
 * comes under names that no client can send: they are in no table, and hold a dot.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../raft/assert.ts'
import {
  EncodedReply,
  ErrorReply,
  nullArray,
  type Reply,
  ReplyBuffer,
  SimpleReply,
} from '../resp/encoder.ts'
import { CodecError } from '../storage/codec.ts'
import {
  decodeTransaction,
  type Transaction,
  type TransactionCommand,
  type WatchedKey,
} from '../storage/logged-command.ts'
import { handlesValues, replyBytes, workOf } from './call.ts'
import { argument, keyOf } from './commands/arguments.ts'
import {
  type Args,
  badDatabase,
  type CalledCommand,
  type CalledPart,
  CommandError,
  type DataReply,
  inOneGo,
  type ReadDatabase,
  type ReadonlyDatabase,
  SLICE_WORK,
  type Slices,
} from './commands/command.ts'
import { unknownCommand } from './commands/command-table.ts'
import { resolve } from './commands/table.ts'
import { EXEC_READS, EXEC_WRITES, VERSIONS, writeWatched } from './commands/transactions.ts'
import { limits } from './config.ts'
import { ElementsReply, tooLarge } from './long-reads.ts'
import { DATABASES } from './session.ts'

const DOT = 0x2e
const ARRAY_MARK = 0x2a
const ERROR_MARK = 0x2d
/** So many bytes of values and replies are as much work as looking at one key. */
const BYTES_PER_WORK = 4096
const DOT_AT = EXEC_WRITES.indexOf('.')

/** The keyspace runs its commands one by one, from what is logged. */
const execWrites: CalledCommand = { name: EXEC_WRITES, kind: 'write' }
/** The same where one of them handles whole values. */
const execOfValues: CalledCommand = { ...execWrites, kind: 'write', parts: partsOf }

const internalCommands: readonly CalledCommand[] = [
  execWrites,
  {
    name: EXEC_READS,
    kind: 'read',
    run: (db, args) => inOneGo(readSlices(db, transactionOf(args))),
    slices: (db, args) => readSlices(db, transactionOf(args)),
  },
  {
    name: VERSIONS,
    kind: 'read',
    keys: [{ first: 1, last: -1, step: 1, access: ['RO'] }],
    run: (db, args) => args.slice(1).map((key) => writeWatched(db.watched(keyOf(key)))),
  },
]

/** What EXEC or WATCH handed on; undefined: it is the command of a client. */
export function internalCommand(args: Args): CalledCommand | undefined {
  const name = argument(args, 0)
  // Asked of every command that is applied: most end here.
  if (name[DOT_AT] !== DOT) return undefined
  const text = Buffer.from(name).toString('latin1')
  return internalCommands.find((command) => command.name === text)
}

/** What is handed on, as it is to be called: of writes that handle whole values one that tells its parts. */
export function calledInternal(command: CalledCommand, handlesValues: boolean): CalledCommand {
  return handlesValues && command === execWrites ? execOfValues : command
}

/** The writes of a transaction that could run. */
function* partsOf(args: Args): Generator<CalledPart> {
  for (const { database, argv } of transactionOf(args).commands) {
    const command = resolve(argv)
    if (!(command instanceof ErrorReply)) yield { command, args: argv, database }
  }
}

/** What another node hands on, and its work. Throws CodecError on what no node of this version hands on. */
export function internalCall(
  command: CalledCommand,
  args: Args,
): { readonly command: CalledCommand; readonly work: number } {
  if (command.name === VERSIONS) return { command, work: 1 }
  const { watched, commands } = transactionOf(args)
  for (const { database } of watched) checkDatabase(database)
  let work = 0
  let ofValues = false
  for (const { database, argv } of commands) {
    checkDatabase(database)
    const queued = resolve(argv)
    const fits = !(queued instanceof ErrorReply) && queued.kind !== 'local'
    if (!fits || (command.kind === 'read' && queued.kind === 'write')) {
      throw new CodecError('a transaction has a command that it cannot have')
    }
    work += workOf(queued, argv)
    ofValues ||= queued.kind === 'write' && handlesValues(queued, argv)
  }
  return { command: calledInternal(command, ofValues), work }
}

function checkDatabase(database: number): void {
  if (database >= DATABASES) throw new CodecError('a transaction has a bad database')
}

/** Throws CodecError. */
export function transactionOf(args: Args): Transaction {
  if (args.length !== 2) throw new CodecError('a transaction is one argument')
  return decodeTransaction(argument(args, 1))
}

/** Whether a watched key is not what it was: somebody wrote or deleted it, its time has come, or it came and went. */
export function isOutdated(db: ReadonlyDatabase, watched: readonly WatchedKey[]): boolean {
  return watched.some(
    ({ database, key, ...watched }) =>
      database >= DATABASES || !db.database(database).isAsWatched(keyOf(key), watched),
  )
}

/** A transaction that writes nothing runs where reads run, and like them in slices when it is long. */
function* readSlices(db: ReadDatabase, { watched, commands }: Transaction): Slices {
  if (isOutdated(db, watched)) return { reply: nullArray }
  const replies = new TransactionReplies(true)
  let work = 0
  for (const command of commands) {
    const before = replies.bytes + db.bytesRead
    replies.add(yield* readPart(db, command), command)
    work += 1 + (replies.bytes + db.bytesRead - before) / BYTES_PER_WORK
    if (work < SLICE_WORK) continue
    work = 0
    yield []
  }
  return { reply: replies.finish() }
}

function* readPart(
  db: ReadDatabase,
  { database, argv, protocol }: TransactionCommand,
): Generator<readonly Reply[], Reply> {
  const command = resolve(argv)
  if (command instanceof ErrorReply) return command
  if (command.kind !== 'read') return unknownCommand(argv)
  if (database >= DATABASES) return badDatabase.reply
  try {
    const own = db.database(database)
    if (command.slices === undefined) return command.run(own, argv)
    return yield* whole(command.slices(own, argv), new ElementsReply(protocol))
  } catch (error) {
    if (error instanceof CommandError) return error.reply
    throw error
  }
}

/** What a read finds, slice by slice, as one reply. */
function* whole(slices: Slices, elements: ElementsReply): Generator<readonly Reply[], Reply> {
  for (;;) {
    const step = slices.next()
    if (step.done !== true) elements.add(step.value)
    else if ('reply' in step.value) return step.value.reply
    else elements.add(step.value.elements)
    if (elements.bytes > limits.longReplyBytesMax) return tooLarge
    if (step.done === true) return elements.finish()
    yield []
  }
}

const TOO_LARGE = new ErrorReply(
  'ERR the transaction was executed, but its replies are too large to be sent in one piece',
)

/** The reply under construction. `wanted` false: nobody waits for it here, so none is made. */
export class TransactionReplies {
  readonly #wanted: boolean
  readonly #encoder = new ReplyBuffer()
  #parts: Uint8Array[] | undefined = []
  #bytes = 0

  constructor(wanted: boolean) {
    this.#wanted = wanted
  }

  /** Of the values in the replies so far. */
  get bytes(): number {
    return this.#bytes
  }

  /** The reply of the next command, whose memory may be used again after this call. */
  add(reply: Reply, { protocol }: TransactionCommand): void {
    if (!this.#wanted || this.#parts === undefined) return
    this.#bytes += replyBytes(reply)
    // One alone may be as large as the largest value is.
    if (this.#parts.length > 0 && this.#bytes > limits.transactionReplyBytesMax) {
      this.#parts = undefined
      return
    }
    // The same bytes in either protocol, that nobody writes again: no copy for each of thousands of OKs.
    if (reply instanceof SimpleReply || reply instanceof ErrorReply) {
      this.#parts.push(reply.encoded)
      return
    }
    this.#encoder.append(reply, protocol)
    this.#parts.push(this.#encoder.take())
  }

  finish(): Reply {
    return this.#parts ?? TOO_LARGE
  }
}

/** The reply of an internal command where it is waited for, also when it comes encoded from another node. */
export function dataReplyOf(reply: Reply): DataReply {
  if (reply instanceof ErrorReply) return reply
  if (reply instanceof EncodedReply) return decoded(Buffer.concat(reply.pieces))
  if (!Array.isArray(reply)) return null
  return reply.map((part) => {
    assert(part instanceof Uint8Array, () => 'an internal command answers with strings')
    return part
  })
}

/** An array of bulk strings, a null of either protocol, or an error line. */
function decoded(bytes: Buffer): DataReply {
  const lineEnd = bytes.indexOf('\r\n')
  const line = bytes.toString('utf8', 1, lineEnd)
  if (bytes[0] === ERROR_MARK) return new ErrorReply(line)
  if (bytes[0] !== ARRAY_MARK || line === '-1') return null
  const parts: Uint8Array[] = []
  for (let at = lineEnd + 2; at < bytes.length; ) {
    const start = bytes.indexOf('\r\n', at) + 2
    const end = start + Number(bytes.toString('latin1', at + 1, start - 2))
    parts.push(bytes.subarray(start, end))
    at = end + 2
  }
  assert(parts.length === Number(line), () => `an array of ${line} holds ${parts.length}`)
  return parts
}
