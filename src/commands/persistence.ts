/*
 * BGSAVE, SAVE and LASTSAVE: a checkpoint on demand. What was acknowledged is durable in the log before anybody hears
 * of it, so these say nothing of safety: they bring the state's own files up to date, so that a restart replays
 * nothing and a copy of them is recent.
 */

import { OK, type Reply, SimpleReply } from '../../resp/encoder.ts'
import type { Session } from '../session.ts'
import { argument, isWord } from './arguments.ts'
import { type Args, type Command, CommandError, syntaxError } from './command.ts'
import type { LocalServer } from './local-server.ts'

const inProgress = new CommandError('ERR Background save already in progress')
const started = new SimpleReply('Background saving started')
const scheduled = new SimpleReply('Background saving scheduled')

/** Checkpoints begin by themselves too, so one that runs may lack the latest writes: SCHEDULE asks for the next. */
function bgsave(_session: Session, args: Args, server: LocalServer): Reply {
  if (args.length > 2 || (args.length === 2 && !isWord(argument(args, 1), 'schedule'))) {
    throw syntaxError
  }
  const running = server.storage().checkpointing
  if (running && args.length === 1) throw inProgress
  // A checkpoint that fails ends the process: there is nothing to be told later.
  void server.save()
  return running ? scheduled : started
}

/** Other connections go on meanwhile, so one that runs already is waited for instead of being an error. */
async function save(_session: Session, _args: Args, server: LocalServer): Promise<Reply> {
  await server.save()
  return OK
}

function lastsave(_session: Session, _args: Args, server: LocalServer): Reply {
  return Math.floor(server.storage().savedAt / 1000)
}

export const persistenceCommands: readonly Command[] = [
  {
    name: 'bgsave',
    arity: -1,
    flags: ['admin', 'noscript', 'no_async_loading'],
    categories: [],
    differs: 'A checkpoint of the state; what was acknowledged is on disk in any case.',
    doc: {
      summary: 'Begins a checkpoint: what is applied becomes durable in the state.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1); the checkpoint costs what was written since the last one.',
      arguments: [{ name: 'schedule', type: 'pure-token', token: 'SCHEDULE', optional: true }],
    },
    kind: 'local',
    run: bgsave,
  },
  {
    name: 'lastsave',
    arity: 1,
    flags: ['loading', 'stale', 'fast'],
    categories: ['admin', 'dangerous'],
    differs: 'Of the last checkpoint.',
    doc: {
      summary: 'Tells when the last checkpoint was durable, in seconds of the Unix clock.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(1)',
    },
    kind: 'local',
    run: lastsave,
  },
  {
    name: 'save',
    arity: 1,
    flags: ['admin', 'noscript', 'no_async_loading', 'no_multi'],
    categories: [],
    differs: 'A checkpoint of the state, while other commands run.',
    doc: {
      summary: 'Makes what is applied durable in the state, and answers when it is.',
      since: '1.0.0',
      group: 'server',
      complexity: 'O(N) where N is what was written since the last checkpoint.',
    },
    kind: 'local',
    run: save,
  },
]
