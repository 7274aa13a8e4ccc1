/*
 * The operator's commands over a node made of plain facts: CONFIG, INFO, ROLE, SHUTDOWN and RAFT.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { DataCall, noReply, syntaxError } from '../../src/commands/command.ts'
import { resolve } from '../../src/commands/table.ts'
import {
  argv,
  FakeServer,
  facts,
  following,
  leaderless,
  leading,
  storageFacts,
  wire,
} from './command-fixture.ts'

function node(): { server: FakeServer; run: (...words: string[]) => string } {
  const server = new FakeServer()
  const session = server.connect()
  return { server, run: (...words) => server.run(session, ...words) }
}

/** The text of INFO, out of its bulk string. */
function info(run: (...words: string[]) => string, ...sections: string[]): string {
  const reply = run('INFO', ...sections)
  return reply.slice(reply.indexOf('\r\n') + 2, -2)
}

const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`
const syntax = '-ERR syntax error\r\n'

test('CONFIG GET takes several globs in any case', () => {
  const { server, run } = node()
  assert.equal(run('CONFIG', 'GET', 'port'), `*2\r\n${bulk('port')}${bulk('6379')}`)
  assert.equal(
    run('CONFIG', 'GET', '*PORT', 'log?evel', 'nope', 'port'),
    `*6\r\n${['port', '6379', 'peer-port', '16379', 'loglevel', 'notice'].map(bulk).join('')}`,
  )
  assert.equal(
    run('CONFIG', 'GET', 'PoRt', 'port', 'p[o]rt', 'LOGLEVEL*'),
    `*4\r\n${['PoRt', '6379', 'loglevel', 'notice'].map(bulk).join('')}`,
  )
  assert.equal(run('CONFIG', 'GET', 'nope'), '*0\r\n')
  assert.equal(run('CONFIG', 'GET', 'x'.repeat(1025)), '-ERR pattern is too long\r\n')
  for (const session of server.open) session.protocol = 3
  assert.equal(run('CONFIG', 'GET', 'nope'), '%0\r\n')
  assert.equal(run('CONFIG', 'GET', 'port'), `%1\r\n${bulk('port')}${bulk('6379')}`)
})

test('CONFIG SET changes all or nothing', () => {
  const { server, run } = node()
  assert.equal(run('CONFIG', 'SET', 'LogLevel', 'debug', 'requirepass', 'é\0'), '+OK\r\n')
  assert.equal(server.options.get('loglevel'), 'debug')
  assert.equal(run('CONFIG', 'SET', 'loglevel', 'x', 'requirepass'), syntax)
  assert.equal(
    run('CONFIG', 'SET', 'loglevel', 'x', 'Foo', 'x'),
    "-ERR Unknown option or number of arguments for CONFIG SET - 'Foo'\r\n",
  )
  assert.equal(
    run('CONFIG', 'SET', 'loglevel', 'x', 'Port', '1'),
    "-ERR CONFIG SET failed (possibly related to argument 'Port') - can't set immutable config\r\n",
  )
  assert.equal(server.options.get('loglevel'), 'debug')
})

test('INFO without arguments tells the usual sections, all and everything tell the others too', () => {
  const { run } = node()
  const text = info(run)
  assert.deepEqual(text.match(/^# .*/gm), [
    '# Server',
    '# Clients',
    '# Memory',
    '# Persistence',
    '# Stats',
    '# Replication',
    '# Raft',
    '# CPU',
    '# Errorstats',
    '# Cluster',
    '# Keyspace',
  ])
  for (const line of text.split('\r\n')) {
    assert.match(line, /^$|^# [A-Z][A-Za-z]+$|^[a-z0-9_]+:.*$/)
    assert.doesNotMatch(line, /undefined|NaN|\[object/)
  }
  for (const word of ['default', 'DEFAULT']) assert.equal(info(run, word), text)
  const all = text.replace('# Errorstats', '# Commandstats\r\n\r\n# Errorstats')
  const everything = all.replace('# Cluster', '# Latencystats\r\n\r\n# Cluster')
  for (const word of ['all', 'everything', 'ALL']) assert.equal(info(run, word), everything)
  assert.equal(info(run, 'server', 'all'), everything)
  assert.equal(info(run, 'default', 'commandstats'), all)
})

test('INFO tells the named sections, in its own order', () => {
  const { run } = node()
  const text = info(run, 'Keyspace', 'CLIENTS', 'nope', 'clients')
  assert.equal(
    text,
    '# Clients\r\nconnected_clients:2\r\nmaxclients:10000\r\nblocked_clients:1\r\nmonitor_clients:0\r\n\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=5000\r\n',
  )
  assert.equal(run('INFO', 'nope'), '$0\r\n\r\n')
})

test('INFO has what clients and tools look for', () => {
  const { server, run } = node()
  const text = info(run)
  for (const line of [
    'redis_version:7.2.4',
    'holdfast_version:0.1.0',
    'redis_mode:cluster',
    'tcp_port:6379',
    'uptime_in_seconds:90',
    'uptime_in_days:0',
    'used_memory:1536',
    'used_memory_human:1.50K',
    'used_memory_rss_human:1000B',
    'used_memory_peak_human:3.00M',
    'maxmemory:0',
    'maxmemory_policy:noeviction',
    'loading:0',
    'total_commands_processed:1234',
    'instantaneous_ops_per_sec:12',
    'instantaneous_input_kbps:2.00',
    'evicted_clients:0',
    'expired_keys:2',
    'evicted_keys:0',
    'keyspace_hits:8',
    'keyspace_misses:4',
    'mem_clients_normal:512',
    'maxmemory_clients:1048576',
    'used_cpu_sys:0.250000',
    'server_time_usec:1700000000123456',
    'cluster_enabled:1',
  ]) {
    assert.ok(text.includes(`\r\n${line}\r\n`), line)
  }
  server.facts = { ...facts, databases: [{ keys: 0, expires: 0, averageTtlMs: 0 }] }
  assert.equal(info(run, 'keyspace'), '# Keyspace\r\n')
  for (const session of server.open) session.protocol = 3
  assert.ok(run('INFO', 'clients').startsWith('=92\r\ntxt:# Clients\r\n'))
})

test('INFO memory tells where the memory is, and nothing that the system does not say', () => {
  const { run } = node()
  const lines = info(run, 'memory').split('\r\n')
  for (const line of [
    'used_memory_rss:1000',
    'used_memory_rss_anon:600',
    'mem_memtable:900',
    'mem_memtable_max:64000',
    'mem_memtable_frozen:0',
    'mem_cache:300',
    'mem_cache_max:32000',
    'mem_log_cache:1200',
    'mem_views:20',
  ]) {
    assert.ok(lines.includes(line), line)
  }
  assert.ok(!lines.some((line) => line.startsWith('used_memory_rss_file')))
})

test('INFO persistence tells of the last checkpoint and of what is not in it', () => {
  const { server, run } = node()
  assert.deepEqual(info(run, 'persistence').split('\r\n'), [
    '# Persistence',
    'loading:0',
    'rdb_changes_since_last_save:7',
    'rdb_bgsave_in_progress:0',
    'rdb_last_save_time:1700000000',
    'rdb_last_bgsave_status:ok',
    'rdb_last_bgsave_time_sec:2',
    'aof_enabled:1',
    'aof_last_write_status:ok',
    'checkpoint_index:30',
    'checkpoint_last_ms:2500',
    'checkpoint_last_writes:11',
    'replay_bytes:700',
    'state_file_bytes:40960',
    'log_bytes:8192',
    'scrub_passes:3',
    'disk_free_bytes:1000000',
    'disk_low:0',
    '',
  ])
  server.stored = { ...storageFacts, checkpointing: true, lastCheckpoint: undefined }
  const text = info(run, 'persistence')
  assert.match(text, /^rdb_bgsave_in_progress:1\r$/m)
  assert.match(text, /^rdb_last_bgsave_time_sec:-1\r$/m)
  assert.doesNotMatch(text, /checkpoint_last/)
})

test('LASTSAVE is when the last checkpoint was durable; BGSAVE begins one, or schedules the next', () => {
  const { server, run } = node()
  assert.equal(run('LASTSAVE'), ':1700000000\r\n')
  for (const words of [['BGSAVE'], ['BGSAVE', 'Schedule']]) {
    assert.equal(run(...words), '+Background saving started\r\n')
  }
  assert.equal(server.saves, 2)
  server.stored = { ...storageFacts, checkpointing: true }
  assert.equal(run('BGSAVE'), '-ERR Background save already in progress\r\n')
  assert.equal(server.saves, 2)
  assert.equal(run('BGSAVE', 'SCHEDULE'), '+Background saving scheduled\r\n')
  assert.equal(server.saves, 3)
  for (const words of [
    ['BGSAVE', 'NOW'],
    ['BGSAVE', 'SCHEDULE', 'SCHEDULE'],
  ]) {
    assert.equal(run(...words), syntax)
  }
  assert.equal(server.saves, 3)
})

test('SAVE answers when the state is durable, and waits for a checkpoint that runs', async () => {
  const { server } = node()
  let durable = (): void => {}
  server.saved = new Promise((resolve) => {
    durable = resolve
  })
  server.stored = { ...storageFacts, checkpointing: true }
  const command = resolve(argv(['SAVE']))
  assert.ok(!(command instanceof ErrorReply) && command.kind === 'local')
  const reply = command.run(server.connect(), argv(['SAVE']), server)
  assert.ok(reply instanceof Promise)
  let answered = false
  const answer = reply.then((one) => {
    answered = true
    return one
  })
  await Promise.resolve()
  assert.equal(answered, false)
  durable()
  const one = await answer
  assert.ok(!(one instanceof DataCall))
  assert.equal(wire(one), '+OK\r\n')
})

test('INFO replication of a leader counts the members that are connected', () => {
  const { run } = node()
  assert.equal(
    info(run, 'replication'),
    [
      '# Replication',
      'role:master',
      'connected_slaves:1',
      'slave0:ip=::1,port=6380,state=online,offset=40,lag=1',
      'master_repl_offset:41',
      '',
    ].join('\r\n'),
  )
})

test('INFO replication of a follower names its master, and none while it knows none', () => {
  const { server, run } = node()
  server.status = following
  assert.equal(
    info(run, 'replication'),
    [
      '# Replication',
      'role:slave',
      'master_host:::1',
      'master_port:6380',
      'master_link_status:up',
      'master_last_io_seconds_ago:1',
      'slave_repl_offset:41',
      'connected_slaves:0',
      'master_repl_offset:41',
      '',
    ].join('\r\n'),
  )
  server.status = leaderless
  assert.equal(
    info(run, 'replication'),
    '# Replication\r\nrole:slave\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nslave_repl_offset:41\r\nconnected_slaves:0\r\nmaster_repl_offset:41\r\n',
  )
})

test('INFO raft names who holds compaction back', () => {
  const { server, run } = node()
  const [a, b, c] = ['a', 'b', 'c'].map((digit) => digit.repeat(40))
  assert.equal(
    info(run, 'raft'),
    [
      '# Raft',
      `raft_node_id:${a}`,
      `raft_cluster_id:${'f'.repeat(40)}`,
      'raft_role:leader',
      'raft_term:7',
      `raft_leader_id:${a}`,
      'raft_leader_address:10.0.0.1:6379',
      'raft_members:3',
      'raft_membership_changing:no',
      'raft_feature_level:2',
      'raft_commit_index:41',
      'raft_applied_index:41',
      'raft_durable_index:42',
      'raft_log_first_index:3',
      'raft_log_last_index:43',
      'raft_log_last_term:3',
      'raft_checkpoint_index:30',
      `raft_slowest_id:${c}`,
      'raft_slowest_match_index:12',
      'raft_pending_proposals:2',
      'raft_parked_commands:0',
      'raft_resting_commands:1',
      'raft_log_cache_hits:5',
      'raft_log_cache_misses:2',
      `raft_member0:id=${a},peer_address=10.0.0.1:16379,client_address=10.0.0.1:6379,role=leader,membership=voter,connected=yes,match_index=42`,
      `raft_member1:id=${b},peer_address=[::1]:16380,client_address=[::1]:6380,role=follower,membership=voter,connected=yes,match_index=40,silent_ms=1500`,
      `raft_member2:id=${c},peer_address=10.0.0.3:16381,client_address=10.0.0.3:6381,role=follower,membership=voter,connected=no,match_index=12,silent_ms=90000`,
      '',
    ].join('\r\n'),
  )
  server.status = { ...leaderless, slowest: undefined }
  const text = info(run, 'raft')
  assert.doesNotMatch(text, /leader_id|leader_address|slowest|match_index|silent/)
  assert.match(text, /raft_role:candidate\r\n/)
})

test('ROLE', () => {
  const { server, run } = node()
  const replica = `*3\r\n${bulk('::1')}${bulk('6380')}${bulk('40')}`
  assert.equal(run('ROLE'), `*3\r\n${bulk('master')}:41\r\n*1\r\n${replica}`)
  server.status = following
  assert.equal(
    run('ROLE'),
    `*5\r\n${bulk('slave')}${bulk('::1')}:6380\r\n${bulk('connected')}:41\r\n`,
  )
  const cut = following.members.map((one) => ({ ...one, connected: false }))
  server.status = { ...following, members: cut }
  assert.ok(run('ROLE').includes(bulk('connect')))
  server.status = leaderless
  assert.equal(run('ROLE'), `*5\r\n${bulk('slave')}${bulk('')}:0\r\n${bulk('connect')}:41\r\n`)
})

/** The reply of a command that may answer later. */
async function later(server: FakeServer, ...words: string[]): Promise<string> {
  const args = argv(words)
  const command = resolve(args)
  assert.ok(!(command instanceof ErrorReply) && command.kind === 'local')
  const reply = await command.run(server.connect(), args, server)
  assert.ok(reply !== noReply)
  assert.ok(!(reply instanceof DataCall))
  return wire(reply)
}

test('RAFT READY', async () => {
  const server = new FakeServer()
  assert.equal(await later(server, 'RAFT', 'READY'), '+OK\r\n')
  server.unready = 'no leader is known'
  assert.equal(await later(server, 'RAFT', 'READY'), '-NOTREADY no leader is known\r\n')
  server.unready = undefined
  const { clusterId } = server.status
  assert.equal(await later(server, 'RAFT', 'READY', clusterId), '+OK\r\n')
  const foreign = await later(server, 'RAFT', 'READY', 'e'.repeat(40))
  assert.equal(foreign, `-ERR this node belongs to another cluster: ${clusterId}\r\n`)
  await assert.rejects(later(server, 'RAFT', 'READY', clusterId, 'x'), syntaxError)
})

test('RAFT STATUS and MEMBERS are maps', () => {
  const { server, run } = node()
  for (const session of server.open) session.protocol = 3
  assert.ok(run('RAFT', 'STATUS').startsWith(`%23\r\n${bulk('node_id')}${bulk('a'.repeat(40))}`))
  assert.ok(run('RAFT', 'STATUS').includes(`${bulk('term')}:7\r\n`))
  assert.ok(run('RAFT', 'MEMBERS').startsWith(`*3\r\n%7\r\n${bulk('id')}${bulk('a'.repeat(40))}`))
  server.status = { ...leading, members: leading.members.slice(0, 1) }
  assert.ok(run('RAFT', 'MEMBERS').startsWith('*1\r\n'))
  assert.equal(
    run('RAFT', 'STATUS', 'x'),
    "-ERR wrong number of arguments for 'raft|status' command\r\n",
  )
  assert.ok(run('RAFT', 'HELP').includes('+READY [<cluster>]\r\n'))
})

test('SHUTDOWN ends the process once its words make sense, and answers nothing', () => {
  const server = new FakeServer()
  const session = server.connect()
  const refused = (...words: string[]) => server.run(session, 'SHUTDOWN', ...words)
  assert.equal(refused('foo'), syntax)
  assert.equal(refused('SAVE', 'NOSAVE'), syntax)
  assert.equal(refused('ABORT', 'NOW'), syntax)
  assert.equal(refused('ABORT'), '-ERR No shutdown in progress.\r\n')
  assert.equal(server.shutdowns, 0)
  let asked = 0
  for (const words of [[], ['NOSAVE'], ['save', 'now', 'FORCE'], ['NOW', 'now']]) {
    const args = argv(['SHUTDOWN', ...words])
    const command = resolve(args)
    assert.ok(!(command instanceof ErrorReply) && command.kind === 'local')
    assert.ok(command.run(session, args, server) instanceof Promise)
    assert.equal(server.shutdowns, ++asked)
  }
})

test('RAFT BACKUP gives one part after the other, and nothing behind the last', async () => {
  const server = new FakeServer()
  server.parts = [Buffer.from('part')]
  assert.equal(await later(server, 'RAFT', 'BACKUP', 'BEGIN'), bulk('first'))
  assert.equal(await later(server, 'RAFT', 'BACKUP', 'next'), bulk('part'))
  assert.equal(await later(server, 'RAFT', 'BACKUP', 'NEXT'), '$-1\r\n')
  const { clusterId } = server.status
  assert.equal(await later(server, 'RAFT', 'BACKUP', 'BEGIN', clusterId), bulk('first'))
  const foreign = await later(server, 'RAFT', 'BACKUP', 'BEGIN', 'e'.repeat(40))
  assert.equal(foreign, `-ERR this node belongs to another cluster: ${clusterId}\r\n`)
  for (const words of [['END'], ['NEXT', clusterId], ['BEGIN', clusterId, 'x']]) {
    await assert.rejects(later(server, 'RAFT', 'BACKUP', ...words), syntaxError)
  }
})
