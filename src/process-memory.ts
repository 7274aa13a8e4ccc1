/*
 * How much memory this process has, by what the runtime and the system say. It knows nothing of what the memory is
 * used for.
 */

import { readFileSync } from 'node:fs'

/** In bytes. */
export interface MemoryFacts {
  /** JavaScript's heap and the buffers beside it. */
  readonly used: number
  /** The most that was seen of it; see ProcessMemory.sample. */
  readonly usedPeak: number
  readonly resident: number
  /** Of the resident memory, the process's own, and pages of mapped files; undefined where the system does not say. */
  readonly residentAnonymous: number | undefined
  readonly residentFile: number | undefined
}

export class ProcessMemory {
  #usedPeak = 0

  /** To be called now and then: a peak between two calls is not seen. */
  sample(): { readonly used: number; readonly resident: number } {
    const { heapUsed, external, rss } = process.memoryUsage()
    const used = heapUsed + external
    this.#usedPeak = Math.max(this.#usedPeak, used)
    return { used, resident: rss }
  }

  /** What was seen so far no longer counts. */
  resetPeak(): void {
    this.#usedPeak = 0
  }

  facts(): MemoryFacts {
    const { used, resident } = this.sample()
    const status = processStatus()
    return {
      used,
      usedPeak: this.#usedPeak,
      resident,
      residentAnonymous: bytesIn(status, 'RssAnon'),
      residentFile: bytesIn(status, 'RssFile'),
    }
  }
}

/** Linux' own account of this process; '' where there is none. */
function processStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'latin1')
  } catch {
    return ''
  }
}

function bytesIn(status: string, name: string): number | undefined {
  const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024
}
