/*
 * MULTI and WATCH as one connection has them: what is queued, and the keys whose change makes EXEC do nothing. It
 * knows no database: what EXEC makes of it is in commands/transactions.ts.
 */

import { Buffer } from 'node:buffer'
import { ErrorReply } from '../resp/encoder.ts'
import {
  commandLength,
  formCommand,
  readCommand,
  type WatchedKey,
  writeCommand,
} from '../storage/logged-command.ts'
import { allocateBytes, type ByteRange, VarintReader } from '../storage/varints.ts'
import { handlesValues, workOf } from './call.ts'
import { keyOf } from './commands/arguments.ts'
import type { Args, Command } from './commands/command.ts'
import { limits } from './config.ts'

/** What a queued command or a watched key costs beside its bytes, roughly. */
const OVERHEAD_BYTES = 64
/** Queued commands share pieces of memory, each larger than the one before, from and up to these sizes. */
const PIECE_BYTES_MIN = 512
const PIECE_BYTES_MAX = 64 * 1024
/** A command from this size on has a piece of its own, so that no more than a quarter of another is left empty. */
const OWN_PIECE_BYTES_MIN = PIECE_BYTES_MAX / 4

const NONE = new Uint8Array(0)

const tooManyCommands = new ErrorReply(
  `ERR a transaction may have ${limits.transactionCommandsMax} commands at most`,
)
const tooManyArguments = new ErrorReply(
  `ERR the commands of a transaction may have ${limits.transactionArgumentsMax} arguments at most`,
)
const tooManyBytes = new ErrorReply(
  'ERR the transaction is larger than transaction-max-bytes allows',
)

/**
 * A command in the form that the log has, which is what EXEC needs. Thousands of arguments as objects, which live
 * until EXEC, would be moved twice by the garbage collector, and every other client would wait for that.
 */
export class QueuedCommand {
  readonly command: Command
  readonly form: ByteRange

  constructor(command: Command, form: ByteRange) {
    this.command = command
    this.form = form
  }

  get args(): Args {
    return readCommand(new VarintReader(this.form.bytes, this.form.start)).argv
  }
}

/** What stands between MULTI and EXEC. */
export class MultiQueue {
  #commands: QueuedCommand[] = []
  /** The piece of memory that the next small command goes to, and how much of it is taken. */
  #piece: Uint8Array = NONE
  #taken = 0
  #bytes = 0
  #arguments = 0
  #work = 0
  #broken = false
  #writes = false
  #handlesValues = false

  get commands(): readonly QueuedCommand[] {
    return this.#commands
  }

  /** Memory that it holds. */
  get bytes(): number {
    return this.#bytes
  }

  /** A command was refused, so EXEC refuses the whole; nothing is kept any more. */
  get broken(): boolean {
    return this.#broken
  }

  /** A command in it writes. */
  get writes(): boolean {
    return this.#writes
  }

  /** A command in it handles whole values. */
  get handlesValues(): boolean {
    return this.#handlesValues
  }

  /** Of the data commands together, in keys. */
  get work(): number {
    return this.#work
  }

  break(): void {
    this.#broken = true
    this.#commands = []
    this.#piece = NONE
    this.#taken = 0
    this.#bytes = 0
  }

  /** Copies the arguments. The error when there is no room for the command, which breaks the transaction. */
  queue(command: Command, args: Args, bytesMax: number): ErrorReply | undefined {
    if (this.#broken) return undefined
    const bytes = args.reduce((sum, arg) => sum + arg.length, OVERHEAD_BYTES)
    const refusal = this.#refusalOf(args.length, bytes, bytesMax)
    if (refusal !== undefined) {
      this.break()
      return refusal
    }
    this.#bytes += bytes
    this.#arguments += args.length
    if (command.kind === 'write') {
      this.#writes = true
      this.#handlesValues ||= handlesValues(command, args)
    }
    if (command.kind !== 'local') this.#work += workOf(command, args)
    this.#commands.push(new QueuedCommand(command, this.#formOf(args)))
    return undefined
  }

  #formOf(argv: Args): ByteRange {
    const logged = { database: 0, argv }
    const length = commandLength(logged)
    if (length >= OWN_PIECE_BYTES_MIN) return formCommand(logged)
    if (this.#taken + length > this.#piece.length) {
      const more = Math.max(PIECE_BYTES_MIN, 2 * this.#piece.length, length)
      this.#piece = allocateBytes(Math.min(more, PIECE_BYTES_MAX))
      this.#taken = 0
    }
    const start = this.#taken
    this.#taken = writeCommand(this.#piece, start, logged)
    return { bytes: this.#piece, start, end: this.#taken }
  }

  #refusalOf(argumentCount: number, bytes: number, bytesMax: number): ErrorReply | undefined {
    if (this.#commands.length >= limits.transactionCommandsMax) return tooManyCommands
    if (this.#arguments + argumentCount > limits.transactionArgumentsMax) return tooManyArguments
    return this.#bytes + bytes > bytesMax ? tooManyBytes : undefined
  }
}

/** The keys of WATCH, each as it was first seen. */
export class WatchSet {
  readonly #keys = new Map<string, WatchedKey>()
  #bytes = 0

  get keys(): readonly WatchedKey[] {
    return [...this.#keys.values()]
  }

  get size(): number {
    return this.#keys.size
  }

  get bytes(): number {
    return this.#bytes
  }

  add(watched: WatchedKey): void {
    const name = `${watched.database} ${keyOf(watched.key)}`
    if (this.#keys.has(name)) return
    this.#keys.set(name, { ...watched, key: Buffer.from(watched.key) })
    this.#bytes += watched.key.length + OVERHEAD_BYTES
  }

  clear(): void {
    this.#keys.clear()
    this.#bytes = 0
  }
}
