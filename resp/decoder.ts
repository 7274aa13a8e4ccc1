/*
 * Bytes from a client become commands. redis-parser, which makes the values, is a parser of replies
 * and trusts its input: it allocates by announced counts, recurses, and waits badly for the rest of
 * a bulk. So it never sees the stream: a framing guard lets whole commands through, well-formed and
 * within the limits, and yields no values itself. Inline commands are split here, redis-parser
 * knows none. This file must not know commands, sessions or sockets: it is pulled, so that whoever
 * pulls decides whose turn it is and when a limit changes.
 */

import { Buffer } from 'node:buffer'
import RedisParser from 'redis-parser'
import type { FramingLimits } from './framing-guard.ts'
import { FramingGuard } from './framing-guard.ts'
import { HeldBytes } from './held-bytes.ts'

/**
 * The client broke the protocol. The reply is `-ERR ` and the message; then the connection closes.
 */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
  readonly code = 'PROTOCOL'

  constructor(detail: string) {
    super(`Protocol error: ${detail}`)
  }
}

/**
 * Commands decoded in one go, at most: fewer entries into redis-parser, yet what lies decoded and
 * undelivered stays small when the caller stops pulling.
 */
const RUN_COMMANDS_MAX = 32
/**
 * A command with more arguments than this is decoded as they come, not at its end; one call of `next` decodes about
 * so many of an unfinished one.
 */
const PART_ARGUMENTS = 4096
/** What bytes that belong together are. */
type Frame = 'commands' | 'arguments' | 'inline'
/** What a decoded argument costs beside its bytes, roughly: a million empty ones are many megabytes. */
const ARGUMENT_OVERHEAD_BYTES = 64
/**
 * A chunk below this that must wait is copied behind the one before it: a Buffer costs 200 bytes
 * itself.
 */
const SMALL_CHUNK_BYTES = 2048
const SHARED_CHUNK_BYTES = 4096
const EMPTY = Buffer.alloc(0)
const DELIVERED: Buffer[] = []

const LF = 10
const CR = 13
const SINGLE_QUOTE = 39
const DOUBLE_QUOTE = 34
const BACKSLASH = 92
const LETTER_X = 120
/** n, r, t, b and a behind a backslash; every other character stands for itself. */
const ESCAPES: ReadonlyMap<number, number> = new Map([
  [110, LF],
  [114, CR],
  [116, 9],
  [98, 8],
  [97, 7],
])

/**
 * The commands of one connection, in order.
 *
 * Arguments are views. They pin the chunk they came in (64 KiB for one byte, at worst); those of a
 * command that came in several chunks pin one block of about its size. Whoever keeps an argument
 * copies it. Bytes are scanned only when `next` is called, so `authenticated` and the limits count
 * as they are when a command's turn comes. What a header announces costs nothing until it arrives
 * (held-bytes.ts), and every byte is copied a constant number of times. A large command is put
 * together in steps, and the arguments of one with thousands of them are decoded as they come, so
 * that its end stops nobody.
 */
export class Decoder {
  /** False puts the limits before AUTH in force; may change between two calls of `next`. */
  authenticated: boolean
  readonly #guard: FramingGuard
  readonly #parser: RedisParser
  /** Raw chunks; the first is scanned up to `#at`. */
  #chunks: Buffer[] = []
  #at = 0
  /** The block that small waiting chunks share; the last of `#chunks` is its filled part. */
  #shared: Buffer = EMPTY
  /** The first part of a command whose end is still to come. */
  #held = new HeldBytes()
  /** Of a command whose end has come, or some of its arguments: before they are in one piece nothing goes on. */
  #joining: { readonly bytes: HeldBytes; readonly frame: Frame } | undefined
  /** Commands decoded and not yet delivered, from `#readyAt` on. */
  #ready: Buffer[][] = []
  #readyAt = 0
  #readyBytes = 0
  #bufferedBytes = 0
  #failure: ProtocolError | undefined
  /** The arguments so far of a command with many of them, whose first ones are decoded already, and their bytes. */
  #long: Buffer[] | undefined
  #longBytes = 0
  /** Whole arguments among the bytes that are held. */
  #heldArguments = 0
  #gaveWay = false

  constructor(limits: FramingLimits, authenticated: boolean) {
    this.authenticated = authenticated
    this.#guard = new FramingGuard(limits)
    this.#parser = new RedisParser({
      returnBuffers: true,
      returnReply: (reply: Buffer[] | Buffer) => {
        if (Array.isArray(reply)) this.#ready.push(reply)
        else this.#long?.push(reply)
      },
      returnError: () => this.#disagree(),
      returnFatalError: () => this.#disagree(),
    })
  }

  /**
   * Bytes received and not delivered, for the limit of the query buffer. A run of commands decoded
   * together (at most one chunk) counts until its last one is delivered.
   */
  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  /** Bytes that are held, or decoded as arguments, of a command whose end is still to come. */
  get unfinishedBytes(): number {
    return this.#held.length + (this.#joining?.bytes.length ?? 0) + this.#longBytes
  }

  /** The latest call of `next` has given way in the middle of a long command: call it again, in a later turn. */
  get gaveWay(): boolean {
    return this.#gaveWay
  }

  /**
   * Takes over what the socket read; the bytes must not change any more. Ignored after an error.
   */
  push(chunk: Buffer): void {
    if (chunk.length === 0 || this.#failure !== undefined) return
    this.#bufferedBytes += chunk.length
    if (this.#chunks.length === 0 || chunk.length >= SMALL_CHUNK_BYTES) this.#chunks.push(chunk)
    else this.#share(chunk)
  }

  /**
   * The next command, at least its name; undefined when more bytes are needed, or when it has given way. Throws ProtocolError
   * once all commands before the broken one are delivered, and again at every later call. Anything
   * else it throws is a bug of this file.
   */
  next(): Buffer[] | undefined {
    if (this.#ready.length === 0) this.#decode()
    const command = this.#ready[this.#readyAt]
    if (command === undefined) {
      if (this.#failure !== undefined) throw this.#failure
      return undefined
    }
    this.#ready[this.#readyAt++] = DELIVERED
    if (this.#readyAt === this.#ready.length) {
      this.#ready = []
      this.#readyAt = 0
      this.#bufferedBytes -= this.#readyBytes
      this.#readyBytes = 0
    }
    return command
  }

  /**
   * Scans until a command is ready, the bytes are used up, one of them breaks the protocol, or enough was done of a
   * command with many arguments.
   */
  #decode(): void {
    const decoded = this.#long?.length ?? 0
    this.#gaveWay = false
    while (this.#ready.length === 0 && this.#failure === undefined) {
      if (this.#joining !== undefined) {
        this.#gaveWay = !this.#join(this.#joining)
        if (this.#gaveWay) return
        continue
      }
      const chunk = this.#chunks[0]
      if (chunk === undefined) return
      this.#gaveWay = (this.#long?.length ?? 0) - decoded >= PART_ARGUMENTS
      if (this.#gaveWay) return
      this.#decodeRun(chunk)
    }
  }

  /**
   * Decodes the next commands of this chunk. Before AUTH it is one at a time, because each may
   * change what the next one is allowed; so is the end of a command that began in an earlier chunk.
   */
  #decodeRun(chunk: Buffer): void {
    const guard = this.#guard
    const start = this.#at
    const isFresh = this.#held.length === 0 && this.#long === undefined
    const commandsMax = this.authenticated && isFresh ? RUN_COMMANDS_MAX : 1
    let commands = 0
    let end = start
    let verdict = guard.scan(chunk, start, this.authenticated)
    while (verdict === 'command') {
      end = guard.at
      commands++
      if (commands === commandsMax) break
      verdict = guard.scan(chunk, end, this.authenticated)
    }
    this.#at = guard.at
    if (commands > 0) this.#take('commands', chunk, start, end, commands)
    this.#heldArguments = verdict === 'incomplete' ? this.#heldArguments + guard.argumentsEnded : 0
    switch (verdict) {
      case 'command':
        return
      case 'inline':
        this.#take('inline', chunk, end, guard.at)
        return
      case 'ignored':
        this.#bufferedBytes -= this.#held.length + guard.at - end
        this.#held = new HeldBytes()
        return
      case 'incomplete':
        if (this.#heldArguments > PART_ARGUMENTS) {
          this.#take('arguments', chunk, end, guard.argumentEnd)
          this.#heldArguments = 0
          end = guard.argumentEnd
        }
        this.#held.add(chunk, end, chunk.length, guard.missingBytes)
        this.#chunks.shift()
        this.#at = 0
        if (this.#chunks.length === 0) this.#shared = EMPTY
        return
      case 'refused':
        this.#fail(guard.refusal)
    }
  }

  /** A frame ends here: what is held of it, which is joined next, then the chunk from `start` to `end`. */
  #take(frame: Frame, chunk: Buffer, start: number, end: number, commands = 1): void {
    if (this.#held.length === 0) {
      const isAll = start === 0 && end === chunk.length
      this.#decodeFrame(frame, isAll ? chunk : chunk.subarray(start, end), commands)
      return
    }
    this.#held.add(chunk, start, end, 0)
    this.#joining = { bytes: this.#held, frame }
    this.#held = new HeldBytes()
  }

  /** False: there is more of it to join. */
  #join({ bytes, frame }: { readonly bytes: HeldBytes; readonly frame: Frame }): boolean {
    const joined = bytes.join()
    if (joined === undefined) return false
    this.#joining = undefined
    this.#decodeFrame(frame, joined, 1)
    return true
  }

  #decodeFrame(frame: Frame, bytes: Buffer, commands: number): void {
    switch (frame) {
      case 'commands':
        this.#parse(bytes, commands)
        return
      case 'arguments':
        this.#parsePart(bytes)
        return
      case 'inline':
        this.#splitInline(bytes)
    }
  }

  #parse(frames: Buffer, commands: number): void {
    if (this.#long !== undefined) {
      this.#ready.push(this.#endLong(this.#long, frames))
      return
    }
    const before = this.#ready.length
    this.#parser.execute(frames)
    if (this.#ready.length - before !== commands) this.#disagree()
    this.#readyBytes += frames.length
  }

  /** The first arguments of an unfinished command. redis-parser gets them without the count, one string after the other. */
  #parsePart(bytes: Buffer): void {
    const isFirst = this.#long === undefined
    this.#long ??= []
    this.#parseArguments(this.#long, isFirst ? bytes.subarray(bytes.indexOf(LF) + 1) : bytes)
    this.#longBytes += bytes.length
  }

  #parseArguments(long: Buffer[], frame: Buffer): void {
    const before = long.length
    this.#parser.execute(frame)
    const overhead = (long.length - before) * ARGUMENT_OVERHEAD_BYTES
    this.#longBytes += overhead
    this.#bufferedBytes += overhead
  }

  #endLong(long: Buffer[], frame: Buffer): Buffer[] {
    this.#parseArguments(long, frame)
    this.#readyBytes += this.#longBytes + frame.length
    this.#long = undefined
    this.#longBytes = 0
    return long
  }

  #splitInline(line: Buffer): void {
    if (line.includes(0)) {
      /* Redis never finds the end of such a line and refuses it 64 KiB later. */
      this.#fail('NUL in inline request')
      return
    }
    const command = splitArguments(line)
    if (command === undefined) this.#fail('unbalanced quotes in request')
    else if (command.length === 0) this.#bufferedBytes -= line.length
    else {
      this.#ready.push(command)
      this.#readyBytes += line.length
    }
  }

  /** Appends a small chunk to the shared block at the end of the queue, or begins a new one. */
  #share(chunk: Buffer): void {
    const last = this.#chunks.length - 1
    const tail = this.#chunks[last]
    const isShared = tail !== undefined && tail.buffer === this.#shared.buffer
    const filled = isShared ? tail.length : 0
    if (isShared && filled + chunk.length <= this.#shared.length) {
      this.#chunks[last] = this.#shared.subarray(0, filled + chunk.length)
      chunk.copy(this.#shared, filled)
      return
    }
    this.#shared = Buffer.allocUnsafeSlow(SHARED_CHUNK_BYTES)
    chunk.copy(this.#shared)
    this.#chunks.push(this.#shared.subarray(0, chunk.length))
  }

  /**
   * Nothing behind a broken command can be trusted to begin where it seems to: all of it is
   * dropped.
   */
  #fail(detail: string): void {
    this.#failure = new ProtocolError(detail)
    this.#chunks = []
    this.#shared = EMPTY
    this.#held = new HeldBytes()
    this.#long = undefined
    this.#longBytes = 0
    this.#bufferedBytes = this.#readyBytes
  }

  #disagree(): never {
    throw new Error('redis-parser and the framing guard disagree about a command')
  }
}

/**
 * Splits an inline command by the rules of Redis' `sdssplitargs`: blanks part arguments, double
 * quotes know escapes and `\xHH`, single quotes only `\'`, and behind a closing quote stands a
 * blank or the end. Undefined for unbalanced quotes. The arguments are copies.
 */
function splitArguments(line: Buffer): Buffer[] | undefined {
  const end = line.length
  /* No argument is longer than its source. */
  const unquoted = Buffer.allocUnsafeSlow(end)
  const command: Buffer[] = []
  let length = 0
  let at = 0
  for (;;) {
    while (at < end && isBlank(line[at])) at++
    if (at === end) return command
    const start = length
    let quote = 0
    for (; at < end; at++) {
      const byte = line[at] as number
      if (quote === 0) {
        if (isSeparator(byte)) break
        if (byte === SINGLE_QUOTE || byte === DOUBLE_QUOTE) quote = byte
        else unquoted[length++] = byte
      } else if (byte === quote) {
        quote = 0
        at++
        if (at < end && !isBlank(line[at])) return undefined
        break
      } else if (byte === BACKSLASH && at + 1 < end) {
        const escaped = readEscape(line, at, quote)
        unquoted[length++] = escaped.byte
        at += escaped.extra
      } else unquoted[length++] = byte
    }
    if (quote !== 0) return undefined
    command.push(unquoted.subarray(start, length))
  }
}

/** The byte that the backslash at `at` and what follows it mean, and how many bytes follow. */
function readEscape(line: Buffer, at: number, quote: number): { byte: number; extra: number } {
  const next = line[at + 1] as number
  if (quote === SINGLE_QUOTE) {
    return next === SINGLE_QUOTE ? { byte: next, extra: 1 } : { byte: BACKSLASH, extra: 0 }
  }
  if (next === LETTER_X) {
    const digits = line.toString('latin1', at + 2, at + 4)
    if (/^[0-9a-fA-F]{2}$/.test(digits)) return { byte: Number.parseInt(digits, 16), extra: 3 }
  }
  return { byte: ESCAPES.get(next) ?? next, extra: 1 }
}

/** C's isspace. */
function isBlank(byte: number | undefined): boolean {
  return byte === 32 || (byte !== undefined && byte >= 9 && byte <= 13)
}

/** What ends an unquoted argument; vertical tab and form feed do not, as in Redis. */
function isSeparator(byte: number): boolean {
  return byte === 32 || byte === LF || byte === CR || byte === 9
}
