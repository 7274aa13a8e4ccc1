/*
 * I16, membership safety: how one membership may follow another in a log, and that a node counts on the one that its
 * log has. Who has what on disk is the electorate's business.
 */

import type { CoreStatus } from '../../raft/core.ts'
import type { Entry, Index, Membership, NodeId, Term } from '../../raft/types.ts'
import type { Canon } from './canon.ts'
import { type InForce, votersOf } from './electorate.ts'
import type { Machine } from './machine.ts'
import type { Marks } from './marks.ts'
import { hold } from './violation.ts'

const NAME = 'I16 membership safety'

export class MembershipSafety {
  readonly #canon: Canon
  /** What was looked at already: entries by `index@term`, leaders by id and term. */
  readonly #looked = new Set<string>()
  /** What a node believed when it was last compared, and with what. */
  readonly #compared = new Map<Machine, readonly [Membership, Membership | undefined]>()
  /** Everybody that a committed membership has named, and those that a later one did not. */
  readonly #named = new Set<NodeId>()
  readonly #gone = new Set<NodeId>()
  /** Who had an address last. */
  readonly #addresses = new Map<string, NodeId>()
  readonly #marks: Marks
  /** The last one that was taken note of. */
  #last: Membership | undefined
  #committedTo: Index = 0

  constructor(canon: Canon, marks: Marks) {
    this.#canon = canon
    this.#marks = marks
  }

  /** A survivor has begun a new cluster with this entry, on its own word: who was in force before is gone. */
  forced(index: Index, term: Term): void {
    this.#looked.add(`${index}@${term}`)
  }

  /** These entries are about to be written: the first time that a membership among them is seen. */
  persisting(machine: Machine, entries: readonly Entry[]): void {
    const [first] = entries
    let before = first === undefined ? undefined : machine.inForce[first.index - 1]
    for (const { index, term, payload } of entries) {
      if (payload.type !== 'membership') continue
      const now = { index, membership: payload.membership }
      const key = `${index}@${term}`
      if (!this.#looked.has(key)) this.#membershipSafety(machine, before, now, term)
      this.#looked.add(key)
      before = now
    }
  }

  /**
   * A change comes behind a committed entry of its leader's own term and behind the committed membership before it,
   * shares a majority with that one, and names nobody that was removed.
   */
  #membershipSafety(
    machine: Machine,
    before: InForce | undefined,
    { index, membership }: InForce,
    term: Term,
  ): void {
    const what = (): string => `${machine.name} appends ${textOf(membership)} at ${index}@${term}`
    if (before === undefined) {
      hold(index === 1, NAME, () => `${what()}, behind none`)
      return
    }
    const after = (): string => `${what()}, behind ${textOf(before.membership)} at ${before.index}`
    hold(before.index <= this.#canon.lastIndex, NAME, () => `${after()}, which is not committed`)
    hold(this.#isCommittedIn(term, index), NAME, () => `${what()}, the first entry of its term`)
    hold(isNeighbour(before.membership, membership), NAME, after)
    const again = membership.members.find(({ id }) => this.#gone.has(id))
    hold(again === undefined, NAME, () => `${what()}: ${again?.id} was removed once`)
  }

  #isCommittedIn(term: Term, below: Index): boolean {
    const { terms } = this.#canon
    for (let at = Math.min(below, terms.length) - 1; at > 0; at--) {
      if (terms[at] === term) return true
      if ((terms[at] ?? 0) < term) return false
    }
    return false
  }

  /** Who was named, and who is named no more, by what is committed. */
  #takeNote(): void {
    while (this.#committedTo < this.#canon.lastIndex) {
      const { index, membership } = this.#canon.inForce[++this.#committedTo] ?? {}
      if (index !== this.#committedTo || membership === undefined) continue
      const ids = new Set(membership.members.map(({ id }) => id))
      for (const id of this.#named) if (!ids.has(id)) this.#gone.add(id)
      for (const id of ids) this.#named.add(id)
      this.#mark(membership)
      this.#last = membership
    }
  }

  #mark({ members, outgoing }: Membership): void {
    const marks = this.#marks
    if (outgoing !== undefined) marks.reach('joint membership committed')
    else if (this.#last?.outgoing !== undefined) marks.reach('joint membership left')
    const roles = new Map(members.map(({ id, role }) => [id, role]))
    for (const { id, role } of this.#last?.members ?? []) {
      const now = roles.get(id)
      if (now === undefined) marks.reach('member removed')
      else if (role !== 'voter' && now === 'voter') marks.reach('learner promoted')
      else if (role === 'voter' && now === 'learner') marks.reach('voter demoted')
    }
    for (const { id, peerAddress } of members) {
      if ((this.#addresses.get(peerAddress) ?? id) !== id) {
        marks.reach('another node at the address of one that was removed')
      }
      this.#addresses.set(peerAddress, id)
    }
  }

  /** A node counts on the membership that its log has; what it holds in memory only is looked at when it is on disk. */
  believed(machine: Machine, { id, role, term, membership, last, durable }: CoreStatus): void {
    this.#takeNote()
    if (membership === undefined || durable < last || machine.damaged !== undefined) return
    const right = machine.inForce[last]?.membership
    const [known, with_] = this.#compared.get(machine) ?? []
    if (role === 'leader') this.#lookAtLeader(id, term, membership)
    if (known === membership && with_ === right) return
    hold(right !== undefined && textOf(right) === textOf(membership), NAME, () => {
      const of = right === undefined ? 'none' : textOf(right)
      return `${machine.name} counts on ${textOf(membership)} at ${last}, its log has ${of}`
    })
    this.#compared.set(machine, [membership, right])
  }

  #lookAtLeader(id: NodeId, term: Term, membership: Membership): void {
    if (votersOf(membership).includes(id)) return
    const isOld = membership.outgoing?.includes(id) === true
    const key = `${id} ${term} ${isOld}`
    if (this.#looked.has(key)) return
    this.#looked.add(key)
    this.#marks.reach(isOld ? 'leader that only the old voters have' : 'leader that is left out')
  }
}

/** Of two that follow each other: the voters are the same, or one of them is joint and has the voters of both. */
function isNeighbour(before: Membership, now: Membership): boolean {
  const [old, next] = [before, now].map((one) => [...votersOf(one)].sort().join())
  if (next === '') return false
  if (before.outgoing !== undefined) return now.outgoing === undefined && old === next
  return now.outgoing === undefined ? old === next : [...now.outgoing].sort().join() === old
}

export function textOf({ members, outgoing }: Membership): string {
  const all = members.map(({ id, role, peerAddress }) => `${id.slice(0, 6)} ${role} ${peerAddress}`)
  const old = outgoing?.map((id) => id.slice(0, 6)).join(' ')
  return `[${all.join(', ')}${old === undefined ? '' : `; leaving ${old}`}]`
}
