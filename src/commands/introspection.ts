/*
 * COMMAND: the table as clients read it. Cluster clients place commands by these key positions and
 * flags, redis-cli makes its hints of DOCS, so the shapes are Redis 7.2's; flags and categories
 * that follow from a command's kind are derived here and stand nowhere else. Tips stay empty: they
 * would make clients spread one command over shards.
 */

import { MapReply, type Reply, SetReply, SimpleReply } from '../../resp/encoder.ts'
import { argument, isWord } from './arguments.ts'
import type { Args, ArgumentDoc, Command, Doc, KeySpec, Spec, TableEntry } from './command.ts'
import { CommandError, keySpecsOf, keysOf, syntaxError } from './command.ts'
import { globMatches, patternOf } from './glob.ts'
import { helpCommand } from './help.ts'

/** Redis' own orders, so that a reply reads the same. */
const FLAG_ORDER = [
  'write',
  'readonly',
  'denyoom',
  'admin',
  'noscript',
  'blocking',
  'loading',
  'stale',
  'skip_monitor',
  'skip_slowlog',
  'asking',
  'fast',
  'no_auth',
  'no_async_loading',
  'no_multi',
  'allow_busy',
]
const CATEGORY_ORDER = [
  'keyspace',
  'read',
  'write',
  'string',
  'bitmap',
  'admin',
  'fast',
  'slow',
  'blocking',
  'dangerous',
  'connection',
  'transaction',
]

type Described = Spec & { readonly kind: TableEntry['kind'] }

function flagsOf(command: Described): readonly string[] {
  const flags = new Set<string>(command.flags)
  if (command.kind === 'write') flags.add('write')
  if (command.kind === 'read' && !command.unclassed) flags.add('readonly')
  return FLAG_ORDER.filter((flag) => flags.has(flag))
}

function categoriesOf(command: Described): readonly string[] {
  const categories = new Set<string>(command.categories)
  if (command.kind === 'write') categories.add('write')
  if (command.kind === 'read' && !command.unclassed) categories.add('read')
  if (command.flags.includes('admin')) categories.add('admin').add('dangerous')
  categories.add(command.flags.includes('fast') ? 'fast' : 'slow')
  return CATEGORY_ORDER.filter((category) => categories.has(category))
}

function statusSet(texts: readonly string[]): SetReply {
  return new SetReply(texts.map((text) => new SimpleReply(text)))
}

/** The ten elements of COMMAND INFO. */
function info(command: Described, subcommands: readonly Command[] = []): Reply {
  const keys = keySpecsOf(command)
  return [
    command.name,
    command.arity,
    statusSet(flagsOf(command)),
    keys[0]?.first ?? 0,
    keys.at(-1)?.last ?? 0,
    // Several specifications stand side by side, so that together they are one range.
    keys.length > 1 ? 1 : (keys[0]?.step ?? 0),
    statusSet(categoriesOf(command).map((category) => `@${category}`)),
    new SetReply([]),
    new SetReply(keys.map(keySpec)),
    subcommands.length === 0 ? new SetReply([]) : subcommands.map((one) => info(one)),
  ]
}

/** In a key specification the last key counts from the first one, unless it counts from the end. */
function keySpec({ first, last, step, access, notes }: KeySpec): MapReply {
  const range = { lastkey: last < 0 ? last : last - first, keystep: step, limit: 0 }
  return new MapReply([
    ...(notes === undefined ? [] : [['notes', notes] as const]),
    ['flags', statusSet(access)],
    ['begin_search', search('index', { index: first })],
    ['find_keys', search('range', range)],
  ])
}

function search(type: string, spec: Readonly<Record<string, number>>): MapReply {
  return new MapReply([
    ['type', type],
    ['spec', new MapReply(Object.entries(spec))],
  ])
}

function docs(command: Spec, subcommands: readonly Command[] = []): MapReply {
  const { summary, since, group, complexity, deprecated, arguments: args }: Doc = command.doc
  const entries: (readonly [Reply, Reply])[] = [
    ['summary', summary],
    ['since', since],
    ['group', group],
    ['complexity', complexity],
  ]
  if (deprecated !== undefined) {
    entries.push(
      ['doc_flags', statusSet(['deprecated'])],
      ['deprecated_since', deprecated.since],
      ['replaced_by', deprecated.replacedBy],
    )
  }
  if (args !== undefined) entries.push(['arguments', args.map(argumentDoc)])
  if (subcommands.length > 0) {
    entries.push(['subcommands', new MapReply(subcommands.map((one) => [one.name, docs(one)]))])
  }
  return new MapReply(entries)
}

function argumentDoc(arg: ArgumentDoc): MapReply {
  const entries: (readonly [Reply, Reply])[] = [
    ['name', arg.name],
    ['type', arg.type],
  ]
  if (arg.arguments === undefined) entries.push(['display_text', arg.name])
  if (arg.type === 'key') entries.push(['key_spec_index', arg.keySpec ?? 0])
  if (arg.token !== undefined) entries.push(['token', arg.token])
  if (arg.since !== undefined) entries.push(['since', arg.since])
  const flags = [arg.optional && 'optional', arg.multiple && 'multiple'].filter(
    (flag) => flag !== undefined,
  )
  if (flags.length > 0) entries.push(['flags', statusSet(flags)])
  if (arg.arguments !== undefined) entries.push(['arguments', arg.arguments.map(argumentDoc)])
  return new MapReply(entries)
}

/**
 * Finds what COMMAND INFO and DOCS are asked about: `get`, `client` or `client|id`, in any case.
 */
function named(table: readonly TableEntry[], bytes: Uint8Array): TableEntry | Command | undefined {
  for (const entry of table) {
    if (isWord(bytes, entry.name)) return entry
    const found = entry.subcommands?.find((subcommand) => isWord(bytes, subcommand.name))
    if (found !== undefined) return found
  }
  return undefined
}

function subcommandsOf(command: TableEntry | Command): readonly Command[] {
  return 'subcommands' in command ? (command.subcommands ?? []) : []
}

function list(table: readonly TableEntry[], args: Args): Reply {
  const every = table.flatMap((entry) => [entry, ...subcommandsOf(entry)])
  if (args.length === 2) return every.map((command) => command.name)
  if (args.length !== 5 || !isWord(argument(args, 2), 'filterby')) throw syntaxError
  return every.filter(filter(argument(args, 3), argument(args, 4))).map((command) => command.name)
}

function filter(by: Uint8Array, value: Uint8Array): (command: Described) => boolean {
  // There are no modules, so none has a command.
  if (isWord(by, 'module')) return () => false
  if (isWord(by, 'aclcat')) {
    return (command) => categoriesOf(command).some((category) => isWord(value, category))
  }
  if (!isWord(by, 'pattern')) throw syntaxError
  const pattern = patternOf(value).toLowerCase()
  return (command) => globMatches(pattern, command.name)
}

/** What COMMAND GETKEYS and GETKEYSANDFLAGS are asked about, with its keys and how it reaches them. */
function keysIn(
  table: readonly TableEntry[],
  args: Args,
): readonly (readonly [key: Uint8Array, access: readonly string[]])[] {
  const called = args.slice(2)
  const entry = table.find(({ name }) => isWord(argument(called, 0), name))
  const word = called[1] ?? new Uint8Array(0)
  const subcommands = entry === undefined ? [] : subcommandsOf(entry)
  const subcommand = subcommands.find(({ name }) => isWord(word, name.slice(name.indexOf('|') + 1)))
  const command = subcommand ?? entry
  if (command === undefined || (command === entry && entry.kind === 'container')) {
    throw new CommandError('ERR Invalid command specified')
  }
  const { arity } = command
  if (command.keys === undefined) throw new CommandError('ERR The command has no key arguments')
  if (arity >= 0 ? called.length !== arity : called.length < -arity) {
    throw new CommandError('ERR Invalid number of arguments specified for command')
  }
  return keySpecsOf(command).flatMap((spec) => {
    const access = spec.accessOf?.(called) ?? spec.access
    return keysOf({ keys: spec }, called).map((key) => [key, access] as const)
  })
}

function subcommandList(table: () => readonly TableEntry[]): readonly Command[] {
  /** What COMMAND INFO and DOCS say of the named commands, or of all. */
  const asked = (args: Args): readonly (TableEntry | Command | undefined)[] =>
    args.length === 2 ? table() : args.slice(2).map((name) => named(table(), name))
  const own = { flags: ['loading', 'stale'], categories: ['connection'] } as const
  const names: readonly ArgumentDoc[] = [
    { name: 'command-name', type: 'string', optional: true, multiple: true },
  ]
  const subcommands: readonly Command[] = [
    {
      ...own,
      name: 'command|count',
      arity: 2,
      doc: doc('Counts the commands.', '2.8.13'),
      kind: 'local',
      run: () => table().length,
    },
    {
      ...own,
      name: 'command|docs',
      arity: -2,
      differs: 'In words of its own.',
      doc: doc('Documents commands.', '7.0.0', names),
      kind: 'local',
      run: (_session, args) =>
        new MapReply(
          asked(args)
            .filter((command) => command !== undefined)
            .map((command) => [command.name, docs(command, subcommandsOf(command))]),
        ),
    },
    {
      ...own,
      name: 'command|getkeys',
      arity: -3,
      doc: doc('Returns the keys among the arguments of a command.', '2.8.13', [
        { name: 'command', type: 'string' },
        { name: 'arg', type: 'string', optional: true, multiple: true },
      ]),
      kind: 'local',
      run: (_session, args) => keysIn(table(), args).map(([key]) => key),
    },
    {
      ...own,
      name: 'command|getkeysandflags',
      arity: -4,
      doc: doc(
        'Returns the keys among the arguments of a command, and how it reaches them.',
        '7.0.0',
        [
          { name: 'command', type: 'string' },
          { name: 'arg', type: 'string', optional: true, multiple: true },
        ],
      ),
      kind: 'local',
      run: (_session, args) =>
        keysIn(table(), args).map(([key, access]) => [key, statusSet(access)]),
    },
    helpCommand('command', () => subcommands, { categories: ['connection'], since: '5.0.0' }),
    {
      ...own,
      name: 'command|info',
      arity: -2,
      doc: doc('Describes commands.', '2.8.13', names),
      kind: 'local',
      run: (_session, args) =>
        asked(args).map((command) =>
          command === undefined ? null : info(command, subcommandsOf(command)),
        ),
    },
    {
      ...own,
      name: 'command|list',
      arity: -2,
      doc: doc('Lists the names of commands.', '7.0.0', [
        {
          name: 'filterby',
          type: 'oneof',
          token: 'FILTERBY',
          optional: true,
          arguments: [
            { name: 'module-name', type: 'string', token: 'MODULE' },
            { name: 'category', type: 'string', token: 'ACLCAT' },
            { name: 'pattern', type: 'pattern', token: 'PATTERN' },
          ],
        },
      ]),
      kind: 'local',
      run: (_session, args) => list(table(), args),
    },
  ]
  return subcommands
}

function doc(summary: string, since: string, args?: readonly ArgumentDoc[]): Doc {
  const complexity = 'O(N) where N is the number of commands.'
  return { summary, since, group: 'server', complexity, ...(args && { arguments: args }) }
}

/** The entry of COMMAND; `table` is read when it runs, so that COMMAND can be part of it. */
export function commandEntry(table: () => readonly TableEntry[]): TableEntry {
  return {
    name: 'command',
    arity: -1,
    flags: ['loading', 'stale'],
    categories: ['connection'],
    doc: doc('Describes every command.', '2.8.13'),
    kind: 'local',
    run: () => table().map((command) => info(command, subcommandsOf(command))),
    subcommands: subcommandList(table),
  }
}
