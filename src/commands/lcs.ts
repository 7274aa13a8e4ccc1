/*
 * The longest common subsequence of two strings, as LCS answers it: the subsequence, its length, and the ranges of
 * either string that make it up, from the end to the beginning. Which of several is found is Redis' choice, step by
 * step. Time and memory are the product of the two lengths.
 */

/** First and last position (included) in the one string and in the other. */
export interface CommonRange {
  readonly a: readonly [first: number, last: number]
  readonly b: readonly [first: number, last: number]
  readonly length: number
}

export interface CommonSubsequence {
  readonly bytes: Uint8Array
  readonly ranges: readonly CommonRange[]
}

/** Lengths of the best common subsequence of every pair of prefixes. */
export class LcsTable {
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

  /** Computes the rows of the prefixes of `a` that are `from` to `to` - 1 bytes long; in ascending order. */
  fill(from: number, to: number): void {
    const lengths = this.#lengths
    for (let i = Math.max(from, 1); i < to; i++) {
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
