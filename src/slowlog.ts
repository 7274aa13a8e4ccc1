/*
 * The commands that took long, the latest first: what SLOWLOG shows. Its memory is bounded by the number of entries
 * and by what is kept of each, as in Redis: so many arguments, and so many bytes of each. It knows no clock.
 */

import { Buffer } from 'node:buffer'
import type { Args } from './commands/command.ts'

const ARGUMENTS_MAX = 32
const ARGUMENT_BYTES_MAX = 128

export interface SlowEntry {
  /** Never used twice by one process. */
  readonly id: number
  /** In whole seconds since 1970. */
  readonly at: number
  readonly micros: number
  readonly args: Args
  readonly address: string
  readonly name: string
}

export class Slowlog {
  /** The latest last. */
  #entries: SlowEntry[] = []
  #lastId = 0

  get length(): number {
    return this.#entries.length
  }

  /** The latest `count`, the latest first. */
  latest(count: number): readonly SlowEntry[] {
    return count === 0 ? [] : this.#entries.slice(-count).toReversed()
  }

  add(entry: Omit<SlowEntry, 'id'>, entriesMax: number): void {
    this.#entries.push({ ...entry, id: this.#lastId++, args: shortened(entry.args) })
    this.trim(entriesMax)
  }

  trim(entriesMax: number): void {
    if (this.#entries.length > entriesMax) {
      this.#entries = entriesMax === 0 ? [] : this.#entries.slice(-entriesMax)
    }
  }
}

function shortened(args: Args): Args {
  if (args.length <= ARGUMENTS_MAX) return args.map(shortenedArgument)
  const kept = args.slice(0, ARGUMENTS_MAX - 1).map(shortenedArgument)
  return [...kept, Buffer.from(`... (${args.length - kept.length} more arguments)`)]
}

function shortenedArgument(arg: Uint8Array): Uint8Array {
  if (arg.length <= ARGUMENT_BYTES_MAX) return Buffer.from(arg)
  const rest = arg.length - ARGUMENT_BYTES_MAX
  const head = arg.subarray(0, ARGUMENT_BYTES_MAX)
  return Buffer.concat([head, Buffer.from(`... (${rest} more bytes)`)])
}
