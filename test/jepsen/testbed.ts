/*
 * The cluster under test: real processes, each with a network of its own when this run may make one, else on loopback;
 * a proxy in front of every peer port; a wall clock for every node. Nemeses move these parts; nobody else does.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import type { Server } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NodeProcess, reservePorts } from '../e2e/cluster.ts'
import { textOf } from '../e2e/resp-client.ts'
import { lapse, until } from '../processes.ts'
import { FakeClock } from './fake-clock.ts'
import { Namespaces, nodeHost, proxyHost } from './namespaces.ts'
import { type Address, PeerProxy } from './proxy.ts'

const CLIENT_PORT = 6379
const PEER_PORT = 16_379
const LOOPBACK = '127.0.0.1'
const START_MS = 30_000
/** A node that is paused or unplugged answers nobody. */
const ANSWER_MS = 500
/** A change of members, which may have to wait for a leader. */
const CHANGE_MS = 5000

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
  readonly #namespaces: Namespaces | undefined
  readonly #guard: Server | undefined
  readonly #random: () => number
  /** Of the peers, as their peers see them. */
  readonly #addresses: readonly string[]
  readonly #ids = new Map<number, string>()
  #isClosed = false
  /** Nodes that a nemesis has ended and not started again yet. */
  readonly #down = new Set<number>()
  /** Nodes that came after the first ones, in the place of one that was removed. */
  readonly #renewed = new Set<number>()
  readonly #spoilers = new Set<ChildProcess>()

  private constructor(
    options: TestbedOptions,
    places: readonly Place[],
    guard: Server | undefined,
  ) {
    this.#guard = guard
    this.#random = options.random
    this.#namespaces = options.isolated ? new Namespaces() : undefined
    this.proxy = new PeerProxy(places, options.random)
    this.#addresses = places.map(({ announced }) => `${announced.host}:${announced.port}`)
    const file = fileURLToPath(new URL(`../../${options.main}`, import.meta.url))
    this.nodes = places.map(({ host, port, real, announced }, at) => {
      const dir = join(options.folder, `node-${at + 1}`)
      const own = [
        ['--bind', host],
        ['--port', String(port)],
        ['--peer-port', String(real.port)],
        ['--peer-announce', `${announced.host}:${announced.port}`],
        ['--announce', `${host}:${port}`],
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

  /** Chooses addresses; nothing runs yet. */
  static async prepare(options: TestbedOptions): Promise<Testbed> {
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
    return new Testbed(options, places, reserved?.guard)
  }

  /** Resolves when all nodes run and serve. */
  async open(): Promise<void> {
    await this.#namespaces?.open(this.nodes.length)
    await this.proxy.open()
    for (const at of this.nodes.keys()) this.start(at)
    await this.ready()
    for (const at of this.nodes.keys()) await this.#learnId(at)
  }

  start(at: number): void {
    // A heal may come after a wish to stop.
    if (this.#isClosed) return
    const under = this.#namespaces?.enter(at) ?? []
    const environment = this.clocks[at]?.environment ?? {}
    const others = this.#addresses.filter((_, other) => other !== at)
    const flags = this.#renewed.has(at)
      ? ['--join', others.join(',')]
      : ['--cluster', this.#addresses.join(',')]
    this.node(at).start({ under, environment, flags })
    this.#down.delete(at)
  }

  /** kill -9; resolves when the process is gone. */
  async kill(at: number): Promise<void> {
    this.assertAlive()
    this.#down.add(at)
    await this.node(at).kill()
  }

  /** SIGTERM; resolves when the process is gone. Throws when its end was not an orderly one. */
  async stop(at: number): Promise<void> {
    this.assertAlive()
    this.#down.add(at)
    const { code, signal } = await this.node(at).stop()
    if (code !== 0) throw new Error(`${this.node(at).name} met SIGTERM with ${signal ?? code}`)
  }

  /** Throws when a node has ended that no nemesis has ended. */
  assertAlive(): void {
    for (const [at, { name, running, ended }] of this.nodes.entries()) {
      if (running || this.#down.has(at)) continue
      throw new Error(`${name} ended by itself: ${ended?.signal ?? `exit code ${ended?.code}`}`)
    }
  }

  node(at: number): NodeProcess {
    const node = this.nodes[at]
    if (node === undefined) throw new Error(`no node ${at} of ${this.nodes.length}`)
    return node
  }

  async ready(): Promise<void> {
    for (const node of this.nodes) {
      const served = async (): Promise<boolean> => {
        this.assertAlive()
        return await node.isReady()
      }
      await until(`${node.name} serves`, served, START_MS)
    }
  }

  /** The number of the node that says it leads, in the highest term. */
  async leader(): Promise<number | undefined> {
    const states = await Promise.all(
      this.nodes.map((node) =>
        Promise.race([node.status(), lapse(ANSWER_MS).then(() => undefined)]),
      ),
    )
    let leader: number | undefined
    let term = 0
    for (const [at, state] of states.entries()) {
      if (state?.role !== 'leader' || state.term <= term) continue
      leader = at
      term = state.term
    }
    return leader
  }

  async #learnId(at: number): Promise<void> {
    const status = await this.node(at).status()
    if (status === undefined) throw new Error(`${this.node(at).name} does not say who it is`)
    this.#ids.set(at, status.nodeId)
  }

  /** Of the member at this place. */
  idOf(at: number): string {
    const id = this.#ids.get(at)
    if (id === undefined) throw new Error(`${this.node(at).name} has no id yet`)
    return id
  }

  /** `RAFT command id` through a node other than this one: the answer, whatever it is, in words. */
  async operate(at: number, command: string, id: string): Promise<string> {
    const others = this.nodes.filter((node, other) => other !== at && node.running)
    const by = others[Math.floor(this.#random() * others.length)]
    if (by === undefined) return 'nobody to ask'
    const answer = by.ask('RAFT', command, id).then(
      (reply) => textOf(reply),
      (error: unknown) => String(error),
    )
    return await Promise.race([answer, lapse(CHANGE_MS).then(() => 'no answer')])
  }

  /** The same, again and again until it is done; throws when that does not come about. */
  async achieve(at: number, command: string, id: string): Promise<void> {
    let answer = ''
    const isDone = async (): Promise<boolean> => {
      this.assertAlive()
      answer = await this.operate(at, command, id)
      return answer === 'OK'
    }
    const name = `RAFT ${command} ${this.node(at).name}`
    await until(name, isDone, START_MS).catch((error: unknown) => {
      throw new Error(`${error}; the last answer was: ${answer}`)
    })
  }

  /** A new member in the place of one that was removed and is down: with an empty disk, and another id. */
  async renew(at: number): Promise<void> {
    const old = this.idOf(at)
    rmSync(this.node(at).dir, { recursive: true })
    this.#renewed.add(at)
    this.start(at)
    const { name } = this.node(at)
    const serves = async (): Promise<boolean> => {
      this.assertAlive()
      return await this.node(at).isReady()
    }
    await until(`${name} serves after it has joined`, serves, START_MS)
    await this.#learnId(at)
    if (this.idOf(at) === old) throw new Error(`${name} has the id of the member that it replaces`)
    // It is promoted by itself.
    await this.achieve(at, 'PROMOTE', this.idOf(at))
  }

  /** System calls on the file of its log do as told (strace's inject=), until the returned function is called. */
  async spoilDisk(at: number, calls: string, how: string): Promise<() => Promise<void>> {
    this.assertAlive()
    const { pid, dir } = this.node(at)
    const file = join(dir, 'log', 'data.mdb')
    const what = ['-e', `trace=${calls}`, '-e', `inject=${calls}:${how}`]
    const args = ['-f', '-p', String(pid), '-P', file, '-o', '/dev/null', ...what]
    const spoiler = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#spoilers.add(spoiler)
    let said = ''
    spoiler.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    let isOver = false
    spoiler.once('close', () => {
      isOver = true
      this.#spoilers.delete(spoiler)
    })
    await until('strace is attached', () => isOver || said.includes('attached'), START_MS)
    if (!said.includes('attached')) throw new Error(`strace cannot attach: ${said}`)
    return async () => {
      spoiler.kill('SIGTERM')
      await until('the end of strace', () => isOver, START_MS)
    }
  }

  /** Until the node ends by that, as it must. */
  async breakDisk(at: number, calls: string, error: string): Promise<void> {
    this.assertAlive()
    this.#down.add(at)
    const mend = await this.spoilDisk(at, calls, `error=${error}`)
    await this.node(at).end()
    await mend()
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
    this.#isClosed = true
    for (const spoiler of this.#spoilers) spoiler.kill('SIGKILL')
    for (const node of this.nodes) node.signal('SIGKILL')
    await Promise.all(this.nodes.map((node) => node.end()))
    this.proxy.close()
    this.#namespaces?.close()
    this.#guard?.close()
  }
}
