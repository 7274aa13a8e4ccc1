/*
 * What this node has handed to leaders, and what waits behind it.
 *
 * A call comes back in one of three ways: answered by its leader, refused by it (certainly not taken), or found in
 * the log. Every entry names the commands in it that were forwarded, so a node that applies the log sees what became
 * of its own: take() runs them and has their replies, even where the leader that took them is gone. And it sees what
 * will never be: a leader takes calls only for its own term, and terms never fall in the log, so once an entry of a
 * later term is applied, what was handed to earlier ones and was not seen will not come any more. Where only the link
 * broke and the leader stays, a fence does the same: an entry that this leader appends behind all it had taken over
 * the links before. What certainly was not executed is placed again, and nothing is ever executed twice.
 *
 * Here is the order kept, too: a stream's calls are held until everything of it that is handed over, or appended
 * here, is settled; then all of them go first, in the order in which they came.
 *
 * Invariants: the calls of a stream that are out are all in one handing, or all in entries of one term; while a
 * stream holds calls, something of it is out; so no call is held for ever.
 */

import { assert } from '../raft/assert.ts'
import type { Index, NodeId, Term } from '../raft/types.ts'
import { EncodedReply, ErrorReply } from '../resp/encoder.ts'
import type { Call, Handing, Stream } from './call.ts'
import type { Route } from './route.ts'
import type { RouterLimits, RouterOptions, RouterPorts } from './router-ports.ts'

/** The one text for what may have happened and may not. */
export const UNKNOWN_OUTCOME: ErrorReply = new ErrorReply(
  'TIMEOUT outcome unknown: the leader was lost after it took the command',
)
const TURNED_DOWN = new ErrorReply(
  'CLUSTERDOWN the leader had no room for the command in time; it was not executed',
)

export class HandedCalls {
  readonly #ports: RouterPorts
  readonly #options: RouterOptions
  readonly #limits: RouterLimits
  readonly #placeAgain: (calls: readonly Call[]) => void
  /** Those with calls, oldest first. */
  readonly #handings = new Set<Handing>()
  /** By their tags: calls that a leader may answer, or that may be found in the log. */
  readonly #open = new Map<number, Call>()
  /** Writes that were answered before reads that stand before them in their stream: see #overtake. */
  readonly #overtaking = new Map<number, Call>()
  #lastTag = 0
  #bytes = 0
  /** For the next frames. */
  #outgoing: Call[] = []
  /** What calls are handed over in now; undefined while no other node leads. */
  #current: Handing | undefined
  /** The same, or the latest one: its leader may be heard again in the same term. */
  #latest: Handing | undefined
  #ledTerm: Term | undefined
  /** That leader's link is down or it refused: not tried again before the next tick or change of leadership. */
  #blocked = false
  /** On its way over the current link, or appended by its leader. */
  #fence: { readonly tag: number; readonly term: Term } | undefined
  /** One that was applied: of its term, all with lower tags that were not seen before will never be. */
  #passed: { readonly tag: number; readonly term: Term } | undefined
  /** Streams that hold calls. */
  readonly #holding = new Set<Stream>()
  #heldCalls = 0
  #heldBytes = 0

  /** `placeAgain` takes calls that were certainly not executed, in order: they go before all others. */
  constructor(options: {
    ports: RouterPorts
    options: RouterOptions
    limits: RouterLimits
    placeAgain: (calls: readonly Call[]) => void
  }) {
    this.#ports = options.ports
    this.#options = options.options
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

  /** Whether a stream's next call has to wait: what is out elsewhere may come back, and then it goes first. */
  mustHold({ held, handed, appended, appendedTerm }: Stream): boolean {
    if (held.length > 0) return true
    if (handed.length > 0) return handed[0]?.handing !== this.#current
    return appended > 0 && appendedTerm !== this.#ledTerm
  }

  hold(call: Call): void {
    const { held } = call.stream
    let at = held.length
    while (at > 0 && (held[at - 1] as Call).sequence > call.sequence) at--
    held.splice(at, 0, call)
    this.#holding.add(call.stream)
    this.#heldCalls++
    this.#heldBytes += call.bytes
  }

  /** What streams held goes first, once nothing of them is out. */
  release(): void {
    if (this.#holding.size === 0) return
    const released: Call[] = []
    for (const stream of this.#holding) {
      if (!stream.isSettled) continue
      this.#holding.delete(stream)
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

  /** What has no room here waits for answers of the leader, not for a way to it. */
  get awaitsAnswers(): boolean {
    return !this.#blocked && this.#bytes > 0
  }

  /** For the next send() to the leader. */
  add(call: Call): void {
    const handing = this.#current
    assert(handing !== undefined, () => 'calls are placed at a leader that there is not')
    call.place = 'forwarded'
    call.handing = handing
    call.stream.handed.push(call)
    handing.calls.add(call)
    this.#handings.add(handing)
    this.#bytes += call.bytes
    this.#outgoing.push(call)
  }

  /** In frames that are as large as an entry may be. Behind a fence, where calls are adrift at this leader. */
  send(): void {
    const handing = this.#current
    const calls = this.#outgoing
    if (handing === undefined || (calls.length === 0 && !this.#needsFence(handing.term))) return
    this.#outgoing = []
    if (!this.#sendFence(handing)) {
      this.#unsent(calls)
      return
    }
    let from = 0
    while (from < calls.length) {
      const frame = calls.slice(from, this.#frameEnd(calls, from))
      for (const call of frame) {
        call.tag = ++this.#lastTag
        this.#open.set(call.tag, call)
      }
      handing.lastTag = this.#lastTag
      if (!this.#ports.forward(handing.leader, handing.term, frame)) {
        this.#unsent(calls.slice(from))
        return
      }
      from += frame.length
    }
  }

  /** Nothing of it was sent: a later turn tries again, in the same order. */
  #unsent(calls: readonly Call[]): void {
    this.#blocked = true
    this.#takeBack(calls)
    this.release()
  }

  #needsFence(term: Term): boolean {
    if (this.#blocked || this.#fence !== undefined) return false
    for (const handing of this.#handings) {
      if (handing.adrift && handing.term === term) return true
    }
    return false
  }

  /** False: it is needed, and could not be sent. */
  #sendFence({ leader, term }: Handing): boolean {
    if (!this.#needsFence(term)) return true
    const tag = ++this.#lastTag
    if (!this.#ports.fence(leader, term, tag)) return false
    this.#fence = { tag, term }
    return true
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

  // ---- And back, over the link --------------------------------------------------------------------

  /** The leader answered; `index` is what it had applied by then. Nobody may be waiting for it any more. */
  answered(tag: number, bytes: Uint8Array, index: Index): void {
    if (this.#isRefusedFence(tag, bytes)) return
    const call = this.#open.get(tag)
    if (call === undefined) return
    this.#leave(call)
    if (!call.isRead && bytes[0] !== MINUS) this.#overtake(call)
    call.answer(new EncodedReply(bytes), index)
    // There is room again.
    this.#ports.wake()
  }

  /**
   * A long read goes on after the write behind it. Should its leader be lost, it runs here where that write stands in
   * the log, and nowhere else: anywhere later it would see that write.
   */
  #overtake(write: Call): void {
    for (const earlier of write.stream.handed) {
      if (earlier.sequence > write.sequence) break
      earlier.overtaken = true
      this.#overtaking.set(write.tag, write)
    }
  }

  /** That a fence was appended is seen where it is applied; that it was not, here. */
  #isRefusedFence(tag: number, bytes: Uint8Array): boolean {
    if (this.#fence?.tag !== tag) return false
    if (bytes[0] === MINUS) this.#fence = undefined
    return true
  }

  /** The other node certainly did not take the calls with these tags. */
  refused(tags: readonly number[]): void {
    const refused: Call[] = []
    for (const tag of tags) {
      if (this.#fence?.tag === tag) {
        this.#fence = undefined
        this.#blocked = true
      }
      const call = this.#open.get(tag)
      if (call === undefined) continue
      if (call.handing === this.#current) this.#blocked = true
      refused.push(call)
    }
    this.#takeBack(refused)
    this.release()
  }

  /** The link to `leader` died: what was handed over it will be answered no more, but it may be found in the log. */
  lost(leader: NodeId): void {
    const deadline = this.#ports.now() + this.#options.parkTimeoutMs
    for (const handing of this.#handings) {
      if (handing.leader !== leader || handing.adrift) continue
      handing.adrift = true
      handing.deadline ??= deadline
      this.#takeBack(readsAlone(handing))
      if (handing.blind) this.#giveUp(handing)
    }
    if (this.#latest?.leader === leader) {
      this.#fence = undefined
      this.#renewLatest()
    }
    this.release()
    this.#ports.wake()
  }

  /** What is handed over from now on has a fate of its own. */
  #renewLatest(): void {
    const before = this.#latest
    if (before === undefined) return
    this.#latest = newHanding(before.leader, before.term)
    if (this.#current === before) this.#current = this.#latest
  }

  // ---- And back, through the log --------------------------------------------------------------------

  /**
   * Inside apply, where the command with this tag stands: the reads of its stream that it would overtake, and itself,
   * unless it is answered already. Nothing: nobody waits for any of it.
   */
  take(tag: number): readonly Call[] {
    if (this.#fence?.tag === tag) {
      this.#passed = this.#fence
      this.#fence = undefined
    }
    const call = this.#open.get(tag) ?? this.#overtaking.get(tag)
    if (call === undefined) return []
    this.#overtaking.delete(tag)
    const taken: Call[] = []
    for (;;) {
      const next: Call | undefined = call.stream.handed[0]
      if (next === undefined || next.sequence > call.sequence) return taken
      this.#leave(next)
      if (next === call || next.isRead) taken.push(next)
      // Its leader took later ones only, and had told this node so over a link that broke.
      else next.answer(TURNED_DOWN, this.#ports.appliedIndex())
    }
  }

  /** Entries were applied: what they show not to have been executed is placed again. */
  afterApply(): void {
    const applied = this.#ports.appliedTerm()
    const passed = this.#passed
    this.#passed = undefined
    for (const handing of this.#handings) {
      const fenced = handing.term === passed?.term && handing.lastTag < passed.tag
      const isKnown = handing.term < applied || fenced
      if (isKnown && !handing.blind) this.#takeBack([...handing.calls])
    }
    this.release()
  }

  /** Entries became part of the state without being run here: of calls in them only a leader that answers can tell. */
  skipped(): void {
    for (const handing of this.#handings) {
      handing.blind = true
      if (handing.adrift) this.#giveUp(handing)
    }
    this.#renewLatest()
    this.#overtaking.clear()
  }

  // ---- Neither ------------------------------------------------------------------------------------

  /** Writes handed over may have happened; a read may be asked again unless a later write was handed over too. */
  #giveUp(handing: Handing): void {
    const calls = [...handing.calls]
    const written = new Set<Stream>()
    const again = new Set<Call>()
    for (const call of calls.toReversed()) {
      if (!call.isRead || call.overtaken) written.add(call.stream)
      if (!written.has(call.stream)) again.add(call)
    }
    const applied = this.#ports.appliedIndex()
    for (const call of calls) {
      if (again.has(call)) continue
      this.#leave(call)
      call.answer(UNKNOWN_OUTCOME, applied)
    }
    this.#takeBack(calls.filter((call) => again.has(call)))
    this.release()
  }

  /** They were certainly not executed, or are reads, and will be placed again. */
  #takeBack(calls: readonly Call[]): void {
    for (const call of calls) {
      assert(!call.overtaken, () => `${call.command.name} would see a later write`)
      this.#leave(call)
      call.waitAgain()
      this.hold(call)
    }
  }

  #leave(call: Call): void {
    const { handing, stream } = call
    assert(handing?.calls.delete(call) === true, () => `${call.command.name} was not handed over`)
    if (handing.calls.size === 0) this.#handings.delete(handing)
    call.handing = undefined
    stream.handed.splice(stream.handed.indexOf(call), 1)
    this.#open.delete(call.tag)
    this.#bytes -= call.bytes
  }

  // ---- Time ---------------------------------------------------------------------------------------

  /** Who leads, as of now. What was handed to others has so long for its outcome as commands wait for a leader. */
  setRoute(route: Route): void {
    this.#ledTerm = route.kind === 'self' ? route.term : undefined
    this.#current = undefined
    if (route.kind === 'leader') {
      if (this.#latest?.term !== route.term) {
        this.#latest = newHanding(route.leader, route.term)
        this.#fence = undefined
      }
      this.#current = this.#latest
      // Also where nothing is in it, but was when this leader was heard last.
      this.#current.deadline = undefined
    }
    this.#blocked = false
    const deadline = this.#ports.now() + this.#options.parkTimeoutMs
    for (const handing of this.#handings) {
      if (handing !== this.#current) handing.deadline ??= deadline
    }
  }

  expire(now: number): void {
    for (const handing of this.#handings) {
      if (handing.deadline !== undefined && handing.deadline <= now) this.#giveUp(handing)
    }
    this.#blocked = false
    this.#assertCounts()
  }

  /** Counts that drift would stop everything one day, or nothing when it must. */
  #assertCounts(): void {
    assert(
      this.#handings.size === 0 ? this.#bytes === 0 : this.#bytes > 0,
      () => `${this.#bytes} bytes are in ${this.#handings.size} handings`,
    )
    assert(
      this.#heldCalls === 0 ? this.#heldBytes === 0 : this.#heldBytes > 0,
      () => `${this.#heldCalls} calls of ${this.#heldBytes} bytes are held`,
    )
  }
}

/** The first byte of an error. */
const MINUS = 45

function newHanding(leader: NodeId, term: Term): Handing {
  return {
    leader,
    term,
    calls: new Set(),
    lastTag: 0,
    adrift: false,
    blind: false,
    deadline: undefined,
  }
}

/** The reads of streams of which nothing but reads is out: whether they ran does not matter. */
function readsAlone(handing: Handing): readonly Call[] {
  const calls = [...handing.calls]
  const written = new Set<Stream>()
  for (const { isRead, overtaken, stream } of calls) if (!isRead || overtaken) written.add(stream)
  return calls.filter(({ stream }) => !written.has(stream))
}
