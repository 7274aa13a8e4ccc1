/*
 * `npm run measure -- neighbours`: a client that behaves beside each that does not, on three nodes of this machine.
 */

import { badClients, KEYS_MIN, Victim } from '../e2e/bad-clients.ts'
import { beside, neighbourhood } from '../e2e/neighbours.ts'
import { type Measurement, p99 } from './measurement.ts'

const KEYS = 1_000_000
/** Of each bad client. */
const FOR_MS = 6000
const P99_MS_MAX = 50

export const neighbours: Measurement = {
  name: 'neighbours',
  what: 'SET and GET of a client through a follower, beside bad clients of the same node',
  async run(report, { factor }) {
    const place = await neighbourhood(Math.max(KEYS_MIN, Math.round(KEYS * factor)))
    const endings: (() => Promise<void>)[] = []
    const ending = { after: (end: () => Promise<void>) => endings.push(end) }
    try {
      for (const { name, torment } of [...badClients.values()].flat()) {
        const victim = new Victim(place.victim, FOR_MS * factor)
        const { sets, gets, stopMs } = await beside(ending, place, () => torment(victim))
        report.note(
          `${name}: longest SET ${longest(sets)} ms of ${sets.length}, longest GET ${longest(gets)}, longest stop of a loop ${stopMs.toFixed(0)} by processor time`,
        )
        report.figure({ what: 'SET, p99', value: p99(sets), unit: 'ms', most: P99_MS_MAX })
        report.figure({ what: 'GET, p99', value: p99(gets), unit: 'ms', most: P99_MS_MAX })
      }
    } finally {
      for (const end of endings) await end()
      await place.cluster.end()
    }
  },
}

function longest(taken: readonly number[]): string {
  return Math.max(...taken).toFixed(0)
}
