/*
 * The cluster under test: real processes, each with a network of its own when this run may make one, else on loopback;
 * a proxy in front of every peer port; a wall clock for every node. Nemeses move these parts; nobody else does.
 */

import { mkdirSync } from 'node:fs'
import type { Server } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NodeProcess, reservePorts } from '../e2e/cluster.ts'
import { until } from '../processes.ts'
import { FakeClock } from './fake-clock.ts'
import { Namespaces, nodeHost, proxyHost } from './namespaces.ts'
import { type Address, PeerProxy } from './proxy.ts'

const CLIENT_PORT = 6379
const PEER_PORT = 16_379
const LOOPBACK = '127.0.0.1'
const START_MS = 30_000

export interface TestbedOptions {
  readonly nodes: number
  /** Data directories and clocks go here. */
  readonly folder: string
  /** Compiled file that is run, relative to the folder of compiled files. */
  readonly main: string
  /** This process is in a network namespace of its own, and may make more. */
  readonly isolated: boolean
  /** libfaketime's path; undefined: clocks are left alone. */
  readonly faketime: string | undefined
  readonly flags: readonly string[]
  readonly random: () => number
}

interface Place {
  readonly host: string
  readonly port: number
  readonly real: Address
  readonly announced: Address
}

export class Testbed {
  readonly nodes: readonly NodeProcess[]
  readonly proxy: PeerProxy
  readonly clocks: readonly FakeClock[]
  readonly #options: TestbedOptions
  readonly #namespaces: Namespaces | undefined
  readonly #guard: Server | undefined

  private constructor(
    options: TestbedOptions,
    places: readonly Place[],
    guard: Server | undefined,
  ) {
    this.#options = options
    this.#guard = guard
    this.#namespaces = options.isolated ? new Namespaces() : undefined
    this.proxy = new PeerProxy(places, options.random)
    const list = places.map(({ announced }) => `${announced.host}:${announced.port}`).join(',')
    const file = fileURLToPath(new URL(`../../${options.main}`, import.meta.url))
    this.nodes = places.map(({ host, port, real, announced }, at) => {
      const dir = join(options.folder, `node-${at + 1}`)
      const own = [
        ['--bind', host],
        ['--port', String(port)],
        ['--peer-port', String(real.port)],
        ['--peer-announce', `${announced.host}:${announced.port}`],
        ['--announce', `${host}:${port}`],
        ['--cluster', list],
        ['--dir', dir],
        ['--protected-mode', 'no'],
      ].flat()
      const command = [process.execPath, file, ...own, ...options.flags]
      const name = `node-${at + 1}`
      return new NodeProcess({
        name,
        host,
        port,
        peerPort: real.port,
        sentinelPort: 0,
        dir,
        command,
      })
    })
    const { faketime } = options
    this.clocks =
      faketime === undefined
        ? []
        : places.map((_, at) => new FakeClock(faketime, join(options.folder, `clock-${at + 1}`)))
  }

  /** All nodes run and serve. */
  static async open(options: TestbedOptions): Promise<Testbed> {
    mkdirSync(options.folder, { recursive: true })
    const reserved = options.isolated ? undefined : await reservePorts()
    const places = Array.from({ length: options.nodes }, (_, at): Place => {
      if (reserved === undefined) {
        const host = nodeHost(at)
        const announced = { host: proxyHost(at), port: PEER_PORT }
        return { host, port: CLIENT_PORT, real: { host, port: PEER_PORT }, announced }
      }
      const port = reserved.port + 1 + at
      const real = { host: LOOPBACK, port: port + options.nodes }
      return {
        host: LOOPBACK,
        port,
        real,
        announced: { host: LOOPBACK, port: port + 2 * options.nodes },
      }
    })
    const testbed = new Testbed(options, places, reserved?.guard)
    try {
      await testbed.#namespaces?.open(options.nodes)
      await testbed.proxy.open()
      for (const at of testbed.nodes.keys()) testbed.start(at)
      await testbed.ready()
      return testbed
    } catch (error) {
      await testbed.close()
      throw error
    }
  }

  start(at: number): void {
    const node = this.node(at)
    if (node.running) return
    const under = this.#namespaces?.enter(at) ?? []
    const environment = this.clocks[at]?.environment ?? {}
    node.start({ under, environment })
  }

  node(at: number): NodeProcess {
    const node = this.nodes[at]
    if (node === undefined) throw new Error(`no node ${at} of ${this.nodes.length}`)
    return node
  }

  async ready(): Promise<void> {
    for (const node of this.nodes) {
      await until(`${node.name} serves`, () => node.isReady(), START_MS)
    }
  }

  /** The number of the node that says it leads, in the highest term. */
  async leader(): Promise<number | undefined> {
    const states = await Promise.all(this.nodes.map((node) => node.running && node.status()))
    let leader: number | undefined
    let term = 0
    for (const [at, state] of states.entries()) {
      if (state === false || state?.role !== 'leader' || state.term <= term) continue
      leader = at
      term = state.term
    }
    return leader
  }

  /** Neither hears the other any more. */
  cut(a: number, b: number): void {
    if (this.#namespaces !== undefined) {
      this.#namespaces.blackhole(a, b)
      this.#namespaces.blackhole(b, a)
      return
    }
    this.proxy.way(a, b).cut = true
    this.proxy.way(b, a).cut = true
  }

  /** Off the network altogether; false where this run cannot do that. */
  unplug(at: number): boolean {
    this.#namespaces?.unplug(at)
    return this.#namespaces !== undefined
  }

  healNetwork(): void {
    this.#namespaces?.heal()
    this.proxy.heal()
  }

  /** Ends every process by its id. */
  async close(): Promise<void> {
    for (const node of this.nodes) node.signal('SIGKILL')
    await Promise.all(this.nodes.map((node) => node.end()))
    this.proxy.close()
    this.#namespaces?.close()
    this.#guard?.close()
  }

  get isolated(): boolean {
    return this.#options.isolated
  }
}
