/*
 * `npm run measure -- scale`: what a node takes, and how quick it is, with ten thousand, a million and ten million
 * keys of 100 bytes: its own memory must not grow with the keys.
 */

import { MeasuredNode, OK_BYTES } from './measured-node.ts'
import type { Measurement } from './measurement.ts'

const SIZES = [10_000, 1_000_000, 10_000_000] as const
const READS = 200_000
const VALUE = Buffer.alloc(100, 'v')
const BULK_BYTES = '$100\r\n'.length + VALUE.length + '\r\n'.length
const MB = 1_048_576
/** Two memtables, the cache of values, that of the log, and Node.js itself, with room for garbage. */
const ANONYMOUS_MB_MAX = 400
/** From a million keys to ten million. */
const GROWTH_MB_MAX = 64

export const scale: Measurement = {
  name: 'scale',
  what: 'memory, file and rates with 10 k, 1 M and 10 M keys of 100 bytes',
  async run(report, { factor }) {
    const node = await MeasuredNode.start()
    try {
      let from = 0
      let before = Number.NaN
      for (const size of SIZES) {
        const to = size * factor
        const first = from
        const set = await node.pipeline(
          to - first,
          (at) => ['SET', `key:${first + at}`, VALUE],
          OK_BYTES,
        )
        await node.ask('SAVE')
        const get = await node.pipeline(
          READS * factor,
          () => ['GET', `key:${Math.floor(Math.random() * to)}`],
          BULK_BYTES,
        )
        const { anonymous, file } = node.memory()
        report.note(`${to.toLocaleString('en-US')} keys`)
        report.figure({ what: '  SET, pipelined', value: set, unit: 'keys/s' })
        report.figure({ what: '  GET at random, pipelined', value: get, unit: 'keys/s' })
        report.figure({
          what: '  RssAnon',
          value: anonymous / MB,
          unit: 'MiB',
          most: ANONYMOUS_MB_MAX,
        })
        report.figure({ what: '  RssFile', value: file / MB, unit: 'MiB' })
        report.figure({ what: '  file of the state', value: node.stateBytes() / MB, unit: 'MiB' })
        if (size > 1_000_000) {
          report.figure({
            what: '  RssAnon grew by',
            value: anonymous / MB - before,
            unit: 'MiB',
            most: GROWTH_MB_MAX,
          })
        }
        before = anonymous / MB
        from = to
      }
    } finally {
      await node.end()
    }
  },
}
