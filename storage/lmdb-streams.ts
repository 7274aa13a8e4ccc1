/*
 * The main thread's side of streams of whole states on LMDB: a worker reads or builds (stream-worker.ts), and here its
 * answers become promises, one for each question, in order. It knows no LMDB and no stream format.
 */

import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { assert } from '../raft/assert.ts'
import type { Chunk, OnFatal, StateBuilder, StateStream } from './engine.ts'
import { DamagedStreamError } from './state-build.ts'

/** A builder takes so much before the worker has answered: it works while more comes. */
const AHEAD_BYTES_MAX = 8_388_608

/** The environment, and what is done with it: read in chunks of a size, or (undefined) built. */
export interface StreamWorkerData {
  readonly path: string
  readonly databases: readonly string[]
  readonly chunkBytes: number | undefined
}
/** Main to worker: each but 'close' is answered. */
export type StreamRequest =
  | { readonly type: 'next' }
  | { readonly type: 'add'; readonly chunk: Chunk }
  | { readonly type: 'finish' }
  | { readonly type: 'close' }
export type StreamReply =
  | { readonly type: 'ready' }
  | { readonly type: 'chunk'; readonly chunk: Chunk | undefined }
  | { readonly type: 'added' }
  | { readonly type: 'finished' }
  /** What was sent is no intact state, or there is no room for it: drop what was built. */
  | { readonly type: 'refused'; readonly reason: string }
  /** The disk failed. */
  | { readonly type: 'failed'; readonly reason: string }

interface Waiting {
  resolve(reply: StreamReply): void
  reject(error: Error): void
}

/** A worker that answers in order. */
class StreamThread {
  readonly #worker: Worker
  readonly #exited: Promise<void>
  readonly #path: string
  readonly #report: OnFatal
  /** Questions without an answer, oldest first; the first is for 'ready'. */
  #waiting: Waiting[] = []
  #closing = false

  constructor(workerData: StreamWorkerData, report: OnFatal) {
    this.#path = workerData.path
    this.#report = report
    // The worker lies beside this file, compiled or not.
    const file = new URL(`./stream-worker${extname(import.meta.url)}`, import.meta.url)
    this.#worker = new Worker(file, { workerData })
    this.#worker.on('message', (reply: StreamReply) => this.#answered(reply))
    this.#worker.on('error', (error) => this.#lost(error.message))
    this.#exited = new Promise((done) => {
      this.#worker.once('exit', (code) => {
        if (!this.#closing) this.#lost(`it ended with exit code ${code}`)
        done()
      })
    })
  }

  /** Rejects with DamagedStreamError for what was refused. */
  async answer(): Promise<StreamReply> {
    const reply = await new Promise<StreamReply>((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
    })
    if (reply.type === 'refused') throw new DamagedStreamError(reply.reason)
    return reply
  }

  ask(request: StreamRequest, transfer: ArrayBuffer[] = []): Promise<StreamReply> {
    assert(!this.#closing, () => `the stream of ${this.#path} is closed`)
    const answer = this.answer()
    this.#worker.postMessage(request, transfer)
    return answer
  }

  /** What is unanswered is answered first. */
  async close(): Promise<void> {
    if (!this.#closing) this.#worker.postMessage({ type: 'close' })
    this.#closing = true
    await this.#exited
  }

  #answered(reply: StreamReply): void {
    if (reply.type === 'failed') this.#lost(reply.reason)
    else this.#waiting.shift()?.resolve(reply)
  }

  #lost(what: string): void {
    const reason = `a stream of ${this.#path} failed: ${what}`
    this.#report(reason)
    const waiting = this.#waiting
    this.#waiting = []
    for (const { reject } of waiting) reject(new Error(reason))
  }
}

export class LmdbStateStream implements StateStream {
  readonly #thread: StreamThread
  /** The chunk that is asked for already, so that the worker reads while this thread has other things to do. */
  #ahead: Promise<StreamReply> | undefined
  #closed = false

  private constructor(thread: StreamThread) {
    this.#thread = thread
  }

  /** Resolves when the moment that it shows is fixed. */
  static async open(data: StreamWorkerData, report: OnFatal): Promise<LmdbStateStream> {
    const thread = new StreamThread(data, report)
    await thread.answer()
    return new LmdbStateStream(thread)
  }

  async next(): Promise<Chunk | undefined> {
    const reply = await (this.#ahead ?? this.#thread.ask({ type: 'next' }))
    assert(reply.type === 'chunk', () => `the next chunk was answered with ${reply.type}`)
    if (reply.chunk !== undefined && !this.#closed) this.#ahead = this.#thread.ask({ type: 'next' })
    return reply.chunk
  }

  close(): Promise<void> {
    this.#closed = true
    return this.#thread.close()
  }
}

export class LmdbStateBuilder implements StateBuilder {
  readonly #thread: StreamThread
  readonly #drop: () => Promise<void>
  /** Chunks that the worker has not answered, oldest first: each settles when it has, and never rejects. */
  readonly #ahead: Promise<void>[] = []
  #aheadBytes = 0
  #failure: unknown

  private constructor(thread: StreamThread, drop: () => Promise<void>) {
    this.#thread = thread
    this.#drop = drop
  }

  /** `path` is a new environment; `drop` removes it. */
  static async open(
    path: string,
    databases: readonly string[],
    report: OnFatal,
    drop: () => Promise<void>,
  ): Promise<LmdbStateBuilder> {
    const thread = new StreamThread({ path, databases, chunkBytes: undefined }, report)
    await thread.answer()
    return new LmdbStateBuilder(thread, drop)
  }

  async add(chunk: Chunk): Promise<void> {
    const { length } = chunk
    const asked = this.#thread.ask({ type: 'add', chunk }, [chunk.buffer])
    this.#aheadBytes += length
    this.#ahead.push(this.#answered(asked, length))
    while (this.#aheadBytes > AHEAD_BYTES_MAX) await this.#ahead[0]
    if (this.#failure !== undefined) throw this.#failure
  }

  async finish(): Promise<void> {
    await this.#thread.ask({ type: 'finish' })
    await this.#thread.close()
  }

  async abort(): Promise<void> {
    await this.#thread.close()
    await this.#drop()
  }

  /** What was wrong with a chunk is told by a later call: all that follow it fail too, finish() among them. */
  async #answered(asked: Promise<StreamReply>, length: number): Promise<void> {
    try {
      await asked
    } catch (error) {
      this.#failure ??= error
    }
    void this.#ahead.shift()
    this.#aheadBytes -= length
  }
}
