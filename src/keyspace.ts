/*
 * The state machine behind the log: applies each entry by running its commands over the state
 * store, and runs reads against what is applied. Applying is the same on every node to the bit: it
 * reads nothing but the entry and the state, its clock is the logged one, and a command that fails
 * leaves nothing behind. Who waits for a reply is registered per entry, so that a node where nobody
 * waits keeps none. It knows no log, peer or socket.
 */

import { Buffer } from 'node:buffer'
import { AssertionError, assert } from '../raft/assert.ts'
import type { StateMachine } from '../raft/ports.ts'
import type { Entry, Index, Membership, Term } from '../raft/types.ts'
import { ErrorReply, OK, type Reply } from '../resp/encoder.ts'
import { decodeCommands, type LoggedCommand } from '../storage/codec.ts'
import type { StateStore, StoredValue } from '../storage/state-store.ts'
import { argument, isWord } from './commands/arguments.ts'
import {
  type Args,
  CommandError,
  type Database,
  type ReadCommand,
  type ReadonlyDatabase,
  type WriteCommand,
} from './commands/command.ts'
import { badDatabase } from './commands/connection.ts'
import { resolve, unknownCommand } from './commands/table.ts'
import { DATABASES } from './session.ts'

/** The part of the state store that applying and reading need. */
export type KeyspaceStore = Pick<
  StateStore,
  | 'get'
  | 'put'
  | 'delete'
  | 'clear'
  | 'size'
  | 'commitEntry'
  | 'appliedIndex'
  | 'clock'
  | 'canWrite'
  | 'hashKey'
  | 'setHashKey'
>

/** One command of an entry that this node proposed, and who waits for its reply. */
export interface BatchItem {
  /**
   * A write is the entry's next command. A read rides: it is not in the entry, and runs on this
   * node only, after the items before it and before those behind it.
   */
  readonly command: ReadCommand | WriteCommand
  readonly database: number
  readonly args: Args
  /**
   * Called once, inside apply: encode and return, start nothing. The memory behind `reply` is only
   * valid during this call. `index` is that of the entry.
   */
  answer(reply: Reply, index: Index): void
}

/** What this node waits for at one index of the log. */
export interface Batch {
  /** The term in which it was proposed. */
  readonly term: Term
  /** The entry's commands in order, riders among them. */
  readonly items: readonly BatchItem[]
  /**
   * Instead of every answer: another entry was committed at this index, so none of the writes
   * happened or will.
   */
  overwritten(): void
}

export interface ApplyObserver {
  /**
   * The entry is part of the state now: reads that waited for its index may run, from inside this
   * call too.
   */
  applied(index: Index, term: Term): void
  /**
   * A handler has a bug; every node answered the same error and changed nothing. For the log of the
   * node.
   */
  internalError(index: Index, command: string, error: unknown): void
}

/** A name that no client's command can have, because it is in no table. */
const HASH_KEY_NAME = 'holdfast.hash-key'

/**
 * The command that a new cluster logs first: the random key by which positions of keys are hashed.
 */
export function hashKeyCommand(key: Uint8Array): LoggedCommand {
  return { database: 0, argv: [Buffer.from(HASH_KEY_NAME), key] }
}

const internalError = new ErrorReply('ERR internal error')

export class Keyspace implements StateMachine {
  readonly #store: KeyspaceStore
  readonly #observer: ApplyObserver
  readonly #batches = new Map<Index, Batch>()
  readonly #reader: View
  readonly #overlay: Overlay

  constructor(store: KeyspaceStore, observer: ApplyObserver) {
    this.#store = store
    this.#observer = observer
    this.#reader = new View(store)
    this.#overlay = new Overlay(store)
  }

  appliedIndex(): Index {
    return this.#store.appliedIndex()
  }

  canApply(): boolean {
    return this.#store.canWrite()
  }

  /** The logical clock of everything applied, in ms: a leader's clock starts from it. */
  clock(): number {
    return this.#store.clock()
  }

  /** Number of keys of one database. */
  size(database: number): number {
    return this.#store.size(database)
  }

  /**
   * Registers who waits for the entry just proposed at `index`. A batch that was registered there
   * before belongs to an entry that has left this node's log; it was or will be answered by its
   * deadline.
   */
  expect(index: Index, batch: Batch): void {
    assert(index > this.appliedIndex(), () => `entry ${index} is applied already`)
    this.#batches.set(index, batch)
  }

  /** Nobody waits any longer at `index` for this batch. */
  forget(index: Index, batch: Batch): void {
    if (this.#batches.get(index) === batch) this.#batches.delete(index)
  }

  apply(entry: Entry): void {
    const { index, term, payload } = entry
    assert(index === this.appliedIndex() + 1, () => `apply ${index} after ${this.appliedIndex()}`)
    const batch = this.#take(index, term)
    if (payload.type === 'commands') {
      const { at, commands } = decodeCommands(payload.data)
      this.#run(index, commands, batch)
      this.#commit(entry, Math.max(this.clock(), at))
    } else {
      assert(batch === undefined, () => `a batch waits at ${index}, where a ${payload.type} is`)
      const membership = payload.type === 'membership' ? payload.membership : undefined
      this.#commit(entry, this.clock(), membership)
    }
    this.#observer.applied(index, term)
  }

  /**
   * Runs a read now, against what is applied. The reply's memory is valid until the next call of
   * anything here.
   */
  read(command: ReadCommand, database: number, args: Args): Reply {
    if (database >= DATABASES) return badDatabase.reply
    const reader = this.#reader
    reader.begin(database)
    try {
      return command.run(reader, args)
    } catch (error) {
      return this.#failure(error, reader, this.appliedIndex(), command.name)
    }
  }

  #take(index: Index, term: Term): Batch | undefined {
    const batch = this.#batches.get(index)
    if (batch === undefined) return undefined
    this.#batches.delete(index)
    if (batch.term === term) return batch
    batch.overwritten()
    return undefined
  }

  #run(index: Index, commands: readonly LoggedCommand[], batch: Batch | undefined): void {
    if (batch === undefined) {
      for (const command of commands) this.#write(index, command)
      return
    }
    let next = 0
    for (const item of batch.items) {
      if (item.command.kind === 'read') {
        item.answer(this.read(item.command, item.database, item.args), index)
      } else {
        const command = commands[next++]
        assert(command !== undefined, () => `entry ${index} has ${commands.length} commands`)
        item.answer(this.#write(index, command), index)
      }
    }
    assert(next === commands.length, () => `${next} of entry ${index}'s commands were awaited`)
  }

  /** One logged command: all of it or, with an error, nothing of it. */
  #write(index: Index, { database, argv }: LoggedCommand): Reply {
    const command = resolve(argv)
    if (command instanceof ErrorReply) return this.#internalCommand(argv) ?? command
    // The router logs writes only, but what stands in the log must be answered, not survived by a
    // crash loop.
    if (command.kind !== 'write') return unknownCommand(argv)
    if (database >= DATABASES) return badDatabase.reply
    const overlay = this.#overlay
    overlay.beginWrite(database, index)
    let reply: Reply
    try {
      reply = command.run(overlay, argv)
    } catch (error) {
      return this.#failure(error, overlay, index, command.name)
    }
    if (!(reply instanceof ErrorReply)) overlay.commit()
    return reply
  }

  /** The one command that no client can send, under a name that is in no table. */
  #internalCommand(argv: Args): Reply | undefined {
    if (!isWord(argument(argv, 0), HASH_KEY_NAME)) return undefined
    // Two bootstraps may race for the first entry; the log decides which key it is.
    if (this.#store.hashKey() === undefined) this.#store.setHashKey(argument(argv, 1))
    return OK
  }

  #commit({ index, term }: Entry, clock: number, membership?: Membership): void {
    this.#store.commitEntry(
      membership === undefined ? { index, term, clock } : { index, term, clock, membership },
    )
  }

  /** The reply for whatever a handler threw; throws on what must end the process. */
  #failure(error: unknown, db: View, index: Index, command: string): Reply {
    if (error instanceof CommandError) return error.reply
    if (db.storeFailed || isOfThisNode(error)) throw error
    this.#observer.internalError(index, command, error)
    return internalError
  }
}

/**
 * Whether another node might not throw the same: it must not become a reply, because then the
 * nodes' states part. AssertionErrors end the process anywhere; running out of memory or stack
 * depends on the machine.
 */
function isOfThisNode(error: unknown): boolean {
  if (error instanceof AssertionError) return true
  return (
    error instanceof RangeError &&
    /call stack|allocation failed|failed to allocate/i.test(error.message)
  )
}

/** A read handler's view of one database; made once, so that a read allocates nothing. */
class View implements ReadonlyDatabase {
  readonly store: KeyspaceStore
  database = 0
  /** The error in flight came from the store: a fault of this node, never a reply. */
  storeFailed = false

  constructor(store: KeyspaceStore) {
    this.store = store
  }

  begin(database: number): void {
    this.database = database
  }

  get(key: string): StoredValue | undefined {
    try {
      return this.store.get(this.database, key)
    } catch (error) {
      this.storeFailed = true
      throw error
    }
  }

  size(): number {
    return this.store.size(this.database)
  }
}

/** A write handler's view: holds its writes back until the whole command has succeeded. */
class Overlay extends View implements Database {
  /** undefined: deleted. */
  readonly #writes = new Map<string, StoredValue | undefined>()
  #cleared = false
  #version: Index = 0

  beginWrite(database: number, version: Index): void {
    this.begin(database)
    this.#version = version
    this.#cleared = false
    // Only what a failed command left: clearing a Map allocates, and this runs for every command.
    if (this.#writes.size > 0) this.#writes.clear()
  }

  override get(key: string): StoredValue | undefined {
    const written = this.#writes.get(key)
    if (written !== undefined || this.#cleared || this.#writes.has(key)) return written
    return super.get(key)
  }

  override size(): number {
    let size = this.#cleared ? 0 : super.size()
    for (const [key, value] of this.#writes) {
      const before = this.#cleared ? undefined : super.get(key)
      size += (value === undefined ? 0 : 1) - (before === undefined ? 0 : 1)
    }
    return size
  }

  put(key: string, value: Uint8Array): void {
    this.#writes.set(key, { type: 'string', expireAt: 0, version: this.#version, value })
  }

  delete(key: string): boolean {
    if (this.get(key) === undefined) return false
    this.#writes.set(key, undefined)
    return true
  }

  clear(): void {
    this.#writes.clear()
    this.#cleared = true
  }

  /** Hands the writes to the store. Whatever it throws is a fault of this node. */
  commit(): void {
    const { store, database } = this
    if (this.#cleared) store.clear(database)
    for (const [key, value] of this.#writes) {
      if (value === undefined) store.delete(database, key)
      else store.put(database, key, value)
    }
    this.#writes.clear()
  }
}
