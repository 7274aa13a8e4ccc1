/*
 * The question "are you ready?" against servers that answer, refuse, hang, close and talk nonsense.
 */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { checkReady } from '../../src/check.ts'
import { freePorts } from '../processes.ts'

const HOST = '127.0.0.1'

async function fakeNode(context: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => {}))
    serve(socket)
  })
  server.listen(0, HOST)
  await once(server, 'listening')
  context.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** Answers once it has read `request`, in pieces as small as pieces can be. */
function answering(request: string, answer: string): (socket: Socket) => void {
  return (socket) => {
    let received = ''
    socket.setNoDelay(true).on('data', (chunk) => {
      received += chunk
      if (received !== request) return
      for (const character of answer) socket.write(character)
    })
  }
}

const READY = '*2\r\n$4\r\nRAFT\r\n$5\r\nREADY\r\n'
const AUTH = '*2\r\n$4\r\nAUTH\r\n$3\r\n\u00e9x\r\n'

test('ready, with and without a password', async (context) => {
  const open = await fakeNode(context, answering(READY, '+OK\r\n'))
  assert.equal(
    await checkReady({ host: HOST, port: open, password: '', timeoutMs: 5000 }),
    undefined,
  )
  const closed = await fakeNode(context, answering(AUTH + READY, '+OK\r\n+OK\r\n'))
  assert.equal(
    await checkReady({ host: HOST, port: closed, password: '\u00e9x', timeoutMs: 5000 }),
    undefined,
  )
})

test('ready as a member of one cluster', async (context) => {
  const request = '*3\r\n$4\r\nRAFT\r\n$5\r\nREADY\r\n$3\r\nabc\r\n'
  const port = await fakeNode(context, answering(request, '+OK\r\n'))
  const options = { host: HOST, port, password: '', clusterId: 'abc', timeoutMs: 5000 }
  assert.equal(await checkReady(options), undefined)
})

test("not ready: the node's own reason", async (context) => {
  const port = await fakeNode(context, answering(READY, '-CLUSTERDOWN no leader\r\n'))
  assert.equal(
    await checkReady({ host: HOST, port, password: '', timeoutMs: 5000 }),
    'CLUSTERDOWN no leader',
  )
  const wrong = '-WRONGPASS invalid\r\n-NOAUTH Authentication required.\r\n'
  const guarded = await fakeNode(context, answering(AUTH + READY, wrong))
  assert.equal(
    await checkReady({ host: HOST, port: guarded, password: '\u00e9x', timeoutMs: 5000 }),
    'WRONGPASS invalid',
  )
})

test('no node, a silent one, one that hangs up, one that is something else', async (context) => {
  const nobody = await freePorts(1)
  const ask = (port: number, timeoutMs = 5000): Promise<string | undefined> =>
    checkReady({ host: HOST, port, password: '', timeoutMs })
  assert.match((await ask(nobody)) ?? '', /ECONNREFUSED/)
  assert.equal(await ask(await fakeNode(context, () => {}), 100), 'no answer within 100 ms')
  assert.equal(
    await ask(await fakeNode(context, (socket) => socket.end())),
    'the connection was closed without an answer',
  )
  assert.equal(
    await ask(await fakeNode(context, answering(READY, 'HTTP/1.1 400 Bad Request\r\n'))),
    'unexpected answer "HTTP/1.1 400 Bad Request"',
  )
  const endless = await fakeNode(context, (socket) => socket.write('x'.repeat(5000)))
  assert.match((await ask(endless)) ?? '', /^unexpected answer "xxx/)
})
