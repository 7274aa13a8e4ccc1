/*
 * Writes of large values, of very many keys, or in very long pipelines, on their way from this node's clients. Every
 * node stores them, so the disks and processors of all are busy with them for a while, also after they are answered, and
 * the commands of others take longer meanwhile. While somebody else is there, they therefore go a few at a time and rest in between: for as
 * long as they took, while the state is written to disk, and as long as others are owed something. For each command of
 * others that was slow so many must be quick before the next heavy ones go, so that slow ones stay rare.
 *
 * Nothing of what waits here was placed, so it may wait for as long as it must, and its connection's later commands wait
 * behind it. Where nobody else is there everything goes at once.
 */

import type { Call, Stream } from './call.ts'
import { keyOf } from './commands/arguments.ts'
import type { CalledPart } from './commands/command.ts'
import type { RouterPorts } from './router-ports.ts'

/** Commands that are watched at a time. */
const WATCHED_MAX = 64
/**
 * Other nodes' clients are not watched. Beside them heavy writes rest for so many times as long as they took, and for
 * longer where one was so large, and they took so long, that others must have been slow.
 */
const REST_BESIDE_STRANGERS = 3
const LONG_REST_BESIDE_STRANGERS = 24

export interface HeavyWriteLimits {
  /** A write that carries, is given and makes so many bytes of values is one. */
  readonly bytesMin: number
  /** Each of its keys, or operations, is as much work as so many bytes. */
  readonly bytesPerKey: number
  /** Writes are heavy, too, where so many commands of their connection are unanswered. */
  readonly pipelineMin: number
  /** They go in batches of so many bytes; one larger write goes alone. */
  readonly batchBytes: number
  /** Somebody else is there who sent a command within so many ms. */
  readonly othersMs: number
  /** A command of others is slow that takes so many ms, and for each such one so many must be quick. */
  readonly slowMs: number
  readonly quickPerSlow: number
  /** No batch rests for longer, but while the state is written to disk, and then for so long. */
  readonly restMsMax: number
  readonly checkpointMsMax: number
  /** Where more bytes of arguments rest, clients are read no further. */
  readonly restingBytesMax: number
}

type Ports = Pick<
  RouterPorts,
  'now' | 'wake' | 'valueLength' | 'strangersCommands' | 'isCheckpointing'
>

interface Waiting {
  readonly call: Call
  /** What #bytesOf() said of it; undefined: nobody asked yet. */
  weight: number | undefined
}

interface Watched {
  readonly call: Call
  readonly since: number
  /** No heavy write was under way when it came. */
  readonly inQuiet: boolean
}

export class HeavyWrites {
  readonly #ports: Ports
  readonly #limits: HeavyWriteLimits
  readonly #place: (call: Call) => void
  readonly #isAnsweredAtOnce: (call: Call) => boolean
  /** Per connection a heavy write and whatever came behind it. The first one goes next. */
  readonly #waiting = new Map<Stream, Waiting[]>()
  #waitingCalls = 0
  #waitingBytes = 0
  /** CLIENT PAUSE. */
  #pausedUntil = 0
  /** Those under way. */
  #batch: Call[] = []
  #batchBytes = 0
  /** The most bytes of one of them. */
  #heaviest = 0
  #begunAt = 0
  /** When the last heavy write came or was answered. */
  #heavyAt = 0
  /** When the last batch ended, and until when the next one rests at least. */
  #endedAt = 0
  #restUntil = 0
  /** From when on nobody is owed anything any more. */
  #patientUntil = 0
  /** Heavy writes came of late, so that others are watched. */
  #isWatching = false
  /** When a command of another connection of this node came, and when one of anybody else was seen. */
  #neighboursAt = Number.NEGATIVE_INFINITY
  #othersAt = Number.NEGATIVE_INFINITY
  /** The connection whose command was the last one of others. */
  #other: Stream | undefined
  #strangersCommands = 0
  #watched: Watched[] = []
  /** Quick commands that others are owed. */
  #owed = 0

  constructor(options: {
    ports: Ports
    limits: HeavyWriteLimits
    /** It is no write that anybody would have to store. */
    isAnsweredAtOnce: (call: Call) => boolean
    /** Takes those whose turn has come, in the order of their connection. */
    place: (call: Call) => void
  }) {
    this.#ports = options.ports
    this.#limits = options.limits
    this.#isAnsweredAtOnce = options.isAnsweredAtOnce
    this.#place = options.place
  }

  /** Calls that wait here. */
  get calls(): number {
    return this.#waitingCalls
  }

  /** What their arguments occupy. */
  get bytes(): number {
    return this.#waitingBytes
  }

  /** Whether a client's call waits here from now on. */
  holds(call: Call): boolean {
    const queue = this.#waiting.get(call.stream)
    if (queue === undefined) {
      const bytes = this.#bytesOf(call)
      if (!this.#isHeavy(call, bytes)) {
        this.#watch(call)
        return false
      }
      if (this.#isAnsweredAtOnce(call)) return false
      this.#begin(call.stream)
      if (this.#waiting.size === 0 && this.#isOpen && this.#hasRoomFor(bytes)) {
        // Without others there may be very many of them, of which some tell how long they take.
        if (!this.#isAlone || this.#batch.length < WATCHED_MAX) this.#go(call, bytes)
        return false
      }
      this.#waiting.set(call.stream, [{ call, weight: bytes }])
    } else queue.push({ call, weight: undefined })
    this.#waitingCalls++
    this.#waitingBytes += call.bytes
    return true
  }

  /** Another node handed a command on, which rested there if it had to. */
  handedOn(call: Call): void {
    if (!this.#isWatching) return
    if (this.#isHeavy(call, this.#bytesOf(call))) this.#writesHeavily(call.stream)
    else this.#watch(call)
  }

  /** It is no heavy write. */
  #watch(call: Call): void {
    if (!this.#isWatching) return
    const now = this.#ports.now()
    const { stream } = call
    if (now - stream.heavyAt <= this.#limits.othersMs) return
    this.#neighboursAt = now
    this.#othersAt = now
    this.#other = stream
    // How long one takes that waits for others of its connection, or that reads in slices, says nothing.
    const isLong = call.command.kind === 'read' && call.command.slices !== undefined
    if (isLong || stream.unanswered > 1 || this.#watched.length >= WATCHED_MAX) return
    this.#watched.push({ call, since: now, inQuiet: this.#isQuiet })
  }

  #begin(stream: Stream): void {
    this.#heavyAt = this.#ports.now()
    if (!this.#isWatching) this.#strangersCommands = this.#ports.strangersCommands()
    this.#isWatching = true
    this.#writesHeavily(stream)
  }

  /** Its commands are not those of others, also where the last one was taken for that. */
  #writesHeavily(stream: Stream): void {
    stream.heavyAt = this.#ports.now()
    if (this.#other !== stream) return
    this.#other = undefined
    this.#neighboursAt = Number.NEGATIVE_INFINITY
    this.#othersAt = Number.NEGATIVE_INFINITY
    this.#watched = this.#watched.filter(({ call }) => call.stream !== stream)
  }

  /** Something may have been answered. */
  settle(): void {
    if (!this.#isWatching) return
    const strangers = this.#ports.strangersCommands()
    if (strangers > this.#strangersCommands) this.#othersAt = this.#ports.now()
    this.#strangersCommands = strangers
    this.#judge()
    this.#endBatch()
  }

  /** Those whose turn it is go. */
  work(): void {
    if (!this.#isWatching) return
    this.#endBatch()
    for (const [stream, queue] of this.#waiting) {
      const share = this.#isOpen ? this.#share(queue) : []
      if (share.length === 0) return
      this.#waiting.delete(stream)
      // What is left comes behind those of other connections.
      if (share.length < queue.length) this.#waiting.set(stream, queue.slice(share.length))
      this.#left(share)
      for (const { call } of share) this.#place(call)
    }
    const idleMs = this.#ports.now() - this.#heavyAt
    if (this.#batch.length > 0 || this.#waiting.size > 0 || idleMs <= this.#limits.othersMs) return
    this.#isWatching = false
    this.#watched = []
    this.#owed = 0
    this.#other = undefined
  }

  /**
   * A heavy write, if there is room for it, with the light ones behind it, or as much in light ones alone: now under
   * way.
   */
  #share(queue: readonly Waiting[]): readonly Waiting[] {
    const { bytesMin } = this.#limits
    let isBehindHeavy = false
    let light = 0
    let gone = 0
    for (const waiting of queue) {
      const { call } = waiting
      // Once: to look into a transaction takes a while.
      waiting.weight ??= this.#bytesOf(call)
      const isHeavy = waiting.weight >= bytesMin
      if (!isHeavy) light += waiting.weight
      if (light > bytesMin || (isHeavy && gone > 0)) break
      // Else what is light would wait for the rest of what it is behind.
      if (!isBehindHeavy && !this.#hasRoomFor(waiting.weight)) break
      isBehindHeavy ||= isHeavy
      if (!call.isRead) this.#go(call, waiting.weight)
      gone++
    }
    return queue.slice(0, gone)
  }

  #left(waiting: readonly Waiting[]): void {
    this.#waitingCalls -= waiting.length
    for (const { call } of waiting) this.#waitingBytes -= call.bytes
  }

  /** What rests of a connection rests no more, and is not placed. */
  abandon(stream: Stream): readonly Call[] {
    const queue = this.#waiting.get(stream) ?? []
    this.#waiting.delete(stream)
    this.#left(queue)
    return queue.map(({ call }) => call)
  }

  /** Until then nothing that rests goes. */
  pauseUntil(at: number): void {
    this.#pausedUntil = at
  }

  /** All of them go, because nobody takes commands now: they have their deadlines. */
  release(): void {
    const all = [...this.#waiting.values()].flat()
    this.#waiting.clear()
    this.#left(all)
    for (const { call } of all) this.#place(call)
  }

  #isHeavy({ isRead, stream }: Call, bytes: number): boolean {
    const { bytesMin, pipelineMin } = this.#limits
    return bytes >= bytesMin || (!isRead && stream.unanswered > pipelineMin)
  }

  /** What it carries, is given and makes, with what its keys are worth. */
  #bytesOf({ command, args, database, bytes, work }: Call): number {
    if (command.kind !== 'write') return 0
    let all = bytes + work * this.#limits.bytesPerKey
    if (command.parts === undefined) return all + this.#foreseen({ command, args, database })
    for (const part of command.parts(args)) all += this.#foreseen(part)
    return all
  }

  #foreseen({ command: { foresee }, args, database }: CalledPart): number {
    if (foresee === undefined) return 0
    return foresee(args, (key) => this.#ports.valueLength(database, keyOf(key))).bytes
  }

  get #hasNeighbours(): boolean {
    return this.#ports.now() - this.#neighboursAt <= this.#limits.othersMs
  }

  get #isAlone(): boolean {
    const { othersMs } = this.#limits
    return this.#watched.length === 0 && this.#ports.now() - this.#othersAt > othersMs
  }

  get #isQuiet(): boolean {
    return this.#batch.length === 0 && !this.#ports.isCheckpointing()
  }

  /** The next ones may go, if there is room in their batch. */
  get #isOpen(): boolean {
    const now = this.#ports.now()
    if (now < this.#pausedUntil) return false
    if (this.#isAlone) return true
    if (this.#batch.length > 0) return this.#batchBytes < this.#limits.batchBytes
    if (now < this.#restUntil) return false
    const { checkpointMsMax } = this.#limits
    if (this.#ports.isCheckpointing() && now - this.#endedAt < checkpointMsMax) {
      this.#patientUntil = now + this.#limits.restMsMax
      // Whether somebody was slow meanwhile, nobody here can tell.
      if (!this.#hasNeighbours) this.#restUntil = this.#patientUntil
      return false
    }
    return this.#owed === 0 || now >= this.#patientUntil
  }

  #hasRoomFor(bytes: number): boolean {
    if (this.#isAlone || this.#batch.length === 0) return true
    return this.#batchBytes + bytes <= this.#limits.batchBytes
  }

  #go(call: Call, bytes: number): void {
    const now = this.#ports.now()
    if (this.#batch.length === 0) {
      this.#begunAt = now
      this.#batchBytes = 0
      this.#heaviest = 0
      this.#owed = 0
    }
    this.#batch.push(call)
    this.#batchBytes += bytes
    this.#heaviest = Math.max(this.#heaviest, bytes)
  }

  #endBatch(): void {
    const now = this.#ports.now()
    const { length } = this.#batch
    this.#batch = this.#batch.filter(({ place, stream }) => {
      if (place === 'answered') stream.heavyAt = now
      return place !== 'answered'
    })
    if (length === 0 || this.#batch.length > 0) return
    const { restMsMax } = this.#limits
    const tookMs = now - this.#begunAt
    const restMs = tookMs * (this.#hasNeighbours ? 1 : this.#timesBesideStrangers(tookMs))
    this.#heavyAt = now
    this.#endedAt = now
    this.#restUntil = now + Math.min(restMsMax, restMs)
    this.#patientUntil = now + restMsMax
    if (this.#waiting.size > 0) this.#ports.wake()
  }

  #timesBesideStrangers(tookMs: number): number {
    const { slowMs, batchBytes } = this.#limits
    const isLong = tookMs >= slowMs && this.#heaviest >= batchBytes / 2
    return isLong ? LONG_REST_BESIDE_STRANGERS : REST_BESIDE_STRANGERS
  }

  #judge(): void {
    const now = this.#ports.now()
    const { slowMs, quickPerSlow } = this.#limits
    const open: Watched[] = []
    for (const watched of this.#watched) {
      if (watched.call.place !== 'answered') open.push(watched)
      else if (now - watched.since < slowMs) this.#owed = Math.max(0, this.#owed - 1)
      else if (!watched.inQuiet || !this.#isQuiet) this.#owed += quickPerSlow
      // It was slow for another reason, and so may others have been.
      else this.#owed = Math.max(0, this.#owed - quickPerSlow)
    }
    this.#watched = open
  }
}
