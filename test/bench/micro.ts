/*
 * The parts of the hot path alone, without sockets, disk or threads. Each is timed in turn with a reference loop of
 * the same process, and the best of ten is given as a ratio to it: a slower or busier machine slows both. The ratios
 * are held against a stored baseline; a part that has become dearer by more than 40 % is an alarm.
 */

import { Buffer } from 'node:buffer'
import type { Entry } from '../../raft/types.ts'
import { Decoder } from '../../resp/decoder.ts'
import { OK, ReplyBuffer } from '../../resp/encoder.ts'
import { decodeCommands, decodeEntry, encodeCommands, encodeEntry } from '../../storage/codec.ts'
import { LogCache } from '../../storage/log-cache.ts'
import { DiskLogStore } from '../../storage/log-store.ts'
import { request } from '../e2e/resp-client.ts'
import { keyspaceOver } from '../src/command-fixture.ts'
import { MemoryEngine } from '../storage/memory-engine.ts'
import { put, startedStore, stored } from '../storage/store-fixture.ts'

export const ALARM_RATIO = 1.4
const BEST_OF = 10
const COMMANDS = 2000
const COMMANDS_PER_ENTRY = 25
const KEYS = 2000
const MEMTABLE_BYTES = 64 * 1024 * 1024

/** One part: `run` does the same amount of work each time it is called. */
export interface Part {
  readonly name: string
  run(): void | Promise<void>
}

export type Ratios = Readonly<Record<string, number>>

const value = Buffer.alloc(64, 120)

function keyOf(at: number): string {
  return `key:${String(at % KEYS).padStart(12, '0')}`
}

function commandsOf(from: number): Uint8Array {
  const logged = Array.from({ length: COMMANDS_PER_ENTRY }, (_, i) => ({
    database: 0,
    argv: [Buffer.from('SET'), Buffer.from(keyOf(from + i)), value],
  }))
  return encodeCommands(1, logged)
}

function entryOf(index: number): Entry {
  const data = commandsOf(index * COMMANDS_PER_ENTRY)
  return { index, term: 1, payload: { type: 'commands', data }, encoded: undefined }
}

/** What every JavaScript program does: strings, a map, small buffers, objects. */
export function referenceLoop(): number {
  const map = new Map<string, { readonly at: number; readonly bytes: Buffer }>()
  const block = Buffer.alloc(64 * 1024)
  let sum = 0
  for (let at = 0; at < 20_000; at++) {
    const key = `key:${at % 5000}`
    const offset = (at * 16) % (block.length - 16)
    block.writeUInt32BE(at, offset)
    const known = map.get(key)
    if (known !== undefined) sum += known.bytes[3] ?? 0
    map.set(key, { at, bytes: block.subarray(offset, offset + 16) })
  }
  return sum
}

export async function parts(): Promise<readonly Part[]> {
  return [decoder(), encoder(), codec(), await logAppend(), await logCache(), ...(await state())]
}

function decoder(): Part {
  const decoder = new Decoder(
    {
      bulkBytesMax: 1 << 20,
      argumentsMax: 1000,
      lineBytesMax: 65_536,
      unauthenticatedArgumentsMax: 10,
      unauthenticatedBulkBytesMax: 16_384,
    },
    true,
  )
  const one = request(['SET', keyOf(1), value])
  const chunk = Buffer.concat(Array.from({ length: 16 }, () => one))
  return {
    name: 'decoder',
    run: () => {
      for (let left = COMMANDS; left > 0; left -= 16) {
        decoder.push(chunk)
        while (decoder.next() !== undefined);
      }
    },
  }
}

function encoder(): Part {
  const replies = new ReplyBuffer()
  return {
    name: 'encoder',
    run: () => {
      for (let i = 0; i < COMMANDS; i++) {
        replies.append(OK, 2)
        replies.append(value, 2)
        if (i % 16 === 15) replies.take()
      }
    },
  }
}

function codec(): Part {
  return {
    name: 'codec',
    run: () => {
      for (let index = 1; index <= COMMANDS / COMMANDS_PER_ENTRY; index++) {
        const { payload } = decodeEntry(encodeEntry(entryOf(index)))
        if (payload.type === 'commands') decodeCommands(payload.data)
      }
    },
  }
}

async function logAppend(): Promise<Part> {
  const store = await DiskLogStore.open(new MemoryEngine())
  return {
    name: 'log append',
    run: async () => {
      for (let i = 0; i < COMMANDS / COMMANDS_PER_ENTRY; i++) {
        const entry = entryOf(store.lastIndex() + 1)
        await store.persist({ hardState: undefined, entries: [entry] })
      }
      await store.compact(store.lastIndex())
    },
  }
}

async function logCache(): Promise<Part> {
  const cache = new LogCache(await DiskLogStore.open(new MemoryEngine()), {
    entries: 4096,
    bytes: 1 << 26,
  })
  const entries = Array.from({ length: 1000 }, (_, i) => entryOf(i + 1))
  await cache.persist({ hardState: undefined, entries })
  return {
    name: 'LogCache',
    run: () => {
      for (let from = 1; from <= 1000; from++) {
        cache.entries(from, Math.min(1001, from + 8), 1 << 20)
      }
    },
  }
}

async function state(): Promise<readonly Part[]> {
  const options = { memtableBytes: MEMTABLE_BYTES }
  const { store } = await startedStore(new MemoryEngine(), options)
  for (let at = 0; at < KEYS; at++) put(store, keyOf(at), 'v'.repeat(64))
  const { store: applied } = await startedStore(new MemoryEngine(), options)
  const { keyspace } = keyspaceOver(applied)
  return [
    {
      name: 'apply',
      run: () => {
        for (let i = 0; i < COMMANDS / COMMANDS_PER_ENTRY; i++) {
          keyspace.apply(entryOf(keyspace.appliedIndex() + 1))
        }
      },
    },
    {
      name: 'state get',
      run: () => {
        for (let at = 0; at < COMMANDS; at++) store.get(0, keyOf(at))
      },
    },
    {
      name: 'state put',
      run: () => {
        const one = stored(store.newestKey, value)
        for (let at = 0; at < COMMANDS; at++) store.put(0, keyOf(at), one)
        const index = store.appliedIndex() + 1
        store.commitEntry({ index, term: 1, clock: store.clock() })
      },
    },
  ]
}

/** Each part's best time as a ratio to the best of the reference loop. */
export async function measureParts(all: readonly Part[]): Promise<Ratios> {
  const best = new Map<string, number>()
  let reference = Number.POSITIVE_INFINITY
  for (let round = 0; round < BEST_OF; round++) {
    for (const { name, run } of all) {
      reference = Math.min(reference, await timed(referenceLoop))
      best.set(name, Math.min(best.get(name) ?? Number.POSITIVE_INFINITY, await timed(run)))
    }
  }
  return Object.fromEntries([...best].map(([name, ms]) => [name, ms / reference]))
}

async function timed(run: () => unknown): Promise<number> {
  const startedAt = performance.now()
  await run()
  return performance.now() - startedAt
}

/** A line per part that is missing in one of the two, or has become dearer by more than is allowed. */
export function alarms(ratios: Ratios, baseline: Ratios): readonly string[] {
  const names = new Set([...Object.keys(ratios), ...Object.keys(baseline)])
  return [...names].flatMap((name) => {
    const [now, before] = [ratios[name], baseline[name]]
    if (now === undefined || before === undefined) return [`${name}: no figure to compare`]
    if (now <= before * ALARM_RATIO) return []
    return [`${name}: ${now.toFixed(3)}, was ${before.toFixed(3)}: ${(now / before).toFixed(2)}x`]
  })
}
