/*
 * The history of a run, as its clients saw it: events in the order in which they happened here, written as JSON lines
 * (what docs/checker.md describes) and as EDN, which Jepsen's own tools read. It knows what a reply means for the
 * outcome of a command, by the contract of the README, and nothing else of the server.
 */

import { once } from 'node:events'
import { createWriteStream, type WriteStream } from 'node:fs'
import { ConnectionClosedError, ReplyError, type ReplyValue } from '../e2e/resp-client.ts'

export type Outcome = 'ok' | 'fail' | 'info'

/** Errors that promise that the command was not and will not be executed. Everything else may be either. */
const CERTAIN = new Set(['CLUSTERDOWN', 'MOVED', 'OOM', 'BUSY', 'LOADING'])
const UNKNOWN = 'TIMEOUT'

/** What became of a command: its reply, or what its connection threw. */
export function outcomeOf(answer: ReplyValue | Error): Outcome {
  if (answer instanceof ReplyError) return CERTAIN.has(answer.code) ? 'fail' : 'info'
  return answer instanceof Error ? 'info' : 'ok'
}

/** A reply that no fault excuses: an error outside the contract, and these commands deserve no other. */
export function isStrange(answer: ReplyValue | Error): boolean {
  return answer instanceof ReplyError && !CERTAIN.has(answer.code) && answer.code !== UNKNOWN
}

/** The reply in the form of a history: a string, an integer or nil. */
export function recordedValue(answer: ReplyValue | Error): string | number | null {
  if (answer instanceof Error) {
    return answer instanceof ConnectionClosedError ? 'connection lost' : answer.message
  }
  if (Buffer.isBuffer(answer)) return answer.toString()
  if (typeof answer === 'string' || typeof answer === 'number' || answer === null) return answer
  throw new Error(`not a reply of these workloads: ${JSON.stringify(answer)}`)
}

export interface HistoryEvent {
  /** A client has a number, which it leaves for ever with a command of unknown outcome. */
  readonly process: number | 'nemesis'
  readonly type: 'invoke' | Outcome
  readonly f: string
  readonly key?: string
  readonly value: unknown
}

export class Recorder {
  readonly #jsonLines: WriteStream
  readonly #edn: WriteStream
  readonly #startedAt = process.hrtime.bigint()
  #index = 0

  constructor(paths: { readonly jsonLines: string; readonly edn: string }) {
    this.#jsonLines = createWriteStream(paths.jsonLines)
    this.#edn = createWriteStream(paths.edn)
  }

  get events(): number {
    return this.#index
  }

  /** Nanoseconds since the start of the run. */
  now(): number {
    return Number(process.hrtime.bigint() - this.#startedAt)
  }

  record(event: HistoryEvent): number {
    const time = this.now()
    const line = { index: this.#index++, ...event, time }
    this.#jsonLines.write(`${JSON.stringify(line)}\n`)
    this.#edn.write(`${ednOf(line)}\n`)
    return time
  }

  async close(): Promise<void> {
    for (const stream of [this.#jsonLines, this.#edn]) {
      stream.end()
      await once(stream, 'finish')
    }
  }
}

/** One event as Jepsen writes it; the value of an operation is the pair of its key and what belongs to it. */
export function ednOf(
  event: HistoryEvent & { readonly index: number; readonly time: number },
): string {
  const { index, time, process, type, f, key, value } = event
  const pair = key === undefined ? edn(value) : `[${edn(key)} ${edn(value)}]`
  const fields = [
    `:index ${index}`,
    `:time ${time}`,
    `:type :${type}`,
    `:process ${process === 'nemesis' ? ':nemesis' : edn(process)}`,
    `:f :${f}`,
    `:value ${pair}`,
  ]
  return `{${fields.join(', ')}}`
}

function edn(value: unknown): string {
  if (value === null || value === undefined) return 'nil'
  if (Array.isArray(value)) return `[${value.map(edn).join(' ')}]`
  return JSON.stringify(value)
}
