/*
 * Sends this node's durable state to members that are too far behind for the log: raft's SnapshotSource. A worker
 * reads the state as it is at one moment, while writes and checkpoints go on; what is on its way is bounded, and kept
 * until the other side has taken it, so that a broken link costs nothing but the way. It does not know what the other
 * side makes of it, and whether it was any good is seen by raft.
 */

import type { SnapshotSource } from '../raft/ports.ts'
import type { Index, NodeId, Term } from '../raft/types.ts'
import type { Chunk, StateStream } from '../storage/engine.ts'
import type { StateStore } from '../storage/state-store.ts'
import { limits } from './config.ts'
import type { Logger } from './logger.ts'
import type { Cancel, Clock, Timers } from './network.ts'
import type { Body } from './peer-frame.ts'
import { decodeToSender, encodeToReceiver, type ToReceiver } from './snapshot-messages.ts'

export interface SnapshotSenderOptions {
  readonly state: StateStore
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  /** Whether there is a link to that member now. */
  readonly reaches: (to: NodeId) => boolean
  /** False: there is none. */
  readonly send: (to: NodeId, body: Body) => boolean
  /** RaftNode.snapshotEnded. */
  readonly ended: (to: NodeId, delivered: boolean) => void
}

export class SnapshotSender implements SnapshotSource {
  readonly #options: SnapshotSenderOptions
  readonly #sendings = new Map<NodeId, Sending>()
  /** Streams that are being closed: the state may not be closed before them. */
  readonly #closing = new Set<Promise<void>>()
  #sessions = 0

  constructor(options: SnapshotSenderOptions) {
    this.#options = options
  }

  send(to: NodeId, term: Term): Index | undefined {
    this.#end(to)
    // For a member that is away neither log nor pages of the state are kept.
    if (!this.#options.reaches(to)) return undefined
    if (this.#sendings.size + this.#closing.size >= limits.snapshotsSendingMax) return undefined
    const { index } = this.#options.state.durableAt()
    this.#options.log.info({ to, index }, 'sending a snapshot')
    const sending = new Sending(this.#options, { to, term, session: ++this.#sessions }, (outcome) =>
      this.#ended(to, sending, outcome),
    )
    this.#sendings.set(to, sending)
    sending.start()
    return index
  }

  cancel(to: NodeId): void {
    this.#end(to)
  }

  /** The link to a member came or went. */
  linkChanged(to: NodeId, change: 'up' | 'down'): void {
    this.#sendings.get(to)?.linkChanged(change)
  }

  /** Throws CodecError on bytes that are no answer. */
  received(from: NodeId, body: Uint8Array): void {
    const message = decodeToSender(body)
    const sending = this.#sendings.get(from)
    if (sending?.session !== message.session) return
    if (message.type === 'at') sending.taken(message.offset)
    else if (message.type === 'done') sending.end('delivered')
    else sending.end(message.reason)
  }

  /** Nothing is sent any more; resolves when the state is read by nobody. */
  async close(): Promise<void> {
    for (const to of [...this.#sendings.keys()]) this.#end(to)
    await Promise.all(this.#closing)
  }

  #end(to: NodeId): void {
    const sending = this.#sendings.get(to)
    if (sending === undefined) return
    this.#sendings.delete(to)
    this.#close(sending)
  }

  #ended(to: NodeId, sending: Sending, outcome: string): void {
    const { log, ended } = this.#options
    this.#sendings.delete(to)
    this.#close(sending)
    const delivered = outcome === 'delivered'
    const facts = { to, bytes: sending.sentBytes, ms: sending.ageMs }
    if (delivered) log.info(facts, 'snapshot delivered')
    else log.warn({ ...facts, reason: outcome }, 'a snapshot could not be delivered')
    ended(to, delivered)
  }

  #close(sending: Sending): void {
    const closing = sending.close().finally(() => this.#closing.delete(closing))
    this.#closing.add(closing)
  }
}

interface Sent {
  readonly offset: number
  readonly chunk: Chunk
}

/** One state on its way to one member. */
class Sending {
  readonly session: number
  readonly #options: SnapshotSenderOptions
  readonly #to: NodeId
  readonly #term: Term
  readonly #ended: (outcome: string) => void
  readonly #startedAt: number
  readonly #stream: Promise<StateStream>
  /** What was read and is not taken, oldest first; of which the first #onLink were said on this link. */
  #window: Sent[] = []
  #onLink = 0
  #endSaid = false
  /** How much was read, and taken. */
  #read = 0
  #taken = 0
  /** The other side has answered on this link. */
  #linked = false
  #reading = false
  #isOver = false
  #closed = false
  #cancelTimer: Cancel | undefined

  constructor(
    options: SnapshotSenderOptions,
    { to, term, session }: { to: NodeId; term: Term; session: number },
    ended: (outcome: string) => void,
  ) {
    this.#options = options
    this.#to = to
    this.#term = term
    this.session = session
    this.#ended = ended
    this.#startedAt = options.clock.monotonic()
    this.#stream = options.state.stream(limits.snapshotChunkBytes)
  }

  get sentBytes(): number {
    return this.#taken
  }

  get ageMs(): number {
    return Math.round(this.#options.clock.monotonic() - this.#startedAt)
  }

  start(): void {
    this.#greet()
  }

  linkChanged(change: 'up' | 'down'): void {
    if (this.#closed) return
    this.#linked = false
    if (change === 'up') this.#greet()
    else this.#arm(limits.snapshotPatienceMs, 'its link did not come back')
  }

  /** The other side has everything before `offset`: after a new link that is where to go on. */
  taken(offset: number): void {
    if (this.#closed) return
    const first = !this.#linked
    if (offset > this.#read || (first && offset < this.#taken)) {
      this.end(`it stands at ${offset}, and ${this.#taken} to ${this.#read} are here`)
      return
    }
    this.#linked = true
    this.#arm(limits.snapshotStallMs, 'it takes nothing any more')
    if (first) {
      this.#onLink = 0
      this.#endSaid = false
    }
    this.#taken = Math.max(this.#taken, offset)
    let done = 0
    for (const { offset: at, chunk } of this.#window) {
      if (at + chunk.length > this.#taken) break
      done++
    }
    this.#window.splice(0, done)
    this.#onLink = Math.max(0, this.#onLink - done)
    this.#pump()
  }

  end(outcome: string): void {
    if (!this.#closed) this.#ended(outcome)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#cancelTimer?.()
    this.#window = []
    this.#say({ type: 'abort', session: this.session })
    const stream = await this.#stream
    await stream.close()
  }

  #greet(): void {
    const said = this.#say({ type: 'begin', session: this.session, term: this.#term })
    this.#arm(
      said ? limits.snapshotStallMs : limits.snapshotPatienceMs,
      said ? 'it does not answer' : 'there is no link to it',
    )
  }

  /** Whatever the other side may take now: what was read before, then what comes next. */
  #pump(): void {
    while (this.#linked && this.#onLink < this.#window.length) {
      const next = this.#window[this.#onLink]
      if (next === undefined || !this.#sayChunk(next)) return
      this.#onLink++
    }
    if (!this.#linked || this.#reading) return
    if (this.#isOver) this.#sayEnd()
    else if (this.#read - this.#taken < limits.snapshotWindowBytes) void this.#readNext()
  }

  /** A rejection is fatal to the process: the engine has said so, and nobody catches it here. */
  async #readNext(): Promise<void> {
    this.#reading = true
    const stream = await this.#stream
    const chunk = this.#closed ? undefined : await stream.next()
    this.#reading = false
    if (this.#closed) return
    if (chunk === undefined) this.#isOver = true
    else {
      this.#window.push({ offset: this.#read, chunk })
      this.#read += chunk.length
    }
    this.#pump()
  }

  #sayChunk({ offset, chunk }: Sent): boolean {
    return this.#say({ type: 'chunk', session: this.session, offset, bytes: chunk })
  }

  #sayEnd(): void {
    if (this.#endSaid) return
    this.#endSaid = this.#say({ type: 'end', session: this.session, offset: this.#read })
  }

  #say(message: ToReceiver): boolean {
    return this.#options.send(this.#to, encodeToReceiver(message))
  }

  #arm(ms: number, reason: string): void {
    this.#cancelTimer?.()
    this.#cancelTimer = this.#options.timers.after(ms, () => this.end(reason))
  }
}
