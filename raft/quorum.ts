/*
 * Majorities over one voter set. Everything that counts voters counts here, so that "more than half of the
 * voters" is written once; duplicates and strangers never count, because only voters are looked up.
 */

import type { Index, NodeId } from './types.ts'

/** How many of `voters` members make a majority. */
export function majority(voters: number): number {
  return Math.floor(voters / 2) + 1
}

/** 'won' once a majority granted, 'lost' once a majority can no longer grant (paper 5.2). */
export function countVotes(
  voters: readonly NodeId[],
  votes: ReadonlyMap<NodeId, boolean>,
): 'won' | 'lost' | 'pending' {
  let granted = 0
  let refused = 0
  for (const voter of voters) {
    const vote = votes.get(voter)
    if (vote === true) granted++
    else if (vote === false) refused++
  }
  const needed = majority(voters.length)
  if (voters.length === 0) return 'lost'
  if (granted >= needed) return 'won'
  return voters.length - refused < needed ? 'lost' : 'pending'
}

/** True when a majority of `voters` satisfies `holds`. An empty voter set has no majority. */
export function hasQuorum(voters: readonly NodeId[], holds: (voter: NodeId) => boolean): boolean {
  let count = 0
  for (const voter of voters) if (holds(voter)) count++
  return voters.length > 0 && count >= majority(voters.length)
}

/** The highest index that a majority of `voters` has durably matched (paper 5.3, 5.4.2). */
export function quorumIndex(voters: readonly NodeId[], match: (voter: NodeId) => Index): Index {
  if (voters.length === 0) return 0
  const matches = voters.map(match).sort((a, b) => b - a)
  return matches[majority(voters.length) - 1] ?? 0
}
