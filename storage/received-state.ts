/*
 * A state that comes from another node: built in an environment of its own beside the one in force, verified, and
 * switched to by one transaction of the log. Until that is durable nothing of this node has changed, and whatever
 * was built is removed by the next start, because nothing names it. It knows no network and no leader.
 */

import { assert } from '../raft/assert.ts'
import type { HardState, SnapshotMeta } from '../raft/types.ts'
import type { Chunk, Engine, StateBuilder, StateEnvironment } from './engine.ts'
import { type SwitchingLog, stateName } from './log-store.ts'
import { DamagedStreamError } from './state-build.ts'
import { STATE_DATABASES, type StateMeta } from './state-meta.ts'
import { readMeta, type StateStore } from './state-store.ts'

interface Complete {
  readonly environment: StateEnvironment
  readonly snapshot: SnapshotMeta
}

/** At most one at a time. */
export class ReceivedState {
  readonly #engine: Engine
  readonly #state: StateStore
  /** N of the state in force, and of the one beside it. */
  #number: number
  #builder: StateBuilder | undefined
  #complete: Complete | undefined
  /** Settles when the states that were in force before are gone. A rejection is nobody's but the process'. */
  #removing: Promise<void> = Promise.resolve()

  constructor(engine: Engine, state: StateStore, number: number) {
    this.#engine = engine
    this.#state = state
    this.#number = number
  }

  /** A new one is about to come. There must be none: see discard(). */
  async begin(): Promise<void> {
    assert(this.#builder === undefined && this.#complete === undefined, () => 'two received states')
    this.#builder = await this.#engine.buildState(this.#next, STATE_DATABASES)
  }

  /** See StateBuilder.add. */
  async add(chunk: Chunk): Promise<void> {
    const builder = this.#builder
    assert(builder !== undefined, () => 'a chunk of no state')
    await builder.add(chunk)
  }

  /**
   * Behind the last chunk: resolves when the whole state is verified and durable, with what it says of itself. Throws
   * DamagedStreamError when it is not whole, intact and of a cluster.
   */
  async complete(): Promise<SnapshotMeta> {
    const builder = this.#builder
    assert(builder !== undefined, () => 'the end of no state')
    await builder.finish()
    this.#builder = undefined
    const environment = await this.#engine.openState(this.#next, STATE_DATABASES)
    const { index, term, membership }: StateMeta = readMeta(environment)
    if (membership === undefined) {
      await this.#remove(this.#next, environment)
      throw new DamagedStreamError(`a state at entry ${index} without a membership`)
    }
    const snapshot = { last: { index, term }, membership }
    this.#complete = { environment, snapshot }
    return snapshot
  }

  /** Removes whatever was received, complete or not. Nothing may be under way. */
  async discard(): Promise<void> {
    const [builder, complete] = [this.#builder, this.#complete]
    this.#builder = undefined
    this.#complete = undefined
    await builder?.abort()
    if (complete !== undefined) await this.#remove(this.#next, complete.environment)
  }

  /**
   * The switch: SnapshotSink.install of raft/ports.ts. No checkpoint may run. The old state goes in the background, when
   * whoever still streams it is done.
   */
  async install(
    snapshot: SnapshotMeta,
    hardState: HardState | undefined,
    log: SwitchingLog,
  ): Promise<void> {
    const complete = this.#complete
    assert(
      complete?.snapshot.last.index === snapshot.last.index,
      () =>
        `the received state stands at ${complete?.snapshot.last.index}, not at ${snapshot.last.index}`,
    )
    const old = stateName(this.#number)
    await log.switchState({ stateNumber: this.#number + 1, last: snapshot.last, hardState })
    this.#number++
    this.#complete = undefined
    const environment = this.#state.replace(complete.environment)
    const before = this.#removing
    this.#removing = before.then(() => this.#remove(old, environment))
  }

  /** Removes what is not in force. Nothing may be called any more. */
  async close(): Promise<void> {
    await this.discard()
    await this.#removing
  }

  async #remove(name: string, environment: StateEnvironment): Promise<void> {
    await environment.close()
    await this.#engine.drop(name)
  }

  get #next(): string {
    return stateName(this.#number + 1)
  }
}
