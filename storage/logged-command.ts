/*
 * The byte form of a command, and of a transaction, which is one command of an entry like any other: its name and
 * ONE argument, in which stand the watched keys and the commands of a MULTI. What EXEC hands to the log, to the
 * leader or to the state machine of its own node is always this form. Everything read here is treated as hostile.
 */

import { assert } from '../raft/assert.ts'
import { CodecError, writeUint64 } from './integers.ts'
import {
  allocateBytes,
  type ByteRange,
  copyRange,
  stringLength,
  VarintReader,
  varintLength,
  writeString,
  writeVarint,
} from './varints.ts'

/** One command as the log carries it; `database` is 0 to 255, argv has at least the command's name. */
export interface LoggedCommand {
  readonly database: number
  readonly argv: readonly Uint8Array[]
}

/** A key as WATCH saw it: the transaction runs only where its version is still this one. */
export interface WatchedKey {
  /** 0 to 127. */
  readonly database: number
  readonly key: Uint8Array
  /** A safe integer: of the key or, where it was missing, of the newest key there was. */
  readonly version: number
  readonly isMissing: boolean
}

/** A command of a transaction; `database` is 0 to 127. */
export interface TransactionCommand extends LoggedCommand {
  /** What the client speaks by then: the reply is encoded where the command runs. */
  readonly protocol: 2 | 3
}

export interface Transaction {
  readonly watched: readonly WatchedKey[]
  /** Each is made when its turn comes: thousands that live together would cost the garbage collector much. */
  readonly commands: Iterable<TransactionCommand>
}

/** A command of a transaction as it was queued: `form` is what writeCommand made of it, with any database. */
export interface FormedCommand {
  readonly form: ByteRange
  /** 0 to 127. */
  readonly database: number
  readonly protocol: 2 | 3
}

const DATABASE_MAX = 255
/** In a transaction the byte of the database has this bit for RESP3. */
const RESP3_BIT = 0x80
/** And that of a watched key for one that was missing. */
const MISSING_BIT = 0x80

/** Layout: database u8, number of arguments, then per argument: length, bytes. */
export function commandLength({ argv }: LoggedCommand): number {
  let length = 1 + varintLength(argv.length)
  for (const argument of argv) length += stringLength(argument)
  return length
}

/** Gives where the command ends. */
export function writeCommand(
  bytes: Uint8Array,
  offset: number,
  { database, argv }: LoggedCommand,
): number {
  assert(database >= 0 && database <= DATABASE_MAX, () => `database ${database}`)
  assert(argv.length > 0, () => 'a command without a name')
  bytes[offset] = database
  let at = writeVarint(bytes, offset + 1, argv.length)
  for (const argument of argv) at = writeString(bytes, at, argument)
  return at
}

/** The form of a command in memory of its own. */
export function formCommand(command: LoggedCommand): ByteRange {
  const bytes = allocateBytes(commandLength(command))
  return { bytes, start: 0, end: writeCommand(bytes, 0, command) }
}

/** Every argument is a view of the reader's data. Throws CodecError. */
export function readCommand(reader: VarintReader): LoggedCommand {
  const database = reader.byte()
  const argc = reader.next()
  if (argc === 0) throw new CodecError('a command without a name')
  const argv: Uint8Array[] = []
  for (let i = 0; i < argc; i++) argv.push(reader.string())
  return { database, argv }
}

/** Throws CodecError exactly where readCommand does. */
function skipCommand(reader: VarintReader): void {
  reader.byte()
  const argc = reader.next()
  if (argc === 0) throw new CodecError('a command without a name')
  for (let i = 0; i < argc; i++) reader.skipString()
}

/**
 * Layout: number of watched keys, per key: database u8 (with MISSING_BIT), length, bytes, version u64; number of
 * commands, per command its form, with RESP3_BIT in the byte of the database.
 */
export function encodeTransaction(transaction: {
  readonly watched: readonly WatchedKey[]
  readonly commands: readonly FormedCommand[]
}): Uint8Array {
  const { watched, commands } = transaction
  let length = varintLength(watched.length) + varintLength(commands.length)
  for (const { key } of watched) length += 1 + stringLength(key) + 8
  for (const { form } of commands) length += form.end - form.start
  const bytes = allocateBytes(length)
  let offset = writeVarint(bytes, 0, watched.length)
  for (const { database, key, version, isMissing } of watched) {
    assert(database < MISSING_BIT, () => `database ${database} of a watched key`)
    bytes[offset] = isMissing ? database | MISSING_BIT : database
    offset = writeString(bytes, offset + 1, key)
    writeUint64(bytes, offset, version)
    offset += 8
  }
  offset = writeVarint(bytes, offset, commands.length)
  for (const { form, database, protocol } of commands) {
    assert(database < RESP3_BIT, () => `database ${database} of a transaction`)
    const end = copyRange(bytes, offset, form)
    bytes[offset] = protocol === 3 ? database | RESP3_BIT : database
    offset = end
  }
  assert(offset === length, () => `a transaction of ${length} bytes ended at ${offset}`)
  return bytes
}

/** The reverse of encodeTransaction; keys and arguments are views of `data`. Throws CodecError, at once or never. */
export function decodeTransaction(data: Uint8Array): Transaction {
  const reader = new VarintReader(data, 0)
  const watched: WatchedKey[] = []
  for (let left = reader.next(); left > 0; left--) {
    const marked = reader.byte()
    const [key, version] = [reader.string(), reader.uint64()]
    const isMissing = marked >= MISSING_BIT
    watched.push({ database: marked & ~MISSING_BIT, key, version, isMissing })
  }
  const { offset } = reader
  for (let left = reader.next(); left > 0; left--) skipCommand(reader)
  reader.expectEnd()
  return { watched, commands: { [Symbol.iterator]: () => readCommands(data, offset) } }
}

function* readCommands(data: Uint8Array, offset: number): Generator<TransactionCommand> {
  const reader = new VarintReader(data, offset)
  for (let left = reader.next(); left > 0; left--) {
    const { database, argv } = readCommand(reader)
    const protocol = database >= RESP3_BIT ? 3 : 2
    yield { database: database & ~RESP3_BIT, protocol, argv }
  }
}
