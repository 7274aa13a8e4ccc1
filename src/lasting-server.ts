/*
 * A server over all its lives in one process: when its state turns out to be damaged it ends, gets the state of
 * another member into its directory, and begins anew, as if it had been away for a while. What it has promised is in
 * its log, which stays. It knows neither stores nor sockets; how a life begins is its caller's.
 */

import { LmdbEngine } from '../storage/lmdb-engine.ts'
import type { Config } from './config.ts'
import { type Damage, reinstall } from './damage.ts'
import { acquireDataLock } from './data-lock.ts'
import type { RootLogger } from './logger.ts'
import type { Timers } from './network.ts'
import { TcpNetwork } from './tcp.ts'
import { endProcess } from './watchdog.ts'

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
    try {
      await reinstall(damage, {
        engine: new LmdbEngine(config.get('dir'), (reason) => endProcess(logger, reason)),
        network: new TcpNetwork(),
        timers,
        password: config.get('requirepass'),
        log: logger,
        isStopped: () => this.#isStopped,
      })
    } finally {
      await lock.release()
    }
  }
}
