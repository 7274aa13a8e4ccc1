/* Many clients at once: who is let in, whose turn it is, and what stays behind when they are gone. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { limits } from '../../src/config.ts'
import { type FakeClient, FrontendBench, resp } from './frontend-bench.ts'

describe('who is let in', () => {
  test('as many as maxclients says; one more is told so', async () => {
    const server = await FrontendBench.open(['--maxclients', '3'])
    const clients = Array.from({ length: 4 }, () => server.connect())
    const last = clients[3]
    assert.ok(last)
    assert.deepEqual([last.read(), last.state], ['-ERR max number of clients reached|', 'ended'])
    last.ask('PING')
    last.closed()
    server.settle()
    assert.equal(last.read(), '')
    assert.equal(server.frontend.connectedClients, 3)
    clients[0]?.closed()
    const next = server.connect()
    next.ask('PING')
    server.settle()
    assert.equal(next.read(), '+PONG|')
    const { connectionsReceived, connectionsRejected } = server.frontend.stats
    assert.deepEqual([connectionsReceived, connectionsRejected], [5, 1])
  })

  test('of a flood beyond maxclients as many as the limit are told; the others are closed at once', async () => {
    const server = await FrontendBench.open(['--maxclients', '1'])
    server.connect()
    const { refusedClientsMax } = limits
    const flood = Array.from({ length: refusedClientsMax + 1 }, () => server.connect())
    const states = flood.map(({ state }) => state)
    assert.deepEqual(new Set(states.slice(0, -1)), new Set(['ended']))
    assert.deepEqual([flood.at(-1)?.read(), flood.at(-1)?.state], ['', 'destroyed'])
    for (const client of flood) client.closed()
    assert.equal(server.connect().read(), '-ERR max number of clients reached|')
    assert.equal(server.frontend.stats.connectionsRejected, refusedClientsMax + 2)
  })

  test('without a password, in protected mode, only this machine', async () => {
    const server = await FrontendBench.open()
    const stranger = server.connect('10.0.0.7:40000')
    assert.match(stranger.read(), /^-DENIED Holdfast is running in protected mode [^|]*\|$/)
    assert.equal(stranger.state, 'ended')
    for (const address of ['127.0.0.1:1', '127.8.9.1:2', '[::1]:3']) {
      assert.equal(server.connect(address).state, 'open')
    }
    assert.equal(server.frontend.connectedClients, 3)
  })

  test('with a password, or without protection, everybody', async () => {
    const open = await FrontendBench.open(['--protected-mode', 'no'])
    assert.equal(open.connect('10.0.0.7:40000').state, 'open')
    const locked = await FrontendBench.open()
    locked.server.password = 'secret'
    const client = locked.connect('10.0.0.7:40000')
    client.ask('PING')
    locked.settle()
    assert.match(client.read(), /^-NOAUTH /)
  })
})

describe('turns', () => {
  test('what is answered inside a turn leaves with it, and asks for no other; outside it asks for one', async () => {
    const server = await FrontendBench.open()
    const client = server.connect()
    client.ask('GET a')
    server.begin()
    server.wakes = 0
    server.bench.answerRounds(true)
    assert.equal(server.wakes, 0)
    server.frontend.flush()
    assert.equal(client.read(), '$-1|')
    client.ask('GET a')
    server.begin()
    server.frontend.flush()
    server.wakes = 0
    server.bench.answerRounds(true)
    assert.equal(server.wakes, 1)
    server.turn()
    assert.equal(client.read(), '$-1|')
  })

  test('one that floods does not hold up one that asks little', async () => {
    const server = await FrontendBench.open()
    const [flood, polite] = [server.connect(), server.connect()]
    flood.send(resp('PING').repeat(20_000))
    polite.ask('PING')
    server.turn()
    assert.equal(polite.read(), '+PONG|')
    assert.equal(flood.read().length, limits.turnCommandsMax * '+PONG|'.length)
    let turns = 0
    while (server.frontend.stats.commandsProcessed < 20_001) {
      polite.ask('PING')
      server.turn()
      assert.equal(polite.read(), '+PONG|')
      turns++
      assert.ok(turns < 100)
    }
  })

  test('where many flood, all get a share in every turn, and no turn has more than so many commands', async () => {
    const server = await FrontendBench.open()
    const many = limits.turnSharedCommands / limits.turnShareMin
    const clients = Array.from({ length: many }, () => server.connect())
    for (const client of clients) client.send(resp('PING').repeat(100))
    server.turn()
    const share = '+PONG|'.repeat(limits.turnShareMin)
    assert.ok(clients.every((client) => client.read() === share))
    // With one more it stays at that.
    const late = server.connect()
    late.send(resp('PING').repeat(100))
    server.turn()
    assert.ok([...clients, late].every((client) => client.read() === share))
    server.settle()
    assert.ok(clients.every((client) => client.read().length === (100 - 32) * '+PONG|'.length))
    // Few share what there is, and one has no more than is allowed to one.
    const [one, two] = clients
    assert.ok(one && two)
    for (const client of clients.slice(0, 10)) client.send(resp('PING').repeat(2000))
    server.turn()
    const tenth = Math.floor(limits.turnSharedCommands / 10)
    assert.equal(one.read().length, tenth * '+PONG|'.length)
    server.settle()
    two.read()
    two.send(resp('PING').repeat(2000))
    server.turn()
    assert.equal(two.read().length, limits.turnCommandsMax * '+PONG|'.length)
  })

  test('whom the time of a turn did not reach comes first in the next one', async () => {
    const server = await FrontendBench.open()
    const [slow, ...others] = Array.from({ length: 4 }, () => server.connect())
    assert.ok(slow)
    const served = () => others.map((client) => client.read())
    server.lookMs = limits.turnWorkMsMax / 20 / limits.turnCommandsMax
    slow.send(resp('PING').repeat(1000))
    for (const client of others) client.ask('PING')
    server.turn()
    assert.ok(slow.read().length > 0)
    assert.deepEqual(served(), ['+PONG|', '+PONG|', '+PONG|'])
    server.lookMs = limits.turnWorkMsMax
    for (const client of others) client.ask('PING')
    server.turn()
    assert.deepEqual([slow.read().length > 0, served()], [true, ['', '', '']])
    server.turn()
    assert.deepEqual([slow.read(), served()], ['', ['+PONG|', '', '']])
    server.turn()
    assert.deepEqual([slow.read(), served()], ['', ['', '+PONG|', '']])
    server.turn()
    assert.deepEqual([slow.read(), served()], ['', ['', '', '+PONG|']])
    server.turn()
    assert.deepEqual([slow.read().length > 0, served()], [true, ['', '', '']])
  })

  test('one connection starts no more commands when the time is over, but always one', async () => {
    const server = await FrontendBench.open()
    const client = server.connect()
    client.send(resp('PING').repeat(3))
    server.lookMs = limits.turnWorkMsMax
    for (let turn = 0; turn < 3; turn++) {
      server.turn()
      assert.equal(client.read(), '+PONG|')
    }
    server.turn()
    assert.equal(client.read(), '')
  })

  test('above what a turn reads of all, each is read no further than its first piece', async () => {
    const server = await FrontendBench.open()
    const clients = Array.from({ length: 6 }, () => server.connect())
    const piece = Buffer.alloc(limits.turnInputBytesMax - 1, 'x').toString('latin1')
    const head = `*2\r\n$3\r\nGET\r\n$${4 * piece.length}\r\n`
    for (const client of clients) client.send(head)
    server.settle()
    for (const client of clients.slice(0, 4)) client.send(piece)
    assert.ok(clients.every(({ paused }) => !paused))
    clients[4]?.send('xxxx')
    assert.deepEqual(
      clients.map(({ paused }) => paused),
      [false, false, false, false, true, false],
    )
    clients[5]?.send('x')
    assert.equal(clients[5]?.paused, true)
    server.settle()
    assert.ok(clients.every(({ paused }) => !paused))
  })

  test('what a turn left over asks for the next one', async () => {
    const server = await FrontendBench.open([], { backlogBytes: 10_000_000 })
    const client = server.connect()
    // A window that is wider than one turn, and a log that takes nothing: no reply will wake anybody.
    for (let i = 0; i < 6; i++) {
      client.send(resp('SET', 'k', 'v').repeat(limits.openCommandsMax))
      server.settle()
    }
    server.bench.room = 0
    client.send(resp('SET', 'k', 'v').repeat(limits.openCommandsMax))
    const before = server.frontend.stats.commandsProcessed
    server.settle()
    assert.equal(server.frontend.stats.commandsProcessed - before, limits.openCommandsMax)
  })

  test('a client whose window is full goes on when its replies have left', async () => {
    const server = await FrontendBench.open()
    const client = server.connect()
    client.send(resp('INCR', 'n').repeat(5000))
    server.settle()
    const replies = client.read()
    assert.equal(replies, Array.from({ length: 5000 }, (_, i) => `:${i + 1}|`).join(''))
  })

  test('while too much waits, clients are not read; then they go on by themselves', async () => {
    const server = await FrontendBench.open([], { backlogBytes: 100_000, entryCommands: 1 })
    const clients = Array.from({ length: 4 }, () => server.connect())
    server.bench.room = 0
    const commands = resp('SET', 'k', 'x'.repeat(10_000)).repeat(20)
    for (const client of clients) client.send(commands)
    server.settle()
    assert.equal(server.bench.router.congested, true)
    assert.ok(server.frontend.stats.commandsProcessed < 15)
    for (const client of clients) client.send(resp('SET', 'k', 'y'))
    server.settle()
    assert.deepEqual(
      clients.map(({ paused }) => paused),
      [true, true, true, true],
    )
    const newcomer = server.connect()
    newcomer.ask('PING')
    server.settle()
    assert.equal(newcomer.read(), '')
    server.bench.room = Number.POSITIVE_INFINITY
    server.bench.tick(10)
    // Every tick is a turn, and from then on replies call for the next.
    server.settle()
    for (const client of clients) assert.equal(client.read(), '+OK|'.repeat(21))
    assert.equal(newcomer.read(), '+PONG|')
    assert.ok(clients.every(({ paused }) => !paused))
  })
})

describe('idle clients', () => {
  test('are closed after the timeout, and not before', async () => {
    const server = await FrontendBench.open(['--timeout', '10'])
    const [idle, busy] = [server.connect(), server.connect()]
    for (let second = 0; second < 10; second++) {
      server.pass(1000)
      busy.ask('PING')
      server.settle()
    }
    assert.deepEqual([idle.state, busy.state], ['open', 'open'])
    server.pass(1000)
    assert.deepEqual([idle.state, busy.state], ['ended', 'open'])
  })

  test('are not idle while a reply is due', async () => {
    const server = await FrontendBench.open(['--timeout', '10'])
    const client = server.connect()
    client.ask('SET k 1')
    server.begin()
    server.pass(20_000)
    assert.equal(client.state, 'open')
    server.bench.apply()
    server.frontend.flush()
    assert.equal(client.read(), '+OK|')
    server.pass(1000)
    assert.equal(client.state, 'ended')
  })

  test('may stay for ever where there is no timeout', async () => {
    const server = await FrontendBench.open()
    const client = server.connect()
    server.pass(10_000_000)
    assert.equal(client.state, 'open')
  })
})

describe('a leader that steps down and is to close its clients', () => {
  test('ends who is idle at once, others behind their last reply, and nobody who comes later', async () => {
    const server = await FrontendBench.open()
    const [idle, busy, half, queued] = [1, 2, 3, 4].map(() => server.connect())
    assert.ok(idle && busy && half && queued)
    busy.ask('SET k 1', 'GET k')
    half.send('*2\r\n$3\r\nGET\r\n$1\r\n')
    queued.ask('MULTI', 'INCR n')
    server.begin()
    server.frontend.flush()
    server.frontend.endWhenIdle()
    server.frontend.flush()
    assert.deepEqual(
      [idle, busy, half, queued].map(({ state }) => state),
      ['ended', 'open', 'open', 'ended'],
    )
    assert.equal(busy.read(), '')
    server.settle()
    assert.deepEqual([busy.read(), busy.state], ['+OK|$1|1|', 'ended'])
    half.send('k\r\n')
    server.settle()
    assert.deepEqual([half.read(), half.state], ['$1|1|', 'ended'])
    const later = server.connect()
    later.ask('PING')
    server.settle()
    assert.deepEqual([later.read(), later.state], ['+PONG|', 'open'])
  })
})

describe('many connections', () => {
  test('leave nothing behind, however they end', async () => {
    const server = await FrontendBench.open()
    for (let round = 0; round < 50; round++) {
      const clients = Array.from({ length: 8 }, () => server.connect())
      for (const [i, client] of clients.entries()) {
        client.send(resp('SET', `k${i}`, 'v').repeat(i * 20))
        if (i % 3 === 0) client.ask('QUIT')
        if (i % 3 === 1) client.finish()
        if (i % 4 === 3) client.closed()
        if (i === 6) client.send('*1\r\nfoo\r\n')
      }
      server.begin()
      clients[5]?.closed()
      server.settle()
      for (const [i, client] of clients.entries()) if (i % 4 !== 3 && i !== 5) client.closed()
    }
    server.settle()
    assert.equal(server.frontend.connectedClients, 0)
    assert.deepEqual([...server.frontend.sessions()], [])
    server.wakes = 0
    server.turn()
    assert.equal(server.wakes, 0)
    server.bench.tick(10)
    assert.equal(server.bench.router.parked, 0)
  })

  test('are shown with what they have received and not taken', async () => {
    const server = await FrontendBench.open()
    const client = server.connect('127.0.0.1:7')
    client.window = 0
    client.ask('PING')
    server.turn()
    client.ask('PING')
    const [session, ...others] = [...server.frontend.sessions()]
    assert.ok(session)
    assert.deepEqual(others, [])
    const { address, inputBytes, outputBytes, lastCommand } = session
    assert.deepEqual(
      { address, inputBytes, outputBytes, lastCommand },
      { address: '127.0.0.1:7', inputBytes: 6, outputBytes: 7, lastCommand: 'ping' },
    )
  })

  test('are closed with the server', async () => {
    const server = await FrontendBench.open()
    const clients = [server.connect(), server.connect()]
    await server.frontend.close()
    assert.ok(clients.every(({ state }) => state === 'ended'))
    server.pass(5000)
  })
})

describe('writes that rest beside others', () => {
  /** Two clients: of the first one a write rests. */
  async function resting(): Promise<{ server: FrontendBench; one: FakeClient; two: FakeClient }> {
    const server = await FrontendBench.open([], {
      heavyWrites: { ...limits.heavyWrites, bytesMin: 700 },
    })
    const [one, two] = [server.connect(), server.connect()]
    const value = 'x'.repeat(300)
    server.pass(1)
    one.ask(`SET a ${value}`)
    two.ask('SET light 1')
    server.begin()
    server.pass(20)
    server.settle()
    one.ask(`SET b ${value}`, 'SET behind 1')
    server.settle()
    assert.equal(server.bench.router.resting, 2)
    return { server, one, two }
  }

  test('go with their client', async () => {
    const { server, one, two } = await resting()
    one.closed()
    assert.equal(server.bench.router.resting, 0)
    server.pass(100)
    two.ask('EXISTS b behind')
    server.settle()
    assert.equal(two.read(), '+OK|:0|')
  })

  test('wait for the end of CLIENT PAUSE', async () => {
    const { server, one, two } = await resting()
    two.ask('CLIENT PAUSE 500 WRITE')
    server.settle()
    server.pass(499)
    server.settle()
    assert.equal(server.bench.router.resting, 2)
    server.pass(1)
    server.settle()
    assert.equal(one.read(), '+OK|+OK|+OK|')
    assert.equal(two.read(), '+OK|+OK|')
  })
})
