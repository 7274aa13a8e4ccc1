/*
 * `npm run measure -- disk`: what a disk costs and how soon its failure is seen: backup and restore of a node that
 * serves, the pace of a scrub, and the time between an fsync that fails and the end of the process.
 */

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Cluster } from '../e2e/cluster.ts'
import { until } from '../processes.ts'
import { requireTool } from '../tools.ts'
import { MeasuredNode, reportStops } from './measured-node.ts'
import type { Measurement, Report } from './measurement.ts'

const KEYS = 200_000
const VALUE = Buffer.alloc(1024, 'v')
const OK_BYTES = '+OK\r\n'.length
const MB = 1024 * 1024
const SCRUB_BYTES_PER_SECOND = 16 * MB
const PATIENCE_MS = 300_000
const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url))
/** The issue: the node ends within a second. */
const END_MS_MAX = 1000

export const disk: Measurement = {
  name: 'disk',
  what: `backup, restore and scrub of ${KEYS.toLocaleString('en-US')} values of 1 KiB; an fsync that fails`,
  async run(report, { factor }) {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-measure-'))
    const node = await MeasuredNode.start(['--scrub-bytes-per-second', '0'])
    try {
      const keys = KEYS * factor
      await node.pipeline(keys, (at) => ['SET', `key:${at}`, VALUE], OK_BYTES)
      await node.ask('SAVE')
      await measureBackup(report, node, folder)
      await measureScrub(report, node, keys)
    } finally {
      await node.end()
      rmSync(folder, { recursive: true, force: true })
    }
    await measureFailure(report)
  },
}

async function measureBackup(report: Report, node: MeasuredNode, folder: string): Promise<void> {
  const file = join(folder, 'backup')
  await node.stops()
  const backupMs = await holdfast('backup', '--from', `127.0.0.1:${node.port}`, file)
  const stops = await node.stops()
  const megabytes = statSync(file).size / MB
  report.figure({ what: 'backup', value: (1000 * megabytes) / backupMs, unit: 'MB/s' })
  reportStops(report, stops)
  const restoreMs = await holdfast('restore', file, '--dir', join(folder, 'restored'))
  report.figure({ what: 'restore', value: (1000 * megabytes) / restoreMs, unit: 'MB/s' })
}

async function measureScrub(report: Report, node: MeasuredNode, keys: number): Promise<void> {
  const passes = async (): Promise<number> => Number(await node.info('scrub_passes'))
  const before = await passes()
  await node.stops()
  const startedAt = performance.now()
  await node.ask('CONFIG', 'SET', 'scrub-bytes-per-second', SCRUB_BYTES_PER_SECOND)
  await until('a pass of the scrub', async () => (await passes()) > before, PATIENCE_MS)
  const seconds = (performance.now() - startedAt) / 1000
  const megabytes = (keys * VALUE.length) / MB
  report.figure({
    what: `scrub at ${SCRUB_BYTES_PER_SECOND / MB} MB/s`,
    value: megabytes / seconds,
    unit: 'MB/s',
    most: (SCRUB_BYTES_PER_SECOND / MB) * 1.05,
  })
  reportStops(report, await node.stops())
}

/** From the first fdatasync that fails to the last thing that strace has seen of the process. */
async function measureFailure(report: Report): Promise<void> {
  if (requireTool('strace') === undefined) {
    report.note('strace is missing: the end after a failed fsync was not measured')
    return
  }
  const cluster = await Cluster.prepare({ nodes: 1 })
  try {
    const node = cluster.node(0)
    const trace = `${node.dir}.trace`
    const file = join(node.dir, 'log', 'data.mdb')
    const inject = ['-e', 'trace=fdatasync', '-e', 'inject=fdatasync:error=EIO:when=12+']
    const output = ['-f', '-qq', '-ttt', '-o', trace]
    node.start({ under: ['strace', ...output, '--seccomp-bpf', '-P', file, ...inject] })
    await node.ready(PATIENCE_MS)
    for (let at = 0; node.running && at < 1000; at++) {
      await node.ask('SET', 'k', at).catch(() => undefined)
    }
    await node.end(PATIENCE_MS)
    const lines = readFileSync(trace, 'utf8').trimEnd().split('\n')
    const timeOf = (line = ''): number => 1000 * Number(line.split(/ +/)[1])
    const failed = lines.find((line) => line.includes('(INJECTED)'))
    const value = timeOf(lines.at(-1)) - timeOf(failed)
    const what = 'from a failed fsync to the end of the process'
    report.figure({ what, value, unit: 'ms', most: END_MS_MAX })
  } finally {
    await cluster.end()
  }
}

/** The command's time in ms. */
function holdfast(...args: readonly string[]): Promise<number> {
  const startedAt = performance.now()
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    child.once('error', reject)
    child.once('close', (code) => {
      if (code === 0) resolve(performance.now() - startedAt)
      else reject(new Error(`holdfast ${args[0]} ended with exit code ${code}`))
    })
  })
}
