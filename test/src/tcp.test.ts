/*
 * The ports of network.ts over real loopback sockets: what the simulated twin promises has to hold there too.
 */

import assert from 'node:assert/strict'
import { type AddressInfo, connect, createServer } from 'node:net'
import { test } from 'node:test'
import {
  type Connection,
  formatAddress,
  isLoopback,
  type Listener,
  type ListenOptions,
  parseAddress,
  sameAddress,
} from '../../src/network.ts'
import { OperatorError } from '../../src/operator-error.ts'
import { systemClock, systemTimers, TcpNetwork } from '../../src/tcp.ts'
import { eventually } from '../sim/eventually.ts'

const network = new TcpNetwork()

/** One end, with everything it was told. */
class End {
  readonly connection: Connection
  readonly chunks: Uint8Array[] = []
  opened = false
  finished = false
  drained = 0
  closed: { error: Error | undefined } | undefined

  constructor(connection: Connection) {
    this.connection = connection
    connection.start({
      opened: () => {
        this.opened = true
      },
      received: (bytes) => this.chunks.push(bytes),
      finished: () => {
        this.finished = true
      },
      drained: () => {
        this.drained++
      },
      closed: (error) => {
        assert.equal(this.closed, undefined, 'closed twice')
        this.closed = { error }
      },
    })
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString()
  }
}

async function listen(rest: Partial<ListenOptions> = {}): Promise<{
  listener: Listener
  accepted: End[]
}> {
  const accepted: End[] = []
  const listener = await network.listen(
    { host: '127.0.0.1', port: 0, connectionsMax: 10, keepAliveMs: 1_000, ...rest },
    {
      accepted: (connection) => {
        accepted.push(new End(connection))
      },
      failed: (error) => assert.fail(error),
    },
  )
  return { listener, accepted }
}

async function pair(): Promise<{ near: End; far: End; listener: Listener }> {
  const { listener, accepted } = await listen()
  const near = new End(network.dial('127.0.0.1', listener.port))
  await eventually(() => near.opened && accepted.length === 1)
  const [far] = accepted
  assert.ok(far !== undefined)
  return { near, far, listener }
}

test('bytes both ways, addresses, and an end that sends what is buffered first', async () => {
  const { near, far, listener } = await pair()
  assert.equal(near.connection.remoteAddress, `127.0.0.1:${listener.port}`)
  assert.equal(far.connection.remoteAddress, near.connection.localAddress)
  assert.equal(far.connection.localAddress, `127.0.0.1:${listener.port}`)
  assert.equal(near.connection.write(Buffer.from('to far')), true)
  far.connection.write(Buffer.from('to near'))
  await eventually(() => far.text === 'to far' && near.text === 'to near')
  const large = Buffer.alloc(5_000_000, 'x')
  assert.equal(near.connection.write(large), false)
  near.connection.end()
  assert.equal(near.connection.write(Buffer.from('too late')), false)
  await eventually(() => far.finished && near.closed !== undefined)
  assert.equal(far.text.length, 6 + large.length)
  assert.equal(near.closed?.error, undefined)
  // The other side may go on until it ends too.
  assert.equal(far.closed, undefined)
  far.connection.end()
  await eventually(() => far.closed !== undefined)
  await listener.close()
})

test('a half-closed client still gets its answers', async () => {
  const { listener, accepted } = await listen()
  const client = connect({ port: listener.port, host: '127.0.0.1', allowHalfOpen: true })
  let answer = ''
  client.on('data', (bytes) => {
    answer += bytes.toString()
  })
  client.end('question')
  await eventually(() => accepted[0]?.finished === true)
  assert.equal(accepted[0]?.text, 'question')
  accepted[0]?.connection.write(Buffer.from('answer'))
  accepted[0]?.connection.end()
  await eventually(() => answer === 'answer')
  client.destroy()
  await listener.close()
})

test('a reader that pauses is felt by the writer, and a drain follows when it resumes', async () => {
  const { near, far, listener } = await pair()
  far.connection.pause()
  const chunk = Buffer.alloc(1_048_576)
  let written = 0
  // The system takes some megabytes; what it does not take is counted.
  for (let i = 0; i < 64; i++) {
    near.connection.write(chunk)
    written += chunk.length
  }
  await eventually(() => near.connection.bufferedBytes > 0)
  assert.ok(near.connection.bufferedBytes <= written)
  assert.equal(near.drained, 0)
  far.connection.resume()
  await eventually(() => far.chunks.reduce((sum, { length }) => sum + length, 0) === written)
  await eventually(() => near.drained === 1 && near.connection.bufferedBytes === 0)
  near.connection.destroy()
  await eventually(() => far.finished || far.closed !== undefined)
  far.connection.destroy()
  await listener.close()
})

test('a dial that nobody answers closes with an error and never throws', async () => {
  const { listener } = await listen()
  const { port } = listener
  await listener.close()
  const refused = new End(network.dial('127.0.0.1', port))
  await eventually(() => refused.closed !== undefined)
  assert.match(refused.closed?.error?.message ?? '', /ECONNREFUSED/)
  assert.equal(refused.opened, false)
  assert.equal(refused.connection.write(new Uint8Array(1)), false)
})

test('a reset is an error of the connection, not of the process', async () => {
  const { listener, accepted } = await listen()
  const client = connect({ port: listener.port, host: '127.0.0.1' })
  await eventually(() => accepted.length === 1)
  client.resetAndDestroy()
  await eventually(() => accepted[0]?.closed !== undefined)
  assert.match(accepted[0]?.closed?.error?.message ?? '', /ECONNRESET/)
  await listener.close()
})

test('connections over the limit are closed as they arrive, the others live', async () => {
  const { listener, accepted } = await listen({ connectionsMax: 2 })
  const dialled = [0, 1, 2].map(() => new End(network.dial('127.0.0.1', listener.port)))
  await eventually(() => dialled.some((end) => end.finished || end.closed !== undefined))
  assert.equal(accepted.length, 2)
  for (const end of [...dialled, ...accepted]) end.connection.destroy()
  await eventually(() => accepted.every((end) => end.closed !== undefined))
  await listener.close()
})

test('a port in use, and an address of another machine, are one line for the operator', async () => {
  const blocker = createServer()
  await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve))
  const { port } = blocker.address() as AddressInfo
  const refused = (host: string, taken: number, code: string): Promise<void> =>
    assert.rejects(listen({ host, port: taken }), (error) => {
      assert.ok(error instanceof OperatorError, String(error))
      assert.equal(error.code, code)
      assert.ok(error.message.includes(formatAddress(host, taken)), error.message)
      return true
    })
  await refused('127.0.0.1', port, 'EADDRINUSE')
  await refused('192.0.2.1', 7_000, 'EADDRNOTAVAIL')
  await new Promise((resolve) => blocker.close(resolve))
})

test('clock and timers', async () => {
  const before = systemClock.monotonic()
  let fired = 0
  const cancelled = systemTimers.after(1, () => assert.fail('it was cancelled'))
  cancelled()
  cancelled()
  await new Promise<void>((resolve) => {
    systemTimers.after(5, () => {
      fired++
      resolve()
    })
    assert.equal(fired, 0)
  })
  assert.ok(systemClock.monotonic() >= before + 4)
  assert.ok(Math.abs(systemClock.wall() - Date.now()) < 1_000)
})

test('addresses are read and written in one form', () => {
  assert.deepEqual(parseAddress('Host-1.example:6379'), { host: 'host-1.example', port: 6379 })
  assert.deepEqual(parseAddress('[::1]:6379'), { host: '::1', port: 6379 })
  for (const bad of [
    '',
    'host',
    ':1',
    'host:',
    'host:0',
    'host:65536',
    'a b:1',
    '::1:1',
    'h:1:2',
  ]) {
    assert.equal(parseAddress(bad), undefined, bad)
  }
  assert.equal(formatAddress('::ffff:127.0.0.1', 5), '127.0.0.1:5')
  assert.equal(formatAddress('::1', 5), '[::1]:5')
  assert.equal(sameAddress('A:1', 'a:01'), true)
  assert.equal(sameAddress('a:1', 'a:2'), false)
  assert.equal(sameAddress('a', 'a'), false)
  for (const near of ['127.0.0.1:1', '127.255.3.4:1', '[::1]:1']) assert.ok(isLoopback(near), near)
  for (const far of ['128.0.0.1:1', '10.0.0.1:1', '127.evil.example:1', '[::2]:1', ':0']) {
    assert.ok(!isLoopback(far), far)
  }
})
