/*
 * An explanation as an SVG: one row per process, one bar per operation from invocation to return, in the order of
 * the events (not to scale: microseconds and minutes must be readable side by side), with the longest legal order
 * as numbers. All text of clients goes through `shown` and is escaped: a value must not become markup.
 */

import { type Explanation, idOf } from './explain.ts'
import { type Operation, shown, shownCommand, shownReply } from './operation.ts'

const FONT = 'ui-monospace, Menlo, Consolas, monospace'
const CHARACTER_PX = 7.3
const LEFT_PX = 130
const RIGHT_PX = 40
const TOP_PX = 128
const ROW_PX = 74
const BAR_PX = 26
const LINE_PX = 20
const EVENT_GAP_PX = 26
const BAR_PADDING_PX = 40
const NARROWEST_PX = 760
const VALUES_SHOWN_MAX = 3
/** The order is shown from its end; what is drawn is most of it. */
const ORDER_LINES_MAX = 24
/** Operations drawn in all; a core is seldom beyond a dozen. */
const BARS_MAX = 60

interface Style {
  readonly name: string
  readonly fill: string
  readonly stroke: string
  readonly text: string
}

const STYLES = {
  core: { name: 'in the contradiction', fill: '#d6e6fb', stroke: '#2c67b0', text: '#2c67b0' },
  stuck: { name: 'fits nowhere', fill: '#fbd5d2', stroke: '#c22f24', text: '#c22f24' },
  unknown: { name: 'outcome unknown', fill: '#fff1cf', stroke: '#b07d10', text: '#8a610a' },
  failed: { name: 'failed', fill: '#ffffff', stroke: '#9a9a9a', text: '#666666' },
  other: { name: 'other operation', fill: '#f1f1f1', stroke: '#a8a8a8', text: '#666666' },
} as const satisfies Record<string, Style>

interface Bar {
  readonly operation: Operation
  readonly style: Style
  /** Places in the longest legal order, from 1; undefined when it is not in it. */
  readonly turn: number | undefined
  readonly label: string
  readonly detail: string
}

/** The picture as one SVG document. */
export function draw(explanation: Explanation): string {
  const bars = barsOf(explanation)
  const rows = [...new Set(bars.map(({ operation }) => operation.process))]
  const xs = positions(bars)
  const text = textBelow(explanation)
  const title = `Key ${shown(explanation.key)} is not linearizable`
  const lengths = [valuesBefore(explanation), ...text].map((line) => line.length)
  const widest = Math.max(title.length * 1.5, ...lengths) * CHARACTER_PX
  const width = Math.ceil(Math.max(NARROWEST_PX, xs.end + RIGHT_PX, widest + 2 * RIGHT_PX))
  const bottom = TOP_PX + rows.length * ROW_PX
  const height = bottom + 30 + text.length * LINE_PX
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"`,
    ` viewBox="0 0 ${width} ${height}" font-family="${FONT}" font-size="12">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    write(24, 34, title, 'font-size="17" font-weight="bold"'),
    write(24, 56, subtitle(explanation, bars), 'fill="#555"'),
    legend(bars),
    border(explanation, xs, { width, bottom }),
    ...rows.map((row, index) => rowLine(row, TOP_PX + index * ROW_PX, xs.end)),
    ...bars.map((bar) => drawBar(bar, xs, TOP_PX + rows.indexOf(bar.operation.process) * ROW_PX)),
    ...text.map((line, index) => write(24, bottom + 26 + index * LINE_PX, line, styleOf(line))),
    '</svg>\n',
  ].join('\n')
}

function barsOf(explanation: Explanation): readonly Bar[] {
  const { leadIn, window, core, context, order, stuck } = explanation
  const turns = new Map(order.map(({ operation }, index) => [idOf(operation), index + 1]))
  const stuckIds = new Set(stuck.map(({ operation }) => idOf(operation)))
  const coreIds = new Set(core.map(idOf))
  const style = (operation: Operation): Style => {
    if (stuckIds.has(idOf(operation))) return STYLES.stuck
    if (coreIds.has(idOf(operation))) return STYLES.core
    if (operation.outcome === 'info') return STYLES.unknown
    return operation.outcome === 'fail' ? STYLES.failed : STYLES.other
  }
  const drawn = [...leadIn, ...window.slice(-BARS_MAX), ...context].sort(
    (a, b) => a.invoked - b.invoked,
  )
  return drawn.map((operation) => ({
    operation,
    style: style(operation),
    turn: turns.get(idOf(operation)),
    label: shownCommand(operation),
    detail: outcomeOf(operation),
  }))
}

function outcomeOf({ outcome, reply, invokedNs, returnedNs }: Operation): string {
  if (outcome === 'info') return '→ unknown'
  const duration = milliseconds(returnedNs - invokedNs)
  return outcome === 'fail' ? `→ failed  ${duration}` : `→ ${shownReply(reply)}  ${duration}`
}

function milliseconds(ns: number): string {
  return `${(ns / 1e6).toFixed(ns < 1e9 ? 3 : 0)} ms`
}

interface Box {
  readonly width: number
  readonly bottom: number
}

interface Positions {
  readonly of: ReadonlyMap<number, number>
  readonly end: number
}

/** An x for each event, in their order, such that each bar has room for its text. */
function positions(bars: readonly Bar[]): Positions {
  const widths = new Map<number, { invoked: number; px: number }[]>()
  const events = new Set<number>()
  for (const { operation, label, detail } of bars) {
    const { invoked, returned } = operation
    const px = Math.max(label.length, detail.length) * CHARACTER_PX + BAR_PADDING_PX
    widths.set(returned, [...(widths.get(returned) ?? []), { invoked, px }])
    events.add(invoked).add(returned)
  }
  const of = new Map<number, number>()
  let x = LEFT_PX
  for (const event of [...events].sort((a, b) => a - b)) {
    const least = (widths.get(event) ?? []).map(({ invoked, px }) => (of.get(invoked) ?? 0) + px)
    x = Math.max(x + (of.size === 0 ? 0 : EVENT_GAP_PX), ...least)
    of.set(event, x)
  }
  return { of, end: x }
}

/** Where the window begins, if anything before it is drawn, and what the value is there. */
function border(explanation: Explanation, xs: Positions, box: Box): string {
  const { from, window } = explanation
  const first = Math.min(...window.map(({ invoked }) => invoked).filter((at) => at >= from))
  const at = xs.of.get(first)
  if (at === undefined || from === Number.NEGATIVE_INFINITY) return ''
  const x = px(at - EVENT_GAP_PX / 2)
  const y1 = TOP_PX - 10
  const text = valuesBefore(explanation)
  const left = Math.max(24, Math.min(at - 6, box.width - 24 - text.length * CHARACTER_PX))
  return [
    `<line x1="${x}" y1="${y1}" x2="${x}" y2="${box.bottom}" stroke="#555" stroke-dasharray="2 3"/>`,
    write(left, TOP_PX - 4, text, 'fill="#555"'),
  ].join('')
}

function valuesBefore({ before }: Explanation): string {
  const shownValues = before.slice(0, VALUES_SHOWN_MAX).map(shownReply)
  const more = before.length - shownValues.length
  return `here the value is ${shownValues.join(' or ')}${more > 0 ? ` or one of ${more} others` : ''}`
}

function drawBar(
  { operation, style, turn, label, detail }: Bar,
  xs: Positions,
  top: number,
): string {
  const left = xs.of.get(operation.invoked) ?? LEFT_PX
  const right = xs.of.get(operation.returned) ?? xs.end
  const y = top + 8
  const isOpen = operation.outcome === 'info'
  const dash = isOpen || operation.outcome === 'fail' ? ' stroke-dasharray="5 3"' : ''
  const number = turn === undefined ? '' : circle(left + 14, y + BAR_PX / 2, turn, style)
  const full = [
    `process ${shown(operation.process)}: ${shownCommand(operation)} ${detail}`,
    `from ${milliseconds(operation.invokedNs)} to ${isOpen ? '?' : milliseconds(operation.returnedNs)}`,
  ]
  return [
    '<g>',
    `<title>${escaped(full.join(', '))}</title>`,
    `<rect x="${px(left)}" y="${px(y)}" width="${px(right - left)}" height="${BAR_PX}" rx="4"`,
    ` fill="${style.fill}" stroke="${style.stroke}" stroke-width="1.5"${dash}/>`,
    number,
    write(left + (turn === undefined ? 8 : 28), y + 17, label, 'font-weight="bold"'),
    write(left + 2, y + BAR_PX + 15, detail, `fill="${style.text}"`),
    '</g>',
  ].join('')
}

function circle(x: number, y: number, turn: number, { stroke }: Style): string {
  const at = `cx="${px(x)}" cy="${px(y)}"`
  const number = write(x, y + 4, String(turn), 'fill="#fff" font-size="11" text-anchor="middle"')
  return `<circle ${at} r="9.5" fill="${stroke}"/>${number}`
}

function rowLine(process: string, top: number, end: number): string {
  const y = px(top + 8 + BAR_PX / 2)
  const line = `<line x1="${LEFT_PX}" y1="${y}" x2="${px(end)}" y2="${y}" stroke="#e4e4e4"/>`
  return line + write(24, top + 8 + 17, `process ${shownName(process)}`, 'fill="#333"')
}

function shownName(name: string): string {
  return /^\w{1,6}$/.test(name) ? name : shown(name, 3)
}

function legend(bars: readonly Bar[]): string {
  const used = Object.values(STYLES).filter((style) => bars.some((bar) => bar.style === style))
  let x = 24
  const parts = used.map(({ name, fill, stroke }) => {
    const box = `<rect x="${px(x)}" y="74" width="16" height="12" rx="2" fill="${fill}" stroke="${stroke}"/>`
    const text = write(x + 22, 84, name, 'fill="#333"')
    x += 22 + (name.length + 3) * CHARACTER_PX
    return box + text
  })
  const numbers = write(x, 84, '(n) place in the longest legal order', 'fill="#333"')
  return parts.join('') + numbers
}

function subtitle({ core }: Explanation, bars: readonly Bar[]): string {
  const starts = bars.map(({ operation }) => operation.invokedNs)
  const ends = bars.map(({ operation }) => operation.returnedNs).filter(Number.isFinite)
  const span = milliseconds(Math.max(...ends) - Math.min(...starts))
  const from = milliseconds(Math.min(...starts))
  const operations = core.length === 1 ? 'one operation' : `${core.length} operations`
  return `From ${from} on, for ${span}; not to scale. The contradiction: ${operations}.`
}

/** The story in words, below the picture and in a terminal. */
export function textBelow(explanation: Explanation): readonly string[] {
  const { before, start, order, stuck, hints } = explanation
  const skipped = Math.max(0, order.length - ORDER_LINES_MAX)
  const lines = order.slice(skipped).map(({ operation, value, isForgotten }, index) => {
    const turn = `${skipped + index + 1}.`.padStart(4)
    const remark = isForgotten ? '  (its outcome is not counted on)' : ''
    return `${turn} ${sentence(operation)}  leaves ${shownReply(value)}${remark}`
  })
  const others = before.filter((value) => value !== start).map(shownReply)
  const or = others.length === 0 ? '' : ` (it could also be ${others.join(' or ')}: no better)`
  return [
    `Longest legal order, from the value ${shownReply(start)}${or}:`,
    ...(skipped > 0 ? [`     ${skipped} operations before these`] : []),
    ...lines,
    ...stuck.map(({ operation, answer }) => {
      const fits = answer === operation.reply
      const why = fits
        ? 'placed here, it makes another impossible'
        : `here it could only be answered ${answer === undefined ? 'an error' : shownReply(answer)}`
      return `  ✗  ${sentence(operation)}  fits nowhere: ${why}`
    }),
    ...hints.map((hint) => `  !  ${hint}`),
  ]
}

function sentence(operation: Operation): string {
  const who = `process ${shownName(operation.process)}`
  const reply = operation.outcome === 'ok' ? shownReply(operation.reply) : 'unknown'
  return `${who}: ${shownCommand(operation)} → ${reply}`
}

function styleOf(line: string): string {
  if (/^ {2}[✗!]/.test(line)) return 'fill="#c22f24" font-weight="bold" xml:space="preserve"'
  return 'fill="#222" xml:space="preserve"'
}

function write(x: number, y: number, text: string, attributes: string): string {
  return `<text x="${px(x)}" y="${px(y)}" ${attributes}>${escaped(text)}</text>`
}

function px(value: number): string {
  return String(Math.round(value * 10) / 10)
}

function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
    "'": '&#39;',
  }
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '')
}
