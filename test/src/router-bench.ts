/*
 * A router with everything around it in the test's hand: a real keyspace over memory, and a log, read rounds, links
 * and a clock that move only when the test says so. Replies are kept beside their calls as a client would read them.
 */

import assert from 'node:assert/strict'
import type { ProposeResult } from '../../raft/core.ts'
import type { Index, NodeId, Payload, Term } from '../../raft/types.ts'
import { ErrorReply, type Protocol, type Reply } from '../../resp/encoder.ts'
import { Call, type CallOwner, Stream } from '../../src/call.ts'
import { resolve } from '../../src/commands/table.ts'
import { limits as limitsOfAll } from '../../src/config.ts'
import { fence, type Keyspace } from '../../src/keyspace.ts'
import type { LongReads } from '../../src/long-reads.ts'
import type { Route } from '../../src/route.ts'
import { Router } from '../../src/router.ts'
import type { RouterLimits, RouterOptions, RouterPorts } from '../../src/router-ports.ts'
import { decodeCommands, encodeCommands, type Origin } from '../../storage/codec.ts'
import { argv, keyspaceOver, MemoryStore, silent, wire } from './command-fixture.ts'

export const PARK_MS = 1000
/** The node under test, and another one that forwards to it. */
const SELF: Origin = { node: 'self', incarnation: 3 }
const OTHER: Origin = { node: 'other', incarnation: 3 }

export class RouterBench {
  now = 0
  readonly #made = keyspaceOver(new MemoryStore(), silent, {
    origin: SELF,
    take: (tag) => this.router.takeForwarded(tag),
    skippedTo: (index) => this.router.skippedTo(index),
  })
  readonly keyspace: Keyspace = this.#made.keyspace
  readonly longReads: LongReads = this.#made.longReads
  /** The leader's time as this node knows it. */
  leaderNow = 0
  /** The clocks that reads wait for, as they were asked for. */
  readonly awaited: number[] = []
  /** From index 1 on; what stands behind the applied index may be replaced. */
  readonly log: { term: Term; payload: Payload }[] = []
  /** In which this node would propose now; undefined: it does not lead. */
  term: Term | undefined
  /** How many more entries there is room for. */
  room: number = Number.POSITIVE_INFINITY
  /** How often entries were encoded. */
  encoded = 0
  readonly rounds: ((confirmed: boolean) => void)[] = []
  readonly frames: { leader: NodeId; term: Term; first: number; calls: readonly Call[] }[] = []
  readonly fences: { leader: NodeId; term: Term; tag: number }[] = []
  linkUp = true
  wakes = 0
  /** Turns asked for at a time. */
  readonly timers: { at: number; due: () => void }[] = []
  readonly options: { -readonly [Name in keyof RouterOptions]: RouterOptions[Name] } = {
    readConsistency: 'linearizable',
    redirect: 'forward',
    parkTimeoutMs: PARK_MS,
    parkBytes: 1000,
    writeWorkMax: 1_073_741_824,
    refusal: undefined,
  }
  /** Of every value in what is applied. */
  valueLength = 0
  isCheckpointing = false
  readonly router: Router

  constructor(limits: Partial<RouterLimits> = {}) {
    this.router = new Router({
      ports: {
        now: () => this.now,
        logicalNow: () => {
          this.encoded++
          return 1000 + this.now
        },
        propose: ([data]) => this.#propose(data),
        expect: (index, batch) => this.keyspace.expect(index, batch),
        forget: (index, batch) => this.keyspace.forget(index, batch),
        read: (done) => void this.rounds.push(done),
        run: ({ command, database, args }, time) => {
          assert.ok(command.kind === 'read')
          const applied = this.keyspace.clock()
          const moment =
            time === 'leader'
              ? { now: Math.max(this.leaderNow, applied), applied }
              : { now: applied, applied: undefined }
          return this.keyspace.readAt(moment, command, database, args)
        },
        appliedClock: () => this.keyspace.clock(),
        awaitClock: (clock) => void this.awaited.push(clock),
        appliedIndex: () => this.keyspace.appliedIndex(),
        strangersCommands: () => this.keyspace.counts.strangers,
        isCheckpointing: () => this.isCheckpointing,
        appliedTerm: () => this.keyspace.appliedTerm(),
        valueLength: () => this.valueLength,
        keySlot: (command) => (command.keys === undefined ? undefined : 7),
        forward: (leader, term, calls) => this.forward(leader, term, calls),
        fence: (leader, term, tag) => this.fence(leader, term, tag),
        clientAddress: (id) => `${id}:6379`,
        wake: () => this.wakes++,
        wakeAfter: (ms, due) => void this.timers.push({ at: this.now + ms, due }),
      },
      options: this.options,
      limits: {
        entryCommands: 1000,
        entryBytes: 1_048_576,
        entryKeys: 1000,
        entryWeight: 134_217_728,
        entryWaitMs: 0,
        readWaitMs: 0,
        readTurnMs: 8,
        writeKeys: 2500,
        unappliedBytes: 1_048_576,
        heavyWrites: { ...limitsOfAll.heavyWrites, bytesMin: Number.POSITIVE_INFINITY },
        forwardBytes: 10_000,
        backlogBytes: 10_000,
        ...limits,
      },
    })
  }

  #propose(data: Uint8Array | undefined): ProposeResult {
    const { term } = this
    if (term === undefined) return { accepted: false, reason: 'not-leader' }
    if (this.room === 0) return { accepted: false, reason: 'full' }
    this.room--
    assert.ok(data)
    this.log.push({ term, payload: { type: 'commands', data } })
    return { accepted: true, term, first: this.log.length }
  }

  /** Where calls for a leader go: noted, unless a test puts a sender in its place. */
  forward: RouterPorts['forward'] = (leader, term, calls) => {
    const first = calls[0]?.tag ?? 0
    for (const [i, { tag }] of calls.entries()) assert.equal(tag, first + i)
    if (this.linkUp) this.frames.push({ leader, term, first, calls: [...calls] })
    return this.linkUp
  }

  fence: RouterPorts['fence'] = (leader, term, tag) => {
    if (this.linkUp) this.fences.push({ leader, term, tag })
    return this.linkUp
  }

  /** The leader of the term of these frames has put what they hold into one entry. */
  appended(...frames: readonly number[]): void {
    const found = frames.flatMap((at) => this.frames[at] ?? [])
    const writes = found.flatMap(({ first, calls }) => {
      return calls.map((call, i) => ({ call, tag: first + i })).filter(({ call }) => !call.isRead)
    })
    const logged = writes.map(({ call: { database, args } }) => ({ database, argv: args }))
    const runs = writes.map(({ tag }, place) => ({ origin: SELF, place, count: 1, tag }))
    const data = encodeCommands(1000 + this.now, logged, runs)
    this.log.push({ term: found[0]?.term ?? 0, payload: { type: 'commands', data } })
  }

  /** A leader has logged commands of clients that are connected elsewhere. */
  logOf(term: Term, ...commands: readonly string[]): void {
    const logged = commands.map((words) => ({ database: 0, argv: argv(words.split(' ')) }))
    const data = encodeCommands(1000 + this.now, logged)
    this.log.push({ term, payload: { type: 'commands', data } })
  }

  /** The same of the fence. */
  fenced(at: number): void {
    const { term = 0, tag = 0 } = this.fences[at] ?? {}
    const runs = [{ origin: SELF, place: 0, count: 1, tag }]
    const data = encodeCommands(1000 + this.now, [{ database: 0, argv: fence.args }], runs)
    this.log.push({ term, payload: { type: 'commands', data } })
  }

  /** A leader takes office, and its first entry is applied here. */
  succeeded(term: Term): void {
    this.log.push({ term, payload: { type: 'noop' } })
    this.apply()
    this.router.flush()
  }

  /** This node leads from now on, its no-op applied. */
  lead(term: Term): void {
    this.term = term
    this.log.push({ term, payload: { type: 'noop' } })
    this.apply()
    this.route({ kind: 'self', term, established: true })
  }

  /** Another node leads from now on. */
  follow(leader: NodeId, term: Term): void {
    this.term = undefined
    this.route({ kind: 'leader', leader, term })
  }

  lose(): void {
    this.term = undefined
    this.route({ kind: 'none' })
  }

  route(route: Route): void {
    this.router.setRoute(route)
    this.router.flush()
  }

  /** Everything in the log, or up to an index, is applied. */
  apply(upTo: Index = this.log.length): void {
    for (let index = this.keyspace.appliedIndex() + 1; index <= upTo; index++) {
      const entry = this.log[index - 1]
      assert.ok(entry)
      this.keyspace.apply({ index, ...entry, encoded: undefined })
    }
    this.router.afterApply()
  }

  /** Another leader's no-op takes the place of what was not applied. */
  overwrite(term: Term): void {
    this.log.splice(this.keyspace.appliedIndex())
    this.log.push({ term, payload: { type: 'noop' } })
  }

  /** All rounds asked for so far are answered. */
  answerRounds(confirmed: boolean): void {
    for (const done of this.rounds.splice(0)) done(confirmed)
  }

  tick(ms: number): void {
    this.now += ms
    this.router.expire()
    this.router.flush()
  }

  /** The commands of an entry, as words. */
  entry(index: Index): readonly string[] {
    const payload = this.log[index - 1]?.payload
    if (payload?.type !== 'commands') return []
    return decodeCommands(payload.data).commands.map(({ argv: words }) => text(words))
  }

  /** The words of each frame handed over, oldest first. */
  get handed(): readonly (readonly string[])[] {
    return this.frames.map(({ calls }) => calls.map(({ args }) => text(args)))
  }
}

function text(args: readonly Uint8Array[]): string {
  return args.map((arg) => Buffer.from(arg).toString('latin1')).join(' ')
}

/** One connection: its calls in order, and what each was answered. */
export class Caller implements CallOwner {
  readonly stream: Stream = new Stream()
  readonly calls: Call[] = []
  readonly #answers = new Map<Call, string>()
  readonly #bench: RouterBench
  readonly #remote: boolean
  readonly #protocol: Protocol

  constructor(bench: RouterBench, options: { remote?: boolean; protocol?: Protocol } = {}) {
    this.#bench = bench
    this.#remote = options.remote ?? false
    this.#protocol = options.protocol ?? 2
  }

  /** Submits a command given as words; nothing is placed before the next flush. */
  submit(words: string): Call {
    const args = argv(words.split(' '))
    const command = resolve(args)
    assert.ok(!(command instanceof ErrorReply) && command.kind !== 'local')
    const call = new Call({
      owner: this,
      stream: this.stream,
      command,
      args,
      database: 0,
      protocol: this.#protocol,
      deadline: this.#bench.now + PARK_MS,
      tag: this.calls.length,
      ...(this.#remote && { origin: OTHER }),
    })
    this.calls.push(call)
    this.#bench.router.submit(call)
    return call
  }

  /** Submits all of them in one turn. */
  send(...commands: readonly string[]): void {
    for (const words of commands) this.submit(words)
    this.#bench.router.flush()
  }

  answered(call: Call, reply: Reply, _index: Index): void {
    assert.ok(!this.#answers.has(call), 'answered twice')
    this.#answers.set(call, wire(reply).trimEnd().replaceAll('\r\n', ' '))
  }

  refused(call: Call): void {
    assert.ok(this.#remote, 'a call of a client is never refused')
    this.#answers.set(call, 'refused')
  }

  dropped(call: Call): void {
    assert.ok(this.#remote, 'a call of a client is never dropped')
    this.#answers.set(call, 'dropped')
  }

  /** Per call, in order: its reply, shortened to the first word where it is an error. */
  get replies(): readonly (string | undefined)[] {
    return this.calls.map((call) => {
      const reply = this.#answers.get(call)
      return reply?.startsWith('-') && !reply.startsWith('-MOVED') ? reply.split(' ')[0] : reply
    })
  }

  get lastText(): string | undefined {
    const call = this.calls.at(-1)
    return call === undefined ? undefined : this.#answers.get(call)
  }
}
