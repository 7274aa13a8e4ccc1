/*
 * A client of the simulation: pipelines of commands with unique tokens over one connection at a time, to whatever
 * node answers, until it is told to stop. It knows the bytes of RESP2 and nothing of what replies must be: each goes
 * to the judge together with what was asked and when.
 */

import type { Random } from '../../raft/ports.ts'
import type { Connection } from '../../src/network.ts'
import type { Words } from './canon.ts'
import type { SimHost } from './network.ts'
import { parseReply, request } from './resp-connection.ts'

/** One command on its way. */
export interface Asked {
  readonly words: Words
  /** The op number that every later command must see: see Judge. */
  readonly floor: number
  /** When it was asked, by the judge's time. */
  readonly at: number
  readonly session: ClientSession
}

/** One connection's order, for the judge. */
export interface ClientSession {
  readonly client: string
  readonly node: string
  /** The op number at which its last judged command took effect. */
  seen: number
}

export interface Judge {
  /** What has been acknowledged to anybody by now. */
  readonly floor: number
  readonly now: number
  replied(asked: Asked, reply: string): void
  /** The connection ended before the reply. */
  unanswered(asked: Asked): void
}

export interface ClientOptions {
  readonly name: string
  readonly random: Random
  readonly host: SimHost
  /** The addresses that a connection may be made to now. */
  readonly addresses: () => readonly string[]
  /** Nobody is served there. */
  readonly isStranger: (address: string) => boolean
  readonly port: number
  readonly judge: Judge
  readonly pipelineMax: number
  readonly thinkMs: number
  readonly patienceMs: number
  readonly largeValueChance: number
  /** Whether clients only read at the moment. */
  readonly onlyReads: () => boolean
  /** All of them hurry and meet at one key, some only to read it: who sees the old value must know the new one. */
  readonly hurry: () => 'reads' | 'writes' | undefined
}

/** What waits for replies on one connection above which a client sends no more. */
const OPEN_MAX = 64
/** It asks a node so often that redirects it, and then goes where it was told. */
const MOVED_MAX = 10
const KEYS = 12
/** How many times faster clients are in a hurry. */
const HURRY = 8
const PLAIN_KEYS = 4
/** Keys that never expire, and have their value by SET and the like, or by INCR only. */
export const PLAIN_PREFIX = 'r'
export const COUNTER_PREFIX = 'c'

export class SimClient {
  readonly #options: ClientOptions
  #line: Line | undefined
  #serial = 0
  #stopped = false
  /** Rises with every connection, so that each has counters of its own. */
  #connections = 0

  constructor(options: ClientOptions) {
    this.#options = options
  }

  start(): void {
    this.#act()
  }

  /** Asks nothing more. */
  stop(): void {
    this.#stopped = true
  }

  get waiting(): number {
    return this.#line?.waiting ?? 0
  }

  /** Lets go of its connection. */
  leave(): void {
    this.#line?.leave()
    this.#line = undefined
  }

  #act(): void {
    if (this.#stopped) return
    const { random, host, thinkMs, pipelineMax, patienceMs } = this.#options
    const line = this.#usableLine(patienceMs)
    if (line !== undefined && line.waiting < OPEN_MAX) {
      const count = 1 + Math.floor(random() * pipelineMax)
      line.ask(Array.from({ length: count }, () => this.#command()))
    }
    const pace = this.#options.hurry() === undefined ? 1 : HURRY
    host.after((random() * 2 * thinkMs) / pace, () => this.#act())
  }

  #usableLine(patienceMs: number): Line | undefined {
    const { random, addresses } = this.#options
    const old = this.#line
    const isLost = old !== undefined && this.#options.isStranger(old.address) && random() < 0.3
    const leaves = random() < (this.#options.hurry() === undefined ? 0.01 : 0.2) || isLost
    const stays = !leaves && old?.movedTo === undefined
    if (old !== undefined && !old.closed && old.silentMs() < patienceMs && stays) return old
    old?.leave()
    const all = addresses()
    const address = old?.movedTo ?? all[Math.floor(random() * all.length)]
    this.#connections++
    this.#line = address === undefined ? undefined : new Line(this.#options, address)
    return this.#line
  }

  /** A time to live that may run out between two commands, or that outlives the leader. */
  #ms(): string {
    const { random, thinkMs } = this.#options
    return String(1 + Math.floor(random() * random() * random() * 40 * thinkMs))
  }

  #pexpire(key: string): Words {
    const dice = this.#options.random()
    if (dice < 0.1) return ['PEXPIRE', key, '-1']
    return ['PEXPIRE', key, this.#ms(), ...(dice < 0.4 ? ['GT'] : [])]
  }

  /** On few keys, so that clients meet there. */
  #plainCommand(token: string, keys: number): Words {
    const { random } = this.#options
    const key = `${PLAIN_PREFIX}${Math.floor(random() * keys)}`
    const dice = random()
    if (dice < 0.5) return ['GET', key]
    if (dice < 0.75) return ['SET', key, token]
    if (dice < 0.85) return ['GETSET', key, token]
    if (dice < 0.9) return ['APPEND', key, token]
    return [dice < 0.95 ? 'SETNX' : 'DEL', key, token]
  }

  #command(): Words {
    const { random, name, largeValueChance } = this.#options
    const token = `${name}.${++this.#serial}`
    if (this.#options.onlyReads())
      return ['GET', `${PLAIN_PREFIX}${Math.floor(random() * PLAIN_KEYS)}`]
    const hurry = this.#options.hurry()
    if (hurry === 'reads') return ['GET', `${PLAIN_PREFIX}0`]
    if (hurry === 'writes') return this.#plainCommand(token, 1)
    if (random() < 0.25) return this.#plainCommand(token, PLAIN_KEYS)
    const key = `k${Math.floor(random() * random() * KEYS)}`
    const dice = random()
    const large = random() < largeValueChance
    if (dice < 0.12) return ['SET', key, large ? token.padEnd(100_000, '~') : token]
    if (dice < 0.17) return ['SET', key, token, 'PX', this.#ms()]
    if (dice < 0.18) return ['SET', key, token, 'KEEPTTL']
    if (dice < 0.21) return this.#pexpire(key)
    if (dice < 0.23) return ['PERSIST', key]
    if (dice < 0.3) return ['APPEND', key, token]
    if (dice < 0.36) return ['SETNX', key, token]
    if (dice < 0.42) return ['GETSET', key, token]
    if (dice < 0.5) return ['DEL', key, token]
    if (dice < 0.6) return ['INCR', `${COUNTER_PREFIX}${name}:${this.#connections % 3}`]
    if (dice < 0.8) return ['GET', key]
    if (dice < 0.82) return ['PEXPIRETIME', key]
    if (dice < 0.84) return ['PTTL', key]
    if (dice < 0.92) return ['MGET', key, `k${Math.floor(random() * KEYS)}`, 'none']
    if (dice < 0.95) return ['DBSIZE']
    return ['ECHO', token]
  }
}

/** One connection of a client. */
export class Line {
  readonly #connection: Connection
  readonly #host: SimHost
  readonly #judge: Judge
  readonly #session: ClientSession
  readonly #asked: Asked[] = []
  readonly address: string
  #input: Buffer = Buffer.alloc(0)
  #unsent: Buffer[] | undefined = []
  #heardAt: number
  /** Replies in a row that were MOVED. */
  #moved = 0
  /** Where a node that redirects again and again says that the leader is. */
  movedTo: string | undefined
  closed = false

  constructor(options: Pick<ClientOptions, 'host' | 'judge' | 'name' | 'port'>, address: string) {
    const { host, judge, name, port } = options
    this.#host = host
    this.#judge = judge
    this.address = address
    this.#session = { client: name, node: address, seen: 0 }
    this.#heardAt = host.clock.monotonic()
    this.#connection = host.network.dial(address, port)
    this.#connection.start({
      opened: () => {
        for (const bytes of this.#unsent ?? []) this.#connection.write(bytes)
        this.#unsent = undefined
      },
      received: (bytes) => this.#received(bytes),
      finished: () => this.#connection.destroy(),
      drained: () => {},
      closed: () => this.#end(),
    })
  }

  get waiting(): number {
    return this.#asked.length
  }

  /** How long it has waited for a reply. */
  silentMs(): number {
    return this.#asked.length === 0 ? 0 : this.#host.clock.monotonic() - this.#heardAt
  }

  ask(commands: readonly Words[]): void {
    if (this.#asked.length === 0) this.#heardAt = this.#host.clock.monotonic()
    const { floor, now: at } = this.#judge
    for (const words of commands) this.#asked.push({ words, floor, at, session: this.#session })
    const bytes = Buffer.concat(commands.map(request))
    if (this.#unsent === undefined) this.#connection.write(bytes)
    else this.#unsent.push(bytes)
  }

  leave(): void {
    this.#connection.destroy()
    this.#end()
  }

  #end(): void {
    if (this.closed) return
    this.closed = true
    for (const asked of this.#asked.splice(0)) this.#judge.unanswered(asked)
  }

  #received(bytes: Uint8Array): void {
    if (this.closed) return
    this.#heardAt = this.#host.clock.monotonic()
    this.#input =
      this.#input.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#input, bytes])
    while (!this.closed) {
      const parsed = this.#input.length === 0 ? undefined : parseReply(this.#input, 0)
      if (parsed === undefined) return
      const reply = this.#input.toString('latin1', 0, parsed.end)
      this.#input = this.#input.subarray(parsed.end)
      const [, leader] = /^-MOVED \d+ ([^:\r]+)/.exec(reply) ?? []
      this.#moved = leader === undefined ? 0 : this.#moved + 1
      if (this.#moved >= MOVED_MAX) this.movedTo = leader
      const asked = this.#asked.shift()
      if (asked === undefined) throw new Error(`a reply that nobody asked for: ${reply}`)
      this.#judge.replied(asked, reply)
    }
  }
}
