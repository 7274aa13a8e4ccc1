/*
 * Keys on three real nodes: a SCAN that finds what is there throughout, while others write and the leader dies, and
 * keys that expire at one moment for every node, whoever leads.
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, showingLogs, successful } from './cluster.ts'
import { ask, type ReplyValue, RespClient, textOf } from './resp-client.ts'

const KEYS = 3000

let cluster: Cluster

const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

/** One page of a scan, from whichever node is asked; asked again while there is no leader to confirm it. */
async function page(port: number, cursor: string): Promise<readonly [string, readonly string[]]> {
  let reply: ReplyValue = null
  await until('a page', async () => {
    reply = await ask(port, 'SCAN', cursor, 'COUNT', '100').catch(() => null)
    return Array.isArray(reply)
  })
  const [next, keys] = reply as unknown as [ReplyValue, ReplyValue[]]
  return [textOf(next), keys.map(textOf)]
}

/** Adds and deletes other keys, and changes the values of some that stay, until it is told to stop. */
class Disturbance {
  #stopped = false
  #done: Promise<void> | undefined
  writes = 0

  start(ports: () => readonly number[]): void {
    this.#done = this.#run(ports)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }

  async #run(ports: () => readonly number[]): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      const all = ports()
      const port = all[i % all.length] ?? 0
      const commands = [
        ['SET', `coming:${i}`, 'x'],
        ['DEL', `going:${i}`],
        ['APPEND', `stays:${i % KEYS}`, 'x'],
        ['SET', `short:${i}`, 'x', 'PX', '5'],
      ] as const
      const replies = await Promise.all(
        commands.map((command) => ask(port, ...command).catch(() => null)),
      )
      this.writes += replies.filter((reply) => reply !== null).length
    }
  }
}

/** A WAIT for more members than answer has no end, until another connection says so. */
async function endsByUnblock(port: number, waiting: RespClient): Promise<void> {
  const id = Number(await waiting.call('CLIENT', 'ID'))
  const unblocked = 'UNBLOCKED client unblocked via CLIENT UNBLOCK'
  for (const [how, expected] of [
    ['TIMEOUT', '1'],
    ['ERROR', `ReplyError: ${unblocked}`],
  ] as const) {
    const reply = waiting.call('WAIT', 2, 0)
    await until('a WAIT to end', async () => (await ask(port, 'CLIENT', 'UNBLOCK', id, how)) === 1)
    assert.equal(String(await reply), expected)
  }
}

describe('three nodes', () => {
  before(async () => {
    cluster = await Cluster.start({ nodes: 3 })
    const client = await RespClient.connect((await cluster.follower()).port)
    const writes: Promise<ReplyValue>[] = []
    for (let i = 0; i < KEYS; i++) {
      writes.push(client.call('MSET', `stays:${i}`, 'x', `going:${i}`, 'x'))
    }
    for (const reply of await Promise.all(writes)) successful(reply)
    client.close()
  })
  after(async () => {
    await cluster?.end()
  })

  test(
    'SCAN finds every key that stays, page by page from node to node, while the leader is killed',
    logs(async () => {
      const disturbance = new Disturbance()
      disturbance.start(() => cluster.running.map(({ port }) => port))
      const found = new Set<string>()
      let cursor = '0'
      let pages = 0
      const leader = await cluster.leader()
      do {
        const nodes = cluster.running
        const node = nodes[pages % nodes.length]
        assert.ok(node)
        const [next, keys] = await page(node.port, cursor)
        for (const key of keys) found.add(key)
        cursor = next
        pages++
        if (pages === 10) await leader.kill()
      } while (cursor !== '0')
      await disturbance.stop()
      assert.ok(
        pages > 20 && disturbance.writes > 0,
        `${pages} pages, ${disturbance.writes} writes`,
      )
      const missing = Array.from({ length: KEYS }, (_, i) => `stays:${i}`).filter(
        (key) => !found.has(key),
      )
      assert.deepEqual(missing, [])
      leader.start()
      await leader.ready()
    }),
  )

  test(
    'a key expires at one moment for all, and never comes back when the leader is another one',
    logs(async () => {
      const leader = await cluster.leader()
      const expireAt = Date.now() + 3000
      successful(await leader.ask('SET', 'expiring', 'v', 'PXAT', String(expireAt)))
      successful(await leader.ask('SET', 'surviving', 'v', 'PX', '3600000'))
      for (const node of cluster.nodes) {
        const left = Number(await node.ask('PTTL', 'expiring'))
        assert.ok(left > 0 && left <= expireAt - Date.now() + 500, `${left} ms left`)
        assert.equal(await node.ask('PEXPIRETIME', 'expiring'), expireAt)
      }
      await leader.kill()
      const others = cluster.running
      let gone = false
      await until('the key has expired', async () => {
        for (const { port } of others) {
          const reply = await ask(port, 'EXISTS', 'expiring').catch(() => null)
          if (typeof reply !== 'number') continue
          if (reply === 0) gone = true
          else assert.equal(gone, false, 'it is there again')
        }
        return gone && Date.now() > expireAt + 500
      })
      for (const { port } of others) {
        assert.equal(await ask(port, 'PTTL', 'expiring'), -2)
        const left = Number(await ask(port, 'PTTL', 'surviving'))
        assert.ok(left > 3_500_000 && left <= 3_600_000, `${left} ms left`)
      }
      leader.start()
      await leader.ready()
      assert.equal(await leader.ask('EXISTS', 'expiring'), 0)
    }),
  )

  test(
    'WAIT counts the members that have the write, through every node; one that is stopped is missed',
    logs(async () => {
      for (const node of cluster.nodes) {
        const client = await RespClient.connect(node.port)
        const replies = await Promise.all([
          client.call('SET', 'waited', node.port),
          client.call('WAIT', 2, 5000),
          client.call('WAITAOF', 1, 2, 5000),
          client.call('GET', 'waited'),
        ])
        assert.deepEqual(replies.slice(1, 3), [2, [1, 2]])
        assert.equal(textOf(replies[3] ?? null), String(node.port))
        client.close()
      }
      const [stopped, other] = await cluster.followers()
      const leader = await cluster.leader()
      assert.ok(stopped && other)
      stopped.signal('SIGSTOP')
      for (const node of [leader, other]) {
        const client = await RespClient.connect(node.port)
        const from = performance.now()
        successful(await client.call('SET', 'waited', 'again'))
        const setMs = performance.now() - from
        assert.equal(await client.call('WAIT', 2, 500), 1)
        const ms = performance.now() - from - setMs
        assert.ok(ms >= 490 && ms < 2000, `${ms} ms`)
        assert.equal(await client.call('WAIT', 1, 0), 1)
        await endsByUnblock(node.port, client)
        client.close()
      }
      stopped.signal('SIGCONT')
      await stopped.ready()
    }),
  )

  test(
    'a WAIT without an end is over when its client is gone, or will send no more',
    logs(async () => {
      const node = await cluster.follower()
      const clients = async (): Promise<string> => textOf(await node.ask('INFO', 'clients'))
      const gone = await RespClient.connect(node.port)
      const finished = await RespClient.connect(node.port)
      const fate = gone.call('WAIT', 9, 0).catch(() => 'gone')
      await finished.call('SET', 'waited', 'for ever')
      const answer = finished.call('WAIT', 9, 0)
      await until('both wait', async () => /blocked_clients:2\r/.test(await clients()))
      gone.close()
      finished.finish()
      assert.ok(Number(await answer) >= 1)
      await finished.whenClosed()
      assert.equal(await fate, 'gone')
      await until('nobody waits', async () => /blocked_clients:0\r/.test(await clients()))
    }),
  )

  test(
    'what nobody writes or reads is removed all the same',
    logs(async () => {
      const node = await cluster.follower()
      const client = await RespClient.connect(node.port)
      successful(await client.call('SELECT', '7'))
      for (let i = 0; i < 700; i++) successful(await client.call('SET', `k${i}`, 'v', 'PX', '50'))
      await until('the keys are gone', async () => (await client.call('DBSIZE')) === 0)
      client.close()
    }),
  )
})
