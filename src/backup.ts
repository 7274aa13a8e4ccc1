/*
 * `holdfast backup`: asks a node for its state as any client would, verifies it record by record as it comes, and
 * leaves a file under its name only when all of it is there, intact and durable. It knows of the server behind the
 * port no more than RAFT BACKUP; what a backup is, is backup-file.ts.
 */

import { existsSync, promises } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { syncDirectory } from '../storage/directory.ts'
import type { Chunk } from '../storage/engine.ts'
import { DamagedStreamError, StateBuild } from '../storage/state-build.ts'
import { STATE_DATABASES, type StateMeta } from '../storage/state-meta.ts'
import { BACKUP_MAGIC, BackupParts, DamagedBackupError, framedPart } from './backup-file.ts'
import { limits } from './config.ts'
import { fromSystemError, OperatorError } from './operator-error.ts'

/** Who is asked for its state. */
export interface BackupFrom {
  readonly host: string
  readonly port: number
  /** '' when the server wants none. */
  readonly password: string
  /** Whoever belongs to another cluster refuses; undefined: any will do. */
  readonly clusterId?: string
}

export interface BackupOptions extends BackupFrom {
  readonly file: string
}

/** Questions that are on their way at a time, so that the way there and back costs nothing. */
const ASKED_AHEAD = 4
const FILE_MODE = 0o600
/** A first line longer than this is no reply to what is asked here. */
const LINE_BYTES_MAX = 4096

/** Resolves when the backup is durable, with what the state says of itself. Throws OperatorError. */
export async function backup(options: BackupOptions): Promise<StateMeta> {
  const { file, host, port } = options
  if (existsSync(file)) {
    throw new OperatorError(
      'BACKUP',
      `${file} exists already: choose another name, or move it away`,
    )
  }
  const draft = `${file}.part`
  try {
    const handle = await promises.open(draft, 'w', FILE_MODE)
    try {
      const state = await receive(options, (bytes) => handle.appendFile(bytes))
      await handle.sync()
      await promises.rename(draft, file)
      syncDirectory(dirname(file))
      return state
    } finally {
      await handle.close()
    }
  } catch (error) {
    await promises.rm(draft, { force: true })
    if (error instanceof DamagedBackupError || error instanceof DamagedStreamError) {
      const what = `what ${host}:${port} gives is not an intact state: ${error.message}`
      throw new OperatorError('BACKUP', `${what}; take the backup from another node`)
    }
    throw fromSystemError(`the backup ${file}`, error) ?? error
  }
}

async function receive(
  from: BackupFrom,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<StateMeta> {
  const build = new StateBuild(STATE_DATABASES, () => {})
  await write(BACKUP_MAGIC)
  for await (const { part, chunk } of partsFrom(from)) {
    if (chunk !== undefined) build.add(chunk)
    await write(framedPart(part))
  }
  return build.finish()
}

/**
 * The stream of a node's state, which holds every write that was acknowledged before the call. Throws OperatorError
 * when the node cannot be asked or refuses, DamagedBackupError for what is no backup.
 */
export async function* chunksFrom(from: BackupFrom): AsyncGenerator<Chunk, void> {
  for await (const { chunk } of partsFrom(from)) if (chunk !== undefined) yield chunk
}

async function* partsFrom({
  host,
  port,
  password,
  clusterId,
}: BackupFrom): AsyncGenerator<{ part: Uint8Array; chunk: Chunk | undefined }, void> {
  const node = new Asker(connect({ host, port }), `${host}:${port}`)
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
  readonly #socket: Socket
  readonly #name: string
  #waiting: Waiting[] = []
  #received: Buffer = Buffer.alloc(0)
  #failure: Error | undefined

  constructor(socket: Socket, name: string) {
    this.#socket = socket
    this.#name = name
    socket.setTimeout(limits.snapshotStallMs, () => this.#fail('does not answer'))
    socket.on('error', ({ message }) => this.#fail(`cannot be asked: ${message}`))
    socket.on('close', () => this.#fail('closed the connection'))
    socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes])
      while (this.#failure === undefined && this.#takeReply());
    })
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
    this.#socket.write(`*${words.length}\r\n${bulks.join('')}`)
    return reply
  }

  close(): void {
    this.#socket.destroy()
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
    this.#socket.destroy()
  }
}
