/*
 * One link between two peers over one connection: the handshake first, then messages in order, each way from
 * a bounded queue. It owns the pace (what is handed to the connection is bounded, the rest waits here), the
 * signs of life and the end. It must not know raft, nor what its messages say, nor other links: peers.ts does.
 *
 * Signs of life: the dialler sends a ping whenever it has nothing else on its way, the acceptor answers traffic
 * of any kind with at most one pong per sweep. Silence is counted in sweeps and not in time, so that a process
 * that was itself stopped for a while (SIGSTOP) does not take its own silence for the other side's.
 */

import { assert } from '../raft/assert.ts'
import type { Origin } from '../storage/codec.ts'
import type { Connection } from './network.ts'
import type { Refusal } from './peer-admission.ts'
import {
  type Body,
  type FrameKind,
  FrameReader,
  frame,
  frameBatch,
  frameKinds,
  type Outgoing,
  outgoing,
  PeerProtocolError,
} from './peer-frame.ts'
import {
  HANDSHAKE_BYTES_MAX,
  type Handshake,
  type Identity,
  type LinkKind,
  type Outcome,
  refusedFrame,
} from './peer-handshake.ts'

/** What may lie in the connection before more is framed for it; the queue holds the rest. */
const WRITE_AHEAD_BYTES = 1_048_576
/** What a queued message counts for besides its bytes, so that a million empty ones are bounded too. */
const QUEUED_OVERHEAD_BYTES = 64
/** Sweeps without a byte from the other side after which the link is given up. */
const SILENT_SWEEPS_MAX = 4
/** Sweeps within which a connection must be established and the handshake done. */
const HANDSHAKE_SWEEPS_MAX = 4

const ping = frame(frameKinds.ping, new Uint8Array(0))
const pong = frame(frameKinds.pong, new Uint8Array(0))

/** Bytes that may wait on one link, and in one message. */
export interface PeerLimits {
  readonly queueBytes: Readonly<Record<LinkKind, number>>
  /** Above every entry and forwarded body that this cluster's options allow; alike on all nodes. */
  readonly messageBytes: number
}

/** Answers the forwarded bodies of one connection, on that connection. The same object for all of them. */
export interface ForwardChannel {
  /** Who sends them. */
  readonly origin: Origin
  /** For the next flush. False: the connection is gone (also because its answers were not read). */
  reply(body: Body): boolean
  /** False while so much waits to be sent that a body of this size should wait for a later turn. */
  hasRoomFor(bytes: number): boolean
}

/** Why a link ended. */
export type LinkEnd =
  | Extract<Outcome, { type: 'refused' }>
  /** The other side broke the protocol. */
  | { readonly type: 'violated'; readonly error: PeerProtocolError }
  /** The connection ended, could not be made, fell silent, or was given up by us. */
  | { readonly type: 'broken'; readonly text: string }

export interface LinkHandler {
  /** Asked as soon as the other side's address is known, before a byte is sent. undefined: go on. */
  admitAddress(remoteAddress: string): Refusal | undefined
  established(link: PeerLink): void
  /** A message that came after the handshake. May throw PeerProtocolError, which ends the link. */
  received(link: PeerLink, kind: FrameKind, bytes: Uint8Array): void
  /** Once, and last. */
  closed(link: PeerLink, end: LinkEnd): void
}

export interface LinkOptions {
  readonly connection: Connection
  readonly role: 'dialler' | 'acceptor'
  readonly handshake: Handshake
  readonly handler: LinkHandler
  /** The bound of what waits here. One message is always taken when nothing waits. */
  readonly queueBytesMax: number
  readonly messageBytesMax: number
}

export class PeerLink {
  readonly role: 'dialler' | 'acceptor'
  readonly #options: LinkOptions
  readonly #connection: Connection
  readonly #reader = new FrameReader(HANDSHAKE_BYTES_MAX)
  #state: 'greeting' | 'established' | 'closed' = 'greeting'
  #established: { readonly other: Identity; readonly kind: LinkKind } | undefined

  /** Messages not yet entirely handed to the connection, from `#head` on. */
  #queue: Outgoing[] = []
  #head = 0
  #queuedBytes = 0
  #paused = false

  #sweeps = 0
  #silentSweeps = 0
  #pongSent = false

  /** Since the link was made, for INFO. */
  readonly counters = { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0 }

  constructor(options: LinkOptions) {
    this.#options = options
    this.#connection = options.connection
    this.role = options.role
  }

  /** Begins the handshake. In the turn in which the connection was dialled or accepted. */
  start(): void {
    this.#connection.start({
      opened: () => this.#greet(),
      received: (bytes) => this.#received(bytes),
      finished: () => this.#close({ type: 'broken', text: 'closed by the other side' }),
      drained: () => this.#drained(),
      closed: (error) =>
        this.#close({ type: 'broken', text: error?.message ?? 'closed by the other side' }),
    })
    if (this.role === 'acceptor') this.#greet()
  }

  get isEstablished(): boolean {
    return this.#state === 'established'
  }

  get isClosed(): boolean {
    return this.#state === 'closed'
  }

  /** Whether it ever was established. */
  get wasEstablished(): boolean {
    return this.#established !== undefined
  }

  /** Who the other side proved to be. Only of a link that is or was established. */
  get other(): Identity {
    assert(this.#established !== undefined, () => 'the other side of a link is not known yet')
    return this.#established.other
  }

  get kind(): LinkKind {
    assert(this.#established !== undefined, () => 'the kind of a link is not known yet')
    return this.#established.kind
  }

  get remoteAddress(): string {
    return this.#connection.remoteAddress
  }

  /** Bytes that wait here, those handed to the connection not included. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /** Whether the queue would be at most half full with that many bytes more, or takes them because it is empty. */
  hasRoomFor(bytes: number): boolean {
    const queued = this.#queuedBytes
    return queued === 0 || queued + bytes <= this.#options.queueBytesMax / 2
  }

  /** Messages of which not one byte was handed to the connection: the last ones that enqueue() took. */
  get unsent(): number {
    const begun = (this.#queue[this.#head]?.offset ?? 0) > 0 ? 1 : 0
    return this.#queue.length - this.#head - begun
  }

  /** Takes a message for the next flush(). False: not established, or the queue is full; nothing was taken. */
  enqueue(kind: FrameKind, body: Body): boolean {
    if (this.#state !== 'established') return false
    const message = outgoing(kind, body)
    assert(
      message.length <= this.#options.messageBytesMax,
      () => `a message of ${message.length} bytes is over the limit of every receiver`,
    )
    const size = message.length + QUEUED_OVERHEAD_BYTES
    if (this.#queuedBytes > 0 && this.#queuedBytes + size > this.#options.queueBytesMax)
      return false
    this.#queue.push(message)
    this.#queuedBytes += size
    // Whoever does not read our answers gets no more questions in: the queue of answers stays bounded.
    if (this.role === 'acceptor' && this.#queuedBytes > this.#options.queueBytesMax / 2) {
      this.#paused = true
      this.#connection.pause()
    }
    return true
  }

  /**
   * Hands over what the connection may take now: everything queued in this turn in one write, if it is small. The
   * rest goes from turn to turn, even where the system would take it all at once: framing and copying a large
   * message in one go would hold up the heartbeats of every link.
   */
  flush(): void {
    if (this.#state !== 'established') return
    while (this.#head < this.#queue.length) {
      if (this.#connection.bufferedBytes >= WRITE_AHEAD_BYTES) break
      const before = this.#head
      const { chunk, done } = frameBatch(this.#queue, before)
      for (let at = before; at < before + done; at++) {
        this.#queuedBytes -= (this.#queue[at]?.length ?? 0) + QUEUED_OVERHEAD_BYTES
      }
      this.#head += done
      this.counters.messagesOut += done
      if (!this.#write(chunk)) break
    }
    this.#trimQueue()
    if (this.#paused && this.#queuedBytes <= this.#options.queueBytesMax / 4) {
      this.#paused = false
      this.#connection.resume()
    }
  }

  /** Called at a steady pace: signs of life, and the end of links that show none. */
  sweep(): void {
    this.#sweeps++
    this.#pongSent = false
    if (this.#state === 'greeting') {
      if (this.#sweeps > HANDSHAKE_SWEEPS_MAX) this.close('no handshake in time')
      return
    }
    if (this.#state === 'closed') return
    this.#silentSweeps++
    if (this.#silentSweeps > SILENT_SWEEPS_MAX) this.close('silent for too long')
    else if (this.role === 'dialler' && this.#connection.bufferedBytes === 0) this.#write(ping)
  }

  /** Gives the link up at once; what was not sent is dropped. */
  close(text: string): void {
    this.#close({ type: 'broken', text })
  }

  #greet(): void {
    if (this.#state === 'closed') return
    const refusal = this.#options.handler.admitAddress(this.#connection.remoteAddress)
    if (refusal !== undefined) {
      if (this.role === 'acceptor') this.#write(refusedFrame(refusal))
      this.#close({ type: 'refused', refusal, other: undefined, byOther: false })
      return
    }
    const hello = this.#options.handshake.begin()
    if (hello !== undefined) this.#write(hello)
  }

  #received(bytes: Uint8Array): void {
    if (this.#state === 'closed') return
    this.counters.bytesIn += bytes.length
    this.#silentSweeps = 0
    if (this.role === 'acceptor' && this.#state === 'established' && !this.#pongSent) {
      this.#pongSent = true
      this.#write(pong)
    }
    try {
      this.#reader.push(bytes, (kind, message) => this.#deliver(kind, message))
    } catch (error) {
      if (!(error instanceof PeerProtocolError)) throw error
      this.#close({ type: 'violated', error })
    }
  }

  #deliver(kind: FrameKind, message: Uint8Array): boolean {
    if (this.#state === 'greeting') this.#stepHandshake(kind, message)
    else if (kind < frameKinds.ping) {
      throw new PeerProtocolError('BADFRAME', 'a handshake on an established link')
    } else if (kind > frameKinds.pong) {
      this.counters.messagesIn++
      this.#options.handler.received(this, kind, message)
    }
    return !this.isClosed
  }

  #stepHandshake(kind: FrameKind, message: Uint8Array): void {
    const { send, outcome } = this.#options.handshake.step(kind, message)
    if (send !== undefined) this.#write(send)
    if (outcome === undefined) return
    if (outcome.type === 'refused') {
      this.#close(outcome)
      return
    }
    this.#state = 'established'
    this.#established = outcome
    this.#reader.messageBytesMax = this.#options.messageBytesMax
    this.#options.handler.established(this)
  }

  #drained(): void {
    // An acceptor may have paused the reading itself, and then this is all it can hear. To a dialler it says
    // nothing: what the system took may never arrive.
    if (this.role === 'acceptor') this.#silentSweeps = 0
    this.flush()
  }

  /** False: the rest has to wait for #drained(). */
  #write(bytes: Uint8Array): boolean {
    this.counters.bytesOut += bytes.length
    return this.#connection.write(bytes)
  }

  /** Shifting one by one would copy the queue each time; the handed-over prefix goes when it is most of it. */
  #trimQueue(): void {
    if (this.#head < this.#queue.length / 2) return
    this.#queue = this.#queue.slice(this.#head)
    this.#head = 0
  }

  #close(end: LinkEnd): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    // An acceptor's refusal is a frame that still has to leave; nothing else is worth waiting for.
    if (end.type === 'refused' && this.role === 'acceptor') this.#connection.end()
    else this.#connection.destroy()
    this.#options.handler.closed(this, end)
    this.#queue = []
    this.#head = 0
    this.#queuedBytes = 0
  }
}
