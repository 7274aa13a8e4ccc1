/*
 * redis-cli and redis-benchmark as Debian has them, against every kind of node of a real cluster: what an operator
 * types to look at a server must work here as there, in both protocols.
 */

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { needs, requireTool } from '../tools.ts'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { RespClient, request, textOf } from './resp-client.ts'

const BENCHMARK_MS = 60_000
const STAT_MS = 20_000

let cluster: Cluster

before(async () => {
  cluster = await Cluster.start({ nodes: 3 })
})
after(async () => {
  await cluster?.end()
})

/** Without the escapes of a terminal. */
function stripColours(text: string): string {
  return text
    .split('\u001b')
    .map((part) => part.replace(/^\[\d*m/, ''))
    .join('')
}

const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

/** A tool that runs; what it has printed so far is in `output`. */
class Tool {
  output = ''
  code: number | null | undefined
  readonly #child: ChildProcess

  constructor(
    name: string,
    node: NodeProcess,
    args: readonly string[],
    input: string | Buffer = '',
  ) {
    const path = requireTool(name) ?? ''
    const child = spawn(path, ['-p', String(node.port), ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
    child.once('error', (error) => {
      this.output += error.message
      this.code = -1
    })
    child.once('close', (code) => {
      this.code = code
    })
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    this.#child = child
  }

  kill(): void {
    if (this.code === undefined) this.#child.kill('SIGKILL')
  }

  async end(timeoutMs?: number): Promise<{ code: number | null | undefined; output: string }> {
    try {
      await until('the end of the tool', () => this.code !== undefined, timeoutMs)
    } finally {
      this.kill()
    }
    return { code: this.code, output: this.output }
  }
}

/** What redis-cli prints, with its exit code. */
function redisCli(
  node: NodeProcess,
  args: readonly string[],
  input: string | Buffer = '',
): Promise<{ code: number | null | undefined; output: string }> {
  return new Tool('redis-cli', node, args, input).end(BENCHMARK_MS)
}

describe('redis-cli', needs('redis-cli'), () => {
  test(
    'sets through one node and gets through another, plain, with -3 and with -c',
    logs(async () => {
      const [first, second, third] = [cluster.node(0), cluster.node(1), cluster.node(2)]
      assert.deepEqual(await redisCli(second, ['set', 'a', '1']), { code: 0, output: 'OK\n' })
      assert.deepEqual(await redisCli(third, ['get', 'a']), { code: 0, output: '1\n' })
      assert.deepEqual(await redisCli(first, ['-3', 'incr', 'a']), { code: 0, output: '2\n' })
      assert.deepEqual(await redisCli(third, ['-3', 'mget', 'a', 'none']), {
        code: 0,
        output: '2\n\n',
      })
      assert.deepEqual(await redisCli(second, ['-c', 'incr', 'a']), { code: 0, output: '3\n' })
      assert.deepEqual(await redisCli(first, ['-n', '5', 'get', 'a']), { code: 0, output: '\n' })
      const { output } = await redisCli(second, ['-3', 'hello'])
      assert.match(output, /proto\s3\n/)
    }),
  )

  test(
    '-c follows MOVED of a follower that redirects, to the leader and for every command',
    logs(async () => {
      const follower = await cluster.follower()
      const leader = await cluster.leader()
      assert.equal(await follower.ask('CONFIG', 'SET', 'redirect', 'moved'), 'OK')
      try {
        const refused = await redisCli(follower, ['set', 'moved', '1'])
        assert.match(refused.output, new RegExp(`MOVED \\d+ 127\\.0\\.0\\.1:${leader.port}\n`))
        const followed = await redisCli(
          follower,
          ['-c'],
          'set moved 1\nincr moved\nmulti\nincr moved\nget moved\nexec\nget moved\n',
        )
        assert.equal(
          followed.output,
          `-> Redirected to slot [1999] located at 127.0.0.1:${leader.port}\nOK\n2\nOK\nQUEUED\nQUEUED\n3\n3\n3\n`,
        )
        assert.equal(followed.code, 0)
      } finally {
        assert.equal(await follower.ask('CONFIG', 'SET', 'redirect', 'forward'), 'OK')
      }
    }),
  )

  test(
    'commands from its standard input',
    logs(async () => {
      const node = await cluster.follower()
      const { output } = await redisCli(
        node,
        [],
        'set cli:in "two words"\nget cli:in\nincr cli:in\n',
      )
      assert.match(output, /^OK\ntwo words\nERR value is not an integer or out of range\n/)
    }),
  )

  test(
    '--scan names every key once that the pattern and the type ask for',
    logs(async () => {
      const node = await cluster.follower()
      const names = Array.from({ length: 1000 }, (_, at) => `scan:${at}`)
      await node.ask('MSET', ...names.flatMap((name) => [name, 'x']))
      const all = await redisCli(node, ['--scan', '--pattern', 'scan:*'])
      assert.equal(all.code, 0)
      assert.deepEqual(all.output.trimEnd().split('\n').toSorted(), names.toSorted())
      const few = await redisCli(node, ['-3', '--scan', '--pattern', 'scan:99?'])
      assert.equal(few.output.trimEnd().split('\n').length, 10)
      const typed = await redisCli(node, ['-n', '7', '--scan'])
      assert.deepEqual(typed, { code: 0, output: '' })
    }),
  )

  for (const who of ['leader', 'follower'] as const) {
    test(
      `--pipe of 100,000 commands through the ${who}, RESP and inline`,
      logs(async () => {
        const node = await cluster[who]()
        const resp = Array.from({ length: 50_000 }, (_, at) =>
          request(['SET', `pipe:${who}:${at}`, String(at)]),
        )
        const inline = Array.from({ length: 50_000 }, () =>
          Buffer.from(`INCR pipe:${who}:counter\r\n`),
        )
        const mixed = resp.flatMap((one, at) => [one, inline[at] ?? Buffer.alloc(0)])
        const { code, output } = await redisCli(node, ['--pipe'], Buffer.concat(mixed))
        assert.match(output, /errors: 0, replies: 100000\n/)
        assert.equal(code, 0)
        const other = cluster.nodes.find((one) => one !== node) ?? node
        assert.equal((await redisCli(other, ['get', `pipe:${who}:counter`])).output, '50000\n')
        assert.equal((await redisCli(other, ['get', `pipe:${who}:49999`])).output, '49999\n')
      }),
    )
  }

  test(
    '--bigkeys and --memkeys find the largest value, in the database they are sent to',
    logs(async () => {
      const node = await cluster.follower()
      for (const [key, length] of [
        ['small', 10],
        ['large', 70_000],
        ['middle', 500],
      ] as const) {
        const reply = await redisCli(node, ['-n', '9', '-x', 'set', key], 'v'.repeat(length))
        assert.deepEqual(reply, { code: 0, output: 'OK\n' })
      }
      const big = await redisCli(node, ['-n', '9', '--bigkeys'])
      assert.equal(big.code, 0)
      assert.match(big.output, /Sampled 3 keys in the keyspace!/)
      assert.match(big.output, /Biggest string found '"large"' has 70000 bytes/)
      assert.match(big.output, /3 strings with 70510 bytes/)
      const heavy = await redisCli(node, ['-n', '9', '--memkeys'])
      assert.equal(heavy.code, 0)
      const [, found = '0'] =
        /Biggest string found '"large"' has (\d+) bytes/.exec(heavy.output) ?? []
      // A value of its own has whole pages of 4 KiB.
      assert.ok(Number(found) >= 70_000 && Number(found) < 70_000 + 4096 + 100, heavy.output)
    }),
  )

  test(
    '--stat shows the keys, clients and requests of the node, and who is blocked',
    logs(async () => {
      const node = await cluster.follower()
      const keyspace = textOf(await node.ask('INFO', 'keyspace'))
      const keys = [...keyspace.matchAll(/keys=(\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0)
      const waiting = await RespClient.connect(node.port)
      const paused = await RespClient.connect(node.port)
      const tool = new Tool('redis-cli', node, ['--stat', '-i', '0.02'])
      // keys, memory, clients, blocked, requests, connections
      const ROW = /^(\d+)\s+\d+(?:\.\d+)?[KMG]\s+(\d+)\s+(\d+)\s+(\d+) \(\+\d+\)\s+(\d+)/gm
      const latest = (): readonly number[] => {
        const rows = [...tool.output.matchAll(ROW)].map((row) => row.slice(1).map(Number))
        return rows.at(-1) ?? []
      }
      try {
        await until('a first line', () => latest().length > 0, STAT_MS)
        const [shown, connected = 0, blocked, requests = 0, connections = 0] = latest()
        assert.equal(shown, keys)
        assert.ok(connected >= 3 && requests > 0 && connections >= connected, tool.output)
        assert.equal(blocked, 0)
        const fates = [waiting, waiting].map((client) => client.call('WAIT', 9, 0))
        await until('one client waits, with two commands', () => latest()[2] === 1, STAT_MS)
        assert.equal(await node.ask('CLIENT', 'PAUSE', 60_000, 'WRITE'), 'OK')
        const written = paused.call('SET', 'stat', 'paused')
        await until('two clients wait', () => latest()[2] === 2, STAT_MS)
        assert.equal(await node.ask('CLIENT', 'UNPAUSE'), 'OK')
        assert.equal(await written, 'OK')
        waiting.close()
        await Promise.allSettled(fates)
        await until('nobody waits', () => latest()[2] === 0, STAT_MS)
        await until('the key that came later', () => latest()[0] === keys + 1, STAT_MS)
      } finally {
        tool.kill()
        waiting.close()
        paused.close()
      }
    }),
  )

  test(
    '--latency measures',
    logs(async () => {
      const node = await cluster.follower()
      const { code, output } = await redisCli(node, ['--latency', '--raw', '-i', '0.3'])
      assert.equal(code, 0)
      // min, max, average in ms, number of samples
      const [, , , samples] = /^(\d+) (\d+) ([\d.]+) (\d+)\n$/.exec(output)?.slice(1) ?? []
      assert.ok(Number(samples) > 2, output)
    }),
  )

  test(
    'knows the commands: help is made of COMMAND DOCS',
    logs(async () => {
      const node = await cluster.follower()
      const { code, output } = await redisCli(node, ['help', 'getex'])
      assert.equal(code, 0)
      assert.match(stripColours(output), /GETEX key \[EX seconds/)
      assert.match(textOf(await node.ask('LOLWUT')), /Redis ver\. 7\.2\.4/)
    }),
  )
})

describe('redis-benchmark', needs('redis-benchmark'), () => {
  const TESTS = ['ping', 'set', 'get', 'incr', 'mset']
  for (const who of ['leader', 'follower'] as const) {
    for (const flags of [[], ['-3']] as const) {
      test(
        `runs clean through the ${who}${flags.length === 0 ? '' : ' in RESP3'}`,
        logs(async () => {
          const node = await cluster[who]()
          const args = ['-n', '1000', '-c', '50', '-r', '1000', '-t', TESTS.join(','), '--csv']
          for (const pipeline of [[], ['-P', '16']]) {
            const tool = new Tool('redis-benchmark', node, [...flags, ...args, ...pipeline])
            const { code, output } = await tool.end(BENCHMARK_MS)
            assert.equal(code, 0, output)
            const [head, ...rows] = output.trimEnd().split('\n')
            // Whatever goes wrong is a line of its own: a warning, an error, a lost server.
            assert.match(head ?? '', /^"test","rps"/, output)
            const names = rows.map((row) => /^"([A-Z]+)[^"]*","[\d.]+"/.exec(row)?.[1])
            const wanted = ['PING', 'PING', 'SET', 'GET', 'INCR', 'MSET']
            assert.deepEqual(names, wanted, output)
          }
        }),
      )
    }
  }
})
