/*
 * Clients that ask for more than is good for others, beside one that behaves: while each of them does its worst at the
 * node that both are connected to, no node's event loop may stand still for long, and nobody is elected. How long a loop
 * stands still is taken from the processor time that its thread used, which a busy machine does not make longer. What
 * each does for the first time is not judged: then code is compiled and heaps grow, once in a node's life. The p99 of
 * the other client is only shown: the tenths of a second for which some of them go on give too few samples to judge by
 * (`npm run measure -- neighbours` gives them longer).
 */

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { p99 } from '../measure/measurement.ts'
import { badClients, KEYS_MIN, Victim } from './bad-clients.ts'
import { showingLogs } from './cluster.ts'
import { beside, type Neighbourhood, neighbourhood } from './neighbours.ts'

/** No longer may a loop stand still. */
const STOP_MS_MAX = 50
/** How long a bad client goes on at least. */
const TORMENT_MS = 600

let place: Neighbourhood

before(async () => {
  place = await neighbourhood(KEYS_MIN)
})
after(async () => {
  await place?.cluster.end()
})

for (const [kind, clients] of badClients) {
  describe(kind, () => {
    for (const { name, torment } of clients) {
      test(
        name,
        showingLogs(
          () => place.cluster,
          async (context) => {
            await torment(new Victim(place.victim, 0))
            const victim = new Victim(place.victim, TORMENT_MS)
            const { sets, gets, stopMs } = await beside(context, place, () => torment(victim))
            const all = [...sets, ...gets]
            const figures = `p99 ${p99(all).toFixed(1)} ms of ${all.length}; longest stop ${stopMs.toFixed(1)} ms`
            context.diagnostic(figures)
            assert.ok(stopMs <= STOP_MS_MAX, figures)
          },
        ),
      )
    }
  })
}
