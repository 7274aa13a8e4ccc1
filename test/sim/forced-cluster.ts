/*
 * The last act of some runs: a quorum is lost for good, and a survivor becomes a new cluster with --force-new-cluster, by
 * the server's own code (src/force-new-cluster.ts), while it is killed in the middle of that. It must keep its whole log
 * behind a new cluster id, a later term and a membership of itself, or be what it was (I25); an old node that returns
 * changes nothing, and new ones join. It draws from a stream of its own, and comes when all else is judged.
 */

import type { Random } from '../../raft/ports.ts'
import type { Index, Term } from '../../raft/types.ts'
import type { DiskLogStore } from '../../storage/log-store.ts'
import type { Canon } from './canon.ts'
import type { Electorate } from './electorate.ts'
import { CLIENT_PORT, type Machine, PEER_PORT } from './machine.ts'
import type { Marks } from './marks.ts'
import type { SimNetwork } from './network.ts'
import { type Judge, Line } from './sim-client.ts'
import type { Swarm } from './swarm.ts'
import { hold } from './violation.ts'

const NAME = 'I25 a forced cluster keeps the log of its survivor'
const FORCED_CHANCE = 0.3
const KILLS_MAX = 4
const RESTART_MS = 50
/** That long the old node tries to take part again, in election timeouts. */
const REFUSED_ELECTIONS = 6
const NEWCOMERS = 2
const CLIENT = '127.0.1.203'

export interface ForcedWorld {
  readonly canon: Canon
  readonly electorate: Electorate
  readonly network: SimNetwork
  readonly marks: Marks
  readonly random: Random
  readonly swarm: Swarm
  readonly judge: Judge
  /** A machine with an empty disk, in the place of whoever had that name. */
  place(name: string, contacts: readonly string[]): Machine
  /** The survivor has written this entry, which leaves out everybody else. */
  written(index: Index, term: Term): void
  /** Asks that machine for a write and a read until both were served. */
  probe(machine: Machine): void
  /** Every member follows one leader, has applied everything, and has served its probe. */
  isServing(): boolean
  say(who: string, text: string): void
}

/** What the survivor had when it was started with the flag. */
interface Before {
  readonly clusterId: string | undefined
  readonly last: Index
  readonly lastTerm: Term | undefined
  readonly term: Term
}

export class ForcedCluster {
  readonly isDrawn: boolean
  readonly #world: ForcedWorld
  #survivor: Machine | undefined
  /** One of the old cluster that was away, and is no majority of it. */
  #returning: Machine | undefined
  #names: readonly string[] = []
  #before: Before | undefined
  #kills = 0
  #stage: 'losing' | 'forcing' | 'alone' | 'refusing' | 'growing' = 'losing'
  #refusedUntil = 0
  #termAlone: Term = 0

  constructor(world: ForcedWorld) {
    this.#world = world
    this.isDrawn = world.random() < FORCED_CHANCE
  }

  /** All machines are well and have the same log. False: there is nobody who could be lost. */
  begin(machines: readonly Machine[]): boolean {
    const { random, network, electorate, swarm } = this.#world
    const isVoter = (one: Machine): boolean => electorate.member(one)?.role === 'voter'
    const voters = machines.filter(
      (one) => one.damaged === undefined && one.isServing && isVoter(one),
    )
    const survivor = voters[Math.floor(random() * voters.length)]
    if (survivor === undefined || voters.length < 2) return false
    this.#survivor = survivor
    this.#returning = voters.find((one) => one !== survivor)
    this.#names = machines.filter((one) => one !== survivor).map(({ name }) => name)
    if (survivor.status()?.role !== 'leader') {
      this.#lose(machines)
      return true
    }
    // What it appends now nobody else has, and nobody else can lead so soon.
    for (const { name } of machines) {
      network.block(survivor.name, name)
      network.block(name, survivor.name)
    }
    const judge = this.#world.judge
    const options = { host: network.host(CLIENT), judge, name: 'late', port: CLIENT_PORT }
    const line = new Line(options, survivor.name)
    line.ask([1, 2, 3].map((n) => ['SET', 'late', `late.${n}`]))
    network.time.after(swarm.heartbeatMs, () => {
      line.leave()
      for (const { name } of machines) {
        network.unblock(survivor.name, name)
        network.unblock(name, survivor.name)
      }
      this.#lose(machines)
    })
    return true
  }

  #lose(machines: readonly Machine[]): void {
    const { network, random } = this.#world
    const survivor = this.#survivor
    for (const machine of machines) {
      machine.kill()
      if (machine !== survivor && machine !== this.#returning)
        machine.lost ??= 'it is lost for good'
    }
    if (survivor === undefined) return
    this.#stage = 'forcing'
    survivor.isForced = true
    this.#kills = Math.ceil(random() * KILLS_MAX)
    network.time.after(RESTART_MS, () => this.#start(survivor))
  }

  #start(survivor: Machine): void {
    const { network, random, say } = this.#world
    say(survivor.name, 'is started with --force-new-cluster')
    survivor.start()
    if (this.#kills-- <= 0) return
    const ms = random() * survivor.swarm.commitMs.max * 3
    network.time.after(ms, () => this.#kill(survivor))
  }

  #kill(survivor: Machine): void {
    const { network, marks } = this.#world
    if (!survivor.isUp || this.#stage !== 'forcing') return
    if (!survivor.isServing) marks.reach('crash while a new cluster is forced')
    survivor.kill()
    network.time.after(RESTART_MS, () => this.#start(survivor))
  }

  /** Something becomes visible in its log: now is when half of a change would show. */
  landing(machine: Machine): void {
    const { network, random } = this.#world
    const isInMiddle = this.#stage === 'forcing' && this.#before !== undefined && !machine.isServing
    if (machine !== this.#survivor || !isInMiddle || this.#kills <= 0 || random() < 0.5) return
    network.time.after(0, () => this.#kill(machine))
  }

  // ---- What it must come to ----------------------------------------------------------------------

  /** It was started with the flag, and has done nothing yet. */
  forcing(machine: Machine, log: DiskLogStore): void {
    const { canon } = this.#world
    const last = log.lastIndex()
    const before = this.#before
    const { clusterId } = log.identity()
    const { term } = log.hardState()
    if (before === undefined) {
      hold(last >= canon.lastIndex, NAME, () => `${machine.name} has ${last} of ${canon.lastIndex}`)
      this.#before = { clusterId, last, lastTerm: log.term(last), term }
    } else if (before.clusterId !== clusterId) this.forced(machine, log)
    else {
      const isSame = last === before.last && term === before.term
      hold(isSame, NAME, () => `${machine.name} is of the old cluster, at ${last} in term ${term}`)
    }
  }

  /** All of it is durable, or was before. */
  forced(machine: Machine, log: DiskLogStore): void {
    const { clusterId, last, lastTerm, term } = this.#before ?? {}
    if (last === undefined || term === undefined) return
    const what = (): string => `${machine.name} at ${log.lastIndex()}, it was at ${last} in ${term}`
    hold(log.identity().clusterId !== clusterId, NAME, () => `the same cluster: ${what()}`)
    hold(log.hardState().term > term, NAME, () => `no later term: ${what()}`)
    hold(log.lastIndex() > last, NAME, () => `no membership: ${what()}`)
    const { index: base } = log.base()
    if (base <= last) hold(log.term(last) === lastTerm, NAME, () => `another log: ${what()}`)
    if (base > last) return
    const [entry] = log.entries(last + 1, last + 2, 1)
    const ids =
      entry?.payload.type === 'membership'
        ? entry.payload.membership.members.map(({ id }) => id)
        : []
    const isAlone = ids.length === 1 && ids[0] === machine.id && entry?.term === term + 1
    hold(isAlone, NAME, () => `not alone in term ${term + 1}: ${what()}`)
    this.#world.written(last + 1, term + 1)
  }

  /** After every event. True: it is over. */
  look(): boolean {
    const survivor = this.#survivor
    if (survivor === undefined) return true
    switch (this.#stage) {
      case 'losing':
        return false
      case 'forcing':
        if (this.#kills < 0 && this.#leadsAlone(survivor)) {
          this.#stage = 'alone'
          this.#world.marks.reach('a survivor became a new cluster')
          this.#world.probe(survivor)
        }
        return false
      case 'alone':
        if (this.#world.isServing()) this.#letReturn(survivor)
        return false
      case 'refusing':
        if (this.#world.network.time.now >= this.#refusedUntil) this.#wasRefused(survivor)
        return false
      case 'growing':
        return this.#world.electorate.fewestVoters > NEWCOMERS && this.#world.isServing()
    }
  }

  #leadsAlone(survivor: Machine): boolean {
    const { role, established, membership } = survivor.status() ?? {}
    return role === 'leader' && established === true && membership?.members.length === 1
  }

  #letReturn(survivor: Machine): void {
    const { network, swarm } = this.#world
    this.#stage = 'refusing'
    this.#termAlone = survivor.status()?.term ?? 0
    this.#refusedUntil = network.time.now + swarm.electionMs * REFUSED_ELECTIONS
    this.#returning?.start()
  }

  /** I17 and more: the old one has no part in what is going on. */
  #wasRefused(survivor: Machine): void {
    const { marks, place, probe } = this.#world
    const returning = this.#returning
    const { role, term } = survivor.status() ?? {}
    hold(role === 'leader' && term === this.#termAlone, 'I17 no disruption', () => {
      return `${returning?.name} of the old cluster came back, and ${survivor.name} leads no more`
    })
    if (returning?.isServing === true) {
      const isLinked = survivor.process?.replica.members.isUp(returning.id) === true
      const own = returning.status()
      hold(!isLinked && own?.leader === undefined, NAME, () => {
        return `${returning.name} of the old cluster takes part in the new one`
      })
      marks.reach('a node of the old cluster is refused by the forced one')
    }
    returning?.kill()
    if (returning !== undefined) returning.lost ??= 'it is lost for good'
    this.#stage = 'growing'
    for (const name of this.#names.slice(0, NEWCOMERS)) {
      const machine = place(name, ['--join', `${survivor.name}:${PEER_PORT}`])
      probe(machine)
      machine.start()
    }
  }
}
