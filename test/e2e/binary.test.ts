/*
 * Binary safety and size, through a follower: every byte a client may put into a key or a value comes back from every
 * node, up to the largest value the options allow, and none of it costs the leader its office.
 */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, showingLogs } from './cluster.ts'
import { ReplyError, RespClient } from './resp-client.ts'

const KIB = 1024
const MIB = 1024 * KIB
const ROUNDS = 2

let cluster: Cluster
let follower: RespClient
let others: readonly RespClient[]

before(async () => {
  cluster = await Cluster.start({ nodes: 3 })
  const through = await cluster.follower()
  follower = await RespClient.connect(through.port)
  others = await Promise.all(
    cluster.nodes.filter((node) => node !== through).map((node) => RespClient.connect(node.port)),
  )
})
after(async () => {
  for (const client of [follower, ...(others ?? [])]) client?.close()
  await cluster?.end()
})

const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

/** Bytes of every value, different for every seed and without a period that blocks or pages could hide. */
function bytes(length: number, seed: string): Buffer {
  const block = createHash('shake256', { outputLength: Math.min(length, 65_537) })
    .update(seed)
    .digest()
  return Buffer.alloc(length, block)
}

function assertSame(actual: unknown, expected: Buffer, what: string): void {
  // Not deepEqual: the difference of two large buffers would take minutes to print.
  assert.ok(Buffer.isBuffer(actual), `${what}: no value`)
  assert.equal(actual.length, expected.length, what)
  assert.ok(actual.equals(expected), `${what}: other bytes`)
}

async function roundTrip(key: Buffer, value: Buffer, what: string): Promise<void> {
  assert.equal(await follower.call('SET', key, value), 'OK', what)
  for (const reader of [follower, ...others]) {
    assertSame(await reader.call('GET', key), value, what)
  }
  assert.equal(await follower.call('STRLEN', key), value.length, what)
}

test(
  'keys and values of any bytes',
  logs(async () => {
    const strange: readonly Buffer[] = [
      Buffer.from([]),
      Buffer.from([0]),
      Buffer.from([255]),
      Buffer.from('\r\n'),
      Buffer.from('$3\r\nfoo\r\n*1\r\n'),
      Buffer.from('__proto__'),
      Buffer.from('constructor'),
      Buffer.from('toString'),
      Buffer.from('ключ 鍵 🗝'),
      Buffer.from([0xc3, 0x28, 0xed, 0xa0, 0x80, 0xf8]),
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
    ]
    for (const [at, key] of strange.entries()) {
      await roundTrip(key, Buffer.concat([Buffer.from(`${at}:`), key]), `key ${at}`)
    }
    // Each key kept its own value: none was taken for another.
    for (const [at, key] of strange.entries()) {
      const value = Buffer.concat([Buffer.from(`${at}:`), key])
      for (const reader of others) assertSame(await reader.call('GET', key), value, `key ${at}`)
    }
    assert.equal(await follower.call('DBSIZE'), strange.length)
    assert.equal(await follower.call('DEL', ...strange), strange.length)
    assert.equal(await others[0]?.call('DBSIZE'), 0)
  }),
)

test(
  'keys at and beyond the limit of the disk engine',
  logs(async () => {
    for (const length of [1977, 1978, 1979, 1980, MIB]) {
      // Two keys that differ in their last byte only.
      for (const last of [0, 1]) {
        const key = Buffer.concat([bytes(length - 1, 'key'), Buffer.from([last])])
        await roundTrip(key, Buffer.from(`${length}:${last}`), `a key of ${length} bytes`)
      }
    }
    const longest = Buffer.concat([bytes(MIB - 1, 'key'), Buffer.from([0])])
    assert.equal(await follower.call('APPEND', longest, '!'), `${MIB}:0!`.length)
    assert.equal(await others[0]?.call('DEL', longest), 1)
    assert.equal(await follower.call('EXISTS', longest), 0)
  }),
)

test(
  'values from nothing to 8 MiB',
  logs(async () => {
    for (const length of [0, 1, 64 * KIB, 8 * MIB]) {
      await roundTrip(Buffer.from('sized'), bytes(length, 'value'), `a value of ${length} bytes`)
    }
    assert.equal(await follower.call('SET', 'sized', 'small again'), 'OK')
  }),
)

test(
  'a SET of 64 MiB through a follower causes no election, the checkpoints it brings about included',
  logs(async () => {
    const value = bytes(64 * MIB, 'large')
    const term = await cluster.term()
    for (let round = 1; round <= ROUNDS; round++) {
      assert.equal(await follower.call('SET', 'large', value), 'OK')
      const applied = (await (await cluster.leader()).status())?.applied ?? 0
      await until('all nodes have it in their state on disk, or an election', async () => {
        const nodes = await Promise.all(cluster.nodes.map((node) => node.status()))
        if (nodes.some((status) => status?.term !== term)) return true
        return nodes.every((status) => (status?.checkpoint ?? 0) >= applied)
      })
      assert.equal(await cluster.term(), term, `round ${round} brought about an election`)
    }
    for (const reader of [follower, ...others]) {
      assertSame(await reader.call('GET', 'large'), value, 'the large value')
    }
  }),
)

test(
  'a value above proto-max-bulk-len is refused as in Redis, and the rest goes on',
  logs(async () => {
    const { port } = await cluster.follower()
    const refused = await RespClient.connect(port)
    const reply = await refused.sendRaw(`*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${64 * MIB + 1}\r\n`)
    assert.ok(reply instanceof ReplyError)
    assert.equal(reply.message, 'ERR Protocol error: invalid bulk length')
    await refused.whenClosed()
    assert.equal(await follower.call('SET', 'k', 'v'), 'OK')
    assert.equal(await others[0]?.call('DEL', 'k', 'sized', 'large'), 3)
  }),
)
