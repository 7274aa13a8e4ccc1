/*
 * Random pipelines through whole replicas without faults: whatever node a client speaks to, and however its commands
 * are mixed and cut, every reply is the one that a plain Map gives, in order.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../sim/network.ts'
import { Replicas } from '../sim/replicas.ts'
import type { RespConnection } from '../sim/resp-connection.ts'
import { Model, pick, randomCommand, type Words } from '../sim/workload.ts'

const DEPTH_MAX = 64

/** A client that sends pipelines without waiting for all replies, and knows what each reply has to be. */
class Pipeliner {
  readonly connection: RespConnection
  readonly expected: unknown[] = []
  readonly #model: Model
  readonly #prefix: string
  readonly #random: () => number
  #serial = 0

  constructor(connection: RespConnection, model: Model, prefix: string, random: () => number) {
    this.connection = connection
    this.#model = model
    this.#prefix = prefix
    this.#random = random
  }

  send(commands: number): void {
    const all = Array.from({ length: commands }, () => {
      return randomCommand(this.#random, this.#prefix, this.#serial++)
    })
    this.ask(all)
  }

  ask(all: readonly Words[]): void {
    for (const words of all) this.expected.push(this.#model.run(words))
    this.connection.send(...all)
  }

  check(seed: number): void {
    const replies = this.connection.exchanges.map(({ reply }) => reply)
    for (const [i, { words, reply }] of this.connection.exchanges.entries()) {
      assert.deepEqual(reply, this.expected[i], `seed ${seed}, ${i}: ${words.join(' ')}`)
    }
    assert.equal(replies.length, this.expected.length)
  }
}

async function run(seed: number, config: readonly string[] = []): Promise<void> {
  const random = seededRandom(seed)
  const cluster = new Replicas({ seed, config, network: { splitChance: 0.2 } })
  await cluster.start()
  const clients = Array.from({ length: 7 }, (_, i) => {
    const node = cluster.nodes[i % 3]
    assert.ok(node)
    return new Pipeliner(cluster.connect(node), new Model(), `c${i}:`, random)
  })
  for (let round = 0; round < 12; round++) {
    for (const client of clients) client.send(1 + pick(random, DEPTH_MAX))
    // Sometimes the next pipelines come while these are under way.
    if (random() < 0.5) await cluster.time.runFor(random() * 5)
    else await cluster.time.until(() => clients.every(({ connection }) => !connection.unanswered))
  }
  await cluster.time.until(() => clients.every(({ connection }) => !connection.unanswered))
  for (const client of clients) client.check(seed)
  // A count that drifted is an assertion of the router, checked at every tick.
  await cluster.time.runFor(50)
  for (const { replica } of cluster.nodes) {
    assert.deepEqual([replica.router.parked, replica.router.pendingEntries], [0, 0])
  }
  assert.deepEqual(cluster.warnings, [])
}

for (const seed of [11, 12, 13, 14]) {
  test(`random pipelines on every node answer as a Map does, seed ${seed}`, () => run(seed))
}

test('random pipelines answer as a Map does where reads may be stale: own writes are seen', () =>
  run(21, ['--read-consistency', 'stale']))

test('one client alone, moving from node to node: also DBSIZE and FLUSHALL are exact', async () => {
  const random = seededRandom(31)
  const cluster = new Replicas({ seed: 31 })
  await cluster.start()
  const model = new Model()
  for (let round = 0; round < 24; round++) {
    const node = cluster.nodes[pick(random, 3)]
    assert.ok(node)
    model.connect()
    const client = new Pipeliner(cluster.connect(node), model, 'k', random)
    for (let part = 0; part < 4; part++) {
      client.send(1 + pick(random, DEPTH_MAX / 4))
      client.ask([['DBSIZE']])
    }
    if (round % 8 === 7) {
      model.clear()
      client.connection.send(['FLUSHALL'], ['DBSIZE'])
      client.expected.push('OK', 0)
    }
    await cluster.time.until(() => client.connection.unanswered === 0)
    client.check(31)
    client.connection.destroy()
  }
})

test('commands that arrive byte by byte are answered all the same', async () => {
  const cluster = new Replicas({ seed: 41, network: { pieceBytesMax: 3 } })
  await cluster.start()
  for (const node of cluster.nodes) {
    const connection = cluster.connect(node)
    connection.send(['SET', 'k', 'v'.repeat(40)], ['GET', 'k'], ['PING'])
    await cluster.time.until(() => connection.unanswered === 0)
    const replies = connection.exchanges.map(({ reply }) => reply)
    assert.deepEqual(replies, ['OK', 'v'.repeat(40), 'PONG'])
  }
})

test('one seed is one run: the same replies at the same moments', async () => {
  const trace = async (): Promise<string> => {
    const cluster = new Replicas({ seed: 51 })
    await cluster.start()
    const connections = cluster.nodes.map((node) => cluster.connect(node))
    for (const connection of connections) {
      connection.send(...Array.from({ length: 40 }, (_, i) => ['APPEND', 'k', String(i % 10)]))
    }
    await cluster.time.until(() => connections.every((one) => one.unanswered === 0))
    const exchanges = connections.flatMap((one) => one.exchanges)
    return exchanges.map(({ reply, repliedAt }) => `${reply}@${repliedAt}`).join()
  }
  assert.equal(await trace(), await trace())
})
