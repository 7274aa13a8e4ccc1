/*
 * The named invariants of a cluster (I1 to I9, I14, I16 and I19), each checked in constant time after every event. They look
 * only at what a node shows (its status, what it sends, applies and has on disk), never into the core, so that they
 * hold for any implementation of the algorithm; `canon` is the one history that everybody must agree on.
 */

import type { CoreLimits, CoreStatus } from '../../raft/core.ts'
import { majority } from '../../raft/quorum.ts'
import {
  type Entry,
  entryBytes,
  type Index,
  type Membership,
  type Message,
  type NodeId,
} from '../../raft/types.ts'
import type { MemoryLog } from './memory-log.ts'

export class InvariantError extends Error {
  override readonly name = 'InvariantError'
}

function hold(condition: boolean, invariant: string, detail: () => string): asserts condition {
  if (!condition) throw new InvariantError(`${invariant}: ${detail()}`)
}

interface Cursors {
  role: string
  term: number
  vote: NodeId | undefined
  commit: Index
  applied: Index
  durable: Index
  membership: Membership | undefined
  membershipIndex: Index
}

function cursorsOf(status: CoreStatus): Cursors {
  const { role, term, vote, commit, applied, durable, membership, membershipIndex } = status
  return { role, term, vote, commit, applied, durable, membership, membershipIndex }
}

/** Counted here anew, so that a mistake in raft/membership.ts does not hide itself. */
function voterSetsOf({ members, outgoing }: Membership): readonly (readonly NodeId[])[] {
  const voters = members.flatMap(({ id, role }) => (role === 'voter' ? [id] : [])).sort()
  return outgoing === undefined ? [voters] : [voters, [...outgoing].sort()]
}

/** `1,2,3`, with learners `1,2,3 +4`, joint `1,2 to 2,3`. */
export function membershipText(membership: Membership): string {
  const [voters = [], outgoing] = voterSetsOf(membership)
  const learners = membership.members.flatMap(({ id, role }) => (role === 'learner' ? [id] : []))
  const from = outgoing === undefined ? '' : `${outgoing} to `
  return `${from}${voters}${learners.length > 0 ? ` +${learners}` : ''}`
}

export function entryText(entry: Entry): string {
  const { payload } = entry
  if (payload.type === 'membership') return `members ${membershipText(payload.membership)}`
  if (payload.type !== 'commands') return payload.type
  return String.fromCharCode(...payload.data)
}

export class Invariants {
  readonly #disks: ReadonlyMap<NodeId, { readonly log: MemoryLog }>
  readonly #limits: CoreLimits
  /** Committed entries by index - 1, as the first leader that committed them had them. */
  readonly canon: Entry[] = []
  readonly #leaders = new Map<number, NodeId>()
  readonly #votes = new Map<string, NodeId>()
  readonly #entries = new Map<string, string>()
  readonly #cursors = new Map<NodeId, Cursors>()
  /** The highest index of an acknowledged write, or returned by a read: no later read may be below it. */
  #floor: Index = 0
  #sentInEvent = 0
  elections = 0
  changes = 0

  constructor(disks: ReadonlyMap<NodeId, { readonly log: MemoryLog }>, limits: CoreLimits) {
    this.#disks = disks
    this.#limits = limits
  }

  get floor(): Index {
    return this.#floor
  }

  /** A new process on the old disk: commit and applied begin anew, term and vote never fall. */
  started(status: CoreStatus): void {
    const before = this.#cursors.get(status.id)
    const { log } = this.#disk(status.id)
    const hardState = log.hardState()
    hold(
      status.term === hardState.term && status.vote === hardState.vote,
      'I2 one vote per term',
      () => `${status.id} starts with another term or vote than its disk holds`,
    )
    this.#cursors.set(status.id, cursorsOf(status))
    if (before === undefined) this.#noteLog(log)
  }

  /** Called after every event of a node, with what it shows now. */
  changed(status: CoreStatus): void {
    this.#sentInEvent = 0
    const before = this.#cursors.get(status.id)
    hold(before !== undefined, 'I6', () => `${status.id} was never started`)
    this.#checkCursors(before, status)
    if (before.durable !== status.durable) this.#checkInForce(status)
    const isLeader = status.role === 'leader'
    const led = before.role === 'leader' && before.term === status.term
    if (isLeader && !led) this.#checkElection(status)
    // Whoever steps aside when a membership without it is committed has led until then.
    if (isLeader || led) this.#checkCommit(status)
    if (isLeader && led) this.#checkChange(before, status)
    if (isLeader) this.#checkWindows(status)
    hold(
      status.commit <= this.canon.length,
      'I7 commit is on a durable quorum',
      () => `${status.id} commits ${status.commit}, no leader committed past ${this.canon.length}`,
    )
    this.#cursors.set(status.id, cursorsOf(status))
  }

  /** In force is the last membership of the log, and nothing that was cut (I16). Only when the disk shows all of it. */
  #checkInForce(status: CoreStatus): void {
    if (status.durable !== status.last) return
    const { log } = this.#disk(status.id)
    let index = log.lastIndex()
    while (index > log.base().index && log.entry(index)?.payload.type !== 'membership') index--
    hold(
      status.membershipIndex === index ||
        (index === log.base().index && status.membershipIndex <= status.applied),
      'I16 membership safety',
      () =>
        `${status.id} goes by the membership at ${status.membershipIndex}, its log has one at ${index}`,
    )
  }

  /** A leader appends a membership only behind a committed entry of its term and a committed membership (I16). */
  #checkChange(before: Cursors, status: CoreStatus): void {
    const { membership, membershipIndex, id, term } = status
    if (membershipIndex === before.membershipIndex) return
    this.changes++
    hold(membership !== undefined && before.membership !== undefined, 'I16', () => `${id} has none`)
    const texts = `${membershipText(before.membership)} at ${before.membershipIndex}, then ${membershipText(membership)} at ${membershipIndex}`
    // Commit and the change may come in one event: what counts is what is committed now, short of the change itself.
    const committed = Math.min(status.commit, membershipIndex - 1)
    hold(
      before.membershipIndex <= committed && this.canon[committed - 1]?.term === term,
      'I16 membership safety',
      () => `${id} in term ${term}, committed ${committed}: ${texts}`,
    )
    const [old = [], oldOutgoing] = voterSetsOf(before.membership)
    const [next = [], outgoing] = voterSetsOf(membership)
    const legal =
      outgoing === undefined
        ? `${next}` === `${old}`
        : oldOutgoing === undefined && `${outgoing}` === `${old}`
    hold(legal && next.length > 0, 'I16 membership safety', () => texts)
  }

  #checkCursors(before: Cursors, status: CoreStatus): void {
    const { id } = status
    const rises = status.term >= before.term && status.commit >= before.commit
    hold(
      rises && status.applied >= before.applied,
      'I6 monotone cursors',
      () => `${id} went back from ${JSON.stringify(before)} to ${JSON.stringify(status)}`,
    )
    hold(
      before.term !== status.term || before.vote === undefined || before.vote === status.vote,
      'I2 one vote per term',
      () => `${id} changed its vote in term ${status.term} from ${before.vote} to ${status.vote}`,
    )
    hold(
      status.first - 1 <= status.applied &&
        status.applied <= status.commit &&
        status.commit <= status.last &&
        status.applied <= status.durable &&
        status.durable <= status.last,
      'I6 monotone cursors',
      () => `${id}: first - 1 <= applied <= commit, durable <= last: ${JSON.stringify(status)}`,
    )
  }

  #checkElection(status: CoreStatus): void {
    const { id, term } = status
    const other = this.#leaders.get(term)
    hold(other === undefined, 'I1 election safety', () => `${other} and ${id} lead term ${term}`)
    this.#leaders.set(term, id)
    this.elections++
    const last = this.canon.at(-1)
    if (last === undefined) return
    const { log } = this.#disk(id)
    hold(
      log.term(last.index) === last.term,
      'I4 leader completeness',
      () => `${id} leads term ${term} without the committed entry ${last.index}@${last.term}`,
    )
  }

  #checkCommit(status: CoreStatus): void {
    const { commit, term, id } = status
    if (commit <= this.canon.length) return
    const holds = ({ log }: { readonly log: MemoryLog }): boolean =>
      log.base().index > commit || log.term(commit) === term
    // A commit may bring the next membership in force in the same event; it was counted by the one before.
    const before = this.#cursors.get(id)
    const inForce = status.membershipIndex > commit ? before?.membership : status.membership
    hold(inForce !== undefined, 'I7 commit is on a durable quorum', () => `${id} has no membership`)
    for (const voters of voterSetsOf(inForce)) {
      const counted = voters.filter((voter) => holds(this.#disk(voter)))
      hold(
        counted.length >= majority(voters.length),
        'I7 commit is on a durable quorum',
        () => `${id} commits ${commit} in term ${term}, of ${voters} only ${counted} hold it`,
      )
    }
    const holders = [...this.#disks.values()].filter(holds)
    for (let index = this.canon.length + 1; index <= commit; index++) {
      const entry = holders.map(({ log }) => log.entry(index)).find((held) => held !== undefined)
      hold(entry !== undefined, 'I7 commit is on a durable quorum', () => `nobody holds ${index}`)
      this.canon.push(entry)
    }
  }

  #checkWindows(status: CoreStatus): void {
    const { window, appendBytes } = this.#limits
    for (const peer of status.peers) {
      hold(peer.match < peer.next, 'I6 monotone cursors', () => JSON.stringify(peer))
      const inFlight = peer.state === 'replicate' ? peer.next - 1 - peer.match : 0
      hold(
        inFlight * 32 < window.bytes + appendBytes + 4096,
        'I19 bounds',
        () => `${inFlight} entries on their way to ${peer.id}`,
      )
    }
  }

  sent(from: NodeId, message: Message): void {
    this.#sentInEvent++
    hold(this.#sentInEvent < 2_000, 'I19 bounds', () => `${from} does not stop sending`)
    const { log } = this.#disk(from)
    switch (message.type) {
      case 'vote':
        this.#checkVote(from, message.term, from)
        break
      case 'vote-reply':
        if (message.granted) this.#checkVote(from, message.term, message.to)
        break
      case 'append':
        this.#noteEntries(message.prev.term, message.entries)
        this.#checkAppendSize(message.entries)
        break
      case 'append-reply':
        hold(
          log.lastIndex() >= message.match,
          'I7 commit is on a durable quorum',
          () => `${from} acknowledges ${message.match}, its disk ends at ${log.lastIndex()}`,
        )
        break
      default:
        break
    }
  }

  #checkVote(voter: NodeId, term: number, candidate: NodeId): void {
    const key = `${voter}/${term}`
    const before = this.#votes.get(key) ?? candidate
    hold(
      before === candidate,
      'I2 one vote per term',
      () => `${voter} votes for ${before} and ${candidate} in term ${term}`,
    )
    this.#votes.set(key, candidate)
    const { term: durable, vote } = this.#disk(voter).log.hardState()
    hold(
      durable > term || (durable === term && vote === candidate),
      'I2 one vote per term',
      () => `${voter} shows its vote of term ${term} for ${candidate} before it is durable`,
    )
  }

  #checkAppendSize(entries: readonly Entry[]): void {
    const bytes = entries.slice(0, -1).reduce((sum, entry) => sum + entryBytes(entry), 0)
    hold(
      bytes < this.#limits.appendBytes,
      'I19 bounds',
      () => `an append of ${entries.length} entries holds more than ${bytes} bytes`,
    )
  }

  /** A persist became durable. */
  persisted(id: NodeId, entries: readonly Entry[]): void {
    const first = entries[0]
    if (first === undefined) return
    this.#noteEntries(this.#disk(id).log.term(first.index - 1) ?? 0, entries)
  }

  #noteLog(log: MemoryLog): void {
    const { index, term } = log.base()
    const end = log.lastIndex() + 1
    this.#noteEntries(term, index + 1 < end ? log.entries(index + 1, end, 1e9) : [])
  }

  /** Equal position means equal entry and equal predecessor; by induction, equal logs up to there. */
  #noteEntries(prevTerm: number, entries: readonly Entry[]): void {
    let prev = prevTerm
    for (const entry of entries) {
      const key = `${entry.index}@${entry.term}`
      const text = `${entryText(entry)} after term ${prev}`
      const known = this.#entries.get(key) ?? text
      hold(known === text, 'I3 log matching', () => `${key} is "${known}" and "${text}"`)
      this.#entries.set(key, text)
      prev = entry.term
    }
  }

  /** An entry was applied: by then some leader has committed it. */
  applied(id: NodeId, entry: Entry): void {
    const canon = this.canon[entry.index - 1]
    hold(
      canon !== undefined && canon.term === entry.term && entryText(canon) === entryText(entry),
      'I5 state machine safety',
      () => `${id} applies ${entry.index}@${entry.term}, canon has @${canon?.term}`,
    )
  }

  /** A node switches to a state that it was sent: it is ahead of its own, and what everybody applies up to there. */
  installed(id: NodeId, state: readonly Entry[], applied: Index): void {
    hold(
      state.length > applied,
      'I14 no backward install',
      () => `${id} installs a snapshot at ${state.length}, it has applied ${applied}`,
    )
    for (const entry of state) this.applied(id, entry)
    const { log } = this.#disk(id)
    hold(
      log.base().index <= state.length && log.term(state.length) === state.at(-1)?.term,
      'I14 no gap',
      () =>
        `${id} installs a snapshot at ${state.length}, its log begins after ${log.base().index}`,
    )
  }

  acknowledged(index: Index, text: string): void {
    const canon = this.canon[index - 1]
    hold(
      canon !== undefined && entryText(canon) === text,
      'I8 acked is committed',
      () => `"${text}" was acknowledged at ${index}, committed there is ${canon?.term}`,
    )
    this.#floor = Math.max(this.#floor, index)
  }

  /** A read asked when the floor stood at `floor` is served by a state that holds everything up to `applied`. */
  readServed(id: NodeId, floor: Index, applied: Index): void {
    hold(
      applied >= floor,
      'I9 linearizable reads',
      () => `${id} reads at ${applied}, when the read was asked ${floor} was acknowledged`,
    )
    this.#floor = Math.max(this.#floor, applied)
  }

  #disk(id: NodeId): { readonly log: MemoryLog } {
    const disk = this.#disks.get(id)
    hold(disk !== undefined, 'test', () => `no node ${id}`)
    return disk
  }
}
