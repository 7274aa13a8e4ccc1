/*
 * Which errors of a handler say something of this node rather than of the command: those end the process, because a
 * reply to them might part the nodes' states. It knows no command.
 */

import { AssertionError } from '../raft/assert.ts'

/**
 * Whether another node might not throw the same: it must not become a reply, because then the
 * nodes' states part. AssertionErrors end the process anywhere; running out of memory or stack
 * depends on the machine.
 */
export function isOfThisNode(error: unknown): boolean {
  if (error instanceof AssertionError) return true
  return (
    error instanceof RangeError &&
    /call stack|allocation failed|failed to allocate/i.test(error.message)
  )
}
