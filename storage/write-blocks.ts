/*
 * The memory of a memtable: writes one behind the other, in blocks of bytes. A write is known by a reference, and knows
 * the write to the same key before it; so whoever remembers where the memory ended at one moment can read that moment
 * for ever. What nobody remembers may change: a small value is overwritten in its place, a large one that was
 * overwritten is let go before the rest. So whoever reads a small value is given a copy. There is no object per key for
 * the garbage collector to follow, and a checkpoint takes the blocks as they are. It knows no order, no disk and no
 * thread.
 */

import { assert } from '../raft/assert.ts'
import type { Chunk, TakeMemory } from './engine.ts'
import { readUint32, readUint64, writeUint32, writeUint64 } from './integers.ts'
import {
  decodeRecordHeader,
  RECORD_HEADER_BYTES,
  recordExpiry,
  type StoredValue,
  writeRecordHeader,
} from './record.ts'
import { Slabs } from './slabs.ts'

/**
 * Layout of a write: reference of the one before it + 1 u64 (0: there is none) | position u64 | kind u8 |
 * key length u32 | value length u32 | key | record header | value, or where it lies apart u32. A deletion ends with
 * the key.
 */
export const WRITE_HEADER_BYTES = 25
const POSITION_AT = 8
const KIND_AT = 16
const KEY_LENGTH_AT = 17
const VALUE_LENGTH_AT = 21
const KIND_DELETED = 0
const KIND_WHOLE = 1
/** The value lies apart, beside the block. */
const KIND_APART = 2
const APART_BYTES = 4
/** Added to the kind: a later write to the same key stands behind. */
const SUPERSEDED = 0x80

/** A block; only one that holds a single write with a long key is larger. References are block * this + offset. */
const BLOCK_BYTES = 256 * 1024
const FIRST_BLOCK_BYTES = 4096
/** A value up to so long may be overwritten in its place, and is read as a copy, which then costs little. */
export const COPIED_VALUE_BYTES_MAX = 256
/** Copies up to so long are kept by V8 in the heap itself; others are cut from Node's pool of buffers. */
const HEAP_VALUE_BYTES_MAX = 64
/** A longer value lies apart, so that it can be let go by itself when it is overwritten. */
const WHOLE_VALUE_BYTES_MAX = 4096
/** A value so large is kept where it lies when it is most of that memory: entries are never written to again. */
const SHARED_VALUE_BYTES_MIN = 256 * 1024
/** Layout of a part of a checkpoint: length of what follows u32 | place u8 | the bytes, in as many chunks as need be. */
const PART_HEADER_BYTES = 5
const CHUNK_BYTES = BLOCK_BYTES + PART_HEADER_BYTES
const NO_BYTES = new Uint8Array(0)

interface Block {
  bytes: Buffer<ArrayBuffer>
  used: number
  /** The values of its writes that lie apart, and where those writes begin. */
  readonly apart: { value: Uint8Array; readonly at: number }[]
}

export class WriteBlocks {
  readonly #blocks: Block[] = []
  readonly #slabs = new Slabs()
  #bytes = 0
  /** Somebody may read the writes below this, overwritten or not. */
  #boundEnd = 0

  /** Memory it has taken. */
  get bytes(): number {
    return this.#bytes
  }

  /** References below this are what is there now. */
  get end(): number {
    const last = this.#blocks.at(-1)
    if (last === undefined) return 0
    return (this.#blocks.length - 1) * BLOCK_BYTES + Math.min(last.used, BLOCK_BYTES)
  }

  /** Where the writes of this moment end, for whoever wants to read it for ever. */
  bind(): number {
    this.#boundEnd = this.end
    return this.end
  }

  /** `before` is the reference of the last write to the same key; `stored` null deletes it. Copies the value. */
  append(
    key: string,
    position: number,
    { before, stored }: { before: number | undefined; stored: StoredValue | null },
  ): number {
    const { length: valueLength } = stored?.value ?? NO_BYTES
    const apart = valueLength > WHOLE_VALUE_BYTES_MAX
    const inside = apart ? APART_BYTES : valueLength
    const recordLength = stored === null ? 0 : RECORD_HEADER_BYTES + inside
    const block = this.#room(WRITE_HEADER_BYTES + key.length + recordLength)
    const { bytes, used: at } = block
    const keyAt = at + WRITE_HEADER_BYTES
    const recordAt = keyAt + key.length
    writeUint64(bytes, at, before === undefined ? 0 : before + 1)
    writeUint64(bytes, at + POSITION_AT, position)
    bytes[at + KIND_AT] = stored === null ? KIND_DELETED : apart ? KIND_APART : KIND_WHOLE
    writeUint32(bytes, at + KEY_LENGTH_AT, key.length)
    writeUint32(bytes, at + VALUE_LENGTH_AT, valueLength)
    bytes.write(key, keyAt, 'latin1')
    if (stored !== null) {
      writeRecordHeader(bytes, recordAt, stored)
      if (!apart) bytes.set(stored.value, recordAt + RECORD_HEADER_BYTES)
      else {
        writeUint32(bytes, recordAt + RECORD_HEADER_BYTES, block.apart.length)
        block.apart.push({ value: ownedValue(stored.value), at })
      }
    }
    if (before !== undefined) this.#supersede(before)
    block.used = recordAt + recordLength
    this.#bytes += block.used - at + (apart ? valueLength : 0)
    return (this.#blocks.length - 1) * BLOCK_BYTES + at
  }

  /**
   * Writes to the key of the last write `ref` once more, in its place: as if a write with no other length had been
   * there all along. False when somebody may be bound to that moment, or when it does not fit: then it is for append().
   */
  overwrite(ref: number, stored: StoredValue): boolean {
    const { value } = stored
    if (ref < this.#boundEnd || value.length > COPIED_VALUE_BYTES_MAX) return false
    const { bytes } = this.#block(ref)
    const at = ref % BLOCK_BYTES
    // A superseded write is of no such kind.
    if (bytes[at + KIND_AT] !== KIND_WHOLE) return false
    if (readUint32(bytes, at + VALUE_LENGTH_AT) !== value.length) return false
    const recordAt = recordStart(bytes, at)
    writeRecordHeader(bytes, recordAt, stored)
    bytes.set(value, recordAt + RECORD_HEADER_BYTES)
    return true
  }

  /** The reference of the write to the same key before this one. */
  before(ref: number): number | undefined {
    const { bytes } = this.#block(ref)
    const before = readUint64(bytes, ref % BLOCK_BYTES)
    return before === 0 ? undefined : before - 1
  }

  position(ref: number): number {
    return readUint64(this.#block(ref).bytes, (ref % BLOCK_BYTES) + POSITION_AT)
  }

  key(ref: number): string {
    const { bytes } = this.#block(ref)
    const at = ref % BLOCK_BYTES
    const keyAt = at + WRITE_HEADER_BYTES
    return bytes.toString('latin1', keyAt, keyAt + readUint32(bytes, at + KEY_LENGTH_AT))
  }

  /** Whether the write is one to this key. */
  isOf(ref: number, key: string): boolean {
    const { bytes } = this.#block(ref)
    const at = ref % BLOCK_BYTES
    const { length } = key
    if (readUint32(bytes, at + KEY_LENGTH_AT) !== length) return false
    const keyAt = at + WRITE_HEADER_BYTES
    for (let i = 0; i < length; i++) if (bytes[keyAt + i] !== key.charCodeAt(i)) return false
    return true
  }

  /** When the key expires, 0: never; undefined when this write deleted it. */
  expiry(ref: number): number | undefined {
    const { bytes } = this.#block(ref)
    const at = ref % BLOCK_BYTES
    if (kindOf(bytes, at) === KIND_DELETED) return undefined
    return recordExpiry(bytes, recordStart(bytes, at))
  }

  /** The value, one that may be overwritten as a copy, others as a view; null when this write deleted the key. */
  stored(ref: number): StoredValue | null {
    const block = this.#block(ref)
    const { bytes } = block
    const at = ref % BLOCK_BYTES
    const kind = kindOf(bytes, at)
    if (kind === KIND_DELETED) return null
    const recordAt = recordStart(bytes, at)
    const valueStart = recordAt + RECORD_HEADER_BYTES
    const length = readUint32(bytes, at + VALUE_LENGTH_AT)
    const value =
      kind === KIND_APART
        ? block.apart[readUint32(bytes, valueStart)]?.value
        : valueInside(bytes, valueStart, length)
    assert(value?.length === length, () => `write ${ref} has lost its value`)
    return decodeRecordHeader(bytes, recordAt, value)
  }

  /**
   * All of it for a checkpoint, in copies and one chunk at a time, so that not even a value of many megabytes holds
   * a thread for long: for each block its writes, then the values that lie apart.
   */
  *chunks(place: number, take: TakeMemory): Generator<Chunk, void> {
    for (const { bytes, used, apart } of this.#blocks) {
      yield* chunksOf({ place, bytes: bytes.subarray(0, used) }, take)
      for (const { value, at } of apart) {
        yield* chunksOf({ place, bytes: isSuperseded(bytes, at) ? NO_BYTES : value }, take)
      }
    }
  }

  /** A thousand changes of one large value in one entry would else be a thousand values in memory. */
  #supersede(ref: number): void {
    const { bytes, apart } = this.#block(ref)
    const at = ref % BLOCK_BYTES
    bytes[at + KIND_AT] = (bytes[at + KIND_AT] ?? 0) | SUPERSEDED
    if (ref < this.#boundEnd || kindOf(bytes, at) !== KIND_APART) return
    const lying = apart[readUint32(bytes, recordStart(bytes, at) + RECORD_HEADER_BYTES)]
    assert(lying?.at === at, () => `the value of write ${ref} lies somewhere else`)
    this.#bytes -= lying.value.length
    lying.value = NO_BYTES
  }

  #block(ref: number): Block {
    const block = this.#blocks[Math.floor(ref / BLOCK_BYTES)]
    assert(block !== undefined, () => `there is no write ${ref}`)
    return block
  }

  /** The block that takes the next write, which is `length` bytes long. */
  #room(length: number): Block {
    const last = this.#blocks.at(-1)
    if (last !== undefined && last.used + length <= BLOCK_BYTES) {
      if (last.used + length > last.bytes.length) this.#grow(last, length)
      return last
    }
    const first = last === undefined ? FIRST_BLOCK_BYTES : BLOCK_BYTES
    const block = { bytes: this.#memory(Math.max(first, length)), used: 0, apart: [] }
    this.#blocks.push(block)
    return block
  }

  #grow(block: Block, length: number): void {
    const bytes = this.#memory(
      Math.min(BLOCK_BYTES, Math.max(block.bytes.length * 4, block.used + length)),
    )
    // Whoever reads a value as a view reads the old memory, which nobody changes.
    bytes.set(block.bytes.subarray(0, block.used))
    block.bytes = bytes
  }

  #memory(length: number): Buffer<ArrayBuffer> {
    const { buffer, byteOffset } = this.#slabs.take(length)
    return Buffer.from(buffer, byteOffset, length)
  }
}

function recordStart(bytes: Uint8Array, at: number): number {
  return at + WRITE_HEADER_BYTES + readUint32(bytes, at + KEY_LENGTH_AT)
}

function kindOf(bytes: Uint8Array, at: number): number {
  return (bytes[at + KIND_AT] ?? 0) & ~SUPERSEDED
}

function isSuperseded(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at + KIND_AT] ?? 0) & SUPERSEDED) !== 0
}

function valueInside(bytes: Buffer, start: number, length: number): Uint8Array {
  if (length <= HEAP_VALUE_BYTES_MAX)
    return Uint8Array.prototype.slice.call(bytes, start, start + length)
  if (length > COPIED_VALUE_BYTES_MAX) {
    return new Uint8Array(bytes.buffer, bytes.byteOffset + start, length)
  }
  const copy = Buffer.allocUnsafe(length)
  bytes.copy(copy, 0, start, start + length)
  return copy
}

function ownedValue(value: Uint8Array): Uint8Array {
  const { length } = value
  const mostOfIt = length >= SHARED_VALUE_BYTES_MIN && length * 2 > value.buffer.byteLength
  return mostOfIt ? value : Uint8Array.from(value)
}

function* chunksOf(
  { place, bytes }: { readonly place: number; readonly bytes: Uint8Array },
  take: TakeMemory,
): Generator<Chunk, void> {
  let header = PART_HEADER_BYTES
  let at = 0
  do {
    const piece = bytes.subarray(at, at + CHUNK_BYTES - header)
    const chunk = take(header + piece.length)
    if (header > 0) {
      writeUint32(chunk, 0, bytes.length)
      chunk[4] = place
    }
    chunk.set(piece, header)
    yield chunk
    at += piece.length
    header = 0
  } while (at < bytes.length)
}

/** One write of a checkpoint, as views of its chunks. */
export interface BlockWrite {
  readonly position: number
  readonly key: Uint8Array
  /** Header without its checksum, then the value; empty: the key is deleted. Whoever reads it may change it. */
  readonly record: Uint8Array
}

/** The last write to every key of one place in a checkpoint, in the order of positions. */
export class SortedWrites {
  readonly #parts: readonly Part[]
  /** Part, offset and position of every write: no object per write, of which there are many. */
  readonly #part: Uint32Array
  readonly #offset: Uint32Array
  readonly #position: Float64Array
  readonly #order: Uint32Array

  private constructor(parts: readonly Part[]) {
    const count = parts.reduce((sum, { bytes }) => sum + countWrites(bytes).last, 0)
    this.#parts = parts
    this.#part = new Uint32Array(count)
    this.#offset = new Uint32Array(count)
    this.#position = new Float64Array(count)
    let next = 0
    for (const [part, { bytes }] of parts.entries()) {
      for (let at = 0; at < bytes.length; at = writeEnd(bytes, at)) {
        if (isSuperseded(bytes, at)) continue
        this.#part[next] = part
        this.#offset[next] = at
        this.#position[next] = readUint64(bytes, at + POSITION_AT)
        next++
      }
    }
    this.#order = orderOf(this.#position)
  }

  /** Takes the chunks of all places apart. Throws AssertionError when they are not what WriteBlocks made. */
  static byPlace(chunks: readonly Chunk[]): Map<number, SortedWrites> {
    const places = new Map<number, Part[]>()
    const queue = [...wholeParts(chunks)]
    for (let next = 0; next < queue.length; ) {
      const { place, bytes } = queue[next++] ?? { place: 0, bytes: NO_BYTES }
      const { apart } = countWrites(bytes)
      const values = queue.slice(next, next + apart).map((part) => part.bytes)
      assert(values.length === apart, () => `${values.length} of ${apart} values`)
      next += apart
      const parts = places.get(place) ?? []
      places.set(place, parts)
      parts.push({ bytes, values })
    }
    return new Map([...places].map(([place, parts]) => [place, new SortedWrites(parts)]))
  }

  get count(): number {
    return this.#order.length
  }

  *[Symbol.iterator](): Generator<BlockWrite, void> {
    for (const write of this.#order) yield this.#write(write)
  }

  #write(write: number): BlockWrite {
    const { bytes, values } = this.#parts[this.#part[write] ?? 0] ?? { bytes: NO_BYTES, values: [] }
    const at = this.#offset[write] ?? 0
    const recordAt = recordStart(bytes, at)
    let record = bytes.subarray(recordAt, writeEnd(bytes, at))
    if (kindOf(bytes, at) === KIND_APART) {
      const value = values[readUint32(record, RECORD_HEADER_BYTES)] ?? NO_BYTES
      const whole = new Uint8Array(RECORD_HEADER_BYTES + value.length)
      whole.set(record.subarray(0, RECORD_HEADER_BYTES))
      whole.set(value, RECORD_HEADER_BYTES)
      record = whole
    }
    const key = bytes.subarray(at + WRITE_HEADER_BYTES, recordAt)
    return { position: this.#position[write] ?? 0, key, record }
  }
}

/**
 * The indices of positions (below 2^52) in the order of these; what is equal stays in its order. By counting 13 bits at
 * a time, from the lowest on: a comparison for each of the many steps of a sort costs ten times as much.
 */
export function orderOf(positions: Float64Array): Uint32Array {
  const { length } = positions
  const halves = [new Uint32Array(length), new Uint32Array(length)] as const
  for (let i = 0; i < length; i++) {
    const position = positions[i] as number
    halves[0][i] = position % HALF
    halves[1][i] = position / HALF
  }
  let order = new Uint32Array(length).map((_, i) => i)
  let sorted = new Uint32Array(length)
  for (const half of halves) {
    for (let shift = 0; shift < HALF_BITS; shift += DIGIT_BITS) {
      const next = new Uint32Array(DIGITS + 1)
      for (let i = 0; i < length; i++) {
        const digit = ((half[i] as number) >>> shift) % DIGITS
        next[digit + 1] = (next[digit + 1] as number) + 1
      }
      for (let digit = 0; digit < DIGITS; digit++) {
        next[digit + 1] = (next[digit + 1] as number) + (next[digit] as number)
      }
      for (let i = 0; i < length; i++) {
        const index = order[i] as number
        const digit = ((half[index] as number) >>> shift) % DIGITS
        const at = next[digit] as number
        next[digit] = at + 1
        sorted[at] = index
      }
      const free = order
      order = sorted
      sorted = free
    }
  }
  return order
}
/** A position is two halves of two digits each. */
const DIGIT_BITS = 13
const DIGITS: number = 2 ** DIGIT_BITS
const HALF_BITS: number = 2 * DIGIT_BITS
const HALF: number = 2 ** HALF_BITS

/** A block in a checkpoint, and its values that lie apart. */
interface Part {
  readonly bytes: Uint8Array
  readonly values: readonly Uint8Array[]
}

function* wholeParts(chunks: readonly Chunk[]): Generator<{ place: number; bytes: Uint8Array }> {
  for (let next = 0; next < chunks.length; ) {
    const first = chunks[next++] ?? new Uint8Array(0)
    const length = readUint32(first, 0)
    const place = first[4] ?? 0
    let bytes = first.subarray(PART_HEADER_BYTES)
    if (bytes.length < length) {
      const whole = new Uint8Array(length)
      whole.set(bytes)
      let filled = bytes.length
      while (filled < length) {
        const piece = chunks[next++]
        assert(piece !== undefined, () => `a part of ${length} bytes ends after ${filled}`)
        whole.set(piece, filled)
        filled += piece.length
      }
      bytes = whole
    }
    assert(bytes.length === length, () => `a part of ${length} bytes has ${bytes.length}`)
    yield { place, bytes }
  }
}

function writeEnd(bytes: Uint8Array, at: number): number {
  const recordAt = recordStart(bytes, at)
  const kind = kindOf(bytes, at)
  if (kind === KIND_DELETED) return recordAt
  const inside = kind === KIND_APART ? APART_BYTES : readUint32(bytes, at + VALUE_LENGTH_AT)
  return recordAt + RECORD_HEADER_BYTES + inside
}

/** The writes of a block that count, and those whose values lie apart, the superseded among them. */
function countWrites(bytes: Uint8Array): { readonly last: number; readonly apart: number } {
  let last = 0
  let apart = 0
  for (let at = 0; at < bytes.length; at = writeEnd(bytes, at)) {
    if (!isSuperseded(bytes, at)) last++
    if (kindOf(bytes, at) === KIND_APART) apart++
  }
  return { last, apart }
}
