/*
 * When a command runs: the clocks that it sees, what tells that they are not far enough, and the version that it
 * gives to what it writes. Pure.
 */

import type { Index } from '../raft/types.ts'
import type { Version } from './commands/command.ts'

/** When a command runs, in ms of the logical clock. */
export interface Moment {
  /** The clock that the command sees: whatever is due by it is gone. */
  readonly now: number
  /**
   * The clock of the entries applied. A key that is due by `now` only may be hidden by no linearizable read, because
   * no entry says so yet: another node, or the next leader, might still show it. undefined: hide it all the same.
   */
  readonly applied: number | undefined
}

/**
 * A read met a key that is due by its clock but not yet by an entry's. It must run again once one has been applied, at
 * the clock of that: to no later time it would come to an end where keys fall due all the time.
 */
export class ClockBehind {
  /** The clock that must be applied first. */
  readonly needed: number

  constructor(needed: number) {
    this.needed = needed
  }
}

/** More than the commands of any entry that a leader makes: limits.entryCommandsMax. */
const PLACES_OF_ENTRY = 1024

/** The version of what the command at `place` of an entry writes; a safe integer for 2^43 entries. */
export function versionOf(index: Index, place: number): Version {
  return index * PLACES_OF_ENTRY + Math.min(place, PLACES_OF_ENTRY - 1)
}
