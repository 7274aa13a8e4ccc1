/*
 * Loaded into a node that is measured (NODE_OPTIONS=--import): watches how long the event loop stands still, without
 * a line of it in the product. SIGUSR2 makes it print the longest stop since the last time, and begin anew: by the
 * clock, and by the processor time that the main thread used in it, which a busy machine does not make longer.
 */

import { closeSync, openSync, readSync } from 'node:fs'
import { PerformanceObserver } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const INTERVAL_MS = 1
const NANOSECONDS = 1e6

if (isMainThread) watch()

function watch(): void {
  const used = processorTime()
  let at = performance.now()
  let ran = used()
  let longest = { stop: 0, processor: 0, collection: 0 }
  setInterval(() => {
    const [now, running] = [performance.now(), used()]
    longest.stop = Math.max(longest.stop, now - at)
    longest.processor = Math.max(longest.processor, running - ran)
    ;[at, ran] = [now, running]
  }, INTERVAL_MS).unref()
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      longest.collection = Math.max(longest.collection, duration)
    }
  }).observe({ entryTypes: ['gc'] })
  process.on('SIGUSR2', () => {
    process.stderr.write(`loop-probe ${JSON.stringify(longest)}\n`)
    longest = { stop: 0, processor: 0, collection: 0 }
  })
}

/** Reads how long the main thread has run, in ms: Linux counts it per thread. */
function processorTime(): () => number {
  const file = openSync(`/proc/self/task/${process.pid}/schedstat`, 'r')
  process.once('exit', () => closeSync(file))
  const bytes = Buffer.alloc(64)
  return () => {
    const length = readSync(file, bytes, 0, bytes.length, 0)
    return Number.parseInt(bytes.toString('latin1', 0, length), 10) / NANOSECONDS
  }
}
