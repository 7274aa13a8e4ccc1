/*
 * `npm run check -- HISTORY.jsonl`: is the recorded history linearizable? Exit code 0: it is. 1: it is not, and a
 * picture beside the file shows why. 2: the file is no history. 3: not decided within the limits. It reads the file
 * in passes over disjoint keys, so that memory does not grow with it.
 */

import { writeFileSync } from 'node:fs'
import { calledWrongly, runScript } from '../test/command-line.ts'
import { checkHistory, mergeVerdicts, type Verdict } from '../test/linearizability/check.ts'
import { explain } from '../test/linearizability/explain.ts'
import { historyBytes, readOperations } from '../test/linearizability/history.ts'
import { HistoryError, shown } from '../test/linearizability/operation.ts'
import { draw, textBelow } from '../test/linearizability/picture.ts'
import { stringModel } from '../test/linearizability/string-model.ts'

const EXIT = { valid: 0, invalid: 1, unusable: 2, unknown: 3 } as const
/** Of the file, per pass: with the search about 1 GB of memory. */
const PASS_BYTES = 400 << 20
/** A store that lost everything fails on every key; these many show why. */
const PICTURES_MAX = 5
const NAMES_MAX = 20

function main(words: readonly string[]): number {
  const [path, ...rest] = words
  if (path === undefined || rest.length > 0) {
    throw calledWrongly(`one HISTORY.jsonl is checked at a time, not ${words.length}`)
  }
  try {
    return report(path, checkFile(path))
  } catch (error) {
    if (error instanceof HistoryError || isSystemError(error)) {
      return unusable(`${shown(path, 200)}: ${error.message}`)
    }
    throw error
  }
}

function checkFile(path: string): Verdict {
  const passes = Math.max(1, Math.ceil(historyBytes(path) / PASS_BYTES))
  const verdicts: Verdict[] = []
  for (let pass = 0; pass < passes; pass++) {
    const keep = (key: string): boolean => passes === 1 || hash(key) % passes === pass
    verdicts.push(checkHistory(readOperations({ path, model: stringModel, keep })))
  }
  const verdict = mergeVerdicts(verdicts)
  if (verdict.operations === 0) throw new HistoryError('it holds no operation')
  return verdict
}

function report(path: string, verdict: Verdict): number {
  const { outcome, operations, failed, unknown, keys, violations, undecided } = verdict
  print(
    `${operations} operations on ${keys} keys (${failed} failed, ${unknown} of unknown outcome)`,
  )
  for (const [index, violation] of violations.slice(0, PICTURES_MAX).entries()) {
    const explanation = explain(violation)
    const { window } = explanation
    const from = Math.min(...window.map(({ invoked }) => invoked))
    print(`\nINVALID: key ${shown(violation.key)}: no order of its operations explains every reply`)
    const count = window.length === 1 ? '1 operation' : `${window.length} operations`
    print(`  smallest window: ${count}, lines ${from} to ${explanation.to}`)
    for (const line of textBelow(explanation)) print(`  ${line}`)
    print(`  picture: ${save(`${path}.${index + 1}.svg`, draw(explanation))}`)
  }
  list(
    'also invalid',
    violations.slice(PICTURES_MAX).map(({ key }) => key),
  )
  list('not decided within the limits', undecided)
  print(`\n${outcome}`)
  return EXIT[outcome]
}

/** A folder that cannot be written to must not hide the verdict. */
function save(path: string, picture: string): string {
  try {
    writeFileSync(path, picture)
    return path
  } catch (error) {
    if (isSystemError(error)) return `none (${error.message})`
    throw error
  }
}

function list(what: string, keys: readonly string[]): void {
  if (keys.length === 0) return
  const names = keys.slice(0, NAMES_MAX).map((key) => shown(key))
  const more = keys.length > NAMES_MAX ? ` and ${keys.length - NAMES_MAX} more` : ''
  print(`\n${what}: ${names.join(', ')}${more}`)
}

/** FNV-1a over UTF-16 units: any spread of the keys will do. */
function hash(key: string): number {
  let value = 0x811c9dc5
  for (let i = 0; i < key.length; i++) value = Math.imul(value ^ key.charCodeAt(i), 0x01000193)
  return value >>> 0
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}

function unusable(reason: string): number {
  process.stderr.write(`check: ${reason.replace(/\s*[\r\n]+\s*/g, ' ')}\n`)
  return EXIT.unusable
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

// A reader that has seen enough closes the pipe (`| head`); the exit code still tells.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})
await runScript({ url: import.meta.url, options: {}, words: true }, ({ positionals }) =>
  main(positionals),
)
