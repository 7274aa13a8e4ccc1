/*
 * The door between the command line and the scripts: help, what is typed wrong, what an operator can mend, and bugs.
 */

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { calledWrongly, numberFrom, runScript } from './command-line.ts'
import { Child, temporaryDirectory } from './processes.ts'

const HEADER = '`npm run knit`: knits.\n\n  -- --rows 3   how many'
const OPTIONS = { rows: { type: 'string', default: '3' }, purl: { type: 'boolean' } } as const

interface Run {
  readonly stdout: string
  readonly stderr: string
  readonly code: unknown
  /** What `main` was given; undefined: it was not called. */
  readonly rows: string | undefined
  readonly words: readonly string[]
}

/** Runs a script of two options as if it had been started with these words. */
async function run(
  context: TestContext,
  typed: readonly string[],
  { words = false, end = () => 0 }: { words?: boolean; end?: () => number | undefined } = {},
): Promise<Run> {
  const path = join(temporaryDirectory(context), 'knit.js')
  const header = HEADER.split('\n').map((line) => ` * ${line}`.trimEnd())
  writeFileSync(path, `/*\n${header.join('\n')}\n */\nknit()\n`)
  const before = { argv: process.argv, code: process.exitCode }
  const out = context.mock.method(process.stdout, 'write', () => true)
  const err = context.mock.method(process.stderr, 'write', () => true)
  const text = (calls: readonly { arguments: readonly unknown[] }[]): string =>
    calls.map((call) => String(call.arguments[0])).join('')
  let rows: string | undefined
  let given: readonly string[] = []
  try {
    process.argv = [process.execPath, path, ...typed]
    await runScript({ url: pathToFileURL(path).href, options: OPTIONS, words }, (line) => {
      rows = line.values.rows
      given = line.positionals
      return end()
    })
    const code = process.exitCode
    const [stdout, stderr] = [text(out.mock.calls), text(err.mock.calls)]
    return { stdout, stderr, code, rows, words: given }
  } finally {
    process.argv = before.argv
    process.exitCode = before.code
    out.mock.restore()
    err.mock.restore()
  }
}

test('a script is given its options and words, and what it gives is the exit code', async (context) => {
  const usual = { stdout: '', stderr: '', words: [] }
  assert.deepEqual(await run(context, []), { ...usual, code: 0, rows: '3' })
  const typed = ['--rows', '5', 'red', 'blue']
  const found = await run(context, typed, { words: true, end: () => 3 })
  assert.deepEqual(found, { ...usual, code: 3, rows: '5', words: ['red', 'blue'] })
})

test('--help prints the header, wherever it stands, and nothing runs', async (context) => {
  for (const typed of [['--help'], ['--rows', '1', '--help'], ['--nope', '--help']]) {
    const { stdout, stderr, rows } = await run(context, typed)
    assert.deepEqual(
      { stdout, stderr, rows },
      { stdout: `${HEADER}\n`, stderr: '', rows: undefined },
    )
  }
})

test('what is typed wrong gets one line and the header, and exit code 2', async (context) => {
  const cases: readonly (readonly [typed: readonly string[], line: string])[] = [
    [['--nope'], "Unknown option '--nope'"],
    [['-x'], "Unknown option '-x'"],
    [['--rows'], "Option '--rows <value>' argument missing"],
    [['--rows', '--purl'], "Option '--rows' argument is ambiguous"],
    [['--purl=1'], "Option '--purl' does not take an argument"],
    [['red'], "'red' is no option"],
  ]
  for (const [typed, line] of cases) {
    const { stdout, stderr, code, rows } = await run(context, typed)
    assert.equal(stderr, `npm run knit: ${line}\n\n${HEADER}\n`)
    assert.deepEqual({ stdout, code, rows }, { stdout: '', code: 2, rows: undefined })
  }
  const end = (): never => {
    throw calledWrongly("there is no 'moss'\nhere")
  }
  const { stderr, code } = await run(context, [], { end })
  assert.deepEqual(
    { stderr, code },
    { stderr: `npm run knit: there is no 'moss' here\n\n${HEADER}\n`, code: 2 },
  )
})

test('what an operator can mend gets one line; a bug goes on to whoever called', async (context) => {
  const full = (): never => {
    throw Object.assign(new Error('the disk is full'), { code: 'ENOSPC' })
  }
  const { stderr, code } = await run(context, [], { end: full })
  assert.deepEqual({ stderr, code }, { stderr: 'npm run knit: the disk is full\n', code: 1 })
  const bug = (): never => {
    throw new TypeError('no such stitch')
  }
  await assert.rejects(run(context, [], { end: bug }), { message: 'no such stitch' })
})

test('a number option is within its bounds, or the line says which they are', () => {
  const rows = { least: 1, most: 9, whole: true }
  assert.deepEqual(
    ['1', '9'].map((text) => numberFrom('rows', text, rows)),
    [1, 9],
  )
  for (const text of ['0', '10', '1.5', '', ' ', 'x', 'NaN', 'Infinity']) {
    const message = `--rows takes a whole number from 1 to 9, not '${text}'`
    assert.throws(() => numberFrom('rows', text, rows), { code: 'OPTION', message })
  }
  assert.equal(numberFrom('gauge', '0.1', { above: 0 }), 0.1)
  const above = "--gauge takes a number above 0, not '0'"
  assert.throws(() => numberFrom('gauge', '0', { above: 0 }), { message: above })
  const from = "--seed takes a whole number from 0 on, not '9007199254740992'"
  assert.throws(() => numberFrom('seed', '9007199254740992', { least: 0, whole: true }), {
    message: from,
  })
})

test('a real script says it so', async (context) => {
  const help = new Child(context, 'scripts/compatibility.js', ['--help'])
  assert.deepEqual(await help.end(), { code: 0, signal: null })
  assert.match(help.stdout, /^`npm run compatibility`: writes docs/)
  const wrong = new Child(context, 'scripts/simulate.js', ['--seed', 'x'])
  assert.deepEqual(await wrong.end(), { code: 2, signal: null })
  assert.match(
    wrong.stderr,
    /^npm run simulate: --seed takes a whole number from 0 on, not 'x'\n\n`npm run simulate`: /,
  )
})
