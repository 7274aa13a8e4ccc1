/*
 * Waits for a condition in real time, with a deadline: for the tests that need real sockets. Everything else
 * waits in virtual time (test/sim/network.ts).
 */

import { setImmediate as nextTurn } from 'node:timers/promises'

/** Looks once per turn of the event loop; throws after `ms`. */
export async function eventually(condition: () => boolean, ms = 10_000): Promise<void> {
  const deadline = performance.now() + ms
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${condition}`)
    await nextTurn()
  }
}
