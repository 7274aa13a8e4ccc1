/*
 * A list for searches that take elements out, go deeper, and put them back on their way up: both in O(1), in two
 * arrays of integers (Knuth's dancing links). Lowe's and Porcupine's searches keep their history in one; here there
 * are two, by invocation and by return. It must not know what the numbers stand for.
 */

/** A list of 0..n-1 in a given order, from which an element is taken and put back in O(1) (dancing links). */
export class Links {
  readonly #next: Int32Array
  readonly #previous: Int32Array
  /** Stands before the first and behind the last. */
  readonly end: number

  constructor(order: readonly number[]) {
    this.end = order.length
    this.#next = new Int32Array(order.length + 1)
    this.#previous = new Int32Array(order.length + 1)
    let last = this.end
    for (const element of [...order, this.end]) {
      this.#next[last] = element
      this.#previous[element] = last
      last = element
    }
  }

  /** `end` when the list is empty. */
  get first(): number {
    return this.after(this.end)
  }

  after(element: number): number {
    return this.#next[element] as number
  }

  take(element: number): void {
    const next = this.#next[element] as number
    const previous = this.#previous[element] as number
    this.#next[previous] = next
    this.#previous[next] = previous
  }

  /** Only in the reverse order of taking. */
  putBack(element: number): void {
    this.#next[this.#previous[element] as number] = element
    this.#previous[this.#next[element] as number] = element
  }
}
