/*
 * A subcommand that a node answers by itself, such as CLIENT KILL: the entry of the table, from what differs between
 * the subcommands of one container.
 */

import type { Session } from '../session.ts'
import type { Args, ArgumentDoc, Command, LocalReply, Spec } from './command.ts'
import type { LocalServer } from './local-server.ts'

export interface Subcommand {
  readonly arity: number
  readonly since: string
  readonly summary: string
  /** Left out: O(1). */
  readonly complexity?: string
  readonly arguments?: readonly ArgumentDoc[]
  readonly differs?: string
  run(session: Session, args: Args, server: LocalServer): LocalReply
}

/** `name` as in the table, such as `client|kill`; `family`: what all subcommands of its container share. */
export function subcommand(
  name: string,
  family: Pick<Spec, 'flags' | 'categories'> & Pick<Spec['doc'], 'group'>,
  options: Subcommand,
): Command {
  const { arity, since, summary, complexity = 'O(1)', arguments: args, differs, run } = options
  const { flags, categories, group } = family
  const shown = args === undefined ? {} : { arguments: args }
  return {
    name,
    arity,
    flags,
    categories,
    ...(differs === undefined ? {} : { differs }),
    doc: { summary, since, group, complexity, ...shown },
    kind: 'local',
    run,
  }
}
