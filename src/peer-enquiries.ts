/*
 * Connections that never become links: a probe learns who is at an address, and a joiner asks a member to be made one.
 * Both are answered by a refusal, which says who refuses. It must not know what follows from the answers.
 */

import { assert } from '../raft/assert.ts'
import type { Random } from '../raft/ports.ts'
import { type Network, parseAddress, type Timers } from './network.ts'
import { describeEnd } from './peer.ts'
import type { Refusal } from './peer-admission.ts'
import { Dialler } from './peer-dialler.ts'
import { DialHandshake, type HandshakeOptions, type Identity } from './peer-handshake.ts'
import { type LinkEnd, type PeerLimits, PeerLink } from './peer-link.ts'

/** Probes at once; one more is refused. */
const PROBES_MAX = 16

export interface EnquiriesOptions {
  readonly network: Network
  readonly timers: Timers
  readonly random: Random
  readonly limits: PeerLimits
  readonly credentials: () => Pick<HandshakeOptions, 'self' | 'secret' | 'nonce'>
  readonly admitAddress: (remoteAddress: string) => Refusal | undefined
  /** An attempt to join has ended, as all of them do. */
  readonly joinRefused: (link: PeerLink, end: LinkEnd) => void
  /** Nobody answered there as a node does: an address that is wrong looks like that, too. */
  readonly joinUnanswered: (address: string, why: string) => void
}

export class Enquiries {
  readonly #options: EnquiriesOptions
  readonly #probes = new Set<PeerLink>()
  #joiner: Dialler | undefined

  constructor(options: EnquiriesOptions) {
    this.#options = options
  }

  /** What the node at `address` says of itself; a text: why nobody can be asked there. */
  probe(address: string): Promise<Identity | string> {
    if (this.#probes.size >= PROBES_MAX) return Promise.resolve('too many nodes are being asked')
    return new Promise((resolve) => {
      const link = this.#dial('probe', address, (end) => {
        this.#probes.delete(link)
        const other = end.type === 'refused' ? end.other : undefined
        resolve(other ?? `${address} does not answer as a node of Holdfast: ${describeEnd(end)}`)
      })
      this.#probes.add(link)
    })
  }

  /** Asks the nodes at these addresses in turn, without end: whoever is asked may be unable to help just then. */
  askToJoin(addresses: readonly string[]): void {
    const { timers, random, joinRefused, joinUnanswered } = this.#options
    let attempt = 0
    const joiner = new Dialler({
      timers,
      random,
      dial: () => {
        const address = addresses[attempt++ % addresses.length] ?? ''
        const link = this.#dial('join', address, (end) => {
          joiner.ended(link)
          // What this node has ended itself is no news.
          if (this.#joiner !== joiner) return
          if (end.type === 'broken') joinUnanswered(address, describeEnd(end))
          else joinRefused(link, end)
        })
        return link
      },
    })
    this.#joiner = joiner
    joiner.start()
  }

  /** This node is a member: nobody needs to be asked any more. */
  joined(): void {
    this.#endJoining('this node is a member')
  }

  sweep(): void {
    for (const link of [...this.#probes]) link.sweep()
    this.#joiner?.sweep()
  }

  close(): void {
    for (const link of [...this.#probes]) link.close('shutting down')
    this.#endJoining('shutting down')
  }

  #endJoining(text: string): void {
    const joiner = this.#joiner
    this.#joiner = undefined
    joiner?.stop(text)
  }

  #dial(kind: 'join' | 'probe', address: string, ended: (end: LinkEnd) => void): PeerLink {
    const target = parseAddress(address)
    assert(target !== undefined, () => `${address} is no address`)
    const { network, limits, credentials, admitAddress } = this.#options
    const link = new PeerLink({
      connection: network.dial(target.host, target.port),
      role: 'dialler',
      handshake: new DialHandshake({
        ...credentials(),
        kind,
        receiver: { id: undefined, address },
        admit: () => undefined,
      }),
      queueBytesMax: 0,
      messageBytesMax: limits.messageBytes,
      handler: {
        admitAddress,
        established: () => assert(false, () => `a ${kind} became a link`),
        received: () => {},
        closed: (_, end) => ended(end),
      },
    })
    link.start()
    return link
  }
}
