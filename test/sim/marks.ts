/*
 * Coverage marks: rare situations that a run of many seeds has to reach, counted by looking at the nodes from
 * outside. A simulator that reaches none of them proves nothing about them, so CI fails when one is not reached
 * often enough. Production code knows nothing of this.
 */

/** Each must be reached MARK_FLOOR times in a CI run. To add one: a line here, and a count where it is seen. */
export const markNames = [
  'figure 8: an old term on a quorum is not counted',
  'figure 8: what a majority held is replaced',
  'suffix replaced on disk',
  'new leader heard while old entries are being persisted',
  'vote, then crash',
  'leader loses its quorum',
  'append rejected',
  'message repeated or late',
  'rejected commit',
  'rejected commit, visible to the next process',
  'commit that never settles',
  'disk full',
  'flipped bit found',
  'power cut, one node',
  'power cut, whole cluster',
  'crash while a checkpoint is filled',
  'crash while a checkpoint is written',
  'crash after a checkpoint landed',
  'crash between checkpoint and compaction',
  'crash within a compaction',
  'LogCache wraps',
  'LogCache misses',
  'compaction held back by the slowest',
  'compaction past a member that is behind',
  'snapshot installed',
  'snapshot goes on over a new link',
  'snapshot part repeated or late',
  'leader changes while a snapshot is received',
  'checkpoint while a snapshot is sent',
  'crash while a snapshot is received',
  'crash before a switch of states landed',
  'crash after a switch of states landed',
  'wall clock falls under a leader',
  'TIMEOUT at a deadline',
  'parked until CLUSTERDOWN',
  'refused forward re-issued',
  'forward link lost',
  'forwarded command found in the log',
  'fence behind a lost link',
  'overwritten command placed again',
  'read retried after a lost round',
  'TTL across leader change',
  'clock entry',
  'clock awaited at the leader',
  'clock asked of the leader',
  'isolated node rejoins without disruption',
  'follower that stood still reads before it campaigns',
  'joint membership committed',
  'joint membership left',
  'learner promoted',
  'voter demoted',
  'member removed',
  'removed node knows it',
  'another node at the address of one that was removed',
  'membership rolled back',
  'leader that only the old voters have',
  'leader that is left out',
  'transfer completed',
  'struck in a change of members',
  'disk of a member wiped',
  'change refused: members are behind or away',
  'a state that differs was served before it was found',
  'a node that differed re-installed',
  'a leader that differed stepped down first',
  'a node that differed was killed before it had another state',
  'feature level raised',
  'a damaged node came back in the place of the old one',
  'crash while a damaged disk is given up',
  'a survivor became a new cluster',
  'crash while a new cluster is forced',
  'a node of the old cluster is refused by the forced one',
] as const

export type Mark = (typeof markNames)[number]

export const MARK_FLOOR = 10

export class Marks {
  readonly #counts = new Map<string, number>(markNames.map((name) => [name, 0]))

  reach(name: Mark): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
  }

  add(counts: Readonly<Record<string, number>>): void {
    for (const [name, count] of Object.entries(counts)) {
      this.#counts.set(name, (this.#counts.get(name) ?? 0) + count)
    }
  }

  counts(): Record<string, number> {
    return Object.fromEntries(this.#counts)
  }

  /** The marks that were reached too rarely. */
  missing(): readonly string[] {
    return markNames.filter((name) => (this.#counts.get(name) ?? 0) < MARK_FLOOR)
  }
}
