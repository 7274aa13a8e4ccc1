/*
 * `npm run jepsen`: a real cluster, real clients, real faults, and a history that is checked (docs/jepsen.md).
 *
 *   -- --minutes 2 --nodes 3            how long, how many
 *   -- --nemesis kill,pause,partition   which faults; all that this machine can do when left out
 *   -- --workload register              which commands; several with commas
 *   -- --seed 1 --out FOLDER            chance of the faults; where the report goes
 *   -- --broken                         a server that serves stale reads: exit code 0 when that is found
 *
 * As root, with unshare and ip, it runs itself again in a network namespace of its own and gives each node another.
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Interval } from '../test/jepsen/availability.ts'
import { Clients } from '../test/jepsen/clients.ts'
import { findLibrary } from '../test/jepsen/fake-clock.ts'
import { type Fault, type Nemesis, nemeses } from '../test/jepsen/nemeses.ts'
import { Recorder } from '../test/jepsen/recorder.ts'
import { Testbed } from '../test/jepsen/testbed.ts'
import { judge } from '../test/jepsen/verdict.ts'
import { createWorkload, type WorkloadName, workloadNames } from '../test/jepsen/workloads.ts'
import { seededRandom } from '../test/linearizability/simulation.ts'
import { lapse } from '../test/processes.ts'
import { requireTool } from '../test/tools.ts'

/** Set in the process that runs in a network namespace of its own. */
const ISOLATED = 'JEPSEN_ISOLATED'
const CLIENTS_PER_NODE = 4
const PAUSE_MS = 20
/** After a heal: time to settle, then some of quiet service. */
const QUIET_MS = { least: 6500, most: 9000 }
const FIRST_FAULT_MS = 2000
const PROGRESS_MS = 5000

interface Plan {
  readonly minutes: number
  readonly nodes: number
  readonly nemeses: readonly Nemesis[]
  readonly workloads: readonly WorkloadName[]
  readonly seed: number
  readonly out: string
  readonly broken: boolean
  readonly faketime: string | undefined
}

function readPlan(): Plan {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '2' },
      nodes: { type: 'string', default: '3' },
      nemesis: { type: 'string' },
      workload: { type: 'string', default: 'register' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      out: { type: 'string', default: 'jepsen-report' },
      broken: { type: 'boolean', default: false },
    },
  })
  const names = values.nemesis?.split(',')
  const unknown = names?.find((name) => nemeses.every((nemesis) => nemesis.name !== name))
  if (unknown !== undefined) {
    throw new Error(
      `no nemesis '${unknown}'; there are ${nemeses.map(({ name }) => name).join(', ')}`,
    )
  }
  const workloads = values.workload.split(',').map((name) => {
    const found = workloadNames.find((one) => one === name)
    if (found === undefined)
      throw new Error(`no workload '${name}'; there are ${workloadNames.join(', ')}`)
    return found
  })
  const faketime = findLibrary()
  const clocks = names?.includes('clock') ?? true
  if (clocks && faketime === undefined && (names?.includes('clock') || required('libfaketime'))) {
    throw new Error('the nemesis clock needs libfaketime, which is not installed')
  }
  return {
    minutes: number('minutes', values.minutes, 0.1),
    nodes: number('nodes', values.nodes, 1),
    nemeses: nemeses.filter(
      ({ name }) => names?.includes(name) ?? (name !== 'clock' || faketime !== undefined),
    ),
    workloads,
    seed: number('seed', values.seed, 0),
    out: resolve(values.out),
    broken: values.broken,
    faketime: clocks ? faketime : undefined,
  }
}

function number(name: string, text: string, least: number): number {
  const value = Number(text)
  if (Number.isFinite(value) && value >= least) return value
  throw new Error(`--${name} takes a number from ${least} on, not '${text}'`)
}

function required(tool: string): boolean {
  return (process.env.HOLDFAST_REQUIRE ?? '').split(',').includes(tool)
}

/** Runs this script again where it may make networks; undefined where it may not. */
function isolated(): number | undefined {
  const able = requireTool('unshare') !== undefined && requireTool('ip') !== undefined
  if (process.getuid?.() !== 0 || !able || requireTool('nsenter') === undefined) return undefined
  const file = fileURLToPath(import.meta.url)
  const args = ['--net', process.execPath, file, ...process.argv.slice(2)]
  const { status } = spawnSync('unshare', args, {
    stdio: 'inherit',
    env: { ...process.env, [ISOLATED]: 'yes' },
  })
  return status ?? 1
}

async function main(): Promise<number> {
  const plan = readPlan()
  if (process.env[ISOLATED] === undefined) {
    const code = isolated()
    if (code !== undefined) return code
    print(
      'not root, or no ip and unshare: the nodes share loopback, and all cuts are made by the proxy',
    )
  }
  rmSync(plan.out, { recursive: true, force: true })
  mkdirSync(plan.out, { recursive: true })
  const random = seededRandom(plan.seed)
  const testbed = await Testbed.open({
    nodes: plan.nodes,
    folder: join(plan.out, 'nodes'),
    main: plan.broken ? 'test/jepsen/stale-reads-main.js' : 'src/main.js',
    isolated: process.env[ISOLATED] !== undefined,
    faketime: plan.faketime,
    flags: [],
    random,
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void testbed.close().then(() => process.exit(1)))
  }
  try {
    return await run(plan, testbed, random)
  } finally {
    await testbed.close()
    rmSync(join(plan.out, 'nodes'), { recursive: true, force: true })
  }
}

async function run(plan: Plan, testbed: Testbed, random: () => number): Promise<number> {
  const wrongClock = testbed.clocks[0]?.fault()
  if (wrongClock !== undefined)
    throw new Error(`libfaketime does not do what it must: ${wrongClock}`)
  const history = join(plan.out, 'history.jsonl')
  const recorder = new Recorder({ jsonLines: history, edn: join(plan.out, 'history.edn') })
  const workloads = plan.workloads.map((name) => createWorkload(name, random))
  const clients = new Clients({
    testbed,
    recorder,
    workloads,
    perNode: Math.max(CLIENTS_PER_NODE, workloads.length),
    pauseMs: PAUSE_MS,
    random,
  })
  const title = `${plan.nodes} nodes, ${plan.workloads.join(' ')}, ${plan.nemeses.map(({ name }) => name).join(' ')}, seed ${plan.seed}`
  print(`${title}: report in ${plan.out}`)
  clients.start()
  const faults = await torment(plan, { testbed, recorder, clients, random })
  const durationMs = recorder.now() / 1e6
  await clients.stop()
  await testbed.ready()
  await clients.readBack()
  await recorder.close()
  const verdict = judge({
    folder: plan.out,
    history,
    title,
    workloads: plan.workloads,
    nodes: testbed.nodes.map(({ name }) => name),
    samples: clients.samples,
    faults,
    durationMs,
    commandsPerClient: [...clients.counts.values()],
  })
  return report(plan, verdict, clients)
}

interface Scene {
  readonly testbed: Testbed
  readonly recorder: Recorder
  readonly clients: Clients
  readonly random: () => number
}

/** Faults and quiet times in turn until the time is over; everything is healed then. */
async function torment(plan: Plan, scene: Scene): Promise<readonly Interval[]> {
  const { testbed, recorder, clients, random } = scene
  const faults: Interval[] = []
  const endNs = recorder.now() + plan.minutes * 60e9
  let shownAt = performance.now()
  const spend = async (ms: number): Promise<void> => {
    const until = performance.now() + ms
    while (performance.now() < until) {
      await lapse(Math.min(250, until - performance.now()))
      if (performance.now() - shownAt < PROGRESS_MS) continue
      shownAt = performance.now()
      const bad = clients.samples.filter(({ outcome }) => outcome !== 'ok').length
      print(
        `${(recorder.now() / 1e9).toFixed(0)} s: ${clients.samples.length} commands, ${bad} not ok, ${faults.length} faults`,
      )
    }
  }
  await spend(FIRST_FAULT_MS)
  for (let _round = 0; ; _round++) {
    const quietMs = QUIET_MS.least + random() * (QUIET_MS.most - QUIET_MS.least)
    const leftMs = (endNs - recorder.now()) / 1e6
    // The last quiet time is part of the run: what follows the last fault must be served too.
    if (leftMs < quietMs) {
      await spend(Math.max(0, leftMs))
      return faults
    }
    const nemesis = plan.nemeses[Math.floor(random() * plan.nemeses.length)]
    if (nemesis === undefined) throw new Error('no nemesis')
    faults.push(await once(nemesis, { ...scene, spend, mostMs: leftMs - quietMs }))
    await spend(quietMs)
    if (testbed.nodes.some((node) => !node.running)) {
      throw new Error(
        `a node ended by itself:\n${testbed.nodes.map((node) => node.lastLines()).join('\n')}`,
      )
    }
  }
}

async function once(
  nemesis: Nemesis,
  scene: Scene & { spend(ms: number): Promise<void>; mostMs: number },
): Promise<Interval> {
  const { testbed, recorder, random, spend, mostMs } = scene
  const fromNs = recorder.record({
    process: 'nemesis',
    type: 'info',
    f: nemesis.name,
    value: 'begins',
  })
  const fault: Fault = await nemesis.begin(testbed, random)
  print(`${(fromNs / 1e9).toFixed(1)} s: ${fault.what}, for ${(fault.ms / 1000).toFixed(1)} s`)
  await spend(Math.min(fault.ms, mostMs))
  await fault.heal()
  const toNs = recorder.record({
    process: 'nemesis',
    type: 'info',
    f: nemesis.name,
    value: fault.what,
  })
  return { what: fault.what, fromMs: fromNs / 1e6, toMs: toNs / 1e6 }
}

function report(plan: Plan, verdict: ReturnType<typeof judge>, clients: Clients): number {
  const { samples } = clients
  const count = (outcome: string): number => samples.filter((one) => one.outcome === outcome).length
  print(
    `${samples.length} commands: ${count('ok')} ok, ${count('fail')} refused, ${count('info')} unknown`,
  )
  for (const line of verdict.explanation) print(line)
  for (const fault of verdict.faults) print(`WRONG: ${fault}`)
  if (plan.broken) {
    const caught = verdict.linearizable === 'invalid'
    print(caught ? 'the broken server was caught' : 'the broken server was NOT caught')
    print(`jepsen: ${caught ? '1 passed, 0 failed' : '0 passed, 1 failed'}`)
    return caught ? 0 : 1
  }
  const passed = verdict.faults.length === 0
  print(`jepsen: ${passed ? '1 passed, 0 failed' : '0 passed, 1 failed'}`)
  if (!passed)
    print(`repeat: npm run jepsen -- ${process.argv.slice(2).join(' ')} --seed ${plan.seed}`)
  return passed ? 0 : 1
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

process.exitCode = await main()
