/*
 * The commands that concern keys of whatever type, and whole databases. As with every command that
 * touches data, nothing but the arguments and the database decides what they do.
 */

import { OK, type Reply } from '../../resp/encoder.ts'
import { argument, isWord, keyOf } from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database, ReadonlyDatabase } from './command.ts'
import { syntaxError } from './command.ts'

function del(db: Database, args: Args): Reply {
  let deleted = 0
  for (let i = 1; i < args.length; i++) if (db.delete(keyOf(argument(args, i)))) deleted++
  return deleted
}

/** A key that is named twice counts twice, as in Redis. */
function exists(db: ReadonlyDatabase, args: Args): Reply {
  let found = 0
  for (let i = 1; i < args.length; i++) {
    if (db.get(keyOf(argument(args, i))) !== undefined) found++
  }
  return found
}

/**
 * ASYNC and SYNC are the same here: clearing is O(1), what was there goes with the next checkpoint.
 */
function flushall(db: Database, args: Args): Reply {
  if (args.length > 2) throw syntaxError
  if (args.length === 2) {
    const mode = argument(args, 1)
    if (!isWord(mode, 'async') && !isWord(mode, 'sync')) throw syntaxError
  }
  db.clearAll()
  return OK
}

const keys: ArgumentDoc = { name: 'key', type: 'key', multiple: true }

export const genericCommands: readonly Command[] = [
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
    name: 'del',
    arity: -2,
    flags: [],
    categories: ['keyspace'],
    keys: { first: 1, last: -1, step: 1, access: ['RM', 'delete'] },
    doc: {
      summary: 'Deletes keys.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(N) where N is the number of keys.',
      arguments: [keys],
    },
    kind: 'write',
    run: del,
  },
  {
    name: 'exists',
    arity: -2,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: { first: 1, last: -1, step: 1, access: ['RO'] },
    doc: {
      summary: 'Counts which of the keys exist.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(N) where N is the number of keys.',
      arguments: [keys],
    },
    kind: 'read',
    run: exists,
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
      arguments: [
        {
          name: 'flush-type',
          type: 'oneof',
          optional: true,
          arguments: [
            { name: 'async', type: 'pure-token', token: 'ASYNC' },
            { name: 'sync', type: 'pure-token', token: 'SYNC' },
          ],
        },
      ],
    },
    kind: 'write',
    run: flushall,
  },
]
