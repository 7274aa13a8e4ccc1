/*
 * One client connection: bytes in, commands to the router, replies out in the order of the commands. It works in
 * turns under a quota, so that no client starves another, and it takes no more from its client than it can answer:
 * a client that does not read its replies is paused first, and closed at a limit. It knows the protocol and the
 * session, but no socket (network.ts) and not where a command runs (router.ts).
 */

import { Buffer } from 'node:buffer'
import type { Index } from '../raft/types.ts'
import { type Decoder, ProtocolError } from '../resp/decoder.ts'
import { ErrorReply, type Reply, ReplyBuffer } from '../resp/encoder.ts'
import { Call, type CallOwner, EncodedReply, replyBytes, Stream } from './call.ts'
import {
  type Args,
  type Command,
  CommandError,
  type LocalCommand,
  type LocalReply,
  noReply,
} from './commands/command.ts'
import { mustAuthenticate, noAuth } from './commands/connection.ts'
import type { LocalServer } from './commands/local-server.ts'
import { limits } from './config.ts'
import type { Connection, ConnectionHandler } from './network.ts'
import type { OutputLimit } from './option-kinds.ts'
import type { Router } from './router.ts'
import type { Session } from './session.ts'

/** What a connection needs of the frontend that owns it. */
export interface ConnectionOwner {
  readonly router: Router
  readonly server: LocalServer
  /** The command that a client calls on this port, or Redis' error for it. */
  resolve(args: Args, session: Session): Command | ErrorReply
  /** Monotonic ms: deadlines. */
  now(): number
  parkTimeoutMs(): number
  queryBufferBytesMax(): number
  outputLimit(): OutputLimit
  /** There is input to work on. */
  ready(connection: ClientConnection): void
  /** It starts no more before the router has room again. */
  held(connection: ClientConnection): void
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
  commandsProcessed: number
  inputBytes: number
  outputBytes: number
}

/** A command of the connection itself that could not be answered at once, or not yet. */
interface LocalSlot {
  encoded: Uint8Array | undefined
}

export class ClientConnection implements ConnectionHandler, CallOwner {
  readonly session: Session
  readonly #connection: Connection
  readonly #decoder: Decoder
  readonly #owner: ConnectionOwner
  readonly #stats: FrontendStats
  readonly #stream = new Stream()
  readonly #out = new ReplyBuffer()
  /** Commands without a written reply, oldest first, from `#head` on. */
  #slots: (Call | LocalSlot)[] = []
  #head = 0
  /** Replies of calls that were answered before it was their turn. */
  readonly #early = new Map<Call, Uint8Array>()
  #earlyBytes = 0
  #openMax: number = limits.openCommandsFirst
  #answered = 0
  #paused = false
  /** The socket took less than it was given: nothing more is started until it drained. */
  #blocked = false
  #softSince: number | undefined
  #finished = false
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
    this.session.push = (message) => {
      if (this.#ended) return
      this.#answerLocal(message)
      this.#checkOutput(this.#earlyBytes + this.#out.length)
    }
    this.#owner = options.owner
    this.#stats = options.stats
  }

  // ---- What the socket says ---------------------------------------------------------------------

  opened(): void {}

  received(bytes: Uint8Array): void {
    // What stands behind a QUIT or a broken protocol is nothing, and must not pile up while replies are due.
    if (this.#ended || this.session.closeAfterReply) return
    this.#decoder.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    this.#stats.inputBytes += bytes.length
    const locked = mustAuthenticate(this.session, this.#owner.server)
    const inputMax = locked
      ? limits.unauthenticatedInputBytesMax
      : this.#owner.queryBufferBytesMax()
    if (this.#decoder.bufferedBytes > inputMax) {
      this.#offend(
        `its input exceeds ${locked ? 'what is allowed before AUTH' : 'client-query-buffer-limit'}`,
      )
      return
    }
    this.#owner.ready(this)
  }

  /** A half-closed client still gets the replies it has asked for. */
  finished(): void {
    this.#finished = true
    this.#owner.ready(this)
  }

  drained(): void {
    this.#blocked = false
    this.#softSince = undefined
    this.#owner.ready(this)
  }

  closed(): void {
    this.#ended = true
    this.session.isClosed = true
    this.#owner.closed(this)
  }

  // ---- Commands in ----------------------------------------------------------------------------------

  /** Starts what this turn allows. True: there is more to start right away, in the next turn. */
  work(): boolean {
    for (let started = 0; ; started++) {
      if (this.#ended || this.session.closeAfterReply) return false
      if (this.#blocked || this.#isFull() || this.#owner.router.congested) {
        this.#holdInput()
        if (this.#owner.router.congested) this.#owner.held(this)
        return false
      }
      if (started === limits.turnCommandsMax) return true
      let args: Args | undefined
      this.#decoder.authenticated = !mustAuthenticate(this.session, this.#owner.server)
      try {
        args = this.#decoder.next()
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error
        this.#refuse(error)
        return false
      }
      if (args === undefined) break
      this.#start(args)
    }
    this.#releaseInput()
    if (this.#finished) this.#endAfterReplies()
    return false
  }

  #isFull(): boolean {
    return this.#slots.length - this.#head >= this.#openMax
  }

  #holdInput(): void {
    if (this.#paused || this.#decoder.bufferedBytes < limits.pausedInputBytesMax) return
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
    this.#answerLocal(new ErrorReply(`ERR ${error.message}`))
    this.#endAfterReplies()
  }

  #start(args: Args): void {
    this.#stats.commandsProcessed++
    const { session } = this
    const command = this.#owner.resolve(args, session)
    session.lastCommandAt = this.#owner.server.now()
    const locked = mustAuthenticate(session, this.#owner.server)
    if (command instanceof ErrorReply) {
      if (isHttp(args)) this.#offend('it speaks HTTP')
      else this.#answerLocal(command)
      return
    }
    session.lastCommand = command.name
    if (locked && !command.flags.includes('no_auth')) this.#answerLocal(noAuth)
    else if (command.kind === 'local') this.#runLocal(command, args)
    else this.#submit(command, args)
  }

  #submit(command: Call['command'], args: Args): void {
    if (command.kind === 'write') this.session.writes.sent++
    const call = new Call({
      owner: this,
      stream: this.#stream,
      command,
      args,
      database: this.session.database,
      protocol: this.session.protocol,
      deadline: this.#owner.now() + this.#owner.parkTimeoutMs(),
    })
    this.#slots.push(call)
    this.#owner.router.submit(call)
  }

  #runLocal(command: LocalCommand, args: Args): void {
    const { session } = this
    let reply: LocalReply | Promise<Reply>
    try {
      reply = command.run(session, args, this.#owner.server)
    } catch (error) {
      this.#answerLocal(errorReply(error))
      return
    }
    if (!(reply instanceof Promise)) {
      if (reply !== noReply) this.#answerLocal(reply)
      return
    }
    const slot: LocalSlot = { encoded: undefined }
    this.#slots.push(slot)
    const { protocol } = session
    reply.catch(errorReply).then((settled) => {
      slot.encoded = encoded(settled, protocol)
      this.#drain()
    })
  }

  #answerLocal(reply: Reply): void {
    if (this.#head === this.#slots.length) {
      this.#out.append(reply, this.session.protocol)
      this.#answered++
      this.#owner.dirty(this)
    } else {
      this.#slots.push({ encoded: encoded(reply, this.session.protocol) })
    }
    if (this.session.closeAfterReply) this.#endAfterReplies()
  }

  // ---- Replies out ----------------------------------------------------------------------------------

  answered(call: Call, reply: Reply | EncodedReply, index: Index): void {
    if (this.#ended) return
    if (!call.isRead) {
      const { writes } = this.session
      writes.answered++
      writes.index = Math.max(writes.index, index)
    }
    // Before it is encoded: the replies of one turn alone may be more than a process can hold.
    const bytes = reply instanceof EncodedReply ? reply.bytes.length : replyBytes(reply)
    this.#checkOutput(this.#earlyBytes + this.#out.length + bytes)
    if (this.#ended) return
    if (this.#slots[this.#head] !== call) {
      this.#keepEarly(call, reply)
      return
    }
    if (reply instanceof EncodedReply) this.#out.appendRaw(reply.bytes)
    else this.#out.append(reply, call.protocol)
    this.#head++
    this.#answered++
    this.#drain()
  }

  #keepEarly(call: Call, reply: Reply | EncodedReply): void {
    const bytes = reply instanceof EncodedReply ? reply.bytes : encoded(reply, call.protocol)
    this.#early.set(call, bytes)
    this.#earlyBytes += bytes.length
  }

  refused(): void {
    throw new Error('a call of a client is never refused')
  }

  dropped(): void {
    throw new Error('a call of a client is never dropped')
  }

  /** What was answered early and is now next. */
  #drain(): void {
    while (this.#head < this.#slots.length) {
      const slot = this.#slots[this.#head] as Call | LocalSlot
      const bytes = slot instanceof Call ? this.#early.get(slot) : slot.encoded
      if (bytes === undefined) break
      if (slot instanceof Call && this.#early.delete(slot)) this.#earlyBytes -= bytes.length
      this.#out.appendRaw(bytes)
      this.#head++
      this.#answered++
    }
    if (this.#head === this.#slots.length || this.#head >= limits.openCommandsMax) {
      this.#slots.splice(0, this.#head)
      this.#head = 0
    }
    this.#owner.dirty(this)
  }

  /** Writes the replies of this turn, in one piece. */
  flush(): void {
    if (this.#ended) return
    const bytes = this.#out.length
    if (bytes > 0) {
      this.#adaptWindow(bytes)
      this.#stats.outputBytes += bytes
      if (!this.#connection.write(this.#out.take())) this.#blocked = true
    }
    this.#checkOutput(0)
    if (this.#ended) return
    if (this.#closesNow()) this.end()
    else if (this.#hasWork()) this.#owner.ready(this)
  }

  /**
   * Now that the window has room again. Without a byte of input, too: a client that has finished ends when its last
   * command is started, and one that is not read any further, whose last command filled the window, must be read again.
   */
  #hasWork(): boolean {
    return this.#decoder.bufferedBytes > 0 || this.#paused || this.#finished
  }

  /** As many commands open as their replies, if they stay this large, will find room for. */
  #adaptWindow(bytes: number): void {
    const average = Math.max(1, bytes / Math.max(1, this.#answered))
    this.#answered = 0
    const fitting = Math.max(1, Math.floor(limits.openReplyBytesMax / average))
    this.#openMax = Math.min(limits.openCommandsMax, this.#openMax * 2, fitting)
  }

  /**
   * Closes a client that has not read its replies: above the hard limit, or too long above the soft one. `bytes`
   * are still to be written.
   */
  #checkOutput(bytes: number): void {
    if (this.#ended) return
    const waiting = this.#connection.bufferedBytes + bytes
    const { hardBytes, softBytes, softSeconds } = this.#owner.outputLimit()
    if (hardBytes > 0 && waiting > hardBytes) {
      this.#offend('its unread replies exceed client-output-buffer-limit')
    } else if (softBytes > 0 && waiting > softBytes) {
      this.#softSince ??= this.#owner.now()
      if (this.#owner.now() - this.#softSince < softSeconds * 1000) return
      this.#offend('its unread replies exceed the soft client-output-buffer-limit')
    } else {
      this.#softSince = undefined
    }
  }

  /** Once a second: limits that depend on time. `idleMs` 0 lets a client be idle for ever. */
  sweep(idleMs: number): void {
    this.#checkOutput(0)
    if (this.#ended) return
    const { session } = this
    const idle = this.#owner.server.now() - session.lastCommandAt
    if (idleMs > 0 && idle > idleMs && this.#head === this.#slots.length) this.end()
  }

  /** The counters that CLIENT LIST shows. */
  updateSession(): void {
    this.session.inputBytes = this.#decoder.bufferedBytes
    this.session.outputBytes = this.#connection.bufferedBytes
  }

  // ---- The end --------------------------------------------------------------------------------------

  #endAfterReplies(): void {
    this.session.closeAfterReply = true
    this.#owner.dirty(this)
  }

  #closesNow(): boolean {
    if (this.#head < this.#slots.length) return false
    return this.session.closeAfterReply || (this.#endsWhenIdle && this.#decoder.bufferedBytes === 0)
  }

  /** Ends it once it has no command on its way and no part of one has come. */
  endWhenIdle(): void {
    this.#endsWhenIdle = true
    this.#owner.dirty(this)
  }

  /** An orderly end: what was written still leaves. */
  end(): void {
    this.#ended = true
    this.#connection.end()
  }

  #offend(reason: string): void {
    this.#owner.offended(this, reason)
    this.#ended = true
    this.#connection.destroy()
  }
}

function encoded(reply: Reply, protocol: Session['protocol']): Uint8Array {
  const buffer = new ReplyBuffer()
  buffer.append(reply, protocol)
  return buffer.take()
}

/** A browser or a cross-protocol attack: Redis closes on these two words. */
function isHttp([name]: Args): boolean {
  const word = Buffer.from(name ?? [])
    .toString('latin1', 0, 6)
    .toLowerCase()
  return word === 'post' || word === 'host:'
}

/** What a local command threw; anything but a Redis error is a bug, and ends the process. */
function errorReply(error: unknown): Reply {
  if (error instanceof CommandError) return error.reply
  throw error
}
