/*
 * The terms of a whole log in memory: terms only rise along a log, so one run per term is enough, and term() on the
 * hot path never touches the disk. Pure bookkeeping; it holds no entries.
 */

import { assert } from '../raft/assert.ts'
import type { Entry, Index, Position, Term } from '../raft/types.ts'

export class TermRuns {
  /** Rising in both; the first run begins at the base, the last reaches to `#last`. Never empty. */
  #runs: Position[]
  #last: Index

  /** An empty log after `base`. */
  constructor(base: Position) {
    this.#runs = [base]
    this.#last = base.index
  }

  get base(): Position {
    const [base] = this.#runs
    assert(base !== undefined, () => 'a log without a base')
    return base
  }

  get last(): Index {
    return this.#last
  }

  /** The term at `index`; undefined outside [base, last]. */
  at(index: Index): Term | undefined {
    if (index > this.#last) return undefined
    return this.#runs.findLast((run) => run.index <= index)?.term
  }

  append({ index, term }: Pick<Entry, 'index' | 'term'>): void {
    const lastTerm = this.#runs.at(-1)?.term ?? 0
    assert(index === this.#last + 1, () => `entry ${index} after ${this.#last}`)
    assert(term >= lastTerm, () => `term ${term} after ${lastTerm}`)
    if (term > lastTerm) this.#runs.push({ index, term })
    this.#last = index
  }

  /** Forgets everything from `index` on; the base stays. */
  cut(index: Index): void {
    assert(index > this.base.index, () => `cut at ${index}, base ${this.base.index}`)
    if (index > this.#last) return
    while ((this.#runs.at(-1)?.index ?? 0) >= index) this.#runs.pop()
    this.#last = index - 1
  }

  /** Moves the base to `index`, which is in the log. */
  compact(index: Index): void {
    const term = this.at(index)
    assert(term !== undefined, () => `compact to ${index} of ${this.base.index} to ${this.#last}`)
    this.#runs = [{ index, term }, ...this.#runs.filter((run) => run.index > index)]
  }
}
