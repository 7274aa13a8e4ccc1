/*
 * Real nodes for tests and scripts: processes of the compiled main.js on ports and in directories of their own,
 * started, killed, stopped and started again. It uses the server only as an operator could: flags, signals and
 * commands. Whatever it starts, it ends, by its own id; and a test that fails shows what the nodes have said.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Ended, until } from '../processes.ts'
import { ask, ReplyError, type ReplyValue, textOf } from './resp-client.ts'

const HOST = '127.0.0.1'
/** A start or an election on a busy machine; the deadline of a wait, never a time that is waited. */
const PATIENCE_MS = 20_000
const LOG_LINES_SHOWN = 40
/** Below the ports that systems hand out to outgoing connections, and beside those of freePorts(). */
const PORTS_FROM = 26_000
const PORTS_TO = 32_700
/** One guard, then nine nodes with three ports each. */
const PORT_BLOCK = 30
const NODES_MAX = 9

export interface ClusterOptions {
  readonly nodes: number
  /** For every node, at every start. */
  readonly flags?: readonly string[]
  /** Client port of the first node; the peer ports are 10,000 higher. Left out: ports that nobody uses. */
  readonly port?: number
  /** Each node answers as a Sentinel too, on a port of its own. */
  readonly sentinels?: boolean
  /** Compiled file that is run, relative to the folder of compiled files. */
  readonly main?: string
}

export interface StartOptions {
  readonly flags?: readonly string[]
  /** A command that runs the node, such as strace with its options. */
  readonly under?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

/** One member, over all the processes it is in its life. */
export class NodeProcess {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly peerPort: number
  /** 0 without one. */
  readonly sentinelPort: number
  readonly dir: string
  /** All that its processes have printed. */
  output = ''
  /** How the latest process ended; undefined while it runs. */
  ended: Ended | undefined
  readonly #command: readonly string[]
  #child: ChildProcess | undefined

  constructor(options: {
    name: string
    host: string
    port: number
    peerPort: number
    sentinelPort: number
    dir: string
    command: readonly string[]
  }) {
    this.name = options.name
    this.host = options.host
    this.port = options.port
    this.peerPort = options.peerPort
    this.sentinelPort = options.sentinelPort
    this.dir = options.dir
    this.#command = options.command
  }

  get running(): boolean {
    return this.#child !== undefined && this.ended === undefined
  }

  /** Of the latest process. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  start(options: StartOptions = {}): void {
    if (this.running) throw new Error(`${this.name} runs already`)
    const { flags = [], under = [], environment } = options
    const [command = '', ...args] = [...under, ...this.#command, ...flags]
    this.ended = undefined
    this.output += `--- started${flags.map((flag) => ` ${flag}`).join('')}\n`
    const child = spawn(command, args, {
      // Its standard input closes with this process: however that ends, no node stays behind.
      env: { ...process.env, ...environment, HOLDFAST_STOP_WITH_STDIN: 'yes' },
      stdio: ['pipe', 'pipe', 'pipe'],
      // A group of its own, so that a signal also reaches a node that runs under another command.
      detached: true,
    })
    this.#child = child
    child.stdin.on('error', () => {})
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
    child.once('error', (error) => this.#gone(child, { code: -1, signal: null }, error.message))
    child.once('close', (code, signal) => this.#gone(child, { code, signal }))
  }

  signal(signal: NodeJS.Signals): void {
    const pid = this.#child?.pid
    if (pid === undefined || !this.running) return
    try {
      process.kill(-pid, signal)
    } catch (error) {
      // It has just ended, and its end is about to be reported.
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
    }
  }

  /** kill -9; resolves when it is gone. */
  kill(): Promise<Ended> {
    this.signal('SIGKILL')
    return this.end()
  }

  /** SIGTERM; resolves when it is gone. */
  stop(): Promise<Ended> {
    this.signal('SIGTERM')
    return this.end()
  }

  async end(timeoutMs: number = PATIENCE_MS): Promise<Ended> {
    await until(`the end of ${this.name}`, () => !this.running, timeoutMs)
    return this.ended ?? { code: null, signal: null }
  }

  /** Resolves when its latest process has printed `text`. */
  async prints(text: string, timeoutMs: number = PATIENCE_MS): Promise<void> {
    const from = this.output.lastIndexOf('--- started')
    await until(
      `${this.name}: '${text}'`,
      () => this.output.slice(from).includes(text) || !this.running,
      timeoutMs,
    )
    if (!this.output.slice(from).includes(text)) {
      throw new Error(`${this.name} ended without '${text}'`)
    }
  }

  ask(...args: readonly (string | Buffer | number)[]): Promise<ReplyValue> {
    return ask(this, ...args)
  }

  /** RAFT MEMBERS: the fields of each; none when the node does not answer. */
  async members(): Promise<readonly ReadonlyMap<string, string>[]> {
    const reply = await this.ask('RAFT', 'MEMBERS').catch(() => undefined)
    return Array.isArray(reply) ? reply.map(fieldsOf) : []
  }

  /** RAFT STATUS; undefined when the node does not answer. */
  async status(): Promise<NodeStatus | undefined> {
    const reply = await this.ask('RAFT', 'STATUS').catch(() => undefined)
    if (!Array.isArray(reply)) return undefined
    const fields = fieldsOf(reply)
    return {
      role: fields.get('role') ?? '',
      nodeId: fields.get('node_id') ?? '',
      clusterId: fields.get('cluster_id') ?? '',
      leaderId: fields.get('leader_id'),
      term: Number(fields.get('term')),
      commit: Number(fields.get('commit_index')),
      applied: Number(fields.get('applied_index')),
      checkpoint: Number(fields.get('checkpoint_index')),
    }
  }

  /** RAFT READY, without a second attempt. */
  async isReady(): Promise<boolean> {
    return (await this.ask('RAFT', 'READY').catch(() => undefined)) === 'OK'
  }

  /** Resolves when it can serve a linearizable read. */
  async ready(timeoutMs: number = PATIENCE_MS): Promise<void> {
    await until(`${this.name} is ready`, () => !this.running || this.isReady(), timeoutMs)
    if (!this.running) throw new Error(`${this.name} ended before it was ready`)
  }

  lastLines(): string {
    return this.output.trimEnd().split('\n').slice(-LOG_LINES_SHOWN).join('\n')
  }

  #gone(child: ChildProcess, ended: Ended, why = ''): void {
    if (this.#child !== child || this.ended !== undefined) return
    this.output += `--- ended: ${ended.signal ?? `exit code ${ended.code}`} ${why}\n`
    this.ended = ended
  }
}

export interface NodeStatus {
  readonly role: string
  readonly nodeId: string
  /** '' before it is bound to a cluster. */
  readonly clusterId: string
  readonly leaderId: string | undefined
  readonly term: number
  readonly commit: number
  readonly applied: number
  readonly checkpoint: number
}

export class Cluster {
  readonly nodes: readonly NodeProcess[]
  readonly #folder: string
  readonly #guard: Server | undefined

  private constructor(options: ClusterOptions, firstPort: number, guard: Server | undefined) {
    const { nodes: count, flags = [], main = 'src/main.js' } = options
    this.#guard = guard
    this.#folder = mkdtempSync(join(tmpdir(), 'holdfast-e2e-'))
    const offset = guard === undefined ? 10_000 : NODES_MAX
    const peers = Array.from({ length: count }, (_, at) => `${HOST}:${firstPort + at + offset}`)
    const file = fileURLToPath(new URL(`../../${main}`, import.meta.url))
    this.nodes = peers.map((_, at) => {
      const port = firstPort + at
      const peerPort = port + offset
      const dir = join(this.#folder, `node-${at + 1}`)
      const sentinelPort = options.sentinels === true ? peerPort + offset : 0
      const ports = ['--port', port, '--peer-port', peerPort, '--sentinel-port', sentinelPort]
      const own = [...ports, '--dir', dir].map(String)
      const list = count === 1 ? [] : ['--cluster', peers.join(',')]
      const command = [process.execPath, file, ...own, ...list, ...flags]
      return new NodeProcess({
        name: `node-${at + 1}`,
        host: HOST,
        port,
        peerPort,
        sentinelPort,
        dir,
        command,
      })
    })
  }

  /** Nodes that were not started yet. */
  static async prepare(options: ClusterOptions): Promise<Cluster> {
    if (options.port !== undefined) return new Cluster(options, options.port, undefined)
    const { guard, port } = await reservePorts()
    return new Cluster(options, port + 1, guard)
  }

  /** Nodes that are all ready; none is left if that fails. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = await Cluster.prepare(options)
    try {
      for (const node of cluster.nodes) node.start()
      await cluster.ready()
      return cluster
    } catch (error) {
      process.stderr.write(`${cluster.logs()}\n`)
      await cluster.end()
      throw error
    }
  }

  node(at: number): NodeProcess {
    const node = this.nodes[at]
    if (node === undefined) throw new Error(`no node ${at} of ${this.nodes.length}`)
    return node
  }

  get running(): readonly NodeProcess[] {
    return this.nodes.filter((node) => node.running)
  }

  async ready(timeoutMs?: number): Promise<void> {
    await Promise.all(this.running.map((node) => node.ready(timeoutMs)))
  }

  /** The node that leads and proves it, by serving a linearizable read. */
  async leader(timeoutMs: number = PATIENCE_MS): Promise<NodeProcess> {
    let found: NodeProcess | undefined
    await until(
      'a leader',
      async () => {
        for (const node of this.running) {
          const leads = (await node.status())?.role === 'leader'
          if (leads && (await node.isReady())) found = node
        }
        return found !== undefined
      },
      timeoutMs,
    )
    if (found === undefined) throw new Error('no leader')
    return found
  }

  /**
   * Takes the office from whoever leads, without ending `spared`: kill -9, or where that is `spared` itself, SIGSTOP
   * until another one leads. Resolves with the old leader, which does not run when it was killed.
   */
  async deposeLeader(spared?: NodeProcess): Promise<NodeProcess> {
    const leader = await this.leader()
    if (leader !== spared) {
      await leader.kill()
      return leader
    }
    leader.signal('SIGSTOP')
    const others = this.running.filter((node) => node !== leader)
    await until('another leader', async () => {
      for (const node of others) if ((await node.status())?.role === 'leader') return true
      return false
    })
    leader.signal('SIGCONT')
    return leader
  }

  async followers(): Promise<readonly NodeProcess[]> {
    const leader = await this.leader()
    return this.running.filter((node) => node !== leader)
  }

  async follower(): Promise<NodeProcess> {
    const [node] = await this.followers()
    if (node === undefined) throw new Error('no follower')
    return node
  }

  /** The one term in which all running nodes are. */
  async term(): Promise<number> {
    const terms = new Set<number>()
    await until('one term', async () => {
      terms.clear()
      for (const node of this.running) terms.add((await node.status())?.term ?? -1)
      return terms.size === 1 && !terms.has(-1)
    })
    return Math.max(...terms)
  }

  /** Resolves when `node` has applied all that the leader has committed by now. */
  async caughtUp(node: NodeProcess, timeoutMs: number = PATIENCE_MS): Promise<void> {
    const commit = (await (await this.leader()).status())?.commit ?? Number.POSITIVE_INFINITY
    await until(
      `${node.name} applies entry ${commit}`,
      async () => ((await node.status())?.applied ?? 0) >= commit,
      timeoutMs,
    )
  }

  logs(): string {
    return this.nodes
      .map((node) => `===== ${node.name} (${node.port})\n${node.lastLines()}`)
      .join('\n')
  }

  kill(): void {
    for (const node of this.nodes) node.signal('SIGKILL')
  }

  /** The last act of a process: end() that waits for nobody. */
  abandon(): void {
    this.kill()
    // A node that is just being killed may still make a file.
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 })
  }

  /** Ends all nodes and removes all they have stored. */
  async end(): Promise<void> {
    this.kill()
    await Promise.all(this.nodes.map((node) => node.end()))
    rmSync(this.#folder, { recursive: true, force: true })
    this.#guard?.close()
  }
}

/** A map as RESP2 has it: names and values in turn. */
function fieldsOf(reply: ReplyValue): ReadonlyMap<string, string> {
  const fields = new Map<string, string>()
  if (!Array.isArray(reply)) return fields
  for (let at = 0; at < reply.length; at += 2) {
    fields.set(textOf(reply[at] ?? null), textOf(reply[at + 1] ?? null))
  }
  return fields
}

/** The body of a test over `cluster`, which shows the nodes' logs when it fails. */
export function showingLogs(
  cluster: () => Cluster,
  body: (context: TestContext) => Promise<void>,
): (context: TestContext) => Promise<void> {
  return async (context) => {
    try {
      await body(context)
    } catch (error) {
      process.stderr.write(`${context.name}\n${cluster().logs()}\n`)
      throw error
    }
  }
}

/** The reply, unless it is an error. */
export function successful(reply: ReplyValue): ReplyValue {
  if (reply instanceof ReplyError) throw reply
  return reply
}

/**
 * A block of free ports, reserved against every other fixture for as long as its guard listens: two test files that
 * run at once must not find the same ports free.
 */
export async function reservePorts(): Promise<{ guard: Server; port: number }> {
  const blocks = (PORTS_TO - PORTS_FROM) / PORT_BLOCK
  const start = Math.floor(Math.random() * blocks)
  for (let step = 0; step < blocks; step++) {
    const port = PORTS_FROM + ((start + step) % blocks) * PORT_BLOCK
    const guard = await listen(port)
    if (guard === undefined) continue
    const others = Array.from({ length: PORT_BLOCK - 1 }, (_, at) => port + 1 + at)
    const found = await Promise.all(others.map(listen))
    const free = found.every((server) => server !== undefined)
    await Promise.all(found.map((server) => server && closed(server)))
    if (free) return { guard, port }
    guard.close()
  }
  throw new Error(`no block of ${PORT_BLOCK} free ports`)
}

function listen(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', () => resolve(undefined))
    server.listen({ host: HOST, port, exclusive: true }, () => resolve(server))
  })
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
