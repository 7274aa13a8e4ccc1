/*
 * `npm start`: a whole cluster on this machine, one process per node, for trying things out. It checks first and
 * starts then, shows the nodes' logs, and leaves no process behind however it ends: the nodes watch their standard
 * input, which closes with this process. It uses the server only as a user could, by its flags and its port.
 *
 *   -- --nodes 3       how many, up to 9
 *   -- --port 6379     the first node's port; the others follow
 *   -- --dir data      where their data is
 *   -- --restart       starts a node again that has ended
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { checkReady } from '../src/check.ts'
import { makeDirectory } from '../src/data-lock.ts'
import { prettyLine } from '../src/logger.ts'
import { fromSystemError, OperatorError } from '../src/operator-error.ts'
import { type CommandLine, calledWrongly, numberFrom, runScript } from '../test/command-line.ts'

interface Plan {
  readonly nodes: number
  /** Client port of the first node; the others follow. */
  readonly port: number
  readonly dir: string
  readonly restart: boolean
}

const HOST = '127.0.0.1'
const NODES_MAX = 9
const PEER_PORT_OFFSET = 10_000
/** Where Redis' own Sentinels listen, when clients are at 6379. */
const SENTINEL_PORT_OFFSET = 20_000
const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url))
/** What this folder is, so that another number of nodes or other ports are refused in words. */
const PLAN_FILE = 'cluster.json'
const ANSWER_TIMEOUT_MS = 1000
const POLL_MS = 100
const PATIENCE_MS = 15_000
const RESTART_DELAY_MS = 1000
/** Longer than a node gives itself for its own orderly stop. */
const STOP_TIMEOUT_MS = 12_000
/** Lines kept back until the cluster has a leader; the oldest go first. */
const EARLY_LINES_MAX = 1000

const OPTIONS = {
  nodes: { type: 'string', default: '3' },
  port: { type: 'string', default: '6379' },
  dir: { type: 'string', default: 'data' },
  restart: { type: 'boolean', default: false },
} as const

function planOf({ values }: CommandLine<typeof OPTIONS>): Plan {
  const nodes = numberFrom('nodes', values.nodes, { least: 1, most: NODES_MAX, whole: true })
  const highest = 65_535 - PEER_PORT_OFFSET - nodes + 1
  const port = numberFrom('port', values.port, { least: 1, most: highest, whole: true })
  if (values.dir === '') throw calledWrongly("--dir takes a folder, not ''")
  return { nodes, port, dir: resolve(values.dir), restart: values.restart }
}

/** One node, as this script knows it. */
interface Member {
  readonly name: string
  readonly port: number
  readonly peerPort: number
  /** 0 where there is no such port: the last nodes of a cluster at very high ports have none. */
  readonly sentinelPort: number
  readonly dir: string
  child: ChildProcess | undefined
}

function membersOf(plan: Plan): readonly Member[] {
  return Array.from({ length: plan.nodes }, (_, index) => ({
    name: `node-${index + 1}`,
    port: plan.port + index,
    peerPort: plan.port + index + PEER_PORT_OFFSET,
    sentinelPort: sentinelPortOf(plan.port + index),
    dir: join(plan.dir, `node-${index + 1}`),
    child: undefined,
  }))
}

function sentinelPortOf(port: number): number {
  const sentinelPort = port + SENTINEL_PORT_OFFSET
  return sentinelPort > 65_535 ? 0 : sentinelPort
}

async function checkPort(port: number): Promise<void> {
  const server = createServer()
  try {
    await new Promise<void>((resolveListen, reject) => {
      server.once('error', reject)
      server.listen({ host: HOST, port, exclusive: true }, resolveListen)
    })
  } catch (error) {
    const known = fromSystemError(`port ${port}`, error)
    if (known === undefined) throw error
    throw new OperatorError(known.code, `${known.message}; choose other ports with --port BASE`)
  }
  await new Promise((closed) => server.close(closed))
}

/** The folder is new, or holds a cluster of this size and these ports. Makes it and marks it. */
function claimFolder(plan: Plan): void {
  const { dir } = plan
  try {
    makeDirectory(dir)
    accessSync(dir, constants.W_OK | constants.X_OK)
    const entries = readdirSync(dir).filter((name) => !name.startsWith('.'))
    if (entries.length > 0) checkContents(plan, entries)
    const mark = JSON.stringify({ nodes: plan.nodes, port: plan.port })
    writeFileSync(join(dir, PLAN_FILE), `${mark}\n`)
  } catch (error) {
    throw fromSystemError(`the data folder ${dir}`, error) ?? error
  }
}

function checkContents(plan: Plan, entries: readonly string[]): void {
  const folder = `the data folder ${plan.dir}`
  const foreign = entries.find((name) => name !== PLAN_FILE && !/^node-\d+$/.test(name))
  if (foreign !== undefined || !entries.includes(PLAN_FILE)) {
    const what = foreign === undefined ? `no ${PLAN_FILE}` : `'${foreign}' in it`
    throw new OperatorError(
      'FOLDER',
      `${folder} is not a cluster's (${what}); choose another --dir`,
    )
  }
  const { nodes, port } = readMark(join(plan.dir, PLAN_FILE))
  if (nodes !== plan.nodes) {
    const fault = `${folder} is of a cluster with ${nodes} nodes, not ${plan.nodes}`
    throw new OperatorError(
      'FOLDER',
      `${fault}; start it with --nodes ${nodes}, or choose another --dir`,
    )
  }
  if (port !== plan.port) {
    const fault = `${folder} is of a cluster on port ${port}, not ${plan.port}`
    throw new OperatorError(
      'FOLDER',
      `${fault}; start it with --port ${port}, or choose another --dir`,
    )
  }
}

function readMark(path: string): { nodes: number; port: number } {
  const match = /^\{"nodes":(\d+),"port":(\d+)\}\n$/.exec(readFileSync(path, 'utf8'))
  if (match !== null) return { nodes: Number(match[1]), port: Number(match[2]) }
  throw new OperatorError('FOLDER', `${path} is not as it was written; choose another --dir`)
}

/** Everything this script says: log lines are kept back until the line that says the cluster is there. */
class Screen {
  readonly #layout = prettyLine({ colour: process.stdout.isTTY === true })
  #early: string[] | undefined = []

  /** A line of our own: at once. */
  say(line: string): void {
    process.stdout.write(`${line}\n`)
  }

  log(speaker: string, line: string): void {
    const text = `${speaker} | ${this.#layout(line).trimEnd()}\n`
    if (this.#early === undefined) {
      process.stdout.write(text)
      return
    }
    this.#early.push(text)
    if (this.#early.length > EARLY_LINES_MAX) this.#early.shift()
  }

  releaseEarly(): void {
    const lines = this.#early ?? []
    this.#early = undefined
    process.stdout.write(lines.join(''))
  }
}

class Cluster {
  readonly #plan: Plan
  readonly #members: readonly Member[]
  readonly #screen = new Screen()
  readonly #password = process.env.HOLDFAST_REQUIREPASS ?? ''
  #stopping = false
  #ready = false
  #exitCode = 0

  constructor(plan: Plan) {
    this.#plan = plan
    this.#members = membersOf(plan)
  }

  async start(): Promise<void> {
    for (const { port, peerPort, sentinelPort } of this.#members) {
      await checkPort(port)
      await checkPort(peerPort)
      if (sentinelPort > 0) await checkPort(sentinelPort)
    }
    claimFolder(this.#plan)
    for (const member of this.#members) this.#spawn(member)
    await this.#waitForLeader()
  }

  /** Once: an orderly stop. Again: at once. Resolves when no node is left. */
  async stop(reason: string): Promise<void> {
    if (this.#stopping) {
      this.kill()
      return
    }
    this.#stopping = true
    this.#screen.say(`${reason}: stopping`)
    for (const { child } of this.#members) child?.kill('SIGTERM')
    const late = setTimeout(() => {
      const names = this.#members.filter(({ child }) => child !== undefined).map(({ name }) => name)
      this.#screen.say(`${names.join(', ')} did not stop in time: killed`)
      this.kill()
    }, STOP_TIMEOUT_MS)
    while (this.#living() > 0) await delay(POLL_MS / 10)
    clearTimeout(late)
    if (!this.#ready) this.#screen.releaseEarly()
    process.exit(this.#exitCode)
  }

  /** Synchronous, so that it also serves as the last act of this process. */
  kill(): void {
    for (const { child } of this.#members) child?.kill('SIGKILL')
  }

  #spawn(member: Member): void {
    const { name, port, peerPort, sentinelPort, dir } = member
    const cluster = this.#members.map((other) => `${HOST}:${other.peerPort}`).join(',')
    const options = {
      port,
      'peer-port': peerPort,
      'sentinel-port': sentinelPort,
      bind: HOST,
      dir,
      announce: `${HOST}:${port}`,
      'peer-announce': `${HOST}:${peerPort}`,
      cluster,
    }
    const flags = Object.entries(options).map(([option, value]) => `--${option}=${value}`)
    const child = spawn(process.execPath, [MAIN, ...flags], {
      env: { ...process.env, HOLDFAST_STOP_WITH_STDIN: 'yes' },
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own: Ctrl-C of the terminal reaches this script alone, which then stops them in order.
      detached: true,
    })
    member.child = child
    // A node that dies breaks its pipe; its exit is reported below.
    child.stdin.on('error', () => {})
    this.#show(name, child.stdout)
    this.#show(name, child.stderr)
    child.once('error', (error) => this.#ended(member, error.message))
    // 'close', not 'exit': by then its last lines are on the screen.
    child.once('close', (code, signal) => {
      this.#ended(member, signal === null ? `exit code ${code}` : `signal ${signal}`)
    })
  }

  #show(name: string, stream: Readable): void {
    createInterface({ input: stream }).on('line', (line) => this.#screen.log(name, line))
  }

  #ended(member: Member, how: string): void {
    if (member.child === undefined) return
    member.child = undefined
    if (this.#stopping) return
    const { restart, nodes } = this.#plan
    const next = restart ? 'starting it again' : 'the others go on'
    const living = this.#living()
    this.#screen.say(`${member.name} has ended (${how})${living > 0 || restart ? `: ${next}` : ''}`)
    if (restart) {
      setTimeout(() => {
        if (!this.#stopping) this.#spawn(member)
      }, RESTART_DELAY_MS)
      return
    }
    // Before the first leader a lost majority is a failed start; later it may be what the user is trying out.
    if (living === 0 || (!this.#ready && living <= nodes / 2)) {
      this.#exitCode = 1
      void this.stop(living === 0 ? 'no node is left' : 'too few nodes are left to elect a leader')
    }
  }

  #living(): number {
    return this.#members.filter(({ child }) => child !== undefined).length
  }

  async #waitForLeader(): Promise<void> {
    const patienceEnds = performance.now() + PATIENCE_MS
    let warned = false
    while (!this.#stopping) {
      const ready = await this.#anyReady()
      if (this.#stopping) return
      if (ready) {
        await this.#announce()
        return
      }
      if (!warned && performance.now() > patienceEnds) {
        warned = true
        this.#screen.say(`no leader after ${PATIENCE_MS / 1000} s, still waiting; the logs so far:`)
        this.#screen.releaseEarly()
      }
      await delay(POLL_MS)
    }
  }

  async #anyReady(): Promise<boolean> {
    const answers = await Promise.all(
      this.#members.map(({ port }) =>
        checkReady({ host: HOST, port, password: this.#password, timeoutMs: ANSWER_TIMEOUT_MS }),
      ),
    )
    return answers.includes(undefined)
  }

  async #announce(): Promise<void> {
    const roles = await Promise.all(this.#members.map(({ port }) => leads(port, this.#password)))
    const leader = this.#members[roles.indexOf(true)]
    const ports = this.#members.map(({ port }) => port)
    const count = ports.length === 1 ? '1 node' : `${ports.length} nodes`
    const who =
      leader === undefined ? 'a leader is elected' : `${leader.name} (${leader.port}) leads`
    this.#ready = true
    const where = `${count} on ${HOST}, port${ports.length === 1 ? '' : 's'} ${ports.join(', ')}`
    const auth = this.#password === '' ? '' : ' -a <password>'
    const example = `redis-cli -p ${ports.at(-1)}${auth} set greeting hello`
    this.#screen.say(`Holdfast is ready: ${where}; ${who}. Try: ${example}`)
    this.#screen.releaseEarly()
  }
}

/** Whether that node says it is the master (ROLE); false when it does not answer. */
function leads(port: number, password: string): Promise<boolean> {
  return new Promise((resolveRole) => {
    let received = ''
    const socket = connect({ host: HOST, port })
    const timer = setTimeout(() => done(false), ANSWER_TIMEOUT_MS)
    function done(answer: boolean): void {
      clearTimeout(timer)
      socket.destroy()
      resolveRole(answer)
    }
    const length = Buffer.byteLength(password)
    const auth = password === '' ? '' : `*2\r\n$4\r\nAUTH\r\n$${length}\r\n${password}\r\n`
    socket.once('connect', () => socket.write(`${auth}*1\r\n$4\r\nROLE\r\n`))
    socket.once('error', () => done(false))
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      if (/\r\n(?:master|slave)\r\n/.test(received)) done(received.includes('\r\nmaster\r\n'))
    })
  })
}

/** A killed npm leaves its scripts running; without it nobody would be there to stop this one. */
function watchNpm(stop: () => void): void {
  if (process.env.npm_lifecycle_event === undefined) return
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    stop()
  }, POLL_MS)
  timer.unref()
}

async function main(line: CommandLine<typeof OPTIONS>): Promise<undefined> {
  const cluster = new Cluster(planOf(line))
  process.on('exit', () => cluster.kill())
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => void cluster.stop(signal))
  }
  // Whoever read our output has gone (npm start | head): nobody would see what the nodes say.
  process.stdout.on('error', () => void cluster.stop('nobody reads'))
  watchNpm(() => void cluster.stop('npm has ended'))
  try {
    await cluster.start()
  } catch (error) {
    cluster.kill()
    throw error
  }
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
