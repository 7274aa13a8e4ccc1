/*
 * The clients of a run: each sits on one node, sends one command at a time, records it before and after, and paces
 * itself. A client that does not know what became of its command goes on under another name, as Jepsen has it: the
 * command may still take effect at any later time.
 */

import { type ReplyValue, RespClient } from '../e2e/resp-client.ts'
import { lapse } from '../processes.ts'
import type { Sample } from './availability.ts'
import { outcomeOf, type Recorder, recordedValue } from './recorder.ts'
import type { Testbed } from './testbed.ts'
import { commandOf, type Step, type Workload } from './workloads.ts'

/** Longer than a server may park a command; after that its fate is unknown. */
const REPLY_MS_MAX = 8000
const CONNECT_MS_MAX = 2000
const RECONNECT_MS = 50
const FINAL_READERS = 8

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
  readonly counts: Map<string, number> = new Map()
  readonly #options: ClientsOptions
  #stopping = false
  #running: Promise<void>[] = []

  constructor(options: ClientsOptions) {
    this.#options = options
  }

  start(): void {
    const { testbed, perNode } = this.#options
    this.#running = testbed.nodes.flatMap((_, node) =>
      Array.from({ length: perNode }, (_none, at) => this.#run(node, at)),
    )
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#running)
  }

  async #run(node: number, at: number): Promise<void> {
    const { workloads, pauseMs, random } = this.#options
    const name = `${node + 1}.${at + 1}`
    const workload = workloads[at % workloads.length]
    if (workload === undefined) throw new Error('no workload')
    let life = 0
    let commands = 0
    let client: RespClient | undefined
    while (!this.#stopping) {
      client = await this.#connected(node, client)
      if (client === undefined) break
      const process = `${name}.${life}`
      const outcome = await this.#execute(
        client,
        { process, node },
        workload.next(`${process}.${commands}`),
      )
      this.counts.set(name, ++commands)
      if (outcome === 'info') {
        life++
        client.close()
      }
      await lapse(pauseMs * 2 * random())
    }
    client?.close()
  }

  async #connected(node: number, client: RespClient | undefined): Promise<RespClient | undefined> {
    if (client !== undefined && !client.closed) return client
    const { host, port } = this.#options.testbed.node(node)
    while (!this.#stopping) {
      const connecting = RespClient.connect(port, host)
      const made = await Promise.race([
        connecting.catch(() => undefined),
        lapse(CONNECT_MS_MAX).then(() => undefined),
      ])
      if (made !== undefined) return made
      connecting.then((late) => late.close()).catch(() => {})
      await lapse(RECONNECT_MS)
    }
    return undefined
  }

  async #execute(
    client: RespClient,
    who: { process: string; node: number },
    step: Step,
  ): Promise<Sample['outcome']> {
    const { recorder } = this.#options
    const { process, node } = who
    const { f, key, args } = step
    const invoked = recorder.record({ process, type: 'invoke', f, key, value: args })
    const deadline = setTimeout(() => client.close(), REPLY_MS_MAX)
    const answer: ReplyValue | Error = await client
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
    return outcome
  }

  /** Reads everything back, through all nodes; every read must succeed. */
  async readBack(): Promise<void> {
    const { testbed, workloads } = this.#options
    const steps = workloads.flatMap((workload) => workload.final())
    let next = 0
    const reader = async (at: number): Promise<void> => {
      const node = at % testbed.nodes.length
      const { host, port, name } = testbed.node(node)
      const client = await RespClient.connect(port, host)
      for (let step = steps[next++]; step !== undefined; step = steps[next++]) {
        const outcome = await this.#execute(client, { process: `final.${at}`, node }, step)
        if (outcome !== 'ok') throw new Error(`${name} did not answer GET ${step.key} at the end`)
      }
      client.close()
    }
    await Promise.all(Array.from({ length: FINAL_READERS }, (_, at) => reader(at)))
  }
}
