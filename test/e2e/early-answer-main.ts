/*
 * A broken server for scripts/prove-fsync.ts: as src/main.ts, but its disk reports every commit of the log as durable
 * before it is. It exists only here; no production build contains it.
 */

import { loadConfig } from '../../src/config-load.ts'
import { createLogger } from '../../src/logger.ts'
import { startServer } from '../../src/server.ts'
import type { Engine, LogEnvironment } from '../../storage/engine.ts'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'

/** A node reads back what its first commits wrote; later entries it has in memory. */
const HONEST_COMMITS = 10

function early(engine: Engine): Engine {
  return {
    location: engine.location,
    list: () => engine.list(),
    drop: (name) => engine.drop(name),
    openState: (name, databases) => engine.openState(name, databases),
    buildState: (name, databases) => engine.buildState(name, databases),
    openLog: async (name, databases): Promise<LogEnvironment> => {
      const environment = await engine.openLog(name, databases)
      let commits = 0
      return {
        boots: environment.boots,
        get: (database, key) => environment.get(database, key),
        has: (database, key) => environment.has(database, key),
        range: (database, from, visit) => environment.range(database, from, visit),
        keys: (database, from, visit) => environment.keys(database, from, visit),
        bytes: () => environment.bytes(),
        usedBytes: () => environment.usedBytes(),
        close: () => environment.close(),
        commit: (operations) => {
          const committed = environment.commit(operations)
          return ++commits > HONEST_COMMITS ? Promise.resolve() : committed
        },
      }
    },
  }
}

const config = loadConfig({
  argv: process.argv.slice(2),
  environment: process.env,
  readFile: () => '',
})
const logger = createLogger({ level: config.get('loglevel'), logfile: config.get('logfile') })
const server = await startServer({
  config,
  logger,
  engine: (directory, onFatal) => early(new LmdbEngine(directory, onFatal)),
})
process.on('SIGTERM', () => void server.stop())
await server.closed
process.exit(0)
