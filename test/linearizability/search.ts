/*
 * Is there one order of these operations of one key that respects real time and explains every reply? The search
 * of Wing and Gong (1993) with Lowe's memoisation (2017): always linearize an operation that no unplaced one
 * precedes, remember each configuration (what is placed, which state), and go back where no reply fits. What is
 * ours is how it stays quick: operations that change nothing are placed as soon as they fit, the most urgent go first,
 * and operations of unknown outcome are placed only where they make a difference. docs/checker.md proves these.
 * It must not know commands: it sees states only through KeyModel.
 */

import { Buffer } from 'node:buffer'
import { Links } from './links.ts'
import { ILLEGAL, type KeyModel, type Model, type State } from './model.ts'
import type { Operation } from './operation.ts'

/** Bounds of one search; past one of them it answers `unknown`, never `legal`. */
export interface SearchLimits {
  /** Tried steps of the model. */
  readonly steps: number
  /** Remembered configurations, some 200 bytes each. */
  readonly configurations: number
  /** Values of the model, some 200 bytes each. */
  readonly states: number
}

/** An operation at its place in an order, and the state after it. */
export interface Placed {
  readonly operation: Operation
  readonly state: State
}

export interface SearchResult {
  readonly outcome: 'legal' | 'illegal' | 'unknown'
  /** The order that was found; otherwise, where it was asked for, the longest legal one. */
  readonly order: readonly Placed[]
  /** The operations that took effect, as recorded, and are not in `order`. */
  readonly unplaced: readonly Operation[]
  readonly model: KeyModel
  readonly steps: number
}

export interface SearchRequest {
  readonly model: Model
  readonly limits: SearchLimits
  /** The value before all operations; none, unless given. */
  readonly start?: string | null
  /** All operations whose replies may tell what these did, where these are a part of a history. */
  readonly witnesses?: readonly Operation[]
  /** Copies an order at each new depth, so it is for small histories. */
  readonly wantsLongest?: boolean
}

/**
 * Searches an order of the operations of one key. Those that failed are left out, those of unknown outcome are
 * placed where that helps.
 */
export function searchOrder(all: readonly Operation[], request: SearchRequest): SearchResult {
  const operations = all.filter((operation) => operation.outcome !== 'fail')
  return new Search(operations, request).run()
}

/** What the key may have come to: its value, and which operations of unknown outcome made it so. */
export interface Reached {
  readonly value: string | null
  readonly used: readonly Operation[]
}

/**
 * All that the key can have come to when every operation of known outcome has taken effect, in any legal order;
 * undefined when a limit came first. What takes more operations of unknown outcome to the same value is left out,
 * and so is what those that are not used might do afterwards.
 */
export function searchReached(
  all: readonly Operation[],
  request: SearchRequest,
): readonly Reached[] | undefined {
  const operations = all.filter((operation) => operation.outcome !== 'fail')
  return new Search(operations, request).reach()
}

/** Operations of unknown outcome and equal effect are one class; the earliest unused stands for it. */
interface UnknownClass {
  readonly members: readonly number[]
  used: number
}

/** How often each class was used: class, count, class, count, ... by rising class. */
type Usage = readonly number[]

/** How a configuration was reached. */
interface Arrival {
  readonly usage: number
  /** The state before the unknown operation that led here; undefined when something else did. */
  readonly before: State | undefined
  /** Length of the trail before the move that led here. */
  readonly trail: number
}

/** One branching point: everything before its moves is on the trail. */
interface Frame {
  readonly state: State
  readonly usage: number
  readonly trail: number
  readonly moves: readonly number[]
  cursor: number
}

class Search {
  readonly #model: KeyModel
  readonly #limits: SearchLimits
  readonly #wantsLongest: boolean
  readonly #start: State
  readonly #operations: readonly Operation[]
  /** Indices of operations with a return, by invocation; a `known` number below is an index into this. */
  readonly #known: readonly number[]
  readonly #invoked: Float64Array
  readonly #returned: Float64Array
  /** 1 for those that change no state in which they fit. */
  readonly #idle: Uint8Array
  readonly #byInvocation: Links
  readonly #byReturn: Links
  readonly #classes: readonly UnknownClass[]
  /** By state, of what is not placed: how many need it, how many could make it. */
  readonly #needed = new Map<State, number>()
  readonly #makers = new Map<State, number>()
  /** False when a state can come about by derivation, so that the makers do not tell. */
  readonly #hasKnownMakers: boolean
  readonly #usages: Usage[] = [[]]
  readonly #usageIds = new Map<string, number>([['', 0]])
  /** Usages that were tried, by configuration. */
  readonly #visited = new Map<string, number[]>()
  /** What is placed, in order: a known number, or ~class. */
  readonly #trail: number[] = []
  readonly #frames: Frame[] = []
  #key = Buffer.alloc(1024)
  #candidates: number[] = []
  /** How the last configuration was entered, and its state. */
  #arrival: Arrival & { readonly state: State }
  #configurations = 0
  #steps = 0
  #placed = 0
  #longest: readonly number[] = []
  #longestPlaced = -1

  constructor(operations: readonly Operation[], request: SearchRequest) {
    this.#operations = operations
    this.#model = request.model.begin(operations, request.witnesses ?? operations)
    this.#limits = request.limits
    this.#wantsLongest = request.wantsLongest ?? false
    this.#start = this.#model.state(request.start ?? null)
    this.#arrival = { state: this.#start, usage: 0, before: undefined, trail: 0 }
    const indices = operations.map((_, index) => index)
    const at = (index: number): Operation => operations[index] as Operation
    const byInvocation = indices.sort((a, b) => at(a).invoked - at(b).invoked)
    this.#known = byInvocation.filter((index) => at(index).outcome === 'ok')
    this.#invoked = Float64Array.from(this.#known, (index) => at(index).invoked)
    this.#returned = Float64Array.from(this.#known, (index) => at(index).returned)
    this.#idle = Uint8Array.from(this.#known, (index) => (this.#model.isIdle(index) ? 1 : 0))
    const numbers = this.#known.map((_, number) => number)
    this.#byInvocation = new Links(numbers)
    this.#byReturn = new Links(numbers.sort((a, b) => this.#deadline(a) - this.#deadline(b)))
    this.#classes = this.#classify(byInvocation)
    const relevant = [...this.#known, ...this.#classes.flatMap(({ members }) => members)]
    this.#hasKnownMakers = relevant.every((index) => this.#model.makes(index) !== 'derives')
    for (const index of relevant) this.#account(index, 1)
  }

  run(): SearchResult {
    this.#enter(this.#start, { usage: 0, before: undefined, trail: 0 })
    for (;;) {
      if (this.#placed === this.#known.length) return this.#result('legal', this.#trail)
      if (this.#frames.length === 0) return this.#result('illegal', this.#longest)
      if (this.#isOverLimit()) return this.#result('unknown', this.#longest)
      this.#advance()
    }
  }

  reach(): readonly Reached[] | undefined {
    const reached = new Map<State, number[]>()
    this.#enter(this.#start, { usage: 0, before: undefined, trail: 0 })
    for (;;) {
      if (this.#placed === this.#known.length) {
        const { state, usage, trail } = this.#arrival
        const known = reached.get(state) ?? []
        if (!known.some((other) => this.#isWithin(other, usage))) {
          const others = known.filter((other) => !this.#isWithin(usage, other))
          reached.set(state, [...others, usage])
        }
        this.#undo(trail)
      }
      if (this.#frames.length === 0) break
      if (this.#isOverLimit()) return undefined
      this.#advance()
    }
    return [...reached].flatMap(([state, usages]) => {
      const value = this.#model.value(state)
      return usages.map((usage) => ({ value, used: this.#usedBy(usage) }))
    })
  }

  /** Tries the next move of the latest branching point, or leaves it. */
  #advance(): void {
    const frame = this.#frames.at(-1) as Frame
    const move = frame.moves[frame.cursor]
    if (move === undefined) {
      this.#frames.pop()
      this.#undo(frame.trail)
    } else {
      frame.cursor++
      this.#take(frame, move)
    }
  }

  #classify(byInvocation: readonly number[]): readonly UnknownClass[] {
    const classes = new Map<string, number[]>()
    for (const index of byInvocation) {
      if (this.#operations[index]?.outcome !== 'info' || !this.#model.mayMatter(index)) continue
      const effect = this.#model.effect(index)
      const members = classes.get(effect)
      if (members === undefined) classes.set(effect, [index])
      else members.push(index)
    }
    return [...classes.values()].map((members) => ({ members, used: 0 }))
  }

  #take(frame: Frame, move: number): void {
    const trail = this.#trail.length
    const next = this.#stepOf(frame.state, move)
    if (move >= 0) {
      this.#place(move)
      this.#enter(next, { usage: frame.usage, before: undefined, trail })
    } else {
      const usage = this.#useOne(frame.usage, ~move)
      this.#enter(next, { usage, before: frame.state, trail })
    }
  }

  /** Goes to a configuration, unless an equal or better one was tried before: then it takes the move back. */
  #enter(state: State, by: Arrival): void {
    const length = this.#trail.length
    this.#arrival = { state, ...by }
    this.#settle(state)
    if (this.#wantsLongest && this.#placed > this.#longestPlaced) {
      this.#longestPlaced = this.#placed
      this.#longest = [...this.#trail]
    }
    if (this.#placed === this.#known.length) return
    if (this.#remember(state, by.usage)) {
      const before = this.#trail.length > length ? undefined : by.before
      const moves = this.#moves(state, before)
      this.#frames.push({ state, usage: by.usage, trail: by.trail, moves, cursor: 0 })
    } else this.#undo(by.trail)
  }

  /** Places at once the idle operations that fit: whatever order works, works with these moved to the front. */
  #settle(state: State): void {
    for (;;) {
      this.#collect()
      const idle = this.#candidates.filter((known) => {
        return this.#idle[known] === 1 && this.#stepOf(state, known) !== ILLEGAL
      })
      if (idle.length === 0) return
      for (const known of idle) this.#place(known)
    }
  }

  /** The unplaced known operations that no unplaced one precedes, by invocation. */
  #collect(): void {
    const links = this.#byInvocation
    const candidates: number[] = []
    const first = this.#byReturn.first
    if (first !== this.#byReturn.end) {
      const deadline = this.#deadline(first)
      for (let known = links.first; known !== links.end; known = links.after(known)) {
        if ((this.#invoked[known] as number) > deadline) break
        candidates.push(known)
      }
    }
    this.#candidates = candidates
  }

  /**
   * What to try from here, best first: what fits, by its deadline. If the most urgent does not fit: first what makes
   * it fit or fits in this state only, and known operations before unknown ones. A move right after an unknown
   * operation must depend on it: otherwise that could as well not have happened, which is tried elsewhere.
   */
  #moves(state: State, before: State | undefined): readonly number[] {
    const fits = (move: number): boolean => {
      const next = this.#stepOf(state, move)
      if (next === ILLEGAL || (next !== state && this.#isStillNeeded(state, move))) return false
      return before === undefined || this.#stepOf(before, move) !== next
    }
    const urgent = this.#byReturn.first
    const known = this.#candidates.filter(fits)
    known.sort((a, b) => this.#deadline(a) - this.#deadline(b))
    const unknown = this.#unknownMoves(state).filter(fits)
    if (known[0] === urgent || known.length + unknown.length < 2) return [...known, ...unknown]
    const rank = (move: number): number => {
      if (this.#stepOf(this.#stepOf(state, move), urgent) !== ILLEGAL) return move >= 0 ? 0 : 2
      if (move < 0) return 4
      return this.#model.needs(this.#operationOf(move)) === state ? 1 : 3
    }
    const ranked = [...known, ...unknown].map((move) => ({ move, rank: rank(move) }))
    return ranked.sort((a, b) => a.rank - b.rank).map(({ move }) => move)
  }

  /** Classes with an unused member that may have begun and would change the state. */
  #unknownMoves(state: State): readonly number[] {
    const deadline = this.#deadline(this.#byReturn.first)
    const moves: number[] = []
    for (const [index, { members, used }] of this.#classes.entries()) {
      const operation = members[used]
      if (operation === undefined) continue
      const begun = (this.#operations[operation] as Operation).invoked <= deadline
      if (begun && this.#stepOf(state, ~index) !== state) moves.push(~index)
    }
    return moves
  }

  /** Whether somebody but `move` needs this state and nobody can make it again. */
  #isStillNeeded(state: State, move: number): boolean {
    if (!this.#hasKnownMakers) return false
    const own = this.#model.needs(this.#operationOf(move)) === state ? 1 : 0
    return (this.#needed.get(state) ?? 0) > own && (this.#makers.get(state) ?? 0) === 0
  }

  /** Keeps account of which states are needed and can be made by what is not placed; `by` is 1 or -1. */
  #account(operation: number, by: number): void {
    const needs = this.#model.needs(operation)
    if (needs !== undefined) this.#needed.set(needs, (this.#needed.get(needs) ?? 0) + by)
    const makes = this.#model.makes(operation)
    if (typeof makes === 'number') this.#makers.set(makes, (this.#makers.get(makes) ?? 0) + by)
  }

  /** False if the configuration was tried with no more unknown operations used up than now. */
  #remember(state: State, usage: number): boolean {
    const key = this.#keyOf(state)
    const tried = this.#visited.get(key)
    this.#steps += tried?.length ?? 0
    if (tried?.some((other) => this.#isWithin(other, usage))) return false
    this.#configurations++
    if (tried === undefined) this.#visited.set(key, [usage])
    else tried.push(usage)
    return true
  }

  /** The candidates tell what is placed: all that began before the first deadline, but for them. */
  #keyOf(state: State): string {
    const bytes = 4 * (this.#candidates.length + 1)
    if (this.#key.length < bytes) this.#key = Buffer.alloc(2 * bytes)
    this.#key.writeUInt32LE(state, 0)
    let offset = 4
    for (const known of this.#candidates) offset = this.#key.writeUInt32LE(known, offset)
    return this.#key.toString('latin1', 0, offset)
  }

  /** Uses the next member of a class and names the usage that results. */
  #useOne(usage: number, index: number): number {
    const unknown = this.#classes[index] as UnknownClass
    this.#account(this.#operationOf(~index), -1)
    unknown.used++
    this.#trail.push(~index)
    const counts = new Map<number, number>()
    const before = this.#usages[usage] ?? []
    this.#steps += before.length
    for (let i = 0; i < before.length; i += 2) counts.set(before[i] ?? 0, before[i + 1] ?? 0)
    counts.set(index, unknown.used)
    const after = [...counts].sort(([a], [b]) => a - b).flat()
    const name = after.join()
    const known = this.#usageIds.get(name)
    if (known !== undefined) return known
    const made = this.#usages.push(after) - 1
    this.#usageIds.set(name, made)
    return made
  }

  #usedBy(usage: number): readonly Operation[] {
    const counts = this.#usages[usage] ?? []
    const used: Operation[] = []
    for (let i = 0; i < counts.length; i += 2) {
      const members = this.#classes[counts[i] as number]?.members ?? []
      for (const index of members.slice(0, counts[i + 1]))
        used.push(this.#operations[index] as Operation)
    }
    return used
  }

  /** Whether `less` used no class more often than `more` did. */
  #isWithin(less: number, more: number): boolean {
    if (less === more || less === 0) return true
    const a = this.#usages[less] ?? []
    const b = this.#usages[more] ?? []
    let j = 0
    for (let i = 0; i < a.length; i += 2) {
      while (j < b.length && (b[j] as number) < (a[i] as number)) j += 2
      if (b[j] !== a[i] || (b[j + 1] as number) < (a[i + 1] as number)) return false
    }
    return true
  }

  #place(known: number): void {
    this.#byInvocation.take(known)
    this.#byReturn.take(known)
    this.#account(this.#operationOf(known), -1)
    this.#trail.push(known)
    this.#placed++
  }

  #undo(length: number): void {
    while (this.#trail.length > length) {
      const move = this.#trail.pop() as number
      this.#account(this.#operationOf(move), 1)
      if (move < 0) {
        ;(this.#classes[~move] as UnknownClass).used--
        continue
      }
      this.#byInvocation.putBack(move)
      this.#byReturn.putBack(move)
      this.#placed--
    }
  }

  #stepOf(state: State, move: number): State {
    this.#steps++
    return this.#model.step(state, this.#operationOf(move))
  }

  /** The index of the operation; all members of a class are alike to the model. */
  #operationOf(move: number): number {
    return (move >= 0 ? this.#known[move] : this.#classes[~move]?.members[0]) as number
  }

  #deadline(known: number): number {
    return this.#returned[known] as number
  }

  #isOverLimit(): boolean {
    return (
      this.#steps > this.#limits.steps ||
      this.#configurations > this.#limits.configurations ||
      this.#model.states > this.#limits.states
    )
  }

  #result(outcome: SearchResult['outcome'], trail: readonly number[]): SearchResult {
    const used = this.#classes.map(() => 0)
    const order: Placed[] = []
    let state = this.#start
    for (const move of trail) {
      let index = this.#operationOf(move)
      if (move < 0) {
        const turn = used[~move] ?? 0
        used[~move] = turn + 1
        index = this.#classes[~move]?.members[turn] as number
      }
      state = this.#model.step(state, index)
      order.push({ operation: this.#operations[index] as Operation, state })
    }
    const placed = new Set(order.map(({ operation }) => operation))
    const known = this.#known.map((index) => this.#operations[index] as Operation)
    const unplaced = known.filter((operation) => !placed.has(operation))
    return { outcome, order, unplaced, model: this.#model, steps: this.#steps }
  }
}
