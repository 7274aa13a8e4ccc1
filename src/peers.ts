/*
 * The other nodes, as raft's Transport and as the way of forwarded commands. It decides whom to know (the
 * membership, or the `cluster` list while this node is unbound), whom to let in, and what the server is told. It
 * runs on the ports of network.ts, so that the simulator runs this very code. It must not know what a message
 * means to raft, nor what a forwarded command is.
 */

import { assert } from '../raft/assert.ts'
import type { Transport } from '../raft/ports.ts'
import type { Index, Member, Message, NodeId } from '../raft/types.ts'
import { decodeMessage, encodeMessage } from '../storage/codec.ts'
import type { Acquaintances, Watcher } from './bootstrap.ts'
import {
  type Cancel,
  type Connection,
  isLoopback,
  type Listener,
  parseAddress,
  sameAddress,
} from './network.ts'
import { describeEnd, Peer, type PeerStats } from './peer.ts'
import { isTransient, judge, judgeJoiner, type Refusal } from './peer-admission.ts'
import { Dialler } from './peer-dialler.ts'
import { Enquiries } from './peer-enquiries.ts'
import { type Body, type FrameKind, frameKinds } from './peer-frame.ts'
import {
  AcceptHandshake,
  DialHandshake,
  type HandshakeOptions,
  type HelloKind,
  type Identity,
  type LinkKind,
  linkKinds,
  NONCE_BYTES,
} from './peer-handshake.ts'
import { type ForwardChannel, type LinkEnd, PeerLink } from './peer-link.ts'
import { badMessage, decodeNote, decoding, encodeNote, linkOf, type Note } from './peer-messages.ts'
import { introduced, type PeersOptions } from './peer-ports.ts'
import { RefusalLog } from './peer-refusals.ts'

/** The pace of signs of life; a link is given up after a few of these without any (peer-link.ts). */
const SWEEP_MS = 500
/** Accepted connections whose handshake is not done; one more ends the oldest of them. */
const GREETING_MAX = 64
/** All accepted connections together: far more than the links of any cluster. */
const CONNECTIONS_MAX = 1_024
/** Nodes that may be known while no membership says how many there are. */
const LEARNED_MAX = 256
const KEEP_ALIVE_MS = 30_000

export class Peers implements Transport, Acquaintances {
  readonly #options: PeersOptions
  readonly #refusals: RefusalLog
  /** What this node says of itself. */
  #self: Identity

  /** By id; by listed address while this node is unbound. */
  readonly #peers = new Map<string, Peer>()
  /** Accepted links whose handshake is not done, oldest first. */
  readonly #greeting = new Set<PeerLink>()
  readonly #channels = new WeakMap<PeerLink, ForwardChannel>()
  /** Links with something queued since the last flush(). */
  readonly #unflushed = new Set<PeerLink>()
  /** Members that lost an append since they were last reported. */
  readonly #lost = new Set<NodeId>()
  readonly enquiries: Enquiries

  #watcher: Watcher | undefined
  #listeners: Listener[] = []
  #cancelSweep: Cancel | undefined
  #closed = false

  constructor(options: PeersOptions) {
    this.#options = options
    this.#self = introduced(options)
    this.#refusals = new RefusalLog(options.log, options.clock)
    this.enquiries = new Enquiries({
      ...options,
      credentials: () => this.#credentials(),
      admitAddress: (remote) => this.#admitAddress(remote),
      joinRefused: (link, end) => this.#sayWhy(link, end),
      joinUnanswered: (at, why) => this.#refusals.say(at, why, `no member to ask at ${at}: ${why}`),
    })
  }

  /** Listens on each host and begins to dial. Throws OperatorError when an address cannot be listened on. */
  async open(hosts: readonly string[], port: number): Promise<void> {
    for (const host of hosts) {
      const listener = await this.#options.network.listen(
        { host, port, connectionsMax: CONNECTIONS_MAX, keepAliveMs: KEEP_ALIVE_MS },
        {
          accepted: (connection) => this.#accept(connection),
          failed: (error) => this.#refusals.say(host, error.message, 'cannot accept peers'),
        },
      )
      this.#listeners.push(listener)
    }
    if (this.#self.clusterId === undefined) {
      for (const address of this.#options.seeds) this.#add(undefined, address)
    }
    const { join } = this.#options
    if (join.length > 0) this.enquiries.askToJoin(join)
    this.#armSweep()
  }

  /** Ends everything, silently: no event comes any more. */
  async close(): Promise<void> {
    this.#closed = true
    this.#cancelSweep?.()
    this.enquiries.close()
    for (const link of [...this.#greeting]) link.close('shutting down')
    for (const peer of this.#peers.values()) peer.dismiss('shutting down')
    await Promise.all(this.#listeners.map((listener) => listener.close()))
  }

  // ---- Whom to know -----------------------------------------------------------------------------

  /**
   * The membership in force, which stands at `index` of the log: dials those who are new, drops those who are gone.
   * Only of a bound node.
   */
  setMembers(members: readonly Member[], index: Index): void {
    assert(this.#self.clusterId !== undefined, () => 'an unbound node has no members')
    const ids = members.map(({ id }) => id)
    this.#self = { ...this.#self, members: ids, membershipIndex: index }
    if (ids.includes(this.#self.id)) this.enquiries.joined()
    const others = new Map(members.map((member) => [member.id, member]))
    others.delete(this.#options.id)
    for (const [key, peer] of [...this.#peers]) {
      const member = others.get(key)
      if (member !== undefined && sameAddress(member.peerAddress, peer.address)) {
        others.delete(key)
        continue
      }
      this.#peers.delete(key)
      // Later, because the end of links calls events, and this call may come from within the driver's own turn.
      this.#options.timers.after(0, () => peer.dismiss('not in the membership'))
    }
    for (const { id, peerAddress } of others.values()) this.#add(id, peerAddress)
  }

  acquainted(): readonly Identity[] {
    if (this.#self.clusterId !== undefined) return []
    return [...this.#peers.values()].flatMap((peer) => peer.link('control')?.other ?? [])
  }

  watch(watcher: Watcher | undefined): void {
    this.#watcher = watcher
  }

  bind(clusterId: string): void {
    assert(
      this.#self.clusterId === undefined,
      () => `${this.#self.clusterId} is bound to ${clusterId} too`,
    )
    this.#self = { ...this.#self, clusterId, replaces: undefined }
    const unbound = [...this.#peers.values()]
    this.#peers.clear()
    for (const link of [...this.#greeting]) link.close('bound to a cluster')
    for (const peer of unbound) peer.dismiss('bound to a cluster')
  }

  /** Both can reach each other. */
  isUp(id: NodeId): boolean {
    return this.#peers.get(id)?.isUp === true
  }

  /** What that member said of itself when its present process was first met. */
  announced(id: NodeId): Identity | undefined {
    return this.#peers.get(id)?.identity
  }

  stats(): readonly PeerStats[] {
    return [...this.#peers.values()].map((peer) => peer.stats())
  }

  #credentials(): Pick<HandshakeOptions, 'self' | 'secret' | 'nonce'> {
    const { secret, randomBytes } = this.#options
    return { self: this.#self, secret, nonce: randomBytes(NONCE_BYTES) }
  }

  #add(id: NodeId | undefined, address: string): Peer {
    const peer = new Peer(id, address)
    this.#peers.set(id ?? address, peer)
    const { timers, random } = this.#options
    for (const kind of id === undefined ? (['control'] as const) : linkKinds) {
      peer.keep(kind, new Dialler({ timers, random, dial: () => this.#dial(peer, kind) }))
    }
    return peer
  }

  #learn(other: Identity): Peer {
    return this.#peers.get(other.id) ?? this.#add(other.id, other.peerAddress)
  }

  // ---- Whom to let in ---------------------------------------------------------------------------

  #admitAddress(remoteAddress: string): Refusal | undefined {
    const { secret, protectedMode } = this.#options
    if (secret !== undefined || !protectedMode || isLoopback(remoteAddress)) return undefined
    const text = `${remoteAddress} is not loopback: protected-mode needs a peer-secret for that`
    return { code: 'protected', text }
  }

  #admit(other: Identity, kind: HelloKind): Refusal | undefined {
    const self = this.#self
    if (kind === 'probe') return { code: 'probed', text: `this is node ${self.id}` }
    const { wasRemoved } = this.#options
    if (kind === 'join') return judgeJoiner(self, other, wasRemoved) ?? this.#joinAsked(other)
    const refusal = judge(self, other, wasRemoved)
    if (refusal !== undefined) {
      const { clusterId } = other
      // Only an unbound node is 'joining' a cluster that the other side names.
      if (refusal.code === 'joining' && clusterId) this.#watcher?.invited(clusterId, other.id)
      return refusal
    }
    if (self.clusterId === undefined) {
      if (kind === 'control' && this.#peers.has(other.peerAddress)) return undefined
      const text = `node ${other.id} at ${other.peerAddress} is not in the cluster list`
      return { code: 'list', text }
    }
    const known = this.#peers.get(other.id)
    if (known === undefined && this.#peers.size >= LEARNED_MAX) {
      return { code: 'unready', text: 'too many nodes, and no membership yet' }
    }
    if (known === undefined || other.incarnation >= known.incarnation) return undefined
    return { code: 'stale', text: `node ${other.id} has restarted since` }
  }

  #joinAsked(other: Identity): Refusal {
    const reason = this.#options.events.joinAsked(other)
    if (reason !== undefined) return { code: 'join', text: reason }
    return { code: 'joining', text: `the leader was asked to add node ${other.id}` }
  }

  // ---- Links ------------------------------------------------------------------------------------

  #dial(peer: Peer, kind: LinkKind): PeerLink {
    const { network, limits } = this.#options
    const target = parseAddress(peer.address)
    assert(target !== undefined, () => `a peer at ${peer.address}, which is no address`)
    const link = new PeerLink({
      connection: network.dial(target.host, target.port),
      role: 'dialler',
      handshake: new DialHandshake({
        ...this.#credentials(),
        kind,
        receiver: { id: peer.id, address: peer.address },
        admit: (other) => this.#admit(other, kind),
      }),
      queueBytesMax: limits.queueBytes[kind],
      messageBytesMax: limits.messageBytes,
      handler: {
        admitAddress: (remote) => this.#admitAddress(remote),
        established: () => this.#dialled(peer, link),
        received: (_, frameKind, bytes) => this.#replied(link, frameKind, bytes),
        closed: (_, end) => this.#dialledEnded(peer, kind, link, end),
      },
    })
    link.start()
    return link
  }

  #accept(connection: Connection): void {
    const [oldest] = this.#greeting
    if (this.#greeting.size >= GREETING_MAX) oldest?.close('too many handshakes at once')
    const { limits } = this.#options
    let peer: Peer | undefined
    const link = new PeerLink({
      connection,
      role: 'acceptor',
      handshake: new AcceptHandshake({
        ...this.#credentials(),
        admit: (other, kind) => this.#admit(other, kind),
      }),
      // Only the answers to forwarded commands ever leave on an accepted link.
      queueBytesMax: limits.queueBytes.forward,
      messageBytesMax: limits.messageBytes,
      handler: {
        admitAddress: (remote) => this.#admitAddress(remote),
        established: () => {
          this.#greeting.delete(link)
          peer = this.#accepted(link)
        },
        received: (_, kind, bytes) => this.#delivered(link, kind, bytes),
        closed: (_, end) => {
          this.#greeting.delete(link)
          if (peer === undefined) this.#sayWhy(link, end)
          else this.#acceptedEnded(peer, link, end)
        },
      },
    })
    this.#greeting.add(link)
    link.start()
  }

  #dialled(peer: Peer, link: PeerLink): void {
    this.#refusals.forget(peer.address)
    if (peer.id === undefined) this.#watcher?.changed()
    else this.#welcome(peer, peer.id, link)
    if (link.kind === 'snapshot') this.#options.events.snapshotLink(link.other.id, 'up')
  }

  #accepted(link: PeerLink): Peer {
    const { other } = link
    this.#refusals.forget(other.peerAddress)
    const unbound = this.#self.clusterId === undefined
    const peer = unbound ? this.#peers.get(other.peerAddress) : this.#learn(other)
    assert(peer !== undefined, () => `a link of ${other.peerAddress}, which was not admitted`)
    peer.accept(link)
    if (peer.id !== undefined) this.#welcome(peer, peer.id, link)
    return peer
  }

  #welcome(peer: Peer, id: NodeId, link: PeerLink): void {
    if (peer.renew(link.other)) this.#options.events.restarted(id, link.other.incarnation)
    if (peer.settle() === 'up') this.#options.events.peerUp(id, peer.address)
  }

  #dialledEnded(peer: Peer, kind: LinkKind, link: PeerLink, end: LinkEnd): void {
    peer.dialledEnded(kind, link, end)
    this.#sayWhy(link, end, peer)
    if (this.#closed || !link.wasEstablished) return
    if (peer.id === undefined) this.#watcher?.changed()
    else if (kind === 'control') this.#controlLost(peer, peer.id, end)
    else if (kind === 'forward') this.#options.events.forwardDown(peer.id, link.unsent)
    else if (kind === 'snapshot') this.#options.events.snapshotLink(peer.id, 'down')
  }

  #acceptedEnded(peer: Peer, link: PeerLink, end: LinkEnd): void {
    const wasCurrent = peer.acceptedEnded(link)
    this.#sayWhy(link, end, peer)
    if (this.#closed || !wasCurrent || peer.id === undefined) return
    if (link.kind === 'control') this.#controlLost(peer, peer.id, end)
  }

  #controlLost(peer: Peer, id: NodeId, end: LinkEnd): void {
    if (peer.settle() === 'down') this.#options.events.peerDown(id, describeEnd(end))
    this.#options.events.unreachable(id)
  }

  /** One line for what an operator should know, however often it happens; silence for what comes and goes. */
  #sayWhy(link: PeerLink, end: LinkEnd, peer?: Peer): void {
    if (this.#closed || end.type === 'broken') return
    if (end.type === 'refused' && end.byOther && end.refusal.code === 'removed') {
      const { other } = end
      if (other !== undefined && other.clusterId === this.#self.clusterId) {
        this.#options.events.removed(other)
      }
    }
    if (end.type === 'refused' && isTransient(end.refusal.code)) return
    const other = end.type === 'refused' ? end.other?.peerAddress : undefined
    const side = peer?.address ?? other ?? link.remoteAddress.replace(/:[0-9]+$/, '')
    const reason = end.type === 'refused' ? end.refusal.code : end.error.code
    const says = end.type === 'refused' && end.byOther ? `${side} says: ` : ''
    this.#refusals.say(side, reason, `peer refused: ${says}${describeEnd(end)}`)
  }

  #armSweep(): void {
    this.#cancelSweep = this.#options.timers.after(SWEEP_MS, () => {
      this.#armSweep()
      for (const link of [...this.#greeting]) link.sweep()
      this.enquiries.sweep()
      for (const peer of [...this.#peers.values()]) peer.sweep()
      this.#watcher?.swept()
    })
  }

  // ---- What the links carry -----------------------------------------------------------------------

  /** Leaves at once, in one write per link. A message without a link or without room is dropped. */
  send(messages: readonly Message[]): void {
    const touched = new Set<PeerLink>()
    for (const message of messages) {
      const peer = this.#peers.get(message.to)
      const link = peer?.link(linkOf(message))
      // Not encoded for nobody: an entry of many megabytes would be copied only to be dropped.
      const taken = link?.enqueue(frameKinds.message, encodeMessage(message)) === true
      if (link !== undefined && taken) touched.add(link)
      else this.#dropped(peer, message)
    }
    for (const link of touched) link.flush()
  }

  /**
   * Goes before what send() takes next to the same member, at the next flush() at the latest. Lost with the link, or
   * without room.
   */
  note(to: NodeId, note: Note): void {
    const link = this.#peers.get(to)?.link('control')
    if (link?.enqueue(frameKinds.note, encodeNote(note))) this.#unflushed.add(link)
  }

  /**
   * Queues one body for the next flush(). False: certainly not sent, the link is down or its queue is full.
   * True: either it is answered by forwardReplied, or forwardDown comes. Order is kept both ways. A body over
   * limits.messageBytes is a bug of the caller.
   */
  forward(to: NodeId, body: Body): boolean {
    const link = this.#peers.get(to)?.link('forward')
    if (!link?.enqueue(frameKinds.forward, body)) return false
    this.#unflushed.add(link)
    return true
  }

  /** Whether a snapshot could be sent to that member now. */
  reaches(to: NodeId): boolean {
    return this.#peers.get(to)?.link('snapshot') !== undefined
  }

  /** Leaves at once. False: there is no link, or no room on it. */
  sendSnapshot(to: NodeId, body: Body): boolean {
    const link = this.#peers.get(to)?.link('snapshot')
    if (!link?.enqueue(frameKinds.snapshot, body)) return false
    link.flush()
    return true
  }

  /** At the end of a turn: what was queued leaves, in one write per link. */
  flush(): void {
    for (const link of this.#unflushed) link.flush()
    this.#unflushed.clear()
  }

  #dropped(peer: Peer | undefined, message: Message): void {
    if (peer !== undefined) peer.messagesDropped++
    // Only a lost append is news to its sender: it believes the entries to be on their way. Everything else is
    // repeated by itself, and to a follower this word would mean that its leader may be gone.
    if (message.type !== 'append') return
    if (this.#lost.size === 0) {
      this.#options.timers.after(0, () => {
        const lost = [...this.#lost]
        this.#lost.clear()
        if (this.#closed) return
        for (const id of lost) this.#options.events.unreachable(id)
      })
    }
    this.#lost.add(message.to)
  }

  #delivered(link: PeerLink, kind: FrameKind, bytes: Uint8Array): void {
    const { events, id } = this.#options
    const from = link.other.id
    if (kind === frameKinds.forward && link.kind === 'forward') {
      decoding(() => events.forwarded(from, bytes, this.#channel(link)))
      return
    }
    if (this.#self.clusterId === undefined) throw badMessage('out of place')
    if (link.kind === 'snapshot' && kind === frameKinds.snapshot) {
      decoding(() => events.snapshot(from, bytes, (body) => this.#replySnapshot(link, body)))
      return
    }
    if (link.kind === 'control' && kind === frameKinds.note) {
      events.noted(from, decodeNote(bytes))
      return
    }
    if (kind !== frameKinds.message) throw badMessage('out of place')
    const message = decoding(() => decodeMessage(bytes, from, id))
    if (linkOf(message) !== link.kind) {
      throw badMessage(`${message.type} on a link for ${link.kind}`)
    }
    events.message(message)
  }

  #replySnapshot(link: PeerLink, body: Uint8Array): void {
    if (link.enqueue(frameKinds.snapshotReply, body)) link.flush()
  }

  #replied(link: PeerLink, kind: FrameKind, bytes: Uint8Array): void {
    if (kind === frameKinds.snapshotReply && link.kind === 'snapshot') {
      decoding(() => this.#options.events.snapshotReplied(link.other.id, bytes))
      return
    }
    if (kind !== frameKinds.forwardReply || link.kind !== 'forward') {
      throw badMessage('out of place')
    }
    decoding(() => this.#options.events.forwardReplied(link.other.id, bytes))
  }

  #channel(link: PeerLink): ForwardChannel {
    const known = this.#channels.get(link)
    if (known !== undefined) return known
    const { id: node, incarnation } = link.other
    const channel: ForwardChannel = {
      origin: { node, incarnation },
      reply: (body) => {
        if (link.enqueue(frameKinds.forwardReply, body)) {
          this.#unflushed.add(link)
          return true
        }
        // An answer left out would shift all that follow: the sender has to learn that they are lost.
        link.close('answers to forwarded commands are not read')
        return false
      },
      hasRoomFor: (bytes) => link.hasRoomFor(bytes),
    }
    this.#channels.set(link, channel)
    return channel
  }
}
