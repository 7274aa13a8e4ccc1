/*
 * Checked access to the fields of a decoded frame. Frames come from disks and peers: nothing in them has a type until
 * it has been looked at, field by field, and a field too many is as wrong as one too few. It decodes no bytes.
 */

import type { Index, Position, Term } from '../raft/types.ts'
import { CodecError } from './integers.ts'

/** What a frame's array may hold: whatever else arrives is refused before it is decoded. */
export type FrameField = null | boolean | number | string | Uint8Array | readonly FrameField[]

/** Takes a decoded array apart, one checked field after the other. Everything throws CodecError. */
export class FieldReader {
  readonly #fields: readonly FrameField[]
  #next = 0

  constructor(fields: readonly FrameField[]) {
    this.#fields = fields
  }

  /** A reader of a field that must be an array itself. */
  static over(field: FrameField | undefined): FieldReader {
    if (!isArray(field)) throw new CodecError('a field is no array')
    return new FieldReader(field)
  }

  get left(): number {
    return this.#fields.length - this.#next
  }

  /** True when the next field is null, which is thereby read; false leaves it where it is. */
  skipNull(): boolean {
    if (this.#fields[this.#next] !== null) return false
    this.#next++
    return true
  }

  /** Binary of exactly `length` bytes, as a view. */
  bytes(length: number): Uint8Array {
    const value = this.#take()
    if (!(value instanceof Uint8Array) || value.length !== length) {
      throw new CodecError(`field ${this.#next} is no binary of ${length} bytes`)
    }
    return value
  }

  /** Binary of `lengthMax` bytes at most, as a view. */
  bytesUpTo(lengthMax: number): Uint8Array {
    const value = this.#take()
    if (!(value instanceof Uint8Array) || value.length > lengthMax) {
      throw new CodecError(`field ${this.#next} is no binary of ${lengthMax} bytes at most`)
    }
    return value
  }

  array(): readonly FrameField[] {
    const value = this.#take()
    if (!isArray(value)) throw new CodecError(`field ${this.#next} is no array`)
    return value
  }

  integer(): number {
    const value = this.#take()
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw new CodecError(`field ${this.#next} is no safe integer`)
    }
    return value
  }

  string(lengthMax: number): string {
    const value = this.#take()
    if (typeof value !== 'string' || value.length === 0 || value.length > lengthMax) {
      throw new CodecError(`field ${this.#next} is no text of 1 to ${lengthMax} characters`)
    }
    return value
  }

  boolean(): boolean {
    const value = this.#take()
    if (typeof value !== 'boolean') throw new CodecError(`field ${this.#next} is no boolean`)
    return value
  }

  position(): Position {
    const index: Index = this.integer()
    const term: Term = this.integer()
    return { index, term }
  }

  expectEnd(): void {
    if (this.#next !== this.#fields.length) {
      throw new CodecError(`${this.#fields.length} fields where ${this.#next} belong`)
    }
  }

  #take(): FrameField | undefined {
    return this.#fields[this.#next++]
  }
}

function isArray(field: FrameField | undefined): field is readonly FrameField[] {
  return Array.isArray(field)
}
