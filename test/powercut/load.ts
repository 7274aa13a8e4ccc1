/*
 * Clients whose every command follows from (seed, client, number): each has keys for itself, so that what a crash has
 * left of them is a prefix of what it sent. Few keys, many overwrites, now and then a delete or a large value.
 */

import { ReplyError, RespClient } from '../e2e/resp-client.ts'
import { seededRandom } from '../sim/network.ts'

export const CLIENTS_MAX = 16
/**
 * They have an address of their own: the kernel gives the port of a client that is gone to the next connection on
 * loopback, such as one that asks whether the node is ready, and its reply would be taken for one to that client.
 */
export const CLIENT_ADDRESS = '127.0.0.2'
const KEYS_PER_CLIENT = 24
const DELETES = 0.1
const LARGE_VALUES = 0.06
const LARGE_BYTES = 24_000
const SMALL_BYTES = 600
/** Commands of one client that are under way at once. */
const DEPTH = 3

/** Every key that any client may write. */
export const KEYS: readonly string[] = Array.from({ length: CLIENTS_MAX }, (_, client) =>
  Array.from({ length: KEYS_PER_CLIENT }, (__, at) => keyOf(client, at)),
).flat()

/** Whose key that is. */
export function clientOf(key: string): number {
  return Number.parseInt(key, 10)
}

function keyOf(client: number, at: number): string {
  return `${client}:key:${at}`
}

/** Command `number` (from 0) of a client. A value is never used twice. */
export function commandOf(seed: number, client: number, number: number): readonly string[] {
  const random = seededRandom(seed * 1_000_003 + client * 50_021 + number)
  const key = keyOf(client, Math.floor(random() * KEYS_PER_CLIENT))
  if (random() < DELETES) return ['DEL', key]
  const length = Math.floor(random() * (random() < LARGE_VALUES ? LARGE_BYTES : SMALL_BYTES))
  return ['SET', key, `${client}:${number}:`.padEnd(length, `${number % 10}`)]
}

/** What one client did. */
export interface Sent {
  readonly client: number
  /** Its own end of the connection, by which the trace names it. */
  readonly port: number
  /** The number of its first command. */
  readonly from: number
  /** Commands that were sent, and how many of them were answered. */
  readonly sent: number
  readonly answered: number
}

/**
 * One client: sends until `goesOn` is false or the connection ends. An error reply ends it too: throws it, unless
 * `tolerant`.
 */
export async function runClient(options: {
  readonly seed: number
  readonly client: number
  readonly port: number
  readonly goesOn: () => boolean
  readonly answered: () => void
  readonly tolerant: boolean
  /** The number of its first command. */
  readonly from: number
}): Promise<Sent> {
  const { seed, client: own, goesOn, tolerant, from } = options
  const client = await RespClient.connect(options.port, undefined, CLIENT_ADDRESS)
  const port = client.localPort
  let sent = 0
  let answered = 0
  async function lane(): Promise<void> {
    while (goesOn() && !client.closed) {
      const reply = await client.call(...commandOf(seed, own, from + sent++))
      if (reply instanceof ReplyError) {
        if (tolerant) continue
        throw reply
      }
      answered++
      options.answered()
    }
  }
  try {
    const lanes = await Promise.allSettled(Array.from({ length: DEPTH }, lane))
    for (const one of lanes) {
      if (one.status === 'rejected' && one.reason instanceof ReplyError) throw one.reason
    }
  } finally {
    client.close()
  }
  return { client: own, port, from, sent, answered }
}
