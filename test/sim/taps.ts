/*
 * Taps on the production classes: the messages a node sends and receives, and a few turns that nothing shows outside.
 * Production code has no hook for a simulator, so the methods of its classes are wrapped while a simulation runs;
 * what they do is not changed, except that a message may be received twice or late, as the seed says.
 */

import type { ReadCallback } from '../../raft/node.ts'
import { RaftNode } from '../../raft/node.ts'
import type { Message, NodeId, Term } from '../../raft/types.ts'
import { Call } from '../../src/call.ts'
import { ExpiryClock } from '../../src/expiry-clock.ts'
import { ForwardSender } from '../../src/forwarding.ts'
import { Peers } from '../../src/peers.ts'
import { Router } from '../../src/router.ts'
import { decodeToReceiver, type ToReceiver } from '../../src/snapshot-messages.ts'
import { SnapshotReceiver } from '../../src/snapshot-receiver.ts'

export interface Taps {
  sent(message: Message): void
  /** Calls `deliver` with the message at once, or otherwise as it likes. */
  received(message: Message, deliver: (message: Message) => void): void
  /** Commands that a leader did not take come back to be placed anew. */
  refused(): void
  forwardLost(leader: NodeId): void
  /** A command whose leader did not answer it, or not yet, is found in an entry. */
  foundInLog(): void
  fenced(): void
  /** A command of a client here, appended by this node as a leader, is placed again. */
  overwritten(): void
  readLost(): void
  /** A part of a snapshot leaves. */
  snapshotSent(peers: Peers, part: ToReceiver): void
  /** One arrives: calls `deliver` at once, or otherwise as it likes. */
  snapshotReceived(from: NodeId, receiver: SnapshotReceiver, deliver: () => void): void
  /** Raft takes a state that the leader of `term` sent. */
  snapshotTaken(by: RaftNode, term: Term): void
  /** A read met a key that is due by the leader's time only; it runs at the leader, or has to ask. */
  clockAwaited(leads: boolean): void
}

/** Begins to tap; the result ends it. One simulation at a time. */
export function tap(taps: Taps): () => void {
  const { send } = Peers.prototype
  const { step, read, offerSnapshot } = RaftNode.prototype
  const { forwardRefused, forwardLost, takeForwarded } = Router.prototype
  const { waitAgain } = Call.prototype
  const { fence } = ForwardSender.prototype
  const { sendSnapshot } = Peers.prototype
  const { received } = SnapshotReceiver.prototype
  Peers.prototype.sendSnapshot = function (this: Peers, to, body): boolean {
    const sent = sendSnapshot.call(this, to, body)
    const parts = body instanceof Uint8Array ? [body] : body
    if (sent) taps.snapshotSent(this, decodeToReceiver(Buffer.concat(parts)))
    return sent
  }
  SnapshotReceiver.prototype.received = function (this: SnapshotReceiver, from, body, reply): void {
    taps.snapshotReceived(from, this, () => received.call(this, from, body, reply))
  }
  Peers.prototype.send = function (this: Peers, messages): void {
    for (const message of messages) taps.sent(message)
    send.call(this, messages)
  }
  RaftNode.prototype.step = function (this: RaftNode, message): void {
    taps.received(message, (delivered) => step.call(this, delivered))
  }
  RaftNode.prototype.read = function (this: RaftNode, done: ReadCallback): void {
    read.call(this, (confirmed) => {
      if (!confirmed) taps.readLost()
      done(confirmed)
    })
  }
  RaftNode.prototype.offerSnapshot = function (this: RaftNode, from, term, snapshot): boolean {
    const taken = offerSnapshot.call(this, from, term, snapshot)
    if (taken) taps.snapshotTaken(this, term)
    return taken
  }
  Router.prototype.forwardRefused = function (this: Router, tags): void {
    if (tags.length > 0) taps.refused()
    forwardRefused.call(this, tags)
  }
  Router.prototype.takeForwarded = function (this: Router, tag) {
    const calls = takeForwarded.call(this, tag)
    if (calls.length > 0) taps.foundInLog()
    return calls
  }
  Call.prototype.waitAgain = function (this: Call): void {
    if (this.place === 'appended') taps.overwritten()
    waitAgain.call(this)
  }
  ForwardSender.prototype.fence = function (this: ForwardSender, leader, term, tag): boolean {
    const sent = fence.call(this, leader, term, tag)
    if (sent) taps.fenced()
    return sent
  }
  Router.prototype.forwardLost = function (this: Router, leader): void {
    taps.forwardLost(leader)
    forwardLost.call(this, leader)
  }
  const { want } = ExpiryClock.prototype
  const { note } = Peers.prototype
  ExpiryClock.prototype.want = function (this: ExpiryClock, clock): void {
    taps.clockAwaited(true)
    want.call(this, clock)
  }
  Peers.prototype.note = function (this: Peers, to, one): void {
    if (one.type === 'clock-asked') taps.clockAwaited(false)
    note.call(this, to, one)
  }
  return () => {
    ExpiryClock.prototype.want = want
    Peers.prototype.note = note
    Peers.prototype.send = send
    Peers.prototype.sendSnapshot = sendSnapshot
    SnapshotReceiver.prototype.received = received
    RaftNode.prototype.step = step
    RaftNode.prototype.read = read
    RaftNode.prototype.offerSnapshot = offerSnapshot
    Router.prototype.forwardRefused = forwardRefused
    Router.prototype.forwardLost = forwardLost
    Router.prototype.takeForwarded = takeForwarded
    Call.prototype.waitAgain = waitAgain
    ForwardSender.prototype.fence = fence
  }
}
