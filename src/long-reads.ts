/*
 * Reads that are too long to run in one go, such as KEYS over a million keys: each runs over a view of the state, a
 * slice per turn, while everything else goes on. What a slice found is encoded at once, so that no turn has to encode
 * it all. It knows no command: a read comes here as its slices.
 */

import { Buffer } from 'node:buffer'
import {
  EncodedReply,
  ErrorReply,
  type Protocol,
  type Reply,
  ReplyBuffer,
} from '../resp/encoder.ts'
import type { StateView } from '../storage/state-store.ts'
import type { Slices } from './commands/command.ts'
import type { Clock, Timers } from './network.ts'
import { Rest } from './rest.ts'

/** Slices of one turn, all reads together, where they take no time worth mentioning. */
const SLICES_PER_TURN_MAX = 16
/**
 * What is encoded is put aside in pieces of about this size, which are sent as they are. Buffers double, so it is a
 * little below a power of two.
 */
const PIECE_BYTES = 262_144 - 16_384

/** For more than one reply may hold. */
export const tooLarge: ErrorReply = new ErrorReply(
  'ERR the reply is too large; ask for less at a time',
)

export interface LongReadOptions {
  readonly slices: Slices
  readonly view: StateView
  /** The reply for what a slice threw; throws on what must end the process. */
  readonly failure: (error: unknown) => Reply
}

/** A read that has begun: its view is open, and it waits for someone to tell. */
export class LongRead {
  readonly #options: LongReadOptions
  readonly #reads: LongReads

  constructor(options: LongReadOptions, reads: LongReads) {
    this.#options = options
    this.#reads = reads
  }

  /** Goes on in later turns; `done` is called once, from one of them. */
  start(protocol: Protocol, done: (reply: Reply) => void): void {
    this.#reads.add(new RunningRead(this.#options, protocol, done))
  }
}

export class LongReads {
  readonly replyBytesMax: number
  readonly #turnMsMax: number
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #wake: () => void
  readonly #rest: Rest
  #running: RunningRead[] = []

  constructor(options: {
    limits: { readonly longReplyBytesMax: number; readonly turnSlicesMsMax: number }
    clock: Pick<Clock, 'monotonic'>
    timers: Timers
    /** Asks for a turn that nobody waits for but these reads. */
    wake: () => void
  }) {
    this.replyBytesMax = options.limits.longReplyBytesMax
    this.#turnMsMax = options.limits.turnSlicesMsMax
    this.#clock = options.clock
    this.#wake = options.wake
    this.#rest = new Rest(options.timers, options.wake)
  }

  add(read: RunningRead): void {
    this.#running.push(read)
    this.#wake()
  }

  /**
   * Once a turn, behind what others are waiting for: the next slices, of every read in its turn; one at least. Where
   * somebody else waited for this turn, the reads rest for as long as the slices took: their share is a half then, and
   * whoever comes in that time is answered at once.
   */
  work(isAwaited: boolean): void {
    if (this.#rest.isOn || this.#running.length === 0) return
    const begin = this.#clock.monotonic()
    let now = begin
    let hasAnswered = false
    for (let slice = 0; slice < SLICES_PER_TURN_MAX; slice++) {
      const read = this.#running.shift()
      if (read === undefined) break
      if (read.advance(this.replyBytesMax)) hasAnswered = true
      else this.#running.push(read)
      now = this.#clock.monotonic()
      if (now - begin >= this.#turnMsMax) break
    }
    if (isAwaited && now > begin) this.#rest.begin(now - begin)
    // The replies are written in the next turn.
    if (hasAnswered || !this.#rest.isOn) this.#wake()
  }
}

class RunningRead {
  readonly #options: LongReadOptions
  readonly #done: (reply: Reply) => void
  readonly #elements: ElementsReply

  constructor(options: LongReadOptions, protocol: Protocol, done: (reply: Reply) => void) {
    this.#options = options
    this.#done = done
    this.#elements = new ElementsReply(protocol)
  }

  /** Runs one slice; true: it was the last, and the reply was given. */
  advance(bytesMax: number): boolean {
    const reply = this.#slice(bytesMax)
    if (reply === undefined) return false
    this.#options.view.release()
    this.#done(reply)
    return true
  }

  #slice(bytesMax: number): Reply | undefined {
    try {
      const step = this.#options.slices.next()
      if (step.done !== true) this.#elements.add(step.value)
      else if ('reply' in step.value) return step.value.reply
      else this.#elements.add(step.value.elements)
      if (this.#elements.bytes > bytesMax) return tooLarge
      return step.done === true ? this.#elements.finish() : undefined
    } catch (error) {
      return this.#options.failure(error)
    }
  }
}

/** An array whose elements come some at a time, and are encoded as they come. */
export class ElementsReply {
  readonly #protocol: Protocol
  readonly #encoder = new ReplyBuffer()
  readonly #pieces: Uint8Array[] = []
  #pieceBytes = 0
  #count = 0

  constructor(protocol: Protocol) {
    this.#protocol = protocol
  }

  /** Of the elements so far. */
  get bytes(): number {
    return this.#pieceBytes + this.#encoder.length
  }

  /** Their memory may be used again after this call. */
  add(elements: readonly Reply[]): void {
    for (const element of elements) {
      this.#encoder.append(element, this.#protocol)
      if (this.#encoder.length >= PIECE_BYTES) this.#putAside()
    }
    this.#count += elements.length
  }

  #putAside(): void {
    const piece = this.#encoder.take()
    this.#pieces.push(piece)
    this.#pieceBytes += piece.length
  }

  finish(): EncodedReply {
    this.#putAside()
    return new EncodedReply(Buffer.from(`*${this.#count}\r\n`), ...this.#pieces)
  }
}
