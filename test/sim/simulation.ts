/*
 * One seed: a cluster of production nodes over simulated network, disks and clocks, clients through every node,
 * faults, and at the end a healing after which it must serve again. One thread, no real clock, no chance that does
 * not come from the seed: a run with the same seed is the same run, event by event.
 */

import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import type { Random } from '../../raft/ports.ts'
import type { Entry, Index, Message, NodeId } from '../../raft/types.ts'
import { limits } from '../../src/config.ts'
import { REPLACE_LEVEL } from '../../src/feature-level.ts'
import type { Peers } from '../../src/peers.ts'
import type { ToReceiver } from '../../src/snapshot-messages.ts'
import type { Operation as Write } from '../../storage/engine.ts'
import { readUint64 } from '../../storage/integers.ts'
import type { DiskLogStore, StateSwitch } from '../../storage/log-store.ts'
import type { Operation } from '../linearizability/operation.ts'
import { Canon } from './canon.ts'
import { DifferingStates, differs } from './differing-states.ts'
import { Electorate, votersOf } from './electorate.ts'
import { Faults } from './faults.ts'
import { ForcedCluster } from './forced-cluster.ts'
import { ClientJudge } from './judge.ts'
import { Levels } from './levels.ts'
import {
  CLIENT_PORT,
  DIGEST_INTERVAL_MS,
  Machine,
  type MachineEvents,
  type Opening,
  PEER_PORT,
} from './machine.ts'
import { Marks } from './marks.ts'
import { SimNetwork, SimTime, seededRandom } from './network.ts'
import type { Applied } from './observed.ts'
import { Probe } from './probe.ts'
import { Recorder } from './recorder.ts'
import { Rejoins } from './rejoins.ts'
import { SimClient } from './sim-client.ts'
import { Invariants } from './sim-invariants.ts'
import {
  type DrawnFault,
  drawDamage,
  drawDiffering,
  drawSwarm,
  type NodeSwarm,
  type Swarm,
  smallLimits,
} from './swarm.ts'
import { tap } from './taps.ts'
import { Trace } from './trace.ts'
import { hold, InvariantError } from './violation.ts'

/** Of each seed: it runs on, within limits, until it has had so much. */
export const QUOTA = { operations: 1000, faults: 20, simulatedMs: 60_000 } as const
/** How much longer than drawn a seed may run for the sake of its quota. */
const OVERTIME_MAX = 6
/** I18: within so many election timeouts of the healing. */
const LIVENESS_ELECTIONS = 20
const SETTLING_MS = 60_000
/** Requests for a digest that may come until a state that still differs is found and replaced. */
const DIGESTS_HEALING = 3
/** Longer than it waits for calm, because nothing else fails meanwhile. */
const DIFFERS_AGAIN_ELECTIONS = 16
/** Events between two looks at the clock of the machine: a batch of one turn of the event loop. */
const BATCH_EVENTS = 128

export interface SimulationOptions {
  readonly seed: number
  readonly long: boolean
  /** Disks on which commits are visible before they are flushed; else the seed draws it. */
  readonly early?: boolean
  /** Replies are written down for the checker of histories instead of being judged. */
  readonly history?: boolean
}

export interface SimulationResult {
  readonly seed: number
  readonly long: boolean
  readonly hash: string
  readonly events: number
  readonly simulatedMs: number
  readonly operations: number
  readonly refused: number
  readonly unknown: number
  readonly faults: number
  readonly faultsByName: Readonly<Record<string, number>>
  readonly size: number
  readonly elections: number
  readonly lost: number
  readonly marks: Record<string, number>
  /** What was broken, with the transcript; undefined: nothing was. */
  readonly failure: Failure | undefined
  /** Only where it was asked for. */
  readonly history: readonly Operation[]
}

export interface Failure {
  readonly message: string
  readonly transcript: string
  /** The name of what did not hold; undefined: a crash, or a failed assertion of the code itself. */
  readonly invariant: string | undefined
}

/** Whether a run has this process: there is one clock and one randomness to take over. */
let isRunning = false

/** Runs one seed to its end. What goes wrong is part of the result; only a second run beside it is rejected. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  assert.ok(!isRunning, 'a process simulates one seed at a time')
  isRunning = true
  const world = new World(options)
  const release = world.takeControl()
  try {
    await world.run()
  } finally {
    release()
    isRunning = false
  }
  return world.result()
}

class World implements MachineEvents {
  readonly #options: SimulationOptions
  readonly #swarm: Swarm
  readonly #time = new SimTime()
  readonly #network: SimNetwork
  /** Those that have a disk now. */
  readonly #machines: Machine[]
  readonly #byId = new Map<string, Machine>()
  readonly #clients: readonly SimClient[]
  readonly #probes: Probe[] = []
  readonly #marks = new Marks()
  readonly #canon = new Canon({
    expired: (setIn, term) => {
      if (term > setIn) this.#marks.reach('TTL across leader change')
    },
    clock: () => this.#marks.reach('clock entry'),
  })
  readonly #electorate = new Electorate(this.#canon)
  readonly #trace = new Trace()
  readonly #judge: ClientJudge | Recorder
  readonly #invariants: Invariants
  readonly #faults: Faults
  readonly #differing: DifferingStates
  readonly #levels: Levels
  readonly #rejoins: Rejoins
  readonly #forced: ForcedCluster
  readonly #ofRejoins: Random
  /** When the log of a node is to be damaged; undefined: it was, or no node comes back in this run. */
  #damagesAt: number | undefined
  /** When the state of a node begins to differ, in simulated ms; undefined: none does. */
  #differsAt: number | undefined
  readonly #chaos: Random
  readonly #repeats: Random
  readonly #touched = new Set<Machine>()
  readonly #switchedAt = new Map<string, number>()
  /** The last session that each node has begun to send. */
  readonly #snapshots = new Map<Peers, number>()
  #current: Machine | undefined
  #failure: Failure | undefined
  #phase: 'founding' | 'faults' | 'healing' | 'forcing' | 'over' = 'founding'
  #deadline = SETTLING_MS
  #made = 0

  constructor(options: SimulationOptions) {
    const { seed, long } = options
    this.#options = options
    const random = (concern: number): Random => seededRandom(Math.imul(seed, 0x9e3779b1) ^ concern)
    this.#swarm = drawSwarm(random(1), { long, early: options.early })
    const { delayMs, splitChance, pieceBytesMax, size, clients } = this.#swarm
    this.#network = new SimNetwork(this.#time, random(2), { delayMs, splitChance, pieceBytesMax })
    this.#chaos = random(3)
    this.#repeats = random(4)
    this.#ofRejoins = random(8)
    this.#levels = new Levels({
      ...{ canon: this.#canon, electorate: this.#electorate, marks: this.#marks },
      random: random(7),
    })
    const names = Array.from({ length: size }, (_, i) => `127.0.0.${i + 1}`)
    const cluster = names.map((host) => `${host}:${PEER_PORT}`).join(',')
    this.#machines = this.#swarm.nodes.map((own, index) => {
      return this.#machine(names[index] ?? '', own, ['--cluster', cluster])
    })
    const now = (): number => this.#time.now
    this.#judge =
      options.history === true
        ? new Recorder(now)
        : new ClientJudge({
            canon: this.#canon,
            marks: this.#marks,
            now,
            parkMs: this.#swarm.parkTimeoutMs,
            switchedAt: (node) => this.#switchedAt.get(node),
            isStranger: (node) => this.#isStranger(node),
          })
    this.#invariants = new Invariants({
      machines: this.#machines,
      canon: this.#canon,
      electorate: this.#electorate,
      marks: this.#marks,
    })
    if (this.#levels.isUpgrade) this.#damagesAt = drawDamage(this.#ofRejoins, this.#swarm)
    const ofDiffering = random(6)
    this.#differsAt = drawDiffering(ofDiffering, this.#swarm)
    this.#differing = new DifferingStates({
      machines: this.#machines,
      network: this.#network,
      marks: this.#marks,
      electorate: this.#electorate,
      random: ofDiffering,
      spyEveryMs: this.#swarm.heartbeatMs / 8,
    })
    this.#faults = new Faults({
      differing: this.#differing,
      electorate: this.#electorate,
      machines: this.#machines,
      network: this.#network,
      swarm: this.#swarm,
      random: random(5),
      marks: this.#marks,
      trace: this.#trace,
      canon: this.#canon,
      place: (name, contacts) => this.#place(name, contacts),
    })
    this.#forced = new ForcedCluster({
      ...{ canon: this.#canon, electorate: this.#electorate, network: this.#network },
      ...{ marks: this.#marks, random: random(9), swarm: this.#swarm, judge: this.#judge },
      place: (name, contacts) => this.#place(name, contacts),
      written: (index, term) => {
        this.#invariants.forced(index, term)
        this.#rejoins.forced(index)
      },
      probe: (machine) => this.#probe(machine),
      isServing: () => this.#isServing(),
      say: (who, text) => this.#trace.note(who, 'fault', [text.length], () => text),
    })
    this.#rejoins = new Rejoins({
      ...{ canon: this.#canon, network: this.#network, marks: this.#marks },
      ...{ random: this.#ofRejoins, swarm: this.#swarm },
      takeOver: (name, contacts) => this.#place(name, contacts, true),
      isInPlace: (machine) => this.#phase === 'faults' && this.#machines.includes(machine),
      kill: (machine) => this.#faults.kill(machine),
      wasAskedToGo: (id) => this.#faults.wasAskedToGo(id),
      say: (who, text) => this.#trace.note(who, 'fault', [text.length], () => text),
    })
    this.#clients = Array.from({ length: clients }, (_, i) => this.#client(i, random(100 + i)))
  }

  #machine(
    name: string,
    own: NodeSwarm,
    contacts: readonly string[],
    takesOver?: Machine,
  ): Machine {
    return new Machine({
      ...{ index: this.#made++, name, contacts, own, takesOver },
      ...{ seed: this.#options.seed, swarm: this.#swarm, network: this.#network, events: this },
    })
  }

  /** A machine with an empty disk, where another one may have been, or with the disk of that one. */
  #place(name: string, contacts: readonly string[], takesOver = false): Machine {
    const { spares, spareNodes, nodes } = this.#swarm
    const at = this.#machines.findIndex((machine) => machine.name === name)
    const [before] = at < 0 ? [] : this.#machines.splice(at, 1)
    if (before !== undefined) {
      before.kill()
      before.damaged ??= 'its whole disk'
      before.lost ??= 'its disk was emptied'
    }
    const own = before?.swarm ?? spareNodes[spares.indexOf(name)] ?? nodes[0]
    hold(own !== undefined, 'the world', () => `no machine has the address ${name}`)
    const machine = this.#machine(name, own, contacts, takesOver ? before : undefined)
    this.#machines.push(machine)
    if (this.#phase === 'healing') this.#probe(machine)
    return machine
  }

  #isStranger(name: string): boolean {
    const machine = this.#machines.find((one) => one.name === name)
    return machine === undefined || this.#electorate.member(machine) === undefined
  }

  #client(index: number, random: Random): SimClient {
    const { pipelineMax, thinkMs, largeValueChance, electionMs, parkTimeoutMs } = this.#swarm
    return new SimClient({
      name: String.fromCharCode(97 + index),
      random,
      host: this.#network.host(`127.0.1.${index + 1}`),
      addresses: () => this.#addresses(index),
      isStranger: (address) => this.#isStranger(address),
      port: CLIENT_PORT,
      judge: this.#judge,
      pipelineMax,
      thinkMs,
      patienceMs: electionMs * 4 + parkTimeoutMs,
      largeValueChance,
      onlyReads: () => this.#faults.onlyReadsUntil > this.#time.now,
      hurry: () => this.#hurry(index),
    })
  }

  /** Every other client reads. */
  #hurry(client: number): 'reads' | 'writes' | undefined {
    if (this.#faults.hurryUntil <= this.#time.now) return undefined
    return client % 2 === 0 ? 'reads' : 'writes'
  }

  /** Where a client may go. In a hurry, who reads goes half the time to the leader that may be none any more. */
  #addresses(client: number): readonly string[] {
    const up = this.#machines.filter(({ isServing }) => isServing)
    const members = up.filter((machine) => this.#electorate.member(machine) !== undefined)
    const serving = members.length > 0 ? members : up
    const { hurryTo } = this.#faults
    const sought = this.#hurry(client) === 'reads' && hurryTo?.isServing === true
    const others = sought ? serving.map(() => hurryTo) : []
    return [...serving, ...others].map(({ name }) => name)
  }

  // ---- The run ----------------------------------------------------------------------------------

  /** Everything that production code could take from outside comes from the seed now; the result undoes it. */
  takeControl(): () => void {
    const { randomBytes } = crypto
    const seeded = seededRandom(this.#options.seed ^ 0xb17e5)
    const bytes = (count: number): Buffer =>
      Buffer.from(Array.from({ length: count }, () => seeded() * 256))
    crypto.randomBytes = bytes as typeof randomBytes
    syncBuiltinESMExports()
    const { random } = Math
    const { now } = Date
    Math.random = banned('Math.random')
    Date.now = banned('Date.now')
    const untap = tap({
      sent: (message) => this.#sent(message),
      received: (message, deliver) => this.#received(message, deliver),
      refused: () => this.#marks.reach('refused forward re-issued'),
      snapshotSent: (peers, part) => this.#snapshotSent(peers, part),
      snapshotReceived: (from, _, deliver) => this.#snapshotReceived(from, deliver),
      snapshotTaken: (by, term) => {
        this.#judging(() => this.#invariants.snapshotTaken(by.term, term))
      },
      forwardLost: () => this.#marks.reach('forward link lost'),
      foundInLog: () => this.#marks.reach('forwarded command found in the log'),
      fenced: () => this.#marks.reach('fence behind a lost link'),
      overwritten: () => this.#marks.reach('overwritten command placed again'),
      readLost: () => this.#marks.reach('read retried after a lost round'),
      clockAwaited: (leads) =>
        this.#marks.reach(leads ? 'clock awaited at the leader' : 'clock asked of the leader'),
    })
    const restore = this.#limitsPerNode()
    const unhandled = (error: unknown): void => this.#unhandled(error)
    // Others that listen, such as a test runner, would take the end of a simulated process for the end of this one.
    const listeners = process.listeners('unhandledRejection')
    process.removeAllListeners('unhandledRejection')
    process.on('unhandledRejection', unhandled)
    return () => {
      process.off('unhandledRejection', unhandled)
      for (const listener of listeners) process.on('unhandledRejection', listener)
      restore()
      untap()
      Math.random = random
      Date.now = now
      crypto.randomBytes = randomBytes
      syncBuiltinESMExports()
    }
  }

  /** Each node's own limits, while something of it runs. */
  #limitsPerNode(): () => void {
    const before = { ...limits }
    for (const name of smallLimits) {
      const get = (): number => this.#current?.swarm.limits[name] ?? before[name]
      Object.defineProperty(limits, name, { get, configurable: true, enumerable: true })
    }
    return () => {
      for (const name of smallLimits) {
        Object.defineProperty(limits, name, {
          value: before[name],
          configurable: true,
          enumerable: true,
        })
      }
    }
  }

  async run(): Promise<void> {
    for (const machine of this.#machines) machine.start()
    await new Promise<void>((resolve) => this.#turn(resolve))
  }

  /** A batch of events, each in a callback of its own, so that what one resolves runs before the next. */
  #turn(done: () => void): void {
    for (let i = 0; i < BATCH_EVENTS; i++) setImmediate(() => this.#event())
    setImmediate(() => {
      if (this.#phase === 'over') done()
      else this.#turn(done)
    })
  }

  #event(): void {
    if (this.#phase === 'over') return
    try {
      this.#settle()
      this.#current = undefined
      const action = this.#time.next()
      hold(action !== undefined, 'I18 liveness after heal', () => 'nothing is left to happen')
      this.#trace.next(this.#time.now)
      action()
      this.#steer()
    } catch (error) {
      this.broken(error)
    }
  }

  /** The last event is over, and everything it resolved: what it touched must be in order. */
  #settle(): void {
    for (const machine of this.#touched) {
      this.#current = machine
      try {
        this.#invariants.check(machine)
        const phase = machine.disk.checkpointPhase
        if (phase === 'filling') this.#faults.did('checkpoint', machine)
        else if (phase === 'landed') this.#faults.did('landing', machine)
        if (machine.disk.building !== undefined) this.#faults.did('receiving', machine)
        if (machine.cache?.switching === 'landed') this.#faults.did('switched', machine)
      } catch (error) {
        machine.threw(error)
      }
    }
    this.#touched.clear()
  }

  #steer(): void {
    this.#faults.look()
    if (this.#phase === 'founding' && this.#isCalm()) this.#beginFaults()
    else if (this.#phase === 'faults' && this.#isEnough()) this.#beginHealing()
    else if (this.#phase === 'healing' && this.#isServing()) this.#beginForcing()
    else if (this.#phase === 'forcing' && this.#forced.look()) this.#finish()
    else if (this.#time.now > this.#deadline) this.#tooLate()
  }

  #tooLate(): void {
    const states = this.#machines.map((machine) => {
      const { name, lost, isUp } = machine
      return `${name}: ${lost ?? (isUp ? 'up' : 'down')} ${JSON.stringify(machine.status())}`
    })
    const open = this.#probes.map((probe) => probe.state).join('; ')
    hold(false, 'I18 liveness after heal', () => `${this.#phase} ${open}\n${states.join('\n')}`)
  }

  // ---- Phases -----------------------------------------------------------------------------------

  #beginFaults(): void {
    this.#phase = 'faults'
    this.#deadline = Number.POSITIVE_INFINITY
    for (const client of this.#clients) client.start()
    this.#time.after(this.#swarm.faultEveryMs, () => this.#nextFault())
  }

  #nextFault(): void {
    if (this.#phase !== 'faults') return
    this.#letDiffer()
    this.#damageLog()
    const name = this.#drawFault()
    if (name !== undefined) this.#faults.inject(name)
    this.#time.after(this.#chaos() * 2 * this.#swarm.faultEveryMs, () => this.#nextFault())
  }

  /** Once, at the next fault that is due; when it is not calm by then, again some time later. */
  #letDiffer(): void {
    const { now } = this.#time
    if (this.#differing.hasBegun || now < (this.#differsAt ?? Number.POSITIVE_INFINITY)) return
    this.#differsAt = now + this.#swarm.electionMs * DIFFERS_AGAIN_ELECTIONS
    this.#faults.letDiffer()
  }

  /** Once, when every member knows how a place is taken. */
  #damageLog(): void {
    const isDue = this.#time.now >= (this.#damagesAt ?? Number.POSITIVE_INFINITY)
    if (!isDue || this.#levels.reached < REPLACE_LEVEL) return
    if (this.#faults.damageLog(this.#ofRejoins)) this.#damagesAt = undefined
  }

  #drawFault(): DrawnFault | undefined {
    const entries = Object.entries(this.#swarm.weights) as [DrawnFault, number][]
    let dice = this.#chaos() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of entries) {
      dice -= weight
      if (dice < 0) return name
    }
    return undefined
  }

  #isEnough(): boolean {
    const { durationMs } = this.#swarm
    const { now } = this.#time
    if (now < durationMs || !this.#differing.isOver) return false
    const enough =
      this.#judge.acknowledged >= QUOTA.operations && this.#faults.injected >= QUOTA.faults
    return enough || now >= durationMs * OVERTIME_MAX
  }

  #beginHealing(): void {
    this.#phase = 'healing'
    this.#faults.heal()
    for (const client of this.#clients) client.stop()
    for (const machine of this.#machines) machine.start()
    const differing = this.#machines.some(differs) ? DIGEST_INTERVAL_MS * DIGESTS_HEALING : 0
    this.#deadline = this.#time.now + this.#swarm.electionMs * LIVENESS_ELECTIONS + differing
    // A node that finds its disk damaged only now is replaced by nobody; the others must do without.
    for (const machine of this.#machines) this.#probe(machine)
  }

  #probe(machine: Machine): void {
    const isMember = (): boolean => this.#electorate.member(machine) !== undefined
    const host = this.#network.host('127.0.1.200')
    const retryMs = this.#swarm.heartbeatMs
    const name = `${this.#phase === 'forcing' ? 'forced' : 'probe'}.${machine.index}`
    this.#probes.push(new Probe({ host, machine, name, judge: this.#judge, retryMs, isMember }))
  }

  #isServing(): boolean {
    if (!this.#differing.hasSpread && this.#machines.some(differs)) return false
    return this.#isCalm() && this.#probes.every((probe) => probe.isDone)
  }

  /** One leader, every member that lives follows it, and has applied all that is committed; no change is under way. */
  #isCalm(): boolean {
    if (!this.#electorate.isSettled) return false
    const members = this.#machines.filter((one) => this.#electorate.member(one) !== undefined)
    const live = members.filter(({ lost }) => lost === undefined)
    if (live.some((one) => this.#electorate.member(one)?.role === 'joining')) return false
    const [first] = live
    const leader = first?.status()?.leader
    if (leader === undefined) return false
    const { lastIndex } = this.#canon
    return live.every((machine) => {
      const status = machine.status()
      return (
        status?.leader === leader &&
        status.applied === status.commit &&
        status.applied === lastIndex &&
        status.membership !== undefined
      )
    })
  }

  /** The last act, in some runs: a quorum is lost for good. */
  #beginForcing(): void {
    for (const client of this.#clients) client.leave()
    const spread = this.#differing.hasSpread
    if (spread || !this.#forced.isDrawn || !this.#forced.begin([...this.#machines])) {
      this.#finish()
      return
    }
    this.#phase = 'forcing'
    this.#deadline = this.#time.now + SETTLING_MS + this.#swarm.electionMs * LIVENESS_ELECTIONS
  }

  #finish(): void {
    for (const client of this.#clients) client.leave()
    for (const machine of this.#machines) this.#invariants.sameState(machine)
    this.#judge.finish()
    this.#end()
  }

  #end(): void {
    this.#phase = 'over'
    for (const machine of this.#machines) machine.kill()
  }

  // ---- What machines do -------------------------------------------------------------------------

  touched(machine: Machine): void {
    this.#touched.add(machine)
    this.#current = machine
  }

  opened(machine: Machine, how: Opening): void {
    this.#byId.set(machine.id, machine)
    this.#trace.note(machine.name, 'starts', [], () => how)
    if (how === 'state re-installed') this.#switchedAt.set(machine.name, this.#time.now)
    this.#invariants.opened(machine)
    this.#differing.opened(machine, how === 'state re-installed')
  }

  forcing(machine: Machine, log: DiskLogStore): void {
    this.#trace.note(machine.name, 'forces', [log.lastIndex()], () => `at ${log.lastIndex()}`)
    this.#judging(() => this.#forced.forcing(machine, log))
  }

  forced(machine: Machine, log: DiskLogStore): void {
    this.#judging(() => this.#forced.forced(machine, log))
  }

  cameBack(machine: Machine, old: NodeId): void {
    this.#trace.note(machine.name, 'comes back', [], () => `as ${machine.id}, it was ${old}`)
    this.#rejoins.opened(machine, old)
  }

  build(machine: Machine): number | undefined {
    // Who joins then must be let in.
    return this.#phase === 'forcing' ? this.#levels.newest(machine) : this.#levels.build(machine)
  }

  differs(machine: Machine, what: string): void {
    this.#trace.note(machine.name, 'differs', [], () => what)
    this.#judging(() => this.#differing.found(machine, what))
  }

  silent(machine: Machine): void {
    this.#trace.note(machine.name, 'is silent', [], () => '')
    this.#judging(() => this.#differing.silent(machine))
  }

  died(machine: Machine, reason: string): void {
    this.#trace.note(machine.name, 'ends itself', [], () => reason)
    const { doomed, damaged, lost } = machine
    hold(doomed || damaged !== undefined, 'no crash without a cause', () => {
      return `${machine.name} ends itself: ${reason}`
    })
    if (lost !== undefined) this.#marks.reach('flipped bit found')
    else if (/did not settle/.test(reason)) this.#marks.reach('commit that never settles')
    else if (/rejected-visible/.test(reason)) {
      this.#marks.reach('rejected commit, visible to the next process')
    } else if (/full/.test(reason)) this.#marks.reach('disk full')
    else if (/rejected/.test(reason)) this.#marks.reach('rejected commit')
    if (lost === undefined) this.#faults.revive(machine)
    else if (this.#levels.isUpgrade) this.#rejoins.lost(machine)
  }

  landing(machine: Machine, environment: string, operations: readonly Write[]): void {
    this.#trace.note(machine.name, 'disk', [operations.length], () => {
      return `${environment}: ${operations.length} operations are visible`
    })
    if (environment !== 'log') return
    if (this.#phase === 'forcing') this.#forced.landing(machine)
    this.#invariants.landing(machine, operations)
    if (operations.some((operation) => isOwnLeaving(machine, operation))) {
      this.#faults.did('leaving', machine)
    }
    if (machine.cache?.switching !== undefined) machine.cache.switching = 'landed'
    if (operations.some(({ database }) => database === 'stable')) {
      this.#faults.did('hard state', machine)
    }
  }

  applied(machine: Machine, change: Applied): void {
    const { index, term } = change.end
    this.#trace.note(machine.name, 'applies', [index, term], () => `${index}@${term}`)
    this.#invariants.applied(machine, change)
    this.#levels.applied(machine, index)
    this.#rejoins.look()
  }

  read(machine: Machine, from: Index, entries: readonly Entry[]): void {
    this.#invariants.cacheCoherent(machine, from, entries)
  }

  persisting(machine: Machine, entries: readonly Entry[]): void {
    this.#judging(() => this.#invariants.persisting(machine, entries))
    const changes = entries.some(({ payload }) => payload.type === 'membership')
    if (changes && machine.status()?.role === 'leader') this.#faults.did('change', machine)
    const [first] = entries
    if (first !== undefined && first.index <= (machine.cache?.lastIndex() ?? 0)) {
      this.#faults.did('truncation', machine)
    }
  }

  compacting(machine: Machine, upTo: number): void {
    this.#trace.note(machine.name, 'compacts', [upTo], () => `up to ${upTo}`)
    this.#faults.did('compaction', machine)
  }

  /** A session that is begun twice goes on over a new link. */
  #snapshotSent(peers: Peers, part: ToReceiver): void {
    if (this.#current !== undefined) {
      this.#trace.note(this.#current.name, `snapshot ${part.type}`, [part.session], () =>
        JSON.stringify({ ...part, bytes: undefined }),
      )
    }
    if (part.type !== 'begin') return
    const begun = this.#snapshots.get(peers) === part.session
    this.#snapshots.set(peers, part.session)
    if (begun) this.#marks.reach('snapshot goes on over a new link')
  }

  /** In some seeds a part comes twice, or late as well, while the same processes run. */
  #snapshotReceived(from: string, deliver: () => void): void {
    deliver()
    const machine = this.#current
    const { repeatChance, electionMs } = this.#swarm
    const host = machine?.host
    if (host === undefined || this.#phase !== 'faults' || this.#repeats() > repeatChance) return
    const sender = this.#byId.get(from)?.process?.incarnation
    this.#marks.reach('snapshot part repeated or late')
    host.after(this.#repeats() * this.#repeats() * electionMs, () => {
      if (this.#byId.get(from)?.process?.incarnation === sender) deliver()
    })
  }

  switching(machine: Machine, to: StateSwitch): void {
    // From here on it applies nothing that lies below.
    this.#switchedAt.set(machine.name, this.#time.now)
    this.#faults.did('switch', machine)
    const { index, term } = to.last
    this.#trace.note(
      machine.name,
      'switches',
      [index, term],
      () => `to a state at ${index}@${term}`,
    )
    this.#judging(() => this.#invariants.switching(machine, to))
  }

  switched(machine: Machine, to: StateSwitch): void {
    this.#switchedAt.set(machine.name, this.#time.now)
    this.#judging(() => this.#invariants.switched(machine, to))
  }

  /** Where the code under test takes every error for one of its disk: what does not hold is written down before. */
  #judging(judge: () => void): void {
    try {
      judge()
    } catch (error) {
      this.broken(error)
      throw error
    }
  }

  #sent(message: Message): void {
    const machine = this.#byId.get(message.from)
    const to = this.#byId.get(message.to)
    if (machine === undefined) return
    const { type, term } = message
    this.#trace.note(machine.name, type, [to?.index ?? -1, term], () => describe(message, to))
    this.#invariants.sent(machine, message)
    if (type === 'vote-reply' && message.granted) this.#faults.did('vote', machine)
    if (type === 'timeout-now') this.#faults.handsOver()
    if (type === 'pre-vote') this.#faults.campaigns(machine)
  }

  /** Delivers a message, and in some seeds once more, or late, while the same process runs. */
  #received(original: Message, pass: (message: Message) => void): void {
    const message = this.#faults.trimmed(original)
    const deliver = (): void => pass(message)
    const { repeatChance, electionMs } = this.#swarm
    const machine = this.#byId.get(message.to)
    const own = message.from === message.to
    if (machine !== undefined) this.#lookForOvertaken(machine, message)
    if (machine === undefined || own || repeatChance === 0 || this.#phase !== 'faults') {
      deliver()
      return
    }
    const dice = this.#repeats()
    const sender = this.#byId.get(message.from)?.process?.incarnation
    const host = machine.host
    if (dice > repeatChance / 2) deliver()
    if (dice > repeatChance || host === undefined) return
    this.#marks.reach('message repeated or late')
    host.after(this.#repeats() * this.#repeats() * electionMs, () => {
      if (this.#byId.get(message.from)?.process?.incarnation === sender) deliver()
    })
  }

  /**
   * An append of a later term than what is being persisted. It never carries entries: a leader sends them once its
   * empty probe is acknowledged, and that waits for this persist. So no entry is cut while it is on its way to disk.
   */
  #lookForOvertaken(machine: Machine, message: Message): void {
    const [first] = machine.cache?.persisting ?? []
    if (message.type !== 'append' || first === undefined || first.term >= message.term) return
    this.#invariants.once(`overtaken ${machine.index} ${first.index}@${first.term}`, () =>
      this.#marks.reach('new leader heard while old entries are being persisted'),
    )
  }

  // ---- Failing ----------------------------------------------------------------------------------

  #unhandled(error: unknown): void {
    if (this.#current === undefined) this.broken(error)
    else this.#current.threw(error)
  }

  broken(error: unknown): void {
    if (this.#failure !== undefined || this.#phase === 'over') return
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    const { seed, long } = this.#options
    const message = `seed ${seed}${long ? ' (long)' : ''}, event ${this.#trace.events}: ${text}`
    const invariant = error instanceof InvariantError ? error.invariant : undefined
    this.#failure = { message, transcript: this.#trace.transcript(), invariant }
    for (const client of this.#clients) client.leave()
    this.#end()
  }

  result(): SimulationResult {
    const { acknowledged, refused, unknown } = this.#judge
    return {
      seed: this.#options.seed,
      long: this.#options.long,
      hash: this.#trace.hash,
      events: this.#trace.events,
      simulatedMs: this.#time.now,
      operations: acknowledged,
      refused,
      unknown,
      faults: this.#faults.injected,
      faultsByName: this.#faults.counts,
      size: this.#swarm.size,
      elections: this.#invariants.elections,
      lost: this.#machines.filter(({ lost }) => lost !== undefined).length,
      marks: this.#marks.counts(),
      failure: this.#failure,
      history: this.#judge instanceof Recorder ? this.#judge.history : [],
    }
  }
}

/** An entry reaches its disk that makes the membership joint, and leaves it out in the end. */
function isOwnLeaving(machine: Machine, operation: Write): boolean {
  if (operation.type !== 'put' || operation.database !== 'log') return false
  const index = readUint64(operation.key, 0)
  const { index: at, membership } = machine.inForce[index] ?? {}
  if (at !== index || membership?.outgoing?.includes(machine.id) !== true) return false
  return !votersOf(membership).includes(machine.id)
}

function banned(name: string): () => number {
  return () => {
    throw new Error(`${name} in a simulation: it would not be the same run again`)
  }
}

function describe(message: Message, to: Machine | undefined): string {
  const { type, from: _from, to: _to, ...rest } = message
  const text = JSON.stringify(rest, (key, value: unknown) => {
    if (key === 'entries' && Array.isArray(value)) return value.length
    return key === 'id' ? undefined : value
  })
  return `to ${to?.name ?? '?'} ${text}`
}
