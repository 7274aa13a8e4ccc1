/*
 * An ordered collection for memory that is written often and read in order now and then: items lie unsorted in
 * buckets that cover neighbouring ranges, and a bucket is sorted when it is first read. A bucket is bounded, so
 * nothing ever sorts more than some hundred items at once, and an insertion is a short search and a push. It knows
 * nothing of what it orders.
 */

/** A bucket that grows beyond this is split in two. */
const BUCKET_ITEMS_MAX = 1024

interface Bucket<Item> {
  /** No item of this bucket comes before it, none of the buckets before comes after it; of the first: none. */
  readonly low: Item | undefined
  items: Item[]
  sorted: boolean
}

export class SortedBuckets<Item> {
  readonly #order: (item: Item) => number
  readonly #compare: (a: Item, b: Item) => number
  readonly #buckets: Bucket<Item>[] = [{ low: undefined, items: [], sorted: true }]

  /** Items are in the order of a number; those of an equal one in the order of `ties`. */
  constructor(order: (item: Item) => number, ties: (a: Item, b: Item) => number) {
    this.#order = order
    this.#compare = (a, b) => order(a) - order(b) || ties(a, b)
  }

  /** Equal items may be there more than once; they come out one behind the other. */
  insert(item: Item): void {
    const index = this.#last((low) => this.#compare(low, item) <= 0)
    const bucket = this.#buckets[index]
    if (bucket === undefined) return
    const last = bucket.items.at(-1)
    if (bucket.sorted && last !== undefined) bucket.sorted = this.#compare(last, item) <= 0
    bucket.items.push(item)
    if (bucket.items.length > BUCKET_ITEMS_MAX) this.#split(index, bucket)
  }

  /** The items whose number is `from` or more, in order. Nothing may be inserted or dropped meanwhile. */
  *from(from: number): Generator<Item, void> {
    const first = this.#last((low) => this.#order(low) < from)
    for (let index = first; index < this.#buckets.length; index++) {
      const items = this.#sortedItems(index)
      let at = index === first ? this.#rank(items, from) : 0
      for (; at < items.length; at++) {
        const item = items[at]
        if (item !== undefined) yield item
      }
    }
  }

  /** Drops items from the beginning for as long as the condition holds. */
  dropWhile(condition: (item: Item) => boolean): void {
    for (;;) {
      const items = this.#sortedItems(0)
      const kept = items.findIndex((item) => !condition(item))
      if (kept !== -1 || this.#buckets.length === 1) {
        items.splice(0, kept === -1 ? items.length : kept)
        return
      }
      this.#buckets.shift()
    }
  }

  /** The last bucket whose lower bound meets the condition (which holds for a beginning of them), or the first. */
  #last(condition: (low: Item) => boolean): number {
    let low = 0
    let high = this.#buckets.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      const bound = this.#buckets[middle]?.low
      if (bound === undefined || condition(bound)) low = middle
      else high = middle - 1
    }
    return low
  }

  /** How many of the sorted items have a smaller number. */
  #rank(items: readonly Item[], order: number): number {
    let low = 0
    let high = items.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const item = items[middle]
      if (item !== undefined && this.#order(item) < order) low = middle + 1
      else high = middle
    }
    return low
  }

  #sortedItems(index: number): Item[] {
    const bucket = this.#buckets[index]
    if (bucket === undefined) return []
    if (!bucket.sorted) bucket.items.sort(this.#compare)
    bucket.sorted = true
    return bucket.items
  }

  /** Around the mean, which needs no sorting; where that would be lopsided, sorted and in half. */
  #split(index: number, bucket: Bucket<Item>): void {
    const { items } = bucket
    const { length } = items
    const mean = items.reduce((sum, item) => sum + this.#order(item) / length, 0)
    let lower = items.filter((item) => this.#order(item) < mean)
    let upper: Item[]
    let { sorted } = bucket
    if (lower.length > length / 4 && lower.length < (length * 3) / 4) {
      upper = items.filter((item) => this.#order(item) >= mean)
    } else {
      this.#sortedItems(index)
      sorted = true
      lower = items.slice(0, length >>> 1)
      upper = items.slice(length >>> 1)
    }
    bucket.items = lower
    bucket.sorted = sorted
    const low = upper.reduce((least, item) => (this.#compare(item, least) < 0 ? item : least))
    this.#buckets.splice(index + 1, 0, { low, items: upper, sorted })
  }
}
