/*
 * A program for watchdog.test.ts: runs under a watchdog with a bound of 400 ms, and does what its argument says.
 */

import { createLogger } from '../../src/logger.ts'
import { endProcess, Watchdog } from '../../src/watchdog.ts'

const BOUND_MS = 400
const LONG_MS = 100_000
const [, , behaviour = '', logfile = ''] = process.argv

const logger = createLogger({ level: 'notice', logfile })
logger.identify(() => ({ node: 'a'.repeat(40), term: 7 }))
const watchdog = new Watchdog({
  logCommitTimeoutMs: behaviour === 'log' || behaviour === 'busy' ? BOUND_MS : LONG_MS,
  stateCommitTimeoutMs: behaviour === 'state' ? BOUND_MS : LONG_MS,
  stallTimeoutMs: behaviour === 'stall' || behaviour === 'busy' ? BOUND_MS : LONG_MS,
  logFd: logger.fd,
  json: !logger.pretty,
})
process.stdin.on('end', () => void watchdog.stop().then(() => process.exit(0))).resume()
process.stdout.write('started\n')

switch (behaviour) {
  case 'log':
    watchdog.log.commitStarted()
    break
  case 'state':
    watchdog.state.commitStarted()
    break
  case 'stall':
    for (;;) JSON.parse('1')
  case 'end':
    process.on('exit', () => process.stdout.write('exit handlers ran\n'))
    endProcess(logger, 'the disk failed')
    break
  case 'busy': {
    // A commit is nearly always under way, and each one settles: no reason to end.
    let settled = 0
    setInterval(() => {
      watchdog.log.commitSettled()
      watchdog.log.commitStarted()
      settled++
      process.stdout.write(`settled ${settled}\n`)
    }, BOUND_MS / 8)
    watchdog.log.commitStarted()
    break
  }
}
