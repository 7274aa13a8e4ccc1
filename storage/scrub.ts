/*
 * Reads a state environment piece by piece, only to see whether every record still is what was written: what nobody
 * reads for a year is found damaged before the other copies of it are. Each piece is as of its own moment, so that
 * a pass of hours keeps no page from being used again. It knows no engine and no pace.
 */

import { assert } from '../raft/assert.ts'
import type { Reads } from './engine.ts'
import { CorruptStateError, checkExpiryRecord, checkRecord } from './record.ts'
import { DATABASES, databaseName, decodeMeta, expiryName, META_DATABASE } from './state-meta.ts'

/** Everything before it in this pass was read: databases in order, in each the keys up to and with `key`. */
export interface ScrubPosition {
  readonly database: number
  /** undefined: none of this database yet. */
  readonly key: Uint8Array | undefined
}

export interface ScrubStep {
  /** Where to go on; undefined: the pass is over. */
  readonly next: ScrubPosition | undefined
  /** Of keys and records. */
  readonly bytes: number
}

type Check = (key: Uint8Array, record: Uint8Array) => void

const CHECKS: readonly (readonly [database: string, check: Check])[] = [
  [META_DATABASE, (_key, record) => void decodeMeta(record)],
  ...Array.from({ length: DATABASES }, (_, place) => [databaseName(place), checkRecord] as const),
  ...Array.from({ length: DATABASES }, (_, place) => {
    return [expiryName(place), checkExpiryRecord] as const
  }),
]
const BEGINNING = new Uint8Array(1)

/**
 * The next piece, of `bytesMax` or one record more. Throws CorruptStateError for a record that is damaged, or stands
 * where it must not.
 */
export function scrubStep(
  reads: Pick<Reads, 'range'>,
  from: ScrubPosition | undefined,
  bytesMax: number,
): ScrubStep {
  let { database, key: last } = from ?? { database: 0, key: undefined }
  let bytes = 0
  for (; database < CHECKS.length && bytes < bytesMax; database++) {
    const [name, check] = CHECKS[database] ?? []
    assert(name !== undefined && check !== undefined, () => `there is no database ${database}`)
    const first = last
    reads.range(name, first ?? BEGINNING, (key, record) => {
      if (last !== undefined) {
        const order = Buffer.compare(key, last)
        if (order === 0 && last === first) return true
        if (order <= 0) throw new CorruptStateError(`keys of ${name} are out of their order`)
      }
      check(key, record)
      last = key
      bytes += key.length + record.length
      return bytes < bytesMax
    })
    if (bytes >= bytesMax) break
    last = undefined
  }
  return { next: database < CHECKS.length ? { database, key: last } : undefined, bytes }
}
