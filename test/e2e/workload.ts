/*
 * Writers that remember what they were told: load for tests that break things, and afterwards the proof that nothing
 * acknowledged was lost, nothing refused was done, and nothing was done twice. It trusts the error contract of the
 * server and nothing else: OK means for ever, CLUSTERDOWN means never, everything else may mean either.
 */

import { lapse, until } from '../processes.ts'
import type { NodeProcess } from './cluster.ts'
import {
  ConnectionClosedError,
  ReplyError,
  type ReplyValue,
  RespClient,
  textOf,
} from './resp-client.ts'

/** Every so many writes of a writer, one is an INCR of the shared counter. */
const INCREMENT_EVERY = 5
/** Between two commands of a writer: some hundred a second load a cluster, and leave it processors for what is tested. */
const PACE_MS = 5
/** A node may stay away for the length of a test. */
const ABSENCE_MS_MAX = 600_000
const READ_BATCH = 500

type Outcome = 'acknowledged' | 'refused' | 'unknown'

interface Acknowledgement {
  /** performance.now() when the command was sent, and when its reply was here. */
  readonly sentAt: number
  readonly at: number
  readonly node: NodeProcess
}

/** What reading everything back has shown; all zero and empty when the server has kept its word. */
export interface Verdict {
  /** Acknowledged writes that are gone or have another value. */
  readonly lost: readonly string[]
  /** Writes that were refused for certain, and happened. */
  readonly happened: readonly string[]
  /** What is wrong with the counter. */
  readonly counter: readonly string[]
}

export interface WorkloadOptions {
  readonly nodes: readonly NodeProcess[]
  readonly writersPerNode: number
  /** Part of every key, so that several workloads may share a cluster. */
  readonly name: string
  /** Between a reply and the writer's next command; 0: it follows at once. */
  readonly paceMs?: number
}

export class Workload {
  readonly #options: WorkloadOptions
  readonly #counter: string
  readonly #writes = new Map<string, Outcome>()
  /** Replies of INCR, in any order. */
  readonly #counted: number[] = []
  #unknownIncrements = 0
  #acknowledged = 0
  #refused = 0
  #unknown = 0
  readonly #errors = new Map<string, number>()
  #stopping = false
  #running: Promise<void>[] = []
  #watchers = new Set<(acknowledgement: Acknowledgement) => void>()

  constructor(options: WorkloadOptions) {
    this.#options = options
    this.#counter = `${options.name}:counter`
  }

  get acknowledged(): number {
    return this.#acknowledged
  }

  get refused(): number {
    return this.#refused
  }

  /** Commands whose fate their writer does not know. */
  get unknown(): number {
    return this.#unknown
  }

  /** Error replies, by their text: what a client of a node that lives should never see. */
  get errors(): readonly string[] {
    return [...this.#errors].map(([text, count]) => `${count} times ${text}`)
  }

  start(): void {
    this.#stopping = false
    this.#running = this.#options.nodes.flatMap((node) =>
      Array.from({ length: this.#options.writersPerNode }, (_, at) =>
        this.#write(node, `${this.#options.name}:${node.name}:${at}`),
      ),
    )
  }

  /** Resolves when every writer has the outcome of its last command. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#running)
  }

  /** Calls `watcher` for each acknowledged write until the returned function is called. */
  watch(watcher: (acknowledgement: Acknowledgement) => void): () => void {
    this.#watchers.add(watcher)
    return () => void this.#watchers.delete(watcher)
  }

  /** Resolves with the first acknowledgement of a write that was sent after `since`, through each of `nodes`. */
  async firstAcknowledged(
    nodes: readonly NodeProcess[],
    since: number,
  ): Promise<readonly Acknowledgement[]> {
    const first = new Map<NodeProcess, Acknowledgement>()
    return new Promise((resolve) => {
      const unwatch = this.watch((acknowledgement) => {
        const { node, sentAt } = acknowledgement
        if (sentAt < since || !nodes.includes(node) || first.has(node)) return
        first.set(node, acknowledgement)
        if (first.size < nodes.length) return
        unwatch()
        resolve([...first.values()])
      })
    })
  }

  /** One writer: one command at a time, on a connection that it makes again whenever it ends. */
  async #write(node: NodeProcess, prefix: string): Promise<void> {
    const { paceMs = PACE_MS } = this.#options
    let client: RespClient | undefined
    for (let sequence = 0; !this.#stopping; sequence++) {
      if (paceMs > 0) await lapse(paceMs)
      client = await this.#connection(node, client)
      if (client === undefined) break
      const isIncrement = sequence % INCREMENT_EVERY === 0
      const key = `${prefix}:${sequence}`
      const sentAt = performance.now()
      const reply = await client
        .call(...(isIncrement ? ['INCR', this.#counter] : ['SET', key, valueFor(key)]))
        .catch(connectionClosed)
      const outcome = outcomeOf(reply)
      if (reply instanceof ReplyError) {
        this.#errors.set(reply.message, (this.#errors.get(reply.message) ?? 0) + 1)
      }
      if (!isIncrement) this.#writes.set(key, outcome)
      else if (outcome === 'unknown') this.#unknownIncrements++
      else if (typeof reply === 'number') this.#counted.push(reply)
      this.#note(outcome, { sentAt, at: performance.now(), node })
    }
    client?.close()
  }

  #note(outcome: Outcome, acknowledgement: Acknowledgement): void {
    if (outcome === 'refused') this.#refused++
    else if (outcome === 'unknown') this.#unknown++
    else {
      this.#acknowledged++
      for (const watcher of this.#watchers) watcher(acknowledgement)
    }
  }

  /** The open connection, or a new one as soon as the node listens; undefined once the writers stop. */
  async #connection(
    node: NodeProcess,
    current: RespClient | undefined,
  ): Promise<RespClient | undefined> {
    if (current !== undefined && !current.closed) return current
    let client: RespClient | undefined
    await until(
      `${node.name} listens`,
      async () => {
        if (!this.#stopping) client = await RespClient.connect(node.port).catch(() => undefined)
        return this.#stopping || client !== undefined
      },
      ABSENCE_MS_MAX,
    )
    return client
  }

  /** Reads everything back through `node`. The writers have stopped. */
  async verify(node: NodeProcess): Promise<Verdict> {
    const client = await RespClient.connect(node.port)
    try {
      const lost: string[] = []
      const happened: string[] = []
      const keys = [...this.#writes.keys()]
      for (let at = 0; at < keys.length; at += READ_BATCH) {
        const batch = keys.slice(at, at + READ_BATCH)
        const values = await client.call('MGET', ...batch)
        if (!Array.isArray(values)) throw new Error(`MGET answered ${textOf(values)}`)
        for (const [offset, key] of batch.entries()) {
          const value = values[offset] ?? null
          const outcome = this.#writes.get(key)
          const intact = value !== null && textOf(value) === valueFor(key)
          if (outcome === 'acknowledged' && !intact) lost.push(key)
          if (outcome === 'refused' && value !== null) happened.push(key)
          if (outcome === 'unknown' && value !== null && !intact) lost.push(key)
        }
      }
      return {
        lost,
        happened,
        counter: this.#judgeCounter(await client.call('GET', this.#counter)),
      }
    } finally {
      client.close()
    }
  }

  /** Every acknowledged INCR has a number of its own, and the counter has grown by those and no others. */
  #judgeCounter(reply: ReplyValue): string[] {
    const value = reply === null ? 0 : Number(textOf(reply))
    const faults: string[] = []
    const distinct = new Set(this.#counted)
    if (distinct.size < this.#counted.length) {
      faults.push(`${this.#counted.length - distinct.size} replies of INCR came twice`)
    }
    const highest = this.#counted.reduce((most, one) => Math.max(most, one), 0)
    if (value < highest) faults.push(`the counter is ${value} after a reply of ${highest}`)
    const most = this.#counted.length + this.#unknownIncrements
    if (value < this.#counted.length || value > most) {
      const acknowledged = `${this.#counted.length} INCRs were acknowledged`
      faults.push(
        `the counter is ${value}, but ${acknowledged}, ${this.#unknownIncrements} unknown`,
      )
    }
    return faults
  }
}

/** Long enough to be no other key's value by accident. */
function valueFor(key: string): string {
  return `value of ${key}`
}

function outcomeOf(reply: ReplyValue): Outcome {
  if (!(reply instanceof ReplyError)) return reply === null ? 'unknown' : 'acknowledged'
  // Whatever error the server gives, only this one promises that nothing was and will be done.
  return reply.code === 'CLUSTERDOWN' ? 'refused' : 'unknown'
}

/** The reply of a command whose connection has ended: none. */
function connectionClosed(error: unknown): null {
  if (error instanceof ConnectionClosedError) return null
  throw error
}
