/*
 * Histories from concurrent clients of one store, in virtual time from one seed: each operation is invoked, takes
 * effect at one moment, and returns, so the history is linearizable by construction. `fault` makes the store wrong
 * in one named way; a history in which that showed must be caught. For tests of the checker only; what a command
 * means it takes from reference.ts, not from the model under test.
 */

import type { Operation, Outcome, Reply } from './operation.ts'
import { applyCommand } from './reference.ts'

export type Random = () => number

/** mulberry32, in [0, 1). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

export type Workload = 'register' | 'counter' | 'compare' | 'append' | 'mixed'

export type Fault =
  /** Reads from a replica that is behind. */
  | 'stale read'
  /** A write is acknowledged and forgotten. */
  | 'lost write'
  /** GETSET, INCR and APPEND read now and write later what they computed. */
  | 'lost update'
  /** A write is executed twice. */
  | 'executed twice'
  /** SETNX and SET NX look now and write later. */
  | 'late check'
  /** An operation that was answered as failed took effect. */
  | 'failed and executed'
  /** The reply of another operation on the same key. */
  | 'crossed replies'

export interface Plan {
  readonly seed: number
  readonly workload: Workload
  readonly operations: number
  readonly processes: number
  readonly keys: number
  /** Share of operations whose outcome the client never learns. */
  readonly unknown?: number
  /** Share of operations that are refused before they take effect. */
  readonly failed?: number
  readonly fault?: Fault
}

/** One operation in flight. */
interface Flight {
  readonly process: string
  readonly key: string
  readonly f: string
  readonly args: readonly string[]
  outcome: Outcome
  readonly invoked: number
  readonly effect: number
  readonly returned: number
  reply: Reply | undefined
}

/** The longest time an operation takes, in nanoseconds of virtual time. */
const LATENCY_NS = 1_000_000
/** How far a replica is behind, and how late a late write comes: often longer than an operation takes. */
const LAG_NS = 2 * LATENCY_NS
/** Once in so many chances the faulty store errs. */
const FAULT_SHARE = 0.05

const COMMANDS: Readonly<Record<Workload, readonly string[]>> = {
  register: ['get', 'get', 'get', 'set', 'set', 'getset', 'del'],
  counter: ['incr', 'incr', 'incrby', 'decr', 'get'],
  compare: ['set nx', 'set xx', 'set xx get', 'setnx', 'exists', 'get', 'del', 'del'],
  append: ['append', 'append', 'get', 'strlen'],
  mixed: [
    'get',
    'get',
    'set',
    'getset',
    'del',
    'setnx',
    'set xx',
    'incr',
    'append',
    'strlen',
    'exists',
  ],
}

/** The operations by invocation. */
export function simulate(plan: Plan): readonly Operation[] {
  return new Store(plan).run()
}

class Store {
  readonly #plan: Plan
  readonly #random: Random
  readonly #values = new Map<string, string | null>()
  /** What a lagging replica would still show, and until when. */
  readonly #past = new Map<string, { value: string | null; until: number }>()
  readonly #late: { at: number; run: () => void }[] = []
  #written = 0

  constructor(plan: Plan) {
    this.#plan = plan
    this.#random = seededRandom(plan.seed)
  }

  run(): readonly Operation[] {
    const flights = this.#flights()
    const byEffect = flights.filter(({ effect }) => effect < Number.POSITIVE_INFINITY)
    byEffect.sort((a, b) => a.effect - b.effect)
    for (const flight of byEffect) {
      this.#runLate(flight.effect)
      this.#execute(flight)
    }
    if (this.#plan.fault === 'crossed replies') this.#cross(byEffect)
    return flights.map((flight) => operationOf(flight))
  }

  /** What each process does, one after the other; a process of unknown outcome is never heard of again. */
  #flights(): readonly Flight[] {
    const flights: Flight[] = []
    let born = 0
    const clients = Array.from({ length: this.#plan.processes }, () => ({ process: born++, at: 0 }))
    while (flights.length < this.#plan.operations) {
      const client = clients.reduce((first, other) => (other.at < first.at ? other : first))
      const flight = this.#flight(`${client.process}`, client.at)
      flights.push(flight)
      if (flight.outcome === 'info') client.process = born++
      const end = flight.outcome === 'info' ? flight.invoked + LATENCY_NS : flight.returned
      client.at = end + 1 + this.#below(LATENCY_NS)
    }
    return flights.sort((a, b) => a.invoked - b.invoked)
  }

  #flight(process: string, at: number): Flight {
    const { unknown = 0, failed = 0, workload, keys, fault } = this.#plan
    const invoked = at
    const returned = invoked + 2 + this.#below(LATENCY_NS)
    const [f = '', ...options] = this.#pick(COMMANDS[workload]).split(' ')
    const draw = this.#random()
    const outcome = draw < unknown ? 'info' : draw < unknown + failed ? 'fail' : 'ok'
    const shared = {
      process,
      key: `key-${this.#below(keys)}`,
      f,
      args: this.#argumentsOf(f, options),
      outcome,
      invoked,
      reply: undefined,
    } as const
    if (outcome === 'info') {
      // A request can lie in a queue for as long as it likes, or be lost.
      const effect = invoked + 1 + this.#below(20 * LATENCY_NS)
      const happens = this.#random() < 0.5
      return { ...shared, effect: happens ? effect : Infinity, returned: Infinity }
    }
    const effect = invoked + 1 + this.#below(returned - invoked - 1)
    const wrong = fault === 'failed and executed' && this.#errs()
    return { ...shared, effect: outcome === 'ok' || wrong ? effect : Infinity, returned }
  }

  #argumentsOf(f: string, options: readonly string[]): readonly string[] {
    const words = options.map((word) => word.toUpperCase())
    if (f === 'incrby') return [String(1 + this.#below(3))]
    if (f === 'append') return [`.${this.#written++}`]
    // Every now and then a value that was written before, and numbers, so that INCR finds some.
    const value = this.#random() < 0.1 ? String(this.#below(10)) : String(this.#written++)
    return ['set', 'setnx', 'getset'].includes(f) ? [value, ...words] : []
  }

  #execute(flight: Flight): void {
    const { key, f, args, effect } = flight
    const { fault } = this.#plan
    const before = this.#values.get(key) ?? null
    const past = this.#past.get(key)
    const sees = fault === 'stale read' && past !== undefined && effect < past.until && f === 'get'
    const applied = tryApply(sees ? past.value : before, f, args)
    if (applied === undefined) {
      // An error reply: the client knows that nothing happened.
      if (flight.outcome === 'ok') flight.outcome = 'fail'
      return
    }
    if (flight.outcome === 'ok') flight.reply = applied.reply
    if (sees || applied.value === before) return
    this.#write(flight, before, applied.value)
  }

  #write(flight: Flight, before: string | null, after: string | null): void {
    const { key, f, args, effect } = flight
    const { fault } = this.#plan
    const looks = f === 'setnx' || args.includes('NX')
    const computes = ['getset', 'incr', 'incrby', 'decr', 'append'].includes(f)
    const isLate = (fault === 'late check' && looks) || (fault === 'lost update' && computes)
    if (fault === 'lost write' && flight.outcome === 'ok' && this.#errs()) return
    if (isLate && this.#errs()) {
      const at = effect + this.#below(LAG_NS)
      this.#late.push({ at, run: () => this.#values.set(key, after) })
      return
    }
    this.#values.set(key, after)
    if (this.#random() < FAULT_SHARE) this.#past.set(key, { value: before, until: effect + LAG_NS })
    if (fault === 'executed twice' && this.#errs()) {
      const again = (): void => {
        const second = tryApply(this.#values.get(key) ?? null, f, args)
        if (second !== undefined) this.#values.set(key, second.value)
      }
      this.#late.push({ at: effect + LAG_NS, run: again })
    }
  }

  #runLate(until: number): void {
    this.#late.sort((a, b) => a.at - b.at)
    while ((this.#late[0]?.at ?? Infinity) <= until) this.#late.shift()?.run()
  }

  /** Swaps the replies of two operations that follow each other on a key. */
  #cross(byEffect: readonly Flight[]): void {
    for (const [index, flight] of byEffect.entries()) {
      const other = byEffect.slice(index + 1).find(({ key }) => key === flight.key)
      if (other === undefined || !this.#errs()) continue
      if (flight.outcome !== 'ok' || other.outcome !== 'ok') continue
      const { reply } = flight
      flight.reply = other.reply
      other.reply = reply
    }
  }

  #errs(): boolean {
    return this.#random() < FAULT_SHARE
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n)
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#below(items.length)] as T
  }
}

function tryApply(
  value: string | null,
  f: string,
  args: readonly string[],
): ReturnType<typeof applyCommand> | undefined {
  try {
    return applyCommand(value, f, args)
  } catch {
    return undefined
  }
}

function operationOf(flight: Flight): Operation {
  const { process, key, f, args, outcome, reply, invoked, returned } = flight
  const positions = { invoked, returned, invokedNs: invoked, returnedNs: returned }
  return { process, key, f, args, outcome, reply, ...positions }
}
