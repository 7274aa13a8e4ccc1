/*
 * When a node is ready: once it has served one linearizable read of nothing. Asked again and again until then,
 * because a cluster may still be starting; what stands in the way is told in words for an operator.
 */

import type { RaftNode } from '../raft/node.ts'
import type { Clock, Timers } from './network.ts'

const RETRY_MS = 20

export interface ReadinessOptions {
  readonly clock: Clock
  readonly timers: Timers
  /** undefined: the node does not belong to a cluster yet. */
  readonly raft: () => RaftNode | undefined
  readonly isStopped: () => boolean
}

/** Resolves with undefined, or with why it could not within `ms`. */
export function whenReady(
  ms: number,
  { clock, timers, raft, isStopped }: ReadinessOptions,
): Promise<string | undefined> {
  const deadline = clock.monotonic() + ms
  return new Promise((resolve) => {
    const attempt = (): void => {
      const node = raft()
      if (node === undefined || isStopped()) {
        const state = isStopped() ? 'is stopping' : 'does not belong to a cluster yet'
        resolve(`this node ${state}`)
        return
      }
      node.read((confirmed) => {
        if (confirmed) resolve(undefined)
        else if (clock.monotonic() >= deadline) resolve(whyNot(node))
        else timers.after(RETRY_MS, attempt)
      })
    }
    timers.after(ms, () => {
      const node = raft()
      resolve(node === undefined ? undefined : whyNot(node))
    })
    attempt()
  })
}

function whyNot(raft: RaftNode): string {
  if (raft.leader === undefined) return 'no leader is known to this node'
  return `the leader ${raft.leader} did not confirm a read in time`
}
