/*
 * The recording of one member of three: a node that votes, acknowledges entries to a leader and is sometimes the
 * leader itself. The load goes to the other two; one of them is killed when it leads, so that terms and votes are
 * at stake, and the traced one is killed and restarted. Its promises are what it has sent to its peers.
 */

import { basename } from 'node:path'
import { Cluster, type NodeProcess } from '../e2e/cluster.ts'
import { ConnectionClosedError } from '../e2e/resp-client.ts'
import { until } from '../processes.ts'
import { runClient } from './load.ts'
import {
  emptyRoot,
  FLAGS,
  PATIENCE_MS,
  type Recording,
  type RecordOptions,
  TracedLife,
  writeRecording,
} from './recording.ts'

const NODES = 3
const TRACED = 1
const CLIENTS = 4
/** Between one disturbance and the next. */
const ANSWERED_MIN = 60

/** Two lives of the traced member. */
export async function recordMember(options: Omit<RecordOptions, 'lives'>): Promise<Recording> {
  const { folder, seed, seconds } = options
  const cluster = await Cluster.prepare({ nodes: NODES, flags: FLAGS })
  options.prepared?.(cluster)
  const traced = cluster.node(TRACED)
  const others = cluster.nodes.filter((node) => node !== traced)
  const load = new Load(seed, others)
  try {
    const root = emptyRoot(traced)
    const lives = [0, 1].map((number) => new TracedLife({ node: traced, folder, number }))
    for (const node of others) node.start()
    await lives[0]?.start(undefined)
    const ended = []
    for (const [number, life] of lives.entries()) {
      if (number > 0) await life.start(undefined)
      await load.run((seconds * 1000) / 4)
      await replaceLeader(cluster, traced)
      await load.run((seconds * 1000) / 4)
      const isLast = number === lives.length - 1
      if (!isLast) life.kill()
      ended.push(await life.end(isLast))
    }
    const peers = cluster.nodes.map(({ peerPort }) => peerPort)
    const recording: Recording = {
      seed,
      ports: { client: traced.port, peers },
      root,
      node: basename(traced.dir),
      lives: ended,
      clients: [],
    }
    writeRecording(folder, recording)
    return recording
  } catch (error) {
    throw new Error(`the recording failed\n${cluster.logs()}`, { cause: error })
  } finally {
    try {
      await load.end()
    } finally {
      await cluster.end()
    }
  }
}

/** Kills the leader and starts it again, unless it is the traced node. */
async function replaceLeader(cluster: Cluster, traced: NodeProcess): Promise<void> {
  const leader = await cluster.leader()
  if (leader === traced) return
  await leader.kill()
  await cluster.leader()
  leader.start()
  await leader.ready()
}

/** Clients that move on to the next node when theirs is gone, and count only what was answered. */
class Load {
  readonly #seed: number
  readonly #nodes: readonly NodeProcess[]
  #clients: readonly Promise<void>[] = []
  #answered = 0
  #failure: unknown
  #ended = false

  constructor(seed: number, nodes: readonly NodeProcess[]) {
    this.#seed = seed
    this.#nodes = nodes
  }

  /** Resolves when so much time has passed and enough was answered; from the first call on it goes on until end(). */
  async run(lastsMs: number): Promise<void> {
    if (this.#clients.length === 0) {
      this.#clients = Array.from({ length: CLIENTS }, (_, client) =>
        this.#client(client).catch((error: unknown) => {
          this.#failure ??= error
        }),
      )
    }
    const start = performance.now()
    const enough = this.#answered + ANSWERED_MIN
    await until(
      'the load',
      () =>
        this.#failure !== undefined ||
        (this.#answered >= enough && performance.now() - start >= lastsMs),
      PATIENCE_MS + lastsMs,
    )
    if (this.#failure !== undefined) throw this.#failure
  }

  async end(): Promise<void> {
    this.#ended = true
    await Promise.all(this.#clients)
    if (this.#failure !== undefined) throw this.#failure
  }

  async #client(client: number): Promise<void> {
    let from = 0
    for (let turn = client; !this.#ended; turn++) {
      const node = this.#nodes[turn % this.#nodes.length]
      if (node === undefined) throw new Error('a load on no nodes')
      if (!node.running) {
        await until('a node', () => this.#ended || this.#nodes.some((one) => one.running))
        continue
      }
      from += await this.#visit(client, from, node.port)
    }
  }

  /** The number of commands sent until that node was lost. */
  async #visit(client: number, from: number, port: number): Promise<number> {
    try {
      const { sent } = await runClient({
        seed: this.#seed,
        client,
        port,
        from,
        tolerant: true,
        goesOn: () => !this.#ended,
        answered: () => {
          this.#answered++
        },
      })
      return sent
    } catch (error) {
      // Nobody listens: the node is dead, or not there yet.
      const refused = error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED'
      if (!refused && !(error instanceof ConnectionClosedError)) throw error
      return 0
    }
  }
}
