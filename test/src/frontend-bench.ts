/*
 * A frontend with the sockets, the clocks and the turns in the test's hand, over the router of router-bench.ts. Each
 * client is the other end of a connection whose "system" takes as many bytes as the test allows.
 */

import { Buffer } from 'node:buffer'
import { loadConfig } from '../../src/config-load.ts'
import { Frontend } from '../../src/frontend.ts'
import type { Connection, ConnectionHandler, ListenHandler } from '../../src/network.ts'
import type { Session } from '../../src/session.ts'
import { FakeServer } from './command-fixture.ts'
import { RouterBench } from './router-bench.ts'

/** What local commands ask of a node, with the connections of its frontend. */
class ServerBench extends FakeServer {
  readonly #frontend: () => Frontend

  constructor(frontend: () => Frontend) {
    super()
    this.#frontend = frontend
  }

  override sessions(): Iterable<Session> {
    return this.#frontend().sessions()
  }

  override pause(ms: number, mode: 'all' | 'write'): void {
    this.#frontend().pause(ms, mode)
  }

  override unpause(): void {
    this.#frontend().unpause()
  }
}

export class FrontendBench {
  readonly bench: RouterBench
  readonly server: ServerBench = new ServerBench(() => this.frontend)
  readonly frontend: Frontend
  readonly warnings: string[] = []
  wakes = 0
  /** Time that passes whenever somebody looks at the monotonic clock. */
  lookMs = 0
  #accept: ListenHandler['accepted'] | undefined
  #timers: { at: number; action: () => void; cancelled: boolean }[] = []

  /** `config` as on the command line; `room` false: the log takes nothing. */
  constructor(
    config: readonly string[] = [],
    limits: ConstructorParameters<typeof RouterBench>[0] = {},
  ) {
    this.bench = new RouterBench(limits)
    this.bench.lead(1)
    this.server.time = 0
    this.frontend = new Frontend({
      network: {
        listen: async (options, handler) => {
          this.#accept = handler.accepted
          return { port: options.port, close: async () => {} }
        },
        dial: () => {
          throw new Error('a frontend dials nobody')
        },
      },
      clock: {
        monotonic: () => {
          this.bench.now += this.lookMs
          return this.bench.now
        },
        wall: () => 0,
      },
      timers: {
        after: (ms, action) => {
          const timer = { at: this.bench.now + ms, action, cancelled: false }
          this.#timers.push(timer)
          return () => {
            timer.cancelled = true
          }
        },
      },
      config: loadConfig({ argv: config, environment: {}, readFile: () => '' }),
      router: this.bench.router,
      server: this.server,
      log: { warn: (_, text) => this.warnings.push(text) },
      wake: () => this.wakes++,
    })
  }

  static async open(
    ...options: ConstructorParameters<typeof FrontendBench>
  ): Promise<FrontendBench> {
    const bench = new FrontendBench(...options)
    await bench.frontend.open(['127.0.0.1'], 6379)
    return bench
  }

  connect(address = '127.0.0.1:50000'): FakeClient {
    const client = new FakeClient(address)
    this.#accept?.(client)
    return client
  }

  /** Commands are started and placed; their replies stay out. */
  begin(): void {
    this.frontend.work()
    this.bench.router.flush()
  }

  /** A whole turn, at the end of which everything that was placed is answered and written. */
  turn(): void {
    this.begin()
    // As in a replica: what this part of a turn asks for, this very turn does.
    this.wakes = 0
    this.bench.wakes = 0
    this.bench.answerRounds(true)
    this.bench.apply()
    this.frontend.flush()
  }

  /** Turns until neither the frontend nor the router asks for one any more. */
  settle(): void {
    for (let turn = 0; turn < 1000; turn++) {
      this.turn()
      if (this.wakes + this.bench.wakes === 0) return
    }
    throw new Error('the turns never end')
  }

  pass(ms: number): void {
    const end = this.bench.now + ms
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
      if (next === undefined) break
      this.#timers = this.#timers.filter((timer) => timer !== next)
      this.bench.now = next.at
      this.server.time = next.at
      if (!next.cancelled) next.action()
    }
    this.bench.now = end
    this.server.time = end
  }
}

/** A client and the connection to it, as the server holds it. */
export class FakeClient implements Connection {
  readonly remoteAddress: string
  readonly localAddress = '127.0.0.1:6379'
  /** Bytes that the system still takes; what is beyond stays in the server's memory. */
  window: number = Number.POSITIVE_INFINITY
  bufferedBytes = 0
  paused = false
  state: 'open' | 'ended' | 'destroyed' = 'open'
  #handler: ConnectionHandler | undefined
  #read: Buffer[] = []

  constructor(remoteAddress: string) {
    this.remoteAddress = remoteAddress
  }

  // ---- The server's end

  start(handler: ConnectionHandler): void {
    this.#handler = handler
  }

  write(bytes: Uint8Array): boolean {
    if (this.state !== 'open') return false
    this.#read.push(Buffer.from(bytes))
    const taken = Math.min(this.window, bytes.length)
    this.window -= taken
    this.bufferedBytes += bytes.length - taken
    return this.bufferedBytes === 0
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  end(): void {
    if (this.state === 'open') this.state = 'ended'
  }

  destroy(): void {
    this.state = 'destroyed'
  }

  // ---- The client's end

  /** Bytes on the wire, latin1. */
  send(text: string): void {
    this.#handler?.received(Buffer.from(text, 'latin1'))
  }

  /** Inline commands, one per line. */
  ask(...lines: readonly string[]): void {
    this.send(lines.map((line) => `${line}\r\n`).join(''))
  }

  finish(): void {
    this.#handler?.finished()
  }

  /** Reads what has piled up. */
  drain(): void {
    this.window = Number.POSITIVE_INFINITY
    this.bufferedBytes = 0
    this.#handler?.drained()
  }

  closed(): void {
    this.#handler?.closed(undefined)
  }

  /** What the server wrote since the last call, with line ends as '|'. */
  read(): string {
    const text = Buffer.concat(this.#read).toString('latin1')
    this.#read = []
    return text.replaceAll('\r\n', '|')
  }

  /** How many writes there were since the last read(). */
  get writes(): number {
    return this.#read.length
  }
}

/** A command as clients send it. */
export function resp(...words: readonly string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`
}
