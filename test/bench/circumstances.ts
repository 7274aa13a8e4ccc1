/*
 * What a saved figure must say of the run that it is from: machine, versions, commit, time.
 */

import { execFileSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { requireTool } from '../tools.ts'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

/** The machine and the versions, a line each. */
export function circumstances(): string[] {
  const { model = 'unknown' } = cpus()[0] ?? {}
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  const machine = `${cpus().length} cores (${model.trim()}), ${memory}, Linux ${release()}`
  return [
    `- ${machine}; all nodes, peers and the load generator share it, over loopback`,
    `- Node ${process.version}, ${versionOf('redis-server')}, Holdfast at ${commit()}`,
  ]
}

/** To the minute. */
export function today(): string {
  return new Date().toISOString().slice(0, 16)
}

function versionOf(tool: string): string {
  if (requireTool(tool) === undefined) return `no ${tool}`
  const text = execFileSync(tool, ['--version'], { encoding: 'utf8' })
  return `Redis ${/v=([\d.]+)/.exec(text)?.[1] ?? 'of an unknown version'}`
}

function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim()
  try {
    const head = git('rev-parse', '--short', 'HEAD')
    const changed = git('status', '--porcelain', '--', 'src', 'raft', 'resp', 'storage')
    return changed === '' ? head : `${head} with changes`
  } catch {
    return 'an unknown commit'
  }
}
