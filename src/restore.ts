/*
 * `holdfast restore`: makes an empty data directory the first and only member of a NEW cluster that holds what a
 * backup holds. Its id is new, too, so that no node of the old cluster can take it for one of its own, nor the other
 * way round. What the backup says is believed only when all of it is verified; until then nothing is kept.
 */

import { randomBytes } from 'node:crypto'
import type { Entry, Membership } from '../raft/types.ts'
import { LmdbEngine } from '../storage/lmdb-engine.ts'
import { restoreState } from '../storage/restored-state.ts'
import { DamagedStreamError } from '../storage/state-build.ts'
import { DamagedBackupError, readBackup } from './backup-file.ts'
import { readClusterList } from './bootstrap.ts'
import type { Config } from './config.ts'
import { acquireDataLock } from './data-lock.ts'
import { fromSystemError, OperatorError } from './operator-error.ts'

const CLUSTER_ID_BYTES = 20

/** Resolves when the directory is durable. Throws OperatorError. */
export async function restore(
  file: string,
  config: Config,
): Promise<{ readonly clusterId: string; readonly index: number }> {
  const directory = config.get('dir')
  const lock = await acquireDataLock(directory)
  let diskFault: string | undefined
  const engine = new LmdbEngine(directory, (reason) => {
    diskFault = reason
  })
  try {
    if (engine.list().length > 0) {
      throw new OperatorError(
        'RESTORE',
        `${directory} holds data already, or what a restore has left that was cut off: empty it, or restore into another one`,
      )
    }
    const clusterId = randomBytes(CLUSTER_ID_BYTES).toString('hex')
    const { last } = await restoreState(engine, readBackup(file), (nodeId, state) => {
      const term = state.last.term + 1
      const payload = { type: 'membership', membership: alone(nodeId, config) } as const
      const entry: Entry = { index: state.last.index + 1, term, payload, encoded: undefined }
      return { clusterId, hardState: { term, vote: undefined }, entries: [entry] }
    })
    return { clusterId, index: last.index }
  } catch (error) {
    if (diskFault !== undefined) throw new OperatorError('RESTORE', diskFault)
    if (error instanceof DamagedBackupError || error instanceof DamagedStreamError) {
      throw new OperatorError('RESTORE', `${file} cannot be restored: ${error.message}`)
    }
    throw fromSystemError(`the backup ${file}`, error) ?? error
  } finally {
    await lock.release()
  }
}

/** Who is needed for a decision from now on: this node and nobody else. */
function alone(id: string, config: Config): Membership {
  const peerAddress = readClusterList(config.get('cluster'), config.get('peer-announce')).own
  return { members: [{ id, role: 'voter', peerAddress, clientAddress: config.get('announce') }] }
}
