/*
 * Prints what this build does on this machine, each figure with its bound and whether it is met; exit code 1 when one
 * is missed. What is measured lies in test/measure/, one file each; this is only their list.
 *
 *   npm run measure -- [--factor 0.1] [--minutes 30] [NAME...]      without a name: all of them
 */

import { parseArgs } from 'node:util'
import { checkpoint } from '../test/measure/checkpoint.ts'
import { disk } from '../test/measure/disk.ts'
import { expiry } from '../test/measure/expiry.ts'
import { failover } from '../test/measure/failover.ts'
import { grow } from '../test/measure/grow.ts'
import { type Measurement, measure } from '../test/measure/measurement.ts'
import { restart } from '../test/measure/restart.ts'
import { scale } from '../test/measure/scale.ts'
import { snapshot } from '../test/measure/snapshot.ts'
import { soak } from '../test/measure/soak.ts'
import { transfer } from '../test/measure/transfer.ts'

const MEASUREMENTS: readonly Measurement[] = [
  checkpoint,
  disk,
  expiry,
  restart,
  scale,
  snapshot,
  grow,
  transfer,
  failover,
  soak,
]

const { values, positionals } = parseArgs({
  options: {
    factor: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '30' },
  },
  allowPositionals: true,
})
const factor = Number(values.factor)
if (!(factor > 0)) throw new Error(`--factor takes a number above 0, not '${values.factor}'`)
const minutes = Number(values.minutes)
if (!(minutes > 0)) throw new Error(`--minutes takes a number above 0, not '${values.minutes}'`)
const passed = await measure(MEASUREMENTS, positionals, { factor, minutes }, (line) => {
  process.stdout.write(`${line}\n`)
})
process.exitCode = passed ? 0 : 1
