/*
 * History files: one event per line of JSON, shaped as Jepsen's. Read line by line, so that a file may be larger
 * than memory; whatever is not a history is refused with its line, because a checker that guesses would vouch for
 * what nobody recorded. It must not know what is checked. docs/checker.md describes the format.
 */

import { isUtf8 } from 'node:buffer'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import type { Model } from './model.ts'
import { HistoryError, type Operation, type Reply, shown } from './operation.ts'

export interface ReadOptions {
  readonly path: string
  /** Refuses operations that it does not have. */
  readonly model: Model
  /** Operations on other keys are left out; they are checked for form all the same. */
  readonly keep?: (key: string) => boolean
}

const CHUNK_BYTES = 1 << 20
/** One event; beyond it the file is no history. */
const LINE_BYTES_MAX = 256 << 20
const NEWLINE = 10
const CARRIAGE_RETURN = 13
/** Faults that were injected, not operations; recorded for the report. */
const NEMESIS = 'nemesis'
const LONE_SURROGATE = /\p{Surrogate}/u

interface Event {
  readonly process: string
  readonly type: 'invoke' | 'ok' | 'fail' | 'info'
  readonly f: string
  readonly key: string | undefined
  readonly value: unknown
  readonly time: number | undefined
  readonly index: number | undefined
}

interface Invocation {
  readonly isKept: boolean
  readonly process: string
  readonly key: string
  readonly f: string
  readonly args: readonly string[]
  readonly invoked: number
  readonly invokedNs: number
}

/** Size of the file in bytes. Throws what the system throws, and HistoryError if it is no regular file. */
export function historyBytes(path: string): number {
  const file = openSync(path, 'r')
  try {
    const stats = fstatSync(file)
    if (!stats.isFile()) throw new HistoryError('not a regular file')
    return stats.size
  } finally {
    closeSync(file)
  }
}

/**
 * The operations of a history file, as they complete, then those that never did. `invoked` and `returned` are line
 * numbers. Throws HistoryError with the line for anything that is no history.
 */
export function* readOperations(options: ReadOptions): Generator<Operation> {
  const reader = new Reader(options.model, options.keep ?? (() => true))
  let line = 0
  for (const bytes of lines(options.path)) {
    line++
    if (bytes.length === 0 || (bytes.length === 1 && bytes[0] === CARRIAGE_RETURN)) continue
    try {
      const operation = reader.event(parse(bytes), line)
      if (operation !== undefined) yield operation
    } catch (error) {
      if (!(error instanceof HistoryError)) throw error
      throw new HistoryError(`line ${line}: ${error.message}`)
    }
  }
  yield* reader.unfinished()
}

/** Pairs invocations with their completions. */
class Reader {
  readonly #model: Model
  readonly #keep: (key: string) => boolean
  /** By process: its open invocation, or the line in which it was lost; undefined between operations. */
  readonly #open = new Map<string, Invocation | number | undefined>()
  readonly #names = new Map<string, string>()
  #index = -1
  #time = 0

  constructor(model: Model, keep: (key: string) => boolean) {
    this.#model = model
    this.#keep = keep
  }

  /** The operation that the event completes, if it does. */
  event(event: Event, line: number): Operation | undefined {
    this.#advance(event)
    const { process, type } = event
    if (process === NEMESIS) return undefined
    const open = this.#open.get(process)
    if (typeof open === 'number') {
      throw new HistoryError(
        `process ${shown(process)} was lost in line ${open}; its successor needs another name`,
      )
    }
    if (type === 'invoke') {
      if (open !== undefined) {
        throw new HistoryError(
          `process ${shown(process)} invokes before its operation of line ${open.invoked} has ended`,
        )
      }
      this.#open.set(process, this.#invocation(event, line))
      return undefined
    }
    if (open === undefined) {
      throw new HistoryError(`process ${shown(process)} has no operation that could end`)
    }
    if (event.f !== open.f || (event.key !== undefined && event.key !== open.key)) {
      throw new HistoryError(`ends another operation than that of line ${open.invoked}`)
    }
    this.#open.set(process, type === 'info' ? line : undefined)
    const reply = type === 'ok' ? replyOf(event.value) : undefined
    if (!open.isKept) return undefined
    const end = type === 'info' ? NEVER : { at: line, ns: this.#time }
    return completed(open, type, reply, end)
  }

  *unfinished(): Generator<Operation> {
    for (const open of this.#open.values()) {
      const isOpen = open !== undefined && typeof open !== 'number'
      if (isOpen && open.isKept) yield completed(open, 'info', undefined, NEVER)
    }
  }

  #advance(event: Event): void {
    const { index = this.#index + 1, time = this.#time } = event
    if (index <= this.#index) throw new HistoryError(`index ${index} follows ${this.#index}`)
    if (time < this.#time) throw new HistoryError(`time ${time} follows ${this.#time}`)
    this.#index = index
    this.#time = time
  }

  #invocation(event: Event, line: number): Invocation {
    const args = argumentsOf(event.value)
    const reason = this.#model.refusal(event.f, args)
    if (reason !== undefined) throw new HistoryError(`${shown(event.f)}: ${reason}`)
    const key = event.key ?? ''
    return {
      isKept: this.#keep(key),
      process: this.#named(event.process),
      key: this.#named(key),
      f: this.#named(event.f),
      args,
      invoked: line,
      invokedNs: this.#time,
    }
  }

  /** One string for all operations that name it, instead of one per line. */
  #named(name: string): string {
    const known = this.#names.get(name)
    if (known !== undefined) return known
    this.#names.set(name, name)
    return name
  }
}

interface End {
  readonly at: number
  readonly ns: number
}

const NEVER: End = { at: Number.POSITIVE_INFINITY, ns: Number.POSITIVE_INFINITY }

function completed(
  open: Invocation,
  outcome: Operation['outcome'],
  reply: Reply | undefined,
  end: End,
): Operation {
  const { process, key, f, args, invoked, invokedNs } = open
  const { at: returned, ns: returnedNs } = end
  return { process, key, f, args, outcome, reply, invoked, returned, invokedNs, returnedNs }
}

function parse(bytes: Buffer): Event {
  if (!isUtf8(bytes)) throw new HistoryError('not UTF-8')
  const line = bytes.toString()
  let event: unknown
  try {
    event = JSON.parse(line)
  } catch {
    throw new HistoryError('not JSON')
  }
  // UTF-8 has no half surrogate pairs, so only an escape can bring one; no server can ever have seen it.
  if (line.includes('\\u')) JSON.parse(line, refuseHalfPair)
  if (typeof event !== 'object' || event === null || Array.isArray(event)) {
    throw new HistoryError('not a JSON object')
  }
  const { process, type, f, key, value, time, index } = event as Record<string, unknown>
  if (type !== 'invoke' && type !== 'ok' && type !== 'fail' && type !== 'info') {
    throw new HistoryError('its type must be invoke, ok, fail or info')
  }
  if (typeof f !== 'string') throw new HistoryError('it needs f, the name of a command')
  return {
    process: name('process', process),
    type,
    f: f.toLowerCase(),
    key: key === undefined || key === null ? undefined : name('key', key),
    value,
    time: whole('time', time),
    index: whole('index', index),
  }
}

function refuseHalfPair(_: string, value: unknown): unknown {
  if (typeof value === 'string' && LONE_SURROGATE.test(value)) {
    throw new HistoryError('a string has half a surrogate pair')
  }
  return value
}

function name(field: string, value: unknown): string {
  if (typeof value === 'string') return value
  if (Number.isSafeInteger(value)) return String(value)
  throw new HistoryError(`its ${field} must be a string or an integer`)
}

function whole(field: string, value: unknown): number | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new HistoryError(`its ${field} must be an integer from 0 on`)
}

/** What stands behind the key: nothing, one argument, or a list of them. */
function argumentsOf(value: unknown): readonly string[] {
  if (value === undefined || value === null) return []
  return (Array.isArray(value) ? value : [value]).map((argument) => name('value', argument))
}

function replyOf(value: unknown): Reply {
  if (value === null) return null
  if (typeof value === 'string') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value
  throw new HistoryError('the value of an ok event is the reply: a string, an integer or null')
}

/**
 * The lines of a file without their ends; a last line without an end is one too. A line is only good until the next
 * is asked for: all of them share one buffer.
 */
function* lines(path: string): Generator<Buffer> {
  const file = openSync(path, 'r')
  try {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
    let pieces: Buffer[] = []
    let pending = 0
    for (;;) {
      const bytes = readSync(file, chunk, 0, CHUNK_BYTES, null)
      if (bytes === 0) break
      const filled = chunk.subarray(0, bytes)
      let start = 0
      for (let end = filled.indexOf(NEWLINE); end >= 0; end = filled.indexOf(NEWLINE, start)) {
        const piece = filled.subarray(start, end)
        yield pending === 0 ? piece : Buffer.concat([...pieces, piece])
        pieces = []
        pending = 0
        start = end + 1
      }
      if (start === bytes) continue
      pieces.push(Buffer.from(filled.subarray(start)))
      pending += bytes - start
      if (pending > LINE_BYTES_MAX) throw new HistoryError('a line is too long for an event')
    }
    if (pending > 0) yield Buffer.concat(pieces)
  } finally {
    closeSync(file)
  }
}
