/*
 * Raft's part of the configuration: its pace in ticks, and its limits. All of it is fixed when a node starts.
 */

import type { NodeOptions } from '../raft/node.ts'
import { type Config, limits } from './config.ts'

/** Ticks in one heartbeat interval: the grain of every timeout of raft. */
export const TICKS_PER_HEARTBEAT = 5

export function raftSettings(
  config: Config,
  tickMs: number,
): Pick<
  NodeOptions,
  'electionTicks' | 'heartbeatTicks' | 'limits' | 'applySliceBytes' | 'compactStepEntries'
> {
  return {
    electionTicks: Math.round(config.get('election-timeout-ms') / tickMs),
    heartbeatTicks: TICKS_PER_HEARTBEAT,
    limits: {
      appendBytes: limits.appendFrameBytesMax,
      window: { messages: limits.appendsInFlightMax, bytes: limits.appendBytesInFlightMax },
      uncommittedBytes: limits.uncommittedBytesMax,
      applyBytes: limits.applyQueueBytesMax,
    },
    applySliceBytes: limits.applySliceBytesMax,
    compactStepEntries: limits.compactStepEntriesMax,
  }
}
