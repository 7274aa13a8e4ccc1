/*
 * Every option and every limit of the server, in one table: name (redis.conf's where Redis has the concept),
 * kind with unit and bounds, default, help, and whether CONFIG SET may change it. Code asks `config.get(name)`
 * each time it needs a value, so a changed option holds at once. This file must not know who uses an option.
 */

import { DATABASES } from '../storage/state-meta.ts'
import type { ConfigPort, ConfigRefusal, RewriteFailure } from './commands/local-server.ts'
import { rewriteConfigFile, type WrittenOption } from './config-rewrite.ts'
import { brokenRules } from './config-rules.ts'
import { formatAddress, parseAddress } from './network.ts'
import {
  address,
  addresses,
  type BindAddress,
  bindAddresses,
  boolean,
  bytes,
  choice,
  integer,
  type OptionKind,
  type OutputLimits,
  outputLimits,
  path,
  text,
} from './option-kinds.ts'

export const logLevels = ['debug', 'verbose', 'notice', 'warning'] as const
export type LogLevel = (typeof logLevels)[number]

/** The value of every option, by its name. */
export interface Settings {
  readonly port: number
  readonly 'peer-port': number
  readonly bind: readonly BindAddress[]
  readonly dir: string
  readonly 'peer-announce': string
  readonly announce: string
  readonly cluster: readonly string[]
  readonly join: readonly string[]
  readonly rejoin: readonly string[]
  readonly 'peer-secret': string
  readonly requirepass: string
  readonly 'protected-mode': boolean
  readonly maxclients: number
  readonly timeout: number
  readonly 'tcp-keepalive': number
  readonly 'proto-max-bulk-len': number
  readonly 'client-query-buffer-limit': number
  readonly 'client-output-buffer-limit': OutputLimits
  readonly 'maxmemory-clients': number
  readonly 'transaction-max-bytes': number
  readonly 'write-work-max': number
  readonly 'slowlog-log-slower-than': number
  readonly 'slowlog-max-len': number
  readonly 'latency-monitor-threshold': number
  readonly 'read-consistency': 'linearizable' | 'stale'
  readonly redirect: 'forward' | 'moved'
  readonly 'cluster-enabled': boolean
  readonly 'sentinel-port': number
  readonly 'sentinel-master-name': string
  readonly 'close-on-step-down': boolean
  readonly 'park-timeout-ms': number
  readonly 'park-bytes': number
  readonly 'election-timeout-ms': number
  readonly 'heartbeat-interval-ms': number
  readonly 'commit-timeout-ms': number
  readonly 'slow-commit-ms': number
  readonly 'log-retain-max': number
  readonly 'snapshot-log-max': number
  readonly 'log-cache-size': number
  readonly 'log-cache-entries': number
  readonly 'memtable-size': number
  readonly 'scrub-bytes-per-second': number
  readonly 'digest-interval-ms': number
  readonly 'disk-free-min': number
  readonly 'disk-free-leader-min': number
  readonly 'maxmemory-cache': number
  readonly loglevel: LogLevel
  readonly logfile: string
}

export type OptionName = keyof Settings

export interface Option<Value> {
  readonly kind: OptionKind<Value>
  /** As redis.conf would have it; a function where it follows from options that stand above in the table. */
  readonly default: string | ((settings: Settings) => string)
  /** --help's text for a default that is a function. */
  readonly defaultHelp?: string
  readonly help: string
  /** CONFIG SET may change it while the server runs. */
  readonly settable?: true
  /** Never part of an error line or a log. */
  readonly secret?: true
}

const KB = 1024
const MB = 1024 * KB
const GB = 1024 * MB
/** What a timer of Node.js can hold, in whole seconds. */
const TIMER_SECONDS_MAX = 2_147_483

/** Bounds that no operator changes. Sizes in bytes and times in ms, as their names say. */
export const limits = {
  /** Members of a cluster, and entries of the `cluster` list. */
  membersMax: 9,
  /** Changes of the membership that wait at one node, and nodes that ask it to be added. */
  membershipRequestsMax: 64,
  membershipRequestTimeoutMs: 10_000,
  /** A member that lacks no more entries has caught up: it may be promoted, and counts as one that can go on. */
  caughtUpEntriesMax: 1_000,
  /** A leader that stops, or whose state is damaged, waits so long for another one to lead. */
  handOverTimeoutMs: 2_000,
  /** How long a node that is to be forced into a new cluster asks the others whether the old one serves. */
  forceCheckMs: 5_000,
  bindAddressesMax: 16,
  configFileBytesMax: 1_048_576,
  passwordCharsMax: 512,
  /** An entry of commands is closed at either (one larger command stands alone). */
  entryCommandsMax: 1000,
  entryBytesMax: 1_048_576,
  /** How long one collects commands while another is on its way: some rounds of a cluster on one site. */
  entryWaitMsMax: 5,
  /** How long reads wait for a round before theirs, and for others that share it. */
  readWaitMsMax: 5,
  /**
   * Keys named by the writes of an entry, and by one write: more are refused. A key costs up to 6 us to apply, an
   * operation of BITFIELD as much, so they are counted alike.
   */
  entryKeysMax: 1000,
  /** Bytes of values that the writes of an entry will handle, as far as its leader can tell: 10 to 40 ms of copying. */
  entryWeightMax: 33_554_432,
  writeKeysMax: 5_000,
  /** Entries in one append to a peer; a larger entry travels alone. */
  appendFrameBytesMax: 1_048_576,
  /** Appends on their way to one peer, by number and bytes. */
  appendsInFlightMax: 256,
  appendBytesInFlightMax: 33_554_432,
  /** Proposed and not yet committed entries. */
  uncommittedBytesMax: 67_108_864,
  /** Entries proposed by this node that are not applied: more wait while its state's disk falls behind. */
  unappliedBytesMax: 67_108_864,
  /** Committed entries that wait to be applied, and those applied in one turn. */
  applyQueueBytesMax: 67_108_864,
  applySliceBytesMax: 262_144,
  /** Pages of 4 KiB that one checkpoint changes: they are in memory until it is durable, and kept for the next one. */
  checkpointPagesMax: 49_152,
  /** Keys of one database that expire on disk and of which position and time are kept: see ExpiringKeys. */
  expiringKeysMax: 4096,
  /** Entries removed by one step of a compaction. */
  compactStepEntriesMax: 1024,
  /** A part of a snapshot, and what may be on its way of one: well below the queue of its link. */
  snapshotChunkBytes: 262_144,
  snapshotWindowBytes: 4_194_304,
  /** Snapshots that this node sends at a time. */
  snapshotsSendingMax: 2,
  /** Its link may be away so long, or the other side silent, before a snapshot is given up. */
  snapshotPatienceMs: 30_000,
  /** The other side may take so long for what it is building; above the longest commit of a state. */
  snapshotStallMs: 150_000,
  /** A piece of a scrub, and the pause behind a whole pass of it. */
  scrubStepBytes: { min: 16_384, max: 1_048_576 },
  scrubPauseMs: 1000,
  /** A node whose state is damaged asks the others for theirs, again and again, at this distance. */
  reinstallRetryMs: 1000,
  /** A backup begins with a linearizable read, which is tried for so long. */
  backupReadyMs: 5000,
  /** Commands handed to the leader and not answered. */
  forwardBytesMax: 67_108_864,
  /** Writes of large values rest beside others: see HeavyWriteLimits. */
  heavyWrites: {
    bytesMin: 262_144,
    bytesPerKey: 512,
    pipelineMin: 256,
    batchBytes: 4_194_304,
    othersMs: 1000,
    slowMs: 30,
    quickPerSlow: 256,
    restMsMax: 3000,
    checkpointMsMax: 10_000,
    restingBytesMax: 268_435_456,
  },
  /** Commands that wait for room at the leader, above which clients are read no further. */
  backlogBytesMax: 67_108_864,
  /** Bytes that wait on one link to a peer. */
  peerQueueBytesMax: {
    control: 1_048_576,
    append: 67_108_864,
    forward: 134_217_728,
    snapshot: 16_777_216,
  },
  /** One message of a peer: above every entry and forwarded batch that the options allow. */
  peerMessageBytesMax: 1_073_741_824,
  /** Arguments of one command, and bytes of a header or inline line, as in Redis. */
  argumentsMax: 1_048_576,
  lineBytesMax: 65_536,
  /** The same before AUTH, as in Redis. */
  unauthenticatedArgumentsMax: 10,
  /** Of a command of the connection, which answers for each in one go: up to 40 us each, for COMMAND DOCS. */
  localArgumentsMax: 512,
  unauthenticatedBulkBytesMax: 16_384,
  unauthenticatedInputBytesMax: 1_048_576,
  /** Channels, and patterns, of one connection of the Sentinel port. */
  subscriptionsMax: 64,
  /** The most that maxclients may be. */
  clientsMax: 100_000,
  /** Connections that are told why they are refused before they are closed; more are closed without a word. */
  refusedClientsMax: 128,
  /** Open files of a node beside its clients: stores and threads, links to and from eight peers, greetings. */
  ownFilesMax: 256,
  /** Commands one connection may start in one turn before the others get theirs. */
  turnCommandsMax: 256,
  /** Where many connections have commands they share so many in a turn, each at least the second figure. */
  turnSharedCommands: 2048,
  turnShareMin: 16,
  /** Time that a turn gives to commands; whoever had no share yet comes first in the next one. */
  turnWorkMsMax: 8,
  /** The same for reads that run: a pipeline of them on a large value holds up nobody for longer than one takes. */
  turnReadMsMax: 4,
  /** And for those that run in slices. */
  turnSlicesMsMax: 1,
  /** And for the parts of commands that are too long to be taken in in one turn, with so much for reading them. */
  turnLongCommandsMsMax: 2,
  longCommandBytesPerMs: 262_144,
  /** Of values that the reads riding in one entry are given: the others run in later turns, over a view. */
  rideBytesMax: 8_388_608,
  /** Input of one connection above which it is not read any further in this turn. */
  turnInputBytesMax: 262_144,
  /** The same of all together: above it, each is read no further than its first piece. */
  turnAllInputBytesMax: 1_048_576,
  /** Commands of one connection without a reply; a deeper pipeline waits in its socket. */
  openCommandsMax: 1024,
  /** A new connection begins with so many, and doubles them while its replies stay small. */
  openCommandsFirst: 32,
  /** One reply of a read that runs in slices (KEYS, MGET of many keys). */
  longReplyBytesMax: 536_870_912,
  /** Arguments of the open commands of one connection, with what each costs; a single command may have more. */
  openInputBytesMax: 33_554_432,
  argumentOverheadBytes: 64,
  /** Bytes of replies that the open commands of one connection may be expected to produce. */
  openReplyBytesMax: 16_777_216,
  /** Unread replies of one client, where client-output-buffer-limit says 0. */
  outputBytesMax: 1_073_741_824,
  /** Error codes that INFO counts one by one, as in Redis. */
  errorCodesMax: 128,
  /** Of a command as MONITOR shows it. */
  monitorLineBytesMax: 65_536,
  /** Keys that one connection may watch. */
  watchedKeysMax: 10_000,
  /** Commands of one transaction: they run in one go, and everybody else waits for them. */
  transactionCommandsMax: 5_000,
  /** Arguments of all of them, which EXEC makes one of. */
  transactionArgumentsMax: 100_000,
  /** Replies of one transaction; a single one may be larger. */
  transactionReplyBytesMax: 134_217_728,
  /**
   * The bytes of values that the writes of one entry are given and make, and those of one transaction among them.
   * Above it those that handle a larger value than the third are refused, the others go on. All nodes must decide
   * alike, so these are no options. A leader closes an entry long before: at entryWeightMax.
   */
  entryValueBytesMax: 536_870_912,
  transactionValueBytesMax: 268_435_456,
  lightValueBytesMax: 16_384,
  /** Undecoded input above which a connection that may start no command is not read any further. */
  pausedInputBytesMax: 65_536,
  /** Views of one moment, for reads in slices: how many, how long each, and the memory that only they hold. */
  stateViews: { countMax: 64, ageMsMax: 30_000, bytesMax: 268_435_456 },
  /** The commit of a whole checkpoint may take this long before the watchdog ends the process. */
  stateCommitTimeoutMs: 120_000,
  /** The main loop may stand still this long before the watchdog ends the process. */
  stallTimeoutMs: 60_000,
  /** Log lines that a slow terminal or pipe has not taken yet; later lines are dropped, and counted. */
  logBacklogBytesMax: 1_048_576,
  /** Two processes that start on one data directory at once settle it within this time. */
  lockTimeoutMs: 5000,
} as const

/** HOLDFAST_ variables that are no options: of the tests, and of scripts/cluster.ts. */
export const reservedVariables = ['HOLDFAST_REQUIRE', 'HOLDFAST_STOP_WITH_STDIN'] as const

export const options: { readonly [Name in OptionName]: Option<Settings[Name]> } = {
  port: {
    kind: integer({ min: 1, max: 65_535, unit: '' }),
    default: '6379',
    help: 'TCP port for clients',
  },
  'peer-port': {
    kind: integer({ min: 1, max: 65_535, unit: '' }),
    default: (settings) => String(settings.port + 10_000),
    defaultHelp: 'port + 10000',
    help: 'TCP port for the other members of the cluster',
  },
  bind: {
    kind: bindAddresses({ max: limits.bindAddressesMax }),
    default: '127.0.0.1',
    help: 'addresses to listen on, for clients and peers; one after a - may be missing',
  },
  dir: { kind: path({ optional: false }), default: './data', help: 'directory of the data' },
  'peer-announce': {
    kind: address(),
    default: (settings) => formatAddress(boundHost(settings.bind), settings['peer-port']),
    defaultHelp: 'first bind address : peer-port',
    help: 'host:port at which the other members reach this node; one of `cluster`',
  },
  announce: {
    kind: address(),
    default: (settings) =>
      formatAddress(parseAddress(settings['peer-announce'])?.host ?? '', settings.port),
    defaultHelp: 'host of peer-announce : port',
    help: 'host:port that clients are told',
  },
  cluster: {
    kind: addresses({ max: limits.membersMax }),
    default: '',
    help: 'the initial members, host:peerport,..., the same list on every node; empty: one node alone',
  },
  join: {
    kind: addresses({ max: limits.membersMax }),
    default: '',
    help: 'members, host:peerport,...: a new, empty node asks any of them to be added to their cluster',
  },
  rejoin: {
    kind: addresses({ max: limits.membersMax }),
    default: '',
    help: 'members, host:peerport,...: a node whose store is damaged empties it, and asks them for its place under a new id',
  },
  'peer-secret': {
    kind: text({ max: limits.passwordCharsMax }),
    default: '',
    secret: true,
    help: 'what members prove to each other, never sent; the same on every node',
  },
  requirepass: {
    kind: text({ max: limits.passwordCharsMax }),
    default: '',
    secret: true,
    settable: true,
    help: 'password of the clients; empty: none',
  },
  'protected-mode': {
    kind: boolean(),
    default: 'yes',
    settable: true,
    help: 'without requirepass only loopback clients, without peer-secret only loopback peers',
  },
  maxclients: {
    kind: integer({ min: 1, max: limits.clientsMax, unit: 'connections' }),
    default: '10000',
    settable: true,
    help: 'client connections at a time',
  },
  timeout: {
    kind: integer({ min: 0, max: TIMER_SECONDS_MAX, unit: 'seconds' }),
    default: '0',
    settable: true,
    help: 'closes a client that is idle for so long; 0: never',
  },
  'tcp-keepalive': {
    kind: integer({ min: 0, max: TIMER_SECONDS_MAX, unit: 'seconds' }),
    default: '300',
    settable: true,
    help: 'idle time after which a connection is probed; 0: never',
  },
  'proto-max-bulk-len': {
    kind: bytes({ min: MB, max: 512 * MB }),
    default: '64mb',
    settable: true,
    help: 'largest single argument',
  },
  'client-query-buffer-limit': {
    kind: bytes({ min: MB, max: GB }),
    default: '128mb',
    settable: true,
    help: 'unanswered input of one client, above which it is closed',
  },
  'client-output-buffer-limit': {
    kind: outputLimits({ min: MB, max: limits.outputBytesMax, maxSeconds: 3600 }),
    default: 'normal 256mb 64mb 60 slave 256mb 64mb 60 pubsub 32mb 8mb 60',
    settable: true,
    help: 'unread replies of one client: closed above hard, or above soft for so many seconds',
  },
  'maxmemory-clients': {
    kind: bytes({ min: MB, max: 64 * GB }),
    default: '512mb',
    settable: true,
    help: 'input, transactions and unread replies of all clients: above it those that hold most are closed',
  },
  'transaction-max-bytes': {
    kind: bytes({ min: MB, max: 512 * MB }),
    default: '64mb',
    settable: true,
    help: 'arguments of all commands of one MULTI',
  },
  'write-work-max': {
    kind: bytes({ min: MB, max: GB }),
    default: '32mb',
    settable: true,
    help: 'bytes of values that one write, or MULTI, may read and make in one go: all wait for it',
  },
  'slowlog-log-slower-than': {
    kind: integer({ min: -1, max: 1_000_000_000, unit: 'microseconds' }),
    default: '10000',
    settable: true,
    help: 'SLOWLOG keeps commands that took longer, from their arrival to their reply; -1: none',
  },
  'slowlog-max-len': {
    kind: integer({ min: 0, max: 10_000, unit: 'entries' }),
    default: '128',
    settable: true,
    help: 'entries of SLOWLOG',
  },
  'latency-monitor-threshold': {
    kind: integer({ min: 0, max: 1_000_000, unit: 'ms' }),
    default: '0',
    settable: true,
    help: 'LATENCY keeps events that took at least so long; 0: none',
  },
  'read-consistency': {
    kind: choice(['linearizable', 'stale']),
    default: 'linearizable',
    settable: true,
    help: 'stale: reads are served from this node alone and may be old',
  },
  redirect: {
    kind: choice(['forward', 'moved']),
    default: 'forward',
    settable: true,
    help: 'what a follower does with a command for the leader: forward it, or answer -MOVED',
  },
  'cluster-enabled': {
    kind: boolean(),
    default: 'yes',
    help: 'whether CLUSTER shows the members to clients of Redis Cluster',
  },
  'sentinel-port': {
    kind: integer({ min: 0, max: 65_535, unit: '' }),
    default: '0',
    help: 'TCP port at which this node answers as a Sentinel; 0: none',
  },
  'sentinel-master-name': {
    kind: text({ max: limits.passwordCharsMax }),
    default: 'mymaster',
    help: 'what Sentinel clients call this cluster',
  },
  'close-on-step-down': {
    kind: boolean(),
    default: 'no',
    settable: true,
    help: 'closes idle clients of a leader that steps down, so that Sentinel clients ask for the next one',
  },
  'park-timeout-ms': {
    kind: integer({ min: 0, max: 60_000, unit: 'ms' }),
    default: '2000',
    settable: true,
    help: 'commands wait so long for a leader before -CLUSTERDOWN',
  },
  'park-bytes': {
    kind: bytes({ min: 0, max: GB }),
    default: '64mb',
    settable: true,
    help: 'commands that wait for a leader, all together',
  },
  'election-timeout-ms': {
    kind: integer({ min: 50, max: 60_000, unit: 'ms' }),
    default: '500',
    help: 'silence of the leader before an election: between once and twice this',
  },
  'heartbeat-interval-ms': {
    kind: integer({ min: 10, max: 10_000, unit: 'ms' }),
    default: '50',
    help: 'how often a leader is heard; at most a third of election-timeout-ms',
  },
  'commit-timeout-ms': {
    kind: integer({ min: 100, max: 600_000, unit: 'ms' }),
    default: '10000',
    help: 'a commit to disk that takes longer ends the process, so that the others go on',
  },
  'slow-commit-ms': {
    kind: integer({ min: 0, max: 600_000, unit: 'ms' }),
    default: '1000',
    settable: true,
    help: 'a leader whose log commits take longer for some seconds hands over to another; 0: never',
  },
  'log-retain-max': {
    kind: bytes({ min: KB, max: 1024 * GB }),
    default: '1gb',
    settable: true,
    help: 'log kept for members that are behind; one that needs more is sent a snapshot',
  },
  'snapshot-log-max': {
    kind: bytes({ min: KB, max: 1024 * GB }),
    default: '8gb',
    settable: true,
    help: 'log kept for a member that is being sent a snapshot, so that it can go on behind it',
  },
  'log-cache-size': {
    kind: bytes({ min: MB, max: 4 * GB }),
    default: '32mb',
    help: 'latest log entries kept in memory, by bytes',
  },
  'log-cache-entries': {
    kind: integer({ min: 16, max: 1_048_576, unit: 'entries' }),
    default: '16384',
    help: 'latest log entries kept in memory, by number',
  },
  'memtable-size': {
    kind: bytes({ min: MB, max: 4 * GB }),
    default: '64mb',
    help: 'applied writes in memory before a checkpoint moves them to disk',
  },
  'maxmemory-cache': {
    kind: bytes({ min: 0, max: 64 * GB }),
    default: '32mb',
    help: 'memory for values that were read from disk; 0: none are kept',
  },
  'scrub-bytes-per-second': {
    kind: bytes({ min: 0, max: GB }),
    default: '1mb',
    settable: true,
    help: 'the state is read through at this pace, to find what the disk has changed; 0: never',
  },
  'digest-interval-ms': {
    kind: integer({ min: 0, max: 86_400_000, unit: 'ms' }),
    default: '600000',
    settable: true,
    help: 'so often the members compare their states, as a leader asks them to; 0: never',
  },
  'disk-free-min': {
    kind: bytes({ min: 0, max: 1024 * GB }),
    // A checkpoint of a full memtable wants twice its bytes, and there may be two memtables.
    default: (settings) => String(4 * settings['memtable-size']),
    defaultHelp: '4 x memtable-size',
    settable: true,
    help: 'a leader whose disk has less room refuses writes with -OOM; 0: never',
  },
  'disk-free-leader-min': {
    kind: bytes({ min: 0, max: 1024 * GB }),
    default: (settings) => String(3 * settings['memtable-size']),
    defaultHelp: '3 x memtable-size',
    settable: true,
    help: 'a leader whose disk has less room hands over; 0: never; at most disk-free-min',
  },
  loglevel: {
    kind: choice(logLevels),
    default: 'notice',
    settable: true,
    help: 'how much is logged',
  },
  logfile: {
    kind: path({ optional: true }),
    default: '',
    help: "file of the log; '': standard output",
  },
}

/**
 * Redis options that clients and redis-benchmark ask for and that are no choice here: what is true of this server.
 * Setting one to that is no error, where Redis lets it be set: tools make sure of `maxmemory-policy noeviction`.
 */
const facts: ReadonlyMap<string, string> = new Map([
  ['appendfsync', 'always'],
  ['appendonly', 'yes'],
  ['databases', String(DATABASES)],
  ['maxmemory', '0'],
  ['maxmemory-policy', 'noeviction'],
  ['save', ''],
])

export const optionNames: readonly OptionName[] = Object.keys(options).filter(isOptionName)

export class Config implements ConfigPort {
  /** Path of the configuration file; '' without one. */
  readonly file: string
  #settings: Settings
  #clientsMax = Number.POSITIVE_INFINITY
  readonly #watchers: { readonly name: OptionName; readonly changed: () => void }[] = []
  #rewriting: Promise<RewriteFailure | undefined> = Promise.resolve(undefined)

  /** `settings` are complete and keep the rules: loadConfig is where they come from. */
  constructor(settings: Settings, file: string) {
    this.#settings = settings
    this.file = file
  }

  get<Name extends OptionName>(name: Name): Settings[Name] {
    return this.#settings[name]
  }

  /** The system allows no more clients: `maxclients` is at most this from now on. True: it was more. */
  limitClients(max: number): boolean {
    this.#clientsMax = max
    if (this.#settings.maxclients <= max) return false
    this.#settings = { ...this.#settings, maxclients: max }
    return true
  }

  /** Calls `changed` after every CONFIG SET of that option. */
  watch(name: OptionName, changed: () => void): void {
    this.#watchers.push({ name, changed })
  }

  /** Every option with its value as CONFIG GET shows it: bytes as plain numbers, secrets as they are. */
  *entries(): Iterable<readonly [name: string, value: string]> {
    for (const name of optionNames) yield [name, printed(this.#settings, name)]
    yield* facts
  }

  /** Later ones wait for earlier ones, and write what is set when it is their turn. */
  rewrite(): Promise<RewriteFailure | undefined> {
    this.#rewriting = this.#rewriting.then(() => this.#rewrite())
    return this.#rewriting
  }

  async #rewrite(): Promise<RewriteFailure | undefined> {
    if (this.file === '') return { reason: undefined }
    const written = optionNames.map((name): WrittenOption => {
      const option = options[name]
      const usual =
        typeof option.default === 'string' ? option.default : option.default(this.#settings)
      const value = printed(this.#settings, name)
      const unchanged = assigned({}, name, usual)
      return {
        name,
        value,
        isDefault: unchanged !== undefined && printed(unchanged as Settings, name) === value,
        manyWords: option.kind.manyWords,
      }
    })
    try {
      await rewriteConfigFile(this.file, written)
    } catch (error) {
      return { reason: error instanceof Error ? error.message : String(error) }
    }
    return undefined
  }

  set(changes: readonly (readonly [name: string, value: string])[]): ConfigRefusal | undefined {
    const refusal = refusalOfNames(changes.map(([name]) => name))
    if (refusal !== undefined) return refusal
    let settings = this.#settings
    const names: OptionName[] = []
    for (const [typed, value] of changes) {
      const name = typed.toLowerCase()
      if (!isOptionName(name)) {
        if (facts.get(name) !== value.toLowerCase()) return { name, reason: IMMUTABLE }
        continue
      }
      const changed = assigned(settings, name, value)
      if (changed === undefined) return { name, reason: options[name].kind.refusal(value) }
      settings = changed
      names.push(name)
    }
    if (settings.maxclients > this.#clientsMax) {
      const reason = 'The operating system is not able to handle the specified number of clients'
      return { name: 'maxclients', reason: `${reason}, try with ${this.#clientsMax}` }
    }
    const [broken] = brokenRules(settings)
    if (broken !== undefined) {
      const name = names.find((candidate) => broken.names.includes(candidate)) ?? broken.names[0]
      return { name, reason: `${broken.names.join(' and ')}: ${broken.rule}` }
    }
    this.#settings = settings
    for (const watcher of this.#watchers) if (names.includes(watcher.name)) watcher.changed()
    return undefined
  }
}

/** As in Redis all names are looked at before any value is, and are told as they were typed. */
function refusalOfNames(typed: readonly string[]): ConfigRefusal | undefined {
  const seen = new Set<string>()
  for (const name of typed) {
    const known = name.toLowerCase()
    if (!isOptionName(known) && !facts.has(known)) return { name, reason: undefined }
    const isFixed = isOptionName(known) ? options[known].settable !== true : known === 'databases'
    if (isFixed) return { name, reason: IMMUTABLE }
    if (seen.has(known)) return { name, reason: 'duplicate parameter' }
    seen.add(known)
  }
  return undefined
}

/** `settings` with the option set to what `value` says; undefined when that is not allowed. */
export function assigned<Known extends Partial<Settings>>(
  settings: Known,
  name: OptionName,
  value: string,
): Known | undefined {
  const { kind } = options[name]
  const isPart = kind.addsUp === true && settings[name] !== undefined
  const parsed = kind.parse(isPart ? `${printed(settings as Settings, name)} ${value}` : value)
  return parsed === undefined ? undefined : { ...settings, [name]: parsed }
}

export function printed<Name extends OptionName>(settings: Settings, name: Name): string {
  return options[name].kind.print(settings[name])
}

const IMMUTABLE = "can't set immutable config"

/** A host to tell others; every-address is none, so then it is this machine's own. */
function boundHost(bind: readonly BindAddress[]): string {
  const host = bind.find((bound) => !bound.optional)?.host ?? ''
  return host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
}

export function isOptionName(name: string): name is OptionName {
  return Object.hasOwn(options, name)
}
