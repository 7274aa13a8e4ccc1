/*
 * The measurements' frame: bounds are judged rightly, and nothing that fails looks like a success.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Figure, type Measurement, measure, Report } from './measurement.ts'

const NO_OPTIONS = { factor: 1, minutes: 1 }

function of(name: string, ...figures: Figure[]): Measurement {
  return {
    name,
    what: `${name} of something`,
    run: async (report) => {
      for (const figure of figures) report.figure(figure)
    },
  }
}

describe('measure', () => {
  it('judges a figure by its bounds, included', () => {
    const lines: string[] = []
    const report = new Report((line) => lines.push(line))
    report.figure({ what: 'a', value: 20, unit: 'ms', most: 20 })
    report.figure({ what: 'b', value: 20.1, unit: 'ms', most: 20 })
    report.figure({ what: 'c', value: 5, unit: 'MB/s', least: 5, most: 6 })
    report.figure({ what: 'd', value: 4.9, unit: 'MB/s', least: 5 })
    report.figure({ what: 'e', value: Number.NaN, unit: 'ms', most: 20 })
    report.figure({ what: 'f', value: 1_234_567.8, unit: 'keys' })
    assert.deepEqual(lines, [
      '  a: 20 ms (at most 20 ms): passed',
      '  b: 20.1 ms (at most 20 ms): FAILED',
      '  c: 5 MB/s (at most 6 MB/s, at least 5 MB/s): passed',
      '  d: 4.9 MB/s (at least 5 MB/s): FAILED',
      '  e: NaN ms (at most 20 ms): FAILED',
      '  f: 1,234,568 keys',
    ])
    assert.equal(report.failed, 3)
  })

  it('runs what is named, in its own order, and fails with any of them', async () => {
    const good = of('good', { what: 'x', value: 1, unit: 'ms', most: 2 })
    const bad = of('bad', { what: 'x', value: 3, unit: 'ms', most: 2 })
    const broken: Measurement = {
      ...good,
      name: 'broken',
      run: () => Promise.reject(new Error('no disk')),
    }
    const run = async (...names: string[]): Promise<[boolean, string]> => {
      const lines: string[] = []
      const passed = await measure([good, bad, broken], names, NO_OPTIONS, (line) =>
        lines.push(line),
      )
      return [passed, lines.join('\n')]
    }
    assert.deepEqual(await run('good'), [
      true,
      'good: good of something\n  x: 1 ms (at most 2 ms): passed\npassed',
    ])
    const [passed, all] = await run()
    assert.equal(passed, false)
    assert.match(all, /^good:.*\nbad:.*FAILED\nbroken:.*broke off: Error: no disk.*FAILED: 2$/s)
    const [known, text] = await run('good', 'goood')
    assert.equal(known, false)
    assert.match(text, /no measurement 'goood'.*good.*bad.*broken/s)
    assert.doesNotMatch(text, /passed/)
  })
})
