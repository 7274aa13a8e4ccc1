/*
 * The Sentinel port without sockets: its table, its subscriptions at their limit and one past it, and what is
 * published when leaders and members change.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorReply, type Reply } from '../../resp/encoder.ts'
import { DataCall, noReply } from '../../src/commands/command.ts'
import { resolveSentinel } from '../../src/commands/sentinel.ts'
import { limits } from '../../src/config.ts'
import { SentinelEvents } from '../../src/sentinel-events.ts'
import type { Session } from '../../src/session.ts'
import { argv, FakeServer, following, leaderless, leading, wire } from './command-fixture.ts'

function sentinel(): { server: FakeServer; session: Session; sent: string[] } {
  const server = new FakeServer()
  server.face = 'sentinel'
  const session = server.connect()
  const sent: string[] = []
  session.push = (message: Reply) => sent.push(wire(message, session.protocol))
  return { server, session, sent }
}

async function run(server: FakeServer, session: Session, ...words: string[]): Promise<string> {
  const args = argv(words)
  const command = resolveSentinel(args, session)
  if (command instanceof ErrorReply) return wire(command)
  assert.ok(command.kind === 'local')
  try {
    const reply = await command.run(session, args, server)
    assert.ok(!(reply instanceof DataCall))
    return reply === noReply ? '' : wire(reply, session.protocol)
  } catch (error) {
    assert.ok(error instanceof Object && 'reply' in error && error.reply instanceof ErrorReply)
    return wire(error.reply)
  }
}

test('a connection subscribes to so many channels and patterns, and to no more', async () => {
  const { server, session, sent } = sentinel()
  const names = Array.from({ length: limits.subscriptionsMax }, (_, at) => `c${at}`)
  assert.equal(await run(server, session, 'SUBSCRIBE', ...names), '')
  assert.equal(sent.length, names.length)
  assert.match(await run(server, session, 'SUBSCRIBE', 'more'), /^-ERR too many subscriptions/)
  assert.equal(await run(server, session, 'PSUBSCRIBE', ...names), '')
  assert.match(await run(server, session, 'PSUBSCRIBE', 'more'), /^-ERR too many subscriptions/)
  sent.length = 0
  await run(server, session, 'UNSUBSCRIBE')
  await run(server, session, 'PUNSUBSCRIBE')
  assert.equal(sent.length, 2 * names.length)
  assert.equal(sent.at(-1), `*3\r\n$12\r\npunsubscribe\r\n$3\r\nc63\r\n:0\r\n`)
  sent.length = 0
  await run(server, session, 'UNSUBSCRIBE')
  assert.deepEqual(sent, ['*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n'])
})

test('a RESP2 connection with subscriptions may only change them; PING answers as a message', async () => {
  const { server, session } = sentinel()
  assert.equal(await run(server, session, 'PING'), '+PONG\r\n')
  await run(server, session, 'SUBSCRIBE', 'c')
  assert.equal(await run(server, session, 'PING'), '*2\r\n$4\r\npong\r\n$0\r\n\r\n')
  assert.equal(
    await run(server, session, 'SENTINEL', 'MASTERS'),
    "-ERR Can't execute 'sentinel masters': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n",
  )
  session.protocol = 3
  assert.equal(await run(server, session, 'PING'), '+PONG\r\n')
  assert.match(await run(server, session, 'SENTINEL', 'MASTERS'), /^\*1\r\n%/)
})

test('during an election the last leader is named, and shown as down', async () => {
  const { server, session } = sentinel()
  server.status = { ...leaderless, lastLeader: leading.members[0]?.member }
  assert.match(await run(server, session, 'SENTINEL', 'MASTER', 'mymaster'), /master,s_down,o_down/)
  const address = await run(server, session, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster')
  assert.match(address, /^\*2\r\n/)
  server.status = { ...leaderless, lastLeader: undefined }
  assert.equal(
    await run(server, session, 'SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster'),
    '*-1\r\n',
  )
  assert.equal(await run(server, session, 'SENTINEL', 'MASTERS'), '*0\r\n')
})

test('HELP, which the error for an unknown subcommand names, is there', async () => {
  const { server, session } = sentinel()
  const unknown = "-ERR unknown subcommand 'NOPE'. Try SENTINEL HELP.\r\n"
  assert.equal(await run(server, session, 'SENTINEL', 'NOPE'), unknown)
  const help = await run(server, session, 'SENTINEL', 'HELP')
  assert.match(help, /^\*\d+\r\n\+SENTINEL <subcommand> /)
  assert.match(help, /\r\n\+GET-MASTER-ADDR-BY-NAME <[^>]+>\r\n/)
})

test('CKQUORUM counts the members that answer', async () => {
  const { server, session } = sentinel()
  assert.match(await run(server, session, 'SENTINEL', 'CKQUORUM', 'mymaster'), /OK \d usable/)
  const cut = leading.members.map((one, at) => ({ ...one, connected: at === 0 }))
  server.status = { ...leading, members: cut }
  assert.match(
    await run(server, session, 'SENTINEL', 'CKQUORUM', 'mymaster'),
    /^-NOQUORUM 1 usable/,
  )
})

test('a new leader is published once, in order; members that come and go as replicas', () => {
  const { session, sent } = sentinel()
  const members = leading.members.map(({ member }) => member)
  const [a, b, c] = members
  assert.ok(a !== undefined && b !== undefined && c !== undefined)
  const events = new SentinelEvents({
    masterName: () => 'mymaster',
    members: () => members,
    sessions: () => [session],
  })
  session.subscriptions.patterns.add('*')
  events.peer(b, 'down')
  events.leading(a)
  events.leading(a)
  assert.equal(sent.length, 0)
  events.leading(b)
  const channels = sent.map((message) => message.split('\r\n')[6])
  assert.deepEqual(channels, ['+sdown', '+odown', '+switch-master', '+slave', '+slave'])
  sent.length = 0
  events.peer(b, 'down')
  events.peer(c, 'down')
  events.peer(c, 'up')
  assert.deepEqual(
    sent.map((message) => message.split('\r\n')[6]),
    ['+sdown', '-sdown'],
  )
  sent.length = 0
  session.subscriptions.patterns.clear()
  session.subscriptions.channels.add('-sdown')
  events.peer(c, 'down')
  events.peer(c, 'up')
  assert.equal(sent.length, 1)
})

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)
const C = 'c'.repeat(40)

function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`
}

/** A flat array in RESP2, a map in RESP3: of text throughout. */
function entry(protocol: 2 | 3, lines: string): string {
  const pairs = lines
    .trim()
    .split('\n')
    .map((line) => line.trim().split(' '))
  const head = protocol === 3 ? `%${pairs.length}\r\n` : `*${pairs.length * 2}\r\n`
  return head + pairs.map(([name = '', value = '']) => bulk(name) + bulk(value)).join('')
}

const instance = (name: string, ip: string, port: number, runid: string, flags: string): string =>
  `name ${name}\nip ${ip}\nport ${port}\nrunid ${runid}\nflags ${flags}
   link-pending-commands 0\nlink-refcount 1\nlast-ping-sent 0`
const heard = (ms: number): string =>
  `last-ok-ping-reply ${ms}\nlast-ping-reply ${ms}\ndown-after-milliseconds 1000`
const masterLines = `${instance('mymaster', '10.0.0.1', 6379, A, 'master')}\n${heard(0)}
  info-refresh 0\nrole-reported master\nrole-reported-time 0\nconfig-epoch 7
  num-slaves 2\nnum-other-sentinels 2\nquorum 2\nfailover-timeout 180000\nparallel-syncs 1`
const replicaTail = (status: string, offset: number): string =>
  `info-refresh 0\nrole-reported slave\nrole-reported-time 0\nmaster-link-down-time 0
   master-link-status ${status}\nmaster-host 10.0.0.1\nmaster-port 6379\nslave-priority 100
   slave-repl-offset ${offset}\nreplica-announced 1`
const replicaLines = [
  `${instance('::1:6380', '::1', 6380, B, 'slave')}\n${heard(1500)}\n${replicaTail('ok', 40)}`,
  `${instance('10.0.0.3:6381', '10.0.0.3', 6381, C, 'slave,s_down')}\n${heard(90_000)}
   ${replicaTail('err', 12)}`,
]
const hello = 'last-hello-message 0\nvoted-leader ?\nvoted-leader-epoch 0'
const sentinelLines = [
  `${instance(B, '::1', 26_380, B, 'sentinel')}\n${heard(1500)}\n${hello}`,
  `${instance(C, '10.0.0.3', 26_381, C, 'sentinel,s_down')}\n${heard(90_000)}\n${hello}`,
]

for (const protocol of [2, 3] as const) {
  test(`master, replicas and Sentinels byte by byte in RESP${protocol}`, async () => {
    const { server, session } = sentinel()
    session.protocol = protocol
    const asked = (...words: string[]) => run(server, session, 'SENTINEL', ...words)
    const master = entry(protocol, masterLines)
    assert.equal(await asked('MASTER', 'mymaster'), master)
    assert.equal(await asked('masters'), `*1\r\n${master}`)
    const list = (lines: readonly string[]) =>
      `*${lines.length}\r\n${lines.map((one) => entry(protocol, one)).join('')}`
    assert.equal(await asked('REPLICAS', 'mymaster'), list(replicaLines))
    assert.equal(await asked('slaves', 'mymaster'), list(replicaLines))
    assert.equal(await asked('SENTINELS', 'mymaster'), list(sentinelLines))
    const nobody = protocol === 3 ? '_\r\n' : '*-1\r\n'
    assert.equal(await asked('get-master-addr-by-name', 'other'), nobody)
    const address = `*2\r\n${bulk('10.0.0.1')}${bulk('6379')}`
    assert.equal(await asked('get-master-addr-by-name', 'mymaster'), address)
    assert.equal(await asked('MYID'), bulk(A))
    assert.equal(
      await asked('CKQUORUM', 'mymaster'),
      '+OK 2 usable Sentinels. Quorum and failover authorization can be reached\r\n',
    )
    for (const word of ['MASTER', 'REPLICAS', 'SLAVES', 'SENTINELS', 'CKQUORUM']) {
      assert.equal(await asked(word, 'other'), '-ERR No such master with that name\r\n')
    }
    assert.equal(
      await run(server, session, 'ROLE'),
      `*2\r\n${bulk('sentinel')}*1\r\n${bulk('mymaster')}`,
    )
    server.status = following
    assert.equal(
      await asked('get-master-addr-by-name', 'mymaster'),
      `*2\r\n${bulk('::1')}${bulk('6380')}`,
    )
  })
}

test('HELLO says sentinel, and no role', async () => {
  const { server, session } = sentinel()
  const pairs = `*12\r\n${bulk('server')}${bulk('redis')}${bulk('version')}${bulk('7.2.4')}`
  assert.equal(
    await run(server, session, 'HELLO', '2'),
    `${pairs}${bulk('proto')}:2\r\n${bulk('id')}:1\r\n${bulk('mode')}${bulk('sentinel')}` +
      `${bulk('modules')}*0\r\n`,
  )
  assert.match(await run(server, session, 'INFO'), /\r\nredis_mode:sentinel\r\n/)
})

test('a change of leader, message by message, in both protocols, by channel and by pattern', () => {
  const members = leading.members.map(({ member }) => member)
  const [a, b, c] = members
  assert.ok(a !== undefined && b !== undefined && c !== undefined)
  const plain = sentinel()
  plain.session.subscriptions.channels.add('+switch-master').add('+slave')
  const all = sentinel()
  all.session.protocol = 3
  all.session.subscriptions.patterns.add('*')
  // What node-redis asks for: its pattern lacks the sign.
  const unsigned = sentinel()
  unsigned.session.subscriptions.patterns.add('switch-master').add('[-+]sdown')
  const events = new SentinelEvents({
    masterName: () => 'mymaster',
    members: () => members,
    sessions: () => [plain.session, all.session, unsigned.session],
  })
  events.leading(a)
  events.leading(b)
  events.peer(c, 'down')
  const moved = 'mymaster 10.0.0.1 6379 ::1 6380'
  const slaves = [
    'slave 10.0.0.1:6379 10.0.0.1 6379 @ mymaster ::1 6380',
    'slave 10.0.0.3:6381 10.0.0.3 6381 @ mymaster ::1 6380',
  ] as const
  const down = 'master mymaster 10.0.0.1 6379'
  const message = (channel: string, text: string) =>
    `*3\r\n${bulk('message')}${bulk(channel)}${bulk(text)}`
  assert.deepEqual(plain.sent, [
    message('+switch-master', moved),
    ...slaves.map((one) => message('+slave', one)),
  ])
  const pattern = (head: string, glob: string, channel: string, text: string) =>
    `${head}4\r\n${bulk('pmessage')}${bulk(glob)}${bulk(channel)}${bulk(text)}`
  assert.deepEqual(all.sent, [
    pattern('>', '*', '+sdown', down),
    pattern('>', '*', '+odown', down),
    pattern('>', '*', '+switch-master', moved),
    ...slaves.map((one) => pattern('>', '*', '+slave', one)),
    pattern('>', '*', '+sdown', slaves[1]),
  ])
  assert.deepEqual(unsigned.sent, [
    pattern('*', '[-+]sdown', '+sdown', down),
    pattern('*', '[-+]sdown', '+sdown', slaves[1]),
  ])
})
