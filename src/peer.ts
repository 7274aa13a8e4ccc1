/*
 * One other node: the links we make to it, the links it made to us, and which of them count: the newest of each
 * kind, and none of a process of it that has ended. It must not know how links are made, nor raft's messages,
 * nor the other nodes; peers.ts does.
 */

import type { NodeId } from '../raft/types.ts'
import type { Dialler } from './peer-dialler.ts'
import { type Identity, type LinkKind, linkKinds } from './peer-handshake.ts'
import type { LinkEnd, PeerLink } from './peer-link.ts'

export interface PeerStats {
  /** undefined: an entry of the `cluster` list whose node is not known yet. */
  readonly id: NodeId | undefined
  readonly address: string
  /** Control links stand in both directions. */
  readonly up: boolean
  /** Waiting on the links to it. */
  readonly queuedBytes: Readonly<Record<LinkKind, number>>
  readonly bytesIn: number
  readonly bytesOut: number
  readonly messagesIn: number
  readonly messagesOut: number
  /** Messages of raft that found no link or no room. */
  readonly messagesDropped: number
  /** Why the last control link to it ended; undefined while there is one. */
  readonly error: string | undefined
  /** That was because no node answered there: a wrong address looks like that. */
  readonly unanswered: boolean
}

export class Peer {
  /** undefined: an entry of the `cluster` list, known by its address only. */
  readonly id: NodeId | undefined
  readonly address: string
  readonly #diallers = new Map<LinkKind, Dialler>()
  readonly #accepted = new Map<LinkKind, PeerLink>()
  /** Of its latest process; undefined while none was seen. */
  #identity: Identity | undefined
  #up = false
  #error: string | undefined
  #unanswered = false
  /** Of links that have ended. */
  readonly #past = { bytesIn: 0, bytesOut: 0, messagesIn: 0, messagesOut: 0 }
  messagesDropped = 0

  constructor(id: NodeId | undefined, address: string) {
    this.id = id
    this.address = address
  }

  get isUp(): boolean {
    return this.#up
  }

  get identity(): Identity | undefined {
    return this.#identity
  }

  /** -1 while no process of it was seen. */
  get incarnation(): number {
    return this.#identity?.incarnation ?? -1
  }

  /** Keeps a link of this kind alive from now on; an entry of the list has only the control link. */
  keep(kind: LinkKind, dialler: Dialler): void {
    this.#diallers.set(kind, dialler)
    dialler.start()
  }

  /** The link to it that may carry messages of this kind now. */
  link(kind: LinkKind): PeerLink | undefined {
    return this.#diallers.get(kind)?.established
  }

  /** Takes a link that it made to us; an older one of the same kind gives way. */
  accept(link: PeerLink): void {
    const older = this.#accepted.get(link.kind)
    this.#accepted.set(link.kind, link)
    older?.close('replaced by a newer link')
    if (link.kind !== 'control') return
    for (const dialler of this.#diallers.values()) dialler.wake()
  }

  /** True when `other` is a process of it not seen before; the links of earlier ones are closed then. */
  renew(other: Identity): boolean {
    if (other.incarnation <= this.incarnation) return false
    this.#identity = other
    const links = linkKinds.flatMap((kind) => [this.link(kind), this.#accepted.get(kind)])
    for (const link of links) {
      if (link !== undefined && link.other.incarnation < other.incarnation) {
        link.close('the peer has restarted')
      }
    }
    return true
  }

  /** A link to it has ended. */
  dialledEnded(kind: LinkKind, link: PeerLink, end: LinkEnd): void {
    this.#diallers.get(kind)?.ended(link)
    if (kind === 'control') {
      this.#error = describeEnd(end)
      this.#unanswered = end.type === 'broken'
    }
    this.#account(link)
  }

  /** A link that it made to us has ended. False when a newer one had taken its place. */
  acceptedEnded(link: PeerLink): boolean {
    this.#account(link)
    if (this.#accepted.get(link.kind) !== link) return false
    this.#accepted.delete(link.kind)
    return true
  }

  /** Whether both can reach each other now, if that is news. */
  settle(): 'up' | 'down' | undefined {
    const up = this.link('control') !== undefined && this.#accepted.has('control')
    if (up === this.#up) return undefined
    this.#up = up
    return up ? 'up' : 'down'
  }

  sweep(): void {
    for (const dialler of this.#diallers.values()) dialler.sweep()
    for (const link of [...this.#accepted.values()]) link.sweep()
  }

  /** Ends every link, for good. */
  dismiss(reason: string): void {
    for (const dialler of this.#diallers.values()) dialler.stop(reason)
    for (const link of [...this.#accepted.values()]) link.close(reason)
  }

  stats(): PeerStats {
    const total = { ...this.#past }
    for (const kind of linkKinds) {
      addCounters(total, this.#diallers.get(kind)?.link)
      addCounters(total, this.#accepted.get(kind))
    }
    const queued = (kind: LinkKind): number => this.link(kind)?.queuedBytes ?? 0
    return {
      id: this.id,
      address: this.address,
      up: this.#up,
      queuedBytes: {
        control: queued('control'),
        append: queued('append'),
        forward: queued('forward'),
        snapshot: queued('snapshot'),
      },
      ...total,
      messagesDropped: this.messagesDropped,
      error: this.link('control') === undefined ? this.#error : undefined,
      unanswered: this.link('control') === undefined && this.#unanswered,
    }
  }

  #account(link: PeerLink): void {
    addCounters(this.#past, link)
  }
}

/** One line for a person: why a link ended. */
export function describeEnd(end: LinkEnd): string {
  switch (end.type) {
    case 'refused':
      return end.refusal.text
    case 'violated':
      return end.error.message
    case 'broken':
      return end.text
  }
}

function addCounters(total: PeerLink['counters'], link: PeerLink | undefined): void {
  if (link === undefined) return
  total.bytesIn += link.counters.bytesIn
  total.bytesOut += link.counters.bytesOut
  total.messagesIn += link.counters.messagesIn
  total.messagesOut += link.counters.messagesOut
}
