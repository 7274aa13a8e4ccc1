/*
 * What the command tests share: an in-memory twin of the state store, a keyspace over it, a node's
 * facts as a plain object, and replies as the bytes a client would see.
 */

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { Entry, Index, Membership, Payload } from '../../raft/types.ts'
import { ErrorReply, type Protocol, type Reply, ReplyBuffer } from '../../resp/encoder.ts'
import {
  CommandError,
  DataCall,
  noReply,
  type ReadCommand,
  type WriteCommand,
} from '../../src/commands/command.ts'
import type {
  BackupPort,
  ConfigRefusal,
  InfoFacts,
  LocalServer,
  RaftStatus,
  RewriteFailure,
  StorageFacts,
} from '../../src/commands/local-server.ts'
import { resolve } from '../../src/commands/table.ts'
import {
  type ApplyObserver,
  type Batch,
  type ForwardedItems,
  Keyspace,
  type KeyspaceStore,
} from '../../src/keyspace.ts'
import { LongReads } from '../../src/long-reads.ts'
import type { MembershipRequest } from '../../src/membership-plan.ts'
import type { RequestOutcome } from '../../src/membership-requests.ts'
import { Observer } from '../../src/observer.ts'
import type { Copies } from '../../src/replication-waits.ts'
import { Session } from '../../src/session.ts'
import { encodeCommands, type ForwardedRun } from '../../storage/codec.ts'
import { CreatedKeys } from '../../storage/created-keys.ts'
import type { KeyVisitor } from '../../storage/layers.ts'
import type { DueKey, StateView, StoredValue } from '../../storage/state-store.ts'
import { seededRandom } from '../sim/network.ts'

/**
 * The state store's contract over a Map: what is put is copied, what is handed out is never written
 * to again.
 */
export class MemoryStore implements KeyspaceStore {
  readonly databases: Map<number, Map<string, StoredValue>> = new Map([[0, new Map()]])
  /** Views that were opened and not released. */
  openViews = 0
  viewsMax = 2
  membership: Membership | undefined
  failing = false
  #applied: Index = 0
  #clock = 0
  #hashKey: Uint8Array | undefined
  level = 1
  readonly #created = new CreatedKeys()

  get(database: number, key: string): StoredValue | undefined {
    if (this.failing) throw new Error('the disk is gone')
    return this.#database(database).get(key)
  }

  get newestKey(): number {
    return this.#created.newest
  }

  createdSince(database: number, key: string, since: number): boolean {
    return this.#created.hasSince(database, hashOf(key), since)
  }

  put(database: number, key: string, value: StoredValue): void {
    const before = this.#database(database).get(key)
    if (before?.expireAt !== 0) this.#created.add(database, hashOf(key), value.version)
    this.#database(database).set(key, { ...value, value: Buffer.from(value.value) })
  }

  delete(database: number, key: string): boolean {
    return this.#database(database).delete(key)
  }

  clear(database: number): void {
    this.#database(database).clear()
  }

  swap(a: number, b: number, version: number): void {
    if (a !== b) this.#created.exchanged([a, b], version)
    const [first, second] = [this.#database(a), this.#database(b)]
    this.databases.set(a, second).set(b, first)
  }

  expiryOf(database: number, key: string): number | undefined {
    return this.#database(database).get(key)?.expireAt
  }

  size(database: number): number {
    return this.#database(database).size
  }

  range(database: number, from: number, visit: KeyVisitor): void {
    visitInOrder(this.#database(database), from, visit)
  }

  view(): StateView | undefined {
    if (this.openViews >= this.viewsMax) return undefined
    this.openViews++
    const copies = new Map([...this.databases].map(([index, keys]) => [index, new Map(keys)]))
    const keysOf = (index: number) => copies.get(index) ?? new Map<string, StoredValue>()
    return {
      clock: this.#clock,
      get: (index, key) => keysOf(index).get(key),
      expiryOf: (index, key) => keysOf(index).get(key)?.expireAt,
      range: (index, from, visit) => visitInOrder(keysOf(index), from, visit),
      size: (index) => keysOf(index).size,
      release: () => {
        this.openViews--
      },
    }
  }

  dueKeys(upTo: number, count: number): readonly DueKey[] {
    const expiring = [...this.databases].flatMap(([database, keys]) =>
      [...keys].map(([key, { expireAt }]) => ({ database, key, expireAt })),
    )
    const due = expiring.filter(({ expireAt }) => expireAt !== 0 && expireAt <= upTo)
    return due.toSorted((a, b) => a.expireAt - b.expireAt).slice(0, count)
  }

  expires(database: number): number {
    return [...this.#database(database).values()].filter(({ expireAt }) => expireAt !== 0).length
  }

  nextExpiry(database?: number): number | undefined {
    const databases = database === undefined ? [...this.databases.keys()] : [database]
    const times = databases
      .flatMap((index) => [...this.#database(index).values()].map(({ expireAt }) => expireAt))
      .filter((expireAt) => expireAt !== 0)
    return times.length === 0 ? undefined : Math.min(...times)
  }

  commitEntry(at: { index: Index; clock: number; membership?: Membership }): void {
    this.#applied = at.index
    this.#clock = at.clock
    if (at.membership !== undefined) this.membership = at.membership
  }

  appliedIndex(): Index {
    return this.#applied
  }

  clock(): number {
    return this.#clock
  }

  canWrite(): boolean {
    return true
  }

  hashKey(): Uint8Array | undefined {
    return this.#hashKey
  }

  raiseFeatureLevel(level: number): void {
    this.level = level
  }

  setHashKey(key: Uint8Array): void {
    this.#hashKey = key
  }

  #database(database: number): Map<string, StoredValue> {
    let keys = this.databases.get(database)
    if (keys === undefined) {
      keys = new Map()
      this.databases.set(database, keys)
    }
    return keys
  }
}

/** Few enough positions that keys share them, and as far apart as those on disk. */
const POSITIONS = 500
const POSITION_STEP = 2 ** 43

export function positionOf(key: string): number {
  return (hashOf(key) % POSITIONS) * POSITION_STEP
}

function hashOf(key: string): number {
  let hash = 7
  for (let i = 0; i < key.length; i++) hash = (hash * 31 + key.charCodeAt(i)) % 1_000_003
  return hash
}

function visitInOrder(
  keys: ReadonlyMap<string, StoredValue>,
  from: number,
  visit: KeyVisitor,
): void {
  const placed = [...keys].map(([key, value]) => ({ position: positionOf(key), key, value }))
  const ahead = placed.filter(({ position }) => position >= from)
  ahead.sort((a, b) => a.position - b.position)
  for (const { position, key, value } of ahead) if (!visit(position, key, () => value)) return
}

/** Bytes from a latin1 text, so that a test can write any byte. */
export function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1')
}

/** The words of a command as arguments: strings are latin1. */
export function argv(words: readonly (string | Uint8Array)[]): readonly Uint8Array[] {
  return words.map((word) => (typeof word === 'string' ? bytes(word) : word))
}

/** What the client would read. */
export function wire(reply: Reply, protocol: Protocol = 2): string {
  const buffer = new ReplyBuffer()
  buffer.append(reply, protocol)
  return Buffer.from(buffer.take()).toString('latin1')
}

export const silent: ApplyObserver = {
  applied: () => {},
  internalError: (_index, _command, error) => {
    throw error
  },
}

/** Entries of one term, in order, as a leader would make them. */
export class EntryMaker {
  #index: Index = 0
  term = 1

  commands(
    commands: readonly (readonly (string | Uint8Array)[])[],
    at = 1,
    database = 0,
    forwarded: readonly ForwardedRun[] = [],
  ): Entry {
    const logged = commands.map((words) => ({ database, argv: argv(words) }))
    return this.make({ type: 'commands', data: encodeCommands(at, logged, forwarded) })
  }

  make(payload: Payload): Entry {
    this.#index++
    return { index: this.#index, term: this.term, payload, encoded: undefined }
  }
}

/** A keyspace over a store, whose long reads are moved by `longReads.work()`, one slice each time. */
export function keyspaceOver(
  store: KeyspaceStore,
  observer: ApplyObserver = silent,
  forwarded?: ForwardedItems,
): { readonly keyspace: Keyspace; readonly longReads: LongReads } {
  const longReads = new LongReads({
    limits: { longReplyBytesMax: 1_000_000, turnSlicesMsMax: 0 },
    clock: { monotonic: () => 0 },
    timers: { after: () => () => {} },
    wake: () => {},
  })
  const random = seededRandom(1)
  const options = { observer, longReads, random, ...(forwarded && { forwarded }) }
  return { keyspace: new Keyspace(store, options), longReads }
}

/** A keyspace to which commands are applied one by one. */
export class Applied {
  readonly store: MemoryStore = new MemoryStore()
  readonly keyspace: Keyspace
  readonly longReads: LongReads
  readonly entries: EntryMaker = new EntryMaker()
  /** The leader's logical clock, in ms. */
  time = 1
  /** The database of the commands. */
  database = 0

  constructor(observer: ApplyObserver = silent, forwarded?: ForwardedItems) {
    const { keyspace, longReads } = keyspaceOver(this.store, observer, forwarded)
    this.keyspace = keyspace
    this.longReads = longReads
  }

  /** Runs a command where it belongs and gives its reply as the client reads it. */
  run(...words: (string | Uint8Array)[]): string {
    const args = argv(words)
    const command = resolve(args)
    if (command instanceof ErrorReply) return wire(command)
    if (command.kind === 'read') return wire(this.keyspace.read(command, this.database, args))
    assert.equal(command.kind, 'write')
    assert.ok(command.kind === 'write')
    const entry = this.entries.commands([words], this.time, this.database)
    let answer = ''
    this.keyspace.expect(entry.index, {
      term: entry.term,
      items: [
        {
          command,
          database: this.database,
          args,
          protocol: 2,
          answer: (reply, index) => {
            assert.equal(index, entry.index)
            answer = wire(reply)
          },
        },
      ],
    })
    this.keyspace.apply(entry)
    return answer
  }
}

const idA = 'a'.repeat(40)
const idB = 'b'.repeat(40)
const idC = 'c'.repeat(40)
const members = [
  { id: idA, role: 'voter', peerAddress: '10.0.0.1:16379', clientAddress: '10.0.0.1:6379' },
  { id: idB, role: 'voter', peerAddress: '[::1]:16380', clientAddress: '[::1]:6380' },
  { id: idC, role: 'voter', peerAddress: '10.0.0.3:16381', clientAddress: '10.0.0.3:6381' },
] as const

/** Node a leads b (a link, 1.5 s silent) and c (no link). */
export const leading: RaftStatus = {
  nodeId: idA,
  clusterId: 'f'.repeat(40),
  role: 'leader',
  term: 7,
  leader: members[0],
  lastLeader: members[0],
  removed: false,
  changing: false,
  members: [
    { member: members[0], connected: true, match: 42, silentForMs: undefined },
    { member: members[1], connected: true, match: 40, silentForMs: 1500 },
    { member: members[2], connected: false, match: 12, silentForMs: 90_000 },
  ],
  commit: 41,
  applied: 41,
  logFirst: 3,
  logLast: 43,
  logLastTerm: 3,
  featureLevel: 2,
  durable: 42,
  checkpoint: 30,
  slowest: { id: idC, match: 12 },
  logCacheHits: 5,
  logCacheMisses: 2,
  pendingProposals: 2,
  parkedCommands: 0,
  restingCommands: 1,
}

/** Node a follows b. */
export const following: RaftStatus = {
  ...leading,
  role: 'follower',
  leader: members[1],
  lastLeader: members[1],
  members: leading.members.map((one, at) => ({
    ...one,
    match: undefined,
    silentForMs: at === 1 ? 1500 : undefined,
  })),
}

/** Node a knows no leader. */
export const leaderless: RaftStatus = {
  ...following,
  role: 'candidate',
  leader: undefined,
  members: following.members.map((one) => ({ ...one, silentForMs: undefined })),
}

export const facts: InfoFacts = {
  holdfastVersion: '0.1.0',
  processId: 4711,
  port: 6379,
  startedAt: 1000,
  operatingSystem: 'Linux 6.1 x64',
  nodeVersion: '20.20.2',
  executable: '/usr/bin/node',
  configFile: '',
  maxClients: 10_000,
  connectedClients: 2,
  blockedClients: 1,
  monitors: 0,
  clientMemoryBytes: 512,
  clientMemoryMax: 1024 * 1024,
  usedMemoryBytes: 1536,
  usedMemoryPeakBytes: 3 * 1024 * 1024,
  residentMemoryBytes: 1000,
  residentAnonymousBytes: 600,
  residentFileBytes: undefined,
  connectionsReceived: 9,
  connectionsRejected: 1,
  connectionsEvicted: 0,
  commandsProcessed: 1234,
  inputBytes: 5000,
  outputBytes: 6000,
  keyspace: { hits: 8, misses: 4, expired: 2 },
  commandsPerSecond: 12.4,
  inputBytesPerSecond: 2048,
  outputBytesPerSecond: 1024,
  systemSeconds: 0.25,
  userSeconds: 1.5,
  databases: [{ keys: 3, expires: 1, averageTtlMs: 5000 }],
}

/** A node that has had one checkpoint, and 7 writes since. */
export const storageFacts: StorageFacts = {
  savedAt: 1_700_000_000_999,
  bytesToReplay: 700,
  memtableBytes: 900,
  memtableBytesMax: 64_000,
  frozenBytes: 0,
  changes: 7,
  checkpointing: false,
  lastCheckpoint: { durationMs: 2499.6, finishedAt: 5000, writes: 11, digest: 'd' },
  environmentBytes: 40_960,
  cacheBytes: 300,
  cacheBytesMax: 32_000,
  cacheHits: 4,
  cacheMisses: 6,
  views: 1,
  viewBytes: 20,
  logBytes: 8192,
  scrubPasses: 3,
  diskFreeBytes: 1_000_000,
  diskLow: false,
  logCacheBytes: 1200,
}

/** A node as local commands see it; tests change its fields. */
export class FakeServer implements LocalServer {
  time = 91_500
  password: string | undefined
  status: RaftStatus = leading
  facts: InfoFacts = facts
  stored: StorageFacts = storageFacts
  saves = 0
  /** What a save waits for. */
  saved: Promise<void> = Promise.resolve()
  unready: string | undefined
  shutdowns = 0
  /** What RAFT BACKUP NEXT answers. */
  parts: Uint8Array[] = []
  outcome: RequestOutcome = { ok: true, text: 'OK' }
  readonly requests: MembershipRequest[] = []
  copies: Copies = { local: 1, replicas: 2 }
  readonly waits: (readonly [Copies, number])[] = []
  face: 'standalone' | 'cluster' | 'sentinel' = 'cluster'
  readonly open: Session[] = []
  /** Milliseconds since 1970. */
  wallTime = 1_700_000_000_123.456
  slowerThanMicros = 10_000
  latencyThresholdMs = 0
  resets = 0
  rewriteFailure: RewriteFailure | undefined = { reason: undefined }
  paused: readonly [ms: number, mode: 'all' | 'write'] | undefined
  readonly observer: Observer = new Observer({
    wall: () => this.wallTime,
    slowerThanMicros: () => this.slowerThanMicros,
    slowlogMax: () => 3,
    latencyThresholdMs: () => this.latencyThresholdMs,
  })
  readonly options: Map<string, string> = new Map([
    ['port', '6379'],
    ['peer-port', '16379'],
    ['loglevel', 'notice'],
    ['requirepass', ''],
  ])

  readonly config = {
    rewrite: (): Promise<RewriteFailure | undefined> => Promise.resolve(this.rewriteFailure),
    entries: (): Iterable<readonly [string, string]> => this.options,
    set: (changes: readonly (readonly [string, string])[]): ConfigRefusal | undefined => {
      for (const [name] of changes) {
        const known = name.toLowerCase()
        if (!this.options.has(known)) return { name, reason: undefined }
        if (known === 'port') return { name, reason: "can't set immutable config" }
      }
      for (const [name, value] of changes) this.options.set(name.toLowerCase(), value)
      return undefined
    },
  }

  now(): number {
    return this.time
  }

  resetStats(): void {
    this.resets++
    this.observer.reset()
  }

  wall(): number {
    return this.wallTime
  }

  pause(ms: number, mode: 'all' | 'write'): void {
    this.paused = [ms, mode]
  }

  unpause(): void {
    this.paused = undefined
  }

  passwordDigest(): Uint8Array | undefined {
    return this.password === undefined
      ? undefined
      : createHash('sha256').update(this.password).digest()
  }

  sessions(): Iterable<Session> {
    return this.open
  }

  mode(): 'standalone' | 'cluster' | 'sentinel' {
    return this.face
  }

  masterName(): string {
    return 'mymaster'
  }

  sentinelPort(): number {
    return 26_379
  }

  raft(): RaftStatus {
    return this.status
  }

  info(): InfoFacts {
    return this.facts
  }

  storage(): StorageFacts {
    return this.stored
  }

  save(): Promise<void> {
    this.saves++
    return this.saved
  }

  ready(): Promise<string | undefined> {
    return Promise.resolve(this.unready)
  }

  replicated(
    _session: Session,
    { wanted, timeoutMs }: Parameters<LocalServer['replicated']>[1],
  ): Promise<Copies> {
    this.waits.push([wanted, timeoutMs])
    return Promise.resolve(this.copies)
  }

  readonly backups: BackupPort = {
    begin: () => Promise.resolve(Buffer.from('first')),
    next: () => Promise.resolve(this.parts.shift()),
  }

  changeMembership(request: MembershipRequest): Promise<RequestOutcome> {
    this.requests.push(request)
    return Promise.resolve(this.outcome)
  }

  shutdown(): Promise<Reply> {
    this.shutdowns++
    return new Promise(() => {})
  }

  /** A new connection to this node. */
  connect(): Session {
    const session = new Session({
      id: this.open.length + 1,
      address: `127.0.0.1:${5000 + this.open.length}`,
      localAddress: '127.0.0.1:6379',
      now: this.time,
      authenticated: this.password === undefined,
    })
    this.open.push(session)
    return session
  }

  /** Runs a local command of the session and gives its reply in the session's protocol. */
  run(session: Session, ...words: (string | Uint8Array)[]): string {
    const args = argv(words)
    const command = resolve(args)
    if (command instanceof ErrorReply) return wire(command)
    assert.ok(command.kind === 'local')
    try {
      const reply = command.run(session, args, this)
      assert.ok(!(reply instanceof Promise || reply instanceof DataCall) && reply !== noReply)
      return wire(reply, session.protocol)
    } catch (error) {
      if (error instanceof CommandError) return wire(error.reply)
      throw error
    }
  }
}

/** The read or write command that these words call. */
export function dataCommand(words: readonly (string | Uint8Array)[]): ReadCommand | WriteCommand {
  const command = resolve(argv(words))
  assert.ok(!(command instanceof ErrorReply) && command.kind !== 'local')
  return command
}

/** A batch of these commands that writes down every answer. */
export function batchOf(
  term: number,
  lines: readonly (readonly (string | Uint8Array)[])[],
): Batch & { readonly answers: (readonly [string, Index])[] } {
  const answers: (readonly [string, Index])[] = []
  const batch = {
    term,
    answers,
    items: lines.map((words) => ({
      command: dataCommand(words),
      database: 0,
      args: argv(words),
      protocol: 2 as const,
      answer: (reply: Reply, index: Index) => {
        answers.push([wire(reply), index])
      },
    })),
  }
  return batch
}

/** What a generator comes to. */
export function drained<T>(slices: Iterator<unknown, T>): T {
  for (;;) {
    const step = slices.next()
    if (step.done === true) return step.value
  }
}
