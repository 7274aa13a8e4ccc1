/*
 * Clients that ask for more than is good for others, each doing its worst at one node of a cluster that holds
 * `key:0`, `key:1` and so on, of the value 'value'. neighbours.test.ts and `npm run measure -- neighbours` run them
 * beside a client that behaves. Each checks what it is answered, and takes back what it configured.
 */

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { until } from '../processes.ts'
import type { NodeProcess } from './cluster.ts'
import { RespClient, request, textOf } from './resp-client.ts'

const MIB = 1024 * 1024
/** As many as a transaction may read, nearly. */
export const KEYS_MIN = 100_000
const CLOSED_WITHIN_MS = 20_000
const ALL_IS_ANSWERED = /all is answered\r\n$/

export interface BadClient {
  readonly name: string
  torment(victim: Victim): Promise<unknown>
}

type Command = readonly (string | Buffer | number)[]

/** Commands in one piece, behind them a PING with a mark of its own: everything was answered when that is. */
function together(...commands: readonly Command[]): Buffer {
  return Buffer.concat([...commands, ['PING', 'all is answered']].map((words) => request(words)))
}

/** The node that they are connected to. */
export class Victim {
  readonly node: NodeProcess
  readonly #forMs: number

  /** A bad client goes on for `forMs` at least. */
  constructor(node: NodeProcess, forMs: number) {
    this.node = node
    this.#forMs = forMs
  }

  /** Again and again, for a while. */
  async repeatedly(act: () => Promise<unknown>): Promise<void> {
    const end = performance.now() + this.#forMs
    do await act()
    while (performance.now() < end)
  }

  /** Sends the commands in one piece; resolves with how the replies begin when everything was answered. */
  all(...commands: readonly Command[]): Promise<string> {
    return this.send(together(...commands))
  }

  connect(): Promise<RespClient> {
    return RespClient.connect(this.node.port)
  }

  /** Sends what together() has made; resolves with how the replies begin when all of it was answered. */
  send(bytes: Buffer): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: this.node.port })
      let head = ''
      let tail = ''
      socket.setEncoding('latin1').on('data', (text: string) => {
        if (head.length < 100) head += text.slice(0, 100)
        tail = (tail + text).slice(-200)
        if (!ALL_IS_ANSWERED.test(tail)) return
        socket.destroy()
        resolve(head)
      })
      socket.once('error', reject)
      socket.once('close', () => reject(new Error(`closed after ${head}`)))
      socket.write(bytes)
    })
  }
}

function names(count: number, prefix = 'key:'): string[] {
  return Array.from({ length: count }, (_, at) => `${prefix}${at}`)
}

const reads: readonly BadClient[] = [
  {
    name: 'KEYS of everything, and with a pattern',
    torment: (victim) => victim.repeatedly(() => victim.all(['KEYS', '*'], ['KEYS', '*1*2*3*'])),
  },
  {
    name: 'a pattern made to explode, on a key made for it',
    async torment(victim) {
      await victim.all(['SET', 'a'.repeat(50_000), 'x'])
      await victim.repeatedly(() =>
        victim.all(
          ['KEYS', `${'a*'.repeat(500)}b`],
          ['SCAN', 0, 'MATCH', '*a'.repeat(900), 'COUNT', 1e9],
        ),
      )
      await victim.all(['DEL', 'a'.repeat(50_000)])
    },
  },
  {
    name: 'MGET of a million keys',
    async torment(victim) {
      const mget = together(['MGET', ...names(1_000_000)])
      await victim.repeatedly(async () => {
        assert.match(await victim.send(mget), /^\*1000000\r\n\$5\r\nvalue\r\n/)
      })
    },
  },
  {
    name: 'LCS of long values',
    async torment(victim) {
      await victim.all(['MSET', 'lcs:1', 'ab'.repeat(6000), 'lcs:2', 'ba'.repeat(6000)])
      await victim.repeatedly(() => victim.all(['LCS', 'lcs:1', 'lcs:2']))
    },
  },
  {
    name: 'a pipeline of reads of a large value, with and without a write that takes them along',
    async torment(victim) {
      await victim.all(['SETBIT', 'large', 8 * 8 * MIB - 1, 1])
      const counts = Array.from({ length: 60 }, () => ['BITCOUNT', 'large'])
      await victim.repeatedly(async () => {
        await victim.all(...counts)
        await victim.all(...counts, ['SET', 'behind', 'them'])
      })
    },
  },
  {
    name: 'commands of very many arguments are refused',
    async torment(victim) {
      const increments = Array.from({ length: 100_000 }, () => ['INCRBY', 'u8', '0', '1']).flat()
      const bitfield = together(['BITFIELD', 'b', ...increments])
      const docs = together(['COMMAND', 'DOCS', ...names(100_000)])
      await victim.repeatedly(async () => {
        assert.match(await victim.send(bitfield), /^-ERR 100000 keys or operations/)
        assert.match(await victim.send(docs), /^-ERR too many arguments/)
      })
    },
  },
  {
    name: 'EXEC of what would never end: reads in slices, alone and beside a write',
    torment: (victim) =>
      victim.repeatedly(() =>
        victim.all(
          ['MULTI'],
          ...Array.from({ length: 5 }, () => ['KEYS', '*9*9*']),
          ['EXEC'],
          ['MULTI'],
          ['SET', 'tx', 1],
          ...Array.from({ length: 300 }, () => ['KEYS', '*9*9*']),
          ['EXEC'],
        ),
      ),
  },
  {
    name: 'as many keys as a transaction may read, and ten times as many',
    async torment(victim) {
      const some = together(['MULTI'], ['MGET', ...names(99_000)], ['EXEC'])
      const more = together(['MULTI'], ['MGET', ...names(1_000_000)], ['EXEC'])
      const refused = /^\+OK\r\n-ERR the commands of a transaction may have 100000 arg/
      await victim.repeatedly(async () => {
        assert.match(await victim.send(some), /^\+OK\r\n\+QUEUED\r\n\*1\r\n\*99000\r\n/)
        assert.match(await victim.send(more), refused)
      })
    },
  },
]

const writes: readonly BadClient[] = [
  {
    name: 'as many keys as one command may write, and a hundred times as many',
    async torment(victim) {
      const pairs = names(5000, 'many:').flatMap((name) => [name, 'v'])
      const [set, unset] = [
        together(['MSET', ...pairs]),
        together(['DEL', ...names(5000, 'many:')]),
      ]
      const del = together(['DEL', ...names(500_000, 'many:')])
      const mset = together(['MSET', ...pairs, ...names(900_000)])
      await victim.repeatedly(async () => {
        assert.match(await victim.send(set), /^\+OK\r\n/)
        assert.match(await victim.send(unset), /^:5000\r\n/)
        assert.match(await victim.send(del), /^-ERR 500000 keys or operations are too many/)
        assert.match(await victim.send(mset), /^-ERR \d+ keys or operations are too many/)
      })
    },
  },
  {
    name: 'EXEC of as many writes as there may be',
    async torment(victim) {
      const sets = Array.from({ length: 4999 }, (_, at) => ['SET', `tx:${at}`, 'value'])
      const exec = together(['MULTI'], ...sets, ['EXEC'])
      await victim.repeatedly(() => victim.send(exec))
    },
  },
  {
    name: 'a MULTI that never ends is refused, and its client closed',
    torment: (victim) =>
      victim.repeatedly(async () => {
        const client = await victim.connect()
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
  },
  {
    name: 'BITOP of large values',
    async torment(victim) {
      await victim.all(
        ['SETBIT', 'bits:1', 8 * 4 * MIB - 1, 1],
        ['SETBIT', 'bits:2', 8 * 4 * MIB - 2, 1],
      )
      await victim.repeatedly(async () => {
        const replies = await victim.all(
          ['BITOP', 'NOT', 'bits:3', 'bits:1'],
          ['BITOP', 'XOR', 'bits:3', 'bits:1', 'bits:2'],
        )
        assert.match(replies, /^:4194304\r\n:4194304\r\n/)
      })
      await victim.all(['DEL', 'bits:1', 'bits:2', 'bits:3'])
    },
  },
  {
    name: 'BITOP of huge values into many keys, and a bit far behind the end of one',
    async torment(victim) {
      await victim.all(['SETBIT', 'huge', 8 * 8 * MIB - 1, 1])
      const made = names(20, 'huge:made:')
      let round = 0
      await victim.repeatedly(async () => {
        const to = made[round++ % made.length] ?? ''
        const replies = await victim.all(
          ['BITOP', 'NOT', to, 'huge'],
          ['SETBIT', to, 8 * 64 * MIB, 1],
        )
        assert.match(replies, /^:8388608\r\n-ERR the command would work on 75497473 bytes/)
      })
      await victim.all(['DEL', 'huge', ...made])
    },
  },
  {
    name: 'huge values, one after the other',
    async torment(victim) {
      const set = together(['SET', 'huge', Buffer.alloc(4 * MIB, 'x')])
      await victim.repeatedly(async () => {
        assert.match(await victim.send(set), /^\+OK\r\n/)
      })
      await victim.all(['DEL', 'huge'])
    },
  },
  {
    name: 'EXEC of writes of large values, and of more than one may work on',
    async torment(victim) {
      const bits = (count: number): Command[] =>
        Array.from({ length: count }, (_, at) => ['SETBIT', `large:${at % 4}`, 8 * 2 * MIB - 1, 1])
      await victim.all(...bits(4))
      await victim.repeatedly(async () => {
        const clear: Command[] = names(8).map((_, at) => ['SETBIT', `large:${at % 4}`, at, at % 2])
        assert.match(await victim.all(['MULTI'], ...clear, ['EXEC']), /\*8\r\n:[01]/)
        const client = await victim.connect()
        client.resume()
        const calls = [['MULTI'], ...bits(17), ['EXEC']].map((words) => client.call(...words))
        const refused = textOf((await Promise.all(calls)).at(-1) ?? null)
        assert.match(refused, /-ERR the command would work on 71303168 bytes of values/)
        client.close()
      })
      await victim.all(['DEL', ...names(4, 'large:')])
    },
  },
]

const connections: readonly BadClient[] = [
  {
    name: 'a flood of them: those beyond maxclients are told so, the others stay',
    async torment(victim) {
      const { node } = victim
      assert.equal(await node.ask('CONFIG', 'SET', 'maxclients', 300), 'OK')
      const clients: RespClient[] = []
      try {
        await victim.repeatedly(async () => {
          const more = await Promise.all(Array.from({ length: 50 }, () => victim.connect()))
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
          const reply = await node.ask('CONFIG', 'SET', 'maxclients', 3000).catch(() => undefined)
          return reply === 'OK'
        })
      }
    },
  },
  {
    name: 'slow writers, half-open ones and those that never say anything: closed after `timeout`',
    async torment(victim) {
      const { node } = victim
      assert.equal(await node.ask('CONFIG', 'SET', 'timeout', 1), 'OK')
      try {
        await victim.repeatedly(async () => {
          const clients = await Promise.all(Array.from({ length: 200 }, () => victim.connect()))
          try {
            for (const [at, client] of clients.entries()) {
              client.resume()
              if (at % 2 === 0) client.write('*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$10\r\nhal')
            }
            const allClosed = (): boolean => clients.every(({ closed }) => closed)
            await until('all of them are closed', allClosed, CLOSED_WITHIN_MS)
          } finally {
            for (const client of clients) client.close()
          }
        })
      } finally {
        assert.equal(await node.ask('CONFIG', 'SET', 'timeout', 0), 'OK')
      }
    },
  },
  {
    name: 'a huge pipeline, half of it never read',
    async torment(victim) {
      const increments = together(...Array.from({ length: 100_000 }, () => ['INCR', 'pipelined']))
      await victim.repeatedly(async () => {
        const deaf = await victim.connect()
        deaf.pause()
        deaf.write(Buffer.alloc(8 * MIB, request(['GET', 'key:1'])))
        deaf.write(Buffer.alloc(4 * MIB, request(['INCR', 'deaf'])))
        await victim.send(increments)
        deaf.reset()
      })
    },
  },
  {
    name: 'half commands of many connections: above maxmemory-clients the largest are closed',
    async torment(victim) {
      const { node } = victim
      const shrunk = ['proto-max-bulk-len', '32mb', 'client-query-buffer-limit', '64mb']
      const output = 'normal 64mb 32mb 60 slave 64mb 32mb 60 pubsub 64mb 8mb 60'
      const limits = [...shrunk, 'client-output-buffer-limit', output, 'maxmemory-clients', '64mb']
      assert.equal(textOf(await node.ask('CONFIG', 'SET', ...limits)), 'OK')
      try {
        await victim.repeatedly(async () => {
          assert.equal(textOf(await node.ask('CONFIG', 'RESETSTAT')), 'OK')
          const clients = await Promise.all(Array.from({ length: 20 }, () => victim.connect()))
          try {
            for (const client of clients) {
              client.resume()
              client.write('*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$20000000\r\n')
              client.write(Buffer.alloc(8 * MIB, 'x'))
            }
            const closed = (): number => clients.filter((client) => client.closed).length
            await until('some are closed', () => closed() >= 12, CLOSED_WITHIN_MS)
            assert.ok(closed() < clients.length)
            assert.match(textOf(await node.ask('INFO', 'stats')), /evicted_clients:1[2-9]\r/)
          } finally {
            for (const client of clients) client.reset()
          }
        })
      } finally {
        assert.equal(await node.ask('CONFIG', 'SET', 'maxmemory-clients', '512mb'), 'OK')
      }
    },
  },
]

/** By what they do. */
export const badClients: ReadonlyMap<string, readonly BadClient[]> = new Map([
  ['reads without a bound', reads],
  ['writes without a bound', writes],
  ['connections', connections],
])
