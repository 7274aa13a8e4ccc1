/*
 * How urgent a thread is. Those that read or write whole states (checkpoints, snapshots, scrubs) have time, and on a
 * machine whose processors are all busy they must not take them from the threads that answer clients and flush the log.
 */

import { readlinkSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { basename } from 'node:path'

/** Where others want the processor, such a thread gets about a tenth of what each of them gets. */
export const BACKGROUND_NICE = 10

/** Makes the calling thread, and no other of its process, less urgent. Only Linux has priorities per thread. */
export function runInBackground(): void {
  let task: string
  try {
    task = readlinkSync('/proc/thread-self')
  } catch {
    return
  }
  // Raising it again, where the whole process is less urgent still, would not be allowed.
  const thread = Number(basename(task))
  if (getPriority(thread) < BACKGROUND_NICE) setPriority(thread, BACKGROUND_NICE)
}
