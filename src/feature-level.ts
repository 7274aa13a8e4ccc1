/*
 * What all members understand of each other's entries and notes, as one number of the cluster: the feature level. A build
 * may make use of what came with a level only when the cluster has reached it, and the leader raises it, by an entry,
 * when every member runs a build that knows it; it never falls. So during an upgrade, node by node, nobody is told
 * anything it cannot read. It knows no link and no clock; its work is done once a tick.
 *
 * Levels: 1, what every build understands; 2, a member may be replaced by a node that comes back empty (rejoin.ts).
 */

import { assert } from '../raft/assert.ts'
import type { CoreStatus } from '../raft/core.ts'
import type { Index, NodeId } from '../raft/types.ts'
import type { LoggedCommand } from '../storage/codec.ts'
import { FEATURE_LEVEL_FIRST } from '../storage/state-meta.ts'
import { OperatorError } from './operator-error.ts'

/** The highest that this build knows. */
export const FEATURE_LEVEL = 2
export const REPLACE_LEVEL = 2
/** In no table, so no client can send it. */
export const LEVEL_NAME = 'holdfast.feature-level'

/** What a node says that it knows; nothing: what builds before level 2 know. */
type Knower = { readonly level?: number | undefined }

/** What a new cluster of these logs to begin with what all of them know. */
export function firstLevel(nodes: readonly Knower[]): readonly LoggedCommand[] {
  const level = Math.min(...nodes.map((node) => node.level ?? FEATURE_LEVEL_FIRST))
  return level === FEATURE_LEVEL_FIRST ? [] : [levelCommand(level)]
}

function levelCommand(level: number): LoggedCommand {
  return { database: 0, argv: [Buffer.from(LEVEL_NAME), Buffer.from(String(level))] }
}

/**
 * The argument of a level command, in apply. Throws OperatorError where this build does not know the level: it must not
 * go on. Only whoever starts an older build comes to that, on a log in which the state has not come as far yet.
 */
export function knownLevel(argument: Uint8Array): number {
  const level = Number(Buffer.from(argument).toString())
  assert(Number.isSafeInteger(level) && level >= FEATURE_LEVEL_FIRST, () => `level ${argument}`)
  refuseNewer(level, FEATURE_LEVEL)
  return level
}

/** Throws OperatorError when a state, or an entry, is of a cluster that has gone further than a build. */
export function refuseNewer(level: number, own: number): void {
  if (level > own) throw new OperatorError('FEATURE_LEVEL', tooNew(level, own))
}

function tooNew(level: number, own: number): string {
  return `the cluster has reached feature level ${level}, and this build knows levels up to ${own}: start the newer build again`
}

/** Why a node may not become a member of a cluster at `level`; undefined: it may. */
export function whyTooOld(
  node: Knower & { readonly replaces?: NodeId | undefined },
  level: number,
): string | undefined {
  const known = node.level ?? FEATURE_LEVEL_FIRST
  if (known < level) {
    return `its build knows feature levels up to ${known}, and the cluster has reached ${level}: start a newer build`
  }
  if (node.replaces === undefined || level >= REPLACE_LEVEL) return undefined
  return `not all members run a build that can replace one: upgrade them first (feature level ${level} of ${REPLACE_LEVEL})`
}

export interface FeatureLevelOptions {
  readonly self: NodeId
  /** The highest level that this node knows. */
  readonly own: number
  /** Of this node while it leads and may propose; undefined otherwise. */
  led(): CoreStatus | undefined
  /** Of the applied state. */
  reached(): number
  connected(id: NodeId): boolean
  /** What a member said that it knows; undefined: nothing, as builds before level 2 do. */
  known(id: NodeId): number | undefined
  propose(command: LoggedCommand): Index | undefined
  readonly log: { info(fields: Readonly<Record<string, unknown>>, text: string): void }
}

export class FeatureLevel {
  readonly #options: FeatureLevelOptions
  /** The entry that raises it: until that index is applied nobody knows what became of it. */
  #proposedAt: Index = 0

  constructor(options: FeatureLevelOptions) {
    this.#options = options
  }

  /** The entry that raises it is in the log of this leader, and not applied. */
  isBeingRaised({ applied, last }: CoreStatus): boolean {
    return this.#proposedAt > applied && this.#proposedAt <= last
  }

  /** Every tick. */
  work(): void {
    const { self, own, led, reached, connected, known, propose, log } = this.#options
    const status = led()
    if (own <= reached() || status?.membership === undefined) return
    if (this.isBeingRaised(status)) return
    // Those that go still decide, and would stop at the entry.
    if (status.membership.outgoing !== undefined) return
    let level = own
    for (const { id } of status.membership.members) {
      if (id === self) continue
      // Whoever is away may come back with any build.
      if (!connected(id)) return
      level = Math.min(level, known(id) ?? FEATURE_LEVEL_FIRST)
    }
    if (level <= reached()) return
    const index = propose(levelCommand(level))
    if (index === undefined) return
    this.#proposedAt = index
    log.info({ level, index }, 'every member knows more: raising the feature level')
  }
}
