/*
 * Where options come from: redis.conf's syntax, flags, environment, who beats whom, and the one line for each
 * mistake.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Config } from '../../src/config.ts'
import { loadConfig } from '../../src/config-load.ts'
import { splitWords } from '../../src/option-sources.ts'

function load(source: {
  argv?: readonly string[]
  environment?: Readonly<Record<string, string>>
  file?: string
}): Config {
  const argv = source.file === undefined ? [] : ['holdfast.conf']
  return loadConfig({
    argv: [...argv, ...(source.argv ?? [])],
    environment: source.environment ?? {},
    readFile: () => source.file ?? '',
  })
}

test('flag beats environment beats file beats default', () => {
  const file = 'port 1111\n'
  const environment = { HOLDFAST_PORT: '2222', PORT: '9', HOLDFAST_PEER_PORT: '5' }
  assert.equal(load({}).get('port'), 6379)
  assert.equal(load({ file }).get('port'), 1111)
  assert.equal(load({ file, environment }).get('port'), 2222)
  assert.equal(load({ file, environment }).get('peer-port'), 5)
  assert.equal(load({ file, environment, argv: ['--port', '3333'] }).get('port'), 3333)
  assert.equal(load({ argv: ['--port', '1', '--PORT=4444'] }).get('port'), 4444)
})

test('a file as people write it for Redis', () => {
  const file = [
    '# a comment',
    '   ',
    'PORT 7000\r',
    '\tbind 127.0.0.1 -::1',
    'requirepass "a \\"b\\" \\x41\\n#"',
    "peer-secret 'it\\'s \\n'",
    'client-output-buffer-limit normal 512mb 128mb 30',
    'client-output-buffer-limit pubsub 64mb 32mb 10',
    'proto-max-bulk-len 1mb',
    'timeout 1',
    'timeout 2',
    'logfile ""',
  ].join('\n')
  const config = load({ file })
  assert.equal(config.file, 'holdfast.conf')
  assert.equal(config.get('port'), 7000)
  assert.deepEqual(config.get('bind'), [
    { host: '127.0.0.1', optional: false },
    { host: '::1', optional: true },
  ])
  assert.equal(config.get('requirepass'), 'a "b" A\n#')
  assert.equal(config.get('peer-secret'), "it's \\n")
  const mb = 1024 ** 2
  assert.deepEqual(config.get('client-output-buffer-limit'), {
    normal: { hardBytes: 512 * mb, softBytes: 128 * mb, softSeconds: 30 },
    slave: { hardBytes: 256 * mb, softBytes: 64 * mb, softSeconds: 60 },
    pubsub: { hardBytes: 64 * mb, softBytes: 32 * mb, softSeconds: 10 },
  })
  assert.equal(config.get('proto-max-bulk-len'), 1024 ** 2)
  assert.equal(config.get('timeout'), 2)
  assert.equal(config.get('logfile'), '')
})

test('any words survive quoting in either style', () => {
  const inDouble = (word: string): string =>
    `"${word.replace(/["\\]/g, '\\$&').replaceAll('\n', '\\n').replaceAll('\r', '\\r')}"`
  const inSingle = (word: string): string => `'${word.replaceAll("'", "\\'")}'`
  const inHex = (word: string): string =>
    `"${[...word].map((c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`).join('')}"`
  const latin = fc.string({ unit: 'binary' }).map((s) => s.replace(/[^\0-\xff]/gu, ''))
  fc.assert(
    fc.property(fc.array(latin), (words) => {
      assert.deepEqual(splitWords(words.map(inDouble).join('  ')), words)
      assert.deepEqual(splitWords(words.map(inHex).join('\t')), words)
      // A backslash before the closing quote would escape it: single quotes know no other escape.
      const plain = words.map((word) => word.replaceAll('\\', ''))
      assert.deepEqual(splitWords(plain.map(inSingle).join(' ')), plain)
    }),
  )
})

test('quotes that stay open or stick to what follows are refused', () => {
  for (const line of ['a "b', "a 'b", 'a "b"c', "a 'b'c", 'a "b\\', '"']) {
    assert.equal(splitWords(line), undefined, line)
  }
  assert.deepEqual(splitWords(''), [])
  assert.deepEqual(splitWords('a"b c"  d'), ['ab c', 'd'])
})

test('each mistake is one line: option, value, origin, what is allowed', () => {
  const mistakes: readonly (readonly [Parameters<typeof load>[0], string])[] = [
    [
      { argv: ['--prot', '1'] },
      "unknown option 'prot' with value '1' (command line); holdfast --help lists all options",
    ],
    [
      { argv: ['--port', '70000'] },
      "option port: value '70000' (command line); allowed: 1 to 65535",
    ],
    [
      { environment: { HOLDFAST_PORT: 'x' } },
      "option port: value 'x' (environment HOLDFAST_PORT); allowed: 1 to 65535",
    ],
    [
      { file: '\n\nport 1 2\n' },
      'option port: 2 values (holdfast.conf line 3); allowed: 1 to 65535',
    ],
    [{ argv: ['--port'] }, 'option port: no value (command line); allowed: 1 to 65535'],
    [{ file: 'logfile "a' }, 'holdfast.conf line 1: quotes are not balanced'],
    [
      { argv: ['--requirepass', 'x'.repeat(513)] },
      'option requirepass: value (hidden) (command line); allowed: up to 512 characters',
    ],
    [
      { environment: { HOLDFAST_REQUIREPAS: 'hunter2' } },
      "unknown option 'requirepas' with value (hidden) (environment HOLDFAST_REQUIREPAS); holdfast --help lists all options",
    ],
    [
      { argv: ['--redirect', 'a\nb'] },
      "option redirect: value 'a b' (command line); allowed: forward, moved",
    ],
    [
      { file: '#'.repeat(1_048_577) },
      "the configuration file 'holdfast.conf' is too long; allowed: 1mb",
    ],
  ]
  for (const [source, message] of mistakes) {
    assert.throws(() => load(source), { name: 'OperatorError', code: 'CONFIG', message })
  }
  assert.throws(
    () => loadConfig({ argv: ['--port', '1', 'x'], environment: {}, readFile: () => '' }),
    { message: /^option port: 2 values/ },
  )
  assert.throws(
    () =>
      loadConfig({
        argv: ['missing.conf'],
        environment: {},
        readFile() {
          throw new Error('no such file')
        },
      }),
    {
      code: 'CONFIG',
      message: "the configuration file 'missing.conf' cannot be read: no such file",
    },
  )
})

test("variables of the tests and of scripts/cluster.ts are nobody's option", () => {
  load({ environment: { HOLDFAST_REQUIRE: 'strace', HOLDFAST_STOP_WITH_STDIN: 'yes' } })
})
