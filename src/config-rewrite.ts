/*
 * CONFIG REWRITE: the configuration file with the options as they are now. Comments, blank lines and the order stay;
 * an option that stands in the file is changed in its place, another one is added at the end if it is not at its
 * default. The new file takes the place of the old one in one step, so that a crash leaves one of the two.
 */

import { open, readFile, realpath, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fromFile } from './option-sources.ts'

/** An option as it is now. */
export interface WrittenOption {
  readonly name: string
  readonly value: string
  readonly isDefault: boolean
  /** Its value is made of words that stand side by side, not of one that may hold blanks. */
  readonly manyWords: boolean
}

const MARK = '# Written by CONFIG REWRITE'

/** One at a time. Throws what the file system throws. */
export async function rewriteConfigFile(
  file: string,
  options: readonly WrittenOption[],
): Promise<void> {
  // A link stays one, and who may read the file stays as it is: it may hold a password.
  const target = await realpath(file)
  const { mode } = await stat(target)
  const text = rewritten(await readFile(target, 'utf8'), options)
  const temporary = `${target}.new`
  const handle = await open(temporary, 'w', mode & 0o777)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, target)
  const directory = await open(dirname(target), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** The text of the file as it has to be. */
export function rewritten(content: string, options: readonly WrittenOption[]): string {
  const missing = new Map(options.map((option) => [option.name, option]))
  const known = new Set(missing.keys())
  const lines: string[] = []
  for (const line of content.replace(/\n$/, '').split('\n')) {
    const name = fromFile('', line)[0]?.name
    if (name === undefined || !known.has(name)) {
      lines.push(line)
      continue
    }
    // Only the first of several lines stays: it says everything.
    const option = missing.get(name)
    if (option !== undefined) lines.push(lineOf(option))
    missing.delete(name)
  }
  const added = [...missing.values()].filter(({ isDefault }) => !isDefault)
  if (added.length > 0 && !lines.includes(MARK)) lines.push(MARK)
  lines.push(...added.map(lineOf))
  return `${lines.join('\n')}\n`
}

function lineOf({ name, value, manyWords }: WrittenOption): string {
  return `${name} ${manyWords && value !== '' ? value : quoted(value)}`
}

/** What splitWords() reads back as one word. */
function quoted(value: string): string {
  if (/^[\w./:,@%+*-]+$/.test(value)) return value
  const escapes: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }
  return `"${value.replace(/["\\\n\r\t]/g, (one) => escapes[one] ?? `\\${one}`)}"`
}
