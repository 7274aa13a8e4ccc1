/*
 * When the applied state is made durable, and what becomes of the log behind it. A checkpoint is due when a restart
 * would have to replay too much, or when the memtable is full; the log that it makes superfluous goes. It decides only
 * when: how is the store's business, and raft's.
 */

import { type Entry, entryBytes, type Index } from '../raft/types.ts'
import type { StateStore } from '../storage/state-store.ts'
import type { Config } from './config.ts'
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

  constructor(options: CheckpointsOptions) {
    this.#options = options
  }

  get running(): Promise<void> | undefined {
    return this.#running
  }

  applied(entry: Entry): void {
    this.#bytesToReplay += entryBytes(entry)
  }

  beginIfDue(): void {
    const { state, config } = this.#options
    if (this.#running !== undefined || this.#held) return
    if (!state.isFull() && this.#bytesToReplay < config.get('memtable-size')) return
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
  }

  async #run(): Promise<void> {
    const { state, log, clock, fatal } = this.#options
    const started = clock.monotonic()
    this.#bytesToReplay = 0
    try {
      const { index } = await state.checkpoint()
      const ms = Math.round(clock.monotonic() - started)
      log.info({ index, ms, writes: state.metrics().lastCheckpoint?.writes }, 'checkpoint')
      this.#options.compactTo(index)
    } catch (error) {
      fatal(`the checkpoint failed: ${String(error)}`)
    }
    this.#running = undefined
    this.#options.wake()
  }
}
