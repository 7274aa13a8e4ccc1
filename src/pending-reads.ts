/*
 * The reads of this node between their placing and their reply: collected for a round, confirmed by a leader, then
 * run as soon as everything before them in their connection is done and applied here. It knows what makes a read
 * linearizable (or, by option, stale), but not where reads come from nor who leads: router.ts does.
 *
 * Invariant: a read stands in the `reads` of its stream from add() until it is answered, refused or taken.
 */

import { assert } from '../raft/assert.ts'
import { ErrorReply } from '../resp/encoder.ts'
import type { Call, ReadTime, Stream } from './call.ts'
import { NO_ROOM } from './keyspace.ts'
import { LongRead } from './long-reads.ts'
import { ClockBehind } from './moment.ts'
import type { RouterLimits, RouterOptions, RouterPorts } from './router-ports.ts'

/** Reads that one round was asked for. */
interface ReadRound {
  readonly calls: readonly Call[]
  /** Monotonic ms at which those that could not run until then are given up. */
  readonly deadline: number
}

/** Reads of a round that carry its cost well: it waits for no more of them. */
const ENOUGH_READS = 128
/** The least time for a round and for applying what it confirmed, however short parking is. */
const ROUND_MS_MIN = 5_000

const UNCONFIRMED = new ErrorReply(
  'CLUSTERDOWN no leader confirmed the read in time; it was not executed',
)

export class PendingReads {
  readonly #ports: RouterPorts
  readonly #options: RouterOptions
  readonly #leads: () => boolean
  readonly #waitMsMax: number
  /** For the next round. */
  #collected: Call[] = []
  /** Monotonic ms since which they wait for others; undefined: they do not. */
  #waitsSince: number | undefined
  /** How many there were when the sockets were last read. */
  #seen = 0
  /** The next round waits for what the next look at the sockets brings. */
  #looks = false
  /** Rounds that were asked for and not answered. */
  #asked = 0
  /** Reads under way or waiting when a round was last answered, as far as they are worth waiting for. */
  #expected = 0
  /** Rounds with reads that could not run yet. */
  readonly #rounds = new Set<ReadRound>()
  /** Streams whose confirmed reads wait for entries to be applied. */
  readonly #lagging = new Set<Stream>()
  /** Streams with confirmed reads for which a turn had no time left, whoever waits longest first. */
  readonly #delayed = new Set<Stream>()
  /** Monotonic ms at which this turn's time for reads is over; undefined: none has run in it yet. */
  #turnEnd: number | undefined
  readonly #turnMsMax: number
  /** Reads that met a key due by the leader's time, with the clock that must be applied before they run again. */
  readonly #early = new Map<Call, number>()

  /** `leads`: whether this node takes the calls of others now. */
  constructor(options: {
    ports: RouterPorts
    options: RouterOptions
    limits: Pick<RouterLimits, 'readWaitMs' | 'readTurnMs'>
    leads: () => boolean
  }) {
    this.#waitMsMax = options.limits.readWaitMs
    this.#turnMsMax = options.limits.readTurnMs
    this.#ports = options.ports
    this.#options = options.options
    this.#leads = options.leads
  }

  /** Another node's read is served as strictly as that node may want it: it knows its own option only. */
  mayBeStale(call: Call): boolean {
    return call.isRead && !call.isRemote && this.#options.readConsistency === 'stale'
  }

  add(call: Call): void {
    call.place = 'reading'
    call.stream.reads.push(call)
    this.#collected.push(call)
  }

  /** The reads of a stream, in order; whoever takes them answers for them. */
  take(stream: Stream): readonly Call[] {
    const { reads } = stream
    stream.reads = []
    this.#lagging.delete(stream)
    this.#delayed.delete(stream)
    if (this.#early.size > 0) for (const call of reads) this.#early.delete(call)
    return reads
  }

  /**
   * A turn begins: what the last one had no time for goes first. Asks for one round for everything collected.
   * `hasLeader` false: only stale reads are served.
   */
  begin(hasLeader: boolean): void {
    this.#turnEnd = undefined
    this.#serveDelayed()
    if (this.#collected.length === 0) return
    const calls = this.#collected.filter((call) => call.place === 'reading')
    const stale = calls.filter((call) => this.mayBeStale(call))
    if (stale.length > 0) this.#confirm(this.#round(stale), 'stale')
    this.#collected = stale.length > 0 ? calls.filter((call) => !this.mayBeStale(call)) : calls
    // Without a leader nothing is waited for: a turn that is asked for would only ask for the next one.
    if (!hasLeader) this.#waitsSince = undefined
    if (this.#collected.length === 0 || !hasLeader || this.#waits()) return
    const round = this.#round(this.#collected)
    this.#collected = []
    this.#waitsSince = undefined
    this.#seen = 0
    this.#asked++
    this.#ports.read((confirmed) => {
      this.#asked--
      this.#expected = Math.min(ENOUGH_READS, round.calls.length + this.#collected.length)
      if (confirmed) this.#confirm(round, 'leader')
      else this.#unconfirmed(round)
    })
  }

  /**
   * Whether the next round waits: for the one that is asked for, and then as long as each look at the sockets brings
   * more of the clients that it answered. A round costs alike whatever it carries, and most clients send again at
   * once. A round may be lost, and then a tick brings the turn in which nothing waits for it any longer.
   */
  #waits(): boolean {
    const now = this.#ports.now()
    this.#waitsSince ??= now
    if (now - this.#waitsSince >= this.#waitMsMax) return false
    if (this.#asked > 0) return true
    const { length } = this.#collected
    this.#looks = length < this.#expected && length > this.#seen
    this.#seen = length
    return this.#looks
  }

  #round(calls: readonly Call[]): ReadRound {
    const ms = Math.max(this.#options.parkTimeoutMs, ROUND_MS_MIN)
    const round = { calls, deadline: this.#ports.now() + ms }
    this.#rounds.add(round)
    return round
  }

  #confirm(round: ReadRound, time: ReadTime): void {
    let open = 0
    for (const call of round.calls) {
      if (call.place !== 'reading') continue
      call.confirmed = true
      call.time = time
      // Whoever waits for its share of the turns is not overtaken.
      if (this.#delayed.size > 0) this.#delayed.add(call.stream)
      else this.#serve(call.stream)
      if (call.place === 'reading') open++
    }
    if (open === 0) this.#rounds.delete(round)
  }

  /** Runs the reads at the head of a stream that nothing before them holds up. */
  #serve(stream: Stream): void {
    const applied = this.#ports.appliedIndex()
    for (;;) {
      const call = stream.reads[0]
      if (call === undefined || !call.confirmed) break
      if (stream.appended > 0 || applied < stream.lastSeen) {
        this.#lagging.add(stream)
        return
      }
      if (this.#turnIsOver()) {
        this.#lagging.delete(stream)
        this.#delayed.add(stream)
        return
      }
      const outcome = this.#ports.run(call, call.time)
      if (outcome === NO_ROOM) {
        // Another turn comes when one of those that run has ended.
        this.#lagging.add(stream)
        return
      }
      if (outcome instanceof ClockBehind) {
        call.confirmed = false
        this.#early.set(call, outcome.needed)
        this.#ports.awaitClock(outcome.needed)
        break
      }
      stream.reads.shift()
      if (outcome instanceof LongRead) {
        call.place = 'running'
        outcome.start(call.protocol, (reply) => call.answer(reply, applied))
      } else call.answer(outcome, applied)
    }
    this.#lagging.delete(stream)
  }

  /** Reads have had their time of this turn; its first one always runs. */
  #turnIsOver(): boolean {
    const now = this.#ports.now()
    if (this.#turnEnd !== undefined) return now >= this.#turnEnd
    this.#turnEnd = now + this.#turnMsMax
    return false
  }

  /** Each stream in its turn: one that is cut off again waits behind the others. */
  #serveDelayed(): void {
    for (const stream of [...this.#delayed]) {
      if (this.#turnEnd !== undefined && this.#ports.now() >= this.#turnEnd) return
      this.#delayed.delete(stream)
      this.#serve(stream)
    }
  }

  /** The clock has come, for reads that only waited for that. */
  #serveEarly(): void {
    const clock = this.#ports.appliedClock()
    for (const [call, needed] of this.#early) {
      if (call.place === 'reading' && needed > clock) continue
      this.#early.delete(call)
      if (call.place !== 'reading') continue
      call.confirmed = true
      // What is applied now has passed the time at which the leader confirmed it.
      call.time = 'applied'
      this.#serve(call.stream)
    }
  }

  /**
   * What the asking has not brought by now is asked for in another round: the question may be lost, or the leader
   * another one, by whose time the key may not even be due.
   */
  #collectEarly(): void {
    for (const call of this.#early.keys()) if (call.place === 'reading') this.#collected.push(call)
    this.#early.clear()
  }

  /** No leader confirmed the round: the reads of this node try again, those of others are their nodes' to place. */
  #unconfirmed(round: ReadRound): void {
    this.#rounds.delete(round)
    const now = this.#ports.now()
    for (const call of round.calls) {
      if (call.place !== 'reading') continue
      if (call.isRemote && !this.#leads()) this.#refuse(call)
      else if (call.deadline <= now) this.#giveUp(call)
      else this.#collected.push(call)
    }
    this.#ports.wake()
  }

  /** This node leads no more: reads of other nodes that no round was asked for yet are theirs to place. */
  refuseRemote(): void {
    for (const call of this.#collected) {
      if (call.isRemote && call.place === 'reading') this.#refuse(call)
    }
    this.#collected = this.#collected.filter((call) => call.place === 'reading')
  }

  /** Entries were applied, rounds answered: reads that waited for them may run, and those of the next round go. */
  afterApply(): void {
    const mayBegin = this.#waitsSince !== undefined && this.#asked === 0
    if (this.#looks || (mayBegin && this.#collected.length > 0)) this.#ports.wake()
    this.#looks = false
    for (const stream of this.#lagging) this.#serve(stream)
    if (this.#early.size > 0) this.#serveEarly()
    if (this.#delayed.size > 0) this.#ports.wake()
  }

  /** Gives up what has waited too long. */
  expire(): void {
    const now = this.#ports.now()
    this.#collectEarly()
    for (const call of this.#collected) {
      if (call.place === 'reading' && call.deadline <= now) this.#giveUp(call)
    }
    this.#collected = this.#collected.filter((call) => call.place === 'reading')
    for (const round of this.#rounds) {
      if (round.deadline > now) continue
      let open = 0
      for (const call of round.calls) {
        if (call.place !== 'reading') continue
        // It waits for nothing but its share of the turns.
        if (call.confirmed && this.#delayed.has(call.stream)) open++
        else this.#giveUp(call)
      }
      if (open === 0) this.#rounds.delete(round)
    }
  }

  #refuse(call: Call): void {
    remove(call)
    call.refuse()
  }

  #giveUp(call: Call): void {
    remove(call)
    call.answer(UNCONFIRMED, this.#ports.appliedIndex())
  }
}

function remove(call: Call): void {
  const { reads } = call.stream
  const at = reads.indexOf(call)
  assert(at >= 0, () => 'a read that waits stands in its stream')
  reads.splice(at, 1)
}
