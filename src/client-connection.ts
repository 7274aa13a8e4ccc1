/*
 * One client connection: bytes in, commands to the router, replies out in the order of the commands. It works in
 * turns under a quota, so that no client starves another, and it takes no more from its client than it can answer:
 * a client that does not read its replies is paused first, and closed at a limit. It knows the protocol and the
 * session, but no socket (network.ts) and not where a command runs (router.ts).
 */

import { Buffer } from 'node:buffer'
import { assert } from '../raft/assert.ts'
import type { Index } from '../raft/types.ts'
import { type Decoder, ProtocolError } from '../resp/decoder.ts'
import { ErrorReply, QUEUED, type Reply } from '../resp/encoder.ts'
import { Call, type CallOwner, replyBytes, Stream } from './call.ts'
import { argument, isWord } from './commands/arguments.ts'
import {
  type Args,
  type CalledCommand,
  type Command,
  CommandError,
  DataCall,
  type LocalCommand,
  type LocalReply,
  noReply,
} from './commands/command.ts'
import { mustAuthenticate, noAuth } from './commands/connection.ts'
import type { LocalServer } from './commands/local-server.ts'
import { execRefused, notInTransaction } from './commands/transactions.ts'
import { limits } from './config.ts'
import type { MultiQueue } from './multi.ts'
import type { Connection, ConnectionHandler } from './network.ts'
import type { OutputLimit } from './option-kinds.ts'
import { ReplyQueue } from './reply-queue.ts'
import type { Router } from './router.ts'
import type { Session } from './session.ts'
import { dataReplyOf, internalCommand } from './transaction.ts'

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
  transactionBytesMax(): number
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

export class ClientConnection implements ConnectionHandler, CallOwner {
  readonly session: Session
  readonly #connection: Connection
  readonly #decoder: Decoder
  readonly #owner: ConnectionOwner
  readonly #stats: FrontendStats
  readonly #stream = new Stream()
  readonly #replies = new ReplyQueue()
  /** The calls that stand for a local command. */
  readonly #dataCalls = new Map<Call, DataCall>()
  /** Of these, what no later command may overtake. */
  #holding: DataCall | undefined
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
      this.#checkOutput(this.#replies.bytes)
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
    const queued = this.session.multi?.bytes ?? 0
    if (this.#decoder.bufferedBytes + queued > inputMax) {
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
      if (this.#blocked || this.#isWaiting() || this.#owner.router.congested) {
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

  #isWaiting(): boolean {
    return this.#holding !== undefined || this.#replies.isFull
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
    if (command instanceof ErrorReply && isHttp(args)) {
      this.#offend('it speaks HTTP')
      return
    }
    const refusal = this.#refusalOf(command)
    if (refusal !== undefined) {
      session.multi?.break()
      this.#answerLocal(isWord(argument(args, 0), 'exec') ? execRefused(session, refusal) : refusal)
    } else if (!(command instanceof ErrorReply)) this.#run(command, args)
  }

  /** The error for what may not even be queued. */
  #refusalOf(command: Command | ErrorReply): ErrorReply | undefined {
    if (command instanceof ErrorReply) return command
    const { session } = this
    session.lastCommand = command.name
    const { flags } = command
    if (mustAuthenticate(session, this.#owner.server) && !flags.includes('no_auth')) return noAuth
    if (session.multi !== undefined && flags.includes('no_multi')) return notInTransaction.reply
    return undefined
  }

  #run(command: Command, args: Args): void {
    const { multi } = this.session
    if (multi !== undefined && command.immediate !== true) this.#queue(multi, command, args)
    else if (command.kind === 'local') this.#runLocal(command, args)
    else this.#owner.router.submit(this.#callFor(command, args, this.session))
  }

  #queue(multi: MultiQueue, command: Command, args: Args): void {
    const elsewhere = this.#owner.router.redirection(command, args)
    if (elsewhere !== undefined) multi.break()
    const refusal = elsewhere ?? multi.queue(command, args, this.#owner.transactionBytesMax())
    this.#answerLocal(refusal ?? QUEUED)
  }

  #callFor(
    command: CalledCommand,
    args: Args,
    { database, work }: { database: number; work?: number },
  ): Call {
    if (command.kind === 'write') this.session.writes.sent++
    const call = new Call({
      owner: this,
      stream: this.#stream,
      command,
      args,
      database,
      protocol: this.session.protocol,
      deadline: this.#owner.now() + this.#owner.parkTimeoutMs(),
      work,
    })
    this.#replies.expect(call)
    return call
  }

  #runLocal(command: LocalCommand, args: Args): void {
    const { session } = this
    let reply: LocalReply
    try {
      reply = command.run(session, args, this.#owner.server)
    } catch (error) {
      this.#answerLocal(errorReply(error))
      return
    }
    if (reply instanceof DataCall) {
      this.#askData(reply)
      return
    }
    if (!(reply instanceof Promise)) {
      if (reply !== noReply) this.#answerLocal(reply)
      return
    }
    const slot = this.#replies.expectLater()
    const { protocol } = session
    void reply.catch(errorReply).then((settled) => {
      this.#replies.settle(slot, settled, protocol)
      this.#owner.dirty(this)
    })
  }

  #answerLocal(reply: Reply): void {
    this.#replies.answer(reply, this.session.protocol)
    this.#owner.dirty(this)
    if (this.session.closeAfterReply) this.#endAfterReplies()
  }

  // ---- Replies out ----------------------------------------------------------------------------------

  answered(call: Call, reply: Reply, index: Index): void {
    if (this.#ended) return
    if (!call.isRead) {
      const { writes } = this.session
      writes.answered++
      writes.index = Math.max(writes.index, index)
    }
    // Before it is encoded: the replies of one turn alone may be more than a process can hold.
    this.#checkOutput(this.#replies.bytes + replyBytes(reply))
    if (this.#ended) return
    if (this.#dataCalls.size > 0) {
      const asked = this.#dataCalls.get(call)
      if (asked !== undefined) {
        this.#dataAnswered(call, asked, reply)
        return
      }
    }
    this.#place(call, reply)
  }

  /** The reply of a call is final: it is written when it is its turn. */
  #place(call: Call, reply: Reply): void {
    this.#replies.answered(call, reply)
    this.#owner.dirty(this)
  }

  refused(): void {
    throw new Error('a call of a client is never refused')
  }

  dropped(): void {
    throw new Error('a call of a client is never dropped')
  }

  // ---- Local commands that ask for data ---------------------------------------------------------

  #askData(asked: DataCall): void {
    const { args, holds } = asked
    const command = internalCommand(args)
    assert(command !== undefined, () => 'a local command asks for what is no internal command')
    if (holds) this.#holding = asked
    const call = this.#callFor(command, args, asked)
    this.#dataCalls.set(call, asked)
    // It may be answered within this call.
    this.#owner.router.submit(call)
  }

  #dataAnswered(call: Call, asked: DataCall, reply: Reply): void {
    this.#dataCalls.delete(call)
    const made = asked.answered(dataReplyOf(reply))
    if (!(made instanceof Promise)) {
      this.#placeData(call, asked, made)
      return
    }
    void made.catch(errorReply).then((settled) => this.#placeData(call, asked, settled))
  }

  #placeData(call: Call, asked: DataCall, reply: Reply): void {
    if (this.#ended) return
    this.#place(call, reply)
    if (this.#holding !== asked) return
    this.#holding = undefined
    this.#owner.ready(this)
  }

  /** Writes the replies of this turn, in one piece. */
  flush(): void {
    if (this.#ended) return
    const bytes = this.#replies.take()
    if (bytes.length > 0) {
      this.#stats.outputBytes += bytes.length
      if (!this.#connection.write(bytes)) this.#blocked = true
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
    if (idleMs > 0 && idle > idleMs && this.#replies.isEmpty) this.end()
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
    if (!this.#replies.isEmpty) return false
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
