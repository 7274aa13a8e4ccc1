/*
 * The table of options: every bound on both sides, what is printed is read back, CONFIG SET as Redis has it, and
 * the rules between options.
 */

import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Config, type OptionName, optionNames, options } from '../../src/config.ts'
import { describeOptions, loadConfig } from '../../src/config-load.ts'
import { humanBytes } from '../../src/option-kinds.ts'

function load(...argv: readonly string[]): Config {
  return loadConfig({ argv, environment: {}, readFile: () => '' })
}

const MB = 1024 ** 2

/** For every option with an order: [least, one below it, most, one above it]. */
const bounds: Partial<Record<OptionName, readonly [string, string, string, string]>> = {
  port: ['1', '0', '65535', '65536'],
  'peer-port': ['1', '0', '65535', '65536'],
  maxclients: ['1', '0', '100000', '100001'],
  timeout: ['0', '-1', '2147483', '2147484'],
  'tcp-keepalive': ['0', '-1', '2147483', '2147484'],
  'proto-max-bulk-len': ['1mb', `${MB - 1}`, '512mb', `${512 * MB + 1}`],
  'client-query-buffer-limit': ['1mb', `${MB - 1}`, '1gb', `${1024 * MB + 1}`],
  'maxmemory-clients': ['1mb', `${MB - 1}`, '64gb', '65gb'],
  'slowlog-log-slower-than': ['-1', '-2', '1000000000', '1000000001'],
  'slowlog-max-len': ['0', '-1', '10000', '10001'],
  'latency-monitor-threshold': ['0', '-1', '1000000', '1000001'],
  'transaction-max-bytes': ['1mb', `${MB - 1}`, '512mb', `${512 * MB + 1}`],
  'write-work-max': ['1mb', `${MB - 1}`, '1gb', `${1024 * MB + 1}`],
  'sentinel-port': ['0', '-1', '65535', '65536'],
  'park-timeout-ms': ['0', '-1', '60000', '60001'],
  'park-bytes': ['0', '-1', '1gb', `${1024 * MB + 1}`],
  'election-timeout-ms': ['50', '49', '60000', '60001'],
  'heartbeat-interval-ms': ['10', '9', '10000', '10001'],
  'commit-timeout-ms': ['100', '99', '600000', '600001'],
  'slow-commit-ms': ['0', '-1', '600000', '600001'],
  'log-retain-max': ['1kb', '1023', '1024gb', '1025gb'],
  'snapshot-log-max': ['1kb', '1023', '1024gb', '1025gb'],
  'log-cache-size': ['1mb', `${MB - 1}`, '4gb', '5gb'],
  'log-cache-entries': ['16', '15', '1048576', '1048577'],
  'memtable-size': ['1mb', `${MB - 1}`, '4gb', '5gb'],
  'scrub-bytes-per-second': ['0', '-1', '1gb', '1025mb'],
  'digest-interval-ms': ['0', '-1', '86400000', '86400001'],
  'disk-free-min': ['0', '-1', '1024gb', '1025gb'],
  'disk-free-leader-min': ['0', '-1', '1024gb', '1025gb'],
  'maxmemory-cache': ['0', '-1', '64gb', '65gb'],
}

/** For every option without an order: what is allowed and what is not. */
const words: Partial<Record<OptionName, { good: readonly string[]; bad: readonly string[] }>> = {
  bind: {
    good: ['127.0.0.1', '127.0.0.1 -::1', '*', '::*', 'localhost', '0.0.0.0 ::'],
    bad: ['', '-::1', '1.2.3', '300.1.1.1', 'a b!', 'x '.repeat(17), '-'],
  },
  dir: { good: ['.', '/a', 'a b'], bad: ['', 'a\0b', 'x'.repeat(4097)] },
  'peer-announce': {
    good: ['h:1', '[::1]:65535'],
    bad: ['', 'h', 'h:0', 'h:65536', '::1:5', '1.2:3'],
  },
  announce: { good: ['node_1.example:6379'], bad: [':1', 'h:', 'h:x', '[h]:1', '[::1:1'] },
  cluster: {
    good: ['', 'a:1', 'a:1,b:2', 'a:1, b:2'],
    bad: ['a', 'a:1,', ',', 'a:1,A:1', Array.from({ length: 10 }, (_, i) => `h${i}:1`).join(',')],
  },
  join: { good: ['', 'a:1', 'a:1, b:2'], bad: ['a', 'a:1,', 'a:0', 'a:1,A:1'] },
  rejoin: { good: ['', 'a:1', 'a:1, b:2'], bad: ['a', 'a:1,', 'a:0', 'a:1,A:1'] },
  'peer-secret': { good: ['', 'x'.repeat(512)], bad: ['x'.repeat(513), '\0'] },
  requirepass: { good: ['', ' a "b" ', 'x'.repeat(512)], bad: ['x'.repeat(513), '\0'] },
  'protected-mode': { good: ['yes', 'NO'], bad: ['', 'true', '1'] },
  'client-output-buffer-limit': {
    good: [
      ...['normal 1gb 1gb 3600', 'NORMAL 1mb 1mb 1', 'normal 70m 64mb 60', 'normal 0 0 0'],
      ...['replica 2mb 1mb 1', 'normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60'],
    ],
    bad: [
      ...['', 'normal', 'normal 1mb 2mb 1', 'normal 2mb 1mb', 'normal 2mb 1mb 3601'],
      ...['master 2mb 1mb 1', 'normal 2mb 1mb 1 1', 'normal 1 1 1', 'normal -1 0 0'],
      ...['normal 0 0 0 pubsub 1mb 2mb 1', 'normal 2gb 1mb 1'],
    ],
  },
  'read-consistency': { good: ['linearizable', 'STALE'], bad: ['', 'strong'] },
  redirect: { good: ['forward', 'moved'], bad: ['ask'] },
  'cluster-enabled': { good: ['yes', 'no'], bad: ['', 'maybe'] },
  'close-on-step-down': { good: ['yes', 'no'], bad: ['', 'on'] },
  'sentinel-master-name': { good: ['mymaster', 'x'.repeat(512)], bad: ['x'.repeat(513), '\0'] },
  loglevel: { good: ['debug', 'verbose', 'notice', 'Warning'], bad: ['info', 'nothing'] },
  logfile: { good: ['', 'x.log'], bad: ['\0'] },
}

test('every option at its bounds, and one past them', () => {
  for (const name of optionNames) {
    const { kind } = options[name]
    const [least, below, most, above] = bounds[name] ?? []
    const good = words[name]?.good ?? [least, most]
    const bad = words[name]?.bad ?? [below, above, '', '1x', '0x10', '1.5', ' 1', '1e3', 'NaN']
    for (const text of good) {
      assert.ok(text !== undefined, `${name} has no bounds in this test`)
      assert.notEqual(kind.parse(text), undefined, `${name} ${text}`)
    }
    for (const text of bad) assert.equal(kind.parse(text ?? ''), undefined, `${name} ${text}`)
  }
})

test('what an option prints it reads back as the same value', () => {
  function roundTrip(name: OptionName, text: string): void {
    const { kind } = options[name] as {
      kind: { parse(t: string): unknown; print(v: unknown): string }
    }
    const value = kind.parse(text)
    if (value !== undefined)
      assert.deepEqual(kind.parse(kind.print(value)), value, `${name} ${text}`)
  }
  for (const name of optionNames) {
    for (const text of [...(bounds[name] ?? []), ...(words[name]?.good ?? [])])
      roundTrip(name, text)
  }
  const amount = fc.tuple(fc.nat(), fc.constantFrom('', 'b', 'k', 'KB', 'm', 'mb', 'g', 'gB'))
  const host = fc.oneof(
    fc.ipV4(),
    fc.ipV6().map((ip) => `[${ip}]`),
    fc.domain(),
  )
  const endpoint = fc
    .tuple(host, fc.integer({ min: 1, max: 65_535 }))
    .map((parts) => parts.join(':'))
  const guess = fc.oneof(
    fc.string(),
    amount.map((parts) => parts.join('')),
    fc.array(endpoint, { maxLength: 9 }).map((list) => list.join(',')),
    fc.array(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 5 }).map((list) => list.join(' -')),
    fc
      .tuple(amount, amount, fc.nat(4000))
      .map(([a, b, s]) => `normal ${a.join('')} ${b.join('')} ${s}`),
  )
  fc.assert(
    fc.property(fc.constantFrom(...optionNames), guess, (name, text) => roundTrip(name, text)),
    { numRuns: 2000 },
  )
})

test("memory takes Redis' units", () => {
  const { kind } = options['park-bytes']
  const sizes = {
    '5': 5,
    '5b': 5,
    '1k': 1000,
    '1KB': 1024,
    '2m': 2e6,
    '2mb': 2 * MB,
    '1g': 1e9,
    '1Gb': 1024 * MB,
  }
  for (const [text, size] of Object.entries(sizes)) assert.equal(kind.parse(text), size, text)
  for (const text of ['', 'kb', '1tb', '1.5mb', '-1', '1 mb'])
    assert.equal(kind.parse(text), undefined)
  assert.equal(humanBytes(64 * MB), '64mb')
  assert.equal(humanBytes(1000), '1000 bytes')
})

test('the defaults, and what follows from other options', () => {
  const config = load()
  assert.equal(config.get('port'), 6379)
  assert.equal(config.get('peer-port'), 16379)
  assert.deepEqual(config.get('bind'), [{ host: '127.0.0.1', optional: false }])
  assert.equal(config.get('announce'), '127.0.0.1:6379')
  assert.equal(config.get('peer-announce'), '127.0.0.1:16379')
  assert.equal(config.get('dir'), resolve('data'))
  assert.equal(config.get('proto-max-bulk-len'), 64 * MB)
  assert.equal(config.get('disk-free-min'), 256 * MB)
  assert.equal(config.get('disk-free-leader-min'), 192 * MB)
  assert.equal(load('--memtable-size', '1mb').get('disk-free-min'), 4 * MB)

  const other = load('--port', '7000', '--bind', '-::1', '10.0.0.7', '*')
  assert.equal(other.get('peer-announce'), '10.0.0.7:17000')
  assert.equal(other.get('announce'), '10.0.0.7:7000')
  assert.equal(load('--bind', '*').get('announce'), '127.0.0.1:6379')
  assert.equal(load('--bind', '::').get('peer-announce'), '[::1]:16379')
  assert.equal(load('--peer-announce', 'N1.example:9').get('announce'), 'n1.example:6379')
})

test('rules between options are one line that names both and where they came from', () => {
  const broken: readonly (readonly [argv: readonly string[], message: RegExp])[] = [
    [
      ['--election-timeout-ms', '100', '--heartbeat-interval-ms=40'],
      /^election-timeout-ms '100' \(command line\) and heartbeat-interval-ms '40' \(command line\); .*three heartbeats$/,
    ],
    [['--election-timeout-ms=149'], /and heartbeat-interval-ms '50' \(default\); /],
    [['--port', '7000', '--peer-port', '7000'], /different ports/],
    [['--log-retain-max', '9gb'], /snapshot-log-max '8589934592' \(default\)/],
    [['--disk-free-min', '1mb'], /disk-free-leader-min '201326592' \(default\) and disk-free-min/],
    [['--proto-max-bulk-len', '512mb'], /client-query-buffer-limit '134217728' \(default\)/],
    [
      ['--proto-max-bulk-len', '512mb', '--client-query-buffer-limit', '1gb'],
      /client-output-buffer-limit 'normal 268435456 67108864 60 slave [^']*' \(default\)/,
    ],
    [
      [
        ...['--proto-max-bulk-len', '512mb', '--client-query-buffer-limit', '1gb'],
        ...['--client-output-buffer-limit', 'normal 0 0 0'],
      ],
      /^maxmemory-clients '536870912' \(default\) and client-query-buffer-limit/,
    ],
    [['--cluster', '127.0.0.1:1,127.0.0.1:2'], /peer-announce '127.0.0.1:16379' \(default\)/],
    [
      ['--cluster', '127.0.0.1:16379,10.0.0.1:16379'],
      /10\.0\.0\.1:16379 are refused without peer-secret/,
    ],
    [['--port', '60000'], /^option peer-port: value '70000' \(default\); allowed: 1 to 65535$/],
  ]
  for (const [argv, message] of broken) {
    assert.throws(() => load(...argv), { code: 'CONFIG', message }, argv.join(' '))
  }
  load('--election-timeout-ms', '150')
  load('--cluster', '127.0.0.1:16379,10.0.0.1:16379', '--peer-secret', 's')
  load('--cluster', '127.0.0.1:16379,10.0.0.1:16379', '--protected-mode', 'no')
  load('--cluster', '127.0.0.1:16379,node-2:16379')
})

test('CONFIG GET lists every option once, secrets included', () => {
  const entries = new Map(load('--requirepass', 'x', '--bind', '127.0.0.1 -::1').entries())
  assert.deepEqual([...entries.keys()].slice(0, optionNames.length), [...optionNames])
  assert.equal(entries.get('requirepass'), 'x')
  assert.equal(entries.get('proto-max-bulk-len'), String(64 * MB))
  assert.equal(entries.get('bind'), '127.0.0.1 -::1')
  assert.equal(entries.get('protected-mode'), 'yes')
})

test('what redis-benchmark and clients ask for is answered, and cannot be changed', () => {
  const config = load()
  const entries = new Map(config.entries())
  assert.equal(entries.get('save'), '')
  assert.equal(entries.get('appendonly'), 'yes')
  const reason = "can't set immutable config"
  assert.deepEqual(config.set([['appendonly', 'no']]), { name: 'appendonly', reason })
  assert.deepEqual(config.set([['databases', '16']]), { name: 'databases', reason })
})

test('what is so in any case may be set to what it is', () => {
  const config = load()
  const [reason, before] = ["can't set immutable config", [...config.entries()]]
  assert.equal(config.set([['maxmemory-policy', 'NOEVICTION']]), undefined)
  assert.equal(config.set([['save', '']]), undefined)
  assert.deepEqual([...config.entries()], before)
  const policy = 'maxmemory-policy'
  assert.deepEqual(config.set([[policy, 'allkeys-lru']]), { name: policy, reason })
  const both = config.set([
    ['save', ''],
    ['timeout', '5'],
  ])
  assert.equal(both, undefined)
  assert.equal(config.get('timeout'), 5)
})

test('CONFIG SET looks at all names before any value, and tells them as Redis does', () => {
  const config = load()
  const immutable = "can't set immutable config"
  const duplicate = 'duplicate parameter'
  const integer = "argument couldn't be parsed into an integer"
  const cases = [
    ['TimeOut x', { name: 'timeout', reason: integer }],
    ['timeout x Foo 1', { name: 'Foo', reason: undefined }],
    ['timeout x Port 1', { name: 'Port', reason: immutable }],
    ['timeout x TIMEOUT 1', { name: 'TIMEOUT', reason: duplicate }],
    ['Save 1 SAVE 2', { name: 'SAVE', reason: duplicate }],
    ['Save 1', { name: 'save', reason: immutable }],
    ['Foo 1 Foo 2', { name: 'Foo', reason: undefined }],
    ['timeout 1 timeout 2 Foo 1', { name: 'timeout', reason: duplicate }],
    ['Foo 1 timeout 1 timeout 2', { name: 'Foo', reason: undefined }],
  ] as const
  for (const [line, refusal] of cases) {
    const words = line.split(' ')
    const changes = words.flatMap((word, at) => (at % 2 === 0 ? [[word, words[at + 1] ?? '']] : []))
    const pairs = changes.map(([name = '', value = '']) => [name, value] as const)
    assert.deepEqual(config.set(pairs), refusal, line)
  }
  assert.equal(config.set([['TIMEOUT', '7']]), undefined)
  assert.equal(config.get('timeout'), 7)
})

test('CONFIG SET says what a number lacks in the words of Redis', () => {
  const config = load()
  const cases = [
    ['maxclients', 'x', "argument couldn't be parsed into an integer"],
    ['maxclients', '1.5', "argument couldn't be parsed into an integer"],
    ['maxclients', '9223372036854775808', "argument couldn't be parsed into an integer"],
    ['maxclients', '9223372036854775807', 'argument must be between 1 and 100000 inclusive'],
    ['maxclients', '-1', 'argument must be between 1 and 100000 inclusive'],
    ['proto-max-bulk-len', '5xb', 'argument must be a memory value'],
    ['proto-max-bulk-len', '', 'argument must be a memory value'],
  ] as const
  for (const [name, value, reason] of cases) {
    assert.deepEqual(config.set([[name, value]]), { name, reason })
  }
  const small = config.set([['proto-max-bulk-len', '1']])
  assert.match(small?.reason ?? '', /^argument must be between \d+ and \d+ inclusive$/)
})

test('maxclients is no more than the system allows, now and by CONFIG SET', () => {
  const config = load()
  assert.equal(config.limitClients(10_000), false)
  assert.equal(config.limitClients(700), true)
  assert.equal(config.get('maxclients'), 700)
  assert.deepEqual(config.set([['maxclients', '701']]), {
    name: 'maxclients',
    reason:
      'The operating system is not able to handle the specified number of clients, try with 700',
  })
  assert.equal(config.set([['maxclients', '5']]), undefined)
  assert.equal(config.set([['maxclients', '700']]), undefined)
})

test('CONFIG SET changes all or nothing, and tells who watches', () => {
  const config = load()
  let calls = 0
  config.watch('timeout', () => {
    calls++
    assert.equal(config.get('timeout'), 5)
  })
  assert.deepEqual(
    config.set([
      ['timeout', '5'],
      ['port', '1'],
    ]),
    {
      name: 'port',
      reason: "can't set immutable config",
    },
  )
  assert.deepEqual(
    config.set([
      ['timeout', '5'],
      ['nothing', '1'],
    ]),
    {
      name: 'nothing',
      reason: undefined,
    },
  )
  assert.deepEqual(
    config.set([
      ['timeout', '5'],
      ['maxclients', '0'],
    ]),
    {
      name: 'maxclients',
      reason: 'argument must be between 1 and 100000 inclusive',
    },
  )
  assert.deepEqual(config.set([['protected-mode', 'x']]), {
    name: 'protected-mode',
    reason: "argument must be 'yes' or 'no'",
  })
  const rule = config.set([
    ['timeout', '5'],
    ['proto-max-bulk-len', '512mb'],
  ])
  assert.equal(rule?.name, 'proto-max-bulk-len')
  assert.equal(config.get('timeout'), 0)
  assert.equal(calls, 0)
  assert.equal(
    config.set([
      ['timeout', '5'],
      ['loglevel', 'debug'],
    ]),
    undefined,
  )
  assert.equal(calls, 1)
  assert.equal(config.get('loglevel'), 'debug')
  // Options of every object's prototype are no options of ours.
  assert.equal(config.set([['__proto__', '1']])?.reason, undefined)
  assert.equal(config.set([['constructor', '1']])?.name, 'constructor')
})

test('--help names every option with its default', () => {
  const help = describeOptions()
  for (const name of optionNames)
    assert.match(help, new RegExp(`^  --${name}  \\(default: .+\\)$`, 'm'))
  assert.match(help, /\[1mb to 512mb; CONFIG SET\]/)
})

test('CONFIG SET of one class of clients leaves the limits of the others', () => {
  const config = load('--client-output-buffer-limit', 'pubsub 2mb 1mb 9')
  const limits = (): string | undefined =>
    [...config.entries()].find(([name]) => name === 'client-output-buffer-limit')?.[1]
  const rest = 'slave 268435456 67108864 60 pubsub 2097152 1048576 9'
  assert.equal(limits(), `normal 268435456 67108864 60 ${rest}`)
  assert.equal(config.set([['client-output-buffer-limit', 'normal 0 0 0']]), undefined)
  assert.equal(limits(), `normal 0 0 0 ${rest}`)
})
