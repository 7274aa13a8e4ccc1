/*
 * Who decides. A membership is in force from the moment it is in the log, committed or not (paper 6), so those that a
 * truncation could bring back are kept. A change of voters goes through a joint membership, in which every decision
 * takes a majority of the old voters and one of the new. Everything here is about sets of ids; what has been
 * replicated where is the core's business.
 */

import { assert } from './assert.ts'
import type { VoterSets } from './quorum.ts'
import type { Entry, Index, Member, Membership, NodeId } from './types.ts'

export function votersOf({ members }: Membership): readonly NodeId[] {
  return members.filter(({ role }) => role === 'voter').map(({ id }) => id)
}

/**
 * The entry that leads from `current` to `members`: joint when the voters change, else it is the new membership
 * itself. Neither of the two is joint.
 */
export function membershipTowards(current: Membership, members: readonly Member[]): Membership {
  assert(current.outgoing === undefined, () => 'the membership in force is still joint')
  const ids = new Set(members.map(({ id }) => id))
  assert(ids.size === members.length, () => 'a membership names a member twice')
  const before = votersOf(current)
  const after = votersOf({ members })
  assert(after.length > 0, () => 'a membership without voters')
  assert(!members.some(({ role }) => role === 'leaving'), () => 'nobody begins by leaving')
  if (before.length === after.length && before.every((id) => after.includes(id))) return { members }
  const leaving = current.members
    .filter(({ id, role }) => role === 'voter' && !ids.has(id))
    .map((member): Member => ({ ...member, role: 'leaving' }))
  return { members: [...members, ...leaving], outgoing: before }
}

/** What follows a joint membership once it is committed: the new voters alone (paper 6, C-new). */
export function settled({ members }: Membership): Membership {
  return { members: members.filter(({ role }) => role !== 'leaving') }
}

/** The memberships of a log: the last one is in force, those before it may return. */
export class Memberships {
  #stack: { readonly index: Index; readonly membership: Membership }[] = []
  #quorums: VoterSets = []
  #voters: readonly NodeId[] = []

  /** The one in force; undefined while the log has none (a node that is new). */
  get current(): Membership | undefined {
    return this.#stack.at(-1)?.membership
  }

  /** Where the one in force stands in the log, or below which entry of the state it does. */
  get index(): Index {
    return this.#stack.at(-1)?.index ?? 0
  }

  /** One voter set, or two while joint; none without a membership. */
  get quorums(): VoterSets {
    return this.#quorums
  }

  /** Everybody whose vote counts somewhere. */
  get voters(): readonly NodeId[] {
    return this.#voters
  }

  /** Starts from the membership of a state that stands at `index`. */
  reset(index: Index, membership: Membership | undefined): void {
    this.#stack = membership === undefined ? [] : [{ index, membership }]
    this.#refresh()
  }

  /** An entry of any kind was appended. What is committed is never cut: nothing before that can return. */
  append({ index, payload }: Entry, committed: Index): void {
    if (payload.type !== 'membership') return
    this.#stack.push({ index, membership: payload.membership })
    this.#forget(committed)
    this.#refresh()
  }

  /** The log was cut at `from`: what was in force before is in force again. */
  truncate(from: Index): void {
    while ((this.#stack.at(-1)?.index ?? 0) >= from) this.#stack.pop()
    this.#refresh()
  }

  /**
   * Whether this node may be needed as a leader. A voter that a membership leaves out is, as long as that one may not
   * be committed: nobody else might have the log to win under the one before (thesis 4.2.2).
   */
  mayLead(id: NodeId, committed: Index): boolean {
    this.#forget(committed)
    return this.#stack.some(({ membership }) => {
      return votersOf(membership).includes(id) || membership.outgoing?.includes(id) === true
    })
  }

  #forget(committed: Index): void {
    while (this.#stack.length > 1 && (this.#stack[1]?.index ?? 0) <= committed) this.#stack.shift()
  }

  #refresh(): void {
    const { current } = this
    if (current === undefined) this.#quorums = []
    else if (current.outgoing === undefined) this.#quorums = [votersOf(current)]
    else this.#quorums = [votersOf(current), current.outgoing]
    this.#voters = [...new Set(this.#quorums.flat())]
  }
}
