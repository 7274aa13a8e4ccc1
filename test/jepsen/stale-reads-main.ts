/*
 * A broken server for scripts/jepsen.ts: as src/main.ts, but a read asks no leader before it is answered, so followers
 * and deposed leaders answer with what they happen to have. It exists only here; no production build contains it.
 */

import { RaftNode, type ReadCallback } from '../../raft/node.ts'
import { loadConfig } from '../../src/config-load.ts'
import { createLogger } from '../../src/logger.ts'
import { startServer } from '../../src/server.ts'

RaftNode.prototype.read = (done: ReadCallback): void => {
  setImmediate(() => done(true))
}

const config = loadConfig({
  argv: process.argv.slice(2),
  environment: process.env,
  readFile: () => '',
})
const logger = createLogger({ level: config.get('loglevel'), logfile: config.get('logfile') })
const server = await startServer({ config, logger })
process.on('SIGTERM', () => void server.stop())
await server.closed
process.exit(0)
