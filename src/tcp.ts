/*
 * The real rim: the ports of network.ts over node:net, the system's clock and its timers. Every socket gets its
 * error handler as it is made (an 'error' without one would end the process), sends at once (no Nagle) and is
 * probed while idle. It knows no protocol; limits come from its callers.
 */

import { createServer, type Server, type Socket, connect as socketConnect } from 'node:net'
import {
  type Clock,
  type Connection,
  type ConnectionHandler,
  formatAddress,
  type Listener,
  type ListenHandler,
  type ListenOptions,
  type Network,
  type Timers,
} from './network.ts'
import { fromSystemError } from './operator-error.ts'

/** How long an ended connection may take until the other side has read everything and closed as well. */
const END_LINGER_MS = 5_000
/** Idle time before the system probes a dialled connection. */
const DIAL_KEEP_ALIVE_MS = 30_000

export const systemClock: Clock = {
  monotonic: () => performance.now(),
  wall: () => Date.now(),
}

export const systemTimers: Timers = {
  after: (ms, action) => {
    const timer = setTimeout(action, ms)
    return () => clearTimeout(timer)
  },
}

export class TcpNetwork implements Network {
  async listen(options: ListenOptions, handler: ListenHandler): Promise<Listener> {
    const server = createServer(
      {
        allowHalfOpen: true,
        noDelay: true,
        keepAlive: options.keepAliveMs > 0,
        keepAliveInitialDelay: options.keepAliveMs,
      },
      (socket) => handler.accepted(new TcpConnection(socket, addressOf(socket))),
    )
    server.maxConnections = options.connectionsMax
    await bind(server, options)
    server.on('error', (error) => handler.failed(error))
    const bound = server.address()
    return {
      port: bound !== null && typeof bound === 'object' ? bound.port : options.port,
      close: () => closeServer(server),
    }
  }

  dial(host: string, port: number): Connection {
    const socket = socketConnect({
      host,
      port,
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: DIAL_KEEP_ALIVE_MS,
    })
    return new TcpConnection(socket, formatAddress(host, port))
  }
}

class TcpConnection implements Connection {
  readonly #socket: Socket
  /** The name that was dialled, until the system says which address that became. */
  #remoteAddress: string
  #localAddress: string
  #ended = false
  #error: Error | undefined

  constructor(socket: Socket, remoteAddress: string) {
    this.#socket = socket
    this.#remoteAddress = remoteAddress
    this.#localAddress = formatAddress(socket.localAddress ?? '', socket.localPort ?? 0)
    socket.on('error', (error) => {
      this.#error = error
    })
  }

  get remoteAddress(): string {
    return this.#remoteAddress
  }

  get localAddress(): string {
    return this.#localAddress
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength
  }

  start(handler: ConnectionHandler): void {
    const socket = this.#socket
    socket.on('connect', () => {
      this.#remoteAddress = addressOf(socket)
      this.#localAddress = formatAddress(socket.localAddress ?? '', socket.localPort ?? 0)
      handler.opened()
    })
    socket.on('data', (bytes) => handler.received(bytes))
    socket.on('end', () => handler.finished())
    // A turn later: Node says it in the very turn of the write when the system has taken everything at once, and a
    // handler that then writes on would keep the loop for as long as the other side can follow.
    socket.on('drain', () => {
      setImmediate(() => {
        if (!socket.closed) handler.drained()
      })
    })
    socket.on('close', () => handler.closed(this.#error))
  }

  write(bytes: Uint8Array): boolean {
    if (this.#ended || this.#socket.destroyed) return false
    return this.#socket.write(bytes)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  end(): void {
    if (this.#ended || this.#socket.destroyed) return
    this.#ended = true
    const socket = this.#socket
    // Closing with input unread would reset the connection, and the other side might lose the last reply. So it is
    // read and dropped until the other side closes as well, or its time is over.
    socket.end()
    socket.resume()
    const timer = setTimeout(() => socket.destroy(), END_LINGER_MS)
    socket.on('close', () => clearTimeout(timer))
  }

  destroy(): void {
    this.#ended = true
    this.#socket.destroy()
  }
}

function addressOf(socket: Socket): string {
  return formatAddress(socket.remoteAddress ?? '', socket.remotePort ?? 0)
}

function bind(server: Server, { host, port }: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const what = `the listening address ${formatAddress(host, port)}`
    const failed = (error: Error): void => reject(fromSystemError(what, error) ?? error)
    server.once('error', failed)
    server.listen({ host, port }, () => {
      server.off('error', failed)
      resolve()
    })
  })
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    // Its callback waits for the connections too, and those are not the listener's: only accepting ends here.
    server.close()
    resolve()
  })
}
