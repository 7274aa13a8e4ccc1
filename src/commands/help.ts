/*
 * The HELP subcommand of any container, made from the table: the usage of each subcommand and what
 * it does. There is no help text besides the descriptions that COMMAND DOCS gives too.
 */

import { SimpleReply } from '../../resp/encoder.ts'
import type { ArgumentDoc, Command, Doc, OwnCategory } from './command.ts'

const groups: Readonly<Record<string, Doc['group']>> = {
  client: 'connection',
  cluster: 'cluster',
  object: 'generic',
}

/**
 * The command `container|help`; `subcommands` is read when HELP runs, so that HELP can be one of
 * them.
 */
export function helpCommand(
  container: string,
  subcommands: () => readonly Command[],
  options: { categories: readonly OwnCategory[]; since: string },
): Command {
  return {
    name: `${container}|help`,
    arity: 2,
    flags: ['loading', 'stale'],
    categories: options.categories,
    differs: 'In words of its own.',
    doc: {
      summary: 'Prints this help.',
      since: options.since,
      group: groups[container] ?? 'server',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: () =>
      [
        `${container.toUpperCase()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:`,
        ...subcommands().flatMap(describe),
      ].map((line) => new SimpleReply(line)),
  }
}

function describe({ name, doc }: Command): readonly string[] {
  const word = name.slice(name.indexOf('|') + 1).toUpperCase()
  return [[word, ...(doc.arguments ?? []).map(usage)].join(' '), `    ${doc.summary}`]
}

function usage(argument: ArgumentDoc): string {
  const inner = argument.arguments?.map(usage)
  let text = `<${argument.name}>`
  if (argument.type === 'oneof') text = `(${inner?.join('|')})`
  else if (argument.type === 'block') text = `${inner?.join(' ')}`
  else if (argument.type === 'pure-token') text = ''
  if (argument.token !== undefined)
    text = text === '' ? argument.token : `${argument.token} ${text}`
  if (argument.multiple) text = `${text} [${text} ...]`
  return argument.optional ? `[${text}]` : text
}
