/*
 * Paper figure 8, staged: chance alone reaches it too rarely. A leader and a friend hold entries that nobody else has;
 * another leads the rest for long enough to write one entry of its own; then the first two are heard again and spread
 * their old entries to a majority, and at that moment they are cut off and the other returns, whose log is newer: what
 * a majority held is replaced. Links are cut and mended, and
 * appends cut short; when a step does not come about, it is given up.
 */

import type { Index, Message, Term } from '../../raft/types.ts'
import type { Canon } from './canon.ts'
import type { Machine } from './machine.ts'
import type { SimNetwork } from './network.ts'
import { durableTerm } from './sim-invariants.ts'

/** Election timeouts that one step may take. */
const STEP_ELECTIONS = 6

type Step = 'apart' | 'other writes' | 'first returns' | 'spreading' | 'other returns' | 'over'

export class FigureEight {
  readonly #network: SimNetwork
  readonly #machines: readonly Machine[]
  readonly #canon: Canon
  readonly #electionMs: number
  readonly #camp: ReadonlySet<Machine>
  readonly #first: Machine
  #other: Machine | undefined
  #step: Step = 'apart'
  #deadline = 0
  #old: { index: Index; term: Term } = { index: 0, term: 0 }

  constructor(options: {
    network: SimNetwork
    machines: readonly Machine[]
    canon: Canon
    electionMs: number
    leader: Machine
    friend: Machine
  }) {
    const { network, machines, canon, electionMs, leader, friend } = options
    this.#network = network
    this.#machines = machines
    this.#canon = canon
    this.#electionMs = electionMs
    this.#first = leader
    this.#camp = new Set([leader, friend])
    this.#connect((one, two) => this.#camp.has(one) === this.#camp.has(two))
    this.#go('apart')
  }

  get isOver(): boolean {
    return this.#step === 'over'
  }

  get longestMs(): number {
    return 5 * STEP_ELECTIONS * this.#electionMs
  }

  /** After every event. */
  look(): void {
    if (this.#step === 'over') return
    if (this.#network.time.now > this.#deadline) this.end()
    else if (this.#step === 'apart') this.#apart()
    else if (this.#step === 'other writes') this.#otherWrites()
    else if (this.#step === 'first returns') this.#firstReturns()
    else if (this.#step === 'spreading') this.#spreading()
    else if (this.#other?.status()?.established === true) this.end()
  }

  end(): void {
    this.#step = 'over'
    this.#connect(() => true)
  }

  /** Somebody else was elected: alone with its term before anybody hears of its first entry. */
  #apart(): void {
    const term = this.#first.status()?.term ?? 0
    const other = this.#machines.find((machine) => {
      const status = machine.status()
      return !this.#camp.has(machine) && status?.role === 'leader' && status.term > term
    })
    if (other === undefined) return
    const index = this.#canon.lastIndex + 1
    const old = durableTerm(this.#first, index)
    if (old === undefined) {
      this.end()
      return
    }
    this.#old = { index, term: old }
    this.#other = other
    this.#connect((one, two) => {
      return one !== other && two !== other && this.#camp.has(one) === this.#camp.has(two)
    })
    this.#go('other writes')
  }

  #otherWrites(): void {
    const status = this.#other?.status()
    if (status === undefined || status.durable < status.last) return
    this.#connect((one, two) => one !== this.#other && two !== this.#other)
    this.#go('first returns')
  }

  #firstReturns(): void {
    const term = this.#other?.status()?.term ?? 0
    const leads = [...this.#camp].some((machine) => {
      const status = machine.status()
      return status?.role === 'leader' && status.term > term
    })
    if (leads) this.#go('spreading')
  }

  #spreading(): void {
    const { index, term } = this.#old
    const holders = this.#machines.filter((machine) => durableTerm(machine, index) === term)
    if (holders.length <= this.#machines.length / 2) return
    this.#connect((one, two) => this.#camp.has(one) === this.#camp.has(two))
    this.#go('other returns')
  }

  /**
   * While the old entries spread, an append ends before the first entry of the leader's own term, as if its frames
   * were that small and the rest were lost.
   */
  trimmed(message: Message): Message {
    if (this.#step !== 'spreading' || message.type !== 'append') return message
    const own = message.entries.findIndex(({ term }) => term === message.term)
    return own < 0 ? message : { ...message, entries: message.entries.slice(0, own) }
  }

  #go(step: Step): void {
    this.#step = step
    this.#deadline = this.#network.time.now + STEP_ELECTIONS * this.#electionMs
  }

  #connect(connected: (one: Machine, two: Machine) => boolean): void {
    for (const from of this.#machines) {
      for (const to of this.#machines) {
        if (from === to) continue
        if (connected(from, to)) this.#network.unblock(from.name, to.name)
        else this.#network.block(from.name, to.name)
      }
    }
  }
}
