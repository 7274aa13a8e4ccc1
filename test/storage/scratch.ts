/*
 * Scratch directories for tests: made under the system's temporary directory, removed by whoever made them.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Scratch {
  readonly path: string
  remove(): void
}

export function scratchDirectory(): Scratch {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}
