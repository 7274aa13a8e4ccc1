/*
 * The door to outside tools: found, missing, and missing where it must not be.
 */

import assert from 'node:assert/strict'
import { basename, dirname } from 'node:path'
import { type TestContext, test } from 'node:test'
import { needs, requireTool } from './tools.ts'

const MISSING = 'holdfast-has-no-such-tool'

function setVariable(context: TestContext, name: string, value: string): void {
  const before = process.env[name]
  context.after(() => {
    if (before === undefined) delete process.env[name]
    else process.env[name] = before
  })
  process.env[name] = value
}

test('a tool is found on the PATH, or it is missing and named', (context) => {
  setVariable(context, 'PATH', `/nowhere::${dirname(process.execPath)}`)
  setVariable(context, 'HOLDFAST_REQUIRE', 'strace')
  assert.equal(requireTool(basename(process.execPath)), process.execPath)
  assert.equal(requireTool(MISSING), undefined)
  assert.deepEqual(needs(basename(process.execPath)), { skip: false })
  assert.deepEqual(needs(MISSING, 'another'), { skip: `${MISSING} and another is missing` })
})

test('a missing tool that HOLDFAST_REQUIRE lists is a failure', (context) => {
  setVariable(context, 'HOLDFAST_REQUIRE', `strace, ${MISSING}`)
  assert.throws(() => needs(MISSING), { message: /^holdfast-has-no-such-tool is missing, and / })
})
