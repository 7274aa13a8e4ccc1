/*
 * Linearizability by its definition: every order of every choice of unknown operations, each replayed from the
 * start of the history. Exponential, for a handful of operations, and simple enough to be believed: the search is
 * compared with it. It imports nothing of the search or its model.
 */

import type { Operation } from './operation.ts'
import { applyCommand } from './reference.ts'

/** Whether some order of the operations (of one key, which does not exist before them) is legal. */
export function isLinearizable(operations: readonly Operation[]): boolean {
  return finalValues(operations).size > 0
}

/** The values that the key has after the legal orders. */
export function finalValues(operations: readonly Operation[]): ReadonlySet<string | null> {
  const known = operations.filter(({ outcome }) => outcome === 'ok')
  const unknown = operations.filter(({ outcome }) => outcome === 'info')
  const values = new Set<string | null>()
  for (let chosen = 0; chosen < 2 ** unknown.length; chosen++) {
    const happened = unknown.filter((_, index) => (chosen >> index) % 2 === 1)
    collect([...known, ...happened], null, values)
  }
  return values
}

function collect(rest: readonly Operation[], value: string | null, into: Set<string | null>): void {
  if (rest.length === 0) into.add(value)
  for (const next of rest) {
    if (rest.some((other) => other.returned < next.invoked)) continue
    const after = valueAfter(next, value)
    if (after === undefined) continue
    const others = rest.filter((other) => other !== next)
    collect(others, after, into)
  }
}

/** Undefined when the recorded reply is not what the operation would be answered. */
export function valueAfter(operation: Operation, value: string | null): string | null | undefined {
  const { f, args, outcome, reply } = operation
  try {
    const applied = applyCommand(value, f, args)
    const fits = outcome === 'info' || reply === undefined || applied.reply === reply
    return fits ? applied.value : undefined
  } catch {
    // Answered an error, it changes nothing; a recorded reply is then not what it would be answered.
    return outcome === 'info' || reply === undefined ? value : undefined
  }
}
