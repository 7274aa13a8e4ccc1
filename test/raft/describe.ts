/*
 * One line of text per message and per run of entries: what transcripts are written in. It knows only the words of
 * raft/types.ts, so that a transcript stays readable whatever the core does inside.
 */

import type { Entry, Position } from '../../raft/types.ts'
import type { Packet } from './cluster.ts'
import { entryText } from './invariants.ts'

export function position({ index, term }: Position): string {
  return `${index}@${term}`
}

/** `[3@1 a, 4@2 noop]`, or `[3@1..9@1]` when there are many. */
export function entryList(entries: readonly Entry[]): string {
  const first = entries[0]
  const last = entries.at(-1)
  if (first === undefined || last === undefined) return '[]'
  if (entries.length > 6) return `[${position(first)}..${position(last)}]`
  return `[${entries.map((entry) => `${position(entry)} ${entryText(entry)}`).join(', ')}]`
}

export function describe(message: Packet): string {
  const head = `${message.type} t${message.term}`
  switch (message.type) {
    case 'pre-vote':
      return `${head} last ${position(message.last)}`
    case 'vote':
      return `${head} last ${position(message.last)}${message.transfer ? ' transfer' : ''}`
    case 'pre-vote-reply':
    case 'vote-reply':
      return `${head} ${message.granted ? 'granted' : 'refused'}`
    case 'append':
      return `${head} after ${position(message.prev)} ${entryList(message.entries)} commit ${message.commit}`
    case 'append-reply':
      return `${head} match ${message.match}`
    case 'append-reject':
      return `${head} after ${message.prev} hint ${position(message.hint)} last ${message.last}`
    case 'heartbeat':
      return `${head} commit ${message.commit} round ${message.round} slowest ${message.slowest.id}:${message.slowest.match}`
    case 'heartbeat-reply':
      return `${head} round ${message.round}`
    case 'snapshot':
      return `${head} at ${position(message.meta.last)}`
    case 'read':
      return `${head} id ${message.id}`
    case 'read-reply':
      return `${head} id ${message.id} index ${message.index}`
    default:
      return head
  }
}
