/*
 * The commands that take a string for an array of bits: SETBIT, GETBIT, BITCOUNT, BITPOS and BITOP. The arithmetic
 * is in bits.ts; here are the arguments, by Redis 7.2's rules (a missing key does not excuse a wrong argument).
 */

import type { Reply } from '../../resp/encoder.ts'
import { argument, isWord, keyOf, parseInt64 } from './arguments.ts'
import { type BitOperation, bitAt, combineBits, countBits, findBit, setBitAt } from './bits.ts'
import type {
  Args,
  ArgumentDoc,
  Command,
  Database,
  Foreseen,
  ReadonlyDatabase,
  Slices,
} from './command.ts'
import { CommandError, notAnInteger, rewritesFirst, syntaxError, wholeValue } from './command.ts'
import { STRING_BYTES_MAX } from './string-edits.ts'

export const badOffset: CommandError = new CommandError(
  'ERR bit offset is not an integer or out of range',
)
const badBit = new CommandError('ERR bit is not an integer or out of range')
const badSearchedBit = new CommandError('ERR The bit argument must be 1 or 0.')
const notTakesOne = new CommandError('ERR BITOP NOT must be called with a single source key.')
/** All sources of one BITOP. A constant, because all nodes must decide alike: meanwhile nothing else runs on any of them. */
const COMBINED_BYTES_MAX = 134_217_728
const tooMuch = new CommandError(
  `ERR the sources of BITOP have more than ${COMBINED_BYTES_MAX} bytes together`,
)
/** Counted or searched in one go, within a millisecond. */
const BITS_PER_SLICE = 8 * 1_048_576
const NO_BYTES = new Uint8Array(0)

/** The offset of a bit that a string can have. */
export function bitOffset(bytes: Uint8Array): number {
  const offset = parseInt64(bytes)
  if (offset === undefined || offset < 0 || offset >= STRING_BYTES_MAX * 8) throw badOffset
  return Number(offset)
}

/** A copy that may be changed, with zeros up to `length` when it is shorter. */
export function writableCopy(bytes: Uint8Array, length: number): Uint8Array {
  const copy = new Uint8Array(Math.max(bytes.length, length))
  copy.set(bytes)
  return copy
}

function setbit(db: Database, args: Args): Reply {
  const key = keyOf(argument(args, 1))
  const offset = bitOffset(argument(args, 2))
  const wanted = parseInt64(argument(args, 3))
  if (wanted !== 0 && wanted !== 1) throw badBit
  const old = db.get(key)
  const bytes = old?.value ?? NO_BYTES
  const before = bitAt(bytes, offset)
  const length = Math.floor(offset / 8) + 1
  // What changes nothing is no change to whoever watches the key.
  if (before === wanted && length <= bytes.length) return before
  db.room(length)
  const changed = writableCopy(bytes, length)
  setBitAt(changed, offset, wanted)
  db.put(key, changed, old?.expireAt)
  return before
}

function lengthAfterSetbit(args: Args, before: number): number | undefined {
  const offset = parseInt64(argument(args, 2))
  const wanted = parseInt64(argument(args, 3))
  if ((wanted !== 0 && wanted !== 1) || typeof offset !== 'number' || offset < 0) return undefined
  const length = Math.floor(offset / 8) + 1
  return length > STRING_BYTES_MAX ? undefined : Math.max(before, length)
}

function getbit(db: ReadonlyDatabase, args: Args): Reply {
  const offset = bitOffset(argument(args, 2))
  return bitAt(db.get(keyOf(argument(args, 1)))?.value ?? NO_BYTES, offset)
}

interface Range {
  readonly start: bigint
  readonly end: bigint
  readonly unit: 'byte' | 'bit'
}

/** start, end and unit from the arguments at `from`; the end may be left out. */
function rangeAt(args: Args, from: number): Range {
  const start = integer(argument(args, from))
  // Redis looks at the unit before it looks at the end.
  const unit = args.length > from + 2 ? unitOf(argument(args, from + 2)) : 'byte'
  const end = args.length > from + 1 ? integer(argument(args, from + 1)) : -1n
  return { start, end, unit }
}

function unitOf(bytes: Uint8Array): Range['unit'] {
  if (isWord(bytes, 'bit')) return 'bit'
  if (isWord(bytes, 'byte')) return 'byte'
  throw syntaxError
}

function integer(bytes: Uint8Array): bigint {
  const value = parseInt64(bytes)
  if (value === undefined) throw notAnInteger
  return BigInt(value)
}

/** The bits that the range means in a string of `length` bytes; undefined when they are none. */
function bitsOf(
  { start, end, unit }: Range,
  length: number,
): { readonly first: number; readonly last: number } | undefined {
  const total = BigInt(unit === 'bit' ? length * 8 : length)
  const from = fromStart(start, total)
  const to = fromStart(end, total)
  const last = to >= total ? total - 1n : to
  if (from > last) return undefined
  return unit === 'bit'
    ? { first: Number(from), last: Number(last) }
    : { first: Number(from) * 8, last: Number(last) * 8 + 7 }
}

/** A negative index counts from the end. */
function fromStart(index: bigint, total: bigint): bigint {
  if (index >= 0n) return index
  return index + total < 0n ? 0n : index + total
}

function* bitcount(db: ReadonlyDatabase, args: Args): Slices {
  if (args.length === 3 || args.length > 5) throw syntaxError
  const range: Range = args.length === 2 ? { start: 0n, end: -1n, unit: 'byte' } : countRange(args)
  // Far beyond the beginning both would be clamped to the first byte.
  if (range.start < 0n && range.end < 0n && range.start > range.end) return { reply: 0 }
  const bytes = db.get(keyOf(argument(args, 1)))?.value ?? NO_BYTES
  const bits = bitsOf(range, bytes.length)
  if (bits === undefined) return { reply: 0 }
  let count = 0
  for (let { first } = bits; first <= bits.last; ) {
    if (first > bits.first) yield []
    const last = Math.min(bits.last, first + BITS_PER_SLICE - 1)
    count += countBits(bytes, first, last)
    first = last + 1
  }
  return { reply: count }
}

/** BITCOUNT, unlike BITPOS, reads its arguments from the left. */
function countRange(args: Args): Range {
  const start = integer(argument(args, 2))
  const end = integer(argument(args, 3))
  return { start, end, unit: args.length === 5 ? unitOf(argument(args, 4)) : 'byte' }
}

function* bitpos(db: ReadonlyDatabase, args: Args): Slices {
  const bit = parseInt64(argument(args, 2))
  if (bit === undefined) throw notAnInteger
  if (bit !== 0 && bit !== 1) throw badSearchedBit
  if (args.length > 6) throw syntaxError
  const range: Range = args.length === 3 ? { start: 0n, end: -1n, unit: 'byte' } : rangeAt(args, 3)
  const bytes = db.get(keyOf(argument(args, 1)))?.value
  if (bytes === undefined) return { reply: bit === 1 ? -1 : 0 }
  const bits = bitsOf(range, bytes.length)
  if (bits === undefined) return { reply: -1 }
  for (let { first } = bits; first <= bits.last; first += BITS_PER_SLICE) {
    if (first > bits.first) yield []
    const last = Math.min(bits.last, first + BITS_PER_SLICE - 1)
    const found = findBit(bytes, bit, { first, last })
    if (found >= 0) return { reply: found }
  }
  // Without an end the string goes on with zeros for ever.
  return { reply: bit === 0 && args.length < 5 ? bytes.length * 8 : -1 }
}

function bitop(db: Database, args: Args): Reply {
  const operation = operationOf(argument(args, 1))
  if (operation === 'not' && args.length !== 4) throw notTakesOne
  const destination = keyOf(argument(args, 2))
  const sources = args.slice(3).map((name) => db.get(keyOf(name))?.value ?? NO_BYTES)
  if (sources.reduce((sum, source) => sum + source.length, 0) > COMBINED_BYTES_MAX) throw tooMuch
  db.room(Math.max(...sources.map((source) => source.length)))
  const result = combineBits(operation, sources)
  if (result.length === 0) db.delete(destination)
  else db.put(destination, result)
  return result.length
}

/** What is refused is refused before it takes memory. */
function foreseeBitop(args: Args, lengthOf: (key: Uint8Array) => number): Foreseen {
  const lengths = args.slice(3).map(lengthOf)
  const length = lengths.reduce((most, each) => Math.max(most, each), 0)
  const given = lengths.reduce((sum, each) => sum + each, 0)
  const key = argument(args, 2)
  const isRefused =
    given > COMBINED_BYTES_MAX || !operations.some((word) => isWord(argument(args, 1), word))
  if (isRefused) return { key, length: lengthOf(key), bytes: 0, computed: 0 }
  return { key, length, bytes: given + length, computed: given + length }
}

const operations: readonly BitOperation[] = ['and', 'or', 'xor', 'not']

function operationOf(bytes: Uint8Array): BitOperation {
  for (const operation of operations) {
    if (isWord(bytes, operation)) return operation
  }
  throw syntaxError
}

const key: ArgumentDoc = { name: 'key', type: 'key' }
const offset: ArgumentDoc = { name: 'offset', type: 'integer' }
const bit: ArgumentDoc = { name: 'bit', type: 'integer' }
const start: ArgumentDoc = { name: 'start', type: 'integer' }
const end: ArgumentDoc = { name: 'end', type: 'integer' }
const unit: ArgumentDoc = {
  name: 'unit',
  type: 'oneof',
  optional: true,
  arguments: [
    { name: 'byte', type: 'pure-token', token: 'BYTE' },
    { name: 'bit', type: 'pure-token', token: 'BIT' },
  ],
}

export const bitmapCommands: readonly Command[] = [
  {
    name: 'bitcount',
    arity: -2,
    flags: [],
    categories: ['bitmap'],
    keys: { first: 1, last: 1, step: 1, access: ['RO', 'access'] },
    doc: {
      summary: 'Counts the bits that are set in a string.',
      since: '2.6.0',
      group: 'bitmap',
      complexity: 'O(N) where N is the length of the string.',
      arguments: [
        key,
        { name: 'range', type: 'block', optional: true, arguments: [start, end, unit] },
      ],
    },
    kind: 'read',
    run: (db, args) => wholeValue(bitcount(db, args)),
    slices: bitcount,
    ofOneValue: true,
  },
  {
    name: 'bitop',
    arity: -4,
    flags: ['denyoom'],
    categories: ['bitmap'],
    keys: [
      { first: 2, last: 2, step: 1, access: ['OW', 'update'] },
      { first: 3, last: -1, step: 1, access: ['RO', 'access'] },
    ],
    doc: {
      summary: 'Combines strings bit by bit and stores the result.',
      since: '2.6.0',
      group: 'bitmap',
      complexity: 'O(N) where N is the length of all strings.',
      arguments: [
        {
          name: 'operation',
          type: 'oneof',
          arguments: [
            { name: 'and', type: 'pure-token', token: 'AND' },
            { name: 'or', type: 'pure-token', token: 'OR' },
            { name: 'xor', type: 'pure-token', token: 'XOR' },
            { name: 'not', type: 'pure-token', token: 'NOT' },
          ],
        },
        { name: 'destkey', type: 'key' },
        { ...key, multiple: true },
      ],
    },
    foresee: foreseeBitop,
    kind: 'write',
    run: bitop,
  },
  {
    name: 'bitpos',
    arity: -3,
    flags: [],
    categories: ['bitmap'],
    keys: { first: 1, last: 1, step: 1, access: ['RO', 'access'] },
    doc: {
      summary: 'Finds the first bit that is set, or clear, in a string.',
      since: '2.8.7',
      group: 'bitmap',
      complexity: 'O(N) where N is the length of the string.',
      arguments: [
        key,
        bit,
        {
          name: 'range',
          type: 'block',
          optional: true,
          arguments: [
            start,
            { name: 'end-unit', type: 'block', optional: true, arguments: [end, unit] },
          ],
        },
      ],
    },
    kind: 'read',
    run: (db, args) => wholeValue(bitpos(db, args)),
    slices: bitpos,
    ofOneValue: true,
  },
  {
    name: 'getbit',
    arity: 3,
    flags: ['fast'],
    categories: ['bitmap'],
    keys: { first: 1, last: 1, step: 1, access: ['RO', 'access'] },
    doc: {
      summary: 'Returns one bit of a string.',
      since: '2.2.0',
      group: 'bitmap',
      complexity: 'O(1)',
      arguments: [key, offset],
    },
    kind: 'read',
    run: getbit,
  },
  {
    name: 'setbit',
    arity: 4,
    flags: ['denyoom'],
    categories: ['bitmap'],
    keys: { first: 1, last: 1, step: 1, access: ['RW', 'access', 'update'] },
    foresee: rewritesFirst(lengthAfterSetbit),
    doc: {
      summary: 'Sets or clears one bit of a string and returns what it was.',
      since: '2.2.0',
      group: 'bitmap',
      complexity: 'O(N) where N is the length of the string.',
      arguments: [key, offset, { ...bit, name: 'value' }],
    },
    kind: 'write',
    run: setbit,
  },
]
