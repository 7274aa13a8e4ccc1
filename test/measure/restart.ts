/*
 * `npm run measure -- restart`: how soon a node serves again that was killed with a million keys in its state, and
 * that it replays only what no checkpoint had.
 */

import { MeasuredNode, OK_BYTES } from './measured-node.ts'
import type { Measurement } from './measurement.ts'

const KEYS = 1_000_000
const TAIL = 10_000
const VALUE = Buffer.alloc(100, 'v')
const SERVES_MS_MAX = 2000
/** What a SET of this value may take in the log, so that more than the tail is seen. */
const ENTRY_BYTES_MAX = 200

export const restart: Measurement = {
  name: 'restart',
  what: `from kill -9 with ${KEYS.toLocaleString('en-US')} keys to the first answer`,
  async run(report, { factor }) {
    const node = await MeasuredNode.start()
    try {
      const keys = KEYS * factor
      await node.pipeline(keys, (at) => ['SET', `key:${at}`, VALUE], OK_BYTES)
      await node.ask('SAVE')
      await node.pipeline(TAIL, (at) => ['SET', `key:${at}`, VALUE], OK_BYTES)
      await node.kill()
      const startedAt = performance.now()
      await node.start()
      const ms = performance.now() - startedAt
      const replayed = Number(await node.info('replay_bytes'))
      const found = Number(await node.ask('DBSIZE'))
      report.figure({ what: 'serves after', value: ms, unit: 'ms', most: SERVES_MS_MAX })
      report.figure({
        what: `replayed, ${TAIL} writes behind the last checkpoint`,
        value: replayed / 1e6,
        unit: 'MB',
        most: (TAIL * ENTRY_BYTES_MAX) / 1e6,
      })
      report.figure({ what: 'keys missing', value: keys - found, unit: 'keys', most: 0 })
    } finally {
      await node.end()
    }
  },
}
