/*
 * A document for operators as a script: its blocks of shell run one after the other, as a reader would type them, in
 * one shell and one folder; a block of text behind one says what it prints. Ports are the only thing that is changed,
 * so that it disturbs nothing else on a machine. Whatever it starts is ended.
 */

import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Step {
  /** The heading that it stands under, and its line in the document. */
  readonly heading: string
  readonly line: number
  readonly script: string
  /** What it prints, lines of which `...` stands for anything; undefined: it does not say. */
  readonly prints: string | undefined
}

export interface Failure {
  readonly step: Step
  readonly why: string
}

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url))
/** Stands alone on a line of the output before what a step prints. */
const MARK = '@@@@ step'

/** The steps of a document in their order. */
export function stepsOf(markdown: string): readonly Step[] {
  const steps: Step[] = []
  let heading = ''
  let fence:
    | { readonly language: string; readonly line: number; readonly text: string[] }
    | undefined
  for (const [at, text] of markdown.split('\n').entries()) {
    if (fence === undefined) {
      if (text.startsWith('#')) heading = text.replace(/^#+ */, '')
      if (text.startsWith('```')) fence = { language: text.slice(3), line: at + 1, text: [] }
    } else if (text !== '```') fence.text.push(text)
    else {
      const { language, line } = fence
      const body = fence.text.join('\n')
      fence = undefined
      if (language === 'sh') steps.push({ heading, line, script: body, prints: undefined })
      const last = steps.at(-1)
      if (language === 'text' && last !== undefined)
        steps.push({ ...(steps.pop() ?? last), prints: body })
    }
  }
  return steps
}

/** Whether the lines of `output` are those of `expected`, of which `...` stands for anything. */
export function matches(output: string, expected: string): boolean {
  const pattern = expected
    .trim()
    .split('...')
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('[\\s\\S]*')
  return new RegExp(`^${pattern}$`).test(output.trim())
}

/**
 * Runs the steps; `ports` gives the port to use for one that the document names. Resolves with the first failure, or
 * undefined when every step ended well, within `timeoutMs`, and printed what it says.
 */
export async function walk(
  steps: readonly Step[],
  { ports, timeoutMs }: { ports: ReadonlyMap<string, number>; timeoutMs: number },
): Promise<Failure | undefined> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-docs-'))
  try {
    const script = ['set -euo pipefail']
    for (const [at, step] of steps.entries()) script.push(`echo '${MARK} ${at}'`, step.script)
    const result = await runShell(withPorts(script.join('\n'), ports), folder, timeoutMs)
    return judge(steps, result, ports)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

export function withPorts(text: string, ports: ReadonlyMap<string, number>): string {
  return text.replace(/\b1?700[1-9]\b/g, (port) => String(ports.get(port) ?? port))
}

interface ShellResult {
  readonly stdout: string
  readonly stderr: string
  /** undefined: it took too long. */
  readonly code: number | null | undefined
}

function runShell(script: string, folder: string, timeoutMs: number): Promise<ShellResult> {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  symlinkSync(MAIN, join(bin, 'holdfast'))
  chmodSync(MAIN, 0o755)
  const cwd = join(folder, 'work')
  mkdirSync(cwd)
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` }
  // A group of its own: whatever the steps leave running ends with it.
  const shell = spawn('bash', ['-c', script], { cwd, env, detached: true })
  const result = { stdout: '', stderr: '' }
  shell.stdout.setEncoding('utf8').on('data', (text: string) => {
    result.stdout += text
  })
  shell.stderr.setEncoding('utf8').on('data', (text: string) => {
    result.stderr += text
  })
  return new Promise((resolve) => {
    let code: number | null | undefined
    const endGroup = (): void => {
      try {
        if (shell.pid !== undefined) process.kill(-shell.pid, 'SIGKILL')
      } catch {
        // Nothing of it is left.
      }
    }
    const timer = setTimeout(endGroup, timeoutMs)
    shell.once('exit', (exitCode, signal) => {
      code = signal === null ? exitCode : undefined
      clearTimeout(timer)
      endGroup()
    })
    // Only now nobody of the group holds the pipes any more.
    shell.once('close', () => resolve({ ...result, code }))
  })
}

function judge(
  steps: readonly Step[],
  { stdout, stderr, code }: ShellResult,
  ports: ReadonlyMap<string, number>,
): Failure | undefined {
  const [, ...outputs] = stdout.split(new RegExp(`^${MARK} \\d+\\n`, 'm'))
  for (const [at, output] of outputs.entries()) {
    const step = steps[at]
    if (step === undefined) break
    const isLast = at === outputs.length - 1
    if (isLast && code !== 0) {
      const how = code === undefined ? 'it took too long' : `exit code ${code}`
      return { step, why: `${how}\n${output}${stderr}` }
    }
    const expected = step.prints === undefined ? undefined : withPorts(step.prints, ports)
    if (expected === undefined || matches(output, expected)) continue
    return { step, why: `it printed\n${output}\ninstead of\n${expected}\n${stderr}` }
  }
  return undefined
}
