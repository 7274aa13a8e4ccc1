/*
 * An ordered collection for memory that is written often and read in order now and then: pairs of a number, which is
 * the order, and a reference to whatever it stands for. They lie unsorted in buckets that cover neighbouring ranges,
 * and a bucket is sorted when it is first read. A bucket is bounded, so nothing ever sorts more than some hundred
 * pairs at once, an insertion is a short search and a push, and there is no object per pair for the collector to
 * follow. It knows nothing of what it orders.
 */

import { assert } from '../raft/assert.ts'

/** A bucket that is full is split in two. */
const BUCKET_PAIRS_MAX = 1024
const BUCKET_PAIRS_FIRST = 16

/** How two references of one order follow each other; 0 only when they stand for the same. */
export type Ties = (a: number, b: number) => number

export class SortedRefs {
  readonly #ties: Ties
  /** In order: no pair comes before the lowest of its bucket, but for the first bucket, which has no lower bound. */
  readonly #buckets: Bucket[] = [new Bucket()]

  constructor(ties: Ties) {
    this.#ties = ties
  }

  /** The same pair may be there more than once; they come out one behind the other. */
  insert(order: number, ref: number): void {
    const at = this.#last((low) => this.#compare(low.order, low.ref, order, ref) <= 0)
    const bucket = this.#bucket(at)
    bucket.push(order, ref)
    if (bucket.length === BUCKET_PAIRS_MAX) this.#split(at, bucket)
  }

  /** Visits the pairs whose order is `from` or more, in order; false ends it. Nothing may be inserted meanwhile. */
  from(from: number, visit: (order: number, ref: number) => boolean): void {
    const first = this.#last((low) => low.order < from)
    for (let at = first; at < this.#buckets.length; at++) {
      const bucket = this.#sorted(at)
      for (let i = at === first ? bucket.rank(from) : 0; i < bucket.length; i++) {
        if (!visit(bucket.order(i), bucket.ref(i))) return
      }
    }
  }

  /** The same one by one, for merging with another source. */
  *iterate(from: number): Generator<number, void> {
    const first = this.#last((low) => low.order < from)
    for (let at = first; at < this.#buckets.length; at++) {
      const bucket = this.#sorted(at)
      for (let i = at === first ? bucket.rank(from) : 0; i < bucket.length; i++) yield bucket.ref(i)
    }
  }

  /** Drops pairs from the beginning for as long as the condition holds. */
  dropWhile(condition: (order: number, ref: number) => boolean): void {
    for (;;) {
      const bucket = this.#sorted(0)
      let count = 0
      while (count < bucket.length && condition(bucket.order(count), bucket.ref(count))) count++
      if (count < bucket.length || this.#buckets.length === 1) {
        bucket.drop(count)
        return
      }
      this.#buckets.shift()
    }
  }

  #compare(orderA: number, refA: number, orderB: number, refB: number): number {
    return orderA - orderB || this.#ties(refA, refB)
  }

  /** The last bucket whose lower bound meets the condition (which holds for a beginning of them), or the first. */
  #last(condition: (low: Low) => boolean): number {
    let low = 0
    let high = this.#buckets.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      const bound = this.#bucket(middle).low
      if (bound === undefined || condition(bound)) low = middle
      else high = middle - 1
    }
    return low
  }

  #sorted(at: number): Bucket {
    const bucket = this.#bucket(at)
    bucket.sort(this.#ties)
    return bucket
  }

  #bucket(at: number): Bucket {
    const bucket = this.#buckets[at]
    assert(bucket !== undefined, () => `bucket ${at} of ${this.#buckets.length}`)
    return bucket
  }

  /** Around the mean, which needs no sorting; where that would be lopsided, sorted and in half. */
  #split(at: number, bucket: Bucket): void {
    const mean = bucket.mean()
    let upper = bucket.moveFrom((order) => order >= mean, new Bucket())
    if (upper.length < bucket.length / 3 || bucket.length < upper.length / 3) {
      upper.moveFrom(() => true, bucket)
      bucket.sort(this.#ties)
      const half = bucket.length >>> 1
      upper = bucket.moveFrom((_order, i) => i >= half, new Bucket())
    }
    upper.setLow(this.#ties)
    this.#buckets.splice(at + 1, 0, upper)
  }
}

interface Low {
  readonly order: number
  readonly ref: number
}

class Bucket {
  low: Low | undefined
  length = 0
  #orders = new Float64Array(BUCKET_PAIRS_FIRST)
  #refs = new Float64Array(BUCKET_PAIRS_FIRST)
  #sorted = true

  order(i: number): number {
    return this.#orders[i] ?? Number.NaN
  }

  ref(i: number): number {
    return this.#refs[i] ?? Number.NaN
  }

  push(order: number, ref: number): void {
    const { length } = this
    if (length === this.#orders.length) this.#grow()
    // Equal orders may have to be told apart, which is left to the sort.
    if (length > 0 && this.order(length - 1) >= order) this.#sorted = false
    this.#orders[length] = order
    this.#refs[length] = ref
    this.length++
  }

  sort(ties: Ties): void {
    if (this.#sorted) return
    this.#sorted = true
    const indices = Array.from({ length: this.length }, (_, i) => i)
    const orders = this.#orders.slice(0, this.length)
    const refs = this.#refs.slice(0, this.length)
    indices.sort((a, b) => {
      return (orders[a] ?? 0) - (orders[b] ?? 0) || ties(refs[a] ?? 0, refs[b] ?? 0)
    })
    for (const [i, from] of indices.entries()) {
      this.#orders[i] = orders[from] ?? 0
      this.#refs[i] = refs[from] ?? 0
    }
  }

  /** How many pairs of the sorted bucket have a smaller order. */
  rank(order: number): number {
    let low = 0
    let high = this.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.order(middle) < order) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Drops the first pairs. */
  drop(count: number): void {
    this.#orders.copyWithin(0, count, this.length)
    this.#refs.copyWithin(0, count, this.length)
    this.length -= count
  }

  mean(): number {
    let mean = 0
    for (let i = 0; i < this.length; i++) mean += this.order(i) / this.length
    return mean
  }

  /** Moves the pairs that meet the condition to another bucket, which it returns; order is kept in both. */
  moveFrom(condition: (order: number, i: number) => boolean, to: Bucket): Bucket {
    let kept = 0
    for (let i = 0; i < this.length; i++) {
      const order = this.order(i)
      const ref = this.ref(i)
      if (condition(order, i)) to.push(order, ref)
      else {
        this.#orders[kept] = order
        this.#refs[kept] = ref
        kept++
      }
    }
    this.length = kept
    return to
  }

  /** Its lowest pair becomes its lower bound. */
  setLow(ties: Ties): void {
    let lowest = 0
    for (let i = 1; i < this.length; i++) {
      const difference = this.order(i) - this.order(lowest)
      if (difference < 0 || (difference === 0 && ties(this.ref(i), this.ref(lowest)) < 0))
        lowest = i
    }
    this.low = { order: this.order(lowest), ref: this.ref(lowest) }
  }

  #grow(): void {
    const length = this.#orders.length * 4
    const orders = new Float64Array(length)
    const refs = new Float64Array(length)
    orders.set(this.#orders)
    refs.set(this.#refs)
    this.#orders = orders
    this.#refs = refs
  }
}
