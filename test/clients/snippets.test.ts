/*
 * The programs of docs/clients.md, run as they stand there against three nodes; only the ports are changed to those of
 * the test. So what a reader copies has been seen to work, with every version that the heading names.
 */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Cluster, showingLogs } from '../e2e/cluster.ts'
import { until } from '../processes.ts'
import { needs } from '../tools.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const PROGRAM_MS = 30_000

interface Snippet {
  readonly title: string
  readonly language: string
  readonly code: string
  readonly prints: string
}

/** A way to run a snippet: with which package under the name that the document uses. */
interface Way {
  readonly title: string
  readonly tools: readonly string[]
  readonly renamed?: readonly [from: string, to: string]
}

/** Every version that a heading names. */
const ways: Readonly<Record<string, readonly Way[]>> = {
  'ioredis 5 and 6': [
    { title: 'ioredis 6', tools: [] },
    { title: 'ioredis 5', tools: [], renamed: ["'ioredis'", "'ioredis-5'"] },
  ],
  'node-redis 5 and 6': [
    { title: 'node-redis 6', tools: [] },
    { title: 'node-redis 5', tools: [], renamed: ["'redis'", "'@keyv/redis'"] },
  ],
  'redis-py': [{ title: 'redis-py', tools: ['python3'] }],
  'redis-cli': [{ title: 'redis-cli', tools: ['redis-cli'] }],
  'keyv and cache-manager': [{ title: 'keyv and cache-manager', tools: [] }],
  'connect-redis with express-session': [{ title: 'connect-redis', tools: [] }],
}

const programs: Readonly<Record<string, readonly string[]>> = {
  js: [process.execPath, '--input-type=module', '--eval'],
  python: ['/usr/bin/python3', '-c'],
  sh: ['/bin/sh', '-ec'],
}

function snippetsOf(document: string): readonly Snippet[] {
  return document.split(/^## /m).flatMap((section) => {
    const title = section.slice(0, section.indexOf('\n'))
    const blocks = [...section.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    assert.ok(blocks.length % 2 === 0, `a program of '${title}' lacks what it prints`)
    return blocks.flatMap(([, language = '', code = ''], at) => {
      if (at % 2 === 1) return []
      const [, kind, prints = ''] = blocks[at + 1] ?? []
      assert.equal(kind, 'text', `what a program of '${title}' prints follows it`)
      return [{ title, language, code, prints }]
    })
  })
}

const snippets = snippetsOf(readFileSync(`${ROOT}docs/clients.md`, 'utf8'))

let cluster: Cluster

before(async () => {
  cluster = await Cluster.start({ nodes: 3, sentinels: true })
})
after(async () => {
  await cluster?.end()
})

/** The program with the ports of the test's nodes in place of those of `npm start`. */
function withPorts(code: string): string {
  return code.replace(/\b(2?)(6379|638[01])\b/g, (_, sentinel: string, port: string) => {
    const node = cluster.node(Number(port) - 6379)
    return String(sentinel === '' ? node.port : node.sentinelPort)
  })
}

/** All that the program prints, on either stream. */
async function run(language: string, code: string): Promise<string> {
  const [command = '', ...args] = programs[language] ?? []
  const child = spawn(command, [...args, code], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let ended = false
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  child.once('error', (error) => {
    output += error.message
    ended = true
  })
  child.once('close', (code) => {
    if (code !== 0) output += `ended with ${code}`
    ended = true
  })
  try {
    await until('the end of the program', () => ended, PROGRAM_MS)
  } finally {
    if (!ended) child.kill('SIGKILL')
  }
  return output
}

test('the document has a program for every client', () => {
  assert.deepEqual(
    snippets.map(({ title }) => title),
    Object.keys(ways),
  )
})

for (const { title, language, code, prints } of snippets) {
  for (const way of ways[title] ?? []) {
    test(
      `docs/clients.md: ${way.title}`,
      needs(...way.tools),
      showingLogs(
        () => cluster,
        async () => {
          const [from, to] = way.renamed ?? ['', '']
          assert.ok(code.includes(from), `the program imports ${from}`)
          const program = withPorts(from === '' ? code : code.replace(from, to))
          assert.ok(!/\b6379\b/.test(program))
          assert.equal(await run(language, program), prints)
        },
      ),
    )
  }
}
