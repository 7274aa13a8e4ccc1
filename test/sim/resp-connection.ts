/*
 * A client of a simulated node: RESP2 over the in-memory network, commands out as they are given, replies back in
 * order, each noted beside its command with the time of both. It checks nothing and retries nothing; a reply that no
 * command waits for is an error of the node.
 */

import { Buffer } from 'node:buffer'
import { assert } from '../../raft/assert.ts'
import type { Connection } from '../../src/network.ts'
import type { SimHost, SimTime } from './network.ts'

/** As RESP2 has it; bulk strings are latin1 text, errors begin with '-'. */
export type SimReply = string | number | null | readonly SimReply[]

export interface Exchange {
  readonly words: readonly string[]
  readonly sentAt: number
  /** undefined: not answered (yet). */
  reply: SimReply | undefined
  repliedAt: number
}

export class RespConnection {
  readonly #connection: Connection
  readonly #time: SimTime
  #unsent: Uint8Array[] | undefined = []
  #input: Buffer = Buffer.alloc(0)
  #answered = 0
  /** Everything asked on this connection, in order. */
  readonly exchanges: Exchange[] = []
  closed = false
  /** The node has ended its side. */
  finished = false

  constructor(time: SimTime, host: SimHost, address: { host: string; port: number }) {
    this.#time = time
    this.#connection = host.network.dial(address.host, address.port)
    this.#connection.start({
      opened: () => {
        for (const bytes of this.#unsent ?? []) this.#connection.write(bytes)
        this.#unsent = undefined
      },
      received: (bytes) => this.#received(bytes),
      finished: () => {
        this.finished = true
        this.#connection.destroy()
      },
      drained: () => {},
      closed: () => {
        this.closed = true
      },
    })
  }

  /** Sends the commands in one piece. */
  send(...commands: readonly (readonly string[])[]): readonly Exchange[] {
    const sentAt = this.#time.now
    const exchanges = commands.map((words) => ({ words, sentAt, reply: undefined, repliedAt: 0 }))
    this.exchanges.push(...exchanges)
    this.raw(Buffer.concat(commands.map(request)))
    return exchanges
  }

  raw(bytes: Uint8Array): void {
    if (this.#unsent === undefined) this.#connection.write(bytes)
    else this.#unsent.push(bytes)
  }

  /** Sends no more; replies may still come. */
  end(): void {
    this.#connection.end()
  }

  destroy(): void {
    this.#connection.destroy()
  }

  /** Stops reading, as a client does that has no interest in its replies. */
  pause(): void {
    this.#connection.pause()
  }

  resume(): void {
    this.#connection.resume()
  }

  get unanswered(): number {
    return this.exchanges.length - this.#answered
  }

  #received(bytes: Uint8Array): void {
    this.#input = Buffer.concat([this.#input, bytes])
    for (;;) {
      const parsed = parseReply(this.#input, 0)
      if (parsed === undefined) return
      this.#input = this.#input.subarray(parsed.end)
      const exchange = this.exchanges[this.#answered++]
      assert(exchange !== undefined, () => `a reply that nobody asked for: ${parsed.reply}`)
      exchange.reply = parsed.reply
      exchange.repliedAt = this.#time.now
    }
  }
}

export function request(words: readonly string[]): Buffer {
  const parts = words.map((word) => `$${Buffer.byteLength(word, 'latin1')}\r\n${word}\r\n`)
  return Buffer.from(`*${words.length}\r\n${parts.join('')}`, 'latin1')
}

/** The reply that begins at `at`; undefined while it is not complete. */
export function parseReply(
  bytes: Buffer,
  at: number,
): { readonly reply: SimReply; readonly end: number } | undefined {
  const lineEnd = bytes.indexOf('\r\n', at)
  if (lineEnd < 0) return undefined
  const line = bytes.toString('latin1', at + 1, lineEnd)
  const end = lineEnd + 2
  switch (String.fromCharCode(bytes[at] ?? 0)) {
    case '+':
      return { reply: line, end }
    case '-':
      return { reply: `-${line}`, end }
    case ':':
      return { reply: Number(line), end }
    case '$': {
      const length = Number(line)
      if (length < 0) return { reply: null, end }
      if (bytes.length < end + length + 2) return undefined
      return { reply: bytes.toString('latin1', end, end + length), end: end + length + 2 }
    }
    case '*': {
      const replies: SimReply[] = []
      let next = end
      for (let i = Number(line); i > 0; i--) {
        const parsed = parseReply(bytes, next)
        if (parsed === undefined) return undefined
        replies.push(parsed.reply)
        next = parsed.end
      }
      return { reply: Number(line) < 0 ? null : replies, end: next }
    }
    default:
      throw new Error(`not RESP2: ${bytes.toString('latin1', at, at + 80)}`)
  }
}
