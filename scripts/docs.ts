/*
 * `npm run test:docs`: runs the commands of docs/operations.md as an operator would type them, in a folder of their
 * own and on free ports (test/docs/walkthrough.ts). A command that fails, or prints something else than what stands
 * there, is told with its line.
 */

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { runScript } from '../test/command-line.ts'
import { stepsOf, walk } from '../test/docs/walkthrough.ts'
import { freePorts } from '../test/processes.ts'
import { requireTool } from '../test/tools.ts'

const DOCUMENT = 'docs/operations.md'
/** The document calls its nodes' ports 7001 to 7009, and 17001 to 17009 for their peers. */
const NODES = 9
const PEER_PORT_OFFSET = 10_000
const FIRST_PORT = 7001
const TIMEOUT_MS = 180_000

async function main(): Promise<number> {
  if (requireTool('redis-cli') === undefined) {
    process.stdout.write('NOT RUN: redis-cli is missing\n')
    return 0
  }
  const path = fileURLToPath(new URL(`../../${DOCUMENT}`, import.meta.url))
  const steps = stepsOf(readFileSync(path, 'utf8'))
  if (steps.length === 0) throw new Error(`${DOCUMENT} has no commands`)
  const first = await freePorts(NODES)
  const ports = new Map<string, number>()
  for (let at = 0; at < NODES; at++) {
    ports.set(String(FIRST_PORT + at), first + at)
    ports.set(String(FIRST_PORT + at + PEER_PORT_OFFSET), first + at + PEER_PORT_OFFSET)
  }
  const started = performance.now()
  const failure = await walk(steps, { ports, timeoutMs: TIMEOUT_MS })
  if (failure !== undefined) {
    const { step, why } = failure
    process.stdout.write(`${DOCUMENT}:${step.line} (${step.heading}): ${why}\n`)
    return 1
  }
  const seconds = Math.round((performance.now() - started) / 1000)
  process.stdout.write(`${steps.length} steps of ${DOCUMENT} passed in ${seconds} s\n`)
  return 0
}

await runScript({ url: import.meta.url, options: {} }, main)
