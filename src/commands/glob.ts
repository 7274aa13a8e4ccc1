/*
 * Glob patterns as Redis matches them: `*`, `?`, `[abc]`, `[^a-z]` and a backslash that takes the
 * next character literally. Iterative, with one step back to the latest star, so that no pattern
 * costs more than the product of the two lengths (CVE-2022-36021, CVE-2024-31228 were recursion).
 * Works on latin1 strings: one character, one byte.
 */

import { keyOf } from './arguments.ts'
import { CommandError } from './command.ts'

/**
 * Longer patterns are refused: matching costs their length times that of everything they are held
 * against.
 */
const PATTERN_BYTES_MAX = 1024

/** The pattern in an argument. Throws CommandError when it is too long. */
export function patternOf(bytes: Uint8Array): string {
  if (bytes.length > PATTERN_BYTES_MAX) throw new CommandError('ERR pattern is too long')
  return keyOf(bytes)
}

/**
 * Whether all of `text` matches `pattern`. Compares exactly; who wants any case lowers both before.
 */
export function globMatches(pattern: string, text: string): boolean {
  return new GlobMatch(pattern, text).advance(Number.POSITIVE_INFINITY) === true
}

/** At most so many steps decide a match. */
export function globSteps(pattern: string, text: string): number {
  return (pattern.length + 1) * (text.length + 1)
}

/** A match that can be interrupted: of a long pattern and a long text it takes seconds. */
export class GlobMatch {
  readonly #pattern: string
  readonly #text: string
  #p = 0
  #t = 0
  #star = -1
  #starText = 0

  constructor(pattern: string, text: string) {
    this.#pattern = pattern
    this.#text = text
  }

  /** Goes on for about so many steps; undefined: it is not decided yet. */
  advance(steps: number): boolean | undefined {
    const pattern = this.#pattern
    const text = this.#text
    let p = this.#p
    let t = this.#t
    let left = steps
    // As in Redis, where not even stars match nothing at all.
    if (text === '') return pattern === ''
    while (t < text.length && left > 0) {
      if (pattern[p] === '*') {
        this.#star = p++
        this.#starText = t
        continue
      }
      const end = p < pattern.length ? matchOne(pattern, p, text.charCodeAt(t)) : -1
      left -= Math.max(1, end - p)
      if (end >= 0) {
        p = end
        t++
      } else if (this.#star >= 0) {
        // The latest star takes one character more; earlier stars need no second try.
        p = this.#star + 1
        t = ++this.#starText
      } else {
        return false
      }
    }
    this.#p = p
    this.#t = t
    if (t < text.length) return undefined
    while (pattern[p] === '*') p++
    return p === pattern.length
  }
}

/**
 * Where the pattern goes on after its element at `p` has matched `char`; -1 when it does not match.
 */
function matchOne(pattern: string, p: number, char: number): number {
  switch (pattern[p]) {
    case '?':
      return p + 1
    case '[':
      return matchClass(pattern, p + 1, char)
    case '\\':
      // A backslash at the very end stands for itself.
      return matchLiteral(pattern, p + 1 < pattern.length ? p + 1 : p, char)
    default:
      return matchLiteral(pattern, p, char)
  }
}

function matchLiteral(pattern: string, p: number, char: number): number {
  return pattern.charCodeAt(p) === char ? p + 1 : -1
}

/** A class without its closing bracket reaches to the end of the pattern, as in Redis. */
function matchClass(pattern: string, first: number, char: number): number {
  const negated = pattern[first] === '^'
  let p = negated ? first + 1 : first
  let found = false
  while (p < pattern.length && pattern[p] !== ']') {
    if (pattern[p] === '\\' && p + 1 < pattern.length) {
      p++
      if (pattern.charCodeAt(p) === char) found = true
    } else if (pattern[p + 1] === '-' && p + 2 < pattern.length) {
      const a = pattern.charCodeAt(p)
      const b = pattern.charCodeAt(p + 2)
      if (char >= Math.min(a, b) && char <= Math.max(a, b)) found = true
      p += 2
    } else if (pattern.charCodeAt(p) === char) {
      found = true
    }
    p++
  }
  if (found === negated) return -1
  return p < pattern.length ? p + 1 : p
}
