/*
 * The one door for tests to tools that come neither with Node nor from npm (redis-cli, strace). A test without its
 * tool is skipped by name, and scripts/test.ts prints it as NOT RUN; where HOLDFAST_REQUIRE lists the tool, as in
 * .ci/run, a missing one is a failure instead, so nothing can stay unrun without a word.
 */

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** The tool's path on this machine; undefined when it is missing. Throws when HOLDFAST_REQUIRE lists it. */
export function requireTool(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '')
  const found = folders.map((folder) => join(folder, name)).find(isExecutable)
  const required = (process.env.HOLDFAST_REQUIRE ?? '').split(',').map((tool) => tool.trim())
  if (found === undefined && required.includes(name)) {
    throw new Error(`${name} is missing, and HOLDFAST_REQUIRE says that it must not be`)
  }
  return found
}

/** Options for a test that uses these tools: `test('title', needs('redis-cli'), () => ...)`. */
export function needs(...tools: readonly string[]): { skip: string | false } {
  const missing = tools.filter((tool) => requireTool(tool) === undefined)
  return { skip: missing.length > 0 ? `${missing.join(' and ')} is missing` : false }
}

/** As needs(), for what only root may do, such as mounting. */
export function needsRoot(): { skip: string | false } {
  return { skip: process.getuid?.() === 0 ? false : 'it needs root' }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
