/*
 * The commands about when a key expires. Times are ms of the logical clock: what a client gives relative to now
 * becomes absolute where its entry is applied, so every node keeps the same moment; what it is told is counted from
 * the leader's time, whichever node it asks.
 */

import type { Reply } from '../../resp/encoder.ts'
import { argument, isWord, keyOf, quoted } from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database, ReadonlyDatabase } from './command.ts'
import { CommandError, keepsLength, keyDoc, oneKey, tokenDoc } from './command.ts'
import {
  expireAtOf,
  MILLISECONDS,
  SECONDS,
  type TimeUnit,
  UNIX_MILLISECONDS,
  UNIX_SECONDS,
} from './times.ts'

const MS_PER_SECOND = 1000
const NO_KEY = -2
const NO_EXPIRY = -1

const nxWithOthers = new CommandError(
  'ERR NX and XX, GT or LT options at the same time are not compatible',
)
const gtWithLt = new CommandError('ERR GT and LT options at the same time are not compatible')

/** Each on its own, and of the key's present time to expire: there is none, there is one, it is earlier, it is later. */
type Condition = 'nx' | 'xx' | 'gt' | 'lt'
const CONDITIONS: readonly Condition[] = ['nx', 'xx', 'gt', 'lt']

function conditionsOf(args: Args): ReadonlySet<Condition> {
  const conditions = new Set<Condition>()
  for (const word of args.slice(3)) {
    const condition = CONDITIONS.find((one) => isWord(word, one))
    if (condition === undefined) {
      throw new CommandError(`ERR Unsupported option ${quoted(word)}`)
    }
    conditions.add(condition)
  }
  if (conditions.has('nx') && conditions.size > 1) throw nxWithOthers
  if (conditions.has('gt') && conditions.has('lt')) throw gtWithLt
  return conditions
}

/** `old` is 0 where the key never expires: that is later than any time. */
function holds(condition: Condition, old: number, at: number): boolean {
  switch (condition) {
    case 'nx':
      return old === 0
    case 'xx':
      return old !== 0
    case 'gt':
      return old !== 0 && at > old
    case 'lt':
      return old === 0 || at < old
  }
}

function expire(unit: TimeUnit, command: string): (db: Database, args: Args) => Reply {
  return (db, args) => {
    const conditions = conditionsOf(args)
    const options = { now: db.now, command, mayBeOver: true }
    const at = expireAtOf(argument(args, 2), unit, options)
    const key = keyOf(argument(args, 1))
    const old = db.get(key)
    if (old === undefined) return 0
    for (const condition of conditions) if (!holds(condition, old.expireAt, at)) return 0
    if (at > db.now) db.put(key, old.value, at)
    else db.delete(key)
    return 1
  }
}

function persist(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const old = db.get(key)
  if (old === undefined || old.expireAt === 0) return 0
  db.put(key, old.value)
  return 1
}

/** A read of the time to expire: `unit` says in what it is told. */
function told({ seconds, absolute }: TimeUnit): (db: ReadonlyDatabase, args: Args) => Reply {
  return (db, args) => {
    const expireAt = db.expiryOf(keyOf(argument(args, 1)))
    if (expireAt === undefined) return NO_KEY
    if (expireAt === 0) return NO_EXPIRY
    const ms = absolute ? expireAt : expireAt - db.now
    return seconds ? Math.floor((ms + MS_PER_SECOND / 2) / MS_PER_SECOND) : ms
  }
}

const condition: ArgumentDoc = {
  name: 'condition',
  type: 'oneof',
  since: '7.0.0',
  optional: true,
  arguments: [tokenDoc('NX'), tokenDoc('XX'), tokenDoc('GT'), tokenDoc('LT')],
}

function setter(
  name: string,
  unit: TimeUnit,
  { since, summary }: { since: string; summary: string },
): Command {
  const { seconds, absolute } = unit
  const plain = seconds ? 'seconds' : 'milliseconds'
  const time: ArgumentDoc = absolute
    ? { name: `unix-time-${plain}`, type: 'unix-time' }
    : { name: plain, type: 'integer' }
  return {
    name,
    arity: -3,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: oneKey(['RW', 'update']),
    foresee: keepsLength,
    doc: {
      summary,
      since,
      group: 'generic',
      complexity: 'O(1)',
      arguments: [keyDoc(), time, condition],
    },
    kind: 'write',
    run: expire(unit, name),
  }
}

function getter(
  name: string,
  unit: TimeUnit,
  { since, summary }: { since: string; summary: string },
): Command {
  return {
    name,
    arity: 2,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: oneKey(['RO', 'access']),
    doc: { summary, since, group: 'generic', complexity: 'O(1)', arguments: [keyDoc()] },
    kind: 'read',
    run: told(unit),
  }
}

export const expiryCommands: readonly Command[] = [
  setter('expire', SECONDS, {
    since: '1.0.0',
    summary: 'Lets a key expire after so many seconds.',
  }),
  setter('expireat', UNIX_SECONDS, {
    since: '1.2.0',
    summary: 'Lets a key expire at a time in seconds since 1970.',
  }),
  getter('expiretime', UNIX_SECONDS, {
    since: '7.0.0',
    summary: 'Returns when a key expires, in seconds since 1970.',
  }),
  {
    name: 'persist',
    arity: 2,
    flags: ['fast'],
    categories: ['keyspace'],
    keys: oneKey(['RW', 'update']),
    foresee: keepsLength,
    doc: {
      summary: 'Lets a key never expire.',
      since: '2.2.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [keyDoc()],
    },
    kind: 'write',
    run: persist,
  },
  setter('pexpire', MILLISECONDS, {
    since: '2.6.0',
    summary: 'Lets a key expire after so many milliseconds.',
  }),
  setter('pexpireat', UNIX_MILLISECONDS, {
    since: '2.6.0',
    summary: 'Lets a key expire at a time in milliseconds since 1970.',
  }),
  getter('pexpiretime', UNIX_MILLISECONDS, {
    since: '7.0.0',
    summary: 'Returns when a key expires, in milliseconds since 1970.',
  }),
  getter('pttl', MILLISECONDS, {
    since: '2.6.0',
    summary: 'Returns how many milliseconds a key has left.',
  }),
  getter('ttl', SECONDS, {
    since: '1.0.0',
    summary: 'Returns how many seconds a key has left.',
  }),
]
