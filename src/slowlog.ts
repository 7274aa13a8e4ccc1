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

/** Of commands that are not copied yet, so many times what is kept may wait for settle(). */
const FRESH_FACTOR = 2

export class Slowlog {
  readonly #entriesMax: () => number
  /** The latest last. */
  #entries: SlowEntry[] = []
  /** Added since the last settle(): they hold the memory that their commands came in. */
  #fresh: SlowEntry[] = []
  #lastId = 0

  constructor(entriesMax: () => number) {
    this.#entriesMax = entriesMax
  }

  get length(): number {
    this.settle()
    return this.#entries.length
  }

  /** The latest `count`, the latest first. */
  latest(count: number): readonly SlowEntry[] {
    this.settle()
    return count === 0 ? [] : this.#entries.slice(-count).toReversed()
  }

  /** Under a load that makes every command slow it must not make them slower: settle() does what costs. */
  add({ at, micros, args, address, name }: Omit<SlowEntry, 'id'>): void {
    const fresh = this.#fresh
    fresh.push({ id: this.#lastId++, at, micros, args, address, name })
    const most = this.#entriesMax()
    if (fresh.length > FRESH_FACTOR * most) fresh.splice(0, fresh.length - most)
  }

  /** Once per turn, and whenever the limit changes: copies what is kept of the latest, and forgets the oldest. */
  settle(): void {
    const most = this.#entriesMax()
    if (this.#fresh.length === 0 && this.#entries.length <= most) return
    const fresh = this.#fresh.slice(Math.max(0, this.#fresh.length - most))
    this.#fresh = []
    const left = most - fresh.length
    const known = this.#entries.slice(Math.max(0, this.#entries.length - left))
    for (const entry of fresh) known.push({ ...entry, args: shortened(entry.args) })
    this.#entries = known
  }

  clear(): void {
    this.#entries = []
    this.#fresh = []
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
