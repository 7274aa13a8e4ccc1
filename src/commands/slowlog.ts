/*
 * SLOWLOG and LATENCY: what this node remembers of commands that took long. Shapes are Redis 7.2's; a command's time
 * here runs from its arrival to its reply, so it tells what a client waited for and not only what a handler took.
 */

import { MapReply, OK, type Reply, VerbatimReply } from '../../resp/encoder.ts'
import type { LatencySample } from '../latency-monitor.ts'
import type { Session } from '../session.ts'
import { argument, parseInt64, textOf } from './arguments.ts'
import type { Args, ArgumentDoc, Command, CommandFlag, TableEntry } from './command.ts'
import { CommandError, wrongNumber } from './command.ts'
import { helpCommand } from './help.ts'
import type { LocalServer } from './local-server.ts'
import { type Subcommand, subcommand } from './subcommand.ts'

const badCount = new CommandError('ERR count should be greater than or equal to -1')
const COUNT_DEFAULT = 10
const TIMES =
  'Times run from the arrival of a command to its reply, the log and other nodes included.'

function slowlogGet(_session: Session, args: Args, server: LocalServer): Reply {
  if (args.length > 3) throw wrongNumber(args)
  const count = args.length === 2 ? COUNT_DEFAULT : parseInt64(argument(args, 2))
  if (count === undefined || count < -1) throw badCount
  const { slowlog } = server.observer
  const wanted = count === -1 ? slowlog.length : Math.min(Number(count), slowlog.length)
  return slowlog
    .latest(wanted)
    .map(({ id, at, micros, args: words, address, name }) => [id, at, micros, words, address, name])
}

function latest(_session: Session, _args: Args, server: LocalServer): Reply {
  return [...server.observer.latency.events].map(([name, { samples, worst }]) => {
    const last = samples.at(-1)
    return [name, last?.at ?? 0, last?.ms ?? 0, worst]
  })
}

function samplesOf(args: Args, server: LocalServer): readonly LatencySample[] | undefined {
  return server.observer.latency.events.get(textOf(argument(args, 2)))?.samples
}

function history(_session: Session, args: Args, server: LocalServer): Reply {
  return (samplesOf(args, server) ?? []).map(({ at, ms }) => [at, ms])
}

/** A line of characters, the higher the slower, with what they stand for. */
function graph(_session: Session, args: Args, server: LocalServer): Reply {
  const name = textOf(argument(args, 2))
  const samples = samplesOf(args, server)
  if (samples === undefined) throw new CommandError(`ERR No samples available for event '${name}'`)
  const times = samples.map(({ ms }) => ms)
  const [low, high] = [Math.min(...times), Math.max(...times)]
  const step = Math.max(1, high - low)
  const line = times.map((ms) => HEIGHTS[Math.round(((ms - low) / step) * (HEIGHTS.length - 1))])
  return new VerbatimReply(`${name} - high ${high} ms, low ${low} ms\n${line.join('')}\n`)
}
const HEIGHTS = '_.,-=+*#'

function doctor(_session: Session, _args: Args, server: LocalServer): Reply {
  const { events } = server.observer.latency
  if (events.size === 0) {
    return new VerbatimReply(
      'No latency spike was seen. Events are kept from latency-monitor-threshold on, in ms; at 0 none is.\n',
    )
  }
  const lines = [...events].map(([name, { samples, worst }]) => {
    const sum = samples.reduce((total, { ms }) => total + ms, 0)
    const mean = Math.round(sum / Math.max(1, samples.length))
    return `${name}: ${samples.length} spikes, ${mean} ms on average, ${worst} ms at worst.\n`
  })
  return new VerbatimReply(lines.join(''))
}

function histogram(_session: Session, args: Args, server: LocalServer): Reply {
  const names = args.slice(2).map((name) => textOf(name).toLowerCase())
  const wanted = (name: string): boolean =>
    names.length === 0 || names.includes(name) || names.includes(name.split('|')[0] ?? '')
  return new MapReply(
    [...server.observer.commands]
      .filter(([{ name }, { latency }]) => latency.count > 0 && wanted(name))
      .map(([{ name }, { calls, latency }]) => [
        name,
        new MapReply([
          ['calls', calls],
          ['histogram_usec', new MapReply([...latency.doublings()])],
        ]),
      ]),
  )
}

function entry(name: string, options: Subcommand): Command {
  const flags: readonly CommandFlag[] = ['admin', 'loading', 'stale']
  return subcommand(
    name,
    {
      flags: name.startsWith('latency') ? [...flags, 'noscript'] : flags,
      categories: [],
      group: 'server',
    },
    options,
  )
}

const slowlogSubcommands: readonly Command[] = [
  entry('slowlog|get', {
    arity: -2,
    since: '2.2.12',
    summary: 'Returns the latest slow commands of this node.',
    complexity: 'O(N) where N is the number of entries returned.',
    arguments: [{ name: 'count', type: 'integer', optional: true }],
    differs: `${TIMES} A transaction is one entry, EXEC.`,
    run: slowlogGet,
  }),
  helpCommand('slowlog', () => slowlogSubcommands, { categories: [], since: '6.2.0' }),
  entry('slowlog|len', {
    arity: 2,
    since: '2.2.12',
    summary: 'Counts the slow commands that are kept.',
    run: (_session, _args, server) => server.observer.slowlog.length,
  }),
  entry('slowlog|reset', {
    arity: 2,
    since: '2.2.12',
    summary: 'Forgets the slow commands.',
    complexity: 'O(N) where N is the number of entries.',
    run: (_session, _args, server) => {
      server.observer.slowlog.clear()
      return OK
    },
  }),
]

const event: ArgumentDoc = { name: 'event', type: 'string' }

const latencySubcommands: readonly Command[] = [
  entry('latency|doctor', {
    arity: 2,
    since: '2.8.13',
    summary: 'Describes the latency spikes in words.',
    differs: 'In words of its own.',
    run: doctor,
  }),
  entry('latency|graph', {
    arity: 3,
    since: '2.8.13',
    summary: 'Draws the spikes of an event.',
    arguments: [event],
    differs: 'In a drawing of its own.',
    run: graph,
  }),
  helpCommand('latency', () => latencySubcommands, { categories: [], since: '2.8.13' }),
  entry('latency|histogram', {
    arity: -2,
    since: '7.0.0',
    summary: 'Tells how many calls of each command took how long.',
    complexity: 'O(N) where N is the number of commands that were called.',
    arguments: [{ name: 'command', type: 'string', optional: true, multiple: true }],
    differs: `${TIMES} The buckets are powers of two.`,
    run: histogram,
  }),
  entry('latency|history', {
    arity: 3,
    since: '2.8.13',
    summary: 'Returns when an event was slow, and how slow.',
    arguments: [event],
    run: history,
  }),
  entry('latency|latest', {
    arity: 2,
    since: '2.8.13',
    summary: 'Returns the latest spike of each event.',
    differs: 'The events are command and fast-command.',
    run: latest,
  }),
  entry('latency|reset', {
    arity: -2,
    since: '2.8.13',
    summary: 'Forgets the spikes of some events, or of all.',
    arguments: [{ ...event, optional: true, multiple: true }],
    run: (_session, args, server) => server.observer.latency.reset(args.slice(2).map(textOf)),
  }),
]

function container(name: string, since: string, subcommands: readonly Command[]): TableEntry {
  return {
    name,
    arity: -2,
    flags: [],
    categories: [],
    doc: {
      summary: `A container of commands about ${name === 'slowlog' ? 'slow commands' : 'latency'}.`,
      since,
      group: 'server',
      complexity: 'Depends on the subcommand.',
    },
    kind: 'container',
    subcommands,
  }
}

export const slowlogEntries: readonly TableEntry[] = [
  container('slowlog', '2.2.12', slowlogSubcommands),
  container('latency', '2.8.13', latencySubcommands),
]
