/*
 * What goes wrong in a simulation: each fault is a function of a few lines that breaks something and sees to its end.
 * They only act on the world; they neither choose when they come (simulation.ts) nor know what must hold.
 */

import type { Random } from '../../raft/ports.ts'
import type { Message, NodeId } from '../../raft/types.ts'
import type { Canon } from './canon.ts'
import type { DifferingStates } from './differing-states.ts'
import type { DiskFault } from './disk.ts'
import type { Electorate } from './electorate.ts'
import { FigureEight } from './figure-eight.ts'
import { LateAnswers } from './late-answers.ts'
import { type Machine, PEER_PORT } from './machine.ts'
import type { Marks } from './marks.ts'
import { MemberChanges } from './member-changes.ts'
import type { SimNetwork } from './network.ts'
import type { DrawnFault, FaultName, Swarm } from './swarm.ts'
import type { Trace } from './trace.ts'
import { hold } from './violation.ts'

export interface FaultWorld {
  readonly machines: readonly Machine[]
  readonly network: SimNetwork
  readonly swarm: Swarm
  readonly random: Random
  readonly marks: Marks
  readonly trace: Trace
  readonly canon: Canon
  readonly electorate: Electorate
  readonly differing: DifferingStates
  /** See ChangesWorld. */
  place(name: string, contacts: readonly string[]): Machine
}

/** A trap springs on the next machine that does the thing it waits for. */
type TrapKind =
  | 'checkpoint'
  | 'landing'
  | 'compaction'
  | 'vote'
  | 'truncation'
  | 'receiving'
  | 'switch'
  | 'switched'
  /** A batch with a hard state has reached the disk. */
  | 'hard state'
  /** A leader begins to write a membership. */
  | 'change'
  /** A joint membership that this voter does not outlast has reached its disk. */
  | 'leaving'

/** How long it may take until all is well, and who has to be. */
interface Calm {
  readonly elections: number
  readonly who: 'everybody' | 'whole disks'
}

interface Trap {
  readonly kind: TrapKind
  readonly machine: Machine | undefined
  readonly until: number
  readonly spring: (machine: Machine) => void
}

export class Faults {
  readonly #world: FaultWorld
  #traps: Trap[] = []
  /** Ends what is still broken. */
  readonly #repairs = new Set<() => void>()
  /** One that must not be disturbed is under way until then. */
  quietUntil = 0
  /** Clients write nothing until then. */
  onlyReadsUntil = 0
  /** Clients hurry until then, and many read from this machine: it may have been replaced, and not know it. */
  hurryUntil = 0
  hurryTo: Machine | undefined
  injected = 0
  readonly counts: Record<string, number> = {}
  #healed = false
  #figureEight: FigureEight | undefined
  /** What is staged now. */
  #staged: FigureEight | LateAnswers | DifferingStates | undefined
  readonly #vote = new Map<Machine, number>()
  readonly #changes: MemberChanges
  /** When a leader last told another node to campaign. */
  #handedOverAt = Number.NEGATIVE_INFINITY
  /** Who has just gone on after standing still. */
  #watched: { readonly follower: Machine; readonly at: number } | undefined

  constructor(world: FaultWorld) {
    this.#world = world
    this.#changes = new MemberChanges({
      ...world,
      place: (name, contacts) => world.place(name, contacts),
      leader: () => this.#leader(),
      say: (who, text) => this.#say(who, text),
    })
  }

  get #now(): number {
    return this.#world.network.time.now
  }

  inject(name: DrawnFault): void {
    if (this.#now >= this.quietUntil && this.#begin(name)) this.#begun(name)
  }

  #begun(name: FaultName): void {
    this.injected++
    this.counts[name] = (this.counts[name] ?? 0) + 1
    this.#say('world', name)
  }

  /** An entry in the log of some member is no more what was written, which its next start finds. */
  damageLog(random: Random): boolean {
    const members = this.#wholeMembers
    const victim = members[Math.floor(random() * members.length)]
    if (this.#now < this.quietUntil || victim === undefined) return false
    const isDone = this.#flip(victim, 'log')
    if (isDone) this.#begun('log damaged')
    return isDone
  }

  /** Its removal was asked for. */
  wasAskedToGo(id: NodeId): boolean {
    return this.#changes.wasAskedToGo(id)
  }

  /** It comes back some time later. */
  kill(machine: Machine): void {
    this.#kill(machine)
  }

  /** Everything works again, except what is lost for ever. */
  heal(): void {
    this.#healed = true
    this.#traps = []
    for (const repair of [...this.#repairs]) repair()
    for (const machine of this.#world.machines) machine.disk.clearFault()
    this.#world.network.cutRule = () => undefined
    this.#say('world', 'everything heals')
  }

  /** A machine did something that a trap may wait for. */
  did(kind: TrapKind, machine: Machine): void {
    if (kind === 'vote') this.#vote.set(machine, this.#now)
    // None springs while something is staged.
    if (this.#now < this.quietUntil) return
    const at = this.#traps.findIndex((trap) => {
      return trap.kind === kind && (trap.machine ?? machine) === machine && trap.until > this.#now
    })
    const trap = this.#traps[at]
    if (trap === undefined) return
    this.#traps.splice(at, 1)
    trap.spring(machine)
  }

  /** Its process ended, for whatever reason but a kill of ours: it comes back some time later. */
  revive(machine: Machine): void {
    const ms = 50 + this.#world.random() * 2000
    this.#world.network.time.after(ms, () => machine.start())
  }

  #begin(name: DrawnFault): boolean {
    const { random, swarm } = this.#world
    const victim = this.#pick()
    if (victim === undefined) return false
    switch (name) {
      case 'kill':
        return this.#kill(victim)
      case 'kill leader':
        return this.#kill(this.#leader())
      case 'power cut':
        return this.#powerCut(victim)
      case 'power cut of all':
        return this.#powerCutOfAll()
      case 'pause':
        return this.#pause(random() < 0.5 ? this.#leader() : victim)
      case 'isolate':
        return this.#cut((a, b) => a === victim || b === victim, this.#duration())
      case 'isolate follower':
        return this.#whenCalm(name, (leader) => this.#isolateFollower(leader))
      case 'partition':
        return this.#partition()
      case 'leader in a minority':
        return this.#leaderInMinority()
      case 'slow leader cut off':
        return this.#whenCalm(name, (leader) => this.#slowLeaderCutOff(leader))
      case 'one way':
        return this.#oneWay(victim)
      case 'clog': {
        const other = this.#pick()
        return this.#cut((a, b) => a === victim && b === other, random() * swarm.electionMs)
      }
      case 'reset links':
        return this.#resetLinks(random())
      case 'cut frames':
        return this.#cutFrames()
      case 'wall jump':
        return this.#wallJump(random() < 0.6 ? (this.#leader() ?? victim) : victim)
      case 'slow disk':
        victim.disk.slowness = 2 + random() * 30
        this.#repair(this.#duration(), () => {
          victim.disk.slowness = 1
        })
        return true
      case 'disk fault':
        return this.#diskFault(victim)
      case 'flip':
        return this.#flip(victim)
      case 'kill in checkpoint':
        return this.#killInCheckpoint()
      case 'kill in snapshot':
        return this.#killInSnapshot()
      case 'leave behind':
        return this.#leaveBehind()
      case 'kill after vote':
        return this.#trap('vote', undefined, (machine) => this.#kill(machine))
      case 'kill in truncation':
        return this.#trap('truncation', undefined, (machine) => {
          if (random() < 0.5) this.#powerCut(machine)
          else this.#kill(machine)
        })
      case 'kill in promise':
        return this.#trap('hard state', undefined, (machine) => {
          if (random() < 0.5) this.#powerCut(machine)
          else this.#kill(machine)
        })
      case 'wrong host':
        return this.#wrongHost(victim)
      case 'stand still':
        return this.#whenCalm(name, (leader) => this.#standStill(leader))
      case 'late answers':
        return this.#whenCalm(name, (leader) => this.#stageLateAnswers(leader))
      case 'figure 8':
        return this.#whenCalm(name, (leader) => this.#stageFigureEight(leader))
      case 'deposed in a snapshot':
        this.#trap('receiving', undefined, (receiver) => this.#deposeSender(receiver), 40)
        return this.#leaveBehind()
      case 'struck in a change':
        return this.#strikeInNextChange()
      case 'disk wiped':
        return random() < 0.5 ? this.#wipeWitness() : this.#changes.begin(name)
      default:
        return this.#changes.begin(name)
    }
  }

  // ---- Processes --------------------------------------------------------------------------------

  #kill(machine: Machine | undefined): boolean {
    if (machine?.isUp !== true) return false
    this.#noteCrash(machine)
    machine.kill()
    this.#say(machine.name, 'is killed')
    this.revive(machine)
    return true
  }

  #powerCut(machine: Machine): boolean {
    if (machine.isUp) this.#noteCrash(machine)
    machine.kill()
    const lost = machine.disk.cutPower()
    this.#say(machine.name, `loses power, and ${lost} batches`)
    this.#world.marks.reach('power cut, one node')
    this.revive(machine)
    return true
  }

  #powerCutOfAll(): boolean {
    for (const machine of this.#world.machines) this.#powerCut(machine)
    this.#world.marks.reach('power cut, whole cluster')
    return true
  }

  #pause(machine: Machine | undefined): boolean {
    const host = machine?.host
    if (machine === undefined || host === undefined || host.isPaused) return false
    host.pause()
    this.#say(machine.name, 'stands still')
    this.#repair(this.#duration(), () => {
      if (machine.host === host) host.resume()
    })
    return true
  }

  /** In which rare moment a kill has met the process. */
  #noteCrash(machine: Machine): void {
    const { marks, swarm } = this.#world
    const phase = machine.disk.checkpointPhase
    if (phase === 'filling') marks.reach('crash while a checkpoint is filled')
    else if (phase === 'writing') marks.reach('crash while a checkpoint is written')
    else if (phase === 'landed') marks.reach('crash after a checkpoint landed')
    const durableAt = machine.process?.state.durableAt().index ?? 0
    if (machine.cache?.compacting === true) marks.reach('crash within a compaction')
    else if (durableAt > (machine.cache?.base().index ?? durableAt)) {
      marks.reach('crash between checkpoint and compaction')
    }
    if (machine.cache?.switching === 'begun') marks.reach('crash before a switch of states landed')
    if (machine.cache?.switching === 'landed') marks.reach('crash after a switch of states landed')
    if (machine.disk.building !== undefined) marks.reach('crash while a snapshot is received')
    const votedAt = this.#vote.get(machine)
    if (votedAt !== undefined && this.#now - votedAt < swarm.electionMs / 2) {
      marks.reach('vote, then crash')
    }
  }

  #killInCheckpoint(): boolean {
    const { random } = this.#world
    const kinds = ['checkpoint', 'checkpoint', 'landing', 'compaction'] as const
    const kind = kinds[Math.floor(random() * kinds.length)] ?? 'checkpoint'
    return this.#trap(kind, undefined, (machine) => {
      const span = machine.swarm.commitMs.max * machine.disk.slowness
      const dice = random()
      const wait = kind === 'landing' ? 0 : random() * (dice < 0.5 ? Math.min(1, span) : span * 4)
      this.#strikeLater(wait, () => {
        if (random() < 0.3) this.#powerCut(machine)
        else this.#kill(machine)
      })
    })
  }

  /** The receiver, its leader, or the link between them, at any moment of a snapshot. */
  #killInSnapshot(): boolean {
    const { random } = this.#world
    const kinds = ['receiving', 'receiving', 'switch', 'switch', 'switched'] as const
    const kind = kinds[Math.floor(random() * kinds.length)] ?? 'receiving'
    const ofLeader = kind === 'receiving' && random() < 0.7
    return this.#trap(kind, undefined, (machine) => {
      const span = machine.swarm.commitMs.max * machine.disk.slowness
      const wait = kind === 'receiving' ? random() * span * 6 : random() * span
      this.#strikeLater(kind === 'switched' ? 0 : wait, () => {
        const dice = random()
        if (ofLeader) this.#disturbLeader(dice)
        else if (dice < 0.3) this.#powerCut(machine)
        else if (dice < 0.8 || kind !== 'receiving') this.#kill(machine)
        else this.#resetLinks(1)
      })
    })
  }

  /** Lies in wait for a change, and sees to it that one comes. */
  #strikeInNextChange(): boolean {
    const { random } = this.#world
    if (random() < 0.5) {
      this.#trap('leaving', undefined, (leaving) => this.#onlyTheLeavingOne(leaving))
      return this.#changes.begin('member removed') || this.#changes.begin('member demoted')
    }
    this.#trap('change', undefined, (leader) => this.#strikeInChange(leader))
    return (
      this.#changes.begin(random() < 0.5 ? 'member promoted' : 'member demoted') ||
      this.#changes.begin(random() < 0.5 ? 'member added' : 'member removed')
    )
  }

  /** It, or what it sends, while it changes the members. */
  #strikeInChange(leader: Machine): void {
    const { random, swarm, marks } = this.#world
    const dice = random()
    marks.reach('struck in a change of members')
    if (dice < 0.1) this.#kill(leader)
    else if (dice < 0.2) this.#powerCut(leader)
    // Now nobody else knows of the change, a little later some do.
    else {
      const wait = dice < 0.7 ? 0 : random() * swarm.heartbeatMs
      const ms = swarm.electionMs * (2 + random() * 3)
      this.#strikeLater(wait, () => {
        this.#cut((from, to) => from === leader || to === leader, ms)
      })
    }
  }

  /** Nobody can be elected but the one that the change takes away: it has to end it, and then to go. */
  #onlyTheLeavingOne(leaving: Machine): void {
    const { random, swarm, marks, electorate } = this.#world
    const leader = this.#leader()
    if (leader === leaving || !electorate.suffices((one) => one !== leader && one.isUp)) return
    marks.reach('struck in a change of members')
    const ms = swarm.electionMs * (3 + random() * 3)
    this.#cut((from, to) => {
      return from === leader || to === leader || (from !== leaving && to !== leaving)
    }, ms)
  }

  #disturbLeader(dice: number): void {
    const leader = this.#leader()
    if (leader === undefined) return
    if (dice < 0.5) this.#kill(leader)
    else this.#cut((from, to) => from === leader || to === leader, this.#duration())
  }

  /**
   * While a member receives a snapshot and its disk is slow, its leader is cut off from the others, until the member
   * has heard that they elect a later one: what it has received by then is of the past.
   */
  #deposeSender(receiver: Machine): void {
    const { swarm, electorate } = this.#world
    const leader = this.#leader()
    const goOn = (one: Machine): boolean => one !== leader && one.isUp
    if (leader === receiver || !electorate.suffices(goOn)) return
    const { electionMs } = swarm
    const term = leader?.status()?.term ?? 0
    receiver.disk.slowness = (electionMs * 4) / receiver.swarm.commitMs.max
    this.#repair(electionMs * 5, () => {
      receiver.disk.slowness = 1
    })
    // Where the others need no vote of the receiver they are left alone with each other, and it hears of them later.
    const alone = electorate.suffices((one) => goOn(one) && one !== receiver)
    const side = (one: Machine | undefined): boolean =>
      one === leader || (alone && one === receiver)
    const isSpared = (one: Machine | undefined): boolean => !alone && one === receiver
    this.#cut(
      (from, to) => side(from) !== side(to) && !isSpared(from) && !isSpared(to),
      electionMs * (alone ? 3 : 5),
    )
    const look = (): void => {
      if ((receiver.status()?.term ?? 0) <= term) {
        if (receiver.disk.building !== undefined) this.#later(1, look)
        return
      }
      receiver.disk.slowness = 1
      // The later leader must not send its own before this one is offered.
      this.#cut((from, to) => from === receiver || to === receiver, electionMs)
    }
    look()
  }

  /**
   * One voter is away while the others commit; then the disk of one that had a part in that is wiped, the leader is cut
   * off, and who was away asks for votes: whoever begins on the empty disk must give none.
   */
  #wipeWitness(): boolean {
    const { swarm, random, electorate } = this.#world
    const { electionMs } = swarm
    const leader = this.#leader()
    const voters = this.#members.filter(
      (one) =>
        one !== leader &&
        one.isUp &&
        one.lost === undefined &&
        electorate.member(one)?.role === 'voter',
    )
    const [away, witness] = random() < 0.5 ? voters : voters.toReversed()
    if (leader === undefined || away === undefined || witness === undefined) return false
    const goesOn = (one: Machine): boolean => one !== away && one.isUp && one.lost === undefined
    if (!electorate.suffices(goesOn)) return false
    const awayMs = electionMs * (1 + random() * 2)
    this.#cut((from, to) => from === away || to === away, awayMs)
    this.#later(awayMs, () => {
      if (!this.#changes.wipe(witness)) return
      this.#cut((from, to) => from === leader || to === leader, electionMs * 6)
    })
    return true
  }

  /** One member is away, with what was on its way to it, until it comes back long after. */
  #leaveBehind(): boolean {
    const { network, swarm, random, electorate } = this.#world
    const leader = this.#leader()
    const others = this.#members.filter((machine) => machine !== leader)
    const behind = others[Math.floor(random() * others.length)]
    // Nobody is left behind by a cluster that stands still: the others must be a majority.
    const goesOn = (one: Machine): boolean => one !== behind && one.isUp && one.lost === undefined
    if (behind === undefined || !electorate.suffices(goesOn)) return false
    for (const connection of [...network.connections]) {
      const { localAddress, remoteAddress } = connection
      const isOf = (address: string): boolean => address.startsWith(`${behind.name}:`)
      if (isOf(localAddress) || isOf(remoteAddress)) connection.reset()
    }
    const cut = this.#cut((from, to) => from === behind || to === behind, swarm.electionMs * 30)
    const heal = [...this.#repairs].at(-1)
    const last = behind.status()?.last ?? 0
    const look = (): void => {
      const isBehind = (this.#leader()?.cache?.base().index ?? 0) > last
      if (isBehind) this.#later(random() * swarm.electionMs, () => heal?.())
      else this.#later(swarm.heartbeatMs, look)
    }
    look()
    return cut
  }

  // ---- Disks ------------------------------------------------------------------------------------

  #diskFault(machine: Machine): boolean {
    const { random } = this.#world
    const kinds: readonly DiskFault[] = ['rejected', 'full', 'rejected-visible', 'hanging']
    const fault = kinds[Math.floor(random() * kinds.length)]
    if (fault === undefined || !machine.isServing) return false
    machine.doomed = true
    machine.disk.inject(random() < 0.8 ? 'log' : 'state', fault)
    this.#say(machine.name, `its disk is about to fail: ${fault}`)
    return true
  }

  /** Only of so few disks that a majority stays whole. */
  #flip(machine: Machine, where: 'anywhere' | 'log' = 'anywhere'): boolean {
    const isMember = this.#world.electorate.isNamed(machine)
    if (machine.damaged !== undefined || !isMember) return false
    if (!this.#changes.survivesWithout(machine)) return false
    const place = machine.disk.flip(where)
    if (place === undefined) return false
    machine.damaged = place
    this.#say(machine.name, `a bit flips in ${place}`)
    // Most records are read again only by the next start.
    this.#strikeLater(200, () => this.#kill(machine))
    return true
  }

  // ---- Network ----------------------------------------------------------------------------------

  #cut(isCut: (from: Machine, to: Machine | undefined) => boolean, ms: number): boolean {
    const { machines, network } = this.#world
    const pairs = machines.flatMap((from) =>
      machines.flatMap((to) => (from !== to && isCut(from, to) ? [{ from, to }] : [])),
    )
    for (const { from, to } of pairs) network.block(from.name, to.name)
    this.#repair(ms, () => {
      for (const { from, to } of pairs) network.unblock(from.name, to.name)
    })
    return pairs.length > 0
  }

  #partition(): boolean {
    const { machines, random } = this.#world
    const side = new Set(machines.filter(() => random() < 0.5))
    return this.#cut(
      (from, to) => to !== undefined && side.has(from) !== side.has(to),
      this.#duration(),
    )
  }

  #oneWay(anybody: Machine): boolean {
    const { random } = this.#world
    // A leader that is heard and hears nothing: what it sends is stored, and it never learns of it.
    const victim = random() < 0.5 ? (this.#leader() ?? anybody) : anybody
    const outward = random() < 0.5
    return this.#cut((from, to) => (outward ? from : to) === victim, this.#duration())
  }

  #resetLinks(chance: number, isMeant = (_one: string, _two: string): boolean => true): boolean {
    const { network, random } = this.#world
    for (const connection of [...network.connections]) {
      const ends = [connection.localAddress, connection.remoteAddress]
      const [one = '', two = ''] = ends.map((end) => end.slice(0, end.lastIndexOf(':')))
      const ofPeers = ends.some((end) => end.endsWith(`:${PEER_PORT}`))
      if (ofPeers && isMeant(one, two) && random() < chance) connection.reset()
    }
    return true
  }

  /** For a while connections break in the middle of what they carry. */
  #cutFrames(): boolean {
    const { network, random } = this.#world
    network.cutRule = () => ({
      toAcceptor: 500 + random() * 5000,
      toDialler: 500 + random() * 5000,
    })
    this.#resetLinks(0.5)
    this.#repair(this.#duration(), () => {
      network.cutRule = () => undefined
    })
    return true
  }

  /**
   * I17: a follower that hears nobody for a while and comes back changes neither the leader nor the term of the
   * others. Nothing else may fail meanwhile.
   */
  #isolateFollower(leader: Machine): boolean {
    const { swarm, marks, random } = this.#world
    const follower = this.#pickMember()
    if (follower === undefined || follower === leader) return false
    if (!this.#world.electorate.suffices((one) => one !== follower)) return false
    const term = leader.status()?.term
    const begunAt = this.#now
    const away = swarm.electionMs * (2 + random() * 4)
    const after = swarm.electionMs * 3
    this.quietUntil = this.#now + away + after + swarm.electionMs
    // Or it hears all but its leader, and asks those that hear that one for their votes.
    const fromAll = random() < 0.5
    this.#cut((from, to) => {
      const [one, two] = from === follower ? [from, to] : [to, from]
      return one === follower && (fromAll || two === leader)
    }, away)
    // Without writes its log is as good as any when it comes back.
    if (random() < 0.5) this.onlyReadsUntil = this.#now + away + after
    const same = (): boolean => {
      const status = leader.status()
      return (status?.role === 'leader' && status.term === term) || this.#handedOverAt > begunAt
    }
    this.#later(away + after, () => {
      if (!this.#members.every((machine) => machine.isServing) || this.#now > this.quietUntil)
        return
      hold(same(), 'I17 no disruption', () => {
        return `${follower.name} came back, and ${leader.name} leads term ${term} no more`
      })
      marks.reach('isolated node rejoins without disruption')
    })
    return true
  }

  /**
   * I17: a follower that stood still for longer than an election timeout finds heartbeats of its leader waiting, and
   * reads them before it believes its timers. Nothing else may fail meanwhile.
   */
  #standStill(leader: Machine): boolean {
    const { swarm, marks, random } = this.#world
    const follower = this.#pickMember()
    const host = follower?.host
    if (follower === undefined || follower === leader || host === undefined) return false
    const term = leader.status()?.term
    const ms = swarm.electionMs * (2 + random())
    this.quietUntil = this.#now + ms + swarm.electionMs
    host.pause()
    this.#repair(ms, () => {
      const { role, term: now } = leader.status() ?? {}
      const waits = role === 'leader' && now === term && follower.host === host
      if (waits) {
        this.#watched = { follower, at: this.#now }
        marks.reach('follower that stood still reads before it campaigns')
      }
      if (follower.host === host) host.resume()
    })
    return true
  }

  /** A leader tells another node to lead in its place. */
  handsOver(): void {
    this.#handedOverAt = this.#now
  }

  /** A machine asks for a pre-vote. */
  campaigns(machine: Machine): void {
    const { follower, at } = this.#watched ?? {}
    hold(machine !== follower || at !== this.#now, 'I17 no disruption', () => {
      return `${machine.name} stood still, and campaigns before it reads its leader's heartbeats`
    })
  }

  /** The address of one node leads to another for a while. */
  #wrongHost(victim: Machine): boolean {
    const { network } = this.#world
    const other = this.#pick()
    if (other === undefined || other === victim) return false
    const address = `${victim.name}:${PEER_PORT}`
    network.detours.set(address, `${other.name}:${PEER_PORT}`)
    this.#resetLinks(1, (one, two) => one === victim.name || two === victim.name)
    this.#repair(this.#duration(), () => network.detours.delete(address))
    return true
  }

  /** Begins once everything is well, if that comes soon: nothing else fails until then. */
  #whenCalm(
    name: FaultName,
    begin: (leader: Machine) => boolean,
    { elections, who }: Calm = { elections: 3, who: 'everybody' },
  ): false {
    const { swarm } = this.#world
    const deadline = this.#now + swarm.electionMs * elections
    this.quietUntil = deadline
    const look = (): void => {
      const leader = this.#calmLeader(who)
      if (leader !== undefined) {
        this.quietUntil = this.#now
        if (begin(leader)) this.#begun(name)
      } else if (this.#now < deadline) this.#later(swarm.heartbeatMs, look)
    }
    look()
    return false
  }

  /** The leader, when everything has been well for a while: all who are asked for up, unbroken and following it. */
  #calmLeader(who: Calm['who']): Machine | undefined {
    const { network, electorate } = this.#world
    const members = who === 'everybody' ? this.#members : this.#wholeMembers
    const named = electorate.committed?.membership.members.length
    const leader = this.#leader()
    const status = leader?.status()
    const blocked = members.some((a) => members.some((b) => network.isBlocked(a.name, b.name)))
    const well = members.every((machine) => {
      const own = machine.status()
      const linked = members.every(
        (other) => other === machine || machine.process?.replica.members.isUp(other.id) === true,
      )
      return (
        own?.leader === status?.id &&
        own?.term === status?.term &&
        linked &&
        machine.disk.slowness === 1 &&
        !machine.doomed &&
        machine.damaged === undefined &&
        machine.host?.isPaused === false
      )
    })
    const isComplete = this.#changes.isIdle && members.length === named
    const isSettled = electorate.isSettled && (isComplete || who !== 'everybody')
    const isCalm = well && !blocked && isSettled && this.#repairs.size === 0
    return isCalm ? leader : undefined
  }

  // ---- Clocks -----------------------------------------------------------------------------------

  #wallJump(machine: Machine): boolean {
    const { random, marks } = this.#world
    const before = machine.wallError
    machine.wallError = (random() - 0.5) * 4 * 3_600_000
    if (machine.wallError < before && machine.status()?.role === 'leader') {
      marks.reach('wall clock falls under a leader')
    }
    return true
  }

  /**
   * The leader's disk stalls while it is cut off from the others: when it hears their new leader, what it is still
   * writing is replaced.
   */
  #slowLeaderCutOff(leader: Machine): boolean {
    const { swarm, random } = this.#world
    const { electionMs } = swarm
    this.quietUntil = this.#now + electionMs * 8
    leader.disk.slowness = (electionMs * (10 + random() * 20)) / leader.swarm.commitMs.max
    this.#repair(electionMs * 8, () => {
      leader.disk.slowness = 1
    })
    return this.#cut(
      (from, to) => from === leader || to === leader,
      electionMs * (3 + random() * 2),
    )
  }

  // ---- Directed ---------------------------------------------------------------------------------

  /** Nothing else may fail while it is staged. */
  #stageFigureEight(leader: Machine): boolean {
    const { network, swarm, canon, electorate } = this.#world
    const machines = this.#members
    const friend = machines.find((machine) => machine !== leader)
    const voters = machines.filter((machine) => electorate.member(machine)?.role === 'voter')
    if (friend === undefined || machines.length !== 5 || voters.length !== 5) return false
    const { electionMs } = swarm
    this.#figureEight = new FigureEight({ network, machines, canon, electionMs, leader, friend })
    return this.#stage(this.#figureEight)
  }

  #stageLateAnswers(leader: Machine): boolean {
    const { network, swarm } = this.#world
    const machines = this.#members
    const { heartbeatMs, electionMs } = swarm
    this.#hurry(leader, 6 * electionMs)
    return this.#stage(new LateAnswers({ network, machines, leader, heartbeatMs, electionMs }))
  }

  /** The state of a node differs as soon as everything is well, if that comes soon. */
  letDiffer(): void {
    if (!this.#canDiffer()) return
    const begin = (leader: Machine): boolean => {
      if (!this.#canDiffer()) return false
      const { differing } = this.#world
      differing.begin(leader, this.#wholeMembers)
      return this.#stage(differing)
    }
    this.#whenCalm('state differs', begin, { elections: 8, who: 'whole disks' })
  }

  /** Whoever of them it is: a majority of sound voters is left. */
  #canDiffer(): boolean {
    const whole = this.#wholeMembers
    return whole.every((victim) => {
      return this.#world.electorate.suffices((one) => one !== victim && whole.includes(one))
    })
  }

  #stage(staged: FigureEight | LateAnswers | DifferingStates): boolean {
    this.#staged = staged
    this.quietUntil = this.#now + staged.longestMs
    this.#repair(staged.longestMs, () => {
      if (!staged.isOver) staged.end()
    })
    return true
  }

  /** What of a message arrives. */
  trimmed(message: Message): Message {
    return this.#figureEight?.trimmed(message) ?? message
  }

  /** After every event. */
  look(): void {
    if (this.#staged === undefined) return
    this.#staged.look()
    if (!this.#staged.isOver) return
    this.#staged = undefined
    this.#figureEight = undefined
    this.quietUntil = this.#now
  }

  /** The leader keeps some who do not suffice, while clients still ask it. */
  #leaderInMinority(): boolean {
    const { random, swarm, electorate } = this.#world
    const leader = this.#leader()
    if (leader === undefined) return false
    const others = this.#members.filter((machine) => machine !== leader)
    // So many that the rest can have another leader.
    let most = 0
    const suffice = (count: number): boolean => {
      const rest = new Set(others.slice(count))
      return electorate.suffices((one) => rest.has(one))
    }
    while (most < others.length && suffice(most + 1)) most++
    const side = new Set([leader, ...others.slice(0, Math.round(random() * most))])
    const cut = this.#cut(
      (from, to) => to !== undefined && side.has(from) !== side.has(to),
      this.#duration(),
    )
    // Half the time both sides notice at once, so that the others have a new leader long before the old one gives up.
    if (random() < 0.5) {
      const addresses = new Set([...side].map(({ name }) => name))
      this.#resetLinks(1, (one, two) => addresses.has(one) !== addresses.has(two))
      this.#hurry(leader, 2 * swarm.electionMs)
    }
    return cut
  }

  #hurry(to: Machine, ms: number): void {
    this.hurryUntil = this.#now + ms
    this.hurryTo = to
  }

  // ---- Time and choice --------------------------------------------------------------------------

  #trap(
    kind: TrapKind,
    machine: Machine | undefined,
    act: (machine: Machine) => void,
    elections = 10,
  ): boolean {
    const until = this.#now + this.#world.swarm.electionMs * elections
    const spring = (sprung: Machine): void => this.#later(0, () => act(sprung))
    this.#traps = this.#traps.filter((trap) => trap.until > this.#now)
    this.#traps.push({ kind, machine, until, spring })
    return true
  }

  #duration(): number {
    const { random, swarm } = this.#world
    return swarm.electionMs * (0.2 + random() * random() * 8)
  }

  /** Something more that breaks, unless everything has healed by then. */
  #later(ms: number, action: () => void): void {
    this.#world.network.time.after(ms, () => {
      if (!this.#healed) action()
    })
  }

  /** The same of what a trap has sprung or set going, unless something is being staged by then. */
  #strikeLater(ms: number, strike: () => void): void {
    this.#later(ms, () => {
      if (this.#now >= this.quietUntil) strike()
    })
  }

  /** Done after `ms`, or at once when everything heals. */
  #repair(ms: number, action: () => void): void {
    const once = (): void => {
      if (this.#repairs.delete(once)) action()
    }
    this.#repairs.add(once)
    this.#world.network.time.after(ms, once)
  }

  #leader(): Machine | undefined {
    return this.#world.machines
      .filter((machine) => machine.status()?.role === 'leader')
      .sort((a, b) => (b.status()?.term ?? 0) - (a.status()?.term ?? 0))[0]
  }

  /** Those that the last committed membership names. */
  get #members(): readonly Machine[] {
    const { machines, electorate } = this.#world
    return machines.filter((machine) => electorate.member(machine) !== undefined)
  }

  get #wholeMembers(): readonly Machine[] {
    return this.#members.filter(({ damaged }) => damaged === undefined)
  }

  #pick(): Machine | undefined {
    const { machines, random } = this.#world
    return machines[Math.floor(random() * machines.length)]
  }

  #pickMember(): Machine | undefined {
    const members = this.#members
    return members[Math.floor(this.#world.random() * members.length)]
  }

  #say(who: string, text: string): void {
    this.#world.trace.note(who, 'fault', [text.length], () => text)
  }
}
