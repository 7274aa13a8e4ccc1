/*
 * MULTI and WATCH as one connection has them: what is queued, and the keys whose change makes EXEC do nothing. It
 * knows no database: what EXEC makes of it is in commands/transactions.ts.
 */

import { Buffer } from 'node:buffer'
import { ErrorReply } from '../resp/encoder.ts'
import type { WatchedKey } from '../storage/logged-command.ts'
import { keyOf } from './commands/arguments.ts'
import type { Args, Command } from './commands/command.ts'
import { limits } from './config.ts'

/** What a queued command or a watched key costs beside its bytes, roughly. */
const OVERHEAD_BYTES = 64
/** An argument from this size on is kept where it came; below, it would pin a chunk that is larger. */
const KEPT_BYTES_MIN = 16 * 1024

const tooManyCommands = new ErrorReply(
  `ERR a transaction may have ${limits.transactionCommandsMax} commands at most`,
)
const tooManyArguments = new ErrorReply(
  `ERR the commands of a transaction may have ${limits.transactionArgumentsMax} arguments at most`,
)
const tooManyBytes = new ErrorReply(
  'ERR the transaction is larger than transaction-max-bytes allows',
)

export interface QueuedCommand {
  readonly command: Command
  readonly args: Args
}

/** What stands between MULTI and EXEC. */
export class MultiQueue {
  #commands: QueuedCommand[] = []
  #bytes = 0
  #arguments = 0
  #broken = false
  #writes = false

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

  break(): void {
    this.#broken = true
    this.#commands = []
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
    if (command.kind === 'write') this.#writes = true
    this.#commands.push({ command, args: args.map(kept) })
    return undefined
  }

  #refusalOf(argumentCount: number, bytes: number, bytesMax: number): ErrorReply | undefined {
    if (this.#commands.length >= limits.transactionCommandsMax) return tooManyCommands
    if (this.#arguments + argumentCount > limits.transactionArgumentsMax) return tooManyArguments
    return this.#bytes + bytes > bytesMax ? tooManyBytes : undefined
  }
}

function kept(arg: Uint8Array): Uint8Array {
  return arg.length < KEPT_BYTES_MIN ? Buffer.from(arg) : arg
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
