/*
 * What people build on a Redis, as its documentation shows it: a keyv store, a cache with several layers, sessions of
 * an express server. The address is the only thing that is ours.
 */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import KeyvRedis, { createKeyv } from '@keyv/redis'
import { createCache } from 'cache-manager'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { Keyv } from 'keyv'
import { createClient } from 'redis'
import { Cluster } from '../e2e/cluster.ts'
import { until } from '../processes.ts'

let cluster: Cluster
let url: string

before(async () => {
  cluster = await Cluster.start({ nodes: 3 })
  url = `redis://127.0.0.1:${(await cluster.follower()).port}`
})
after(async () => {
  await cluster?.end()
})

test('keyv with @keyv/redis: values, expiry, many at once, namespaces, clear', async () => {
  const keyv = new Keyv(new KeyvRedis(url), { namespace: 'users' })
  const other = new Keyv(new KeyvRedis(url), { namespace: 'cache' })
  try {
    assert.equal(await keyv.set('foo', 'expires in 200 milliseconds', 200), true)
    assert.equal(await keyv.get('foo'), 'expires in 200 milliseconds')
    await until('it expires', async () => (await keyv.get('foo')) === undefined)
    await keyv.set('foo', { never: 'expires' })
    await other.set('foo', 'cache')
    assert.deepEqual(await keyv.get('foo'), { never: 'expires' })
    await keyv.setMany([
      { key: 'a', value: 1 },
      { key: 'b', value: 2, ttl: 100_000 },
    ])
    assert.deepEqual(await keyv.getMany(['a', 'b', 'c']), [1, 2, undefined])
    assert.equal(await keyv.has('a'), true)
    assert.equal(await keyv.delete('a'), true)
    assert.equal(await keyv.delete('a'), false)
    const found: unknown[] = []
    for await (const [key] of keyv.iterator?.(undefined) ?? []) found.push(key)
    assert.deepEqual(found.sort(), ['b', 'foo'])
    await keyv.clear()
    assert.equal(await keyv.get('foo'), undefined)
    assert.equal(await other.get('foo'), 'cache')
  } finally {
    await keyv.disconnect()
    await other.disconnect()
  }
})

test('cache-manager over keyv: wrap computes once, mget, mset, ttl, clear', async () => {
  const cache = createCache({ stores: [createKeyv(url)], ttl: 100_000 })
  try {
    let computed = 0
    const compute = async (): Promise<string> => `answer ${++computed}`
    assert.equal(await cache.wrap('question', compute), 'answer 1')
    assert.equal(await cache.wrap('question', compute), 'answer 1')
    await cache.mset([
      { key: 'x', value: 1 },
      { key: 'y', value: 2, ttl: 50_000 },
    ])
    assert.deepEqual(await cache.mget(['x', 'y', 'z']), [1, 2, undefined])
    await cache.del('x')
    assert.equal(await cache.get('x'), undefined)
    const ttl = (await cache.ttl('y')) ?? 0
    assert.ok(ttl > Date.now() + 40_000)
    await cache.clear()
    assert.equal(await cache.get('y'), undefined)
  } finally {
    await cache.disconnect()
  }
})

test('connect-redis: sessions of an express server live in the cluster', async () => {
  const client = createClient({ url })
  client.on('error', () => {})
  await client.connect()
  const store = new RedisStore({ client, prefix: 'myapp:' })
  const app = express()
  app.use(session({ store, resave: false, saveUninitialized: false, secret: 'keyboard cat' }))
  app.get('/', (request, response) => {
    const visit = request.session as typeof request.session & { views?: number }
    visit.views = (visit.views ?? 0) + 1
    response.send(`views ${visit.views}`)
  })
  const server = app.listen(0, '127.0.0.1')
  try {
    await until('it listens', () => server.listening)
    const address = server.address()
    assert.ok(typeof address === 'object' && address !== null)
    const page = `http://127.0.0.1:${address.port}/`
    const first = await fetch(page)
    assert.equal(await first.text(), 'views 1')
    const cookie = first.headers.get('set-cookie')?.split(';')[0] ?? ''
    const second = await fetch(page, { headers: { cookie } })
    assert.equal(await second.text(), 'views 2')
    assert.equal(await store.length(), 1)
    const [id] = await store.ids()
    assert.ok(id !== undefined)
    assert.ok((await client.ttl(`myapp:${id}`)) > 80_000)
    await store.destroy(id)
    const third = await fetch(page, { headers: { cookie } })
    assert.equal(await third.text(), 'views 1')
    await store.clear()
    assert.equal(await store.length(), 0)
  } finally {
    server.closeAllConnections()
    server.close()
    client.destroy()
  }
})
