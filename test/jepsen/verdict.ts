/*
 * The verdict on a run: the history searched for a linear order, the set workload counted, the service in quiet times
 * measured against what is asked of it. It writes the report's files but for the history, which the recorder wrote.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkHistory } from '../linearizability/check.ts'
import { explain } from '../linearizability/explain.ts'
import { readOperations } from '../linearizability/history.ts'
import type { Operation } from '../linearizability/operation.ts'
import { draw, textBelow } from '../linearizability/picture.ts'
import { checkSet } from '../linearizability/set-workload.ts'
import { stringModel } from '../linearizability/string-model.ts'
import { type Interval, type Sample, serviceOf } from './availability.ts'
import { drawRun } from './plot.ts'

const SERVED_SHARE_MIN = 0.99
const FAULTS_PER_MINUTE_MIN = 1
const COMMANDS_PER_CLIENT_MINUTE_MIN = 100
const PICTURES_MAX = 3

export interface Run {
  readonly folder: string
  readonly history: string
  readonly title: string
  readonly workloads: readonly string[]
  readonly nodes: readonly string[]
  readonly samples: readonly Sample[]
  readonly faults: readonly Interval[]
  readonly durationMs: number
  readonly commandsPerClient: readonly number[]
  /** What the run itself saw go wrong. */
  readonly wrong: readonly string[]
}

export interface Verdict {
  readonly linearizable: 'valid' | 'invalid' | 'unknown'
  /** What is wrong, a line each; none: the run is good. */
  readonly faults: readonly string[]
  /** What the history shows, in words. */
  readonly explanation: readonly string[]
}

export function judge(run: Run): Verdict {
  const operations = [...readOperations({ path: run.history, model: stringModel })]
  const check = checkHistory(operations)
  const explanation: string[] = []
  for (const [at, violation] of check.violations.slice(0, PICTURES_MAX).entries()) {
    const explained = explain(violation)
    writeFileSync(join(run.folder, `violation-${at + 1}.svg`), draw(explained))
    explanation.push(`key ${violation.key}:`, ...textBelow(explained))
  }
  const services = serviceOf(run.samples, { ...run, nodes: run.nodes.length })
  const faults = [
    ...run.wrong,
    ...(check.outcome === 'valid' ? [] : [`the history is ${check.outcome}`]),
    ...setFaults(run, operations),
    ...serviceFaults(run, services),
    ...quotaFaults(run),
  ]
  const plot = drawRun(run)
  writeFileSync(join(run.folder, 'latency.svg'), plot)
  const results = {
    valid: faults.length === 0,
    linearizable: check.outcome,
    title: run.title,
    operations: check.operations,
    failed: check.failed,
    unknown: check.unknown,
    keys: check.keys,
    seconds: Math.round(run.durationMs / 1000),
    faults: run.faults.map(({ what, fromMs, toMs }) => ({
      what,
      fromMs: Math.round(fromMs),
      toMs: Math.round(toMs),
    })),
    quietService: run.nodes.map((name, node) => ({ name, ...services[node] })),
    wrong: faults,
  }
  writeFileSync(join(run.folder, 'results.json'), `${JSON.stringify(results, null, 2)}\n`)
  return { linearizable: check.outcome, faults, explanation }
}

function setFaults(run: Run, operations: readonly Operation[]): string[] {
  if (!run.workloads.includes('set')) return []
  const set = checkSet(operations.filter(({ key }) => key.startsWith('set:')))
  const counts = { lost: set.lost, unexpected: set.unexpected, 'never read back': set.unread }
  return Object.entries(counts).flatMap(([what, keys]) =>
    keys.length === 0
      ? []
      : [`${keys.length} elements of the set are ${what}: ${keys.slice(0, 5).join(' ')}`],
  )
}

function serviceFaults(run: Run, services: ReturnType<typeof serviceOf>): string[] {
  return services.flatMap(({ asked, served }, node) => {
    const name = run.nodes[node]
    if (asked === 0) return [`no quiet time in which ${name} was asked`]
    const share = served / asked
    if (share >= SERVED_SHARE_MIN) return []
    return [
      `in quiet times ${name} served ${served} of ${asked} commands (${(share * 100).toFixed(1)} %)`,
    ]
  })
}

function quotaFaults(run: Run): string[] {
  const minutes = run.durationMs / 60_000
  const few: string[] = []
  if (run.faults.length < Math.floor(minutes * FAULTS_PER_MINUTE_MIN)) {
    few.push(`only ${run.faults.length} faults in ${minutes.toFixed(1)} minutes`)
  }
  const least = Math.min(...run.commandsPerClient)
  if (least < minutes * COMMANDS_PER_CLIENT_MINUTE_MIN) {
    few.push(`a client sent only ${least} commands in ${minutes.toFixed(1)} minutes`)
  }
  return few
}
