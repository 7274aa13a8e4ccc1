/*
 * Unmodified clients with their default settings against every node of a real cluster: ioredis and node-redis in
 * both protocols. What one writes through one node, the others read through others. redis-cli: redis-cli.test.ts.
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { RespClient } from './resp-client.ts'

let cluster: Cluster

before(async () => {
  cluster = await Cluster.start({ nodes: 3 })
})
after(async () => {
  await cluster?.end()
})

const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

const BINARY = Buffer.from([0, 255, 13, 10, 0, 36, 53, 13, 10, 254])

for (const protocol of [3, 2] as const) {
  describe(`ioredis, RESP${protocol}`, () => {
    async function withEach(run: (redis: Redis, node: NodeProcess) => Promise<void>) {
      for (const node of cluster.nodes) {
        // RESP3 is its default: then nothing is set at all.
        const redis = new Redis({ port: node.port, ...(protocol === 2 ? { protocol } : {}) })
        redis.on('error', () => {})
        try {
          await run(redis, node)
        } finally {
          redis.disconnect()
        }
      }
    }

    test(
      'commands through every node',
      logs(() =>
        withEach(async (redis, node) => {
          const key = `ioredis:${protocol}:${node.port}`
          assert.equal(await redis.set(key, 'one'), 'OK')
          assert.equal(await redis.get(key), 'one')
          assert.equal(await redis.append(key, '+two'), 7)
          assert.equal(await redis.strlen(key), 7)
          assert.equal(await redis.set(key, 'no', 'NX'), null)
          assert.equal(await redis.getset(key, BINARY), 'one+two')
          assert.deepEqual(await redis.getBuffer(key), BINARY)
          assert.equal(await redis.mset(`${key}a`, '1', `${key}b`, '2'), 'OK')
          assert.deepEqual(await redis.mget(`${key}a`, `${key}none`, `${key}b`), ['1', null, '2'])
          assert.equal(await redis.incrby(`${key}a`, 41), 42)
          assert.equal(await redis.decr(`${key}a`), 41)
          assert.equal(await redis.exists(`${key}a`, `${key}none`), 1)
          assert.equal(await redis.del(`${key}a`, `${key}b`, `${key}none`), 2)
          assert.equal(await redis.get(`${key}a`), null)
          await assert.rejects(redis.incr(key), /ERR value is not an integer or out of range/)
          await assert.rejects(redis.call('NOSUCH', 'x'), /ERR unknown command 'NOSUCH'/)
        }),
      ),
    )

    test(
      'pipelines keep their order, errors included',
      logs(() =>
        withEach(async (redis, node) => {
          const key = `pipeline:${protocol}:${node.port}`
          const replies = await redis
            .pipeline()
            .set(key, 'a')
            .get(key)
            .incr(key)
            .append(key, 'b')
            .get(key)
            .del(key)
            .get(key)
            .exec()
          const [error] = replies?.[2] ?? []
          assert.match(String(error), /not an integer/)
          const values = replies?.map(([, value]) => value)
          assert.deepEqual(values, ['OK', 'a', undefined, 2, 'ab', 1, null])
        }),
      ),
    )

    test(
      'auto-pipelining',
      logs(async () => {
        const { port } = await cluster.follower()
        const redis = new Redis({ port, enableAutoPipelining: true, protocol })
        redis.on('error', () => {})
        try {
          const key = `auto:${protocol}`
          const counted = await Promise.all(Array.from({ length: 500 }, () => redis.incr(key)))
          assert.deepEqual(
            counted,
            Array.from({ length: 500 }, (_, at) => at + 1),
          )
          assert.equal(await redis.get(key), '500')
        } finally {
          redis.disconnect()
        }
      }),
    )
  })

  describe(`node-redis, RESP${protocol}`, () => {
    test(
      'commands, pipelines and binary values through every node',
      logs(async () => {
        for (const node of cluster.nodes) {
          const url = `redis://127.0.0.1:${node.port}`
          const client = createClient(protocol === 2 ? { url, RESP: 2 } : { url })
          client.on('error', () => {})
          await client.connect()
          try {
            const key = `node-redis:${protocol}:${node.port}`
            assert.equal(await client.set(key, 'one'), 'OK')
            assert.equal(await client.get(key), 'one')
            assert.equal(await client.append(key, '+two'), 7)
            assert.equal(await client.mSet({ [`${key}a`]: '1', [`${key}b`]: '2' }), 'OK')
            assert.deepEqual(await client.mGet([`${key}a`, `${key}none`, `${key}b`]), [
              '1',
              null,
              '2',
            ])
            assert.equal(await client.incr(`${key}a`), 2)
            assert.equal(await client.del([`${key}a`, `${key}b`]), 2)
            // Commands of one turn are one pipeline.
            const replies = await Promise.all([
              client.set(key, BINARY),
              client.strLen(key),
              client.exists(key),
            ])
            assert.deepEqual(replies, ['OK', BINARY.length, 1])
            await assert.rejects(client.incr(key), /ERR value is not an integer or out of range/)
          } finally {
            client.destroy()
          }
        }
      }),
    )
  })
}

test(
  'what is written through one node is read through every other one at once',
  logs(async () => {
    const all = cluster.nodes.map(({ port }) => new Redis({ port }))
    for (const redis of all) redis.on('error', () => {})
    try {
      for (let round = 0; round < 60; round++) {
        const [writer, ...readers] = [...all.slice(round % 3), ...all.slice(0, round % 3)]
        assert.equal(await writer?.set('shared', `${round}`), 'OK')
        const seen = await Promise.all(readers.map((redis) => redis.get('shared')))
        assert.deepEqual(seen, [`${round}`, `${round}`])
      }
    } finally {
      for (const redis of all) redis.disconnect()
    }
  }),
)

test(
  'inline commands on a socket',
  logs(async () => {
    const client = await RespClient.connect((await cluster.follower()).port)
    try {
      assert.equal(await client.sendRaw('SET inline "a\\x00b"\r\n'), 'OK')
      assert.deepEqual(await client.sendRaw('GET inline\r\n'), Buffer.from('a\0b'))
      // Empty lines are no commands.
      assert.equal(await client.sendRaw('\r\n\r\nPING\r\n'), 'PONG')
      // A line may end without a carriage return, as in Redis.
      assert.equal(await client.sendRaw('PING\n'), 'PONG')
    } finally {
      client.close()
    }
  }),
)
