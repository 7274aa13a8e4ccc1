/*
 * Views of one moment: reads in slices (KEYS over a million keys) go on over the same state while writes and
 * checkpoints happen. A view costs memory (the memtables it reads) and disk (what its read transaction keeps), so
 * their number, age and memory are bounded: no more are opened beyond the one, and the oldest are closed at the
 * others. It knows no store, only the layers it was given.
 */

import type { EnvironmentView } from './engine.ts'
import type { KeyVisitor, Layers } from './layers.ts'
import type { Memtable } from './memtable.ts'
import type { StoredValue } from './record.ts'

export interface ViewLimits {
  readonly countMax: number
  readonly ageMsMax: number
  /** Memory of memtables that nobody needs any more but views. */
  readonly bytesMax: number
}

/** The view is closed: it was released, or had reached a limit. Whoever used it can begin again with a new one. */
export class ViewClosedError extends Error {
  override readonly name = 'ViewClosedError'
  readonly code = 'VIEW_CLOSED'

  constructor() {
    super('the view is closed')
  }
}

/** The state as it was at one moment. All throw ViewClosedError when it is closed. */
export interface StateView {
  /** The logical clock of that moment, in ms. */
  readonly clock: number
  /** As StateStore.get. */
  get(database: number, key: string): StoredValue | undefined
  /** As StateStore.expiryOf. */
  expiryOf(database: number, key: string): number | undefined
  /** As StateStore.range. */
  range(database: number, fromPosition: number, visit: KeyVisitor): void
  /** The number of keys in a database. */
  size(database: number): number
  /** Any number of times. */
  release(): void
}

interface ViewOptions {
  readonly clock: number
  readonly counts: readonly number[]
  readonly memtable: Memtable
  readonly frozen: Memtable | undefined
  readonly disk: EnvironmentView
  /** Those of the store, as they are now. */
  readonly layers: Layers
  readonly openedAt: number
  readonly closed: (view: View) => void
}

class View implements StateView {
  readonly clock: number
  readonly openedAt: number
  readonly memtables: readonly Memtable[]
  readonly #options: ViewOptions
  #layers: Layers | undefined

  constructor(options: ViewOptions) {
    const { memtable, frozen, disk } = options
    this.#options = options
    this.clock = options.clock
    this.openedAt = options.openedAt
    this.memtables = frozen === undefined ? [memtable] : [memtable, frozen]
    this.#layers = options.layers.bound({
      memtable: memtable.bind(),
      frozen: frozen?.reader,
      disk,
    })
  }

  get(database: number, key: string): StoredValue | undefined {
    return this.#open().get(database, key)
  }

  expiryOf(database: number, key: string): number | undefined {
    return this.#open().expiryOf(database, key)
  }

  range(database: number, fromPosition: number, visit: KeyVisitor): void {
    this.#open().range(database, fromPosition, visit)
  }

  size(database: number): number {
    return this.#options.counts[this.#open().place(database)] ?? 0
  }

  release(): void {
    if (this.#layers === undefined) return
    this.#layers = undefined
    const { disk, closed } = this.#options
    disk.release()
    closed(this)
  }

  #open(): Layers {
    if (this.#layers === undefined) throw new ViewClosedError()
    return this.#layers
  }
}

export class StateViews {
  readonly #limits: ViewLimits
  readonly #now: () => number
  /** In the order in which they were opened. */
  readonly #views = new Set<View>()

  constructor(limits: ViewLimits, now: () => number) {
    this.#limits = limits
    this.#now = now
  }

  /** Memory of the memtables that only views still hold. */
  pinnedBytes(living: readonly (Memtable | undefined)[]): number {
    const pinned = new Set([...this.#views].flatMap(({ memtables }) => memtables))
    for (const memtable of living) if (memtable !== undefined) pinned.delete(memtable)
    return [...pinned].reduce((sum, { bytes }) => sum + bytes, 0)
  }

  get count(): number {
    return this.#views.size
  }

  /** True when there is room for one more. */
  canOpen(): boolean {
    return this.#views.size < this.#limits.countMax
  }

  open(options: Omit<ViewOptions, 'openedAt' | 'closed'>): StateView {
    const view = new View({
      ...options,
      openedAt: this.#now(),
      closed: (one) => this.#views.delete(one),
    })
    this.#views.add(view)
    return view
  }

  /** Closes what has reached a limit. Called whenever memtables change, and before a view is opened. */
  enforce(living: readonly (Memtable | undefined)[]): void {
    const { ageMsMax, bytesMax } = this.#limits
    const oldest = this.#now() - ageMsMax
    for (const view of this.#views) if (view.openedAt <= oldest) view.release()
    while (this.pinnedBytes(living) > bytesMax) this.#releaseOldest()
  }

  releaseAll(): void {
    for (const view of this.#views) view.release()
  }

  #releaseOldest(): void {
    const [oldest] = this.#views
    oldest?.release()
  }
}
