/*
 * The clients of a run: each sits on one node, sends one command at a time, records it before and after, and paces
 * itself. A client that does not know what became of its command goes on under another number, as Jepsen has it: the
 * command may still take effect at any later time.
 */

import { type ReplyValue, RespClient } from '../e2e/resp-client.ts'
import { lapse } from '../processes.ts'
import type { Sample } from './availability.ts'
import { isStrange, type Outcome, outcomeOf, type Recorder, recordedValue } from './recorder.ts'
import type { Testbed } from './testbed.ts'
import { commandOf, type Step, type Workload } from './workloads.ts'

/** Longer than a server may park a command; after that its fate is unknown. */
const REPLY_MS_MAX = 8000
const CONNECT_MS_MAX = 2000
const RECONNECT_MS = 50

export interface ClientsOptions {
  readonly testbed: Testbed
  readonly recorder: Recorder
  readonly workloads: readonly Workload[]
  readonly perNode: number
  /** Between the end of one command and the next, on average. */
  readonly pauseMs: number
  readonly random: () => number
}

export class Clients {
  readonly samples: Sample[] = []
  /** Commands per client. */
  readonly counts: readonly number[]
  /** Replies that no fault excuses. */
  readonly strange: string[] = []
  readonly #options: ClientsOptions
  /** Per client: its commands, and how many numbers it has used up. */
  readonly #counts: number[]
  readonly #lives: number[]
  #stopping = false
  #running: Promise<void>[] = []

  constructor(options: ClientsOptions) {
    this.#options = options
    const clients = options.testbed.nodes.length * options.perNode
    this.#counts = Array.from({ length: clients }, () => 0)
    this.counts = this.#counts
    this.#lives = Array.from({ length: clients }, () => 0)
  }

  start(): void {
    this.#running = this.#counts.map((_, client) => this.#run(client))
  }

  /** As Jepsen numbers them: a client's next number is higher by the number of clients. */
  #process(client: number): number {
    return client + (this.#lives[client] ?? 0) * this.#lives.length
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#running)
  }

  async #run(client: number): Promise<void> {
    const { workloads, perNode, pauseMs, random } = this.#options
    const node = Math.floor(client / perNode)
    const workload = workloads[(client % perNode) % workloads.length]
    if (workload === undefined) throw new Error('no workload')
    let connection: RespClient | undefined
    while (!this.#stopping) {
      connection = await this.#connected(node, connection)
      if (connection === undefined) break
      const command = (this.#counts[client] ?? 0) + 1
      this.#counts[client] = command
      const step = workload.next(`${client}.${command}`)
      const outcome = await this.#execute(connection, { client, node }, step)
      if (outcome === 'info') connection.close()
      await lapse(pauseMs * 2 * random())
    }
    connection?.close()
  }

  async #connected(node: number, client: RespClient | undefined): Promise<RespClient | undefined> {
    if (client !== undefined && !client.closed) return client
    const { testbed, recorder } = this.#options
    const { host, port } = testbed.node(node)
    while (!this.#stopping) {
      const startMs = recorder.now() / 1e6
      const connecting = RespClient.connect(port, host)
      const made = await Promise.race([
        connecting.catch(() => undefined),
        lapse(CONNECT_MS_MAX).then(() => undefined),
      ])
      if (made !== undefined) return made
      connecting.then((late) => late.close()).catch(() => {})
      this.samples.push({ node, startMs, endMs: recorder.now() / 1e6, outcome: 'away' })
      await lapse(RECONNECT_MS)
    }
    return undefined
  }

  async #execute(
    connection: RespClient,
    who: { client: number; node: number },
    step: Step,
  ): Promise<Outcome> {
    const { recorder, testbed } = this.#options
    const { client, node } = who
    const process = this.#process(client)
    const { f, key, args } = step
    const invoked = recorder.record({ process, type: 'invoke', f, key, value: args })
    const deadline = setTimeout(() => connection.close(), REPLY_MS_MAX)
    const answer: ReplyValue | Error = await connection
      .call(...commandOf(step))
      .catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))))
    clearTimeout(deadline)
    const outcome = outcomeOf(answer)
    const returned = recorder.record({
      process,
      type: outcome,
      f,
      key,
      value: recordedValue(answer),
    })
    this.samples.push({ node, startMs: invoked / 1e6, endMs: returned / 1e6, outcome })
    if (outcome === 'info') this.#lives[client] = (this.#lives[client] ?? 0) + 1
    if (isStrange(answer)) {
      this.strange.push(`${testbed.node(node).name} answered ${f} ${key}: ${String(answer)}`)
    }
    return outcome
  }

  /** Reads everything back, through all nodes; every read must succeed. The clients have stopped. */
  async readBack(): Promise<void> {
    const { testbed, workloads, perNode } = this.#options
    const steps = workloads.flatMap((workload) => workload.final())
    let next = 0
    const reader = async (client: number): Promise<void> => {
      const node = Math.floor(client / perNode)
      const { host, port, name } = testbed.node(node)
      const connection = await RespClient.connect(port, host)
      for (let step = steps[next++]; step !== undefined; step = steps[next++]) {
        const outcome = await this.#execute(connection, { client, node }, step)
        if (outcome !== 'ok') throw new Error(`${name} did not answer GET ${step.key} at the end`)
      }
      connection.close()
    }
    await Promise.all(this.#counts.map((_, client) => reader(client)))
  }
}
