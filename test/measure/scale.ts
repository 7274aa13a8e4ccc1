/*
 * `npm run measure -- scale`: what a node takes, and how quick it is, with ten thousand, a million and ten million
 * keys of 100 bytes: its own memory must not grow with the keys. The keys are there by a fill (fill.ts); rates and
 * memory come from SETs and GETs of keys at random behind it, which touch the whole state.
 */

import { circumstances, today } from '../bench/circumstances.ts'
import { table } from '../bench/report.ts'
import { fill } from './fill.ts'
import { MeasuredNode, type Memory, OK_BYTES } from './measured-node.ts'
import type { Measurement, Report } from './measurement.ts'

const SIZES = [10_000, 1_000_000, 10_000_000] as const
/** Of each kind, at any factor: fewer would not fill what is to be filled. */
const COMMANDS = 200_000
const VALUE_BYTES = 100
const VALUE = Buffer.alloc(VALUE_BYTES, 'v')
const BULK_BYTES = `$${VALUE_BYTES}\r\n`.length + VALUE_BYTES + '\r\n'.length
const MB = 1_048_576
/** Two memtables, the cache of values, that of the log, and Node.js itself, with room for garbage. */
const ANONYMOUS_MB_MAX = 400
/** Between two sizes, and while as many SETs as before go on at the largest one. */
const GROWTH_MB_MAX = 64
/** From so many keys on all that is bounded is full: what grows then grows with the keys. */
const FULL_KEYS = 1_000_000

export const scale: Measurement = {
  name: 'scale',
  what: 'memory, file and rates with 10 k, 1 M and 10 M keys of 100 bytes',
  async run(report, { factor, keep }) {
    const startedAt = performance.now()
    const node = await MeasuredNode.start()
    try {
      const sizes = SIZES.map((size) => Math.max(1, Math.round(size * factor)))
      const rows: Row[] = []
      for (const keys of sizes) {
        const before = rows.at(-1)
        await filled(report, node, before?.keys ?? 0, keys)
        rows.push(await rowOf(node, keys))
        judge(report, rows, keys === sizes.at(-1))
      }
      const lines = markdown(rows)
      for (const line of lines) report.note(line)
      keep?.(lines)
      report.note(`took ${((performance.now() - startedAt) / 60_000).toFixed(1)} minutes`)
    } finally {
      await node.end()
    }
  },
}

interface Row {
  readonly keys: number
  /** Per second, pipelined, of keys at random. */
  readonly set: number
  readonly get: number
  /** After half of the SETs, and behind all commands. */
  readonly half: Memory
  readonly memory: Memory
  readonly fileBytes: number
}

async function filled(report: Report, node: MeasuredNode, from: number, to: number): Promise<void> {
  const startedAt = performance.now()
  const progress = (line: string): void => report.note(`  ${line}`)
  const { port } = node
  await fill({ port, from, to, name: (at) => `key:${at}`, valueBytes: VALUE_BYTES, progress })
  await node.ask('SAVE')
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0)
  report.note(`${to.toLocaleString('en-US')} keys (filled in ${seconds} s)`)
}

async function rowOf(node: MeasuredNode, keys: number): Promise<Row> {
  const key = (): string => `key:${Math.floor(Math.random() * keys)}`
  const sets = (): Promise<number> =>
    node.pipeline(COMMANDS / 2, () => ['SET', key(), VALUE], OK_BYTES)
  const first = await sets()
  await node.ask('SAVE')
  const half = node.memory()
  const second = await sets()
  await node.ask('SAVE')
  const get = await node.pipeline(COMMANDS, () => ['GET', key()], BULK_BYTES)
  const set = 2 / (1 / first + 1 / second)
  return { keys, set, get, half, memory: node.memory(), fileBytes: node.stateBytes() }
}

function judge(report: Report, rows: readonly Row[], last: boolean): void {
  const [row, before] = [rows.at(-1), rows.at(-2)]
  if (row === undefined) return
  const { memory, half } = row
  const grown = (from: Memory): number => (memory.anonymous - from.anonymous) / MB
  report.figure({ what: '  SET at random, pipelined', value: row.set, unit: 'keys/s' })
  report.figure({ what: '  GET at random, pipelined', value: row.get, unit: 'keys/s' })
  report.figure({
    what: '  RssAnon',
    value: memory.anonymous / MB,
    unit: 'MiB',
    most: ANONYMOUS_MB_MAX,
  })
  report.figure({ what: '  RssFile', value: memory.file / MB, unit: 'MiB' })
  report.figure({ what: '  file of the state', value: row.fileBytes / MB, unit: 'MiB' })
  if (before !== undefined) {
    const what = `  RssAnon grew from ${before.keys.toLocaleString('en-US')} keys by`
    const bound = before.keys >= FULL_KEYS ? { most: GROWTH_MB_MAX } : {}
    report.figure({ what, value: grown(before.memory), unit: 'MiB', ...bound })
  }
  if (last) {
    const what = '  RssAnon grew in the last half of the SETs, and the GETs, by'
    report.figure({ what, value: grown(half), unit: 'MiB', most: GROWTH_MB_MAX })
  }
}

function markdown(rows: readonly Row[]): string[] {
  const head = ['keys', 'SET at random', 'GET at random', 'RssAnon', 'RssFile', 'file']
  const mib = (bytes: number): string => `${(bytes / MB).toFixed(0)} MiB`
  const rate = (perSecond: number): string => `${(perSecond / 1000).toFixed(1)} k/s`
  const cells = rows.map(({ keys, set, get, memory, fileBytes }) => [
    keys.toLocaleString('en-US'),
    rate(set),
    rate(get),
    mib(memory.anonymous),
    mib(memory.file),
    mib(fileBytes),
  ])
  return [...circumstances(), `- ${today()}`, '', ...table(head, cells)]
}
