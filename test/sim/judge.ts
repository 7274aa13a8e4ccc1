/*
 * Holds every reply against the canon, byte by byte, when it arrives (I8 to I12). A write must be committed, once, and
 * say what the reference model says at its place; a read must say what the model says at some place that lies behind
 * everything acknowledged before it was asked and between its neighbours on its connection. The lowest such place is
 * chosen, which leaves later reads the most room: so nothing linearizable is accused, and nothing else passes. And no
 * node that lives gives a command up before it had as long as commands wait for a leader, whatever becomes of leaders.
 */

import { bulk, type Canon, hasToken, type Words } from './canon.ts'
import type { Marks } from './marks.ts'
import type { Asked, Judge } from './sim-client.ts'
import { hold } from './violation.ts'

/** Writes without a token of their own. */
const UNTOLD: ReadonlySet<string> = new Set(['PEXPIRE', 'PERSIST'])
/** Of a command that certainly was not executed. */
export const REFUSED: RegExp = /^-(?:CLUSTERDOWN|MOVED) /
const GIVEN_UP = /^-(?:CLUSTERDOWN|TIMEOUT) /
/** What the clocks of nodes may be slow or fast, and a tick. */
const CLOCK_ERROR = 0.002
const TICK_MS = 1

export interface JudgeOptions {
  readonly canon: Canon
  readonly marks: Marks
  /** Ms. */
  readonly now: () => number
  /** How long commands wait for a leader. */
  readonly parkMs: number
  /** When a node last took the state of a snapshot, undefined: never. What became of the entries below is told to nobody. */
  readonly switchedAt: (node: string) => number | undefined
  /** Whether that node is no member, or none any more: it serves nothing. */
  readonly isStranger: (node: string) => boolean
}

export class ClientJudge implements Judge {
  readonly #canon: Canon
  readonly #marks: Marks
  readonly #options: JudgeOptions
  #floor = 0
  /** Commands that were answered with what they did or saw. */
  acknowledged = 0
  refused = 0
  unknown = 0
  /** INCRs of each key that were acknowledged, and those that may have happened. */
  readonly #increments = new Map<string, { done: Set<number>; open: number }>()
  /** The same of the other writes without a token, by their words. */
  readonly #untold = new Map<string, { readonly words: Words; done: number; open: number }>()

  constructor(options: JudgeOptions) {
    this.#options = options
    this.#canon = options.canon
    this.#marks = options.marks
  }

  get floor(): number {
    return this.#floor
  }

  get now(): number {
    return this.#options.now()
  }

  replied(asked: Asked, reply: string): void {
    if (GIVEN_UP.test(reply)) this.#wasGivenUp(asked, reply)
    if (REFUSED.test(reply)) this.#wasRefused(asked, reply)
    else if (reply.startsWith('-TIMEOUT ')) {
      this.#marks.reach('TIMEOUT at a deadline')
      this.unanswered(asked)
    } else {
      this.acknowledged++
      const place = this.#place(asked, reply)
      if (place === undefined) return
      this.#floor = Math.max(this.#floor, place)
      asked.session.seen = place
    }
  }

  unanswered({ words }: Asked): void {
    this.unknown++
    const [name = '', key = ''] = words
    if (name === 'INCR') this.#incrementsOf(key).open++
    else if (UNTOLD.has(name)) this.#untoldOf(words).open++
  }

  /** At the end: nothing happened more often than clients asked for it and may have been served. */
  finish(): void {
    for (const { words, done, open } of this.#untold.values()) {
      const count = this.#canon.opsOf(words).length
      hold(
        count >= done && count <= done + open,
        'I10 exactly once',
        () => `${words.join(' ')} happened ${count} times: ${done} acknowledged, ${open} unknown`,
      )
    }
    for (const [key, { done, open }] of this.#increments) {
      const count = this.#canon.increments(key)
      hold(
        count >= done.size && count <= done.size + open,
        'I10 exactly once',
        () => `${key} was raised ${count} times: ${done.size} acknowledged, ${open} unknown`,
      )
    }
  }

  /** Only where too many commands wait already, none more may; and nobody can tell what a snapshot has skipped. */
  #wasGivenUp(asked: Asked, reply: string): void {
    const ms = this.now - asked.at
    const inTime = ms < this.#options.parkMs * (1 - CLOCK_ERROR) - TICK_MS
    const isFull = reply.includes('too many commands wait')
    const switchedAt = this.#options.switchedAt(asked.session.node) ?? Number.NEGATIVE_INFINITY
    const isSkipped = switchedAt >= asked.at
    hold(
      !inTime || isFull || isSkipped || this.#options.isStranger(asked.session.node),
      'no lost outcome',
      () => `${describe(asked, reply)}, after ${ms} ms`,
    )
  }

  #wasRefused({ words }: Asked, reply: string): void {
    this.refused++
    if (reply.includes('no leader is known')) this.#marks.reach('parked until CLUSTERDOWN')
    if (hasToken(words[0])) this.#canon.refused(words[2] ?? '')
  }

  /** The op number at which the command took effect; undefined: it touched no data. */
  #place(asked: Asked, reply: string): number | undefined {
    const { words } = asked
    const [name = '', key = '', token = ''] = words
    if (name === 'ECHO') {
      const right = reply === bulk(key)
      hold(right, 'I12 reply pairing', () => `${words.join(' ')} was answered ${reply}`)
      return undefined
    }
    if (name === 'INCR') return this.#increment(asked, reply)
    if (hasToken(name)) return this.#write(asked, reply, this.#canon.opOf(token))
    return UNTOLD.has(name) ? this.#untoldWrite(asked, reply) : this.#read(asked, reply)
  }

  /**
   * A write that is not to be told from others of the same words: the first one it may be. That is never behind the
   * one it was, so nothing that follows is accused wrongly; that all happened at most once is counted at the end.
   */
  #untoldWrite(asked: Asked, reply: string): number {
    const { words, floor, session } = asked
    this.#untoldOf(words).done++
    const place = this.#canon
      .opsOf(words)
      .find((op) => op > floor && op > session.seen && this.#canon.replies[op] === reply)
    hold(
      place !== undefined,
      'I8 acked is committed',
      () => `${describe(asked, reply)}: it is nowhere committed after ${floor} and ${session.seen}`,
    )
    return place
  }

  #increment(asked: Asked, reply: string): number {
    const key = asked.words[1] ?? ''
    const value = Number(reply.slice(1))
    const place = this.#write(asked, reply, this.#canon.incrementOp(key, value))
    const { done } = this.#incrementsOf(key)
    hold(!done.has(value), 'I10 exactly once', () => `two INCRs of ${key} were told ${value}`)
    done.add(value)
    return place
  }

  #write(asked: Asked, reply: string, place: number | undefined): number {
    const what = (): string => describe(asked, reply)
    hold(place !== undefined, 'I8 acked is committed', () => `${what()}: it is not committed`)
    const right = this.#canon.replies[place] ?? ''
    hold(
      right === reply,
      'I9 linearizability',
      () => `${what()}: at op ${place} it is ${JSON.stringify(right)}`,
    )
    const { floor, session } = asked
    hold(
      place > floor && place > session.seen,
      'I9 linearizability',
      () => `${what()}: it is op ${place}, after ${floor} was acknowledged, ${session.seen} seen`,
    )
    return place
  }

  #read(asked: Asked, reply: string): number {
    const canon = this.#canon
    const [name = '', ...keys] = asked.words
    const from = Math.max(asked.floor, asked.session.seen)
    let op = from
    while (op <= canon.lastOp) {
      if (
        name === 'PTTL'
          ? this.#isTimeLeft(keys[0] ?? '', op, reply)
          : this.#answer(name, keys, op) === reply
      )
        return op
      const at = op
      const changes = keys.map((key) => canon.nextChange(key, at))
      op = name === 'DBSIZE' ? op + 1 : Math.min(...changes)
    }
    hold(
      false,
      'I9 linearizability',
      () =>
        `${describe(asked, reply)}: it is nowhere true from op ${from} to ${canon.lastOp}; ` +
        `at ${from} it is ${JSON.stringify(this.#answer(name, keys, from))}`,
    )
  }

  #answer(name: string, keys: readonly string[], op: number): string {
    const canon = this.#canon
    if (name === 'DBSIZE') return `:${canon.sizeAt(op)}\r\n`
    if (name === 'PEXPIRETIME') {
      const [key = ''] = keys
      return `:${canon.valueAt(key, op) === null ? -2 : canon.expireAt(key, op) || -1}\r\n`
    }
    const values = keys.map((key) => bulk(canon.valueAt(key, op))).join('')
    return name === 'MGET' ? `*${keys.length}\r\n${values}` : values
  }

  /** Whether PTTL may say so: the leader's time is not before the logged clock, nor past the key's. */
  #isTimeLeft(key: string, op: number, reply: string): boolean {
    const expireAt = this.#canon.expireAt(key, op)
    if (expireAt === 0)
      return reply === (this.#canon.valueAt(key, op) === null ? ':-2\r\n' : ':-1\r\n')
    const left = Number(reply.slice(1))
    return left > 0 && left <= expireAt - this.#canon.clockAt(op)
  }

  #untoldOf(words: Words): { readonly words: Words; done: number; open: number } {
    const text = words.join(' ')
    let found = this.#untold.get(text)
    if (found === undefined) {
      found = { words, done: 0, open: 0 }
      this.#untold.set(text, found)
    }
    return found
  }

  #incrementsOf(key: string): { done: Set<number>; open: number } {
    let found = this.#increments.get(key)
    if (found === undefined) {
      found = { done: new Set(), open: 0 }
      this.#increments.set(key, found)
    }
    return found
  }
}

function describe({ words, session }: Asked, reply: string): string {
  const text = words.map((word) => word.slice(0, 40)).join(' ')
  return `${session.client} asked ${session.node} ${text}, told ${JSON.stringify(reply.slice(0, 200))}`
}
