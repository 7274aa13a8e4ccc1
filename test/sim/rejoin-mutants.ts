/*
 * Bugs in how a node comes back whose disk is damaged, and in how a survivor becomes a new cluster: see
 * test/sim/mutants.ts.
 */

import type { Mutant } from './mutation.ts'

export const rejoinMutants: readonly Mutant[] = [
  {
    id: 'x34',
    name: 'a place is taken by two changes: the old id goes, and then the new one comes',
    breaks: 'between them a cluster of two voters cannot lose one more',
    invariants: ['I24'],
    changes: [
      [
        'src/membership-plan.js',
        `const members = view.members.map((member) => {
           return member.id === old.id ? memberFrom(newcomer, old.role) : member;
         });`,
        `const members = others;`,
      ],
    ],
  },
  {
    id: 'x35',
    name: 'a node that gave up its log keeps its id',
    breaks: 'it votes and acknowledges anew, and knows nothing of what it has promised',
    invariants: ['I24'],
    changes: [
      [
        'storage/log-store.js',
        `putStable(newborn(number))`,
        `putStable({ ...newborn(number), nodeId })`,
      ],
    ],
  },
  {
    id: 'x36',
    name: 'a voter is replaced by another one without a joint membership',
    breaks: 'the old voters and the new ones decide with majorities that do not meet',
    invariants: ['I16'],
    changes: [
      [
        'raft/membership.js',
        `before.length === after.length && before.every((id) => after.includes(id))`,
        `before.length === after.length`,
      ],
    ],
  },
  {
    id: 'x37',
    name: 'a forced cluster keeps the id of the old one',
    breaks: 'whoever is left of the old one takes part in the new one',
    invariants: ['I25'],
    changes: [
      ['src/force-new-cluster.js', `clusterId: newId, hardState:`, `clusterId, hardState:`],
    ],
  },
  {
    id: 'x38',
    name: 'a new cluster is forced in two transactions',
    breaks:
      'a crash between them leaves a new cluster of the old members, which none of them joins',
    invariants: ['I25'],
    changes: [
      [
        'storage/log-store.js',
        `await this.#commit({ ...this.#stable, clusterId, hardState }, entries, [
           forced, ...this.#undamaged(), ]);`,
        `await this.#commit({ ...this.#stable, clusterId, hardState }, [], [forced]);
         await this.#commit(this.#stable, entries, this.#undamaged());`,
      ],
    ],
  },
]
