/*
 * What a traced node has told others, with the moments at which it began to: replies to its clients, checkpoints in
 * its own log lines, and to its peers the votes and acknowledged entries. What was told before the power went must
 * be on the disk afterwards. It reads the node's own protocols, and knows nothing of disks.
 */

import { FrameReader, frameKinds } from '../../src/peer-frame.ts'
import { decodeMessage } from '../../storage/codec.ts'
import { CLIENT_ADDRESS } from './load.ts'
import { dataOf, descriptor, type Syscall } from './trace.ts'

export type Told =
  /** So many more replies to the client at that port. */
  | { readonly type: 'replies'; readonly at: number; readonly port: number; readonly count: number }
  /** durableAt() was at least at this entry. */
  | { readonly type: 'checkpoint'; readonly at: number; readonly index: number }
  /** A vote in this term: asked for (so its own), or granted. */
  | { readonly type: 'vote'; readonly at: number; readonly term: number; readonly own: boolean }
  /** The log is durable up to this entry, in this term. */
  | { readonly type: 'match'; readonly at: number; readonly term: number; readonly index: number }

export interface Ports {
  readonly client: number
  /** Those at which this node and the other members listen to each other. */
  readonly peers: readonly number[]
}

const PEER_MESSAGE_BYTES_MAX = 1 << 30
const NEWLINE = 10

export function toldIn(calls: readonly Syscall[], ports: Ports): Told[] {
  const listener = new Listener(ports)
  for (const call of calls) listener.add(call)
  return listener.told
}

class Listener {
  readonly told: Told[] = []
  readonly #ports: Ports
  readonly #readers = new Map<string, FrameReader>()
  #line = ''

  constructor(ports: Ports) {
    this.#ports = ports
  }

  add(call: Syscall): void {
    const named = descriptor(call.args)
    if (named === undefined || (call.result ?? 1) <= 0) return
    if (!/^(?:write|writev|sendto|sendmsg)$/.test(call.name)) return
    if (named.fd === 1) {
      this.#logged(call)
      return
    }
    const tcp = /^TCP:\[[\d.]+:(\d+)->([\d.]+):(\d+)\]/.exec(named.name)
    if (tcp === null) return
    const [own, other] = [Number(tcp[1]), Number(tcp[3])]
    if (own === this.#ports.client) {
      if (tcp[2] === CLIENT_ADDRESS) this.#replied(call, other)
    } else if (this.#ports.peers.includes(own) || this.#ports.peers.includes(other)) {
      this.#toPeer(call, named.name)
    }
  }

  #replied(call: Syscall, port: number): void {
    let count = 0
    for (const byte of sent(call)) if (byte === NEWLINE) count++
    this.told.push({ type: 'replies', at: call.began, port, count })
  }

  #logged(call: Syscall): void {
    const lines = (this.#line + sent(call).toString()).split('\n')
    this.#line = lines.pop() ?? ''
    for (const line of lines) {
      if (!line.includes('"msg":"checkpoint"')) continue
      const { index }: { index: number } = JSON.parse(line)
      this.told.push({ type: 'checkpoint', at: call.began, index })
    }
  }

  #toPeer(call: Syscall, connection: string): void {
    const reader = this.#readers.get(connection) ?? new FrameReader(PEER_MESSAGE_BYTES_MAX)
    this.#readers.set(connection, reader)
    reader.push(sent(call), (kind, bytes) => {
      if (kind === frameKinds.message) this.#message(call.began, bytes)
      return true
    })
  }

  #message(at: number, bytes: Uint8Array): void {
    const message = decodeMessage(bytes, '', '')
    const { term } = message
    switch (message.type) {
      case 'vote':
        this.told.push({ type: 'vote', at, term, own: true })
        return
      case 'vote-reply':
        if (message.granted) this.told.push({ type: 'vote', at, term, own: false })
        return
      case 'append-reply':
        this.told.push({ type: 'match', at, term, index: message.match })
    }
  }
}

/** What the call has taken of what it was given: all, for what is known, where a kill hid its return. */
function sent(call: Syscall): Buffer {
  return dataOf(call).subarray(0, call.result)
}
