/* How many clients the open files of a process leave room for, and what works when there are none left. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { limits } from '../../src/config.ts'
import { loadConfig } from '../../src/config-load.ts'
import { fitClients } from '../../src/open-files.ts'

const { ownFilesMax, refusedClientsMax } = limits

/** maxclients as it becomes, and what was said. */
function fitted(
  argv: readonly string[],
  filesMax: number | undefined,
): readonly [maxclients: number, ...warnings: string[]] {
  const config = loadConfig({ argv, environment: {}, readFile: () => '' })
  const warnings: string[] = []
  fitClients(config, { warn: (_, text) => warnings.push(text) }, filesMax)
  return [config.get('maxclients'), ...warnings]
}

test('clients never take the files that a node needs to live', () => {
  const files = (open: number): number => ownFilesMax + refusedClientsMax + open
  assert.deepEqual(fitted([], files(10_000)), [10_000])
  assert.deepEqual(fitted([], files(9_999)), [
    9_999,
    `maxclients is 9999 instead of 10000: this process may have ${files(9_999)} open files (ulimit -n)`,
  ])
  assert.deepEqual(fitted(['--maxclients', '1'], files(1)), [1])
  assert.throws(() => fitted(['--maxclients', '1'], files(0)), {
    code: 'OPEN_FILES',
    message: `this process may have ${files(0)} open files (ulimit -n); a node needs at least ${files(1)}`,
  })
})

test('who asks this node as a Sentinel has as many', () => {
  const files = ownFilesMax + 2 * (refusedClientsMax + 50)
  assert.equal(fitted(['--sentinel-port', '26379'], files)[0], 50)
  assert.equal(fitted(['--sentinel-port', '26379'], files - 1)[0], 49)
})

test('memory is told, and sampled, when no file can be opened', () => {
  const place = fileURLToPath(new URL('../../src/process-memory.js', import.meta.url))
  const program = `
    import { openSync } from 'node:fs'
    import { ProcessMemory } from ${JSON.stringify(place)}
    const memory = new ProcessMemory()
    const before = memory.facts()
    let code
    while (code === undefined) try { openSync('/dev/null') } catch (error) { code = error.code }
    const used = memory.sample()
    const { usedPeak } = memory.facts()
    console.log(JSON.stringify([code, before.resident > before.used, used > 0, usedPeak >= used]))`
  const script = 'ulimit -n 64; exec "$0" --input-type=module --eval "$1"'
  const told = execFileSync('sh', ['-c', script, process.execPath, program], { encoding: 'utf8' })
  assert.deepEqual(JSON.parse(told), ['EMFILE', true, true, true])
})
