/*
 * Wishes about the members (RAFT ADD, REMOVE, PROMOTE, DEMOTE, TRANSFER, a node that asks to join), from whichever node
 * they came to. The node that was asked keeps a wish until it is fulfilled, refused or too old, and tells it to whoever
 * leads, again after every change of leader; the leader takes one step after the other (membership-plan.ts). Wishes and
 * answers may be lost or come twice: a step that is done is not done again. It knows no link, timer or clock.
 */

import type { ChangeResult, CoreStatus, TransferResult } from '../raft/core.ts'
import type { Random } from '../raft/ports.ts'
import type { Index, Member, NodeId } from '../raft/types.ts'
import { limits } from './config.ts'
import {
  type Decision,
  decide,
  type LeaderView,
  type MembershipRequest,
  maintain,
  type Newcomer,
} from './membership-plan.ts'
import type { Identity } from './peer-handshake.ts'
import type { Note } from './peer-messages.ts'

/** A wish is told again after so long without an answer. */
const ASK_AGAIN_MS = 500
/** And after so long when the node that was asked does not lead. */
const ASK_NEXT_MS = 50
/** What was said to a node that may not join is said to it for so long, then its wish is looked at anew. */
const JOIN_REFUSED_MS = 5_000
const NUMBER_START_MAX = 2 ** 48
const NOT_HERE = 'this node does not lead'

export interface RequestOutcome {
  readonly ok: boolean
  /** What to say: of an addition the id of the new member, else OK, or why not. */
  readonly text: string
}

export type Asked = Extract<Note, { type: 'membership-asked' }>
export type Told = Extract<Note, { type: 'membership-told' }>

export interface MembershipPorts {
  readonly self: NodeId
  readonly random: Random
  now(): number
  /** Whom this node follows; itself when it leads. */
  leader(): NodeId | undefined
  /** Of this node while it leads and may propose; undefined otherwise. */
  led(): CoreStatus | undefined
  changeMembership(members: readonly Member[]): ChangeResult
  transferLeadership(to: NodeId | undefined): TransferResult
  note(to: NodeId, note: Note): void
  probe(address: string): Promise<Identity | string>
  /** What a member, this node included, says of itself. */
  announced(id: NodeId): Pick<Member, 'peerAddress' | 'clientAddress'> | undefined
  clusterId(): string | undefined
  connected(id: NodeId): boolean
  wasRemoved(id: NodeId): boolean
  /** Why that node's build does not do for this cluster; undefined: it does. */
  whyTooOld(node: Pick<Identity, 'level' | 'replaces'>): string | undefined
  /** An entry that raises the feature level is on its way. */
  isRaisingLevel(status: CoreStatus): boolean
  /** Every member's build knows wishes that tell a level. */
  mayTellLevel(): boolean
  readonly log: { info(fields: Readonly<Record<string, unknown>>, text: string): void }
}

/** A wish that came to this node. */
interface Wish {
  readonly number: number
  readonly request: MembershipRequest
  readonly deadline: number
  /** The leader it was told to, and when it is to be told again. */
  askedOf: NodeId | undefined
  askAgainAt: number
  readonly resolve: (outcome: RequestOutcome) => void
}

/** A wish that this node fulfils as the leader. */
interface Task {
  readonly from: NodeId
  readonly number: number
  /** `add` until the node at that address has said who it is: undefined while it is being asked. */
  request: MembershipRequest | undefined
  /** Leadership was to be handed over for it. */
  handedOver: boolean
}

export class MembershipRequests {
  readonly #ports: MembershipPorts
  readonly #wishes = new Map<number, Wish>()
  readonly #tasks = new Map<string, Task>()
  #lastNumber: number
  #isRemoved = false
  /** Nodes that asked to join: with a wish under way, or what was said to them and until when. */
  readonly #joiners = new Map<NodeId, { readonly text: string; readonly until: number } | 'asked'>()

  constructor(ports: MembershipPorts) {
    this.#ports = ports
    // An answer to the process before must mean nothing to this one.
    this.#lastNumber = Math.floor(ports.random() * NUMBER_START_MAX)
  }

  /** Resolves when it is fulfilled or will not be. A wish that is given up may still be fulfilled. */
  submit(request: MembershipRequest): Promise<RequestOutcome> {
    if (this.#isRemoved) return Promise.resolve(this.#whenRemoved(request))
    if (this.#wishes.size >= limits.membershipRequestsMax) {
      return Promise.resolve({ ok: false, text: 'too many changes of the membership wait' })
    }
    return new Promise((resolve) => {
      const number = ++this.#lastNumber
      const deadline = this.#ports.now() + limits.membershipRequestTimeoutMs
      const wish: Wish = {
        number,
        request,
        deadline,
        askedOf: undefined,
        askAgainAt: 0,
        resolve,
      }
      this.#wishes.set(number, wish)
    })
  }

  /** A node asks to be made a member. Returns why it may not, as far as that is known. */
  joinAsked(node: Identity): string | undefined {
    const tooOld = this.#ports.whyTooOld(node)
    if (tooOld !== undefined) return tooOld
    const { id } = node
    const known = this.#joiners.get(id)
    if (known === 'asked') return undefined
    if (known !== undefined && this.#ports.now() < known.until) return known.text
    this.#joiners.delete(id)
    if (this.#joiners.size >= limits.membershipRequestsMax) return 'too many nodes ask to join'
    this.#joiners.set(id, 'asked')
    const newcomer = newcomerOf(node, this.#ports.mayTellLevel() ? node.level : undefined)
    void this.submit({ type: 'admit', newcomer, learner: false }).then(({ ok, text }) => {
      if (ok) this.#joiners.delete(id)
      else this.#joiners.set(id, { text, until: this.#ports.now() + JOIN_REFUSED_MS })
    })
    return undefined
  }

  /**
   * Every tick, when a wish comes and when the leader changes: tells what has to be told, and takes the next step of
   * what this node fulfils.
   */
  work(): void {
    for (const wish of this.#wishes.values()) this.#tell(wish)
    const status = this.#ports.led()
    if (status === undefined) this.#passOn()
    else this.#step(status)
  }

  /** This node was removed: nobody answers it any more. */
  removed(): void {
    this.#isRemoved = true
    for (const { number, request } of [...this.#wishes.values()]) {
      this.#settle(number, this.#whenRemoved(request))
    }
  }

  #whenRemoved(request: MembershipRequest): RequestOutcome {
    const ok = request.type === 'remove' && request.id === this.#ports.self
    return { ok, text: ok ? 'OK' : 'this node was removed from its cluster' }
  }

  // ---- Where a wish came in -------------------------------------------------------------------------------------

  #tell(wish: Wish): void {
    const { self, now, leader, note } = this.#ports
    if (now() >= wish.deadline) {
      const text = 'not done in time; it may still be: RAFT MEMBERS tells'
      this.#settle(wish.number, { ok: false, text })
      return
    }
    const leads = leader()
    if (leads === undefined) return
    if (wish.askedOf === leads && now() < wish.askAgainAt) return
    wish.askedOf = leads
    wish.askAgainAt = now() + ASK_AGAIN_MS
    const { number, request } = wish
    if (leads === self) this.asked(self, { type: 'membership-asked', number, request })
    else note(leads, { type: 'membership-asked', number, request })
  }

  told(from: NodeId, { number, outcome, text }: Told): void {
    const wish = this.#wishes.get(number)
    if (wish === undefined) return
    if (outcome !== 'elsewhere') this.#settle(number, { ok: outcome === 'done', text })
    else if (wish.askedOf === from) wish.askAgainAt = this.#ports.now() + ASK_NEXT_MS
  }

  #settle(number: number, outcome: RequestOutcome): void {
    const wish = this.#wishes.get(number)
    this.#wishes.delete(number)
    wish?.resolve(outcome)
  }

  // ---- Where it is fulfilled --------------------------------------------------------------------------------------

  asked(from: NodeId, { number, request }: Asked): void {
    const key = `${from} ${number}`
    if (this.#tasks.has(key)) return
    const task: Task = { from, number, request, handedOver: false }
    if (this.#ports.led() === undefined) {
      this.#answer(task, 'elsewhere', NOT_HERE)
      return
    }
    if (this.#tasks.size >= limits.membershipRequestsMax) {
      this.#answer(task, 'refused', 'too many changes of the membership wait')
      return
    }
    this.#tasks.set(key, task)
    if (request.type === 'add') void this.#identify(task, request.address, request.learner)
  }

  async #identify(task: Task, address: string, learner: boolean): Promise<void> {
    task.request = undefined
    const found = await this.#ports.probe(address)
    const refusal = typeof found === 'string' ? found : this.#whyUnfit(found, address)
    if (refusal !== undefined) this.#finish(task, 'refused', refusal)
    else if (typeof found !== 'string') {
      task.request = { type: 'admit', newcomer: newcomerOf(found, found.level), learner }
    }
  }

  #whyUnfit(found: Identity, address: string): string | undefined {
    const { id, clusterId } = found
    const own = this.#ports.clusterId()
    if (clusterId === undefined || clusterId === own) return this.#ports.whyTooOld(found)
    return `node ${id} at ${address} belongs to cluster ${clusterId}: only a new, empty node can be added`
  }

  #step(status: CoreStatus): void {
    const { membership, membershipIndex, transferTo, applied } = status
    // Applied, because the state tells who was removed.
    const settled = membershipIndex <= applied && membership?.outgoing === undefined
    if (membership === undefined || !settled || transferTo !== undefined) return
    // Who is admitted must know the level that will be in force then.
    if (this.#ports.isRaisingLevel(status)) return
    const view = this.#view(status, membership.members)
    for (const task of this.#tasks.values()) {
      if (task.request === undefined || task.request.type === 'add') continue
      if (!this.#fulfil(task, decide(task.request, view))) return
    }
    const members = maintain(view)
    if (members !== undefined) this.#change(members, 'changing the membership by itself')
  }

  /** False when something was begun: what comes next depends on how it ends. */
  #fulfil(task: Task, decision: Decision): boolean {
    switch (decision.type) {
      case 'done':
      case 'refused':
        this.#finish(task, decision.type, decision.text)
        return true
      case 'change':
        return !this.#change(decision.members, 'changing the membership')
      case 'hand-over':
        return this.#handOver(task, decision.to)
    }
  }

  #change(members: readonly Member[], text: string): boolean {
    const result = this.#ports.changeMembership(members)
    if (result.accepted) {
      const fields = {
        members: members.map(({ id, role }) => `${id} ${role}`),
        index: result.index,
      }
      this.#ports.log.info(fields, text)
    }
    return result.accepted
  }

  #handOver(task: Task, to: NodeId | undefined): boolean {
    if (task.handedOver) {
      // It has ended, and this node still leads.
      const who = to === undefined ? 'no other voter took' : `node ${to} did not take`
      this.#finish(task, 'refused', `${who} over in time`)
      return true
    }
    const result = this.#ports.transferLeadership(to)
    if (result === 'no-target') {
      this.#finish(task, 'refused', 'there is no other voter to lead')
      return true
    }
    task.handedOver = result === 'begun'
    return false
  }

  /** This node leads no more: a hand-over ends with it, and the next leader is told the rest by who keeps the wish. */
  #passOn(): void {
    const { self, leader } = this.#ports
    const leads = leader()
    for (const task of this.#tasks.values()) {
      const { request, handedOver } = task
      if (handedOver && request?.type === 'transfer') {
        // Who leads is about to show.
        if (leads === undefined) continue
        const isDone = leads !== self && (request.to === undefined || request.to === leads)
        if (isDone) this.#finish(task, 'done', 'OK')
      }
      this.#finish(task, 'elsewhere', NOT_HERE)
    }
  }

  #finish(task: Task, outcome: Told['outcome'], text: string): void {
    if (this.#tasks.delete(`${task.from} ${task.number}`)) this.#answer(task, outcome, text)
  }

  #answer({ from, number }: Task, outcome: Told['outcome'], text: string): void {
    const told: Told = { type: 'membership-told', number, outcome, text }
    if (from === this.#ports.self) this.told(from, told)
    else this.#ports.note(from, told)
  }

  #view(status: CoreStatus, members: readonly Member[]): LeaderView {
    const { self, connected, announced, wasRemoved, whyTooOld } = this.#ports
    const matches = new Map<NodeId, Index>(status.peers.map(({ id, match }) => [id, match]))
    return {
      self,
      members,
      commit: status.commit,
      connected,
      match: (id) => matches.get(id) ?? 0,
      wasRemoved,
      whyTooOld,
      announced,
      lagMax: limits.caughtUpEntriesMax,
      membersMax: limits.membersMax,
    }
  }
}

function newcomerOf(node: Identity, level: number | undefined): Newcomer {
  const { id, peerAddress, clientAddress, replaces } = node
  return { id, peerAddress, clientAddress, replaces, level }
}
