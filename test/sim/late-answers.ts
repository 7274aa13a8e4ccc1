/*
 * Answers to an old question, staged: chance alone reaches it too rarely. What the others answer their leader is stuck
 * on the way; then nothing passes at all, the leader stands still, and another one is elected and writes. When the
 * first goes on, it believes that it leads, and while clients read from it, the old answers arrive: they confirm
 * nothing of what was asked since. Links are cut and mended, and one process paused; when a step does not come
 * about, it is given up.
 */

import type { Machine } from './machine.ts'
import type { SimNetwork } from './network.ts'

/** Election timeouts that all of it may take. */
const ELECTIONS_MAX = 10

type Step = 'answers are stuck' | 'another is elected' | 'it writes' | 'reads are asked' | 'over'

export class LateAnswers {
  readonly #network: SimNetwork
  readonly #others: readonly Machine[]
  readonly #leader: Machine
  readonly #heartbeatMs: number
  readonly #electionMs: number
  #step: Step = 'answers are stuck'
  /** When the step may end. */
  #until: number
  readonly #deadline: number
  readonly #term: number

  constructor(options: {
    network: SimNetwork
    machines: readonly Machine[]
    leader: Machine
    heartbeatMs: number
    electionMs: number
  }) {
    const { network, machines, leader, heartbeatMs, electionMs } = options
    this.#network = network
    this.#others = machines.filter((machine) => machine !== leader)
    this.#leader = leader
    this.#heartbeatMs = heartbeatMs
    this.#electionMs = electionMs
    this.#term = leader.status()?.term ?? 0
    this.#until = network.time.now + 2 * heartbeatMs
    this.#deadline = network.time.now + this.longestMs
    for (const { name } of this.#others) network.block(name, leader.name)
  }

  get isOver(): boolean {
    return this.#step === 'over'
  }

  get longestMs(): number {
    return ELECTIONS_MAX * this.#electionMs
  }

  /** After every event. */
  look(): void {
    const { now } = this.#network.time
    if (this.isOver || now < this.#until) return
    if (now > this.#deadline || this.#leader.host === undefined) this.end()
    else if (this.#step === 'answers are stuck') this.#standStill()
    else if (this.#step === 'another is elected') this.#elected()
    else if (this.#step === 'it writes') this.#goOn()
    else this.end()
  }

  end(): void {
    this.#step = 'over'
    this.#leader.host?.resume()
    for (const { name } of this.#others) {
      this.#network.unblock(name, this.#leader.name)
      this.#network.unblock(this.#leader.name, name)
    }
  }

  #standStill(): void {
    this.#step = 'another is elected'
    for (const { name } of this.#others) this.#network.block(this.#leader.name, name)
    this.#leader.host?.pause()
  }

  #elected(): void {
    const isElected = this.#others.some((machine) => {
      const { role, term = 0, established } = machine.status() ?? {}
      return role === 'leader' && term > this.#term && established === true
    })
    if (!isElected) return
    this.#step = 'it writes'
    this.#until = this.#network.time.now + this.#heartbeatMs
  }

  #goOn(): void {
    this.#step = 'reads are asked'
    this.#leader.host?.resume()
    // Time for a turn, not for as much as giving up its office.
    this.#until = this.#network.time.now + this.#heartbeatMs / 2
  }
}
