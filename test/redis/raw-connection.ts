/*
 * A connection that keeps each reply as the very bytes that came, in RESP2 or RESP3: what two servers say is equal
 * only if it is equal to the byte. It frames replies and understands nothing of them.
 */

import { connect, type Socket } from 'node:net'
import { type Argument, request } from '../e2e/resp-client.ts'

const CR = 13
/** A server that says nothing for so long hangs. */
const SILENCE_MS = 20_000

interface Waiting {
  resolve(reply: Buffer): void
  reject(error: Error): void
}

export class RawConnection {
  readonly #socket: Socket
  #waiting: Waiting[] = []
  #received: Buffer = Buffer.alloc(0)

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#data(chunk))
    socket.on('error', () => {})
    socket.setTimeout(SILENCE_MS, () => socket.destroy())
    socket.once('close', () => this.#fail(new Error('the connection ended')))
  }

  static connect(port: number): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port })
      socket.once('error', reject)
      socket.once('connect', () => resolve(new RawConnection(socket)))
    })
  }

  /** Sends all commands at once; resolves with their replies. */
  pipeline(commands: readonly (readonly Argument[])[]): Promise<Buffer[]> {
    const replies = commands.map(
      () => new Promise<Buffer>((resolve, reject) => this.#waiting.push({ resolve, reject })),
    )
    this.#socket.write(Buffer.concat(commands.map((command) => request(command))))
    return Promise.all(replies)
  }

  async call(...args: readonly Argument[]): Promise<Buffer> {
    const [reply] = await this.pipeline([args])
    return reply ?? Buffer.alloc(0)
  }

  close(): void {
    this.#socket.destroy()
  }

  #data(chunk: Buffer): void {
    const bytes = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    let from = 0
    for (;;) {
      const end = replyEnd(bytes, from)
      if (end === undefined) break
      this.#waiting.shift()?.resolve(bytes.subarray(from, end))
      from = end
    }
    this.#received = bytes.subarray(from)
  }

  #fail(error: Error): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const { reject } of waiting) reject(error)
  }
}

/** Where the reply that begins at `from` ends; undefined when not all of it is here. */
export function replyEnd(bytes: Buffer, from: number): number | undefined {
  let at = from
  for (let open = 1; open > 0; open--) {
    const line = lineEnd(bytes, at)
    if (line === undefined) return undefined
    const type = String.fromCharCode(bytes[at] ?? 0)
    const count = Number(bytes.toString('latin1', at + 1, line - 2))
    at = line
    if (type === '$' || type === '=' || type === '!') at += count < 0 ? 0 : count + 2
    else if (type === '*' || type === '~' || type === '>') open += Math.max(count, 0)
    // An attribute is followed by the reply that it belongs to.
    else if (type === '%' || type === '|') open += count * 2 + (type === '|' ? 1 : 0)
    if (at > bytes.length) return undefined
  }
  return at
}

function lineEnd(bytes: Buffer, from: number): number | undefined {
  const cr = bytes.indexOf(CR, from)
  return cr < 0 || cr + 1 >= bytes.length ? undefined : cr + 2
}
