/*
 * Asks one node, after everything has healed, for one write and one linearizable read, again and again until both
 * were served: liveness is owed by every node, not by the cluster (I18). The judge sees each reply.
 */

import type { Machine } from './machine.ts'
import { CLIENT_PORT } from './machine.ts'
import type { SimHost } from './network.ts'
import { type Judge, Line } from './sim-client.ts'

export interface ProbeOptions {
  readonly host: SimHost
  readonly machine: Machine
  /** No other probe has it. */
  readonly name: string
  readonly judge: Judge
  readonly retryMs: number
  /** Whether it is a member now: who is none need not serve. */
  readonly isMember: () => boolean
}

export class Probe {
  readonly #options: ProbeOptions
  #line: Line | undefined
  #tries = 0
  #served = false

  constructor(options: ProbeOptions) {
    this.#options = options
    this.#try()
  }

  /** Served, or of a node that can never serve again, or is no member. */
  get isDone(): boolean {
    const { machine, isMember } = this.#options
    return this.#served || machine.lost !== undefined || !isMember()
  }

  get state(): string {
    const { name, lost } = this.#options.machine
    return `${name}: ${this.isDone ? (lost ?? 'served') : `not served in ${this.#tries} tries`}`
  }

  #try(): void {
    if (this.#served) return
    const { host, machine, retryMs, isMember } = this.#options
    const owes = machine.isServing && isMember()
    if (owes && (this.#line === undefined || this.#line.closed)) this.#ask()
    host.after(retryMs, () => this.#try())
  }

  #ask(): void {
    const { host, machine, judge, name } = this.#options
    const token = `${name}.${++this.#tries}`
    let left = 2
    const counting: Judge = {
      get floor(): number {
        return judge.floor
      },
      get now(): number {
        return judge.now
      },
      replied: (asked, reply) => {
        judge.replied(asked, reply)
        // Where redirection is asked for, the way to the leader is all that a follower owes.
        const isServed = !reply.startsWith('-') || reply.startsWith('-MOVED ')
        if (!isServed) line.leave()
        else if (--left === 0) this.#served = true
      },
      unanswered: (asked) => judge.unanswered(asked),
    }
    const options = { host, judge: counting, name: `probe${machine.index}`, port: CLIENT_PORT }
    const line = new Line(options, machine.name)
    this.#line = line
    line.ask([
      ['SET', 'probe', token],
      ['GET', 'probe'],
    ])
  }
}
