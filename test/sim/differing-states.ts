/*
 * The state of one node becomes another one than the log says, in a way that no checksum shows: it applies one entry
 * wrongly. Nothing else fails until the logged digests have shown it, it has fallen silent, and it has the state of
 * another node (I22). What is wrong is a key in a database that no client uses, so whoever has any key there differs;
 * a spy asks the node for it all the time, as a client would.
 */

import type { Random } from '../../raft/ports.ts'
import { limits } from '../../src/config.ts'
import type { Electorate } from './electorate.ts'
import { CLIENT_PORT, DIGEST_INTERVAL_MS, type Machine } from './machine.ts'
import type { Marks } from './marks.ts'
import type { SimNetwork } from './network.ts'
import { RespConnection } from './resp-connection.ts'
import { hold } from './violation.ts'

const SPY = '127.0.1.202'
const DATABASE = 1
const KEY = 'differs'
const WRONG = 'wrong'
/** A request for digests comes once in an interval, unless a checkpoint happens to run; then it has to be answered. */
const FOUND_MS = 3 * DIGEST_INTERVAL_MS
/** It is killed so soon after it knows that it differs, in some runs: often before it has another state. */
const KILLED_WITHIN_MS = 600
const KILLED_CHANCE = 0.7
const STARTED_AFTER_MS = 300
/** Until the node has another state: its disk may be slow, and a state consist of many parts. */
const BACK_MS = 20_000

/** Whether the state that it serves is another one than the log says. */
export function differs({ process }: Machine): boolean {
  return (process?.state.size(DATABASE) ?? 0) > 0
}

/** The counts of keys that a checkpoint holds say as much. */
export function isOfDiffering(counts: readonly number[]): boolean {
  return (counts[DATABASE] ?? 0) > 0
}

export interface DifferingWorld {
  /** All there are and will be. */
  readonly machines: readonly Machine[]
  readonly network: SimNetwork
  readonly marks: Marks
  readonly random: Random
  readonly electorate: Electorate
  readonly spyEveryMs: number
}

interface Found {
  readonly at: number
  readonly led: boolean
}

export class DifferingStates {
  readonly #world: DifferingWorld
  /** Those that know that their state differs, until they have another one. */
  readonly #found = new Map<Machine, Found>()
  /** Of these, those that have ended all but their process. */
  readonly #silent = new Set<Machine>()
  #victim: Machine | undefined
  /** Everybody has to be there, or the victim need not be found. */
  #members: readonly Machine[] = []
  #begunAt = 0
  /** Another one than the victim has got its state from it, so the majority may have the wrong one. */
  #spread = false
  /** The victim was killed because it had been found. */
  #killed = false
  #spy: RespConnection | undefined

  constructor(world: DifferingWorld) {
    this.#world = world
  }

  get longestMs(): number {
    return FOUND_MS + limits.handOverTimeoutMs + BACK_MS
  }

  get isOver(): boolean {
    return this.#victim === undefined
  }

  /** At any time in this run. */
  get hasBegun(): boolean {
    return this.#begunAt > 0
  }

  /** More than one node had the wrong state: what is left of it goes with the next entry, if one comes. */
  get hasSpread(): boolean {
    return this.#spread
  }

  get #now(): number {
    return this.#world.network.time.now
  }

  /** Half the time the leader is the victim. */
  begin(leader: Machine, members: readonly Machine[]): void {
    const { random } = this.#world
    const others = members.filter((machine) => machine !== leader)
    const other = others[Math.floor(random() * others.length)]
    const victim = random() < 0.5 ? leader : (other ?? leader)
    this.#victim = victim
    this.#members = members
    this.#begunAt = this.#now
    const put = { type: 'string', expireAt: 0, value: Buffer.from(WRONG) } as const
    victim.applyWrongly((state) => state.put(DATABASE, KEY, { ...put, version: state.newestKey }))
    this.#ask()
  }

  end(): void {
    this.#victim = undefined
    this.#spy?.destroy()
    this.#spy = undefined
  }

  // ---- What machines do -------------------------------------------------------------------------

  /** Its digest is not that of the majority, it says. */
  found(machine: Machine, what: string): void {
    if (this.#spread) return
    hold(differs(machine), 'I22 a sound state is kept', () => `${machine.name} believes: ${what}`)
    this.#found.set(machine, { at: this.#now, led: machine.status()?.role === 'leader' })
    this.#killSometimes(machine)
  }

  /** Whoever knows that its state differs must know it after a crash as well. */
  #killSometimes(machine: Machine): void {
    const { random, network, marks } = this.#world
    if (this.#killed || random() >= KILLED_CHANCE) return
    this.#killed = true
    network.time.after(random() * KILLED_WITHIN_MS, () => {
      // Before it could write that down, which it has to before it ends, it is as if it had not known.
      const hasHadTime = machine.isMarked || this.#silent.has(machine)
      if (!machine.isUp || !hasHadTime || !this.#found.has(machine)) return
      marks.reach('a node that differed was killed before it had another state')
      machine.kill()
      network.time.after(STARTED_AFTER_MS, () => machine.start())
    })
  }

  /** It serves nobody any more, and its stores are about to be closed. */
  silent(machine: Machine): void {
    this.#silent.add(machine)
    const { at, led } = this.#found.get(machine) ?? { at: this.#now, led: false }
    const { role, established } = machine.status() ?? {}
    const leads = role === 'leader' && established === true
    const waited = this.#now - at >= limits.handOverTimeoutMs * 0.99
    hold(!leads || waited, 'I22 a leader that differs steps down first', () => {
      return `${machine.name} falls silent, and still leads`
    })
    if (led && !leads) this.#world.marks.reach('a leader that differed stepped down first')
  }

  /** It begins on what its disk holds now. */
  opened(machine: Machine, reinstalled: boolean): void {
    if (!reinstalled) return
    this.#found.delete(machine)
    this.#silent.delete(machine)
    if (this.#spread) return
    hold(!differs(machine), 'I22 a state that differs is replaced', () => {
      return `${machine.name} has got another state, and it differs as well`
    })
    this.#world.marks.reach('a node that differed re-installed')
  }

  // ---- What it must come to ----------------------------------------------------------------------

  /** After every event. */
  look(): void {
    if (this.hasBegun) this.#cureSpread()
    const victim = this.#victim
    if (victim === undefined) return
    this.#servesNothing(victim)
    const found = this.#found.has(victim)
    const isGone = !victim.isUp && !found
    if (isGone || this.#now - this.#begunAt > this.longestMs) this.end()
    else if (!found && this.#now - this.#begunAt > FOUND_MS) {
      const { electorate } = this.#world
      const isThere = this.#members.every((machine) => machine.isServing)
      const isFair = isThere && electorate.member(victim) !== undefined && differs(victim)
      hold(!isFair, 'I22 a state that differs is found', () => {
        return `${victim.name} differs since ${FOUND_MS} ms, and serves`
      })
      this.end()
    } else if (!found && this.#wasReplaced(victim)) this.end()
  }

  /**
   * A leader whose state differs hands it to whoever needs a snapshot. What more than one node has can be that of the
   * majority, which is right by definition; so the wrong key is taken away again, everywhere.
   */
  #cureSpread(): void {
    let differing = 0
    for (const machine of this.#world.machines) {
      if (!differs(machine)) continue
      differing++
      if (!this.#spread || machine.willApplyWrongly) continue
      machine.applyWrongly((state) => state.delete(DATABASE, KEY))
    }
    if (differing < 2 || this.#spread) return
    this.#spread = true
    this.#found.clear()
    this.end()
  }

  /** It was found, and has another state by now; or the entry that it would have applied wrongly came in a snapshot. */
  #wasReplaced(victim: Machine): boolean {
    return victim.isServing && !differs(victim) && !victim.willApplyWrongly
  }

  /** What was asked after it knew that it differs has no answer. */
  #servesNothing(victim: Machine): void {
    const at = this.#found.get(victim)?.at ?? Number.POSITIVE_INFINITY
    const wrong = this.#spy?.exchanges.some(({ reply, sentAt }) => sentAt > at && reply === WRONG)
    hold(wrong !== true, 'I22 whoever differs serves nothing', () => {
      return `${victim.name} knows that its state differs, and serves it`
    })
  }

  #ask(): void {
    const { network, spyEveryMs, marks } = this.#world
    const victim = this.#victim
    if (victim === undefined) return
    if (this.#spy?.exchanges.some(({ reply }) => reply === WRONG)) {
      marks.reach('a state that differs was served before it was found')
    }
    if (this.#spy === undefined || this.#spy.closed) {
      const address = { host: victim.name, port: CLIENT_PORT }
      this.#spy = new RespConnection(network.time, network.host(SPY), address)
      this.#spy.send(['SELECT', String(DATABASE)])
    }
    this.#spy.send(['GET', KEY])
    network.time.after(spyEveryMs, () => this.#ask())
  }
}
