/*
 * MEMORY: what this node holds in memory, and what a key takes. The memory is that of a process of Node.js, which has
 * no allocator to be asked about; what this server could only make up is left out.
 */

import { DoubleReply, MapReply, OK, type Reply, VerbatimReply } from '../../resp/encoder.ts'
import { pageBytesOf } from '../../storage/page-bytes.ts'
import type { Session } from '../session.ts'
import { argument, isWord, keyOf, parseInt64 } from './arguments.ts'
import {
  type Args,
  type Command,
  keyDoc,
  notAnInteger,
  oneKey,
  type ReadDatabase,
  syntaxError,
  type TableEntry,
} from './command.ts'
import { helpCommand } from './help.ts'
import type { LocalServer } from './local-server.ts'

function usage(db: ReadDatabase, args: Args): Reply {
  for (let at = 3; at < args.length; at += 2) {
    if (!isWord(argument(args, at), 'samples') || at + 1 === args.length) throw syntaxError
    const samples = parseInt64(argument(args, at + 1))
    if (samples === undefined) throw notAnInteger
    if (samples < 0) throw syntaxError
  }
  const key = argument(args, 2)
  const stored = db.get(keyOf(key))
  return stored === undefined ? null : pageBytesOf(key.length, stored)
}

function stats(_session: Session, _args: Args, server: LocalServer): Reply {
  const {
    usedMemoryBytes,
    usedMemoryPeakBytes,
    residentMemoryBytes,
    clientMemoryBytes,
    databases,
  } = server.info()
  const keys = databases.reduce((sum, one) => sum + one.keys, 0)
  return new MapReply([
    ['peak.allocated', usedMemoryPeakBytes],
    ['total.allocated', usedMemoryBytes],
    ['clients.normal', clientMemoryBytes],
    ['keys.count', keys],
    ['peak.percentage', new DoubleReply((100 * usedMemoryBytes) / usedMemoryPeakBytes)],
    ['allocator.resident', residentMemoryBytes],
  ])
}

function doctor(_session: Session, _args: Args, server: LocalServer): Reply {
  const { usedMemoryBytes, residentMemoryBytes, clientMemoryBytes } = server.info()
  const mb = (bytes: number): string => `${Math.round(bytes / 1_048_576)} MiB`
  return new VerbatimReply(
    `The heap and its buffers hold ${mb(usedMemoryBytes)}, ${mb(clientMemoryBytes)} of them for clients; the ` +
      `process has ${mb(residentMemoryBytes)} resident, mapped pages of the data files included, which the kernel ` +
      'takes back when it needs them.\n',
  )
}

const own = { flags: [], categories: [], kind: 'local' } as const

const subcommands: readonly Command[] = [
  {
    ...own,
    name: 'memory|doctor',
    arity: 2,
    differs: 'In words of its own.',
    doc: doc('Describes the memory of this node in words.'),
    run: doctor,
  },
  helpCommand('memory', () => subcommands, { categories: [], since: '4.0.0' }),
  {
    ...own,
    name: 'memory|malloc-stats',
    arity: 2,
    differs: 'There is no allocator to be asked: as a Redis without jemalloc.',
    doc: doc('Would describe the allocator.'),
    run: () => 'Stats not supported for the current allocator',
  },
  {
    ...own,
    name: 'memory|purge',
    arity: 2,
    differs: 'Without effect.',
    doc: doc('Would ask the allocator to give memory back.'),
    run: () => OK,
  },
  {
    ...own,
    name: 'memory|stats',
    arity: 2,
    differs: 'Only the fields that this server can tell.',
    doc: doc('Tells how much memory this node uses, and for what.'),
    run: stats,
  },
  {
    name: 'memory|usage',
    arity: -3,
    flags: [],
    categories: [],
    keys: oneKey(['RO'], 2),
    differs:
      'The bytes of the key, its value and what is kept beside them on the pages of the disk.',
    doc: {
      ...doc('Tells how many bytes a key and its value take.'),
      arguments: [keyDoc(), { name: 'count', type: 'integer', token: 'SAMPLES', optional: true }],
    },
    kind: 'read',
    run: usage,
  },
]

function doc(summary: string): Command['doc'] {
  return { summary, since: '4.0.0', group: 'server', complexity: 'O(1)' }
}

export const memoryEntry: TableEntry = {
  name: 'memory',
  arity: -2,
  flags: [],
  categories: [],
  doc: {
    ...doc('A container of commands about memory.'),
    complexity: 'Depends on the subcommand.',
  },
  kind: 'container',
  subcommands,
}
