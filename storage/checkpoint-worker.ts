/*
 * The thread that owns all writing to a state environment: receives the writes of a checkpoint as transferred
 * memory, and runs the job in one LMDB transaction. The main thread only reads; its loop never waits for a commit of
 * this size. Between checkpoints it reads pieces of the state to see whether they are intact. It knows nothing of
 * Raft, and an error of a checkpoint is the end: the main thread reports it as fatal.
 */

import { setPriority } from 'node:os'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { type Database, open } from 'lmdb'
import { assert } from '../raft/assert.ts'
import { runCheckpoint } from './checkpoint.ts'
import type { Chunk, WriteTransaction } from './engine.ts'
import {
  type CheckpointReply,
  type CheckpointRequest,
  type CheckpointWorkerData,
  LMDB_OPTIONS,
} from './lmdb-engine.ts'
import { LmdbReads, SmallRecords } from './lmdb-reads.ts'
import { CorruptStateError } from './record.ts'
import { type ScrubPosition, scrubStep } from './scrub.ts'
import { buffersOf } from './slabs.ts'

/** Whoever waits for the main loop goes first where processors are short: a checkpoint may take longer. */
const NICENESS = 10

// Of this thread: elsewhere than on Linux it would be that of the process.
if (process.platform === 'linux') beNice()
const port = parentPort
assert(port !== null, () => 'the checkpoint worker runs as a thread of its own')
const { path, databases }: CheckpointWorkerData = workerData
const root = open<Uint8Array, Uint8Array>({ ...LMDB_OPTIONS, path })
const opened = new Map<string, Database<Uint8Array, Uint8Array>>()
for (const name of databases) {
  opened.set(name, root.openDB<Uint8Array, Uint8Array>({ ...LMDB_OPTIONS, name }))
}

const small = new SmallRecords(databaseOf)

/** Only used inside transactionSync, where every call takes effect at once. */
const transaction: WriteTransaction = {
  get: (database, key) => {
    if (!small.areIn(database)) return databaseOf(database).getBinary(key)
    // Into memory that the next read takes again: a copy per record would be most of this thread's garbage.
    const bytes = databaseOf(database).getBinaryFast(key)
    return bytes && new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
  },
  put: (database, key, value) => {
    databaseOf(database).putSync(key, value)
  },
  remove: (database, key) => {
    databaseOf(database).removeSync(key)
  },
  clear: (database) => databaseOf(database).clearSync(),
}

/** A service manager may forbid it (SystemCallFilter=~@resources), and nothing depends on it. */
function beNice(): void {
  try {
    setPriority(0, NICENESS)
  } catch {}
}

port.on('message', (request: CheckpointRequest) => {
  switch (request.type) {
    case 'run':
      reply(run(request.header, request.chunks))
      return
    case 'scrub':
      reply(scrub(request.from, request.bytesMax))
      return
    case 'close':
      void close(port)
  }
})
reply({ type: 'ready' })

function run(header: Uint8Array, chunks: readonly Chunk[]): CheckpointReply {
  // As of the last one: what this one makes large is not read again by it.
  small.forget()
  try {
    // Returns when the transaction is durable: overlapping sync is off.
    const summary = root.transactionSync(() => runCheckpoint(transaction, header, chunks))
    return { type: 'done', summary, memory: buffersOf(chunks) }
  } catch (error) {
    return { type: 'failed', reason: error instanceof Error ? error.message : String(error) }
  }
}

/** As of now: what is read here is read again by nobody, so it is not worth a moment of its own. */
function scrub(from: ScrubPosition | undefined, bytesMax: number): CheckpointReply {
  const reads = new LmdbReads(databaseOf, () => {}, undefined)
  try {
    return { type: 'scrubbed', step: scrubStep(reads, from, bytesMax) }
  } catch (error) {
    const what = error instanceof CorruptStateError ? error.what : String(error)
    return { type: 'damaged', reason: what }
  }
}

async function close(port: MessagePort): Promise<void> {
  await root.close()
  port.close()
}

function reply(message: CheckpointReply): void {
  // The memory of a checkpoint goes back to where it is used again.
  port?.postMessage(message, message.type === 'done' ? [...message.memory] : [])
}

function databaseOf(name: string): Database<Uint8Array, Uint8Array> {
  const database = opened.get(name)
  assert(database !== undefined, () => `there is no database ${name}`)
  return database
}
