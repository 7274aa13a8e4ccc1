/* CONFIG REWRITE: what becomes of the lines of a file, and that a file that was rewritten means what is set. */

import assert from 'node:assert/strict'
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import fc from 'fast-check'
import type { Config } from '../../src/config.ts'
import { loadConfig } from '../../src/config-load.ts'
import { rewritten } from '../../src/config-rewrite.ts'

let dir = ''
let file = ''

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'holdfast-rewrite-'))
  file = join(dir, 'holdfast.conf')
})

afterEach(() => rmSync(dir, { recursive: true, force: true }))

function load(): Config {
  return loadConfig({
    argv: [file],
    environment: {},
    readFile: (path) => readFileSync(path, 'utf8'),
  })
}

const option = (name: string, value: string, isDefault = false) => ({
  name,
  value,
  isDefault,
  manyWords: false,
})

test('comments, order and foreign lines stay; what is set stands once; others are added below a mark', () => {
  const content = '# mine\nPort 1\n\n  # also mine\nloglevel debug\nport 2\nnot-known x\n'
  const options = [
    option('port', '3'),
    option('loglevel', 'notice', true),
    option('timeout', '0', true),
    option('requirepass', 'a "b" \\\n'),
  ]
  const once = rewritten(content, options)
  assert.equal(
    once,
    '# mine\nport 3\n\n  # also mine\nloglevel notice\nnot-known x\n' +
      '# Written by CONFIG REWRITE\nrequirepass "a \\"b\\" \\\\\\n"\n',
  )
  assert.equal(rewritten(once, options), once)
})

test('a file that was rewritten means what is set', async () => {
  writeFileSync(
    file,
    `# first line\nport 7000\ndir ${dir}\nclient-output-buffer-limit pubsub 2mb 1mb 9\n`,
  )
  const config = load()
  const changes = [
    ['requirepass', ' "x" \\ \t\n'],
    ['client-output-buffer-limit', 'normal 0 0 0'],
    ['maxmemory-clients', '600mb'],
    ['slowlog-max-len', '0'],
  ] as const
  assert.equal(config.set(changes), undefined)
  assert.equal(await config.rewrite(), undefined)
  assert.deepEqual([...load().entries()], [...config.entries()])
  assert.match(readFileSync(file, 'utf8'), /^# first line\nport 7000\n/)
  assert.deepEqual(readdirSync(dir), ['holdfast.conf'])
})

test('whatever a password is made of', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (password) => {
      fc.pre(!password.includes('\0') && password === Buffer.from(password).toString())
      writeFileSync(file, rewritten('', [option('requirepass', password)]))
      assert.equal(load().get('requirepass'), password)
    }),
    { numRuns: 300 },
  )
})

test('a link and the rights of the file stay; two at once are one after the other', async () => {
  const target = join(dir, 'elsewhere.conf')
  writeFileSync(target, 'port 7000\n')
  chmodSync(target, 0o640)
  symlinkSync(target, file)
  const config = load()
  config.set([['timeout', '5']])
  const first = config.rewrite()
  config.set([['timeout', '6']])
  assert.deepEqual(await Promise.all([first, config.rewrite()]), [undefined, undefined])
  assert.ok(lstatSync(file).isSymbolicLink())
  assert.equal(statSync(target).mode & 0o777, 0o640)
  assert.match(readFileSync(target, 'utf8'), /^timeout 6$/m)
})

test('what goes wrong is told, and the next one is tried again', async () => {
  writeFileSync(file, 'port 7000\n')
  const config = load()
  rmSync(file)
  assert.match((await config.rewrite())?.reason ?? '', /ENOENT/)
  writeFileSync(file, '')
  assert.equal(await config.rewrite(), undefined)
  const without = loadConfig({ argv: [], environment: {}, readFile: () => '' })
  assert.deepEqual(await without.rewrite(), { reason: undefined })
})
