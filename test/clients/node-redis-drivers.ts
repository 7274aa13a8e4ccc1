/*
 * node-redis 6, and the 5 that @keyv/redis brings, with their default settings.
 */

import * as keyv from '@keyv/redis'
import { createClient, createCluster, createSentinel } from 'redis'
import { type Addresses, type ClientKind, type Driver, HOST } from './driver.ts'

/** What a client, a cluster and a sentinel of either version have in common. */
interface Commands {
  connect(): Promise<unknown>
  on(event: 'error', listener: () => void): unknown
  set(key: string, value: string): Promise<unknown>
  get(key: string): Promise<string | null>
  incr(key: string): Promise<number>
  expire(key: string, seconds: number): Promise<unknown>
  ttl(key: string): Promise<number>
  multi(): Multi
  destroy(): unknown
}

interface Multi {
  set(key: string, value: string): Multi
  get(key: string): Multi
  incr(key: string): Multi
  exec(): Promise<unknown[]>
  execAsPipeline(): Promise<unknown[]>
}

async function driver(made: unknown): Promise<Driver> {
  const client = made as Commands
  client.on('error', () => {})
  await client.connect()
  return {
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    incr: (key) => client.incr(key),
    pipeline: async (key, value) =>
      (await client.multi().set(key, value).get(key).execAsPipeline()).at(-1),
    multi: async (key, counter) => (await client.multi().set(key, 'x').incr(counter).exec()).at(-1),
    expire: (key, seconds) => client.expire(key, seconds),
    ttl: (key) => client.ttl(key),
    close: async () => void client.destroy(),
  }
}

function url(port: number): string {
  return `redis://${HOST}:${port}`
}

function roots({ ports }: Addresses): { rootNodes: { url: string }[] } {
  return { rootNodes: ports.map((port) => ({ url: url(port) })) }
}

function watched({ sentinelPorts, masterName }: Addresses): {
  name: string
  sentinelRootNodes: { host: string; port: number }[]
} {
  return {
    name: masterName,
    sentinelRootNodes: sentinelPorts.map((port) => ({ host: HOST, port })),
  }
}

export const nodeRedisKinds: readonly ClientKind[] = [
  {
    name: 'node-redis 6',
    connect: ({ ports: [port] }) => driver(createClient({ url: url(port ?? 0) })),
  },
  { name: 'node-redis 6 cluster', connect: (addresses) => driver(createCluster(roots(addresses))) },
  {
    name: 'node-redis 6 sentinel',
    connect: (addresses) => driver(createSentinel(watched(addresses))),
  },
  {
    name: 'node-redis 5',
    connect: ({ ports: [port] }) => driver(keyv.createClient({ url: url(port ?? 0) })),
  },
  {
    name: 'node-redis 5 cluster',
    connect: (addresses) => driver(keyv.createCluster(roots(addresses))),
  },
  {
    name: 'node-redis 5 sentinel',
    connect: (addresses) => driver(keyv.createSentinel(watched(addresses))),
  },
]
