/*
 * What the cluster is for: processes die, stop and lag, and nothing that was acknowledged is lost, nothing is done
 * twice, and whoever comes back has the same data as the others.
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs, successful } from './cluster.ts'
import { ask, RespClient, textOf } from './resp-client.ts'
import { type Verdict, Workload } from './workload.ts'

const SOUND: Verdict = { lost: [], happened: [], counter: [] }

let cluster: Cluster

const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

/** Resolves when the workload has had `count` more writes acknowledged. */
function more(workload: Workload, count: number): Promise<void> {
  const from = workload.acknowledged
  return until(`${count} more writes`, () => workload.acknowledged >= from + count, 20_000)
}

/** Everything that was written, read through every running node. */
async function assertSound(workload: Workload): Promise<void> {
  assert.ok(workload.acknowledged > 0)
  for (const node of cluster.running) assert.deepEqual(await workload.verify(node), SOUND)
}

describe('three nodes', () => {
  before(async () => {
    cluster = await Cluster.start({ nodes: 3 })
  })
  after(async () => {
    await cluster?.end()
  })

  test(
    'kill -9 of the leader under load, three times',
    logs(async () => {
      const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 3, name: 'leader' })
      workload.start()
      for (let kill = 0; kill < 3; kill++) {
        await more(workload, 300)
        const leader = await cluster.leader()
        await leader.kill()
        await more(workload, 300)
        leader.start()
        await leader.ready()
        await cluster.caughtUp(leader)
      }
      await workload.stop()
      await assertSound(workload)
    }),
  )

  test(
    'kill -9 of all three at once under load, and a restart',
    logs(async () => {
      const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 3, name: 'all' })
      workload.start()
      await more(workload, 500)
      const stopped = workload.stop()
      cluster.kill()
      await Promise.all([stopped, ...cluster.nodes.map((node) => node.end())])
      for (const node of cluster.nodes) node.start()
      await cluster.ready()
      await assertSound(workload)
    }),
  )

  test(
    'a leader that is stopped for two seconds comes back and steps down',
    logs(async () => {
      const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 2, name: 'stopped' })
      workload.start()
      await more(workload, 100)
      const old = await cluster.leader()
      const term = (await old.status())?.term ?? 0
      old.signal('SIGSTOP')
      const stoppedAt = performance.now()
      // A read that it is asked for now must not be answered from its old state when it wakes up.
      const late = await RespClient.connect(old.port)
      const read = late.call('GET', 'while-stopped').catch(() => null)
      const others = cluster.nodes.filter((node) => node !== old)
      await until('another leader', async () => {
        const states = await Promise.all(others.map((node) => node.status()))
        return states.some((status) => status?.role === 'leader' && status.term > term)
      })
      const [other] = others
      assert.equal(await ask(other?.port ?? 0, 'SET', 'while-stopped', 'new'), 'OK')
      await until('two seconds', () => performance.now() - stoppedAt >= 2000)
      old.signal('SIGCONT')
      const seen = await read
      assert.ok(seen === null || textOf(seen) === 'new', `it answered ${textOf(seen)}`)
      late.close()
      await until('it follows', async () => (await old.status())?.role === 'follower')
      assert.equal(textOf(await old.ask('GET', 'while-stopped')), 'new')
      assert.ok(((await old.status())?.term ?? 0) > term)
      await more(workload, 100)
      await workload.stop()
      await assertSound(workload)
    }),
  )
})

describe('a node that lives while one leader after the other does not', () => {
  before(async () => {
    cluster = await Cluster.start({ nodes: 3 })
  })
  after(async () => {
    await cluster?.end()
  })

  test(
    'its clients see delays, but no error, no outcome that is unknown, and nothing that happens twice',
    logs(async () => {
      const spared = await cluster.follower()
      const workload = new Workload({ nodes: [spared], writersPerNode: 8, name: 'spared' })
      workload.start()
      for (let kill = 0; kill < 6; kill++) {
        await more(workload, 100)
        const old = await cluster.deposeLeader(spared)
        await more(workload, 100)
        if (!old.running) old.start()
        await cluster.ready()
        await cluster.caughtUp(old)
      }
      await workload.stop()
      assert.deepEqual(workload.errors, [])
      assert.deepEqual([workload.refused, workload.unknown], [0, 0])
      await assertSound(workload)
    }),
  )
})

describe('a follower that is away for three checkpoints', () => {
  const VALUE = 'x'.repeat(4096)
  const KEYS = 200

  before(async () => {
    cluster = await Cluster.start({ nodes: 3, flags: ['--memtable-size', '1mb'] })
  })
  after(async () => {
    await cluster?.end()
  })

  /** All keys as `node` has them itself, without asking the leader. */
  async function ownData(node: NodeProcess): Promise<readonly string[]> {
    successful(await node.ask('CONFIG', 'SET', 'read-consistency', 'stale'))
    const keys = Array.from({ length: KEYS }, (_, at) => `away:${at}`)
    const values = await node.ask('MGET', ...keys)
    const size = await node.ask('DBSIZE')
    successful(await node.ask('CONFIG', 'SET', 'read-consistency', 'linearizable'))
    assert.ok(Array.isArray(values))
    return [`${size} keys`, ...values.map((value) => textOf(value))]
  }

  test(
    'catches up and has equal data',
    logs(async () => {
      const away = await cluster.follower()
      const leader = await cluster.leader()
      const client = await RespClient.connect(leader.port)
      let round = 0
      async function write(): Promise<void> {
        round++
        const keys = Array.from({ length: KEYS }, (_, at) => at)
        const replies = await Promise.all([
          ...keys.map((at) => client.call('SET', `away:${at}`, `${round}:${at}:${VALUE}`)),
          client.call('DEL', `away:${round % KEYS}`),
          client.call('INCR', 'away:rounds'),
        ])
        for (const reply of replies) successful(reply)
      }
      await write()
      assert.deepEqual(await away.stop(), { code: 0, signal: null })
      let checkpoint = (await leader.status())?.checkpoint ?? 0
      for (let checkpoints = 0; checkpoints < 3; checkpoints++) {
        await until('a checkpoint of the leader', async () => {
          await write()
          return ((await leader.status())?.checkpoint ?? 0) > checkpoint
        })
        checkpoint = (await leader.status())?.checkpoint ?? 0
      }
      // It holds the log back, and the leader says so to whoever asks.
      const info = textOf(await leader.ask('INFO', 'raft'))
      assert.match(info, /raft_slowest_match_index:\d+/)
      const slowest = Number(/raft_slowest_match_index:(\d+)/.exec(info)?.[1])
      const first = Number(/raft_log_first_index:(\d+)/.exec(info)?.[1])
      assert.ok(slowest < checkpoint && first <= slowest + 1, info)
      away.start()
      await away.ready()
      await cluster.caughtUp(away)
      const expected = await ownData(leader)
      for (const node of cluster.nodes) {
        await cluster.caughtUp(node)
        assert.deepEqual(await ownData(node), expected, node.name)
      }
      assert.equal(textOf(await away.ask('GET', 'away:rounds')), `${round}`)
      client.close()
    }),
  )
})
