/*
 * The picture of a run: every command as a dot (when it was asked, how long it took, what became of it), the share of
 * commands that succeeded through each node per second, and the faults as shaded times behind both. Pure: data in,
 * SVG out.
 */

import type { Interval, Sample } from './availability.ts'

const WIDTH = 1200
const LEFT = 70
const RIGHT = 20
const LATENCY_TOP = 70
const LATENCY_HEIGHT = 320
const SERVICE_TOP = LATENCY_TOP + LATENCY_HEIGHT + 60
const SERVICE_HEIGHT = 34
const LATENCY_MS_MIN = 0.1
const LATENCY_MS_MAX = 20_000
/** More dots say no more and make the file unreadable; those that failed are all drawn. */
const DOTS_MAX = 4000
const COLOURS = { ok: '#2b6cb0', fail: '#dd6b20', info: '#c53030' } as const
const NAMES = { ok: 'ok', fail: 'refused (certainly not executed)', info: 'unknown' } as const

export interface Plot {
  readonly title: string
  readonly durationMs: number
  readonly nodes: readonly string[]
  readonly samples: readonly Sample[]
  readonly faults: readonly Interval[]
}

export function drawRun(plot: Plot): string {
  const height = SERVICE_TOP + plot.nodes.length * (SERVICE_HEIGHT + 14) + 40
  const x = (ms: number): number => LEFT + (ms / plot.durationMs) * (WIDTH - LEFT - RIGHT)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`,
    ' font-family="sans-serif" font-size="12">',
    `<rect width="${WIDTH}" height="${height}" fill="#fff"/>`,
    text(LEFT, 24, plot.title, 'font-size="15" font-weight="bold"'),
    legend(),
    faults(plot, x, height),
    latencyAxis(),
    dots(plot, x),
    ...plot.nodes.map((name, node) => service(plot, x, { name, node })),
    timeAxis(plot, x, height),
    '</svg>',
  ].join('\n')
}

function legend(): string {
  let at = LEFT
  return Object.entries(NAMES)
    .map(([outcome, name]) => {
      const colour = COLOURS[outcome as keyof typeof COLOURS]
      const part = `<circle cx="${at + 5}" cy="44" r="4" fill="${colour}"/>${text(at + 14, 48, name)}`
      at += 40 + name.length * 7
      return part
    })
    .join('')
}

function faults({ faults: all }: Plot, x: (ms: number) => number, height: number): string {
  return all
    .map(({ what, fromMs, toMs }) => {
      const left = x(fromMs)
      const width = Math.max(1, x(toMs) - left)
      return `<rect x="${px(left)}" y="${LATENCY_TOP}" width="${px(width)}" height="${height - LATENCY_TOP - 40}" fill="#fbd38d" fill-opacity="0.45"><title>${escaped(what)}</title></rect>`
    })
    .join('')
}

function yOf(ms: number): number {
  const clamped = Math.min(LATENCY_MS_MAX, Math.max(LATENCY_MS_MIN, ms))
  const share = Math.log(clamped / LATENCY_MS_MIN) / Math.log(LATENCY_MS_MAX / LATENCY_MS_MIN)
  return LATENCY_TOP + LATENCY_HEIGHT * (1 - share)
}

function latencyAxis(): string {
  return [0.1, 1, 10, 100, 1000, 10_000]
    .map((ms) => {
      const y = px(yOf(ms))
      const line = `<line x1="${LEFT}" y1="${y}" x2="${WIDTH - RIGHT}" y2="${y}" stroke="#e2e8f0"/>`
      return line + text(LEFT - 8, yOf(ms) + 4, `${ms} ms`, 'text-anchor="end"')
    })
    .join('')
}

function dots({ samples, durationMs }: Plot, x: (ms: number) => number): string {
  const step = Math.max(1, Math.ceil(samples.length / DOTS_MAX))
  return samples
    .filter(({ startMs }) => startMs <= durationMs)
    .filter(({ outcome }, at) => outcome !== 'ok' || at % step === 0)
    .map(({ startMs, endMs, outcome }) => {
      // No command was sent, so none took any time; the bar below shows it.
      if (outcome === 'away') return ''
      const at = `cx="${px(x(startMs))}" cy="${px(yOf(endMs - startMs))}"`
      return `<circle ${at} r="1.6" fill="${COLOURS[outcome]}" fill-opacity="0.7"/>`
    })
    .join('')
}

/** One bar per second: green as far as clients were served, red as far as they were not; none if nobody asked. */
function service(
  { samples, durationMs }: Plot,
  x: (ms: number) => number,
  { name, node }: { name: string; node: number },
): string {
  const top = SERVICE_TOP + node * (SERVICE_HEIGHT + 14)
  const seconds = Array.from({ length: Math.ceil(durationMs / 1000) }, () => ({ asked: 0, ok: 0 }))
  for (const sample of samples) {
    const second = seconds[Math.floor(sample.startMs / 1000)]
    if (sample.node !== node || second === undefined) continue
    second.asked++
    if (sample.outcome === 'ok') second.ok++
  }
  const bars = seconds.map(({ asked, ok }, second) => {
    if (asked === 0) return ''
    const left = x(second * 1000)
    const width = Math.max(1, x((second + 1) * 1000) - left - 0.5)
    const good = (ok / asked) * SERVICE_HEIGHT
    const bad = SERVICE_HEIGHT - good
    return (
      `<rect x="${px(left)}" y="${px(top)}" width="${px(width)}" height="${px(bad)}" fill="#c53030"/>` +
      `<rect x="${px(left)}" y="${px(top + bad)}" width="${px(width)}" height="${px(good)}" fill="#68d391"/>`
    )
  })
  return bars.join('') + text(LEFT - 8, top + 22, name, 'text-anchor="end"')
}

function timeAxis({ durationMs }: Plot, x: (ms: number) => number, height: number): string {
  const seconds = durationMs / 1000
  const step = [1, 2, 5, 10, 30, 60, 120, 300].find((one) => seconds / one <= 14) ?? 600
  const marks = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, at) => at * step)
  return marks
    .map((second) => text(x(second * 1000), height - 18, `${second} s`, 'text-anchor="middle"'))
    .join('')
}

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${px(x)}" y="${px(y)}" ${attributes}>${escaped(content)}</text>`
}

function px(value: number): string {
  return String(Math.round(value * 10) / 10)
}

function escaped(content: string): string {
  const entities: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
  }
  return content.replace(/[&<>"]/g, (character) => entities[character] ?? '')
}
