/*
 * The string commands. Each is a few lines over the same steps: read the value, decide, put the new
 * one. What they answer and refuse is Redis 7.2's, text by text; they are deterministic, because
 * apply runs them on every replica. Values that came from the database are never changed in place:
 * it owns their memory.
 */

import { Buffer } from 'node:buffer'
import { OK, type Reply } from '../../resp/encoder.ts'
import {
  addInt64,
  argument,
  formatInt64,
  INT64_MIN,
  type Int64,
  isWord,
  keyOf,
  parseInt64,
} from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database, KeySpec, ReadonlyDatabase } from './command.ts'
import { CommandError, notAnInteger, syntaxError, wrongArity } from './command.ts'

/**
 * The longest value that APPEND makes. A constant, not `proto-max-bulk-len`: apply must decide
 * alike on nodes that are configured differently.
 */
export const STRING_BYTES_MAX: number = 512 * 1024 * 1024

const overflow = new CommandError('ERR increment or decrement would overflow')
const negationOverflow = new CommandError('ERR decrement would overflow')
const tooLong = new CommandError('ERR string exceeds maximum allowed size (proto-max-bulk-len)')

function get(db: ReadonlyDatabase, args: Args): Reply {
  return db.get(keyOf(argument(args, 1)))?.value ?? null
}

function strlen(db: ReadonlyDatabase, args: Args): Reply {
  return db.get(keyOf(argument(args, 1)))?.value.length ?? 0
}

function mget(db: ReadonlyDatabase, args: Args): Reply {
  return args.slice(1).map((key) => db.get(keyOf(key))?.value ?? null)
}

interface SetOptions {
  readonly condition: 'nx' | 'xx' | undefined
  readonly get: boolean
}

function set(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  if (args.length === 3) {
    db.put(key, argument(args, 2))
    return OK
  }
  const { condition, get } = setOptions(args)
  const old = db.get(key)?.value
  const refused =
    (condition === 'nx' && old !== undefined) || (condition === 'xx' && old === undefined)
  if (!refused) db.put(key, argument(args, 2))
  if (get) return old ?? null
  return refused ? null : OK
}

function setOptions(args: Args): SetOptions {
  let condition: SetOptions['condition']
  let get = false
  for (let i = 3; i < args.length; i++) {
    const option = argument(args, i)
    if (isWord(option, 'nx') && condition !== 'xx') condition = 'nx'
    else if (isWord(option, 'xx') && condition !== 'nx') condition = 'xx'
    else if (isWord(option, 'get')) get = true
    else throw syntaxError
  }
  return { condition, get }
}

function setnx(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  if (db.get(key) !== undefined) return 0
  db.put(key, argument(args, 2))
  return 1
}

function getset(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const old = db.get(key)?.value ?? null
  db.put(key, argument(args, 2))
  return old
}

function mset(db: Database, args: Args): Reply {
  if (args.length % 2 === 0) throw wrongArity('mset')
  for (let i = 1; i < args.length; i += 2) db.put(keyOf(argument(args, i)), argument(args, i + 1))
  return OK
}

function append(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const tail = argument(args, 2)
  const old = db.get(key)?.value
  if (old === undefined) {
    db.put(key, tail)
    return tail.length
  }
  const length = old.length + tail.length
  if (length > STRING_BYTES_MAX) throw tooLong
  db.put(key, Buffer.concat([old, tail], length))
  return length
}

function increment(db: Database, name: Uint8Array, by: Int64): Reply {
  const key = keyOf(name)
  const old = db.get(key)
  const value = old === undefined ? 0 : parseInt64(old.value)
  if (value === undefined) throw notAnInteger
  const sum = addInt64(value, by)
  if (sum === undefined) throw overflow
  db.put(key, formatInt64(sum))
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

const key: ArgumentDoc = { name: 'key', type: 'key' }
const value: ArgumentDoc = { name: 'value', type: 'string' }

function oneKey(access: readonly string[]): KeySpec {
  return { first: 1, last: 1, step: 1, access }
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
      arguments: by === undefined ? [key] : [key, by],
    },
    kind: 'write',
    run,
  }
}

export const stringCommands: readonly Command[] = [
  {
    name: 'append',
    arity: 3,
    flags: ['denyoom', 'fast'],
    categories: ['string'],
    keys: oneKey(['RW', 'insert']),
    doc: {
      summary: 'Appends to the value of a key, or sets it where there is none.',
      since: '2.0.0',
      group: 'string',
      complexity: 'O(N) where N is the length of the new value.',
      arguments: [key, value],
    },
    kind: 'write',
    run: append,
  },
  counter('decr', (db, args) => increment(db, argument(args, 1), -1), 'Subtracts one.'),
  counter('decrby', decrby, 'Subtracts an integer.', { name: 'decrement', type: 'integer' }),
  {
    name: 'get',
    arity: 2,
    flags: ['fast'],
    categories: ['string'],
    keys: oneKey(['RO', 'access']),
    doc: {
      summary: 'Returns the value of a key.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [key],
    },
    kind: 'read',
    run: get,
  },
  {
    name: 'getset',
    arity: 3,
    flags: ['denyoom', 'fast'],
    categories: ['string'],
    keys: oneKey(['RW', 'access', 'update']),
    doc: {
      summary: 'Sets the value of a key and returns the one before.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [key, value],
    },
    kind: 'write',
    run: getset,
  },
  counter('incr', (db, args) => increment(db, argument(args, 1), 1), 'Adds one.'),
  counter('incrby', incrby, 'Adds an integer.', { name: 'increment', type: 'integer' }),
  {
    name: 'mget',
    arity: -2,
    flags: ['fast'],
    categories: ['string'],
    keys: { first: 1, last: -1, step: 1, access: ['RO', 'access'] },
    doc: {
      summary: 'Returns the values of several keys, read at one moment.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(N) where N is the number of keys.',
      arguments: [{ ...key, multiple: true }],
    },
    kind: 'read',
    run: mget,
  },
  {
    name: 'mset',
    arity: -3,
    flags: ['denyoom'],
    categories: ['string'],
    keys: { first: 1, last: -1, step: 2, access: ['OW', 'update'] },
    doc: {
      summary: 'Sets several keys at one moment.',
      since: '1.0.1',
      group: 'string',
      complexity: 'O(N) where N is the number of keys.',
      arguments: [{ name: 'data', type: 'block', multiple: true, arguments: [key, value] }],
    },
    kind: 'write',
    run: mset,
  },
  {
    name: 'set',
    arity: -3,
    flags: ['denyoom'],
    categories: ['string'],
    keys: {
      ...oneKey(['RW', 'access', 'update', 'variable_flags']),
      notes: 'RW and ACCESS due to the optional `GET` argument',
    },
    doc: {
      summary: 'Sets the value of a key, always or on a condition.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [
        key,
        value,
        {
          name: 'condition',
          type: 'oneof',
          optional: true,
          arguments: [
            { name: 'nx', type: 'pure-token', token: 'NX' },
            { name: 'xx', type: 'pure-token', token: 'XX' },
          ],
        },
        { name: 'get', type: 'pure-token', token: 'GET', optional: true },
      ],
    },
    kind: 'write',
    run: set,
  },
  {
    name: 'setnx',
    arity: 3,
    flags: ['denyoom', 'fast'],
    categories: ['string'],
    keys: oneKey(['OW', 'insert']),
    doc: {
      summary: 'Sets the value of a key that does not exist.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [key, value],
    },
    kind: 'write',
    run: setnx,
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
      arguments: [key],
    },
    kind: 'read',
    run: strlen,
  },
]
