/*
 * One client connection: bytes in, bytes out. It works in turns under a quota, so that no client starves another, and
 * it takes no more from its client than it can answer: a client that does not read its replies is paused first, and
 * closed at a limit. It knows the framing of commands, but no socket (network.ts), and of commands only that the
 * conversation runs them.
 */

import { Buffer } from 'node:buffer'
import { type Decoder, ProtocolError } from '../resp/decoder.ts'
import { ErrorReply } from '../resp/encoder.ts'
import { argument, isWord } from './commands/arguments.ts'
import type { Args } from './commands/command.ts'
import { mustAuthenticate } from './commands/connection.ts'
import { limits } from './config.ts'
import { Conversation, type ConversationServer } from './conversation.ts'
import type { Connection, ConnectionHandler } from './network.ts'
import type { OutputLimits } from './option-kinds.ts'
import type { Session } from './session.ts'

/** What a connection needs of the frontend that owns it. */
export interface ConnectionOwner extends ConversationServer {
  queryBufferBytesMax(): number
  outputLimits(): OutputLimits
  /** The memory that the connection holds has changed by so many bytes. */
  memoryChanged(bytes: number): void
  /** So many bytes came. False: enough of all connections for this turn. */
  received(bytes: number): boolean
  /** There is input to work on. */
  ready(connection: ClientConnection): void
  /** It starts no more before the router has room again. */
  held(connection: ClientConnection): void
  /** It starts no more before the pause is over. */
  postponed(connection: ClientConnection): void
  /** There are replies to write at the end of the turn. */
  dirty(connection: ClientConnection): void
  /** A protocol violation or a limit ended the connection; `reason` is for the log. */
  offended(connection: ClientConnection, reason: string): void
  closed(connection: ClientConnection): void
}

/** Counted since the start of the process, for INFO. */
export interface FrontendStats {
  connectionsReceived: number
  connectionsRejected: number
  connectionsEvicted: number
  commandsProcessed: number
  inputBytes: number
  outputBytes: number
}

export class ClientConnection implements ConnectionHandler {
  readonly session: Session
  readonly #connection: Connection
  readonly #decoder: Decoder
  readonly #owner: ConnectionOwner
  readonly #stats: FrontendStats
  readonly #conversation: Conversation
  /** A command that waits for the end of CLIENT PAUSE. */
  #postponed: Args | undefined
  #paused = false
  /** What came since it worked last. */
  #turnBytes = 0
  /** The socket took less than it was given: nothing more is started until it drained. */
  #blocked = false
  #softSince: number | undefined
  /** Bytes that the owner has counted for it. */
  #counted = 0
  #endsWhenIdle = false
  #ended = false

  constructor(options: {
    connection: Connection
    decoder: Decoder
    session: Session
    owner: ConnectionOwner
    stats: FrontendStats
  }) {
    this.#connection = options.connection
    this.#decoder = options.decoder
    this.session = options.session
    this.#owner = options.owner
    this.#stats = options.stats
    this.#conversation = new Conversation(this.session, this.#owner, {
      replied: () => this.#owner.dirty(this),
      ready: () => this.#owner.ready(this),
      hasRoomFor: (bytes) => this.#checkOutput(bytes),
    })
    this.session.close = () => this.#destroy()
  }

  // ---- What the socket says ---------------------------------------------------------------------

  opened(): void {}

  received(bytes: Uint8Array): void {
    // What stands behind a QUIT or a broken protocol is nothing, and must not pile up while replies are due.
    if (this.#ended || this.session.closeAfterReply) return
    // What a socket gives is one, and a view of its own per chunk would be one more object for each command.
    const isBuffer = bytes instanceof Buffer
    this.#decoder.push(
      isBuffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    )
    this.#stats.inputBytes += bytes.length
    this.session.receivedBytes += bytes.length
    const locked = mustAuthenticate(this.session, this.#owner.server)
    const inputMax = locked
      ? limits.unauthenticatedInputBytesMax
      : this.#owner.queryBufferBytesMax()
    const queued = this.session.multi?.bytes ?? 0
    if (this.#decoder.bufferedBytes + queued > inputMax) {
      this.#offend(
        `its input exceeds ${locked ? 'what is allowed before AUTH' : 'client-query-buffer-limit'}`,
      )
      return
    }
    this.#turnBytes += bytes.length
    const mayGoOn = this.#owner.received(bytes.length) && this.#turnBytes < limits.turnInputBytesMax
    // Before AUTH nothing is read that slowly: whoever sends so much is closed.
    if (!locked && !mayGoOn) this.#pauseInput()
    this.#count()
    this.#owner.ready(this)
  }

  /** A half-closed client still gets the replies it has asked for. */
  finished(): void {
    this.session.hasFinished = true
    this.#owner.ready(this)
  }

  drained(): void {
    this.#blocked = false
    this.#softSince = undefined
    this.#owner.ready(this)
  }

  closed(): void {
    this.#leave()
    this.#owner.closed(this)
  }

  // ---- Commands in ----------------------------------------------------------------------------------

  /** It is in the midst of a command that is too long to be taken in in one turn. */
  get isInLongCommand(): boolean {
    return this.#decoder.unfinishedBytes >= limits.turnInputBytesMax
  }

  /** What came since it worked last. */
  get receivedBytes(): number {
    return this.#turnBytes
  }

  /**
   * Starts its share of commands of this turn, at least one, and no other when it is `end` (monotonic ms). True: there
   * is more to do right away, in the next turn.
   */
  work(share: number, end: number): boolean {
    this.#turnBytes = 0
    const more = this.#work(share, end)
    this.#count()
    return more
  }

  #work(share: number, end: number): boolean {
    for (let started = 0; ; started++) {
      if (this.#ended || this.session.closeAfterReply) return false
      if (this.#blocked || this.#conversation.isWaiting || this.#owner.router.congested) {
        this.#holdInput()
        if (this.#owner.router.congested) this.#owner.held(this)
        return false
      }
      if (started === share || (started > 0 && this.#owner.now() >= end)) return true
      const args = this.#next()
      if (args === undefined) {
        if (this.#decoder.gaveWay) {
          this.#holdInput()
          return true
        }
        break
      }
      if (isHttp(argument(args, 0))) {
        this.#offend('it speaks HTTP')
        return false
      }
      if (!this.#conversation.start(args)) {
        this.#postponed = args
        this.#holdInput()
        this.#owner.postponed(this)
        return false
      }
      this.#stats.commandsProcessed++
    }
    // A broken protocol has made it end.
    if (this.session.closeAfterReply) return false
    this.#releaseInput()
    if (this.session.hasFinished) this.#endAfterReplies()
    return false
  }

  /** The next command; undefined: there is none yet, or there will be none any more. */
  #next(): Args | undefined {
    const postponed = this.#postponed
    this.#postponed = undefined
    if (postponed !== undefined) return postponed
    this.#decoder.authenticated = !mustAuthenticate(this.session, this.#owner.server)
    try {
      return this.#decoder.next()
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.#refuse(error)
      return undefined
    }
  }

  #holdInput(): void {
    if (this.#decoder.bufferedBytes >= limits.pausedInputBytesMax) this.#pauseInput()
  }

  #pauseInput(): void {
    if (this.#paused) return
    this.#paused = true
    this.#connection.pause()
  }

  #releaseInput(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#connection.resume()
  }

  /** Redis answers a broken protocol with the error and closes. */
  #refuse(error: ProtocolError): void {
    this.#conversation.refuse(new ErrorReply(`ERR ${error.message}`))
    this.#endAfterReplies()
  }

  // ---- Replies out ----------------------------------------------------------------------------------

  /** Writes the replies of this turn, in one piece unless they are large. */
  flush(): void {
    if (this.#ended) return
    const replies = this.#conversation
    for (let bytes = replies.take(); bytes.length > 0; bytes = replies.take()) {
      this.#stats.outputBytes += bytes.length
      this.session.sentBytes += bytes.length
      if (!this.#connection.write(bytes)) this.#blocked = true
    }
    this.#count()
    if (!this.#checkOutput(this.#conversation.bytes)) return
    if (this.#closesNow()) this.end()
    else if (this.#hasWork()) this.#owner.ready(this)
  }

  /**
   * Now that the window has room again. Without a byte of input, too: a client that has finished ends when its last
   * command is started, and one that is not read any further, whose last command filled the window, must be read again.
   */
  #hasWork(): boolean {
    if (this.#postponed !== undefined) return false
    return this.#decoder.bufferedBytes > 0 || this.#paused || this.session.hasFinished
  }

  /**
   * Closes a client that has not read its replies: above the hard limit, or too long above the soft one. `bytes`
   * are still to be written. False: it is closed.
   */
  #checkOutput(bytes: number): boolean {
    if (this.#ended) return false
    const waiting = this.#connection.bufferedBytes + bytes
    const isSubscriber = this.session.subscriptionCount > 0
    const limit = this.#owner.outputLimits()[isSubscriber ? 'pubsub' : 'normal']
    const { softBytes, softSeconds } = limit
    const hardBytes = limit.hardBytes === 0 ? limits.outputBytesMax : limit.hardBytes
    if (waiting > hardBytes) {
      this.#offend('its unread replies exceed client-output-buffer-limit')
    } else if (softBytes > 0 && waiting > softBytes) {
      this.#softSince ??= this.#owner.now()
      if (this.#owner.now() - this.#softSince >= softSeconds * 1000) {
        this.#offend('its unread replies exceed the soft client-output-buffer-limit')
      }
    } else {
      this.#softSince = undefined
    }
    return !this.#ended
  }

  /** Once a second: limits that depend on time. `idleMs` 0 lets a client be idle for ever. */
  sweep(idleMs: number): void {
    if (!this.#checkOutput(0)) return
    const { session } = this
    const idle = this.#owner.server.now() - session.lastCommandAt
    if (idleMs > 0 && idle > idleMs && this.#conversation.isIdle) this.end()
  }

  /** The counters that CLIENT LIST shows. */
  updateSession(): void {
    this.session.inputBytes = this.#decoder.bufferedBytes
    this.session.outputBytes = this.#connection.bufferedBytes + this.#conversation.bytes
    this.session.memoryBytes = this.memory
  }

  /** What it holds: input, commands on their way, its transaction, and replies that were not read. */
  get memory(): number {
    const { multi, watches } = this.session
    const queued = (multi?.bytes ?? 0) + watches.bytes + this.#conversation.openBytes
    const replies = this.#connection.bufferedBytes + this.#conversation.bytes
    return this.#decoder.bufferedBytes + queued + replies
  }

  #count(): void {
    const bytes = this.#ended ? 0 : this.memory
    if (bytes === this.#counted) return
    this.#owner.memoryChanged(bytes - this.#counted)
    this.#counted = bytes
  }

  // ---- The end --------------------------------------------------------------------------------------

  #endAfterReplies(): void {
    this.session.closeAfterReply = true
    this.#owner.dirty(this)
  }

  #closesNow(): boolean {
    if (!this.#conversation.isIdle) return false
    if (this.session.closeAfterReply) return true
    return this.#endsWhenIdle && this.#postponed === undefined && this.#decoder.bufferedBytes === 0
  }

  /** Ends it once it has no command on its way and no part of one has come. */
  endWhenIdle(): void {
    this.#endsWhenIdle = true
    this.#owner.dirty(this)
  }

  /** It holds more than others, and all together hold too much. */
  evict(): void {
    this.#offend('all clients together exceed maxmemory-clients, and it holds the most')
  }

  /** An orderly end: what was written still leaves. */
  end(): void {
    this.#leave()
    this.#connection.end()
  }

  #offend(reason: string): void {
    this.#owner.offended(this, reason)
    this.#destroy()
  }

  #destroy(): void {
    this.#leave()
    this.#connection.destroy()
  }

  #leave(): void {
    this.#ended = true
    this.#conversation.end()
    this.#count()
  }
}

/** A browser or a cross-protocol attack: Redis closes on these two words. */
function isHttp(name: Uint8Array): boolean {
  return isWord(name, 'post') || isWord(name, 'host:')
}
