/*
 * The invariants of safety.md 3 that are about nodes, each a function with its name, checked after every event on the
 * node it touched. They look at what a node shows, sends, applies and has on disk, never into the algorithm, so that
 * they hold for any implementation of it. What clients are told is judge.ts; the one history is canon.ts.
 */

import type { CoreStatus } from '../../raft/core.ts'
import type { Entry, HardState, Index, Message, NodeId, Term } from '../../raft/types.ts'
import { decodeEntry } from '../../storage/codec.ts'
import type { Operation } from '../../storage/engine.ts'
import { readUint64, writeUint64 } from '../../storage/integers.ts'
import type { StateSwitch } from '../../storage/log-store.ts'
import { CorruptStateError } from '../../storage/record.ts'
import { openSealedFrame } from '../../storage/sealed-frame.ts'
import { LOG_FORMAT_VERSION } from '../../storage/stable-record.ts'
import { decodeMeta, META_DATABASE, META_KEY } from '../../storage/state-meta.ts'
import { type Canon, chainOf } from './canon.ts'
import { isOfDiffering } from './differing-states.ts'
import { type Electorate, voterSets } from './electorate.ts'
import type { Machine } from './machine.ts'
import type { Marks } from './marks.ts'
import { MembershipSafety } from './membership-safety.ts'
import type { Applied } from './observed.ts'
import { hold } from './violation.ts'

const SENT_IN_EVENT_MAX = 5000
const STABLE_KEY = Buffer.from('stable')

export interface InvariantsWorld {
  readonly machines: readonly Machine[]
  readonly canon: Canon
  readonly electorate: Electorate
  readonly marks: Marks
}

/** What was seen of a process last. */
interface Seen {
  readonly incarnation: number
  readonly status: CoreStatus
  readonly durableAt: Index
}

export class Invariants {
  readonly #machines: readonly Machine[]
  readonly #canon: Canon
  readonly #electorate: Electorate
  readonly #membershipSafety: MembershipSafety
  readonly #marks: Marks
  readonly #seen = new Map<Machine, Seen>()
  readonly #leaders = new Map<Term, Machine>()
  /** Whom a node has promised its vote, by node and term. */
  readonly #votes = new Map<string, NodeId>()
  readonly #promised = new Map<Machine, { term: Term; vote: NodeId }>()
  /** Chains by position of everything that was ever on a disk. */
  readonly #chains = new Map<string, number>()
  /** Digests of the checkpoints, by the index they stand at. */
  readonly #digests = new Map<Index, string>()
  /** Where the states stand that nodes have switched to, until all of it was compared. */
  readonly #switched = new Map<Machine, Index>()
  /** The term in which a machine campaigned because it was told to. */
  readonly #transfers = new Map<Machine, Term>()
  /** What was marked already: once per thing. */
  readonly #marked = new Set<string>()
  #sentInEvent = 0
  elections = 0

  constructor(world: InvariantsWorld) {
    this.#machines = world.machines
    this.#canon = world.canon
    this.#electorate = world.electorate
    this.#membershipSafety = new MembershipSafety(world.canon, world.marks)
    this.#marks = world.marks
  }

  /** After an event of this machine. */
  check(machine: Machine): void {
    this.#sentInEvent = 0
    const { process } = machine
    const status = machine.status()
    if (process === undefined || status === undefined) return
    const { incarnation } = process
    const seen = this.#seen.get(machine)
    const before = seen?.incarnation === incarnation ? seen : undefined
    const durableAt = process.state.durableAt().index
    const switchedTo = this.#switched.get(machine)
    if (switchedTo !== undefined && durableAt >= switchedTo) {
      this.#switched.delete(machine)
      this.sameState(machine)
    }
    if (before === undefined) {
      this.#termAndVoteSurvive(machine, status)
    } else this.#monotone(machine, before, status)
    this.#cursors(machine, status)
    if (status.role === 'leader') {
      if (before?.status.role !== 'leader' || before.status.term !== status.term) {
        this.#electionSafety(machine, status)
        this.#leaderCompleteness(machine, status)
      }
      this.#oldTermOnQuorum(machine, status)
    }
    // One event may bring the last acknowledgement and then the word of a later term.
    const led = status.role === 'leader' ? status : before?.status
    if (led?.role === 'leader') this.#commitIsOnQuorum(machine, status.commit, led.term)
    this.#commitIsKnown(machine, status)
    if (before?.status.first !== status.first) this.#noGap(machine, status)
    if (before?.durableAt !== durableAt) this.#checkpoint(machine, durableAt)
    this.#membershipSafety.believed(machine, status)
    if (process.replica.members.isRemoved) {
      this.once(`removed ${machine.index}`, () => this.#marks.reach('removed node knows it'))
    }
    this.#bounds(machine, status)
    this.#compactionHeldBack(machine, status, durableAt)
    this.#seen.set(machine, { incarnation, status, durableAt })
  }

  // ---- I1, I4 -----------------------------------------------------------------------------------

  #electionSafety(machine: Machine, { term }: CoreStatus): void {
    if (this.#transfers.get(machine) === term) this.#marks.reach('transfer completed')
    const other = this.#leaders.get(term) ?? machine
    hold(other === machine, 'I1 election safety', () => {
      return `${other.name} and ${machine.name} lead term ${term}`
    })
    this.#leaders.set(term, machine)
    this.elections++
    if (this.#machines.some(({ disk }) => disk.building !== undefined)) {
      this.#marks.reach('leader changes while a snapshot is received')
    }
  }

  #leaderCompleteness(machine: Machine, { term, last }: CoreStatus): void {
    const { lastIndex, chains } = this.#canon
    hold(
      last >= lastIndex && machine.chains[lastIndex] === chains[lastIndex],
      'I4 leader completeness',
      () => `${machine.name} leads term ${term} without the committed entry ${lastIndex}`,
    )
  }

  // ---- I2 ---------------------------------------------------------------------------------------

  #termAndVoteSurvive(machine: Machine, status: CoreStatus): void {
    const promised = this.#promised.get(machine)
    if (promised === undefined) return
    const { term, vote } = promised
    hold(
      status.term > term || (status.term === term && status.vote === vote),
      'I2 one vote per term',
      () => `${machine.name} starts in term ${status.term}, it promised ${vote} in ${term}`,
    )
  }

  #vote(machine: Machine, term: Term, candidate: NodeId): void {
    const key = `${machine.id}/${term}`
    const before = this.#votes.get(key) ?? candidate
    hold(before === candidate, 'I2 one vote per term', () => {
      return `${machine.name} votes for ${before} and ${candidate} in term ${term}`
    })
    this.#votes.set(key, candidate)
    this.#promised.set(machine, { term, vote: candidate })
    if (machine.damaged !== undefined) return
    const durable = durableHardState(machine)
    hold(
      durable.term > term || (durable.term === term && durable.vote === candidate),
      'I2 one vote per term',
      () => `${machine.name} shows its vote of term ${term} before it is durable`,
    )
  }

  // ---- I3 ---------------------------------------------------------------------------------------

  /** A batch of the log becomes visible: equal position must mean equal entry and equal predecessors. */
  landing(machine: Machine, operations: readonly Operation[]): void {
    for (const operation of operations) {
      if (operation.type === 'put' && operation.database === 'log') {
        this.#logMatching(machine, decodeEntry(operation.value))
      }
    }
    if (machine.damaged !== undefined) return
    this.#nothingCommittedIsCut(machine, operations)
    this.#nothingIsLeftBehind(machine, operations)
  }

  /** An entry leaves a log together with what says that the state holds it, or because it never was committed. */
  #nothingCommittedIsCut(machine: Machine, operations: readonly Operation[]): void {
    const removed = operations.filter(
      ({ type, database }) => type === 'remove' && database === 'log',
    )
    if (removed.length === 0) return
    const stable = operations.find(({ type, database }) => type === 'put' && database === 'stable')
    const base = stable?.type === 'put' ? readStable(stable.value).base : 0
    for (const operation of removed) {
      const index = operation.type === 'remove' ? readUint64(operation.key, 0) : 0
      const old = machine.disk.stored('log', 'log', logKey(index))
      if (index > base && old !== undefined) this.#rolledBack(index, termOf(old))
      hold(
        index <= base || old === undefined || this.#canon.terms[index] !== termOf(old),
        'I5 state machine safety',
        () => `${machine.name} cuts the committed entry ${index} off its log`,
      )
    }
  }

  /** What is put on disk ends the log, unless what follows there was written behind the very same entries. */
  #nothingIsLeftBehind(machine: Machine, operations: readonly Operation[]): void {
    const last = operations.findLast(({ type, database }) => type === 'put' && database === 'log')
    if (last?.type !== 'put') return
    const { index } = decodeEntry(last.value)
    const key = logKey(index + 1)
    const next = machine.disk.stored('log', 'log', key)
    const isRemoved = operations.some(
      (operation) => operation.type === 'remove' && Buffer.compare(operation.key, key) === 0,
    )
    if (next === undefined || isRemoved) return
    hold(
      chainOf(machine.chains[index] ?? 0, decodeEntry(next)) === machine.chains[index + 1],
      'I3 log matching',
      () => `${machine.name} keeps ${index + 1} behind another entry ${index} than before`,
    )
  }

  #logMatching(machine: Machine, entry: Entry): void {
    const { index, term } = entry
    const chain = chainOf(machine.chains[index - 1] ?? 0, entry)
    const key = `${index}@${term}`
    const known = this.#chains.get(key) ?? chain
    hold(known === chain, 'I3 log matching', () => `${machine.name} stores another ${key}`)
    this.#chains.set(key, chain)
    this.#electorate.landed(machine, entry)
    const old = machine.disk.stored('log', 'log', logKey(index))
    if (old !== undefined && termOf(old) !== term) this.#replaced(machine, index, termOf(old))
    machine.chains[index] = chain
  }

  #rolledBack(index: Index, term: Term): void {
    const isMembership = this.#electorate.at(index, term)?.index === index
    if (isMembership) this.#marks.reach('membership rolled back')
  }

  #replaced(machine: Machine, index: Index, oldTerm: Term): void {
    this.#rolledBack(index, oldTerm)
    hold(
      index > this.#canon.lastIndex || this.#canon.terms[index] !== oldTerm,
      'I5 state machine safety',
      () => `${machine.name} replaces the committed entry ${index}@${oldTerm}`,
    )
    this.#marks.reach('suffix replaced on disk')
    const inForce = this.#electorate.at(index, oldTerm)
    const isHeld = (one: Machine): boolean => durableTerm(one, index) === oldTerm
    if (inForce !== undefined && this.#electorate.isQuorum(inForce.membership, isHeld)) {
      this.#marks.reach('figure 8: what a majority held is replaced')
    }
  }

  /** A new process: what its disk holds may be older than what had landed when the power failed. */
  opened(machine: Machine): void {
    const log = machine.process?.log
    if (log === undefined) return
    this.#switched.delete(machine)
    const states = machine.disk.list().filter((name) => name !== 'log')
    hold(
      states.join() === `state-${log.stateNumber()}`,
      'I14 no gap',
      () => `${machine.name} starts on ${states}, its log names state-${log.stateNumber()}`,
    )
    const { index: base } = log.base()
    this.#electorate.opened(machine)
    this.#beginsAfter(machine, base)
    for (let index = base + 1; index <= log.lastIndex(); index++) {
      const chain = this.#chains.get(`${index}@${log.term(index)}`)
      hold(chain !== undefined, 'I3 log matching', () => `${machine.name} invents entry ${index}`)
      machine.chains[index] = chain
      machine.inForce[index] = this.#electorate.at(index, log.term(index))
    }
    this.sameState(machine)
  }

  /** What its log does not hold any more is what was committed. */
  #beginsAfter(machine: Machine, base: Index): void {
    if (base === 0) return
    machine.chains[base] = this.#canon.chains[base] ?? 0
    machine.inForce[base] = this.#canon.inForce[base]
  }

  // ---- I5, I13 ----------------------------------------------------------------------------------

  applied(machine: Machine, { end, keys }: Applied): void {
    const { index, term } = end
    if (index > this.#canon.lastIndex) this.check(machine)
    const canon = this.#canon
    hold(
      index <= canon.lastIndex && canon.chains[index] === machine.chains[index],
      'I5 state machine safety',
      () => `${machine.name} applies ${index}@${term}, committed is @${canon.terms[index]}`,
    )
    for (const key of keys) this.#sameValue(machine, key, index)
    for (const key of canon.keysAt[index] ?? []) this.#sameValue(machine, key, index)
    this.#sameSize(machine, index)
  }

  #sameValue(machine: Machine, key: string, index: Index): void {
    const stored = machine.process?.state.get(0, key)
    const value = stored === undefined ? null : Buffer.from(stored.value).toString('latin1')
    const op = this.#canon.ends[index] ?? 0
    const right = this.#canon.valueAt(key, op)
    hold(value === right, 'I5 state machine safety', () => {
      return `${machine.name} has ${key} = ${value} at ${index}, which is ${right}`
    })
    const expireAt = this.#canon.expireAt(key, op)
    hold((stored?.expireAt ?? 0) === expireAt, 'I15 TTL determinism', () => {
      return `${machine.name} lets ${key} expire at ${stored?.expireAt} at ${index}, right is ${expireAt}`
    })
  }

  #sameSize(machine: Machine, index: Index): void {
    const size = machine.process?.state.size(0)
    const right = this.#canon.sizeAt(this.#canon.ends[index] ?? 0)
    hold(size === right, 'I5 state machine safety', () => {
      return `${machine.name} counts ${size} keys at ${index}, there are ${right}`
    })
  }

  /** Every key of its state, at whatever index it stands. */
  sameState(machine: Machine): void {
    const { process } = machine
    if (process === undefined) return
    const index = process.state.appliedIndex()
    hold(index <= this.#canon.lastIndex, 'I13 checkpoint equivalence', () => {
      return `${machine.name} stands at ${index}, committed is ${this.#canon.lastIndex}`
    })
    for (const key of this.#canon.keys()) {
      try {
        this.#sameValue(machine, key, index)
      } catch (error) {
        // A flipped bit that nobody has read until now is found now: it would not have been served.
        if (machine.damaged === undefined || !(error instanceof CorruptStateError)) throw error
      }
    }
    this.#sameSize(machine, index)
  }

  /** Checkpoints at one index are one state, on whatever node and however they came about. */
  #checkpoint(machine: Machine, durableAt: Index, number = stateNumber(machine)): void {
    if (durableAt === 0 || machine.damaged !== undefined) return
    const meta = decodeMeta(machine.disk.durable(`state-${number}`, META_DATABASE, META_KEY))
    if (isOfDiffering(meta.counts)) return
    hold(meta.index >= durableAt, 'I13 checkpoint equivalence', () => {
      return `${machine.name} relies on a checkpoint at ${durableAt}, durable is ${meta.index}`
    })
    const hashKey = Buffer.from(meta.hashKey ?? []).toString('hex')
    const text = JSON.stringify({ ...meta, hashKey })
    const known = this.#digests.get(meta.index) ?? text
    const sends = machine.status()?.peers.some(({ state }) => state === 'snapshot')
    if (sends === true) this.#marks.reach('checkpoint while a snapshot is sent')
    hold(known === text, 'I13 checkpoint equivalence', () => {
      return `${machine.name} has ${text} at ${meta.index}, another node had ${known}`
    })
    this.#digests.set(meta.index, text)
  }

  // ---- I6 ---------------------------------------------------------------------------------------

  #monotone(machine: Machine, { status: before }: Seen, status: CoreStatus): void {
    hold(
      status.term >= before.term &&
        status.commit >= before.commit &&
        status.applied >= before.applied &&
        status.first >= before.first &&
        (before.term !== status.term || before.vote === undefined || before.vote === status.vote),
      'I6 monotone cursors',
      () => `${machine.name} went from ${JSON.stringify(before)} to ${JSON.stringify(status)}`,
    )
    if (before.role === 'leader' && status.role !== 'leader' && status.term === before.term) {
      this.#marks.reach('leader loses its quorum')
    }
  }

  #cursors(machine: Machine, status: CoreStatus): void {
    const { first, applied, commit, last, durable, peers } = status
    hold(
      first - 1 <= applied &&
        applied <= commit &&
        commit <= last &&
        applied <= durable &&
        durable <= last &&
        peers.every(({ match, next }) => match < next),
      'I6 monotone cursors',
      () => `${machine.name}: ${JSON.stringify(status)}`,
    )
  }

  // ---- I7 ---------------------------------------------------------------------------------------

  #commitIsOnQuorum(machine: Machine, commit: Index, term: Term): void {
    const canon = this.#canon
    if (commit <= canon.lastIndex) return
    const isHeld = (one: Machine, index: Index): boolean => durableTerm(one, index) === term
    const holders = this.#machines.filter((one) => isHeld(one, commit))
    const [holder] = holders
    hold(
      holder !== undefined && this.#electorate.commits(commit, term, isHeld),
      'I7 commit is on a durable quorum',
      () => `${machine.name} commits ${commit} in term ${term}, ${holders.length} disks hold it`,
    )
    for (let index = canon.lastIndex + 1; index <= commit; index++) {
      const bytes = holder.disk.written('log', 'log', logKey(index))
      hold(bytes !== undefined, 'I3 log matching', () => `${holder.name} lacks entry ${index}`)
      canon.add(decodeEntry(bytes.slice()))
    }
  }

  #commitIsKnown(machine: Machine, { commit }: CoreStatus): void {
    hold(commit <= this.#canon.lastIndex, 'I7 commit is on a durable quorum', () => {
      return `${machine.name} commits ${commit}, no leader committed past ${this.#canon.lastIndex}`
    })
  }

  #oldTermOnQuorum(
    machine: Machine,
    { peers, durable, commit, term, id, membership }: CoreStatus,
  ): void {
    const matches = new Map([[id, durable], ...peers.map((peer) => [peer.id, peer.match] as const)])
    const index = Math.min(
      ...voterSets(membership ?? { members: [] }).map((voters) => {
        const sorted = voters.map((voter) => matches.get(voter) ?? 0).sort((a, b) => b - a)
        return sorted[Math.floor(voters.length / 2)] ?? 0
      }),
    )
    if (index <= commit || machine.cache?.term(index) === term) return
    this.once(`old ${machine.index} ${term}`, () =>
      this.#marks.reach('figure 8: an old term on a quorum is not counted'),
    )
  }

  /** A message leaves: what it promises must be durable. */
  sent(machine: Machine, message: Message): void {
    hold(++this.#sentInEvent < SENT_IN_EVENT_MAX, 'I19 bounds', () => `${machine.name} sends on`)
    switch (message.type) {
      case 'vote':
        if (message.transfer) this.#transfers.set(machine, message.term)
        this.#vote(machine, message.term, machine.id)
        break
      case 'vote-reply':
        if (message.granted) this.#vote(machine, message.term, message.to)
        break
      case 'append-reply':
        this.#acknowledgedIsDurable(machine, message.match)
        break
      case 'append':
      case 'heartbeat':
        if (message.commit > this.#canon.lastIndex) this.check(machine)
        break
      case 'append-reject':
        this.#marks.reach('append rejected')
        break
      default:
        break
    }
  }

  #acknowledgedIsDurable(machine: Machine, match: Index): void {
    const base = machine.process?.log.base().index ?? 0
    hold(
      match <= base || durableTerm(machine, match) !== undefined,
      'I7 commit is on a durable quorum',
      () => `${machine.name} acknowledges ${match}, which is not durable`,
    )
  }

  /** Figure 13, rule 1: what a leader of the past sends is refused, however late it comes. */
  snapshotTaken(own: Term, ofLeader: Term): void {
    hold(own === ofLeader, 'I14 no snapshot of the past', () => {
      return `a node of term ${own} takes a snapshot from the leader of ${ofLeader}`
    })
  }

  /** A state that was sent takes the place of this node's: ahead of it, committed, and built to the last record. */
  switching(machine: Machine, { last, stateNumber }: StateSwitch): void {
    const { index, term } = last
    const { applied = 0, commit = 0 } = machine.status() ?? {}
    hold(index > applied && index > commit, 'I14 no backward install', () => {
      return `${machine.name} switches to ${index}, it has applied ${applied} and committed ${commit}`
    })
    hold(this.#canon.terms[index] === term, 'I13 checkpoint equivalence', () => {
      return `${machine.name} switches to ${index}@${term}, committed is @${this.#canon.terms[index]}`
    })
    this.#checkpoint(machine, index, stateNumber)
  }

  /** The log names the new state now, whose every record is what the entries up to there make of it. */
  switched(machine: Machine, { last, stateNumber }: StateSwitch): void {
    if (machine.process === undefined) return
    const { log } = machine.process
    hold(
      log.stateNumber() === stateNumber && log.base().index <= last.index,
      'I14 no gap',
      () => `${machine.name} begins after ${log.base().index}, its state stands at ${last.index}`,
    )
    this.#beginsAfter(machine, log.base().index)
    this.#switched.set(machine, last.index)
    this.#marks.reach('snapshot installed')
  }

  // ---- I14, I16, I19, I20 -----------------------------------------------------------------------

  /** What was compacted is in a durable checkpoint here, and in the log or state of every member. */
  #noGap(machine: Machine, { first }: CoreStatus): void {
    const base = first - 1
    if (base === 0 || machine.damaged !== undefined) return
    const meta = decodeMeta(
      machine.disk.durable(`state-${stateNumber(machine)}`, META_DATABASE, META_KEY),
    )
    hold(meta.index >= base, 'I14 no gap', () => {
      return `${machine.name} begins after ${base}, its durable state ends at ${meta.index}`
    })
    for (const other of this.#machines) {
      if (other === machine || other.damaged !== undefined) continue
      const otherBase = durableStable(other)?.base ?? 0
      if (otherBase >= base || durableTerm(other, base) !== undefined) continue
      this.#marks.reach('compaction past a member that is behind')
    }
  }

  #bounds(machine: Machine, status: CoreStatus): void {
    const { cache } = machine
    if (cache === undefined) return
    const { entries, bytes, misses } = cache.metrics()
    const limit = machine.swarm.cache
    hold(
      entries <= limit.entries && (bytes <= limit.bytes || entries === 1),
      'I19 bounds',
      () => `the LogCache of ${machine.name} holds ${entries} entries, ${bytes} bytes`,
    )
    if (entries === limit.entries && status.last > limit.entries) {
      const { incarnation } = machine.process ?? {}
      this.once(`wrap ${machine.index} ${incarnation}`, () => this.#marks.reach('LogCache wraps'))
    }
    if (misses > 0) {
      const { incarnation } = machine.process ?? {}
      this.once(`miss ${machine.index} ${incarnation}`, () => this.#marks.reach('LogCache misses'))
    }
  }

  /** See MembershipSafety. */
  forced(index: Index, term: Term): void {
    this.#membershipSafety.forced(index, term)
  }

  /** A persist begins: see MembershipSafety. */
  persisting(machine: Machine, entries: readonly Entry[]): void {
    const memberships = entries.some(({ payload }) => payload.type === 'membership')
    // A leader may have committed the one before in this very event.
    if (memberships) this.check(machine)
    this.#membershipSafety.persisting(machine, entries)
  }

  /** The entries a node read from its log, through its cache, are those on its disk. */
  cacheCoherent(machine: Machine, from: Index, entries: readonly Entry[]): void {
    for (const [offset, { index, encoded }] of entries.entries()) {
      hold(index === from + offset, 'I20 LogCache coherence', () => {
        return `${machine.name} reads entry ${index} where it asks for ${from + offset}`
      })
      const stored = machine.disk.stored('log', 'log', logKey(index))
      const same =
        stored !== undefined && encoded !== undefined && Buffer.compare(stored, encoded) === 0
      hold(same || machine.damaged !== undefined, 'I20 LogCache coherence', () => {
        return `${machine.name} reads another entry ${index} than its disk holds`
      })
    }
  }

  // ---- Marks only -------------------------------------------------------------------------------

  #compactionHeldBack(machine: Machine, { slowest, first }: CoreStatus, durableAt: Index): void {
    if (slowest === undefined || slowest.match >= durableAt || first - 1 >= durableAt) return
    this.once(`held ${machine.index} ${durableAt}`, () =>
      this.#marks.reach('compaction held back by the slowest'),
    )
  }

  /** Does it unless it was done under this key before. */
  once(key: string, action: () => void): void {
    if (this.#marked.has(key)) return
    this.#marked.add(key)
    action()
  }
}

function logKey(index: Index): Uint8Array {
  const key = new Uint8Array(8)
  writeUint64(key, 0, index)
  return key
}

/** Of an entry's bytes: see ENTRY_HEADER_BYTES in storage/codec.ts. */
function termOf(encoded: Uint8Array): Term {
  return readUint64(encoded, 13)
}

/** The term of what a power cut would leave at this index at worst. */
export function durableTerm(machine: Machine, index: Index): Term | undefined {
  const bytes = machine.disk.written('log', 'log', logKey(index))
  return bytes === undefined ? undefined : termOf(bytes)
}

/** Of the state in force, as the process believes it. */
function stateNumber(machine: Machine): number {
  return machine.process?.log.stateNumber() ?? 1
}

function durableHardState(machine: Machine): HardState {
  return durableStable(machine)?.hardState ?? { term: 0, vote: undefined }
}

function durableStable(machine: Machine): { hardState: HardState; base: Index } | undefined {
  const bytes = machine.disk.durable('log', 'stable', STABLE_KEY)
  return bytes === undefined ? undefined : readStable(bytes)
}

function readStable(bytes: Uint8Array): { hardState: HardState; base: Index } {
  const reader = openSealedFrame(bytes, LOG_FORMAT_VERSION, 'the record of this node')
  reader.string(64)
  if (!reader.skipNull()) reader.string(64)
  const term = reader.integer()
  const vote = reader.skipNull() ? undefined : reader.string(64)
  return { hardState: { term, vote }, base: reader.integer() }
}
