/*
 * `npm run jepsen`: a real cluster, real clients, real faults, and a history that is checked (docs/jepsen.md).
 *
 *   -- --minutes 2 --nodes 3            how long, how many
 *   -- --nemesis kill,pause,partition   which faults; all that this machine can do when left out
 *   -- --workload register              which commands; several with commas
 *   -- --seed 1 --out FOLDER            chance of the faults; where the report goes
 *   -- --broken                         a server that serves stale reads: exit code 0 when that is found
 *
 * As root, with unshare and ip, it runs itself again in namespaces of its own (network and processes) and gives each
 * node another network. However either process ends, the kernel then takes away all that was made.
 */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type CommandLine,
  calledWrongly,
  numberFrom,
  runScript,
  typedWords,
} from '../test/command-line.ts'
import { Clients } from '../test/jepsen/clients.ts'
import { findLibrary } from '../test/jepsen/fake-clock.ts'
import { type Nemesis, nemeses } from '../test/jepsen/nemeses.ts'
import { Recorder } from '../test/jepsen/recorder.ts'
import { Testbed } from '../test/jepsen/testbed.ts'
import { Torment } from '../test/jepsen/torment.ts'
import { judge } from '../test/jepsen/verdict.ts'
import { createWorkload, type WorkloadName, workloadNames } from '../test/jepsen/workloads.ts'
import { seededRandom } from '../test/linearizability/simulation.ts'
import { requireTool } from '../test/tools.ts'

/** Set in the process that runs in namespaces of its own; it stops when its standard input ends. */
const ISOLATED = 'JEPSEN_ISOLATED'
const NAMESPACES = ['--net', '--pid', '--fork', '--kill-child', '--mount-proc']
/** What a run needs of the kernel; a container may allow less than its root expects. */
const ATTEMPT = 'ip link add probe0 type bridge && ip link add probe1 type veth peer name probe2'
const HISTORY = 'history.jsonl'
const CLIENTS_PER_NODE = 4
const PAUSE_MS = 20
const PROGRESS_MS = 5000
const STRANGE_SHOWN_MAX = 5

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

const OPTIONS = {
  minutes: { type: 'string', default: '2' },
  nodes: { type: 'string', default: '3' },
  nemesis: { type: 'string' },
  workload: { type: 'string', default: 'register' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  out: { type: 'string', default: 'jepsen-report' },
  broken: { type: 'boolean', default: false },
} as const

function readPlan({ values }: CommandLine<typeof OPTIONS>): Plan {
  const names = values.nemesis?.split(',')
  const unknown = names?.find((name) => nemeses.every((nemesis) => nemesis.name !== name))
  if (unknown !== undefined) {
    throw calledWrongly(
      `no nemesis '${unknown}'; there are ${nemeses.map(({ name }) => name).join(', ')}`,
    )
  }
  const workloads = values.workload.split(',').map((name) => {
    const found = workloadNames.find((one) => one === name)
    if (found === undefined)
      throw calledWrongly(`no workload '${name}'; there are ${workloadNames.join(', ')}`)
    return found
  })
  const faketime = findLibrary()
  const nodes = numberFrom('nodes', values.nodes, { least: 1, whole: true })
  const chosen = nemeses.filter(({ name }) => {
    const why = missingFor(name, nodes, faketime)
    if (why !== undefined && names?.includes(name)) {
      throw calledWrongly(`the nemesis ${name} ${why}`)
    }
    return names?.includes(name) ?? why === undefined
  })
  return {
    minutes: numberFrom('minutes', values.minutes, { least: 0.1 }),
    nodes,
    nemeses: chosen,
    workloads,
    seed: numberFrom('seed', values.seed, { least: 0, whole: true }),
    out: resolve(values.out),
    broken: values.broken,
    faketime: chosen.some(({ name }) => name === 'clock') ? faketime : undefined,
  }
}

/** What a nemesis lacks here; undefined: nothing. Throws when HOLDFAST_REQUIRE says that it must not be lacking. */
function missingFor(name: string, nodes: number, faketime: string | undefined): string | undefined {
  if (name === 'clock' && faketime === undefined) {
    if (required('libfaketime')) throw new Error('libfaketime is not installed')
    return 'needs libfaketime, which is not installed'
  }
  if (name === 'disk' && requireTool('strace') === undefined) return 'needs strace'
  if (name === 'member' && nodes < 3) return 'needs three nodes, one of which can be spared'
  return undefined
}

function required(tool: string): boolean {
  return (process.env.HOLDFAST_REQUIRE ?? '').split(',').includes(tool)
}

/** Why this process cannot make namespaces; undefined if it can. */
function obstacle(): string | undefined {
  const missing = ['unshare', 'ip', 'nsenter'].filter((tool) => requireTool(tool) === undefined)
  if (missing.length > 0) return `${missing.join(' and ')} is missing`
  if (process.getuid?.() !== 0) return 'not root'
  const { status, stderr } = spawnSync('unshare', [...NAMESPACES, 'sh', '-c', ATTEMPT])
  return status === 0 ? undefined : `no namespaces here: ${stderr.toString().trim()}`
}

/** Runs this script again in namespaces of its own, and passes a wish to stop on to it. */
async function runIsolated(plan: Plan): Promise<number> {
  const file = fileURLToPath(import.meta.url)
  const given = typedWords()
  const args = [...NAMESPACES, process.execPath, file, ...given, '--seed', String(plan.seed)]
  const environment = { ...process.env, [ISOLATED]: 'yes' }
  const child = spawn('unshare', args, { stdio: ['pipe', 'inherit', 'inherit'], env: environment })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.stdin?.end())
  const [code] = await once(child, 'close')
  rmSync(nodesFolder(plan), { recursive: true, force: true })
  return typeof code === 'number' ? code : 1
}

function nodesFolder(plan: Plan): string {
  return join(plan.out, 'nodes')
}

/** Calls `stop` once somebody wants this process to stop. */
function onStop(stop: () => void): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop)
  if (process.env[ISOLATED] === undefined) return
  process.stdin.once('end', stop).resume()
}

async function main(line: CommandLine<typeof OPTIONS>): Promise<number> {
  const plan = readPlan(line)
  const isolated = process.env[ISOLATED] !== undefined
  if (!isolated) {
    const reason = obstacle()
    if (reason === undefined) return await runIsolated(plan)
    print(`${reason}: the nodes share loopback, and all cuts are made by the proxy`)
  }
  clearReport(plan.out)
  const random = seededRandom(plan.seed)
  const testbed = await Testbed.prepare({
    nodes: plan.nodes,
    folder: nodesFolder(plan),
    main: plan.broken ? 'test/jepsen/stale-reads-main.js' : 'src/main.js',
    isolated,
    faketime: plan.faketime,
    flags: [],
    random,
  })
  const clear = async (): Promise<void> => {
    await testbed.close()
    rmSync(nodesFolder(plan), { recursive: true, force: true })
  }
  onStop(() => {
    print('stopped before its end')
    void clear().then(() => process.exit(1))
  })
  try {
    await testbed.open()
    return await run(plan, testbed, random)
  } finally {
    await clear()
  }
}

/** An empty folder, where there was at most an earlier report. */
function clearReport(folder: string): void {
  const found = existsSync(folder) ? readdirSync(folder) : []
  if (found.length > 0 && !found.includes(HISTORY)) {
    throw calledWrongly(`--out ${folder} holds something that is no report; choose another folder`)
  }
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
}

async function run(plan: Plan, testbed: Testbed, random: () => number): Promise<number> {
  const wrongClock = testbed.clocks[0]?.fault()
  if (wrongClock !== undefined)
    throw new Error(`libfaketime does not do what it must: ${wrongClock}`)
  const history = join(plan.out, HISTORY)
  const recorder = new Recorder({ jsonLines: history, edn: join(plan.out, 'history.edn') })
  const workloads = plan.workloads.map((name) => createWorkload(name, random))
  const perNode = Math.max(CLIENTS_PER_NODE, workloads.length)
  const clients = new Clients({ testbed, recorder, workloads, perNode, pauseMs: PAUSE_MS, random })
  const names = plan.nemeses.map(({ name }) => name)
  const title = `${plan.nodes} nodes, ${plan.workloads.join(' ')}, ${names.join(' ')}, seed ${plan.seed}`
  print(`${title}: report in ${plan.out}`)
  let shownAt = performance.now()
  const torment = new Torment({
    ...plan,
    testbed,
    recorder,
    random,
    say: print,
    watch: () => {
      if (performance.now() - shownAt < PROGRESS_MS) return
      shownAt = performance.now()
      const seconds = (recorder.now() / 1e9).toFixed(0)
      print(`${seconds} s: ${tally(clients)}; ${torment.faults.length} faults healed`)
    },
  })
  // Whatever goes wrong belongs into the report, beside what was recorded until then.
  const wrong: string[] = []
  clients.start()
  await torment.run().catch((error: unknown) => wrong.push(String(error)))
  const durationMs = recorder.now() / 1e6
  await clients.stop()
  const readBack = testbed.ready().then(() => clients.readBack())
  await readBack.catch((error: unknown) => wrong.push(String(error)))
  await recorder.close()
  const { strange } = clients
  if (strange.length > 0) {
    const some = strange.slice(0, STRANGE_SHOWN_MAX).join('; ')
    wrong.push(`${strange.length} replies outside the contract: ${some}`)
  }
  for (const { name, output } of testbed.nodes) {
    writeFileSync(join(plan.out, `${name}.log`), output)
  }
  const verdict = judge({
    folder: plan.out,
    history,
    title,
    workloads: plan.workloads,
    nodes: testbed.nodes.map(({ name }) => name),
    samples: clients.samples,
    faults: torment.faults,
    durationMs,
    commandsPerClient: clients.counts,
    wrong,
  })
  print(tally(clients))
  return report(plan, verdict)
}

function tally({ samples }: Clients): string {
  const counts = { ok: 0, fail: 0, info: 0, away: 0 }
  for (const { outcome } of samples) counts[outcome]++
  const { ok, fail, info, away } = counts
  return `${ok + fail + info} commands: ${ok} ok, ${fail} refused, ${info} unknown; ${away} connections refused`
}

function report(plan: Plan, verdict: ReturnType<typeof judge>): number {
  for (const line of verdict.explanation) print(line)
  for (const fault of verdict.faults) print(`WRONG: ${fault}`)
  const caught = verdict.linearizable === 'invalid'
  if (plan.broken) print(`the broken server was ${caught ? '' : 'NOT '}caught`)
  const passed = plan.broken ? caught : verdict.faults.length === 0
  print(`jepsen: ${passed ? '1 passed, 0 failed' : '0 passed, 1 failed'}`)
  if (passed) return 0
  const given = typedWords().join(' ')
  const seed = given.includes('--seed') ? '' : ` --seed ${plan.seed}`
  print(`repeat: npm run jepsen -- ${given}${seed}`)
  return 1
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

await runScript({ url: import.meta.url, options: OPTIONS }, main).catch((error: unknown) => {
  print(error instanceof Error ? `${error.stack}` : String(error))
  print('jepsen: 0 passed, 1 failed')
  process.exitCode = 1
})
// The standard input of an isolated run stays open as long as somebody may want it to stop.
process.exit()
