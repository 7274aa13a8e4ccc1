/*
 * Opens what a node has on disk, and makes sure that its two halves belong together: the log must reach back to
 * where the state stands, or nothing could be replayed without a gap. What cannot be made whole is refused with a
 * text for the operator; nothing is repaired by guessing.
 */

import type { Engine } from './engine.ts'
import { DiskLogStore, LOG_ENVIRONMENT, stateName, stateNumbers } from './log-store.ts'
import { ReceivedState } from './received-state.ts'
import { CorruptStateError } from './record.ts'
import { CorruptLogError } from './stable-record.ts'
import { STATE_DATABASES } from './state-meta.ts'
import { StateStore, type StateStoreOptions } from './state-store.ts'

export interface Storage {
  readonly log: DiskLogStore
  readonly state: StateStore
  readonly received: ReceivedState
}

/** There is a state that no log has ever named: neither this node's nor anybody's to remove. */
export class NamelessStateError extends Error {
  override readonly name = 'NamelessStateError'
  readonly code = 'NAMELESS_STATE'

  constructor(location: string) {
    super(
      `${location} holds a state, but no log that names it: a restore into it was cut off, or its log was removed. ` +
        'Empty the directory; then restore into it again, or start the node with --join',
    )
  }
}

/**
 * Opens both environments, or creates them. Throws CorruptLogError, CorruptStateError, FormatVersionError or
 * NamelessStateError, after closing what was opened.
 */
export async function openStorage(engine: Engine, options: StateStoreOptions): Promise<Storage> {
  const log = await DiskLogStore.open(engine)
  let opened: { close(): Promise<void> } | undefined
  try {
    refuseNameless(log, engine)
    const name = stateName(log.stateNumber())
    for (const other of engine.list()) {
      // Left behind by a switch to another state that did not finish, or did finish just before a crash.
      if (other !== LOG_ENVIRONMENT && other !== name) await engine.drop(other)
    }
    const environment = await engine.openState(name, STATE_DATABASES)
    opened = environment
    const state = StateStore.open(environment, options)
    opened = state
    reconcile(log, state, engine.location)
    const received = new ReceivedState(engine, state, log.stateNumber())
    return { log, state, received }
  } catch (error) {
    await opened?.close()
    await log.close()
    throw error
  }
}

/** Only a node with a cluster builds another state beside its own: an unbound one would begin with no data at all. */
function refuseNameless(log: DiskLogStore, engine: Engine): void {
  if (log.identity().clusterId !== undefined) return
  const highest = Math.max(...stateNumbers(engine), 0)
  if (highest > log.stateNumber()) throw new NamelessStateError(engine.location)
}

/**
 * Throws unless the log reaches back to where the state stands, and contains that entry. Only what is durable in the log
 * is applied, and a switch to another state is one transaction with what the log needs for it: a log that ends before
 * the state has lost entries that the node acknowledged, and nobody knows how many came after them.
 */
function reconcile(log: DiskLogStore, state: StateStore, location: string): void {
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
  const term = log.term(durable.index)
  if (term === durable.term) return
  const what =
    term === undefined
      ? `the log ends at entry ${log.lastIndex()}`
      : `entry ${durable.index} of the log has term ${term}`
  const stands = `the state stands at entry ${durable.index} of term ${durable.term}`
  throw new CorruptLogError(`${what}, but ${stands}`, location)
}
