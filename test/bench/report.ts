/*
 * What is said of a run: tables in Markdown and a chart in SVG. Pure: results in, text out. Every figure is a median
 * over the rounds; a ratio is the median of the ratios of each round, with the least and the largest beside it.
 */

import type { Stops } from '../measure/measured-node.ts'
import { type Cell, type GeneratorCheck, nameOf, type Results, type Sample } from './rounds.ts'
import type { Target } from './systems.ts'

export interface Findings {
  readonly results: Results
  readonly targets: readonly Target[]
  /** What everything is compared with, of the targets. */
  readonly peers: readonly Target[]
  readonly generator: readonly GeneratorCheck[]
  readonly stalls: readonly Stall[]
  /** Lines on machine, versions, commit. */
  readonly circumstances: readonly string[]
}

/** The longest stops of an event loop under a load. */
export interface Stall extends Stops {
  readonly load: string
  readonly part: string
}

/** A run is reproduced where its ratios are no further from those of another one. */
const REPRODUCED = 0.2
/** Our generator and redis-benchmark are to agree this far. */
const AGREED = 0.1

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** Of each round; rounds that only one side has do not count. */
export function ratios(one: readonly Sample[], other: readonly Sample[]): readonly number[] {
  const rounds = Math.min(one.length, other.length)
  return Array.from({ length: rounds }, (_, round) => {
    return (one[round]?.perSecond ?? Number.NaN) / (other[round]?.perSecond ?? Number.NaN)
  })
}

export function markdown(findings: Findings): string {
  return [
    ...findings.circumstances,
    '',
    '## Commands per second, and the ratio to each peer',
    '',
    ...throughput(findings),
    '',
    '## Latency (p50 / p99 / p99.9 in ms; p99.9 where our own generator ran)',
    '',
    ...latency(findings),
    '',
    '## What a command costs each process',
    '',
    ...costs(findings),
    '',
    '## The longest stop of the event loop',
    '',
    ...stalls(findings),
    '',
    '## The generator against redis-benchmark (SET c=50 P=1, in turn)',
    '',
    ...generator(findings),
    '',
  ].join('\n')
}

/** Each of our targets beside each peer. */
function pairs({ targets, peers }: Findings): readonly (readonly [Target, Target])[] {
  const ours = targets.filter((target) => !peers.includes(target))
  return ours.flatMap((target) => peers.map((peer) => [target, peer] as const))
}

/** By load and pair of targets: the median ratio. What is kept of a run, to hold later ones against it. */
export type Ratios = Readonly<Record<string, number>>

export function ratiosOf(findings: Findings): Ratios {
  const found: Record<string, number> = {}
  for (const [cell, byTarget] of findings.results) {
    for (const [target, peer] of pairs(findings)) {
      const all = ratios(byTarget.get(target) ?? [], byTarget.get(peer) ?? [])
      if (all.length === 0) continue
      const name = `${nameOf(cell)}: ${target.name} / ${peer.name}`
      found[name] = Number(median(all).toPrecision(3))
    }
  }
  return found
}

/** What is kept of a run: where and when it was, and its ratios. */
export interface SavedRun {
  readonly circumstances: readonly string[]
  readonly ratios: Ratios
}

/** The least and the largest that the saved runs have of a ratio; undefined: none has it. */
function span(runs: readonly SavedRun[], name: string): readonly [number, number] | undefined {
  const all = runs.flatMap(({ ratios }) => ratios[name] ?? [])
  return all.length === 0 ? undefined : [Math.min(...all), Math.max(...all)]
}

/** How far a run's ratios are from what the saved ones span; only what they have too counts. */
export function reproduced(now: Ratios, runs: readonly SavedRun[]): readonly string[] {
  const far: string[] = []
  let count = 0
  for (const [name, value] of Object.entries(now)) {
    const saved = span(runs, name)
    if (saved === undefined) continue
    count++
    const [least, most] = saved
    const nearest = Math.min(Math.max(value, least), most)
    const quotient = value / nearest
    if (Math.abs(quotient - 1) <= REPRODUCED) continue
    far.push(`  ${name}: ${times(value)}, was ${spanText(saved)} (${times(quotient)}x)`)
  }
  const within = `${count - far.length} of ${count} ratios are within 20 % of the saved ones`
  return [within, ...far]
}

function spanText([least, most]: readonly [number, number]): string {
  return least === most ? times(least) : `${times(least)} to ${times(most)}`
}

/** The ratios of all saved runs, of which the newest is the one above. */
export function overRuns(runs: readonly SavedRun[]): string {
  const names = new Set(runs.flatMap(({ ratios }) => Object.keys(ratios)))
  const rows = [...names].map((name) => {
    const saved = span(runs, name)
    const each = runs.map(({ ratios: { [name]: value } }) =>
      value === undefined ? '' : times(value),
    )
    return [name, ...each, saved === undefined ? '' : spanText(saved)]
  })
  return [
    '## The ratios of all saved runs',
    '',
    'A machine that is slower in another way, at its disk or at waking a process, has other ratios with the same programs. Each run is a column (its medians), and the last one is what they span.',
    '',
    ...runs.map(
      ({ circumstances }, at) =>
        `- run ${at + 1}: ${circumstances.map((line) => line.replace(/^- /, '')).join('; ')}`,
    ),
    '',
    ...table(['ratio', ...runs.map((_, at) => `run ${at + 1}`), 'from and to'], rows),
    '',
  ].join('\n')
}

function throughput(findings: Findings): string[] {
  const { results, targets } = findings
  const compared = pairs(findings)
  const head = [
    'load',
    ...targets.map(({ name }) => name),
    ...compared.map(([target, peer]) => `${target.name} / ${peer.name}`),
  ]
  const rows = [...results].map(([cell, byTarget]) => [
    nameOf(cell),
    ...targets.map((target) => perSecond(byTarget.get(target))),
    ...compared.map(([target, peer]) => ratio(byTarget.get(target), byTarget.get(peer))),
  ])
  return table(head, rows)
}

function perSecond(samples: readonly Sample[] = []): string {
  if (samples.length === 0) return ''
  const value = median(samples.map((sample) => sample.perSecond))
  return value < 10_000 ? `${(value / 1000).toFixed(2)} k` : `${(value / 1000).toFixed(1)} k`
}

function ratio(one: readonly Sample[] = [], other: readonly Sample[] = []): string {
  const all = ratios(one, other)
  if (all.length === 0) return ''
  const spread =
    all.length === 1 ? '' : ` (${times(Math.min(...all))} to ${times(Math.max(...all))})`
  return `**${times(median(all))}**${spread}`
}

function times(value: number): string {
  return value < 0.1 ? value.toFixed(3) : value.toFixed(2)
}

function latency({ results, targets }: Findings): string[] {
  const rows = [...results].map(([cell, byTarget]) => [
    nameOf(cell),
    ...targets.map((target) => {
      const samples = byTarget.get(target) ?? []
      if (samples.length === 0) return ''
      const p999 = samples.flatMap((sample) => sample.p999 ?? [])
      const parts = [samples.map(({ p50 }) => p50), samples.map(({ p99 }) => p99)]
      if (p999.length > 0) parts.push(p999)
      return parts.map((values) => ms(median(values))).join(' / ')
    }),
  ])
  return table(['load', ...targets.map(({ name }) => name)], rows)
}

function ms(value: number): string {
  return value < 1 ? value.toFixed(3) : value.toFixed(value < 10 ? 2 : 1)
}

function costs({ results, targets }: Findings): string[] {
  const head = [
    'load',
    'target',
    'part',
    'CPU µs per command',
    'of a core',
    'RssAnon MB',
    'RssFile MB',
    'entries per s',
    'commands per entry',
  ]
  const rows: string[][] = []
  for (const [cell, byTarget] of results) {
    for (const target of targets) rows.push(...costRows(cell, target, byTarget.get(target) ?? []))
  }
  return table(head, rows)
}

function costRows(cell: Cell, target: Target, samples: readonly Sample[]): string[][] {
  const parts = [...new Set(samples.flatMap((sample) => sample.parts.map(({ part }) => part)))]
  return parts.map((part) => {
    const usages = samples.flatMap((sample) => sample.parts.filter((one) => one.part === part))
    const of = (pick: (usage: (typeof usages)[number]) => number): number =>
      median(usages.map(pick))
    const entries = samples.flatMap((sample) => sample.entriesPerSecond ?? [])
    const perEntry = samples.flatMap((sample) => sample.commandsPerEntry ?? [])
    return [
      nameOf(cell),
      target.name,
      part,
      of((usage) => usage.cpuMicrosPerCommand).toFixed(1),
      of((usage) => usage.cpu).toFixed(2),
      (of((usage) => usage.anonymousBytes) / 1e6).toFixed(0),
      (of((usage) => usage.fileBytes) / 1e6).toFixed(0),
      entries.length === 0 || cell.load === 'GET' ? '' : median(entries).toFixed(0),
      perEntry.length === 0 || cell.load === 'GET' ? '' : median(perEntry).toFixed(1),
    ]
  })
}

function stalls({ stalls: all }: Findings): string[] {
  const rows = all.map(({ load, part, stop, processor, collection }) => [
    load,
    part,
    ...[stop, processor, collection].map((time) => time.toFixed(1)),
  ])
  const head = ['load', 'node', 'stop ms', 'of it by processor time', 'collection of garbage ms']
  return table(head, rows)
}

/** Both figures of each turn, their ratios and the verdict. */
export function generator({ generator: checks }: Pick<Findings, 'generator'>): string[] {
  const all = checks.map(({ own, redisBenchmark }) => own / redisBenchmark)
  const rows = checks.map(({ own, redisBenchmark }, at) => [
    own.toFixed(0),
    redisBenchmark.toFixed(0),
    times(all[at] ?? Number.NaN),
  ])
  const ratio = median(all)
  const agreed = Math.abs(ratio - 1) <= AGREED ? 'within' : 'NOT within'
  const verdict = all.length === 0 ? 'not compared' : `median ratio ${times(ratio)}: ${agreed} 10 %`
  return [...table(['own', 'redis-benchmark', 'ratio'], rows), '', verdict]
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)]
}

// ---- The chart ------------------------------------------------------------------------------------

const WIDTH = 1000
const LEFT = 190
const BAR = 13
const GAP = 14
const TOP = 70
const COLOURS = ['#2b6cb0', '#63b3ed', '#805ad5', '#a0aec0', '#718096', '#dd6b20', '#38a169']

/** Bars of commands per second, each cell on a scale of its own: what differs between cells is said by the figures. */
export function chart({ results, targets }: Findings): string {
  let y = TOP
  const groups: string[] = []
  for (const [cell, byTarget] of results) {
    const bars = targets.flatMap((target, at) => {
      const samples = byTarget.get(target)
      if (samples === undefined) return []
      return [{ at, value: median(samples.map((sample) => sample.perSecond)) }]
    })
    const most = Math.max(...bars.map(({ value }) => value))
    groups.push(label(LEFT - 10, y + (bars.length * BAR) / 2 + 4, nameOf(cell), 'end'))
    for (const { at, value } of bars) {
      const width = ((WIDTH - LEFT - 90) * value) / most
      groups.push(
        `<rect x="${LEFT}" y="${y}" width="${width.toFixed(1)}" height="${BAR - 2}" fill="${COLOURS[at % COLOURS.length]}"/>`,
        label(LEFT + width + 5, y + BAR - 3, `${(value / 1000).toFixed(1)} k/s`, 'start'),
      )
      y += BAR
    }
    y += GAP
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="sans-serif" font-size="11">`,
    `<rect width="${WIDTH}" height="${y}" fill="#fff"/>`,
    label(LEFT, 22, 'Commands per second (medians); each load on a scale of its own', 'start'),
    ...targets.map(({ name }, at) => legend(name, at, targets.length)),
    ...groups,
    '</svg>',
    '',
  ].join('\n')
}

function legend(name: string, at: number, count: number): string {
  const x = LEFT + (at * (WIDTH - LEFT)) / count
  const box = `<rect x="${x}" y="38" width="10" height="10" fill="${COLOURS[at % COLOURS.length]}"/>`
  return box + label(x + 14, 47, name, 'start')
}

function label(x: number, y: number, text: string, anchor: 'start' | 'end'): string {
  const safe = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${safe}</text>`
}
