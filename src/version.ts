/*
 * The version of this build, from the one place that states it: package.json. It lies one folder above the
 * sources and two above the compiled files, in a checkout as well as in the installed package.
 */

import { existsSync, readFileSync } from 'node:fs'
import { assert } from '../raft/assert.ts'

/** Such as "0.1.0". */
export const version: string = readVersion()

function readVersion(): string {
  const places = ['../package.json', '../../package.json'].map(
    (relative) => new URL(relative, import.meta.url),
  )
  const place = places.find((candidate) => existsSync(candidate))
  assert(place !== undefined, () => 'package.json is missing')
  const described: unknown = JSON.parse(readFileSync(place, 'utf8'))
  const found =
    typeof described === 'object' && described !== null && 'version' in described
      ? described.version
      : undefined
  assert(typeof found === 'string', () => 'package.json names no version')
  return found
}
