/*
 * Opens what a node has on disk, and makes sure that its two halves belong together: the log must reach back to
 * where the state stands, or nothing could be replayed without a gap. What cannot be made whole is refused with a
 * text for the operator; nothing is repaired by guessing.
 */

import type { Engine } from './engine.ts'
import { DiskLogStore, LOG_ENVIRONMENT } from './log-store.ts'
import { ReceivedState } from './received-state.ts'
import { CorruptStateError } from './record.ts'
import { CorruptLogError } from './stable-record.ts'
import { STATE_DATABASES } from './state-meta.ts'
import { StateStore, type StateStoreOptions } from './state-store.ts'

export interface Storage {
  readonly log: DiskLogStore
  readonly state: StateStore
  readonly received: ReceivedState
  /** True when the stored log did not fit the state and was dropped: the node catches up from its leader. */
  readonly logDropped: boolean
}

/**
 * Opens both environments, or creates them. Throws CorruptLogError, CorruptStateError or FormatVersionError, after
 * closing what was opened.
 */
export async function openStorage(engine: Engine, options: StateStoreOptions): Promise<Storage> {
  const log = await DiskLogStore.open(engine)
  let state: StateStore | undefined
  try {
    const name = `state-${log.stateNumber()}`
    for (const other of engine.list()) {
      // Left behind by a switch to another state that did not finish, or did finish just before a crash.
      if (other !== LOG_ENVIRONMENT && other !== name) await engine.drop(other)
    }
    const environment = await engine.openState(name, STATE_DATABASES)
    state = StateStore.open(environment, options)
    const logDropped = await reconcile(log, state, engine.location)
    const received = new ReceivedState(engine, state, log.stateNumber())
    return { log, state, received, logDropped }
  } catch (error) {
    await state?.close()
    await log.close()
    throw error
  }
}

/** Whether the log had to be dropped because it does not contain the entry at which the state stands. */
async function reconcile(log: DiskLogStore, state: StateStore, location: string): Promise<boolean> {
  const durable = state.durableAt()
  if (durable.index > 0 && log.identity().clusterId === undefined) {
    throw new CorruptLogError('there is a state, but the log belongs to no cluster', location)
  }
  const base = log.base()
  if (base.index > durable.index) {
    throw new CorruptStateError(
      `the state ends at entry ${durable.index}, but the log begins after entry ${base.index}`,
    )
  }
  if (log.term(durable.index) === durable.term) return false
  await log.reset(durable)
  return true
}
