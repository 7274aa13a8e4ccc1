/*
 * BITFIELD and BITFIELD_RO: integers of any width at any bit of a string. All operations are read before the first
 * one runs, so that a wrong one leaves nothing done.
 */

import type { Reply } from '../../resp/encoder.ts'
import { limits } from '../config.ts'
import { argument, type Int64, isWord, keyOf, parseInt64, textOf } from './arguments.ts'
import { badOffset, bitOffset, writableCopy } from './bitmaps.ts'
import { addToField, type FieldType, type Overflow, readField, writeField } from './bits.ts'
import type { Args, ArgumentDoc, Command, Database, KeySpec, ReadonlyDatabase } from './command.ts'
import { CommandError, notAnInteger, rewritesFirst, syntaxError } from './command.ts'
import { STRING_BYTES_MAX } from './string-edits.ts'

type Operation = {
  readonly type: FieldType
  /** Of the field's first bit. */
  readonly offset: number
} & (
  | { readonly kind: 'get' }
  | { readonly kind: 'set' | 'incrby'; readonly value: bigint; readonly overflow: Overflow }
)

const badType = new CommandError(
  'ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.',
)
const badOverflow = new CommandError('ERR Invalid OVERFLOW type specified')
const onlyGet = new CommandError('ERR BITFIELD_RO only supports the GET subcommand')
/** It runs in one go, and has the limit that BITFIELD gets where writes are counted. */
const tooMany = new CommandError(
  `ERR too many operations for one command: the limit is ${limits.writeKeysMax}`,
)
const ARGUMENTS_PER_GET = 3
const NO_BYTES = new Uint8Array(0)
const HASH_SIGN = 0x23
const INT64_SPAN = 2n ** 63n

function operationsOf(args: Args): Operation[] {
  const operations: Operation[] = []
  let overflow: Overflow = 'wrap'
  for (let at = 2; at < args.length; ) {
    const word = argument(args, at)
    const left = args.length - 1 - at
    if (isWord(word, 'overflow') && left >= 1) {
      overflow = overflowOf(argument(args, at + 1))
      at += 2
      continue
    }
    const get = isWord(word, 'get') && left >= 2
    const set = isWord(word, 'set') && left >= 3
    if (!get && !set && !(isWord(word, 'incrby') && left >= 3)) throw syntaxError
    const type = typeOf(argument(args, at + 1))
    const offset = offsetOf(argument(args, at + 2), type)
    if (get) operations.push({ kind: 'get', type, offset })
    else {
      const value = parseInt64(argument(args, at + 3))
      if (value === undefined) throw notAnInteger
      const kind = set ? 'set' : 'incrby'
      operations.push({ kind, type, offset, value: BigInt(value), overflow })
    }
    at += get ? 3 : 4
  }
  return operations
}

function overflowOf(bytes: Uint8Array): Overflow {
  for (const overflow of ['wrap', 'sat', 'fail'] as const) {
    if (isWord(bytes, overflow)) return overflow
  }
  throw badOverflow
}

function typeOf(bytes: Uint8Array): FieldType {
  const sign = textOf(bytes.subarray(0, 1))
  const bits = parseInt64(bytes.subarray(1))
  const signed = sign === 'i'
  if ((!signed && sign !== 'u') || bits === undefined) throw badType
  if (bits < 1 || bits > (signed ? 64 : 63)) throw badType
  return { signed, bits: Number(bits) }
}

/** In bits; with a `#` in front it counts fields of the type. */
function offsetOf(bytes: Uint8Array, { bits }: FieldType): number {
  if (bytes[0] !== HASH_SIGN) return bitOffset(bytes)
  const fields = parseInt64(bytes.subarray(1))
  const offset = fields === undefined ? -1n : BigInt(fields) * BigInt(bits)
  if (offset < 0n || offset >= BigInt(STRING_BYTES_MAX) * 8n) throw badOffset
  return Number(offset)
}

function bitfield(db: Database, args: Args): Reply {
  const operations = operationsOf(args)
  const key = keyOf(argument(args, 1))
  const old = db.get(key)
  const before = old?.value ?? NO_BYTES
  const length = bytesWritten(operations)
  if (length === 0) return operations.map((operation) => read(before, operation))
  db.room(length)
  const bytes = writableCopy(before, length)
  let changed = bytes.length > before.length
  const replies = operations.map((operation) => {
    if (operation.kind === 'get') return read(bytes, operation)
    const { reply, written } = write(bytes, operation)
    changed ||= written
    return reply
  })
  if (changed) db.put(key, bytes, old?.expireAt)
  return replies
}

/** Up to where it writes, in bytes; 0: it only reads. */
function bytesWritten(operations: readonly Operation[]): number {
  let length = 0
  for (const { kind, type, offset } of operations) {
    if (kind !== 'get') length = Math.max(length, Math.ceil((offset + type.bits) / 8))
  }
  return length
}

function lengthAfterBitfield(args: Args, before: number): number | undefined {
  try {
    const length = bytesWritten(operationsOf(args))
    return length === 0 ? undefined : Math.max(before, length)
  } catch (error) {
    if (error instanceof CommandError) return undefined
    throw error
  }
}

function bitfieldReadOnly(db: ReadonlyDatabase, args: Args): Reply {
  if (args.length - 2 > limits.writeKeysMax * ARGUMENTS_PER_GET) throw tooMany
  const operations = operationsOf(args)
  if (operations.some(({ kind }) => kind !== 'get')) throw onlyGet
  const bytes = db.get(keyOf(argument(args, 1)))?.value ?? NO_BYTES
  return operations.map((operation) => read(bytes, operation))
}

function read(bytes: Uint8Array, { type, offset }: Operation): Int64 {
  return narrow(readField(bytes, offset, type))
}

function write(
  bytes: Uint8Array,
  operation: Extract<Operation, { kind: 'set' | 'incrby' }>,
): { readonly reply: Reply; readonly written: boolean } {
  const { kind, type, offset, value, overflow } = operation
  const before = readField(bytes, offset, type)
  const sum =
    kind === 'incrby'
      ? addToField(type, { value: before, by: value, overflow })
      : // Redis takes the number for an unsigned one where the field is.
        addToField(type, {
          value: type.signed ? value : BigInt.asUintN(64, value),
          by: 0n,
          overflow,
        })
  if (sum === undefined) return { reply: null, written: false }
  writeField(bytes, offset, { bits: type.bits, value: sum })
  return { reply: narrow(kind === 'set' ? before : sum), written: sum !== before }
}

function narrow(value: bigint): Int64 {
  const number = Number(value)
  return Number.isSafeInteger(number) || value >= INT64_SPAN ? number : value
}

const key: ArgumentDoc = { name: 'key', type: 'key' }
const encoding: ArgumentDoc = { name: 'encoding', type: 'string' }
const offset: ArgumentDoc = { name: 'offset', type: 'integer' }
const get: ArgumentDoc = {
  name: 'get',
  type: 'block',
  token: 'GET',
  arguments: [encoding, offset],
}
const access: readonly string[] = ['RW', 'access', 'update', 'variable_flags']
const keys: KeySpec = {
  first: 1,
  last: 1,
  step: 1,
  access,
  accessOf: (args) => (onlyReads(args) ? ['RO', 'access'] : ['RW', 'access', 'update']),
}

/** By the words up to the first that writes or makes no sense, as Redis looks at them. */
function onlyReads(args: Args): boolean {
  let at = 2
  while (at < args.length) {
    const operation = argument(args, at)
    if (isWord(operation, 'get') && at + 2 < args.length) at += 3
    else if (isWord(operation, 'overflow') && at + 1 < args.length) at += 2
    else return false
  }
  return true
}

export const bitfieldCommands: readonly Command[] = [
  {
    name: 'bitfield',
    arity: -2,
    flags: ['denyoom'],
    categories: ['bitmap'],
    keys: {
      ...keys,
      notes: 'This command allows both access and modification of the key',
    },
    foresee: rewritesFirst(lengthAfterBitfield),
    doc: {
      summary: 'Reads and writes integers of any width inside a string.',
      since: '3.2.0',
      group: 'bitmap',
      complexity: 'O(N) where N is the length of the string; O(1) for each operation that reads.',
      arguments: [
        key,
        {
          name: 'operation',
          type: 'oneof',
          optional: true,
          multiple: true,
          arguments: [
            get,
            {
              name: 'write',
              type: 'block',
              arguments: [
                {
                  name: 'overflow',
                  type: 'oneof',
                  token: 'OVERFLOW',
                  optional: true,
                  arguments: [
                    { name: 'wrap', type: 'pure-token', token: 'WRAP' },
                    { name: 'sat', type: 'pure-token', token: 'SAT' },
                    { name: 'fail', type: 'pure-token', token: 'FAIL' },
                  ],
                },
                {
                  name: 'change',
                  type: 'oneof',
                  arguments: [
                    {
                      name: 'set',
                      type: 'block',
                      token: 'SET',
                      arguments: [encoding, offset, { name: 'value', type: 'integer' }],
                    },
                    {
                      name: 'incrby',
                      type: 'block',
                      token: 'INCRBY',
                      arguments: [encoding, offset, { name: 'increment', type: 'integer' }],
                    },
                  ],
                },
              ],
            },
          ],
        },
      ],
    },
    kind: 'write',
    run: bitfield,
  },
  {
    name: 'bitfield_ro',
    arity: -2,
    flags: ['fast'],
    categories: ['bitmap'],
    keys: { ...keys, access: ['RO', 'access'] },
    doc: {
      summary: 'Reads integers of any width inside a string.',
      since: '6.0.0',
      group: 'bitmap',
      complexity: 'O(1) for each operation.',
      arguments: [key, { ...get, optional: true, multiple: true }],
    },
    kind: 'read',
    run: bitfieldReadOnly,
  },
]
