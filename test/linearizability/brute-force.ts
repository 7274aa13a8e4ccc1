/*
 * Linearizability by its definition: every order of every choice of unknown operations, each replayed from the
 * start of the history. Exponential, for a handful of operations, and simple enough to be believed: the search is
 * compared with it.
 */

import type { Operation } from './operation.ts'
import { applyCommand } from './reference.ts'

/** Whether some order of the operations (of one key) is legal. */
export function isLinearizable(operations: readonly Operation[]): boolean {
  const known = operations.filter(({ outcome }) => outcome === 'ok')
  const unknown = operations.filter(({ outcome }) => outcome === 'info')
  for (let chosen = 0; chosen < 2 ** unknown.length; chosen++) {
    const happened = unknown.filter((_, index) => (chosen >> index) % 2 === 1)
    if (hasLegalOrder([...known, ...happened], null)) return true
  }
  return false
}

function hasLegalOrder(rest: readonly Operation[], value: string | null): boolean {
  if (rest.length === 0) return true
  return rest.some((next) => {
    if (rest.some((other) => other.returned < next.invoked)) return false
    const after = valueAfter(next, value)
    if (after === undefined) return false
    return hasLegalOrder(
      rest.filter((other) => other !== next),
      after,
    )
  })
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
