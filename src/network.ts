/*
 * The ports of the rim: a byte network, a clock and timers, as everything in src/ that moves bytes sees them.
 * peers.ts and frontend.ts stand on these, so they run unchanged over sockets (tcp.ts) and in a simulator that
 * resets connections and moves time as its seed says (test/sim/network.ts). Nothing here knows a protocol, and
 * nothing here knows node:net.
 */

/** Cancels what it was returned for; calling it again, or after the fact, does nothing. */
export type Cancel = () => void

export interface Clock {
  /** Milliseconds that never fall and never jump; of no meaning outside this process. */
  monotonic(): number
  /** Milliseconds since 1970 as this machine believes them; may jump either way. */
  wall(): number
}

export interface Timers {
  /** Runs `action` once, at least `ms` milliseconds from now and never within this call. */
  after(ms: number, action: () => void): Cancel
}

/** What a connection tells its owner. Always called from the event loop, never from within a call to it. */
export interface ConnectionHandler {
  /** A dialled connection is established; an accepted one is so from the start and never says it. */
  opened(): void
  /** Bytes in order. The memory is the handler's to keep, but may pin a larger chunk: copy what is stored. */
  received(bytes: Uint8Array): void
  /** The other side will send no more; it may still read. */
  finished(): void
  /** Everything written has left, after a write() that returned false. */
  drained(): void
  /** The last call, and exactly one: with the reason when it was not an orderly end. */
  closed(error: Error | undefined): void
}

/** One reliable, ordered stream of bytes in both directions. */
export interface Connection {
  /** host:port of the other side; an IPv6 host stands in brackets. */
  readonly remoteAddress: string
  readonly localAddress: string
  /** Bytes written that have not left this process yet. */
  readonly bufferedBytes: number
  /** Names the handler. Called once, in the turn in which the connection was dialled or accepted. */
  start(handler: ConnectionHandler): void
  /**
   * Takes the bytes, which must not change afterwards. False: more is buffered than should be, wait for
   * drained(). After end(), destroy() or the close it drops them and returns false.
   */
  write(bytes: Uint8Array): boolean
  /** Stops received() until resume(), so that the other side feels it. */
  pause(): void
  resume(): void
  /** Sends what is buffered, then closes; a side that does not read is cut off after a while. */
  end(): void
  /** Closes at once and drops what is buffered. */
  destroy(): void
}

export interface Listener {
  /** The bound port: of interest when port 0 was asked for. */
  readonly port: number
  /** Stops accepting. Connections live on. */
  close(): Promise<void>
}

export interface ListenOptions {
  readonly host: string
  readonly port: number
  /** Connections beyond this many are closed as they arrive. */
  readonly connectionsMax: number
  /** Idle time after which the system probes an accepted connection; 0: never. */
  readonly keepAliveMs: number
}

export interface ListenHandler {
  /** An accepted connection: start() it in this call. */
  accepted(connection: Connection): void
  /** Accepting failed once (out of file descriptors, say); the listener goes on. */
  failed(error: Error): void
}

export interface Network {
  /** Throws OperatorError when the address is taken, forbidden or not of this machine. */
  listen(options: ListenOptions, handler: ListenHandler): Promise<Listener>
  /** Never throws: a failure is the connection's closed(error). */
  dial(host: string, port: number): Connection
}

export interface Address {
  readonly host: string
  readonly port: number
}

/** Reads `host:port` (`[::1]:port` for IPv6); undefined when it is not of that form. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port < 1 || port > 65_535) return undefined
  return { host: host.toLowerCase(), port }
}

/** The one way an address is written: lower case, brackets around IPv6, IPv4 out of its IPv6 wrapping. */
export function formatAddress(host: string, port: number): string {
  const plain = host.toLowerCase().replace(/^::ffff:(?=[0-9.]+$)/, '')
  return plain.includes(':') ? `[${plain}]:${port}` : `${plain}:${port}`
}

/** Whether two texts name one address, however they are written; false when either is none. */
export function sameAddress(one: string, other: string): boolean {
  const [a, b] = [parseAddress(one), parseAddress(other)]
  return a !== undefined && b !== undefined && a.host === b.host && a.port === b.port
}

/** Whether an address as formatAddress writes it can only belong to this machine. */
export function isLoopback(address: string): boolean {
  return address.startsWith('[::1]:') || /^127\.[0-9.]+:[0-9]+$/.test(address)
}
