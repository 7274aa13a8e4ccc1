/*
 * What a client did and what it was told: the one currency of the checker. The reader of history files, the
 * simulator and the Jepsen-style script make operations; the search, the explanation and the picture take them.
 * It must not know what a command means (string-model.ts does) nor where a history came from.
 */

/** What a client was answered: a bulk or simple string, an integer, or nil. */
export type Reply = string | number | null

/**
 * What is known of the outcome. `ok`: it took effect once, between invocation and return. `fail`: it took none and
 * never will. `info`: it takes effect once, at any time after its invocation, or never.
 */
export type Outcome = 'ok' | 'fail' | 'info'

export interface Operation {
  /** Who; only the picture looks at it. */
  readonly process: string
  readonly key: string
  /** The command in lower case, and its arguments behind the key. */
  readonly f: string
  readonly args: readonly string[]
  readonly outcome: Outcome
  /** Undefined unless the outcome is `ok`; undefined with `ok` means that the reply is not known. */
  readonly reply: Reply | undefined
  /**
   * Positions in one order of all events, such as line numbers or readings of one monotonic clock: A is before B
   * only if A.returned < B.invoked, equal positions are concurrent. `returned` is Infinity for `info`.
   */
  readonly invoked: number
  readonly returned: number
  /** The same two moments in nanoseconds, for people. `returnedNs` is Infinity for `info`. */
  readonly invokedNs: number
  readonly returnedNs: number
}

/** The history is not one: a line that is no event, a command that the model does not have. */
export class HistoryError extends Error {
  override readonly name = 'HistoryError'
  readonly code = 'HISTORY'
}

/** Anything but letters, digits, punctuation and symbols can move a terminal's cursor or end an XML document. */
const UNPRINTABLE = /[^\x20-\x7e\p{L}\p{N}\p{P}\p{S}]/gu

/** Text of a client as a person may see it: quoted, at most `charactersMax` of it, nothing in it acts. */
export function shown(text: string, charactersMax = 40): string {
  const cut = text.length > charactersMax
  const quoted = JSON.stringify(cut ? text.slice(0, charactersMax) : text)
  const safe = quoted.replace(UNPRINTABLE, (character) => {
    return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
  })
  return cut ? `${safe}… (${text.length})` : safe
}

/** A reply in a few words. */
export function shownReply(reply: Reply | undefined): string {
  if (reply === undefined) return '?'
  if (reply === null) return 'nil'
  return typeof reply === 'number' ? String(reply) : shown(reply)
}

/** `SET "a" "NX"`: command and arguments. */
export function shownCommand(operation: Operation): string {
  return [operation.f.toUpperCase(), ...operation.args.map((arg) => shown(arg))].join(' ')
}
