/*
 * Memory in pieces of some hundred KiB that go together, carved out of slabs. C libraries keep freed pieces of that
 * size for themselves (glibc did half of what a node with a million keys occupied), because something small that lies
 * behind them is still in use; a slab is so large that they map it for itself, and it is the system's again as soon as
 * it is freed. Of a slab only what is written to occupies memory. It knows nothing of what is kept there.
 */

import type { Chunk } from './engine.ts'

/** glibc maps whatever has 32 MiB or more, and lets go of it when it is freed. */
export const SLAB_BYTES = 33_554_432
/** So much comes in pieces of their own: the stores of tests and small states are not worth a mapping. */
const SINGLE_BYTES = 1_048_576
/** A larger piece has memory of its own, so that no slab is left half empty for it. */
const PIECE_BYTES_MAX = 1_048_576

export class Slabs {
  readonly #spare: ArrayBuffer[]
  #slab: ArrayBuffer | undefined
  #used = 0
  #single = 0

  /** `spare` are slabs of SLAB_BYTES that nobody needs any more: they are used first. */
  constructor(spare: readonly ArrayBuffer[] = []) {
    this.#spare = [...spare]
  }

  /** Memory that nobody else has, filled with whatever was there. */
  readonly take = (length: number): Chunk => {
    if (this.#single < SINGLE_BYTES || length > PIECE_BYTES_MAX) {
      this.#single += length
      return new Uint8Array(unfilled(length))
    }
    if (this.#slab === undefined || this.#used + length > SLAB_BYTES) {
      this.#slab = this.#spare.pop() ?? unfilled(SLAB_BYTES)
      this.#used = 0
    }
    const piece = new Uint8Array(this.#slab, this.#used, length)
    this.#used += length
    return piece
  }
}

/** All that such pieces lie in, once each. */
export function buffersOf(pieces: readonly Chunk[]): ArrayBuffer[] {
  return [...new Set(pieces.map(({ buffer }) => buffer))]
}

function unfilled(length: number): ArrayBuffer {
  return Buffer.allocUnsafeSlow(length).buffer
}
