/*
 * The project's own load generator: SET and GET over many connections of one thread, each with a number of commands
 * on their way that are answered before the next ones go, as redis-benchmark does it; so the two can be held against
 * each other. Beyond that one it mixes SETs and GETs, counts error replies and knows the 99.9th percentile. It makes
 * as little as it can per command, because it runs beside what it measures.
 */

import { Buffer } from 'node:buffer'
import { connect, type Socket } from 'node:net'

export interface Load {
  readonly host: string
  readonly port: number
  readonly connections: number
  /** Commands of one connection on their way at once. */
  readonly pipeline: number
  /** 1: only SET; 0: only GET; 0.1: nine GETs to a SET. */
  readonly setShare: number
  readonly valueBytes: number
  /** Keys are taken by chance from so many. */
  readonly keys: number
  /** Ends after this time, or once so many commands were answered. */
  readonly seconds: number
  readonly commands?: number
  /** Keys one after another from 0 on instead of by chance: to fill a database. */
  readonly inOrder?: boolean
}

export interface LoadResult {
  readonly commands: number
  readonly perSecond: number
  /** Error replies among them; a figure with any says nothing. */
  readonly errors: number
  /** Latencies in ms. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

const KEY_DIGITS = 12
/** Where the last digit of a key stands in both commands: behind '*', a count, a name of three letters and 'key:'. */
const KEY_END = 22 + KEY_DIGITS - 1
const ZERO = 48

/** The name of a key as the load has it. */
export function keyOf(at: number): string {
  return `key:${String(at).padStart(KEY_DIGITS, '0')}`
}

const CR = 13
const LF = 10
const MINUS = 45
const DOLLAR = 36

/** Latencies in buckets that are 2 % wide, so that nothing is kept per command. */
export class Latencies {
  static readonly #PER_DOUBLING = 32
  static readonly #DOUBLINGS = 36
  readonly #counts = new Float64Array(Latencies.#PER_DOUBLING * Latencies.#DOUBLINGS)
  #total = 0

  /** `count` commands took `ms`; from a nanosecond to a minute. */
  add(ms: number, count: number): void {
    const bucket = Math.floor(Math.log2(Math.max(1, ms * 1e6)) * Latencies.#PER_DOUBLING)
    const at = Math.min(this.#counts.length - 1, bucket)
    this.#counts[at] = (this.#counts[at] ?? 0) + count
    this.#total += count
  }

  /** In ms; NaN when nothing was added. */
  percentile(share: number): number {
    if (this.#total === 0) return Number.NaN
    let left = Math.ceil(this.#total * share)
    for (const [bucket, count] of this.#counts.entries()) {
      left -= count
      if (left <= 0) return 2 ** ((bucket + 0.5) / Latencies.#PER_DOUBLING) / 1e6
    }
    throw new Error('more commands than were counted')
  }
}

/** Counts whole replies (simple, error, integer, bulk) in a stream of bytes that may be cut anywhere. */
export class ReplyCounter {
  errors = 0
  /** Bytes of a bulk string, its end included, that are still to come. */
  #skip = 0
  /** Within a line: what kind it is, 0 between replies; and the number that has been read of it. */
  #type = 0
  #number = 0
  #negative = false

  /** How many replies end in this chunk. */
  count(chunk: Uint8Array): number {
    let ended = 0
    let at = 0
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, chunk.length - at)
        at += skipped
        this.#skip -= skipped
        if (this.#skip === 0) ended++
        continue
      }
      const byte = chunk[at++] ?? 0
      if (this.#type === 0) {
        this.#type = byte
        this.#number = 0
        this.#negative = false
        if (byte === MINUS) this.errors++
      } else if (byte === LF) {
        if (this.#type === DOLLAR && !this.#negative) this.#skip = this.#number + 2
        else ended++
        this.#type = 0
      } else if (this.#type === DOLLAR && byte !== CR) {
        if (byte === MINUS) this.#negative = true
        else this.#number = this.#number * 10 + byte - ZERO
      }
    }
    return ended
  }
}

/** Runs it; rejects when a connection fails or ends. */
export async function drive(load: Load): Promise<LoadResult> {
  const run = new Run(load)
  const connections = Array.from({ length: load.connections }, () => new Lane(load, run))
  try {
    await Promise.all(connections.map((connection) => connection.opened()))
    const startedAt = performance.now()
    await Promise.all(connections.map((connection) => connection.run(startedAt)))
    const seconds = (performance.now() - startedAt) / 1000
    const { latencies } = run
    return {
      commands: run.answered,
      perSecond: run.answered / seconds,
      errors: connections.reduce((sum, { errors }) => sum + errors, 0),
      p50: latencies.percentile(0.5),
      p99: latencies.percentile(0.99),
      p999: latencies.percentile(0.999),
    }
  } finally {
    for (const connection of connections) connection.close()
  }
}

/** What the connections share. */
class Run {
  readonly latencies = new Latencies()
  answered = 0
  readonly #set: Buffer
  readonly #get: Buffer
  readonly #load: Load
  readonly #deadlineMs: number
  #nextKey = 0
  #sent = 0

  constructor(load: Load) {
    this.#load = load
    this.#deadlineMs = load.seconds * 1000
    const key = `$16\r\n${keyOf(0)}\r\n`
    const value = `$${load.valueBytes}\r\n${'x'.repeat(load.valueBytes)}\r\n`
    this.#set = Buffer.from(`*3\r\n$3\r\nSET\r\n${key}${value}`)
    this.#get = Buffer.from(`*2\r\n$3\r\nGET\r\n${key}`)
  }

  get largestCommandBytes(): number {
    return Math.max(this.#load.setShare > 0 ? this.#set.length : 0, this.#get.length)
  }

  /** Whether another round of commands may go; it counts as sent. */
  mayBegin(sinceMs: number): boolean {
    const { commands = Number.POSITIVE_INFINITY, pipeline } = this.#load
    if (sinceMs >= this.#deadlineMs || this.#sent >= commands) return false
    this.#sent += pipeline
    return true
  }

  /** Writes the next command to `target` at `at`, and gives its end. */
  write(target: Buffer, at: number): number {
    const { setShare, keys, inOrder } = this.#load
    const isSet = setShare === 1 || (setShare > 0 && Math.random() < setShare)
    const template = isSet ? this.#set : this.#get
    target.set(template, at)
    let key = inOrder === true ? this.#nextKey++ % keys : Math.floor(Math.random() * keys)
    for (let digit = at + KEY_END; key > 0; key = Math.floor(key / 10)) {
      target[digit--] = ZERO + (key % 10)
    }
    return at + template.length
  }
}

class Lane {
  readonly #socket: Socket
  readonly #run: Run
  readonly #pipeline: number
  readonly #replies = new ReplyCounter()
  /** Written to again only when everything in it was answered, and so was sent. */
  readonly #buffer: Buffer

  constructor(load: Load, run: Run) {
    this.#socket = connect({ host: load.host, port: load.port, noDelay: true })
    this.#run = run
    this.#pipeline = load.pipeline
    this.#buffer = Buffer.alloc(load.pipeline * run.largestCommandBytes)
  }

  /**
   * Connected is who was answered: a system whose queue for accept() is full lets a client believe that it is, and
   * loses what it sends for a second.
   */
  opened(): Promise<void> {
    const socket = this.#socket
    return new Promise((resolve, reject) => {
      // Stays for whichever connection ends after another one has failed.
      socket.on('error', reject)
      socket.once('close', () => reject(new Error('a connection ended before it was answered')))
      socket.write('PING\r\n')
      socket.once('data', (reply) => {
        if (reply.toString() === '+PONG\r\n') resolve()
        else reject(new Error(`PING was answered by ${reply}`))
      })
    })
  }

  get errors(): number {
    return this.#replies.errors
  }

  run(startedAt: number): Promise<void> {
    const run = this.#run
    const pipeline = this.#pipeline
    return new Promise((resolve, reject) => {
      let due = 0
      let sentAt = 0
      const send = (now: number): void => {
        if (!run.mayBegin(now - startedAt)) {
          resolve()
          return
        }
        due = pipeline
        sentAt = now
        let end = 0
        for (let i = 0; i < pipeline; i++) end = run.write(this.#buffer, end)
        this.#socket.write(this.#buffer.subarray(0, end))
      }
      this.#socket.on('error', reject)
      this.#socket.on('close', () => reject(new Error('a connection under load ended')))
      this.#socket.on('data', (chunk) => {
        const ended = this.#replies.count(chunk)
        if (ended === 0) return
        const now = performance.now()
        run.latencies.add(now - sentAt, ended)
        run.answered += ended
        due -= ended
        if (due < 0) reject(new Error('a reply that nobody asked for'))
        else if (due === 0) send(now)
      })
      send(startedAt)
    })
  }

  close(): void {
    this.#socket.destroy()
  }
}
