/*
 * Tells the watchdog of every commit: an engine whose environments report when one begins and when it settles. The
 * stores above do not know it, nor does the engine below.
 */

import type { Engine, LogEnvironment, StateBuilder, StateEnvironment } from '../storage/engine.ts'
import type { CommitWatch, Watchdog } from './watchdog.ts'

export function watchedEngine(engine: Engine, watchdog: Watchdog): Engine {
  return {
    location: engine.location,
    list: () => engine.list(),
    drop: (name) => engine.drop(name),
    openLog: async (name, databases): Promise<LogEnvironment> => {
      const environment = await engine.openLog(name, databases)
      return watched(environment, {
        commit: (operations) => settled(watchdog.log, environment.commit(operations)),
      })
    },
    openState: async (name, databases): Promise<StateEnvironment> => {
      const environment = await engine.openState(name, databases)
      return watched(environment, {
        checkpoint: (header, chunks) =>
          settled(watchdog.state, environment.checkpoint(header, chunks)),
      })
    },
    buildState: async (name, databases): Promise<StateBuilder> => {
      const builder = await engine.buildState(name, databases)
      return watched(builder, {
        add: (chunk) => settled(watchdog.state, builder.add(chunk)),
        finish: () => settled(watchdog.state, builder.finish()),
      })
    },
  }
}

/** `target` with some methods replaced. */
function watched<Target extends object>(target: Target, methods: Partial<Target>): Target {
  return new Proxy(target, {
    get: (object, name) => {
      const own = Reflect.get(methods, name) ?? Reflect.get(object, name)
      return typeof own === 'function' && !Reflect.has(methods, name) ? own.bind(object) : own
    },
  })
}

async function settled<Result>(watch: CommitWatch, commit: Promise<Result>): Promise<Result> {
  watch.commitStarted()
  try {
    return await commit
  } finally {
    watch.commitSettled()
  }
}
