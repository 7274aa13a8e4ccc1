/*
 * ioredis 6 and 5 with their default settings.
 */

import { Cluster, Redis } from 'ioredis'
import { Cluster as Cluster5, Redis as Redis5 } from 'ioredis-5'
import { type Addresses, type ClientKind, type Driver, HOST } from './driver.ts'

/** What both major versions, and their Cluster, have in common. */
type Commands = Pick<
  Redis,
  'set' | 'get' | 'incr' | 'expire' | 'ttl' | 'pipeline' | 'multi' | 'disconnect' | 'on'
>

function driver(client: Commands): Driver {
  client.on('error', () => {})
  return {
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    incr: (key) => client.incr(key),
    pipeline: async (key, value) =>
      resultOf(await client.pipeline().set(key, value).get(key).exec()),
    multi: async (key, counter) =>
      resultOf(await client.multi().set(key, 'x').incr(counter).exec()),
    expire: (key, seconds) => client.expire(key, seconds),
    ttl: (key) => client.ttl(key),
    close: async () => client.disconnect(),
  }
}

/** Of the last command of a pipeline or transaction. */
function resultOf(results: readonly [error: Error | null, result: unknown][] | null): unknown {
  for (const [error] of results ?? []) if (error !== null) throw error
  return results?.at(-1)?.[1]
}

function nodes({ ports }: Addresses): { host: string; port: number }[] {
  return ports.map((port) => ({ host: HOST, port }))
}

function sentinels({ sentinelPorts, masterName }: Addresses): {
  sentinels: { host: string; port: number }[]
  name: string
} {
  return { sentinels: sentinelPorts.map((port) => ({ host: HOST, port })), name: masterName }
}

export const ioredisKinds: readonly ClientKind[] = [
  {
    name: 'ioredis 6',
    connect: async ({ ports: [port] }) => driver(new Redis(port ?? 0, HOST)),
  },
  {
    name: 'ioredis 6 Cluster',
    connect: async (addresses) => driver(new Cluster(nodes(addresses)) as unknown as Commands),
  },
  {
    name: 'ioredis 6 Sentinel',
    connect: async (addresses) => driver(new Redis(sentinels(addresses))),
  },
  {
    name: 'ioredis 5',
    connect: async ({ ports: [port] }) =>
      driver(new Redis5(port ?? 0, HOST) as unknown as Commands),
  },
  {
    name: 'ioredis 5 Cluster',
    connect: async (addresses) => driver(new Cluster5(nodes(addresses)) as unknown as Commands),
  },
  {
    name: 'ioredis 5 Sentinel',
    connect: async (addresses) => driver(new Redis5(sentinels(addresses)) as unknown as Commands),
  },
]
