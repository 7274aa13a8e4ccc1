/*
 * What the decoder promises about time and memory: announced lengths are free, large and finely cut
 * commands stay linear, and what is held costs about what was received. Memory is measured after a
 * full collection and time against work that would take many times the deadline if it were quadratic.
 */

import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Decoder } from '../../resp/decoder.ts'
import type { FramingLimits } from '../../resp/framing-guard.ts'

const MIB = 1024 * 1024
const LIMITS: FramingLimits = {
  bulkBytesMax: 64 * MIB,
  argumentsMax: 1_048_576,
  lineBytesMax: 65_536,
  unauthenticatedArgumentsMax: 10,
  unauthenticatedBulkBytesMax: 16_384,
}

/** Latin1 text stands for bytes, so that expected values can be written down. */
function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

/** What is left of the heap and of buffers after a full collection, in bytes. */
function retainedBytes(): number {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  collect()
  collect()
  const usage = process.memoryUsage()
  return usage.heapUsed + usage.arrayBuffers
}

test('announced lengths cost nothing on 1,000 connections', () => {
  const before = retainedBytes()
  const decoders = Array.from({ length: 1_000 }, () => {
    const decoder = new Decoder(LIMITS, true)
    decoder.push(bytes(`*${LIMITS.argumentsMax}\r\n$${LIMITS.bulkBytesMax}\r\nx`))
    assert.equal(decoder.next(), undefined)
    return decoder
  })
  const each = (retainedBytes() - before) / decoders.length
  assert.ok(each < 4_096, `${each} bytes each`)
})

test('64 MiB in chunks of 64 KiB: linear in time, bounded in memory', () => {
  const chunk = Buffer.alloc(65_536, 'v')
  const decoder = new Decoder(LIMITS, true)
  const before = retainedBytes()
  const start = performance.now()
  decoder.push(bytes('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\n'))
  for (let i = 0; i < 1_024; i++) {
    decoder.push(Buffer.from(chunk))
    assert.equal(decoder.next(), undefined)
    if (i === 600) assert.ok(retainedBytes() - before < 2 * 601 * 65_536 + MIB)
    /* From three quarters on there is a block for all of it, and four times as much goes as comes. */
    if (i === 766) assert.ok(retainedBytes() - before < 1.1 * 767 * 65_536 + MIB)
    if (i === 780) assert.ok(retainedBytes() - before < 2.4 * 781 * 65_536 + MIB)
  }
  decoder.push(bytes('\r\n*1\r\n$4\r\nPING\r\n'))
  const command = decoder.next()
  /* Copying all that is held at each chunk would move 32 GiB. */
  assert.ok(performance.now() - start < 4_000)
  assert.equal(command?.[2]?.length, 64 * MIB)
  const retained = retainedBytes() - before
  assert.ok(retained < 65 * MIB, `${retained} bytes retained`)
  for (let i = 0; i < 1_024; i++) {
    assert.equal(chunk.compare(command[2], i * 65_536, (i + 1) * 65_536), 0)
  }
  assert.equal(String(decoder.next()?.[0]), 'PING')
})

test('a large argument that is not the last one is put together a MiB at a time', () => {
  const value = 8 * MIB
  const decoder = new Decoder(LIMITS, true)
  decoder.push(bytes(`*5\r\n$4\r\nMSET\r\n$1\r\nk\r\n$${value}\r\n`))
  for (let at = 0; at < value; at += 65_536) decoder.push(Buffer.alloc(65_536, 'v'))
  assert.equal(decoder.next(), undefined)
  assert.ok(!decoder.gaveWay)
  decoder.push(bytes('\r\n$1\r\nl\r\n$1\r\nw\r\n'))
  let steps = 1
  let command = decoder.next()
  for (; command === undefined; command = decoder.next(), steps++) {
    assert.ok(decoder.gaveWay)
    assert.ok(decoder.unfinishedBytes > value)
  }
  assert.equal(steps, 8)
  assert.equal(decoder.unfinishedBytes, 0)
  assert.deepEqual(command.map(String), ['MSET', 'k', 'v'.repeat(value), 'l', 'w'])
})

test('a command of many arguments in small chunks is linear in time', () => {
  const count = 200_000
  const stream = bytes(`*${count}\r\n${'$3\r\nabc\r\n'.repeat(count)}`)
  const decoder = new Decoder(LIMITS, true)
  const start = performance.now()
  let command: Buffer[] | undefined
  for (let at = 0; at < stream.length; at += 100) {
    decoder.push(Buffer.from(stream.subarray(at, at + 100)))
    command = decoder.next()
  }
  /* Copying all that is held at each chunk would move 16 GB. */
  assert.ok(performance.now() - start < 3_000)
  assert.equal(command?.length, count)
})

test('waiting single bytes cost about what they are', () => {
  const count = 200_000
  const decoder = new Decoder(LIMITS, true)
  const before = retainedBytes()
  decoder.push(bytes('*1\r\n$200000\r\n'))
  for (let i = 0; i < count; i++) decoder.push(Buffer.from([0x76]))
  const held = retainedBytes() - before
  assert.ok(held < 4 * count, `${held} bytes held`)
  decoder.push(bytes('\r\n'))
  assert.equal(decoder.next()?.[0]?.length, count)
})

test('a million arguments are decoded some thousands at a time', () => {
  const count = LIMITS.argumentsMax
  const stream = bytes(`*${count}\r\n${'$3\r\nabc\r\n'.repeat(count)}`)
  const decoder = new Decoder(LIMITS, true)
  for (let at = 0; at < stream.length; at += 65_536) {
    decoder.push(Buffer.from(stream.subarray(at, at + 65_536)))
  }
  const costs: number[] = []
  let command: Buffer[] | undefined
  while (command === undefined) {
    const before = decoder.bufferedBytes
    command = decoder.next()
    assert.ok(command !== undefined || decoder.gaveWay)
    costs.push(decoder.bufferedBytes - before)
  }
  assert.equal(command.length, count)
  assert.equal(String(command[count - 1]), 'abc')
  // 64 bytes for each argument that was decoded: a chunk holds 7,282, and two make more than what is enough.
  assert.ok(Math.max(...costs) <= 64 * 2 * 7_283, `${Math.max(...costs) / 64} in one go`)
  assert.ok(costs.length > 70)
  assert.equal(decoder.bufferedBytes, 0)
})
