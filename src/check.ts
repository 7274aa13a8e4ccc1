/*
 * Asks a node, as any client would, whether it could serve a linearizable read now: `holdfast --check`, and
 * scripts/cluster.ts while it waits for a leader. It reads one-line replies only and knows nothing of the server
 * behind the port.
 */

import { connect } from 'node:net'

export interface CheckOptions {
  readonly host: string
  readonly port: number
  /** '' when the server wants none. */
  readonly password: string
  /** Only a member of this cluster is ready; undefined: of any. */
  readonly clusterId?: string
  /** For the whole check, connecting included. */
  readonly timeoutMs: number
}

/** A reply line longer than this is no answer to RAFT READY. */
const REPLY_BYTES_MAX = 4096

/** Undefined: the node is ready. Otherwise one line that says why not. Never rejects. */
export function checkReady(options: CheckOptions): Promise<string | undefined> {
  const { host, port, password, clusterId, timeoutMs } = options
  const question = ['RAFT', 'READY', ...(clusterId === undefined ? [] : [clusterId])]
  const requests = [...(password === '' ? [] : [['AUTH', password]]), question]
  return new Promise((resolve) => {
    let received = ''
    const socket = connect({ host, port })
    const timer = setTimeout(() => done(`no answer within ${timeoutMs} ms`), timeoutMs)
    function done(reason: string | undefined): void {
      clearTimeout(timer)
      socket.destroy()
      resolve(reason)
    }
    socket.setEncoding('latin1')
    socket.once('connect', () => socket.write(requests.map(encodeRequest).join('')))
    socket.once('error', (error) => done(error.message === '' ? 'cannot connect' : error.message))
    socket.once('close', () => done('the connection was closed without an answer'))
    socket.on('data', (chunk: string) => {
      received += chunk
      const lines = received.split('\r\n')
      const refused = lines.slice(0, -1).find((line) => line !== '+OK')
      if (refused !== undefined) done(refused.startsWith('-') ? refused.slice(1) : odd(refused))
      else if (lines.length > requests.length) done(undefined)
      else if (received.length > REPLY_BYTES_MAX) done(odd(received))
    })
  })
}

function odd(reply: string): string {
  return `unexpected answer ${JSON.stringify(reply.slice(0, 100))}`
}

function encodeRequest(words: readonly string[]): string {
  const bulks = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`)
  return `*${words.length}\r\n${bulks.join('')}`
}
