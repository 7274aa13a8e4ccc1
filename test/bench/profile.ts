/*
 * Where the CPU time of a leader and of a follower goes under a load: a profile of each main thread, summed up by
 * function. What the profile files say beyond that, Chrome's developer tools show.
 */

import { mkdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import type { NodeProcess } from '../e2e/cluster.ts'
import { until } from '../processes.ts'
import { drive } from './load.ts'
import { type Cell, keysFor, nameOf } from './rounds.ts'
import { holdfast } from './systems.ts'

const PROBE = new URL('./profile-probe.js', import.meta.url)
const FUNCTIONS_SHOWN = 45

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: {
      readonly functionName: string
      readonly url: string
      readonly lineNumber: number
    }
  }[]
  readonly samples: readonly number[]
  /** Microseconds between a sample and the one before. */
  readonly timeDeltas: readonly number[]
}

/** Of the time that the thread was at work: the share of each function by itself, the largest first. */
export function selfTimes({ nodes, samples, timeDeltas }: CpuProfile): {
  readonly busy: number
  readonly functions: readonly (readonly [string, number])[]
} {
  const names = new Map<number, string>()
  for (const { id, callFrame } of nodes) {
    const { functionName, url, lineNumber } = callFrame
    const place = url === '' ? '' : ` ${basename(url)}:${lineNumber + 1}`
    names.set(id, `${functionName === '' ? '(anonymous)' : functionName}${place}`)
  }
  const micros = new Map<string, number>()
  let [all, idle] = [0, 0]
  for (const [at, id] of samples.entries()) {
    const delta = timeDeltas[at] ?? 0
    const name = names.get(id) ?? '(unknown)'
    all += delta
    if (name === '(idle)') idle += delta
    else micros.set(name, (micros.get(name) ?? 0) + delta)
  }
  const busy = all - idle
  const sorted = [...micros].sort(([, a], [, b]) => b - a)
  return { busy: busy / all, functions: sorted.map(([name, time]) => [name, time / busy]) }
}

/** Prints a table per cell and node; the files lie in `folder`. */
export async function profile(options: {
  readonly cells: readonly Cell[]
  readonly folder: string
  readonly seconds: number
  print(line: string): void
}): Promise<void> {
  const { cells, folder, seconds, print } = options
  mkdirSync(folder, { recursive: true })
  const environment = { NODE_OPTIONS: `--import=${PROBE.href}`, BENCH_PROFILE_FOLDER: folder }
  const { cluster, end } = await holdfast({ nodes: 3, name: 'profiled', environment })
  try {
    for (const cell of cells) {
      const leader = await cluster.leader()
      const follower = await cluster.follower()
      const { host, port } = leader
      const setShare = { SET: 1, GET: 0, '90/10': 0.1 }[cell.load]
      const load = { ...cell, host, port, keys: keysFor(cell.valueBytes), setShare }
      await drive({ ...load, setShare: 1, inOrder: true, commands: load.keys, seconds: 60 })
      await drive({ ...load, seconds: seconds / 2 })
      for (const node of [leader, follower]) await toggle(node)
      const { perSecond } = await drive({ ...load, seconds })
      for (const node of [leader, follower]) {
        const path = await toggle(node)
        const { busy, functions } = selfTimes(JSON.parse(readFileSync(path, 'utf8')))
        const part = node === leader ? 'leader' : 'follower'
        print(
          `${nameOf(cell)}, ${part}: ${Math.round(perSecond)}/s, ${percent(busy)} busy; ${path}`,
        )
        for (const [name, share] of functions.slice(0, FUNCTIONS_SHOWN)) {
          print(`  ${percent(share)} ${name}`)
        }
      }
    }
  } finally {
    await end()
  }
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}

/** Begins a profile, or ends one: then its path. */
async function toggle(node: NodeProcess): Promise<string> {
  const from = node.output.length
  node.signal('SIGUSR2')
  let found: RegExpExecArray | null = null
  await until('the profiler', () => {
    found = /profile (?:begun|in (.*))\n/.exec(node.output.slice(from))
    return found !== null
  })
  return found?.[1] ?? ''
}
