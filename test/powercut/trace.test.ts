/*
 * What strace prints, as this reader must take it: calls in the order of their beginnings, with the moments of both
 * ends, whatever other threads did in between, and every byte of what they wrote.
 */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { temporaryDirectory } from '../processes.ts'
import { dataOf, descriptor, readTrace, type Syscall, TraceError, unquote } from './trace.ts'

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}

test('a string is read as C writes it', () => {
  const quoted = String.raw`x"a\0b\01\0012\n\t\r\v\f\"\\\377z"...`
  const { bytes, end } = unquote(quoted, 1)
  assert.equal(text(bytes), 'a\0b\x01\x012\n\t\r\v\f"\\\xffz')
  assert.equal(quoted.slice(end), '...')
  assert.throws(() => unquote('"never ends', 0), TraceError)
})

test('a call that another thread interrupts has both its moments', async (context) => {
  const file = join(temporaryDirectory(context), 'trace')
  const lines = [
    '10 fdatasync(25</d/data.mdb> <unfinished ...>',
    String.raw`11 write(3</d/x>, "a) = 1\n", 7) = 7`,
    '10 <... fdatasync resumed>) = 0',
    '12 openat(AT_FDCWD</w>, "/d/y", O_RDWR|O_CREAT <unfinished ...>',
    '11 close(4</elsewhere>) = 0',
    '12 <... openat resumed>, 0664) = 26</d/y>',
    '11 pwrite64(25</d/data.mdb>, "zz", 2, 8 <unfinished ...>',
    '12 fsync(26</d/y> <detached ...>',
    '11 +++ killed by SIGKILL +++',
    '13 mmap(NULL, 131072, PROT_READ, MAP_SHARED, 25</d/data.mdb>, 0) = 0x7f09f007b000',
    '13 rename("/d/y", "/d/z") = -1 ENOENT (No such file or directory)',
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  const { calls, moments } = await readTrace(file, (_, beginning) => beginning.includes('/d/'))
  assert.equal(moments, 2 * lines.length)
  const told = calls.map(({ name, began, returned, result }) => [name, began, returned, result])
  assert.deepEqual(told, [
    ['fdatasync', 0, 5, 0],
    ['write', 2, 3, 7],
    ['openat', 6, 11, 26],
    ['pwrite64', 12, undefined, undefined],
    ['fsync', 14, undefined, undefined],
    ['mmap', 18, 19, 0x7f09f007b000],
    ['rename', 20, 21, -1],
  ])
  assert.equal(calls[2]?.args, 'AT_FDCWD</w>, "/d/y", O_RDWR|O_CREAT, 0664')
})

test('a line that strace does not print is refused', async (context) => {
  const file = join(temporaryDirectory(context), 'trace')
  writeFileSync(file, 'strace: something is wrong\n')
  await assert.rejects(
    readTrace(file, () => true),
    TraceError,
  )
})

test('data is that of all parts, and never a part of it', () => {
  const call = (name: string, args: string): Syscall => {
    return { name, args, began: 0, returned: 1, result: 0 }
  }
  const vector =
    '5</d/x>, [{iov_base="a\\"b", iov_len=3}, {iov_base="\\0\\0", iov_len=2}, {iov_base="", iov_len=0}], 3'
  assert.equal(text(dataOf(call('writev', vector))), 'a"b\0\0')
  assert.equal(text(dataOf(call('write', '1<pipe:[9]>, "x, \\"y", 5'))), 'x, "y')
  assert.throws(() => dataOf(call('write', '1</d/x>, "cut"..., 900')), TraceError)
})

test('a descriptor says what it stands for', () => {
  const socket = '36<TCP:[127.0.0.1:19111->127.0.0.1:33902]>, "+OK", 3'
  assert.equal(descriptor(socket)?.name, 'TCP:[127.0.0.1:19111->127.0.0.1:33902]')
  assert.deepEqual(descriptor('25</d/data.mdb>, 0'), { fd: 25, name: '/d/data.mdb', end: 15 })
  assert.equal(descriptor('NULL, 8'), undefined)
})
