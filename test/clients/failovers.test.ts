/*
 * Every client library, plain, as a Redis Cluster and as a Sentinel client, through one failover. `npm run
 * test:clients -- --failovers 20` is the long form.
 */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { needs } from '../tools.ts'

test('every client library survives a failover', needs('python3'), () => {
  const script = fileURLToPath(new URL('../../scripts/clients.js', import.meta.url))
  const run = spawnSync(process.execPath, [script, '--failovers', '1'], { encoding: 'utf8' })
  assert.equal(run.status, 0, `${run.stdout}\n${run.stderr}`)
  assert.match(run.stdout, /clients: 15 passed, 0 failed/)
})
