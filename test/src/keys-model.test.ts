/*
 * Keys that expire, move and change in part: any commands, in several databases, while the clock goes on, against a
 * plain model that answers as Redis would. Written for plainness: due keys are swept away before every command.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeCommands } from '../../storage/codec.ts'
import { Applied, argv, EntryMaker, keyspaceOver, MemoryStore } from './command-fixture.ts'

const DATABASES = 3
const START = 1_000_000

interface Held {
  readonly value: string
  /** 0: never. */
  readonly expireAt: number
}

const key = fc.constantFrom('a', 'b', 'c', '')
const value = fc.constantFrom('', '1', '-5', 'text', 'long text', '\0\xff')
const place = fc.integer({ min: -8, max: 12 }).map(String)
const ms = fc.constantFrom('1', '7', '50', '1000', '100000')
const anyMs = fc.oneof(ms, fc.constantFrom('0', '-1', '-100000'))
const database = fc.integer({ min: 0, max: DATABASES - 1 }).map(String)
const condition = fc.constantFrom([], ['NX'], ['XX'], ['GT'], ['LT'], ['XX', 'GT'], ['XX', 'LT'])

const name = (...names: readonly string[]) => fc.constantFrom(...names)
const words = (...parts: readonly fc.Arbitrary<string>[]) => fc.tuple(...parts)
const command: fc.Arbitrary<readonly string[]> = fc.oneof(
  words(name('GET', 'GETDEL', 'STRLEN', 'TYPE', 'PERSIST', 'GETEX'), key),
  words(name('TTL', 'PTTL', 'EXPIRETIME', 'PEXPIRETIME'), key),
  words(name('SET', 'SETNX', 'APPEND', 'GETSET'), key, value),
  words(name('SET'), key, value, name('PX'), ms),
  words(name('SET'), key, value, name('KEEPTTL')),
  words(name('PSETEX'), key, ms, value),
  fc.tuple(name('PEXPIRE'), key, anyMs, condition).map((parts) => parts.flat()),
  words(name('GETEX'), key, name('PX'), ms),
  words(name('GETEX'), key, name('PERSIST')),
  words(name('GETRANGE'), key, place, place),
  words(name('SETRANGE'), key, place, value),
  words(name('DEL', 'UNLINK', 'EXISTS', 'TOUCH', 'RENAME', 'RENAMENX'), key, key),
  words(name('COPY'), key, key, name('DB'), database),
  words(name('COPY'), key, key, name('DB'), database, name('REPLACE')),
  words(name('MOVE'), key, database),
  words(name('SWAPDB'), database, database),
  words(name('KEYS'), name('*')),
  fc.constantFrom(['FLUSHDB'], ['DBSIZE']),
)

interface Step {
  readonly database: number
  readonly words: readonly string[]
  /** The clock goes on by so much before. */
  readonly passes: number
}

const step: fc.Arbitrary<Step> = fc.record({
  database: fc.integer({ min: 0, max: DATABASES - 1 }),
  words: command,
  passes: fc.constantFrom(0, 0, 0, 1, 6, 49, 1000),
})

const SAME = '-ERR source and destination objects are the same\r\n'
const OK = '+OK\r\n'

function bulk(text: string | undefined): string {
  return text === undefined ? '$-1\r\n' : `$${text.length}\r\n${text}\r\n`
}

class Model {
  databases: Map<string, Held>[] = Array.from({ length: DATABASES }, () => new Map())
  now = START

  run(step: Step): string {
    this.now += step.passes
    for (const one of this.databases) {
      for (const [key, { expireAt }] of one) {
        if (expireAt !== 0 && expireAt <= this.now) one.delete(key)
      }
    }
    return this.#run(this.#database(step.database), step.words)
  }

  #database(index: number | string): Map<string, Held> {
    const found = this.databases[Number(index)]
    assert.ok(found)
    return found
  }

  #run(db: Map<string, Held>, [name = '', a = '', b = '', c = '', d = '', e = '']: Step['words']) {
    const old = db.get(a)
    const put = (key: string, value: string, expireAt = 0) => void db.set(key, { value, expireAt })
    switch (name) {
      case 'GET':
        return bulk(old?.value)
      case 'STRLEN':
        return `:${old?.value.length ?? 0}\r\n`
      case 'TYPE':
        return old === undefined ? '+none\r\n' : '+string\r\n'
      case 'GETDEL':
        db.delete(a)
        return bulk(old?.value)
      case 'GETEX':
        if (old !== undefined && b === 'PX') put(a, old.value, this.now + Number(c))
        if (old !== undefined && b === 'PERSIST') put(a, old.value)
        return bulk(old?.value)
      case 'SET':
        put(a, b, c === 'PX' ? this.now + Number(d) : c === 'KEEPTTL' ? old?.expireAt : 0)
        return OK
      case 'PSETEX':
        put(a, c, this.now + Number(b))
        return OK
      case 'SETNX':
        if (old === undefined) put(a, b)
        return `:${old === undefined ? 1 : 0}\r\n`
      case 'GETSET':
        put(a, b)
        return bulk(old?.value)
      case 'APPEND':
        put(a, (old?.value ?? '') + b, old?.expireAt)
        return `:${(old?.value ?? '').length + b.length}\r\n`
      case 'GETRANGE':
        return bulk(range(old?.value ?? '', Number(b), Number(c)))
      case 'SETRANGE': {
        if (Number(b) < 0) return '-ERR offset is out of range\r\n'
        const before = old?.value ?? ''
        if (c === '') return `:${before.length}\r\n`
        const head = before.slice(0, Number(b)).padEnd(Number(b), '\0')
        const text = head + c + before.slice(head.length + c.length)
        put(a, text, old?.expireAt)
        return `:${text.length}\r\n`
      }
      case 'PERSIST':
        if (old === undefined || old.expireAt === 0) return ':0\r\n'
        put(a, old.value)
        return ':1\r\n'
      case 'PEXPIRE':
        return this.#expire(db, a, this.now + Number(b), [c, d])
      case 'TTL':
      case 'PTTL':
      case 'EXPIRETIME':
      case 'PEXPIRETIME': {
        if (old === undefined) return ':-2\r\n'
        if (old.expireAt === 0) return ':-1\r\n'
        const told = name.endsWith('TIME') ? old.expireAt : old.expireAt - this.now
        return `:${name.startsWith('P') ? told : Math.round(told / 1000)}\r\n`
      }
      default:
        return this.#keys(db, [name, a, b, c, d, e])
    }
  }

  #expire(db: Map<string, Held>, key: string, at: number, conditions: readonly string[]): string {
    const old = db.get(key)
    if (old === undefined) return ':0\r\n'
    const has = old.expireAt !== 0
    const refused = conditions.some(
      (one) =>
        (one === 'NX' && has) ||
        (one === 'XX' && !has) ||
        (one === 'GT' && (!has || at <= old.expireAt)) ||
        (one === 'LT' && has && at >= old.expireAt),
    )
    if (refused) return ':0\r\n'
    if (at > this.now) db.set(key, { value: old.value, expireAt: at })
    else db.delete(key)
    return ':1\r\n'
  }

  #keys(
    db: Map<string, Held>,
    [name, a = '', b = '', , d = '', e = '']: readonly string[],
  ): string {
    const old = db.get(a)
    const count = (keys: readonly string[], test: (key: string) => boolean) =>
      `:${keys.filter(test).length}\r\n`
    switch (name) {
      case 'DEL':
      case 'UNLINK':
        return count([a, b], (key) => db.delete(key))
      case 'EXISTS':
      case 'TOUCH':
        return count([a, b], (key) => db.has(key))
      case 'RENAME':
      case 'RENAMENX': {
        if (old === undefined) return '-ERR no such key\r\n'
        const always = name === 'RENAME'
        const moves = a !== b && (always || !db.has(b))
        if (moves) db.set(b, old)
        if (moves) db.delete(a)
        return always ? OK : `:${moves ? 1 : 0}\r\n`
      }
      case 'COPY': {
        const target = this.#database(d)
        if (target === db && a === b) return SAME
        if (old === undefined || (target.has(b) && e !== 'REPLACE')) return ':0\r\n'
        target.set(b, old)
        return ':1\r\n'
      }
      case 'MOVE': {
        const target = this.#database(b)
        if (target === db) return SAME
        if (old === undefined || target.has(a)) return ':0\r\n'
        target.set(a, old)
        db.delete(a)
        return ':1\r\n'
      }
      default:
        return this.#whole(db, name, a, b)
    }
  }

  #whole(db: Map<string, Held>, name: string | undefined, a: string, b: string): string {
    switch (name) {
      case 'SWAPDB': {
        const [first, second] = [this.#database(a), this.#database(b)]
        this.databases[Number(a)] = second
        this.databases[Number(b)] = first
        return OK
      }
      case 'FLUSHDB':
        db.clear()
        return OK
      case 'DBSIZE':
        return `:${db.size}\r\n`
      case 'KEYS':
        return `*${db.size}\r\n${[...db.keys()].map(bulk).sort().join('')}`
      default:
        throw new Error(`the model does not know ${name}`)
    }
  }
}

function range(text: string, start: number, end: number): string {
  const from = Math.max(0, start < 0 ? text.length + start : start)
  const to = Math.max(0, end < 0 ? text.length + end : end)
  return start < 0 && end < 0 && start > end ? '' : text.slice(from, to + 1)
}

/** What the databases hold, without what is due and not removed yet. */
function contents(db: Applied): readonly (readonly unknown[])[] {
  return Array.from({ length: DATABASES }, (_, index) => {
    const held = [...(db.store.databases.get(index) ?? [])]
    const live = held.filter(([, { expireAt }]) => expireAt === 0 || expireAt > db.time)
    return live.map(([key, one]) => [key, Buffer.from(one.value).toString('latin1'), one.expireAt])
  }).map((rows) => rows.toSorted())
}

test('any commands, while the clock goes on, give the replies and the contents of a plain model', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
      const db = new Applied()
      const model = new Model()
      db.time = START
      for (const one of steps) {
        db.time += one.passes
        // Reads are told the clock that an entry brought.
        db.keyspace.apply(db.entries.commands([], db.time))
        db.database = one.database
        const reply = db.run(...one.words)
        const isSet = one.words[0] === 'KEYS'
        const sorted = isSet ? sortedBulks(reply) : reply
        assert.equal(sorted, model.run(one), `${one.database}> ${JSON.stringify(one.words)}`)
      }
      const expected = model.databases.map((one) =>
        [...one].map(([key, { value, expireAt }]) => [key, value, expireAt]).toSorted(),
      )
      assert.deepEqual(contents(db), expected)
    }),
    { numRuns: 500 },
  )
})

/** An array of bulk strings in the order of their bytes. */
function sortedBulks(reply: string): string {
  const [head = '', ...rest] = reply.split(/(?=\$\d+\r\n)/)
  return head + rest.sort().join('')
}

test('the state follows from the entries alone, however they are cut and whatever is asked between', () => {
  fc.assert(
    fc.property(fc.array(fc.array(step, { maxLength: 6 }), { maxLength: 12 }), (entries) => {
      const [first, second] = [new MemoryStore(), new MemoryStore()]
      const [one, other] = [keyspaceOver(first).keyspace, keyspaceOver(second).keyspace]
      const maker = new EntryMaker()
      let at = START
      for (const steps of entries) {
        for (const { passes } of steps) at += passes
        const commands = steps.map(({ database, words }) => ({ database, argv: argv(words) }))
        const entry = maker.make({ type: 'commands', data: encodeCommands(at, commands) })
        one.apply(entry)
        other.apply(entry)
        other.size(0)
      }
      assert.deepEqual(first.databases, second.databases)
      assert.equal(one.clock(), other.clock())
      for (const keys of first.databases.values()) {
        for (const { expireAt } of keys.values()) assert.ok(expireAt === 0 || expireAt >= START)
      }
    }),
    { numRuns: 100 },
  )
})
