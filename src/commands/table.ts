/*
 * THE command table: every command there is. Frontend, apply and COMMAND use it alike.
 */

import type { ErrorReply } from '../../resp/encoder.ts'
import { bitfieldCommands } from './bitfields.ts'
import { bitmapCommands } from './bitmaps.ts'
import { clientEntry } from './client.ts'
import { clusterEntry } from './cluster.ts'
import type { Args, Command, TableEntry } from './command.ts'
import { CommandTable } from './command-table.ts'
import { connectionCommands } from './connection.ts'
import { databaseCommands } from './databases.ts'
import { dumpCommands } from './dump.ts'
import { expiryCommands } from './expiry.ts'
import { incrbyfloatCommand } from './incrbyfloat.ts'
import { commandEntry } from './introspection.ts'
import { keyCommands } from './keys.ts'
import { lcsCommand } from './lcs.ts'
import { memoryEntry } from './memory.ts'
import { objectEntry } from './object.ts'
import { persistenceCommands } from './persistence.ts'
import { raftEntry } from './raft.ts'
import { scanCommands } from './scan.ts'
import { serverCommands } from './server.ts'
import { slowlogEntries } from './slowlog.ts'
import { stringEditCommands } from './string-edits.ts'
import { stringCommands } from './strings.ts'
import { transactionCommands } from './transactions.ts'
import { waitCommands } from './wait.ts'

/** Every command, in the order of its name. */
export const commandTable: readonly TableEntry[] = [
  ...stringCommands,
  ...bitmapCommands,
  ...bitfieldCommands,
  ...dumpCommands,
  incrbyfloatCommand,
  lcsCommand,
  ...stringEditCommands,
  ...expiryCommands,
  ...keyCommands,
  ...scanCommands,
  ...waitCommands,
  ...databaseCommands,
  objectEntry,
  ...connectionCommands,
  ...serverCommands,
  ...persistenceCommands,
  ...transactionCommands,
  ...slowlogEntries,
  memoryEntry,
  clientEntry,
  clusterEntry,
  raftEntry,
  commandEntry(() => commandTable),
].sort((a, b) => (a.name < b.name ? -1 : 1))

const table = new CommandTable(commandTable)

/** See CommandTable.resolve. */
export function resolve(args: Args): Command | ErrorReply {
  return table.resolve(args)
}
