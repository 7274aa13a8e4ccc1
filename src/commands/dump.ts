/*
 * DUMP and RESTORE: a value with what is needed to make it again, on this server or on a Redis. Of the types that a
 * payload may hold there are strings only, as everywhere here.
 */

import { OK, type Reply } from '../../resp/encoder.ts'
import { argument, isWord, keyOf, parseInt64 } from './arguments.ts'
import type { Args, ArgumentDoc, Command, Database, ReadonlyDatabase, Slices } from './command.ts'
import { CommandError, notAnInteger, syntaxError, wholeValue } from './command.ts'
import { decodeDump, dumpLength, dumpSlices, isIntactDump } from './dump-payload.ts'
import { STRING_BYTES_MAX } from './string-edits.ts'

const busyKey = new CommandError('BUSYKEY Target key name already exists.')
const badTtl = new CommandError('ERR Invalid TTL value, must be >= 0')
const badIdleTime = new CommandError('ERR Invalid IDLETIME value, must be >= 0')
const badFrequency = new CommandError('ERR Invalid FREQ value, must be >= 0 and <= 255')
const badChecksum = new CommandError('ERR DUMP payload version or checksum are wrong')
const badFormat = new CommandError('ERR Bad data format')
const FREQUENCY_MAX = 255
const INT64_SPAN = 2 ** 63

function* dump(db: ReadonlyDatabase, args: Args): Slices {
  const value = db.get(keyOf(argument(args, 1)))?.value
  return { reply: value === undefined ? null : yield* dumpSlices(value) }
}

function restore(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const { replace, absolute } = optionsOf(args)
  if (!replace && db.get(key) !== undefined) throw busyKey
  const ttl = integer(argument(args, 2))
  if (ttl < 0) throw badTtl
  const payload = argument(args, 3)
  if (!isIntactDump(payload)) throw badChecksum
  db.room(dumpLength(payload))
  const value = decodeDump(payload, STRING_BYTES_MAX)
  if (value === undefined) throw badFormat
  const expireAt = ttl === 0 || absolute ? ttl : db.now + ttl
  // Beyond int64 Redis' sum is negative, which is a time long past.
  const past = expireAt <= db.now || (!absolute && expireAt >= INT64_SPAN)
  if (ttl !== 0 && past) db.delete(key)
  else db.put(key, value, expireAt)
  return OK
}

/** IDLETIME and FREQ are checked and mean nothing here: nothing is evicted. */
function optionsOf(args: Args): { readonly replace: boolean; readonly absolute: boolean } {
  const options = { replace: false, absolute: false }
  let hint: 'idletime' | 'freq' | undefined
  for (let at = 4; at < args.length; at++) {
    const option = argument(args, at)
    const more = at + 1 < args.length
    if (isWord(option, 'replace')) options.replace = true
    else if (isWord(option, 'absttl')) options.absolute = true
    else if (isWord(option, 'idletime') && more && hint !== 'freq') {
      hint = 'idletime'
      if (integer(argument(args, ++at)) < 0) throw badIdleTime
    } else if (isWord(option, 'freq') && more && hint !== 'idletime') {
      hint = 'freq'
      const frequency = integer(argument(args, ++at))
      if (frequency < 0 || frequency > FREQUENCY_MAX) throw badFrequency
    } else throw syntaxError
  }
  return options
}

function integer(bytes: Uint8Array): number {
  const value = parseInt64(bytes)
  if (value === undefined) throw notAnInteger
  return Number(value)
}

const key: ArgumentDoc = { name: 'key', type: 'key' }

export const dumpCommands: readonly Command[] = [
  {
    name: 'dump',
    arity: 2,
    flags: [],
    categories: ['keyspace'],
    keys: { first: 1, last: 1, step: 1, access: ['RO', 'access'] },
    differs: 'The payload holds the same value, but may be packed in another way.',
    doc: {
      summary: 'Returns a value in the form that RESTORE takes.',
      since: '2.6.0',
      group: 'generic',
      complexity: 'O(N) where N is the length of the value.',
      arguments: [key],
    },
    kind: 'read',
    run: (db, args) => wholeValue(dump(db, args)),
    slices: dump,
    ofOneValue: true,
  },
  {
    name: 'restore',
    arity: -4,
    flags: ['denyoom'],
    categories: ['keyspace', 'dangerous'],
    keys: { first: 1, last: 1, step: 1, access: ['OW', 'update'] },
    differs: 'Payloads of strings only.',
    foresee: (args) => {
      const length = Math.min(dumpLength(argument(args, 3)), STRING_BYTES_MAX)
      return { key: argument(args, 1), length, bytes: length, computed: length }
    },
    doc: {
      summary: 'Makes a key from what DUMP returned.',
      since: '2.6.0',
      group: 'generic',
      complexity: 'O(N) where N is the length of the value.',
      arguments: [
        key,
        { name: 'ttl', type: 'integer' },
        { name: 'serialized-value', type: 'string' },
        { name: 'replace', type: 'pure-token', token: 'REPLACE', optional: true },
        { name: 'absttl', type: 'pure-token', token: 'ABSTTL', optional: true },
        { name: 'seconds', type: 'integer', token: 'IDLETIME', optional: true },
        { name: 'frequency', type: 'integer', token: 'FREQ', optional: true },
      ],
    },
    kind: 'write',
    run: restore,
  },
]
