/*
 * A server over all its lives in one process: when its state turns out to be damaged it ends, gets the state of
 * another member into its directory, and begins anew, as if it had been away for a while. What it has promised is in
 * its log, which stays. It knows neither stores nor sockets; how a life begins is its caller's.
 */

import { LmdbEngine } from '../storage/lmdb-engine.ts'
import { reinstallState } from '../storage/restored-state.ts'
import { DamagedStreamError } from '../storage/state-build.ts'
import { chunksFrom } from './backup.ts'
import { DamagedBackupError } from './backup-file.ts'
import { type Config, limits } from './config.ts'
import { acquireDataLock } from './data-lock.ts'
import type { RootLogger } from './logger.ts'
import { parseAddress, type Timers } from './network.ts'
import { OperatorError } from './operator-error.ts'
import { endProcess } from './watchdog.ts'

/** What is wrong with a state, and where another one may be had: client addresses of members of that cluster. */
export interface Damage {
  readonly what: string
  readonly clusterId: string
  readonly sources: readonly string[]
}

export interface Life {
  stop(): Promise<void>
  /** With why it ended by itself. */
  readonly closed: Promise<Damage | undefined>
}

export interface LastingServerOptions {
  readonly config: Config
  readonly logger: RootLogger
  readonly timers: Timers
  readonly open: () => Promise<Life>
}

export class LastingServer {
  /** Rejects when the next life cannot begin. */
  readonly closed: Promise<void>
  readonly #options: LastingServerOptions
  #life: Life | undefined
  #isStopped = false

  /** `first` has begun. */
  constructor(options: LastingServerOptions, first: Life) {
    this.#options = options
    this.closed = this.#last(first)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#life?.stop()
    await this.closed
  }

  async #last(first: Life): Promise<void> {
    for (let life = first; ; life = await this.#options.open()) {
      this.#life = life
      if (this.#isStopped) await life.stop()
      const damage = await life.closed
      this.#life = undefined
      if (damage === undefined) return
      await this.#reinstall(damage)
      if (this.#isStopped) return
    }
  }

  /** Resolves when another state is in force, or the server is to stop. */
  async #reinstall(damage: Damage): Promise<void> {
    const { config, logger, timers } = this.#options
    const lock = await acquireDataLock(config.get('dir'))
    const engine = new LmdbEngine(config.get('dir'), (reason) => endProcess(logger, reason))
    try {
      for (let attempt = 0; !this.#isStopped; attempt++) {
        const from = damage.sources[attempt % damage.sources.length] ?? ''
        try {
          const chunks = chunksFrom(this.#source(from, damage.clusterId))
          const { last } = await reinstallState(engine, chunks)
          logger.info({ from, index: last.index }, 'the state of another member was installed')
          return
        } catch (error) {
          if (!isOfSource(error)) throw error
          logger.warn({ from, reason: error.message }, 'no state to be had there; trying on')
        }
        await new Promise<void>((next) => void timers.after(limits.reinstallRetryMs, next))
      }
    } finally {
      await lock.release()
    }
  }

  #source(address: string, clusterId: string): Parameters<typeof chunksFrom>[0] {
    const { host, port } = parseAddress(address) ?? { host: '', port: 0 }
    return { host, port, clusterId, password: this.#options.config.get('requirepass') }
  }
}

function isOfSource(error: unknown): error is Error {
  return (
    error instanceof OperatorError ||
    error instanceof DamagedBackupError ||
    error instanceof DamagedStreamError
  )
}
