/* What may differ from Redis inside a transaction: whose reply a part of EXEC's is, and where comparing ends. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Step } from './differential.ts'
import { excused, hasParted } from './exceptions.ts'

/** Lines of a client: `1> GET k`. */
function history(...lines: readonly string[]): {
  steps: readonly Step[]
  command: Step['command']
} {
  const steps = lines.map(
    (line): Step => ({ client: Number(line[0]), command: line.slice(3).split(' ') }),
  )
  return { steps, command: steps.at(-1)?.command ?? [] }
}

const keys = (...names: readonly string[]) =>
  Buffer.from(`*1\r\n*${names.length}\r\n${names.map((one) => `$1\r\n${one}\r\n`).join('')}`)

test('keys in EXEC may come in any order, whatever ended the transactions before it', () => {
  const lists = [keys('a', 'b'), keys('b', 'a')] as const
  for (const before of [[], ['0> multi', '0> RESET'], ['0> MULTI', '0> SET k 1', '0> DISCARD']]) {
    const context = history(...before, '0> MULTI', '1> GET k', '0> KEYS *', '0> EXEC')
    assert.equal(excused(context, ...lists), true, before.join())
    assert.equal(excused(context, keys('a', 'b'), keys('a', 'c')), false)
  }
  assert.equal(excused(history('0> MULTI', '0> MGET a b', '0> EXEC'), ...lists), false)
})

test('only an exchange of databases, or a BITFIELD that fails, lets a transaction be lost here alone', () => {
  const [ran, lost] = [Buffer.from('*1\r\n+PONG\r\n'), Buffer.from('*-1\r\n')]
  const parted = (...lines: readonly string[]) =>
    hasParted(history(...lines, '0> MULTI', '0> PING', '0> EXEC'), ran, lost)
  assert.equal(parted('0> WATCH k', '1> SWAPDB 0 1'), true)
  assert.equal(parted('0> WATCH k', '1> SET other 1'), false)
  assert.equal(parted('1> SWAPDB 0 1', '0> WATCH k'), false)
  assert.equal(parted('0> WATCH k', '1> SWAPDB 0 1', '0> RESET'), false)
  assert.equal(parted('0> WATCH k', '1> BITFIELD k OVERFLOW fail SET u8 0 -1'), true)
  assert.equal(parted('0> WATCH k', '1> BITFIELD k SET u8 0 -1'), false)
  const context = history('0> WATCH k', '1> SWAPDB 0 1', '0> MULTI', '0> PING', '0> EXEC')
  assert.equal(hasParted(context, lost, ran), false)
})

test('a page of SCAN may end elsewhere where COUNT is small, and nowhere else', () => {
  const page = (cursor: number, ...names: readonly string[]) =>
    Buffer.from(
      `*2\r\n$1\r\n${cursor}\r\n*${names.length}\r\n${names.map((one) => `$1\r\n${one}\r\n`).join('')}`,
    )
  const small = history('0> SET a 1', '0> SCAN 0 COUNT 500 count 1')
  assert.equal(excused(small, page(3, 'a'), page(0, 'a')), true)
  assert.equal(excused(small, page(0, 'a'), page(0, 'b')), false)
  assert.equal(excused(small, page(3, 'a'), Buffer.from('-ERR syntax error\r\n')), false)
  for (const whole of ['0> SCAN 0', '0> SCAN 0 COUNT 100']) {
    assert.equal(excused(history(whole), page(3, 'a'), page(0, 'a')), false, whole)
  }
})
