/*
 * What a faulty-server.ts can have wrong: each a way to lose what was acknowledged, kept so that the power cuts can
 * prove that they would notice.
 */

export const FAULTS = {
  'early-acknowledgement': 'commits that are called durable when they are begun',
  'no-sync': 'LMDB that never flushes (noSync)',
  'directories-not-synced': 'new names in directories that are never flushed',
} as const
export type Fault = keyof typeof FAULTS

/** The environment variable that chooses one; empty: none. */
export const FAULT_VARIABLE = 'POWERCUT_FAULT'
