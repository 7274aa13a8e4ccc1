/*
 * What the router takes from the configuration: options that CONFIG SET may change while commands run, so each is
 * read when it is needed, and limits that nobody changes.
 */

import { type Config, limits } from './config.ts'
import type { DiskSpace } from './disk-space.ts'
import type { RouterLimits, RouterOptions } from './router-ports.ts'

export function routerSettings(
  config: Config,
  space: DiskSpace,
): {
  readonly options: RouterOptions
  readonly limits: RouterLimits
} {
  return {
    options: {
      get readConsistency() {
        return config.get('read-consistency')
      },
      get redirect() {
        return config.get('redirect')
      },
      get parkTimeoutMs() {
        return config.get('park-timeout-ms')
      },
      get parkBytes() {
        return config.get('park-bytes')
      },
      get writeWorkMax() {
        return config.get('write-work-max')
      },
      get refusal() {
        return space.refusal
      },
    },
    limits: {
      entryCommands: limits.entryCommandsMax,
      entryBytes: limits.entryBytesMax,
      entryKeys: limits.entryKeysMax,
      entryWeight: limits.entryWeightMax,
      entryWaitMs: limits.entryWaitMsMax,
      readWaitMs: limits.readWaitMsMax,
      readTurnMs: limits.turnReadMsMax,
      writeKeys: limits.writeKeysMax,
      unappliedBytes: limits.unappliedBytesMax,
      forwardBytes: limits.forwardBytesMax,
      heavyWrites: limits.heavyWrites,
      backlogBytes: limits.backlogBytesMax,
    },
  }
}
