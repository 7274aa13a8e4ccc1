/*
 * redis-py as Debian has it, in a process of its own that runs one command at a time: a line of JSON in, one out.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Addresses, ClientKind, Driver } from './driver.ts'

const PYTHON = '/usr/bin/python3'
const SCRIPT = fileURLToPath(new URL('../../../test/clients/redis_py_driver.py', import.meta.url))

class PythonDriver {
  readonly #child: ChildProcess
  readonly #waiting: { resolve(value: unknown): void; reject(error: Error): void }[] = []

  constructor(way: string, addresses: Addresses) {
    this.#child = spawn(PYTHON, [SCRIPT, way, JSON.stringify(addresses)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const { stdout } = this.#child
    if (stdout === null) throw new Error('no output of python')
    createInterface({ input: stdout }).on('line', (line) => {
      const { value, error }: { value?: unknown; error?: string } = JSON.parse(line)
      const waiting = this.#waiting.shift()
      if (error === undefined) waiting?.resolve(value)
      else waiting?.reject(new Error(error))
    })
    this.#child.once('exit', (code) => {
      for (const { reject } of this.#waiting) reject(new Error(`python ended with ${code}`))
    })
  }

  call(...words: readonly (string | number)[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#child.stdin?.write(`${JSON.stringify(words)}\n`)
    })
  }

  close(): void {
    this.#child.stdin?.end()
    this.#child.kill()
  }
}

async function driver(way: string, addresses: Addresses): Promise<Driver> {
  const python = new PythonDriver(way, addresses)
  return {
    set: (key, value) => python.call('set', key, value),
    get: async (key) => (await python.call('get', key)) as string | null,
    incr: async (key) => (await python.call('incr', key)) as number,
    pipeline: (key, value) => python.call('pipeline', key, value),
    multi: (key, counter) => python.call('multi', key, counter),
    expire: (key, seconds) => python.call('expire', key, seconds),
    ttl: async (key) => (await python.call('ttl', key)) as number,
    close: async () => python.close(),
  }
}

export const pythonKinds: readonly ClientKind[] = ['plain', 'cluster', 'sentinel'].map((way) => ({
  name: `redis-py ${way}`,
  connect: (addresses) => driver(way, addresses),
}))
