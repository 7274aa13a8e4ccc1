/*
 * What this node can tell about itself: the door behind which INFO, RAFT, CONFIG, CLIENT and AUTH find the server.
 * Every answer is made from the parts that know it at the moment it is asked for. It changes nothing but options.
 */

import { createHash } from 'node:crypto'
import { arch, release, type } from 'node:os'
import type { Index } from '../raft/types.ts'
import type { Reply } from '../resp/encoder.ts'
import type { LogCacheMetrics } from '../storage/log-cache.ts'
import type { StateStore } from '../storage/state-store.ts'
import type {
  BackupPort,
  InfoFacts,
  LocalServer,
  RaftStatus,
  StorageFacts,
} from './commands/local-server.ts'
import type { Config } from './config.ts'
import type { DiskSpace } from './disk-space.ts'
import type { Frontend } from './frontend.ts'
import type { MembershipRequest } from './membership-plan.ts'
import type { RequestOutcome } from './membership-requests.ts'
import type { Clock } from './network.ts'
import { Observer } from './observer.ts'
import type { ProcessMemory } from './process-memory.ts'
import type { Replica } from './replica.ts'
import type { Copies } from './replication-waits.ts'
import { DATABASES, type Session } from './session.ts'
import { version } from './version.ts'

/** How long RAFT READY tries before it says why not. */
const READY_MS = 1000

export interface NodeFactsOptions {
  readonly config: Config
  readonly clock: Clock
  readonly nodeId: string
  readonly replica: Replica
  readonly frontend: () => Frontend
  /** It speaks for the Sentinel port, not for that of the data. */
  readonly sentinel?: true
  /** undefined until the log is opened. */
  readonly logCache: () => LogCacheMetrics | undefined
  readonly state: Pick<StateStore, 'durableAt' | 'metrics' | 'featureLevel'>
  readonly logBytes: () => number
  readonly space: Pick<DiskSpace, 'freeBytes' | 'refusal'>
  readonly memory: ProcessMemory
  readonly shutdown: () => Promise<Reply>
}

export class NodeFacts implements LocalServer {
  readonly #options: NodeFactsOptions
  readonly config: Config
  readonly observer: Observer
  readonly backups: BackupPort
  readonly #startedAt: number
  #passwordDigest: Uint8Array | undefined

  constructor(options: NodeFactsOptions) {
    this.#options = options
    this.config = options.config
    this.backups = options.replica.snapshots.backups
    const { clock, config } = options
    this.#startedAt = clock.monotonic()
    this.observer = new Observer({
      wall: () => clock.wall(),
      slowerThanMicros: () => config.get('slowlog-log-slower-than'),
      slowlogMax: () => config.get('slowlog-max-len'),
      latencyThresholdMs: () => config.get('latency-monitor-threshold'),
    })
    config.watch('slowlog-max-len', () => this.observer.slowlog.settle())
    const digest = (): void => {
      const password = this.config.get('requirepass')
      this.#passwordDigest =
        password === '' ? undefined : createHash('sha256').update(password).digest()
    }
    digest()
    this.config.watch('requirepass', digest)
  }

  now(): number {
    return this.#options.clock.monotonic()
  }

  wall(): number {
    return this.#options.clock.wall()
  }

  resetStats(): void {
    this.observer.reset()
    this.#options.replica.keyspace.counts.reset()
    this.#options.frontend().resetStats()
    this.#options.memory.resetPeak()
  }

  pause(ms: number, mode: 'all' | 'write'): void {
    this.#options.frontend().pause(ms, mode)
  }

  unpause(): void {
    this.#options.frontend().unpause()
  }

  passwordDigest(): Uint8Array | undefined {
    return this.#passwordDigest
  }

  sessions(): Iterable<Session> {
    return this.#options.frontend().sessions()
  }

  ready(): Promise<string | undefined> {
    return this.#options.replica.ready(READY_MS)
  }

  replicated(
    session: Session,
    { wanted, timeoutMs, isOver }: Parameters<LocalServer['replicated']>[1],
  ): Promise<Copies> {
    const { writes } = session
    const { sent } = writes
    let index: Index | undefined
    return this.#options.replica.replicated({
      // Later writes of the connection are not waited for.
      index: () => {
        if (index === undefined && writes.answered >= sent) index = writes.index
        return index
      },
      wanted,
      deadline: timeoutMs === 0 ? Number.POSITIVE_INFINITY : this.now() + timeoutMs,
      isOver: () => session.isClosed || isOver() || (timeoutMs === 0 && session.hasFinished),
    })
  }

  changeMembership(request: MembershipRequest): Promise<RequestOutcome> {
    return this.#options.replica.members.request(request)
  }

  shutdown(): Promise<Reply> {
    return this.#options.shutdown()
  }

  mode(): 'standalone' | 'cluster' | 'sentinel' {
    if (this.#options.sentinel) return 'sentinel'
    return this.config.get('cluster-enabled') ? 'cluster' : 'standalone'
  }

  masterName(): string {
    return this.config.get('sentinel-master-name')
  }

  sentinelPort(): number {
    return this.config.get('sentinel-port')
  }

  raft(): RaftStatus {
    const { replica, nodeId, logCache, state } = this.#options
    const { members } = replica
    const status = replica.status()
    const cache = logCache()
    const matches = new Map(status?.peers.map(({ id, match }) => [id, match]))
    const leads = status?.role === 'leader'
    // All hear the leader again and again, and it hears all; others speak to one another only when they vote.
    const hears = (id: string): boolean => id !== nodeId && (leads || id === status?.leader)
    return {
      nodeId,
      clusterId: replica.clusterId ?? '',
      role: status?.role ?? 'follower',
      term: status?.term ?? 0,
      leader: members.member(status?.leader),
      lastLeader: members.member(members.lastLeader),
      removed: members.isRemoved,
      changing: members.membership?.outgoing !== undefined,
      members: members.all.map((member) => {
        const self = member.id === nodeId
        return {
          member,
          connected: self || members.isUp(member.id),
          match: leads ? (self ? status.durable : matches.get(member.id)) : undefined,
          silentForMs: hears(member.id) ? members.silentForMs(member.id) : undefined,
        }
      }),
      commit: status?.commit ?? 0,
      applied: status?.applied ?? 0,
      logFirst: status?.first ?? 1,
      logLast: status?.last ?? 0,
      featureLevel: state.featureLevel(),
      logLastTerm: status?.lastTerm ?? 0,
      durable: status?.durable ?? 0,
      checkpoint: state.durableAt().index,
      slowest: status?.slowest,
      logCacheHits: cache?.hits ?? 0,
      logCacheMisses: cache?.misses ?? 0,
      pendingProposals: replica.router.pendingEntries,
      parkedCommands: replica.router.parked,
      restingCommands: replica.router.resting,
    }
  }

  storage(): StorageFacts {
    const { config, replica, state, logCache, logBytes, space } = this.#options
    const { savedAt, bytesToReplay } = replica.checkpoints
    return {
      ...state.metrics(),
      savedAt,
      bytesToReplay,
      memtableBytesMax: config.get('memtable-size'),
      cacheBytesMax: config.get('maxmemory-cache'),
      logCacheBytes: logCache()?.bytes ?? 0,
      logBytes: logBytes(),
      scrubPasses: replica.checks.scrub.passes,
      diskFreeBytes: space.freeBytes,
      diskLow: space.refusal !== undefined,
    }
  }

  save(): Promise<void> {
    return this.#options.replica.checkpoints.save()
  }

  info(): InfoFacts {
    const { config, replica } = this.#options
    const frontend = this.#options.frontend()
    const { system, user } = process.cpuUsage()
    const memory = this.#options.memory.facts()
    return {
      holdfastVersion: version,
      processId: process.pid,
      port: config.get('port'),
      startedAt: this.#startedAt,
      operatingSystem: `${type()} ${release()} ${arch()}`,
      nodeVersion: process.version,
      executable: process.execPath,
      configFile: config.file,
      maxClients: config.get('maxclients'),
      connectedClients: frontend.connectedClients,
      blockedClients: frontend.blockedClients,
      monitors: this.observer.monitors,
      clientMemoryBytes: frontend.memoryBytes,
      clientMemoryMax: config.get('maxmemory-clients'),
      usedMemoryBytes: memory.used,
      usedMemoryPeakBytes: memory.usedPeak,
      residentMemoryBytes: memory.resident,
      residentAnonymousBytes: memory.residentAnonymous,
      residentFileBytes: memory.residentFile,
      ...frontend.stats,
      ...frontend.rates,
      keyspace: replica.keyspace.counts,
      systemSeconds: system / 1e6,
      userSeconds: user / 1e6,
      databases: Array.from({ length: DATABASES }, (_, database) =>
        replica.keyspace.facts(database),
      ),
    }
  }
}
