/*
 * What clients ask in the tests of whole replicas, and what they must be told: random commands on keys of their own,
 * and a plain Map that says each reply. It knows nothing of how the commands run.
 */

import type { Random } from '../../raft/ports.ts'
import type { SimReply } from './resp-connection.ts'

export type Words = readonly string[]

const OK = 'OK'
const NOT_AN_INTEGER = '-ERR value is not an integer or out of range'

const IMMEDIATE = ['MULTI', 'EXEC', 'DISCARD', 'WATCH']

/** One database: its values, and for each key the number of the change that made it what it is. */
class Values {
  readonly #values = new Map<string, string>()
  readonly #versions = new Map<string, number>()
  readonly #changed: () => number

  constructor(changed: () => number) {
    this.#changed = changed
  }

  get size(): number {
    return this.#values.size
  }

  has(key: string): boolean {
    return this.#values.has(key)
  }

  get(key: string): string | undefined {
    return this.#values.get(key)
  }

  set(key: string, value: string): void {
    this.#values.set(key, value)
    this.#versions.set(key, this.#changed())
  }

  delete(key: string): boolean {
    const existed = this.#values.delete(key)
    if (existed) this.#versions.set(key, this.#changed())
    return existed
  }

  clear(): void {
    for (const key of [...this.#values.keys()]) this.delete(key)
  }

  /** Of the change that made it or took it away; 0: it never was. */
  versionOf(key: string): number {
    return this.#versions.get(key) ?? 0
  }
}

/** The databases as a single client would see them, and its transaction. */
export class Model {
  #changes = 0
  readonly #databases: readonly Values[] = [0, 1].map(() => new Values(() => ++this.#changes))
  /** The one that is selected. */
  keys: Values = this.#database('0')
  #queue: Words[] | undefined
  #broken = false
  #watched: { readonly keys: Values; readonly key: string; readonly version: number }[] = []

  /** A new connection. */
  connect(): void {
    this.keys = this.#database('0')
    this.#endTransaction()
  }

  clear(): void {
    for (const database of this.#databases) database.clear()
  }

  /** Runs a command and gives its reply. */
  run(words: Words): SimReply {
    const [name = ''] = words
    if (name === 'STRAY') {
      this.#broken = this.#queue !== undefined
      return this.#data(words)
    }
    if (this.#queue === undefined || IMMEDIATE.includes(name)) return this.#run(words)
    this.#queue.push(words)
    return 'QUEUED'
  }

  #run(words: Words): SimReply {
    const [name = '', ...keys] = words
    switch (name) {
      case 'MULTI':
        if (this.#queue !== undefined) return '-ERR MULTI calls can not be nested'
        this.#queue = []
        return OK
      case 'EXEC':
        return this.#exec()
      case 'DISCARD':
        if (this.#queue === undefined) return '-ERR DISCARD without MULTI'
        this.#endTransaction()
        return OK
      case 'WATCH':
        if (this.#queue !== undefined) return '-ERR WATCH inside MULTI is not allowed'
        for (const key of keys) this.#watch(key)
        return OK
      case 'UNWATCH':
        this.#watched = []
        return OK
      default:
        return this.#data(words)
    }
  }

  #watch(key: string): void {
    const { keys } = this
    if (this.#watched.some((one) => one.keys === keys && one.key === key)) return
    this.#watched.push({ keys, key, version: keys.versionOf(key) })
  }

  #exec(): SimReply {
    const queue = this.#queue
    if (queue === undefined) return '-ERR EXEC without MULTI'
    const broken = this.#broken
    const changed = this.#watched.some(({ keys, key, version }) => keys.versionOf(key) !== version)
    this.#endTransaction()
    if (broken) return '-EXECABORT Transaction discarded because of previous errors.'
    return changed ? null : queue.map((words) => this.#run(words))
  }

  #endTransaction(): void {
    this.#queue = undefined
    this.#broken = false
    this.#watched = []
  }

  #data([name = '', key = '', ...rest]: Words): SimReply {
    const old = this.keys.get(key)
    switch (name) {
      case 'SET':
        return this.#set(key, rest)
      case 'GET':
        return old ?? null
      case 'GETSET':
        this.keys.set(key, rest[0] ?? '')
        return old ?? null
      case 'INCR':
        return this.#increment(key)
      case 'APPEND':
        this.keys.set(key, (old ?? '') + rest[0])
        return (old ?? '').length + (rest[0] ?? '').length
      case 'STRLEN':
        return (old ?? '').length
      case 'DEL':
        return [key, ...rest].filter((one) => this.keys.delete(one)).length
      case 'EXISTS':
        return [key, ...rest].filter((one) => this.keys.has(one)).length
      case 'MGET':
        return [key, ...rest].map((one) => this.keys.get(one) ?? null)
      case 'MSET':
        for (const [i, word] of [key, ...rest].entries()) {
          if (i % 2 === 0) this.keys.set(word, rest[i] ?? '')
        }
        return OK
      case 'DBSIZE':
        return this.keys.size
      case 'SELECT':
        if (key === '16') return '-ERR DB index is out of range'
        this.keys = this.#database(key)
        return OK
      default:
        return local(name, key)
    }
  }

  #database(number: string): Values {
    const database = this.#databases[Number(number)]
    if (database === undefined) throw new Error(`the model has no database ${number}`)
    return database
  }

  #set(key: string, [value = '', option]: Words): SimReply {
    const old = this.keys.get(key)
    const refused = (option === 'NX' && old !== undefined) || (option === 'XX' && old === undefined)
    if (!refused) this.keys.set(key, value)
    if (option === 'GET') return old ?? null
    return refused ? null : OK
  }

  #increment(key: string): SimReply {
    const old = this.keys.get(key) ?? '0'
    if (!/^(?:0|-?[1-9]\d*)$/.test(old)) return NOT_AN_INTEGER
    this.keys.set(key, String(Number(old) + 1))
    return Number(old) + 1
  }
}

/** Commands that no database is asked about. */
function local(name: string, word: string): SimReply {
  switch (name) {
    case 'PING':
      return word === '' ? 'PONG' : word
    case 'ECHO':
      return word
    case 'STRAY':
      return `-ERR unknown command 'STRAY', with args beginning with: '${word}' `
    default:
      throw new Error(`the model does not know ${name}`)
  }
}

/** Whole numbers of [0, count). */
export function pick(random: Random, count: number): number {
  return Math.floor(random() * count)
}

/** A command on keys that begin with `prefix`; `serial` makes its values unique. */
export function randomCommand(random: Random, prefix: string, serial: number): Words {
  const key = (): string => `${prefix}${pick(random, 4)}`
  const value = random() < 0.3 ? String(pick(random, 1000)) : `v${prefix}${serial}`
  const makers: readonly (() => Words)[] = [
    () => ['SET', key(), value],
    () => ['SET', key(), value, ['NX', 'XX', 'GET'][pick(random, 3)] ?? 'NX'],
    () => ['GET', key()],
    () => ['GET', key()],
    () => ['INCR', key()],
    () => ['APPEND', key(), value],
    () => ['DEL', key(), key()],
    () => ['MGET', key(), key(), key()],
    () => ['MSET', key(), value, key(), value],
    () => ['GETSET', key(), value],
    () => ['EXISTS', key(), key()],
    () => ['STRLEN', key()],
    () => ['SELECT', ['0', '1', '16'][pick(random, 3)] ?? '0'],
    () => (random() < 0.5 ? ['PING'] : ['PING', value]),
    () => ['ECHO', value],
    () => (random() < 0.5 ? ['STRAY', value] : ['DISCARD']),
    () => ['MULTI'],
    () => ['MULTI'],
    () => ['EXEC'],
    () => ['EXEC'],
    () => ['EXEC'],
    () => (random() < 0.9 ? ['WATCH', key(), key()] : ['UNWATCH']),
  ]
  return makers[pick(random, makers.length)]?.() ?? ['PING']
}
