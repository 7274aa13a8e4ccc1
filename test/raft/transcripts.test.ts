/*
 * Each .txt file in this folder is a script and what it must print: lines with `>` are commands (script.ts), lines
 * under them the output, `#` begins a comment. `HOLDFAST_REWRITE=1` writes the output anew, to be reviewed as a diff:
 * the transcript is the specification of how nodes interact.
 */

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { Script } from './script.ts'

/** The sources' folder: this file runs compiled, some levels below the package. */
function transcriptFolder(): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return join(folder, 'test', 'raft')
}

async function replay(text: string): Promise<string> {
  const script = new Script()
  const lines: string[] = []
  for (const line of text.split('\n')) {
    const isCommand = line.startsWith('>')
    if (!isCommand && !line.startsWith('#') && line !== '') continue
    lines.push(line)
    if (isCommand) lines.push(...(await script.run(line.slice(1).trim())))
  }
  return lines.join('\n')
}

const folder = transcriptFolder()
const names = readdirSync(folder).filter((name) => name.endsWith('.txt'))

test('there are transcripts to run', () => {
  assert.ok(names.length >= 20, `only ${names.length} in ${folder}`)
})

for (const name of names) {
  test(`transcript ${name}`, async () => {
    const path = join(folder, name)
    const expected = readFileSync(path, 'utf8')
    const actual = await replay(expected)
    if (process.env.HOLDFAST_REWRITE === '1') writeFileSync(path, actual)
    else assert.equal(actual, expected)
  })
}
