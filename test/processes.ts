/*
 * Child processes and waiting, for tests that need the real thing. Every child is ended by its own id when its
 * test ends, and waiting is for a condition with a deadline: this is the only file of test/ with a timer.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

const POLL_MS = 10

/** Resolves when `condition` holds; rejects, naming `what`, when it does not within `timeoutMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** For what is a matter of time itself: a fault that lasts, a client that paces itself. Never to wait for something. */
export function lapse(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** A directory that is removed after the test. */
export function temporaryDirectory(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-'))
  context.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/**
 * The first of `count` ports in a row that are free on 127.0.0.1 now, and so are those 10,000 and 20,000 above. All
 * lie below those that systems hand out to outgoing connections (from 32,768): else one may be taken before it is used.
 */
export async function freePorts(count: number): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const first = 1100 + Math.floor(Math.random() * 4800)
    const ports = Array.from({ length: count }, (_, index) => first + index)
    const free = await Promise.all(
      ports.flatMap((port) => [port, port + 10_000, port + 20_000].map(isFree)),
    )
    if (free.every((one) => one)) return first
  }
  throw new Error(`no ${count} free ports in a row`)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => {
      server.close(() => resolve(true))
    })
  })
}

/** Whether somebody accepts connections on that port of 127.0.0.1. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** When what was begun is to end: a test, or what else takes care of it. */
export interface Ending {
  after(end: () => Promise<void>): void
}

/** A Node process that runs one compiled file; what it printed so far is in `stdout` and `stderr`. */
export class Child {
  stdout = ''
  stderr = ''
  /** Set once it has ended and all its output is here. */
  ended: Ended | undefined
  readonly #child: ChildProcess

  /** `file` is relative to the folder of compiled files, such as 'src/main.js'. */
  constructor(
    ending: Ending,
    file: string,
    args: readonly string[],
    options: { environment?: Readonly<Record<string, string>>; cwd?: string } = {},
  ) {
    const path = fileURLToPath(new URL(`../${file}`, import.meta.url))
    const child = spawn(process.execPath, [path, ...args], {
      cwd: options.cwd,
      env: { ...process.env, ...options.environment },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#child = child
    child.stdin.on('error', () => {})
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    child.once('close', (code, signal) => {
      this.ended = { code, signal }
    })
    ending.after(async () => {
      this.kill('SIGKILL')
      await this.end()
    })
  }

  get pid(): number {
    const { pid } = this.#child
    if (pid === undefined) throw new Error('the process was never started')
    return pid
  }

  kill(signal: NodeJS.Signals): void {
    if (this.ended === undefined) this.#child.kill(signal)
  }

  /** Ends the child's standard input. */
  closeStdin(): void {
    this.#child.stdin?.end()
  }

  /** From now on nobody reads the child's standard output. */
  pauseOutput(): void {
    this.#child.stdout?.pause()
  }

  resumeOutput(): void {
    this.#child.stdout?.resume()
  }

  /** Resolves when the process prints `text` on either stream; rejects when it ends first. */
  async prints(text: string, timeoutMs?: number): Promise<void> {
    const shown = (): boolean => this.stdout.includes(text) || this.stderr.includes(text)
    await until(`'${text}'`, () => shown() || this.ended !== undefined, timeoutMs)
    if (!shown()) throw new Error(`ended without '${text}': ${this.stdout}${this.stderr}`)
  }

  async end(timeoutMs?: number): Promise<Ended> {
    await until('the end of the process', () => this.ended !== undefined, timeoutMs)
    return this.ended ?? { code: null, signal: null }
  }
}

/** Whether a process of that id still runs. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
