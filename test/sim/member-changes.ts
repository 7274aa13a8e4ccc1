/*
 * Members come and go while everything else goes wrong: an operator asks any node for changes (RAFT ADD, REMOVE,
 * PROMOTE, DEMOTE, TRANSFER), machines are emptied and come back as new nodes, disks are lost. It asks only for what
 * the cluster survives whenever it may be done: an answer that does not come tells nothing. What must hold is the
 * invariants' business, except that an answer is true.
 */

import type { Random } from '../../raft/ports.ts'
import type { Member, NodeId } from '../../raft/types.ts'
import type { Electorate } from './electorate.ts'
import { CLIENT_PORT, type Machine, PEER_PORT } from './machine.ts'
import type { Marks } from './marks.ts'
import type { SimNetwork } from './network.ts'
import { type Judge, Line } from './sim-client.ts'
import type { ChangeName, Swarm } from './swarm.ts'
import { hold } from './violation.ts'

export interface ChangesWorld {
  /** Those that have a disk now, members or not. */
  readonly machines: readonly Machine[]
  readonly network: SimNetwork
  readonly swarm: Swarm
  readonly random: Random
  readonly marks: Marks
  readonly electorate: Electorate
  leader(): Machine | undefined
  /** A machine with an empty disk, in the place of whoever had that name. */
  place(name: string, contacts: readonly string[]): Machine
  say(who: string, text: string): void
}

/** Wishes that wait for an answer. */
const OPEN_MAX = 3
/** A wish without an answer may still be fulfilled for so long. */
const WISH_MS = 20_000
/** Nobody is there. */
const NOWHERE = '127.0.0.99:1'
const OPERATOR = '127.0.1.201'

interface Wish {
  readonly until: number
  /** It takes a voter away. */
  readonly shrinks: boolean
  isAnswered: boolean
}

export class MemberChanges {
  readonly #world: ChangesWorld
  #wishes: Wish[] = []
  /** When a machine was given its disk. */
  readonly #placedAt = new Map<Machine, number>()
  #serial = 0
  readonly #askedToGo = new Set<NodeId>()

  constructor(world: ChangesWorld) {
    this.#world = world
  }

  /** Nothing that was asked for can still happen. */
  get isIdle(): boolean {
    return this.#open.length === 0
  }

  /** Its removal was asked for at any time. */
  wasAskedToGo(id: NodeId): boolean {
    return this.#askedToGo.has(id)
  }

  begin(name: Exclude<ChangeName, 'struck in a change'>): boolean {
    if (this.#open.filter(({ isAnswered }) => !isAnswered).length >= OPEN_MAX) return false
    switch (name) {
      case 'member added':
        return this.#add()
      case 'member removed':
        return this.#takeAway('REMOVE')
      case 'member demoted':
        return this.#takeAway('DEMOTE')
      case 'member promoted':
        return this.#promote()
      case 'leadership handed over':
        return this.#handOver()
      case 'disk wiped': {
        const { random, machines, electorate } = this.#world
        const members = machines.filter((machine) => electorate.isNamed(machine))
        return this.wipe(members[Math.floor(random() * members.length)])
      }
    }
  }

  /** Whether a majority stays whole without this machine, whatever of the wishes is fulfilled. */
  survivesWithout(lost: Machine | undefined, shrinks: number = this.#shrinks): boolean {
    const { electorate } = this.#world
    return electorate.survives((one) => one !== lost && one.damaged === undefined, shrinks)
  }

  // ---- What is asked for --------------------------------------------------------------------------

  /** A new node asks members to be added, or an operator does it. */
  #add(): boolean {
    const { random, network, electorate } = this.#world
    const name = this.#vacancy()
    if (name === undefined) return false
    const asks = random() < 0.5
    const members = electorate.committed?.membership.members ?? []
    const contacts = asks ? members.slice(0, 3).map(({ peerAddress }) => peerAddress) : [NOWHERE]
    this.#place(name, ['--join', contacts.join()])
    if (asks) return true
    const words = random() < 0.5 ? ['LEARNER'] : []
    // It has to listen before it can be asked who it is.
    network.time.after(100, () => this.#ask(['RAFT', 'ADD', `${name}:${PEER_PORT}`, ...words]))
    return true
  }

  /** A name that nobody has, or whose machine is no member and will not become one. */
  #vacancy(): string | undefined {
    const { machines, swarm, random, electorate, network } = this.#world
    const unused = swarm.spares.filter((name) => machines.every((one) => one.name !== name))
    const strangers = machines.filter((machine) => {
      const at = this.#placedAt.get(machine) ?? 0
      return !electorate.isNamed(machine) && network.time.now > at + WISH_MS
    })
    const names = [...unused, ...strangers.map(({ name }) => name)]
    return names[Math.floor(random() * names.length)]
  }

  #place(name: string, contacts: readonly string[]): void {
    const machine = this.#world.place(name, contacts)
    this.#placedAt.set(machine, this.#world.network.time.now)
    this.#world.say(name, `begins with an empty disk, ${contacts.join(' ')}`)
    machine.start()
  }

  #takeAway(word: 'REMOVE' | 'DEMOTE'): boolean {
    const { random, electorate, swarm } = this.#world
    const leader = this.#world.leader()
    const members = this.#members()
    const dead = members.find(({ id }) => electorate.machine(id)?.lost !== undefined)
    const some = members[Math.floor(random() * members.length)]
    const leading = members.find(({ id }) => id === leader?.id)
    const dice = random()
    const member = dice < 0.4 ? (dead ?? some) : dice < 0.6 ? (leading ?? some) : some
    if (member === undefined || (word === 'DEMOTE' && member.role !== 'voter')) return false
    const shrinks = member.role === 'voter'
    if (shrinks) {
      if (electorate.fewestVoters - this.#shrinks - 1 < swarm.votersMin) return false
      const isWhole = electorate.machine(member.id)?.damaged === undefined
      if (!this.survivesWithout(undefined, this.#shrinks + (isWhole ? 1 : 0))) return false
    }
    if (word === 'REMOVE') this.#askedToGo.add(member.id)
    return this.#ask(['RAFT', word, member.id], shrinks)
  }

  #promote(): boolean {
    const { random, electorate } = this.#world
    const learners = this.#members().filter(
      ({ id, role }) => role === 'learner' && electorate.machine(id)?.damaged === undefined,
    )
    const learner = learners[Math.floor(random() * learners.length)]
    return learner !== undefined && this.#ask(['RAFT', 'PROMOTE', learner.id])
  }

  #handOver(): boolean {
    const { random } = this.#world
    const voters = this.#members().filter(({ role }) => role === 'voter')
    const to = random() < 0.7 ? voters[Math.floor(random() * voters.length)] : undefined
    return this.#ask(['RAFT', 'TRANSFER', ...(to === undefined ? [] : [to.id])])
  }

  /** A member loses its whole disk: whoever begins there is somebody new, and must not be taken for the old one. */
  wipe(victim: Machine | undefined): boolean {
    const { random, network, marks } = this.#world
    if (victim === undefined || !this.survivesWithout(victim)) return false
    victim.damaged = 'its whole disk'
    victim.kill()
    victim.lost = 'its disk was wiped'
    marks.reach('disk of a member wiped')
    network.time.after(random() * 1000, () => this.#place(victim.name, victim.contacts))
    return true
  }

  #members(): readonly Member[] {
    return this.#world.electorate.committed?.membership.members ?? []
  }

  // ---- The operator -------------------------------------------------------------------------------

  get #open(): readonly Wish[] {
    const { now } = this.#world.network.time
    this.#wishes = this.#wishes.filter(({ until }) => until > now)
    return this.#wishes
  }

  /** Voters that may go yet: those that went are counted for a while, too. */
  get #shrinks(): number {
    return this.#open.filter(({ shrinks }) => shrinks).length
  }

  /** Asks any member that serves. */
  #ask(words: readonly string[], shrinks = false): boolean {
    const { machines, network, random, electorate, say } = this.#world
    const serving = machines.filter((one) => one.isServing && electorate.isNamed(one))
    const asked = serving[Math.floor(random() * serving.length)]
    if (asked === undefined) return false
    const { time } = network
    const wish: Wish = { until: time.now + WISH_MS, shrinks, isAnswered: false }
    this.#wishes.push(wish)
    say(asked.name, `is asked ${words.join(' ')}`)
    const judge: Judge = {
      floor: 0,
      now: 0,
      replied: (_, reply) => {
        wish.isAnswered = true
        say(asked.name, `says ${reply.trim()} to ${words.join(' ')}`)
        this.#isTrue(words, reply)
        line.leave()
      },
      unanswered: () => {
        wish.isAnswered = true
      },
    }
    const name = `operator${++this.#serial}`
    const line = new Line(
      { host: network.host(OPERATOR), judge, name, port: CLIENT_PORT },
      asked.name,
    )
    line.ask([words])
    time.after(WISH_MS, () => line.leave())
    return true
  }

  #isTrue([, word = '', id = '']: readonly string[], reply: string): void {
    const { marks } = this.#world
    const isUnsafe = /^-ERR (of the \d+ voters|node \S+ is (not connected|\d+ entries))/.test(reply)
    if (isUnsafe) marks.reach('change refused: members are behind or away')
    if (word !== 'REMOVE' || !reply.startsWith('+OK')) return
    hold(
      this.#members().every((member) => member.id !== id),
      'I16 membership safety',
      () => `the removal of ${id} was acknowledged, and it is a member`,
    )
  }
}
