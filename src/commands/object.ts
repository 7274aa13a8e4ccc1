/*
 * OBJECT: what Redis tells of the inside of a value. Here a string is bytes and nothing else, so what Redis would have
 * made of these bytes in a SET is told, and of their use nothing is kept.
 */

import type { Reply } from '../../resp/encoder.ts'
import type { StoredValue } from '../../storage/state-store.ts'
import { argument, keyOf, parseInt64 } from './arguments.ts'
import type { Args, Command, ReadonlyDatabase, TableEntry } from './command.ts'
import { CommandError, keyDoc, oneKey } from './command.ts'
import { helpCommand } from './help.ts'

/** Longer strings are allocated apart from their header in Redis. */
const EMBSTR_BYTES_MAX = 44
/** Redis has the integers below this once, and says so with the largest int32 as a count. */
const SHARED_INTEGERS = 10_000
const SHARED_REFERENCES = 2 ** 31 - 1

const FROM_BYTES = 'Told from the bytes of the value, not from the commands that made it.'
const noFrequencies = new CommandError(
  'ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.',
)

function encoding({ value }: StoredValue): Reply {
  if (parseInt64(value) !== undefined) return 'int'
  return value.length <= EMBSTR_BYTES_MAX ? 'embstr' : 'raw'
}

function refcount({ value }: StoredValue): Reply {
  const integer = parseInt64(value)
  const shared = integer !== undefined && integer >= 0 && integer < SHARED_INTEGERS
  return shared ? SHARED_REFERENCES : 1
}

/** A key that does not exist is answered with nothing, whatever is asked of it. */
function subcommand(
  name: string,
  about: (value: StoredValue) => Reply,
  { since, summary, differs }: { since: string; summary: string; differs?: string },
): Command {
  return {
    name: `object|${name}`,
    arity: 3,
    flags: [],
    categories: ['keyspace'],
    keys: oneKey(['RO'], 2),
    ...(differs === undefined ? {} : { differs }),
    doc: { summary, since, group: 'generic', complexity: 'O(1)', arguments: [keyDoc()] },
    kind: 'read',
    run: (db: ReadonlyDatabase, args: Args) => {
      const value = db.get(keyOf(argument(args, 2)))
      return value === undefined ? null : about(value)
    },
  }
}

const subcommands: readonly Command[] = [
  subcommand('encoding', encoding, {
    since: '2.2.3',
    summary: 'Returns how Redis would hold the value.',
    differs: FROM_BYTES,
  }),
  subcommand(
    'freq',
    () => {
      throw noFrequencies
    },
    { since: '4.0.0', summary: 'Is refused: how often a key is used is kept nowhere.' },
  ),
  helpCommand('object', () => subcommands, {
    categories: ['keyspace'],
    since: '6.2.0',
  }),
  subcommand('idletime', () => 0, {
    since: '2.2.3',
    summary: 'Returns 0: when a key was used last is kept nowhere.',
    differs: 'Always 0.',
  }),
  subcommand('refcount', refcount, {
    since: '2.2.3',
    summary: 'Returns how often Redis would refer to the value.',
    differs: FROM_BYTES,
  }),
]

export const objectEntry: TableEntry = {
  name: 'object',
  arity: -2,
  flags: [],
  categories: [],
  doc: {
    summary: 'Tells of the inside of values.',
    since: '2.2.3',
    group: 'generic',
    complexity: 'O(1)',
  },
  kind: 'container',
  subcommands,
}
