/* What a node tells of itself beside INFO: SLOWLOG, LATENCY, MEMORY, TIME and LOLWUT, and CONFIG's other halves. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ErrorReply, OK, type Reply } from '../../resp/encoder.ts'
import { CommandError } from '../../src/commands/command.ts'
import { resolve } from '../../src/commands/table.ts'
import type { Session } from '../../src/session.ts'
import { Applied, argv, FakeServer, wire } from './command-fixture.ts'

const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`

class Fixture {
  readonly server = new FakeServer()
  readonly session: Session = this.server.connect()

  /** The reply to words that blanks divide. */
  run(line: string): string {
    return this.server.run(this.session, ...line.split(' '))
  }

  /** A command that was answered after so many ms. */
  answered(line: string, ms: number): void {
    const args = argv(line.split(' '))
    const command = resolve(args)
    assert.ok(!(command instanceof ErrorReply))
    this.server.observer.answered({ session: this.session, command, args, ms, reply: OK })
  }
}

describe('SLOWLOG', () => {
  test('entries have six fields, the latest is first', () => {
    const it = new Fixture()
    it.session.name = 'app'
    it.answered('SET a 1', 10)
    it.answered('GET a', 20.5)
    assert.equal(it.run('SLOWLOG LEN'), ':2\r\n')
    const latest =
      `*6\r\n:1\r\n:1700000000\r\n:20500\r\n*2\r\n${bulk('GET')}${bulk('a')}` +
      `${bulk('127.0.0.1:5000')}${bulk('app')}`
    assert.equal(it.run('SLOWLOG GET 1'), `*1\r\n${latest}`)
    for (const all of ['GET', 'GET -1', 'GET 9223372036854775807']) {
      assert.ok(it.run(`SLOWLOG ${all}`).startsWith(`*2\r\n${latest}*6\r\n:0\r\n`), all)
    }
    assert.equal(it.run('SLOWLOG GET 0'), '*0\r\n')
    assert.equal(it.run('SLOWLOG RESET') + it.run('SLOWLOG LEN'), '+OK\r\n:0\r\n')
  })

  test('refuses what Redis refuses', () => {
    const it = new Fixture()
    const count = '-ERR count should be greater than or equal to -1\r\n'
    for (const bad of ['x', '-2', '1.5', '']) assert.equal(it.run(`SLOWLOG GET ${bad}`), count)
    assert.equal(
      it.run('SLOWLOG get 1 2'),
      "-ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.\r\n",
    )
  })
})

describe('LATENCY', () => {
  test('LATEST, HISTORY and RESET are about spikes, from the threshold on', () => {
    const it = new Fixture()
    it.server.latencyThresholdMs = 5
    it.answered('GET a', 4)
    assert.equal(it.run('LATENCY LATEST'), '*0\r\n')
    it.answered('GET a', 9)
    it.server.wallTime += 1000
    it.answered('GET a', 6)
    const name = bulk('fast-command')
    assert.equal(it.run('LATENCY LATEST'), `*1\r\n*4\r\n${name}:1700000001\r\n:6\r\n:9\r\n`)
    assert.equal(
      it.run('LATENCY HISTORY fast-command'),
      '*2\r\n*2\r\n:1700000000\r\n:9\r\n*2\r\n:1700000001\r\n:6\r\n',
    )
    assert.match(it.run('LATENCY GRAPH fast-command'), /fast-command - high 9 ms, low 6 ms\n#_\n/)
    assert.match(it.run('LATENCY DOCTOR'), /fast-command: 2 spikes, 8 ms on average, 9 ms at worst/)
    assert.equal(it.run('LATENCY HISTORY none'), '*0\r\n')
    assert.equal(it.run('LATENCY GRAPH none'), "-ERR No samples available for event 'none'\r\n")
    assert.equal(it.run('LATENCY RESET none fast-command'), ':1\r\n')
    assert.match(it.run('LATENCY DOCTOR'), /No latency spike was seen/)
  })

  test('HISTOGRAM counts calls by how long they took, of the named commands or of all', () => {
    const it = new Fixture()
    it.session.protocol = 3
    for (const ms of [0.001, 0.003, 0.1]) it.answered('GET a', ms)
    it.answered('CLIENT ID', 0.002)
    const get = `${bulk('get')}%2\r\n${bulk('calls')}:3\r\n${bulk('histogram_usec')}%3\r\n:1\r\n:1\r\n:4\r\n:2\r\n:128\r\n:3\r\n`
    assert.equal(it.run('LATENCY HISTOGRAM GET nosuch'), `%1\r\n${get}`)
    assert.ok(it.run('LATENCY HISTOGRAM').startsWith(`%2\r\n${get}${bulk('client|id')}`))
    assert.ok(it.run('LATENCY HISTOGRAM client').startsWith(`%1\r\n${bulk('client|id')}`))
  })
})

describe('MEMORY', () => {
  test('USAGE grows with key and value; a missing key has none', () => {
    const data = new Applied()
    const usage = (...words: string[]): number =>
      Number(data.run('MEMORY', 'USAGE', ...words).slice(1))
    assert.equal(data.run('MEMORY', 'USAGE', 'k'), '$-1\r\n')
    data.run('SET', 'k', '')
    const empty = usage('k')
    data.run('SET', 'k', 'x'.repeat(100))
    assert.equal(usage('k'), empty + 100)
    assert.equal(usage('k', 'SAMPLES', '5'), empty + 100)
    data.run('EXPIRE', 'k', '100')
    assert.ok(usage('k') > empty + 110)
    data.run('SET', 'big', 'x'.repeat(100_000))
    assert.ok(usage('big') > 100_000 && usage('big') < 110_000)
    const refused: readonly (readonly [string[], string])[] = [
      [['k', 'SAMPLES'], 'syntax error'],
      [['k', 'SAMPLES', '-1'], 'syntax error'],
      [['k', 'SAMPLES', 'x'], 'value is not an integer or out of range'],
      [['k', 'WHAT', '5'], 'syntax error'],
    ]
    for (const [words, text] of refused) {
      assert.equal(data.run('MEMORY', 'USAGE', ...words), `-ERR ${text}\r\n`)
    }
  })

  test('STATS and DOCTOR tell what INFO tells, PURGE has nothing to do', () => {
    const it = new Fixture()
    it.session.protocol = 3
    const stats = it.run('MEMORY STATS')
    const { usedMemoryBytes, clientMemoryBytes } = it.server.facts
    assert.ok(stats.includes(`${bulk('total.allocated')}:${usedMemoryBytes}\r\n`))
    assert.ok(stats.includes(`${bulk('clients.normal')}:${clientMemoryBytes}\r\n`))
    assert.ok(stats.includes(`${bulk('keys.count')}:3\r\n`))
    it.server.facts = { ...it.server.facts, usedMemoryBytes: 50 * 1_048_576 }
    assert.match(it.run('MEMORY DOCTOR'), /hold 50 MiB/)
    assert.equal(it.run('MEMORY PURGE'), '+OK\r\n')
    assert.match(it.run('MEMORY MALLOC-STATS'), /Stats not supported/)
  })
})

describe('the rest', () => {
  test('TIME is the wall clock in seconds and microseconds', () => {
    assert.equal(new Fixture().run('TIME'), `*2\r\n${bulk('1700000000')}${bulk('123456')}`)
  })

  test('LOLWUT ends with the version', () => {
    const it = new Fixture()
    for (const line of ['LOLWUT', 'LOLWUT VERSION 5', 'LOLWUT x']) {
      assert.match(it.run(line), /Redis ver\. 7\.2\.4\n\r\n$/)
    }
    assert.equal(it.run('LOLWUT VERSION x'), '-ERR value is not an integer or out of range\r\n')
  })

  test('CONFIG REWRITE tells why it could not, RESETSTAT begins to count again', async () => {
    const it = new Fixture()
    const rewrite = async (): Promise<string> => {
      const args = argv(['CONFIG', 'REWRITE'])
      const command = resolve(args)
      assert.ok(!(command instanceof ErrorReply) && command.kind === 'local')
      try {
        return wire((await command.run(it.session, args, it.server)) as Reply)
      } catch (error) {
        assert.ok(error instanceof CommandError)
        return wire(error.reply)
      }
    }
    assert.equal(await rewrite(), '-ERR The server is running without a config file\r\n')
    it.server.rewriteFailure = { reason: 'EACCES' }
    assert.equal(await rewrite(), '-ERR Rewriting config file: EACCES\r\n')
    it.server.rewriteFailure = undefined
    assert.equal(await rewrite(), '+OK\r\n')
    it.answered('GET a', 1)
    assert.equal(it.run('CONFIG RESETSTAT'), '+OK\r\n')
    assert.deepEqual([it.server.resets, it.server.observer.commands.size], [1, 0])
  })
})

describe('CLIENT UNBLOCK', () => {
  test('ends the first WAIT of a connection, by its timeout or with an error', () => {
    const it = new Fixture()
    assert.equal(it.run('CLIENT UNBLOCK 1'), ':0\r\n')
    const [first, second]: readonly { end?: 'timeout' | 'error' }[] = [{}, {}]
    assert.ok(first && second)
    const { waits } = it.server.connect()
    waits.add(first).add(second)
    assert.match(it.run('CLIENT LIST'), /id=2 .* flags=b /)
    assert.equal(it.run('CLIENT UNBLOCK 2'), ':1\r\n')
    assert.deepEqual([first.end, second.end], ['timeout', undefined])
    waits.delete(first)
    assert.equal(it.run('CLIENT UNBLOCK 2 error'), ':1\r\n')
    assert.equal(second.end, 'error')
    assert.equal(
      it.run('CLIENT UNBLOCK x FOO'),
      '-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n',
    )
    assert.equal(
      it.run('CLIENT UNBLOCK 2 error x'),
      "-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.\r\n",
    )
    assert.equal(it.run('CLIENT UNBLOCK x'), '-ERR value is not an integer or out of range\r\n')
  })
})
