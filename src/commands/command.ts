/*
 * What a command is: one declarative entry that the frontend, the log, COMMAND and HELP all read,
 * so that there is no second list. The kind decides where a command runs and, by the type of its
 * handler, what it may touch: a read handler gets a database that it cannot change, a local one
 * gets no database at all. Nothing here knows where the data lives or how the command got here.
 */

import { ErrorReply, type Reply } from '../../resp/encoder.ts'
import type { StoredValue } from '../../storage/state-store.ts'
import type { Session } from '../session.ts'
import { argument, quoted } from './arguments.ts'
import type { LocalServer } from './local-server.ts'

/** A command as it came: the name first, then its arguments, as bytes. */
export type Args = readonly Uint8Array[]

/**
 * Names the command that last changed a key: larger for every later one. Commands of one entry differ, so a key that
 * was watched between two of them is seen to change.
 */
export type Version = number

/** What WATCH remembers of a key: its version or, of one that is missing, that of the newest key there is. */
export interface Watched {
  readonly version: Version
  readonly isMissing: boolean
}

/**
 * One database as a read handler sees it. Keys are the latin1 strings of the client's bytes; one that is due
 * (`expireAt` at or before `now`) does not exist.
 */
export interface ReadonlyDatabase {
  /** Its number, 0 to 15. */
  readonly index: number
  /** The logical clock in ms: the one time there is for a handler. */
  readonly now: number
  /**
   * The value belongs to the store: valid until the handler returns its reply, never to be written
   * to.
   */
  get(key: string): StoredValue | undefined
  /** When a key expires, in ms; 0: never; undefined: it is not there. Cheaper than get() where values are large. */
  expiryOf(key: string): number | undefined
  watched(key: string): Watched
  /** Whether nothing happened to the key since; of one that was missing: also that it did not come and go. */
  isAsWatched(key: string, watched: Watched): boolean
  /** Number of keys; those that are due count until they are removed, as in Redis. */
  size(): number
  /** Another database at the same moment, 0 to 15. */
  database(index: number): ReadonlyDatabase
}

/**
 * One database as a write handler sees it: reads see the handler's own writes, an error undoes them
 * all, in every database.
 */
export interface Database extends ReadonlyDatabase {
  /**
   * Throws CommandError when the values that the commands of one entry handle are too many bytes already for another
   * large one; to be called before memory is taken for a value of so many bytes. get() does so by itself.
   */
  room(bytes: number): void
  /** `expireAt` in ms of the logical clock, 0: never. Whoever keeps a TTL passes that of the old value. */
  put(key: string, value: Uint8Array, expireAt?: number): void
  /** False when there was no such key. */
  delete(key: string): boolean
  /** Removes every key of this database. */
  clear(): void
  /** Removes every key of every database. */
  clearAll(): void
  /** Lets each of two databases hold what the other held. The command writes nothing else. */
  swap(a: number, b: number): void
  database(index: number): Database
}

/** A local command that sends what it has to say through the session (SUBSCRIBE), or nothing. */
export const noReply: unique symbol = Symbol('no reply')
export type NoReply = typeof noReply

/** A database as a read handler sees it: it can be looked through as well. */
export interface ReadDatabase extends ReadonlyDatabase {
  /**
   * Visits the keys from a position on (0 to 2^52), in the order of positions; those of one position follow each
   * other in any order. False ends it.
   */
  scan(fromPosition: number, visit: ScanVisitor): void
  /** In [0, 1), different on every node and at every call: nothing that is kept may follow from it. */
  random(): number
  /** Bytes of the values that reads were given so far, of this database and the others. */
  readonly bytesRead: number
  database(index: number): ReadDatabase
}

/** `key` is undefined for one that is due; `load` gives the value, which may cost a read of the disk. */
export type ScanVisitor = (
  position: number,
  key: string | undefined,
  load: () => StoredValue,
) => boolean

/**
 * A read in slices: each step does work of about SLICE_WORK and yields elements of the array that it answers with;
 * the last gives the rest of them, or a reply that is no such array.
 */
export type Slices = Generator<readonly Reply[], LastSlice>
export type LastSlice = { readonly elements: readonly Reply[] } | { readonly reply: Reply }

/** The work of one slice, a few milliseconds, where looking at one key is 1. */
export const SLICE_WORK = 1000

export type Run =
  /** Runs on the node that was asked, against applied state. */
  | {
      readonly kind: 'read'
      run(db: ReadDatabase, args: Args): Reply
      /**
       * The same for a command whose work has no bound: what is more than one slice runs between other work, over
       * one view of the state.
       */
      slices?(db: ReadDatabase, args: Args): Slices
      /**
       * Its slices are the parts of one value, which it holds from one to the next: the store changes none that is so
       * large (write-blocks.ts). Where it runs in one go, the bytes of the value count.
       */
      readonly ofOneValue?: true
    }
  /** Runs on every replica, inside apply: reads nothing but arguments and database. */
  | { readonly kind: 'write'; run(db: Database, args: Args): Reply }
  /** Concerns the connection or this node only. */
  | {
      readonly kind: 'local'
      run(session: Session, args: Args, server: LocalServer): LocalReply
    }

/** What a local command answers: at once, later, or when the data it needs has been asked. */
export type LocalReply = Reply | NoReply | Promise<Reply> | DataCall

/**
 * What a local command asks of the data. The connection has it run where it belongs, in its turn among the commands
 * of the connection.
 */
export class DataCall {
  /** Under a name of transaction.ts. */
  readonly args: Args
  readonly database: number
  /** No later command of the connection starts before `answered` has returned (and its promise is settled). */
  readonly holds: boolean
  /** Of a write: see Call. */
  readonly work: number
  /** Of a transaction: see handlesValues(). */
  readonly handlesValues: boolean
  /** Makes the local command's reply of the data's. What `reply` holds may be kept. */
  readonly answered: (reply: DataReply) => Reply | Promise<Reply>

  constructor(options: {
    args: Args
    database: number
    holds: boolean
    work: number
    handlesValues: boolean
    answered: (reply: DataReply) => Reply | Promise<Reply>
  }) {
    this.args = options.args
    this.database = options.database
    this.holds = options.holds
    this.work = options.work
    this.handlesValues = options.handlesValues
    this.answered = options.answered
  }
}

/** The reply to a DataCall, wherever it ran: strings, nothing (the null array), or an error. */
export type DataReply = readonly Uint8Array[] | null | ErrorReply

/** Redis' command flags, without `write` and `readonly` where those follow from the kind. */
export type CommandFlag =
  | 'readonly'
  | 'denyoom'
  | 'admin'
  | 'noscript'
  | 'skip_monitor'
  | 'skip_slowlog'
  | 'asking'
  | 'blocking'
  | 'loading'
  | 'stale'
  | 'fast'
  | 'no_auth'
  | 'no_multi'
  | 'no_async_loading'
  | 'allow_busy'

/** Redis' ACL categories that do not follow from the flags. */
export type OwnCategory =
  | 'keyspace'
  | 'read'
  | 'string'
  | 'bitmap'
  | 'blocking'
  | 'admin'
  | 'dangerous'
  | 'connection'
  | 'transaction'

/** Some of the arguments that are keys, in the words of COMMAND INFO: `last` -1 is the last argument. */
export interface KeySpec {
  readonly first: number
  readonly last: number
  readonly step: number
  /** Redis' flags of the access, such as RO, RW, access, update. */
  readonly access: readonly string[]
  /** Where the arguments decide (`variable_flags`): the access of this call. */
  accessOf?(args: Args): readonly string[]
  readonly notes?: string
}

/** The key specification of a command with one key, the argument `at`. */
export function oneKey(access: readonly string[], at = 1): readonly KeySpec[] {
  return [{ first: at, last: at, step: 1, access }]
}

/** That of a command whose arguments are all keys, or every `step`-th from the first on. */
export function everyKey(access: readonly string[], step = 1): readonly KeySpec[] {
  return [{ first: 1, last: -1, step, access }]
}

/** A key as COMMAND DOCS names it; `keySpec` is the place of its specification among the command's. */
export function keyDoc(name = 'key', keySpec = 0): ArgumentDoc {
  return { name, type: 'key', keySpec }
}

/** A word that stands for itself. */
export function tokenDoc(token: string, since?: string): ArgumentDoc {
  const name = token.toLowerCase()
  return { name, type: 'pure-token', token, ...(since === undefined ? {} : { since }) }
}

/** One argument as COMMAND DOCS and HELP describe it. */
export interface ArgumentDoc {
  readonly name: string
  readonly type:
    | 'key'
    | 'string'
    | 'integer'
    | 'double'
    | 'unix-time'
    | 'pattern'
    | 'pure-token'
    | 'oneof'
    | 'block'
  /** Of a key: which of the command's key specifications it is of. */
  readonly keySpec?: number
  /** The version of Redis that added it to a command that was there. */
  readonly since?: string
  /** The literal word before the value; of a pure-token, the argument itself. */
  readonly token?: string
  readonly optional?: true
  readonly multiple?: true
  /** The members of a oneof or block. */
  readonly arguments?: readonly ArgumentDoc[]
}

export interface Doc {
  readonly summary: string
  readonly since: string
  readonly group:
    | 'generic'
    | 'string'
    | 'bitmap'
    | 'connection'
    | 'server'
    | 'cluster'
    | 'sentinel'
    | 'transactions'
  readonly complexity: string
  /** Redis advises against the command since that version, and for another. */
  readonly deprecated?: { readonly since: string; readonly replacedBy: string }
  readonly arguments?: readonly ArgumentDoc[]
}

export interface Spec {
  /** Lower case; of a subcommand `container|name`, as Redis' error texts have it. */
  readonly name: string
  /** Number of arguments with the name; negative: at least so many. */
  readonly arity: number
  readonly flags: readonly CommandFlag[]
  readonly categories: readonly OwnCategory[]
  /** A read that Redis does not call one in COMMAND INFO. */
  readonly unclassed?: true
  /** Several where the keys are not all of one kind; together they are one row of arguments. */
  readonly keys?: KeySpec | readonly KeySpec[]
  /** Runs at once also inside MULTI, where every other command is queued. */
  readonly immediate?: true
  /** Of a write that handles whole values, however little it changes of them: what its arguments tell beforehand. */
  readonly foresee?: Foresight
  /** The error that every call gets, before it may run or be queued. */
  readonly refusal?: CommandError
  /** How it differs from Redis 7.2, for docs/compatibility.md. */
  readonly differs?: string
  readonly doc: Doc
}

/** The key specifications of a command, in the order of their arguments; none when it has no keys. */
export function keySpecsOf({ keys }: Pick<Spec, 'keys'>): readonly KeySpec[] {
  if (keys === undefined) return []
  return 'first' in keys ? [keys] : keys
}

/** How many of the arguments are keys: keysOf() without a list of them. */
export function keyCount(command: Pick<Spec, 'keys'>, args: Args): number {
  let count = 0
  for (const { first, last, step } of keySpecsOf(command)) {
    const end = last < 0 ? args.length + last : last
    if (end >= first) count += Math.floor((end - first) / step) + 1
  }
  return count
}

/** The arguments that are keys, in their order; `args` has as many as the arity asks for. */
export function keysOf(command: Pick<Spec, 'keys'>, args: Args): readonly Uint8Array[] {
  return keySpecsOf(command).flatMap(({ first, last, step }) => {
    const end = last < 0 ? args.length + last : last
    return args.filter((_, at) => at >= first && at <= end && (at - first) % step === 0)
  })
}

/** `lengthOf` tells how many bytes the value of a key has before the write, 0 without one. */
export type Foresight = (args: Args, lengthOf: (key: Uint8Array) => number) => Foreseen

export interface Foreseen {
  /** The key that the write makes a value for, and how many bytes that will have. */
  readonly key: Uint8Array
  readonly length: number
  /** That the write will be given and make. */
  readonly bytes: number
  /** Those of them that it works on in one go, while nothing else runs: none where a value is only handed on. */
  readonly computed: number
}

/**
 * Of a write that rewrites the value of its first key, which then has lengthAfter() bytes; undefined: it will change
 * nothing, or be refused.
 */
export function rewritesFirst(
  lengthAfter: (args: Args, before: number) => number | undefined,
): Foresight {
  return (args, lengthOf) => {
    const key = argument(args, 1)
    const before = lengthOf(key)
    const after = lengthAfter(args, before)
    const bytes = before + (after ?? before)
    return { key, length: after ?? before, bytes, computed: after === undefined ? 0 : bytes }
  }
}

/** Of a write that leaves the value of its first key as long as it is, or is about to drop it. */
export const keepsLength: Foresight = (args, lengthOf) => {
  const key = argument(args, 1)
  const length = lengthOf(key)
  return { key, length, bytes: 2 * length, computed: 0 }
}

/** Of a write that gives its second key the value of the first. */
export function handsOn(args: Args, lengthOf: (key: Uint8Array) => number): Foreseen {
  const length = lengthOf(argument(args, 1))
  return { key: argument(args, 2), length, bytes: 2 * length, computed: 0 }
}

/** A command that can run. */
export type Command = Spec & Run
export type ReadCommand = Extract<Command, { kind: 'read' }>
export type WriteCommand = Extract<Command, { kind: 'write' }>
export type LocalCommand = Extract<Command, { kind: 'local' }>

/** What the router places: a command of the table, or one that a node makes of a client's (transaction.ts). */
export type CalledCommand = Pick<Spec, 'name' | 'keys'> &
  (
    | Extract<Run, { kind: 'read' }>
    /** It runs from what is logged, under the name that stands there. */
    | (Pick<Spec, 'foresee'> & {
        readonly kind: 'write'
        /** The writes that it consists of, for those that foresee what they handle. */
        readonly parts?: (args: Args) => Iterable<CalledPart>
      })
  )

/** A command of a transaction. */
export interface CalledPart {
  readonly command: Pick<Spec, 'keys' | 'foresee'> & { readonly kind: Run['kind'] }
  readonly args: Args
  readonly database: number
}
export type CalledRead = Extract<CalledCommand, { kind: 'read' }>

/**
 * An entry of the table: a command, a command with subcommands (COMMAND), or only their container.
 */
export type TableEntry = (Command | (Spec & { readonly kind: 'container' })) & {
  readonly subcommands?: readonly Command[]
}

/**
 * A Redis error as a handler throws it: the command is answered with `reply` and leaves nothing
 * behind. Not an Error, because a client may cause as many as it likes and a stack trace is of no
 * use to anybody.
 */
export class CommandError {
  readonly reply: ErrorReply

  constructor(text: string) {
    this.reply = new ErrorReply(text)
  }
}

export const syntaxError: CommandError = new CommandError('ERR syntax error')
export const notAnInteger: CommandError = new CommandError(
  'ERR value is not an integer or out of range',
)

/** The error of a handler that checks its number of arguments itself, as Redis' older ones do. */
export function wrongNumber(args: Args): CommandError {
  const container = quoted(argument(args, 0)).toUpperCase()
  const subcommand = quoted(argument(args, 1))
  return new CommandError(
    `ERR unknown subcommand or wrong number of arguments for '${subcommand}'. Try ${container} HELP.`,
  )
}

export const badDatabase: CommandError = new CommandError('ERR DB index is out of range')

/**
 * What runs in one go, such as the reads of a transaction that writes, holds up everything else: all of it together has
 * so many slices at most.
 */
const SLICES_IN_ONE_GO = 12
/** So many bytes of values that a read was given are as much as a slice. */
const BYTES_PER_SLICE = 4_194_304

const tooMuchInOneGo = new CommandError(
  'ERR the command reads too much for a transaction; run it outside of MULTI',
)

/** What is left for reads that run in one go. */
export class OneGo {
  #slices: number = SLICES_IN_ONE_GO

  /** Throws CommandError when there is too little left; one read alone may be given any value. */
  run(command: CalledRead, db: ReadDatabase, args: Args): Reply {
    if (this.#slices <= 0) throw tooMuchInOneGo
    if (command.slices !== undefined && !command.ofOneValue) {
      return this.finish(command.slices(db, args))
    }
    const before = db.bytesRead
    const reply = command.run(db, args)
    this.#slices -= (db.bytesRead - before) / BYTES_PER_SLICE
    return reply
  }

  /** All slices at once. Throws CommandError when they are too many. */
  finish(slices: Slices): Reply {
    const elements: Reply[] = []
    for (;;) {
      const step = slices.next()
      if (step.done === true) {
        return 'reply' in step.value ? step.value.reply : elements.concat(step.value.elements)
      }
      for (const element of step.value) elements.push(element)
      if (--this.#slices < 0) throw tooMuchInOneGo
    }
  }
}

/** All slices at once. Throws CommandError when they are too many. */
export function inOneGo(slices: Slices): Reply {
  return new OneGo().finish(slices)
}

/** The slices of a read that is ofOneValue. */
export function wholeValue(slices: Slices): Reply {
  for (;;) {
    const step = slices.next()
    if (step.done === true) return 'reply' in step.value ? step.value.reply : step.value.elements
  }
}

/** Redis' text for a wrong number of arguments, of a command or subcommand by its full name. */
export function wrongArity(name: string): CommandError {
  return new CommandError(`ERR wrong number of arguments for '${name}' command`)
}
