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
  /** `steps` are those up to the command. */
  excuses(command: Command, redis: Buffer, holdfast: Buffer, steps: readonly Step[]): boolean
}

/** The two servers are asked some milliseconds apart, on a busy machine a second. */
const CLOCK_SLACK_MS = 2000

/** The latest time to expire that is kept, and a time that no clock has reached. */
const EXPIRE_MS_MAX = Number.MAX_SAFE_INTEGER
const NOW_MS_MAX = 4_000_000_000_000

/** With so many and more a page has all keys that a history makes. */
const SCAN_COUNT_SMALL = 100

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
    reason:
      'a time to expire beyond 2^53 ms (the year 287396) is kept as that: what is told of it, and GT and LT of two such',
    excuses(command, redis, holdfast) {
      const [theirs, ours] = [integerOf(redis), integerOf(holdfast)]
      if (theirs === undefined || ours === undefined) return false
      const told = { TTL: 1000, EXPIRETIME: 1000, PTTL: 1, PEXPIRETIME: 1 }[name(command)]
      if (told !== undefined) {
        return (
          theirs * told > EXPIRE_MS_MAX - NOW_MS_MAX && ours * told > EXPIRE_MS_MAX - NOW_MS_MAX
        )
      }
      const given = { EXPIRE: 1000, EXPIREAT: 1000, PEXPIRE: 1, PEXPIREAT: 1 }[name(command)]
      return given !== undefined && Number(text(command[2])) * given > EXPIRE_MS_MAX - NOW_MS_MAX
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
    reason:
      'how Redis holds a value depends on the commands that made it (APPEND leaves a raw string); here it is told from the bytes, and when a key was used last is kept nowhere',
    excuses: (command) =>
      name(command) === 'OBJECT' &&
      ['ENCODING', 'REFCOUNT', 'IDLETIME'].includes(text(command[1]).toUpperCase()),
  },
  {
    reason:
      'a key that SET has given a time long past counts in DBSIZE, and has a MEMORY USAGE in Redis, until it is removed: in Redis when it is touched or a while later, here with the next entry',
    excuses: (command, redis, holdfast, steps) =>
      isInteger(redis) &&
      (isInteger(holdfast) ? name(command) === 'DBSIZE' : isUsage(command)) &&
      steps.some((step) =>
        step.command.some((word) => ['EXAT', 'PXAT'].includes(text(word).toUpperCase())),
      ),
  },
  {
    reason: 'where a cursor that no SCAN gave goes on is for each server to say',
    excuses: (command, redis, holdfast) =>
      name(command) === 'SCAN' && Number(text(command[1])) !== 0 && redis[0] === holdfast[0],
  },
  {
    reason:
      'where a page of SCAN ends that COUNT keeps small depends on where the keys lie: in Redis on a hash that is another one in every process',
    excuses(command, redis, holdfast) {
      if (name(command) !== 'SCAN') return false
      const words = command.map((word) => text(word).toUpperCase())
      const isSmall = words.some(
        (word, at) => word === 'COUNT' && Number(words[at + 1]) < SCAN_COUNT_SMALL,
      )
      const [theirs, ours] = [elementsOf(redis), elementsOf(holdfast)]
      return isSmall && [theirs, ours].every(isPage) && ![theirs, ours].every(isLastPage)
    },
  },
  {
    reason: 'inside a transaction a read has a bound, because nothing else runs meanwhile',
    excuses: (_command, redis, holdfast) =>
      !isError(redis) &&
      text(holdfast).startsWith('-ERR the command reads too much for a transaction'),
  },
  {
    reason: 'what a key takes depends on how a server keeps it; that it takes something does not',
    excuses(command, redis, holdfast) {
      if (!isUsage(command)) return false
      return (integerOf(redis) ?? 0) > 0 && (integerOf(holdfast) ?? 0) > 0
    },
  },
  {
    reason: 'help texts are in our own words',
    excuses: (command, redis, holdfast) =>
      text(command[1]).toUpperCase() === 'HELP' && redis[0] === holdfast[0],
  },
  {
    reason: 'COMMAND GETKEYS takes the name of a command alone since Redis 7.2; the oracle is 7.0',
    excuses: (command, redis) =>
      name(command) === 'COMMAND' &&
      command.length === 3 &&
      text(redis).includes("wrong number of arguments for 'command|getkeys' command"),
  },
  {
    reason: 'COMMAND and COMMAND INFO alone list, COMMAND COUNT counts the commands there are',
    excuses: (command) =>
      name(command) === 'COMMAND' &&
      (command.length === 1 ||
        text(command[1]).toUpperCase() === 'COUNT' ||
        (command.length === 2 && text(command[1]).toUpperCase() === 'INFO')),
  },
]

/** Whether the two replies may differ in this way. */
export function excused(context: Context, redis: Buffer, holdfast: Buffer): boolean {
  const { steps } = context
  if (name(context.command) !== 'EXEC') {
    return excusedAlone(context.command, redis, holdfast, steps)
  }
  const [theirs, ours] = [elementsOf(redis), elementsOf(holdfast)]
  const { queued } = transactionOf(steps)
  if (theirs === undefined || ours === undefined || theirs.length !== ours.length) return false
  return theirs.every((reply, at) => {
    const own = ours[at] as Buffer
    const command = queued[at]
    if (reply.equals(own)) return true
    return (
      command !== undefined &&
      (excusedAlone(command, reply, own, steps) || sameSet(command, reply, own))
    )
  })
}

function excusedAlone(
  command: Command,
  redis: Buffer,
  holdfast: Buffer,
  steps: readonly Step[],
): boolean {
  return exceptions.some((exception) => exception.excuses(command, redis, holdfast, steps))
}

/**
 * The exceptions after which the data differ, so that nothing behind them can be compared: what here counts as a
 * change of keys that were watched. Databases were exchanged, which in Redis is one only of keys that are there; or a
 * BITFIELD failed everywhere and made its key longer all the same, of which Redis tells neither WATCH nor its replicas.
 */
export function hasParted({ command, steps }: Context, redis: Buffer, holdfast: Buffer): boolean {
  const isNil = ['*-1\r\n', '_\r\n'].includes(text(holdfast))
  if (name(command) !== 'EXEC' || !isNil || elementsOf(redis) === undefined) return false
  const [first] = transactionOf(steps).watches
  if (first === undefined) return false
  return steps.slice(first).some((step) => {
    const word = name(step.command)
    return word === 'SWAPDB' || (word === 'BITFIELD' && mayFail(step.command))
  })
}

function mayFail(bitfield: Command): boolean {
  return bitfield.some((word) => text(word).toUpperCase() === 'FAIL')
}

/** For the EXEC at the end of the steps: the places of its WATCHes, and what was queued without an error. */
function transactionOf(steps: readonly Step[]): {
  readonly watches: readonly number[]
  readonly queued: readonly Command[]
} {
  const client = steps.at(-1)?.client
  let watches: number[] = []
  let queued: Command[] = []
  let inMulti = false
  for (const [place, { command, client: by }] of steps.slice(0, -1).entries()) {
    if (by !== client) continue
    const word = name(command)
    const alone = command.length === 1
    // With an argument too many EXEC is refused and ends it all the same; the others are refused and end nothing.
    const ends = alone && (word === 'RESET' || word === (inMulti ? 'DISCARD' : 'UNWATCH'))
    if (ends || (inMulti && word === 'EXEC')) {
      watches = []
      queued = []
      inMulti = false
    } else if (word === 'MULTI' && alone) inMulti = true
    else if (word === 'WATCH' && !inMulti) watches.push(place)
    else if (inMulti && word !== 'WATCH') queued.push(command)
  }
  return { watches, queued }
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

/** A cursor and keys. */
function isPage(elements: readonly Buffer[] | undefined): boolean {
  return elements?.length === 2
}

function isLastPage(elements: readonly Buffer[] | undefined): boolean {
  return elements?.[0]?.toString() === '$1\r\n0\r\n'
}

function isInteger(reply: Buffer): boolean {
  return integerOf(reply) !== undefined
}

function isUsage(command: Command): boolean {
  return name(command) === 'MEMORY' && text(command[1]).toUpperCase() === 'USAGE'
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
