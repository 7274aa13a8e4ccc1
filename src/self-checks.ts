/*
 * What a node does, tick by tick, to know that it may go on: it looks at the room on its disk, reads its state through,
 * and compares it with that of the others. It only connects; each part knows what it looks for.
 */

import type { RaftNode } from '../raft/node.ts'
import type { Index, Member, NodeId } from '../raft/types.ts'
import type { LoggedCommand } from '../storage/codec.ts'
import type { Checkpoints } from './checkpoints.ts'
import { DigestCheck } from './digest-check.ts'
import type { Note } from './peer-messages.ts'
import type { ReplicaOptions } from './replica-ports.ts'
import { Scrub } from './scrub.ts'

export interface SelfChecksOptions extends ReplicaOptions {
  readonly checkpoints: Checkpoints
  /** Whether this node leads and takes commands. */
  readonly leads: () => boolean
  readonly members: () => readonly Member[]
  readonly propose: (command: LoggedCommand) => Index | undefined
  readonly tell: (to: NodeId, note: Note) => void
}

export class SelfChecks {
  readonly scrub: Scrub
  readonly #digests: DigestCheck
  readonly #options: SelfChecksOptions

  constructor(options: SelfChecksOptions) {
    this.#options = options
    const { config, clock, checkpoints, tell } = options
    this.scrub = new Scrub(options)
    this.#digests = new DigestCheck({
      ...options,
      now: () => clock.monotonic(),
      intervalMs: () => config.get('digest-interval-ms'),
      mayAsk: () => options.leads() && checkpoints.running === undefined,
      tell: (to, index, digest) => tell(to, { type: 'digest-told', index, digest }),
    })
    checkpoints.watchDigests((index, digest) => this.#digests.made(index, digest))
  }

  /** Every tick. */
  work(raft: RaftNode | undefined): void {
    this.#options.space.work(raft)
    this.scrub.work()
    this.#digests.work()
  }

  told(from: NodeId, { index, digest }: Note & { type: 'digest-told' }): void {
    this.#digests.told(from, index, digest)
  }
}
