/*
 * WAIT and WAITAOF: connections that wait until enough members have their last write on disk. A leader knows how far
 * each member is; any other node asks its leader, tick by tick, as long as somebody waits. It knows no raft, no link
 * and no timer.
 */

import type { Index } from '../raft/types.ts'

/** How far the leader's log is durable, and those of the other members. */
export interface Progress {
  readonly durable: Index
  readonly matches: readonly Index[]
}

/** How many have a write on their disks. */
export interface Copies {
  /** The leader: 1 or 0. */
  readonly local: number
  /** Other members. */
  readonly replicas: number
}

export interface Wait {
  /** Of the write; undefined while it has no answer. */
  readonly index: () => Index | undefined
  readonly wanted: Copies
  /** Monotonic ms at which it is answered with what there is; Infinity: never. */
  readonly deadline: number
  /** Nobody waits any more. */
  readonly isOver: () => boolean
}

interface Waiting extends Wait {
  readonly resolve: (copies: Copies) => void
}

export interface ReplicationWaitsPorts {
  now(): number
  /** undefined: this node does not lead. */
  ownProgress(): Progress | undefined
  /** Asks the leader for its; may be lost. */
  ask(): void
}

export class ReplicationWaits {
  readonly #ports: ReplicationWaitsPorts
  readonly #waiting = new Set<Waiting>()
  /** What the leader told last. */
  #told: Progress | undefined

  constructor(ports: ReplicationWaitsPorts) {
    this.#ports = ports
  }

  /** Another leader, or the same in another term. */
  follow(): void {
    this.#told = undefined
  }

  told(progress: Progress): void {
    this.#told = progress
    this.work()
  }

  /** Resolves as soon as there are as many copies as wanted, or at the deadline with as many as there are. */
  wait(wait: Wait): Promise<Copies> {
    return new Promise((resolve) => {
      this.#waiting.add({ ...wait, resolve })
      this.work()
      this.ask()
    })
  }

  /** Once a turn. */
  work(): void {
    if (this.#waiting.size === 0) return
    const progress = this.#ports.ownProgress() ?? this.#told
    const now = this.#ports.now()
    for (const waiting of this.#waiting) {
      const { wanted, deadline, resolve } = waiting
      const copies = copiesOf(waiting.index(), progress)
      const enough = copies.local >= wanted.local && copies.replicas >= wanted.replicas
      if (!enough && now < deadline && !waiting.isOver()) continue
      this.#waiting.delete(waiting)
      resolve(copies)
    }
  }

  /** Once a tick. */
  ask(): void {
    if (this.#waiting.size > 0 && this.#ports.ownProgress() === undefined) this.#ports.ask()
  }
}

function copiesOf(index: Index | undefined, progress: Progress | undefined): Copies {
  if (index === undefined || progress === undefined) return { local: 0, replicas: 0 }
  const replicas = progress.matches.filter((match) => match >= index).length
  return { local: progress.durable >= index ? 1 : 0, replicas }
}
