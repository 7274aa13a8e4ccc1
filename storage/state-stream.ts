/*
 * A whole state as one stream of bytes, which another node (or a backup) builds an environment from: every database in
 * order, every record in key order, as they lie on disk. It knows no engine: the encoder reads any view, the decoder
 * hands its records to whoever asked. What a record means is state-build.ts.
 *
 *   'HFSTATE' version u8, then items:
 *     1 | length u8 | name                                        the records that follow are of this database
 *     2 | key length u16 | value length u32 | key | value
 *     3 | records u64                                             the end: how many records there were
 *
 * It is cut into chunks of equal size, of which each begins at the byte after the one before it. Only the value of a
 * record may be cut by that, so that everything else can be read where it lies.
 */

import { assert } from '../raft/assert.ts'
import { type Chunk, KEY_BYTES_MAX, type Reads } from './engine.ts'
import { CodecError, readUint32, readUint64, writeUint32, writeUint64 } from './integers.ts'

/** Far above every value that the options allow; what a damaged length may ask for is bounded by it. */
const VALUE_BYTES_MAX = 1_073_741_824
const MAGIC = Buffer.from('HFSTATE\u0001', 'latin1')
const TAG_DATABASE = 1
const TAG_RECORD = 2
const TAG_END = 3
const RECORD_HEADER_BYTES = 7
const END_BYTES = 9
/** Before every key. */
const BEGINNING = new Uint8Array(1)

/** Makes the stream, one chunk at a time, from reads that show one moment. */
export class StateStreamEncoder {
  readonly #reads: Reads
  readonly #databases: readonly string[]
  readonly #chunkBytes: number
  #begun = false
  #ended = false
  /** The database that is being read, and whether its name is in the stream. */
  #database = 0
  #named = false
  /** Its last key that is in the stream; undefined: none yet. */
  #last: Uint8Array | undefined
  /** What is left of a value that the last chunk had no room for. */
  #value: Uint8Array | undefined
  #records = 0
  #chunk: Buffer<ArrayBuffer> = Buffer.alloc(0)
  #length = 0

  /** `chunkBytes`: room for the longest key at least. */
  constructor(reads: Reads, databases: readonly string[], chunkBytes: number) {
    this.#reads = reads
    this.#databases = databases
    this.#chunkBytes = chunkBytes
  }

  /** undefined: the last one was the last. */
  next(): Chunk | undefined {
    if (this.#ended) return undefined
    this.#chunk = Buffer.allocUnsafeSlow(this.#chunkBytes)
    this.#length = 0
    if (this.#value !== undefined) this.#takeValue(this.#value)
    while (this.#fill());
    assert(this.#length > 0, () => `a chunk of ${this.#chunkBytes} bytes is too small`)
    return new Uint8Array(this.#chunk.buffer, 0, this.#length)
  }

  /** False: the chunk is full, or the stream at its end. */
  #fill(): boolean {
    if (this.#value !== undefined) return false
    if (!this.#begun) return this.#begin()
    const name = this.#databases[this.#database]
    if (name === undefined) return this.#end()
    if (!this.#named) return this.#beginDatabase(name)
    let full = false
    this.#reads.range(name, this.#last ?? BEGINNING, (key, value) => {
      if (this.#last !== undefined && Buffer.compare(key, this.#last) === 0) return true
      full = !this.#add(key, value)
      return !full
    })
    if (full) return false
    this.#database++
    this.#named = false
    return true
  }

  #begin(): boolean {
    this.#begun = true
    this.#chunk.set(MAGIC)
    this.#length = MAGIC.length
    return true
  }

  #beginDatabase(name: string): boolean {
    if (this.#lacks(2 + name.length)) return false
    this.#chunk[this.#length] = TAG_DATABASE
    this.#chunk[this.#length + 1] = name.length
    this.#chunk.write(name, this.#length + 2, 'latin1')
    this.#length += 2 + name.length
    this.#named = true
    this.#last = undefined
    return true
  }

  /** False: there is no room for the record, or for all of its value. */
  #add(key: Uint8Array, value: Uint8Array): boolean {
    if (this.#lacks(RECORD_HEADER_BYTES + key.length)) return false
    const at = this.#length
    const chunk = this.#chunk
    chunk[at] = TAG_RECORD
    chunk[at + 1] = key.length >>> 8
    chunk[at + 2] = key.length & 0xff
    writeUint32(chunk, at + 3, value.length)
    chunk.set(key, at + RECORD_HEADER_BYTES)
    this.#length = at + RECORD_HEADER_BYTES + key.length
    this.#last = key
    this.#records++
    return this.#takeValue(value)
  }

  #takeValue(value: Uint8Array): boolean {
    const taken = Math.min(value.length, this.#chunkBytes - this.#length)
    this.#chunk.set(taken === value.length ? value : value.subarray(0, taken), this.#length)
    this.#length += taken
    this.#value = taken === value.length ? undefined : value.subarray(taken)
    return this.#value === undefined
  }

  #end(): boolean {
    if (this.#lacks(END_BYTES)) return false
    this.#chunk[this.#length] = TAG_END
    writeUint64(this.#chunk, this.#length + 1, this.#records)
    this.#length += END_BYTES
    this.#ended = true
    return false
  }

  #lacks(bytes: number): boolean {
    return this.#length + bytes > this.#chunkBytes
  }
}

/** Where the items of a stream go, as views of the chunks. */
export interface StateStreamVisitor {
  database(name: string): void
  record(key: Uint8Array, value: Uint8Array): void
}

/** Takes a stream apart again. Throws CodecError on anything but a well-formed one; it is of no use after that. */
export class StateStreamDecoder {
  readonly #visitor: StateStreamVisitor
  #begun = false
  #ended = false
  #records = 0
  /** The record whose value is not complete. */
  #key: Uint8Array | undefined
  #value: Uint8Array = BEGINNING
  #filled = 0

  constructor(visitor: StateStreamVisitor) {
    this.#visitor = visitor
  }

  get isComplete(): boolean {
    return this.#ended
  }

  get records(): number {
    return this.#records
  }

  push(chunk: Uint8Array): void {
    let at = this.#key === undefined ? 0 : this.#fillValue(this.#key, chunk)
    if (!this.#begun) {
      if (Buffer.compare(chunk.subarray(0, MAGIC.length), MAGIC) !== 0) {
        throw new CodecError('this is no stream of a state, or of another version')
      }
      this.#begun = true
      at = MAGIC.length
    }
    while (at < chunk.length) at = this.#item(chunk, at)
  }

  #item(chunk: Uint8Array, at: number): number {
    if (this.#ended) throw new CodecError('a stream goes on behind its end')
    switch (chunk[at]) {
      case TAG_RECORD:
        return this.#record(chunk, at)
      case TAG_DATABASE:
        return this.#database(chunk, at)
      case TAG_END:
        return this.#end(chunk, at)
      default:
        throw new CodecError(`a stream has an item of kind ${chunk[at]}`)
    }
  }

  #record(chunk: Uint8Array, at: number): number {
    const keyAt = at + RECORD_HEADER_BYTES
    const keyLength = ((chunk[at + 1] ?? 0) << 8) | (chunk[at + 2] ?? 0)
    const valueAt = keyAt + keyLength
    if (keyLength === 0 || keyLength > KEY_BYTES_MAX || valueAt > chunk.length) {
      throw new CodecError(`a record of a stream has a key of ${keyLength} bytes`)
    }
    const length = readUint32(chunk, at + 3)
    if (length > VALUE_BYTES_MAX) throw new CodecError(`a value of ${length} bytes in a stream`)
    const key = chunk.subarray(keyAt, valueAt)
    if (valueAt + length <= chunk.length) {
      this.#visit(key, chunk.subarray(valueAt, valueAt + length))
      return valueAt + length
    }
    this.#key = key
    // Uninitialised, so that an announced length costs no memory before its bytes arrive.
    this.#value = Buffer.allocUnsafeSlow(length)
    this.#filled = 0
    return valueAt + this.#fillValue(key, chunk.subarray(valueAt))
  }

  /** How many bytes of `rest` belong to the value that is being read. */
  #fillValue(key: Uint8Array, rest: Uint8Array): number {
    const taken = Math.min(rest.length, this.#value.length - this.#filled)
    this.#value.set(rest.subarray(0, taken), this.#filled)
    this.#filled += taken
    if (this.#filled === this.#value.length) {
      const value = this.#value
      this.#key = undefined
      this.#value = BEGINNING
      this.#visit(key, value)
    }
    return taken
  }

  #visit(key: Uint8Array, value: Uint8Array): void {
    this.#records++
    this.#visitor.record(key, value)
  }

  #database(chunk: Uint8Array, at: number): number {
    const end = at + 2 + (chunk[at + 1] ?? 0)
    if (end > chunk.length) throw new CodecError('the name of a database is cut short')
    this.#visitor.database(Buffer.from(chunk.subarray(at + 2, end)).toString('latin1'))
    return end
  }

  #end(chunk: Uint8Array, at: number): number {
    if (at + END_BYTES > chunk.length) throw new CodecError('the end of a stream is cut short')
    const records = readUint64(chunk, at + 1)
    if (records !== this.#records) {
      throw new CodecError(`a stream of ${records} records has brought ${this.#records}`)
    }
    this.#ended = true
    return at + END_BYTES
  }
}
