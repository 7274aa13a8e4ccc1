/*
 * Assertions of what only a bug can break. An AssertionError is caught nowhere: the process ends, because a
 * replica that goes on from a state that cannot exist is worse than one that stops. They stay on in production.
 */

export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Throws AssertionError unless `condition` holds; the message is built only when it does not. */
export function assert(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new AssertionError(message())
}

/** The end of an exhaustive switch: a compile error when a case is missing, an AssertionError at run time. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable value: ${JSON.stringify(value)}`)
}
