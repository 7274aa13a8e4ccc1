/*
 * Majorities over the voters, of which a joint membership has two sets (paper 6): whatever is decided then needs a
 * majority of each. Everything that counts voters counts here, so that "more than half of the voters" is written once;
 * duplicates and strangers never count, because only voters are looked up.
 */

import type { Index, NodeId } from './types.ts'

/** One set of voters, or the new and the old while a membership is joint. Without any nothing is ever decided. */
export type VoterSets = readonly (readonly NodeId[])[]

/** How many of `voters` members make a majority. */
export function majority(voters: number): number {
  return Math.floor(voters / 2) + 1
}

/** 'won' once a majority of every set granted, 'lost' once one of them can no longer grant (paper 5.2). */
export function countVotes(
  sets: VoterSets,
  votes: ReadonlyMap<NodeId, boolean>,
): 'won' | 'lost' | 'pending' {
  if (hasQuorum(sets, (voter) => votes.get(voter) === true)) return 'won'
  return hasQuorum(sets, (voter) => votes.get(voter) !== false) ? 'pending' : 'lost'
}

/** True when a majority of every set satisfies `holds`. An empty set has no majority. */
export function hasQuorum(sets: VoterSets, holds: (voter: NodeId) => boolean): boolean {
  return (
    sets.length > 0 &&
    sets.every((voters) => voters.filter((voter) => holds(voter)).length >= majority(voters.length))
  )
}

/** The highest index that a majority of every set has durably matched (paper 5.3, 5.4.2). */
export function quorumIndex(sets: VoterSets, match: (voter: NodeId) => Index): Index {
  if (sets.length === 0) return 0
  return Math.min(
    ...sets.map((voters) => {
      const matches = voters.map(match).sort((a, b) => b - a)
      return matches[majority(voters.length) - 1] ?? 0
    }),
  )
}
