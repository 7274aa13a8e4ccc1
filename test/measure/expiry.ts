/*
 * `npm run measure -- expiry`: a million keys that fall due in one second, and one client that goes on writing: how
 * long the event loop stands still, how long that client waits, and how soon the keys are gone.
 */

import { MeasuredNode, OK_BYTES, reportStops } from './measured-node.ts'
import { type Measurement, p99 } from './measurement.ts'

const KEYS = 1_000_000
const VALUE = Buffer.alloc(20, 'v')
/** From the start of loading until the keys are due: more than loading takes. */
const LOAD_MS = 60_000
const LATENCY_MS_MAX = 50
const PATIENCE_MS = 120_000

export const expiry: Measurement = {
  name: 'expiry',
  what: `the event loop while ${KEYS.toLocaleString('en-US')} keys fall due in one second`,
  async run(report, { factor }) {
    const node = await MeasuredNode.start()
    try {
      const keys = KEYS * factor
      const dueAt = Date.now() + LOAD_MS * factor + 1000
      const at = (key: number): string => String(dueAt + (key % 1000))
      await node.pipeline(keys, (key) => ['SET', `key:${key}`, VALUE, 'PXAT', at(key)], OK_BYTES)
      const loadedAt = Date.now()
      if (loadedAt > dueAt) throw new Error('the keys were due before all of them were written')
      report.note(`${keys} keys, due ${Math.round(dueAt - loadedAt)} ms after the last was written`)
      const before: number[] = []
      while (Date.now() < dueAt) before.push(await latency(node))
      await node.stops()
      const after: number[] = []
      let left = keys
      while (left > 1 && Date.now() < dueAt + PATIENCE_MS) {
        for (let i = 0; i < 100; i++) after.push(await latency(node))
        left = Number(await node.ask('DBSIZE'))
      }
      const goneMs = Date.now() - dueAt
      reportStops(report, await node.stops())
      report.figure({ what: 'p99 of a SET before', value: p99(before), unit: 'ms' })
      report.figure({ what: 'p99 meanwhile', value: p99(after), unit: 'ms', most: LATENCY_MS_MAX })
      report.figure({ what: 'keys left', value: left - 1, unit: 'keys', most: 0 })
      report.figure({ what: 'gone after', value: goneMs, unit: 'ms' })
    } finally {
      await node.end()
    }
  },
}

async function latency(node: MeasuredNode): Promise<number> {
  const startedAt = performance.now()
  await node.ask('SET', 'probe', 'v')
  return performance.now() - startedAt
}
