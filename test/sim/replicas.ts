/*
 * A whole cluster on one thread: real replicas, stores, peers, routers and frontends over the in-memory network and
 * disks, in virtual time, from one seed. It is the world only: what clients do, which faults come and what must hold
 * is the test's. Disks take time, and a crash keeps what was durable: a commit under way may be on either side.
 */

import type { Random } from '../../raft/ports.ts'
import type { NodeId } from '../../raft/types.ts'
import { readClusterList } from '../../src/bootstrap.ts'
import type { Config } from '../../src/config.ts'
import { limits } from '../../src/config.ts'
import { loadConfig } from '../../src/config-load.ts'
import { DiskSpace } from '../../src/disk-space.ts'
import { Frontend } from '../../src/frontend.ts'
import type { Logger } from '../../src/logger.ts'
import { NodeFacts } from '../../src/node-facts.ts'
import { ProcessMemory } from '../../src/process-memory.ts'
import { Replica } from '../../src/replica.ts'
import type { Engine, LogEnvironment, StateEnvironment } from '../../storage/engine.ts'
import { openStorage } from '../../storage/open.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { MemoryEngine } from '../storage/memory-engine.ts'
import { PausableHost } from './host.ts'
import { type SimHost, SimNetwork, type SimOptions, SimTime, seededRandom } from './network.ts'
import { RespConnection } from './resp-connection.ts'

export const CLIENT_PORT = 6379
const PEER_PORT = 16_379

export interface ReplicasOptions {
  readonly seed: number
  readonly size?: number
  /** Options of every node, as on the command line. */
  readonly config?: readonly string[]
  readonly network?: Partial<SimOptions>
  /** How long a commit of the log takes, drawn evenly. */
  readonly diskMs?: { readonly min: number; readonly max: number }
  /** How long before a checkpoint of the state begins to be written. */
  readonly checkpointMs?: number
}

export class Replicas {
  readonly time: SimTime = new SimTime()
  readonly network: SimNetwork
  /** Those that were there from the beginning, and those added since. */
  readonly nodes: SimNode[]
  readonly #options: ReplicasOptions
  readonly random: Random
  readonly #clients: SimHost

  constructor(options: ReplicasOptions) {
    const { seed, size = 3 } = options
    this.#options = options
    this.network = new SimNetwork(this.time, seededRandom(seed), options.network)
    this.random = seededRandom(seed ^ 0x5eed)
    this.#clients = this.network.host('127.0.1.1')
    const names = Array.from({ length: size }, (_, i) => `127.0.0.${i + 1}`)
    const list = names.map((host) => `${host}:${PEER_PORT}`).join(',')
    this.nodes = names.map((name, i) => {
      const config = ['--cluster', list, ...(options.config ?? [])]
      return new SimNode(this.network, name, { ...options, config, seed: seed * 31 + i })
    })
  }

  /** One machine more, with an empty disk or that of `from`. It is not started. */
  machine(config: readonly string[], from?: SimNode): SimNode {
    const at = this.nodes.length
    const options = {
      ...this.#options,
      config: [...config, ...(this.#options.config ?? [])],
      seed: this.#options.seed * 31 + at,
    }
    const node = new SimNode(this.network, `127.0.0.${at + 1}`, options, from?.engine)
    this.nodes.push(node)
    return node
  }

  /** Starts a new node that asks `through` to be added. */
  async join(through: SimNode): Promise<SimNode> {
    const node = this.machine(['--join', through.peerAddress])
    await this.started([node])
    return node
  }

  /** Starts every node; resolves once each of them serves linearizable reads. */
  async start(): Promise<void> {
    await this.started(this.nodes)
    await this.settled()
  }

  /** Starts these nodes; resolves when they listen. */
  async started(nodes: readonly SimNode[]): Promise<void> {
    const starting = Promise.all(nodes.map((node) => node.start()))
    // Opening a disk begins with promises only, before there is any event to wait for.
    this.time.after(0, () => {})
    await this.time.until(() => nodes.every((node) => node.isRunning), 1000, 'starting')
    await starting
  }

  /** Every running node follows one leader, and that leader takes commands. */
  async settled(ms = 10_000): Promise<void> {
    const agreed = (): boolean => {
      const states = this.running.map((node) => node.replica.status())
      const leader = states.find((status) => status?.role === 'leader')
      return (
        leader?.established === true &&
        states.every((status) => status?.leader === leader.id && status.term === leader.term)
      )
    }
    await this.time.until(agreed, ms, 'agreement on a leader')
  }

  get running(): readonly SimNode[] {
    return this.nodes.filter((node) => node.isRunning)
  }

  /** The established leader of the highest term. */
  get leader(): SimNode {
    const leaders = this.running.filter((node) => node.replica.status()?.established === true)
    const [leader] = leaders.sort((a, b) => b.replica.term - a.replica.term)
    if (leader === undefined) throw new Error('nobody leads')
    return leader
  }

  get followers(): readonly SimNode[] {
    const { leader } = this
    return this.running.filter((node) => node !== leader)
  }

  connect(node: SimNode): RespConnection {
    return new RespConnection(this.time, this.#clients, { host: node.name, port: CLIENT_PORT })
  }

  /** Cuts a node off from the other nodes, both ways; clients still reach it. */
  isolate(node: SimNode): void {
    for (const other of this.nodes) {
      if (other === node) continue
      this.network.block(node.name, other.name)
      this.network.block(other.name, node.name)
    }
  }

  heal(): void {
    for (const from of this.nodes) {
      for (const to of this.nodes) this.network.unblock(from.name, to.name)
    }
  }

  /** Resets some of the connections between nodes; what was on its way is lost. */
  resetLinks(chance: number): void {
    for (const connection of [...this.network.connections]) {
      const ofPeers = connection.localAddress.includes(`:${PEER_PORT}`)
      if (ofPeers && this.random() < chance) connection.reset()
    }
  }

  /** What operators were told, of whatever is worse than news. */
  get warnings(): readonly string[] {
    return this.nodes.flatMap((node) => node.warnings)
  }
}

interface Running {
  readonly host: PausableHost
  readonly replica: Replica
  readonly frontend: Frontend
  readonly state: StateStore
}

/** One machine: a disk that lives as long as the test, and a process that does not. */
export class SimNode {
  readonly name: string
  readonly config: Config
  readonly engine: MemoryEngine
  readonly warnings: string[] = []
  /** Why its state cannot be trusted. */
  damage: string | undefined
  /** The feature level that its build knows, from its next start on; undefined: that of builds before there were any. */
  level: number | undefined
  /** What its disk has left. */
  freeBytes: number = Number.POSITIVE_INFINITY
  /** Turns and ticks asked for, over all its lives: a node at rest asks for few. */
  turns = 0
  /** Why the process had to end by itself. */
  fatal: string | undefined
  diskMs: { readonly min: number; readonly max: number }
  readonly #checkpointMs: number
  readonly #network: SimNetwork
  readonly #random: Random
  #running: Running | undefined

  constructor(network: SimNetwork, name: string, options: ReplicasOptions, disk?: MemoryEngine) {
    this.name = name
    this.#network = network
    this.diskMs = options.diskMs ?? { min: 0.2, max: 2 }
    this.#checkpointMs = options.checkpointMs ?? 0
    this.#random = seededRandom(options.seed)
    this.engine = disk ?? new MemoryEngine((reason) => this.#die(reason))
    const argv = ['--bind', name, ...(options.config ?? [])]
    const readFile = (): string => ''
    this.config = loadConfig({ argv, environment: {}, readFile })
  }

  get peerAddress(): string {
    return `${this.name}:${PEER_PORT}`
  }

  get id(): NodeId {
    return this.replica.status()?.id ?? ''
  }

  get isRunning(): boolean {
    return this.#running !== undefined
  }

  get replica(): Replica {
    return this.#parts.replica
  }

  get frontend(): Frontend {
    return this.#parts.frontend
  }

  get state(): StateStore {
    return this.#parts.state
  }

  get host(): PausableHost {
    return this.#parts.host
  }

  get #parts(): Running {
    if (this.#running === undefined) throw new Error(`${this.name} is not running`)
    return this.#running
  }

  async start(): Promise<void> {
    const { config } = this
    const host = new PausableHost(this.#network, this.name)
    const clock = host.nodeClock(this.#network)
    const storage = await openStorage(slowDisk(this.engine, host, this.#delays), {
      memtableBytes: config.get('memtable-size'),
      cacheBytes: config.get('maxmemory-cache'),
      views: limits.stateViews,
      now: () => clock.monotonic(),
    })
    const { log, state, received } = storage
    const { nodeId, clusterId } = log.identity()
    const space = new DiskSpace({
      ...{ config, clock, log: this.#logger() },
      freeBytes: () => this.freeBytes,
    })
    const replica = new Replica({
      config,
      network: host.network,
      clock,
      timers: host.timers,
      random: this.#random,
      randomBytes: (count) => Uint8Array.from({ length: count }, () => this.#random() * 256),
      log: this.#logger(),
      id: nodeId,
      clusterId,
      level: this.level,
      incarnation: log.boots(),
      list: readClusterList(config.get('cluster'), config.get('peer-announce')),
      disk: log,
      openLog: () => log,
      logBytes: () => log.bytes(),
      state,
      space,
      damaged: (what) => {
        this.damage = what
      },
      received,
      afterPoll: (action) => {
        this.turns++
        host.after(0, action)
      },
      fatal: (reason) => this.#die(reason),
    })
    const facts = new NodeFacts({
      config,
      clock,
      nodeId,
      replica,
      frontend: () => this.frontend,
      logCache: () => undefined,
      state,
      logBytes: () => log.bytes(),
      space,
      memory: new ProcessMemory(),
      shutdown: () => new Promise(() => {}),
    })
    const frontend = new Frontend({
      network: host.network,
      clock,
      timers: host.timers,
      config,
      router: replica.router,
      server: facts,
      log: this.#logger(),
      wake: () => replica.wake(),
    })
    replica.attach(frontend)
    this.#running = { host, replica, frontend, state }
    await frontend.open([this.name], config.get('port'))
    await replica.open([this.name], config.get('peer-port'))
    replica.start().catch((error: unknown) => this.#die(String(error)))
  }

  /** Its state becomes another one than the log says, in a way that no checksum shows. */
  spoil(): void {
    const { newestKey: version } = this.#parts.state
    const value = { type: 'string', expireAt: 0, version, value: Buffer.from('x') } as const
    this.#parts.state.put(0, 'spoiled', value)
  }

  /** kill -9: what was durable stays, everything else is gone. */
  crash(): void {
    this.host.kill()
    this.engine.crash()
    this.#running = undefined
  }

  /** A process whose disk failed ends by itself; no test here makes one fail. */
  #die(reason: string): void {
    this.fatal = reason
    if (this.#running !== undefined) this.crash()
  }

  get #delays(): Delays {
    return {
      checkpointMs: this.#checkpointMs,
      commitMs: () => {
        const { min, max } = this.diskMs
        return min + this.#random() * (max - min)
      },
    }
  }

  #logger(): Logger {
    const ignore = (): void => {}
    const note = (_: unknown, text: string): void => void this.warnings.push(text)
    const logger: Logger = {
      trace: ignore,
      debug: ignore,
      info: ignore,
      warn: note,
      error: note,
      fatal: note,
      child: () => logger,
    }
    return logger
  }
}

interface Delays {
  readonly commitMs: () => number
  readonly checkpointMs: number
}

/**
 * The engine with commits of the log that take time, half of it before they are durable, half before they say so, and
 * with checkpoints of the state that begin late.
 */
function slowDisk(engine: MemoryEngine, host: SimHost, delays: Delays): Engine {
  const { commitMs, checkpointMs } = delays
  const after = (ms: number): Promise<void> => {
    return new Promise((resolve) => void host.after(ms, resolve))
  }
  const busy = (): Promise<void> => after(commitMs() / 2)
  return {
    location: engine.location,
    list: () => engine.list(),
    drop: (name) => engine.drop(name),
    openState: async (name, databases): Promise<StateEnvironment> => {
      const environment = await engine.openState(name, databases)
      if (checkpointMs === 0) return environment
      const checkpoint: StateEnvironment['checkpoint'] = environment.checkpoint.bind(environment)
      environment.checkpoint = async (header, chunks) => {
        await after(checkpointMs)
        return checkpoint(header, chunks)
      }
      return environment
    },
    buildState: (name, databases) => engine.buildState(name, databases),
    openLog: async (name, databases): Promise<LogEnvironment> => {
      const environment = await engine.openLog(name, databases)
      return {
        boots: environment.boots,
        get: (database, key) => environment.get(database, key),
        has: (database, key) => environment.has(database, key),
        range: (database, from, visit) => environment.range(database, from, visit),
        keys: (database, from, visit) => environment.keys(database, from, visit),
        bytes: () => environment.bytes(),
        usedBytes: () => environment.usedBytes(),
        close: () => environment.close(),
        commit: async (operations) => {
          await busy()
          await environment.commit(operations)
          await busy()
        },
      }
    },
  }
}
