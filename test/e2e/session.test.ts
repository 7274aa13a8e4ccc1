/*
 * What a connection may do to its node and to other connections, on three real nodes: MONITOR, READONLY, CLIENT KILL,
 * PAUSE and REPLY, RESET, SLOWLOG, each through the leader and through a follower.
 */

import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs, successful } from './cluster.ts'
import { type ReplyValue, RespClient, textOf } from './resp-client.ts'

let cluster: Cluster
let leader: NodeProcess
let follower: NodeProcess
const logs = (body: () => Promise<void>) => showingLogs(() => cluster, body)

/** A connection that keeps every byte it hears. */
class Listener {
  readonly #socket: Socket
  heard = ''
  closed = false

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1')
    this.#socket.on('data', (bytes) => {
      this.heard += bytes.toString('latin1')
    })
    this.#socket.on('error', () => {})
    this.#socket.on('close', () => {
      this.closed = true
    })
  }

  async send(line: string, answer: string): Promise<void> {
    this.#socket.write(`${line}\r\n`)
    await until(`${line} to be answered`, () => this.heard.includes(answer))
  }

  close(): void {
    this.#socket.destroy()
  }
}

describe('sessions', () => {
  before(async () => {
    cluster = await Cluster.start({ nodes: 3, flags: ['--redirect', 'forward'] })
    leader = await cluster.leader()
    follower = await cluster.follower()
  })
  after(() => cluster?.end())

  test(
    'MONITOR shows a command at the node of its client, also one that is forwarded',
    logs(async () => {
      const atLeader = new Listener(leader.port)
      const atFollower = new Listener(follower.port)
      for (const one of [atLeader, atFollower]) await one.send('MONITOR', '+OK\r\n')
      successful(await follower.ask('SET', 'through', 'follower'))
      successful(await leader.ask('SET', 'through', 'leader'))
      await until('both lines', () =>
        [atLeader, atFollower].every(({ heard }) => heard.includes('"SET" "through"')),
      )
      assert.match(atLeader.heard, /"SET" "through" "leader"/)
      assert.doesNotMatch(atLeader.heard, /"follower"/)
      assert.match(atFollower.heard, /"SET" "through" "follower"/)
      assert.doesNotMatch(atFollower.heard, /"leader"/)
      for (const one of [atLeader, atFollower]) one.close()
    }),
  )

  test(
    'CLIENT KILL ends a connection in the middle of its commands, and no other one',
    logs(async () => {
      for (const node of [leader, follower]) {
        const [victim, bystander] = await Promise.all([
          RespClient.connect(node.port),
          RespClient.connect(node.port),
        ])
        const id = Number(await victim.call('CLIENT', 'ID'))
        successful(await victim.call('SET', 'counter', 0))
        // Its end may come anywhere among these: whatever was answered must have happened.
        let answered = 0
        const counting = Array.from({ length: 2000 }, () =>
          victim.call('INCR', 'counter').then(
            (reply) => {
              answered = Math.max(answered, Number(reply))
            },
            () => {},
          ),
        )
        assert.equal(await bystander.call('CLIENT', 'KILL', 'ID', id), 1)
        await Promise.all(counting)
        await victim.whenClosed()
        assert.equal(await bystander.call('CLIENT', 'KILL', 'ID', id), 0)
        assert.ok(Number(textOf(await bystander.call('GET', 'counter'))) >= answered)
        bystander.close()
      }
    }),
  )

  test(
    'CLIENT PAUSE WRITE holds up the writes of its node alone, until UNPAUSE',
    logs(async () => {
      successful(await follower.ask('CLIENT', 'PAUSE', 60_000, 'WRITE'))
      const held = await RespClient.connect(follower.port)
      let reply: ReplyValue | undefined
      const write = held.call('SET', 'held', 'yes').then((value) => {
        reply = value
      })
      successful(await leader.ask('SET', 'held', 'no'))
      assert.equal(textOf(await follower.ask('GET', 'held')), 'no')
      assert.equal(reply, undefined)
      successful(await follower.ask('CLIENT', 'UNPAUSE'))
      await write
      assert.equal(textOf(await leader.ask('GET', 'held')), 'yes')
      held.close()
    }),
  )

  test(
    'CLIENT REPLY silences commands that are forwarded too; RESET speaks again',
    logs(async () => {
      const client = new Listener(follower.port)
      await client.send('SET silent 0\r\nCLIENT REPLY OFF\r\nINCR silent\r\nGET silent', '+OK\r\n')
      await client.send('CLIENT REPLY SKIP\r\nINCR silent\r\nRESET\r\nGET silent', '$1\r\n')
      assert.equal(client.heard, '+OK\r\n+RESET\r\n$1\r\n2\r\n')
      client.close()
    }),
  )

  test(
    'SLOWLOG has what a client waited for, where it waited',
    logs(async () => {
      for (const node of [leader, follower]) {
        successful(await node.ask('CONFIG', 'SET', 'slowlog-log-slower-than', 0))
        const client = await RespClient.connect(node.port)
        successful(await client.call('CLIENT', 'SETNAME', 'slow'))
        successful(await client.call('SET', 'slow', 'x'.repeat(200)))
        const entries = (await client.call('SLOWLOG', 'GET', 1)) as ReplyValue[][]
        const [entry = []] = entries
        const [id, at, micros, words, address, name] = entry
        assert.ok(Number(id) >= 0 && Math.abs(Number(at) - Date.now() / 1000) < 10)
        assert.ok(Number(micros) > 0)
        assert.deepEqual((words as ReplyValue[]).map(textOf), [
          'SET',
          'slow',
          `${'x'.repeat(128)}... (72 more bytes)`,
        ])
        assert.equal(textOf(address ?? null), `127.0.0.1:${client.localPort}`)
        assert.equal(textOf(name ?? null), 'slow')
        successful(await node.ask('CONFIG', 'SET', 'slowlog-log-slower-than', -1))
        client.close()
      }
    }),
  )
})

test('with redirect moved a follower sends clients on, READONLY ones for writes; a leader that steps down closes them if told to', async () => {
  const moved = await Cluster.start({ nodes: 3, flags: ['--redirect', 'moved'] })
  try {
    const [first, second] = [await moved.leader(), await moved.follower()]
    successful(await first.ask('SET', '{tag}key', 'value'))
    const client = await RespClient.connect(second.port)
    const elsewhere = `-MOVED 8338 127.0.0.1:${first.port}`
    const asked = async (...words: string[]) => textOf(await client.call(...words))
    assert.equal(await asked('GET', '{tag}key'), elsewhere)
    assert.equal(await asked('READONLY'), 'OK')
    assert.equal(await asked('GET', '{tag}key'), 'value')
    successful(await first.ask('SET', '{tag}key', 'newer'))
    assert.equal(await asked('GET', '{tag}key'), 'newer')
    assert.equal(await asked('SET', '{tag}key', 'x'), elsewhere)
    assert.match(await asked('CLIENT', 'INFO'), / flags=r /)
    assert.equal(await asked('READWRITE'), 'OK')
    assert.equal(await asked('GET', '{tag}key'), elsewhere)

    // By default a leader that steps down closes nobody: its clients are told where to go.
    const [staying, leaving] = [await RespClient.connect(first.port), client]
    successful(await first.ask('RAFT', 'TRANSFER', textOf(await second.ask('CLUSTER', 'MYID'))))
    await until('the clients are sent on', async () => {
      const reply = textOf(await staying.call('SET', '{tag}key', 'x'))
      return reply === `-MOVED 8338 127.0.0.1:${second.port}`
    })
    assert.equal(await asked('SET', '{tag}key', 'newest'), 'OK')
    successful(await second.ask('CONFIG', 'SET', 'close-on-step-down', 'yes'))
    successful(await second.ask('RAFT', 'TRANSFER', textOf(await first.ask('CLUSTER', 'MYID'))))
    await until('its clients are closed', () => leaving.closed)
    assert.equal(textOf(await staying.call('GET', '{tag}key')), 'newest')
    staying.close()
  } finally {
    await moved.end()
  }
})
