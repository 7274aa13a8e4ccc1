/*
 * The pure parts of the Jepsen-style runs, and the proxy between peers: what a reply means, what a history looks like,
 * which time counts as quiet, and that a cut, a delay and a heal are what they say.
 */

import assert from 'node:assert/strict'
import { connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { ConnectionClosedError, ReplyError } from '../e2e/resp-client.ts'
import { seededRandom } from '../linearizability/simulation.ts'
import { stringModel } from '../linearizability/string-model.ts'
import { freePorts, until } from '../processes.ts'
import { quietTimes, SETTLE_MS, serviceOf } from './availability.ts'
import { drawRun } from './plot.ts'
import { PeerProxy } from './proxy.ts'
import { ednOf, outcomeOf, recordedValue } from './recorder.ts'
import { createWorkload, workloadNames } from './workloads.ts'

test('only errors that promise it mean that a command was not executed', () => {
  assert.equal(outcomeOf('OK'), 'ok')
  assert.equal(outcomeOf(null), 'ok')
  assert.equal(outcomeOf(new ReplyError('CLUSTERDOWN no leader')), 'fail')
  assert.equal(outcomeOf(new ReplyError('MOVED 1 h:1')), 'fail')
  assert.equal(outcomeOf(new ReplyError('OOM low disk')), 'fail')
  assert.equal(outcomeOf(new ReplyError('TIMEOUT outcome unknown')), 'info')
  assert.equal(outcomeOf(new ReplyError('SOMETHING new')), 'info')
  assert.equal(outcomeOf(new ConnectionClosedError('gone')), 'info')
  assert.equal(recordedValue(Buffer.from('x')), 'x')
  assert.equal(recordedValue(new ReplyError('TIMEOUT x')), 'TIMEOUT x')
  assert.throws(() => recordedValue(['a']))
})

test('events in EDN', () => {
  const event = { index: 3, time: 12, process: '1.2.0', type: 'invoke', f: 'set' } as const
  assert.equal(
    ednOf({ ...event, key: 'k', value: ['v', 'NX'] }),
    '{:index 3, :time 12, :type :invoke, :process "1.2.0", :f :set, :value ["k" ["v" "NX"]]}',
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

test('service counts what began and ended in quiet times, per node', () => {
  const faults = [{ what: 'a', fromMs: 1000, toMs: 2000 }]
  const at = (node: number, startMs: number, outcome: 'ok' | 'fail' | 'info') => ({
    node,
    startMs,
    endMs: startMs + 10,
    outcome,
  })
  const samples = [
    at(0, 100, 'ok'),
    at(0, 200, 'fail'),
    at(0, 995, 'info'),
    at(0, 1500, 'fail'),
    at(1, 2000 + SETTLE_MS, 'ok'),
    at(1, 1999 + SETTLE_MS, 'info'),
  ]
  assert.deepEqual(serviceOf(samples, { faults, durationMs: 20_000, nodes: 2 }), [
    { asked: 2, served: 1 },
    { asked: 1, served: 1 },
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
    ],
    faults: [{ what: 'kill <all>', fromMs: 150, toMs: 800 }],
  })
  assert.ok(svg.includes('&lt;x&gt; &amp; &quot;y&quot;') && svg.includes('kill &lt;all&gt;'))
  assert.equal(svg.match(/r="1.6"/g)?.length, 2)
})

/** Two "nodes": number 1 listens behind a proxy and echoes, number 0 dials it with a hello. */
async function pair(): Promise<{ proxy: PeerProxy; dial: () => Socket; close: () => void }> {
  const first = await freePorts(4)
  const server = createServer((socket) => socket.on('data', (data) => socket.write(data)))
  await new Promise<void>((resolve) => server.listen(first + 3, '127.0.0.1', resolve))
  const address = (port: number) => ({ host: '127.0.0.1', port })
  const proxy = new PeerProxy(
    [
      { announced: address(first), real: address(first + 2) },
      { announced: address(first + 1), real: address(first + 3) },
    ],
    seededRandom(1),
  )
  await proxy.open()
  return {
    proxy,
    dial: () => {
      const socket = connect(first + 1, '127.0.0.1')
      socket.on('error', () => {})
      socket.write(`hello from 127.0.0.1:${first};`)
      return socket
    },
    close: () => {
      proxy.close()
      server.close()
    },
  }
}

test('a cut way holds what is sent on it, and the other way goes on; after the heal it arrives or breaks', async () => {
  const { proxy, dial, close } = await pair()
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
  socket.write('lost?')
  const probe = dial()
  await until('the way back of a new connection is cut too', () => probe.readyState === 'open')
  proxy.way(1, 0).delayMs = 0
  assert.ok(!heard.includes('lost?'))
  proxy.heal()
  await until('it arrives or the connection breaks', () => ended || heard.includes('lost?'))
  socket.destroy()
  probe.destroy()
  close()
})

test('a slow way delays by what it says', async () => {
  const { proxy, dial, close } = await pair()
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
  socket.destroy()
  close()
})
