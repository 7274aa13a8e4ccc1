/*
 * History files: what is read from them, and that whatever is no history is refused with its line.
 */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { historyBytes, readOperations } from './history.ts'
import type { Operation } from './operation.ts'
import { stringModel } from './string-model.ts'

const folder = mkdtempSync(join(tmpdir(), 'holdfast-history-'))
after(() => rmSync(folder, { recursive: true, force: true }))

function read(content: string | Uint8Array, keep?: (key: string) => boolean): Operation[] {
  const path = join(folder, 'history.jsonl')
  writeFileSync(path, content)
  return [...readOperations({ path, model: stringModel, ...(keep === undefined ? {} : { keep }) })]
}

function lines(...events: readonly object[]): string {
  return events.map((event) => `${JSON.stringify(event)}\n`).join('')
}

const invoke = { process: 1, type: 'invoke', f: 'get', key: 'k', time: 5 }
const ok = { process: 1, type: 'ok', f: 'get', key: 'k', value: '1', time: 9 }

test('pairs invocations with their completions', () => {
  const never = Number.POSITIVE_INFINITY
  const operations = read(
    lines(
      { index: 0, process: 0, type: 'invoke', f: 'set', key: 'k', value: ['1', 'NX'], time: 10 },
      { index: 1, process: 'b', type: 'invoke', f: 'INCR', key: 7, value: null, time: 11 },
      { index: 2, process: 'nemesis', type: 'info', f: 'kill', value: ['n1', 'n2'], time: 12 },
      { index: 3, process: 0, type: 'ok', f: 'set', value: 'OK', time: 20 },
      { index: 4, process: 'b', type: 'fail', f: 'incr', key: 7, error: 'CLUSTERDOWN', time: 20 },
      { index: 5, process: 'b', type: 'invoke', f: 'incrby', key: 7, value: 3, time: 21 },
      { index: 6, process: 0, type: 'invoke', f: 'get', time: 22 },
      { index: 8, process: 'b', type: 'info', f: 'incrby', time: 30 },
    ),
  )
  const shared = { reply: undefined, returned: never, returnedNs: never }
  assert.deepEqual(operations, [
    {
      ...{ process: '0', key: 'k', f: 'set', args: ['1', 'NX'], outcome: 'ok', reply: 'OK' },
      ...{ invoked: 1, returned: 4, invokedNs: 10, returnedNs: 20 },
    },
    {
      ...{ process: 'b', key: '7', f: 'incr', args: [], outcome: 'fail', reply: undefined },
      ...{ invoked: 2, returned: 5, invokedNs: 11, returnedNs: 20 },
    },
    {
      ...{ process: 'b', key: '7', f: 'incrby', args: ['3'], outcome: 'info' },
      ...{ invoked: 6, invokedNs: 21, ...shared },
    },
    {
      ...{ process: '0', key: '', f: 'get', args: [], outcome: 'info' },
      ...{ invoked: 7, invokedNs: 22, ...shared },
    },
  ])
})

test('keeps the operations of chosen keys only', () => {
  const events = lines(invoke, ok, { ...invoke, key: 'l', time: 10 }, { ...ok, key: 'l', time: 11 })
  assert.deepEqual(
    read(events, (key) => key === 'l').map(({ key }) => key),
    ['l'],
  )
})

test('lines of any length and any end, across the chunks of reading', () => {
  const long = 'x'.repeat(3_000_000)
  const content = [
    `\r\n${JSON.stringify(invoke)}\r\n\n`,
    `${JSON.stringify({ ...ok, value: long })}\n`,
    ...Array.from({ length: 20_000 }, (_, index) => {
      return lines(
        { ...invoke, key: `key ${index} €`, time: 10 },
        { ...ok, key: undefined, time: 10 },
      )
    }),
    JSON.stringify({ ...invoke, time: 11 }),
  ].join('')
  const operations = read(content)
  assert.equal(operations.length, 20_002)
  assert.equal(operations[0]?.reply, long)
  assert.equal(operations[20_000]?.key, 'key 19999 €')
  assert.equal(operations[20_001]?.outcome, 'info')
})

test('refuses what is no history, with the line', () => {
  const bad: readonly (readonly [string | Uint8Array, RegExp])[] = [
    ['{"process":1', /^line 1: not JSON$/],
    [lines(invoke).slice(0, -9), /^line 1: not JSON$/],
    ['7\n', /^line 1: not a JSON object$/],
    ['[]\n', /^line 1: not a JSON object$/],
    [Buffer.from([0x7b, 0xff, 0x7d]), /^line 1: not UTF-8$/],
    [lines({ ...invoke, type: 'start' }), /^line 1: its type/],
    [lines({ ...invoke, f: 7 }), /^line 1: it needs f/],
    [lines({ ...invoke, f: 'flushall' }), /^line 1: "flushall": only get, /],
    [lines({ ...invoke, value: 'x' }), /^line 1: "get": it takes 0 arguments/],
    [lines({ ...invoke, f: 'set', value: [['x']] }), /^line 1: its value must be/],
    [lines({ ...invoke, process: 1.5 }), /^line 1: its process must be/],
    [lines({ ...invoke, key: null, process: true }), /^line 1: its process must be/],
    [lines({ ...invoke, key: {} }), /^line 1: its key must be/],
    [lines({ ...invoke, time: -1 }), /^line 1: its time must be/],
    [lines({ ...invoke, index: 2 ** 53 }), /^line 1: its index must be/],
    ['{"process":1,"type":"invoke","f":"get","key":"\\ud800"}\n', /^line 1: .*surrogate/],
    [lines(invoke, { ...ok, value: undefined }), /^line 2: the value of an ok event/],
    [lines(invoke, { ...ok, value: [1] }), /^line 2: the value of an ok event/],
    [lines(invoke, { ...ok, value: 2 ** 60 }), /^line 2: the value of an ok event/],
    [lines(invoke, { ...ok, time: 4 }), /^line 2: time 4 follows 5/],
    [lines({ ...invoke, index: 1 }, { ...ok, index: 1 }), /^line 2: index 1 follows 1/],
    [lines(invoke, invoke), /^line 2: process "1" invokes before its operation of line 1/],
    [lines(ok), /^line 1: process "1" has no operation/],
    [lines(invoke, ok, ok), /^line 3: process "1" has no operation/],
    [lines(invoke, { ...ok, f: 'set' }), /^line 2: ends another operation than that of line 1/],
    [lines(invoke, { ...ok, key: 'l' }), /^line 2: ends another operation/],
    [
      lines(invoke, { ...ok, type: 'info' }, { ...invoke, time: 9 }),
      /^line 3: process "1" was lost in line 2/,
    ],
  ]
  for (const [content, message] of bad) {
    assert.throws(() => read(content), { name: 'HistoryError', code: 'HISTORY', message })
  }
})

test('a folder is no history file, and neither is what is not there', () => {
  assert.throws(() => historyBytes(folder), { code: 'HISTORY' })
  assert.throws(() => historyBytes(join(folder, 'missing')), { code: 'ENOENT' })
})
