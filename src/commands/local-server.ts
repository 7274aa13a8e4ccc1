/*
 * What local commands may ask of the node they run on: the one narrow door that src/server.ts
 * implements. A command sees facts here, never sockets, stores or timers, so all of them run in a
 * test with a plain object. Every number is true at the moment it is asked for; what a node cannot
 * know is undefined, never a guess.
 */

import type { Index, Member, NodeId, Role, Slowest, Term } from '../../raft/types.ts'
import type { Reply } from '../../resp/encoder.ts'
import type { StateMetrics } from '../../storage/state-store.ts'
import type { KeyspaceCounts } from '../keyspace-counts.ts'
import type { MembershipRequest } from '../membership-plan.ts'
import type { RequestOutcome } from '../membership-requests.ts'
import type { Observer } from '../observer.ts'
import type { Copies } from '../replication-waits.ts'
import type { Session } from '../session.ts'

/**
 * The server whose behaviour and texts this one follows: clients choose features by this number.
 */
export const REDIS_VERSION = '7.2.4'

export interface LocalServer {
  /** Now, in ms of the monotonic clock that also stamps the sessions and `startedAt`. */
  now(): number
  /** SHA-256 of `requirepass`; undefined while there is none. */
  passwordDigest(): Uint8Array | undefined
  /** Now, in ms since 1970, as this machine believes. */
  wall(): number
  /** What is remembered of the commands of this port's clients. */
  readonly observer: Observer
  /** CONFIG RESETSTAT: what is counted begins at zero again. */
  resetStats(): void
  /** CLIENT PAUSE: commands wait for so many ms, all of them or those that write. */
  pause(ms: number, mode: 'all' | 'write'): void
  unpause(): void
  /** Every open connection, oldest first. */
  sessions(): Iterable<Session>
  readonly config: ConfigPort
  /** Which face of the server this is: what HELLO and INFO call its mode. */
  mode(): 'standalone' | 'cluster' | 'sentinel'
  /** What Sentinel clients call this cluster. */
  masterName(): string
  /** 0: there is none. */
  sentinelPort(): number
  raft(): RaftStatus
  info(): InfoFacts
  storage(): StorageFacts
  /**
   * Resolves when everything that is applied now is durable in the state. Never rejects: a checkpoint that fails ends
   * the process.
   */
  save(): Promise<void>
  /**
   * Resolves with undefined once this node has served a linearizable read, else with why it could
   * not.
   */
  ready(): Promise<string | undefined>
  /** Resolves when the wish is fulfilled, refused, or given up for now. */
  changeMembership(request: MembershipRequest): Promise<RequestOutcome>
  /**
   * Resolves once the session's writes so far are on as many disks as wanted, or after `timeoutMs` (0: never), or
   * when it is over, with as many as there are.
   */
  replicated(
    session: Session,
    until: {
      readonly wanted: Copies
      readonly timeoutMs: number
      readonly isOver: () => boolean
    },
  ): Promise<Copies>
  readonly backups: BackupPort
  /**
   * Ends the process in order. Its connections end without a reply, as in Redis, so the promise
   * settles only when the shutdown could not be begun.
   */
  shutdown(): Promise<Reply>
}

export interface ConfigPort {
  /**
   * Every option by its redis.conf name (lower case) with its present value as redis.conf would
   * have it.
   */
  entries(): Iterable<readonly [name: string, value: string]>
  /** All of them or none; names in any case, as they were typed. */
  set(changes: readonly (readonly [name: string, value: string])[]): ConfigRefusal | undefined
  /** Writes the options as they are into the file that they came from. */
  rewrite(): Promise<RewriteFailure | undefined>
}

/** `reason` is the file system's; undefined: there is no file. */
export interface RewriteFailure {
  readonly reason: string | undefined
}

/** See BackupSource; both reject with BackupError. */
export interface BackupPort {
  begin(owner: Session): Promise<Uint8Array>
  next(owner: Session): Promise<Uint8Array | undefined>
}

/**
 * Why CONFIG SET changed nothing; `reason` as Redis words it, for instance `can't set immutable
 * config`, and `name` as Redis tells it: what is wrong with a value is told of the option's own name.
 */
export interface ConfigRefusal {
  readonly name: string
  /** undefined: there is no such option. */
  readonly reason: string | undefined
}

/** One member of the cluster as this node sees it. */
export interface MemberStatus {
  readonly member: Member
  /** Of another member: whether a link to it is up; of this node: true. */
  readonly connected: boolean
  /** Of the leader only: up to where the member's log is known to be durable and equal. */
  readonly match: Index | undefined
  /** Ms since the member was last heard: of every other one at the leader, at the others of the leader. */
  readonly silentForMs: number | undefined
}

export interface RaftStatus {
  readonly nodeId: NodeId
  readonly clusterId: string
  readonly role: Role
  readonly term: Term
  /** Whom this node follows in this term; itself when it leads. */
  readonly leader: Member | undefined
  /** The latest leader this node has known, also while it knows none. */
  readonly lastLeader: Member | undefined
  /** This node was a member once, and serves nothing any more. */
  readonly removed: boolean
  /** The membership in force is joint: the change is not over. */
  readonly changing: boolean
  /** The membership in force, this node included. */
  readonly members: readonly MemberStatus[]
  readonly commit: Index
  readonly applied: Index
  /** Index of the first entry that the log still has (base + 1) and of the last one. */
  readonly logFirst: Index
  readonly logLast: Index
  /** What all members understand of each other, as far as this node has applied. */
  readonly featureLevel: number
  /** Of two logs the one with the later last term is the later one; then the longer one. */
  readonly logLastTerm: Term
  /** Last index that is durable on this node. */
  readonly durable: Index
  /** Index of the last durable checkpoint of the state. */
  readonly checkpoint: Index
  /** Who holds compaction back, and at which index. */
  readonly slowest: Slowest | undefined
  readonly logCacheHits: number
  readonly logCacheMisses: number
  /** Entries proposed here whose outcome is open. */
  readonly pendingProposals: number
  /** Commands parked here for want of a leader. */
  readonly parkedCommands: number
  /** Writes of large values, and what came behind them, that others are served before: see HeavyWrites. */
  readonly restingCommands: number
}

export interface DatabaseFacts {
  readonly keys: number
  /** Of them, those that will expire. */
  readonly expires: number
  /** What those have left, by a sample of them; 0 where there are none. */
  readonly averageTtlMs: number
}

/** What this node has of its state and its log, in memory and on disk. */
export interface StorageFacts extends StateMetrics {
  /** When the last checkpoint was durable, in ms of the wall clock. */
  readonly savedAt: number
  /** Entries applied since the last checkpoint began, in bytes. */
  readonly bytesToReplay: number
  /** At these the memtable is full, and the cache of values too. */
  readonly memtableBytesMax: number
  readonly cacheBytesMax: number
  readonly logCacheBytes: number
  /** What the log's records occupy on disk. */
  readonly logBytes: number
  /** How often the whole state was read through since the start. */
  readonly scrubPasses: number
  /** What the disk has left, as it was last seen, and whether that is too little for writes. */
  readonly diskFreeBytes: number
  readonly diskLow: boolean
}

/** What INFO tells beyond RaftStatus. */
export interface InfoFacts {
  readonly holdfastVersion: string
  readonly processId: number
  /** The client port. */
  readonly port: number
  readonly startedAt: number
  /** As `os.type() os.release() os.arch()`, like Redis. */
  readonly operatingSystem: string
  readonly nodeVersion: string
  readonly executable: string
  /** '' without one. */
  readonly configFile: string
  readonly maxClients: number
  readonly connectedClients: number
  /** Those that wait in WAIT or WAITAOF, or with a command for the end of CLIENT PAUSE. */
  readonly blockedClients: number
  /** Connections that are in MONITOR. */
  readonly monitors: number
  /** Input, transactions and unread replies of all connections. */
  readonly clientMemoryBytes: number
  readonly clientMemoryMax: number
  /** Bytes in use: heap and buffers. */
  readonly usedMemoryBytes: number
  readonly usedMemoryPeakBytes: number
  readonly residentMemoryBytes: number
  /** Of it, the process's own, and pages of mapped files, which the kernel takes back when it needs them. */
  readonly residentAnonymousBytes: number | undefined
  readonly residentFileBytes: number | undefined
  /** Since the start of the process: */
  readonly connectionsReceived: number
  readonly connectionsRejected: number
  readonly connectionsEvicted: number
  readonly commandsProcessed: number
  readonly inputBytes: number
  readonly outputBytes: number
  readonly keyspace: Pick<KeyspaceCounts, 'hits' | 'misses' | 'expired'>
  /** In the last second. */
  readonly commandsPerSecond: number
  readonly inputBytesPerSecond: number
  readonly outputBytesPerSecond: number
  /** Processor time of this process, in seconds. */
  readonly systemSeconds: number
  readonly userSeconds: number
  /** Each database, by its number. */
  readonly databases: readonly DatabaseFacts[]
}
