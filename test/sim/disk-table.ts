/*
 * One database of the simulated disk: values by key, the keys in byte order, and the way back from a batch. It knows
 * no environment, no time and no faults; disk.ts does.
 */

import type { Random } from '../../raft/ports.ts'

export type Databases = Map<string, Table>

/** What a batch replaced, in its order; `value` undefined: there was nothing. */
export type Undo = { readonly table: Table; readonly key: string; readonly value: Stored }[]

type Stored = Uint8Array | undefined

export function undo(batch: Undo): void {
  for (const { table, key, value } of batch.toReversed()) table.set(key, value)
}

export function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')
}

export class Table {
  readonly #values = new Map<string, Uint8Array>()
  #sorted: string[] = []
  #bytes = 0
  /** What a bit was flipped in, and what that made of it. */
  #flipped: { readonly before: Uint8Array; readonly after: Uint8Array } | undefined

  get count(): number {
    return this.#sorted.length
  }

  get bytes(): number {
    return this.#bytes
  }

  get(key: string): Stored {
    return this.#values.get(key)
  }

  set(key: string, value: Stored): void {
    const old = this.#values.get(key)
    if (old !== undefined) this.#bytes -= key.length + old.length
    if (value === undefined) {
      if (this.#values.delete(key)) this.#sorted.splice(this.#rank(key), 1)
      return
    }
    this.#bytes += key.length + value.length
    if (old === undefined) this.#sorted.splice(this.#rank(key), 0, key)
    this.#values.set(key, value)
  }

  copy(): Table {
    const copy = new Table()
    for (const [key, value] of this.#values) copy.#values.set(key, value)
    copy.#sorted = [...this.#sorted]
    copy.#bytes = this.#bytes
    copy.#flipped = this.#flipped
    return copy
  }

  *from(key: string): Generator<[string, Uint8Array], void> {
    for (let i = this.#rank(key); i < this.#sorted.length; i++) {
      const found = this.#sorted[i] ?? ''
      yield [found, this.#values.get(found) ?? new Uint8Array(0)]
    }
  }

  /** The value before the first of these batches that changed it. */
  durableValue(key: string, unflushed: readonly Undo[]): Stored {
    for (const batch of unflushed) {
      const first = batch.find((change) => change.table === this && change.key === key)
      if (first !== undefined) return first.value
    }
    return this.#values.get(key)
  }

  /** The same as it was written, whatever bit of it was flipped since. */
  writtenValue(key: string, unflushed: readonly Undo[]): Stored {
    const value = this.durableValue(key, unflushed)
    const flipped = this.#flipped
    return flipped !== undefined && flipped.after === value ? flipped.before : value
  }

  /** Turns one bit of one value; returns its key. */
  flip(random: Random): string {
    const key = this.#sorted[Math.floor(random() * this.#sorted.length)] ?? ''
    const value = this.#values.get(key)
    if (value === undefined || value.length === 0) return key
    // Of a Buffer, slice() would be a view: the flip would reach into the memory of whoever wrote it.
    const changed = Uint8Array.from(value)
    const at = Math.floor(random() * changed.length)
    changed[at] = (changed[at] ?? 0) ^ (1 << Math.floor(random() * 8))
    this.#flipped = { before: value, after: changed }
    this.#values.set(key, changed)
    return key
  }

  /** The number of keys before `key`. */
  #rank(key: string): number {
    const last = this.#sorted.at(-1)
    if (last === undefined || last < key) return this.#sorted.length
    let low = 0
    let high = this.#sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#sorted[middle] ?? '') < key) low = middle + 1
      else high = middle
    }
    return low
  }
}
