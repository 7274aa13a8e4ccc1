/*
 * What the clients of a Jepsen-style run do. A workload chooses the next command of a client; keys are left behind
 * after a while, so that the history of one key stays short enough to be searched. Values are unique, so that a reply
 * tells whose write it shows.
 */

import type { Argument } from '../e2e/resp-client.ts'

export const workloadNames = ['register', 'counter', 'append', 'set'] as const
export type WorkloadName = (typeof workloadNames)[number]

export interface Step {
  /** A command of the checker's model, with what stands behind the key. */
  readonly f: string
  readonly key: string
  readonly args: readonly string[]
}

export interface Workload {
  readonly name: WorkloadName
  /** `who` is unique per client and command. */
  next(who: string): Step
  /** Reads at the end, when everything has healed. */
  final(): readonly Step[]
}

/** Commands on a key before it is left for the next one. */
const KEY_COMMANDS = 400
const KEYS_AT_A_TIME = 5

export function createWorkload(name: WorkloadName, random: () => number): Workload {
  if (name === 'set') return new SetWorkload()
  return new KeyedWorkload(name, random, STEPS[name])
}

type Choose = (random: () => number, who: string) => Omit<Step, 'key'>

const STEPS: Readonly<Record<Exclude<WorkloadName, 'set'>, Choose>> = {
  register(random, who) {
    const kind = random()
    if (kind < 0.5) return { f: 'get', args: [] }
    if (kind < 0.75) return { f: 'set', args: [who] }
    if (kind < 0.83) return { f: 'getset', args: [who] }
    if (kind < 0.88) return { f: 'set', args: [who, 'NX'] }
    if (kind < 0.94) return { f: 'set', args: [who, 'XX'] }
    return { f: 'del', args: [] }
  },
  counter: (random) => ({ f: random() < 0.5 ? 'incr' : 'get', args: [] }),
  append: (random, who) =>
    random() < 0.6 ? { f: 'append', args: [`${who};`] } : { f: 'get', args: [] },
}

class KeyedWorkload implements Workload {
  readonly name: WorkloadName
  readonly #random: () => number
  readonly #choose: Choose
  readonly #used: number[] = Array.from({ length: KEYS_AT_A_TIME }, () => 0)
  readonly #generation: number[] = Array.from({ length: KEYS_AT_A_TIME }, () => 0)

  constructor(name: WorkloadName, random: () => number, choose: Choose) {
    this.name = name
    this.#random = random
    this.#choose = choose
  }

  next(who: string): Step {
    const slot = Math.floor(this.#random() * KEYS_AT_A_TIME)
    const used = (this.#used[slot] ?? 0) + 1
    if (used > KEY_COMMANDS) this.#generation[slot] = (this.#generation[slot] ?? 0) + 1
    this.#used[slot] = used > KEY_COMMANDS ? 1 : used
    return { key: this.#key(slot), ...this.#choose(this.#random, who) }
  }

  /** Every key that was ever used. */
  final(): readonly Step[] {
    return this.#generation.flatMap((last, slot) =>
      Array.from({ length: last + 1 }, (_, generation) => ({
        key: `${this.name}:${slot}:${generation}`,
        f: 'get',
        args: [],
      })),
    )
  }

  #key(slot: number): string {
    return `${this.name}:${slot}:${this.#generation[slot] ?? 0}`
  }
}

/** Each element once, by one SET NX under its own key; all are read at the end. */
class SetWorkload implements Workload {
  readonly name = 'set'
  readonly #keys: string[] = []

  next(who: string): Step {
    const key = `set:${this.#keys.length}`
    this.#keys.push(key)
    return { f: 'set', key, args: [who, 'NX'] }
  }

  final(): readonly Step[] {
    return this.#keys.map((key) => ({ f: 'get', key, args: [] }))
  }
}

/** The command as it is sent. */
export function commandOf({ f, key, args }: Step): readonly Argument[] {
  return [f.toUpperCase(), key, ...args]
}
