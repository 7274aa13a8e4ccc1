/*
 * The production server with one fault of faults.ts built in before it starts. It must not know how the power is cut,
 * and no production build contains it.
 */

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { LMDB_OPTIONS, LmdbEngine } from '../../storage/lmdb-engine.ts'
import { FAULT_VARIABLE } from './faults.ts'

/** The first commits of a node are read back from the disk, so they have to be there. */
const COMMITS_IN_TIME = 20

function acknowledgeEarly(): void {
  const { openLog } = LmdbEngine.prototype
  LmdbEngine.prototype.openLog = async function (name, databases) {
    const environment = await openLog.call(this, name, databases)
    const commit = environment.commit.bind(environment)
    let commits = 0
    environment.commit = (operations) => {
      if (++commits <= COMMITS_IN_TIME) return commit(operations)
      commit(operations).catch((error: unknown) => {
        process.stderr.write(`${String(error)}\n`)
        process.exit(1)
      })
      return Promise.resolve()
    }
    return environment
  }
}

switch (process.env[FAULT_VARIABLE]) {
  case 'early-acknowledgement':
    acknowledgeEarly()
    break
  case 'no-sync':
    Reflect.set(LMDB_OPTIONS, 'noSync', true)
    break
  case 'directories-not-synced':
    // The only caller of fsync in the server flushes directories: files are LMDB's.
    Reflect.set(fs, 'fsyncSync', () => {})
    syncBuiltinESMExports()
}
await import('../../src/main.ts')
