/*
 * How much memory this process has, by what the runtime and the system say. It knows nothing of what the memory is
 * used for.
 */

import { readFileSync } from 'node:fs'
import { getHeapStatistics } from 'node:v8'

/** In bytes. */
export interface MemoryFacts {
  /** JavaScript's heap and the buffers beside it. */
  readonly used: number
  /** The most that was seen of it; see ProcessMemory.sample. */
  readonly usedPeak: number
  /** 0 while the system does not say: it is asked through a file, and there may be none left to open. */
  readonly resident: number
  /** Of the resident memory, the process's own, and pages of mapped files; undefined where the system does not say. */
  readonly residentAnonymous: number | undefined
  readonly residentFile: number | undefined
}

export class ProcessMemory {
  #usedPeak = 0

  /** Bytes in use. To be called now and then: a peak between two calls is not seen. Opens no file, so it never fails. */
  sample(): number {
    const { used_heap_size: heap, external_memory: external } = getHeapStatistics()
    const used = heap + external
    this.#usedPeak = Math.max(this.#usedPeak, used)
    return used
  }

  /** What was seen so far no longer counts. */
  resetPeak(): void {
    this.#usedPeak = 0
  }

  facts(): MemoryFacts {
    const used = this.sample()
    const status = processStatus()
    return {
      used,
      usedPeak: this.#usedPeak,
      resident: bytesIn(status, 'VmRSS') ?? residentElsewhere(),
      residentAnonymous: bytesIn(status, 'RssAnon'),
      residentFile: bytesIn(status, 'RssFile'),
    }
  }
}

/** Where Linux' account is not to be had; on Linux itself Node would ask for the same file, and throw. */
function residentElsewhere(): number {
  return process.platform === 'linux' ? 0 : process.memoryUsage.rss()
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
