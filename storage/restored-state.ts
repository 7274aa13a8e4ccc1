/*
 * A data directory made from a stream of a whole state: a node that has never run, and stands where the state does.
 * The state is built and verified first, and named by the one transaction that binds a new log to its cluster. What a
 * crash before that leaves is refused by a start, which would otherwise begin with no data (open.ts). In the same way
 * the state of a node that lives is replaced when it is damaged.
 */

import type { Entry, HardState, NodeId, SnapshotMeta } from '../raft/types.ts'
import type { Chunk, Engine } from './engine.ts'
import { DiskLogStore, stateName } from './log-store.ts'
import { FIRST_STATE_NUMBER } from './stable-record.ts'
import { DamagedStreamError } from './state-build.ts'
import { STATE_DATABASES } from './state-meta.ts'
import { readMeta } from './state-store.ts'

/** With what a node is born that stands at a state. */
export interface Birth {
  readonly clusterId: string
  readonly hardState: HardState
  /** They follow the state. */
  readonly entries: readonly Entry[]
}

/**
 * `engine` is empty. Resolves when the node is durable. Throws DamagedStreamError for a stream that is not whole and
 * intact, or whatever `chunks` throws; then the engine is as empty as before.
 */
export async function restoreState(
  engine: Engine,
  chunks: AsyncIterable<Chunk>,
  born: (nodeId: NodeId, state: SnapshotMeta) => Birth,
): Promise<SnapshotMeta> {
  try {
    return await restore(engine, chunks, born)
  } catch (error) {
    for (const name of engine.list()) await engine.drop(name)
    throw error
  }
}

async function restore(
  engine: Engine,
  chunks: AsyncIterable<Chunk>,
  born: (nodeId: NodeId, state: SnapshotMeta) => Birth,
): Promise<SnapshotMeta> {
  // Before the log: whenever this ends early, there is a state that no log names, and a start tells of it (open.ts).
  const stateNumber = FIRST_STATE_NUMBER + 1
  const state = await build(engine, stateName(stateNumber), chunks)
  const log = await DiskLogStore.open(engine)
  try {
    const birth = born(log.identity().nodeId, state)
    await log.bind({ ...birth, state: { stateNumber, last: state.last } })
    return state
  } finally {
    await log.close()
  }
}

/**
 * Puts a state that another member of the cluster gives in the place of this node's own, which is damaged. `engine`
 * is open nowhere; its log is kept, unless the state is ahead of it, and so is everything that the node has promised.
 * Of a state of a later term the node takes the term as well, as if it had heard of it.
 * Throws DamagedStreamError for a stream that is not whole and intact, or stands before what the log begins with, and
 * whatever `chunks` throws; then nothing has changed.
 */
export async function reinstallState(
  engine: Engine,
  chunks: AsyncIterable<Chunk>,
): Promise<SnapshotMeta> {
  const log = await DiskLogStore.open(engine)
  try {
    const stateNumber = log.stateNumber() + 1
    const state = await build(engine, stateName(stateNumber), chunks)
    const { last } = state
    if (last.index < log.base().index) {
      const begins = `the log begins after entry ${log.base().index}`
      throw new DamagedStreamError(`the state stands at entry ${last.index}, and ${begins}`)
    }
    // A term that this node has not heard of, so it has promised nobody anything there.
    const isNewer = last.term > log.hardState().term
    const hardState = isNewer ? { term: last.term, vote: undefined } : undefined
    await log.switchState({ stateNumber, last, hardState })
    return state
  } finally {
    await log.close()
  }
}

async function build(
  engine: Engine,
  name: string,
  chunks: AsyncIterable<Chunk>,
): Promise<SnapshotMeta> {
  const builder = await engine.buildState(name, STATE_DATABASES)
  try {
    for await (const chunk of chunks) await builder.add(chunk)
    await builder.finish()
  } catch (error) {
    await builder.abort()
    throw error
  }
  const environment = await engine.openState(name, STATE_DATABASES)
  const { index, term, membership } = readMeta(environment)
  await environment.close()
  if (membership !== undefined) return { last: { index, term }, membership }
  throw new DamagedStreamError(`a state at entry ${index} without a membership`)
}
