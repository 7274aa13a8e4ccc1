/*
 * Where a reply may differ from Redis': what chance or the clock decides is brought into one form first, and the few
 * real exceptions are listed with their reason. Neither touches a value that was written and is read back.
 */

import { decodeDump, isIntactDump } from '../../src/commands/dump-payload.ts'
import type { Step } from './differential.ts'
import type { Command } from './grammar.ts'
import { replyEnd } from './raw-connection.ts'

export interface Context {
  /** Up to and with the command that was answered. */
  readonly steps: readonly Step[]
  readonly command: Command
}

interface Exception {
  readonly reason: string
  excuses(command: Command, redis: Buffer, holdfast: Buffer): boolean
}

/** The two servers are asked some milliseconds apart, on a busy machine a second. */
const CLOCK_SLACK_MS = 2000

/** At most 20; none for a value read back. */
export const exceptions: readonly Exception[] = [
  {
    reason: 'times to live are counted from when each server took the command',
    excuses(command, redis, holdfast) {
      const unit = { TTL: 1000, EXPIRETIME: 1000, PTTL: 1, PEXPIRETIME: 1 }[name(command)]
      const [theirs, ours] = [integerOf(redis), integerOf(holdfast)]
      if (unit === undefined || theirs === undefined || ours === undefined) return false
      return theirs > 0 && ours > 0 && Math.abs(theirs - ours) * unit <= CLOCK_SLACK_MS
    },
  },
  {
    reason: 'which key RANDOMKEY names is chance; that there is one is not',
    excuses: (command, redis, holdfast) =>
      name(command) === 'RANDOMKEY' && isBulk(redis) && isBulk(holdfast),
  },
  {
    reason: 'LZF may be packed in many ways; both payloads must hold the same value',
    excuses(command, redis, holdfast) {
      if (name(command) !== 'DUMP' || !isBulk(redis) || !isBulk(holdfast)) return false
      const [theirs, ours] = [bulkOf(redis), bulkOf(holdfast)]
      if (!isIntactDump(theirs) || !isIntactDump(ours)) return false
      const value = decodeDump(theirs, theirs.length * 300)
      return value !== undefined && Buffer.from(value).equals(decodeDump(ours, 1 << 20) ?? theirs)
    },
  },
  {
    reason:
      'BITCOUNT and BITPOS of a missing key check their arguments first since Redis 7.2; the oracle is 7.0',
    excuses: (command, redis, holdfast) =>
      ['BITCOUNT', 'BITPOS'].includes(name(command)) &&
      /^:(0|-1)\r/.test(text(redis)) &&
      isError(holdfast),
  },
  {
    reason: 'help texts are in our own words',
    excuses: (command, redis, holdfast) =>
      text(command[1]).toUpperCase() === 'HELP' && redis[0] === holdfast[0],
  },
  {
    reason: 'COMMAND alone lists and COMMAND COUNT counts the commands there are',
    excuses: (command) =>
      name(command) === 'COMMAND' &&
      (command.length === 1 || text(command[1]).toUpperCase() === 'COUNT'),
  },
]

/** Whether the two replies may differ in this way. */
export function excused(context: Context, redis: Buffer, holdfast: Buffer): boolean {
  if (name(context.command) !== 'EXEC') return excusedAlone(context.command, redis, holdfast)
  const [theirs, ours] = [elementsOf(redis), elementsOf(holdfast)]
  const queued = queuedCommands(context.steps)
  if (theirs === undefined || ours === undefined || theirs.length !== ours.length) return false
  return theirs.every((reply, at) => {
    const own = ours[at] as Buffer
    const command = queued[at]
    if (reply.equals(own)) return true
    return (
      command !== undefined && (excusedAlone(command, reply, own) || sameSet(command, reply, own))
    )
  })
}

function excusedAlone(command: Command, redis: Buffer, holdfast: Buffer): boolean {
  return exceptions.some((exception) => exception.excuses(command, redis, holdfast))
}

/** The reply with what has no order brought into one. */
export function normalised({ command }: Context, reply: Buffer): Buffer {
  return isUnordered(command) ? Buffer.concat(sortedElements(reply)) : reply
}

function sameSet(command: Command, redis: Buffer, holdfast: Buffer): boolean {
  return (
    isUnordered(command) &&
    Buffer.concat(sortedElements(redis)).equals(Buffer.concat(sortedElements(holdfast)))
  )
}

function isUnordered(command: Command): boolean {
  return name(command) === 'KEYS' || name(command) === 'SCAN'
}

/** KEYS is an array of keys, SCAN a cursor and such an array. */
function sortedElements(reply: Buffer): Buffer[] {
  const elements = elementsOf(reply)
  if (elements === undefined) return [reply]
  return elements.flatMap((element) => sortedElements(element)).sort(Buffer.compare)
}

/** The elements of an array reply; undefined for any other. */
function elementsOf(reply: Buffer): Buffer[] | undefined {
  if (reply[0] !== 0x2a || reply[1] === 0x2d) return undefined
  const elements: Buffer[] = []
  let from = reply.indexOf('\r\n') + 2
  while (from < reply.length) {
    const end = replyEnd(reply, from) ?? reply.length
    elements.push(reply.subarray(from, end))
    from = end
  }
  return elements
}

/** What the EXEC at the end of the steps ran, as far as it was queued without an error. */
function queuedCommands(steps: readonly Step[]): readonly Command[] {
  const client = steps.at(-1)?.client
  const own = steps.filter((step) => step.client === client).map(({ command }) => command)
  // The MULTI of this EXEC is the first one after whatever ended the transaction before it.
  const ends = own
    .slice(0, -1)
    .findLastIndex((command) => ['EXEC', 'DISCARD'].includes(name(command)))
  const begin = own.findIndex((command, at) => at > ends && name(command) === 'MULTI')
  const unqueued = ['MULTI', 'WATCH']
  return own.slice(begin + 1, -1).filter((command) => !unqueued.includes(name(command)))
}

function name(command: Command): string {
  return text(command[0]).toUpperCase()
}

function text(argument: string | number | Buffer | undefined): string {
  return Buffer.isBuffer(argument) ? argument.toString('latin1') : String(argument ?? '')
}

function integerOf(reply: Buffer): number | undefined {
  const match = /^:(-?\d+)\r\n$/.exec(text(reply))
  return match === null ? undefined : Number(match[1])
}

function isBulk(reply: Buffer): boolean {
  return reply[0] === 0x24 && reply[1] !== 0x2d
}

function bulkOf(reply: Buffer): Buffer {
  return reply.subarray(reply.indexOf('\r\n') + 2, -2)
}

function isError(reply: Buffer): boolean {
  return reply[0] === 0x2d
}
