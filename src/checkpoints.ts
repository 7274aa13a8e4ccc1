/*
 * When the applied state is made durable, and what becomes of the log behind it. A checkpoint is due when a restart
 * would have to replay too much, or when the memtable is full; the log that it makes superfluous goes. It decides only
 * when: how is the store's business, and raft's.
 */

import { assert } from '../raft/assert.ts'
import type { StateMachine } from '../raft/ports.ts'
import { entryBytes, type Index } from '../raft/types.ts'
import type { StateStore } from '../storage/state-store.ts'
import type { Config } from './config.ts'
import { isDigestRequest } from './digest-check.ts'
import type { Logger } from './logger.ts'
import type { Clock } from './network.ts'

export interface CheckpointsOptions {
  readonly config: Config
  readonly clock: Clock
  readonly log: Logger
  readonly state: StateStore
  /** The log up to this index is not needed by this node any more. */
  readonly compactTo: (index: Index) => void
  readonly wake: () => void
  readonly fatal: (reason: string) => void
}

export class Checkpoints {
  readonly #options: CheckpointsOptions
  /** Bytes of entries applied since the last checkpoint began. */
  #bytesToReplay = 0
  #running: Promise<void> | undefined
  #held = false
  /** Whoever asked for the next checkpoint, all of them together. */
  #asked: { readonly done: Promise<void>; readonly resolve: () => void } | undefined
  #savedAt: number
  /** The entry of a request for a digest that was applied: nothing more is, until a checkpoint of that moment begins. */
  #digestAt: Index | undefined
  #digestMade: (index: Index, digest: string) => void = () => {}

  constructor(options: CheckpointsOptions) {
    this.#options = options
    this.#savedAt = options.clock.wall()
  }

  /** When the state last was known to be durable, in ms of the wall clock: at first, when it was opened. */
  get savedAt(): number {
    return this.#savedAt
  }

  /** What a restart would have to replay, in bytes of entries; after a start it counts from there. */
  get bytesToReplay(): number {
    return this.#bytesToReplay
  }

  /** Resolves when everything that is applied now is durable in the state, whether or not a checkpoint is due. */
  save(): Promise<void> {
    if (this.#asked === undefined) {
      let resolve = (): void => {}
      const done = new Promise<void>((settle) => {
        resolve = settle
      })
      this.#asked = { done, resolve }
      this.#options.wake()
    }
    return this.#asked.done
  }

  get running(): Promise<void> | undefined {
    return this.#running
  }

  /** The state machine, with an eye on how much a restart would have to replay. */
  watching(machine: StateMachine): StateMachine {
    return {
      appliedIndex: () => machine.appliedIndex(),
      canApply: () => this.#digestAt === undefined && machine.canApply(),
      apply: (entry) => {
        const bytes = machine.apply(entry)
        if (isDigestRequest(entry)) this.#digestAt = entry.index
        this.#bytesToReplay += entryBytes(entry)
        return bytes
      },
    }
  }

  beginIfDue(): void {
    const { state, config } = this.#options
    if (this.#running !== undefined || this.#held) return
    const isDue = state.isFull() || this.#bytesToReplay >= config.get('memtable-size')
    if (!isDue && this.#asked === undefined && this.#digestAt === undefined) return
    this.#running = this.#run()
  }

  /** No checkpoint begins until release(); resolves when none runs. */
  async hold(): Promise<void> {
    this.#held = true
    await this.#running
  }

  release(): void {
    this.#held = false
  }

  /** The state is another one, and durable: nothing is to be replayed. */
  replaced(): void {
    this.#bytesToReplay = 0
    this.#digestAt = undefined
    this.#savedAt = this.#options.clock.wall()
  }

  /** `made` hears the digest of the state at each entry that asks for it. */
  watchDigests(made: (index: Index, digest: string) => void): void {
    this.#digestMade = made
  }

  #tellDigest(index: Index): void {
    const { state } = this.#options
    const made = state.metrics().lastCheckpoint
    const at = state.durableAt().index
    assert(made !== undefined && at === index, () => `the digest of entry ${at}, not of ${index}`)
    this.#digestMade(index, made.digest)
  }

  async #run(): Promise<void> {
    const { state, log, clock, fatal } = this.#options
    const started = clock.monotonic()
    const asked = this.#asked
    const digestAt = this.#digestAt
    this.#asked = undefined
    this.#bytesToReplay = 0
    try {
      const made = state.checkpoint()
      // What is applied from here on goes into another memtable.
      this.#digestAt = undefined
      const { index } = await made
      const ms = Math.round(clock.monotonic() - started)
      log.info({ index, ms, writes: state.metrics().lastCheckpoint?.writes }, 'checkpoint')
      this.#savedAt = clock.wall()
      asked?.resolve()
      if (digestAt !== undefined) this.#tellDigest(digestAt)
      this.#options.compactTo(index)
    } catch (error) {
      fatal(`the checkpoint failed: ${String(error)}`)
    }
    this.#running = undefined
    this.#options.wake()
  }
}
