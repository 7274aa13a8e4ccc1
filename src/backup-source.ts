/*
 * Gives a backup of this node's state to a client, as the parts of a snapshot (snapshot-messages.ts), one for each time
 * that it asks: so the client sets the pace, and nothing is kept for it. What it is given was confirmed by the leader
 * and is durable here. One backup at a time, which belongs to the connection that began it. It knows no socket, and not
 * what becomes of the parts.
 */

import type { StateStream } from '../storage/engine.ts'
import type { StateStore } from '../storage/state-store.ts'
import type { Checkpoints } from './checkpoints.ts'
import { limits } from './config.ts'
import type { Logger } from './logger.ts'
import type { Cancel, Timers } from './network.ts'
import type { Session } from './session.ts'
import { encodeToReceiver, type ToReceiver } from './snapshot-messages.ts'

export interface BackupSourceOptions {
  readonly state: StateStore
  readonly timers: Timers
  readonly log: Logger
  /** Resolves with undefined when this node has served a linearizable read, else with why it could not. */
  readonly ready: () => Promise<string | undefined>
  readonly checkpoints: Pick<Checkpoints, 'save'>
}

/** What a client asked for cannot be had; in words for an operator. */
export class BackupError extends Error {
  override readonly name = 'BackupError'
  readonly code = 'BACKUP'
}

/** The session number of every backup: each connection carries one only. */
const SESSION = 1

export class BackupSource {
  readonly #options: BackupSourceOptions
  #open: OpenBackup | undefined
  /** Settles when no stream is being opened. */
  #opening: Promise<void> = Promise.resolve()
  /** Streams that are being closed: the state may not be closed before them. */
  readonly #closing = new Set<Promise<void>>()

  constructor(options: BackupSourceOptions) {
    this.#options = options
  }

  /**
   * The first part: the state holds every write that was acknowledged before the call. Rejects with BackupError where
   * no leader confirms it, or another connection is at it.
   */
  begin(owner: Session): Promise<Uint8Array> {
    const current = this.#open
    const isRead = current !== undefined && !current.ended && !current.owner.isClosed
    if (isRead && current.owner !== owner) {
      const reason = 'another connection is reading a backup of this node'
      return Promise.reject(new BackupError(reason))
    }
    if (current !== undefined) this.#drop(current)
    const backup = new OpenBackup(owner)
    this.#open = backup
    const first = this.#begin(backup)
    backup.work = first
    return first
  }

  /** The next part; undefined behind the last one. Calls are answered in their order. */
  next(owner: Session): Promise<Uint8Array | undefined> {
    const backup = this.#open
    if (backup?.owner !== owner) {
      return Promise.reject(new BackupError('this connection is reading no backup'))
    }
    const part = backup.work.then(() => this.#part(backup))
    backup.work = part
    return part
  }

  /** The state is another one now, so the rest of the old one is not worth reading. */
  giveUp(): void {
    if (this.#open !== undefined) this.#drop(this.#open)
  }

  /** Gives nothing any more; resolves when the state is read by nobody. */
  async close(): Promise<void> {
    this.giveUp()
    await this.#opening
    await Promise.all(this.#closing)
  }

  async #begin(backup: OpenBackup): Promise<Uint8Array> {
    const { ready, state, checkpoints, log } = this.#options
    try {
      const reason = await ready()
      if (reason !== undefined) throw new BackupError(reason)
      await checkpoints.save()
      this.#require(backup)
      await this.#openStream(backup)
      this.#require(backup)
    } catch (error) {
      this.#drop(backup)
      throw error
    }
    this.#arm(backup)
    const { index, term } = state.durableAt()
    log.info({ index, client: backup.owner.address }, 'giving a backup')
    return encoded({ type: 'begin', session: SESSION, term })
  }

  #openStream(backup: OpenBackup): Promise<void> {
    this.#opening = this.#opening.then(async () => {
      backup.stream = await this.#options.state.stream(limits.snapshotChunkBytes)
      // Nobody else would: it was dropped before it had a stream.
      if (this.#open !== backup) this.#close(backup)
    })
    return this.#opening
  }

  async #part(backup: OpenBackup): Promise<Uint8Array | undefined> {
    this.#require(backup)
    this.#arm(backup)
    const { stream, offset } = backup
    if (stream === undefined || backup.ended) return undefined
    const chunk = await stream.next()
    this.#require(backup)
    if (chunk !== undefined) {
      backup.offset += chunk.length
      return encoded({ type: 'chunk', session: SESSION, offset, bytes: chunk })
    }
    backup.ended = true
    this.#close(backup)
    this.#options.log.info({ bytes: offset, client: backup.owner.address }, 'backup given')
    return encoded({ type: 'end', session: SESSION, offset })
  }

  /** It may have been dropped while something was waited for. */
  #require(backup: OpenBackup): void {
    if (this.#open !== backup) throw new BackupError('the backup was given up')
  }

  /** Whoever asks for nothing for so long keeps pages of the state in use for nothing. */
  #arm(backup: OpenBackup): void {
    backup.cancelTimer?.()
    backup.cancelTimer = this.#options.timers.after(limits.snapshotPatienceMs, () => {
      this.#drop(backup)
    })
  }

  #drop(backup: OpenBackup): void {
    if (this.#open === backup) this.#open = undefined
    backup.cancelTimer?.()
    this.#close(backup)
  }

  #close(backup: OpenBackup): void {
    const { stream } = backup
    backup.stream = undefined
    if (stream === undefined) return
    const closing = stream.close().finally(() => this.#closing.delete(closing))
    this.#closing.add(closing)
  }
}

class OpenBackup {
  readonly owner: Session
  stream: StateStream | undefined
  /** Bytes of the stream that were given. */
  offset = 0
  ended = false
  /** What was asked for last; what is asked for next waits for it. */
  work: Promise<Uint8Array | undefined> = Promise.resolve(undefined)
  cancelTimer: Cancel | undefined

  constructor(owner: Session) {
    this.owner = owner
  }
}

function encoded(message: ToReceiver): Uint8Array {
  return Buffer.concat(encodeToReceiver(message))
}
