/*
 * The text of docs/compatibility.md, made from the command tables and from what Redis 7.2 has. What differs stands at
 * the command itself, in the table; here stand only the names of Redis' commands and what concerns them all.
 */

import { readFileSync } from 'node:fs'
import type { Command, TableEntry } from '../../src/commands/command.ts'
import { sentinelEntries } from '../../src/commands/sentinel.ts'
import { commandTable } from '../../src/commands/table.ts'
import { limits } from '../../src/config.ts'

/** What redis-server 7.0.15 says it has, and what came with 7.2. */
export const redisCommands: readonly string[] = [
  ...Object.keys(
    JSON.parse(
      readFileSync(new URL('../../../test/src/redis-commands.json', import.meta.url), 'utf8'),
    ),
  ),
  ...['client|no-touch', 'client|setinfo', 'cluster|myshardid', 'waitaof'],
]

/** Of redis-sentinel, beside what its connections have in common with those of a redis-server. */
const SENTINEL = [
  ...['ckquorum', 'config', 'debug', 'failover', 'flushconfig', 'get-master-addr-by-name', 'help'],
  ...['info-cache', 'is-master-down-by-addr', 'master', 'masters', 'monitor', 'myid'],
  ...['pending-scripts', 'remove', 'replicas', 'reset', 'sentinels', 'set', 'simulate-failure'],
  'slaves',
].map((word) => `sentinel|${word}`)
const SENTINEL_PORT = [
  ...[
    'auth',
    'client',
    'command',
    'hello',
    'info',
    'ping',
    'psubscribe',
    'publish',
    'punsubscribe',
  ],
  ...['quit', 'role', 'shutdown', 'subscribe', 'unsubscribe'],
  ...SENTINEL,
]

/** What is not there yet, and where it belongs. The first that fits counts. */
const FAMILIES: readonly (readonly [family: string, names: RegExp])[] = [
  ['Users', /^acl/],
  ['Scripts and functions', /^(eval|fcall|function|script)/],
  ['Publish and subscribe (on the Sentinel port it is there)', /subscribe$|publish$|^pubsub/],
  ['Streams', /^x/],
  ['HyperLogLogs', /^pf/],
  ['Geography', /^geo/],
  ['Sorted sets', /^(z|bz)/],
  ['Hashes', /^h/],
  [
    'Sets',
    /^(s(add|card|diff|inter|ismember|members|mismember|move|pop|randmember|rem|scan|union))/,
  ],
  [
    'Lists',
    /^(b?[lr](index|insert|len|m?move|mpop|pop|pos|push|range|rem|set|trim)|brpoplpush|sort)/,
  ],
  [
    'Replication, slots and members: Raft does that (`RAFT`), and every node has every slot',
    /^(cluster|replicaof|slaveof|replconf|psync|sync|failover|migrate|restore-asking)/,
  ],
  ['Others', /./],
]

const GENERAL = `
- A value is a string; other types are not there yet.
- A write of more than ${count(limits.writeKeysMax)} keys, or operations of BITFIELD, is refused.
- A write that would read and make more than 32 MiB of values in one go (SETBIT, APPEND, BITOP, RESTORE and their
  like; those of a transaction together) is refused: \`write-work-max\`.
- A command of the connection (COMMAND DOCS, CLIENT LIST, CONFIG GET ...) of more than ${count(limits.localArgumentsMax)} arguments is refused.
- A time to expire beyond 2^53 ms (the year 287396) is kept as that.
- A key that is due and was not removed yet counts in DBSIZE, as in Redis, but is removed at another moment.
- Errors say what became of a command: \`CLUSTERDOWN\` and \`MOVED\`: it was not executed and never will be;
  \`TIMEOUT outcome unknown\`: it may have been.
- Times (SLOWLOG, LATENCY, INFO commandstats) run from the arrival of a command to its reply, the log and other nodes
  included. They, MONITOR, CLIENT, CONFIG, INFO and MEMORY concern the node that is asked.
- COMMAND DOCS and HELP are in words of their own. COMMAND INFO has no tips.
`.trim()

export function compatibilityText(): string {
  const known = named(commandTable)
  const redis = redisCommands.filter((name) => !isContainer(name, redisCommands))
  const there = redis.filter((name) => known.has(name))
  const differing = there.filter((name) => known.get(name)?.differs !== undefined)
  const alike = there.filter((name) => !differing.includes(name))
  const missing = redis.filter((name) => !known.has(name))
  const own = [...known.keys()].filter((name) => !redis.includes(name))
  return `# Compatibility with Redis 7.2

Made from the command table by \`npm run compatibility\`; a test fails when it is stale. Of the ${redis.length} commands and subcommands of Redis 7.2, ${alike.length} are supported, ${differing.length} are there and differ in something, and ${missing.length} are not there yet. Replies, arities, flags, key positions and categories are compared with a real redis-server (\`npm run test:redis\`, \`test/src/commands-table.test.ts\`).

## For all commands

${GENERAL}

## Supported

${byGroup(alike, known)}

## Differs

${differences(differing, known)}

## Not yet

${byFamily(missing)}

## Beyond Redis

${differences(own, known)}

## On the Sentinel port

${sentinelText()}
`
}

function sentinelText(): string {
  const known = new Set(
    sentinelEntries.flatMap(({ name, subcommands = [] }) => [
      name,
      ...subcommands.map((subcommand) => subcommand.name),
    ]),
  )
  const there = SENTINEL_PORT.filter((name) => known.has(name))
  const missing = SENTINEL_PORT.filter((name) => !known.has(name))
  return `\`sentinel-port\` speaks for a Sentinel that watches this cluster. Supported: ${there.map(shown).join(' · ')}. Not there, because Raft does it or nothing needs it: ${missing.map(shown).join(' · ')}.`
}

/** Every command and subcommand by its name; a container that cannot be called alone is none. */
function named(entries: readonly TableEntry[]): ReadonlyMap<string, Command> {
  const commands = entries.flatMap((entry) => [
    ...(entry.kind === 'container' ? [] : [entry]),
    ...(entry.subcommands ?? []),
  ])
  return new Map(commands.map((command) => [command.name, command]))
}

function isContainer(name: string, all: readonly string[]): boolean {
  return name !== 'command' && all.some((other) => other.startsWith(`${name}|`))
}

function byGroup(names: readonly string[], known: ReadonlyMap<string, Command>): string {
  const groups = new Map<string, string[]>()
  for (const name of names.toSorted()) {
    const group = known.get(name)?.doc.group ?? ''
    groups.set(group, [...(groups.get(group) ?? []), shown(name)])
  }
  return [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([group, all]) => `- **${group}**: ${all.join(' · ')}`)
    .join('\n')
}

function byFamily(names: readonly string[]): string {
  const families = new Map<string, string[]>(FAMILIES.map(([family]) => [family, []]))
  for (const name of names.toSorted()) {
    const [family = ''] = FAMILIES.find(([, names]) => names.test(name)) ?? []
    families.get(family)?.push(shown(name))
  }
  return [...families]
    .filter(([, all]) => all.length > 0)
    .map(([family, all]) => `- **${family}**: ${all.join(' · ')}`)
    .join('\n')
}

function differences(names: readonly string[], known: ReadonlyMap<string, Command>): string {
  const rows = names.toSorted().map((name) => {
    const command = known.get(name)
    return `| ${shown(name)} | ${command?.differs ?? command?.doc.summary} |`
  })
  return ['| command | how |', '|---|---|', ...rows].join('\n')
}

function shown(name: string): string {
  return name.replace('|', ' ').toUpperCase()
}

function count(amount: number): string {
  return amount.toLocaleString('en-US')
}
