/*
 * Asks a node for its state as any client would: a stream of parts, the next one asked for before the last has come.
 * It knows of the server behind the port no more than RAFT BACKUP, and of the rim no more than its ports, so that the
 * simulator runs it as well.
 */

import type { Chunk } from '../storage/engine.ts'
import { BackupParts, DamagedBackupError } from './backup-file.ts'
import { limits } from './config.ts'
import type { Cancel, Connection, Network, Timers } from './network.ts'
import { OperatorError } from './operator-error.ts'

/** Who is asked for its state. */
export interface BackupFrom {
  readonly host: string
  readonly port: number
  /** '' when the server wants none. */
  readonly password: string
  /** Whoever belongs to another cluster refuses; undefined: any will do. */
  readonly clusterId?: string
}

/** How it is reached. */
export interface BackupRim {
  readonly network: Network
  readonly timers: Timers
}

/** Questions that are on their way at a time, so that the way there and back costs nothing. */
const ASKED_AHEAD = 4
/** A first line longer than this is no reply to what is asked here. */
const LINE_BYTES_MAX = 4096

/**
 * The stream of a node's state, which holds every write that was acknowledged before the call. Throws OperatorError
 * when the node cannot be asked or refuses, DamagedBackupError for what is no backup.
 */
export async function* chunksFrom(from: BackupFrom, rim: BackupRim): AsyncGenerator<Chunk, void> {
  for await (const { chunk } of partsFrom(from, rim)) if (chunk !== undefined) yield chunk
}

/** The same, each chunk with the part of a backup that it came in. */
export async function* partsFrom(
  { host, port, password, clusterId }: BackupFrom,
  { network, timers }: BackupRim,
): AsyncGenerator<{ part: Uint8Array; chunk: Chunk | undefined }, void> {
  const node = new Asker(network.dial(host, port), timers, `${host}:${port}`)
  try {
    if (password !== '') await node.ask('AUTH', password)
    const parts = new BackupParts()
    const cluster = clusterId === undefined ? [] : [clusterId]
    const asked = [node.ask('RAFT', 'BACKUP', 'BEGIN', ...cluster)]
    while (!parts.isComplete) {
      while (asked.length < ASKED_AHEAD) asked.push(node.ask('RAFT', 'BACKUP', 'NEXT'))
      const part = await asked.shift()
      if (part === undefined) throw new DamagedBackupError(`it ends after ${parts.bytes} bytes`)
      yield { part, chunk: parts.take(part) }
    }
  } finally {
    node.close()
  }
}

interface Waiting {
  resolve(reply: Uint8Array | undefined): void
  reject(error: Error): void
}

/** Commands out, bulk strings back in the same order; any error ends it. */
class Asker {
  readonly #connection: Connection
  readonly #timers: Timers
  readonly #name: string
  #waiting: Waiting[] = []
  /** What was asked before the connection was there; undefined: it is. */
  #unsent: Uint8Array[] | undefined = []
  #received: Buffer = Buffer.alloc(0)
  #failure: Error | undefined
  #cancelStall: Cancel = () => {}

  constructor(connection: Connection, timers: Timers, name: string) {
    this.#connection = connection
    this.#timers = timers
    this.#name = name
    connection.start({
      opened: () => {
        for (const bytes of this.#unsent ?? []) connection.write(bytes)
        this.#unsent = undefined
        this.#watch()
      },
      received: (bytes) => {
        this.#watch()
        this.#received = Buffer.concat([this.#received, bytes])
        while (this.#failure === undefined && this.#takeReply());
      },
      drained: () => {},
      finished: () => this.#fail('closed the connection'),
      closed: (error) => {
        this.#fail(error ? `cannot be asked: ${error.message}` : 'closed the connection')
      },
    })
    this.#watch()
  }

  /** undefined: the null string. Rejects with OperatorError. */
  ask(...words: readonly string[]): Promise<Uint8Array | undefined> {
    const reply = new Promise<Uint8Array | undefined>((resolve, reject) => {
      if (this.#failure !== undefined) reject(this.#failure)
      else this.#waiting.push({ resolve, reject })
    })
    // Several are asked at a time, and whoever hears of one failure does not wait for the rest.
    reply.catch(() => {})
    const bulks = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`)
    const bytes = Buffer.from(`*${words.length}\r\n${bulks.join('')}`)
    if (this.#unsent === undefined) this.#connection.write(bytes)
    else this.#unsent.push(bytes)
    return reply
  }

  close(): void {
    this.#cancelStall()
    this.#connection.destroy()
  }

  /** Something came: from here on it may be silent for so long again. */
  #watch(): void {
    this.#cancelStall()
    if (this.#failure !== undefined) return
    const fail = (): void => this.#fail('does not answer')
    this.#cancelStall = this.#timers.after(limits.snapshotStallMs, fail)
  }

  /** False: it is not all here. */
  #takeReply(): boolean {
    const end = this.#received.indexOf('\r\n')
    if (end < 0 || end > LINE_BYTES_MAX) {
      if (this.#received.length > LINE_BYTES_MAX) this.#fail('answers what is no reply')
      return false
    }
    const line = this.#received.toString('latin1', 0, end)
    if (line === '+OK') return this.#settle(Buffer.alloc(0), end + 2)
    if (line === '$-1') return this.#settle(undefined, end + 2)
    const length = /^\$([0-9]{1,9})$/.exec(line)?.[1]
    if (length === undefined) {
      this.#fail(`says: ${line.replace(/^-/, '')}`)
      return false
    }
    const from = end + 2
    const to = from + Number(length)
    if (this.#received.length < to + 2) return false
    return this.#settle(this.#received.subarray(from, to), to + 2)
  }

  #settle(reply: Uint8Array | undefined, length: number): true {
    this.#received = this.#received.subarray(length)
    this.#waiting.shift()?.resolve(reply)
    return true
  }

  #fail(what: string): void {
    this.#failure ??= new OperatorError('BACKUP', `${this.#name} ${what}`)
    const waiting = this.#waiting
    this.#waiting = []
    for (const { reject } of waiting) reject(this.#failure)
    this.close()
  }
}
