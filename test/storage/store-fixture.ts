/*
 * What the tests of the state store share: a store over some engine that has its hash key, and entries of one write.
 */

import { limits } from '../../src/config.ts'
import type { Engine, StateEnvironment } from '../../storage/engine.ts'
import { STATE_DATABASES } from '../../storage/state-meta.ts'
import { StateStore, type StateStoreOptions, type StoredValue } from '../../storage/state-store.ts'

export const HASH_KEY: Buffer = Buffer.from('hash key')

export interface OpenedStore {
  readonly store: StateStore
  readonly environment: StateEnvironment
}

export function stored(version: number, bytes: Uint8Array | string, expireAt = 0): StoredValue {
  return { type: 'string', expireAt, version, value: Buffer.from(bytes) }
}

export async function openStore(
  engine: Engine,
  options: Partial<StateStoreOptions> = {},
): Promise<OpenedStore> {
  const environment = await engine.openState('state-1', STATE_DATABASES)
  const all = {
    memtableBytes: 20_000,
    cacheBytes: 10_000,
    views: limits.stateViews,
    now: () => 0,
    ...options,
  }
  return { store: StateStore.open(environment, all), environment }
}

/** A store that has its hash key: entry 1. */
export async function startedStore(
  engine: Engine,
  options: Partial<StateStoreOptions> = {},
): Promise<OpenedStore> {
  const opened = await openStore(engine, options)
  opened.store.setHashKey(HASH_KEY)
  commit(opened.store)
  return opened
}

export function commit(store: StateStore): void {
  store.commitEntry({ index: store.appliedIndex() + 1, term: 1, clock: store.clock() + 1 })
}

export interface PutOptions {
  readonly database?: number
  readonly expireAt?: number
}

/** One entry that writes one key. */
export function put(
  store: StateStore,
  key: string,
  value: string,
  { database = 0, expireAt = 0 }: PutOptions = {},
): void {
  store.put(database, key, stored(store.appliedIndex() + 1, value, expireAt))
  commit(store)
}

export function text(
  store: Pick<StateStore, 'get'>,
  key: string,
  database = 0,
): string | undefined {
  const found = store.get(database, key)
  return found && Buffer.from(found.value).toString()
}
