/*
 * A backup as a file: the parts of a snapshot (snapshot-messages.ts), as any receiver gets them, each behind its
 * length. What is read is believed only as a whole: every part intact, in its place, the last one there and nothing
 * behind it. What the parts are made of is verified by whoever builds a state from them.
 *
 *   'HFBACKUP' version u8, then parts: length u32 | bytes       numbers are big-endian
 */

import { createReadStream } from 'node:fs'
import { CodecError } from '../storage/codec.ts'
import type { Chunk } from '../storage/engine.ts'
import { limits } from './config.ts'
import { chunkOf, decodeToReceiver } from './snapshot-messages.ts'

const VERSION = 1
export const BACKUP_MAGIC: Uint8Array = Buffer.from(`HFBACKUP${String.fromCharCode(VERSION)}`)
const VERSION_BYTES = 1
const LENGTH_BYTES = 4
/** A part carries one chunk and a few numbers. */
const PART_BYTES_MAX = limits.snapshotChunkBytes + 1024

/** This is no whole, intact backup. */
export class DamagedBackupError extends Error {
  override readonly name = 'DamagedBackupError'
  readonly code = 'DAMAGED_BACKUP'
}

/** A part as it stands in the file. */
export function framedPart(part: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(LENGTH_BYTES + part.length)
  bytes.writeUInt32BE(part.length)
  bytes.set(part, LENGTH_BYTES)
  return bytes
}

/** The parts of one backup in their order, wherever they come from. */
export class BackupParts {
  #begun = false
  #offset = 0
  #complete = false

  /** The last part is here. */
  get isComplete(): boolean {
    return this.#complete
  }

  /** Bytes of the stream so far. */
  get bytes(): number {
    return this.#offset
  }

  /** The chunk that the part carries, as memory of its own. Throws DamagedBackupError when it does not belong here. */
  take(part: Uint8Array): Chunk | undefined {
    if (this.#complete) throw new DamagedBackupError('it goes on behind its end')
    const message = decoded(part)
    const isFirst = !this.#begun
    this.#begun = true
    if (isFirst !== (message.type === 'begin') || message.type === 'abort') {
      throw new DamagedBackupError(`a part of type ${message.type} is out of its place`)
    }
    if (message.type === 'begin') return undefined
    if (message.offset !== this.#offset) {
      throw new DamagedBackupError(
        `${this.#offset} bytes are followed by those from ${message.offset}`,
      )
    }
    if (message.type === 'chunk') {
      this.#offset += message.bytes.length
      return chunkOf(message.bytes)
    }
    this.#complete = true
    return undefined
  }
}

function decoded(part: Uint8Array): ReturnType<typeof decodeToReceiver> {
  try {
    return decodeToReceiver(part)
  } catch (error) {
    if (error instanceof CodecError) throw new DamagedBackupError(error.message)
    throw error
  }
}

/** The chunks of the stream in a file. Throws DamagedBackupError, and what node:fs throws. */
export async function* readBackup(file: string): AsyncGenerator<Chunk, void> {
  const parts = new BackupParts()
  for await (const part of partsOf(file)) {
    const chunk = parts.take(part)
    if (chunk !== undefined) yield chunk
  }
  if (!parts.isComplete) throw new DamagedBackupError(`it is cut off after ${parts.bytes} bytes`)
}

async function* partsOf(file: string): AsyncGenerator<Uint8Array, void> {
  const reader = new FileReader(file)
  const magic = await reader.take(BACKUP_MAGIC.length)
  checkMagic(magic)
  for (;;) {
    const header = await reader.take(LENGTH_BYTES)
    if (header.length === 0) return
    const length = header.length < LENGTH_BYTES ? 0 : header.readUInt32BE()
    if (length > PART_BYTES_MAX) throw new DamagedBackupError(`a part of ${length} bytes`)
    const part = await reader.take(length)
    if (length === 0 || part.length < length)
      throw new DamagedBackupError('its last part is cut off')
    yield part
  }
}

function checkMagic(found: Buffer): void {
  const name = BACKUP_MAGIC.subarray(0, -VERSION_BYTES)
  if (Buffer.compare(found.subarray(0, name.length), name) !== 0) {
    throw new DamagedBackupError('it does not begin as a backup does')
  }
  const version = found[name.length]
  if (version === undefined) throw new DamagedBackupError('it ends before it has begun')
  if (version === VERSION) return
  throw new DamagedBackupError(`it is of version ${version}, and this build knows ${VERSION}`)
}

/** Reads a file in pieces of a given length; a shorter one is the last. */
class FileReader {
  readonly #source: AsyncIterator<Buffer>
  #rest: Buffer = Buffer.alloc(0)

  constructor(file: string) {
    this.#source = createReadStream(file, { highWaterMark: PART_BYTES_MAX })[Symbol.asyncIterator]()
  }

  async take(length: number): Promise<Buffer> {
    while (this.#rest.length < length) {
      const { value, done } = await this.#source.next()
      if (done === true) break
      this.#rest = this.#rest.length === 0 ? value : Buffer.concat([this.#rest, value])
    }
    const taken = this.#rest.subarray(0, length)
    this.#rest = this.#rest.subarray(length)
    return taken
  }
}
