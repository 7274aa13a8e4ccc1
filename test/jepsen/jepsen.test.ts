/*
 * The pure parts of the Jepsen-style runs, and the proxy between peers: what a reply means, what a history looks like,
 * which time counts as quiet, and that a cut, a delay and a heal are what they say.
 */

import assert from 'node:assert/strict'
import { connect, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { ConnectionClosedError, ReplyError } from '../e2e/resp-client.ts'
import { seededRandom } from '../linearizability/simulation.ts'
import { stringModel } from '../linearizability/string-model.ts'
import { freePorts, until } from '../processes.ts'
import { quietTimes, type Sample, SETTLE_MS, serviceOf, UNANSWERED_MS } from './availability.ts'
import { drawRun } from './plot.ts'
import { PeerProxy } from './proxy.ts'
import { ednOf, isStrange, outcomeOf, recordedValue } from './recorder.ts'
import { createWorkload, workloadNames } from './workloads.ts'

test('only errors that promise it mean that a command was not executed', () => {
  assert.equal(outcomeOf('OK'), 'ok')
  assert.equal(outcomeOf(null), 'ok')
  assert.equal(outcomeOf(new ReplyError('CLUSTERDOWN no leader')), 'fail')
  assert.equal(outcomeOf(new ReplyError('MOVED 1 h:1')), 'fail')
  assert.equal(outcomeOf(new ReplyError('OOM low disk')), 'fail')
  assert.equal(outcomeOf(new ReplyError('ERR something')), 'info')
  assert.equal(outcomeOf(new ReplyError('TIMEOUT outcome unknown')), 'info')
  assert.equal(outcomeOf(new ReplyError('SOMETHING new')), 'info')
  assert.equal(outcomeOf(new ConnectionClosedError('gone')), 'info')
  for (const usual of ['CLUSTERDOWN x', 'MOVED 1 h:1', 'TIMEOUT outcome unknown']) {
    assert.equal(isStrange(new ReplyError(usual)), false)
  }
  assert.equal(isStrange(new ReplyError('ERR something')), true)
  assert.equal(isStrange(new ReplyError('WRONGTYPE x')), true)
  assert.equal(isStrange(new ConnectionClosedError('gone')), false)
  assert.equal(isStrange('ERR as a value'), false)
  assert.equal(recordedValue(Buffer.from('x')), 'x')
  assert.equal(recordedValue(new ReplyError('TIMEOUT x')), 'TIMEOUT x')
  assert.throws(() => recordedValue(['a']))
})

test('events in EDN', () => {
  const event = { index: 3, time: 12, process: 17, type: 'invoke', f: 'set' } as const
  assert.equal(
    ednOf({ ...event, key: 'k', value: ['v', 'NX'] }),
    '{:index 3, :time 12, :type :invoke, :process 17, :f :set, :value ["k" ["v" "NX"]]}',
  )
  assert.equal(
    ednOf({ ...event, process: 'nemesis', type: 'info', value: null }),
    '{:index 3, :time 12, :type :info, :process :nemesis, :f :set, :value nil}',
  )
})

test('quiet is what lies between the settling of one fault and the next', () => {
  const faults = [
    { what: 'b', fromMs: 20_000, toMs: 21_000 },
    { what: 'a', fromMs: 2000, toMs: 4000 },
    { what: 'c', fromMs: 22_000, toMs: 23_000 },
  ]
  assert.deepEqual(quietTimes(faults, 40_000), [
    { fromMs: 0, toMs: 2000 },
    { fromMs: 4000 + SETTLE_MS, toMs: 20_000 },
    { fromMs: 23_000 + SETTLE_MS, toMs: 40_000 },
  ])
  assert.deepEqual(quietTimes([{ what: 'a', fromMs: 0, toMs: 10_000 }], 12_000), [])
})

test('service counts what began in quiet times, per node', () => {
  const faults = [{ what: 'a', fromMs: 1000, toMs: 2000 }]
  const at = (node: number, startMs: number, outcome: Sample['outcome'], ms = 10) => ({
    node,
    startMs,
    endMs: startMs + ms,
    outcome,
  })
  const samples = [
    at(0, 100, 'ok'),
    at(0, 200, 'fail'),
    at(0, 995, 'info'),
    at(0, 1500, 'fail'),
    at(1, 2000 + SETTLE_MS, 'ok'),
    at(1, 1999 + SETTLE_MS, 'info'),
    at(1, 9000, 'away'),
    // The end of the run finds the first unanswered for too long, the second only just asked.
    at(1, 20_000 - UNANSWERED_MS, 'ok', UNANSWERED_MS + 1),
    at(1, 20_001 - UNANSWERED_MS, 'info', UNANSWERED_MS),
  ]
  assert.deepEqual(serviceOf(samples, { faults, durationMs: 20_000, nodes: 2 }), [
    { asked: 2, served: 1 },
    { asked: 3, served: 1 },
  ])
})

test('every workload sends what the checker knows, and reads back every key it has used', () => {
  for (const name of workloadNames) {
    const workload = createWorkload(name, seededRandom(7))
    const keys = new Set<string>()
    for (let at = 0; at < 5000; at++) {
      const { f, key, args } = workload.next(`c.${at}`)
      assert.equal(stringModel.refusal(f, args), undefined)
      keys.add(key)
    }
    const read = workload.final().map(({ key }) => key)
    assert.deepEqual(
      [...keys].filter((key) => !read.includes(key)),
      [],
      name,
    )
    assert.equal(new Set(read).size, read.length)
  }
})

test('the picture has every failed command, every fault by name, and no markup from outside', () => {
  const svg = drawRun({
    title: '<x> & "y"',
    durationMs: 10_000,
    nodes: ['node-1'],
    samples: [
      { node: 0, startMs: 100, endMs: 101, outcome: 'ok' },
      { node: 0, startMs: 200, endMs: 900, outcome: 'info' },
      { node: 0, startMs: 1200, endMs: 1201, outcome: 'away' },
    ],
    faults: [{ what: 'kill <all>', fromMs: 150, toMs: 800 }],
  })
  assert.ok(svg.includes('&lt;x&gt; &amp; &quot;y&quot;') && svg.includes('kill &lt;all&gt;'))
  assert.equal(svg.match(/r="1.6"/g)?.length, 2)
  // Half of the first second was served, nothing of the next.
  assert.deepEqual(
    [...svg.matchAll(/height="([\d.]+)" fill="#(?:c53030|68d391)"/g)].map(([, height]) => height),
    ['17', '17', '34', '0'],
  )
})

/** Two "nodes": number 1 listens behind a proxy and echoes, number 0 dials it with a hello. */
async function pair(context: TestContext): Promise<{
  proxy: PeerProxy
  dial: () => Socket
  /** All that number 1 was told. */
  told: () => string
}> {
  const first = await freePorts(4)
  let told = ''
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      told += data.toString('latin1')
      socket.write(data)
    })
  })
  await new Promise<void>((resolve) => server.listen(first + 3, '127.0.0.1', resolve))
  const address = (port: number) => ({ host: '127.0.0.1', port })
  const proxy = new PeerProxy(
    [
      { announced: address(first), real: address(first + 2) },
      { announced: address(first + 1), real: address(first + 3) },
    ],
    seededRandom(1),
  )
  const dialled: Socket[] = []
  context.after(() => {
    for (const socket of dialled) socket.destroy()
    proxy.close()
    server.close()
  })
  await proxy.open()
  return {
    proxy,
    dial: () => {
      const socket = connect(first + 1, '127.0.0.1')
      socket.on('error', () => {})
      socket.write(`hello from 127.0.0.1:${first};`)
      dialled.push(socket)
      return socket
    },
    told: () => told,
  }
}

test('a cut way holds what is sent on it, and the other way goes on; after the heal it arrives or breaks', async (context) => {
  const { proxy, dial, told } = await pair(context)
  const socket = dial()
  let heard = ''
  let ended = false
  socket.setEncoding('latin1').on('data', (text) => {
    heard += text
  })
  socket.on('close', () => {
    ended = true
  })
  await until('the hello comes back', () => heard.includes(';'))
  proxy.way(1, 0).cut = true
  // One echo after the other: the first would be here when the last is on its way, were the way back not cut.
  for (const word of ['one', 'two', 'three']) {
    socket.write(word)
    await until('the way there is open', () => told().includes(word))
  }
  assert.ok(heard.endsWith(';'))
  proxy.heal()
  await until('all arrives or the connection breaks', () => ended || heard.endsWith('onetwothree'))
})

test('a slow way delays by what it says', async (context) => {
  const { proxy, dial } = await pair(context)
  const socket = dial()
  let heard = ''
  socket.setEncoding('latin1').on('data', (text) => {
    heard += text
  })
  await until('the hello comes back', () => heard.includes(';'))
  Object.assign(proxy.way(0, 1), { delayMs: 120 })
  const sentAt = performance.now()
  socket.write('slow!')
  await until('it comes back', () => heard.includes('slow!'))
  assert.ok(performance.now() - sentAt >= 120)
})
