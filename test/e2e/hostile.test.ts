/*
 * What no honest client would send, over real sockets: each payload gets Redis' own error text or a closed
 * connection, and afterwards the other connections, the node and the cluster are as before: same process, same term.
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { ConnectionClosedError, RespClient, textOf } from './resp-client.ts'

const MIB = 1024 * 1024
const PASSWORD = 'correct horse battery staple'

let cluster: Cluster
let victim: NodeProcess
let term: number
/** A connection that does nothing wrong and must never notice. */
let witness: RespClient

before(async () => {
  cluster = await Cluster.start({ nodes: 3 })
  victim = await cluster.follower()
  term = await cluster.term()
  witness = await RespClient.connect(victim.port)
})
after(async () => {
  witness?.close()
  await cluster?.end()
})

let unharmedChecks = 0

async function assertUnharmed(): Promise<void> {
  const value = `${++unharmedChecks}`
  assert.equal(await witness.call('SET', 'witness', value), 'OK')
  for (const node of cluster.nodes) {
    assert.equal(textOf(await node.ask('GET', 'witness')), value)
    assert.equal(node.running, true)
  }
  assert.equal(await cluster.term(), term)
}

/** A test that leaves the cluster as it was. */
const unharmed = (body: () => Promise<void>) =>
  showingLogs(
    () => cluster,
    async () => {
      await body()
      await assertUnharmed()
    },
  )

/** Sends the bytes and nothing else; all that comes back until the server closes. */
async function answerAndClose(payload: string | Buffer): Promise<string> {
  const client = await RespClient.connect(victim.port)
  try {
    const reply = textOf(await client.sendRaw(payload))
    await client.whenClosed()
    return reply
  } finally {
    client.close()
  }
}

const ERR = '-ERR Protocol error: '

describe('broken framing', () => {
  const refused: readonly (readonly [name: string, payload: string | Buffer, reply: string])[] = [
    ['a count beyond all', '*3000000000\r\n', `${ERR}invalid multibulk length`],
    ['a count beyond the limit', '*1048577\r\n', `${ERR}invalid multibulk length`],
    ['a count that would cost memory', '*33554432\r\n', `${ERR}invalid multibulk length`],
    ['no bulk string', '*1\r\nfoo\r\n', `${ERR}expected '$', got 'f'`],
    ['nested arrays', '*1\r\n'.repeat(100_000), `${ERR}expected '$', got '*'`],
    ['a negative length', '*2\r\n$3\r\nGET\r\n$-10\r\n', `${ERR}invalid bulk length`],
    ['a huge length', '*2\r\n$3\r\nGET\r\n$2000000000\r\n', `${ERR}invalid bulk length`],
    ['a length of letters', '*2\r\n$3\r\nGET\r\n$blabla\r\n', `${ERR}invalid bulk length`],
    ['a length with a plus', '*1\r\n$+4\r\nPING\r\n', `${ERR}invalid bulk length`],
    ['a length with a blank', '*1\r\n$ 4\r\nPING\r\n', `${ERR}invalid bulk length`],
    ['a length with a zero before it', '*1\r\n$04\r\nPING\r\n', `${ERR}invalid bulk length`],
    ['a length that is a sum', '*1\r\n$1-5\r\nPING\r\n', `${ERR}invalid bulk length`],
    ['a length of nothing', '*1\r\n$\r\nPING\r\n', `${ERR}invalid bulk length`],
    ['unbalanced quotes', 'SET a "b\r\n', `${ERR}unbalanced quotes in request`],
    ['64 KiB and no end of line', 'x'.repeat(65_537), `${ERR}too big inline request`],
    ['64 KiB of count', `*${'1'.repeat(65_537)}`, `${ERR}too big mbulk count string`],
    ['64 KiB of length', `*1\r\n$${'1'.repeat(65_537)}`, `${ERR}too big bulk count string`],
    ['NUL and no end', Buffer.alloc(65_537), `${ERR}too big inline request`],
  ]
  for (const [name, payload, reply] of refused) {
    test(
      name,
      unharmed(async () => assert.equal(await answerAndClose(payload), reply)),
    )
  }

  test(
    'a bulk string that does not end where it says',
    unharmed(async () => {
      assert.match(
        await answerAndClose('*2\r\n$4\r\nECHO\r\n$3\r\nfooXY*1\r\n$4\r\nPING\r\n'),
        /^-ERR Protocol error: /,
      )
    }),
  )

  test(
    'RESP3 types as input',
    unharmed(async () => {
      for (const payload of ['>1\r\n+x\r\n', '%1\r\n+a\r\n+b\r\n', '(123\r\n', '$4\r\nPING\r\n']) {
        assert.match(await answerAndClose(payload), /^-ERR /, JSON.stringify(payload))
      }
    }),
  )

  test(
    'HTTP closes the connection without an answer',
    unharmed(async () => {
      for (const payload of ['POST / HTTP/1.1\r\n', 'GET / HTTP/1.1\r\nHost: x\r\n\r\n']) {
        const client = await RespClient.connect(victim.port)
        await client.sendRaw(payload).catch((error: unknown) => {
          assert.ok(error instanceof ConnectionClosedError)
        })
        await client.whenClosed()
      }
    }),
  )

  test(
    'what Redis ignores is ignored',
    unharmed(async () => {
      const client = await RespClient.connect(victim.port)
      assert.equal(await client.sendRaw('\r\n*-10\r\n*0\r\nPING\r\n'), 'PONG')
      client.close()
    }),
  )

  test(
    'a command that comes byte by byte, and one that is cut inside a character',
    unharmed(async () => {
      const client = await RespClient.connect(victim.port)
      const text = Buffer.from('*2\r\n$4\r\nECHO\r\n$4\r\n🗝\r\n')
      const reply = client.sendRaw(text.subarray(0, 1))
      for (const byte of text.subarray(1)) {
        client.write(Buffer.from([byte]))
        await new Promise((resolve) => setImmediate(resolve))
      }
      assert.equal(textOf(await reply), '🗝')
      client.close()
    }),
  )
})

describe('hostile commands', () => {
  test(
    'numbers at and beyond the ends',
    unharmed(async () => {
      const max = 2n ** 63n - 1n
      await witness.call('SET', 'n', String(max))
      const over = '-ERR increment or decrement would overflow'
      const noInteger = '-ERR value is not an integer or out of range'
      const cases: readonly (readonly [readonly string[], string])[] = [
        [['INCR', 'n'], over],
        [['INCRBY', 'n', String(max)], over],
        [['INCRBY', 'n', String(max + 1n)], noInteger],
        [['DECRBY', 'n', String(-max - 1n)], '-ERR decrement would overflow'],
        [['INCRBY', 'n', '1e3'], noInteger],
        [['INCRBY', 'n', ' 1'], noInteger],
        [['INCRBY', 'n', ''], noInteger],
      ]
      for (const [args, reply] of cases) {
        assert.equal(textOf(await witness.call(...args)), reply, args.join(' '))
      }
      assert.equal(textOf(await witness.call('GET', 'n')), String(max))
    }),
  )

  test(
    'wrong arity, unknown commands with long arguments, too many arguments',
    unharmed(async () => {
      assert.equal(
        textOf(await witness.call('GET')),
        "-ERR wrong number of arguments for 'get' command",
      )
      const unknown = textOf(await witness.call('x'.repeat(200), 'y'.repeat(MIB)))
      assert.ok(unknown.startsWith(`-ERR unknown command '${'x'.repeat(128)}', with args`))
      assert.ok(unknown.length < 400, 'the error does not repeat all it was given')
      // A text with a line end would be two replies to whoever reads them.
      assert.ok(!unknown.includes('\n'))
      assert.match(textOf(await witness.call('no\r\n+OK\r\n')), /^-ERR unknown command 'no {2}\+OK/)
      const many = Array.from({ length: 100_000 }, () => 'k')
      assert.equal(await witness.call('EXISTS', ...many), 0)
      assert.equal(textOf(await witness.call('SET', 'a', 'b', 'AX', '10')), '-ERR syntax error')
    }),
  )

  test(
    'connections that end in the middle: resets, half-closes, half a command',
    unharmed(async () => {
      for (let round = 0; round < 50; round++) {
        const client = await RespClient.connect(victim.port)
        client.write('*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$10\r\nhal')
        client.reset()
      }
      const client = await RespClient.connect(victim.port)
      const replies = Array.from({ length: 100 }, () => client.call('INCR', 'half-closed'))
      client.finish()
      assert.deepEqual(
        await Promise.all(replies),
        Array.from({ length: 100 }, (_, at) => at + 1),
      )
      await client.whenClosed()
    }),
  )
})

test(
  'a client that does not read is paused, then closed, and nobody else notices',
  unharmed(async () => {
    const changed = await victim.ask(
      'CONFIG',
      'SET',
      'proto-max-bulk-len',
      '1mb',
      'client-output-buffer-limit',
      'normal 4mb 2mb 1',
    )
    assert.equal(changed, 'OK')
    await witness.call('SET', 'large', Buffer.alloc(MIB - 1))
    const deaf = await RespClient.connect(victim.port)
    deaf.pause()
    const fates = Array.from({ length: 500 }, () => deaf.call('GET', 'large').catch(() => 'lost'))
    let told = false
    const ended = victim.prints('unread replies exceed').then(() => {
      told = true
    })
    for (let round = 0; !told; round++) {
      assert.equal(await witness.call('SET', 'meanwhile', round), 'OK')
    }
    await ended
    deaf.resume()
    await deaf.whenClosed()
    const lost = (await Promise.all(fates)).filter((reply) => reply === 'lost').length
    assert.ok(lost > 400, `only ${lost} of 500 replies were withheld`)
    const restored = await victim.ask(
      'CONFIG',
      'SET',
      'proto-max-bulk-len',
      '64mb',
      'client-output-buffer-limit',
      'normal 256mb 64mb 60',
    )
    assert.equal(restored, 'OK')
  }),
)

test(
  '1,000 idle connections, and 100 at once that each announce a million arguments',
  unharmed(async () => {
    const idle: RespClient[] = []
    try {
      while (idle.length < 1000) {
        const more = Array.from({ length: 100 }, () => RespClient.connect(victim.port))
        idle.push(...(await Promise.all(more)))
      }
      for (const client of idle.slice(0, 100))
        client.write('*1048576\r\n$536870912\r\n'.slice(0, 10))
      const info = textOf(await victim.ask('INFO', 'clients'))
      const connected = Number(/connected_clients:(\d+)/.exec(info)?.[1])
      assert.ok(connected >= 1000, info)
      const memory = textOf(await victim.ask('INFO', 'memory'))
      const resident = Number(/used_memory_rss:(\d+)/.exec(memory)?.[1])
      assert.ok(resident < 600 * MIB, `the node occupies ${resident} bytes`)
      assert.equal(await idle[999]?.call('PING'), 'PONG')
    } finally {
      for (const client of idle) client.close()
    }
    await until('the connections are gone', async () => {
      const info = textOf(await victim.ask('INFO', 'clients'))
      return Number(/connected_clients:(\d+)/.exec(info)?.[1]) < 50
    })
  }),
)

describe('before AUTH', () => {
  before(async () => {
    assert.equal(await victim.ask('CONFIG', 'SET', 'requirepass', PASSWORD), 'OK')
  })
  after(async () => {
    const client = await RespClient.connect(victim.port)
    await client.call('AUTH', PASSWORD)
    assert.equal(await client.call('CONFIG', 'SET', 'requirepass', ''), 'OK')
    client.close()
  })

  test('nothing is answered but AUTH, HELLO and QUIT', async () => {
    const client = await RespClient.connect(victim.port)
    const noAuth = '-NOAUTH Authentication required.'
    for (const command of ['GET', 'INFO', 'PING', 'DEL', 'SHUTDOWN']) {
      assert.equal(textOf(await client.call(command, 'x')), noAuth, command)
    }
    // Which commands exist is no secret: Redis, too, looks the name up first.
    assert.match(textOf(await client.call('NOSUCH')), /^-ERR unknown command 'NOSUCH'/)
    assert.match(textOf(await client.call('HELLO', '3')), /^-NOAUTH HELLO must be called/)
    for (let round = 0; round < 1000; round++) {
      assert.match(textOf(await client.call('AUTH', `guess ${round}`)), /^-WRONGPASS /)
    }
    assert.equal(await client.call('AUTH', PASSWORD), 'OK')
    assert.equal(await client.call('PING'), 'PONG')
    client.close()
  })

  test('the limits are those of Redis', async () => {
    assert.equal(
      await answerAndClose('*11\r\n$4\r\nPING\r\n'),
      `${ERR}unauthenticated multibulk length`,
    )
    assert.equal(
      await answerAndClose('*2\r\n$4\r\nAUTH\r\n$16385\r\n'),
      `${ERR}unauthenticated bulk length`,
    )
  })

  test('more input than is allowed closes the connection', async () => {
    const client = await RespClient.connect(victim.port)
    // Commands behind the first are input all the same: nobody reads a megabyte of a stranger.
    client.write(Buffer.alloc(4 * MIB, '*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n'))
    client.resume()
    await Promise.race([client.whenClosed(), victim.prints('what is allowed before AUTH')])
    client.close()
  })

  test('connections that were there before, and the cluster, are not asked again', async () => {
    await assertUnharmedWithPassword()
  })
})

/** As assertUnharmed, where one node wants a password of new connections. */
async function assertUnharmedWithPassword(): Promise<void> {
  for (const node of cluster.nodes) {
    const client = await RespClient.connect(node.port)
    if (node === victim) assert.equal(await client.call('AUTH', PASSWORD), 'OK')
    assert.equal(await client.call('SET', 'after', 'auth'), 'OK')
    client.close()
  }
}
