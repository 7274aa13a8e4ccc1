/*
 * What the differential test sends: per command a form of its arguments, with values chosen for their edges. A few
 * commands in a hundred are spoilt on purpose (an argument too many, too few, a wrong word), because the errors are
 * part of what clients believe. Everything follows from the generator's seed.
 */

import { Buffer } from 'node:buffer'
import { commandTable } from '../../src/commands/table.ts'
import type { Argument } from '../e2e/resp-client.ts'

export type Random = () => number
export type Command = readonly Argument[]
type Part = (random: Random) => readonly Argument[]

const UNKNOWN = 'NOSUCHCOMMAND'

function pick<Value>(random: Random, values: readonly Value[]): Value {
  return values[Math.floor(random() * values.length)] as Value
}

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit)
}

// ---- Values --------------------------------------------------------------------------------------------------------

const KEYS = ['a', 'b', 'c', 'd', 'key:1', '{tag}1', '{tag}2', 'k\xff\x00', '']
const INTEGERS = [
  '0',
  '1',
  '-1',
  '2',
  '7',
  '8',
  '63',
  '64',
  '65',
  '100',
  '-100',
  '255',
  '256',
  '-0',
  '00',
  '01',
  '+1',
  ' 1',
  '1 ',
  '1.5',
  '',
  '9223372036854775807',
  '9223372036854775808',
  '-9223372036854775808',
  '-9223372036854775809',
  '4611686018427387904',
  '18446744073709551615',
  '18446744073709551616',
  '2147483647',
  '2147483648',
  '-2147483648',
  '1e3',
  'nan',
  'abc',
  '0x10',
  '9007199254740991',
  '9007199254740993',
  '999999999999999999999',
]
const SMALL = [
  '0',
  '1',
  '2',
  '3',
  '4',
  '5',
  '7',
  '8',
  '9',
  '15',
  '16',
  '31',
  '-1',
  '-2',
  '-3',
  '-8',
  '-9',
  '-100',
  '100',
]
const FLOATS = [
  '0',
  '1',
  '-1',
  '0.1',
  '3.14',
  '-2.5',
  '1e5',
  '1e-5',
  '5.0e3',
  '1e400',
  '1e4932',
  '1e5000',
  'inf',
  '-inf',
  'nan',
  ' 1',
  '1 ',
  '',
  'abc',
  '0x1p4',
  '+1',
  '.5',
  '5.',
  '17179869184.5',
  '0.00000000000000001',
  '123456789012345678901234567890',
  '-0',
  '1e',
]
/** Nothing that could run out during a test: far away, or past. */
const SECONDS = [
  '0',
  '-1',
  '-100',
  '9223372036854775807',
  '9223372036854775',
  '-9223372036854775808',
  'abc',
  '1.5',
  '',
  '4611686018427387904',
]
const UNIX_SECONDS = [
  '4000000000',
  '5000000000',
  '1',
  '1000000000',
  '0',
  '-1',
  '9223372036854775807',
  'abc',
]
const UNIX_MS = ['4000000000000', '5000000000000', '1', '0', '-1', '9223372036854775807', 'x']
const PATTERNS = [
  '*',
  'a*',
  '?',
  '[a-c]',
  '[^a]',
  '\\a',
  'key:*',
  '*1',
  '{tag}?',
  'a',
  '',
  '[',
  '[a',
  '[^',
  '**',
  '*a*b*',
  'k?*',
]
const DATABASES = ['0', '1', '2', '15', '16', '-1', 'x', '99999999999']

const key: Part = (random) => [
  Buffer.from(pick(random, random() < 0.9 ? KEYS.slice(0, 5) : KEYS), 'latin1'),
]
const integer: Part = (random) => [
  random() < 0.5 ? String(below(random, 200) - 100) : pick(random, INTEGERS),
]
const small: Part = (random) => [random() < 0.9 ? pick(random, SMALL) : pick(random, INTEGERS)]
const float: Part = (random) => [
  random() < 0.3 ? String(random() * 1000 - 500) : pick(random, FLOATS),
]
const value: Part = (random) => {
  switch (below(random, 8)) {
    case 0:
      return [pick(random, INTEGERS)]
    case 1:
      return [pick(random, FLOATS)]
    case 2:
      return [String(below(random, 1000))]
    case 3:
      return ['']
    case 4:
      return [Buffer.from(Array.from({ length: below(random, 40) }, () => below(random, 256)))]
    case 5:
      return ['ab'.repeat(below(random, 60))]
    case 6:
      return [Buffer.alloc(below(random, 20), pick(random, [0, 0xff]))]
    default:
      return [pick(random, ['hello', 'foobar', 'ohmytext', 'mynewtext', 'x'])]
  }
}
const pattern: Part = (random) => [pick(random, PATTERNS)]
const database: Part = (random) => [pick(random, random() < 0.8 ? ['0', '1', '2'] : DATABASES)]
/**
 * Mostly a time of its own: two that are equal would make GT and LT depend on the millisecond in which each server
 * took the command.
 */
const seconds: Part = (random) => [
  random() < 0.6 ? String(100 + 10 * below(random, 1e7)) : pick(random, SECONDS),
]
const milliseconds: Part = (random) => [
  random() < 0.6 ? String(105_000 + 10_000 * below(random, 1e7)) : pick(random, SECONDS),
]
const unixSeconds: Part = (random) => [pick(random, UNIX_SECONDS)]
const unixMilliseconds: Part = (random) => [pick(random, UNIX_MS)]
/** Offsets that make small strings or none at all: a huge one would only test the machine's memory. */
const byteOffset: Part = (random) => [
  random() < 0.8
    ? String(below(random, 40))
    : pick(random, ['-1', '536870912', '4294967295', '9223372036854775807', 'x', '']),
]
const bitOffset: Part = (random) => [
  random() < 0.8
    ? String(below(random, 200))
    : pick(random, ['-1', '4294967296', '9223372036854775807', 'x', '', '#1']),
]
const fieldOffset: Part = (random) => [
  random() < 0.85
    ? (random() < 0.5 ? '#' : '') + String(below(random, 30))
    : pick(random, [
        '-1',
        '4294967296',
        '9223372036854775807',
        '#9223372036854775807',
        'x',
        '#',
        '#-1',
      ]),
]
const fieldType: Part = (random) => [
  random() < 0.9
    ? pick(random, ['u', 'i']) + String(1 + below(random, 64))
    : pick(random, ['u0', 'i0', 'u65', 'i65', 'x8', 'u', '8', 'u-1', 'U8', 'i08']),
]

function word(...words: readonly string[]): Part {
  return (random) => {
    const chosen = pick(random, words)
    const style = random()
    return [style < 0.7 ? chosen : style < 0.9 ? chosen.toLowerCase() : mixed(random, chosen)]
  }
}

function mixed(random: Random, text: string): string {
  return [...text].map((c) => (random() < 0.5 ? c.toLowerCase() : c.toUpperCase())).join('')
}

function sequence(...parts: readonly Part[]): Part {
  return (random) => parts.flatMap((part) => part(random))
}

function maybe(part: Part, chance = 0.5): Part {
  return (random) => (random() < chance ? part(random) : [])
}

function one(...parts: readonly Part[]): Part {
  return (random) => pick(random, parts)(random)
}

function many(part: Part, least: number, most: number): Part {
  return (random) => {
    const count = least + below(random, most - least + 1)
    return Array.from({ length: count }, () => part(random)).flat()
  }
}

// ---- Commands --------------------------------------------------------------------------------------------------------

const expiry = one(
  sequence(word('EX'), seconds),
  sequence(word('PX'), milliseconds),
  sequence(word('EXAT'), unixSeconds),
  sequence(word('PXAT'), unixMilliseconds),
)
const expireCondition = maybe(many(word('NX', 'XX', 'GT', 'LT'), 1, 2), 0.5)
const fieldOperations = many(
  one(
    sequence(word('GET'), fieldType, fieldOffset),
    sequence(word('SET'), fieldType, fieldOffset, integer),
    sequence(word('INCRBY'), fieldType, fieldOffset, integer),
    sequence(word('OVERFLOW'), word('WRAP', 'SAT', 'FAIL', 'NONE')),
  ),
  0,
  4,
)

/** Nothing that would end, pause or silence a connection: the test needs a reply to every command. */
const client = one(
  word('GETNAME', 'GETREDIR', 'TRACKINGINFO', 'UNPAUSE', 'HELP'),
  sequence(word('SETNAME'), word('name', 'n m', '')),
  sequence(word('NOPE'), maybe(value)),
  sequence(
    word('KILL'),
    one(
      value,
      word('ID', 'ADDR'),
      sequence(
        word('ID', 'NOPE'),
        word('999999999', '0', '-1', 'x', '99999999999999999999'),
        maybe(sequence(word('SKIPME'), word('yes', 'no', 'x'))),
      ),
      sequence(word('TYPE'), word('pubsub', 'master', 'replica', 'x', '')),
      sequence(word('USER'), word('nobody')),
      sequence(word('ADDR', 'LADDR'), word('1.2.3.4:5', ''), maybe(word('ID'), 0.2)),
    ),
  ),
  sequence(
    word('LIST'),
    one(
      sequence(word('TYPE'), word('pubsub', 'master', 'x')),
      sequence(word('ID'), many(word('999999999', 'x', '-1'), 0, 2)),
      word('NOPE'),
    ),
  ),
  sequence(word('NO-EVICT', 'REPLY'), word('ON', 'NOPE', '')),
  sequence(word('PAUSE'), word('0', '-1', 'x'), maybe(word('WRITE', 'ALL', 'NOPE'))),
  sequence(
    word('TRACKING'),
    word('OFF', 'NOPE'),
    many(
      one(
        word('BCAST', 'OPTIN', 'OPTOUT', 'NOLOOP', 'NOPE', 'PREFIX', 'REDIRECT'),
        sequence(word('PREFIX'), value),
        sequence(word('REDIRECT'), word('999999999', 'x')),
      ),
      0,
      2,
    ),
  ),
  sequence(word('CACHING'), word('YES', 'NO', 'NOPE')),
  sequence(word('UNBLOCK'), word('999999999', 'x'), many(word('TIMEOUT', 'ERROR', 'NOPE'), 0, 2)),
)

/** DUMP of 'hello' by Redis 7.0. */
const dumpOfHello: Buffer = Buffer.from('000568656c6c6f0a006372df766534200a', 'hex')

/** Form and weight of each command that both servers answer deterministically. */
const FORMS: readonly (readonly [name: string, form: Part, weight?: number])[] = [
  [
    'SET',
    sequence(key, value, maybe(many(one(word('NX', 'XX', 'GET', 'KEEPTTL'), expiry), 1, 3), 0.5)),
    12,
  ],
  ['GET', key, 6],
  ['GETSET', sequence(key, value)],
  ['GETDEL', key],
  [
    'GETEX',
    sequence(key, maybe(one(expiry, word('PERSIST'), sequence(expiry, word('PERSIST'))), 0.7)),
    2,
  ],
  ['SETNX', sequence(key, value)],
  ['SETEX', sequence(key, seconds, value)],
  ['PSETEX', sequence(key, milliseconds, value)],
  ['MGET', many(key, 1, 4)],
  ['MSET', many(sequence(key, value), 1, 3)],
  ['MSETNX', many(sequence(key, value), 1, 3)],
  ['APPEND', sequence(key, value), 2],
  ['STRLEN', key],
  ['GETRANGE', sequence(key, small, small), 3],
  ['SUBSTR', sequence(key, small, small)],
  ['SETRANGE', sequence(key, byteOffset, value), 3],
  ['INCR', key, 2],
  ['DECR', key, 2],
  ['INCRBY', sequence(key, integer), 2],
  ['DECRBY', sequence(key, integer), 2],
  ['INCRBYFLOAT', sequence(key, float), 4],
  [
    'LCS',
    sequence(
      key,
      key,
      maybe(
        many(one(word('LEN', 'IDX', 'WITHMATCHLEN'), sequence(word('MINMATCHLEN'), small)), 1, 3),
        0.7,
      ),
    ),
    3,
  ],
  ['SETBIT', sequence(key, bitOffset, one(word('0', '1'), integer)), 3],
  ['GETBIT', sequence(key, bitOffset), 2],
  ['BITCOUNT', sequence(key, maybe(sequence(small, small, maybe(word('BYTE', 'BIT'))), 0.8)), 3],
  [
    'BITPOS',
    sequence(
      key,
      word('0', '1'),
      maybe(sequence(small, maybe(sequence(small, maybe(word('BYTE', 'BIT'))))), 0.8),
    ),
    3,
  ],
  ['BITOP', sequence(word('AND', 'OR', 'XOR', 'NOT'), key, many(key, 1, 3)), 3],
  ['BITFIELD', sequence(key, fieldOperations), 5],
  ['BITFIELD_RO', sequence(key, many(sequence(word('GET'), fieldType, fieldOffset), 0, 3)), 2],
  ['DEL', many(key, 1, 3), 2],
  ['UNLINK', many(key, 1, 3)],
  ['EXISTS', many(key, 1, 3)],
  ['TOUCH', many(key, 1, 3)],
  ['TYPE', key],
  ['RENAME', sequence(key, key), 2],
  ['RENAMENX', sequence(key, key), 2],
  [
    'COPY',
    sequence(key, key, maybe(many(one(word('REPLACE'), sequence(word('DB'), database)), 1, 2))),
    2,
  ],
  ['MOVE', sequence(key, database), 2],
  ['EXPIRE', sequence(key, seconds, expireCondition), 3],
  ['PEXPIRE', sequence(key, milliseconds, expireCondition), 3],
  ['EXPIREAT', sequence(key, unixSeconds, expireCondition), 2],
  ['PEXPIREAT', sequence(key, unixMilliseconds, expireCondition), 2],
  ['TTL', key, 2],
  ['PTTL', key, 2],
  ['EXPIRETIME', key, 2],
  ['PEXPIRETIME', key, 2],
  ['PERSIST', key, 2],
  ['KEYS', pattern, 2],
  [
    'SCAN',
    sequence(
      word('0'),
      many(
        one(
          sequence(word('MATCH'), pattern),
          sequence(word('COUNT'), word('1000', '500', '0', '-1', 'x')),
          sequence(word('TYPE'), word('string', 'list', 'nosuch')),
        ),
        0,
        3,
      ),
      word('COUNT'),
      word('1000'),
    ),
    2,
  ],
  ['DBSIZE', () => []],
  ['RANDOMKEY', () => []],
  [
    'OBJECT',
    one(sequence(word('ENCODING', 'REFCOUNT', 'FREQ', 'IDLETIME'), key), word('HELP', 'NONE')),
  ],
  ['DUMP', key, 2],
  [
    'RESTORE',
    sequence(
      key,
      milliseconds,
      one(word('garbage', ''), () => [dumpOfHello]),
      maybe(
        many(
          one(
            word('REPLACE', 'ABSTTL'),
            sequence(word('IDLETIME'), small),
            sequence(word('FREQ'), small),
          ),
          1,
          2,
        ),
        0.8,
      ),
    ),
    3,
  ],
  ['SELECT', database, 2],
  ['SWAPDB', sequence(database, database)],
  ['FLUSHDB', maybe(word('ASYNC', 'SYNC', 'NOW'), 0.3), 0.3],
  ['FLUSHALL', maybe(word('ASYNC', 'SYNC', 'NOW'), 0.3), 0.1],
  ['MULTI', () => [], 3],
  ['EXEC', () => [], 4],
  ['DISCARD', () => []],
  ['WATCH', many(key, 1, 2), 2],
  ['UNWATCH', () => []],
  ['PING', maybe(value, 0.3)],
  ['ECHO', value],
  ['WAIT', sequence(word('0'), word('1', '0'))],
  ['CLIENT', client, 3],
  ['RESET', () => [], 0.5],
  ['AUTH', one(value, sequence(word('nobody'), value)), 0.3],
  [
    'HELLO',
    one(word('4', '0', 'x'), sequence(word('2', '3'), word('NOPE', 'SETNAME', 'AUTH'))),
    0.3,
  ],
  ['TIME', value, 0.1],
  ['MONITOR', value, 0.1],
  ['LOLWUT', sequence(word('VERSION'), word('x', '1.5')), 0.1],
  [
    'MEMORY',
    one(
      sequence(word('USAGE'), key, maybe(sequence(word('SAMPLES'), integer), 0.3)),
      sequence(word('USAGE'), key, one(word('SAMPLES'), sequence(word('NOPE'), integer))),
      word('PURGE', 'HELP', 'NOPE'),
    ),
  ],
  [
    'SLOWLOG',
    one(word('LEN', 'RESET', 'HELP', 'NOPE'), sequence(word('GET'), many(integer, 0, 2))),
    0.7,
  ],
  [
    'LATENCY',
    one(
      word('LATEST', 'RESET', 'HELP', 'NOPE'),
      sequence(word('HISTORY', 'GRAPH', 'RESET'), many(word('command', 'nosuch'), 0, 2)),
      sequence(word('HISTOGRAM'), word('nosuch')),
    ),
    0.7,
  ],
  [
    'CONFIG',
    one(
      word('RESETSTAT', 'REWRITE', 'HELP', 'NOPE'),
      sequence(word('GET'), word('nosuch', 'maxmemory-policy', 'databases', 'slowlog-max-len')),
      sequence(word('SET'), word('nosuch', 'databases'), many(word('1'), 0, 2)),
      sequence(word('SET'), word('maxmemory-policy'), word('noeviction')),
      sequence(word('SET'), word('save'), word('')),
      sequence(
        word('SET'),
        word('maxclients', 'timeout', 'slowlog-max-len'),
        word('x', '1.5', '', '1 ', '9223372036854775808'),
        many(sequence(word('nosuch', 'databases', 'timeout', 'maxclients'), word('x')), 0, 2),
      ),
    ),
    0.7,
  ],
  [
    'CLUSTER',
    one(word('INFO', 'NODES', 'MYID', 'SLOTS', 'SHARDS', 'NOPE'), sequence(word('KEYSLOT'), key)),
    0.3,
  ],
  ['OBJECT', () => [], 0.2],
  ['READONLY', () => [], 0.2],
  ['READWRITE', () => [], 0.2],
  ['ASKING', () => [], 0.2],
  ['DEBUG', sequence(word('OBJECT', 'JMAP', 'SLEEP'), maybe(key)), 0.3],
  [
    'COMMAND',
    one(
      sequence(word('COUNT'), maybe(value)),
      sequence(
        word('GETKEYS', 'GETKEYSANDFLAGS'),
        word('GET', 'MGET', 'SET', 'COPY', 'BITOP', 'BITFIELD', 'OBJECT', 'PING', 'NOSUCH'),
        many(value, 1, 4),
      ),
      sequence(word('INFO'), word('nosuch')),
    ),
    0.5,
  ],
  [UNKNOWN, many(value, 0, 3), 0.5],
]

/** What is in no table yet is in docs/ as missing, and no news here. */
const forms = FORMS.filter(
  ([name]) => name === UNKNOWN || commandTable.some((entry) => entry.name === name.toLowerCase()),
)

const TOTAL = forms.reduce((sum, [, , weight = 1]) => sum + weight, 0)

export function generate(random: Random): Command {
  let ticket = random() * TOTAL
  for (const [name, form, weight = 1] of forms) {
    ticket -= weight
    if (ticket >= 0) continue
    const command = [...word(name)(random), ...form(random)]
    return UNSPOILT.includes(name) ? command : spoilt(random, command)
  }
  return ['PING']
}

const SPOIL_CHANCE = 0.04
/** A wrong word makes WAIT wait for ever and CLIENT end or list connections, as it should; HELLO tells the version. */
const UNSPOILT: readonly string[] = [
  'WAIT',
  'CLIENT',
  'HELLO',
  'LATENCY',
  'LOLWUT',
  'MONITOR',
  'TIME',
  'CONFIG',
]

/** A time that is soon over would make replies depend on how quick each server is. */
const TIMED: readonly Argument[] = [
  'SET',
  'SETEX',
  'PSETEX',
  'GETEX',
  'EXPIRE',
  'PEXPIRE',
  'RESTORE',
]
const SOON_OVER = /^[1-9]\d{0,5}$/

function spoilt(random: Random, command: readonly Argument[]): Command {
  if (random() >= SPOIL_CHANCE) return command
  const at = 1 + below(random, command.length)
  const kind = below(random, 3)
  if (kind === 0) return command.filter((_, index) => index !== at)
  const [name = ''] = command
  const [wrong = ''] = value(random)
  if (TIMED.includes(String(name).toUpperCase()) && SOON_OVER.test(String(wrong))) return command
  if (kind === 1) return [...command.slice(0, at), wrong, ...command.slice(at)]
  return command.map((argument, index) => (index === at ? wrong : argument))
}
