/*
 * Transactions of one client at a leader, commands in and bytes out: what is queued and what is not, whose replies
 * stand where, what WATCH sees, and every bound. That followers serve them alike is what router-pipelines proves.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { limits } from '../../src/config.ts'
import { CREATED_KEYS_MAX } from '../../storage/state-meta.ts'
import { type FakeClient, FrontendBench, resp } from './frontend-bench.ts'

const ABORTED = '-EXECABORT Transaction discarded because of previous errors.|'

class Fixture {
  readonly server: FrontendBench
  readonly client: FakeClient

  private constructor(server: FrontendBench) {
    this.server = server
    this.client = server.connect()
  }

  static async open(...config: readonly string[]): Promise<Fixture> {
    return new Fixture(await FrontendBench.open(config, { writeKeys: limits.writeKeysMax }))
  }

  /** The replies to inline commands, all sent in one piece. */
  ask(...lines: readonly string[]): string {
    this.client.ask(...lines)
    this.server.settle()
    return this.client.read()
  }

  /** Another connection's command. */
  other(line: string): string {
    const client = this.server.connect()
    client.ask(line)
    this.server.settle()
    client.finish()
    return client.read()
  }

  get logged(): number {
    return this.server.bench.log.length
  }
}

describe('the queue', () => {
  test('EXEC is one command of one entry, and answers with the replies in order', async () => {
    const it = await Fixture.open()
    const before = it.logged
    assert.equal(
      it.ask('MULTI', 'SET a 1', 'INCR a', 'GET a', 'SET b x', 'INCR b', 'GET none', 'EXEC'),
      `+OK|${'+QUEUED|'.repeat(6)}*6|+OK|:2|$1|2|+OK|-ERR value is not an integer or out of range|$-1|`,
    )
    assert.equal(it.logged, before + 1)
    assert.equal(it.server.bench.entry(it.logged).length, 1)
    assert.equal(it.ask('GET a', 'GET b'), '$1|2|$1|x|')
  })

  test('one that only reads is not logged', async () => {
    const it = await Fixture.open()
    it.ask('MSET a 1 b 2')
    const before = it.logged
    assert.equal(
      it.ask('MULTI', 'GET a', 'MGET b none', 'PING', 'EXEC'),
      '+OK|+QUEUED|+QUEUED|+QUEUED|*3|$1|1|*2|$1|2|$-1|+PONG|',
    )
    assert.equal(
      it.ask('MULTI', 'ECHO hi', 'EXEC', 'MULTI', 'EXEC'),
      '+OK|+QUEUED|*1|$2|hi|+OK|*0|',
    )
    assert.equal(it.logged, before)
  })

  test('whatever is refused while queueing aborts the whole, and nothing of it happens', async () => {
    const it = await Fixture.open()
    for (const bad of ['NOSUCH', 'GET', 'SHUTDOWN', 'CLIENT NOSUCH']) {
      const replies = it.ask('MULTI', 'SET a 1', bad, 'SET a 2', 'EXEC', 'GET a')
      assert.match(replies, /^\+OK\|\+QUEUED\|-ERR [^|]*\|\+QUEUED\|/, bad)
      assert.ok(replies.endsWith(`${ABORTED}$-1|`), bad)
    }
    assert.equal(
      it.ask('MULTI', 'SET a 1', 'EXEC now', 'EXEC'),
      "+OK|+QUEUED|-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command|-ERR EXEC without MULTI|",
    )
  })

  test('what cannot stand there is refused without harm to the rest', async () => {
    const it = await Fixture.open()
    assert.equal(
      it.ask('EXEC', 'DISCARD', 'MULTI', 'MULTI', 'WATCH a', 'SET a 1', 'EXEC', 'GET a'),
      '-ERR EXEC without MULTI|-ERR DISCARD without MULTI|+OK|-ERR MULTI calls can not be nested|' +
        '-ERR WATCH inside MULTI is not allowed|+QUEUED|*1|+OK|$1|1|',
    )
    assert.equal(it.ask('MULTI', 'SET a 2', 'DISCARD', 'GET a'), '+OK|+QUEUED|+OK|$1|1|')
  })

  test('QUIT ends the connection at once, and nothing is executed', async () => {
    const it = await Fixture.open()
    assert.equal(it.ask('MULTI', 'SET a 1', 'QUIT', 'EXEC'), '+OK|+QUEUED|+OK|')
    assert.equal(it.client.state, 'ended')
    assert.equal(it.other('GET a'), '$-1|')
  })

  test('as many commands as allowed, and one more', async () => {
    const it = await Fixture.open()
    const most = limits.transactionCommandsMax
    const queue = Array.from({ length: most }, () => 'INCR a')
    assert.ok(it.ask('MULTI', ...queue, 'EXEC').endsWith(`:${most - 1}|:${most}|`))
    assert.ok(
      it
        .ask('MULTI', ...queue, 'GET a', 'EXEC')
        .endsWith(`+QUEUED|-ERR a transaction may have ${most} commands at most|${ABORTED}`),
    )
    assert.equal(it.ask('GET a'), `$4|${most}|`)
  })

  test('as many keys as one command may write, and one more', async () => {
    const it = await Fixture.open()
    const keys = (count: number): string =>
      Array.from({ length: count }, (_, i) => `k${i}`).join(' ')
    const most = limits.writeKeysMax
    assert.match(it.ask('MULTI', `DEL ${keys(most - 1)}`, 'SET a 1', 'EXEC'), /\*2\|:0\|\+OK\|$/)
    const before = it.logged
    assert.match(
      it.ask('MULTI', `DEL ${keys(most)}`, 'SET a 2', 'EXEC'),
      /-ERR 5001 keys or operations are too many for one command: the limit is 5000\|$/,
    )
    assert.equal(it.logged, before)
    assert.equal(it.ask('GET a'), '$1|1|')
  })

  test('WATCH of a key that exists: SWAPDB stops EXEC, there and back it is as it was', async () => {
    const it = await Fixture.open()
    it.ask('SET a 1', 'WATCH a')
    assert.equal(it.other('SWAPDB 0 1'), '+OK|')
    assert.match(it.ask('MULTI', 'SET b 1', 'EXEC'), /\|\*-1\|$/)
    assert.equal(it.other('SWAPDB 0 1'), '+OK|')
    it.ask('WATCH a')
    it.other('SWAPDB 0 1')
    it.other('SWAPDB 0 1')
    assert.match(it.ask('MULTI', 'SET b 1', 'EXEC'), /\|\*1\|\+OK\|$/)
  })

  test('as many operations as one BITFIELD may have, and one more', async () => {
    const it = await Fixture.open()
    const most = limits.writeKeysMax
    const increments = (count: number): string[] => [
      'BITFIELD',
      'b',
      ...Array.from({ length: count }, () => ['INCRBY', 'u16', '0', '1']).flat(),
    ]
    const reads = (count: number): string[] => [
      'BITFIELD_RO',
      'b',
      ...Array.from({ length: count }, () => ['GET', 'u16', '0']).flat(),
    ]
    const send = (command: readonly string[]): string => {
      it.client.send(resp(...command))
      it.server.settle()
      return it.client.read()
    }
    assert.ok(send(increments(most)).endsWith(`:${most}|`))
    const before = it.logged
    assert.equal(
      send(increments(most + 1)),
      `-ERR ${most + 1} keys or operations are too many for one command: the limit is ${most}|`,
    )
    assert.equal(it.logged, before)
    assert.match(send(reads(most)), new RegExp(`^\\*${most}\\|:${most}\\|`))
    assert.equal(
      send(reads(most + 1)),
      `-ERR too many operations for one command: the limit is ${most}|`,
    )
  })

  test('as many arguments as allowed, and one more', async () => {
    const it = await Fixture.open()
    const most = limits.transactionArgumentsMax
    const read = (count: number): string => resp('EXISTS', ...Array(count - 1).fill('k'))
    const half = most / 2
    const one = resp('MULTI') + read(half)
    it.client.send(`${one}${read(half)}${resp('DISCARD')}`)
    it.server.settle()
    assert.equal(it.client.read(), '+OK|+QUEUED|+QUEUED|+OK|')
    it.client.send(`${one}${read(half + 1)}${resp('EXEC')}`)
    it.server.settle()
    const refusal = `-ERR the commands of a transaction may have ${most} arguments at most|`
    assert.equal(it.client.read(), `+OK|+QUEUED|${refusal}${ABORTED}`)
  })

  test('as many bytes as allowed, and one more', async () => {
    const it = await Fixture.open('--transaction-max-bytes', '1mb')
    const room = 1024 * 1024 - 64 - 'SETa'.length
    for (const [bytes, outcome] of [
      [room, '*1|+OK|'],
      [room + 1, ABORTED],
    ] as const) {
      it.client.send(resp('MULTI') + resp('SET', 'a', 'x'.repeat(bytes)) + resp('EXEC'))
      it.server.settle()
      assert.ok(it.client.read().endsWith(outcome), String(bytes))
    }
  })

  test('counts for the input of the client, which is closed when it sends ever more', async () => {
    const it = await Fixture.open(
      ...['--proto-max-bulk-len', '1mb', '--client-query-buffer-limit', '2mb'],
      ...['--transaction-max-bytes', '4mb', '--client-output-buffer-limit', 'normal 2mb 1mb 5'],
    )
    it.client.send(resp('MULTI'))
    for (let sent = 0; sent < 3 && it.client.state === 'open'; sent++) {
      it.client.send(resp('SET', 'a', 'x'.repeat(900_000)))
      it.server.settle()
    }
    assert.equal(it.client.state, 'destroyed')
    assert.match(it.server.warnings[0] ?? '', /client-query-buffer-limit/)
  })
})

describe("the connection's own commands", () => {
  test('stand where they were queued, and decide for what stands behind them', async () => {
    const it = await Fixture.open()
    const replies = it.ask(
      ...['MULTI', 'SET k zero', 'SELECT 99', 'SELECT 2', 'SET k two', 'CLIENT SETNAME me'],
      ...['GET k', 'HELLO 3', 'GET none', 'HELLO 2', 'GET none', 'EXEC'],
      ...['GET k', 'CLIENT GETNAME', 'SELECT 0', 'GET k'],
    )
    const exec = replies.slice(replies.indexOf('*10|'))
    assert.match(
      exec,
      /^\*10\|\+OK\|-ERR DB index is out of range\|\+OK\|\+OK\|\+OK\|\$3\|two\|%7\|.*\|_\|\*14\|.*\|\$-1\|/,
    )
    assert.ok(exec.endsWith('|$3|two|$2|me|+OK|$4|zero|'))
  })

  test('do not happen when the transaction does not', async () => {
    const it = await Fixture.open()
    it.ask('SET k 1', 'WATCH k')
    it.other('SET k 2')
    assert.equal(
      it.ask(
        'MULTI',
        'SELECT 5',
        'CLIENT SETNAME me',
        'SET k 3',
        'EXEC',
        'GET k',
        'CLIENT GETNAME',
      ),
      '+OK|+QUEUED|+QUEUED|+QUEUED|*-1|$1|2|$-1|',
    )
  })

  test('later commands wait for them', async () => {
    const it = await Fixture.open()
    it.client.ask('MULTI', 'SELECT 3', 'SET k 1', 'EXEC', 'SET k 2', 'ECHO done')
    it.server.begin()
    it.server.bench.apply()
    // Not started before EXEC was answered: in which database it runs is not known earlier.
    assert.equal(it.server.frontend.stats.commandsProcessed, 4)
    it.server.settle()
    assert.ok(it.client.read().endsWith('*2|+OK|+OK|+OK|$4|done|'))
    assert.equal(it.other('EXISTS k'), ':0|')
    assert.equal(it.ask('GET k'), '$1|2|')
  })
})

describe('WATCH', () => {
  test('a change makes EXEC do nothing, by whoever and whatever it was', async () => {
    const it = await Fixture.open()
    for (const change of [
      'SET k 2',
      'APPEND k x',
      'DEL k',
      'FLUSHALL',
      'SET k 1',
      'PEXPIRE k 9999',
    ]) {
      it.ask('SET k 1', 'WATCH a k')
      it.other(change)
      assert.equal(
        it.ask('MULTI', 'SET won 1', 'EXEC', 'EXISTS won'),
        '+OK|+QUEUED|*-1|:0|',
        change,
      )
    }
    it.ask('SET k 1', 'WATCH k', 'SET k 1')
    assert.equal(it.ask('MULTI', 'GET k', 'EXEC'), '+OK|+QUEUED|*-1|', 'its own change counts')
  })

  test('what changes nothing, and a change of another key or database, is none', async () => {
    const it = await Fixture.open()
    for (const harmless of ['SET k 2 NX', 'GET k', 'DEL none', 'SET other 1', 'SETNX k 1']) {
      it.ask('SET k 1', 'WATCH k none')
      it.other(harmless)
      assert.equal(it.ask('MULTI', 'GET k', 'EXEC'), '+OK|+QUEUED|*1|$1|1|', harmless)
    }
    assert.equal(
      it.ask('WATCH k', 'SELECT 1', 'SET k 2', 'MULTI', 'PING', 'EXEC').slice(-9),
      '*1|+PONG|',
    )
  })

  test('EXEC, DISCARD and UNWATCH forget the keys, an error in EXEC too', async () => {
    const it = await Fixture.open()
    for (const end of ['UNWATCH', 'MULTI\r\nDISCARD', 'MULTI\r\nEXEC', 'MULTI\r\nNOSUCH\r\nEXEC']) {
      it.ask('SET k 1', 'WATCH k')
      it.ask(end)
      it.other('SET k 2')
      assert.ok(it.ask('MULTI', 'GET k', 'EXEC').endsWith('*1|$1|2|'), end)
    }
  })

  test('a key that is created, and one whose time comes', async () => {
    const it = await Fixture.open()
    it.ask('WATCH k')
    it.other('SET k 1')
    assert.equal(it.ask('MULTI', 'PING', 'EXEC'), '+OK|+QUEUED|*-1|')
    it.ask('SET k 1 PX 50', 'WATCH k')
    it.server.pass(49)
    assert.equal(it.ask('MULTI', 'SET won 1', 'EXEC'), '+OK|+QUEUED|*1|+OK|')
    it.ask('SET k 1 PX 50', 'WATCH k')
    it.server.pass(50)
    assert.equal(it.ask('MULTI', 'SET won 1', 'EXEC'), '+OK|+QUEUED|*-1|')
    // Gone already when it is watched: that it is removed then is no change.
    it.ask('WATCH k')
    it.other('DEL k')
    assert.equal(it.ask('MULTI', 'PING', 'EXEC'), '+OK|+QUEUED|*1|+PONG|')
  })

  test('a key that was missing, came and is gone again; one that never came', async () => {
    const it = await Fixture.open()
    const exec = () => it.ask('MULTI', 'PING', 'EXEC')
    const [ran, lost] = ['+OK|+QUEUED|*1|+PONG|', '+OK|+QUEUED|*-1|']
    for (const [come, gone] of [
      ['SET k 1', 'DEL k'],
      ['SET k 1 PX 1', 'SET other 1'],
      ['SET k 1', 'FLUSHDB'],
      ['MSET other 1 k 1', 'RENAME k l'],
      ['SETNX k 1', 'MOVE k 3'],
    ]) {
      it.ask('FLUSHALL', 'WATCH k')
      it.other(come ?? '')
      it.server.pass(2)
      it.other(gone ?? '')
      assert.equal(it.ask('EXISTS k'), ':0|')
      assert.equal(exec(), lost, gone)
    }
    // In one piece, so that all of it stands in one entry.
    assert.equal(
      it.ask('SET k 1', 'DEL k', 'WATCH k', 'MULTI', 'PING', 'EXEC').slice(-9),
      '*1|+PONG|',
    )
    assert.equal(
      it.ask('WATCH k', 'SET k 1', 'DEL k', 'MULTI', 'PING', 'EXEC').slice(-5),
      '*-1|'.padStart(5, '|'),
    )
    for (const harmless of ['SET other 1', 'FLUSHALL', 'DEL k', 'GETDEL other', 'SWAPDB 2 3']) {
      it.ask('WATCH k')
      it.other(harmless)
      assert.equal(exec(), ran, harmless)
    }
    it.ask('SELECT 1', 'SET k 1', 'DEL k', 'SELECT 0', 'WATCH k')
    assert.equal(exec(), ran, 'in another database')
    it.ask('WATCH k')
    it.other('SWAPDB 0 1')
    it.other('SWAPDB 0 1')
    assert.equal(exec(), lost, 'an exchange of databases counts as a change')
  })

  test('of a missing key, as many keys may come elsewhere as are remembered, and one more is a change', async () => {
    const it = await Fixture.open()
    const keys = (from: number, count: number) =>
      Array.from({ length: count }, (_, at) => `n${from + at} 1`).join(' ')
    for (const [extra, reply] of [
      [0, '*1|+PONG|'],
      [1, '*-1|'],
    ] as const) {
      it.ask('FLUSHALL', 'WATCH k')
      const piece = CREATED_KEYS_MAX / 8
      for (let at = 0; at < 8; at++) it.other(`MSET ${keys(at * piece, piece)}`)
      if (extra > 0) it.other('SET one:more 1')
      assert.equal(it.ask('MULTI', 'PING', 'EXEC'), `+OK|+QUEUED|${reply}`)
    }
  })

  test('as many keys as allowed, and one more', async () => {
    const it = await Fixture.open()
    const keys = (from: number, count: number): string =>
      Array.from({ length: count }, (_, i) => `k${from + i}`).join(' ')
    const most = limits.watchedKeysMax
    assert.equal(it.ask(`WATCH ${keys(0, most - 1)}`, `WATCH ${keys(most - 1, 1)}`), '+OK|+OK|')
    assert.equal(
      it.ask(`WATCH ${keys(most, 1)}`),
      `-ERR a connection may watch ${most} keys at most|`,
    )
    it.other('SET k5 x')
    assert.equal(it.ask('MULTI', 'PING', 'EXEC'), '+OK|+QUEUED|*-1|')
  })
})

describe('without certainty', () => {
  test('a leader that is lost: not executed, or of unknown outcome, and the transaction is over', async () => {
    const it = await Fixture.open()
    it.client.ask('SET k 1', 'MULTI', 'SELECT 4', 'INCR k', 'EXEC')
    it.server.begin()
    it.server.bench.lose()
    it.server.pass(3000)
    it.server.bench.router.expire()
    it.server.frontend.flush()
    const replies = it.client.read()
    assert.match(replies, /-TIMEOUT [^|]*\|$/)
    it.server.bench.lead(2)
    assert.equal(it.ask('EXEC', 'CLIENT GETNAME').slice(0, 24), '-ERR EXEC without MULTI|')
  })

  test('with redirect moved a follower sends the queued command away, and EXEC is aborted', async () => {
    const it = await Fixture.open()
    it.server.bench.options.redirect = 'moved'
    it.server.bench.follow('b', 2)
    assert.equal(
      it.ask('MULTI', 'PING', 'SET k 1', 'EXEC', 'WATCH k'),
      `+OK|+QUEUED|-MOVED 7 b:6379|${ABORTED}-MOVED 7 b:6379|`,
    )
  })
})

describe('the work of one that writes', () => {
  test('its reads are as many slices as there may be, and one more is refused', async () => {
    const it = await Fixture.open()
    for (let from = 0; from < 4000; from += 500) {
      const pairs = Array.from({ length: 500 }, (_, at) => `k${from + at} v`).join(' ')
      assert.equal(it.ask(`MSET ${pairs}`), '+OK|')
    }
    // KEYS of 4,001 keys gives way four times.
    const outcome = (reads: number): string =>
      it
        .ask('MULTI', 'SET k0 v', ...Array(reads).fill('KEYS nothing*'), 'GET k1', 'EXEC')
        .replace(/^.*?\*/, '*')
    assert.equal(outcome(2), `*4|+OK|${'*0|'.repeat(2)}$1|v|`)
    const refused = '-ERR the command reads too much for a transaction; run it outside of MULTI|'
    assert.equal(outcome(4), `*6|+OK|${'*0|'.repeat(3)}${refused.repeat(2)}`)
  })

  test('a read may be given any value, and then the others find nothing left', async () => {
    const it = await Fixture.open()
    it.client.send(resp('SET', 'large', 'x'.repeat(12 * 4_194_304)))
    it.server.settle()
    const replies = it.ask('MULTI', 'SET a 1', 'BITCOUNT large 0 0', 'BITCOUNT large 0 0', 'EXEC')
    assert.match(replies, /\*3\|\+OK\|:4\|-ERR the command reads too much for a transaction/)
  })

  test('writes are refused once it has rewritten as many bytes as it may', async () => {
    const it = await Fixture.open()
    const half = limits.transactionValueBytesMax / 4
    it.client.send(resp('SET', 'large', 'x'.repeat(half)))
    it.server.settle()
    assert.equal(it.client.read().slice(-4), '+OK|')
    // Each is given the value and makes another one: two of them are all there may be, and the third is the one more.
    const edits = Array(4).fill('SETRANGE large 0 y')
    const replies = it.ask('MULTI', ...edits, 'SET small v', 'GET none', 'EXEC')
    const refused =
      '-ERR too many bytes of values were rewritten in one go; this command was not executed|'
    assert.equal(
      replies.replace(/^.*?\*/, '*'),
      `*6|${`:${half}|`.repeat(2)}${refused.repeat(2)}+OK|$-1|`,
    )
  })
})
