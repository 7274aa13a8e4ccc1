/*
 * Bugs in how a node comes back whose disk is damaged: see test/sim/mutants.ts.
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
]
