/*
 * WAIT and WAITAOF. What was acknowledged here is on the disks of a majority already; these tell of how many more.
 * The leader is what Redis calls the local one, the other members are its replicas.
 */

import type { Reply } from '../../resp/encoder.ts'
import type { Copies } from '../replication-waits.ts'
import type { Session } from '../session.ts'
import { argument, clampToSafe, INT64_MAX, parseInt64 } from './arguments.ts'
import type { Args, Command } from './command.ts'
import { CommandError, notAnInteger } from './command.ts'
import type { LocalServer } from './local-server.ts'

const badTimeout = new CommandError('ERR timeout is not an integer or out of range')
const negativeTimeout = new CommandError('ERR timeout is negative')
const hugeTimeout = new CommandError('ERR timeout is out of range')
const notPositive = new CommandError('ERR value is out of range, must be positive')
const notZeroOrOne = new CommandError('ERR value is out of range, value must between 0 and 1')
/** No clock of Redis, in ms, comes near to this: a timeout that would end beyond int64 is refused. */
const TIMEOUT_MAX = INT64_MAX - 2n ** 45n

async function wait(session: Session, args: Args, server: LocalServer): Promise<Reply> {
  const replicas = integer(argument(args, 1))
  const timeoutMs = timeout(argument(args, 2))
  const wanted = session.mayWait ? replicas : 0
  return (await copies(session, { local: 0, replicas: wanted }, timeoutMs, server)).replicas
}

async function waitaof(session: Session, args: Args, server: LocalServer): Promise<Reply> {
  const local = integer(argument(args, 1))
  if (local < 0 || local > 1) throw notZeroOrOne
  const wanted = integer(argument(args, 2))
  if (wanted < 0) throw notPositive
  const timeoutMs = timeout(argument(args, 3))
  const replicas = session.mayWait ? wanted : 0
  const there = await copies(session, { local, replicas }, timeoutMs, server)
  return [there.local, there.replicas]
}

/** Meanwhile CLIENT UNBLOCK finds it at the session. */
async function copies(
  session: Session,
  wanted: Copies,
  timeoutMs: number,
  server: LocalServer,
): Promise<Copies> {
  const wait: { end?: 'timeout' | 'error' } = {}
  session.waits.add(wait)
  const isOver = (): boolean => wait.end !== undefined
  const there = await server.replicated(session, { wanted, timeoutMs, isOver })
  session.waits.delete(wait)
  if (wait.end === 'error') throw unblocked
  return there
}

const unblocked = new CommandError('UNBLOCKED client unblocked via CLIENT UNBLOCK')

function integer(bytes: Uint8Array): number {
  const value = parseInt64(bytes)
  if (value === undefined) throw notAnInteger
  return clampToSafe(value)
}

/** In ms; 0: for ever. */
function timeout(bytes: Uint8Array): number {
  const value = parseInt64(bytes)
  if (value === undefined) throw badTimeout
  if (value < 0) throw negativeTimeout
  if (value > TIMEOUT_MAX) throw hugeTimeout
  return clampToSafe(value)
}

export const waitCommands: readonly Command[] = [
  {
    name: 'wait',
    arity: 3,
    flags: ['blocking'],
    categories: ['blocking', 'connection'],
    differs:
      'Counts members beside the leader once the write is on their disks. A connection may wait more than once at a time.',
    doc: {
      summary:
        'Waits until so many members beside the leader have the writes of the connection on disk.',
      since: '3.0.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [
        { name: 'numreplicas', type: 'integer' },
        { name: 'timeout', type: 'integer' },
      ],
    },
    kind: 'local',
    run: wait,
  },
  {
    name: 'waitaof',
    arity: 4,
    flags: ['blocking'],
    categories: ['blocking', 'connection'],
    differs: 'The local copy is that on the disk of the leader.',
    doc: {
      summary:
        'Waits until the leader and so many other members have the writes of the connection on disk.',
      since: '7.2.0',
      group: 'generic',
      complexity: 'O(1)',
      arguments: [
        { name: 'numlocal', type: 'integer' },
        { name: 'numreplicas', type: 'integer' },
        { name: 'timeout', type: 'integer' },
      ],
    },
    kind: 'local',
    run: waitaof,
  },
]
