/*
 * A deterministic cluster of RaftNodes on one thread. Nothing happens by itself: the test ticks, delivers, drops,
 * repeats and reorders messages, lets disks answer, crashes and restarts. After every event the invariants are checked.
 * It knows no socket, clock or disk; `trace` receives one line for each thing a reader of a transcript wants to see.
 */

import type { ChangeResult, CoreLimits, ProposeResult, TransferResult } from '../../raft/core.ts'
import { RaftNode } from '../../raft/node.ts'
import type { Random, StateMachine } from '../../raft/ports.ts'
import type {
  Entry,
  Index,
  Member,
  MemberRole,
  Membership,
  Message,
  NodeId,
  SnapshotMeta,
  Term,
} from '../../raft/types.ts'
import { describe, entryList, position } from './describe.ts'
import { entryText, InvariantError, Invariants } from './invariants.ts'
import { type Batch, type DurableState, emptyDisk, MemoryLog } from './memory-log.ts'

/** A whole state on its way: it arrives at once, for what it is cut into is below raft/. */
export interface SnapshotPacket {
  readonly type: 'snapshot'
  readonly from: NodeId
  readonly to: NodeId
  readonly term: Term
  readonly meta: SnapshotMeta
  readonly state: readonly Entry[]
}
export type Packet = Message | SnapshotPacket

export interface ClusterOptions {
  readonly size: number
  /** The members at the start, all voters; the other nodes know of none. Everybody when it is left out. */
  readonly members?: readonly NodeId[]
  readonly random: Random
  readonly electionTicks?: number
  readonly heartbeatTicks?: number
  readonly limits?: Partial<CoreLimits>
  /** What the disks hold at the start. */
  readonly disks?: ReadonlyMap<NodeId, DurableState>
  /** Bytes of log above which nobody who is behind holds compaction back, and above which not even a snapshot does. */
  readonly retain?: { readonly bytes: number; readonly pinned: number }
  readonly trace?: (line: string) => void
}

export function member(id: NodeId, role: MemberRole = 'voter'): Member {
  return { id, role, peerAddress: `p${id}`, clientAddress: `c${id}` }
}

/** The state machine: the list of what was applied. A crash goes back to the last checkpoint. */
export class ListMachine implements StateMachine {
  readonly applied: Entry[] = []
  /** That of a state without any entry. */
  readonly #first: Membership | undefined
  checkpoint: Index = 0
  open = true
  /** What each entry costs beside its own bytes. */
  costBytes = 0
  readonly #onApply: (entry: Entry) => void

  constructor(first: Membership | undefined, onApply: (entry: Entry) => void) {
    this.#first = first
    this.#onApply = onApply
  }

  /** The membership in force after the entry `index` (paper 7: a snapshot carries it). */
  membershipAt(index: Index): Membership | undefined {
    for (const { payload } of this.applied.slice(0, index).reverse()) {
      if (payload.type === 'membership') return payload.membership
    }
    return this.#first
  }

  appliedIndex(): Index {
    return this.applied.length
  }

  canApply(): boolean {
    return this.open
  }

  /** A snapshot takes the place of everything applied. */
  install(state: readonly Entry[]): void {
    this.applied.splice(0, this.applied.length, ...state)
    this.checkpoint = state.length
  }

  apply(entry: Entry): number {
    if (entry.index !== this.applied.length + 1) {
      throw new InvariantError(`I6: ${entry.index} applied after ${this.applied.length}`)
    }
    this.applied.push(entry)
    this.#onApply(entry)
    return this.costBytes
  }
}

export interface Host {
  readonly id: NodeId
  log: MemoryLog
  machine: ListMachine
  /** Undefined while the process is down. */
  node: RaftNode | undefined
  awake: boolean
  seenBatch: Batch | undefined
  /** Accepted by this process and not applied yet: index to term and text. */
  proposals: Map<Index, { term: number; text: string }>
  readsPending: number
  /** The snapshot that was received and accepted, beside the state. */
  staged: readonly Entry[] | undefined
  /** As last seen, to trace what changes. */
  role: string
  term: number
  transferTo: NodeId | undefined
}

const defaultLimits: CoreLimits = {
  appendBytes: 4096,
  window: { messages: 4, bytes: 16_384 },
  uncommittedBytes: 65_536,
  applyBytes: 65_536,
}

export class Cluster {
  readonly hosts: Map<NodeId, Host> = new Map()
  readonly ids: readonly NodeId[]
  readonly invariants: Invariants
  readonly limits: CoreLimits
  readonly electionTicks: number
  /** Messages on their way, oldest first. */
  packets: Packet[] = []
  readsServed: number = 0
  installs: number = 0
  readsLost: number = 0
  acks: number = 0
  transfers: number = 0
  #violation: unknown
  /** False: a woken node waits for an explicit pump(), as in a busy turn of the event loop. */
  eager: boolean = true
  readonly #options: ClusterOptions
  readonly #first: Membership
  readonly #cuts = new Set<string>()
  readonly #trace: (line: string) => void

  constructor(options: ClusterOptions) {
    this.#options = options
    this.limits = { ...defaultLimits, ...options.limits }
    this.electionTicks = options.electionTicks ?? 10
    this.#trace = options.trace ?? (() => {})
    this.ids = Array.from({ length: options.size }, (_, at) => `${at + 1}`)
    this.#first = { members: (options.members ?? this.ids).map((id) => member(id)) }
    for (const id of this.ids) {
      this.hosts.set(id, {
        id,
        log: new MemoryLog(options.disks?.get(id) ?? emptyDisk),
        machine: this.#machine(id),
        node: undefined,
        awake: false,
        seenBatch: undefined,
        proposals: new Map(),
        readsPending: 0,
        staged: undefined,
        role: '',
        term: 0,
        transferTo: undefined,
      })
    }
    this.invariants = new Invariants(this.hosts, this.limits)
    for (const id of this.ids) this.#start(this.host(id))
  }

  host(id: NodeId): Host {
    const host = this.hosts.get(id)
    if (host === undefined) throw new Error(`no node ${id}`)
    return host
  }

  /** The running process on `id`. */
  node(id: NodeId): RaftNode {
    const { node } = this.host(id)
    if (node === undefined) throw new Error(`${id} is down`)
    return node
  }

  get up(): readonly NodeId[] {
    return this.ids.filter((id) => this.host(id).node !== undefined)
  }

  /** The leader of the highest term, if anybody leads. */
  leader(): NodeId | undefined {
    const leaders = this.up.filter((id) => this.node(id).isLeader)
    return leaders.sort((a, b) => this.node(b).term - this.node(a).term)[0]
  }

  // ---- Events: each one runs to its end, with everything it wakes -----------------------------------------------

  async tick(id: NodeId): Promise<void> {
    await this.#event(id, (node) => node.tick())
  }

  async deliver(message: Packet): Promise<void> {
    this.#take(message)
    if (this.host(message.to).node === undefined || this.isCut(message.from, message.to)) {
      await this.#lostSnapshot(message)
      return
    }
    if (message.type === 'snapshot') await this.#offer(message)
    else await this.#event(message.to, (node) => node.step(message))
  }

  async drop(message: Packet): Promise<void> {
    this.#take(message)
    await this.#lostSnapshot(message)
  }

  /** Puts it behind everything that is on its way. */
  delay(message: Packet): void {
    this.#take(message)
    this.packets.push(message)
  }

  /** Puts a copy behind everything that is on its way. */
  duplicate(message: Packet): void {
    this.packets.push(message)
  }

  /** The disk of `id` answers. */
  async persist(id: NodeId): Promise<void> {
    const host = this.host(id)
    const { log } = host
    const batch = log.pending
    if (batch === undefined) return
    log.complete()
    this.invariants.persisted(id, batch.entries)
    if (batch.snapshot !== undefined) this.#switch(host)
    this.#trace(`${id} disk: durable`)
    await reactions()
    await this.#event(id, () => {})
  }

  async propose(id: NodeId, texts: readonly string[]): Promise<ProposeResult> {
    let result: ProposeResult = { accepted: false, reason: 'not-leader' }
    await this.#event(id, (node) => {
      result = node.propose(texts.map((text) => Uint8Array.from(text, (c) => c.charCodeAt(0))))
      if (!result.accepted) return
      const { term, first } = result
      texts.forEach((text, at) => {
        this.host(id).proposals.set(first + at, { term, text })
      })
    })
    return result
  }

  async change(id: NodeId, members: readonly Member[]): Promise<ChangeResult> {
    let result: ChangeResult = { accepted: false, reason: 'not-leader' }
    await this.#event(id, (node) => {
      result = node.changeMembership(members)
    })
    return result
  }

  async transfer(id: NodeId, to?: NodeId): Promise<TransferResult> {
    let result: TransferResult = 'not-leader'
    await this.#event(id, (node) => {
      result = node.transferLeadership(to)
    })
    return result
  }

  /** `done` hears the outcome: true when the state of `id` may be read. */
  async read(id: NodeId, done: (confirmed: boolean) => void = () => {}): Promise<void> {
    const host = this.host(id)
    const { floor } = this.invariants
    const { machine } = host
    host.readsPending++
    await this.#event(id, (node) => {
      node.read((confirmed) => {
        if (host.machine !== machine) throw new InvariantError(`I9: a dead process of ${id} reads`)
        host.readsPending--
        if (confirmed) {
          this.readsServed++
          this.invariants.readServed(id, floor, machine.appliedIndex())
        } else this.readsLost++
        done(confirmed)
      })
    })
  }

  async unreachable(id: NodeId, peer: NodeId): Promise<void> {
    await this.#event(id, (node) => node.unreachable(peer))
  }

  async restarted(id: NodeId, peer: NodeId): Promise<void> {
    await this.#event(id, (node) => node.restarted(peer))
  }

  /** The state of `id` is durable up to what it applied: the log behind it may go. */
  async checkpoint(id: NodeId): Promise<void> {
    const { machine } = this.host(id)
    machine.checkpoint = machine.appliedIndex()
    await this.#event(id, (node) => node.compactTo(machine.checkpoint))
  }

  /** The sender of a snapshot hears how its sending ended. */
  async snapshotEnded(id: NodeId, to: NodeId, delivered: boolean): Promise<void> {
    await this.#event(id, (node) => node.snapshotEnded(to, delivered))
  }

  /** Opens or closes the state machine, as a full memtable does. */
  async openMachine(id: NodeId, open: boolean): Promise<void> {
    const host = this.host(id)
    host.machine.open = open
    host.awake = true
    await this.#event(id, () => {})
  }

  async pump(id: NodeId): Promise<void> {
    await this.#settle(this.host(id))
  }

  /** The process ends at once; `landed`: its persist in flight had reached the disk. */
  crash(id: NodeId, landed: boolean): void {
    const host = this.host(id)
    const batch = host.log.pending
    host.log = new MemoryLog(host.log.crash(landed))
    if (landed && batch !== undefined) {
      this.invariants.persisted(id, batch.entries)
      if (batch.snapshot !== undefined) this.#switch(host)
    }
    host.staged = undefined
    host.node = undefined
    host.proposals = new Map()
    host.readsPending = 0
    host.awake = false
    const { applied, checkpoint } = host.machine
    host.machine = this.#machine(id)
    host.machine.checkpoint = checkpoint
    host.machine.applied.push(...applied.slice(0, checkpoint))
  }

  /** A new process on what the disk holds. `disk` replaces it: a disk that was lost or rolled back. */
  restart(id: NodeId, disk?: DurableState): void {
    const host = this.host(id)
    if (disk !== undefined) {
      host.log = new MemoryLog(disk)
      host.machine = this.#machine(id)
    }
    this.#start(host)
  }

  // ---- The network's shape --------------------------------------------------------------------------------------

  cut(from: NodeId, to: NodeId): void {
    this.#cuts.add(`${from}>${to}`)
  }

  heal(): void {
    this.#cuts.clear()
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cuts.has(`${from}>${to}`)
  }

  /** Delivers everything and lets every disk answer until nothing is left to do; no time passes. */
  async settle(): Promise<void> {
    for (let work = 0; work < 100_000; work++) {
      const message = this.packets[0]
      if (message !== undefined) {
        await this.deliver(message)
        continue
      }
      const busy = this.ids.find((id) => this.host(id).log.pending !== undefined)
      if (busy === undefined) return
      await this.persist(busy)
    }
    throw new InvariantError('I19 bounds: the cluster does not come to rest')
  }

  /** Tells every sender of a snapshot that was lost with its receiver. */
  async noticeLostSnapshots(): Promise<void> {
    for (const id of this.up) {
      for (const peer of this.node(id).status().peers) {
        if (peer.state !== 'snapshot' || this.host(peer.id).staged !== undefined) continue
        const onItsWay = this.packets.some((packet) => {
          return packet.type === 'snapshot' && packet.from === id && packet.to === peer.id
        })
        if (!onItsWay) await this.snapshotEnded(id, peer.id, false)
      }
    }
  }

  // ---- Snapshots ------------------------------------------------------------------------------------------------

  #send(from: NodeId, to: NodeId, term: Term): Index {
    const { machine } = this.host(from)
    const state = machine.applied.slice(0, machine.checkpoint)
    const last = state.at(-1)
    if (last === undefined) throw new InvariantError(`I14: ${from} has nothing to send`)
    const { index } = last
    const membership = machine.membershipAt(index)
    if (membership === undefined) throw new InvariantError(`I13: ${from} sends no membership`)
    const meta = { last: { index, term: last.term }, membership }
    const packet = { type: 'snapshot', from, to, term, meta, state } as const
    this.#trace(`${from}>${to} ${describe(packet)}${this.isCut(from, to) ? ' (cut)' : ''}`)
    this.packets.push(packet)
    return index
  }

  async #offer(packet: SnapshotPacket): Promise<void> {
    const host = this.host(packet.to)
    await this.#event(packet.to, (node) => {
      const accepted = node.offerSnapshot(packet.from, packet.term, packet.meta)
      this.#trace(`${packet.to} ${accepted ? 'accepts' : 'refuses'} ${describe(packet)}`)
      if (accepted) host.staged = packet.state
    })
  }

  /** Whoever sends hears of a broken link, as long as it is the same process. */
  async #lostSnapshot(packet: Packet): Promise<void> {
    if (packet.type === 'snapshot') await this.snapshotEnded(packet.from, packet.to, false)
  }

  /** The switch is on disk: the state that was received is the state. */
  #switch(host: Host): void {
    const { staged, machine } = host
    if (staged === undefined) throw new InvariantError(`I14: ${host.id} installs nothing`)
    this.invariants.installed(host.id, staged, machine.applied.length)
    machine.install(staged)
    host.staged = undefined
    this.installs++
    this.#trace(`${host.id} stands at ${staged.length}`)
  }

  // ---- Inside ---------------------------------------------------------------------------------------------------

  #machine(id: NodeId): ListMachine {
    // Who is added later knows of nobody until its log tells.
    const first = this.#first.members.some((known) => known.id === id) ? this.#first : undefined
    return new ListMachine(first, (entry) => this.#onApply(id, entry))
  }

  #onApply(id: NodeId, entry: Entry): void {
    const host = this.host(id)
    this.#trace(`${id} applies ${entryList([entry])}`)
    this.invariants.applied(id, entry)
    const proposal = host.proposals.get(entry.index)
    if (proposal === undefined) return
    host.proposals.delete(entry.index)
    if (proposal.term !== entry.term) {
      this.#trace(`${id} "${proposal.text}" was replaced`)
      return
    }
    if (entryText(entry) !== proposal.text) {
      throw new InvariantError(`I8: ${entry.index}@${entry.term} is not "${proposal.text}"`)
    }
    this.acks++
    this.invariants.acknowledged(entry.index, proposal.text)
  }

  #start(host: Host): void {
    const { id, log, machine } = host
    host.node = new RaftNode({
      id,
      hardState: log.hardState(),
      log,
      machine,
      membership: machine.membershipAt(machine.applied.length),
      random: this.#options.random,
      electionTicks: this.electionTicks,
      heartbeatTicks: this.#options.heartbeatTicks ?? 2,
      limits: this.limits,
      transport: { send: (messages) => this.#onSend(id, messages) },
      source: {
        send: (to, term) => this.#send(id, to, term),
        cancel: (to) => this.#trace(`${id} cancels its snapshot to ${to}`),
      },
      sink: { install: ({ last }, hardState) => log.install(last, hardState) },
      retention: {
        bytes: () => log.bytes(),
        bytesMax: this.#options.retain?.bytes ?? Number.POSITIVE_INFINITY,
        pinnedBytesMax: this.#options.retain?.pinned ?? Number.POSITIVE_INFINITY,
      },
      events: {
        wake: () => {
          host.awake = true
        },
        fatal: (error) => {
          this.#violation ??= error
        },
      },
      applySliceBytes: 4096,
      compactStepEntries: 3,
    })
    host.seenBatch = undefined
    const status = host.node.status()
    host.role = status.role
    host.term = status.term
    host.transferTo = undefined
    this.invariants.started(status)
  }

  #onSend(id: NodeId, messages: readonly Message[]): void {
    for (const message of messages) {
      this.#guard(() => this.invariants.sent(id, message))
      const cut = this.isCut(message.from, message.to)
      this.#trace(`${message.from}>${message.to} ${describe(message)}${cut ? ' (cut)' : ''}`)
      if (!cut) this.packets.push(message)
    }
  }

  #take(message: Packet): void {
    const at = this.packets.indexOf(message)
    if (at >= 0) this.packets.splice(at, 1)
  }

  async #event(id: NodeId, run: (node: RaftNode) => void): Promise<void> {
    const host = this.host(id)
    const { node } = host
    if (node === undefined) return
    run(node)
    this.#check(host)
    if (this.eager) await this.#settle(host)
  }

  async #settle(host: Host): Promise<void> {
    for (let turns = 0; host.awake && host.node !== undefined; turns++) {
      if (turns > 1_000) throw new InvariantError(`I19 bounds: ${host.id} never comes to rest`)
      host.awake = false
      host.node.pump()
      this.#check(host)
      await reactions()
      this.#noticePersist(host)
      this.#check(host)
    }
  }

  /** A violation inside a reaction of the driver surfaces at the next check, where the test awaits it. */
  #guard(check: () => void): void {
    try {
      check()
    } catch (error) {
      if (this.#violation !== undefined) throw error
      this.#violation = error
    }
  }

  #check(host: Host): void {
    if (this.#violation !== undefined) throw this.#violation
    if (host.node === undefined) return
    const status = host.node.status()
    if (host.role === 'leader' && status.role !== 'leader' && host.transferTo !== undefined) {
      this.transfers++
    }
    host.transferTo = status.transferTo
    if (status.role !== host.role || status.term !== host.term) {
      host.role = status.role
      host.term = status.term
      this.#trace(`${host.id} is ${status.role} of term ${status.term}`)
    }
    this.invariants.changed(status)
  }

  #noticePersist(host: Host): void {
    const batch = host.log.pending
    if (batch === undefined || batch === host.seenBatch) return
    host.seenBatch = batch
    const { hardState, entries, snapshot } = batch
    const state = hardState && ` term ${hardState.term} vote ${hardState.vote ?? '-'}`
    const log = entries.length > 0 ? ` ${entryList(entries)}` : ''
    const what = snapshot === undefined ? 'writes' : `switches to ${position(snapshot)}`
    this.#trace(`${host.id} disk: ${what}${state ?? ''}${log}`)
  }
}

/** Lets every promise that is settled by now run its reactions. One immediate is cheaper than many awaits. */
function reactions(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

/** mulberry32: a small seeded generator in [0, 1). */
export function seeded(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
