/*
 * The framing guard: it finds where commands end and decides whether they may pass, before anything
 * that trusts its input sees them. It admits only `*N` of `$len` within the limits, and lines for
 * inline commands. It keeps counters and no bytes, and makes no values: so it can stop and go on at
 * any byte, costs no memory for what a header merely announces, and is no second decoder.
 */

import type { Buffer } from 'node:buffer'

/** Read at every header, so a changed limit holds from the next header on. */
export interface FramingLimits {
  /** Bytes of one bulk string (`proto-max-bulk-len`). */
  readonly bulkBytesMax: number
  /** Arguments of one command, its name included. Redis took 1,048,576 for years. */
  readonly argumentsMax: number
  /** Bytes before the end of an inline command or of a header line. Redis: 65,536. */
  readonly lineBytesMax: number
  /** The same two limits before AUTH (CVE-2021-32675). Redis: 10 and 16,384. */
  readonly unauthenticatedArgumentsMax: number
  readonly unauthenticatedBulkBytesMax: number
}

/** What stands between the last position and `at`, or why there is nothing yet. */
export type Verdict = 'command' | 'inline' | 'ignored' | 'incomplete' | 'refused'

const START = 0
const HEADER_TYPE = 1
const HEADER = 2
const HEADER_LF = 3
const PAYLOAD = 4
const INLINE = 5
type State =
  | typeof START
  | typeof HEADER_TYPE
  | typeof HEADER
  | typeof HEADER_LF
  | typeof PAYLOAD
  | typeof INLINE

/** The arguments still to come while the count header itself is being read. */
const COUNTING = -1
/** Ten digits hold every length that any limit allows, and stay exact. */
const HEADER_DIGITS_MAX = 10

const LF = 10
const CR = 13
const DOLLAR = 36
const ASTERISK = 42
const MINUS = 45
const ZERO = 48
/** The first bytes of every other RESP2 and RESP3 type; no command begins with one. */
const OTHER_TYPES: ReadonlySet<number> = new Set(
  Array.from('$+-:_,#!=(%~>|', (type) => type.charCodeAt(0)),
)

/**
 * Finds where commands end and says whether they may pass, a byte at a time, at every split point
 * alike: errors depend on the bytes, never on how they were cut into chunks. It keeps counters, not
 * bytes.
 */
export class FramingGuard {
  /** Just behind the last byte that was scanned. */
  at = 0
  /** Why the verdict was 'refused'. */
  refusal = ''
  /** Of the unfinished command at the end of the latest scan: arguments that ended in it, and just behind the last. */
  argumentsEnded = 0
  argumentEnd = 0
  readonly #limits: FramingLimits
  #state: State = START
  #argumentsLeft = COUNTING
  /** Payload bytes still to come, its CRLF included. */
  #payloadLeft = 0
  #lineBytes = 0
  #value = 0
  #digits = 0
  #negative = false
  #malformed = false
  /** The byte found where a bulk string had to begin; -1 when one did. */
  #unexpected = -1

  constructor(limits: FramingLimits) {
    this.#limits = limits
  }

  /** Bytes to the end of the command being scanned; Infinity while only its headers could tell. */
  get missingBytes(): number {
    if (this.#state === START) return 0
    if (this.#state === PAYLOAD && this.#argumentsLeft === 1) return this.#payloadLeft
    return Number.POSITIVE_INFINITY
  }

  /** Scans from `from` to the end of one command or of the chunk; `at` says how far it came. */
  scan(chunk: Buffer, from: number, authenticated: boolean): Verdict {
    const end = chunk.length
    this.at = from
    this.argumentsEnded = 0
    while (this.at < end) {
      switch (this.#state) {
        case START: {
          const verdict = this.#begin(chunk)
          if (verdict !== undefined) return verdict
          break
        }
        case HEADER_TYPE:
          this.#beginBulk(chunk[this.at++] as number)
          break
        case HEADER:
          if (!this.#scanHeader(chunk)) return 'refused'
          break
        case HEADER_LF: {
          if (chunk[this.at++] !== LF) this.#malformed = true
          const verdict = this.#endHeader(authenticated)
          if (verdict !== undefined) return verdict
          break
        }
        case PAYLOAD: {
          const verdict = this.#scanPayload(chunk)
          if (verdict !== undefined) return verdict
          break
        }
        case INLINE:
          return this.#scanInline(chunk)
      }
    }
    return 'incomplete'
  }

  #begin(chunk: Buffer): Verdict | undefined {
    const byte = chunk[this.at] as number
    this.#lineBytes = 0
    if (byte === ASTERISK) {
      this.at++
      this.#argumentsLeft = COUNTING
      this.#beginHeader()
      return undefined
    }
    if ((byte === CR || byte === LF) && this.#skipEmptyLines(chunk)) return 'ignored'
    if (OTHER_TYPES.has(byte)) return this.#refuse(expected('*', byte))
    this.#state = INLINE
    return undefined
  }

  /**
   * Steps over all empty lines at once, so that a flood of them costs little; false if none is
   * whole.
   */
  #skipEmptyLines(chunk: Buffer): boolean {
    const start = this.at
    for (;;) {
      if (chunk[this.at] === LF) this.at += 1
      else if (chunk[this.at] === CR && chunk[this.at + 1] === LF) this.at += 2
      else return this.at > start
    }
  }

  #beginBulk(byte: number): void {
    this.#beginHeader()
    if (byte === DOLLAR) return
    this.#unexpected = byte
    if (byte === CR) this.#state = HEADER_LF
  }

  /** Forgets the header before; its type byte is behind `at` and counts into the line. */
  #beginHeader(): void {
    this.#state = HEADER
    this.#lineBytes = 1
    this.#value = 0
    this.#digits = 0
    this.#negative = false
    this.#malformed = false
    this.#unexpected = -1
  }

  /**
   * Reads digits up to the CR; false when the line is too long. What is wrong is said at its end.
   */
  #scanHeader(chunk: Buffer): boolean {
    const end = chunk.length
    let at = this.at
    let value = this.#value
    let digits = this.#digits
    let content = 0
    while (at < end) {
      const byte = chunk[at++] as number
      const digit = byte - ZERO
      if (digit >= 0 && digit <= 9) {
        /* A leading zero, or one digit too many. */
        if (digits === HEADER_DIGITS_MAX || (digits === 1 && value === 0)) this.#malformed = true
        else {
          value = value * 10 + digit
          digits++
        }
      } else if (byte === CR) {
        this.#state = HEADER_LF
        break
      } else this.#otherHeaderByte(byte, digits)
      content++
    }
    this.at = at
    this.#value = value
    this.#digits = digits
    this.#lineBytes += content
    if (this.#lineBytes <= this.#limits.lineBytesMax) return true
    this.#refuse(`too big ${this.#argumentsLeft === COUNTING ? 'mbulk' : 'bulk'} count string`)
    return false
  }

  /** Only a count may have a sign: `*-1` is a command of nothing, to be ignored. */
  #otherHeaderByte(byte: number, digits: number): void {
    const isSign = byte === MINUS && digits === 0 && this.#argumentsLeft === COUNTING
    if (isSign && !this.#negative) this.#negative = true
    else this.#malformed = true
  }

  #endHeader(authenticated: boolean): Verdict | undefined {
    if (this.#digits === 0 || (this.#negative && this.#value === 0)) this.#malformed = true
    return this.#argumentsLeft === COUNTING
      ? this.#endCount(authenticated)
      : this.#endLength(authenticated)
  }

  #endCount(authenticated: boolean): Verdict | undefined {
    const count = this.#value
    if (this.#malformed || (!this.#negative && count > this.#limits.argumentsMax)) {
      return this.#refuse('invalid multibulk length')
    }
    if (count === 0 || this.#negative) {
      this.#state = START
      return 'ignored'
    }
    if (!authenticated && count > this.#limits.unauthenticatedArgumentsMax) {
      return this.#refuse('unauthenticated multibulk length')
    }
    this.#argumentsLeft = count
    this.#state = HEADER_TYPE
    return undefined
  }

  #endLength(authenticated: boolean): Verdict | undefined {
    const length = this.#value
    if (this.#unexpected >= 0) return this.#refuse(expected('$', this.#unexpected))
    if (this.#malformed || length > this.#limits.bulkBytesMax) {
      return this.#refuse('invalid bulk length')
    }
    if (!authenticated && length > this.#limits.unauthenticatedBulkBytesMax) {
      return this.#refuse('unauthenticated bulk length')
    }
    this.#payloadLeft = length + 2
    this.#state = PAYLOAD
    return undefined
  }

  /**
   * Steps over the payload and checks its CRLF, without which the next header would be the client's
   * data.
   */
  #scanPayload(chunk: Buffer): Verdict | undefined {
    const end = this.at + this.#payloadLeft
    /* The common case: all that is left of it is here. */
    if (end <= chunk.length && this.#payloadLeft >= 2) {
      this.at = end
      if (chunk[end - 2] === CR && chunk[end - 1] === LF) return this.#endBulk()
      return this.#refuse('bulk string not terminated by CRLF')
    }
    const skipped = Math.min(this.#payloadLeft - 2, chunk.length - this.at)
    if (skipped > 0) {
      this.at += skipped
      this.#payloadLeft -= skipped
    }
    while (this.at < chunk.length) {
      if (chunk[this.at] !== (this.#payloadLeft === 2 ? CR : LF)) {
        return this.#refuse('bulk string not terminated by CRLF')
      }
      this.at++
      if (--this.#payloadLeft === 0) return this.#endBulk()
    }
    return undefined
  }

  #endBulk(): Verdict | undefined {
    this.#state = HEADER_TYPE
    this.argumentsEnded++
    this.argumentEnd = this.at
    if (--this.#argumentsLeft > 0) return undefined
    this.#state = START
    return 'command'
  }

  #scanInline(chunk: Buffer): Verdict {
    const found = chunk.indexOf(LF, this.at)
    this.#lineBytes += (found < 0 ? chunk.length : found) - this.at
    if (this.#lineBytes > this.#limits.lineBytesMax) return this.#refuse('too big inline request')
    if (found < 0) {
      this.at = chunk.length
      return 'incomplete'
    }
    this.at = found + 1
    this.#state = START
    return 'inline'
  }

  #refuse(detail: string): Verdict {
    this.refusal = detail
    return 'refused'
  }
}

function expected(type: string, byte: number): string {
  return `expected '${type}', got '${String.fromCharCode(byte)}'`
}
