/*
 * Prints what this build does on this machine, each figure with its bound and whether it is met; exit code 1 when one
 * is missed. What is measured lies in test/measure/, one file each; this is only their list.
 *
 *   npm run measure -- [--factor 0.1] [--minutes 30] [NAME...]      without a name: all of them
 */

import { type CommandLine, calledWrongly, numberFrom, runScript } from '../test/command-line.ts'
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

const OPTIONS = {
  factor: { type: 'string', default: '1' },
  minutes: { type: 'string', default: '30' },
} as const

async function main({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<number> {
  const factor = numberFrom('factor', values.factor, { above: 0 })
  const minutes = numberFrom('minutes', values.minutes, { above: 0 })
  const names = MEASUREMENTS.map(({ name }) => name)
  const unknown = positionals.find((word) => !names.includes(word))
  if (unknown !== undefined) {
    throw calledWrongly(`there is no '${unknown}'; allowed: ${names.join(', ')}`)
  }
  const passed = await measure(MEASUREMENTS, positionals, { factor, minutes }, (line) => {
    process.stdout.write(`${line}\n`)
  })
  return passed ? 0 : 1
}

await runScript({ url: import.meta.url, options: OPTIONS, words: true }, main)
