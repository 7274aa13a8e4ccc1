/*
 * LCS: the longest common subsequence of two strings, its length, and the ranges of either string that make it up,
 * from the end to the beginning. Which of several is found is Redis' choice, step by step. Time and memory are the
 * product of the two lengths, so that is what is limited.
 */

import { MapReply, type Reply } from '../../resp/encoder.ts'
import { argument, isWord, keyOf, parseInt64 } from './arguments.ts'
import type { Args, Command, ReadonlyDatabase, Slices } from './command.ts'
import { CommandError, inOneGo, notAnInteger, syntaxError } from './command.ts'

/** Cells of the table that one slice computes, in some milliseconds. */
const SLICE_CELLS = 500_000
/** Of the table. Redis allows proto-max-bulk-len, half a gigabyte. */
const TABLE_BYTES_MAX = 128 * 1024 * 1024

const tooLong = new CommandError(
  'ERR Insufficient memory, transient memory for LCS exceeds the limit of 128mb',
)
const lengthAndRanges = new CommandError(
  'ERR If you want both the length and indexes, please just use IDX.',
)
const NO_BYTES = new Uint8Array(0)

/** First and last position (included) in the one string and in the other. */
interface CommonRange {
  readonly a: readonly [first: number, last: number]
  readonly b: readonly [first: number, last: number]
  readonly length: number
}

interface CommonSubsequence {
  readonly bytes: Uint8Array
  readonly ranges: readonly CommonRange[]
}

/** Lengths of the best common subsequence of every pair of prefixes. */
class LcsTable {
  readonly #a: Uint8Array
  readonly #b: Uint8Array
  readonly #width: number
  readonly #lengths: Uint32Array

  constructor(a: Uint8Array, b: Uint8Array) {
    this.#a = a
    this.#b = b
    this.#width = b.length + 1
    this.#lengths = new Uint32Array((a.length + 1) * this.#width)
  }

  /** Bytes of memory that the table of two strings takes. */
  static bytes(a: Uint8Array, b: Uint8Array): number {
    return (a.length + 1) * (b.length + 1) * Uint32Array.BYTES_PER_ELEMENT
  }

  /** Computes the rows of the prefixes of `a` that are `from` to `to` - 1 bytes long, in ascending order. */
  fill(from: number, to: number): void {
    const lengths = this.#lengths
    for (let i = from; i < to; i++) {
      const row = i * this.#width
      const above = row - this.#width
      const byte = this.#a[i - 1]
      for (let j = 1; j < this.#width; j++) {
        const left = lengths[row + j - 1] as number
        const up = lengths[above + j] as number
        lengths[row + j] =
          byte === this.#b[j - 1] ? (lengths[above + j - 1] as number) + 1 : Math.max(up, left)
      }
    }
  }

  /** Of the whole strings, once every row is filled. */
  get length(): number {
    return this.#at(this.#a.length, this.#b.length)
  }

  /** Walks back from the ends; a range ends where either string has a byte that the other has not. */
  trace(): CommonSubsequence {
    const bytes = new Uint8Array(this.length)
    const ranges: CommonRange[] = []
    let next = bytes.length
    let i = this.#a.length
    let j = this.#b.length
    let run = 0
    const close = (): void => {
      if (run > 0) ranges.push({ a: [i, i + run - 1], b: [j, j + run - 1], length: run })
      run = 0
    }
    while (i > 0 && j > 0) {
      if (this.#a[i - 1] === this.#b[j - 1]) {
        i--
        j--
        run++
        bytes[--next] = this.#a[i] as number
        continue
      }
      close()
      if (this.#at(i - 1, j) > this.#at(i, j - 1)) i--
      else j--
    }
    close()
    return { bytes, ranges }
  }

  #at(i: number, j: number): number {
    return this.#lengths[i * this.#width + j] as number
  }
}

interface Options {
  readonly length: boolean
  readonly ranges: boolean
  readonly rangeLengths: boolean
  /** Shorter ranges are left out. */
  readonly rangeMin: number
}

function* lcs(db: ReadonlyDatabase, args: Args): Slices {
  // Copies: between two slices the store may use the memory of a value again.
  const a = Uint8Array.from(db.get(keyOf(argument(args, 1)))?.value ?? NO_BYTES)
  const b = Uint8Array.from(db.get(keyOf(argument(args, 2)))?.value ?? NO_BYTES)
  const options = optionsOf(args)
  if (LcsTable.bytes(a, b) > TABLE_BYTES_MAX) throw tooLong
  const table = new LcsTable(a, b)
  const rows = Math.max(1, Math.floor(SLICE_CELLS / (b.length + 1)))
  for (let from = 1; from <= a.length; from += rows) {
    if (from > 1) yield []
    table.fill(from, Math.min(from + rows, a.length + 1))
  }
  if (options.length) return { reply: table.length }
  const { bytes, ranges } = table.trace()
  if (!options.ranges) return { reply: bytes }
  const shown = ranges.filter(({ length }) => length >= options.rangeMin)
  const matches = shown.map(
    ({ a, b, length }): Reply =>
      options.rangeLengths ? [[...a], [...b], length] : [[...a], [...b]],
  )
  const reply = new MapReply([
    ['matches', matches],
    ['len', bytes.length],
  ])
  return { reply }
}

function optionsOf(args: Args): Options {
  const options = { length: false, ranges: false, rangeLengths: false, rangeMin: 0 }
  for (let at = 3; at < args.length; at++) {
    const option = argument(args, at)
    if (isWord(option, 'idx')) options.ranges = true
    else if (isWord(option, 'len')) options.length = true
    else if (isWord(option, 'withmatchlen')) options.rangeLengths = true
    else if (isWord(option, 'minmatchlen') && at + 1 < args.length) {
      const least = parseInt64(argument(args, ++at))
      if (least === undefined) throw notAnInteger
      options.rangeMin = Number(least)
    } else throw syntaxError
  }
  if (options.ranges && options.length) throw lengthAndRanges
  return options
}

export const lcsCommand: Command = {
  name: 'lcs',
  arity: -3,
  flags: [],
  categories: ['string'],
  keys: { first: 1, last: 2, step: 1, access: ['RO', 'access'] },
  doc: {
    summary: 'Finds the longest common subsequence of two strings.',
    since: '7.0.0',
    group: 'string',
    complexity: 'O(N*M) where N and M are the lengths of the strings.',
    arguments: [
      { name: 'key1', type: 'key' },
      { name: 'key2', type: 'key' },
      { name: 'len', type: 'pure-token', token: 'LEN', optional: true },
      { name: 'idx', type: 'pure-token', token: 'IDX', optional: true },
      { name: 'min-match-len', type: 'integer', token: 'MINMATCHLEN', optional: true },
      { name: 'withmatchlen', type: 'pure-token', token: 'WITHMATCHLEN', optional: true },
    ],
  },
  kind: 'read',
  slices: lcs,
  run: (db, args) => inOneGo(lcs(db, args)),
}
