/*
 * Prints what this build does on this machine, each figure with its bound and whether it is met; exit code 1 when one
 * is missed. What is measured lies in test/measure/, one file each; this is only their list.
 *
 *   npm run measure -- [--factor 0.1] [NAME...]      without a name: all of them
 */

import { parseArgs } from 'node:util'
import { checkpoint } from '../test/measure/checkpoint.ts'
import { disk } from '../test/measure/disk.ts'
import { expiry } from '../test/measure/expiry.ts'
import { type Measurement, measure } from '../test/measure/measurement.ts'
import { restart } from '../test/measure/restart.ts'
import { scale } from '../test/measure/scale.ts'
import { snapshot } from '../test/measure/snapshot.ts'

const MEASUREMENTS: readonly Measurement[] = [checkpoint, disk, expiry, restart, scale, snapshot]

const { values, positionals } = parseArgs({
  options: { factor: { type: 'string', default: '1' } },
  allowPositionals: true,
})
const factor = Number(values.factor)
if (!(factor > 0)) throw new Error(`--factor takes a number above 0, not '${values.factor}'`)
const passed = await measure(MEASUREMENTS, positionals, { factor }, (line) => {
  process.stdout.write(`${line}\n`)
})
process.exitCode = passed ? 0 : 1
