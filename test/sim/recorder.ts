/*
 * Writes down what clients asked and were told, as a history for the checker in test/linearizability: the other judge
 * of the same replies, which knows no log and no moment but those at which a command was sent and answered. Only
 * commands that its model has are recorded: those on keys to which no client ever gives a time to live.
 */

import type { Operation, Outcome, Reply } from '../linearizability/operation.ts'
import type { Words } from './canon.ts'
import { REFUSED } from './judge.ts'
import { parseReply } from './resp-connection.ts'
import type { Asked, Judge } from './sim-client.ts'
import { COUNTER_PREFIX, PLAIN_PREFIX } from './sim-client.ts'

export class Recorder implements Judge {
  readonly #now: () => number
  readonly history: Operation[] = []
  /** Nothing is judged, so nothing needs to have been seen. */
  readonly floor = 0
  acknowledged = 0
  refused = 0
  unknown = 0

  /** `now`: simulated ms. */
  constructor(now: () => number) {
    this.#now = now
  }

  get now(): number {
    return this.#now()
  }

  replied(asked: Asked, reply: string): void {
    if (REFUSED.test(reply)) {
      this.refused++
      this.#record(asked, 'fail')
    } else if (reply.startsWith('-TIMEOUT ')) this.unanswered(asked)
    else {
      this.acknowledged++
      this.#record(asked, 'ok', replyOf(reply))
    }
  }

  unanswered(asked: Asked): void {
    this.unknown++
    this.#record(asked, 'info')
  }

  finish(): void {}

  #record({ words, at: invoked, session }: Asked, outcome: Outcome, reply?: Reply): void {
    const [name = '', key = '', ...args] = words
    if (name === 'ECHO' || !isRecorded(key)) return
    const returned = outcome === 'info' ? Number.POSITIVE_INFINITY : this.now
    this.history.push({
      process: `${session.client}@${session.node}`,
      key,
      f: name.toLowerCase(),
      // The second key of a DEL is its token, and never exists.
      args: name === 'DEL' ? [] : args,
      outcome,
      reply,
      invoked,
      returned,
      invokedNs: invoked * 1_000_000,
      returnedNs: returned * 1_000_000,
    })
  }
}

function isRecorded(key: Words[number]): boolean {
  return key.startsWith(PLAIN_PREFIX) || key.startsWith(COUNTER_PREFIX)
}

/** An unexpected error becomes a reply that no command gives. */
function replyOf(bytes: string): Reply {
  const reply = parseReply(Buffer.from(bytes, 'latin1'), 0)?.reply
  return typeof reply === 'number' || reply === null ? reply : String(reply)
}
