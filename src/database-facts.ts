/*
 * What INFO tells of a database. It looks at the state, a few keys at most, and knows neither commands nor who asks:
 * every node may tell another average, because it looks at other keys.
 */

import { POSITIONS } from '../storage/layout.ts'
import type { StateStore } from '../storage/state-store.ts'
import type { DatabaseFacts } from './commands/local-server.ts'

/** The average time to live is that of so many keys, or of fewer when they are large. */
const TTL_SAMPLE_KEYS = 64
const TTL_SAMPLE_BYTES = 262_144

type Store = Pick<StateStore, 'size' | 'expires' | 'range' | 'clock'>

/** `random`: where the sample begins. */
export function factsOf(store: Store, database: number, random: () => number): DatabaseFacts {
  const expires = store.expires(database)
  const averageTtlMs = expires === 0 ? 0 : averageTtl(store, database, random)
  return { keys: store.size(database), expires, averageTtlMs }
}

/** Of some keys in a row, from a random place on. */
function averageTtl(store: Store, database: number, random: () => number): number {
  const now = store.clock()
  let [seen, bytes, count, sum] = [0, 0, 0, 0]
  store.range(database, Math.floor(random() * POSITIONS), (_position, _key, load) => {
    const { expireAt, value } = load()
    if (expireAt > now) {
      count++
      sum += expireAt - now
    }
    bytes += value.length
    return ++seen < TTL_SAMPLE_KEYS && bytes < TTL_SAMPLE_BYTES
  })
  return count === 0 ? 0 : Math.floor(sum / count)
}
