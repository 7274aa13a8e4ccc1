/*
 * The checker's door for programs: operations in, a verdict out. Linearizability is local (Herlihy and Wing, 1990):
 * a history is linearizable exactly if that of every key is, so the keys are searched one by one. It must not know
 * files or pictures.
 */

import type { Model } from './model.ts'
import { HistoryError, type Operation, shown } from './operation.ts'
import { type SearchLimits, searchOrder } from './search.ts'
import { stringModel } from './string-model.ts'

/** For one key: some seconds, and some hundreds of MB, at the most. */
export const KEY_LIMITS: SearchLimits = {
  steps: 10_000_000,
  configurations: 500_000,
  states: 500_000,
}

/** A key whose history no order explains, with all operations on it. */
export interface Violation {
  readonly key: string
  readonly operations: readonly Operation[]
}

/**
 * `invalid` if any key is; else `unknown` if any key's search met a limit; else `valid`. A history is never called
 * valid for want of time.
 */
export interface Verdict {
  readonly outcome: 'valid' | 'invalid' | 'unknown'
  readonly keys: number
  /** All of them, and those among them that failed or whose outcome is unknown. */
  readonly operations: number
  readonly failed: number
  readonly unknown: number
  readonly violations: readonly Violation[]
  /** Keys whose search met a limit. */
  readonly undecided: readonly string[]
  readonly steps: number
}

/**
 * Checks operations in any sequence (their order is in `invoked` and `returned`). Throws HistoryError for an
 * operation that the model does not have or whose positions are impossible.
 */
export function checkHistory(
  operations: Iterable<Operation>,
  model: Model = stringModel,
  limits: SearchLimits = KEY_LIMITS,
): Verdict {
  const byKey = new Map<string, Operation[]>()
  let count = 0
  let failed = 0
  let unknown = 0
  for (const operation of operations) {
    refuseImpossible(operation)
    count++
    if (operation.outcome === 'fail') failed++
    if (operation.outcome === 'info') unknown++
    const sameKey = byKey.get(operation.key)
    if (sameKey === undefined) byKey.set(operation.key, [operation])
    else sameKey.push(operation)
  }
  const violations: Violation[] = []
  const undecided: string[] = []
  let steps = 0
  for (const [key, sameKey] of byKey) {
    const result = searchOrder(sameKey, { model, limits })
    steps += result.steps
    if (result.outcome === 'illegal') violations.push({ key, operations: sameKey })
    else if (result.outcome === 'unknown') undecided.push(key)
  }
  const outcome = outcomeOf(violations.length, undecided.length)
  const keys = byKey.size
  return { outcome, keys, operations: count, failed, unknown, violations, undecided, steps }
}

/** Of parts of one history that share no key. */
export function mergeVerdicts(parts: readonly Verdict[]): Verdict {
  const sum = (of: (part: Verdict) => number): number => {
    return parts.reduce((total, part) => total + of(part), 0)
  }
  const violations = parts.flatMap((part) => part.violations)
  const undecided = parts.flatMap((part) => part.undecided)
  return {
    outcome: outcomeOf(violations.length, undecided.length),
    keys: sum((part) => part.keys),
    operations: sum((part) => part.operations),
    failed: sum((part) => part.failed),
    unknown: sum((part) => part.unknown),
    violations,
    undecided,
    steps: sum((part) => part.steps),
  }
}

function outcomeOf(violations: number, undecided: number): Verdict['outcome'] {
  if (violations > 0) return 'invalid'
  return undecided > 0 ? 'unknown' : 'valid'
}

function refuseImpossible(operation: Operation): void {
  const { invoked, returned, outcome, f, key } = operation
  const isPossible =
    Number.isFinite(invoked) &&
    returned >= invoked &&
    (outcome === 'info' ? returned === Number.POSITIVE_INFINITY : Number.isFinite(returned))
  if (isPossible) return
  const positions = `invoked ${invoked}, returned ${returned}, outcome ${outcome}`
  throw new HistoryError(`${f} on ${shown(key)}: impossible positions: ${positions}`)
}
