/*
 * A disk that really is full: a small tmpfs. The node must hear of it as a reason, before LMDB finds out by itself.
 */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LmdbEngine } from '../../storage/lmdb-engine.ts'
import { needsRoot } from '../tools.ts'
import { scratchDirectory } from './scratch.ts'

const VALUE_BYTES = 64 * 1024

test(
  'a full disk is told as a reason, once, and what was acknowledged is there',
  needsRoot(),
  async (context) => {
    const scratch = scratchDirectory()
    const mount = join(scratch.path, 'small')
    mkdirSync(mount)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', mount])
    context.after(() => {
      execFileSync('umount', ['--lazy', mount])
      scratch.remove()
    })
    const reasons: string[] = []
    const engine = new LmdbEngine(join(mount, 'node'), (reason) => reasons.push(reason))
    const log = await engine.openLog('log', ['a'])
    let acknowledged = 0
    for (; reasons.length === 0; acknowledged++) {
      assert.ok(acknowledged < 200, 'the disk is never full')
      const key = Buffer.from(String(acknowledged))
      const value = Buffer.alloc(VALUE_BYTES, acknowledged)
      const put = { type: 'put', database: 'a', key, value } as const
      try {
        await log.commit([put])
      } catch {
        break
      }
    }
    assert.match(
      reasons.join(),
      /^no space left for .*log: \d+ bytes are free, 65536 are to be written$/,
    )
    assert.ok(acknowledged > 20, `${acknowledged} commits found room`)
    for (let at = 0; at < acknowledged; at++) {
      const value = log.get('a', Buffer.from(String(at))) ?? Buffer.alloc(0)
      assert.equal(Buffer.compare(value, Buffer.alloc(VALUE_BYTES, at)), 0)
    }
    await log.close()
  },
)
