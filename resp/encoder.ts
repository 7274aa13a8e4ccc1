/*
 * The one encoder of the house: a Reply becomes RESP2 or RESP3 bytes in a connection's ReplyBuffer.
 * It knows the protocol and nothing of commands, sessions or sockets, so that every face of the
 * server (clients, forwarded commands, later scripts and push messages) answers with the same
 * bytes. It runs once per reply, so headers and short payloads are written byte by byte: a call
 * into the runtime costs more than the bytes do.
 */

import { Buffer } from 'node:buffer'

/** The RESP version a connection speaks; HELLO switches it. */
export type Protocol = 2 | 3

/**
 * What a command answers. A Uint8Array is a bulk string of exactly these bytes; a string is a bulk
 * string of UTF-8 text (a key held as latin1 must be turned into bytes first); number and bigint
 * are integers; null is the null bulk string, `nullArray` the null array; an array is an array.
 */
export type Reply =
  | Uint8Array
  | string
  | number
  | bigint
  | boolean
  | null
  | NullArrayReply
  | SimpleReply
  | ErrorReply
  | MapReply
  | SetReply
  | DoubleReply
  | VerbatimReply
  | PushReply
  | EncodedReply
  | readonly Reply[]

/** A status line such as `+OK`. CR and LF in the text become spaces. */
export class SimpleReply {
  readonly kind = 'simple'
  readonly text: string
  /** The whole line as it is sent, made once. */
  readonly encoded: Uint8Array

  constructor(text: string) {
    this.text = oneLine(text)
    this.encoded = Buffer.from(`+${this.text}\r\n`)
  }
}

/**
 * An error line; `text` begins with its code: `ERR unknown command ...`, and has one character per byte,
 * because it may repeat a client's own. CR and LF become spaces.
 */
export class ErrorReply {
  readonly kind = 'error'
  readonly text: string
  /** The whole line as it is sent, made once. */
  readonly encoded: Uint8Array

  constructor(text: string) {
    this.text = oneLine(text)
    this.encoded = Buffer.from(`-${this.text}\r\n`, 'latin1')
  }
}

/** Pairs of field and value: a map in RESP3, the flat array field, value, field, value in RESP2. */
export class MapReply {
  readonly kind = 'map'
  readonly entries: readonly (readonly [Reply, Reply])[]

  constructor(entries: readonly (readonly [Reply, Reply])[]) {
    this.entries = entries
  }
}

/** A set in RESP3, an array in RESP2. The caller vouches that no member stands twice. */
export class SetReply {
  readonly kind = 'set'
  readonly members: readonly Reply[]

  constructor(members: readonly Reply[]) {
    this.members = members
  }
}

/** A double in RESP3, a bulk string with the same digits in RESP2. */
export class DoubleReply {
  readonly kind = 'double'
  readonly value: number

  constructor(value: number) {
    this.value = value
  }
}

/** Text a person reads (INFO, LOLWUT): a verbatim string in RESP3, a bulk string in RESP2. */
export class VerbatimReply {
  readonly kind = 'verbatim'
  readonly format: 'txt' | 'mkd'
  readonly text: string

  constructor(text: string, format: 'txt' | 'mkd' = 'txt') {
    this.text = text
    this.format = format
  }
}

/** A message the client did not ask for: a push in RESP3, an array in RESP2. */
export class PushReply {
  readonly kind = 'push'
  readonly elements: readonly Reply[]

  constructor(elements: readonly Reply[]) {
    this.elements = elements
  }
}

/** The null array `*-1` of RESP2 (an aborted EXEC, a timed-out BLPOP); plain null in RESP3. */
export class NullArrayReply {
  readonly kind = 'nullArray'
}

/**
 * A reply that somebody has encoded already, in the protocol of whoever gets it: the bytes of all pieces, one after the
 * other, in memory that nobody writes again.
 */
export class EncodedReply {
  readonly kind = 'encoded'
  readonly pieces: readonly Uint8Array[]
  /** Bytes of all pieces. */
  readonly length: number

  constructor(...pieces: readonly Uint8Array[]) {
    this.pieces = pieces
    this.length = pieces.reduce((bytes, piece) => bytes + piece.length, 0)
  }
}

export const OK: SimpleReply = new SimpleReply('OK')
export const PONG: SimpleReply = new SimpleReply('PONG')
export const QUEUED: SimpleReply = new SimpleReply('QUEUED')
export const nullArray: NullArrayReply = new NullArrayReply()

/**
 * The first buffer of a connection: most pipelines of small replies fit after one or two doublings.
 */
const FIRST_CAPACITY_BYTES = 1024
/** A buffer up to this size stays with its connection; Redis keeps as much per client. */
const RETAINED_CAPACITY_BYTES = 16 * 1024
/** Below this many bytes a loop beats a call of TypedArray.set. */
const LOOP_COPY_BYTES = 24
/** Short texts are tried as ASCII first, which needs no measuring pass. */
const SHORT_TEXT_LENGTH = 64
/** A type byte, an int64 with its sign, CR and LF. */
const HEADER_BYTES_MAX = 1 + 20 + 2
const INT32_MAX = 0x7fffffff

const CR = 13
const LF = 10
const ZERO = 48
const MINUS = 45
const ASTERISK = 42
const COLON = 58
const DOLLAR = 36
const PERCENT = 37
const TILDE = 126
const GREATER = 62
const COMMA = 44
const EQUALS = 61

const EMPTY = Buffer.alloc(0)
const NULL_BULK: Uint8Array = Buffer.from('$-1\r\n')
const NULL_ARRAY: Uint8Array = Buffer.from('*-1\r\n')
const NULL: Uint8Array = Buffer.from('_\r\n')
const TRUE: Uint8Array = Buffer.from('#t\r\n')
const FALSE: Uint8Array = Buffer.from('#f\r\n')

/**
 * The bytes a connection still has to send. Values are copied at once, exactly one time: what was
 * appended may change afterwards, because the memory behind a value belongs to the store, which
 * re-uses it or hands it to its worker before a slow client has read the reply.
 */
export class ReplyBuffer {
  #buffer: Buffer = EMPTY
  #length = 0

  /** Bytes appended since the last take. */
  get length(): number {
    return this.#length
  }

  /**
   * Appends one reply as the given protocol writes it. RangeError for a number that is no integer.
   */
  append(reply: Reply, protocol: Protocol): void {
    if (typeof reply === 'object') {
      if (reply === null) this.appendRaw(protocol === 3 ? NULL : NULL_BULK)
      else if (reply instanceof Uint8Array) this.#bulk(reply)
      else if (isArray(reply)) this.#aggregate(ASTERISK, reply, protocol)
      else this.#tagged(reply, protocol)
    } else if (typeof reply === 'string') this.#text(reply)
    else if (typeof reply === 'number') this.#integer(reply)
    else if (typeof reply === 'boolean') this.#boolean(reply, protocol)
    else this.appendRaw(Buffer.from(`:${reply}\r\n`, 'latin1'))
  }

  /** Appends bytes that are RESP already: the answer to a forwarded command. */
  appendRaw(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    this.#copy(bytes)
  }

  /**
   * Everything appended so far, in memory that nobody writes again, and starts anew. A small buffer
   * is copied out and kept; a large one is handed over, so that no connection keeps what one reply
   * took.
   */
  take(): Uint8Array {
    const length = this.#length
    if (length === 0) return EMPTY
    this.#length = 0
    if (this.#buffer.length > RETAINED_CAPACITY_BYTES) {
      const taken = this.#buffer.subarray(0, length)
      this.#buffer = EMPTY
      return taken
    }
    const taken = Buffer.allocUnsafe(length)
    this.#buffer.copy(taken, 0, 0, length)
    return taken
  }

  #tagged(reply: Exclude<Reply & object, Uint8Array | readonly Reply[]>, protocol: Protocol): void {
    switch (reply.kind) {
      case 'simple':
      case 'error':
        this.appendRaw(reply.encoded)
        return
      case 'map':
        this.#map(reply, protocol)
        return
      case 'set':
        this.#aggregate(protocol === 3 ? TILDE : ASTERISK, reply.members, protocol)
        return
      case 'push':
        this.#aggregate(protocol === 3 ? GREATER : ASTERISK, reply.elements, protocol)
        return
      case 'double':
        this.#double(reply.value, protocol)
        return
      case 'verbatim':
        this.#verbatim(reply, protocol)
        return
      case 'encoded':
        this.#reserve(reply.length)
        for (const piece of reply.pieces) this.#copy(piece)
        return
      case 'nullArray':
        this.appendRaw(protocol === 3 ? NULL : NULL_ARRAY)
    }
  }

  #bulk(bytes: Uint8Array): void {
    this.#reserve(HEADER_BYTES_MAX + bytes.length + 2)
    this.#header(DOLLAR, bytes.length)
    this.#copy(bytes)
    this.#lineEnd()
  }

  #text(text: string): void {
    if (text.length <= SHORT_TEXT_LENGTH && this.#asciiText(text)) return
    const length = Buffer.byteLength(text)
    this.#reserve(HEADER_BYTES_MAX + length + 2)
    this.#header(DOLLAR, length)
    this.#length += this.#buffer.write(text, this.#length, length)
    this.#lineEnd()
  }

  /** Writes a short text as ASCII; false, and nothing written, when it is not. */
  #asciiText(text: string): boolean {
    this.#reserve(HEADER_BYTES_MAX + text.length + 2)
    const before = this.#length
    this.#header(DOLLAR, text.length)
    let at = this.#length
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 127) {
        this.#length = before
        return false
      }
      this.#buffer[at++] = unit
    }
    this.#length = at
    this.#lineEnd()
    return true
  }

  #integer(value: number): void {
    if (!Number.isSafeInteger(value)) throw new RangeError(`not an integer reply: ${value}`)
    this.#reserve(HEADER_BYTES_MAX)
    this.#header(COLON, value)
  }

  #boolean(value: boolean, protocol: Protocol): void {
    if (protocol === 3) this.appendRaw(value ? TRUE : FALSE)
    else this.#integer(value ? 1 : 0)
  }

  #double(value: number, protocol: Protocol): void {
    const digits = formatDouble(value)
    if (protocol === 2) {
      this.#text(digits)
      return
    }
    this.#reserve(1 + digits.length + 2)
    this.#buffer[this.#length++] = COMMA
    this.#length += this.#buffer.write(digits, this.#length, 'latin1')
    this.#lineEnd()
  }

  #verbatim(reply: VerbatimReply, protocol: Protocol): void {
    if (protocol === 2) {
      this.#text(reply.text)
      return
    }
    const body = `${reply.format}:${reply.text}`
    const length = Buffer.byteLength(body)
    this.#reserve(HEADER_BYTES_MAX + length + 2)
    this.#header(EQUALS, length)
    this.#length += this.#buffer.write(body, this.#length, length)
    this.#lineEnd()
  }

  #aggregate(marker: number, elements: readonly Reply[], protocol: Protocol): void {
    this.#reserve(HEADER_BYTES_MAX)
    this.#header(marker, elements.length)
    for (const element of elements) this.append(element, protocol)
  }

  #map(reply: MapReply, protocol: Protocol): void {
    const count = reply.entries.length
    this.#reserve(HEADER_BYTES_MAX)
    if (protocol === 3) this.#header(PERCENT, count)
    else this.#header(ASTERISK, 2 * count)
    for (const [field, value] of reply.entries) {
      this.append(field, protocol)
      this.append(value, protocol)
    }
  }

  /** A type byte, a decimal number and CRLF; the caller has reserved HEADER_BYTES_MAX. */
  #header(marker: number, value: number): void {
    const buffer = this.#buffer
    let at = this.#length
    buffer[at++] = marker
    if (value >= 0 && value < 10) {
      buffer[at++] = ZERO + value
    } else if (value > INT32_MAX || value < -INT32_MAX) {
      at += buffer.write(String(value), at, 'latin1')
    } else {
      let rest = value
      if (value < 0) {
        buffer[at++] = MINUS
        rest = -value
      }
      let end = at
      for (let left = rest; left > 0; left = (left / 10) | 0) end++
      at = end
      for (; rest > 0; rest = (rest / 10) | 0) buffer[--end] = ZERO + (rest % 10)
    }
    buffer[at++] = CR
    buffer[at++] = LF
    this.#length = at
  }

  #lineEnd(): void {
    this.#buffer[this.#length++] = CR
    this.#buffer[this.#length++] = LF
  }

  #copy(bytes: Uint8Array): void {
    const count = bytes.length
    if (count > LOOP_COPY_BYTES) {
      this.#buffer.set(bytes, this.#length)
    } else {
      const buffer = this.#buffer
      const at = this.#length
      for (let i = 0; i < count; i++) buffer[at + i] = bytes[i] as number
    }
    this.#length += count
  }

  /**
   * Makes room for `count` more bytes. Doubling keeps the copying linear; a value larger than that
   * gets an eighth on top, so that the small replies behind it do not double 64 MiB.
   */
  #reserve(count: number): void {
    const needed = this.#length + count
    const capacity = this.#buffer.length
    if (needed <= capacity) return
    const grown = Buffer.allocUnsafeSlow(
      Math.max(FIRST_CAPACITY_BYTES, 2 * capacity, needed + (needed >>> 3)),
    )
    this.#buffer.copy(grown, 0, 0, this.#length)
    this.#buffer = grown
  }
}

/**
 * The digits of a double as Redis 7.2 writes them (`d2string` over fpconv): integers within 2^52
 * plainly, else the shortest digits that read back as the same number, in plain or scientific form
 * by fpconv's thresholds, which are not JavaScript's (0.0000015 is `1.5e-6`).
 */
export function formatDouble(value: number): string {
  if (Number.isNaN(value)) return 'nan'
  if (value === Number.POSITIVE_INFINITY) return 'inf'
  if (value === Number.NEGATIVE_INFINITY) return '-inf'
  if (value === 0) return Object.is(value, -0) ? '-0' : '0'
  if (Number.isInteger(value) && Math.abs(value) <= 2 ** 52) return String(value)
  const sign = value < 0 ? '-' : ''
  const [mantissa = '', power = ''] = Math.abs(value).toExponential().split('e')
  const digits = mantissa.replace('.', '')
  const exponent = Number(power)
  /* The value is `digits` * 10^scale. */
  const scale = exponent - digits.length + 1
  if (scale >= 0 && exponent < digits.length + 7) return sign + digits + '0'.repeat(scale)
  if (scale < 0 && (scale > -7 || Math.abs(exponent) < 4)) {
    const point = digits.length + scale
    if (point <= 0) return `${sign}0.${'0'.repeat(-point)}${digits}`
    return `${sign}${digits.slice(0, point)}.${digits.slice(point)}`
  }
  return `${sign}${mantissa}e${exponent < 0 ? '-' : '+'}${Math.abs(exponent)}`
}

/** Array.isArray does not narrow a readonly array away from the rest of the union. */
function isArray(reply: Reply & object): reply is readonly Reply[] {
  return Array.isArray(reply)
}

/**
 * A line of the protocol ends at its first CR or LF, so the text must have none: as in Redis, those at its end go, and
 * others become spaces.
 */
function oneLine(text: string): string {
  let end = text.length
  while (end > 0 && (text[end - 1] === '\r' || text[end - 1] === '\n')) end--
  return text.slice(0, end).replace(/[\r\n]/g, ' ')
}
