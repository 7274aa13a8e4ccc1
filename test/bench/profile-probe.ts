/*
 * Loaded into a node that is profiled (NODE_OPTIONS=--import): SIGUSR2 begins a CPU profile of the main thread, and
 * the next one ends it and writes it into the folder that BENCH_PROFILE_FOLDER names.
 */

import { writeFileSync } from 'node:fs'
import { type Profiler, Session } from 'node:inspector'
import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'

const folder = process.env.BENCH_PROFILE_FOLDER
if (isMainThread && folder !== undefined) {
  const session = new Session()
  session.connect()
  session.post('Profiler.enable')
  session.post('Profiler.setSamplingInterval', { interval: 500 })
  let running = false
  let count = 0
  process.on('SIGUSR2', () => {
    running = !running
    if (running) {
      session.post('Profiler.start', () => process.stderr.write('profile begun\n'))
      return
    }
    session.post('Profiler.stop', (error, result: Profiler.StopReturnType) => {
      if (error !== null) throw error
      const path = join(folder, `${process.pid}-${++count}.cpuprofile`)
      writeFileSync(path, JSON.stringify(result.profile))
      process.stderr.write(`profile in ${path}\n`)
    })
  })
}
