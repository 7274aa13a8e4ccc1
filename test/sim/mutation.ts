/*
 * How a mutant comes to life: a copy of the compiled code in a temporary folder, with the mutant's changes. What is
 * built and shipped is never touched, and has no switches. A change that does not fit exactly once is an error and
 * never skipped: a mutant that is not there would seem to survive.
 */

import {
  cpSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { splitSource } from '../source-text.ts'

/** Of a compiled file such as 'raft/core.js': what must stand there exactly once, and what takes its place. */
export type Change = readonly [file: string, from: string, to: string]

export interface Mutant {
  /** The number in the research (safety.md 3.1), with a letter where one has several; own ones begin with 'x'. */
  readonly id: string
  /** The bug, in a few words. */
  readonly name: string
  /** What comes of it. */
  readonly breaks: string
  /** Any of these convicts it, such as 'I7'. I18, the bound on liveness, only where nothing else can. */
  readonly invariants: readonly string[]
  /** It lets clients read what is old: the checker of histories must convict it, too. */
  readonly stale?: true
  readonly changes: readonly Change[]
}

/** Where everything is compiled to, and the folder that holds it. */
const COMPILED = fileURLToPath(new URL('../..', import.meta.url)).replace(/[/\\]$/, '')
const ROOT = dirname(COMPILED)
/** What a simulation runs. */
const PARTS = ['raft', 'resp', 'storage', 'src', 'test/sim', 'scripts/mutants.js']
const OTHERS = ['test/command-line.js', 'test/linearizability', 'test/source-text.js']

/** The source with the change. White space and comments between the words of `from` do not count. */
export function changed(source: string, [file, from, to]: Change): string {
  const words = from.trim().split(/\s+/)
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  // Comments have become spaces in it, so every place is that of the source.
  const code = splitSource(source).codeWithStrings
  const found = [...code.matchAll(new RegExp(escaped.join('\\s+'), 'g'))]
  const [place] = found
  if (place === undefined || found.length > 1) {
    throw new Error(`a change fits ${file} ${found.length} times, not once: ${from}`)
  }
  return source.slice(0, place.index) + to + source.slice(place.index + place[0].length)
}

/** Every changed file of the mutant. Throws when a change does not fit the code as it is compiled now. */
export function changedFiles({ id, name, changes }: Mutant): ReadonlyMap<string, string> {
  const files = new Map<string, string>()
  for (const change of changes) {
    try {
      const [file] = change
      const source = files.get(file) ?? readFileSync(join(COMPILED, file), 'utf8')
      files.set(file, changed(source, change))
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      throw new Error(`mutant ${id} (${name}) does not fit: ${why}`)
    }
  }
  return files
}

/** The compiled code with the mutant's changes, in a folder of its own that remove() ends. */
export class Build {
  static readonly #open = new Set<Build>()
  readonly #folder: string

  /** At the end of a process that was stopped in the middle. */
  static removeAll(): void {
    for (const build of Build.#open) build.remove()
  }

  constructor(mutant: Mutant) {
    const files = changedFiles(mutant)
    this.#folder = mkdtempSync(join(realpathSync(tmpdir()), 'holdfast-mutant-'))
    Build.#open.add(this)
    for (const part of [...PARTS, ...OTHERS]) {
      cpSync(join(COMPILED, part), this.path(part), {
        recursive: true,
        filter: (path) => !path.endsWith('.d.ts'),
      })
    }
    cpSync(join(ROOT, 'package.json'), join(this.#folder, 'package.json'))
    symlinkSync(join(ROOT, 'node_modules'), join(this.#folder, 'node_modules'), 'dir')
    for (const [file, source] of files) writeFileSync(this.path(file), source)
  }

  /** Of a compiled file in the copy. */
  path(file: string): string {
    return join(this.#folder, basename(COMPILED), file)
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true })
    Build.#open.delete(this)
  }
}
