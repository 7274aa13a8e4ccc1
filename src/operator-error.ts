/*
 * What an operator did or can mend: a bad option, a port in use, a directory that is held by another process.
 * Such an error is told in one line, without a stack, and ends the process: a start with exit code 1. It must never
 * stand for a bug: those are assertions, and they keep their stack.
 */

export class OperatorError extends Error {
  override readonly name = 'OperatorError'
  /** Stable word for tests and callers, such as 'CONFIG', 'PORT_IN_USE' or 'DATA_LOCKED'. */
  readonly code: string

  /** `message`: what is wrong with which value, and what to do. It is made one line, whatever it quotes. */
  constructor(code: string, message: string) {
    super(message.replace(/\s*[\r\n]+\s*/g, ' '))
    this.code = code
  }
}

const SYSTEM_ERRORS = new Map([
  ['EADDRINUSE', 'is in use by another process'],
  ['EADDRNOTAVAIL', 'is not an address of this machine'],
  ['ENOTFOUND', 'is a host name that cannot be resolved'],
  ['EACCES', 'is closed to this user'],
  ['EPERM', 'is closed to this user'],
  ['EROFS', 'is on a read-only file system'],
  ['ENOSPC', 'is on a full disk'],
  ['EDQUOT', 'is over its disk quota'],
  ['ENOTDIR', 'is not a directory'],
  ['EISDIR', 'is a directory'],
  ['ENOENT', 'does not exist'],
  ['EMFILE', 'needs more open files than `ulimit -n` allows'],
])

/**
 * The OperatorError that a failed system call on `what` (such as "the data directory /x") amounts to;
 * undefined when the error is of another nature, and then it must not be dressed up as one.
 */
export function fromSystemError(what: string, error: unknown): OperatorError | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') {
    return undefined
  }
  const meaning = SYSTEM_ERRORS.get(error.code)
  if (meaning === undefined) return undefined
  return new OperatorError(error.code, `${what} ${meaning} (${error.code})`)
}

/**
 * The one line for a start that failed through the operator's world; undefined for a bug. The house rule makes
 * the difference: what an operator can cause is an Error with a `code`, what only a bug can cause has none. Node's
 * own complaints about wrong calls (ERR_...) are bugs of ours.
 */
export function operatorLine(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') {
    return undefined
  }
  return error.code.startsWith('ERR_')
    ? undefined
    : new OperatorError(error.code, error.message).message
}
