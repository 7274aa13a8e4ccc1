/*
 * Windows into a running node, for invariants and marks: its log cache and its state store, wrapped so that every
 * answer can be checked and every entry applied is seen. They change nothing of what passes through.
 */

import type { Entry, HardState, Index, Position, Term } from '../../raft/types.ts'
import type { LogCache, LogCacheMetrics } from '../../storage/log-cache.ts'
import type { StateSwitch, SwitchingLog } from '../../storage/log-store.ts'
import type { EntryEnd, StateStore } from '../../storage/state-store.ts'
import type { Machine } from './machine.ts'

/** One entry became part of a node's state. */
export interface Applied {
  readonly end: EntryEnd
  /** The keys that it wrote or deleted. */
  readonly keys: ReadonlySet<string>
}

export interface Observer {
  applied(machine: Machine, change: Applied): void
  /** The node read these entries of its log, from this index on. */
  read(machine: Machine, from: Index, entries: readonly Entry[]): void
  /** A persist or a step of a compaction begins. */
  persisting(machine: Machine, entries: readonly Entry[]): void
  compacting(machine: Machine, upTo: Index): void
  /** The log is about to name another state, and has. */
  switching(machine: Machine, to: StateSwitch): void
  switched(machine: Machine, to: StateSwitch): void
}

export class ObservedLog implements SwitchingLog {
  readonly #machine: Machine
  readonly #cache: LogCache
  readonly #observer: Observer
  /** The entries of the persist under way; undefined: none is. */
  persisting: readonly Entry[] | undefined
  compacting = false
  /** Where a switch to another state stands. */
  switching: 'begun' | 'landed' | undefined

  constructor(machine: Machine, cache: LogCache, observer: Observer) {
    this.#machine = machine
    this.#cache = cache
    this.#observer = observer
  }

  base(): Position {
    return this.#cache.base()
  }

  lastIndex(): Index {
    return this.#cache.lastIndex()
  }

  term(index: Index): Term | undefined {
    return this.#cache.term(index)
  }

  entries(from: Index, to: Index, maxBytes: number): readonly Entry[] {
    const entries = this.#cache.entries(from, to, maxBytes)
    this.#observer.read(this.#machine, from, entries)
    return entries
  }

  async persist(batch: {
    hardState: HardState | undefined
    entries: readonly Entry[]
  }): Promise<void> {
    this.#observer.persisting(this.#machine, batch.entries)
    this.persisting = batch.entries
    await this.#cache.persist(batch)
    this.persisting = undefined
  }

  async compact(upTo: Index): Promise<void> {
    this.#observer.compacting(this.#machine, upTo)
    this.compacting = true
    await this.#cache.compact(upTo)
    this.compacting = false
  }

  async switchState(to: StateSwitch): Promise<void> {
    this.#observer.switching(this.#machine, to)
    this.switching = 'begun'
    await this.#cache.switchState(to)
    this.switching = undefined
    this.#observer.switched(this.#machine, to)
  }

  metrics(): LogCacheMetrics {
    return this.#cache.metrics()
  }
}

/** The store, with every entry told as it ends, and just before. */
export function observedState(
  store: StateStore,
  events: { readonly applying: () => void; readonly applied: (change: Applied) => void },
): StateStore {
  let keys = new Set<string>()
  const methods: Partial<StateStore> = {
    put: (database, key, value) => {
      keys.add(key)
      store.put(database, key, value)
    },
    delete: (database, key) => {
      keys.add(key)
      return store.delete(database, key)
    },
    commitEntry: (end) => {
      events.applying()
      store.commitEntry(end)
      const change = { end, keys }
      keys = new Set()
      events.applied(change)
    },
  }
  const bound = new Map<PropertyKey, unknown>()
  return new Proxy(store, {
    get: (target, name) => {
      const known = bound.get(name)
      if (known !== undefined) return known
      const own: unknown = Reflect.get(methods, name) ?? Reflect.get(target, name)
      const method =
        typeof own === 'function' && !Reflect.has(methods, name) ? own.bind(target) : own
      bound.set(name, method)
      return method
    },
  })
}
