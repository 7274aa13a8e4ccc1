/*
 * What becomes of a node whose state is damaged: from then on it serves nothing, it hands over what it leads, and it
 * gets the state of another member in the place of its own. What it has promised is in its log, which stays. It knows
 * no process and no data directory; when a life of a node begins and ends is its caller's.
 */

import type { Member, NodeId } from '../raft/types.ts'
import type { Engine } from '../storage/engine.ts'
import type { DiskLogStore } from '../storage/log-store.ts'
import type { Storage } from '../storage/open.ts'
import { reinstallState } from '../storage/restored-state.ts'
import { DamagedStreamError } from '../storage/state-build.ts'
import { DamagedBackupError } from './backup-file.ts'
import { chunksFrom } from './backup-reader.ts'
import { limits } from './config.ts'
import type { Logger } from './logger.ts'
import { type Network, parseAddress, type Timers } from './network.ts'
import { OperatorError } from './operator-error.ts'
import type { Replica } from './replica.ts'

/** What is wrong with a state, and where another one may be had: client addresses of members of that cluster. */
export interface Damage {
  readonly what: string
  readonly clusterId: string
  readonly sources: readonly string[]
}

/** Where another state may be had: of the other members, those that have a sound one; `sound` undefined: any may. */
export function soundSources(
  members: readonly Member[],
  own: NodeId,
  sound: readonly NodeId[] | undefined,
): readonly string[] {
  return members
    .filter(({ id }) => id !== own && (sound === undefined || sound.includes(id)))
    .map(({ clientAddress }) => clientAddress)
}

/**
 * What a node that begins knows to be wrong with its state: it was found in an earlier life, which ended before another
 * state was in force. Those that had a sound one come first; members may have come since.
 */
export function knownDamage({ log, state }: Storage): Damage | undefined {
  const damage = log.damage()
  if (damage === undefined) return undefined
  const { nodeId, clusterId = '' } = log.identity()
  const others = soundSources(state.membership()?.members ?? [], nodeId, undefined)
  return { what: damage.what, clusterId, sources: [...new Set([...damage.sources, ...others])] }
}

export interface ServingNode {
  /** What clients come in by. */
  readonly faces: readonly { close(): Promise<void> }[]
  readonly replica: Pick<Replica, 'members' | 'stop'>
  readonly log: Pick<DiskLogStore, 'markDamaged'>
}

/** Resolves when nothing of a node uses its stores any more. `damage` undefined: it stops because it was asked to. */
export async function endServing(
  { faces, replica, log }: ServingNode,
  damage: Damage | undefined,
): Promise<void> {
  const { members } = replica
  // First of all: whatever ends this process from here on, the next one must not serve this state either.
  const marked = damage === undefined ? undefined : log.markDamaged(damage)
  // While clients are still served: what they send meanwhile goes to the next leader.
  if (damage === undefined) await members.leave(limits.handOverTimeoutMs)
  for (const face of faces) await face.close()
  if (damage !== undefined) await members.leave(limits.handOverTimeoutMs)
  await replica.stop(damage === undefined ? 'sound' : 'damaged')
  await marked
}

export interface ReinstallOptions {
  /** Open nowhere. */
  readonly engine: Engine
  readonly network: Network
  readonly timers: Timers
  /** '' where the members want none. */
  readonly password: string
  readonly log: Logger
  readonly isStopped: () => boolean
}

/** Asks one source after the other, again and again. Resolves when another state is in force, or it is to stop. */
export async function reinstall(damage: Damage, options: ReinstallOptions): Promise<void> {
  const { engine, network, timers, password, log, isStopped } = options
  const { sources, clusterId } = damage
  for (let attempt = 0; !isStopped(); attempt++) {
    const from = sources[attempt % sources.length] ?? ''
    const { host, port } = parseAddress(from) ?? { host: '', port: 0 }
    try {
      const chunks = chunksFrom({ host, port, clusterId, password }, { network, timers })
      const { last } = await reinstallState(engine, chunks)
      log.info({ from, index: last.index }, 'the state of another member was installed')
      return
    } catch (error) {
      if (!isOfSource(error)) throw error
      log.warn({ from, reason: error.message }, 'no state to be had there; trying on')
    }
    await new Promise<void>((next) => void timers.after(limits.reinstallRetryMs, next))
  }
}

function isOfSource(error: unknown): error is Error {
  return (
    error instanceof OperatorError ||
    error instanceof DamagedBackupError ||
    error instanceof DamagedStreamError
  )
}
