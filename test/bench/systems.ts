/*
 * What a benchmark drives: Holdfast clusters of this build (or of another one), redis-server where it is on PATH, and
 * any server that runs already. Each is a target with an address, and where the processes are ours, what they use.
 * Whatever is started here is ended by end(), and at the latest with this process.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Cluster, type NodeProcess } from '../e2e/cluster.ts'
import { accepts, freePorts, until } from '../processes.ts'
import { requireTool } from '../tools.ts'

const HOST = '127.0.0.1'
const DIST = fileURLToPath(new URL('../..', import.meta.url))
/** A start or an election where others use the machine too. */
const PATIENCE_MS = 120_000
/** Linux counts a process's time in these. */
const TICK_MS = 10

export interface Process {
  /** What it is in its system: 'leader', 'follower', 'server'. */
  readonly part: string
  readonly pid: number
}

export interface Target {
  /** Head of its column. */
  readonly name: string
  /** Where commands go now; a cluster may have chosen another leader. */
  address(): Promise<{ readonly host: string; readonly port: number }>
  /** The processes that do the work; none when they are not ours. */
  processes(): Promise<readonly Process[]>
  /** Entries of the log so far; undefined where there is no log. */
  entries(): Promise<number | undefined>
}

export interface System {
  readonly targets: readonly Target[]
  end(): Promise<void>
}

/** `dist`: the compiled files of the build that is measured, this one by default. */
export async function holdfast(options: {
  readonly nodes: number
  readonly name: string
  readonly dist?: string
  /** Given to every node, such as NODE_OPTIONS. */
  readonly environment?: Readonly<Record<string, string>>
}): Promise<System & { readonly cluster: Cluster }> {
  const { nodes, name, dist = DIST, environment = {} } = options
  const main = relative(DIST, join(dist, 'src', 'main.js'))
  const cluster = await Cluster.prepare({ nodes, main })
  const abandon = (): void => cluster.abandon()
  process.once('exit', abandon)
  try {
    for (const node of cluster.nodes) node.start({ environment })
    await cluster.ready(PATIENCE_MS)
  } catch (error) {
    process.stderr.write(`${cluster.logs()}\n`)
    await cluster.end()
    throw error
  }
  const through = (part: string, find: () => Promise<NodeProcess>): Target => ({
    name: part === '' ? name : `${name}, ${part}`,
    address: async () => {
      const { host, port } = await find()
      return { host, port }
    },
    processes: () => members(cluster),
    entries: async () => (await (await cluster.leader(PATIENCE_MS)).status())?.commit,
  })
  const targets =
    nodes === 1
      ? [through('', () => cluster.leader(PATIENCE_MS))]
      : [
          through('leader', () => cluster.leader(PATIENCE_MS)),
          through('follower', () => cluster.follower()),
        ]
  const end = async (): Promise<void> => {
    await cluster.end()
    process.off('exit', abandon)
  }
  return { targets, cluster, end }
}

async function members(cluster: Cluster): Promise<readonly Process[]> {
  const leader = await cluster.leader(PATIENCE_MS)
  return cluster.running.map((node) => ({
    part: node === leader ? 'leader' : 'follower',
    pid: node.pid ?? 0,
  }))
}

/** undefined when it is not on PATH. `flags` as redis-server takes them. */
export async function redis(name: string, flags: readonly string[]): Promise<System | undefined> {
  const path = requireTool('redis-server')
  if (path === undefined) return undefined
  const port = await freePorts(1)
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-redis-'))
  const own = ['--port', String(port), '--bind', HOST, '--save', '', '--dir', dir]
  const child = spawn(path, [...own, ...flags], { stdio: 'ignore' })
  const abandon = (): void => {
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 })
  }
  process.once('exit', abandon)
  const end = async (): Promise<void> => {
    await ended(child)
    rmSync(dir, { recursive: true, force: true })
    process.off('exit', abandon)
  }
  try {
    await until(`${name} listens`, () => accepts(port))
  } catch (error) {
    await end()
    throw error
  }
  const target: Target = {
    name,
    address: async () => ({ host: HOST, port }),
    processes: async () => [{ part: 'server', pid: child.pid ?? 0 }],
    entries: async () => undefined,
  }
  return { targets: [target], end }
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}

/** A server that somebody else runs, as 'host:port'. */
export function running(address: string): System {
  const at = address.lastIndexOf(':')
  const [host, port] = [address.slice(0, at), Number(address.slice(at + 1))]
  if (host === '' || !Number.isInteger(port) || port < 1) {
    throw new Error(`--peer takes host:port, not '${address}'`)
  }
  const target: Target = {
    name: address,
    address: async () => ({ host, port }),
    processes: async () => [],
    entries: async () => undefined,
  }
  return { targets: [target], end: async () => {} }
}

export interface Usage {
  /** CPU time so far, user and system. */
  readonly cpuMs: number
  /** Resident memory of its own, and mapped pages of files, in bytes. */
  readonly anonymousBytes: number
  readonly fileBytes: number
}

export function usageOf(pid: number): Usage {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  // Behind the name, which may hold anything; user and system time are the fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024
  return {
    cpuMs: (Number(fields[11]) + Number(fields[12])) * TICK_MS,
    anonymousBytes: bytes('RssAnon'),
    fileBytes: bytes('RssFile'),
  }
}
