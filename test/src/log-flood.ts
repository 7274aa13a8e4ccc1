/*
 * A program for logger.test.ts: logs 4,096 lines of a KiB in one turn, says so, and ends when the log has been
 * read.
 */

import { createLogger } from '../../src/logger.ts'

const LINES = 4096

const logger = createLogger({ level: 'notice', logfile: '' })
for (let number = 0; number < LINES; number++) logger.info({ number }, 'x'.repeat(1024))
process.stderr.write('flooded\n')
// The log's own retry does not keep a process alive; this does, until the test has read it all.
process.stdin.on('end', () => process.exit(0)).resume()
