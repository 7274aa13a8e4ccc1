/*
 * One node, put together: the data directory with its lock and stores, the replica on real sockets, clocks and
 * randomness, and the clients in front. Everything that could be simulated is not here (replica.ts).
 *
 * Order of the start: what the operator may have got wrong first (lock, disk, ports), then the cluster. A node
 * listens to its clients before it belongs to a cluster, so that they are told so instead of being refused.
 */

import { randomBytes } from 'node:crypto'
import { statfsSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import type { NodeId } from '../raft/types.ts'
import { ErrorReply } from '../resp/encoder.ts'
import type { Engine, OnFatal } from '../storage/engine.ts'
import { LmdbEngine } from '../storage/lmdb-engine.ts'
import { LogCache } from '../storage/log-cache.ts'
import { openStorage, type Storage } from '../storage/open.ts'
import { type ClusterList, readClusterList } from './bootstrap.ts'
import { checkReady } from './check.ts'
import { resolveSentinel } from './commands/sentinel.ts'
import { type Config, limits } from './config.ts'
import { type Damage, endServing, knownDamage, soundSources } from './damage.ts'
import { acquireDataLock, type DataLock } from './data-lock.ts'
import { DiskSpace } from './disk-space.ts'
import { FEATURE_LEVEL, refuseNewer } from './feature-level.ts'
import { type ForceOptions, forceNewCluster } from './force-new-cluster.ts'
import { Frontend, type FrontendOptions } from './frontend.ts'
import { LastingServer, type Life } from './lasting-server.ts'
import type { RootLogger } from './logger.ts'
import { parseAddress } from './network.ts'
import { NodeFacts, type NodeFactsOptions } from './node-facts.ts'
import { fitClients } from './open-files.ts'
import type { BindAddress } from './option-kinds.ts'
import { ProcessMemory } from './process-memory.ts'
import { openOrStartOver } from './rejoin.ts'
import { Replica } from './replica.ts'
import type { ReplicaWatch } from './replica-ports.ts'
import { SentinelEvents } from './sentinel-events.ts'
import { systemClock, systemTimers, TcpNetwork } from './tcp.ts'
import { version } from './version.ts'
import { endProcess, Watchdog } from './watchdog.ts'
import { watchedEngine } from './watched-engine.ts'

export interface RunningServer {
  /** Orderly: clients get what was answered, what was applied is made durable. */
  stop(): Promise<void>
  /** Resolves when the server has stopped, by stop() or by the command SHUTDOWN. */
  readonly closed: Promise<void>
}

/** How often the memory in use is looked at for its peak, which costs some 20 us. */
const MEMORY_SAMPLE_MS = 100

interface ServerParts {
  readonly config: Config
  readonly logger: RootLogger
  readonly list: ClusterList
  readonly lock: DataLock
  readonly watchdog: Watchdog
  readonly storage: Storage
  readonly level: number
}

export interface ServerOptions {
  readonly config: Config
  readonly logger: RootLogger
  /** The highest feature level that the node knows; another one than this build's is for tests of upgrades. */
  readonly featureLevel?: number
  /** See force-new-cluster.ts. */
  readonly forceNewCluster?: boolean
  /** The disk; another one than LMDB is for tests that prove what they would catch. */
  readonly engine?: (directory: string, onFatal: OnFatal) => Engine
}

/**
 * Resolves when clients and peers are listened to; the node may still be waiting for its cluster then. Throws
 * OperatorError for what the operator has to mend (ports, directory, lock) and the stores' errors.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { config, logger } = options
  fitClients(config, logger)
  const open = (): Promise<Life> => openServer(options)
  return new LastingServer({ config, logger, timers: systemTimers, open }, await open())
}

async function openServer(options: ServerOptions): Promise<Life> {
  const { config, logger } = options
  const openEngine =
    options.engine ?? ((path: string, onFatal: OnFatal) => new LmdbEngine(path, onFatal))
  const isComingBack = config.get('rejoin').length > 0
  // The initial members would only say again that an empty node is none of them.
  const cluster = isComingBack ? [] : config.get('cluster')
  const list = readClusterList(cluster, config.get('peer-announce'))
  const directory = config.get('dir')
  const lock = await acquireDataLock(directory)
  const watchdog = new Watchdog({
    logCommitTimeoutMs: config.get('commit-timeout-ms'),
    stateCommitTimeoutMs: limits.stateCommitTimeoutMs,
    stallTimeoutMs: limits.stallTimeoutMs,
    logFd: logger.fd,
    json: !logger.pretty,
  })
  const engine = openEngine(directory, (reason) => endProcess(logger, reason))
  const watched = watchedEngine(engine, watchdog)
  const open = (): Promise<Storage> => {
    return openStorage(watched, {
      memtableBytes: config.get('memtable-size'),
      checkpointPagesMax: limits.checkpointPagesMax,
      expiringKeysMax: limits.expiringKeysMax,
      cacheBytes: config.get('maxmemory-cache'),
      views: limits.stateViews,
      now: () => systemClock.monotonic(),
    })
  }
  const storage = isComingBack
    ? await openOrStartOver({ engine: watched, open, log: logger })
    : await open()
  const { forceNewCluster: isForced = false } = options
  const damage = knownDamage(storage)
  // The one survivor of a cluster that is lost has nobody to ask.
  const goesOn = isForced && !storage.log.wasForced()
  if (damage !== undefined && !goesOn) {
    const { what, sources } = damage
    logger.error({ sources }, `the state was damaged before this start: ${what}; it is replaced`)
    await closeStores({ watchdog, storage, lock })
    return { stop: () => Promise.resolve(), closed: Promise.resolve(damage) }
  }
  if (damage !== undefined) logger.warn({}, `the state that is kept was damaged: ${damage.what}`)
  const level = options.featureLevel ?? FEATURE_LEVEL
  refuseNewer(storage.state.featureLevel(), level)
  if (isForced) {
    const clientAddress = config.get('announce')
    const ready = asksReady(config)
    await forceNewCluster({ storage, list, clientAddress, randomBytes, ready, log: logger })
  } else await storage.log.forgetForced()
  const server = new Server({ config, logger, list, lock, watchdog, storage, level })
  try {
    await server.open()
  } catch (error) {
    // A port is taken, say: the directory is left as an orderly stop leaves it, without a lock.
    await server.stop()
    throw error
  }
  return server
}

class Server implements Life {
  readonly closed: Promise<Damage | undefined>
  readonly #parts: ServerParts
  readonly #replica: Replica
  readonly #space: DiskSpace
  readonly #frontend: Frontend
  /** Clients that ask this node as a Sentinel; it listens only where `sentinel-port` says so. */
  readonly #sentinel: Frontend
  readonly #memory = new ProcessMemory()
  #sampling: NodeJS.Timeout | undefined
  #logCache: LogCache | undefined
  #stopping: Promise<void> | undefined
  #resolveClosed: (damage: Damage | undefined) => void = () => {}

  constructor(parts: ServerParts) {
    this.#parts = parts
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    this.#space = new DiskSpace({
      ...{ config: parts.config, clock: systemClock, log: parts.logger },
      freeBytes: () => freeBytes(parts.config.get('dir')),
    })
    const network = new TcpNetwork()
    this.#replica = this.#createReplica(network)
    this.#frontend = this.#createFrontend(network)
    this.#sentinel = this.#createFrontend(network, { sentinel: true, resolve: resolveSentinel })
    this.#replica.attach({
      work: () => {
        this.#frontend.work()
        this.#sentinel.work()
      },
      flush: () => {
        this.#frontend.flush()
        this.#sentinel.flush()
      },
    })
    const { nodeId } = parts.storage.log.identity()
    parts.logger.identify(() => ({ node: nodeId, term: this.#replica.term }))
  }

  #createReplica(network: TcpNetwork): Replica {
    const { config, logger, list, storage, level } = this.#parts
    const { log, state } = storage
    const { nodeId, clusterId } = log.identity()
    return new Replica({
      config,
      network,
      clock: systemClock,
      timers: systemTimers,
      random: Math.random,
      randomBytes,
      log: logger,
      id: nodeId,
      clusterId,
      replaces: log.replaces(),
      level,
      incarnation: log.boots(),
      list,
      disk: log,
      openLog: () => {
        this.#logCache = new LogCache(log, {
          entries: config.get('log-cache-entries'),
          bytes: config.get('log-cache-size'),
        })
        return this.#logCache
      },
      logBytes: () => log.bytes(),
      state,
      space: this.#space,
      received: storage.received,
      afterPoll: (action) => void setImmediate(action),
      watch: this.#watch(),
      damaged: (what, sound) => this.#damaged(what, sound),
      fatal: (reason) => endProcess(logger, reason),
    })
  }

  #watch(): ReplicaWatch {
    const { config } = this.#parts
    const events = new SentinelEvents({
      masterName: () => config.get('sentinel-master-name'),
      members: () => this.#replica.members.all,
      sessions: () => this.#sentinel.sessions(),
    })
    return {
      leading: (leader) => events.leading(leader),
      peer: (member, change) => events.peer(member, change),
      steppedDown: () => {
        if (config.get('close-on-step-down')) this.#frontend.endWhenIdle()
      },
    }
  }

  #createFrontend(
    network: TcpNetwork,
    face: Pick<NodeFactsOptions, 'sentinel'> & Pick<FrontendOptions, 'resolve'> = {},
  ): Frontend {
    const { config, logger, storage } = this.#parts
    const facts = new NodeFacts({
      config,
      clock: systemClock,
      nodeId: storage.log.identity().nodeId,
      replica: this.#replica,
      frontend: () => frontend,
      ...face,
      logCache: () => this.#logCache?.metrics(),
      state: storage.state,
      logBytes: () => storage.log.bytes(),
      space: this.#space,
      memory: this.#memory,
      shutdown: async () => {
        logger.info({}, 'stopping: SHUTDOWN')
        await this.stop()
        return new ErrorReply('ERR the server has stopped')
      },
    })
    const frontend: Frontend = new Frontend({
      network,
      clock: systemClock,
      timers: systemTimers,
      config,
      router: this.#replica.router,
      server: facts,
      log: logger,
      wake: () => this.#replica.wake(),
      ...face,
    })
    return frontend
  }

  async open(): Promise<void> {
    const { config, logger } = this.#parts
    const hosts = availableHosts(config.get('bind'))
    await this.#frontend.open(hosts, config.get('port'))
    if (config.get('sentinel-port') > 0)
      await this.#sentinel.open(hosts, config.get('sentinel-port'))
    await this.#replica.open(hosts, config.get('peer-port'))
    logger.info({ port: config.get('port'), version }, 'listening')
    this.#sampling = setInterval(() => this.#memory.sample(), MEMORY_SAMPLE_MS)
    this.#replica.start().catch((error: unknown) => endProcess(logger, String(error)))
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** Serves nothing from now on. What it has applied is worth nothing; its log is. */
  #damaged(what: string, sound: readonly NodeId[] | undefined): void {
    const { logger, storage } = this.#parts
    const { nodeId, clusterId = '' } = storage.log.identity()
    const sources = soundSources(this.#replica.members.all, nodeId, sound)
    if (sources.length === 0) {
      endProcess(logger, `the state is damaged: ${what}, and no other member has it`)
    }
    logger.error({ sources }, `the state is damaged: ${what}; it is replaced by another member's`)
    this.#stopping ??= this.#stop({ what, clusterId, sources })
    this.#stopping.catch((error: unknown) => endProcess(logger, String(error)))
  }

  async #stop(damage?: Damage): Promise<void> {
    const { logger, storage } = this.#parts
    clearInterval(this.#sampling)
    const faces = [this.#frontend, this.#sentinel]
    await endServing({ faces, replica: this.#replica, log: storage.log }, damage)
    await closeStores(this.#parts)
    logger.info({}, 'stopped')
    this.#resolveClosed(damage)
  }
}

async function closeStores(
  parts: Pick<ServerParts, 'watchdog' | 'storage' | 'lock'>,
): Promise<void> {
  const { watchdog, storage, lock } = parts
  await watchdog.stop()
  await storage.state.close()
  await storage.log.close()
  await lock.release()
}

/** Members have the same password. */
function asksReady(config: Config): ForceOptions['ready'] {
  return async (address, clusterId) => {
    const at = parseAddress(address)
    if (at === undefined) return `${address} is no address`
    const password = config.get('requirepass')
    const timeoutMs = limits.forceCheckMs
    return checkReady({ ...at, password, clusterId, timeoutMs })
  }
}

function freeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(directory)
  return bavail * bsize
}

/** The addresses to listen on: an optional one counts only where this machine has it. */
function availableHosts(bind: readonly BindAddress[]): readonly string[] {
  const own = new Set(
    Object.values(networkInterfaces()).flatMap((all) => all?.map((one) => one.address)),
  )
  return bind.filter(({ host, optional }) => !optional || own.has(host)).map(({ host }) => host)
}
