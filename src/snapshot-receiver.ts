/*
 * Receives a state from the leader: raft's SnapshotSink. What comes is built beside the state in force, one part after
 * the other, and nothing is believed before it is complete and verified; then raft is asked whether it is wanted,
 * and whatever is not is removed. It knows one session at a time: a later leader's takes the place of an earlier one's.
 */

import { assert } from '../raft/assert.ts'
import type { RaftNode } from '../raft/node.ts'
import type { SnapshotSink } from '../raft/ports.ts'
import type { HardState, NodeId, SnapshotMeta, Term } from '../raft/types.ts'
import type { SwitchingLog } from '../storage/log-store.ts'
import type { ReceivedState } from '../storage/received-state.ts'
import { DamagedStreamError } from '../storage/state-build.ts'
import type { Checkpoints } from './checkpoints.ts'
import { limits } from './config.ts'
import type { Logger } from './logger.ts'
import type { Cancel, Clock, Timers } from './network.ts'
import { chunkOf, decodeToReceiver, encodeToSender, type ToReceiver } from './snapshot-messages.ts'

export interface SnapshotReceiverOptions {
  readonly received: ReceivedState
  readonly clock: Clock
  readonly timers: Timers
  readonly log: Logger
  /** undefined until this node is bound to a cluster. */
  readonly raft: () => RaftNode | undefined
  /** No checkpoint may run while the state is switched. */
  readonly checkpoints: Pick<Checkpoints, 'hold' | 'release'>
  /** The state is another one now. */
  readonly installed: () => void
  readonly fatal: (reason: string) => void
}

type Reply = (body: Uint8Array) => void

interface Session {
  readonly from: NodeId
  readonly term: Term
  readonly session: number
  readonly startedAt: number
  reply: Reply
  /** Bytes that came in order, and of those how many are built. */
  expected: number
  built: number
  /** All of it came; from here on it is not dropped for another one. */
  ended: boolean
}

export class SnapshotReceiver implements SnapshotSink {
  readonly #options: SnapshotReceiverOptions
  #log: SwitchingLog | undefined
  #session: Session | undefined
  /** What is done with the received state, one thing after the other. */
  #work: Promise<void> = Promise.resolve()
  #cancelTimer: Cancel | undefined
  #closed = false

  constructor(options: SnapshotReceiverOptions) {
    this.#options = options
  }

  /** Raft works on this log now. */
  opened(log: SwitchingLog): void {
    this.#log = log
  }

  /** Throws CodecError on bytes that are no part of a snapshot. */
  received(from: NodeId, body: Uint8Array, reply: Reply): void {
    const message = decodeToReceiver(body)
    if (this.#closed) return
    if (message.type === 'begin') {
      this.#begin(from, message, reply)
      return
    }
    const session = this.#session
    if (session?.from !== from || session.session !== message.session) {
      // It was dropped here; an abort says that the other side knows.
      if (message.type !== 'abort') fail(reply, message.session, 'it was given up')
      return
    }
    session.reply = reply
    this.#arm(session)
    if (message.type === 'chunk') this.#chunk(session, message.offset, message.bytes)
    else if (message.type === 'end') this.#end(session, message.offset)
    else if (!session.ended) this.#drop(session)
  }

  /** What a leader of the past was sending is of no use any more. */
  tick(): void {
    const session = this.#session
    if (session === undefined || session.ended) return
    if (session.term < (this.#options.raft()?.term ?? 0)) this.#giveUp(session, 'a later leader')
  }

  async install(snapshot: SnapshotMeta, hardState: HardState | undefined): Promise<void> {
    const { received, checkpoints, installed, log, clock } = this.#options
    assert(this.#log !== undefined, () => 'there is no log to switch')
    await received.install(snapshot, hardState, this.#log)
    installed()
    checkpoints.release()
    const session = this.#session
    if (session === undefined) return
    const ms = Math.round(clock.monotonic() - session.startedAt)
    log.info({ index: snapshot.last.index, bytes: session.built, ms }, 'snapshot installed')
    this.#finish(session, 'done')
  }

  /** Takes nothing more; resolves when what was received is gone. */
  async close(): Promise<void> {
    this.#closed = true
    this.#cancelTimer?.()
    await this.#work
    await this.#options.received.close()
  }

  #begin(from: NodeId, { session, term }: ToReceiver & { type: 'begin' }, reply: Reply): void {
    const current = this.#session
    if (current?.from === from && current.session === session && current.term === term) {
      current.reply = reply
      this.#arm(current)
      reply(encodeToSender({ type: 'at', session, offset: current.expected }))
      return
    }
    const ownTerm = this.#options.raft()?.term ?? 0
    if (term < ownTerm || current?.ended === true) {
      const why = term < ownTerm ? `this is term ${ownTerm}` : 'another one is being installed'
      fail(reply, session, why)
      return
    }
    if (current !== undefined) this.#giveUp(current, 'a newer snapshot')
    const startedAt = this.#options.clock.monotonic()
    const progress = { expected: 0, built: 0, ended: false }
    const begun: Session = { from, term, session, startedAt, reply, ...progress }
    this.#session = begun
    this.#arm(begun)
    this.#options.log.info({ from, term }, 'receiving a snapshot')
    this.#next(begun, async () => {
      await this.#options.received.begin()
      begun.reply(encodeToSender({ type: 'at', session, offset: 0 }))
    })
  }

  #chunk(session: Session, offset: number, bytes: Uint8Array): void {
    // What was on two links came twice; what comes too early belongs behind something that was lost.
    if (offset !== session.expected || session.ended) return
    session.expected += bytes.length
    const chunk = chunkOf(bytes)
    const { length } = chunk
    this.#next(session, async () => {
      await this.#options.received.add(chunk)
      session.built += length
      session.reply(encodeToSender({ type: 'at', session: session.session, offset: session.built }))
    })
  }

  #end(session: Session, offset: number): void {
    if (offset !== session.expected || session.ended) return
    session.ended = true
    this.#cancelTimer?.()
    this.#next(session, () => this.#offer(session))
  }

  /** All of it is here: raft says whether it is wanted, and then switches to it in its own time. */
  async #offer(session: Session): Promise<void> {
    const { received, checkpoints, raft } = this.#options
    const snapshot = await received.complete()
    await checkpoints.hold()
    const node = raft()
    if (node?.offerSnapshot(session.from, session.term, snapshot) === true) return
    checkpoints.release()
    await received.discard()
    const isBehind = snapshot.last.index > (node?.status().commit ?? 0)
    this.#finish(session, isBehind ? 'it is not wanted' : 'done')
  }

  /** Does it unless the session is given up by then. */
  #next(session: Session, act: () => Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (this.#session !== session || this.#closed) return
      try {
        await act()
      } catch (error) {
        if (error instanceof DamagedStreamError) this.#giveUp(session, error.message)
        else this.#options.fatal(`a snapshot could not be stored: ${error}`)
      }
    })
  }

  #giveUp(session: Session, reason: string): void {
    if (this.#session !== session) return
    this.#options.log.warn({ from: session.from, reason }, 'a snapshot was given up')
    this.#drop(session)
    fail(session.reply, session.session, reason)
  }

  #drop(session: Session): void {
    if (this.#session !== session) return
    this.#session = undefined
    this.#cancelTimer?.()
    this.#work = this.#work.then(() => this.#options.received.discard())
  }

  #finish(session: Session, outcome: string): void {
    if (this.#session !== session) return
    this.#session = undefined
    if (outcome !== 'done') fail(session.reply, session.session, outcome)
    else session.reply(encodeToSender({ type: 'done', session: session.session }))
  }

  /** Whoever falls silent for so long will not go on. */
  #arm(session: Session): void {
    this.#cancelTimer?.()
    if (session.ended) return
    this.#cancelTimer = this.#options.timers.after(limits.snapshotPatienceMs, () => {
      this.#giveUp(session, 'nothing came any more')
    })
  }
}

function fail(reply: Reply, session: number, reason: string): void {
  reply(encodeToSender({ type: 'failed', session, reason }))
}
