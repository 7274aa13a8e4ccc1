/* What is remembered of commands: counts, errors, slow ones, spikes, and the lines that MONITOR shows. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { EncodedReply, ErrorReply, OK, type Reply } from '../../resp/encoder.ts'
import type { Command } from '../../src/commands/command.ts'
import { resolve } from '../../src/commands/table.ts'
import { limits } from '../../src/config.ts'
import { LatencyMonitor } from '../../src/latency-monitor.ts'
import { Slowlog } from '../../src/slowlog.ts'
import { argv, bytes, FakeServer, wire } from './command-fixture.ts'

interface Sent {
  readonly ms?: number | undefined
  readonly reply?: Reply
  readonly database?: number
}

class Fixture {
  readonly server = new FakeServer()
  readonly session = this.server.connect()
  readonly observer = this.server.observer

  command(...words: readonly (string | Uint8Array)[]): Command {
    const command = resolve(argv(words))
    assert.ok(!(command instanceof ErrorReply))
    return command
  }

  send(
    words: readonly (string | Uint8Array)[],
    { ms = 0, reply = OK, database = 0 }: Sent = {},
  ): void {
    const command = this.command(...words)
    const sent = { session: this.session, command, args: argv(words) }
    this.observer.show(sent, database)
    this.observer.answered({ ...sent, ms, reply })
  }

  counts(...words: readonly string[]) {
    const counts = this.observer.commands.get(this.command(...words))
    assert.ok(counts)
    const { calls, micros, rejected, failed } = counts
    return { calls, micros, rejected, failed }
  }
}

describe('counts', () => {
  test('calls, time, failures and refusals of each command', () => {
    const it = new Fixture()
    it.send(['GET', 'k'], { ms: 1.5 })
    it.send(['GET', 'k'], { ms: 0.5, reply: new ErrorReply('WRONGTYPE no') })
    it.send(['GET', 'k'], { ms: 0, reply: new EncodedReply(bytes('-TIMEOUT lost\r\n')) })
    it.send(['GET', 'k'], { ms: 0, reply: new EncodedReply(bytes('$1\r\nx\r\n')) })
    it.observer.rejected(it.command('GET', 'k'), new ErrorReply('NOAUTH no'))
    it.observer.rejected(undefined, new ErrorReply('ERR unknown'))
    assert.deepEqual(it.counts('GET', 'k'), { calls: 4, micros: 2000, rejected: 1, failed: 2 })
    assert.deepEqual(
      [...it.observer.errors],
      [
        ['WRONGTYPE', 1],
        ['TIMEOUT', 1],
        ['NOAUTH', 1],
        ['ERR', 1],
      ],
    )
    assert.equal(it.observer.errorReplies, 4)
    it.observer.reset()
    assert.equal(it.observer.commands.size + it.observer.errors.size + it.observer.errorReplies, 0)
  })

  test('so many codes of errors are counted one by one, the others together', () => {
    const it = new Fixture()
    for (let code = 0; code < limits.errorCodesMax + 5; code++) {
      it.observer.rejected(undefined, new ErrorReply(`E${code} x`))
    }
    assert.equal(it.observer.errors.size, limits.errorCodesMax + 1)
    assert.equal(it.observer.errors.get('others'), 5)
    it.observer.rejected(undefined, new ErrorReply('E0 x'))
    assert.equal(it.observer.errors.get('E0'), 2)
  })

  test('what ran inside a transaction has no time of its own', () => {
    const it = new Fixture()
    it.server.slowerThanMicros = 0
    const command = it.command('GET', 'k')
    it.observer.partAnswered(command, OK)
    assert.deepEqual(it.counts('GET', 'k'), { calls: 1, micros: 0, rejected: 0, failed: 0 })
    assert.equal(it.observer.commands.get(command)?.latency.count, 0)
    assert.equal(it.observer.slowlog.length, 0)
  })
})

describe('slow commands', () => {
  test('are kept from the threshold on, the latest of them, without passwords', () => {
    const it = new Fixture()
    it.session.name = 'app'
    it.send(['GET', 'fast'], { ms: 9.999 })
    it.send(['GET', 'slow'], { ms: 10 })
    it.send(['AUTH', 'secret'], { ms: 11 })
    it.send(['HELLO', '3', 'AUTH', 'default', 'secret', 'SETNAME', 'x'], { ms: 12 })
    it.send(['CONFIG', 'SET', 'requirepass', 'secret', 'timeout', '5'], { ms: 13 })
    const shown = it.observer.slowlog
      .latest(10)
      .map(({ id, micros, args }) => [
        id,
        micros,
        args.map((arg) => Buffer.from(arg).toString()).join(' '),
      ])
    assert.deepEqual(shown, [
      [3, 13_000, 'CONFIG SET requirepass (redacted) timeout 5'],
      [2, 12_000, 'HELLO 3 AUTH (redacted) (redacted) SETNAME x'],
      [1, 11_000, 'AUTH (redacted)'],
    ])
    const [latest] = it.observer.slowlog.latest(1)
    assert.deepEqual(
      [latest?.at, latest?.address, latest?.name],
      [1_700_000_000, '127.0.0.1:5000', 'app'],
    )
    it.server.slowerThanMicros = -1
    it.send(['GET', 'x'], { ms: 1e6 })
    assert.equal(it.observer.slowlog.latest(1)[0]?.id, 3)
  })

  test('of long ones as much is kept as Redis keeps', () => {
    let most = 1
    const slowlog = new Slowlog(() => most)
    const args = (count: number, length: number): Uint8Array[] =>
      Array.from({ length: count }, () => bytes('x'.repeat(length)))
    const shown = (count: number, length: number): readonly string[] => {
      const rest = { at: 0, micros: 0, address: '', name: '' }
      slowlog.add({ ...rest, args: args(count, length) })
      return slowlog.latest(1)[0]?.args.map((arg) => Buffer.from(arg).toString()) ?? []
    }
    assert.equal(shown(32, 1).length, 32)
    assert.deepEqual(shown(33, 1).slice(30), ['x', '... (2 more arguments)'])
    assert.deepEqual(shown(1, 128), ['x'.repeat(128)])
    assert.deepEqual(shown(1, 129), [`${'x'.repeat(128)}... (1 more bytes)`])
    most = 0
    assert.deepEqual(slowlog.latest(5), [])
  })

  test('however many there are in one turn, the latest are kept, as they came', () => {
    let most = 3
    const slowlog = new Slowlog(() => most)
    const add = (text: string): Uint8Array => {
      const memory = bytes(text)
      slowlog.add({ at: 0, micros: 0, args: [memory], address: '', name: '' })
      return memory
    }
    const shown = (): readonly string[] =>
      slowlog
        .latest(10)
        .map(({ id, args: [word] }) => `${id} ${Buffer.from(word ?? []).toString()}`)
    add('early')
    slowlog.settle()
    for (let at = 1; at <= 20; at++) add(`a${at}`)
    assert.deepEqual(shown(), ['20 a20', '19 a19', '18 a18'])
    const memory = add('b')
    slowlog.settle()
    memory.fill(0)
    assert.deepEqual(shown(), ['21 b', '20 a20', '19 a19'], 'settled, it owns its bytes')
    most = 1
    assert.equal(slowlog.length, 1)
    add('c')
    slowlog.clear()
    assert.deepEqual(shown(), [])
  })
})

describe('spikes', () => {
  test('of commands from the threshold on', () => {
    const it = new Fixture()
    it.send(['GET', 'k'], { ms: 50 })
    assert.equal(it.observer.latency.events.size, 0)
    it.server.latencyThresholdMs = 20
    it.send(['GET', 'k'], { ms: 19.9 })
    it.send(['GET', 'k'], { ms: 20 })
    it.send(['MSET', 'a', 'b'], { ms: 30 })
    const events = [...it.observer.latency.events].map(([name, { samples }]) => [name, samples])
    assert.deepEqual(events, [
      ['fast-command', [{ at: 1_700_000_000, ms: 20 }]],
      ['command', [{ at: 1_700_000_000, ms: 30 }]],
    ])
  })

  test('one a second, the worst of it, and of those the latest 160', () => {
    const monitor = new LatencyMonitor()
    for (const ms of [5, 9, 7]) monitor.record('e', { at: 1, ms })
    assert.deepEqual(monitor.events.get('e'), { samples: [{ at: 1, ms: 9 }], worst: 9 })
    for (let at = 2; at <= 161; at++) monitor.record('e', { at, ms: 1 })
    assert.equal(monitor.events.get('e')?.samples.length, 160)
    assert.deepEqual(monitor.events.get('e')?.samples[0], { at: 2, ms: 1 })
    assert.equal(monitor.events.get('e')?.worst, 9)
    monitor.record('f', { at: 1, ms: 1 })
    assert.deepEqual(
      [monitor.reset(['e', 'none']), monitor.reset([]), monitor.reset([])],
      [1, 1, 0],
    )
  })
})

describe('MONITOR', () => {
  function watching(it: Fixture): string[] {
    const lines: string[] = []
    const monitor = it.server.connect()
    monitor.push = (message) => lines.push(wire(message))
    it.observer.monitor(monitor)
    return lines
  }

  test('shows commands as Redis writes them, without passwords and administration', () => {
    const it = new Fixture()
    const lines = watching(it)
    it.send(['SET', 'a', 'x\0\xff\n\t"\\y'])
    it.send(['GET', 'a'], { database: 3 })
    it.send(['AUTH', 'secret'])
    it.send(['CONFIG', 'GET', '*'])
    const stamp = '+1700000000.123456'
    assert.deepEqual(lines, [
      `${stamp} [0 127.0.0.1:5000] "SET" "a" "x\\x00\\xff\\n\\t\\"\\\\y"\r\n`,
      `${stamp} [3 127.0.0.1:5000] "GET" "a"\r\n`,
      `${stamp} [0 127.0.0.1:5000] "AUTH" "(redacted)"\r\n`,
    ])
  })

  test('a line has an end, whatever the command is', () => {
    const it = new Fixture()
    const lines = watching(it)
    const most = limits.monitorLineBytesMax
    it.send(['ECHO', 'x'.repeat(10 * most)])
    it.send(['MGET', ...Array.from({ length: most }, () => 'k')])
    assert.ok(lines.every((line) => line.length < 4 * most))
    assert.match(lines[0] ?? '', /x"\.\.\. \(\d+ more bytes\)\r\n$/)
    assert.match(lines[1] ?? '', /"k" \.\.\. \(\d+ more arguments\)\r\n$/)
  })

  test('ends with the connection, and with RESET', () => {
    const it = new Fixture()
    const lines = watching(it)
    for (const session of it.server.open) it.observer.endMonitor(session)
    it.send(['GET', 'a'])
    assert.deepEqual([lines, it.observer.monitors], [[], 0])
  })
})
