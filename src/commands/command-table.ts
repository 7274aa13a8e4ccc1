/*
 * A table of commands and the one way to turn bytes into one of them. Names are found by a hash over their folded
 * bytes, because this runs for every command twice (when it arrives and when it is applied) and must not make a
 * string each time.
 */

import { Buffer } from 'node:buffer'
import { ErrorReply } from '../../resp/encoder.ts'
import { argument, lowerCase, QUOTED_BYTES_MAX, quoted } from './arguments.ts'
import { type Args, type Command, type TableEntry, wrongArity } from './command.ts'

/** A set of names, found by their bytes in any case. */
class Names<Value> {
  readonly #buckets = new Map<number, { readonly name: Uint8Array; readonly value: Value }[]>()
  #longest = 0

  constructor(entries: readonly (readonly [name: string, value: Value])[]) {
    for (const [text, value] of entries) {
      const name = Buffer.from(text)
      const bucket = this.#buckets.get(hash(name))
      if (bucket === undefined) this.#buckets.set(hash(name), [{ name, value }])
      else bucket.push({ name, value })
      this.#longest = Math.max(this.#longest, name.length)
    }
  }

  find(name: Uint8Array): Value | undefined {
    // Nobody gets megabytes hashed under the name of a command.
    if (name.length > this.#longest) return undefined
    const bucket = this.#buckets.get(hash(name))
    if (bucket === undefined) return undefined
    for (const candidate of bucket) if (equal(candidate.name, name)) return candidate.value
    return undefined
  }
}

/** FNV-1a over the lower-case bytes. */
function hash(name: Uint8Array): number {
  let value = 0x811c9dc5
  for (let i = 0; i < name.length; i++) {
    value = Math.imul(value ^ lowerCase(name[i] as number), 0x01000193)
  }
  return value
}

function equal(lower: Uint8Array, name: Uint8Array): boolean {
  if (lower.length !== name.length) return false
  for (let i = 0; i < lower.length; i++) if (lower[i] !== lowerCase(name[i] as number)) return false
  return true
}

interface Indexed {
  readonly entry: TableEntry
  readonly subcommands: Names<Command> | undefined
}

export class CommandTable {
  readonly #index: Names<Indexed>

  constructor(entries: readonly TableEntry[]) {
    this.#index = new Names(
      entries.map((entry) => {
        const subcommands = entry.subcommands?.map((one) => [lastWord(one), one] as const)
        return [entry.name, { entry, subcommands: subcommands && new Names(subcommands) }]
      }),
    )
  }

  /**
   * The command that `args` (at least a name) calls, subcommand included, with the right number of
   * arguments; else Redis' error for it. Whether the connection may run it is another question (the
   * flag `no_auth`).
   */
  resolve(args: Args): Command | ErrorReply {
    const found = this.#index.find(argument(args, 0))
    if (found === undefined) return unknownCommand(args)
    const { entry, subcommands } = found
    if (subcommands !== undefined && args.length > 1) {
      const subcommand = subcommands.find(argument(args, 1))
      if (subcommand !== undefined) return checkArity(subcommand, args)
      const name = quoted(argument(args, 1))
      const container = entry.name.toUpperCase()
      return new ErrorReply(`ERR unknown subcommand '${name}'. Try ${container} HELP.`)
    }
    if (entry.kind === 'container') return wrongArity(entry.name).reply
    return checkArity(entry, args)
  }
}

/** The error of a call with too few or too many arguments. */
export class WrongArity extends ErrorReply {
  readonly command: Command

  constructor(command: Command) {
    super(wrongArity(command.name).reply.text)
    this.command = command
  }
}

function checkArity(command: Command, args: Args): Command | WrongArity {
  const { arity } = command
  const fits = arity >= 0 ? args.length === arity : args.length >= -arity
  return fits ? command : new WrongArity(command)
}

/** Redis repeats the arguments until they fill 128 bytes. */
export function unknownCommand(args: Args): ErrorReply {
  let rest = ''
  let bytes = 0
  for (let i = 1; i < args.length && bytes < QUOTED_BYTES_MAX; i++) {
    const text = `'${quoted(argument(args, i), QUOTED_BYTES_MAX - bytes)}' `
    rest += text
    bytes += text.length
  }
  const name = quoted(argument(args, 0))
  return new ErrorReply(`ERR unknown command '${name}', with args beginning with: ${rest}`)
}

function lastWord(command: Command): string {
  return command.name.slice(command.name.indexOf('|') + 1)
}
