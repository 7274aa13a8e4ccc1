/*
 * What this node has handed to leaders, and what waits behind it. A call comes back in one of four ways: answered,
 * refused (certainly not taken), lost with the link, or not in time after its leader lost its office. What was
 * certainly not taken is placed again, and here is the order kept: a stream's calls are held until everything of it
 * that is handed over is settled, then all of them go first, in the order in which they came.
 *
 * Invariant: while a stream holds calls, some call of it is handed over; so no call is held for ever.
 */

import { assert } from '../raft/assert.ts'
import type { Index, NodeId, Term } from '../raft/types.ts'
import { ErrorReply } from '../resp/encoder.ts'
import { type Call, EncodedReply, type Stream } from './call.ts'
import type { Route, RouterLimits, RouterPorts } from './router.ts'

/** Calls handed to the leader of one term, oldest first. */
interface Handed {
  readonly leader: NodeId
  readonly calls: Set<Call>
  /** Monotonic ms at which they are given up; undefined while that leader is in office. */
  deadline: number | undefined
}

/** The one text for what may have happened and may not. */
export const UNKNOWN_OUTCOME: ErrorReply = new ErrorReply(
  'TIMEOUT outcome unknown: the leader was lost after it took the command',
)

export class HandedCalls {
  readonly #ports: RouterPorts
  readonly #limits: RouterLimits
  readonly #placeAgain: (calls: readonly Call[]) => void
  readonly #handed = new Map<Term, Handed>()
  #bytes = 0
  /** For the next frames. */
  #outgoing: Call[] = []
  /** The term of the leader that calls are handed to now. */
  #servedTerm: Term | undefined
  /** That leader's link is down or it refused: not tried again before the next tick or change of leadership. */
  #blocked = false
  #heldCalls = 0
  #heldBytes = 0

  /** `placeAgain` takes calls that were certainly not taken by a leader, in order: they go before all others. */
  constructor(options: {
    ports: RouterPorts
    limits: RouterLimits
    placeAgain: (calls: readonly Call[]) => void
  }) {
    this.#ports = options.ports
    this.#limits = options.limits
    this.#placeAgain = options.placeAgain
  }

  get heldCalls(): number {
    return this.#heldCalls
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  // ---- Order ------------------------------------------------------------------------------------

  /** Whether a stream's next call has to wait: what was handed elsewhere may come back, and then it goes first. */
  mustHold({ held, forwarded, forwardedTerm }: Stream): boolean {
    if (held.length > 0) return true
    return forwarded > 0 && forwardedTerm !== this.#servedTerm
  }

  hold(call: Call): void {
    const { held } = call.stream
    let at = held.length
    while (at > 0 && (held[at - 1] as Call).sequence > call.sequence) at--
    held.splice(at, 0, call)
    this.#heldCalls++
    this.#heldBytes += call.bytes
  }

  /** What the streams of these calls held goes first, once nothing of them is handed over. */
  #release(calls: readonly Call[]): void {
    const released: Call[] = []
    for (const { stream } of calls) {
      if (stream.forwarded > 0) continue
      for (const call of stream.held) {
        this.#heldBytes -= call.bytes
        released.push(call)
      }
      stream.held = []
    }
    this.#heldCalls -= released.length
    if (released.length > 0) this.#placeAgain(released)
  }

  // ---- To the leader ----------------------------------------------------------------------------

  /** False: not before something is settled, or the next tick. One larger call is taken when there is no other. */
  hasRoomFor(call: Call): boolean {
    if (this.#blocked) return false
    return this.#bytes === 0 || this.#bytes + call.bytes <= this.#limits.forwardBytes
  }

  /** For the next send() to the leader of `term`. */
  add(call: Call, term: Term): void {
    call.place = 'forwarded'
    call.stream.forwarded++
    call.stream.forwardedTerm = term
    call.forwardTerm = term
    this.#bytes += call.bytes
    this.#outgoing.push(call)
  }

  /** In frames that are as large as an entry may be. */
  send(route: Route): void {
    const calls = this.#outgoing
    if (calls.length === 0) return
    this.#outgoing = []
    assert(route.kind === 'leader', () => 'calls were placed at a leader that there is not')
    const { leader, term } = route
    let from = 0
    while (from < calls.length) {
      const frame = calls.slice(from, this.#frameEnd(calls, from))
      if (!this.#ports.forward(leader, term, frame)) {
        // Nothing of it was sent: a later turn tries again, in the same order.
        this.#blocked = true
        const unsent = calls.slice(from)
        this.#takeBack(unsent)
        this.#release(unsent)
        return
      }
      let handed = this.#handed.get(term)
      if (handed === undefined) {
        handed = { leader, calls: new Set(), deadline: undefined }
        this.#handed.set(term, handed)
      }
      for (const call of frame) handed.calls.add(call)
      from += frame.length
    }
  }

  #frameEnd(calls: readonly Call[], from: number): number {
    const { entryCommands, entryBytes } = this.#limits
    let to = from
    let bytes = 0
    while (to < calls.length && to - from < entryCommands) {
      bytes += (calls[to] as Call).bytes
      if (to > from && bytes > entryBytes) break
      to++
    }
    return to
  }

  // ---- And back -----------------------------------------------------------------------------------

  /** The leader answered; `index` is what it had applied by then. Nobody may be waiting for it any more. */
  answered(call: Call, bytes: Uint8Array, index: Index): void {
    if (!this.#forget(call)) return
    this.#leave(call)
    call.answer(new EncodedReply(bytes), index)
    if (call.stream.held.length > 0) this.#release([call])
    // There is room again.
    this.#ports.wake()
  }

  /** The other node certainly did not take these calls. */
  refused(calls: readonly Call[]): void {
    const refused = calls.filter((call) => this.#forget(call))
    if (refused.some((call) => call.forwardTerm === this.#servedTerm)) this.#blocked = true
    this.#takeBack(refused)
    this.#release(refused)
  }

  /** The link to `leader` died: nothing handed to it will be answered any more. */
  lost(leader: NodeId): void {
    for (const [term, handed] of this.#handed) if (handed.leader === leader) this.#giveUp(term)
  }

  /** Writes handed over may have happened; a read may be asked again unless a later write was handed over too. */
  #giveUp(term: Term): void {
    const calls = [...(this.#handed.get(term)?.calls ?? [])]
    this.#handed.delete(term)
    const written = new Set<Stream>()
    const again = new Set<Call>()
    for (const call of calls.toReversed()) {
      if (!call.isRead) written.add(call.stream)
      if (!written.has(call.stream)) again.add(call)
    }
    const applied = this.#ports.appliedIndex()
    for (const call of calls) {
      if (again.has(call)) continue
      this.#leave(call)
      call.answer(UNKNOWN_OUTCOME, applied)
    }
    this.#takeBack(calls.filter((call) => again.has(call)))
    this.#release(calls)
  }

  /** False: it is settled already, or was handed to another leader since. */
  #forget(call: Call): boolean {
    const handed = this.#handed.get(call.forwardTerm)
    if (call.place !== 'forwarded' || handed?.calls.delete(call) !== true) return false
    if (handed.calls.size === 0) this.#handed.delete(call.forwardTerm)
    return true
  }

  #takeBack(calls: readonly Call[]): void {
    for (const call of calls) {
      this.#leave(call)
      call.waitAgain()
      this.hold(call)
    }
  }

  #leave(call: Call): void {
    call.stream.forwarded--
    this.#bytes -= call.bytes
  }

  // ---- Time ---------------------------------------------------------------------------------------

  /** Who leads, as of now. What was handed to others has until `deadline` for its answer. */
  setRoute(route: Route, deadline: number): void {
    this.#servedTerm = route.kind === 'leader' ? route.term : undefined
    this.#blocked = false
    for (const [term, handed] of this.#handed) {
      handed.deadline = term === this.#servedTerm ? undefined : (handed.deadline ?? deadline)
    }
  }

  expire(now: number): void {
    for (const [term, { deadline }] of this.#handed) {
      if (deadline !== undefined && deadline <= now) this.#giveUp(term)
    }
    this.#blocked = false
    this.#assertCounts()
  }

  /** Counts that drift would stop everything one day, or nothing when it must. */
  #assertCounts(): void {
    assert(
      this.#handed.size === 0 ? this.#bytes === 0 : this.#bytes > 0,
      () => `${this.#bytes} bytes are handed to leaders of ${this.#handed.size} terms`,
    )
    assert(
      this.#heldCalls === 0 ? this.#heldBytes === 0 : this.#heldBytes > 0,
      () => `${this.#heldCalls} calls of ${this.#heldBytes} bytes are held`,
    )
  }
}
