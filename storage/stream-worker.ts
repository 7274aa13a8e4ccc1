/*
 * A thread of its own for one stream of a whole state: it reads an environment as it is at one moment while others
 * write to it, or builds a new one from what another node has read. The main thread only passes chunks on. It knows
 * nothing of Raft; what is wrong with a stream it tells, what is wrong with the disk is fatal to the main thread.
 */

import { statfsSync } from 'node:fs'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { type Database, open } from 'lmdb'
import { assert } from '../raft/assert.ts'
import type { Chunk } from './engine.ts'
import { LMDB_OPTIONS, spaceMissing } from './lmdb-engine.ts'
import { LmdbReads } from './lmdb-reads.ts'
import type { StreamReply, StreamRequest, StreamWorkerData } from './lmdb-streams.ts'
import { DamagedStreamError, StateBuild } from './state-build.ts'
import { StateStreamEncoder } from './state-stream.ts'

/** What is built is committed whenever it comes to so much: LMDB keeps the pages of a transaction in memory. */
const COMMIT_BYTES = 8_388_608
const APPEND = { append: true }

const port = parentPort
assert(port !== null, () => 'the stream worker runs as a thread of its own')
const { path, databases, chunkBytes }: StreamWorkerData = workerData
const root = open<Uint8Array, Uint8Array>({ ...LMDB_OPTIONS, path })
const opened = new Map<string, Database<Uint8Array, Uint8Array>>()
for (const name of databases) {
  opened.set(name, root.openDB<Uint8Array, Uint8Array>({ ...LMDB_OPTIONS, name }))
}
const work = chunkBytes === undefined ? builder() : reader(chunkBytes)
port.on('message', (request: StreamRequest) => {
  if (request.type === 'close') void close(port)
  else answer(() => work.answer(request))
})
answer(() => ({ type: 'ready' }))

interface Work {
  answer(request: StreamRequest): StreamReply
  end(): void
}

function reader(chunkBytes: number): Work {
  const transaction = root.useReadTransaction()
  const reads = new LmdbReads(databaseOf, () => {}, transaction)
  const encoder = new StateStreamEncoder(reads, databases, chunkBytes)
  return {
    answer: (request) => {
      assert(request.type === 'next', () => `${request.type} asked of a reader`)
      return { type: 'chunk', chunk: encoder.next() }
    },
    end: () => transaction.done(),
  }
}

function builder(): Work {
  const build = new StateBuild(databases, (database, key, value) => {
    // In the order of the keys, so the pages are filled one after the other and to the brim.
    databaseOf(database).putSync(key, value, APPEND)
  })
  let chunks: Chunk[] = []
  let bytes = 0
  /** Chunks that follow a refused one may be on their way already: nothing of them may make a state after all. */
  let refusal: unknown
  const commit = (last: () => void): void => {
    const missing = spaceMissing(statfsSync(path), bytes)
    if (missing !== undefined) throw new DamagedStreamError(`${path}: ${missing}`)
    // Returns when the transaction is durable: overlapping sync is off.
    root.transactionSync(() => {
      for (const chunk of chunks) build.add(chunk)
      last()
    })
    chunks = []
    bytes = 0
  }
  const take = (request: StreamRequest): StreamReply => {
    if (request.type === 'finish') {
      commit(() => build.finish())
      return { type: 'finished' }
    }
    assert(request.type === 'add', () => `${request.type} asked of a builder`)
    chunks.push(request.chunk)
    bytes += request.chunk.length
    if (bytes >= COMMIT_BYTES) commit(() => {})
    return { type: 'added' }
  }
  return {
    answer: (request) => {
      if (refusal !== undefined) throw refusal
      try {
        return take(request)
      } catch (error) {
        refusal = error
        throw error
      }
    },
    end: () => {},
  }
}

function answer(begin: () => StreamReply): void {
  let reply: StreamReply
  try {
    reply = begin()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    reply = { type: error instanceof DamagedStreamError ? 'refused' : 'failed', reason }
  }
  const chunk = reply.type === 'chunk' ? reply.chunk : undefined
  port?.postMessage(reply, chunk === undefined ? [] : [chunk.buffer])
}

async function close(port: MessagePort): Promise<void> {
  work.end()
  await root.close()
  port.close()
}

function databaseOf(name: string): Database<Uint8Array, Uint8Array> {
  const database = opened.get(name)
  assert(database !== undefined, () => `there is no database ${name}`)
  return database
}
