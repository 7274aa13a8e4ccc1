/*
 * Why a key's history is illegal, in a window of time as small as possible: it ends at the first reply that no
 * order explains, and begins as late as it can while no value that the key may have had by then makes it legal. Of
 * the operations in the window, the contradiction is a minimal part whose outcomes must be known (QuickXplain,
 * Junker 2004). docs/checker.md says why each of these steps keeps an illegal history illegal. It must not know how
 * that is drawn.
 */

import type { Violation } from './check.ts'
import type { Model } from './model.ts'
import { type Operation, type Reply, shown, shownCommand } from './operation.ts'
import {
  type Reached,
  type SearchLimits,
  type SearchRequest,
  type SearchResult,
  searchOrder,
  searchReached,
} from './search.ts'
import { stringModel } from './string-model.ts'

/** An operation in the longest legal order, and the value of the key after it. */
export interface OrderedOperation {
  readonly operation: Operation
  readonly value: string | null
  /** It counts as one of unknown outcome here, because it began before the window or returned after it. */
  readonly isForgotten: boolean
}

/** An operation that comes next in real time and fits nowhere. */
export interface StuckOperation {
  readonly operation: Operation
  /** What it would be answered after the longest legal order; undefined: an error. */
  readonly answer: Reply | undefined
}

export interface Explanation {
  readonly key: string
  /** The values that the key can have before the window; null: it does not exist. Illegal from each of them. */
  readonly before: readonly (string | null)[]
  /** Where the window begins, as a position of events; -Infinity if it is the whole history up to its end. */
  readonly from: number
  /** Where it ends: the first return that no order explains. */
  readonly to: number
  /** Begun in the window, by invocation; with those of unknown outcome that the order needs. */
  readonly window: readonly Operation[]
  /** The part of the window whose outcomes contradict each other. */
  readonly core: readonly Operation[]
  /** The first of `before` from which most operations fit, and that order of them. */
  readonly start: string | null
  readonly order: readonly OrderedOperation[]
  readonly stuck: readonly StuckOperation[]
  /** The last operations that ended before the window, which led to the values in `before`. */
  readonly leadIn: readonly Operation[]
  /** Other operations on the key in that time: begun before the window, or failed. At most CONTEXT_MAX. */
  readonly context: readonly Operation[]
  readonly hints: readonly string[]
}

const CONTEXT_MAX = 16
const LEAD_IN_MAX = 5
/** A window that could begin in more ways than this explains nothing. */
const STARTS_MAX = 24
/** Of one search, and of all for one explanation; what is not shrunk by then is shown as it is. */
const SEARCH_LIMITS: SearchLimits = { steps: 500_000, configurations: 50_000, states: 100_000 }
const STEPS_MAX = 10_000_000

/** Explains one violation of `checkHistory`. Takes some seconds at most. */
export function explain(violation: Violation, model: Model = stringModel): Explanation {
  return new Explainer(violation, model).explain()
}

interface Window {
  /** What the key may have come to before it. */
  readonly starts: readonly Reached[]
  /** What begins in it, and what may still take effect in it. */
  readonly operations: readonly Operation[]
  readonly from: number
  readonly to: number
}

class Explainer {
  readonly #violation: Violation
  readonly #model: Model
  #steps = 0

  constructor(violation: Violation, model: Model) {
    this.#violation = violation
    this.#model = model
  }

  explain(): Explanation {
    const history = this.#shortestPrefix()
    const window = this.#latestWindow(history)
    const known = window.operations.filter(({ outcome }) => outcome === 'ok')
    // The last to return is the one that made the history illegal; the fewer of the early ones, the better.
    known.sort((a, b) => b.returned - a.returned)
    const core = quickXplain([], known, (kept) => this.#isIllegal(weaken(window, new Set(kept))))
    return this.#describe(window, [...core].sort(byInvocation))
  }

  /** Up to the first return that makes the history illegal. */
  #shortestPrefix(): readonly Operation[] {
    const { operations } = this.#violation
    const known = operations.filter(({ outcome }) => outcome === 'ok')
    const returns = known.map(({ returned }) => returned).sort((a, b) => a - b)
    let legal = 0
    let illegal = returns.length
    while (illegal - legal > 1) {
      const middle = (legal + illegal) >> 1
      const part = prefix(operations, returns[middle - 1] ?? 0)
      if (this.#isIllegal(wholeWindow(part))) illegal = middle
      else legal = middle
    }
    return prefix(operations, returns[illegal - 1] ?? 0)
  }

  /** The illegal window that begins last: tried from the end, each time twice as long, then halved. */
  #latestWindow(history: readonly Operation[]): Window {
    const known = history.filter(({ outcome }) => outcome === 'ok')
    const starts = known.map(({ invoked }) => invoked).sort((a, b) => a - b)
    let tooLate = starts.length
    let found = { window: wholeWindow(history), at: 0 }
    for (let length = 1; length < starts.length; length *= 2) {
      const at = starts.length - length
      const window = this.#illegalWindow(history, starts[at] ?? 0)
      if (window !== undefined) {
        found = { window, at }
        break
      }
      tooLate = at
    }
    while (tooLate - found.at > 1) {
      const at = (tooLate + found.at) >> 1
      const window = this.#illegalWindow(history, starts[at] ?? 0)
      if (window === undefined) tooLate = at
      else found = { window, at }
    }
    return found.window
  }

  /** What begins at `from` or later; undefined if some value before it makes it legal, or that is not known. */
  #illegalWindow(history: readonly Operation[], from: number): Window | undefined {
    if (this.#steps > STEPS_MAX) return undefined
    const earlier = history.filter(({ invoked }) => invoked < from)
    const over = earlier.map((operation) => {
      return operation.returned < from ? operation : forgotten(operation)
    })
    this.#steps += history.length
    const starts = searchReached(over, this.#request(null))
    if (starts === undefined || starts.length > STARTS_MAX) return undefined
    const open = over.filter(({ outcome }) => outcome === 'info')
    const operations = [...open, ...history.filter(({ invoked }) => invoked >= from)]
    const window = { starts, operations, from, to: endOf(history) }
    return this.#isIllegal(window) ? window : undefined
  }

  #isIllegal({ starts, operations }: Window): boolean {
    return starts.every((start) => {
      if (this.#steps > STEPS_MAX) return false
      const result = searchOrder(after(start, operations), this.#request(start.value))
      this.#steps += result.steps + operations.length
      return result.outcome === 'illegal'
    })
  }

  #request(start: string | null): SearchRequest {
    const { operations } = this.#violation
    return { model: this.#model, limits: SEARCH_LIMITS, start, witnesses: operations }
  }

  #describe(window: Window, core: readonly Operation[]): Explanation {
    const { operations, key } = this.#violation
    const results = window.starts.map((start) => {
      const request = { ...this.#request(start.value), wantsLongest: true }
      const left = after(start, window.operations)
      return { start: start.value, left, result: searchOrder(left, request) }
    })
    const best = results.reduce((a, b) => (b.result.order.length > a.result.order.length ? b : a))
    const { result, start, left } = best
    const stuck = stuckIn(result, left, start)
    const ordered = new Set(result.order.map(({ operation }) => operation))
    const recorded = new Map(operations.map((operation) => [idOf(operation), operation]))
    const asRecorded = (operation: Operation): Operation => {
      return recorded.get(idOf(operation)) ?? operation
    }
    const inWindow = window.operations
      .filter((operation) => operation.invoked >= window.from || ordered.has(operation))
      .map(asRecorded)
      .sort(byInvocation)
    return {
      key,
      before: [...new Set(window.starts.map(({ value }) => value))],
      from: window.from,
      to: window.to,
      window: inWindow,
      core,
      start,
      order: result.order.map(({ operation, state }) => {
        const original = asRecorded(operation)
        const isForgotten = original.outcome !== operation.outcome
        return { operation: original, value: result.model.value(state), isForgotten }
      }),
      stuck,
      leadIn: leadInOf(operations, window.from),
      context: contextOf(operations, inWindow, window),
      hints: stuck.flatMap(({ operation }) => hintsOn(operation, operations, this.#model)),
    }
  }
}

function byInvocation(a: Operation, b: Operation): number {
  return a.invoked - b.invoked
}

/** The operation as if nobody knew its outcome: it may have happened at any time, or not. */
function forgotten(operation: Operation): Operation {
  const never = Number.POSITIVE_INFINITY
  return { ...operation, outcome: 'info', reply: undefined, returned: never, returnedNs: never }
}

function prefix(operations: readonly Operation[], end: number): readonly Operation[] {
  return operations
    .filter(({ invoked, outcome }) => invoked <= end && outcome !== 'fail')
    .map((operation) => (operation.returned > end ? forgotten(operation) : operation))
}

function wholeWindow(operations: readonly Operation[]): Window {
  const starts = [{ value: null, used: [] }]
  return { starts, operations, from: Number.NEGATIVE_INFINITY, to: endOf(operations) }
}

/** The operations that are left when it came to `start`. */
function after({ used }: Reached, operations: readonly Operation[]): readonly Operation[] {
  return used.length === 0
    ? operations
    : operations.filter((operation) => !used.includes(operation))
}

/** The last return. */
function endOf(operations: readonly Operation[]): number {
  const ends = operations.map(({ returned }) => returned).filter(Number.isFinite)
  return ends.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
}

function weaken(window: Window, kept: ReadonlySet<Operation>): Window {
  const operations = window.operations.map((operation) => {
    return operation.outcome !== 'ok' || kept.has(operation) ? operation : forgotten(operation)
  })
  return { ...window, operations }
}

/**
 * A minimal part of `parts` that is enough together with `base`, if all of them are. Prefers earlier parts. It asks
 * `isEnough`, which must stay true when parts are added, O(k log(n / k)) times for k of n parts.
 */
export function quickXplain<T>(
  base: readonly T[],
  parts: readonly T[],
  isEnough: (kept: readonly T[]) => boolean,
): readonly T[] {
  if (parts.length === 0 || isEnough(base)) return []
  if (parts.length === 1) return parts
  const half = parts.length >> 1
  const first = parts.slice(0, half)
  const second = parts.slice(half)
  const ofSecond = quickXplain([...base, ...first], second, isEnough)
  const ofFirst = quickXplain([...base, ...ofSecond], first, isEnough)
  return [...ofFirst, ...ofSecond]
}

/** The unplaced operations that no other unplaced one precedes. */
function stuckIn(
  result: SearchResult,
  operations: readonly Operation[],
  start: string | null,
): readonly StuckOperation[] {
  const { order, unplaced, model } = result
  const state = order.at(-1)?.state ?? model.state(start)
  const next = unplaced.filter(({ invoked }) => {
    return unplaced.every(({ returned }) => returned >= invoked)
  })
  return next.map((operation) => {
    return { operation, answer: model.reply(state, operations.indexOf(operation)) }
  })
}

function leadInOf(operations: readonly Operation[], from: number): readonly Operation[] {
  const ended = operations.filter(({ returned, outcome }) => outcome === 'ok' && returned < from)
  const last = ended.sort((a, b) => a.returned - b.returned).slice(-LEAD_IN_MAX)
  return last.sort(byInvocation)
}

/** What else happened on the key at that time; what ended last is nearest to the contradiction. */
function contextOf(
  operations: readonly Operation[],
  window: readonly Operation[],
  { from, to }: { readonly from: number; readonly to: number },
): readonly Operation[] {
  const ids = new Set(window.map(idOf))
  const others = operations.filter((operation) => {
    const { invoked, returned, outcome } = operation
    if (ids.has(idOf(operation)) || invoked > to || returned < from) return false
    // What was lost long ago is no news; of those, the order shows the ones that it needs.
    return outcome !== 'info' || invoked >= from
  })
  return others.sort(byInvocation).slice(-CONTEXT_MAX)
}

/** Names an operation and all weakened copies of it: no process invokes twice at one moment. */
export function idOf({ process, invoked }: Operation): string {
  return `${invoked} ${process}`
}

/** Where the value of a reply comes from. */
function hintsOn(
  stuck: Operation,
  operations: readonly Operation[],
  model: Model,
): readonly string[] {
  const { reply } = stuck
  if (typeof reply !== 'string' || reply === 'OK') return []
  const key = model.begin(operations)
  const makes = operations.map((_, index) => key.makes(index))
  const writers = operations.filter((other, index) => {
    return other !== stuck && makes[index] === key.state(reply)
  })
  const taken = writers.filter(({ outcome, invoked }) => {
    return outcome !== 'fail' && invoked <= stuck.returned
  })
  const writer = taken.at(-1) ?? writers[0]
  if (writer === undefined) {
    return makes.includes('derives') ? [] : [`no operation on this key writes ${shown(reply)}`]
  }
  const { outcome, invoked, returned } = writer
  const by = `${shown(reply)} is what ${shownCommand(writer)} of process ${shown(writer.process)} wrote`
  if (outcome === 'fail') return [`${by}, which was answered as failed`]
  if (outcome === 'info') return [`${by}, whose outcome is unknown`]
  if (invoked > stuck.returned) return [`${by}, which was invoked later`]
  return [`${by}, ${returned < stuck.invoked ? 'which had returned before' : 'at the same time'}`]
}
