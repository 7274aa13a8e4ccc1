/*
 * A node behind another name: clients of Redis Cluster and of Sentinel are told the address that is announced, a host
 * name too, and never the one that is bound.
 */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Cluster, showingLogs } from './cluster.ts'
import { ask, RespClient, textOf } from './resp-client.ts'

const HOST = 'redis-1.example.test'
const PORT = 7001

let cluster: Cluster

before(async () => {
  const flags = ['--announce', `${HOST}:${PORT}`]
  cluster = await Cluster.start({ nodes: 1, sentinels: true, flags })
})
after(async () => {
  await cluster?.end()
})

test(
  'CLUSTER and Sentinel name the announced host and port',
  showingLogs(
    () => cluster,
    async () => {
      const node = cluster.node(0)
      const id = (await node.status())?.nodeId ?? ''
      const slots = await node.ask('CLUSTER', 'SLOTS')
      assert.deepEqual(JSON.parse(JSON.stringify(slots, texts)), [
        [0, 16_383, [HOST, PORT, id, []]],
      ])
      const line = textOf(await node.ask('CLUSTER', 'NODES'))
      assert.ok(line.startsWith(`${id} ${HOST}:${PORT}@`), line)
      assert.match(line, / myself,master - 0 \d+ \d+ connected 0-16383\n$/)
      const shards = JSON.stringify(await node.ask('CLUSTER', 'SHARDS'), texts)
      assert.ok(shards.includes(`"${HOST}"`) && shards.includes(`${PORT}`), shards)
      const address = await ask(
        node.sentinelPort,
        'SENTINEL',
        'GET-MASTER-ADDR-BY-NAME',
        'mymaster',
      )
      assert.deepEqual(JSON.parse(JSON.stringify(address, texts)), [HOST, String(PORT)])
      const master = await ask(node.sentinelPort, 'SENTINEL', 'MASTER', 'mymaster')
      const fields: unknown[] = JSON.parse(JSON.stringify(master, texts))
      assert.equal(fields[fields.indexOf('ip') + 1], HOST)
      assert.equal(fields[fields.indexOf('port') + 1], String(PORT))
      // It is the bound address that serves.
      const client = await RespClient.connect(node.port)
      assert.equal(await client.call('PING'), 'PONG')
      client.close()
    },
  ),
)

/** JSON of replies with their strings as text. */
function texts(_key: string, value: unknown): unknown {
  const isBuffer = typeof value === 'object' && value !== null && 'type' in value && 'data' in value
  if (!isBuffer || !Array.isArray(value.data)) return value
  return Buffer.from(value.data).toString()
}
