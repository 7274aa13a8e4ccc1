/*
 * The commands that set and return whole strings. Each is a few lines over the same steps: read the value, decide,
 * put the new one. What they answer and refuse is Redis 7.2's, text by text; they are deterministic, because apply
 * runs them on every replica. Values that came from the database are never changed in place: it owns their memory.
 */

import { OK, type Reply } from '../../resp/encoder.ts'
import { argument, isWord, keyOf } from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database, ReadonlyDatabase, Slices } from './command.ts'
import {
  everyKey,
  inOneGo,
  keepsLength,
  keyDoc,
  oneKey,
  SLICE_WORK,
  syntaxError,
  tokenDoc,
  wrongArity,
} from './command.ts'
import { expireAtOf, MILLISECONDS, SECONDS, type TimeUnit, unitDocs, unitOf } from './times.ts'

function get(db: ReadonlyDatabase, args: Args): Reply {
  return db.get(keyOf(argument(args, 1)))?.value ?? null
}

/** The reply may hold any number of any values: what is read counts as work as well. */
function* mget(db: ReadonlyDatabase, args: Args): Slices {
  let elements: (Uint8Array | null)[] = []
  let work = 0
  for (let i = 1; i < args.length; i++) {
    if (work >= SLICE_WORK) {
      yield elements
      elements = []
      work = 0
    }
    const value = db.get(keyOf(argument(args, i)))?.value ?? null
    elements.push(value)
    work += 1 + (value === null ? 0 : value.length / BYTES_PER_WORK)
  }
  return { elements }
}

/** Copying so many bytes of a value costs as much as looking at a key. */
const BYTES_PER_WORK = 4096

interface SetOptions {
  condition?: 'nx' | 'xx'
  get?: true
  keepTtl?: true
  persist?: true
  unit?: TimeUnit
  /** The argument that `unit` counts. */
  time?: Uint8Array
}

/** Takes the word of `args` at `i` as an option; gives the place of its last argument, undefined where it is none. */
type TakeOption = (options: SetOptions, args: Args, i: number) => number | undefined

const takeSetOption: TakeOption = (options, args, i) => {
  const word = argument(args, i)
  if (isWord(word, 'nx') && options.condition !== 'xx') options.condition = 'nx'
  else if (isWord(word, 'xx') && options.condition !== 'nx') options.condition = 'xx'
  else if (isWord(word, 'get')) options.get = true
  else if (isWord(word, 'keepttl') && options.unit === undefined) options.keepTtl = true
  else return takeTime(options, args, i)
  return i
}

const takeGetexOption: TakeOption = (options, args, i) => {
  if (!isWord(argument(args, i), 'persist') || options.unit !== undefined) {
    return takeTime(options, args, i)
  }
  options.persist = true
  return i
}

const takeTime: TakeOption = (options, args, i) => {
  const unit = unitOf(argument(args, i))
  const time = args[i + 1]
  if (unit === undefined || time === undefined || options.keepTtl || options.persist) {
    return undefined
  }
  // The same unit may come again, and the last one counts.
  if (options.unit !== undefined && options.unit !== unit) return undefined
  options.unit = unit
  options.time = time
  return i + 1
}

function optionsOf(args: Args, from: number, take: TakeOption): SetOptions {
  const options: SetOptions = {}
  for (let i = from; i < args.length; i++) {
    const last = take(options, args, i)
    if (last === undefined) throw syntaxError
    i = last
  }
  return options
}

function set(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  if (args.length === 3) {
    db.put(key, argument(args, 2))
    return OK
  }
  const { condition, get, keepTtl, unit, time } = optionsOf(args, 3, takeSetOption)
  let expireAt = 0
  if (unit !== undefined && time !== undefined) {
    expireAt = expireAtOf(time, unit, { now: db.now, command: 'set' })
  }
  const old = condition !== undefined || get || keepTtl ? db.get(key) : undefined
  const refused =
    (condition === 'nx' && old !== undefined) || (condition === 'xx' && old === undefined)
  if (!refused) db.put(key, argument(args, 2), keepTtl ? old?.expireAt : expireAt)
  if (get) return old?.value ?? null
  return refused ? null : OK
}

function setFor(unit: TimeUnit, command: string): (db: Database, args: Args) => Reply {
  return (db, args) => {
    const expireAt = expireAtOf(argument(args, 2), unit, { now: db.now, command })
    db.put(keyOf(argument(args, 1)), argument(args, 3), expireAt)
    return OK
  }
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

function getdel(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const old = db.get(key)?.value ?? null
  db.delete(key)
  return old
}

function getex(db: Database, args: Args): Reply {
  const { persist, unit, time } = optionsOf(args, 2, takeGetexOption)
  const key = keyOf(argument(args, 1))
  const old = db.get(key)
  if (old === undefined) return null
  if (unit !== undefined && time !== undefined) {
    const expireAt = expireAtOf(time, unit, { now: db.now, command: 'getex' })
    if (expireAt > db.now) db.put(key, old.value, expireAt)
    else db.delete(key)
  } else if (persist && old.expireAt !== 0) {
    db.put(key, old.value)
  }
  return old.value
}

function mset(db: Database, args: Args): Reply {
  if (args.length % 2 === 0) throw wrongArity('mset')
  for (let i = 1; i < args.length; i += 2) db.put(keyOf(argument(args, i)), argument(args, i + 1))
  return OK
}

function msetnx(db: Database, args: Args): Reply {
  if (args.length % 2 === 0) throw wrongArity('msetnx')
  for (let i = 1; i < args.length; i += 2) {
    if (db.get(keyOf(argument(args, i))) !== undefined) return 0
  }
  mset(db, args)
  return 1
}

const value: ArgumentDoc = { name: 'value', type: 'string' }
const keysAndValues: ArgumentDoc = {
  name: 'data',
  type: 'block',
  multiple: true,
  arguments: [keyDoc(), value],
}

export const stringCommands: readonly Command[] = [
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
      arguments: [keyDoc()],
    },
    kind: 'read',
    run: get,
  },
  {
    name: 'getdel',
    arity: 2,
    flags: ['fast'],
    categories: ['string'],
    keys: oneKey(['RW', 'access', 'delete']),
    foresee: keepsLength,
    doc: {
      summary: 'Returns the value of a key and deletes it.',
      since: '6.2.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [keyDoc()],
    },
    kind: 'write',
    run: getdel,
  },
  {
    name: 'getex',
    arity: -2,
    flags: ['fast'],
    categories: ['string'],
    keys: oneKey(['RW', 'access', 'update']).map((spec) => ({
      ...spec,
      notes: 'RW and UPDATE because it changes the TTL',
    })),
    foresee: keepsLength,
    doc: {
      summary: 'Returns the value of a key and changes when it expires.',
      since: '6.2.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [
        keyDoc(),
        {
          name: 'expiration',
          type: 'oneof',
          optional: true,
          arguments: [...unitDocs(), tokenDoc('PERSIST')],
        },
      ],
    },
    kind: 'write',
    run: getex,
  },
  {
    name: 'getset',
    arity: 3,
    flags: ['denyoom', 'fast'],
    categories: ['string'],
    keys: oneKey(['RW', 'access', 'update']),
    foresee: keepsLength,
    doc: {
      summary: 'Sets the value of a key and returns the one before.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(1)',
      deprecated: { since: '6.2.0', replacedBy: '`SET` with the `!GET` argument' },
      arguments: [keyDoc(), value],
    },
    kind: 'write',
    run: getset,
  },
  {
    name: 'mget',
    arity: -2,
    flags: ['fast'],
    categories: ['string'],
    keys: everyKey(['RO', 'access']),
    doc: {
      summary: 'Returns the values of several keys, read at one moment.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(N) where N is the number of keys.',
      arguments: [{ ...keyDoc(), multiple: true }],
    },
    kind: 'read',
    run: (db, args) => inOneGo(mget(db, args)),
    slices: mget,
  },
  {
    name: 'mset',
    arity: -3,
    flags: ['denyoom'],
    categories: ['string'],
    keys: everyKey(['OW', 'update'], 2),
    doc: {
      summary: 'Sets several keys at one moment.',
      since: '1.0.1',
      group: 'string',
      complexity: 'O(N) where N is the number of keys.',
      arguments: [keysAndValues],
    },
    kind: 'write',
    run: mset,
  },
  {
    name: 'msetnx',
    arity: -3,
    flags: ['denyoom'],
    categories: ['string'],
    keys: everyKey(['OW', 'insert'], 2),
    doc: {
      summary: 'Sets several keys at one moment, if none of them exists.',
      since: '1.0.1',
      group: 'string',
      complexity: 'O(N) where N is the number of keys.',
      arguments: [keysAndValues],
    },
    kind: 'write',
    run: msetnx,
  },
  {
    name: 'psetex',
    arity: 4,
    flags: ['denyoom'],
    categories: ['string'],
    keys: oneKey(['OW', 'update']),
    doc: {
      summary: 'Sets the value of a key that expires after so many milliseconds.',
      since: '2.6.0',
      group: 'string',
      complexity: 'O(1)',
      deprecated: { since: '2.6.12', replacedBy: '`SET` with the `PX` argument' },
      arguments: [keyDoc(), { name: 'milliseconds', type: 'integer' }, value],
    },
    kind: 'write',
    run: setFor(MILLISECONDS, 'psetex'),
  },
  {
    name: 'set',
    arity: -3,
    flags: ['denyoom'],
    categories: ['string'],
    keys: oneKey(['RW', 'access', 'update', 'variable_flags']).map((spec) => ({
      ...spec,
      notes: 'RW and ACCESS due to the optional `GET` argument',
      accessOf: (args) =>
        args.some((arg, at) => at >= 3 && isWord(arg, 'get'))
          ? ['RW', 'access', 'update']
          : ['OW', 'update'],
    })),
    doc: {
      summary: 'Sets the value of a key, always or on a condition, for ever or for a time.',
      since: '1.0.0',
      group: 'string',
      complexity: 'O(1)',
      arguments: [
        keyDoc(),
        value,
        {
          name: 'condition',
          type: 'oneof',
          since: '2.6.12',
          optional: true,
          arguments: [tokenDoc('NX'), tokenDoc('XX')],
        },
        { ...tokenDoc('GET', '6.2.0'), optional: true },
        {
          name: 'expiration',
          type: 'oneof',
          optional: true,
          arguments: [
            ...unitDocs({ relative: '2.6.12', absolute: '6.2.0' }),
            tokenDoc('KEEPTTL', '6.0.0'),
          ],
        },
      ],
    },
    kind: 'write',
    run: set,
  },
  {
    name: 'setex',
    arity: 4,
    flags: ['denyoom'],
    categories: ['string'],
    keys: oneKey(['OW', 'update']),
    doc: {
      summary: 'Sets the value of a key that expires after so many seconds.',
      since: '2.0.0',
      group: 'string',
      complexity: 'O(1)',
      deprecated: { since: '2.6.12', replacedBy: '`SET` with the `EX` argument' },
      arguments: [keyDoc(), { name: 'seconds', type: 'integer' }, value],
    },
    kind: 'write',
    run: setFor(SECONDS, 'setex'),
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
      deprecated: { since: '2.6.12', replacedBy: '`SET` with the `NX` argument' },
      arguments: [keyDoc(), value],
    },
    kind: 'write',
    run: setnx,
  },
]
