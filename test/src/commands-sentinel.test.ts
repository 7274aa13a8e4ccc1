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
import { argv, FakeServer, leaderless, leading, wire } from './command-fixture.ts'

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
