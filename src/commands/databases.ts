/*
 * The commands about whole databases. Emptying one is O(1) whatever it holds, and so is swapping two: what was there
 * goes with the next checkpoint.
 */

import { OK, type Reply } from '../../resp/encoder.ts'
import { DATABASES } from '../session.ts'
import { argument, isWord, parseInt64 } from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database } from './command.ts'
import { badDatabase, CommandError, notAnInteger, syntaxError, tokenDoc } from './command.ts'

const INT32_MIN = -(2 ** 31)
const INT32_MAX = 2 ** 31 - 1

const notAnInt32 = new CommandError(
  `ERR value is out of range, value must between ${INT32_MIN} and ${INT32_MAX}`,
)

/** The database that an argument names. Throws CommandError. */
export function databaseIndex(bytes: Uint8Array): number {
  return checked(int32(bytes))
}

function int32(bytes: Uint8Array, refusal?: CommandError): number {
  const value = parseInt64(bytes)
  if (value === undefined) throw refusal ?? notAnInteger
  if (value < INT32_MIN || value > INT32_MAX) throw refusal ?? notAnInt32
  return Number(value)
}

function checked(index: number): number {
  if (index < 0 || index >= DATABASES) throw badDatabase
  return index
}

/** ASYNC and SYNC are the same here. */
function checkFlushMode(args: Args): void {
  if (args.length > 2) throw syntaxError
  if (args.length === 1) return
  const mode = argument(args, 1)
  if (!isWord(mode, 'async') && !isWord(mode, 'sync')) throw syntaxError
}

function flushall(db: Database, args: Args): Reply {
  checkFlushMode(args)
  db.clearAll()
  return OK
}

function flushdb(db: Database, args: Args): Reply {
  checkFlushMode(args)
  db.clear()
  return OK
}

const badFirst = new CommandError('ERR invalid first DB index')
const badSecond = new CommandError('ERR invalid second DB index')

function swapdb(db: Database, args: Args): Reply {
  const first = int32(argument(args, 1), badFirst)
  const second = int32(argument(args, 2), badSecond)
  db.swap(checked(first), checked(second))
  return OK
}

const flushType: ArgumentDoc = {
  name: 'flush-type',
  type: 'oneof',
  optional: true,
  arguments: [tokenDoc('ASYNC', '4.0.0'), tokenDoc('SYNC', '6.2.0')],
}

export const databaseCommands: readonly Command[] = [
  {
    name: 'dbsize',
    arity: 1,
    flags: ['fast'],
    categories: ['keyspace'],
    doc: {
      summary: 'Returns the number of keys of the database.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1)',
    },
    kind: 'read',
    run: (db) => db.size(),
  },
  {
    name: 'flushall',
    arity: -1,
    flags: [],
    categories: ['keyspace', 'dangerous'],
    doc: {
      summary: 'Deletes every key of every database.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1)',
      arguments: [flushType],
    },
    kind: 'write',
    run: flushall,
  },
  {
    name: 'flushdb',
    arity: -1,
    flags: [],
    categories: ['keyspace', 'dangerous'],
    doc: {
      summary: 'Deletes every key of the database.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1)',
      arguments: [flushType],
    },
    kind: 'write',
    run: flushdb,
  },
  {
    name: 'swapdb',
    arity: 3,
    flags: ['fast'],
    categories: ['keyspace', 'dangerous'],
    doc: {
      summary: 'Lets two databases exchange what they hold.',
      since: '4.0.0',
      group: 'server',
      complexity: 'O(1)',
      arguments: [
        { name: 'index1', type: 'integer' },
        { name: 'index2', type: 'integer' },
      ],
    },
    kind: 'write',
    run: swapdb,
  },
]
