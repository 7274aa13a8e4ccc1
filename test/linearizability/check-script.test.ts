/* `npm run check` as a user runs it: exit codes, words and the picture. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const SCRIPT = fileURLToPath(new URL('../../scripts/check.js', import.meta.url))
const TIMEOUT_MS = 60_000
const folder = mkdtempSync(join(tmpdir(), 'holdfast-check-'))
after(() => rmSync(folder, { recursive: true, force: true }))

interface Run {
  readonly status: number | null
  readonly out: string
  readonly err: string
}

function check(...args: readonly string[]): Run {
  const options = { encoding: 'utf8', timeout: TIMEOUT_MS } as const
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, ...args], options)
  return { status, out: stdout, err: stderr }
}

function write(name: string, events: readonly object[]): string {
  const path = join(folder, name)
  const lines = events.map((event, index) => JSON.stringify({ ...event, index, time: index * 1e6 }))
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''))
  return path
}

const set = (process: number, key: string, value: string): readonly object[] => [
  { process, type: 'invoke', f: 'set', key, value },
  { process, type: 'ok', f: 'set', key, value: 'OK' },
]
const get = (process: number, key: string, value: string | null): readonly object[] => [
  { process, type: 'invoke', f: 'get', key, value: null },
  { process, type: 'ok', f: 'get', key, value },
]

test('0 for a linearizable history', () => {
  const { status, out, err } = check(
    write('good.jsonl', [...set(1, 'k', '1'), ...get(2, 'k', '1')]),
  )
  assert.equal(status, 0, err)
  assert.equal(out, '2 operations on 1 keys (0 failed, 0 of unknown outcome)\n\nvalid\n')
})

test('1 for one that is not, with key, window and picture of each', () => {
  const keys = ['a', 'b', '\u001b[31m', 'd', 'e', 'f', 'g']
  const events = [
    ...keys.flatMap((key) => set(1, key, '1')),
    ...keys.flatMap((key) => get(2, key, null)),
  ]
  const path = write('bad.jsonl', events)
  const { status, out } = check(path)
  assert.equal(status, 1)
  assert.match(out, /^INVALID: key "a": /m)
  assert.match(out, /smallest window: 1 operation, lines 15 to 16$/m)
  assert.match(out, /process 2: GET → nil {2}fits nowhere: here it could only be answered "1"/)
  assert.match(out, /^INVALID: key "\\u001b\[31m": /m)
  assert.match(out, /^also invalid: "f", "g"$/m)
  assert.match(out, /\ninvalid\n$/)
  for (let i = 1; i <= 5; i++) {
    assert.ok(out.includes(`picture: ${path}.${i}.svg\n`))
    assert.match(readFileSync(`${path}.${i}.svg`, 'utf8'), /^<svg .*<\/svg>\n$/s)
  }
})

test('2, and one line, for what is no history', () => {
  const open = { process: 1, type: 'invoke', f: 'get', key: 'k' }
  const runs: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /^npm run check: one HISTORY\.jsonl is checked at a time, not 0\n/],
    [['a', 'b'], /^npm run check: one HISTORY/],
    [['--wrong'], /^npm run check: .*--wrong/],
    [[join(folder, 'missing')], /^check: .*missing": ENOENT.*\n$/],
    [[folder], /^check: .*: .*(not a regular file|EISDIR).*\n$/],
    [[write('empty.jsonl', [])], /^check: .*: it holds no operation\n$/],
    [[write('twice.jsonl', [open, open])], /^check: .*: line 2: process "1" invokes before.*\n$/],
  ]
  for (const [args, message] of runs) {
    const { status, out, err } = check(...args)
    assert.equal(status, 2, err)
    assert.equal(out, '')
    assert.match(err, message)
  }
})

test('3 for what could not be decided: never 0', () => {
  const unknown = Array.from({ length: 60 }, (_, process): object => {
    const value = String(1000 + 2 ** (process % 40))
    return { process, type: 'invoke', f: 'incrby', key: 'k', value }
  })
  const { status, out } = check(write('hard.jsonl', [...unknown, ...get(99, 'k', '-1')]))
  assert.equal(status, 3)
  assert.match(out, /^not decided within the limits: "k"$/m)
  assert.match(out, /\nunknown\n$/)
})
