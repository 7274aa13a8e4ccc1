/*
 * Histories of tests in one line each: `a 0-1 k set 1 → OK | b 2-? k get`. An operation is process, times, key and
 * command; then `→` and the reply, or `✗` for one that failed, or a `?` for an end that nobody saw.
 */

import type { Operation, Outcome, Reply } from './operation.ts'

/** A reply is text; `nil` is nil, `#1` and the replies of integer commands are integers. */
export function history(text: string): readonly Operation[] {
  return text.split('|').map((part) => operationOf(part.trim()))
}

const INTEGER_COMMANDS = ['del', 'exists', 'strlen', 'append', 'setnx', 'incr', 'decr', 'incrby']

function operationOf(text: string): Operation {
  const [call = '', reply] = text.split('→').map((part) => part.trim())
  const failed = call.endsWith('✗')
  const words = call.replace('✗', '').trim().split(' ')
  const [process = '', times = '', key = '', f = '', ...args] = words
  const [from = '', to = ''] = times.split('-')
  const outcome: Outcome = failed ? 'fail' : to === '?' ? 'info' : 'ok'
  const invoked = Number(from)
  const returned = to === '?' ? Number.POSITIVE_INFINITY : Number(to)
  return {
    process,
    key,
    f,
    args,
    outcome,
    reply: reply === undefined ? undefined : replyOf(f, reply),
    invoked,
    returned,
    invokedNs: invoked * 1e6,
    returnedNs: returned * 1e6,
  }
}

function replyOf(f: string, text: string): Reply {
  if (text === 'nil') return null
  if (text.startsWith('#')) return Number(text.slice(1))
  return INTEGER_COMMANDS.includes(f) ? Number(text) : text
}
