/*
 * Reading an LMDB environment, on whatever thread: as of now, or within one read transaction, which shows one moment
 * whatever is written later. It opens nothing and closes nothing but that transaction.
 */

import type { Database, Transaction } from 'lmdb'
import type { EnvironmentView, Visitor } from './engine.ts'

/**
 * Which databases have small records only, so that one can be read into the memory that lmdb-js keeps for its reads: it
 * grows to twice the largest record that it has seen, and stays. Asking LMDB takes a while, so its answer is kept.
 */
export class SmallRecords {
  readonly #database: (name: string) => Database<Uint8Array, Uint8Array>
  readonly #known = new Map<string, boolean>()

  constructor(database: (name: string) => Database<Uint8Array, Uint8Array>) {
    this.#database = database
  }

  /** Asked for every key that is read. */
  areIn(name: string): boolean {
    const known = this.#known.get(name)
    if (known !== undefined) return known
    // Whatever takes more than half a page lies on pages of its own. lmdb-js declares no type for its statistics.
    const small = Reflect.get(this.#database(name).getStats(), 'overflowPages') === 0
    this.#known.set(name, small)
    return small
  }

  /** Something may have been written. */
  forget(): void {
    this.#known.clear()
  }
}

/** Reads of an environment, as of now or within one read transaction. */
export class LmdbReads implements EnvironmentView {
  readonly #database: (name: string) => Database<Uint8Array, Uint8Array>
  readonly #failed: (error: unknown) => void
  readonly #small: SmallRecords
  readonly #options: { transaction: Transaction } | undefined

  constructor(
    database: (name: string) => Database<Uint8Array, Uint8Array>,
    failed: (error: unknown) => void,
    transaction: Transaction | undefined,
    small: SmallRecords = new SmallRecords(database),
  ) {
    this.#database = database
    this.#failed = failed
    this.#small = small
    this.#options = transaction && { transaction }
  }

  get(database: string, key: Uint8Array): Uint8Array | undefined {
    const from = this.#database(database)
    return this.#read(() => from.get(key, this.#options))
  }

  has(database: string, key: Uint8Array): boolean {
    const from = this.#database(database)
    if (this.#options === undefined && this.#small.areIn(database)) {
      return this.#read(() => from.doesExist(key))
    }
    // A look at a large value would copy all of it; without its limit an iterator would fetch many keys at once.
    let found = false
    this.#visit(from.getKeys({ start: key, limit: 1, ...this.#options }), (first) => {
      found = Buffer.compare(first, key) === 0
      return false
    })
    return found
  }

  range(database: string, from: Uint8Array, visit: Visitor): void {
    const pairs = this.#database(database).getRange({ start: from, ...this.#options })
    this.#visit(pairs, ({ key, value }) => visit(key, value))
  }

  keys(database: string, from: Uint8Array, visit: (key: Uint8Array) => boolean): void {
    this.#visit(this.#database(database).getKeys({ start: from, ...this.#options }), visit)
  }

  release(): void {
    this.#options?.transaction.done()
  }

  #visit<Item>(range: Iterable<Item>, visit: (item: Item) => boolean): void {
    const items = this.#read(() => range[Symbol.iterator]())
    try {
      for (;;) {
        const { done, value: item } = this.#read(() => items.next())
        if (done === true || !visit(item)) return
      }
    } finally {
      // An abandoned iterator would hold its read transaction, and the file would grow without end.
      items.return?.()
    }
  }

  #read<Result>(read: () => Result): Result {
    try {
      return read()
    } catch (error) {
      this.#failed(error)
      throw error
    }
  }
}
