/*
 * The commands that concern keys of whatever type: what there is, and moving it to another name or database. As with
 * every command that touches data, nothing but the arguments, the databases and their clock decides what they do.
 */

import { OK, type Reply, SimpleReply } from '../../resp/encoder.ts'
import type { StoredValue } from '../../storage/state-store.ts'
import { argument, isWord, keyOf } from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database, ReadonlyDatabase, Slices } from './command.ts'
import {
  CommandError,
  everyKey,
  handsOn,
  inOneGo,
  keepsLength,
  keyDoc,
  oneKey,
  SLICE_WORK,
  syntaxError,
  tokenDoc,
} from './command.ts'
import { databaseIndex } from './databases.ts'

const NO_TYPE = new SimpleReply('none')
const TYPES: Readonly<Record<StoredValue['type'], SimpleReply>> = {
  string: new SimpleReply('string'),
}

const noSuchKey = new CommandError('ERR no such key')
const sameObject = new CommandError('ERR source and destination objects are the same')

function del(db: Database, args: Args): Reply {
  let deleted = 0
  for (let i = 1; i < args.length; i++) if (db.delete(keyOf(argument(args, i)))) deleted++
  return deleted
}

/** A key that is named twice counts twice, as in Redis. */
function* exists(db: ReadonlyDatabase, args: Args): Slices {
  let found = 0
  for (let i = 1; i < args.length; i++) {
    if (i % SLICE_WORK === 0) yield []
    if (db.expiryOf(keyOf(argument(args, i))) !== undefined) found++
  }
  return { reply: found }
}

function type(db: ReadonlyDatabase, args: Args): Reply {
  const value = db.get(keyOf(argument(args, 1)))
  return value === undefined ? NO_TYPE : TYPES[value.type]
}

/** RENAME and RENAMENX: false when the new name is taken and may not be. */
function rename(db: Database, args: Args, replace: boolean): boolean {
  const from = keyOf(argument(args, 1))
  const to = keyOf(argument(args, 2))
  const value = db.get(from)
  if (value === undefined) throw noSuchKey
  if (from === to) return replace
  if (!replace && db.get(to) !== undefined) return false
  db.put(to, value.value, value.expireAt)
  db.delete(from)
  return true
}

function copy(db: Database, args: Args): Reply {
  const from = keyOf(argument(args, 1))
  const to = keyOf(argument(args, 2))
  const { index, replace } = copyOptions(args, db.index)
  const target = db.database(index)
  if (target === db && from === to) throw sameObject
  const value = db.get(from)
  if (value === undefined) return 0
  if (!replace && target.get(to) !== undefined) return 0
  target.put(to, value.value, value.expireAt)
  return 1
}

function copyOptions(args: Args, own: number): { index: number; replace: boolean } {
  let index = own
  let replace = false
  for (let i = 3; i < args.length; i++) {
    const option = argument(args, i)
    if (isWord(option, 'replace')) replace = true
    else if (isWord(option, 'db') && i + 1 < args.length) {
      i++
      index = databaseIndex(argument(args, i))
    } else throw syntaxError
  }
  return { index, replace }
}

function move(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const target = db.database(databaseIndex(argument(args, 2)))
  if (target === db) throw sameObject
  const value = db.get(key)
  if (value === undefined || target.get(key) !== undefined) return 0
  target.put(key, value.value, value.expireAt)
  db.delete(key)
  return 1
}

const keys: readonly ArgumentDoc[] = [{ ...keyDoc(), multiple: true }]
const perKey = 'O(N) where N is the number of keys.'

export const keyCommands: readonly Command[] = [
  {
    name: 'copy',
    arity: -3,
    flags: ['denyoom'],
    categories: ['keyspace'],
    keys: [...oneKey(['RO', 'access'], 1), ...oneKey(['OW', 'update'], 2)],
    foresee: handsOn,
    doc: {
      summary: 'Copies the value of a key and when it expires to another key.',
      since: '6.2.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [
        keyDoc('source'),
        keyDoc('destination', 1),
        { name: 'destination-db', type: 'integer', token: 'DB', optional: true },
        { ...tokenDoc('REPLACE'), optional: true },
      ],
    },
    kind: 'write',
    run: copy,
  },
  {
    name: 'del',
    arity: -2,
    flags: [],
    categories: ['keyspace'],
    keys: everyKey(['RM', 'delete']),
    doc: {
      summary: 'Deletes keys.',
      since: '1.0.0',
      group: 'generic',
      complexity: perKey,
      arguments: keys,
    },
    kind: 'write',
    run: del,
  },
  {
    name: 'exists',
    arity: -2,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: everyKey(['RO']),
    doc: {
      summary: 'Counts which of the keys exist.',
      since: '1.0.0',
      group: 'generic',
      complexity: perKey,
      arguments: keys,
    },
    kind: 'read',
    run: (db, args) => inOneGo(exists(db, args)),
    slices: exists,
  },
  {
    name: 'move',
    arity: 3,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: oneKey(['RW', 'access', 'update']),
    foresee: keepsLength,
    doc: {
      summary: 'Moves a key to another database, if it does not exist there.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [keyDoc(), { name: 'db', type: 'integer' }],
    },
    kind: 'write',
    run: move,
  },
  {
    name: 'rename',
    arity: 3,
    flags: [],
    categories: ['keyspace'],
    keys: [...oneKey(['RW', 'access', 'delete'], 1), ...oneKey(['OW', 'update'], 2)],
    foresee: handsOn,
    doc: {
      summary: 'Gives a key another name and replaces what had it.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [keyDoc(), keyDoc('newkey', 1)],
    },
    kind: 'write',
    run: (db, args) => {
      rename(db, args, true)
      return OK
    },
  },
  {
    name: 'renamenx',
    arity: 3,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: [...oneKey(['RW', 'access', 'delete'], 1), ...oneKey(['OW', 'insert'], 2)],
    foresee: handsOn,
    doc: {
      summary: 'Gives a key another name that no key has.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [keyDoc(), keyDoc('newkey', 1)],
    },
    kind: 'write',
    run: (db, args) => (rename(db, args, false) ? 1 : 0),
  },
  {
    name: 'touch',
    arity: -2,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: everyKey(['RO']),
    doc: {
      summary: 'Counts which of the keys exist; when a key was used last is kept nowhere.',
      since: '3.2.1',
      group: 'generic',
      complexity: perKey,
      arguments: keys,
    },
    kind: 'read',
    run: (db, args) => inOneGo(exists(db, args)),
    slices: exists,
  },
  {
    name: 'type',
    arity: 2,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: oneKey(['RO']),
    doc: {
      summary: 'Returns the type of the value of a key.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [keyDoc()],
    },
    kind: 'read',
    run: type,
  },
  {
    name: 'unlink',
    arity: -2,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: everyKey(['RM', 'delete']),
    doc: {
      summary: 'Deletes keys, as DEL does.',
      since: '4.0.0',
      group: 'generic',
      complexity: perKey,
      arguments: keys,
    },
    kind: 'write',
    run: del,
  },
]
