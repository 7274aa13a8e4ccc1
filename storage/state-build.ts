/*
 * Builds a state environment from a stream, and believes nothing of it: every record is checked against its checksum,
 * keys must rise, and in the end counts and digests must be those that the state says of itself. The state's own
 * record is written last, so whatever was built so far is no state. It knows no engine; where its writes go, and
 * in which transactions, is its caller's.
 */

import { Tally } from './checkpoint.ts'
import { CodecError } from './integers.ts'
import { CorruptStateError, checkExpiryRecord, checkRecord } from './record.ts'
import { FormatVersionError } from './sealed-frame.ts'
import {
  DATABASES,
  databaseName,
  decodeMeta,
  EMPTY_META,
  expiryName,
  META_DATABASE,
  META_KEY,
  type StateMeta,
} from './state-meta.ts'
import { StateStreamDecoder } from './state-stream.ts'

/** What was sent is not a whole, intact state. It is dropped, and nothing of this node has changed. */
export class DamagedStreamError extends Error {
  override readonly name = 'DamagedStreamError'
  readonly code = 'DAMAGED_STREAM'
}

/** Takes one record, as views of the chunks. Keys of one database come in rising order. */
export type PutRecord = (database: string, key: Uint8Array, value: Uint8Array) => void

export class StateBuild {
  readonly #put: PutRecord
  readonly #known: ReadonlySet<string>
  readonly #decoder: StateStreamDecoder
  readonly #seen = new Set<string>()
  readonly #tallies = new Map<string, Tally>()
  readonly #expires = new Map<string, number>()
  #database = ''
  #tally: Tally | undefined
  #last: Uint8Array | undefined
  #meta: { readonly state: StateMeta; readonly record: Uint8Array } | undefined

  /** `databases`: those that a state of this build has. */
  constructor(databases: readonly string[], put: PutRecord) {
    this.#put = put
    this.#known = new Set(databases)
    this.#decoder = new StateStreamDecoder({
      database: (name) => this.#begin(name),
      record: (key, value) => this.#record(key, value),
    })
  }

  /** The next chunk, given away. Throws DamagedStreamError; then nothing of what was built may be kept. */
  add(chunk: Uint8Array): void {
    this.#refusing(() => this.#decoder.push(chunk))
  }

  /** Behind the last chunk: writes the state's own record, once all of it is as that says. Throws as add() does. */
  finish(): StateMeta {
    return this.#refusing(() => {
      const meta = this.#meta
      if (!this.#decoder.isComplete || meta === undefined) {
        throw new CodecError(`the stream ends after ${this.#decoder.records} records`)
      }
      for (let place = 0; place < DATABASES; place++) this.#compare(meta.state, place)
      this.#put(META_DATABASE, META_KEY, meta.record)
      return meta.state
    })
  }

  #begin(name: string): void {
    if (!this.#known.has(name)) throw new CodecError(`this build knows no database ${name}`)
    if (this.#seen.has(name)) throw new CodecError(`database ${name} comes twice`)
    if (this.#seen.size === 0 && name !== META_DATABASE) {
      throw new CodecError(`the stream begins with database ${name}`)
    }
    this.#seen.add(name)
    this.#database = name
    this.#last = undefined
    this.#tally = this.#tallies.get(name)
  }

  #record(key: Uint8Array, value: Uint8Array): void {
    const database = this.#database
    if (this.#last !== undefined && Buffer.compare(key, this.#last) <= 0) {
      throw new CodecError(`the keys of ${database} do not rise`)
    }
    this.#last = key
    if (database === META_DATABASE && Buffer.compare(key, META_KEY) === 0) {
      this.#takeMeta(value)
      return
    }
    if (this.#tally !== undefined) {
      const hashKey = this.#meta?.state.hashKey
      if (hashKey === undefined) throw new CodecError('there are keys, but no hash key')
      checkRecord(key, value)
      this.#tally.add(hashKey, key, value)
    } else if (this.#expires.has(database)) {
      checkExpiryRecord(key, value)
      this.#expires.set(database, (this.#expires.get(database) ?? 0) + 1)
    }
    this.#put(database, key, value)
  }

  #takeMeta(value: Uint8Array): void {
    const record = Uint8Array.from(value)
    this.#meta = { state: decodeMeta(record), record }
    for (let place = 0; place < DATABASES; place++) {
      this.#expires.set(expiryName(place), 0)
      this.#tallies.set(databaseName(place), new Tally(EMPTY_META, place))
    }
  }

  #compare(meta: StateMeta, place: number): void {
    const tally = this.#tallies.get(databaseName(place))
    const { count, digest } = { count: tally?.count, digest: tally?.digest() }
    if (count !== meta.counts[place]) {
      throw new CodecError(`place ${place} has ${count} keys, not ${meta.counts[place]}`)
    }
    const expected = meta.digests[place]
    if (digest?.high !== expected?.high || digest?.low !== expected?.low) {
      throw new CodecError(`the digest of place ${place} is another one`)
    }
    const expires = this.#expires.get(expiryName(place))
    if (expires !== meta.expires[place]) {
      throw new CodecError(`${expires} keys of place ${place} expire, not ${meta.expires[place]}`)
    }
  }

  #refusing<Result>(work: () => Result): Result {
    try {
      return work()
    } catch (error) {
      const isOfStream =
        error instanceof CodecError ||
        error instanceof CorruptStateError ||
        error instanceof FormatVersionError
      if (!isOfStream) throw error
      throw new DamagedStreamError(error.message, { cause: error })
    }
  }
}
