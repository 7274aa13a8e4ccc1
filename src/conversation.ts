/*
 * One client's commands and their replies: which command may run, be queued or must wait, whose reply is whose, and
 * what the observer hears of it. It knows the session and the protocol, but neither the bytes that commands come in
 * nor the socket (client-connection.ts), and not where a command runs (router.ts).
 */

import { assert } from '../raft/assert.ts'
import type { Index } from '../raft/types.ts'
import { EncodedReply, ErrorReply, QUEUED, type Reply } from '../resp/encoder.ts'
import { Call, type CallOwner, replyBytes, Stream } from './call.ts'
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
import { WrongArity } from './commands/command-table.ts'
import { mustAuthenticate, noAuth } from './commands/connection.ts'
import type { LocalServer } from './commands/local-server.ts'
import { execRefused, notInTransaction } from './commands/transactions.ts'
import { limits } from './config.ts'
import type { MultiQueue } from './multi.ts'
import { ReplyQueue } from './reply-queue.ts'
import type { Router } from './router.ts'
import type { Session } from './session.ts'
import { calledInternal, dataReplyOf, internalCommand } from './transaction.ts'

export interface ConversationServer {
  readonly router: Router
  readonly server: LocalServer
  /** The command that a client calls on this port, or Redis' error for it. */
  resolve(args: Args, session: Session): Command | ErrorReply
  /** Monotonic ms. */
  now(): number
  parkTimeoutMs(): number
  transactionBytesMax(): number
  /** CLIENT PAUSE: whether this command must wait for its end. */
  isPaused(command: Command, session: Session): boolean
}

/** What the connection hears of it. */
export interface ConversationEvents {
  /** There is something to write, or an end to make. */
  replied(): void
  /** It may start commands again. */
  ready(): void
  /** So many bytes are about to wait for the client; false: that is too much, the connection is gone. */
  hasRoomFor(bytes: number): boolean
}

/** A client's command that has begun. */
interface Open {
  readonly command: Command
  readonly args: Args
  /** Monotonic ms. */
  readonly startedAt: number
  /** Its client wants no reply. */
  readonly mute: boolean
  /** It is a local one that has asked for data. */
  readonly asked: DataCall | undefined
}

/** One that went on to the data: the call itself may be another one (EXEC, WATCH). */
class ClientCall extends Call {
  readonly open: Open

  constructor(open: Open, options: ConstructorParameters<typeof Call>[0]) {
    super(options)
    this.open = open
  }
}

const NOTHING = new EncodedReply(new Uint8Array(0))
const tooManyArguments = new ErrorReply(
  `ERR too many arguments: the limit of this command is ${limits.localArgumentsMax}`,
)
const monitorOnly = new ErrorReply("ERR Replica can't interact with the keyspace")

export class Conversation implements CallOwner {
  readonly session: Session
  readonly #server: ConversationServer
  readonly #events: ConversationEvents
  readonly #stream = new Stream()
  readonly #replies = new ReplyQueue()
  /** What no later command may overtake. */
  #holding: DataCall | undefined
  /** What the arguments of its calls occupy. */
  #openBytes = 0
  #ended = false

  constructor(session: Session, server: ConversationServer, events: ConversationEvents) {
    this.session = session
    this.#server = server
    this.#events = events
    session.push = (message) => this.#push(message)
  }

  /** Bytes of replies that were not taken yet. */
  get bytes(): number {
    return this.#replies.bytes
  }

  /** What the arguments of commands that are on their way occupy. */
  get openBytes(): number {
    return this.#openBytes
  }

  /** Every command is answered and every reply taken. */
  get isIdle(): boolean {
    return this.#replies.isEmpty
  }

  /** It may start no command for now. */
  get isWaiting(): boolean {
    if (this.#openBytes >= limits.openInputBytesMax) return true
    return this.#holding !== undefined || this.#replies.isFull
  }

  /** The replies that are to be written now. */
  take(): Uint8Array {
    return this.#replies.take()
  }

  /** Whatever is still answered interests nobody. */
  end(): void {
    this.#ended = true
    this.session.isClosed = true
    this.#server.server.observer.endMonitor(this.session)
    this.#server.router.abandon(this.#stream)
  }

  /** The next command. False: not now, it has to be started again when the pause is over. */
  start(args: Args): boolean {
    const { session } = this
    const command = this.#server.resolve(args, session)
    const startedAt = this.#server.now()
    const refusal = this.#refusalOf(command, args.length)
    if (!(command instanceof ErrorReply)) {
      if (refusal === undefined && this.#server.isPaused(command, session)) return false
      session.lastCommand = command.name
    }
    session.lastCommandAt = startedAt
    const mute = session.takeMute()
    if (refusal !== undefined) this.#refuse(command, refusal, mute)
    else if (!(command instanceof ErrorReply)) {
      this.#run({ command, args, startedAt, mute, asked: undefined })
    }
    return true
  }

  /** An error that is no command's. */
  refuse(reply: ErrorReply): void {
    this.#answer(reply, this.session.takeMute())
  }

  // ---- Whether it may run -------------------------------------------------------------------------

  /** The error for what may not even be queued. */
  #refusalOf(command: Command | ErrorReply, argumentCount: number): ErrorReply | undefined {
    if (command instanceof ErrorReply) return command
    const { session } = this
    const { flags } = command
    if (mustAuthenticate(session, this.#server.server) && !flags.includes('no_auth')) return noAuth
    if (command.refusal !== undefined) return command.refusal.reply
    // WATCH, the one that names keys, has a limit of its own.
    if (command.kind === 'local' && command.keys === undefined) {
      if (argumentCount > limits.localArgumentsMax) return tooManyArguments
    }
    if (session.multi !== undefined && flags.includes('no_multi')) return notInTransaction.reply
    if (session.isMonitor && command.kind !== 'local') return monitorOnly
    return undefined
  }

  #refuse(called: Command | ErrorReply, refusal: ErrorReply, mute: boolean): void {
    const { session } = this
    let command: Command | undefined
    if (!(called instanceof ErrorReply)) command = called
    else if (called instanceof WrongArity) command = called.command
    session.multi?.break()
    const reply = command?.name === 'exec' ? execRefused(session, refusal) : refusal
    this.#server.server.observer.rejected(command, reply)
    this.#answer(reply, mute)
  }

  #run(open: Open): void {
    const { multi } = this.session
    const { command, args } = open
    if (multi !== undefined && command.immediate !== true) this.#queue(multi, open)
    else if (command.kind === 'local') this.#runLocal(command, open)
    else {
      this.#show(open)
      this.#submit(open, command, args, this.session)
    }
  }

  #queue(multi: MultiQueue, { command, args, mute }: Open): void {
    const elsewhere = this.#server.router.redirection(command, args, this.session.isReadonly)
    if (elsewhere !== undefined) multi.break()
    const refusal = elsewhere ?? multi.queue(command, args, this.#server.transactionBytesMax())
    if (refusal !== undefined) this.#server.server.observer.rejected(command, refusal)
    this.#answer(refusal ?? QUEUED, mute)
  }

  // ---- Commands of the data -----------------------------------------------------------------------

  #submit(
    open: Open,
    command: CalledCommand,
    args: Args,
    { database, work }: { database: number; work?: number },
  ): void {
    if (command.kind === 'write') this.session.writes.sent++
    const call = new ClientCall(open, {
      owner: this,
      stream: this.#stream,
      command,
      args,
      database,
      protocol: this.session.protocol,
      deadline: open.startedAt + this.#server.parkTimeoutMs(),
      isReadonly: this.session.isReadonly,
      work,
    })
    this.#replies.expect(call)
    this.#openBytes += occupied(call)
    this.#server.router.submit(call)
  }

  answered(call: Call, reply: Reply, index: Index): void {
    this.#openBytes -= occupied(call)
    if (this.#ended) return
    if (!call.isRead) {
      const { writes } = this.session
      writes.answered++
      writes.index = Math.max(writes.index, index)
    }
    // Before it is encoded: the replies of one turn alone may be more than a process can hold.
    if (!this.#events.hasRoomFor(this.#replies.bytes + replyBytes(reply))) return
    assert(call instanceof ClientCall, () => `${call.command.name} is no call of a client`)
    const { open } = call
    const { asked } = open
    if (asked === undefined) {
      this.#place(call, open, reply)
      return
    }
    const made = asked.answered(dataReplyOf(reply))
    if (!(made instanceof Promise)) this.#placeData(call, open, made)
    else void made.catch(errorReply).then((settled) => this.#placeData(call, open, settled))
  }

  #placeData(call: Call, open: Open, reply: Reply): void {
    if (this.#ended) return
    if (open.command.name === 'exec') this.#show(open)
    this.#place(call, open, reply)
    if (this.#holding !== open.asked) return
    this.#holding = undefined
    this.#events.ready()
  }

  /** The reply of a call is final: it is written when it is its turn. */
  #place(call: Call, open: Open, reply: Reply): void {
    this.#observe(open, reply)
    this.#replies.answered(call, open.mute ? NOTHING : reply)
    this.#events.replied()
  }

  refused(): void {
    throw new Error('a call of a client is never refused')
  }

  dropped(): void {
    throw new Error('a call of a client is never dropped')
  }

  // ---- Commands of the connection -----------------------------------------------------------------

  #runLocal(command: LocalCommand, open: Open): void {
    const { session } = this
    const wasOff = session.replies === 'off'
    let reply: LocalReply
    try {
      reply = command.run(session, open.args, this.#server.server)
    } catch (error) {
      reply = errorReply(error)
    }
    // EXEC comes behind the commands that it runs.
    if (!(reply instanceof DataCall) || open.command.name !== 'exec') this.#show(open)
    if (reply instanceof DataCall) this.#askData(reply, open)
    else if (reply instanceof Promise) this.#answerLater(reply, open)
    else {
      this.#observe(open, reply === noReply ? null : reply)
      // The command that ends the silence (CLIENT REPLY ON, RESET) is answered.
      const speaksAgain = wasOff && session.replies === 'on'
      if (reply !== noReply) this.#answer(reply, open.mute && !speaksAgain)
    }
  }

  #answerLater(promise: Promise<Reply>, open: Open): void {
    const slot = this.#replies.expectLater()
    const { protocol } = this.session
    void promise.catch(errorReply).then((reply) => {
      if (this.#ended) return
      this.#observe(open, reply)
      this.#replies.settle(slot, open.mute ? NOTHING : reply, protocol)
      this.#events.replied()
    })
  }

  #askData(asked: DataCall, open: Open): void {
    const command = internalCommand(asked.args)
    assert(command !== undefined, () => 'a local command asks for what is no internal command')
    if (asked.holds) this.#holding = asked
    const called = calledInternal(command, asked.handlesValues)
    this.#submit({ ...open, asked }, called, asked.args, asked)
  }

  #answer(reply: Reply, mute: boolean): void {
    this.#replies.answer(mute ? NOTHING : reply, this.session.protocol)
    this.#events.replied()
  }

  /** A message that is no reply: CLIENT REPLY does not concern it. */
  #push(message: Reply): void {
    if (this.#ended) return
    this.#answer(message, false)
    this.#events.hasRoomFor(this.#replies.bytes)
  }

  #show({ command, args }: Open): void {
    const { session } = this
    this.#server.server.observer.show({ session, command, args }, session.database)
  }

  #observe({ command, args, startedAt }: Open, reply: Reply): void {
    const { session } = this
    const ms = this.#server.now() - startedAt
    this.#server.server.observer.answered({ session, command, args, ms, reply })
  }
}

function occupied({ bytes, args }: Call): number {
  return bytes + args.length * limits.argumentOverheadBytes
}

/** What a local command threw; anything but a Redis error is a bug, and ends the process. */
function errorReply(error: unknown): Reply {
  if (error instanceof CommandError) return error.reply
  throw error
}
