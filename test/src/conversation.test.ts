/*
 * What a client can do to its connection and to others: CLIENT REPLY, PAUSE and KILL, RESET, MONITOR, READONLY, and
 * what INFO tells of it, over a frontend whose sockets and clocks are in the test's hand.
 */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { limits } from '../../src/config.ts'
import { type FakeClient, FrontendBench, resp } from './frontend-bench.ts'

class Fixture {
  readonly server: FrontendBench
  readonly client: FakeClient

  private constructor(server: FrontendBench) {
    this.server = server
    this.client = server.connect()
  }

  static async open(...config: readonly string[]): Promise<Fixture> {
    return new Fixture(await FrontendBench.open(config))
  }

  /** The replies to inline commands, all sent in one piece. */
  ask(...lines: readonly string[]): string {
    return this.askOn(this.client, ...lines)
  }

  askOn(client: FakeClient, ...lines: readonly string[]): string {
    client.ask(...lines)
    this.server.settle()
    return client.read()
  }
}

describe('CLIENT REPLY', () => {
  test('SKIP silences the next command, OFF all until ON, which is answered', async () => {
    const it = await Fixture.open()
    assert.equal(it.ask('CLIENT REPLY SKIP', 'SET k 1', 'GET k'), '$1|1|')
    assert.equal(it.ask('CLIENT REPLY OFF', 'SET k 2', 'PING', 'NOSUCH', 'GET k'), '')
    assert.equal(it.ask('CLIENT REPLY SKIP', 'GET k', 'CLIENT REPLY WHAT'), '')
    assert.equal(it.ask('CLIENT REPLY ON', 'GET k'), '+OK|$1|2|')
    assert.equal(it.ask('CLIENT REPLY SKIP', 'CLIENT REPLY ON', 'PING'), '+PONG|')
    assert.equal(it.ask('CLIENT REPLY WHAT'), '-ERR syntax error|')
  })

  test('a transaction is silent as a whole', async () => {
    const it = await Fixture.open()
    assert.equal(it.ask('CLIENT REPLY OFF', 'MULTI', 'INCR k', 'EXEC', 'CLIENT REPLY ON'), '+OK|')
    assert.equal(
      it.ask('MULTI', 'INCR k', 'CLIENT REPLY OFF', 'EXEC', 'GET k'),
      '+OK|+QUEUED|+QUEUED|*2|:2|$-1|',
    )
    assert.equal(it.ask('CLIENT REPLY ON', 'GET k'), '+OK|$1|2|')
  })

  test('RESET speaks again', async () => {
    const it = await Fixture.open()
    assert.equal(it.ask('CLIENT REPLY OFF', 'RESET', 'PING'), '+RESET|+PONG|')
  })
})

describe('CLIENT PAUSE', () => {
  test('ALL holds up every command of every connection, until its time is over', async () => {
    const it = await Fixture.open()
    const other = it.server.connect()
    assert.equal(it.ask('CLIENT PAUSE 500', 'SET k 1', 'PING'), '+OK|')
    assert.equal(it.askOn(other, 'PING', 'CLIENT UNPAUSE'), '')
    it.server.pass(499)
    it.server.settle()
    assert.equal(other.read() + it.client.read(), '')
    it.server.pass(1)
    it.server.settle()
    assert.equal(it.client.read(), '+OK|+PONG|')
    assert.equal(other.read(), '+PONG|+OK|')
  })

  test('WRITE holds up writes and what stands behind them, not reads', async () => {
    const it = await Fixture.open()
    const other = it.server.connect()
    it.ask('MULTI', 'SET k 0')
    assert.equal(it.askOn(other, 'CLIENT PAUSE 500 WRITE'), '+OK|')
    assert.equal(it.askOn(other, 'GET k', 'SET k 1', 'GET k'), '$-1|')
    assert.equal(it.ask('EXEC'), '')
    const third = it.server.connect()
    assert.equal(it.askOn(third, 'MULTI', 'GET k', 'EXEC'), '+OK|+QUEUED|*1|$-1|')
    assert.equal(it.askOn(third, 'CLIENT UNPAUSE'), '+OK|')
    it.server.settle()
    assert.equal(it.client.read(), '*1|+OK|')
    assert.match(other.read(), /^\+OK\|\$1\|[01]\|$/)
  })

  test('a longer and a stricter pause win', async () => {
    const it = await Fixture.open()
    it.ask('CLIENT PAUSE 500 WRITE')
    const other = it.server.connect()
    it.askOn(other, 'CLIENT PAUSE 100 ALL', 'PING')
    it.server.pass(499)
    assert.equal(it.ask('GET k'), '')
    it.server.pass(1)
    it.server.settle()
    assert.equal(it.client.read(), '$-1|')
  })

  test('a connection that ends while it waits is forgotten, and holds only so much input', async () => {
    const it = await Fixture.open()
    it.ask('CLIENT PAUSE 1000')
    const other = it.server.connect()
    other.send(resp('SET', 'k', 'x'.repeat(100_000)).repeat(2))
    it.server.settle()
    assert.equal(other.paused, true)
    other.destroy()
    other.closed()
    it.server.pass(1000)
    assert.equal(it.ask('EXISTS k'), ':0|')
  })

  test('refuses what Redis refuses', async () => {
    const it = await Fixture.open()
    assert.equal(
      it.ask('CLIENT PAUSE x', 'CLIENT PAUSE -1', 'CLIENT PAUSE 1 NONE', 'CLIENT PAUSE 1 ALL x'),
      '-ERR timeout is not an integer or out of range|-ERR timeout is negative|' +
        '-ERR CLIENT PAUSE mode must be WRITE or ALL|' +
        "-ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.|",
    )
  })
})

describe('CLIENT KILL', () => {
  test('in the old form, by the address', async () => {
    const it = await Fixture.open()
    const other = it.server.connect('127.0.0.1:50001')
    assert.equal(it.ask('CLIENT KILL 127.0.0.1:50002'), '-ERR No such client|')
    assert.equal(it.ask('CLIENT KILL 127.0.0.1:50001'), '+OK|')
    assert.deepEqual([other.state, it.client.state], ['destroyed', 'open'])
  })

  test('in the new form, by everything that is said at once', async () => {
    const it = await Fixture.open()
    const others = [1, 2, 3].map((port) => it.server.connect(`127.0.0.1:5000${port}`))
    const states = (): string => others.map(({ state }) => state[0]).join('')
    assert.equal(it.ask('CLIENT KILL ID 2 ADDR 127.0.0.1:50002'), ':0|')
    assert.equal(it.ask('CLIENT KILL ID 3 ADDR 127.0.0.1:50002 TYPE normal USER default'), ':1|')
    assert.equal(states(), 'odo')
    assert.equal(it.ask('CLIENT KILL TYPE pubsub', 'CLIENT KILL LADDR 127.0.0.1:1'), ':0|:0|')
    assert.equal(it.ask('CLIENT KILL TYPE normal'), ':2|')
    assert.deepEqual([states(), it.client.state], ['ddd', 'open'])
  })

  test('a connection that kills itself gets its reply first', async () => {
    const it = await Fixture.open()
    assert.equal(it.ask('CLIENT KILL ID 1 SKIPME no', 'PING'), ':1|')
    assert.equal(it.client.state, 'ended')
  })

  test('refuses what Redis refuses', async () => {
    const it = await Fixture.open()
    const refusals: readonly (readonly [string, string])[] = [
      ['ID x', '-ERR client-id should be greater than 0|'],
      ['ID 0', '-ERR client-id should be greater than 0|'],
      ['TYPE what', "-ERR Unknown client type 'what'|"],
      ['USER nobody', "-ERR No such user 'nobody'|"],
      ['SKIPME maybe', '-ERR syntax error|'],
      ['WHAT 1', '-ERR syntax error|'],
      ['ID 1 ADDR', '-ERR syntax error|'],
    ]
    for (const [words, reply] of refusals)
      assert.equal(it.ask(`CLIENT KILL ${words}`), reply, words)
  })
})

describe('switches', () => {
  test('are shown as Redis shows them', async () => {
    const it = await Fixture.open()
    it.ask('CLIENT NO-EVICT ON', 'CLIENT NO-TOUCH on', 'READONLY')
    assert.match(it.ask('CLIENT INFO'), / flags=reT /)
    it.ask(
      'CLIENT NO-EVICT off',
      'CLIENT NO-TOUCH OFF',
      'READWRITE',
      'MULTI',
      'SET k v',
      'CLIENT INFO',
    )
    assert.match(it.ask('EXEC', 'CLIENT INFO'), / flags=N /)
    it.ask('MULTI', 'SET k v')
    const other = it.server.connect()
    assert.match(it.askOn(other, 'CLIENT LIST'), /id=1 .* flags=x .* multi=1 .* multi-mem=69 /)
    assert.equal(
      it.askOn(other, 'CLIENT NO-EVICT x', 'CLIENT NO-TOUCH 1'),
      '-ERR syntax error|'.repeat(2),
    )
  })

  test('TRACKING can be turned off, CAPA is taken note of', async () => {
    const it = await Fixture.open()
    assert.equal(
      it.ask(
        'CLIENT TRACKING off',
        'CLIENT TRACKING OFF bcast',
        'CLIENT CAPA redirect',
        'CLIENT GETREDIR',
      ),
      '+OK|+OK|+OK|:-1|',
    )
    assert.match(
      it.ask('CLIENT TRACKING ON redirect 1'),
      /^-ERR CLIENT TRACKING ON is not supported/,
    )
    const wrong = ['x', 'on what', 'off what', 'on redirect', 'on prefix']
    for (const words of wrong)
      assert.equal(it.ask(`CLIENT TRACKING ${words}`), '-ERR syntax error|')
    assert.equal(
      it.ask('CLIENT TRACKINGINFO'),
      '*6|$5|flags|*1|$3|off|$8|redirect|:-1|$8|prefixes|*0|',
    )
  })

  test('of Redis Cluster are refused where it is not spoken', async () => {
    const it = await Fixture.open()
    assert.equal(it.ask('ASKING', 'READONLY', 'READWRITE'), '+OK|'.repeat(3))
    assert.equal(it.ask('CLUSTER COUNTKEYSINSLOT 1', 'CLUSTER KEYSLOT a'), ':0|:15495|')
    it.server.server.face = 'standalone'
    const all = ['INFO', 'NODES', 'SLOTS', 'SHARDS', 'MYID', 'MYSHARDID', 'LINKS', 'HELP']
    const words = [...all, 'KEYSLOT a', 'COUNTKEYSINSLOT 1', 'GETKEYSINSLOT 1 1']
    const commands = ['ASKING', 'READONLY', 'READWRITE', ...words.map((word) => `CLUSTER ${word}`)]
    const disabled = '-ERR This instance has cluster support disabled|'
    assert.equal(it.ask(...commands), disabled.repeat(commands.length))
    assert.equal(
      it.ask('MULTI', 'SET k 1', 'CLUSTER COUNTKEYSINSLOT 1', 'READONLY', 'EXEC'),
      `+OK|${'+QUEUED|'.repeat(3)}*3|+OK|${disabled.repeat(2)}`,
    )
    assert.equal(
      it.ask('CLUSTER COUNTKEYSINSLOT', 'CLUSTER NOPE'),
      "-ERR wrong number of arguments for 'cluster|countkeysinslot' command|" +
        "-ERR unknown subcommand 'NOPE'. Try CLUSTER HELP.|",
    )
    assert.match(it.ask('CLIENT INFO'), / flags=N /)
  })

  test('READONLY reads are served by a follower that redirects', async () => {
    const it = await Fixture.open()
    it.server.bench.options.redirect = 'moved'
    it.server.bench.follow('b', 2)
    assert.equal(it.ask('GET k', 'READONLY', 'GET k'), '-MOVED 7 b:6379|+OK|$-1|')
    assert.equal(it.ask('SET k 1', 'MULTI', 'GET k', 'EXEC'), '-MOVED 7 b:6379|+OK|+QUEUED|*1|$-1|')
    assert.equal(it.ask('READWRITE', 'GET k', 'ASKING'), '+OK|-MOVED 7 b:6379|+OK|')
  })
})

describe('RESET', () => {
  test('forgets the transaction, the protocol, the database and the name', async () => {
    const it = await Fixture.open()
    it.ask('HELLO 3 SETNAME me', 'SELECT 4', 'WATCH k', 'MULTI', 'SET k 1')
    assert.equal(it.ask('RESET', 'EXEC', 'CLIENT GETNAME'), '+RESET|-ERR EXEC without MULTI|$-1|')
    assert.match(it.ask('CLIENT INFO'), / name= .* db=0 .* resp=2 /)
  })

  test('takes the password back', async () => {
    const it = await Fixture.open()
    it.server.server.password = 'pw'
    const client = it.server.connect()
    assert.equal(
      it.askOn(client, 'AUTH pw', 'GET k', 'RESET', 'GET k'),
      '+OK|$-1|+RESET|-NOAUTH Authentication required.|',
    )
  })
})

describe('MONITOR', () => {
  test('shows the commands of all connections, those of a transaction when it has run', async () => {
    const it = await Fixture.open()
    const monitor = it.server.connect('127.0.0.1:50009')
    assert.equal(it.askOn(monitor, 'MONITOR'), '+OK|')
    it.ask('SET k 1', 'NOSUCH', 'MULTI', 'SELECT 2', 'GET k', 'EXEC', 'CONFIG GET x')
    const shown = [...monitor.read().matchAll(/\[(\d+) [^\]]*\] ([^|]*)\|/g)]
    assert.deepEqual(
      shown.map(([, database, words]) => `${database} ${words}`),
      ['0 "SET" "k" "1"', '0 "MULTI"', '2 "SELECT" "2"', '2 "GET" "k"', '2 "EXEC"'],
    )
    assert.match(it.ask('CLIENT LIST'), / addr=127\.0\.0\.1:50009 .* flags=O /)
  })

  test('asks for no data itself, and ends with RESET', async () => {
    const it = await Fixture.open()
    const refused = "-ERR Replica can't interact with the keyspace|"
    assert.match(
      it.ask('MONITOR', 'GET k'),
      new RegExp(`^\\+OK\\|${refused.replace(/[|]/g, '\\|')}$`),
    )
    assert.equal(it.ask('RESET', 'GET k'), '+RESET|$-1|')
    assert.equal(
      it.ask('MULTI', 'MONITOR', 'EXEC'),
      "+OK|+QUEUED|*1|-ERR MONITOR isn't allowed for DENY BLOCKING client|",
    )
  })

  test('that is not read is closed like every client', async () => {
    const it = await Fixture.open(
      ...['--proto-max-bulk-len', '1mb', '--client-output-buffer-limit', 'normal 2mb 1mb 5'],
    )
    const monitor = it.server.connect()
    it.askOn(monitor, 'MONITOR')
    monitor.window = 0
    for (let sent = 0; sent < 60 && monitor.state === 'open'; sent++) {
      it.client.send(resp('ECHO', 'x'.repeat(60_000)))
      it.server.settle()
      it.client.read()
    }
    assert.equal(monitor.state, 'destroyed')
    assert.equal(it.server.server.observer.monitors, 0)
  })
})

describe('what is refused', () => {
  test('DEBUG, also while queueing', async () => {
    const it = await Fixture.open()
    const refusal =
      /^-ERR DEBUG command not allowed\. If the enable-debug-command option is set to "local", /
    assert.match(it.ask('DEBUG SLEEP 0'), refusal)
    assert.equal(it.ask('DEBUG'), "-ERR wrong number of arguments for 'debug' command|")
    assert.match(it.ask('MULTI', 'DEBUG OBJECT k', 'EXEC'), /\|-EXECABORT Transaction discarded/)
  })

  test('a command of the connection with more arguments than allowed, whatever it is', async () => {
    const it = await Fixture.open()
    const most = limits.localArgumentsMax
    const asked = (count: number): string => `COMMAND INFO${' get'.repeat(count - 2)}`
    assert.match(it.ask(asked(most)), new RegExp(`^\\*${most - 2}\\|`))
    const refusal = `-ERR too many arguments: the limit of this command is ${most}|`
    assert.equal(it.ask(asked(most + 1)), refusal)
    assert.match(it.ask('MULTI', asked(most + 1), 'EXEC'), /limit of this command.*\|-EXECABORT /)
    // WATCH has more room, and what is read or written runs elsewhere.
    assert.equal(it.ask(`WATCH${' k'.repeat(most)}`), '+OK|')
    assert.match(it.ask(`MGET${' k'.repeat(most)}`), new RegExp(`^\\*${most}\\|`))
  })

  test('is counted: refused before it ran, or failed', async () => {
    const it = await Fixture.open()
    it.ask(
      'GET',
      'GET k',
      'NOSUCH',
      'INCR k',
      'SET k x',
      'INCR k',
      'MULTI',
      'GET k',
      'INCR k',
      'EXEC',
    )
    const { observer } = it.server.server
    const counts = Object.fromEntries(
      [...observer.commands].map(([{ name }, { calls, rejected, failed }]) => [
        name,
        [calls, rejected, failed],
      ]),
    )
    assert.deepEqual(counts, {
      get: [2, 1, 0],
      incr: [3, 0, 2],
      set: [1, 0, 0],
      multi: [1, 0, 0],
      exec: [1, 0, 0],
    })
    assert.deepEqual([...observer.errors], [['ERR', 4]])
  })
})

describe('memory of all clients', () => {
  test('those that hold most have to go, others and those of NO-EVICT stay', async () => {
    const it = await Fixture.open(
      ...['--proto-max-bulk-len', '1mb', '--client-query-buffer-limit', '2mb'],
      ...['--maxmemory-clients', '3mb', '--client-output-buffer-limit', 'normal 2mb 1mb 5'],
    )
    const part = (bytes: number): string =>
      `*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n${'x'.repeat(bytes)}`
    const [small, kept, large, largest] = [1, 2, 3, 4].map(() => it.server.connect())
    assert.ok(small && kept && large && largest)
    it.askOn(kept, 'CLIENT NO-EVICT on')
    small.send(part(100_000))
    kept.send(part(990_000))
    large.send(part(900_000))
    it.server.settle()
    largest.send(part(950_000))
    it.server.settle()
    assert.deepEqual(
      [small, kept, large, largest].map(({ state }) => state),
      Array(4).fill('open'),
    )
    assert.equal(it.server.frontend.memoryBytes, 100_000 + 990_000 + 900_000 + 950_000 + 4 * 30)
    const late = it.server.connect()
    late.send(part(300_000))
    it.server.settle()
    assert.deepEqual(
      [small, kept, large, largest, late].map(({ state }) => state),
      ['open', 'open', 'open', 'destroyed', 'open'],
    )
    assert.equal(it.server.frontend.stats.connectionsEvicted, 1)
    assert.match(it.server.warnings.at(-1) ?? '', /maxmemory-clients/)
  })

  test('is what is held: input, transactions, watched keys and replies that nobody reads', async () => {
    const it = await Fixture.open()
    assert.equal(it.server.frontend.memoryBytes, 0)
    it.ask('WATCH k', 'MULTI', 'SET k v')
    assert.equal(it.server.frontend.memoryBytes, 64 + 1 + 64 + 5)
    it.ask('DISCARD')
    assert.equal(it.server.frontend.memoryBytes, 0)
    it.client.window = 0
    it.ask('PING')
    assert.equal(it.server.frontend.memoryBytes, '+PONG\r\n'.length)
    it.client.drain()
    it.server.settle()
    assert.equal(it.server.frontend.memoryBytes, 0)
    it.client.send('*1\r\n$4\r\nPI')
    assert.equal(it.server.frontend.memoryBytes, 10)
    it.client.closed()
    assert.equal(it.server.frontend.memoryBytes, 0)
  })
})
