/*
 * The house rules as a test. Each rule says why it stands, and carries an example that breaks it and one that does
 * not, so that a rule that has stopped biting is found as well. Rules of one file are functions from its text to
 * what is wrong with it; rules of the repository follow below.
 */

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, posix } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { importsOf, type SourceText, splitSource } from './source-text.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COMPILED_TESTS = fileURLToPath(new URL('.', import.meta.url))

interface SourceFile extends SourceText {
  /** From the root, with slashes: 'raft/core.ts'. */
  readonly path: string
  readonly text: string
}

interface Rule {
  readonly rule: string
  readonly why: string
  /** What is wrong with the file; empty when nothing is, or when the rule is not about such a file. */
  find(file: SourceFile): readonly string[]
  /** [path, text] that must break the rule, and that must not. */
  readonly bad: readonly (readonly [string, string])[]
  readonly good: readonly (readonly [string, string])[]
}

function sourceFile(path: string, text: string): SourceFile {
  return { path, text, ...splitSource(text) }
}

/** Every place in `where` that matches, as "line 12: <match>". */
function places(where: string, pattern: RegExp): readonly string[] {
  return [...where.matchAll(pattern)].map(({ index, 0: match }) => {
    const line = where.slice(0, index).split('\n').length
    return `line ${line}: ${match.trim().slice(0, 60)}`
  })
}

function isIn(path: string, ...folders: readonly string[]): boolean {
  return folders.some((folder) => path.startsWith(`${folder}/`))
}

/** A relative import as a path from the root; any other as it is. */
function resolved(path: string, specifier: string): string {
  return specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : specifier
}

const PRODUCT = ['raft', 'resp', 'storage', 'src']

/** What the files of a folder may import besides each other: modules, files and (with a slash) folders. */
const WALLS: Readonly<Record<string, readonly string[]>> = {
  raft: [],
  resp: ['redis-parser', 'node:buffer'],
  storage: [
    'raft/types.ts',
    'raft/ports.ts',
    'raft/assert.ts',
    'lmdb',
    'msgpackr',
    'node:buffer',
    'node:zlib',
    'node:fs',
    'node:path',
    'node:os',
    'node:worker_threads',
    'node:crypto',
  ],
  src: ['raft/', 'resp/', 'storage/', 'node:', 'pino', 'pino-pretty'],
}

const ONLY_IMPORTERS: Readonly<Record<string, readonly string[]>> = {
  lmdb: [
    'storage/lmdb-engine.ts',
    'storage/lmdb-reads.ts',
    'storage/checkpoint-worker.ts',
    'storage/stream-worker.ts',
  ],
  msgpackr: ['storage/codec.ts'],
  'redis-parser': ['resp/decoder.ts'],
  pino: ['src/logger.ts'],
  'pino-pretty': ['src/logger.ts'],
}

/** The rim of src/: what touches sockets, clocks, timers, chance or the process. All other files are simulable. */
const RIM = new Set([
  'src/backup.ts',
  'src/check.ts',
  'src/config.ts',
  'src/config-rules.ts',
  'src/data-lock.ts',
  'src/logger.ts',
  'src/main.ts',
  'src/option-kinds.ts',
  'src/server.ts',
  'src/tcp.ts',
  'src/watchdog.ts',
])

const LINES_MAX = 500
/** Files whose length was thought about: one idea each, that would be harder to follow in pieces. */
const LONG_FILES: Readonly<Record<string, number>> = {
  'raft/core.ts': 1200,
  // One table, of which every line is an option or a limit.
  'src/config.ts': 720,
}

const IMPURE =
  /\bDate\b|\bMath\.random\b|\bset(?:Timeout|Interval|Immediate)\b|\bperformance\b|\bprocess\.hrtime\b/g

const rules: readonly Rule[] = [
  {
    rule: 'the walls between the folders stand',
    why: 'architecture.md 1: only what cannot touch clock, socket and disk can be replayed from a seed',
    find(file) {
      const [folder = ''] = file.path.split('/')
      const allowed = WALLS[folder]
      if (allowed === undefined) return []
      return importsOf(file).filter((specifier) => {
        const target = resolved(file.path, specifier)
        if (target.startsWith(`${folder}/`)) return false
        return !allowed.some(
          (one) => target === one || (/[/:]$/.test(one) && target.startsWith(one)),
        )
      })
    },
    bad: [
      ['raft/a.ts', "import { x } from 'node:fs'"],
      ['raft/a.ts', "export { x } from '../storage/b.ts'"],
      ['resp/a.ts', "import type { Entry } from '../raft/types.ts'"],
      ['storage/a.ts', "import { RaftCore } from '../raft/core.ts'"],
      ['storage/a.ts', "import { connect } from 'node:net'"],
      ['src/a.ts', "const { x } = await import('../test/b.ts')"],
      ['src/commands/a.ts', "import 'ioredis'"],
      ['src/a.ts', 'import x from "../scripts/b.ts"'],
    ],
    good: [
      ['raft/a.ts', "import { assert } from './assert.ts'\n// import x from 'node:fs'"],
      ['raft/a.ts', "/* from 'lmdb' */ const text = \"import 'lmdb'\" // from 'x'"],
      ['storage/a.ts', "import type { Entry } from '../raft/types.ts'"],
      ['src/commands/a.ts', "import { x } from '../../raft/core.ts'\nimport 'node:net'"],
      ['raft/a.ts', "const x = Uint8Array.from('node:fs')"],
      ['test/a.ts', "import 'ioredis'"],
    ],
  },
  {
    rule: 'a package with one door has one door',
    why: 'architecture.md 8: a second importer is a second encoder, decoder or log',
    find(file) {
      if (isIn(file.path, 'test')) return []
      return importsOf(file).filter((specifier) => {
        const importers = ONLY_IMPORTERS[specifier]
        return importers !== undefined && !importers.includes(file.path)
      })
    },
    bad: [
      ['storage/log-store.ts', "import { open } from 'lmdb'"],
      ['scripts/a.ts', "import pino from 'pino'"],
    ],
    good: [
      ['storage/codec.ts', "import { Packr } from 'msgpackr'"],
      ['test/a.ts', "import { Packr } from 'msgpackr'"],
    ],
  },
  {
    rule: 'nothing imports scripts/, and only tests and scripts import test/',
    why: 'what ships must not need what does not ship',
    find(file) {
      return importsOf(file).filter((specifier) => {
        const target = resolved(file.path, specifier)
        if (isIn(target, 'scripts')) return true
        return isIn(target, 'test') && !isIn(file.path, 'test', 'scripts')
      })
    },
    bad: [
      ['src/a.ts', "import { x } from '../test/b.ts'"],
      ['test/a.ts', "import { x } from '../scripts/b.ts'"],
    ],
    good: [['scripts/a.ts', "import { x } from '../test/b.ts'"]],
  },
  {
    rule: 'no clock, chance, timer or process in raft/, and no await in a transition',
    why: 'architecture.md 2: the same inputs give the same steps; a step that waits can be overtaken by another',
    find(file) {
      if (!isIn(file.path, 'raft')) return []
      const world = places(file.code, IMPURE)
      const platform = places(file.code, /\b(?:process|console|globalThis|Buffer)\b/g)
      const waits = file.path === 'raft/node.ts' ? [] : places(file.code, /\b(?:await|async)\b/g)
      return [...world, ...platform, ...waits]
    },
    bad: [
      ['raft/a.ts', 'const now = Date.now()'],
      ['raft/a.ts', 'const x = Math.random()'],
      ['raft/core.ts', 'async function step() {}'],
      ['raft/node.ts', 'setTimeout(tick, 5)'],
      ['raft/a.ts', `const x = \`\${Date.now()}\``],
    ],
    good: [
      ['raft/a.ts', "// Date.now() would differ\nconst x = 'await Date'"],
      ['raft/node.ts', 'async function drive() { await persisted }'],
      ['raft/a.ts', `const x = /Date/.test(\`await \${y} Date\`)`],
    ],
  },
  {
    rule: 'src/ reaches clocks, timers, chance and sockets only at its rim',
    why: 'architecture.md 1: everything else runs in the simulator; take the ports of network.ts as arguments',
    find(file) {
      if (!isIn(file.path, 'src') || RIM.has(file.path)) return []
      const modules = importsOf(file).filter((specifier) =>
        /^node:(?:net|tls|dgram|http|timers|child_process|dns)/.test(specifier),
      )
      return [...modules, ...places(file.code, IMPURE)]
    },
    bad: [
      ['src/router.ts', "import { connect } from 'node:net'"],
      ['src/commands/strings.ts', 'const at = Date.now()'],
      ['src/session.ts', 'setTimeout(close, 1)'],
    ],
    good: [
      ['src/tcp.ts', "import { connect } from 'node:net'"],
      ['src/router.ts', 'const at = clock.monotonic() // not Date.now()'],
    ],
  },
  {
    rule: 'a script is started by runScript, and reads no command line by itself',
    why: 'test/command-line.ts: what is typed wrong gets one line and the usage, not the stack of a bug',
    find(file) {
      if (!isIn(file.path, 'scripts')) return []
      const byItself = places(file.code, /\bprocess\.argv\b|\bparseArgs\b/g)
      return /^await runScript\(/m.test(file.code) ? byItself : [...byItself, 'no runScript()']
    },
    bad: [
      ['scripts/a.ts', 'await runScript(what, () => process.argv.length)'],
      ['scripts/a.ts', 'const { values } = parseArgs({})\nawait runScript(what, main)'],
      ['scripts/a.ts', 'await main()'],
    ],
    good: [
      ['scripts/a.ts', 'await runScript(what, ({ values }) => main(values)) // not process.argv'],
      ['test/a.ts', 'process.argv.slice(2)'],
    ],
  },
  {
    rule: 'erasable TypeScript, without holes in the types',
    why: 'style.md: the sources run as they are on Node 24, and a silenced checker checks nothing',
    find(file) {
      const words = /\benum\s+\w|\bexport\s+default\b|\bnamespace\s+\w|\bdeclare\s+module\b/g
      const untyped = /(?::|\bas|<|,|\||=)\s*any\b(?!\s*[:(=])/g
      const nonNull = /[\w\])]!(?=[.[(),;\s\]}])(?!\s*=)/g
      const silenced = /@ts-(?:ignore|expect-error|nocheck)|biome-ignore|eslint-disable/g
      return [
        ...places(file.code, words),
        ...places(file.code, untyped),
        ...places(file.code, nonNull),
        ...places(file.comments, silenced),
      ]
    },
    bad: [
      ['src/a.ts', 'export enum Colour { red }'],
      ['src/a.ts', 'export default 1'],
      ['src/a.ts', 'function f(x: any) {}'],
      ['src/a.ts', 'const x = y as any'],
      ['src/a.ts', 'const x: Map<string, any> = m'],
      ['src/a.ts', 'const x = list[0]!.name'],
      ['src/a.ts', 'const x = get()!\n'],
      ['src/a.ts', '// @ts-expect-error because'],
      ['test/a.ts', '// biome-ignore lint: because'],
    ],
    good: [
      ['src/a.ts', 'const enumerable = x !== y && a != b && !c // any enum x!'],
      ['src/a.ts', "const text = 'export default any!' + /any/.source"],
      ['src/a.ts', 'const o = { any: 1, default: 2 }; o.any'],
      ['test/a.ts', "const bad = '// @ts-ignore'"],
    ],
  },
  {
    rule: 'every test runs, and a skipped one says which tool is missing',
    why: 'test/tools.ts: nothing may stay unrun without a word',
    find(file) {
      if (!isIn(file.path, 'test') || file.path === 'test/tools.ts') return []
      return [
        ...places(file.code, /\b(?:test|it|describe|suite)\.(?:only|skip|todo)\b/g),
        ...places(file.code, /\b(?:context|t)\.(?:skip|todo)\(/g),
        ...places(file.code, /\b(?:only|skip|todo):\s*(?:true\b|[,}])/g),
      ]
    },
    bad: [
      ['test/a.test.ts', "test.only('x', () => {})"],
      ['test/a.test.ts', "test('x', { skip: true }, () => {})"],
      ['test/a.test.ts', "test('x', { skip: 'later' }, () => {})"],
      ['test/a.test.ts', 'context.skip()'],
    ],
    good: [
      ['test/a.test.ts', "test('x', needs('redis-cli'), () => {})"],
      ['test/a.test.ts', "test('skips what test.only says', () => {})"],
    ],
  },
  {
    rule: 'a test waits for a condition with a deadline, never for a fixed time',
    why: 'a fixed time is too short on a slow machine and too long on every other; use until() of test/processes.ts',
    find(file) {
      if (!isIn(file.path, 'test') || file.path === 'test/processes.ts') return []
      return [
        ...places(file.code, /\bnew Promise\b[^\n]*\bsetTimeout\b/g),
        ...places(file.code, /\bawait\s+(?:setTimeout|delay|sleep|wait|scheduler\.wait)\(/g),
        ...places(file.code, /\bimport\s*\{[^}]*\bsetTimeout\b[^}]*\}/g),
        ...places(file.code, /\bAtomics\.wait\(/g),
      ]
    },
    bad: [
      ['test/a.ts', 'await new Promise((resolve) => setTimeout(resolve, 100))'],
      ['test/a.ts', "import { setTimeout as delay } from 'node:timers/promises'"],
      ['test/a.ts', 'await sleep(100)'],
    ],
    good: [
      ['test/a.ts', 'await until("x", () => x)'],
      ['test/a.ts', 'const deadline = setTimeout(() => child.kill(), 5000)'],
    ],
  },
  {
    rule: `a file has at most ${LINES_MAX} lines`,
    why: 'style.md: a signal to think; if it belongs together, say so in LONG_FILES',
    find(file) {
      if (!isIn(file.path, ...PRODUCT, 'scripts')) return []
      const lines = file.text.split('\n').length - 1
      const max = LONG_FILES[file.path] ?? LINES_MAX
      return lines > max ? [`${lines} lines, allowed: ${max}`] : []
    },
    bad: [
      ['src/a.ts', '\n'.repeat(501)],
      ['raft/core.ts', '\n'.repeat(1201)],
    ],
    good: [
      ['src/a.ts', '\n'.repeat(500)],
      ['raft/core.ts', '\n'.repeat(1200)],
      ['test/a.test.ts', '\n'.repeat(900)],
    ],
  },
  {
    rule: 'a file says what it is before anything else',
    why: 'style.md: a header says what the file is, what it must not know, and why',
    find(file) {
      if (!isIn(file.path, ...PRODUCT, 'scripts')) return []
      const header = /^(?:#![^\n]*\n)?\/\*\n( \*[^\n]*\n)+ \*\//.test(file.text)
      return header ? [] : ['no header comment of several lines at the top']
    },
    bad: [
      ['src/a.ts', "import 'x'\n"],
      ['src/a.ts', '/* short */\n'],
    ],
    good: [
      ['src/a.ts', '/*\n * What it is.\n */\n'],
      ['src/a.ts', '#!/usr/bin/env node\n/*\n * What it is.\n */\n'],
    ],
  },
]

/** Assembled here, so that this file does not find itself. */
const FOREIGN_TEXTS = [
  ['a path of one machine', new RegExp(`/${'work'}/\\w|/${'root'}/\\w|/${'home'}/\\w`, 'g')],
  ['the host of a registry', /\bregistry\.[a-z]|\bnpm\.pkg\./g],
] as const

const SOURCE_FOLDERS = [...PRODUCT, 'test', 'scripts']
const DOCUMENTS = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'LICENSE']
const SETTINGS = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'biome.json',
  '.gitignore',
  '.npmrc',
]
const TOP_LEVEL = new Set([...SOURCE_FOLDERS, ...DOCUMENTS, ...SETTINGS, 'docs', '.ci', '.git'])
/** What .gitignore keeps out of the repository. */
const IGNORED = /^(?:node_modules|dist|data|coverage|jepsen-report|dist-.*|.*\.tgz|.*\.log)$/

function topLevel(): readonly string[] {
  return readdirSync(ROOT).filter((name) => !IGNORED.test(name))
}

/** Every file of the repository, from the root, with slashes. */
function repositoryFiles(): readonly string[] {
  return topLevel()
    .filter((name) => name !== '.git')
    .flatMap((name) => filesAt(name))
}

function filesAt(path: string): readonly string[] {
  const entries = readdirSync(join(ROOT, dirname(path)), { withFileTypes: true })
  const entry = entries.find(({ name }) => name === basename(path))
  if (entry?.isDirectory() !== true) return [path]
  return readdirSync(join(ROOT, path))
    .filter((name) => !IGNORED.test(name))
    .flatMap((name) => filesAt(`${path}/${name}`))
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

const files = repositoryFiles()
const sources = files
  .filter((path) => path.endsWith('.ts') && isIn(path, ...SOURCE_FOLDERS))
  .map((path) => sourceFile(path, read(path)))

for (const { rule, why, find, bad, good } of rules) {
  test(`tidy: ${rule}`, () => {
    for (const [path, text] of bad) {
      assert.notDeepEqual(find(sourceFile(path, text)), [], `the rule misses ${path}: ${text}`)
    }
    for (const [path, text] of good) {
      assert.deepEqual(find(sourceFile(path, text)), [], `the rule errs at ${path}: ${text}`)
    }
    const broken = sources.flatMap((file) => find(file).map((what) => `${file.path}: ${what}`))
    assert.deepEqual(broken, [], `${broken.join('\n')}\nbecause: ${why}\n`)
  })
}

test('tidy: sources are taken apart rightly', () => {
  const text = `a('x' /* c */) // d\nconst r = /['\`]/g.test(\`p\${q({ '}': 1 })}s\`) / 2 // e`
  const { code, codeWithStrings, comments } = splitSource(text)
  assert.equal(code.replace(/\s+/g, ' '), 'a( ) const r = .test( q({ : 1 }) ) / 2 ')
  assert.match(codeWithStrings, /^a\('x' {8}\)/)
  assert.match(codeWithStrings, /`p\$\{q\(\{ '\}': 1 \}\)\}s`\) \/ 2/)
  assert.equal(comments.replace(/\s+/g, ' '), ' /* c */ // d // e')
  assert.equal(code.length, text.length)
})

test('tidy: every test file is compiled, and lies where scripts/test.ts looks', () => {
  const tests = files.filter((path) => path.endsWith('.test.ts'))
  assert.ok(tests.length > 10)
  for (const path of tests) {
    assert.ok(isIn(path, 'test'), `${path} is outside test/`)
    const compiled = join(COMPILED_TESTS, path.slice('test/'.length).replace(/\.ts$/, '.js'))
    assert.ok(existsSync(compiled), `${path} is not compiled to ${compiled}`)
  }
})

test('tidy: nothing names one machine or one registry', () => {
  for (const path of files) {
    for (const [what, pattern] of FOREIGN_TEXTS) {
      assert.deepEqual(places(read(path), pattern), [], `${path} names ${what}`)
    }
  }
})

test('tidy: packages are pinned, and the lock file names no host', () => {
  const manifest: Record<string, Record<string, string> | undefined> = JSON.parse(
    read('package.json'),
  )
  for (const kind of ['dependencies', 'devDependencies']) {
    for (const [name, version] of Object.entries(manifest[kind] ?? {})) {
      assert.match(
        version,
        /^(?:npm:[\w-]+@)?\d+\.\d+\.\d+$/,
        `${name} is not pinned to one version`,
      )
    }
  }
  type Locked = { resolved?: string; optionalDependencies?: Record<string, string> }
  const lock: { packages: Record<string, Locked> } = JSON.parse(read('package-lock.json'))
  for (const [path, { resolved: host, optionalDependencies = {} }] of Object.entries(
    lock.packages,
  )) {
    assert.equal(host, undefined, `${path} in package-lock.json names ${host}`)
    // A registry that does not have a package for another platform makes npm leave it out, and then npm ci fails.
    for (const name of Object.keys(optionalDependencies)) {
      assert.ok(lock.packages[`node_modules/${name}`], `package-lock.json lacks ${name} of ${path}`)
    }
  }
})

test('tidy: the top level is what the user laid out', () => {
  const unknown = topLevel().filter((name) => !TOP_LEVEL.has(name))
  assert.deepEqual(unknown, [], `not part of the layout: ${unknown.join(', ')}`)
})

/** Rows of a Markdown table as cells, without its head. */
function tableRows(text: string): readonly (readonly string[])[] {
  const lines = text.split('\n').filter((line) => line.trim().startsWith('|'))
  const rows = lines.map((line) =>
    line
      .trim()
      .replace(/^\||\|$/g, '')
      .split('|')
      .map((cell) => cell.trim()),
  )
  return rows.filter((cells, index) => {
    const isRule = cells.every((cell) => /^:?-+:?$/.test(cell))
    const headsTable = rows[index + 1]?.every((cell) => /^:?-+:?$/.test(cell)) === true
    return !isRule && !headsTable
  })
}

test('tidy: every rule of Raft has a test that exists', () => {
  const document = 'docs/raft-rules.md'
  const rows = tableRows(read(document))
  assert.ok(rows.length >= 30, `${document} has only ${rows.length} rules`)
  for (const cells of rows) {
    const named = [...(cells.at(-1) ?? '').matchAll(/(test\/[\w/.-]+\.test\.ts): ([^;`]+)/g)]
    assert.ok(named.length > 0, `no test named in: ${cells.join(' | ')}`)
    for (const [, path = '', title = ''] of named) {
      assert.ok(existsSync(join(ROOT, path)), `${path} does not exist: ${cells.join(' | ')}`)
      const titled = read(path).replaceAll("\\'", "'").includes(title.trim())
      assert.ok(titled, `${path} has no test '${title.trim()}': ${cells.join(' | ')}`)
    }
  }
})
