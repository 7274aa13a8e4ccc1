/*
 * Who decides, as the logs have it: which membership is in force behind each entry, worked out from what lands on the
 * disks and from what is committed, and never from what a node says of itself. It counts majorities in its own words,
 * because whoever checks must not share an error with what is checked.
 */

import type { Entry, Index, Member, Membership, NodeId, Term } from '../../raft/types.ts'
import type { Canon } from './canon.ts'
import type { Machine } from './machine.ts'
import { durableTerm } from './sim-invariants.ts'

/** A membership, and the entry that put it in force. */
export interface InForce {
  readonly index: Index
  readonly membership: Membership
}

type Holds = (machine: Machine) => boolean

export class Electorate {
  readonly #canon: Canon
  /** Everybody that ever had this id, though its disk may be gone by now. */
  readonly #byId = new Map<NodeId, Machine>()
  /** What is in force behind each entry that was ever on a disk, by `index@term`. */
  readonly #known = new Map<string, InForce>()
  /** Memberships that landed somewhere, and are not committed. */
  #open: (InForce & { readonly term: Term })[] = []

  constructor(canon: Canon) {
    this.#canon = canon
  }

  // ---- What the disks show ------------------------------------------------------------------------

  opened(machine: Machine): void {
    this.#byId.set(machine.id, machine)
  }

  machine(id: NodeId): Machine | undefined {
    return this.#byId.get(id)
  }

  /** An entry becomes visible on a disk, behind those that are there. */
  landed(machine: Machine, { index, term, payload }: Entry): void {
    const isMembership = payload.type === 'membership'
    const now = isMembership
      ? { index, membership: payload.membership }
      : machine.inForce[index - 1]
    machine.inForce[index] = now
    if (now === undefined) return
    const key = `${index}@${term}`
    if (isMembership && !this.#known.has(key)) this.#open.push({ ...now, term })
    this.#known.set(key, now)
  }

  /** Behind an entry that is, or was, on some disk. */
  at(index: Index, term: Term | undefined): InForce | undefined {
    return this.#known.get(`${index}@${term}`)
  }

  // ---- Who they are -------------------------------------------------------------------------------

  /** The last membership that is committed. */
  get committed(): InForce | undefined {
    return this.#canon.inForce.at(-1)
  }

  /** That one, and those that may follow it. */
  get possible(): readonly Membership[] {
    const { committed } = this
    const { lastIndex } = this.#canon
    if (this.#open.length > 0) this.#open = this.#open.filter(({ index }) => index > lastIndex)
    const open = this.#open.map(({ membership }) => membership)
    return committed === undefined ? open : [committed.membership, ...open]
  }

  /** Nothing about the members is under way: what is on no disk any more was overwritten, or went with its disk. */
  get isSettled(): boolean {
    const [committed] = this.possible
    const isThere = ({ index, term }: { index: Index; term: Term }): boolean =>
      [...this.#byId.values()].some((machine) => {
        return machine.lost === undefined && durableTerm(machine, index) === term
      })
    const isSettled = committed !== undefined && committed.outgoing === undefined
    return isSettled && !this.#open.some(isThere)
  }

  /** As the last committed membership names it. */
  member({ id }: Machine): Member | undefined {
    return this.committed?.membership.members.find((member) => member.id === id)
  }

  /** Whether a membership that may be in force names it. */
  isNamed({ id }: Machine): boolean {
    return this.possible.some(({ members, outgoing }) => {
      return outgoing?.includes(id) === true || members.some((member) => member.id === id)
    })
  }

  /** Of the smallest set of voters that may decide. */
  get fewestVoters(): number {
    return Math.min(...this.possible.flatMap(voterSets).map(({ length }) => length))
  }

  // ---- What they can decide -----------------------------------------------------------------------

  /** Whether these suffice for a decision, whichever of the memberships turns out to be in force. */
  suffices(holds: Holds): boolean {
    return this.possible.every((membership) => this.isQuorum(membership, holds))
  }

  isQuorum(membership: Membership, holds: Holds): boolean {
    return voterSets(membership).every((voters) => {
      return this.#count(voters, holds) > voters.length / 2
    })
  }

  /** Whether a majority stays whole when so many voters go, and whoever else is not whole becomes one. */
  survives(isWhole: Holds, shrinks: number): boolean {
    return this.possible.every((membership) => {
      const voters = votersOf(membership)
      const others = membership.members.map(({ id }) => id).filter((id) => !voters.includes(id))
      const broken = others.length - this.#count(others, isWhole)
      return voterSets(membership).every((set) => {
        return this.#count(set, isWhole) - shrinks > (set.length - shrinks + broken) / 2
      })
    })
  }

  #count(ids: readonly NodeId[], holds: Holds): number {
    return ids.filter((id) => {
      const machine = this.#byId.get(id)
      return machine !== undefined && holds(machine)
    }).length
  }

  /**
   * Whether a leader of `term` may commit its entry at `index`, which these disks hold: a quorum of the membership in
   * force there. Behind a joint membership that is committed the leader needs the new voters only, from that very
   * moment on, whether or not the entry that says so is on any disk yet (paper 6).
   */
  commits(index: Index, term: Term, isHeld: (machine: Machine, index: Index) => boolean): boolean {
    const inForce = this.at(index, term)
    if (inForce === undefined) return false
    const { membership } = inForce
    const holds = (at: Index, by: Membership): boolean =>
      this.isQuorum(by, (machine) => isHeld(machine, at))
    if (holds(index, membership)) return true
    if (membership.outgoing === undefined) return false
    const canLeave = (at: Index): boolean => {
      return this.#canon.terms[at] === term || holds(at, membership)
    }
    let at = inForce.index
    while (at < index && !canLeave(at)) at++
    return at < index && holds(index, { members: membership.members })
  }
}

export function votersOf({ members }: Membership): readonly NodeId[] {
  return members.filter(({ role }) => role === 'voter').map(({ id }) => id)
}

/** Every decision takes a majority of each of them. */
export function voterSets(membership: Membership): readonly (readonly NodeId[])[] {
  const { outgoing } = membership
  return outgoing === undefined ? [votersOf(membership)] : [votersOf(membership), outgoing]
}
