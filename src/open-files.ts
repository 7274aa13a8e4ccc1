/*
 * How many clients the open files of this process leave room for. Each connection is one, and so is what a node needs
 * to live: its stores, the links to its peers. Clients that took the last of them would take those, too. It knows
 * neither clients nor peers, only how many files each sort may have.
 */

import { readFileSync } from 'node:fs'
import { type Config, limits } from './config.ts'
import { OperatorError } from './operator-error.ts'

/** Clients, and those who ask this node as a Sentinel: as many each. */
const FACES = 2

/**
 * Lowers `maxclients`, which CONFIG SET cannot raise above that any more, to what `filesMax` leaves, with a warning.
 * Throws OperatorError where it leaves nothing.
 */
export function fitClients(
  config: Pick<Config, 'get' | 'limitClients'>,
  log: { warn(fields: object, text: string): void },
  filesMax: number | undefined = openFilesMax(),
): void {
  if (filesMax === undefined) return
  const faces = config.get('sentinel-port') > 0 ? FACES : 1
  const others = limits.ownFilesMax + faces * limits.refusedClientsMax
  const clientsMax = Math.floor((filesMax - others) / faces)
  const files = `this process may have ${filesMax} open files (ulimit -n)`
  if (clientsMax < 1) {
    throw new OperatorError('OPEN_FILES', `${files}; a node needs at least ${others + faces}`)
  }
  const asked = config.get('maxclients')
  if (!config.limitClients(clientsMax)) return
  log.warn({ maxclients: clientsMax }, `maxclients is ${clientsMax} instead of ${asked}: ${files}`)
}

/** Undefined: there is no limit, or the system does not tell. Node has raised the limit as far as it may by now. */
function openFilesMax(): number | undefined {
  let text = ''
  try {
    text = readFileSync('/proc/self/limits', 'latin1')
  } catch {
    // Not Linux: the limits of others are far above what is needed.
  }
  const soft = /^Max open files\s+(\d+)/m.exec(text)?.[1]
  return soft === undefined ? undefined : Number(soft)
}
