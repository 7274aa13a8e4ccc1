/*
 * INFO on real nodes: each field that clients and monitoring read is looked at, its cause is changed, and it must have
 * moved as it should. What only reads an option or a version is looked at where it is set.
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs, successful } from './cluster.ts'
import { ask, RespClient, textOf } from './resp-client.ts'

type Fields = ReadonlyMap<string, string>

let cluster: Cluster
let leader: NodeProcess
let follower: NodeProcess
const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

before(async () => {
  cluster = await Cluster.start({ nodes: 3 })
  leader = await cluster.leader()
  follower = await cluster.follower()
})
after(() => cluster?.end())

async function info(node: NodeProcess): Promise<Fields> {
  const text = textOf(await node.ask('INFO', 'everything'))
  return new Map(
    text
      .split('\r\n')
      .filter((line) => line.includes(':'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]),
  )
}

function number(fields: Fields, name: string): number {
  const text = fields.get(name)
  assert.ok(text !== undefined, `no field ${name}`)
  const value = Number(text)
  assert.ok(Number.isFinite(value), `${name}:${text}`)
  return value
}

/** One entry of a field that has several: `name=3` of `db0:name=3,other=4`. */
function entry(fields: Fields, name: string, of: string): number {
  const found = new RegExp(`(?:^|,)${of}=([\\d.]+)`).exec(fields.get(name) ?? '')
  return Number(found?.[1] ?? 0)
}

/** Does something, and waits until the node's INFO is as it should be then. */
async function moves(
  node: NodeProcess,
  cause: () => Promise<unknown>,
  effect: (then: Fields, now: Fields) => boolean,
): Promise<void> {
  const then = await info(node)
  await cause()
  let now = then
  await until(`INFO to tell of ${cause}`, async () => {
    now = await info(node)
    return effect(then, now)
  })
}

function grew(name: string, by = 1): (then: Fields, now: Fields) => boolean {
  return (then, now) => number(now, name) >= number(then, name) + by
}

describe('INFO', () => {
  test(
    'clients: connections, those that wait and those that watch',
    logs(async () => {
      const client = await RespClient.connect(leader.port)
      await client.call('PING')
      await moves(
        leader,
        async () => client.close(),
        (then, now) => {
          return number(now, 'connected_clients') === number(then, 'connected_clients') - 1
        },
      )
      const other = await RespClient.connect(leader.port)
      successful(await other.call('MONITOR'))
      await moves(
        leader,
        async () => other.close(),
        (then, now) => {
          return number(then, 'monitor_clients') === 1 && number(now, 'monitor_clients') === 0
        },
      )
      const queueing = await RespClient.connect(leader.port)
      successful(await queueing.call('MULTI'))
      await moves(
        leader,
        () => queueing.call('SET', 'k', Buffer.alloc(300_000)),
        grew('mem_clients_normal', 300_000),
      )
      await moves(
        leader,
        () => queueing.call('DISCARD'),
        (then, now) => {
          return number(now, 'mem_clients_normal') <= number(then, 'mem_clients_normal') - 300_000
        },
      )
      queueing.close()
      await moves(
        leader,
        () => leader.ask('CONFIG', 'SET', 'maxclients', '300'),
        (then, now) => number(then, 'maxclients') > 300 && number(now, 'maxclients') === 300,
      )
    }),
  )

  test(
    'statistics: connections, commands, bytes, errors, and their rates',
    logs(async () => {
      await moves(leader, () => leader.ask('PING'), grew('total_connections_received', 2))
      const client = await RespClient.connect(leader.port)
      const pings = () => Promise.all(Array.from({ length: 500 }, () => client.call('ECHO', 'x')))
      await moves(leader, pings, (then, now) => {
        const names = ['total_net_input_bytes', 'total_net_output_bytes']
        const bytes = names.every((name) => number(now, name) > number(then, name) + 500)
        return bytes && grew('total_commands_processed', 500)(then, now)
      })
      const rates = ['ops_per_sec', 'input_kbps', 'output_kbps'].map((it) => `instantaneous_${it}`)
      await until('the rates to move', async () => {
        await pings()
        const now = await info(leader)
        return rates.every((name) => number(now, name) > 1)
      })
      await moves(
        leader,
        () => client.call('INCR', 'k', 'k'),
        (then, now) => {
          const errors =
            entry(now, 'errorstat_ERR', 'count') - entry(then, 'errorstat_ERR', 'count')
          const rejected = (fields: Fields) => entry(fields, 'cmdstat_incr', 'rejected_calls')
          return errors === 1 && rejected(now) === 1 && grew('total_error_replies')(then, now)
        },
      )
      successful(await client.call('SET', 'text', 'x'))
      await moves(
        leader,
        () => client.call('INCR', 'text'),
        (then, now) => {
          const moved = (of: string): number =>
            entry(now, 'cmdstat_incr', of) - entry(then, 'cmdstat_incr', of)
          assert.ok(moved('calls') <= 1)
          return moved('calls') === 1 && moved('failed_calls') === 1 && moved('usec') > 0
        },
      )
      const percentiles = await info(leader)
      const at = (percent: string): number =>
        entry(percentiles, 'latency_percentiles_usec_set', percent)
      assert.ok(at('p50') > 0 && at('p50') <= at('p99') && at('p99') <= at('p99.9'))
      await moves(
        leader,
        () => client.call('CONFIG', 'RESETSTAT'),
        (then, now) => {
          assert.ok(number(then, 'total_commands_processed') > 1000)
          return number(now, 'total_commands_processed') < 100 && !now.has('cmdstat_echo')
        },
      )
      client.close()
    }),
  )

  test(
    'connections that are refused, and those that had to go, are counted',
    logs(async () => {
      await moves(
        follower,
        async () => {
          const only = await RespClient.connect(follower.port)
          successful(await only.call('CONFIG', 'SET', 'maxclients', 1))
          const late = await RespClient.connect(follower.port)
          await late.whenClosed()
          successful(await only.call('CONFIG', 'SET', 'maxclients', 300))
          only.close()
        },
        grew('rejected_connections'),
      )
      const set = (...pairs: string[]) => follower.ask('CONFIG', 'SET', ...pairs)
      const before = await info(follower)
      successful(
        await set(
          ...['proto-max-bulk-len', '1mb', 'client-query-buffer-limit', '2mb'],
          ...['maxmemory-clients', '2mb', 'client-output-buffer-limit', 'normal 2mb 1mb 60'],
        ),
      )
      assert.equal(number(await info(follower), 'maxmemory_clients'), 2 * 1024 ** 2)
      assert.notEqual(number(before, 'maxmemory_clients'), 2 * 1024 ** 2)
      const hungry = await Promise.all([1, 2, 3].map(() => RespClient.connect(follower.port)))
      await moves(
        follower,
        async () => {
          const part = `*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n${'x'.repeat(900_000)}`
          for (const client of hungry) client.write(part)
        },
        grew('evicted_clients'),
      )
      for (const client of hungry) client.close()
    }),
  )

  test(
    'memory and processor time are those of the process',
    logs(async () => {
      const large = Buffer.alloc(4_000_000, 'x')
      await moves(
        leader,
        async () => {
          for (let at = 0; at < 3; at++) successful(await leader.ask('SET', `large${at}`, large))
        },
        (then, now) => {
          const names = ['used_memory', 'used_memory_rss', 'used_memory_peak']
          return names.every((name) => number(now, name) > number(then, name) + 5_000_000)
        },
      )
      const now = await info(leader)
      assert.ok(number(now, 'used_memory_peak') >= number(now, 'used_memory'))
      assert.match(now.get('used_memory_human') ?? '', /^[\d.]+[KMG]$/)
      await moves(
        leader,
        async () => {
          for (let at = 0; at < 20; at++) await leader.ask('GET', 'large0')
        },
        (then, later) =>
          ['used_cpu_sys', 'used_cpu_user'].every(
            (name) => number(later, name) > number(then, name),
          ) && number(later, 'uptime_in_seconds') > number(then, 'uptime_in_seconds'),
      )
      const micros = number(await info(leader), 'server_time_usec')
      assert.ok(Math.abs(micros / 1000 - Date.now()) < 5000)
      assert.equal(number(now, 'process_id') > 0, true)
    }),
  )

  test(
    'keyspace: keys, those that expire and their time, in each database',
    logs(async () => {
      const client = await RespClient.connect(leader.port)
      successful(await client.call('SELECT', 7))
      await moves(
        leader,
        () => client.call('MSET', 'a', 1, 'b', 2),
        (then, now) => {
          return !then.has('db7') && entry(now, 'db7', 'keys') === 2
        },
      )
      await moves(
        leader,
        () => client.call('EXPIRE', 'a', 1000),
        (then, now) => {
          const expires = [then, now].map((fields) => entry(fields, 'db7', 'expires'))
          const ttl = entry(now, 'db7', 'avg_ttl')
          return expires.join() === '0,1' && ttl > 900_000 && ttl <= 1_000_000
        },
      )
      await moves(
        leader,
        () => client.call('MGET', 'a', 'b', 'missing'),
        (then, now) => {
          const moved = (name: string) => number(now, name) - number(then, name)
          return moved('keyspace_hits') === 2 && moved('keyspace_misses') === 1
        },
      )
      await moves(leader, () => client.call('PEXPIRE', 'b', 1), grew('expired_keys'))
      await moves(
        leader,
        () => client.call('FLUSHDB'),
        (_, now) => !now.has('db7'),
      )
      await moves(
        leader,
        () => client.call('CONFIG', 'RESETSTAT'),
        (_, now) => {
          const names = ['keyspace_hits', 'keyspace_misses', 'expired_keys', 'evicted_keys']
          return names.every((name) => number(now, name) === 0)
        },
      )
      client.close()
    }),
  )

  test(
    'replication: offsets follow writes, members that go and come are told',
    logs(async () => {
      leader = await cluster.leader()
      follower = await cluster.follower()
      const ports = (fields: Fields): readonly number[] =>
        [0, 1].map((at) => entry(fields, `slave${at}`, 'port')).sort()
      const write = () => ask(leader.port, 'SET', 'k', 'v')
      await moves(leader, write, (then, now) => {
        const match = [then, now].map((fields) => entry(fields, 'slave0', 'offset'))
        return (match[1] ?? 0) > (match[0] ?? 0) && grew('master_repl_offset')(then, now)
      })
      await moves(follower, write, grew('slave_repl_offset'))
      const [first, second] = await Promise.all([info(leader), info(follower)])
      assert.deepEqual(
        [first.get('role'), number(first, 'connected_slaves'), second.get('role')],
        ['master', 2, 'slave'],
      )
      const others = cluster.nodes.filter((node) => node !== leader).map(({ port }) => port)
      assert.deepEqual(ports(first), others.sort())
      assert.match(first.get('slave0') ?? '', /^ip=127\.0\.0\.1,port=\d+,state=online,.*lag=\d/)
      assert.equal(number(second, 'master_port'), leader.port)
      assert.equal(second.get('master_link_status'), 'up')
      assert.ok([0, 1].includes(number(second, 'master_last_io_seconds_ago')))
      await moves(
        leader,
        () => follower.kill(),
        (_, now) => number(now, 'connected_slaves') === 1,
      )
      follower.start()
      await follower.ready()
      await moves(
        follower,
        () => leader.kill(),
        (_, now) => {
          const port = Number(now.get('master_port') ?? 0)
          return now.get('role') === 'master' || (port !== 0 && port !== leader.port)
        },
      )
      leader.start({ flags: ['--cluster-enabled', 'no'] })
      await leader.ready()
      const again = await info(leader)
      assert.deepEqual(
        [again.get('redis_mode'), again.get('cluster_enabled'), again.get('loading')],
        ['standalone', '0', '0'],
      )
      for (const word of ['SLOTS', 'NODES', 'KEYSLOT a', 'COUNTKEYSINSLOT 1']) {
        const refused = textOf(await leader.ask('CLUSTER', ...word.split(' ')))
        assert.equal(refused, '-ERR This instance has cluster support disabled')
      }
      assert.deepEqual([first.get('redis_mode'), first.get('cluster_enabled')], ['cluster', '1'])
    }),
  )
})
