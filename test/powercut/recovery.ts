/*
 * Opens what a power cut has left, with the production recovery, and tells all that it finds: the log, the state on
 * disk, and the state after the rest of the log was applied. Nothing is judged here. recover-child.ts runs it in a
 * process of its own, because LMDB ends a process by signal over pages that cannot be.
 */

import type { HardState, Position } from '../../raft/types.ts'
import { limits } from '../../src/config.ts'
import { Keyspace } from '../../src/keyspace.ts'
import { LongReads } from '../../src/long-reads.ts'
import { encodeEntry } from '../../storage/codec.ts'
import type { Engine, Environment } from '../../storage/engine.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { openStorage, type Storage } from '../../storage/open.ts'
import {
  DATABASES,
  databaseName,
  decodeMeta,
  META_DATABASE,
  META_KEY,
} from '../../storage/state-meta.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { KEYS } from './load.ts'

/** Values by key, in latin1, and the number of keys that the store and the disk count. */
export interface DatabaseFound {
  readonly values: readonly (readonly [key: string, value: string])[]
  readonly size: number
  readonly records: number
}

export interface StateFound {
  readonly at: Position
  readonly databases: readonly DatabaseFound[]
  readonly digest: string
}

export interface Found {
  readonly nodeId: string
  readonly bound: boolean
  readonly hardState: HardState
  readonly base: Position
  readonly last: number
  readonly lastTerm: number
  /** Every entry's term and bytes in latin1, from base + 1 on. */
  readonly entries: readonly { readonly term: number; readonly bytes: string }[]
  /** As the last checkpoint left it. */
  readonly state: StateFound
  /** After all of the log was applied, and a checkpoint of that. */
  readonly replayed: StateFound
}

const ENTRIES_BYTES_MAX = 1 << 30
const MEMTABLE_BYTES = 1 << 30

/** Throws what the recovery throws. */
export async function recover(directory: string): Promise<Found> {
  const failures: string[] = []
  const engine = new LmdbEngine(directory, (reason) => failures.push(reason))
  let environment: Environment | undefined
  const storage = await openStorage(
    seeing(engine, (opened) => {
      environment = opened
    }),
    {
      memtableBytes: MEMTABLE_BYTES,
      cacheBytes: 0,
      views: limits.stateViews,
      now: () => performance.now(),
    },
  )
  try {
    if (environment === undefined) throw new Error('no state was opened')
    const found = await look(storage, environment)
    if (failures.length > 0) throw new Error(failures.join('; '))
    return found
  } finally {
    await storage.state.close()
    await storage.log.close()
  }
}

async function look({ log, state }: Storage, disk: Environment): Promise<Found> {
  const base = log.base()
  const last = log.lastIndex()
  const entries = log.entries(base.index + 1, last + 1, ENTRIES_BYTES_MAX)
  const onDisk = stateFound(state, disk)
  const keyspace = new Keyspace(state, {
    observer: {
      applied: () => {},
      internalError: (index, command, error) => {
        throw new Error(`entry ${index}: ${command} fails: ${String(error)}`)
      },
    },
    longReads: new LongReads({
      limits: { longReplyBytesMax: 0, turnSlicesMsMax: 0 },
      clock: { monotonic: () => 0 },
      timers: { after: () => () => {} },
      wake: () => {},
    }),
    random: () => 0,
  })
  for (const entry of entries) {
    if (entry.index > keyspace.appliedIndex()) keyspace.apply(entry)
  }
  await state.checkpoint()
  return {
    nodeId: log.identity().nodeId,
    bound: log.identity().clusterId !== undefined,
    hardState: log.hardState(),
    base,
    last,
    lastTerm: log.term(last) ?? 0,
    entries: entries.map((entry) => ({ term: entry.term, bytes: latin1(encodeEntry(entry)) })),
    state: onDisk,
    replayed: stateFound(state, disk),
  }
}

function stateFound(state: StateStore, disk: Environment): StateFound {
  const { digests } = decodeMeta(disk.get(META_DATABASE, META_KEY))
  const databases = Array.from({ length: DATABASES }, (_, database) => {
    let records = 0
    disk.range(databaseName(database), new Uint8Array(1), () => {
      records++
      return true
    })
    const values = (records === 0 ? [] : KEYS).flatMap((key): [string, string][] => {
      const found = state.get(database, key)
      return found === undefined ? [] : [[key, latin1(found.value)]]
    })
    return { values, size: state.size(database), records }
  })
  return {
    at: state.durableAt(),
    databases,
    digest: digests.map(({ high, low }) => `${high}:${low}`).join(' '),
  }
}

/** The same engine; `opened` is told of the environment of the state. */
function seeing(engine: Engine, opened: (environment: Environment) => void): Engine {
  return {
    location: engine.location,
    list: () => engine.list(),
    drop: (name) => engine.drop(name),
    openLog: (name, databases) => engine.openLog(name, databases),
    buildState: (name, databases) => engine.buildState(name, databases),
    openState: async (name, databases) => {
      const environment = await engine.openState(name, databases)
      opened(environment)
      return environment
    },
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}
