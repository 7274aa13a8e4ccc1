/*
 * `holdfast backup`: asks a node for its state, verifies it record by record as it comes, and leaves a file under its
 * name only when all of it is there, intact and durable. How the node is asked is backup-reader.ts; what a backup is,
 * is backup-file.ts.
 */

import { existsSync, promises } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { syncDirectory } from '../storage/directory.ts'
import { DamagedStreamError, StateBuild } from '../storage/state-build.ts'
import { STATE_DATABASES, type StateMeta } from '../storage/state-meta.ts'
import { BACKUP_MAGIC, DamagedBackupError, framedPart } from './backup-file.ts'
import { type BackupFrom, partsFrom } from './backup-reader.ts'
import { fromSystemError, OperatorError } from './operator-error.ts'
import { systemTimers, TcpNetwork } from './tcp.ts'

export interface BackupOptions extends BackupFrom {
  readonly file: string
}

const FILE_MODE = 0o600

/** Resolves when the backup is durable, with what the state says of itself. Throws OperatorError. */
export async function backup(options: BackupOptions): Promise<StateMeta> {
  const { file, host, port } = options
  if (existsSync(file)) {
    throw new OperatorError(
      'BACKUP',
      `${file} exists already: choose another name, or move it away`,
    )
  }
  const draft = `${file}.part`
  const handle = await openDraft(draft, file)
  try {
    try {
      const state = await receive(options, (bytes) => handle.appendFile(bytes))
      await handle.sync()
      await promises.rename(draft, file)
      syncDirectory(dirname(file))
      return state
    } finally {
      await handle.close()
    }
  } catch (error) {
    await promises.rm(draft, { force: true })
    if (error instanceof DamagedBackupError || error instanceof DamagedStreamError) {
      const what = `what ${host}:${port} gives is not an intact state: ${error.message}`
      throw new OperatorError('BACKUP', `${what}; take the backup from another node`)
    }
    throw fromSystemError(`the backup ${file}`, error) ?? error
  }
}

/** Nobody else's: two that write one draft would leave under the name of the file what is neither. */
async function openDraft(draft: string, file: string): Promise<FileHandle> {
  try {
    return await promises.open(draft, 'wx', FILE_MODE)
  } catch (error) {
    if (!existsSync(draft)) {
      const folder = dirname(file)
      const what = existsSync(folder) ? `the backup ${file}` : `the folder ${folder} of the backup`
      throw fromSystemError(what, error) ?? error
    }
    const text = 'another backup is writing it, or has left it when it was killed: remove it then'
    throw new OperatorError('BACKUP', `${draft} exists: ${text}`)
  }
}

async function receive(
  from: BackupFrom,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<StateMeta> {
  const rim = { network: new TcpNetwork(), timers: systemTimers }
  const build = new StateBuild(STATE_DATABASES, () => {})
  await write(BACKUP_MAGIC)
  for await (const { part, chunk } of partsFrom(from, rim)) {
    if (chunk !== undefined) build.add(chunk)
    await write(framedPart(part))
  }
  return build.finish()
}
