/*
 * One client library in one of its ways (plain, Cluster, Sentinel) as the failover run sees it, whatever its own names
 * for things are. A driver hides nothing: what the library throws goes to whoever counts.
 */

export interface Driver {
  set(key: string, value: string): Promise<unknown>
  get(key: string): Promise<string | null>
  incr(key: string): Promise<number>
  /** SET and GET of the key in one pipeline: what the GET answered. */
  pipeline(key: string, value: string): Promise<unknown>
  /** SET and INCR in one transaction, on keys of one slot: what the INCR answered. */
  multi(key: string, counter: string): Promise<unknown>
  expire(key: string, seconds: number): Promise<unknown>
  ttl(key: string): Promise<number>
  close(): Promise<void>
}

export interface Addresses {
  /** Client ports; the first one is of a node that stays up. */
  readonly ports: readonly number[]
  readonly sentinelPorts: readonly number[]
  readonly masterName: string
}

export interface ClientKind {
  readonly name: string
  connect(addresses: Addresses): Promise<Driver>
}

export const HOST = '127.0.0.1'
