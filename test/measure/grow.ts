/*
 * `npm run measure -- grow`: members come and go under load, and how long nothing was written meanwhile.
 */

import { growAndShrink } from '../e2e/growth.ts'
import { OK_BYTES, pipeline } from './measured-node.ts'
import type { Measurement } from './measurement.ts'

const KEYS = 200_000
const VALUE: Buffer = Buffer.alloc(100, 'v')
const GAP_MS_MAX = 1000

export const grow: Measurement = {
  name: 'grow',
  what: '1 -> 3 -> 5 -> 3 members while clients write, the leader among those that go',
  async run(report, { factor }) {
    const growth = await growAndShrink(async ({ port }) => {
      await pipeline(port, KEYS * factor, (at) => ['SET', `key:${at}`, VALUE], OK_BYTES)
    })
    const { longestGap, verdicts, errors } = growth
    const faults = verdicts.flatMap(({ lost, happened, counter }) => {
      return [...lost, ...happened, ...counter]
    })
    report.figure({ what: 'writes acknowledged', value: growth.acknowledged, unit: 'writes' })
    report.figure({
      what: `longest time without one (${longestGap.when})`,
      value: longestGap.ms,
      unit: 'ms',
      most: GAP_MS_MAX,
    })
    report.figure({ what: 'lost, wrong or done twice', value: faults.length, unit: '', most: 0 })
    report.figure({ what: 'error replies', value: errors.length, unit: 'texts', most: 0 })
    for (const text of [...faults, ...errors].slice(0, 10)) report.note(text)
  },
}
