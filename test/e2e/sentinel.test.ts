/*
 * The Sentinel port and CLUSTER over real nodes: what clients ask, what they hear when the leader is killed, and that
 * every node tells the same.
 */

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { ask, type ReplyValue, request, textOf } from './resp-client.ts'

let cluster: Cluster
const logs = (body: Parameters<typeof showingLogs>[1]) => showingLogs(() => cluster, body)

before(async () => {
  cluster = await Cluster.start({
    nodes: 3,
    sentinels: true,
    flags: ['--close-on-step-down', 'yes'],
  })
})
after(async () => {
  await cluster.end()
})

/** A flat array of names and values as a map. */
function fields(reply: ReplyValue): ReadonlyMap<string, string> {
  assert.ok(Array.isArray(reply))
  const found = new Map<string, string>()
  for (let at = 0; at < reply.length; at += 2) {
    found.set(textOf(reply[at] ?? null), textOf(reply[at + 1] ?? null))
  }
  return found
}

async function addressKnownTo(node: NodeProcess): Promise<string> {
  const reply = await ask(node.sentinelPort, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster')
  assert.ok(Array.isArray(reply))
  return reply.map((part) => textOf(part)).join(':')
}

/** A subscriber that keeps every byte it hears. */
class Listener {
  heard = ''
  readonly #socket: Socket

  constructor(port: number) {
    this.#socket = connect({ host: '127.0.0.1', port })
    this.#socket.setEncoding('latin1').on('data', (text) => {
      this.heard += text
    })
    this.#socket.on('error', () => {})
  }

  send(...words: string[]): void {
    this.#socket.write(request(words))
  }

  close(): void {
    this.#socket.destroy()
  }
}

describe('a cluster that answers as Sentinels and as a Redis Cluster', () => {
  test(
    'every node names the same master, replicas and Sentinels',
    logs(async () => {
      const leader = await cluster.leader()
      for (const node of cluster.nodes) {
        assert.equal(await addressKnownTo(node), `127.0.0.1:${leader.port}`)
        const port = node.sentinelPort
        const master = fields(await ask(port, 'SENTINEL', 'MASTER', 'mymaster'))
        assert.equal(master.get('flags'), 'master')
        assert.equal(master.get('port'), String(leader.port))
        assert.equal(master.get('num-slaves'), '2')
        assert.equal(master.get('quorum'), '2')
        const replicas = await ask(port, 'SENTINEL', 'REPLICAS', 'mymaster')
        assert.ok(Array.isArray(replicas))
        const others = cluster.nodes.filter((one) => one !== leader).map((one) => String(one.port))
        assert.deepEqual(
          replicas.map((one) => fields(one).get('port')).toSorted(),
          others.toSorted(),
        )
        const sentinels = await ask(port, 'SENTINEL', 'SENTINELS', 'mymaster')
        assert.ok(Array.isArray(sentinels))
        assert.deepEqual(
          sentinels.map((one) => Number(fields(one).get('port'))).toSorted((a, b) => a - b),
          cluster.nodes.filter((one) => one !== node).map((one) => one.sentinelPort),
        )
        const unknown = await ask(port, 'SENTINEL', 'MASTER', 'other')
        assert.ok(
          unknown instanceof Error && unknown.message === 'ERR No such master with that name',
        )
        assert.equal(await ask(port, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'other'), null)
        const [role, names] = (await ask(port, 'ROLE')) as ReplyValue[]
        assert.equal(textOf(role ?? null), 'sentinel')
        assert.ok(Array.isArray(names) && textOf(names[0] ?? null) === 'mymaster')
      }
    }),
  )

  test(
    'CLUSTER SLOTS has the leader first on every node, and NODES has one myself',
    logs(async () => {
      const leader = await cluster.leader()
      for (const node of cluster.nodes) {
        const slots = await node.ask('CLUSTER', 'SLOTS')
        assert.ok(Array.isArray(slots) && slots.length === 1)
        const [range] = slots
        assert.ok(Array.isArray(range))
        assert.deepEqual(range.slice(0, 2), [0, 16_383])
        const owner = range[2]
        assert.ok(Array.isArray(owner) && owner[1] === leader.port)
        assert.equal(range.length, 5)
        const lines = textOf(await node.ask('CLUSTER', 'NODES'))
          .trimEnd()
          .split('\n')
        assert.equal(lines.length, 3)
        const [myself, ...more] = lines.filter((line) => line.includes('myself'))
        assert.ok(more.length === 0 && myself?.includes(`127.0.0.1:${node.port}@`))
        assert.match(lines[0] ?? '', /master - 0 \d+ \d+ connected 0-16383$/)
        const pong = Number(lines[0]?.split(' ')[5])
        if (node === leader) assert.equal(pong, 0)
        else assert.ok(Math.abs(Date.now() - pong) < 60_000, `a pong at ${pong}`)
        assert.match(textOf(await node.ask('CLUSTER', 'INFO')), /cluster_state:ok\r\n/)
      }
    }),
  )

  test(
    'the keys of a slot are counted and returned, on every node alike',
    logs(async () => {
      const leader = await cluster.leader()
      const names = Array.from({ length: 1500 }, (_, at) => `{slot}${at}`)
      await leader.ask('MSET', ...names.flatMap((name) => [name, 'x']), 'elsewhere', 'x')
      const slot = Number(await leader.ask('CLUSTER', 'KEYSLOT', '{slot}'))
      for (const node of cluster.nodes) {
        assert.equal(await node.ask('CLUSTER', 'COUNTKEYSINSLOT', slot), 1500)
        const some = await node.ask('CLUSTER', 'GETKEYSINSLOT', slot, 1400)
        assert.ok(Array.isArray(some))
        const texts = new Set(some.map((key) => textOf(key)))
        assert.equal(texts.size, 1400)
        for (const text of texts) assert.ok(names.includes(text))
        const all = await node.ask('CLUSTER', 'GETKEYSINSLOT', slot, 5000)
        assert.ok(Array.isArray(all) && all.length === 1500)
      }
      const wrong = await leader.ask('CLUSTER', 'COUNTKEYSINSLOT', 16_384)
      assert.ok(wrong instanceof Error && wrong.message === 'ERR Invalid slot')
    }),
  )

  test(
    'a kill of the leader is published in the order of Redis Sentinel, in both protocols',
    logs(async () => {
      const leader = await cluster.leader()
      const [first, second] = await cluster.followers()
      assert.ok(first !== undefined && second !== undefined)
      const plain = new Listener(first.sentinelPort)
      plain.send('SUBSCRIBE', '+switch-master')
      const all = new Listener(second.sentinelPort)
      all.send('HELLO', '3')
      all.send('PSUBSCRIBE', '*')
      await until(
        'subscribed',
        () => plain.heard.includes('subscribe') && all.heard.includes('psubscribe'),
      )
      assert.equal(plain.heard, '*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n')
      plain.send('GET', 'x')
      await until('an error', () => plain.heard.includes('-ERR'))
      await leader.kill()
      await until(
        'the switch',
        () => plain.heard.includes('message') && all.heard.includes('+slave'),
      )
      const next = await cluster.leader()
      const moved = `127.0.0.1 ${leader.port} 127.0.0.1 ${next.port}`
      assert.ok(plain.heard.includes(`mymaster ${moved}\r\n`), plain.heard)
      const order = ['+sdown', '+odown', '+switch-master', '+slave'].map((channel) =>
        all.heard.lastIndexOf(`\r\n${channel}\r\n`),
      )
      assert.deepEqual(
        order,
        order.toSorted((a, b) => a - b),
      )
      assert.ok(all.heard.includes('>4\r\n$8\r\npmessage\r\n$1\r\n*\r\n'), all.heard)
      for (const node of cluster.running) {
        assert.equal(await addressKnownTo(node), `127.0.0.1:${next.port}`)
      }
      leader.start()
      await leader.ready()
      await until('it is back', () => all.heard.includes('-sdown'))
      plain.close()
      all.close()
    }),
  )

  test(
    'a leader that steps down closes its idle clients when it is told to',
    logs(async () => {
      const leader = await cluster.leader()
      const idle = connect({ host: '127.0.0.1', port: leader.port })
      let closed = false
      idle.on('close', () => {
        closed = true
      })
      idle.resume().on('error', () => {})
      await until('connected', () => idle.readyState === 'open')
      leader.signal('SIGSTOP')
      const others = cluster.nodes.filter((node) => node !== leader)
      await until('another leader', async () => {
        const states = await Promise.all(others.map((node) => node.status()))
        return states.some((status) => status?.role === 'leader')
      })
      leader.signal('SIGCONT')
      await until('it is closed', () => closed)
    }),
  )
})
