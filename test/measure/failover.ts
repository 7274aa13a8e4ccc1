/*
 * `npm run measure -- failover`: the leader is killed again and again (scripts/failover.ts, which does it and judges what
 * became of each command), first with writers on all nodes, then through one that is never killed.
 */

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Measurement, Report } from './measurement.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/failover.js', import.meta.url))
const KILLS = 50
const P50_MS_MAX = 500
const LONGEST_MS_MAX = 1500

export const failover: Measurement = {
  name: 'failover',
  what: 'kill -9 of the leader under load, again and again',
  async run(report, { factor }) {
    const kills = Math.max(1, Math.round(KILLS * factor))
    for (const through of [[], ['--through', 'follower']]) {
      report.note(through.length === 0 ? 'writers on all nodes' : 'writers on one that lives')
      await killing(report, ['--kills', String(kills), ...through])
    }
  },
}

async function killing(report: Report, args: readonly string[]): Promise<void> {
  const { output, code } = await run(args)
  const [, p50, longest] = /p50 (\d+) ms, max (\d+) ms/.exec(output) ?? []
  const what = 'from the kill to an acknowledged write'
  report.figure({ what: `${what}, p50`, value: Number(p50), unit: 'ms', most: P50_MS_MAX })
  report.figure({
    what: `${what}, longest`,
    value: Number(longest),
    unit: 'ms',
    most: LONGEST_MS_MAX,
  })
  report.figure({ what: 'exit code of the script', value: code, unit: '', most: 0 })
  for (const line of output.split('\n').slice(-8)) if (line !== '') report.note(line)
}

function run(args: readonly string[]): Promise<{ readonly output: string; readonly code: number }> {
  // It ends its nodes itself, also when it is ended.
  const child = spawn(process.execPath, [SCRIPT, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ output, code: code ?? Number.NaN }))
  })
}
