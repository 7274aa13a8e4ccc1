/*
 * Times to expire as arguments give them: seconds or milliseconds, from now or since 1970, turned into ms of the
 * logical clock. Everything is checked as the 64-bit arithmetic of Redis would come out, so the same arguments are
 * refused with the same texts.
 */

import { INT64_MAX, INT64_MIN, type Int64, isWord, parseInt64 } from './arguments.ts'
import { type ArgumentDoc, CommandError, notAnInteger } from './command.ts'

const MS_PER_SECOND = 1000
/** Products of smaller numbers, and sums with any clock, are safe integers. */
const EASY_MAX = 2 ** 42

/** What an argument counts. */
export interface TimeUnit {
  readonly seconds: boolean
  /** Since 1970, not from now. */
  readonly absolute: boolean
}

export const SECONDS: TimeUnit = { seconds: true, absolute: false }
export const MILLISECONDS: TimeUnit = { seconds: false, absolute: false }
export const UNIX_SECONDS: TimeUnit = { seconds: true, absolute: true }
export const UNIX_MILLISECONDS: TimeUnit = { seconds: false, absolute: true }

/** The unit that EX, PX, EXAT or PXAT name; undefined: none of them. */
export function unitOf(option: Uint8Array): TimeUnit | undefined {
  if (isWord(option, 'ex')) return SECONDS
  if (isWord(option, 'px')) return MILLISECONDS
  if (isWord(option, 'exat')) return UNIX_SECONDS
  return isWord(option, 'pxat') ? UNIX_MILLISECONDS : undefined
}

/** The options that unitOf() knows, as COMMAND DOCS has them; `since`: those of a command that is older. */
export function unitDocs(since?: { relative: string; absolute: string }): readonly ArgumentDoc[] {
  const relative = since === undefined ? {} : { since: since.relative }
  const absolute = since === undefined ? {} : { since: since.absolute }
  return [
    { name: 'seconds', type: 'integer', token: 'EX', ...relative },
    { name: 'milliseconds', type: 'integer', token: 'PX', ...relative },
    { name: 'unix-time-seconds', type: 'unix-time', token: 'EXAT', ...absolute },
    { name: 'unix-time-milliseconds', type: 'unix-time', token: 'PXAT', ...absolute },
  ]
}

/**
 * When a key expires that is given `bytes` of `unit`, in ms of the clock that says `now`. Throws CommandError when it
 * is no number, does not fit 64 bits, or is not above zero where it must not be over (`mayBeOver`: then the key is due
 * at once). `command` is the name in the error's text.
 */
export function expireAtOf(
  bytes: Uint8Array,
  unit: TimeUnit,
  { now, command, mayBeOver = false }: { now: number; command: string; mayBeOver?: boolean },
): number {
  const value = parseInt64(bytes)
  if (value === undefined) throw notAnInteger
  const at = mayBeOver || value > 0 ? moment(value, unit, now) : undefined
  if (at === undefined) throw new CommandError(`ERR invalid expire time in '${command}' command`)
  return at
}

/** undefined: not within 64 bits. */
function moment(value: Int64, { seconds, absolute }: TimeUnit, now: number): number | undefined {
  const base = absolute ? 0 : now
  if (typeof value === 'number' && Math.abs(value) < EASY_MAX) {
    return value * (seconds ? MS_PER_SECOND : 1) + base
  }
  const ms = BigInt(value) * (seconds ? BigInt(MS_PER_SECOND) : 1n)
  if (ms > INT64_MAX - BigInt(base) || ms < INT64_MIN) return undefined
  return Number(ms + BigInt(base))
}
