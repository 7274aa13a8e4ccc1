/*
 * A client that hides nothing: one socket, requests out as given, replies back in order, errors as values and the
 * bytes of a bulk string untouched. Real clients reconnect, resend and decode; tests of what the server itself
 * promises must see every byte and every close. It knows RESP2 and what RESP3 adds to it, but no command.
 */

import { connect, type Socket } from 'node:net'

/** An error reply, its code included. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError'

  /** The first word: ERR, MOVED, CLUSTERDOWN, TIMEOUT. */
  get code(): string {
    return this.message.split(' ', 1)[0] ?? ''
  }
}

/** The connection ended: the fate of whatever was not answered is unknown. */
export class ConnectionClosedError extends Error {
  override readonly name = 'ConnectionClosedError'
}

/** Simple strings are strings, bulk strings are Buffers; maps and sets are flat arrays as in RESP2. */
export type ReplyValue = string | Buffer | number | boolean | null | ReplyError | ReplyValue[]

export type Argument = string | Buffer | number

const LOOPBACK = '127.0.0.1'
const CRLF = Buffer.from('\r\n')
/** A server that says nothing for so long has failed the test, which should say where. */
const SILENCE_MS = 20_000

/** The bytes of one request. */
export function request(args: readonly Argument[]): Buffer {
  const parts: Buffer[] = []
  // A piece of text as long as there is only text: a million arguments are no millions of buffers.
  let text = `*${args.length}\r\n`
  for (const argument of args) {
    if (Buffer.isBuffer(argument)) {
      parts.push(Buffer.from(`${text}$${argument.length}\r\n`), argument)
      text = '\r\n'
    } else {
      const word = String(argument)
      text += `$${Buffer.byteLength(word)}\r\n${word}\r\n`
    }
  }
  return Buffer.concat([...parts, Buffer.from(text)])
}

interface Waiting {
  resolve(reply: ReplyValue): void
  reject(error: Error): void
}

export class RespClient {
  readonly #socket: Socket
  #waiting: Waiting[] = []
  #chunks: Buffer[] = []
  #bytes = 0
  /** The reply being received cannot be complete before so many bytes are here. */
  #needed = 1
  #closed = false
  readonly #whenClosed: Promise<void>

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#received(chunk))
    socket.on('error', () => {})
    socket.setTimeout(SILENCE_MS, () => {
      if (this.#waiting.length === 0) return
      const waiting = this.#waiting
      this.#waiting = []
      for (const one of waiting) one.reject(new Error(`no reply within ${SILENCE_MS} ms`))
      socket.destroy()
    })
    this.#whenClosed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#closed = true
        const waiting = this.#waiting
        this.#waiting = []
        for (const one of waiting) one.reject(new ConnectionClosedError('the connection ended'))
        resolve()
      })
    })
  }

  /** Rejects with the system's error when nobody listens there. */
  /** `from`: the address of this end, where it matters. */
  static connect(port: number, host: string = LOOPBACK, from?: string): Promise<RespClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, ...(from !== undefined && { localAddress: from }) })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new RespClient(socket))
      })
    })
  }

  get closed(): boolean {
    return this.#closed
  }

  /** This end's port: how a trace of the server names the connection. */
  get localPort(): number {
    return this.#socket.localPort ?? 0
  }

  whenClosed(): Promise<void> {
    return this.#whenClosed
  }

  /** Resolves with the reply, an error reply included; rejects with ConnectionClosedError when there is none. */
  call(...args: readonly Argument[]): Promise<ReplyValue> {
    return this.sendRaw(request(args))
  }

  /** Sends any bytes, as a request that has one reply. */
  sendRaw(bytes: Buffer | string): Promise<ReplyValue> {
    if (this.#closed) return Promise.reject(new ConnectionClosedError('the connection has ended'))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#socket.write(bytes)
    })
  }

  /** Sends any bytes that have no reply of their own. */
  write(bytes: Buffer | string): void {
    this.#socket.write(bytes)
  }

  /** Stops reading: what the server sends from now on stays in the sockets' buffers, and then in the server. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Half-closes: the server may still answer what was sent. */
  finish(): void {
    this.#socket.end()
  }

  close(): void {
    this.#socket.destroy()
  }

  /** Closes with a reset instead of an orderly end. */
  reset(): void {
    this.#socket.resetAndDestroy()
  }

  #received(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes < this.#needed) return
    const buffer = Buffer.concat(this.#chunks)
    let at = 0
    this.#needed = 1
    while (at < buffer.length) {
      const parsed = parse(buffer, at)
      if ('needed' in parsed) {
        this.#needed = parsed.needed - at
        break
      }
      at = parsed.end
      this.#waiting.shift()?.resolve(parsed.value)
    }
    const rest = buffer.subarray(at)
    this.#chunks = rest.length > 0 ? [rest] : []
    this.#bytes = rest.length
  }
}

/** One request over a connection of its own; a port alone is one of this machine. */
export async function ask(
  where: number | { readonly host: string; readonly port: number },
  ...args: readonly Argument[]
): Promise<ReplyValue> {
  const { host, port } = typeof where === 'number' ? { host: LOOPBACK, port: where } : where
  const client = await RespClient.connect(port, host)
  try {
    return await client.call(...args)
  } finally {
    client.close()
  }
}

/** What a string reply says; anything else in JSON, for messages and comparisons. */
export function textOf(reply: ReplyValue): string {
  if (typeof reply === 'string') return reply
  if (Buffer.isBuffer(reply)) return reply.toString()
  return reply instanceof ReplyError ? `-${reply.message}` : JSON.stringify(reply)
}

/** Either a value and where it ends, or how far the buffer must reach before another attempt is worth it. */
type Parsed = { readonly value: ReplyValue; readonly end: number } | { readonly needed: number }

function parse(buffer: Buffer, at: number): Parsed {
  const lineEnd = buffer.indexOf(CRLF, at)
  if (lineEnd === -1) return { needed: buffer.length + 1 }
  const line = buffer.toString('latin1', at + 1, lineEnd)
  const end = lineEnd + CRLF.length
  const type = String.fromCharCode(buffer[at] ?? 0)
  switch (type) {
    case '+':
    case ',':
    case '(':
      return { value: line, end }
    case '-':
      return { value: new ReplyError(line), end }
    case ':':
      return { value: Number(line), end }
    case '_':
      return { value: null, end }
    case '#':
      return { value: line === 't', end }
    case '$':
    case '=':
      return parseBulk(buffer, end, Number(line))
    case '*':
    case '~':
    case '>':
      return parseItems(buffer, end, Number(line))
    case '%':
      return parseItems(buffer, end, 2 * Number(line))
    default:
      throw new Error(`not a reply: ${JSON.stringify(buffer.toString('latin1', at, at + 60))}`)
  }
}

function parseBulk(buffer: Buffer, from: number, length: number): Parsed {
  if (length < 0) return { value: null, end: from }
  const end = from + length + CRLF.length
  if (buffer.length < end) return { needed: end }
  return { value: buffer.subarray(from, from + length), end }
}

function parseItems(buffer: Buffer, from: number, count: number): Parsed {
  if (count < 0) return { value: null, end: from }
  const items: ReplyValue[] = []
  let at = from
  while (items.length < count) {
    if (at >= buffer.length) return { needed: at + 1 }
    const parsed = parse(buffer, at)
    if ('needed' in parsed) return parsed
    items.push(parsed.value)
    at = parsed.end
  }
  return { value: items, end: at }
}
