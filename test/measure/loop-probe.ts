/*
 * Loaded into a node that is measured (NODE_OPTIONS=--import): watches how long the event loop stands still, without
 * a line of it in the product. SIGUSR2 makes it print the longest stop since the last time, and begin anew.
 */

import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const NANOSECONDS = 1e6

if (isMainThread) {
  const delays = monitorEventLoopDelay({ resolution: 1 })
  delays.enable()
  let longestCollection = 0
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      longestCollection = Math.max(longestCollection, duration)
    }
  }).observe({ entryTypes: ['gc'] })
  process.on('SIGUSR2', () => {
    const stop = (delays.max / NANOSECONDS).toFixed(1)
    process.stderr.write(`loop-probe ${stop} ms, collection ${longestCollection.toFixed(1)} ms\n`)
    delays.reset()
    longestCollection = 0
  })
}
