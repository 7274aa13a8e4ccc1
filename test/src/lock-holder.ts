/*
 * A program for data-lock.test.ts: takes the lock of the directory it is given, says "held" or why not, and stays
 * until its standard input ends.
 */

import { acquireDataLock } from '../../src/data-lock.ts'

const [, , directory = ''] = process.argv

try {
  const lock = await acquireDataLock(directory)
  process.stdout.write('held\n')
  process.stdin.on('end', () => void lock.release().then(() => process.exit(0)))
  process.stdin.resume()
} catch (error) {
  process.stdout.write(`${error instanceof Error ? error.message : error}\n`)
  process.exitCode = 1
}
