/*
 * INCRBYFLOAT: one command over the arithmetic of long-double.ts. Every node computes the same digits, so the command
 * is logged as it came.
 */

import { Buffer } from 'node:buffer'
import type { Reply } from '../../resp/encoder.ts'
import { argument, keyOf } from './arguments.ts'
import type { Args, Command, Database } from './command.ts'
import { CommandError } from './command.ts'
import { addLongDouble, formatLongDouble, parseLongDouble } from './long-double.ts'

const notAFloat = new CommandError('ERR value is not a valid float')
const notFinite = new CommandError('ERR increment would produce NaN or Infinity')
const ZERO = Buffer.from('0')

function incrbyfloat(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const old = db.get(key)
  const before = parseLongDouble(old?.value ?? ZERO)
  if (before === undefined) throw notAFloat
  const by = parseLongDouble(argument(args, 2))
  if (by === undefined) throw notAFloat
  if (before === 'infinity' || by === 'infinity') throw notFinite
  const sum = addLongDouble(before, by)
  if (sum === undefined) throw notFinite
  const digits = formatLongDouble(sum)
  db.put(key, digits, old?.expireAt)
  return digits
}

export const incrbyfloatCommand: Command = {
  name: 'incrbyfloat',
  arity: 3,
  flags: ['denyoom', 'fast'],
  categories: ['string'],
  keys: { first: 1, last: 1, step: 1, access: ['RW', 'access', 'update'] },
  doc: {
    summary: 'Adds a floating point number.',
    since: '2.6.0',
    group: 'string',
    complexity: 'O(1)',
    arguments: [
      { name: 'key', type: 'key' },
      { name: 'increment', type: 'double' },
    ],
  },
  kind: 'write',
  run: incrbyfloat,
}
