/*
 * How much room the disk has left, and what follows from it: below one floor no write is taken into the log, below a
 * lower one this node gives up leadership, so that one with more room takes the writes. Both pass by themselves when
 * there is room again, and a little more than the floor, so that neither comes and goes with every file. It knows no
 * disk: the reading is a port. What happens when there is no room at all is the engine's business.
 */

import type { RaftNode } from '../raft/node.ts'
import { ErrorReply } from '../resp/encoder.ts'
import type { Config } from './config.ts'
import type { Logger } from './logger.ts'
import type { Clock } from './network.ts'

export interface DiskSpaceOptions {
  readonly config: Config
  readonly clock: Clock
  readonly log: Logger
  /** Bytes that this process may still write where its data lies. */
  readonly freeBytes: () => number
}

type Floor = 'disk-free-min' | 'disk-free-leader-min'

const LOOK_MS = 100
/** A floor is left behind only when there is so much more room than it, as a part of it. */
const MARGIN = 1 / 8
/** Where all disks are full, leadership would go round: it is given up no more often than this. */
const HAND_OVER_MS = 10_000
const REFUSAL = new ErrorReply(
  "OOM command not allowed: the leader's disk has less room than disk-free-min; it was not executed",
)

export class DiskSpace {
  readonly #options: DiskSpaceOptions
  readonly #below = new Set<Floor>()
  #lookAt = Number.NEGATIVE_INFINITY
  #handOverAt = Number.NEGATIVE_INFINITY
  #free: number

  constructor(options: DiskSpaceOptions) {
    this.#options = options
    this.#free = options.freeBytes()
  }

  /** As it was last seen. */
  get freeBytes(): number {
    return this.#free
  }

  /** What a write is answered with that must not be appended now; undefined: it may be. */
  get refusal(): ErrorReply | undefined {
    return this.#below.has('disk-free-min') ? REFUSAL : undefined
  }

  /** Every tick. */
  work(raft: Pick<RaftNode, 'isLeader' | 'transferLeadership'> | undefined): void {
    const now = this.#options.clock.monotonic()
    if (now < this.#lookAt) return
    this.#lookAt = now + LOOK_MS
    this.#free = this.#options.freeBytes()
    this.#look('disk-free-min', 'writes are refused')
    this.#look('disk-free-leader-min', 'this node leads no longer than it must')
    if (!this.#below.has('disk-free-leader-min') || raft?.isLeader !== true) return
    if (now < this.#handOverAt || raft.transferLeadership() !== 'begun') return
    this.#handOverAt = now + HAND_OVER_MS
    this.#options.log.warn({ freeBytes: this.#free }, 'the disk is nearly full: handing over')
  }

  #look(floor: Floor, consequence: string): void {
    const { config, log } = this.#options
    const min = config.get(floor)
    const wasBelow = this.#below.has(floor)
    const isBelow = this.#free < (wasBelow ? min * (1 + MARGIN) : min)
    if (isBelow === wasBelow) return
    const facts = { freeBytes: this.#free, [floor]: min }
    if (isBelow) {
      this.#below.add(floor)
      log.warn(facts, `the disk has less room than ${floor}: ${consequence}`)
    } else {
      this.#below.delete(floor)
      log.info(facts, `the disk has room again: ${floor}`)
    }
  }
}
