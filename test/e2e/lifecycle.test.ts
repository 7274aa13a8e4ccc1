/*
 * What an operator does with a running cluster: stops nodes in order, starts them again, asks whether one is ready,
 * and changes how a follower answers. Orderly is exit code 0; what was acknowledged before is there afterwards.
 */

import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { Child, until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs, successful } from './cluster.ts'
import { ReplyError, type ReplyValue, RespClient, textOf } from './resp-client.ts'
import { Workload } from './workload.ts'

const ORDERLY = { code: 0, signal: null }
const PASSWORD = 'secret words'

let cluster: Cluster

before(async () => {
  cluster = await Cluster.start({ nodes: 3, flags: ['--park-timeout-ms', '500'] })
})
after(async () => {
  await cluster?.end()
})

const logs = (body: (context: TestContext) => Promise<void>) => showingLogs(() => cluster, body)

/** `holdfast --check`: its exit code and what it printed. */
async function check(
  context: TestContext,
  node: NodeProcess,
  environment: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; output: string }> {
  const args = ['--check', `127.0.0.1:${node.port}`]
  const child = new Child(context, 'src/main.js', args, { environment })
  const { code } = await child.end()
  return { code, output: `${child.stdout}${child.stderr}` }
}

test(
  'SIGTERM of one node after the other under load: exit code 0 each time, nothing lost',
  logs(async () => {
    const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 2, name: 'rolling' })
    workload.start()
    for (const node of cluster.nodes) {
      const from = workload.acknowledged
      await until('100 writes', () => workload.acknowledged >= from + 100)
      // The terminal closes, which is nothing to a node.
      node.signal('SIGHUP')
      assert.deepEqual(await node.stop(), ORDERLY, node.name)
      node.start()
      await node.ready()
    }
    await workload.stop()
    for (const node of cluster.nodes) {
      assert.deepEqual(await workload.verify(node), { lost: [], happened: [], counter: [] })
    }
  }),
)

test(
  'SHUTDOWN of all nodes: exit code 0 without an answer, and the next start goes on',
  logs(async () => {
    const [first] = cluster.nodes
    const before = await cluster.term()
    assert.equal(await first?.ask('INCR', 'starts'), 1)
    for (const node of cluster.nodes) {
      const client = await RespClient.connect(node.port)
      const answer = await client.call('SHUTDOWN', 'NOSAVE').catch(() => 'closed')
      assert.equal(answer, 'closed')
      assert.deepEqual(await node.end(), ORDERLY, node.name)
    }
    for (const node of cluster.nodes) node.start()
    await cluster.ready()
    assert.equal(await first?.ask('INCR', 'starts'), 2)
    assert.ok((await cluster.term()) > before)
  }),
)

for (const word of ['SIGTERM', 'SHUTDOWN'] as const) {
  test(
    `${word} of a leader under load: another one takes over before it ends, and no command fails`,
    logs(async () => {
      const leader = await cluster.leader()
      const through = await cluster.follower()
      const client = await RespClient.connect(through.port)
      const key = `handed-over:${word}`
      let isOver = false
      let count = 0
      const load = (async () => {
        while (!isOver) assert.equal(await client.call('INCR', key), ++count)
      })()
      await until('a load', () => count >= 100)
      const from = leader.output.length
      const begun = Date.now()
      if (word === 'SIGTERM') {
        // As `timeout` and npm do: to the group, and to its first process.
        leader.signal('SIGTERM')
        leader.signal('SIGINT')
      } else void (await RespClient.connect(leader.port)).call('SHUTDOWN').catch(() => 'closed')
      assert.deepEqual(await leader.end(), ORDERLY)
      assert.ok(Date.now() - begun < 5000, 'it ends within 5 s')
      // Without a hand-over it would stop as the leader, and the others would find out.
      assert.match(leader.output.slice(from), /without a leader|following/)
      const goneAt = count
      await until('more load', () => count >= goneAt + 100)
      isOver = true
      await load
      client.close()
      leader.start()
      await leader.ready()
      assert.equal(await leader.ask('GET', key).then(textOf), `${count}`)
    }),
  )
}

test(
  'SAVE: what was written is in the state, LASTSAVE and INFO say so, and a killed node replays none of it',
  logs(async () => {
    const [, node] = cluster.nodes
    assert.ok(node)
    const persistence = async (field: string): Promise<number> => {
      const text = textOf(await node.ask('INFO', 'persistence'))
      return Number(new RegExp(`^${field}:(\\d+)\r$`, 'm').exec(text)?.[1])
    }
    for (let i = 0; i < 20; i++) await node.ask('SET', `saved:${i}`, 'v'.repeat(1000))
    assert.ok((await persistence('rdb_changes_since_last_save')) >= 20)
    const askedAt = Math.floor(Date.now() / 1000)
    assert.equal(await node.ask('SAVE'), 'OK')
    assert.ok(Number(await node.ask('LASTSAVE')) >= askedAt)
    assert.ok((await persistence('checkpoint_last_writes')) >= 20)
    const saved = await persistence('checkpoint_index')
    await node.kill()
    node.start()
    await node.ready()
    assert.ok((await persistence('checkpoint_index')) >= saved)
    assert.ok((await persistence('replay_bytes')) < 20_000)
    assert.equal(textOf(await node.ask('GET', 'saved:19')), 'v'.repeat(1000))
  }),
)

test(
  '--check says whether a node can serve a linearizable read now',
  logs(async (context) => {
    for (const node of cluster.nodes) {
      assert.deepEqual(await check(context, node), { code: 0, output: 'OK\n' })
    }
    const [first, second, third] = [cluster.node(0), cluster.node(1), cluster.node(2)]
    successful(await first.ask('CONFIG', 'SET', 'requirepass', PASSWORD))
    const locked = await check(context, first)
    assert.equal(locked.code, 1)
    assert.match(locked.output, /^NOAUTH [^\n]*\n$/)
    const opened = await check(context, first, { HOLDFAST_REQUIREPASS: PASSWORD })
    assert.deepEqual(opened, { code: 0, output: 'OK\n' })
    await Promise.all([first.kill(), second.kill()])
    const alone = await check(context, third)
    assert.equal(alone.code, 1)
    assert.match(alone.output, /^(?:NOTREADY )?[^\n]+\n$/)
    const nobody = await check(context, second)
    assert.equal(nobody.code, 1)
    assert.match(nobody.output, /^[^\n]+\n$/)
    first.start()
    second.start()
    await cluster.ready()
  }),
)

test(
  'redirect moved: keyed commands name the leader, the others are answered',
  logs(async () => {
    const leader = await cluster.leader()
    const follower = await cluster.follower()
    successful(await follower.ask('CONFIG', 'SET', 'redirect', 'moved'))
    const client = await RespClient.connect(follower.port)
    const cases: readonly (readonly [slot: number, args: readonly string[]])[] = [
      [12_182, ['SET', 'foo', 'x']],
      [12_182, ['GET', 'foo']],
      [3443, ['MSET', '{user1000}.following', 'x', '{user1000}.followers', 'y']],
      // An empty tag is no tag.
      [8363, ['INCR', 'foo{}{bar}']],
    ]
    for (const [slot, args] of cases) {
      const reply = await client.call(...args)
      assert.ok(reply instanceof ReplyError, args.join(' '))
      assert.equal(reply.message, `MOVED ${slot} 127.0.0.1:${leader.port}`)
    }
    assert.equal(await client.call('PING'), 'PONG')
    assert.equal(typeof (await client.call('DBSIZE')), 'number')
    assert.equal(await leader.ask('GET', 'foo'), null)
    successful(await client.call('CONFIG', 'SET', 'redirect', 'forward'))
    assert.equal(await client.call('SET', 'foo', 'forwarded'), 'OK')
    assert.equal(textOf(await leader.ask('GET', 'foo')), 'forwarded')
    client.close()
  }),
)

test(
  'read-consistency stale: a node without the others still shows what it knows, and takes no write',
  logs(async () => {
    const node = await cluster.follower()
    assert.equal(await node.ask('SET', 'stale', 'known'), 'OK')
    await cluster.caughtUp(node)
    await Promise.all(cluster.nodes.filter((other) => other !== node).map((other) => other.kill()))
    assert.match(textOf(await node.ask('GET', 'stale')), /^-CLUSTERDOWN /)
    successful(await node.ask('CONFIG', 'SET', 'read-consistency', 'stale'))
    const client = await RespClient.connect(node.port)
    assert.equal(textOf(await client.call('GET', 'stale')), 'known')
    assert.match(textOf(await client.call('SET', 'stale', 'new')), /^-CLUSTERDOWN /)
    assert.equal(textOf(await client.call('GET', 'stale')), 'known')
    client.close()
    for (const other of cluster.nodes) if (!other.running) other.start()
    await cluster.ready()
    assert.equal(textOf(await node.ask('GET', 'stale')), 'known')
  }),
)

test(
  'a leader with too little room refuses writes, below the lower floor it hands over, and both pass',
  logs(async () => {
    const leader = await cluster.leader()
    const follower = await cluster.follower()
    successful(await follower.ask('SET', 'room', '1'))
    const floors = async (writes: string, leading: string): Promise<void> => {
      const options = ['disk-free-min', writes, 'disk-free-leader-min', leading]
      successful(await leader.ask('CONFIG', 'SET', ...options))
    }
    await floors('1024gb', '0')
    await until('writes are refused', async () => {
      return /^OOM /.test(errorOf(await follower.ask('INCR', 'room')))
    })
    const kept = await leader.ask('GET', 'room')
    assert.match(errorOf(await leader.ask('INCR', 'room')), /^OOM command not allowed/)
    assert.deepEqual(await follower.ask('GET', 'room'), kept)
    assert.match(textOf(await leader.ask('INFO', 'persistence')), /disk_low:1\r\n/)
    await floors('1024gb', '1024gb')
    await until('another leader', async () => (await cluster.leader()) !== leader)
    await until('writes go on', async () => errorOf(await leader.ask('INCR', 'room')) === '')
    await floors('0', '0')
    await until('room again', async () => {
      return /disk_low:0\r\n/.test(textOf(await leader.ask('INFO', 'persistence')))
    })
  }),
)

function errorOf(reply: ReplyValue): string {
  return reply instanceof ReplyError ? reply.message : ''
}
