/*
 * The reader of traces that scripts/prove-fsync.ts rests on, over traces written by hand: what is durable and when,
 * and, more important, what is not. A proof whose reader believes too much proves nothing.
 */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { temporaryDirectory } from '../processes.ts'
import { readTrace, type Trace } from './syscall-trace.ts'

const FILE = '/d/log/data.mdb'
const MARKER = '<prove:000007>'
const OPENED = [
  `10 100.000001 openat(AT_FDCWD</>, "${FILE}", O_RDWR|O_CREAT, 0664) = 26<${FILE}> <0.000010>`,
  `10 100.000020 openat(AT_FDCWD</>, "${FILE}", O_WRONLY|O_DSYNC|O_CLOEXEC) = 28<${FILE}> <0.000010>`,
]
const PAGE = `11 100.000100 pwrite64(26<${FILE}>, "\\2\\0${MARKER}\\0", 4096, 8192) = 4096 <0.000010>`
const SYNC = `11 100.000200 fdatasync(26<${FILE}>) = 0 <0.000300>`
const META = `11 100.000600 pwrite64(28<${FILE}>, "\\0\\0", 128, 40) = 128 <0.000050>`

/** Microseconds of the second in which everything happens. */
function micros(time: number | undefined): number | undefined {
  return time === undefined ? undefined : time - 100_000_000
}

function traceOf(context: TestContext, lines: readonly string[]): Promise<Trace> {
  const file = join(temporaryDirectory(context), 'trace')
  writeFileSync(file, `${lines.join('\n')}\n`)
  return readTrace(file)
}

async function durableAt(context: TestContext, ...lines: readonly string[]): Promise<unknown> {
  const trace = await traceOf(context, [...OPENED, ...lines])
  return micros(trace.durableAt(MARKER))
}

test('durable is when the meta write has returned', async (context) => {
  assert.equal(await durableAt(context, PAGE, SYNC, META), 650)
})

test('the page may be one of several of a writev', async (context) => {
  const buffers = `[{iov_base="\\3\\0", iov_len=4096}, {iov_base="${MARKER}", iov_len=4096}]`
  const page = `11 100.000100 writev(26<${FILE}>, ${buffers}, 2) = 8192 <0.000010>`
  assert.equal(await durableAt(context, page, SYNC, META), 650)
})

test('calls that other threads interrupt are put together again', async (context) => {
  const lines = [
    PAGE,
    `11 100.000200 fdatasync(26<${FILE}> <unfinished ...>`,
    '12 100.000250 write(17<pipe:[1]>, "x", 1) = 1 <0.000005>',
    '11 100.000505 <... fdatasync resumed>) = 0 <0.000300>',
    `11 100.000600 pwrite64(28<${FILE}>, "\\0\\0", 128, 40 <unfinished ...>`,
    '12 100.000620 write(17<pipe:[1]>, "x", 1) = 1 <0.000005>',
    '11 100.000655 <... pwrite64 resumed>) = 128 <0.000050>',
  ]
  assert.equal(await durableAt(context, ...lines), 650)
})

test('nothing is durable that one step is missing of', async (context) => {
  const failed = `11 100.000200 fdatasync(26<${FILE}>) = -1 EIO (Input/output error) <0.000300>`
  const buffered = `11 100.000600 pwrite64(26<${FILE}>, "\\0\\0", 128, 40) = 128 <0.000050>`
  const earlySync = `11 100.000050 fdatasync(26<${FILE}>) = 0 <0.000010>`
  const earlyMeta = `11 100.000400 pwrite64(28<${FILE}>, "\\0\\0", 128, 40) = 128 <0.000050>`
  const otherFile = '11 100.000200 fdatasync(30</d/state-1/data.mdb>) = 0 <0.000300>'
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['no page with the marker', [SYNC, META]],
    ['no flush', [PAGE, META]],
    ['no meta write', [PAGE, SYNC]],
    ['a flush that failed', [PAGE, failed, META]],
    ['a flush of another file', [PAGE, otherFile, META]],
    ['a flush before the page only', [earlySync, PAGE, META]],
    ['a meta write that began before the flush had returned', [PAGE, SYNC, earlyMeta]],
    ['a meta write without O_DSYNC', [PAGE, SYNC, buffered]],
    [
      'a meta write that never returned',
      [PAGE, SYNC, META.replace(/\) = .*/, ' <unfinished ...>')],
    ],
  ]
  for (const [name, lines] of cases) {
    assert.equal(await durableAt(context, ...lines), undefined, name)
  }
})

test('replies are found by the port of the client, from the moment they began', async (context) => {
  const socket = (port: number): string => `37<TCP:[127.0.0.1:6379->127.0.0.1:${port}]>`
  const trace = await traceOf(context, [
    `10 100.000700 write(${socket(5000)}, "+OK\\r\\n", 5) = 5 <0.000020>`,
    `10 100.000800 write(${socket(5001)}, "+OK\\r\\n", 5) = 5 <0.000020>`,
    `10 100.000900 write(${socket(5000)}, "$1\\r\\nx\\r\\n", 7) = 7 <0.000020>`,
    `10 100.001000 write(${socket(5000)}, "+OK\\r\\n", 5) = 5 <0.000020>`,
  ])
  assert.deepEqual(trace.repliesTo(5000, '+OK').map(micros), [700, 1000])
  assert.deepEqual(trace.repliesTo(5002, '+OK'), [])
})
