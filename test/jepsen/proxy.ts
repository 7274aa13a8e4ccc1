/*
 * What stands between the peers of a test cluster: a proxy in front of each node's peer port, which knows from the
 * first bytes of a connection which node dialled it. So each direction between two nodes can be cut, slowed or
 * disturbed by itself, which no rule for packets can do to TCP: without the way back it starves both ways.
 */

import { connect, createServer, type Server, type Socket } from 'node:net'

export interface Address {
  readonly host: string
  readonly port: number
}

/** How bytes from one node to another travel. */
export interface Way {
  /** Nothing arrives; what was sent waits, as in a network that loses every packet. */
  cut: boolean
  delayMs: number
  /** Chance, per piece of data, that it and all behind it comes STALL_MS later: a lost packet, sent again. */
  loss: number
}

/** Linux sends a lost segment again after 200 ms at the earliest. */
const STALL_MS = 200
/** A hello with the identity of its sender has arrived when so much has. */
const HELLO_BYTES_MAX = 16_384

export class PeerProxy {
  readonly #ways = new Map<string, Way>()
  readonly #pipes = new Set<Pipe>()
  readonly #servers: Server[] = []
  readonly #random: () => number
  /** The announced address of each node, and where it really listens. */
  readonly #nodes: readonly { readonly announced: Address; readonly real: Address }[]

  constructor(
    nodes: readonly { readonly announced: Address; readonly real: Address }[],
    random: () => number,
  ) {
    this.#nodes = nodes
    this.#random = random
  }

  async open(): Promise<void> {
    for (const [to, { announced, real }] of this.#nodes.entries()) {
      const server = createServer((socket) => this.#accept(socket, to, real))
      this.#servers.push(server)
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen({ ...announced, exclusive: true }, resolve)
      })
    }
  }

  /** The way from one node to another, by their numbers; change it as you like. */
  way(from: number, to: number): Way {
    const name = `${from}>${to}`
    let way = this.#ways.get(name)
    if (way === undefined) {
      way = { cut: false, delayMs: 0, loss: 0 }
      this.#ways.set(name, way)
    }
    return way
  }

  /** Everything flows again; half of the connections that were held up break, as their owners may have given up. */
  heal(): void {
    for (const way of this.#ways.values()) Object.assign(way, { cut: false, delayMs: 0, loss: 0 })
    for (const pipe of [...this.#pipes]) {
      if (pipe.held && this.#random() < 0.5) pipe.destroy()
      else pipe.flow()
    }
  }

  close(): void {
    for (const server of this.#servers) server.close()
    for (const pipe of [...this.#pipes]) pipe.destroy()
  }

  #accept(inbound: Socket, to: number, real: Address): void {
    const outbound = connect(real)
    let hello = Buffer.alloc(0)
    for (const socket of [inbound, outbound]) {
      socket.setNoDelay(true)
      socket.on('error', () => {})
    }
    inbound.once('close', () => outbound.destroy())
    outbound.once('close', () => inbound.destroy())
    const learn = (chunk: Buffer): void => {
      hello = Buffer.concat([hello, chunk])
      const from = this.#senderOf(hello, to)
      if (from === undefined && hello.length < HELLO_BYTES_MAX) return
      inbound.off('data', learn)
      this.#join({ inbound, outbound, from: from ?? to, to }, hello)
    }
    inbound.on('data', learn)
  }

  /** A hello carries the announced address of the node that sends it. */
  #senderOf(hello: Buffer, to: number): number | undefined {
    const found = this.#nodes.findIndex(
      ({ announced }, at) => at !== to && hello.includes(`${announced.host}:${announced.port}`),
    )
    return found < 0 ? undefined : found
  }

  #join(
    link: { inbound: Socket; outbound: Socket; from: number; to: number },
    hello: Buffer,
  ): void {
    const { inbound, outbound, from, to } = link
    const there = new Pipe(inbound, outbound, this.way(from, to), this.#random)
    const back = new Pipe(outbound, inbound, this.way(to, from), this.#random)
    for (const pipe of [there, back]) {
      this.#pipes.add(pipe)
      pipe.onEnd(() => this.#pipes.delete(pipe))
    }
    there.received(hello)
  }
}

/** One direction of one connection. */
class Pipe {
  readonly #from: Socket
  readonly #to: Socket
  readonly #way: Way
  readonly #random: () => number
  #waiting: { readonly bytes: Buffer; readonly due: number }[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(from: Socket, to: Socket, way: Way, random: () => number) {
    this.#from = from
    this.#to = to
    this.#way = way
    this.#random = random
    from.on('data', (bytes: Buffer) => this.received(bytes))
    to.on('drain', () => this.flow())
  }

  get held(): boolean {
    return this.#waiting.length > 0
  }

  onEnd(ended: () => void): void {
    this.#from.once('close', () => {
      clearTimeout(this.#timer)
      ended()
    })
  }

  received(bytes: Buffer): void {
    const stall = this.#random() < this.#way.loss ? STALL_MS : 0
    const earliest = this.#waiting.at(-1)?.due ?? 0
    const due = Math.max(performance.now() + this.#way.delayMs + stall, earliest)
    this.#waiting.push({ bytes, due })
    this.flow()
  }

  /** Hands over what is due. What is held up is not read either, so that the sender feels it in the end. */
  flow(): void {
    clearTimeout(this.#timer)
    const now = performance.now()
    let open = !this.#to.writableNeedDrain
    while (open && !this.#way.cut && (this.#waiting[0]?.due ?? Number.POSITIVE_INFINITY) <= now) {
      open = this.#to.write((this.#waiting.shift() as { bytes: Buffer }).bytes)
    }
    const next = this.#waiting[0]
    if (next === undefined) {
      this.#from.resume()
      return
    }
    if (this.#way.cut || !open) this.#from.pause()
    else this.#timer = setTimeout(() => this.flow(), Math.max(1, next.due - now))
  }

  destroy(): void {
    this.#from.destroy()
  }
}
