/*
 * What is held of a command whose end is still to come. Memory that is new is dear to touch, and a large value must not
 * be moved again and again while it grows: large chunks are held as they came, small ones are copied into blocks, and
 * all of it becomes one piece at the end, some at a time.
 */

import { Buffer } from 'node:buffer'

/** A chunk of so many bytes is held as it came, if that is at least half of its memory. */
const WHOLE_CHUNK_BYTES = 16_384
/** A block grows no further than this, about; then there is another one. */
const BLOCK_BYTES_MAX = 262_144
/** What one call of join() copies, and no more than a piece beyond it. Less is not worth more than one call. */
const JOIN_BYTES = 1_048_576
const EMPTY = Buffer.alloc(0)

/**
 * Its memory is at most four times as much as the bytes that have come, and what is not filled of it is untouched.
 */
export class HeldBytes {
  #length = 0
  #pieces: Buffer[] = []
  /** Filled up to `#filled`, behind all pieces. */
  #block: Buffer = EMPTY
  #filled = 0
  /** All of it in one piece, as far as it was copied: bytes, and pieces. */
  #joined: Buffer = EMPTY
  #joinedBytes = 0
  #joinedPieces = 0

  get length(): number {
    return this.#length
  }

  /**
   * Takes the part of a chunk from `start` to `end`; after it, exactly `missing` bytes are to come, or so many that
   * nobody knows (Infinity). Once three quarters have come, four times as much is joined as is added, so that nothing
   * is left of it at the end, and a command that stops before has cost no second block.
   */
  add(chunk: Buffer, start: number, end: number, missing: number): void {
    this.#length += end - start
    this.#put(chunk, start, end, missing)
    if (3 * missing > this.#length || this.#length < JOIN_BYTES || this.#pieces.length === 0) return
    if (this.#joined === EMPTY) this.#joined = Buffer.allocUnsafeSlow(this.#length + missing)
    this.#join(4 * (end - start))
  }

  #put(chunk: Buffer, start: number, end: number, missing: number): void {
    for (let at = start; at < end; ) {
      const left = end - at
      const room = this.#block.length - this.#filled
      if (room > 0) {
        const copied = Math.min(room, left)
        chunk.copy(this.#block, this.#filled, at, at + copied)
        this.#filled += copied
        at += copied
      } else if (left >= WHOLE_CHUNK_BYTES && 2 * left >= chunk.buffer.byteLength) {
        this.#closeBlock()
        this.#pieces.push(chunk.subarray(at, end))
        return
      } else this.#growBlock(left, missing)
    }
  }

  #growBlock(left: number, missing: number): void {
    if (this.#filled >= BLOCK_BYTES_MAX) this.#closeBlock()
    const needed = this.#filled + left
    const more = Math.min(BLOCK_BYTES_MAX, Math.max(2 * needed, this.#length))
    const length = missing <= 3 * needed ? needed + missing : Math.max(needed, more)
    const grown = Buffer.allocUnsafeSlow(length)
    this.#block.copy(grown, 0, 0, this.#filled)
    this.#block = grown
  }

  #closeBlock(): void {
    if (this.#filled > 0) this.#pieces.push(this.#block.subarray(0, this.#filled))
    this.#block = EMPTY
    this.#filled = 0
  }

  /** All of it in one piece, which this then no longer holds; undefined: some was copied, call it again. */
  join(): Buffer | undefined {
    if (this.#pieces.length === 0) return this.#block.subarray(0, this.#filled)
    this.#closeBlock()
    if (this.#joined === EMPTY) this.#joined = Buffer.allocUnsafeSlow(this.#length)
    this.#join(JOIN_BYTES)
    return this.#joinedBytes === this.#length ? this.#joined : undefined
  }

  /** Copies so many bytes at least, or all pieces. */
  #join(bytes: number): void {
    const end = this.#joinedBytes + bytes
    while (this.#joinedBytes < end) {
      const piece = this.#pieces[this.#joinedPieces]
      if (piece === undefined) return
      piece.copy(this.#joined, this.#joinedBytes)
      this.#joinedBytes += piece.length
      // From here on its memory is free.
      this.#pieces[this.#joinedPieces++] = EMPTY
    }
  }
}
