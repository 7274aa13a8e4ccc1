/*
 * The commands that look at or change a part of a string: its length, a range of it, its end, or the integer that it
 * spells. A changed value keeps its time to expire. Every offset is checked before memory is taken for it.
 */

import { Buffer } from 'node:buffer'
import type { Reply } from '../../resp/encoder.ts'
import {
  addInt64,
  argument,
  clampToSafe,
  formatInt64,
  INT64_MIN,
  type Int64,
  keyOf,
  parseInt64,
} from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database, ReadonlyDatabase } from './command.ts'
import { CommandError, keyDoc, notAnInteger, oneKey, rewritesFirst } from './command.ts'

/**
 * The longest value that a command makes. A constant, not `proto-max-bulk-len`: apply must decide
 * alike on nodes that are configured differently.
 */
export const STRING_BYTES_MAX: number = 512 * 1024 * 1024

const EMPTY = new Uint8Array(0)

const overflow = new CommandError('ERR increment or decrement would overflow')
const negationOverflow = new CommandError('ERR decrement would overflow')
const badOffset = new CommandError('ERR offset is out of range')
const tooLong = new CommandError('ERR string exceeds maximum allowed size (proto-max-bulk-len)')

function strlen(db: ReadonlyDatabase, args: Args): Reply {
  return db.get(keyOf(argument(args, 1)))?.value.length ?? 0
}

/** Both ends count, from the end where they are negative, and are cut to the value. */
function getrange(db: ReadonlyDatabase, args: Args): Reply {
  const start = clampToSafe(integer(argument(args, 2)))
  const end = clampToSafe(integer(argument(args, 3)))
  const value = db.get(keyOf(argument(args, 1)))?.value
  if (value === undefined || (start < 0 && end < 0 && start > end)) return EMPTY
  const from = Math.max(0, start < 0 ? value.length + start : start)
  const to = Math.max(0, end < 0 ? value.length + end : end)
  return value.subarray(from, Math.min(to, value.length - 1) + 1)
}

function append(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const tail = argument(args, 2)
  const old = db.get(key)
  if (old === undefined) {
    db.put(key, tail)
    return tail.length
  }
  const length = old.value.length + tail.length
  if (length > STRING_BYTES_MAX) throw tooLong
  db.put(key, Buffer.concat([old.value, tail], length), old.expireAt)
  return length
}

/** What lies between the old end and the offset is zeros. Nothing at any offset changes nothing. */
function setrange(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const offset = clampToSafe(integer(argument(args, 2)))
  const piece = argument(args, 3)
  if (offset < 0) throw badOffset
  const old = db.get(key)
  const oldLength = old?.value.length ?? 0
  if (piece.length === 0) return oldLength
  if (offset + piece.length > STRING_BYTES_MAX) throw tooLong
  const length = Math.max(oldLength, offset + piece.length)
  db.room(length)
  const value = Buffer.allocUnsafeSlow(length)
  if (old !== undefined) value.set(old.value)
  if (offset > oldLength) value.fill(0, oldLength, offset)
  value.set(piece, offset)
  db.put(key, value, old?.expireAt)
  return value.length
}

function increment(db: Database, name: Uint8Array, by: Int64): Reply {
  const key = keyOf(name)
  const old = db.get(key)
  const value = old === undefined ? 0 : parseInt64(old.value)
  if (value === undefined) throw notAnInteger
  const sum = addInt64(value, by)
  if (sum === undefined) throw overflow
  db.put(key, formatInt64(sum), old?.expireAt)
  return sum
}

function incrby(db: Database, args: Args): Reply {
  return increment(db, argument(args, 1), integer(argument(args, 2)))
}

function decrby(db: Database, args: Args): Reply {
  const by = integer(argument(args, 2))
  // The one number whose negative is no int64.
  if (by === INT64_MIN) throw negationOverflow
  return increment(db, argument(args, 1), -by)
}

function integer(bytes: Uint8Array): Int64 {
  const value = parseInt64(bytes)
  if (value === undefined) throw notAnInteger
  return value
}

/** INCR, DECR, INCRBY and DECRBY differ in their argument and its sign only. */
function counter(
  name: string,
  run: (db: Database, args: Args) => Reply,
  summary: string,
  by?: ArgumentDoc,
): Command {
  return {
    name,
    arity: by === undefined ? 2 : 3,
    flags: ['denyoom', 'fast'],
    categories: ['string'],
    keys: oneKey(['RW', 'access', 'update']),
    doc: {
      summary,
      since: '1.0.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: by === undefined ? [keyDoc()] : [keyDoc(), by],
    },
    kind: 'write',
    run,
  }
}

/** The length after SETRANGE. */
function reaching(before: number, args: Args, length: number): number | undefined {
  const offset = parseInt64(argument(args, 2))
  if (length === 0 || typeof offset !== 'number' || offset < 0) return undefined
  const end = offset + length
  return end > STRING_BYTES_MAX ? undefined : Math.max(before, end)
}

const value: ArgumentDoc = { name: 'value', type: 'string' }
const range: readonly ArgumentDoc[] = [
  keyDoc(),
  { name: 'start', type: 'integer' },
  { name: 'end', type: 'integer' },
]

export const stringEditCommands: readonly Command[] = [
  {
    name: 'append',
    arity: 3,
    flags: ['denyoom', 'fast'],
    categories: ['string'],
    keys: oneKey(['RW', 'insert']),
    foresee: rewritesFirst((args, before) => {
      const length = before + argument(args, 2).length
      return length > STRING_BYTES_MAX ? undefined : length
    }),
    doc: {
      summary: 'Appends to the value of a key, or sets it where there is none.',
      since: '2.0.0',
      group: 'string',
      complexity: 'O(N) where N is the length of the new value.',
      arguments: [keyDoc(), value],
    },
    kind: 'write',
    run: append,
  },
  counter('decr', (db, args) => increment(db, argument(args, 1), -1), 'Subtracts one.'),
  counter('decrby', decrby, 'Subtracts an integer.', { name: 'decrement', type: 'integer' }),
  {
    name: 'getrange',
    arity: 4,
    flags: [],
    categories: ['string'],
    keys: oneKey(['RO', 'access']),
    doc: {
      summary: 'Returns a part of a value; negative places count from its end.',
      since: '2.4.0',
      group: 'string',
      complexity: 'O(N) where N is the length of the part.',
      arguments: range,
    },
    kind: 'read',
    run: getrange,
  },
  counter('incr', (db, args) => increment(db, argument(args, 1), 1), 'Adds one.'),
  counter('incrby', incrby, 'Adds an integer.', { name: 'increment', type: 'integer' }),
  {
    name: 'setrange',
    arity: 4,
    flags: ['denyoom'],
    categories: ['string'],
    keys: oneKey(['RW', 'update']),
    foresee: rewritesFirst((args, before) => reaching(before, args, argument(args, 3).length)),
    doc: {
      summary: 'Overwrites a part of a value, which grows where it must.',
      since: '2.2.0',
      group: 'string',
      complexity: 'O(N) where N is the length of the new value.',
      arguments: [keyDoc(), { name: 'offset', type: 'integer' }, value],
    },
    kind: 'write',
    run: setrange,
  },
  {
    name: 'strlen',
    arity: 2,
    flags: ['fast'],
    categories: ['string'],
    keys: oneKey(['RO']),
    doc: {
      summary: 'Returns the length of a value in bytes.',
      since: '2.2.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [keyDoc()],
    },
    kind: 'read',
    run: strlen,
  },
  {
    name: 'substr',
    arity: 4,
    flags: [],
    categories: ['string'],
    keys: oneKey(['RO', 'access']),
    doc: {
      summary: 'Returns a part of a value.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(N) where N is the length of the part.',
      deprecated: { since: '2.0.0', replacedBy: '`GETRANGE`' },
      arguments: range,
    },
    kind: 'read',
    run: getrange,
  },
]
