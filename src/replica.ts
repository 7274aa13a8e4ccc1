/*
 * One member of the cluster: raft's driver, the state machine, the router and the links to the others, composed and
 * moved in turns. Everything it stands on comes in as a port (network, clock, timers, stores), so that the simulator
 * runs this very composition. server.ts adds sockets, disks and clients.
 * A turn: clients' commands are placed, raft does what it can, applied entries answer their commands, and whatever
 * is for somebody else leaves in one write each.
 */

import { assert } from '../raft/assert.ts'
import type { CoreStatus, ProposeResult } from '../raft/core.ts'
import { RaftNode } from '../raft/node.ts'
import type { Message, NodeId } from '../raft/types.ts'
import { bootstrap, firstCommands, joinWarning, listWarning, membersToAsk } from './bootstrap.ts'
import { firstKeySlot, type ReadTime } from './call.ts'
import { Checkpoints } from './checkpoints.ts'
import { limits } from './config.ts'
import { ExpiryClock } from './expiry-clock.ts'
import { ForwardReceiver, ForwardSender } from './forwarding.ts'
import { Keyspace } from './keyspace.ts'
import { LeaderClock } from './leader-clock.ts'
import { LongReads } from './long-reads.ts'
import { Members } from './members.ts'
import type { Moment } from './moment.ts'
import type { Note } from './peer-messages.ts'
import type { PeerEvents } from './peer-ports.ts'
import { Peers } from './peers.ts'
import { raftSettings, TICKS_PER_HEARTBEAT } from './raft-settings.ts'
import { whenReady } from './readiness.ts'
import type { Clients, ReplicaOptions } from './replica-ports.ts'
import { type Copies, type Progress, ReplicationWaits, type Wait } from './replication-waits.ts'
import { routeOf } from './route.ts'
import { Router } from './router.ts'
import { routerSettings } from './router-settings.ts'
import { SelfChecks } from './self-checks.ts'
import { Snapshots } from './snapshots.ts'
import { Ticker } from './ticker.ts'
import { Turns } from './turns.ts'

export class Replica {
  readonly #options: ReplicaOptions
  readonly #turns: Turns
  readonly #peers: Peers
  readonly #longReads: LongReads
  readonly #keyspace: Keyspace
  readonly #router: Router
  readonly #sender: ForwardSender
  readonly #receiver: ForwardReceiver
  readonly #leaderClock: LeaderClock
  readonly #expiryClock: ExpiryClock
  readonly checkpoints: Checkpoints
  readonly #waits: ReplicationWaits
  readonly snapshots: Snapshots
  readonly checks: SelfChecks
  readonly #members: Members
  #raft: RaftNode | undefined
  #clusterId: string | undefined
  #ticker: Ticker | undefined
  #clients: Clients | undefined
  #stopped = false
  /** What the log line and the route of the last turn were made from. */
  #known: Known = { role: 'follower', term: 0, leader: undefined, established: false }

  constructor(options: ReplicaOptions) {
    this.#options = options
    const { config, clock, id, state, list } = options
    this.#turns = new Turns(options.afterPoll, () => this.#turn())
    this.#clusterId = options.clusterId
    this.#leaderClock = new LeaderClock(clock)
    const wake = (): void => this.wake()
    this.#longReads = new LongReads({ ...options, limits, wake: () => this.#turns.goOn() })
    this.#keyspace = new Keyspace(state, {
      observer: {
        applied: () => {},
        internalError: (index, command, error) =>
          options.log.warn({ index, command, error: String(error) }, 'a command failed by a bug'),
      },
      forwarded: {
        origin: { node: id, incarnation: options.incarnation },
        take: (tag) => this.#router.takeForwarded(tag),
        skippedTo: (index) => this.#router.skippedTo(index),
      },
      longReads: this.#longReads,
      random: options.random,
    })
    this.#peers = new Peers({
      ...options,
      events: this.#peerEvents(),
      limits: { queueBytes: limits.peerQueueBytesMax, messageBytes: limits.peerMessageBytesMax },
      peerAddress: list.own,
      clientAddress: config.get('announce'),
      seeds: list.others,
      listHash: list.hash,
      secret: config.get('peer-secret') === '' ? undefined : config.get('peer-secret'),
      protectedMode: config.get('protected-mode'),
      join: membersToAsk(config),
      wasRemoved: (member) => state.wasRemoved(member),
      id,
    })
    this.#members = new Members({
      ...options,
      own: { peerAddress: list.own, clientAddress: config.get('announce') },
      peers: () => this.#peers,
      clusterId: () => this.#clusterId,
      raft: () => this.#raft,
      propose: (command) => this.#router.proposeOwn([command]),
      wake: () => this.wake(),
    })
    this.#router = this.#createRouter()
    this.#expiryClock = new ExpiryClock({
      now: () => clock.monotonic(),
      leads: () => this.#known.established,
      logicalNow: () => this.#leaderClock.now(),
      appliedIndex: () => state.appliedIndex(),
      appliedClock: () => this.#keyspace.clock(),
      nextExpiry: () => state.nextExpiry(),
      propose: () => this.#router.proposeOwn(),
      ask: (leader, clock) => this.#peers.note(leader, { type: 'clock-asked', clock }),
    })
    this.#waits = new ReplicationWaits({
      now: () => clock.monotonic(),
      ownProgress: () => this.#progress(),
      ask: () => {
        if (this.#known.leader !== undefined)
          this.#peers.note(this.#known.leader, { type: 'progress-asked' })
      },
    })
    this.checkpoints = new Checkpoints({
      ...options,
      compactTo: (index) => this.#raft?.compactTo(index),
      wake,
    })
    this.checks = new SelfChecks({
      ...options,
      checkpoints: this.checkpoints,
      leads: () => this.#known.established,
      members: () => this.members.all,
      propose: (command) => this.#router.proposeOwn([command]),
      tell: (to, note) => this.#peers.note(to, note),
    })
    this.snapshots = new Snapshots({
      replica: options,
      peers: () => this.#peers,
      raft: () => this.#raft,
      checkpoints: this.checkpoints,
      scrub: this.checks.scrub,
      installed: () => this.#keyspace.replaced(),
    })
    this.#sender = new ForwardSender(
      {
        send: (to, body) => this.#peers.forward(to, body),
        parkTimeoutMs: () => config.get('park-timeout-ms'),
      },
      this.#router,
    )
    this.#receiver = new ForwardReceiver(
      {
        now: () => clock.monotonic(),
        ledTerm: () => (this.#raft?.isLeader === true ? this.#raft.term : undefined),
        wake: () => this.wake(),
      },
      this.#router,
    )
  }

  #createRouter(): Router {
    const { config, clock, state, space, timers } = this.#options
    return new Router({
      ports: {
        now: () => clock.monotonic(),
        logicalNow: () => this.#leaderClock.now(),
        propose: (data) => this.#propose(data),
        expect: (index, batch) => this.#keyspace.expect(index, batch),
        forget: (index, batch) => this.#keyspace.forget(index, batch),
        read: (done) => (this.#raft === undefined ? done(false) : this.#raft.read(done)),
        run: ({ command, database, args }, time) => {
          assert(command.kind === 'read', () => `${command.name} is no read`)
          return this.#keyspace.readAt(this.#moment(time), command, database, args)
        },
        appliedClock: () => this.#keyspace.clock(),
        awaitClock: (at) => this.#expiryClock.await(at),
        appliedIndex: () => state.appliedIndex(),
        valueLength: (database, key) => state.lengthOf(database, key),
        keySlot: firstKeySlot,
        strangersCommands: () => this.#keyspace.counts.strangers,
        isCheckpointing: () => this.checkpoints.running !== undefined,
        appliedTerm: () => this.#keyspace.appliedTerm(),
        forward: (leader, term, calls) => this.#sender.send(leader, term, calls),
        fence: (leader, term, tag) => this.#sender.fence(leader, term, tag),
        clientAddress: (id) => this.#members.member(id)?.clientAddress,
        wake: () => this.wake(),
        wakeAfter: (ms, due) =>
          void timers.after(ms, () => {
            due()
            this.wake()
          }),
      },
      ...routerSettings(config, space),
    })
  }

  #noted(from: NodeId, note: Note): void {
    switch (note.type) {
      case 'clock-told':
        this.#expiryClock.toldBy(from, note.clock)
        break
      case 'clock-asked':
        this.#expiryClock.want(note.clock)
        this.wake()
        break
      case 'progress-asked': {
        const progress = this.#progress()
        if (progress !== undefined) this.#peers.note(from, { type: 'progress-told', ...progress })
        this.wake()
        break
      }
      case 'progress-told':
        if (from === this.#known.leader) this.#waits.told(note)
        break
      case 'digest-told':
        this.checks.told(from, note)
        break
      default:
        this.#members.noted(from, note)
        this.wake()
    }
  }

  /** How far the members are; undefined: only a leader knows. */
  #progress(): Progress | undefined {
    if (!this.#known.established) return undefined
    const { durable = 0, peers = [] } = this.#raft?.status() ?? {}
    return { durable, matches: peers.map(({ match }) => match) }
  }

  #propose(data: readonly Uint8Array[]): ProposeResult {
    const refused = { accepted: false, reason: 'not-leader' } as const
    const result = this.#raft?.propose(data) ?? refused
    if (result.accepted) this.#expiryClock.appended()
    return result
  }

  #moment(time: ReadTime): Moment {
    const applied = this.#keyspace.clock()
    if (time === 'leader') return { now: this.#expiryClock.leaderNow(), applied }
    // A stale read waits for nobody, so it believes this node's own wall.
    const now = time === 'stale' ? Math.max(applied, this.#options.clock.wall()) : applied
    return { now, applied: undefined }
  }

  #peerEvents(): PeerEvents {
    return {
      message: (message) => this.#received(message),
      noted: (from, note) => this.#noted(from, note),
      unreachable: (id) => this.#raft?.unreachable(id),
      restarted: (id) => this.#raft?.restarted(id),
      peerUp: (id, address) => {
        this.#options.log.info({ peer: id, address }, 'peer up')
        this.#watchPeer(id, 'up')
      },
      peerDown: (id, reason) => {
        this.#options.log.info({ peer: id, reason }, 'peer down')
        this.#watchPeer(id, 'down')
      },
      snapshot: (...part) => this.snapshots.events.snapshot(...part),
      snapshotReplied: (...part) => this.snapshots.events.snapshotReplied(...part),
      snapshotLink: (...link) => this.snapshots.events.snapshotLink(...link),
      forwarded: (_from, body, channel) => this.#receiver.received(body, channel),
      removed: ({ id }) => this.#members.removed(id),
      joinAsked: (other) => this.#members.joinAsked(other),
      forwardReplied: (from, body) => {
        this.#sender.received(from, body)
        this.wake()
      },
      forwardDown: (to, unsent) => {
        this.#sender.linkDown(to, unsent)
        this.wake()
      },
    }
  }

  // ---- Start and stop -----------------------------------------------------------------------------

  /** Listens to the other members. Throws OperatorError when an address cannot be listened on. */
  open(hosts: readonly string[], peerPort: number): Promise<void> {
    return this.#peers.open(hosts, peerPort)
  }

  /** Resolves once this node belongs to a cluster, which may take until the others are started. */
  async start(): Promise<void> {
    const { config, log, disk, state, id, list } = this.#options
    const tickMs = config.get('heartbeat-interval-ms') / TICKS_PER_HEARTBEAT
    // Before there is a cluster, too: commands that wait for one must hear at their deadline that there is none.
    this.#ticker = new Ticker({
      clock: this.#options.clock,
      timers: this.#options.timers,
      tickMs,
      ticksMax: TICKS_PER_HEARTBEAT,
      afterPoll: this.#options.afterPoll,
      tick: () => this.#tick(),
    })
    if (this.#clusterId === undefined) {
      const { clusterId } = await bootstrap({
        list,
        join: membersToAsk(config),
        self: { id, clientAddress: config.get('announce') },
        peers: this.#peers,
        store: disk,
        randomBytes: this.#options.randomBytes,
        firstCommands: (others) => firstCommands(this.#options, others),
        log,
      })
      this.#clusterId = clusterId
    }
    if (this.#stopped) return
    const raftLog = this.#options.openLog()
    this.snapshots.sink.opened(raftLog)
    this.#raft = new RaftNode({
      id,
      hardState: disk.hardState(),
      membership: state.membership(),
      random: this.#options.random,
      ...raftSettings(config, tickMs),
      log: raftLog,
      machine: this.checkpoints.watching(this.#keyspace),
      transport: { send: (messages) => this.#send(messages) },
      source: this.snapshots.source,
      sink: this.snapshots.sink,
      retention: this.snapshots.retention,
      events: { wake: () => this.wake(), fatal: (error) => this.#options.fatal(String(error)) },
    })
    this.#members.follow(this.#raft)
    const { membership } = this.#members
    if (membership !== undefined) {
      const join = joinWarning(membersToAsk(config), id, membership)
      for (const warning of [listWarning(list, membership), join]) {
        if (warning !== undefined) log.warn({}, warning)
      }
    }
    this.wake()
  }

  attach(clients: Clients): void {
    this.#clients = clients
  }

  /**
   * Goes silent, then makes what was applied durable, so that the next start replays little; a state that is damaged
   * is left as it is.
   */
  async stop(state: 'sound' | 'damaged' = 'sound'): Promise<void> {
    this.#stopped = true
    this.#ticker?.stop()
    await this.#peers.close()
    await this.#raft?.stop()
    await this.snapshots.close()
    await this.checkpoints.running
    if (this.#raft !== undefined && state === 'sound') await this.#options.state.checkpoint()
  }

  // ---- Turns ----------------------------------------------------------------------------------------

  wake(): void {
    this.#turns.wake()
  }

  #turn(): void {
    if (this.#stopped) return
    // What is woken before the driver runs is done in this very turn.
    this.#clients?.work()
    this.#router.flush()
    this.#expiryClock.work()
    const isAwaited = this.#turns.begin()
    const raft = this.#raft
    if (raft !== undefined) {
      raft.pump()
      this.#router.afterApply()
      this.#observe(raft)
      this.#waits.work()
    }
    this.#receiver.flush()
    this.#peers.flush()
    this.#clients?.flush()
    this.checkpoints.beginIfDue()
    this.#longReads.work(isAwaited)
  }

  #tick(): void {
    if (this.#stopped) return
    // Whoever was removed asks nobody for a vote.
    if (!this.#members.isRemoved) this.#raft?.tick()
    this.#members.work()
    this.checks.work(this.#raft)
    this.#router.expire()
    this.#waits.ask()
    this.snapshots.sink.tick()
    this.wake()
  }

  /** A read that the leader confirms comes with its time, so that TTLs are shown alike by every node. */
  #send(messages: readonly Message[]): void {
    for (const { type, to } of messages) {
      if (type !== 'read-reply') continue
      this.#peers.note(to, { type: 'clock-told', clock: this.#leaderClock.now() })
    }
    this.#peers.send(messages)
  }

  #received(message: Message): void {
    if (this.#members.isRemoved) return
    this.#members.heard(message.from)
    this.#raft?.step(message)
  }

  /** Role, leader and membership as raft has them now: what the router, the peers and the log should know. */
  #observe(raft: RaftNode): void {
    const { isLeader, leader, term, established } = raft
    const known = this.#known
    const changed =
      known.term !== term || known.leader !== leader || known.established !== established
    // A leader may be heard before the entry that says who it is.
    if (this.#members.follow(raft)) this.#watchLeader()
    if (this.#members.isRemoved) this.#router.setRoute({ kind: 'none', removed: true })
    if (!changed || this.#members.isRemoved) return
    const { role } = raft.status()
    if (established && !known.established) this.#leaderClock.takeOffice(this.#keyspace.clock())
    if (known.term !== term || known.leader !== leader) {
      this.#expiryClock.follow(leader)
      this.#waits.follow()
    }
    this.#known = { role, term, leader, established }
    this.#members.led(leader)
    this.#watchLeader()
    if (known.role === 'leader' && !isLeader) this.#options.watch?.steppedDown()
    this.#router.setRoute(routeOf({ isLeader, leader, term, established }))
    if (known.role === role && known.leader === leader) return
    const what = isLeader ? 'leading' : leader === undefined ? 'without a leader' : 'following'
    this.#options.log.info({ role, leader: leader ?? null }, what)
  }

  #watchLeader(): void {
    const leading = this.#members.member(this.#known.leader)
    if (leading !== undefined) this.#options.watch?.leading(leading)
  }

  #watchPeer(id: NodeId, change: 'up' | 'down'): void {
    const member = this.#members.member(id)
    if (member !== undefined) this.#options.watch?.peer(member, change)
  }

  // ---- What others ask of this node ----------------------------------------------------------------

  get clusterId(): string | undefined {
    return this.#clusterId
  }

  get router(): Router {
    return this.#router
  }

  get keyspace(): Keyspace {
    return this.#keyspace
  }

  /** undefined until this node is bound to a cluster. */
  status(): CoreStatus | undefined {
    return this.#raft?.status()
  }

  get term(): number {
    return this.#raft?.term ?? 0
  }

  get members(): Members {
    return this.#members
  }

  /** Serves one linearizable read of nothing; resolves with undefined, or with why it could not within `ms`. */
  ready(ms: number): Promise<string | undefined> {
    const { clock, timers } = this.#options
    if (this.#members.isRemoved) return Promise.resolve('this node was removed from its cluster')
    return whenReady(ms, {
      clock,
      timers,
      raft: () => this.#raft,
      isStopped: () => this.#stopped,
    })
  }

  /** See ReplicationWaits.wait. */
  replicated(wait: Wait): Promise<Copies> {
    return this.#waits.wait(wait)
  }
}

interface Known {
  readonly role: string
  readonly term: number
  readonly leader: NodeId | undefined
  readonly established: boolean
}
