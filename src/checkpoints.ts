/*
 * When the applied state is made durable, and what becomes of the log behind it. A checkpoint is due when a restart
 * would have to replay too much, or when the memtable is full; the log that it makes superfluous goes, as far as the
 * slowest member allows. It decides only when: how is the store's business, and raft's.
 */

import { type Entry, entryBytes, type Index, type NodeId, type Slowest } from '../raft/types.ts'
import type { StateStore } from '../storage/state-store.ts'
import type { Config } from './config.ts'
import type { Logger } from './logger.ts'
import type { Clock } from './network.ts'

export interface CheckpointsOptions {
  readonly config: Config
  readonly clock: Clock
  readonly log: Logger
  readonly state: StateStore
  /** Bytes of log that are kept. */
  readonly logBytes: () => number
  /** The log up to this index is not needed by this node any more. */
  readonly compactTo: (index: Index) => void
  readonly slowest: () => Slowest | undefined
  readonly wake: () => void
  readonly fatal: (reason: string) => void
}

export class Checkpoints {
  readonly #options: CheckpointsOptions
  /** Bytes of entries applied since the last checkpoint began. */
  #bytesToReplay = 0
  #complainedOf: NodeId | undefined
  #running: Promise<void> | undefined

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
    if (this.#running !== undefined) return
    if (!state.isFull() && this.#bytesToReplay < config.get('memtable-size')) return
    this.#running = this.#run()
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

  /** Until a member that is far behind can be sent a snapshot, its entries are kept, however many they are. */
  watchLog(): void {
    const slowest = this.#options.slowest()
    const kept = this.#options.logBytes()
    const complains = slowest !== undefined && kept > this.#options.config.get('log-retain-max')
    if (!complains) this.#complainedOf = undefined
    else if (this.#complainedOf !== slowest.id) {
      this.#complainedOf = slowest.id
      const { id, match } = slowest
      this.#options.log.warn(
        { slowest: id, match, bytes: kept },
        'the log exceeds log-retain-max: the slowest member holds its compaction back',
      )
    }
  }
}
