/*
 * Recovers images in a child process, which is replaced when an image kills it or holds it up. It knows how to run
 * recover-child.ts, and nothing of what comes out.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Found } from './recovery.ts'

/** Exactly one of both. */
export interface Outcome {
  readonly found?: Found
  /** The recovery's own words, or how its process ended. */
  readonly refused?: string
}

const CHILD = fileURLToPath(new URL(`./recover-child${extname(import.meta.url)}`, import.meta.url))
const DEADLINE_MS = 30_000

export class Recoverer {
  #child: ChildProcess | undefined
  #output = ''

  /** One at a time. */
  async recover(directory: string): Promise<Outcome> {
    const child = this.#child ?? this.#start()
    const deadline = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS)
    const outcome = await new Promise<Outcome>((resolve) => {
      const answered = (answer: Outcome): void => {
        child.off('exit', ended)
        resolve(answer)
      }
      const ended = (code: number | null, signal: string | null): void => {
        child.off('message', answered)
        this.#child = undefined
        const how = signal ?? `exit code ${code}`
        resolve({ refused: `the process ended with ${how} ${this.#output}` })
      }
      child.once('message', answered)
      child.once('exit', ended)
      child.send(directory)
    })
    clearTimeout(deadline)
    return outcome
  }

  async close(): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    this.#child = undefined
    const ended = once(child, 'exit')
    child.disconnect()
    await ended
  }

  #start(): ChildProcess {
    const child = fork(CHILD, {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    this.#child = child
    this.#output = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text
    })
    return child
  }
}
