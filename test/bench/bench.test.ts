/*
 * The benchmark's own arithmetic, and its load generator against a server that knows what it was sent: a figure that
 * comes out of a broken counter looks like any other.
 */

import assert from 'node:assert/strict'
import { createServer, type Server, type Socket } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { drive, Latencies, type Load, ReplyCounter } from './load.ts'
import { alarms, measureParts } from './micro.ts'
import { parseCsv } from './redis-benchmark.ts'
import {
  chart,
  type Findings,
  markdown,
  median,
  overRuns,
  ratios,
  ratiosOf,
  reproduced,
} from './report.ts'
import { type Cell, everyCell, keysFor, nameOf, type Sample, usualCells } from './rounds.ts'
import type { Target } from './systems.ts'

describe('the reply counter', () => {
  const replies = '+OK\r\n$-1\r\n:12\r\n$0\r\n\r\n-ERR no\r\n$12\r\n+a\r\n$1\r\n-b\r\n\r\n'

  it('counts whole replies however the bytes are cut', () => {
    for (let size = 1; size <= replies.length; size++) {
      const counter = new ReplyCounter()
      let ended = 0
      for (let at = 0; at < replies.length; at += size) {
        ended += counter.count(Buffer.from(replies.slice(at, at + size)))
      }
      assert.equal(ended, 6, `in pieces of ${size}`)
      assert.equal(counter.errors, 1, `in pieces of ${size}`)
    }
  })

  it('does not count what is not complete', () => {
    const counter = new ReplyCounter()
    assert.equal(counter.count(Buffer.from(replies.slice(0, -1))), 5)
    assert.equal(counter.count(Buffer.from('\n')), 1)
  })
})

describe('latencies', () => {
  it('are within 3 % at every percentile', () => {
    const latencies = new Latencies()
    for (let ms = 1; ms <= 1000; ms++) latencies.add(ms / 10, 2)
    for (const share of [0.5, 0.99, 0.999]) {
      const found = latencies.percentile(share)
      assert.ok(Math.abs(found / (share * 100) - 1) < 0.03, `${share}: ${found} ms`)
    }
    assert.ok(Number.isNaN(new Latencies().percentile(0.5)))
  })
})

const PING = 'PING\r\n'

/** Answers PING, SET and GET, and keeps what it was sent of the latter. */
async function server(context: TestContext, setReply: string): Promise<[number, string[]]> {
  const received: string[] = []
  const listening: Server = createServer({ noDelay: true }, (socket: Socket) => {
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (text.startsWith(PING)) {
        text = text.slice(PING.length)
        socket.write('+PONG\r\n')
      }
      const pattern =
        /^(?:\*3\r\n\$3\r\nSET\r\n\$16\r\nkey:(\d{12})\r\n\$5\r\n(x{5})\r\n|\*2\r\n\$3\r\nGET\r\n\$16\r\nkey:(\d{12})\r\n)/
      for (let found = pattern.exec(text); found !== null; found = pattern.exec(text)) {
        const [all, set, , get] = found
        text = text.slice(all.length)
        received.push(set === undefined ? `GET ${Number(get)}` : `SET ${Number(set)}`)
        socket.write(set === undefined ? '$5\r\nhello\r\n' : setReply)
      }
    })
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
  context.after(() => listening.close())
  const address = listening.address()
  assert.ok(address !== null && typeof address === 'object')
  return [address.port, received]
}

const load: Omit<Load, 'port'> = {
  host: '127.0.0.1',
  connections: 3,
  pipeline: 4,
  setShare: 1,
  valueBytes: 5,
  keys: 1000,
  seconds: 60,
  commands: 1200,
}

describe('the load generator', () => {
  it('sends so many commands, well-formed, to keys in order', async (context) => {
    const [port, received] = await server(context, '+OK\r\n')
    const { commands, errors, perSecond, p50, p999 } = await drive({ ...load, port, inOrder: true })
    assert.deepEqual([commands, errors, received.length], [1200, 0, 1200])
    assert.equal(new Set(received).size, 1000)
    assert.ok(received.includes('SET 0') && received.includes('SET 999'))
    assert.ok(perSecond > 0 && p50 > 0 && p999 >= p50)
  })

  it('mixes, by chance, and counts errors', async (context) => {
    const [port, received] = await server(context, '-ERR no\r\n')
    const { errors } = await drive({ ...load, port, setShare: 0.25 })
    const sets = received.filter((one) => one.startsWith('SET')).length
    assert.equal(errors, sets)
    assert.ok(sets > 200 && sets < 400, `${sets} of 1200`)
  })

  // Within a time of its own, because a connection that stays open keeps its server, and this file, from ending.
  it('says that a connection ended, or was answered wrongly', { timeout: 30_000 }, async () => {
    const end = (socket: Socket) => socket.destroy()
    const cases: [(socket: Socket) => void, RegExp][] = [
      [(socket) => socket.once('data', () => end(socket)), /ended|ECONNRESET/],
      [(socket) => socket.once('data', () => socket.write('-NOAUTH\r\n')), /answered by -NOAUTH/],
      [
        (socket) =>
          socket.once('data', () => {
            socket.write('+PONG\r\n')
            socket.once('data', () => end(socket))
          }),
        /ended|ECONNRESET/,
      ],
    ]
    for (const [serve, expected] of cases) {
      const listening = createServer((socket) => serve(socket.on('error', () => {})))
      await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
      const address = listening.address()
      assert.ok(address !== null && typeof address === 'object')
      try {
        await assert.rejects(drive({ ...load, port: address.port }), expected)
      } finally {
        await new Promise((resolve) => listening.close(resolve))
      }
    }
  })
})

describe('reports', () => {
  it('read what redis-benchmark prints, and refuse anything else', () => {
    const head = '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",'
    const text = `${head}\n"SET","17543.86","2.806","0.776","2.767","4.279","5.007","5.551"\n`
    assert.deepEqual(parseCsv(text), { perSecond: 17543.86, p50: 2.767, p99: 5.007 })
    assert.throws(() => parseCsv('Could not connect to Redis'), /Could not connect/)
  })

  const target = (name: string): Target => ({
    name,
    address: async () => ({ host: '', port: 0 }),
    processes: async () => [],
    entries: async () => undefined,
  })
  const sample = (perSecond: number): Sample => ({
    perSecond,
    p50: 1,
    p99: 2,
    p999: undefined,
    parts: [
      { part: 'leader', cpu: 0.5, cpuMicrosPerCommand: 12, anonymousBytes: 5e7, fileBytes: 1e6 },
    ],
    entriesPerSecond: 10,
    commandsPerEntry: 4,
  })

  it('give the median of the ratios of each round', () => {
    const ours = target('3 nodes, leader')
    const peer = target('Redis')
    const cell = usualCells()[0] ?? assert.fail()
    const samples = new Map([
      [ours, [sample(10_000), sample(40_000), sample(6_000)]],
      [peer, [sample(20_000), sample(50_000), sample(60_000)]],
    ])
    assert.deepEqual(ratios(samples.get(ours) ?? [], samples.get(peer) ?? []), [0.5, 0.8, 0.1])
    const findings: Findings = {
      results: new Map<Cell, typeof samples>([[cell, samples]]),
      targets: [ours, peer],
      peers: [peer],
      generator: [{ own: 95, redisBenchmark: 100 }],
      stalls: [{ load: 'SET', part: 'leader', stop: 7, processor: 5, collection: 3 }],
      circumstances: ['- here'],
    }
    const text = markdown(findings)
    assert.match(
      text,
      /\| SET c=50 P=1 64 B \| 10\.0 k \| 50\.0 k \| \*\*0\.50\*\* \(0\.10 to 0\.80\) \|/,
    )
    assert.match(text, /\| leader \| 12\.0 \| 0\.50 \| 50 \| 1 \| 10 \| 4\.0 \|/)
    assert.match(text, /median ratio 0\.95: within 10 %/)
    assert.deepEqual(ratiosOf(findings), { 'SET c=50 P=1 64 B: 3 nodes, leader / Redis': 0.5 })
    const svg = chart(findings)
    assert.equal([...svg.matchAll(/<rect /g)].length, 1 + 2 + 2)
    assert.match(svg, />50\.0 k\/s</)
  })

  it('say which ratios a later run does not reproduce, of what the saved ones span', () => {
    const one = { circumstances: ['- here', '- today'], ratios: { a: 1, b: 1, c: 1, d: 1, e: 1 } }
    const two = { circumstances: ['- there'], ratios: { e: 2 } }
    const now = { a: 1.2, b: 1.21, c: 0.79, d: 0.8, e: 2.41, new: 3 }
    const [within, ...far] = reproduced(now, [one, two])
    assert.equal(within, '2 of 5 ratios are within 20 % of the saved ones')
    assert.deepEqual(far, [
      '  b: 1.21, was 1.00 (1.21x)',
      '  c: 0.79, was 1.00 (0.79x)',
      '  e: 2.41, was 1.00 to 2.00 (1.21x)',
    ])
    assert.deepEqual(reproduced({ e: 1.5 }, [one, two]), [
      '1 of 1 ratios are within 20 % of the saved ones',
    ])
    const text = overRuns([one, two])
    assert.match(text, /- run 1: here; today\n- run 2: there\n/)
    assert.match(text, /\| e \| 1\.00 \| 2\.00 \| 1\.00 to 2\.00 \|/)
    assert.match(text, /\| a \| 1\.00 \| {2}\| 1\.00 \|/)
  })

  it('take the middle', () => {
    assert.equal(median([3, 1, 2]), 2)
    assert.equal(median([4, 1, 2, 3]), 2.5)
    assert.ok(Number.isNaN(median([])))
  })

  it('name each load differently, and keep a database small', () => {
    for (const cells of [usualCells(), everyCell()]) {
      assert.equal(new Set(cells.map(nameOf)).size, cells.length)
    }
    assert.equal(keysFor(64), 100_000)
    assert.equal(keysFor(65_536), 256)
  })
})

describe('the parts alone', () => {
  it('are alarming above 1.4 of the baseline, and when one of the two has no figure', () => {
    assert.deepEqual(alarms({ a: 1.4, b: 0.2 }, { a: 1, b: 0.2 }), [])
    assert.match(alarms({ a: 1.41 }, { a: 1 })[0] ?? '', /^a: 1\.410, was 1\.000: 1\.41x$/)
    assert.equal(alarms({ a: 1 }, { b: 1 }).length, 2)
  })

  it('are ratios to the reference loop', async () => {
    let runs = 0
    const ratio = await measureParts([{ name: 'nothing', run: () => void runs++ }])
    assert.equal(runs, 10)
    assert.ok((ratio.nothing ?? Number.NaN) < 0.5)
  })
})
