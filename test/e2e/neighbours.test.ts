/*
 * Clients that ask for more than is good for others, beside one that behaves: while each of them does its worst at the
 * node that both are connected to, no node's event loop may stand still for long, and nobody is elected. How long a loop
 * stands still is taken from the processor time that its thread used, which a busy machine does not make longer. The
 * p99 of the other client is only shown: three nodes, the bad client and the good one share a few processors here, and
 * the tenths of a second for which some of them go on give too few samples to judge by.
 */

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, describe, type TestContext, test } from 'node:test'
import { Child, until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { RespClient, request, textOf } from './resp-client.ts'

const MIB = 1024 * 1024
const PROBE = new URL('../measure/loop-probe.js', import.meta.url)
const KEYS = 100_000
/** No longer may a loop stand still. */
const STOP_MS_MAX = 50
/** How long a bad client goes on at least. */
const TORMENT_MS = 600
const PATIENCE_MS = 120_000
/** A process that gets no processor on a busy machine must not look like one that a client holds up. */
const ELECTION_MS = 3000

let cluster: Cluster
let victim: NodeProcess
let term: number

before(async () => {
  cluster = await Cluster.prepare({
    nodes: 3,
    flags: ['--election-timeout-ms', String(ELECTION_MS)],
  })
  for (const node of cluster.nodes) {
    node.start({ environment: { NODE_OPTIONS: `--import=${PROBE.href}` } })
  }
  await cluster.ready(PATIENCE_MS)
  victim = await cluster.follower()
  const client = await RespClient.connect((await cluster.leader()).port)
  for (let from = 0; from < KEYS; from += 500) {
    const pairs = names(500, 'key:', from).flatMap((name) => [name, 'value'])
    assert.equal(await client.call('MSET', ...pairs), 'OK')
  }
  client.close()
  for (const node of cluster.nodes) await cluster.caughtUp(node, PATIENCE_MS)
  term = await cluster.term()
})
after(async () => {
  await cluster?.end()
})

function names(count: number, prefix = 'key:', from = 0): string[] {
  return Array.from({ length: count }, (_, at) => `${prefix}${from + at}`)
}

/** The longest stop of the node's loop since the last call, in ms of its thread's processor time. */
async function longestStop(node: NodeProcess): Promise<number> {
  const from = node.output.length
  node.signal('SIGUSR2')
  let found: string | undefined
  await until('the loop probe', () => {
    found = /loop-probe (.*)\n/.exec(node.output.slice(from))?.[1]
    return found !== undefined
  })
  const { processor }: { processor: number } = JSON.parse(found ?? '')
  return processor
}

/** How long each SET and GET of a client that behaves took, while `torment` lasts, in ms. */
async function neighbour(
  context: TestContext,
  torment: () => Promise<unknown>,
): Promise<readonly number[]> {
  const child = new Child(context, 'test/e2e/neighbour-main.js', [String(victim.port)])
  await child.prints('ready', PATIENCE_MS)
  await torment()
  child.closeStdin()
  await child.end(PATIENCE_MS)
  assert.equal(child.ended?.code, 0, child.stderr)
  return JSON.parse(child.stdout.slice('ready\n'.length))
}

function p99(taken: readonly number[]): number {
  const sorted = taken.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length * 0.99)] ?? Number.POSITIVE_INFINITY
}

/** Again and again, for a while. */
async function repeatedly(act: () => Promise<unknown>): Promise<void> {
  const end = performance.now() + TORMENT_MS
  do await act()
  while (performance.now() < end)
}

/** Sends it all at once; resolves with how the replies begin, when a line of them ends as `last` says. */
function raw(bytes: Buffer, last: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: victim.port })
    let head = ''
    let tail = ''
    socket.setEncoding('latin1').on('data', (text: string) => {
      if (head.length < 100) head += text.slice(0, 100)
      tail = (tail + text).slice(-200)
      if (!last.test(tail)) return
      socket.destroy()
      resolve(head)
    })
    socket.once('error', reject)
    socket.once('close', () => reject(new Error(`closed after ${head}`)))
    socket.write(bytes)
  })
}

/** Commands in one piece, behind them a PING with a mark of its own: everything was answered when that is. */
function all(...commands: readonly (readonly (string | Buffer | number)[])[]): Promise<string> {
  const bytes = [...commands, ['PING', 'all is answered']].map((command) => request(command))
  return raw(Buffer.concat(bytes), /all is answered\r\n$/)
}

/** A bad client does its worst; meanwhile and afterwards all is well with everybody else. */
const beside = (torment: () => Promise<unknown>) =>
  showingLogs(
    () => cluster,
    async (context) => {
      for (const node of cluster.nodes) await longestStop(node)
      const taken = await neighbour(context, torment)
      const stops = await Promise.all(cluster.nodes.map(longestStop))
      const stopMs = Math.max(...stops)
      const figures = `p99 ${p99(taken).toFixed(1)} ms of ${taken.length}; longest stop ${stopMs.toFixed(1)} ms`
      context.diagnostic(figures)
      assert.equal(await cluster.term(), term, 'nobody was elected')
      assert.ok(stopMs <= STOP_MS_MAX, figures)
      for (const node of cluster.nodes) assert.equal(node.running, true)
    },
  )

describe('reads without a bound', () => {
  test(
    'KEYS of everything, and with a pattern',
    beside(() => repeatedly(() => all(['KEYS', '*'], ['KEYS', '*1*2*3*']))),
  )
  test(
    'a pattern made to explode, on a key made for it',
    beside(async () => {
      await all(['SET', 'a'.repeat(50_000), 'x'])
      await repeatedly(() =>
        all(['KEYS', `${'a*'.repeat(500)}b`], ['SCAN', 0, 'MATCH', '*a'.repeat(900), 'COUNT', 1e9]),
      )
      await all(['DEL', 'a'.repeat(50_000)])
    }),
  )
  test(
    'MGET of a million keys',
    beside(async () => {
      assert.match(await all(['MGET', ...names(1_000_000)]), /^\*1000000\r\n\$5\r\nvalue\r\n/)
    }),
  )
  test(
    'LCS of long values',
    beside(async () => {
      await all(['MSET', 'lcs:1', 'ab'.repeat(6000), 'lcs:2', 'ba'.repeat(6000)])
      await repeatedly(() => all(['LCS', 'lcs:1', 'lcs:2']))
    }),
  )
  test(
    'a pipeline of reads of a large value, with and without a write that takes them along',
    beside(async () => {
      await all(['SETBIT', 'large', 8 * 8 * MIB - 1, 1])
      const counts = Array.from({ length: 60 }, () => ['BITCOUNT', 'large'])
      await all(...counts)
      await all(...counts, ['SET', 'behind', 'them'])
    }),
  )
  test(
    'commands of very many arguments are refused',
    beside(async () => {
      const increments = Array.from({ length: 100_000 }, () => ['INCRBY', 'u8', '0', '1']).flat()
      assert.match(await all(['BITFIELD', 'b', ...increments]), /^-ERR 100000 keys or operations/)
      assert.match(await all(['COMMAND', 'DOCS', ...names(100_000)]), /^-ERR too many arguments/)
    }),
  )
  test(
    'EXEC of what would never end: reads in slices, alone and beside a write',
    beside(() =>
      repeatedly(() =>
        all(
          ['MULTI'],
          ...Array.from({ length: 5 }, () => ['KEYS', '*9*9*']),
          ['EXEC'],
          ['MULTI'],
          ['SET', 'tx', 1],
          ...Array.from({ length: 300 }, () => ['KEYS', '*9*9*']),
          ['EXEC'],
        ),
      ),
    ),
  )
  test(
    'as many keys as a transaction may read, and ten times as many',
    beside(() =>
      repeatedly(async () => {
        const replies = await all(['MULTI'], ['MGET', ...names(99_000)], ['EXEC'])
        assert.match(replies, /^\+OK\r\n\+QUEUED\r\n\*1\r\n\*99000\r\n/)
        const refused = await all(['MULTI'], ['MGET', ...names(1_000_000)], ['EXEC'])
        assert.match(refused, /^\+OK\r\n-ERR the commands of a transaction may have 100000 arg/)
      }),
    ),
  )
})

describe('writes without a bound', () => {
  test(
    'as many keys as one command may write, and a hundred times as many',
    beside(() =>
      repeatedly(async () => {
        const pairs = names(5000, 'many:').flatMap((name) => [name, 'v'])
        assert.match(await all(['MSET', ...pairs]), /^\+OK\r\n/)
        assert.match(await all(['DEL', ...names(5000, 'many:')]), /^:5000\r\n/)
        assert.match(
          await all(['DEL', ...names(500_000, 'many:')]),
          /^-ERR 500000 keys or operations are too many/,
        )
        assert.match(
          await all(['MSET', ...pairs, ...names(900_000)]),
          /^-ERR \d+ keys or operations are too many/,
        )
      }),
    ),
  )
  test(
    'EXEC of as many writes as there may be',
    beside(() =>
      repeatedly(() =>
        all(['MULTI'], ...Array.from({ length: 4999 }, (_, at) => ['SET', `tx:${at}`, 'value']), [
          'EXEC',
        ]),
      ),
    ),
  )
  test(
    'a MULTI that never ends is refused, and its client closed',
    beside(async () => {
      const client = await RespClient.connect(victim.port)
      client.resume()
      assert.equal(await client.call('MULTI'), 'OK')
      const queued = await Promise.all(
        Array.from({ length: 20_000 }, () => client.call('SET', 'a', 'x'.repeat(100))),
      )
      assert.match(
        textOf(queued.find((reply) => reply instanceof Error) ?? null),
        /-ERR a transaction may have/,
      )
      assert.match(textOf(await client.call('EXEC')), /^-EXECABORT/)
      client.close()
    }),
  )
})

describe('connections', () => {
  test(
    'a flood of them: those beyond maxclients are told so, the others stay',
    beside(async () => {
      assert.equal(await victim.ask('CONFIG', 'SET', 'maxclients', 300), 'OK')
      const clients: RespClient[] = []
      try {
        await repeatedly(async () => {
          const more = await Promise.all(
            Array.from({ length: 50 }, () => RespClient.connect(victim.port)),
          )
          for (const client of more) clients.push(client)
        })
        await until(
          'most are refused',
          () => clients.filter(({ closed }) => closed).length > clients.length - 301,
        )
        const kept = clients.find(({ closed }) => !closed)
        assert.equal(await kept?.call('PING'), 'PONG')
      } finally {
        for (const client of clients) client.close()
        await until('there is room again', async () => {
          const reply = await victim.ask('CONFIG', 'SET', 'maxclients', 3000).catch(() => undefined)
          return reply === 'OK'
        })
      }
    }),
  )
  test(
    'slow writers, half-open ones and those that never say anything: closed after `timeout`',
    beside(async () => {
      assert.equal(await victim.ask('CONFIG', 'SET', 'timeout', 1), 'OK')
      const clients = await Promise.all(
        Array.from({ length: 200 }, () => RespClient.connect(victim.port)),
      )
      try {
        for (const [at, client] of clients.entries()) {
          client.resume()
          if (at % 2 === 0) client.write('*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$10\r\nhal')
        }
        await until('all of them are closed', () => clients.every(({ closed }) => closed), 20_000)
      } finally {
        for (const client of clients) client.close()
        assert.equal(await victim.ask('CONFIG', 'SET', 'timeout', 0), 'OK')
      }
    }),
  )
  test(
    'a huge pipeline, half of it never read',
    beside(async () => {
      const deaf = await RespClient.connect(victim.port)
      deaf.pause()
      deaf.write(Buffer.alloc(8 * MIB, request(['GET', 'key:1'])))
      deaf.write(Buffer.alloc(4 * MIB, request(['INCR', 'deaf'])))
      await all(...Array.from({ length: 100_000 }, () => ['INCR', 'pipelined']))
      deaf.reset()
    }),
  )
  test(
    'half commands of many connections: above maxmemory-clients the largest are closed',
    beside(async () => {
      const shrunk = ['proto-max-bulk-len', '32mb', 'client-query-buffer-limit', '64mb']
      const output = 'normal 64mb 32mb 60 slave 64mb 32mb 60 pubsub 64mb 8mb 60'
      const limits = [...shrunk, 'client-output-buffer-limit', output, 'maxmemory-clients', '64mb']
      assert.equal(textOf(await victim.ask('CONFIG', 'SET', ...limits)), 'OK')
      const clients = await Promise.all(
        Array.from({ length: 20 }, () => RespClient.connect(victim.port)),
      )
      try {
        for (const client of clients) {
          client.resume()
          client.write('*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$20000000\r\n')
          client.write(Buffer.alloc(8 * MIB, 'x'))
        }
        await until(
          'some are closed',
          () => clients.filter(({ closed }) => closed).length >= 12,
          20_000,
        )
        assert.ok(clients.some(({ closed }) => !closed))
        assert.match(textOf(await victim.ask('INFO', 'stats')), /evicted_clients:1[2-9]\r/)
      } finally {
        for (const client of clients) client.reset()
        assert.equal(await victim.ask('CONFIG', 'SET', 'maxmemory-clients', '512mb'), 'OK')
      }
    }),
  )
})
