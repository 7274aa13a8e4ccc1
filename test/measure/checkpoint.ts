/*
 * `npm run measure -- checkpoint`: how long the event loop stands still while a million keys are written and
 * checkpointed.
 */

import { MeasuredNode, OK_BYTES, reportStops } from './measured-node.ts'
import type { Measurement } from './measurement.ts'

const KEYS = 1_000_000
const VALUE = Buffer.alloc(100, 'v')

export const checkpoint: Measurement = {
  name: 'checkpoint',
  what: `the event loop while ${KEYS.toLocaleString('en-US')} keys are written and checkpointed`,
  async run(report, { factor }) {
    const node = await MeasuredNode.start()
    try {
      await node.stops()
      const keys = KEYS * factor
      const rate = await node.pipeline(keys, (at) => ['SET', `key:${at}`, VALUE], OK_BYTES)
      const stops = await node.stops()
      report.figure({ what: 'SET', value: rate, unit: 'keys/s' })
      reportStops(report, stops)
    } finally {
      await node.end()
    }
  },
}
