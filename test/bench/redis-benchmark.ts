/*
 * redis-benchmark as a function: the yardstick that everybody has. Its requests are counted, so whoever wants a time
 * says how many fit into it.
 */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

export interface Benchmark {
  readonly host: string
  readonly port: number
  readonly command: 'SET' | 'GET'
  readonly connections: number
  readonly pipeline: number
  readonly valueBytes: number
  readonly keys: number
  readonly requests: number
}

export interface BenchmarkResult {
  readonly perSecond: number
  /** In ms. */
  readonly p50: number
  readonly p99: number
}

const run = promisify(execFile)
const PATIENCE_MS = 120_000

export async function redisBenchmark(options: Benchmark): Promise<BenchmarkResult> {
  const flags = {
    h: options.host,
    p: options.port,
    c: options.connections,
    P: options.pipeline,
    d: options.valueBytes,
    r: options.keys,
    n: options.requests,
    t: options.command.toLowerCase(),
  }
  const args = Object.entries(flags).flatMap(([flag, value]) => [`-${flag}`, String(value)])
  const running = run('redis-benchmark', [...args, '--csv'], { timeout: PATIENCE_MS })
  // Left alone it would never end: a server that has gone is connected to again and again.
  const kill = (): void => void running.child.kill('SIGKILL')
  process.once('exit', kill)
  try {
    return parseCsv((await running).stdout)
  } finally {
    process.off('exit', kill)
  }
}

/** The one test of a run with --csv: name, requests per second, then latencies in ms: avg, min, p50, p95, p99, max. */
export function parseCsv(text: string): BenchmarkResult {
  const line = text.split('\n').find((one) => /^"(?:SET|GET)"/.test(one))
  const cells = line?.split(',').map((cell) => Number(cell.replaceAll('"', ''))) ?? []
  const [, perSecond, , , p50, , p99] = cells
  if (perSecond === undefined || p50 === undefined || p99 === undefined || !(perSecond > 0)) {
    throw new Error(`redis-benchmark said something else: ${text.slice(0, 300)}`)
  }
  return { perSecond, p50, p99 }
}
