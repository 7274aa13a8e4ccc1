/*
 * A node of an older build, for tests of upgrades: as src/main.ts, but it knows feature levels only up to that in its
 * environment (FEATURE_LEVEL; left out: those of this build).
 */

import { loadConfig } from '../../src/config-load.ts'
import { createLogger } from '../../src/logger.ts'
import { operatorLine } from '../../src/operator-error.ts'
import { startServer } from '../../src/server.ts'

const { FEATURE_LEVEL } = process.env
const config = loadConfig({
  argv: process.argv.slice(2),
  environment: process.env,
  readFile: () => '',
})
const logger = createLogger({ level: config.get('loglevel'), logfile: config.get('logfile') })
try {
  const server = await startServer({
    config,
    logger,
    ...(FEATURE_LEVEL !== undefined && { featureLevel: Number(FEATURE_LEVEL) }),
  })
  process.on('SIGTERM', () => void server.stop())
  await server.closed
  process.exit(0)
} catch (error) {
  process.stderr.write(`holdfast: ${operatorLine(error) ?? error}\n`)
  process.exit(1)
}
