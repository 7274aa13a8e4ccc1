/*
 * The in-memory twin of src/network.ts: virtual time, and hosts whose connections are cut into pieces, delayed,
 * stalled and reset as a seed says. One thread, no real clock: a run with the same seed is the same run. It must
 * not know what the bytes mean. As TCP does, it keeps the order of each direction and loses what was on its way
 * only together with the connection.
 */

import { assert } from '../../raft/assert.ts'
import type { Random } from '../../raft/ports.ts'
import {
  type Cancel,
  type Clock,
  type Connection,
  type ConnectionHandler,
  formatAddress,
  type Listener,
  type ListenHandler,
  type ListenOptions,
  type Network,
  type Timers,
} from '../../src/network.ts'
import { OperatorError } from '../../src/operator-error.ts'

/** mulberry32: a small seeded generator in [0, 1). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let bits = Math.imul(state ^ (state >>> 15), state | 1)
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61)
    return ((bits ^ (bits >>> 14)) >>> 0) / 4_294_967_296
  }
}

interface Event {
  readonly at: number
  readonly serial: number
  readonly action: () => void
  cancelled: boolean
}

/** Virtual time: events run in order of (time, order of being asked for), each in a call of its own. */
export class SimTime {
  #now = 0
  #serial = 0
  #events: Event[] = []

  get now(): number {
    return this.#now
  }

  after(ms: number, action: () => void): Cancel {
    const event = {
      at: this.#now + Math.max(0, ms),
      serial: this.#serial++,
      action,
      cancelled: false,
    }
    let low = 0
    let high = this.#events.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = this.#events[middle]
      if (other !== undefined && other.at <= event.at) low = middle + 1
      else high = middle
    }
    this.#events.splice(low, 0, event)
    return () => {
      event.cancelled = true
    }
  }

  /** Moves to the next event, without running it: the caller does. undefined: nothing is left to happen. */
  next(): (() => void) | undefined {
    let event = this.#events.shift()
    while (event?.cancelled) event = this.#events.shift()
    if (event === undefined) return undefined
    this.#now = event.at
    return event.action
  }

  /** Runs the next event and lets what it resolved run too. False: nothing is left to happen. */
  async step(): Promise<boolean> {
    const action = this.next()
    if (action === undefined) return false
    action()
    await new Promise((resolve) => setImmediate(resolve))
    return true
  }

  async runFor(ms: number): Promise<void> {
    let over = false
    this.after(ms, () => {
      over = true
    })
    while (!over) await this.step()
  }

  /** Steps until the condition holds; throws after `ms` of virtual time. */
  async until(condition: () => boolean, ms = 30_000, what = 'the condition'): Promise<void> {
    const deadline = this.#now + ms
    while (!condition()) {
      assert(this.#now <= deadline, () => `${what} did not hold within ${ms} ms`)
      assert(await this.step(), () => `${what} cannot come to hold: nothing is left to happen`)
    }
  }
}

export interface SimOptions {
  /** One-way delay of every piece, drawn evenly. */
  readonly delayMs: { readonly min: number; readonly max: number }
  /** The most bytes one received() gets. */
  readonly pieceBytesMax: number
  /** How often a piece is cut at random below that. */
  readonly splitChance: number
  /** What the "system" takes from a connection whose other side does not read. */
  readonly windowBytes: number
}

const defaults: SimOptions = {
  delayMs: { min: 0.1, max: 2 },
  pieceBytesMax: 65_536,
  splitChance: 0.5,
  windowBytes: 262_144,
}

/** What write() tolerates before it says false. */
const HIGH_WATER_BYTES = 16_384

interface ListenerEntry {
  readonly host: SimHost
  readonly options: ListenOptions
  readonly handler: ListenHandler
  connections: number
}

/** Decides at the birth of a connection after how many delivered bytes of either direction it is reset. */
export type CutRule = (dial: {
  readonly from: string
  readonly to: string
  /** How many connections were dialled before this one. */
  readonly serial: number
}) => { readonly toAcceptor?: number; readonly toDialler?: number } | undefined

export class SimNetwork {
  readonly time: SimTime
  readonly random: Random
  readonly options: SimOptions
  readonly listeners: Map<string, ListenerEntry> = new Map()
  readonly connections: Set<SimConnection> = new Set()
  /** Whoever dials the one address comes out at the other: it was given to another machine. */
  readonly detours: Map<string, string> = new Map()
  readonly #blocked = new Set<string>()
  cutRule: CutRule = () => undefined
  dialled = 0

  constructor(time: SimTime, random: Random, options: Partial<SimOptions> = {}) {
    this.time = time
    this.random = random
    this.options = { ...defaults, ...options }
  }

  /** A machine with this address, from now until kill(). */
  host(name: string): SimHost {
    return new SimHost(this, name)
  }

  /** Nothing moves from one to the other; what is on its way waits. */
  block(from: string, to: string): void {
    this.#blocked.add(`${from}>${to}`)
  }

  unblock(from: string, to: string): void {
    this.#blocked.delete(`${from}>${to}`)
    for (const connection of [...this.connections]) connection.poke()
  }

  isBlocked(from: string, to: string): boolean {
    return this.#blocked.has(`${from}>${to}`)
  }

  delay(): number {
    const { min, max } = this.options.delayMs
    return min + this.random() * (max - min)
  }
}

export class SimHost {
  readonly name: string
  readonly #sim: SimNetwork
  #alive = true
  #ports = 40_000
  readonly network: Network
  readonly timers: Timers
  readonly clock: Clock

  constructor(sim: SimNetwork, name: string) {
    this.#sim = sim
    this.name = name
    this.network = {
      listen: (options, handler) => this.#listen(options, handler),
      dial: (host, port) => this.#dial(host, port),
    }
    this.timers = { after: (ms, action) => this.after(ms, action) }
    this.clock = { monotonic: () => sim.time.now, wall: () => 1_700_000_000_000 + sim.time.now }
  }

  get alive(): boolean {
    return this.#alive
  }

  /** Runs the action in virtual time, unless the host was killed by then. */
  after(ms: number, action: () => void): Cancel {
    return this.#sim.time.after(ms, () => {
      if (this.#alive) action()
    })
  }

  /** kill -9: nothing of it runs any more; the system closes its connections. */
  kill(): void {
    this.#alive = false
    for (const [key, entry] of this.#sim.listeners) {
      if (entry.host === this) this.#sim.listeners.delete(key)
    }
    for (const connection of [...this.#sim.connections]) {
      if (connection.host === this) connection.destroy()
    }
  }

  async #listen(options: ListenOptions, handler: ListenHandler): Promise<Listener> {
    const key = formatAddress(options.host, options.port)
    if (this.#sim.listeners.has(key)) throw new OperatorError('EADDRINUSE', `${key} is in use`)
    this.#sim.listeners.set(key, { host: this, options, handler, connections: 0 })
    return {
      port: options.port,
      close: async () => {
        this.#sim.listeners.delete(key)
      },
    }
  }

  #dial(host: string, port: number): Connection {
    const sim = this.#sim
    const to = formatAddress(host, port)
    const from = formatAddress(this.name, this.#ports++)
    const cut = sim.cutRule({ from: this.name, to, serial: sim.dialled++ })
    const near = new SimConnection(sim, this, { local: from, remote: to }, cut?.toDialler)
    // The way there and back: a listener that is gone, or a link that is blocked, shows only then.
    const knock = (): void => {
      if (near.isClosed) return
      if (sim.isBlocked(this.name, host) || sim.isBlocked(host, this.name)) {
        this.after(50, knock)
        return
      }
      const entry = sim.listeners.get(sim.detours.get(to) ?? to)
      if (entry === undefined) near.fail('ECONNREFUSED')
      else if (entry.connections < entry.options.connectionsMax) accept(entry)
      else near.fail('ECONNRESET')
    }
    const accept = (entry: ListenerEntry): void => {
      const far = new SimConnection(sim, entry.host, { local: to, remote: from }, cut?.toAcceptor)
      near.join(far)
      entry.connections++
      far.onGone = () => entry.connections--
      entry.handler.accepted(far)
      near.opened(sim.delay())
    }
    this.after(sim.delay(), knock)
    return near
  }
}

type Piece = { readonly at: number; readonly bytes: Uint8Array | 'end' }

/** One end of a connection. What it sends waits in `#out`, then is on its way in the other end's `#inbound`. */
export class SimConnection implements Connection {
  readonly host: SimHost
  readonly remoteAddress: string
  readonly localAddress: string
  readonly #sim: SimNetwork
  #handler: ConnectionHandler | undefined
  #other: SimConnection | undefined
  #state: 'open' | 'ending' | 'closed' = 'open'
  #paused = false

  #out: Uint8Array[] = []
  #outBytes = 0
  #wantsDrain = false

  #inbound: Piece[] = []
  #inboundBytes = 0
  #lastArrival = 0
  #delivering = false
  /** Bytes that may still be delivered here before the connection is reset. */
  #cutAfter: number

  onGone: () => void = () => {}

  constructor(
    sim: SimNetwork,
    host: SimHost,
    addresses: { local: string; remote: string },
    cutAfter: number | undefined,
  ) {
    this.#sim = sim
    this.host = host
    this.localAddress = addresses.local
    this.remoteAddress = addresses.remote
    this.#cutAfter = cutAfter ?? Number.POSITIVE_INFINITY
    sim.connections.add(this)
  }

  get isClosed(): boolean {
    return this.#state === 'closed'
  }

  get bufferedBytes(): number {
    return this.#outBytes
  }

  join(other: SimConnection): void {
    this.#other = other
    other.#other = this
  }

  start(handler: ConnectionHandler): void {
    assert(this.#handler === undefined, () => 'a connection was started twice')
    this.#handler = handler
  }

  opened(delay: number): void {
    this.#later(delay, () => {
      if (this.#state !== 'closed') this.#handler?.opened()
    })
  }

  write(bytes: Uint8Array): boolean {
    if (this.#state !== 'open') return false
    this.#out.push(bytes)
    this.#outBytes += bytes.length
    this.#later(0, () => this.#transmit())
    if (this.#outBytes < HIGH_WATER_BYTES) return true
    this.#wantsDrain = true
    return false
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#later(0, () => this.#deliver())
  }

  end(): void {
    if (this.#state !== 'open') return
    this.#state = 'ending'
    this.#later(0, () => this.#transmit())
  }

  destroy(): void {
    if (this.#state === 'closed') return
    this.#out = []
    this.#outBytes = 0
    this.#finish()
  }

  /** The connection ends with an error, as the system reports it. */
  fail(code: string): void {
    if (this.#state !== 'closed') this.#gone(new Error(code))
  }

  /** Both sides learn that the connection is gone; what is on its way is lost. */
  reset(): void {
    const other = this.#other
    this.fail('ECONNRESET')
    other?.fail('ECONNRESET')
  }

  /** Something that held pieces back may be over. */
  poke(): void {
    this.#later(0, () => this.#deliver())
  }

  #transmit(): void {
    const other = this.#other
    if (this.#state === 'closed' || other === undefined) return
    if (other.isClosed) {
      // The other side is gone: the system learns it from the answer to what was sent.
      if (this.#outBytes > 0) this.#later(this.#sim.delay(), () => this.fail('ECONNRESET'))
      if (this.#outBytes > 0) return
    }
    const { pieceBytesMax, splitChance, windowBytes } = this.#sim.options
    while (this.#out.length > 0 && other.#inboundBytes < windowBytes) {
      const [next] = this.#out
      if (next === undefined) break
      const most = Math.min(next.length, pieceBytesMax)
      const split = this.#sim.random() < splitChance
      const take = split ? 1 + Math.floor(this.#sim.random() * most) : most
      const piece = next.slice(0, take)
      if (piece.length === next.length) this.#out.shift()
      else this.#out[0] = next.subarray(piece.length)
      this.#outBytes -= piece.length
      other.#arrive(piece)
    }
    if (this.#outBytes > 0) return
    if (this.#state === 'ending') this.#finish()
    else if (this.#wantsDrain) {
      this.#wantsDrain = false
      this.#later(0, () => {
        if (this.#state === 'open') this.#handler?.drained()
      })
    }
  }

  #arrive(bytes: Uint8Array | 'end'): void {
    const at = Math.max(this.#lastArrival, this.#sim.time.now + this.#sim.delay())
    this.#lastArrival = at
    this.#inbound.push({ at, bytes })
    if (bytes !== 'end') this.#inboundBytes += bytes.length
    this.#later(at - this.#sim.time.now, () => this.#deliver())
  }

  #deliver(): void {
    if (this.#delivering) return
    this.#delivering = true
    while (this.#inbound.length > 0 && this.#mayDeliver()) {
      const piece = this.#inbound.shift()
      if (piece === undefined) break
      if (piece.bytes === 'end') {
        this.#handler?.finished()
        continue
      }
      this.#inboundBytes -= piece.bytes.length
      const whole = piece.bytes.length <= this.#cutAfter
      const bytes = whole ? piece.bytes : piece.bytes.subarray(0, this.#cutAfter)
      this.#cutAfter -= bytes.length
      if (bytes.length > 0) this.#handler?.received(bytes)
      if (!whole || this.#cutAfter === 0) {
        this.reset()
        break
      }
      const other = this.#other
      if (other !== undefined) other.#later(0, () => other.#transmit())
    }
    this.#delivering = false
  }

  #mayDeliver(): boolean {
    const due = (this.#inbound[0]?.at ?? Number.POSITIVE_INFINITY) <= this.#sim.time.now
    if (!due || this.#paused || this.#state === 'closed' || !this.host.alive) return false
    return this.#other === undefined || !this.#sim.isBlocked(this.#other.host.name, this.host.name)
  }

  /** An orderly close: the other side still gets what was sent. */
  #finish(): void {
    const other = this.#other
    if (other !== undefined) other.#arrive('end')
    this.#gone(undefined)
  }

  #gone(error: Error | undefined): void {
    this.#state = 'closed'
    this.#inbound = []
    this.#sim.connections.delete(this)
    this.onGone()
    this.#later(0, () => this.#handler?.closed(error))
  }

  #later(ms: number, action: () => void): void {
    this.host.after(ms, action)
  }
}
