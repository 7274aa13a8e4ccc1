/*
 * Nodes whose log is damaged come back empty: an operator starts them with --rejoin, on the same disk, and a new id takes
 * the place of the old one in one change of the members (I24). It happens in the seeds in which an upgrade is under way,
 * because a place can only be taken where every member knows how. It draws from a stream of its own.
 */

import type { Random } from '../../raft/ports.ts'
import type { Index, Member, Membership, NodeId } from '../../raft/types.ts'
import type { Canon } from './canon.ts'
import type { Machine } from './machine.ts'
import type { Marks } from './marks.ts'
import type { SimNetwork } from './network.ts'
import type { Swarm } from './swarm.ts'
import { hold } from './violation.ts'

const NAME = 'I24 a node that comes back takes the place of the old one'
/** Until the operator sees that a node does not start. */
const SEEN_MS = { min: 200, max: 2000 }
/** That a node is killed while it gives its disk up. */
const KILLED_CHANCE = 0.5

export interface RejoinsWorld {
  readonly canon: Canon
  readonly network: SimNetwork
  readonly marks: Marks
  readonly random: Random
  readonly swarm: Swarm
  /** A machine that begins on the disk of the one that had this name. */
  takeOver(name: string, contacts: readonly string[]): Machine
  /** No other one has its address by now. */
  isInPlace(machine: Machine): boolean
  /** Kills it, as any fault does; it starts again. */
  kill(machine: Machine): void
  /** An operator has asked for this member to be removed, whenever that is done. */
  wasAskedToGo(id: NodeId): boolean
  say(who: string, text: string): void
}

interface Pair {
  readonly old: NodeId
  readonly next: NodeId
}

export class Rejoins {
  readonly #world: RejoinsWorld
  readonly #pairs: Pair[] = []
  readonly #cameBack = new Set<NodeId>()
  /** Up to where the committed memberships have been looked at. */
  #lookedTo: Index = 0
  #forcedAt: Index = 0

  constructor(world: RejoinsWorld) {
    this.#world = world
  }

  /** Its disk is damaged, and it refuses to start. */
  lost(machine: Machine): void {
    const { network, random, canon } = this.#world
    const { min, max } = SEEN_MS
    network.time.after(min + random() * (max - min), () => {
      const members = canon.inForce.at(-1)?.membership.members ?? []
      const others = members.filter(({ id }) => id !== machine.id)
      // An empty disk may be in its place by now, and who was removed has no place.
      if (others.length === members.length || !this.#world.isInPlace(machine)) return
      const contacts = others.slice(0, 3).map(({ peerAddress }) => peerAddress)
      this.#start(this.#world.takeOver(machine.name, ['--rejoin', contacts.join()]))
    })
  }

  #start(machine: Machine): void {
    const { network, random, swarm, marks, say } = this.#world
    say(machine.name, 'is started with --rejoin')
    machine.start()
    const dice = random()
    const ms = random() * machine.swarm.commitMs.max * 4
    if (dice >= KILLED_CHANCE) return
    network.time.after(Math.min(ms, swarm.electionMs), () => {
      if (!machine.isUp || machine.isServing) return
      marks.reach('crash while a damaged disk is given up')
      this.#world.kill(machine)
    })
  }

  /** It runs on a disk that was another one's. */
  opened(machine: Machine, old: NodeId): void {
    const next = machine.id
    hold(next !== old, NAME, () => `${machine.name} comes back empty, and is ${old} again`)
    if (this.#pairs.every((pair) => pair.next !== next)) this.#pairs.push({ old, next })
  }

  /** With this entry a survivor leaves out everybody else, also whoever waits for a place. */
  forced(index: Index): void {
    this.#forcedAt = index
  }

  /** After an entry was applied somewhere: what is committed by then is looked at once. */
  look(): void {
    const { inForce, lastIndex } = this.#world.canon
    while (this.#lookedTo < lastIndex) {
      const before = inForce[this.#lookedTo]?.membership
      const now = inForce[++this.#lookedTo]
      if (before === undefined || now?.index !== this.#lookedTo) continue
      if (now.index === this.#forcedAt) continue
      for (const pair of this.#pairs) this.#oneChange(pair, before, now.membership)
    }
  }

  #oneChange({ old, next }: Pair, before: Membership, now: Membership): void {
    const was = memberOf(old, before)
    const is = memberOf(old, now)
    const came = memberOf(next, now)
    const what = (): string =>
      `${old}, ${next}: ${JSON.stringify(before)} to ${JSON.stringify(now)}`
    hold(came === undefined || is === undefined, NAME, () => `both are members: ${what()}`)
    if (was === undefined || is !== undefined || this.#world.wasAskedToGo(old)) return
    hold(came?.role === was.role, NAME, () => `its place is not taken: ${what()}`)
    if (this.#cameBack.has(next)) return
    this.#cameBack.add(next)
    this.#world.marks.reach('a damaged node came back in the place of the old one')
  }
}

/** Who only still leaves in a joint membership is no member any more. */
function memberOf(id: NodeId, { members }: Membership): Member | undefined {
  return members.find((member) => member.id === id && member.role !== 'leaving')
}
