/*
 * One machine of the simulation: a disk that lives as long as the run, and a process that does not: the production
 * replica, stores, LogCache and frontend over simulated ports. Whatever the process throws ends it, as it would end
 * the real one. It decides nothing: when to start, stop or fail is the faults' business, what must hold the
 * invariants'.
 */

import { AssertionError } from '../../raft/assert.ts'
import type { CoreStatus } from '../../raft/core.ts'
import type { Random } from '../../raft/ports.ts'
import type { NodeId } from '../../raft/types.ts'
import { readClusterList } from '../../src/bootstrap.ts'
import type { Config } from '../../src/config.ts'
import { limits } from '../../src/config.ts'
import { loadConfig } from '../../src/config-load.ts'
import { type Damage, endServing, knownDamage, reinstall, soundSources } from '../../src/damage.ts'
import { DiskSpace } from '../../src/disk-space.ts'
import { forceNewCluster } from '../../src/force-new-cluster.ts'
import { Frontend } from '../../src/frontend.ts'
import type { Logger } from '../../src/logger.ts'
import type { Cancel, Clock, Timers } from '../../src/network.ts'
import { NodeFacts } from '../../src/node-facts.ts'
import { ProcessMemory } from '../../src/process-memory.ts'
import { openOrStartOver } from '../../src/rejoin.ts'
import { Replica } from '../../src/replica.ts'
import type { Operation } from '../../storage/engine.ts'
import { LogCache } from '../../storage/log-cache.ts'
import type { DiskLogStore } from '../../storage/log-store.ts'
import { openStorage, type Storage } from '../../storage/open.ts'
import { CorruptStateError } from '../../storage/record.ts'
import { DAMAGE_KEY, STABLE } from '../../storage/stable-record.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { SimDisk } from './disk.ts'
import type { InForce } from './electorate.ts'
import { PausableHost } from './host.ts'
import { type SimNetwork, seededRandom } from './network.ts'
import { ObservedLog, type Observer, observedState } from './observed.ts'
import type { NodeSwarm, Swarm } from './swarm.ts'
import { InvariantError } from './violation.ts'

/** States are compared several times in a run. */
export const DIGEST_INTERVAL_MS = 3000
/** Small, so that values leave it and are read from disk again. */
const CACHE_BYTES = 4000
export const CLIENT_PORT = 6379
export const PEER_PORT = 16_379

/** What a machine tells the simulation. */
export interface MachineEvents extends Observer {
  /** Something of this machine runs: until the next event everything is its doing. */
  touched(machine: Machine): void
  /** Its process ended by itself. */
  died(machine: Machine, reason: string): void
  /** It is started with --force-new-cluster: nothing was done yet, and all of it is durable. */
  forcing(machine: Machine, log: DiskLogStore): void
  forced(machine: Machine, log: DiskLogStore): void
  /** It begins as a new node, on the disk that the node `old` has had. */
  cameBack(machine: Machine, old: NodeId): void
  /** It runs on its old disk now; nothing was told to anybody yet. */
  opened(machine: Machine, how: Opening): void
  /** The feature level that the build knows with which it starts. */
  build(machine: Machine): number | undefined
  /** Its state is not that of the majority, it says: it will serve no more, and has then fallen silent. */
  differs(machine: Machine, what: string): void
  silent(machine: Machine): void
  landing(machine: Machine, environment: string, operations: readonly Operation[]): void
  /** Nothing may survive this: a broken invariant, a failed assertion. */
  broken(error: unknown): void
}

/** What became of its disk before. */
export type Opening = 'as it was' | 'state re-installed'

interface Process {
  readonly host: MachineHost
  readonly log: DiskLogStore
  readonly state: StateStore
  readonly replica: Replica
  readonly frontend: Frontend
  readonly incarnation: number
}

export class Machine {
  readonly index: number
  /** Its address; a machine that has its place later has the same. */
  readonly name: string
  /** The options that tell it whom to found a cluster with, or to join. */
  readonly contacts: readonly string[]
  readonly swarm: NodeSwarm
  readonly disk: SimDisk
  readonly config: Config
  id: NodeId = ''
  /** Its disk was damaged: it may refuse to work for ever, and nobody counts on it. */
  damaged: string | undefined
  /** A disk fault was injected that its process must not survive. */
  doomed = false
  /** Why it can never start again. */
  lost: string | undefined
  wallError = 0
  /** It is started with --force-new-cluster. */
  isForced = false
  /** What its build knows: src/feature-level.ts. */
  level: number | undefined
  /** Chains of its log by index; what lies behind its last entry means nothing. */
  readonly chains: number[] = [0]
  /** Behind each entry of its log, as far as it is on its disk, in the same way. */
  readonly inForce: (InForce | undefined)[] = []
  readonly #network: SimNetwork
  readonly #random: Random
  readonly #events: MachineEvents
  /** That its state is damaged stands on its disk since it said so, as a kill leaves it. */
  isMarked = false
  #host: MachineHost | undefined
  #process: Process | undefined
  #cache: ObservedLog | undefined
  /** Whose disk it is to give up, until it has: it is started with --rejoin. */
  #takesOver: Machine | undefined
  /** What it does with its state, once, within the next entry that it applies. */
  #applyWrongly: ((state: StateStore) => void) | undefined

  constructor(options: {
    index: number
    name: string
    contacts: readonly string[]
    own: NodeSwarm
    seed: number
    swarm: Swarm
    network: SimNetwork
    events: MachineEvents
    takesOver: Machine | undefined
  }) {
    const { index, name, contacts, own, seed, swarm, network, events } = options
    this.contacts = contacts
    this.#takesOver = options.takesOver
    this.damaged = options.takesOver?.damaged
    this.index = index
    this.name = name
    this.swarm = own
    this.#network = network
    this.#events = events
    this.#random = seededRandom(seed * 31 + index)
    this.disk = new SimDisk({
      before: options.takesOver?.disk,
      location: `the disk of ${name}`,
      random: seededRandom(seed * 37 + index),
      commitMs: own.commitMs,
      checkpointMs: { min: own.commitMs.max, max: own.commitMs.max * 4 },
      early: swarm.early,
      commitTimeoutMs: swarm.commitTimeoutMs,
      after: (ms, action) => {
        network.time.after(ms, () => {
          events.touched(this)
          action()
        })
      },
      events: {
        fatal: (reason) => this.die(reason),
        landing: (environment, operations) => {
          for (const operation of operations) {
            if (operation.type !== 'put' || operation.database !== STABLE) continue
            this.isMarked ||= Buffer.compare(operation.key, DAMAGE_KEY) === 0
          }
          events.landing(this, environment, operations)
        },
      },
    })
    const argv = [
      ...['--bind', name, ...contacts],
      ...['--heartbeat-interval-ms', String(swarm.heartbeatMs)],
      ...['--election-timeout-ms', String(swarm.electionMs)],
      ...['--park-timeout-ms', String(swarm.parkTimeoutMs)],
      ...['--park-bytes', String(own.parkBytes)],
      ...['--log-retain-max', String(own.logRetain)],
      ...['--snapshot-log-max', String(own.snapshotLog)],
      ...['--digest-interval-ms', String(DIGEST_INTERVAL_MS)],
      ...['--redirect', swarm.redirectMoved ? 'moved' : 'forward'],
    ]
    this.config = loadConfig({ argv, environment: {}, readFile: () => '' })
  }

  /** Its process is there, though it may still be reading its disk. */
  get isUp(): boolean {
    return this.#host !== undefined
  }

  get isServing(): boolean {
    return this.#process !== undefined
  }

  get process(): Process | undefined {
    return this.#process
  }

  get cache(): ObservedLog | undefined {
    return this.#cache
  }

  get host(): MachineHost | undefined {
    return this.#host
  }

  /** Within the next entry that it applies it does this to its state, as no other node does. */
  applyWrongly(act: (state: StateStore) => void): void {
    this.#applyWrongly = act
  }

  get willApplyWrongly(): boolean {
    return this.#applyWrongly !== undefined
  }

  /** undefined while it has no process, or belongs to no cluster yet. */
  status(): CoreStatus | undefined {
    return this.#process?.replica.status()
  }

  start(): void {
    if (this.isUp || this.lost !== undefined) return
    const host = new MachineHost(this.#network, this.name, {
      drift: this.swarm.drift,
      wall: () => Math.floor(1_700_000_000_000 + this.#network.time.now + this.wallError),
      begin: () => this.#events.touched(this),
      failed: (error) => this.threw(error),
    })
    this.#host = host
    this.level = this.#events.build(this)
    this.doomed = false
    this.disk.attach((ms, action) => void host.after(ms, action))
    this.#open(host).catch((error: unknown) => {
      if (this.#host === host) this.threw(error)
    })
  }

  /** An exception that nothing caught: the end of the process. Of a bug, unless its disk is to blame. */
  threw(error: unknown): void {
    const isBug = error instanceof InvariantError || error instanceof AssertionError
    if (!isBug && this.damaged !== undefined && isCorruption(error)) {
      this.lost = `${error}`
      this.die(`${error}`)
      return
    }
    if (this.doomed && !isBug) this.die(`${error}`)
    else this.#events.broken(error)
  }

  async #open(host: MachineHost, isReinstalled = false): Promise<void> {
    const { config, swarm } = this
    const open = (): Promise<Storage> =>
      openStorage(this.disk, {
        memtableBytes: swarm.memtableBytes,
        cacheBytes: CACHE_BYTES,
        expiringKeysMax: limits.expiringKeysMax,
        views: limits.stateViews,
        now: () => host.ownClock.monotonic(),
      })
    const storage =
      this.#takesOver === undefined
        ? await open()
        : await openOrStartOver({ engine: this.disk, open, log: silentLogger() })
    if (this.#takesOver !== undefined && !this.#hasTakenOver(storage, this.#takesOver)) return
    const { log, state, received } = storage
    const damage = knownDamage(storage)
    if (damage !== undefined) {
      this.id = log.identity().nodeId
      await this.#reinstall(host, storage, damage)
      return
    }
    if (this.isForced) await this.#force(host, storage)
    const { nodeId, clusterId } = log.identity()
    this.id = nodeId
    const { ownClock: clock, ownTimers: timers } = host
    const logger = silentLogger()
    const observed = observedState(state, {
      applying: () => {
        this.#applyWrongly?.(state)
        this.#applyWrongly = undefined
      },
      applied: (change) => this.#events.applied(this, change),
    })
    const freeBytes = (): number => Number.POSITIVE_INFINITY
    const space = new DiskSpace({ config, clock, log: logger, freeBytes })
    const replica = new Replica({
      space,
      damaged: (what, sound) => this.#damaged(host, what, sound),
      config,
      network: host.network,
      clock,
      timers,
      random: this.#random,
      randomBytes: (count) => Uint8Array.from({ length: count }, () => this.#random() * 256),
      log: logger,
      id: nodeId,
      clusterId,
      incarnation: log.boots(),
      replaces: log.replaces(),
      level: this.level,
      list: readClusterList(config.get('cluster'), config.get('peer-announce')),
      disk: log,
      openLog: () => {
        this.#cache = new ObservedLog(this, new LogCache(log, swarm.cache), this.#events)
        return this.#cache
      },
      logBytes: () => log.bytes(),
      state: observed,
      received,
      afterPoll: (action) => void host.after(0, action),
      fatal: (reason) => this.die(reason),
    })
    const facts = new NodeFacts({
      config,
      clock,
      nodeId,
      replica,
      frontend: () => frontend,
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
      timers,
      config,
      router: replica.router,
      server: facts,
      log: logger,
      wake: () => replica.wake(),
    })
    replica.attach(frontend)
    this.#process = { host, log, state, replica, frontend, incarnation: log.boots() }
    this.#events.opened(this, isReinstalled ? 'state re-installed' : 'as it was')
    await frontend.open([this.name], config.get('port'))
    await replica.open([this.name], config.get('peer-port'))
    await replica.start()
  }

  async #force(host: MachineHost, storage: Storage): Promise<void> {
    const { config } = this
    this.id = storage.log.identity().nodeId
    this.#events.forcing(this, storage.log)
    await forceNewCluster({
      storage,
      list: readClusterList(config.get('cluster'), config.get('peer-announce')),
      clientAddress: config.get('announce'),
      randomBytes: (count) => Uint8Array.from({ length: count }, () => this.#random() * 256),
      ready: () => Promise.resolve('nobody answers'),
      log: silentLogger(),
    })
    if (this.#host === host) this.#events.forced(this, storage.log)
  }

  /** False: what is damaged is not found by a start, so the flag was not followed, and the node ends again. */
  #hasTakenOver({ log }: Storage, before: Machine): boolean {
    const { nodeId, clusterId } = log.identity()
    if (clusterId !== undefined) {
      this.lost = 'what is damaged is not found by a start'
      this.kill()
      return false
    }
    this.#takesOver = undefined
    this.damaged = undefined
    this.id = nodeId
    this.#events.cameBack(this, before.id)
    return true
  }

  /** As the server does it: src/server.ts, src/lasting-server.ts. */
  #damaged(host: MachineHost, what: string, sound: readonly NodeId[] | undefined): void {
    const process = this.#process
    if (sound === undefined || process === undefined) {
      this.threw(new CorruptStateError(what))
      return
    }
    this.isMarked = false
    this.#events.differs(this, what)
    const { log, replica } = process
    const { clusterId = '' } = log.identity()
    const sources = soundSources(replica.members.all, this.id, sound)
    this.#replaceState(host, process, { what, clusterId, sources }).catch((error: unknown) => {
      if (this.#host === host) this.threw(error)
    })
  }

  async #replaceState(host: MachineHost, process: Process, damage: Damage): Promise<void> {
    const { log, state, replica, frontend } = process
    await endServing({ faces: [frontend], replica, log }, damage)
    if (this.#host !== host) return
    this.#events.silent(this)
    this.#process = undefined
    this.#cache = undefined
    await this.#reinstall(host, { log, state }, damage)
  }

  async #reinstall(
    host: MachineHost,
    { log, state }: Pick<Storage, 'log' | 'state'>,
    damage: Damage,
  ): Promise<void> {
    await state.close()
    await log.close()
    await reinstall(damage, {
      engine: this.disk,
      network: host.network,
      timers: host.ownTimers,
      password: '',
      log: silentLogger(),
      isStopped: () => this.#host !== host,
    })
    if (this.#host === host) await this.#open(host, true)
  }

  /** kill -9. */
  kill(): void {
    this.#applyWrongly = undefined
    this.#host?.kill()
    this.#host = undefined
    this.#process = undefined
    this.#cache = undefined
    this.disk.kill()
  }

  /** The process ends by its own decision. */
  die(reason: string): void {
    if (!this.isUp) return
    this.kill()
    this.#events.died(this, reason)
  }
}

function isCorruption(error: unknown): boolean {
  const text = error instanceof Error ? `${error.name} ${error.message}` : ''
  return /Corrupt|damaged|FormatVersion|Codec|checksum/i.test(text)
}

function silentLogger(): Logger {
  const ignore = (): void => {}
  const logger: Logger = {
    trace: ignore,
    debug: ignore,
    info: ignore,
    warn: ignore,
    error: ignore,
    fatal: ignore,
    child: () => logger,
  }
  return logger
}

/** A host that tells whose event runs, catches what it throws, and whose monotonic clock drifts. */
export class MachineHost extends PausableHost {
  readonly ownClock: Clock
  readonly ownTimers: Timers
  readonly #hooks: { readonly begin: () => void; readonly failed: (error: unknown) => void }
  isPaused = false

  constructor(
    sim: SimNetwork,
    name: string,
    hooks: {
      drift: number
      wall: () => number
      begin: () => void
      failed: (error: unknown) => void
    },
  ) {
    super(sim, name)
    const { drift, wall } = hooks
    this.#hooks = hooks
    this.ownClock = { monotonic: () => sim.time.now * drift, wall }
    this.ownTimers = { after: (ms, action) => this.timer(ms / drift, action) }
  }

  override pause(): void {
    this.isPaused = true
    super.pause()
  }

  override resume(): void {
    this.isPaused = false
    super.resume()
  }

  override after(ms: number, action: () => void): Cancel {
    return super.after(ms, () => this.#run(action))
  }

  override timer(ms: number, action: () => void): Cancel {
    return super.timer(ms, () => this.#run(action))
  }

  #run(action: () => void): void {
    this.#hooks.begin()
    try {
      action()
    } catch (error) {
      this.#hooks.failed(error)
    }
  }
}
