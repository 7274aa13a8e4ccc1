/*
 * What `npm run measure` runs: named measurements, each of which prints its figures with their bounds and whether
 * they are met. A figure without a bound informs. It knows no server.
 */

export interface Measurement {
  readonly name: string
  /** One line: what is measured. */
  readonly what: string
  /** Prints through the report. Throws when it could not be measured at all. */
  run(report: Report, options: MeasureOptions): Promise<void>
}

export interface MeasureOptions {
  /** Multiplies the amounts that are measured: 1 is what the bounds are stated for, less is for trying it out. */
  readonly factor: number
  /** How long to go on, where that is a matter of time. */
  readonly minutes: number
  /** Keeps the lines of a measurement that belong into a document. */
  readonly keep?: (lines: readonly string[]) => void
}

export interface Figure {
  /** What it is, in words. */
  readonly what: string
  readonly value: number
  /** 'ms', 'MB', 'keys/s' */
  readonly unit: string
  /** The bounds, included. */
  readonly most?: number
  readonly least?: number
}

export class Report {
  readonly #print: (line: string) => void
  #failed = 0

  constructor(print: (line: string) => void) {
    this.#print = print
  }

  get failed(): number {
    return this.#failed
  }

  figure({ what, value, unit, most, least }: Figure): void {
    const bounds: string[] = []
    if (most !== undefined) bounds.push(`at most ${short(most)} ${unit}`)
    if (least !== undefined) bounds.push(`at least ${short(least)} ${unit}`)
    // A figure that is no number meets no bound.
    const met = (most === undefined || value <= most) && (least === undefined || value >= least)
    if (!met) this.#failed++
    const verdict =
      bounds.length === 0 ? '' : ` (${bounds.join(', ')}): ${met ? 'passed' : 'FAILED'}`
    this.#print(`  ${what}: ${short(value)} ${unit}${verdict}`)
  }

  note(text: string): void {
    this.#print(`  ${text}`)
  }
}

/** Three digits, or all that stand before the point. */
function short(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(value), 1))))
  return value.toLocaleString('en-US', { maximumFractionDigits: decimals })
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

export function p99(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? Number.NaN
}

/** Runs those that are named, all of them without a name; false when a figure missed a bound or one broke off. */
export async function measure(
  measurements: readonly Measurement[],
  names: readonly string[],
  options: MeasureOptions,
  print: (line: string) => void,
): Promise<boolean> {
  const unknown = names.find((name) => !measurements.some((one) => one.name === name))
  if (unknown !== undefined) {
    const known = measurements.map(({ name, what }) => `  ${name}: ${what}`)
    print([`there is no measurement '${unknown}'; there are:`, ...known].join('\n'))
    return false
  }
  const chosen = measurements.filter(({ name }) => names.length === 0 || names.includes(name))
  let failed = 0
  for (const { name, what, run } of chosen) {
    print(`${name}: ${what}`)
    const report = new Report(print)
    try {
      await run(report, options)
      failed += report.failed
    } catch (error) {
      failed++
      print(`  broke off: ${error instanceof Error ? (error.stack ?? error.message) : error}`)
    }
  }
  print(failed === 0 ? 'passed' : `FAILED: ${failed}`)
  return failed === 0
}
