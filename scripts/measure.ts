/*
 * Prints what this build does on this machine, each figure with its bound and whether it is met; exit code 1 when one
 * is missed. What is measured lies in test/measure/, one file each; this is only their list.
 *
 *   npm run measure -- [--factor 0.1] [--minutes 30] [--save] [NAME...]      without a name: all of them
 *
 * --save puts the tables of `scale` into docs/scale.md, in the place of those that it has.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { OperatorError } from '../src/operator-error.ts'
import { type CommandLine, calledWrongly, numberFrom, runScript } from '../test/command-line.ts'
import { checkpoint } from '../test/measure/checkpoint.ts'
import { disk } from '../test/measure/disk.ts'
import { expiry } from '../test/measure/expiry.ts'
import { failover } from '../test/measure/failover.ts'
import { grow } from '../test/measure/grow.ts'
import { type Measurement, measure } from '../test/measure/measurement.ts'
import { neighbours } from '../test/measure/neighbours.ts'
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
  neighbours,
  soak,
]

const DOCUMENT = fileURLToPath(new URL('../../docs/scale.md', import.meta.url))
const BEGIN = '<!-- scale: written by npm run measure -- scale --save -->'
const END = '<!-- end of scale -->'

const OPTIONS = {
  factor: { type: 'string', default: '1' },
  minutes: { type: 'string', default: '30' },
  save: { type: 'boolean', default: false },
} as const

async function main({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<number> {
  const factor = numberFrom('factor', values.factor, { above: 0 })
  const minutes = numberFrom('minutes', values.minutes, { above: 0 })
  const names = MEASUREMENTS.map(({ name }) => name)
  const unknown = positionals.find((word) => !names.includes(word))
  if (unknown !== undefined) {
    throw calledWrongly(`there is no '${unknown}'; allowed: ${names.join(', ')}`)
  }
  const options = { factor, minutes, ...(values.save ? { keep } : {}) }
  const passed = await measure(MEASUREMENTS, positionals, options, (line) => {
    process.stdout.write(`${line}\n`)
  })
  return passed ? 0 : 1
}

/** Puts the lines into the document, between its marks. */
function keep(lines: readonly string[]): void {
  const text = readFileSync(DOCUMENT, 'utf8')
  const [before, after] = [text.split(BEGIN)[0], text.split(END)[1]]
  if (before === undefined || after === undefined) {
    throw new OperatorError('DOCUMENT', `docs/scale.md has lost its marks ${BEGIN} and ${END}`)
  }
  writeFileSync(DOCUMENT, `${before}${BEGIN}\n\n${lines.join('\n')}\n\n${END}${after}`)
}

await runScript({ url: import.meta.url, options: OPTIONS, words: true }, main)
