/*
 * `npm test [-- WORD...]`: runs every compiled test file with Node's own runner, or those whose path contains one of the
 * words. It lists the files itself, because patterns and
 * directories mean different things to the runners of Node 20, 22 and 24; and it says at the end which tests did
 * not run for want of a tool, because a skip in the middle of a long output is a skip that nobody sees.
 */

import { existsSync, readdirSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { type CommandLine, calledWrongly, runScript } from '../test/command-line.ts'

/** More than the processors that CI has: many files mostly wait, for disks, elections and children. */
const CONCURRENCY = 3
/** A test file that hangs must fail with its name, not the whole run without one. */
const FILE_TIMEOUT_MS = 300_000
const COMPILED = fileURLToPath(new URL('../test', import.meta.url))
const SOURCES = fileURLToPath(new URL('../../test', import.meta.url))

interface Skipped {
  readonly file: string
  readonly name: string
  readonly reason: string
}

/** Paths relative to `folder` of all files below it that end in `ending`, sorted. */
function filesBelow(folder: string, ending: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .sort()
}

function chooseFiles(patterns: readonly string[]): readonly string[] {
  const sources = filesBelow(SOURCES, '.test.ts')
  const uncompiled = sources.filter(
    (name) => !existsSync(join(COMPILED, name.replace(/\.ts$/, '.js'))),
  )
  if (uncompiled.length > 0) throw new Error(`not compiled: ${uncompiled.join(', ')}`)
  const files = filesBelow(COMPILED, '.test.js')
  const all = patterns.length === 0
  const chosen = files.filter((name) => all || patterns.some((word) => name.includes(word)))
  if (chosen.length === 0) {
    throw calledWrongly(`no test file's path contains ${patterns.join(' or ')}`)
  }
  return chosen.map((name) => resolve(COMPILED, name))
}

function main({ positionals }: CommandLine<Record<never, never>>): undefined {
  const skipped: Skipped[] = []
  const failed = new Set<string>()
  const files = chooseFiles(positionals)
  const stream = run({
    files: [...files],
    concurrency: CONCURRENCY,
    timeout: FILE_TIMEOUT_MS,
  })
  stream.on('test:pass', ({ name, skip, file }) => {
    if (skip === undefined) return
    const reason = typeof skip === 'string' ? skip : 'no reason given'
    skipped.push({ file: shown(file), name, reason })
  })
  stream.on('test:fail', ({ file }) => {
    failed.add(shown(file))
    process.exitCode = 1
  })
  const report = stream.compose(new spec())
  report.on('end', () => {
    for (const { file, name, reason } of skipped) {
      process.stdout.write(`NOT RUN: ${file}: ${name} (${reason})\n`)
    }
    for (const file of failed) process.stdout.write(`FAILED: npm test -- ${file}\n`)
  })
  report.pipe(process.stdout)
}

function shown(file: string | undefined): string {
  return file === undefined ? '?' : relative(COMPILED, file)
}

await runScript({ url: import.meta.url, options: {}, words: true }, main)
