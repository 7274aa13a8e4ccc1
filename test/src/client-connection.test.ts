/* One client connection: order, window, bounds of input and output, and every way in which it ends. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { limits } from '../../src/config.ts'
import { type FakeClient, FrontendBench, resp } from './frontend-bench.ts'

const MB = 1_048_576
/** The least that the options allow: values of a megabyte, and so two of them in a buffer. */
const SMALL = [
  ...['--proto-max-bulk-len', '1mb', '--client-query-buffer-limit', '2mb'],
  ...['--client-output-buffer-limit', 'normal 2mb 1mb 5'],
]

async function connected(
  ...options: ConstructorParameters<typeof FrontendBench>
): Promise<{ server: FrontendBench; client: FakeClient }> {
  const server = await FrontendBench.open(...options)
  return { server, client: server.connect() }
}

describe('order', () => {
  test('replies come in the order of the commands, in one write per turn', async () => {
    const { server, client } = await connected()
    client.ask('SET k 1', 'PING', 'GET k', 'NOSUCH', 'INCR k', 'ECHO x')
    server.turn()
    assert.equal(client.writes, 1)
    assert.match(client.read(), /^\+OK\|\+PONG\|\$1\|1\|-ERR unknown command [^|]*\|:2\|\$1\|x\|$/)
  })

  test('also where a command of the connection takes its time', async () => {
    const { server, client } = await connected()
    server.server.unready = 'there is no leader'
    client.ask('SET k 1', 'RAFT READY', 'PING', 'GET k')
    server.turn()
    assert.equal(client.read(), '+OK|')
    await nextTurn()
    server.turn()
    assert.match(client.read(), /^-[^|]*there is no leader\|\+PONG\|\$1\|1\|$/)
  })

  test('a HELLO changes the protocol of what stands behind it, however late the rest is answered', async () => {
    const { server, client } = await connected()
    server.server.unready = 'no'
    client.ask('RAFT READY', 'GET a', 'HELLO 3', 'GET b', 'PING')
    server.turn()
    await nextTurn()
    server.turn()
    const replies = client.read()
    assert.match(replies, /^-[^|]*\|\$-1\|%7\|.*_\|\+PONG\|$/)
  })

  test('commands may come byte by byte, or many in one chunk', async () => {
    const { server, client } = await connected()
    for (const byte of resp('SET', 'k', 'v')) {
      client.send(byte)
      server.turn()
    }
    client.send(resp('GET', 'k').repeat(20))
    server.settle()
    assert.equal(client.read(), `+OK|${'$1|v|'.repeat(20)}`)
  })
})

describe('a command that is too long for one turn', () => {
  const keys = '$1\r\nk\r\n'.repeat(5000)
  const begin = `*15001\r\n$3\r\nDEL\r\n${keys}`
  /** It is refused, because it would write so many. */
  const answer = /^-ERR 15000 keys [^|]*\|/

  test('of very many arguments is decoded in parts, and its connection rests as long as each of them took', async () => {
    const { server, client } = await connected()
    client.send(begin)
    client.send(keys)
    client.send(keys)
    client.ask('PING')
    server.lookMs = 2
    server.settle()
    assert.equal(client.read(), '')
    const other = server.connect()
    other.ask('PING')
    server.settle()
    assert.equal(other.read(), '+PONG|')
    server.pass(1000)
    server.settle()
    assert.match(client.read(), new RegExp(`${answer.source}\\+PONG\\|$`))
  })

  test('comes to an end at once where its parts take no time', async () => {
    const { server, client } = await connected()
    client.send(begin + keys)
    server.settle()
    client.send(keys)
    server.settle()
    assert.match(client.read(), answer)
  })

  test('is read no further before its part was decoded', async () => {
    const { server, client } = await connected()
    client.send(begin.replace('15001', '60001'))
    server.lookMs = 2
    server.settle()
    client.send(keys)
    server.settle()
    client.send(keys.repeat(8))
    server.turn()
    assert.ok(client.paused)
    server.pass(1000)
    server.settle()
    server.pass(1000)
    server.settle()
    assert.ok(!client.paused)
  })

  test('because of a large value has the same rest, for the time that reading takes too', async () => {
    const { server, client } = await connected()
    const other = server.connect()
    const bytes = limits.turnInputBytesMax
    const value = 'x'.repeat(bytes)
    for (const one of [client, other]) {
      one.send(`*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$${3 * bytes}\r\n${value}`)
    }
    server.settle()
    for (const one of [client, other]) one.send(value)
    server.settle()
    for (const one of [client, other]) one.send(`${value}\r\n`)
    server.settle()
    assert.equal(client.read() + other.read(), '')
    // Two parts were read and decoded before, and took as long as this.
    const rest = (2 * bytes) / limits.longCommandBytesPerMs
    server.pass(rest / 2)
    server.settle()
    assert.equal(client.read() + other.read(), '')
    server.pass(rest / 2)
    server.settle()
    // The second one is more than fits into the entry of the first.
    server.pass(limits.entryWaitMsMax)
    server.settle()
    assert.equal(client.read() + other.read(), '+OK|+OK|')
  })

  test('that is closed while it rests stays closed', async () => {
    const { server, client } = await connected()
    client.send(begin)
    client.send(keys)
    server.lookMs = 2
    server.settle()
    client.closed()
    server.pass(1000)
    server.settle()
    assert.equal(client.read(), '')
  })
})

describe('the window', () => {
  test('begins small and doubles while replies are small', async () => {
    const { server, client } = await connected()
    client.send(resp('SET', 'k', 'v').repeat(3000))
    const started: number[] = []
    for (let turn = 0; turn < 6; turn++) {
      const before = server.frontend.stats.commandsProcessed
      // As many turns as it takes to start what may be open.
      for (let part = 0; part < 8; part++) server.begin()
      started.push(server.frontend.stats.commandsProcessed - before)
      server.turn()
    }
    assert.deepEqual(started.slice(0, 2), [limits.openCommandsFirst, 2 * limits.openCommandsFirst])
    assert.equal(Math.max(...started), limits.openCommandsMax)
    server.settle()
    assert.equal(client.read(), '+OK|'.repeat(3000))
  })

  test('is not read any further in a turn that has brought as much as one may', async () => {
    const { server, client } = await connected()
    const head = '*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n'
    client.send(head + 'x'.repeat(limits.turnInputBytesMax - head.length - 1))
    assert.equal(client.paused, false)
    client.send('x')
    assert.equal(client.paused, true)
    server.turn()
    assert.equal(client.paused, false)
    client.send('x'.repeat(1_000_000 - limits.turnInputBytesMax + head.length))
    client.send('\r\n')
    server.settle()
    assert.equal(client.read(), '+OK|')
  })

  test('holds what arguments may occupy, and one command that is larger', async () => {
    const { server, client } = await connected([], { backlogBytes: 100 * MB })
    client.send(resp('SET', 'k', 'v').repeat(50))
    server.settle()
    client.read()
    const before = server.frontend.stats.commandsProcessed
    const name = 'k'.repeat(9 * MB)
    server.bench.room = 0
    client.send(resp('SET', 'k', 'v') + resp('GET', name).repeat(9))
    for (let part = 0; part < 8; part++) server.begin()
    // The SET finds no room in the log. Behind it come as many as occupy no more than the limit, and one.
    const open = 1 + Math.ceil(limits.openInputBytesMax / name.length)
    assert.equal(server.frontend.stats.commandsProcessed - before, open)
    assert.ok(server.frontend.memoryBytes > 9 * name.length)
    server.bench.room = Number.POSITIVE_INFINITY
    server.settle()
    assert.equal(client.read(), `+OK|${'$-1|'.repeat(9)}`)
    assert.equal(server.frontend.memoryBytes, 0)
  })

  test('counts replies that wait for an earlier one, also those of the connection itself', async () => {
    const { server, client } = await connected([...SMALL])
    server.bench.room = 0
    client.send(resp('SET', 'k', 'v') + resp('ECHO', 'x'.repeat(MB)))
    server.settle()
    assert.equal(client.state, 'open')
    assert.ok(server.frontend.memoryBytes > MB)
    client.send(resp('ECHO', 'x'.repeat(MB)))
    server.settle()
    assert.equal(client.state, 'destroyed')
    assert.match(server.warnings.at(-1) ?? '', /unread replies exceed client-output-buffer-limit/)
  })

  test('shrinks to what large replies leave room for', async () => {
    const { server, client } = await connected()
    client.send(resp('SET', 'k', 'x'.repeat(2 * MB)))
    client.send(resp('GET', 'k').repeat(4))
    server.settle()
    client.read()
    client.send(resp('GET', 'k').repeat(40))
    server.begin()
    const open = server.frontend.stats.commandsProcessed - 5
    assert.equal(open, Math.floor(limits.openReplyBytesMax / (2 * MB + 12)))
    server.settle()
    assert.equal(client.read().length, 40 * (2 * MB + '$2097152||'.length))
  })

  test('a client is read again when the last command that has come fills it', async () => {
    const { server, client } = await connected([], { backlogBytes: MB })
    const [first, then] = [limits.openCommandsFirst, 2 * limits.openCommandsFirst]
    client.send(resp('SET', 'k', 'x'.repeat(4096)).repeat(first + then))
    server.begin()
    assert.equal(client.paused, true)
    server.turn()
    server.begin()
    assert.equal(server.frontend.stats.commandsProcessed, first + then)
    server.settle()
    assert.equal(client.paused, false)
    assert.equal(client.read(), '+OK|'.repeat(first + then))
  })

  test('however a pipeline is cut and whenever it is worked on, all of it is answered', async () => {
    const one = resp('SET', 'k', 'x'.repeat(4096))
    // Fractions of the window among the chunks: random lengths alone would never fill it to the byte.
    const fraction = (limits.openCommandsFirst / 2) * one.length
    const chunk = fc.oneof(
      fc.integer({ min: 1, max: 8 }).map((fractions) => fractions * fraction),
      fc.integer({ min: 1, max: 65_536 }),
    )
    const step = fc.record({ bytes: chunk, turn: fc.constantFrom('none', 'begin', 'turn') })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
        const { server, client } = await connected([], { backlogBytes: MB })
        const bytes = steps.reduce((sum, { bytes }) => sum + bytes, 0)
        const commands = Math.ceil(bytes / one.length)
        const wire = one.repeat(commands)
        let at = 0
        for (const { bytes: length, turn } of [...steps, { bytes: wire.length, turn: 'turn' }]) {
          if (turn === 'begin') server.begin()
          else if (turn === 'turn') server.settle()
          if (client.paused) continue
          client.send(wire.slice(at, at + length))
          at = Math.min(wire.length, at + length)
        }
        server.settle()
        assert.equal(at, wire.length, 'the client is not read any more')
        assert.equal(client.read(), '+OK|'.repeat(commands))
      }),
      // Once the last entry waited for room, and nothing asked for the turn in which it had some.
      {
        examples: [
          [Array.from({ length: 5 }, () => ({ bytes: 8 * fraction, turn: 'none' as const }))],
        ],
      },
    )
  })
})

describe('a client that does not read', () => {
  test('starts nothing more, and is read no further', async () => {
    const { server, client } = await connected()
    client.window = 0
    client.ask('PING')
    server.turn()
    client.send(resp('SET', 'k', 'v').repeat(10))
    server.turn()
    assert.equal(server.frontend.stats.commandsProcessed, 1)
    assert.equal(client.paused, false)
    client.send(resp('SET', 'k', 'x'.repeat(1000)).repeat(70))
    server.turn()
    assert.equal(client.paused, true)
    client.read()
    client.drain()
    server.settle()
    assert.equal(client.read(), '+OK|'.repeat(80))
    assert.equal(client.paused, false)
  })

  test('is closed above the hard limit, not at it', async () => {
    for (const [bytes, state] of [
      [2 * MB, 'open'],
      [2 * MB + 1, 'destroyed'],
    ] as const) {
      const { server, client } = await connected(SMALL)
      client.window = 0
      // What the system did not take, and one reply of so many bytes.
      const rest = bytes - MB - '$1048576\r\n\r\n'.length
      client.send(resp('ECHO', 'x'.repeat(MB)))
      server.turn()
      client.bufferedBytes += rest
      server.pass(1000)
      assert.equal(client.state, state)
      assert.equal(server.warnings.length, state === 'open' ? 0 : 1)
    }
  })

  test('is closed when it stays above the soft limit for too long', async () => {
    const { server, client } = await connected(SMALL)
    client.window = 0
    client.send(resp('ECHO', 'x'.repeat(MB)))
    server.turn()
    server.pass(4999)
    assert.equal(client.state, 'open')
    server.pass(1001)
    assert.equal(client.state, 'destroyed')
    assert.match(server.warnings[0] ?? '', /soft client-output-buffer-limit/)
  })

  test('is not closed when it reads in between', async () => {
    const { server, client } = await connected(SMALL)
    for (let i = 0; i < 3; i++) {
      client.window = 0
      client.send(resp('ECHO', 'x'.repeat(MB)))
      server.turn()
      server.pass(4000)
      client.drain()
    }
    assert.equal(client.state, 'open')
  })

  test('the replies of one turn are bounded before they are encoded', async () => {
    const { server, client } = await connected(SMALL)
    client.send(resp('SET', 'k', 'x'.repeat(MB)))
    server.settle()
    client.send(resp('MGET', 'k', 'k', 'k'))
    client.send(resp('GET', 'k').repeat(20))
    server.turn()
    assert.equal(client.state, 'destroyed')
    assert.equal(client.read(), '+OK|')
    // Its other commands are answered to nobody.
    server.turn()
    client.closed()
    assert.equal(server.frontend.connectedClients, 0)
  })

  test('also those that have to wait for an earlier one', async () => {
    const { server, client } = await connected(SMALL)
    client.send(resp('SET', 'k', 'x'.repeat(MB)))
    server.settle()
    client.send(resp('RAFT', 'READY') + resp('GET', 'k').repeat(3))
    server.turn()
    assert.equal(client.state, 'destroyed')
  })
})

describe('input', () => {
  test('more than the query buffer holds closes', async () => {
    const { server, client } = await connected(SMALL)
    client.send('*4\r\n$4\r\nMSET\r\n')
    client.send(`$${MB}\r\n${'x'.repeat(MB)}\r\n`)
    server.turn()
    client.send(`$${MB}\r\n${'x'.repeat(MB - 100)}`)
    assert.equal(client.state, 'open')
    client.send('x'.repeat(99))
    assert.equal(client.state, 'destroyed')
    assert.match(server.warnings[0] ?? '', /client-query-buffer-limit/)
  })

  for (const [what, bytes, text] of [
    ['arguments', '*11\r\n', 'unauthenticated multibulk length'],
    ['bytes of an argument', '*2\r\n$16385\r\n', 'unauthenticated bulk length'],
  ] as const) {
    test(`before AUTH: too many ${what}`, async () => {
      const server = await FrontendBench.open()
      server.server.password = 'secret'
      const client = server.connect()
      client.send(bytes)
      server.turn()
      assert.equal(client.read(), `-ERR Protocol error: ${text}|`)
      assert.equal(client.state, 'ended')
    })
  }

  test('before AUTH: too many bytes in the buffer', async () => {
    const server = await FrontendBench.open()
    server.server.password = 'secret'
    const client = server.connect()
    client.window = 0
    client.ask('PING')
    server.turn()
    client.send(resp('PING').repeat(80_000))
    assert.equal(client.state, 'destroyed')
    assert.match(server.warnings[0] ?? '', /before AUTH/)
  })

  test('before AUTH only AUTH and HELLO run; behind it everything, in the same chunk', async () => {
    const server = await FrontendBench.open()
    server.server.password = 'secret'
    const client = server.connect()
    client.ask('GET k', 'PING', 'AUTH wrong', 'AUTH secret', 'GET k')
    server.settle()
    const replies = client.read().split('|')
    const codes = replies.map((reply) => reply.split(' ')[0])
    assert.deepEqual(codes, ['-NOAUTH', '-NOAUTH', '-WRONGPASS', '+OK', '$-1', ''])
  })
})

describe('the end', () => {
  test('QUIT is answered last, behind everything that was asked before', async () => {
    const { server, client } = await connected()
    client.ask('SET k 1', 'QUIT', 'SET k 2')
    server.begin()
    server.frontend.flush()
    assert.deepEqual([client.read(), client.state], ['', 'open'])
    client.ask('SET k 3')
    server.settle()
    assert.deepEqual([client.read(), client.state], ['+OK|+OK|', 'ended'])
    assert.deepEqual(server.bench.entry(2), ['SET k 1'])
    assert.equal(server.bench.log.length, 2)
  })

  test('what comes behind a QUIT is dropped, however much it is', async () => {
    const { server, client } = await connected(SMALL)
    client.ask('SET k 1', 'QUIT')
    server.begin()
    server.frontend.flush()
    for (let i = 0; i < 4; i++) client.send('x'.repeat(MB))
    assert.equal(client.state, 'open')
    server.settle()
    assert.deepEqual([client.read(), client.state], ['+OK|+OK|', 'ended'])
  })

  test('a client that has sent its last byte gets all its replies', async () => {
    const { server, client } = await connected()
    client.ask(...Array.from({ length: 100 }, () => 'INCR n'))
    client.finish()
    server.settle()
    assert.equal(client.read().split('|').length, 101)
    assert.equal(client.state, 'ended')
  })

  test('also one whose last commands fill the window exactly', async () => {
    const { server, client } = await connected()
    client.ask(...Array.from({ length: limits.openCommandsFirst }, () => 'INCR n'))
    server.begin()
    client.finish()
    server.begin()
    server.settle()
    assert.equal(client.read().split('|').length, limits.openCommandsFirst + 1)
    assert.equal(client.state, 'ended')
  })

  test('also one that ends in the middle of a command, or before it was read from', async () => {
    const { server, client } = await connected()
    client.send(`${resp('PING')}*2\r\n$3\r\nGE`)
    client.finish()
    server.settle()
    assert.deepEqual([client.read(), client.state], ['+PONG|', 'ended'])
    const slow = server.connect()
    slow.window = 0
    slow.ask('PING')
    server.turn()
    slow.ask('PING')
    slow.finish()
    server.settle()
    assert.equal(slow.state, 'open')
    slow.drain()
    server.settle()
    assert.deepEqual([slow.read(), slow.state], ['+PONG|+PONG|', 'ended'])
  })

  test('a broken protocol is answered behind the replies that are due, then it ends', async () => {
    const { server, client } = await connected()
    client.send(`${resp('SET', 'k', '1')}*1\r\nfoo\r\n${resp('SET', 'k', '2')}`)
    server.begin()
    server.frontend.flush()
    assert.deepEqual([client.read(), client.state], ['', 'open'])
    client.send('x'.repeat(1000))
    server.settle()
    assert.equal(client.read(), "+OK|-ERR Protocol error: expected '$', got 'f'|")
    assert.equal(client.state, 'ended')
    assert.equal(server.bench.log.length, 2)
  })

  for (const line of ['POST / HTTP/1.1', 'post /', 'Host: localhost:6379']) {
    test(`'${line}' is nobody that belongs here`, async () => {
      const { server, client } = await connected()
      client.ask(line, 'SET k 1')
      server.settle()
      assert.deepEqual([client.read(), client.state], ['', 'destroyed'])
      assert.equal(server.bench.log.length, 1)
      assert.match(server.warnings[0] ?? '', /HTTP/)
    })
  }

  test('a connection that is gone takes its replies with it', async () => {
    const { server, client } = await connected()
    client.ask('SET k 1', 'GET k')
    server.begin()
    client.closed()
    assert.equal(server.frontend.connectedClients, 0)
    server.turn()
    assert.equal(client.read(), '')
    const other = server.connect()
    other.ask('GET k')
    server.turn()
    assert.equal(other.read(), '$1|1|')
  })

  test('a reply of the connection itself that comes after its end is for nobody', async () => {
    const { server, client } = await connected()
    client.ask('RAFT READY')
    server.turn()
    client.closed()
    await nextTurn()
    server.settle()
    assert.equal(client.read(), '')
  })
})
