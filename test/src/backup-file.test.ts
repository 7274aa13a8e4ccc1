/*
 * A backup as a file: what was written is read again, and nothing else is taken for it: whatever bit is flipped, wherever
 * it is cut, whatever is repeated, left out or moved.
 */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  BACKUP_MAGIC,
  BackupParts,
  DamagedBackupError,
  framedPart,
  readBackup,
} from '../../src/backup-file.ts'
import { limits } from '../../src/config.ts'
import { encodeToReceiver, type ToReceiver } from '../../src/snapshot-messages.ts'
import { temporaryDirectory } from '../processes.ts'

const session = 1
const BEGIN: ToReceiver = { type: 'begin', session, term: 3 }
const chunk = (offset: number, text: string): ToReceiver => {
  return { type: 'chunk', session, offset, bytes: Buffer.from(text) }
}
const end = (offset: number): ToReceiver => ({ type: 'end', session, offset })
const WHOLE = [BEGIN, chunk(0, 'one'), chunk(3, 'and two'), end(10)]

function encoded(message: ToReceiver): Uint8Array {
  return Buffer.concat(encodeToReceiver(message))
}

function fileOf(messages: readonly ToReceiver[]): Buffer {
  return Buffer.concat([BACKUP_MAGIC, ...messages.map((one) => framedPart(encoded(one)))])
}

async function textIn(file: string): Promise<string> {
  let text = ''
  for await (const bytes of readBackup(file)) text += Buffer.from(bytes).toString()
  return text
}

test('brings what was written', async (context) => {
  const file = join(temporaryDirectory(context), 'backup')
  writeFileSync(file, fileOf(WHOLE))
  assert.equal(await textIn(file), 'oneand two')
  // The largest chunk there is.
  const largest = 'x'.repeat(limits.snapshotChunkBytes)
  writeFileSync(file, fileOf([BEGIN, chunk(0, largest), end(largest.length)]))
  assert.equal(await textIn(file), largest)
})

test('refuses it with any bit flipped, and cut anywhere', async (context) => {
  const file = join(temporaryDirectory(context), 'backup')
  const whole = fileOf(WHOLE)
  for (let at = 0; at < whole.length; at++) {
    writeFileSync(file, whole.subarray(0, at))
    await assert.rejects(textIn(file), DamagedBackupError, `cut at ${at}`)
    const flipped = Buffer.from(whole)
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8))
    writeFileSync(file, flipped)
    // Session and term of a part mean nothing in a file; whatever carries data or order is checked.
    const text = await textIn(file).catch((error: unknown) => {
      assert.ok(error instanceof DamagedBackupError, `flipped at ${at}: ${error}`)
      return undefined
    })
    assert.ok(text === undefined || text === 'oneand two', `flipped at ${at}: ${text}`)
  }
})

test('says what it is not', async (context) => {
  const file = join(temporaryDirectory(context), 'backup')
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [Buffer.from('some other file'), /does not begin as a backup does/],
    [
      Buffer.concat([BACKUP_MAGIC.subarray(0, -1), Buffer.of(2)]),
      /version 2, and this build knows 1/,
    ],
    [fileOf(WHOLE.slice(0, -1)), /cut off after 10 bytes/],
    [fileOf(WHOLE).subarray(0, -3), /its last part is cut off/],
    [fileOf([...WHOLE, BEGIN]), /goes on behind its end/],
    [Buffer.concat([BACKUP_MAGIC, Buffer.from([0x7f, 0, 0, 0])]), /a part of 2130706432 bytes/],
  ]
  for (const [bytes, line] of cases) {
    writeFileSync(file, bytes)
    await assert.rejects(textIn(file), line)
  }
  await assert.rejects(textIn(join(file, 'none')), { code: 'ENOTDIR' })
})

test('parts out of their order are refused', () => {
  const orders: readonly (readonly ToReceiver[])[] = [
    [chunk(0, 'one')],
    [BEGIN, BEGIN],
    [BEGIN, chunk(3, 'and two')],
    [BEGIN, chunk(0, 'one'), chunk(0, 'one')],
    [BEGIN, chunk(0, 'one'), end(10)],
    [BEGIN, { type: 'abort', session }],
    [...WHOLE, end(10)],
  ]
  for (const order of orders) {
    const parts = new BackupParts()
    for (const one of order.slice(0, -1)) parts.take(encoded(one))
    const last = order.at(-1)
    assert.ok(last !== undefined)
    assert.throws(() => parts.take(encoded(last)), DamagedBackupError, JSON.stringify(order))
  }
})
