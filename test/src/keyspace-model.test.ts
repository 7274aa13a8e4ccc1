/*
 * The keyspace under any commands: against a plain Map that answers as Redis would, and against itself
 * on another node.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Entry } from '../../raft/types.ts'
import type { ApplyObserver } from '../../src/keyspace.ts'
import {
  Applied,
  batchOf,
  EntryMaker,
  keyspaceOver,
  MemoryStore,
  silent,
} from './command-fixture.ts'

/**
 * Commands over few keys and values, so that they meet: counters at their ends, binary and hostile
 * names.
 */
const keys = ['a', 'b', '__proto__', 'constructor', '', '\0\xff\r\n']
const values = ['', '1', '-1', '9223372036854775807', '-9223372036854775808', 'x', '\0', '01']
const key = fc.constantFrom(...keys)
const value = fc.constantFrom(...values)
const command: fc.Arbitrary<readonly string[]> = fc.oneof(
  fc.tuple(fc.constantFrom('GET', 'STRLEN', 'INCR', 'DECR'), key),
  fc.tuple(fc.constantFrom('SET', 'SETNX', 'GETSET', 'APPEND', 'INCRBY', 'DECRBY'), key, value),
  fc.tuple(fc.constant('SET'), key, value, fc.constantFrom('NX', 'XX', 'GET', 'EX')),
  fc.tuple(fc.constantFrom('DEL', 'EXISTS', 'MGET'), key, key),
  fc.tuple(fc.constant('MSET'), key, value, key, value),
  fc.constantFrom(['DBSIZE'], ['FLUSHALL'], ['SET', 'a'], ['NOPE']),
)

const INT64_MAX = 2n ** 63n - 1n

/** What Redis would answer, over a plain Map and BigInt: written for plainness, not for speed. */
class Model {
  readonly map: Map<string, string> = new Map()

  run([name = '', a = '', b = '', c = '', d = '']: readonly string[], count: number): string {
    const { map } = this
    const bulk = (text: string | undefined) =>
      text === undefined ? '$-1\r\n' : `$${text.length}\r\n${text}\r\n`
    const old = map.get(a)
    switch (name) {
      case 'GET':
        return bulk(old)
      case 'STRLEN':
        return `:${old?.length ?? 0}\r\n`
      case 'SETNX':
        if (old === undefined) map.set(a, b)
        return old === undefined ? ':1\r\n' : ':0\r\n'
      case 'GETSET':
        map.set(a, b)
        return bulk(old)
      case 'APPEND':
        map.set(a, (old ?? '') + b)
        return `:${(old ?? '').length + b.length}\r\n`
      case 'DEL':
        return `:${[a, b].filter((name) => map.delete(name)).length}\r\n`
      case 'EXISTS':
        return `:${[a, b].filter((name) => map.has(name)).length}\r\n`
      case 'MGET':
        return `*2\r\n${bulk(map.get(a))}${bulk(map.get(b))}`
      case 'MSET':
        map.set(a, b).set(c, d)
        return '+OK\r\n'
      case 'DBSIZE':
        return `:${map.size}\r\n`
      case 'FLUSHALL':
        map.clear()
        return '+OK\r\n'
      case 'SET':
        return this.#set(a, b, c, count, bulk)
      case 'INCR':
        return this.#add(a, 1n)
      case 'DECR':
        return this.#add(a, -1n)
      case 'INCRBY':
      case 'DECRBY':
        return this.#addText(name, a, b)
      default:
        return "-ERR unknown command 'NOPE', with args beginning with: \r\n"
    }
  }

  #set(
    name: string,
    text: string,
    option: string,
    count: number,
    bulk: (text: string | undefined) => string,
  ): string {
    if (count < 3) return "-ERR wrong number of arguments for 'set' command\r\n"
    if (option === 'EX') return '-ERR syntax error\r\n'
    const old = this.map.get(name)
    if ((option === 'NX' && old !== undefined) || (option === 'XX' && old === undefined)) {
      return '$-1\r\n'
    }
    this.map.set(name, text)
    return option === 'GET' ? bulk(old) : '+OK\r\n'
  }

  #addText(name: string, counter: string, text: string): string {
    if (!isInteger(text)) return '-ERR value is not an integer or out of range\r\n'
    if (name === 'INCRBY') return this.#add(counter, BigInt(text))
    if (BigInt(text) === -INT64_MAX - 1n) return '-ERR decrement would overflow\r\n'
    return this.#add(counter, -BigInt(text))
  }

  #add(counter: string, by: bigint): string {
    const old = this.map.get(counter) ?? '0'
    if (!isInteger(old)) return '-ERR value is not an integer or out of range\r\n'
    const sum = BigInt(old) + by
    if (sum > INT64_MAX || sum < -INT64_MAX - 1n) {
      return '-ERR increment or decrement would overflow\r\n'
    }
    this.map.set(counter, String(sum))
    return `:${sum}\r\n`
  }
}

function isInteger(text: string): boolean {
  if (!/^(0|-?[1-9][0-9]*)$/.test(text)) return false
  const number = BigInt(text)
  return number <= INT64_MAX && number >= -INT64_MAX - 1n
}

test('any commands give the replies and the contents of a plain Map', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const db = new Applied()
      const model = new Model()
      for (const words of commands) {
        assert.equal(db.run(...words), model.run(words, words.length), JSON.stringify(words))
      }
      const contents = [...(db.store.databases.get(0) ?? [])].map(([name, stored]) => [
        name,
        Buffer.from(stored.value).toString('latin1'),
      ])
      assert.deepEqual(contents.toSorted(), [...model.map].toSorted())
    }),
    { numRuns: 300 },
  )
})

test('two nodes that apply the same entries are equal, whoever waits for replies', () => {
  const entry = fc.record({ at: fc.nat(1000), commands: fc.array(command, { maxLength: 8 }) })
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), (made) => {
      const maker = new EntryMaker()
      const entries: Entry[] = made.map(({ at, commands }) => maker.commands(commands, at))
      const followed = new MemoryStore()
      const led = new MemoryStore()
      const follower = keyspaceOver(followed).keyspace
      const leader = keyspaceOver(led).keyspace
      for (const [i, one] of entries.entries()) {
        follower.apply(one)
        leader.expect(one.index, batchOf(1, withRiders(made[i]?.commands ?? [])))
        leader.apply(one)
      }
      assert.deepEqual(followed.databases.get(0), led.databases.get(0))
      assert.equal(followed.clock(), led.clock())
    }),
    { numRuns: 200 },
  )
})

/**
 * What a leader would wait for: every logged command, and a read before each. The log may hold
 * anything.
 */
function withRiders(commands: readonly (readonly string[])[]): readonly (readonly string[])[] {
  return commands.flatMap(() => [
    ['GET', 'a'],
    ['SET', 'any', 'write'],
  ])
}

test('a node that replays the same entries answers the same', () => {
  fc.assert(
    fc.property(fc.array(command, { minLength: 1, maxLength: 30 }), (commands) => {
      const replies = (observer: ApplyObserver) => {
        const db = new Applied(observer)
        return commands.map((words) => db.run(...words))
      }
      assert.deepEqual(replies(silent), replies(silent))
    }),
    { numRuns: 50 },
  )
})
